"""REINFORCE++ (Hu 2025): PPO's clip and token rewards without a critic; the whole batch is the baseline.

Read `reinforce` from top to bottom: sample, sum what follows each token, whiten, update, steer β.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heedful.core.advantages import returns_to_go, shape_rewards, whiten
from heedful.data.records import Prompt
from heedful.training.config.online import ReinforceConfig
from heedful.training.correction import corrected
from heedful.training.experience import Experience, describe, kl_price, old_logprobs, run_logprobs
from heedful.training.rollouts import OnlineModels, Questions, fix_scale, sample
from heedful.training.state import Step, TrainState
from heedful.training.updates import Objective, policy_state, steer, update_policy


def reinforce_state(models: OnlineModels, config: ReinforceConfig) -> TrainState:
    """Optimiser and KL coefficient at the start of a run."""
    return policy_state(models.policy, config, config.kl.coefficient)


def reinforce(
    state: TrainState, models: OnlineModels, prompts: Sequence[Prompt], config: ReinforceConfig
) -> Iterator[Step]:
    """Improve the policy on the reward under the KL penalty; yields after every rollout batch.

    A token's reward is less β times its KL, the last one's with the score; a token's advantage is what it and those
    after it earn, whitened over all tokens of the batch.
    """
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    clip = config.update.clip
    objective = Objective(clip, clip, "token", "token", config.rollout.max_new_tokens)
    while state.step < config.steps:
        state.begin_step()
        kl_coefficient = state.scalars["kl_coefficient"]
        batch = sample(state, models, questions, config.rollout, config.score)
        rollout, mask = batch.rollout, batch.rollout.mask
        old = old_logprobs(state, models.policy, rollout, config)
        reference = run_logprobs(state, models.reference, rollout, config)
        rewards = shape_rewards(batch.scores, kl_price(config.kl, kl_coefficient, old, reference, mask), mask)
        advantages = whiten(returns_to_go(rewards, mask, gamma=config.update.gamma), mask, shift_mean=True)
        experience = Experience(rollout, old, reference, advantages)
        experience, told = corrected(models, experience, config.rollout, "token")
        figures = update_policy(state, models.policy, experience, objective, config) | told
        figures |= describe(rollout, old, reference) | batch.figures()
        figures["kl_coefficient"] = kl_coefficient
        steer(state, config.kl, figures["kl"], len(batch))
        state.step += 1
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))
