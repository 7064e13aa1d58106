"""REINFORCE leave-one-out (Ahmadian et al. 2024): the other completions of a prompt stand in for the critic.

Read `rloo` from top to bottom: sample, compare, update, steer β.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heedful.core.advantages import leave_one_out
from heedful.data.records import Prompt
from heedful.training.config.online import RLOOConfig
from heedful.training.correction import corrected
from heedful.training.experience import Experience, describe, kl_price, old_logprobs, over_tokens, run_logprobs
from heedful.training.rollouts import OnlineModels, Questions, fix_scale, sample
from heedful.training.state import Step, TrainState
from heedful.training.updates import Objective, policy_state, steer, update_policy


def rloo_state(models: OnlineModels, config: RLOOConfig) -> TrainState:
    """Optimiser and KL coefficient at the start of a run."""
    return policy_state(models.policy, config, config.kl.coefficient)


def rloo(state: TrainState, models: OnlineModels, prompts: Sequence[Prompt], config: RLOOConfig) -> Iterator[Step]:
    """Improve the policy on the reward under the KL penalty; yields after every rollout batch.

    A completion's reward is its score less β times the KL of the whole completion; its advantage is that reward
    less the mean of the others' of its prompt. The loss sums over tokens, or takes one ratio for a completion, and
    is a mean over completions: the policy gradient of whole completions.
    """
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    clip = config.update.clip
    objective = Objective(clip, clip, config.update.ratio, "completion", config.rollout.max_new_tokens)
    while state.step < config.steps:
        state.begin_step()
        kl_coefficient = state.scalars["kl_coefficient"]
        batch = sample(state, models, questions, config.rollout, config.score)
        rollout, mask = batch.rollout, batch.rollout.mask
        old = old_logprobs(state, models.policy, rollout, config)
        reference = run_logprobs(state, models.reference, rollout, config)
        rewards = batch.scores - kl_price(config.kl, kl_coefficient, old, reference, mask).sum(1)
        advantages = leave_one_out(batch.grouped(rewards)).flatten()
        experience = Experience(rollout, old, reference, over_tokens(advantages, mask))
        experience, told = corrected(models, experience, config.rollout, config.update.ratio)
        figures = update_policy(state, models.policy, experience, objective, config) | told
        figures |= describe(rollout, old, reference) | batch.figures()
        figures["kl_coefficient"] = kl_coefficient
        steer(state, config.kl, figures["kl"], len(batch))
        state.step += 1
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))
