"""Every figure that a run writes into metrics.jsonl: what it says, and what to do when it moves.

The registry is what the docs' page of metrics is made from. A run may log others: a reward of your own can measure what
it likes (`models.rewards.Measuring`); heedful's own are all here, which `tests/training/test_metrics.py` sees to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EVERY, SFT, PAIRS, REWARD, PREFERENCE, ONLINE, UPDATE, CRITIC, WATCH = (
    "Every stage",
    "sft",
    "reward, dpo and online-dpo",
    "reward",
    "dpo and online-dpo",
    "All that learn online",
    "The update of online methods",
    "ppo's critic",
    "The watch",
)
"""Who logs a figure, in the order of the page."""


@dataclass(frozen=True)
class Metric:
    """One figure of metrics.jsonl.

    Args:
        name: its key; a part in braces stands for what a run puts there.
        by: who logs it.
        means: what it is, with its unit.
        moves: what it should do, and what to do when it does something else.
    """

    name: str
    by: str
    means: str
    moves: str

    def covers(self, key: str) -> bool:
        """Whether a key of metrics.jsonl is this figure."""
        parts = re.split(r"\{\w+\}", self.name)
        return re.fullmatch(r"\w+".join(map(re.escape, parts)), key) is not None


METRICS: tuple[Metric, ...] = (
    Metric(
        "step",
        EVERY,
        "Which step the line is of: an optimiser step, or online a rollout batch.",
        "Counts up by one; a run that was killed goes on from its last checkpoint and leaves no line twice.",
    ),
    Metric(
        "loss",
        EVERY,
        "What is minimised, before the step, as a mean over the step's tokens, pairs or completions.",
        "Falls in sft, reward and dpo. Online it is near 0 and says little: read reward and kl there. A jump upwards "
        "that stays: lower optimiser.learning_rate.",
    ),
    Metric(
        "gradient_norm",
        EVERY,
        "Length of the gradient before it is clipped to optimiser.clip_norm.",
        "Falls, then stays. Spikes after a quiet start: a bad record or a learning rate too high.",
    ),
    Metric(
        "learning_rate",
        EVERY,
        "The rate of the step just taken.",
        "Follows optimiser.schedule; nothing to do.",
    ),
    Metric(
        "held_out_loss",
        EVERY,
        "The loss on the records that training leaves out (records.held_out).",
        "Falls with loss. Rises while loss falls: the model learns the records by heart; take fewer epochs or a lower "
        "learning rate.",
    ),
    Metric(
        "entropy",
        EVERY,
        "How undecided the policy is, in nats per token: 0 where every next token is certain. Not logged "
        "where pairs are learnt from (reward, dpo, online-dpo).",
        "Falls slowly. Falls by half early in an online run: it soon says one thing only; raise kl.coefficient or "
        "lower the learning rate.",
    ),
    Metric("tokens", SFT, "Tokens learnt from in the step.", "Varies with the length of the answers; nothing to do."),
    Metric(
        "held_out_perplexity",
        SFT,
        "e to the held-out loss: among how many tokens the model seems to choose.",
        "Falls, then levels off; stop where it rises.",
    ),
    Metric(
        "accuracy",
        PAIRS,
        "Share of the step's pairs whose preferred answer scores higher; pairs that are ties are left out. In dpo: by "
        "the implicit reward.",
        "Rises above 0.5. Near 1 while the held-out one stays low: learnt by heart. At 0.5 for long: the labels say "
        "little (heedful agreement), or the learning rate is too low.",
    ),
    Metric(
        "held_out_accuracy",
        PAIRS,
        "The accuracy on the records that training leaves out.",
        "Rises and levels off, at most to where raters agree with each other. The gap to accuracy is what was learnt "
        "by heart: fewer epochs, more weight decay, more pairs.",
    ),
    Metric(
        "score_gap",
        REWARD,
        "Mean distance between the scores of two answers to one prompt, whichever is better.",
        "Grows. Growing without end while held_out_accuracy stays: over-confident; give --centering or --calibrate.",
    ),
    Metric(
        "tie_threshold",
        REWARD,
        "Rao-Kupper's learnt threshold, in the scores' units: answers nearer than this are often called equal.",
        "Settles; large where raters often tie.",
    ),
    Metric(
        "tie_strength",
        REWARD,
        "Davidson's learnt weight of a tie; 1 makes a third of the comparisons of equals ties.",
        "Settles; large where raters often tie.",
    ),
    Metric(
        "threshold_{k}",
        REWARD,
        "The learnt score difference from which raters say strength k rather than k - 1 (--loss ordinal).",
        "Settle, in ascending order. Two of them close together: raters do not tell those strengths apart.",
    ),
    Metric(
        "mixture_{attribute}",
        REWARD,
        "The learnt weight of an attribute in the score (--heads.kind attributes).",
        "Settles. Near 0: the attribute does not help to explain preferences.",
    ),
    Metric(
        "margin",
        PREFERENCE,
        "Mean implicit reward of the preferred answers less that of the others.",
        "Rises. Rises far while held_out_margin does not: learnt by heart; fewer epochs or a higher --beta.",
    ),
    Metric(
        "held_out_margin",
        PREFERENCE,
        "The margin on the records that training leaves out.",
        "Rises with margin; where it turns down, stop.",
    ),
    Metric(
        "chosen_reward",
        PREFERENCE,
        "Mean implicit reward of the preferred (or good) answers: beta times what the policy added to their "
        "log-probability.",
        "Rises, or falls less than rejected_reward. Both falling fast: see chosen_logprob.",
    ),
    Metric(
        "rejected_reward",
        PREFERENCE,
        "The same of the other (or bad) answers.",
        "Falls.",
    ),
    Metric(
        "chosen_logprob",
        PREFERENCE,
        "Mean log-probability of whole preferred (or good) answers, in nats.",
        "Often falls under losses that compare only; report.html says which case it is. If answers get worse: mix "
        'in imitation (--loss "sigmoid + 0.2*sft").',
    ),
    Metric(
        "rejected_logprob",
        PREFERENCE,
        "The same of the other (or bad) answers.",
        "Falls.",
    ),
    Metric(
        "mismatched_kl",
        PREFERENCE,
        "KTO's baseline: how much more likely the policy makes answers behind prompts that are not theirs, in nats.",
        "Near 0, slowly drifting. Far from 0: all answers move alike; lower the learning rate.",
    ),
    Metric(
        "mean_ratio",
        PREFERENCE,
        "BCO's shift: the mean log-ratio to the reference over all batches before.",
        "Near 0, slowly drifting. Far from 0: the labels are one-sided, or the learning rate is high.",
    ),
    Metric(
        "wpo_weight",
        PREFERENCE,
        "Mean weight of a pair under --weighting wpo: near 1 for answers that the policy itself would give.",
        "Below 1 for answers of others. Towards 0: the data is not the policy's own any more; sample anew.",
    ),
    Metric(
        "reward",
        ONLINE,
        "Mean reward of the batch's completions, as the judge gave it.",
        "Rises. It is the proxy: whether people agree, only fresh checks tell. Does not rise: higher learning rate, "
        "lower kl.coefficient, or a reward model that tells these answers apart (reward_spread).",
    ),
    Metric(
        "gold",
        ONLINE,
        "In the quickstart, every few steps: mean gold points of the policy's answers, by the embedded world's truth.",
        "Rises with reward. Falls while reward rises: over-optimisation, for certain; no real run has this figure.",
    ),
    Metric(
        "score",
        ONLINE,
        "Mean of what is learnt from: the reward after ceiling, normalisation, bounds and penalties (score.*).",
        "Moves with reward. Falls while reward rises: penalties are at work; read finished and length.",
    ),
    Metric(
        "reward_spread",
        ONLINE,
        "Standard deviation of the reward over the batch.",
        "Shrinks as answers get alike. Near 0 from the start: the judge cannot tell these answers apart.",
    ),
    Metric(
        "reward_90",
        ONLINE,
        "The reward that one completion in ten exceeds.",
        "Rises. Beyond what the reward model gave its training answers it is guessing: ask people, or set "
        "score.ceiling.",
    ),
    Metric(
        "reward_length_correlation",
        ONLINE,
        "Correlation of reward and length over the batch.",
        "Stays. Rises above 0.5: the reward reads length for quality; heedful probe, then --heads.kind length.",
    ),
    Metric(
        "kl",
        ONLINE,
        "How far the policy is from where it began: log-probability ratio summed over a completion, mean over the "
        "batch, in nats.",
        "Grows and levels off. Grows without end while reward climbs: over-optimisation; raise kl.coefficient, set "
        "watch.kl_budget.",
    ),
    Metric(
        "reference_kl",
        ONLINE,
        "online-dpo and runs with a reference of their own: the KL to the reference, where that is not the start.",
        "Stays small where the reference follows.",
    ),
    Metric(
        "kl_coefficient",
        ONLINE,
        "β, the price of a nat of KL in this step.",
        "Constant; moves where kl.adaptive steers it to kl.target, or where the watch raises it.",
    ),
    Metric(
        "length",
        ONLINE,
        "Mean tokens of a completion.",
        "Stays. Half as much again: read samples.jsonl; if they say no more, set score.length_penalty.",
    ),
    Metric(
        "finished",
        ONLINE,
        "Share of completions that ended by themselves.",
        "Near 1. Falls: answers are cut off; raise score.missing_eos_penalty, or rollout.max_new_tokens.",
    ),
    Metric(
        "distinct_2",
        ONLINE,
        "Share of the batch's word pairs that are different ones.",
        "Stays. Falls by a third: answers have become alike; read samples, raise kl.coefficient.",
    ),
    Metric(
        "repetition",
        ONLINE,
        "Share of an answer's word groups that stood in it before.",
        "Near 0. Rises by 0.1: set score.repetition_penalty.",
    ),
    Metric(
        "top_opening",
        ONLINE,
        "Share of the batch that begins with the same three words.",
        "Stays. Rises to half: a set phrase is what is paid for; read samples, heedful probe.",
    ),
    Metric(
        "disagreement",
        ONLINE,
        "Standard deviation between the reward models of an ensemble, mean over the batch.",
        "Stays. Rises by half: the models do not know these answers; take worst: or penalised=, and ask people.",
    ),
    Metric(
        "solved",
        ONLINE,
        "Share of completions whose program passes all its unit tests (unit-tests: rewards).",
        "Rises. Stays at 0: too hard to learn from; take easier problems or a stronger start.",
    ),
    Metric(
        "flat_groups",
        ONLINE,
        "grpo: prompts whose completions all score alike, from which nothing is learnt.",
        "Few. Most of the batch: set update.resample_rounds, or take harder or easier prompts.",
    ),
    Metric(
        "resampled_groups",
        ONLINE,
        "grpo: prompts drawn in place of such ones (update.resample_rounds).",
        "As flat_groups; each costs sampling time.",
    ),
    Metric(
        "kept_reward",
        ONLINE,
        "raft: mean reward of the completions that are imitated.",
        "Above reward, by less and less. Equal: the completions of a prompt are all alike.",
    ),
    Metric(
        "ties",
        ONLINE,
        "online-dpo: share of pairs whose scores are equal.",
        "Near 0. Near 1: the reward cannot tell the policy's answers apart.",
    ),
    Metric(
        "policy_loss",
        UPDATE,
        "The policy's part of the loss: the clipped objective, or in raft the loss of imitation.",
        "Hovers near 0 under policy gradients; falls in raft.",
    ),
    Metric(
        "kl_loss",
        UPDATE,
        "The KL where it is paid in the loss (kl.place loss), before its coefficient.",
        "As kl.",
    ),
    Metric(
        "clip_fraction",
        UPDATE,
        "Share of tokens (or completions) whose step was clipped away.",
        "0.05 to 0.3. Above: lower optimiser.learning_rate, or update.epochs.",
    ),
    Metric(
        "ratio",
        UPDATE,
        "Mean probability ratio of the policy in training to the one that sampled.",
        "Near 1. Far from it: steps are too large.",
    ),
    Metric(
        "first_ratio",
        UPDATE,
        "The same before the batch's first step, where both are one policy.",
        "1 within 1e-4 (1e-2 in bfloat16). Else sampler and trainer disagree: rollout.recompute_logprobs, and "
        "report it.",
    ),
    Metric(
        "logprob_mismatch",
        UPDATE,
        "Largest difference between the sampler's log-probability of a token and the trainer's, before the first step; "
        "in online-dpo of a completion, per token.",
        "Below 1e-3 in float32. Above: as first_ratio.",
    ),
    Metric(
        "sampler_kl",
        UPDATE,
        "With rollout.engine vllm: KL(sampler || policy) before the first step, in nats per token, by k3.",
        "0.001 to 0.01 in bfloat16 is what others report; with rollout.vllm.overlap also what a step moves. Above "
        "rollout.vllm.max_kl the run ends.",
    ),
    Metric(
        "sampler_ratio",
        UPDATE,
        "With rollout.engine vllm: mean over tokens of the policy's probability over the sampler's.",
        "Near 1. Far from it: as sampler_kl.",
    ),
    Metric(
        "sampler_ratio_most",
        UPDATE,
        "The largest of these.",
        "What rollout.vllm.cap cuts off.",
    ),
    Metric(
        "sampler_capped",
        UPDATE,
        "Share of tokens whose ratio lies above rollout.vllm.cap.",
        "Below 0.01. Above: the correction is biased; leave rollout.vllm.overlap, or take smaller steps.",
    ),
    Metric(
        "sampler_lag",
        UPDATE,
        "How many steps old the weights were that sampled the batch.",
        "0; with rollout.vllm.overlap 1, but for the first step of a run or of what goes on.",
    ),
    Metric(
        "sync_seconds",
        UPDATE,
        "With rollout.engine vllm: seconds that the step spent on sending weights.",
        "Small beside the step. Else: a faster way between the GPUs.",
    ),
    Metric(
        "rollout_seconds",
        UPDATE,
        "With rollout.engine vllm: seconds that the step waited for completions.",
        "With rollout.vllm.overlap near 0 where learning takes longer than sampling.",
    ),
    Metric(
        "update_kl",
        UPDATE,
        "How far the batch's steps took the policy from the one that sampled, in nats per token.",
        "Below 0.05. Above: fewer update.epochs, or set update.update_kl_limit.",
    ),
    Metric(
        "updates",
        UPDATE,
        "Optimiser steps taken on this rollout batch.",
        "update.epochs times update.minibatches; fewer where update.update_kl_limit ended it.",
    ),
    Metric(
        "policy_gradient_norm",
        UPDATE,
        "Length of the policy's gradient before clipping, mean over the batch's steps.",
        "Stays. Grows steadily: lower optimiser.learning_rate.",
    ),
    Metric(
        "ptx_loss",
        UPDATE,
        "ppo with ptx.data: loss per token on the text that should not be forgotten.",
        "Stays near where it began. Rises: raise ptx.weight.",
    ),
    Metric(
        "frozen",
        UPDATE,
        "1 in steps that left the policy where it was (watch.respond freeze).",
        "Absent, unless the watch stepped in: see alarms.jsonl.",
    ),
    Metric(
        "explained_variance",
        CRITIC,
        "Share of the returns' variance that the critic's values explain; 1 is all, below 0 is worse than a constant.",
        "Rises above 0. Below 0 for long: critic_warmup, or raise critic_learning_rate.",
    ),
    Metric(
        "value_loss",
        CRITIC,
        "The critic's squared error on the returns.",
        "Falls, then follows the reward's spread.",
    ),
    Metric(
        "critic_gradient_norm",
        CRITIC,
        "Length of the critic's gradient before clipping.",
        "Falls, then stays. Grows: lower critic_learning_rate.",
    ),
    Metric(
        "latent_outliers",
        WATCH,
        "Share of answers that look to the reward model like none of the starting policy (watch.latent_samples).",
        "Stays near where it began. Rises by 0.05: the judge sees what it does not know; have people judge some.",
    ),
    Metric(
        "refused_safe",
        WATCH,
        "Share of harmless requests refused (watch.refusals).",
        "Stays low. Rises: the policy becomes over-cautious; look at the reward for refusals (heedful probe).",
    ),
    Metric(
        "refused_unsafe",
        WATCH,
        "Share of harmful requests refused (watch.refusals).",
        "Stays high. Falls: the policy is being paid to comply; add such prompts to what people judge.",
    ),
)
"""Every figure, in the order of the page."""


def metric_of(key: str) -> Metric | None:
    """The figure behind a key of metrics.jsonl; None for one that heedful does not log itself."""
    return next((metric for metric in METRICS if metric.covers(key)), None)
