"""`heedful ppo`, `rloo`, `grpo`, `reinforce`, `raft` and `online-dpo`: learning on the policy's own samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from heedful.data.load import DataSpec, Loaded, fit, load_demonstrations, load_prompts
from heedful.data.read import read_rows
from heedful.data.records import Prompt
from heedful.data.splits import split
from heedful.errors import HeedfulError
from heedful.files import sha256_json
from heedful.models.actor_critic import SeparateActorCritic
from heedful.models.policy import Policy
from heedful.models.rewards import Reward
from heedful.models.scalar import Critic
from heedful.pipeline.stages.common import (
    Opened,
    checkpointing,
    compiling,
    conclude,
    data_spec,
    demonstration_example,
    open_policy,
    opened,
    report_findings,
    require_records,
    resume,
    texts_of,
)
from heedful.pipeline.stages.players import anchor, open_ppo_models, open_reference, open_reward, settle
from heedful.pipeline.stages.preference import moving_reference, own_losses
from heedful.pipeline.stages.served import rollout_server
from heedful.pipeline.stages.watched import open_watch, said_by
from heedful.pipeline.watching import Watcher, together, watch_inputs
from heedful.training.batching import Example
from heedful.training.config.online import (
    GRPOConfig,
    LeashedConfig,
    OnlineConfig,
    PPOConfig,
    RAFTConfig,
    ReinforceConfig,
    RLOOConfig,
)
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.grpo import grpo, grpo_state
from heedful.training.online_dpo import OnlineDPOModels, online_dpo, online_dpo_state
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.preference_losses import read_mixture
from heedful.training.progress import Display
from heedful.training.raft import raft, raft_state
from heedful.training.reinforce import reinforce, reinforce_state
from heedful.training.rloo import rloo, rloo_state
from heedful.training.rollouts import OnlineModels
from heedful.training.run import Watch
from heedful.training.state import Step, TrainState

ConfigT = TypeVar("ConfigT", bound=OnlineConfig)
ModelsT = TypeVar("ModelsT", bound=OnlineModels)
MakeWatch = Callable[[OnlineModels], Watch]
"""Makes what looks on while a run goes, from its models."""


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
        config = stage.config
        loaded = load_prompts(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        prompts, held_out = fitting_prompts(stage, loaded, policy, config)
        kept, kept_data = kept_text(stage, policy, config)
        models = open_ppo_models(stage, policy, config)
        stage.part(policy, *trained_critics(models))
        state = ppo_state(models.actor_critic, config)
        warn(stage, config, state)
        inputs = {name: one["sha256"] for name, one in kept_data.items()} | watch_inputs(config.watch)
        resume(stage, loaded.describe(), state, inputs)
        checkpointing(policy, config)
        if isinstance(models.actor_critic, SeparateActorCritic):
            checkpointing(models.actor_critic.critic, config)
            compiling(config, models.actor_critic.critic)
        compiling(config, policy, models.reference, models.reward)
        models, watcher = open_watch(stage, config, models, state, prompts, held_out)
        with rollout_server(stage, config, policy) as server:
            models = replace(models, server=server)
            trainer = ppo(state, models, prompts, config, kept)
            figures = run_online(stage, state, trainer, watcher, watch(models) if watch else None)

        def save(folder: Path) -> None:
            policy.save(folder)
            models.actor_critic.save_value(folder / "critic")

        more = {"reward": config.reward, **kept_data, **said_by(watcher)}
        return conclude(stage, state, save, figures, loaded.describe(), more)


def run_rloo(config: RLOOConfig, display: Display | None = None, watch: MakeWatch | None = None) -> dict[str, Any]:
    """`heedful rloo`: REINFORCE leave-one-out against a reward; returns the manifest of the run."""
    return run_without_critic("rloo", config, display, watch, policy_and_reference(config), rloo_state, rloo)


def run_grpo(config: GRPOConfig, display: Display | None = None, watch: MakeWatch | None = None) -> dict[str, Any]:
    """`heedful grpo`: group relative policy optimisation; returns the manifest of the run, its form written out."""
    form = {"form": vars(config.form)}
    return run_without_critic("grpo", config, display, watch, policy_and_reference(config), grpo_state, grpo, form)


def run_reinforce(
    config: ReinforceConfig, display: Display | None = None, watch: MakeWatch | None = None
) -> dict[str, Any]:
    """`heedful reinforce`: REINFORCE++ against a reward; returns the manifest of the run."""
    return run_without_critic(
        "reinforce", config, display, watch, policy_and_reference(config), reinforce_state, reinforce
    )


def run_raft(config: RAFTConfig, display: Display | None = None, watch: MakeWatch | None = None) -> dict[str, Any]:
    """`heedful raft`: rejection-sampling fine-tuning; returns the manifest of the run."""
    return run_without_critic("raft", config, display, watch, policy_and_reference(config), raft_state, raft)


def run_online_dpo(
    config: OnlineDPOConfig, display: Display | None = None, watch: MakeWatch | None = None
) -> dict[str, Any]:
    """`heedful online-dpo`: losses on preferences, on pairs of the policy's own; returns the manifest of the run.

    Raises:
        HeedfulError: a loss that cannot be read, or a setting that it has no use for.
    """
    mixture = read_mixture(config.loss, config.loss_settings)
    if mixture.whole_batch and config.labels == "soft":
        raise HeedfulError(
            f"{config.loss} compares the sorted answers of a whole batch, and takes no soft labels.",
            where="labels",
            mend="Leave labels at hard, or choose another --loss.",
        )

    def assemble(policy: Policy, reward: Reward) -> OnlineDPOModels:
        moving = moving_reference(policy, mixture, config)
        start = anchor(policy)
        if moving is None:
            return OnlineDPOModels(policy, start, reward, mixture)
        return OnlineDPOModels(policy, moving.policy, reward, mixture, moving, start=start)

    more, inputs = {"loss": mixture.describe()}, own_losses(mixture)
    return run_without_critic(
        "online-dpo", config, display, watch, assemble, online_dpo_state, online_dpo, more, inputs
    )


def trained_critics(models: PPOModels) -> list[Critic]:
    """The critic, where it is a model of its own."""
    return [models.actor_critic.critic] if isinstance(models.actor_critic, SeparateActorCritic) else []


def policy_and_reference(config: LeashedConfig) -> Callable[[Policy, Reward], OnlineModels]:
    """Who takes part in most methods: the policy, its anchor, and the judge."""

    def assemble(policy: Policy, reward: Reward) -> OnlineModels:
        reference, start = open_reference(policy, config)
        return OnlineModels(policy, reference, reward, start=start)

    return assemble


def run_without_critic(
    name: str,
    config: ConfigT,
    display: Display | None,
    watch: MakeWatch | None,
    assemble: Callable[[Policy, Reward], ModelsT],
    begin: Callable[[ModelsT, ConfigT], TrainState],
    train: Callable[[TrainState, ModelsT, Sequence[Prompt], ConfigT], Iterator[Step]],
    more: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A stage that trains a policy on a reward and nothing else; returns the manifest of the run.

    Args:
        assemble: makes who takes part, from the policy and the judge.
        begin: makes the state of a run that starts.
        train: the trainer.
        more: entries of the manifest.
        inputs: content hashes of what else the run reads, by name.
    """
    with opened(name, config, display) as stage:
        if isinstance(stage, dict):
            return stage
        config = stage.config
        loaded = load_prompts(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        prompts, held_out = fitting_prompts(stage, loaded, policy, config)
        reward = open_reward(stage, policy, config)
        models = assemble(policy, reward)
        settle(policy, reward)
        stage.part(policy)
        state = begin(models, config)
        warn(stage, config, state)
        resume(stage, loaded.describe(), state, {**(inputs or {}), **watch_inputs(config.watch)})
        checkpointing(policy, config)
        compiling(config, policy, models.reference, reward)
        models, watcher = open_watch(stage, config, models, state, prompts, held_out)
        with rollout_server(stage, config, policy) as server:
            models = replace(models, server=server)
            trainer = train(state, models, prompts, config)
            figures = run_online(stage, state, trainer, watcher, watch(models) if watch else None)
        entries = {"reward": config.reward, **(more or {}), **said_by(watcher)}
        return conclude(stage, state, policy.save, figures, loaded.describe(), entries)


def fitting_prompts(
    stage: Opened, loaded: Loaded[Prompt], policy: Policy, config: OnlineConfig
) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts that leave room for a completion: those to train on, and those held out.

    Raises:
        HeedfulError: no room, or no prompt left.
    """
    room = config.records.max_length - config.rollout.max_new_tokens
    if room <= 0:
        raise HeedfulError(
            f"max_new_tokens ({config.rollout.max_new_tokens}) leaves no room for a prompt.",
            where="records.max_length",
            mend="Raise records.max_length or lower rollout.max_new_tokens.",
        )
    fitting = fit(loaded.records, policy.tokenizer, room, config.records.on_bad_row, loaded.findings)
    report_findings(loaded, stage.display)
    require_records(fitting, loaded)
    prompts, held_out = split(fitting, config.records.held_out, config.records.split_seed)
    require_records(prompts, loaded)
    return prompts, held_out


def warn(stage: Opened, config: OnlineConfig, state: TrainState) -> None:
    """Say what the KL descends, where it is something else than people expect and has a price."""
    if not isinstance(config, LeashedConfig):
        return
    said = config.kl.warning()
    if said and (state.scalars["kl_coefficient"] > 0 or config.kl.adaptive):
        stage.display.say(f"warning: kl.estimator {config.kl.estimator}, kl.place {config.kl.place}: {said}.")


def run_online(
    stage: Opened[ConfigT],
    state: TrainState,
    trainer: Iterator[Step],
    watcher: Watcher | None,
    watch: Watch | None,
) -> dict[str, float]:
    """Run an online trainer to its end and return its last figures."""
    shown = ("reward", "kl", "entropy", "accuracy", "length")
    figures = stage.train(trainer, state, stage.config.steps, shown, together(watcher, watch))
    if watcher is not None:
        watcher.conclude()
    return figures


def kept_text(stage: Opened, policy: Policy, config: PPOConfig) -> tuple[list[Example], dict[str, Any]]:
    """PPO-ptx's text as tokens, and what the manifest says of it; nothing where none is asked for.

    Rows with a column `text` are plain documents, all of whose tokens are learnt; others are demonstrations.

    Raises:
        HeedfulError: no text that could be learnt from.
    """
    source, longest = config.ptx.data, config.records.max_length
    if source is None:
        return [], {}
    first = next(iter(read_rows(source)), None)
    if first is not None and isinstance(first[1].get("text"), str):
        texts = [row.get("text") for _, row in read_rows(source)]
        examples = [example for text in texts for example in document_examples(text, policy, longest)]
        without = len(texts) - len(examples)
        stage.display.say(f"{source}: {len(examples)} documents for PPO-ptx; {without} rows without text left out.")
        described = {"source": source, "sha256": sha256_json(texts), "documents": len(examples)}
    else:
        loaded = load_demonstrations(DataSpec(source, on_bad_row=config.records.on_bad_row))
        records = fit(loaded.records, policy.tokenizer, longest, config.records.on_bad_row, loaded.findings)
        report_findings(loaded, stage.display)
        examples = [demonstration_example(record, policy, longest) for record in records]
        described = loaded.describe()
    if not examples:
        raise HeedfulError("no usable text is left.", where=f"ptx.data ({source})", mend="Give another file.")
    return examples, {"ptx_data": described}


def document_examples(text: Any, policy: Policy, longest: int) -> list[Example]:
    """A document as tokens, cut to the window, all but the first to be learnt; none where there is nothing to learn."""
    if not isinstance(text, str):
        return []
    tokens = policy.tokenizer(text, add_special_tokens=False)["input_ids"][:longest]
    return [Example(tokens, [False] + [True] * (len(tokens) - 1))] if len(tokens) > 1 else []
