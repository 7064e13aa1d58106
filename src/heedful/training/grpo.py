"""Group relative policy optimisation (Shao et al. 2024): a completion is held against the mean of its prompt's.

Read `grpo` from top to bottom: sample, compare, update, steer β. What Dr. GRPO, DAPO and GSPO change is a record of
choices (`training.config.updates.GRPOForm`), and no name is asked for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from heedful.core.advantages import flat_groups, group_advantages, overlong_penalty
from heedful.data.records import Prompt
from heedful.training.batching import records_between
from heedful.training.config.online import GRPOConfig
from heedful.training.correction import corrected
from heedful.training.experience import Experience, describe, kl_price, old_logprobs, over_tokens, run_logprobs
from heedful.training.rollouts import (
    RESAMPLE_PURPOSE,
    Batch,
    OnlineModels,
    Questions,
    answer,
    fix_scale,
    join,
    pick,
    sample,
)
from heedful.training.state import Step, TrainState, mix
from heedful.training.updates import Objective, policy_state, steer, update_policy


def grpo_state(models: OnlineModels, config: GRPOConfig) -> TrainState:
    """Optimiser and KL coefficient at the start of a run."""
    return policy_state(models.policy, config, config.form.kl_coefficient)


def grpo(state: TrainState, models: OnlineModels, prompts: Sequence[Prompt], config: GRPOConfig) -> Iterator[Step]:
    """Improve the policy on the reward, by groups of completions; yields after every rollout batch."""
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    form, longest = config.form, config.rollout.max_new_tokens
    objective = Objective(form.clip_low, form.clip_high, form.ratio, form.aggregation, longest)
    while state.step < config.steps:
        state.begin_step()
        kl_coefficient = state.scalars["kl_coefficient"]
        batch = sample(state, models, questions, config.rollout, config.score)
        batch, counted = with_spread(state, models, questions, batch, config)
        batch = with_overlong_penalty(batch, form.overlong_share, longest)
        rollout, mask = batch.rollout, batch.rollout.mask
        old = old_logprobs(state, models.policy, rollout, config)
        reference = run_logprobs(state, models.reference, rollout, config)
        rewards = batch.scores - kl_price(config.kl, kl_coefficient, old, reference, mask).sum(1)
        advantages = group_advantages(batch.grouped(rewards), scale=form.scale).flatten()
        experience = Experience(rollout, old, reference, over_tokens(advantages, mask))
        experience, told = corrected(models, experience, config.rollout, form.ratio)
        figures = update_policy(state, models.policy, experience, objective, config) | told
        figures |= describe(rollout, old, reference) | batch.figures() | counted
        figures["kl_coefficient"] = kl_coefficient
        steer(state, config.kl, figures["kl"], len(batch))
        state.step += 1
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))


def with_spread(
    state: TrainState, models: OnlineModels, questions: Questions, batch: Batch, config: GRPOConfig
) -> tuple[Batch, dict[str, float]]:
    """Replace prompts whose completions all score alike, from which nothing is learnt, by others (DAPO, section 3.2).

    Each of at most `resample_rounds` rounds draws as many new prompts as are missing, a function of (seed, step,
    round). What is still alike after the last round stays in the batch, with advantages of 0.

    Returns:
        the batch, as large as before, and how many prompts were replaced (draws counted) and how many stay alike.
    """
    flat = flat_groups(batch.grouped(batch.scores))
    replaced = 0
    for number in range(config.form.resample_rounds):
        missing = int(flat.sum())
        if missing == 0:
            break
        chosen = records_between(0, missing, len(questions), mix(state.seed, RESAMPLE_PURPOSE, state.step, number))
        seed = mix(state.seed, RESAMPLE_PURPOSE, state.step, number, 1)
        fresh = answer(models, questions, chosen, seed, config.rollout, config.score, state.scalars)
        good = [group for group, alike in enumerate(flat.tolist()) if not alike]
        batch = join([pick(batch, good), fresh] if good else [fresh], models.policy.pad)
        flat = flat_groups(batch.grouped(batch.scores))
        replaced += missing
    return batch, {"flat_groups": float(flat.sum()), "resampled_groups": float(replaced)}


def with_overlong_penalty(batch: Batch, share: float, longest: int) -> Batch:
    """The batch with length priced over the last `share` of the longest completion."""
    if share == 0:
        return batch
    penalty = overlong_penalty(batch.rollout.lengths, longest, max(1, round(share * longest)))
    return replace(batch, scores=batch.scores - penalty)
