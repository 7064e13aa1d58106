"""`heedful ppo`: learning from a reward on the policy's own samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.data.load import fit, load_prompts
from heedful.data.splits import split
from heedful.errors import HeedfulError
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.policy import Policy, reference_of
from heedful.models.rewards import load_reward
from heedful.models.scalar import Critic, RewardModel
from heedful.pipeline.stages.common import (
    checkpointing,
    conclude,
    data_spec,
    lora_of,
    open_policy,
    opened,
    report_findings,
    require_records,
    resume,
    texts_of,
)
from heedful.training.config.online import PPOConfig
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.progress import Display
from heedful.training.run import Watch, run


def run_ppo(
    config: PPOConfig, display: Display | None = None, watch: Callable[[PPOModels], Watch] | None = None
) -> dict[str, Any]:
    """`heedful ppo`: PPO against a reward under a KL penalty; returns the manifest of the run.

    Args:
        watch: makes what looks on while the run goes, from its models.
    """
    with opened("ppo", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_prompts(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        room = config.records.max_length - config.rollout.max_new_tokens
        if room <= 0:
            raise HeedfulError(
                f"max_new_tokens ({config.rollout.max_new_tokens}) leaves no room for a prompt.",
                where="records.max_length",
                mend="Raise records.max_length or lower rollout.max_new_tokens.",
            )
        fitting = fit(loaded.records, policy.tokenizer, room, config.records.on_bad_row, loaded.findings)
        require_records(fitting, loaded)
        report_findings(loaded, stage.display)
        prompts, _ = split(fitting, config.records.held_out, config.records.split_seed)
        require_records(prompts, loaded)
        models = open_ppo_models(policy, config)
        state = ppo_state(models.actor_critic, config)
        resume(stage, config, loaded.describe(), state)
        checkpointing(policy, config)
        if isinstance(models.actor_critic, SeparateActorCritic):
            checkpointing(models.actor_critic.critic, config)
        figures = run(
            ppo(state, models, prompts, config),
            state,
            out=stage.out,
            total=config.steps,
            title="ppo",
            settings=config.run,
            display=stage.display,
            shown=("reward", "kl", "entropy", "length"),
            watch=watch(models) if watch else None,
        )

        def save(folder: Path) -> None:
            policy.save(folder)
            models.actor_critic.save_value(folder / "critic")

        return conclude(stage, "ppo", config, state, save, figures, loaded.describe(), {"reward": config.reward})


def open_ppo_models(policy: Policy, config: PPOConfig) -> PPOModels:
    """The reference, the reward and the critic that a PPO run needs."""
    judge = load_reward(config.reward, device=str(policy.device), precision=policy.precision)
    reference = reference_of(policy)
    if config.critic == "shared":
        return PPOModels(SharedActorCritic(policy), reference, judge)
    if isinstance(judge, RewardModel) and judge.tokenizer.get_vocab() == policy.tokenizer.get_vocab():
        critic = Critic.from_reward(judge, lora=lora_of(config), seed=config.seed)
        return PPOModels(SeparateActorCritic(policy, critic), reference, judge, critic_from_reward=True)
    critic = Critic.from_policy(policy, lora=lora_of(config), seed=config.seed)
    return PPOModels(SeparateActorCritic(policy, critic), reference, judge)
