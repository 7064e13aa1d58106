"""The stages that the command line runs: each reads files, trains, and leaves a standard Hugging Face folder."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from heedful.data.chat import render_completion, render_prompt
from heedful.data.load import DataSpec, Loaded, fit, load_demonstrations, load_preferences, load_prompts
from heedful.data.records import Conversation, Demonstration, Preference, Prompt, prompt_key
from heedful.data.splits import split
from heedful.errors import HeedfulError
from heedful.evaluation.accuracy import reward_accuracy
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.adapters import LoRA
from heedful.models.fingerprint import source_fingerprint
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import Policy, load_policy, reference_of
from heedful.models.rewards import load_reward
from heedful.models.scalar import Critic, RewardModel, new_reward_model
from heedful.pipeline.run_folder import INPUTS, begin, clear, finish, lineage, locked, same_inputs
from heedful.pipeline.scratch import open_scratch
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import DecodingParams
from heedful.training.batching import Example, total_steps
from heedful.training.checkpoint import load_checkpoint
from heedful.training.config import (
    DPOConfig,
    PPOConfig,
    Precision,
    RecordsConfig,
    RewardConfig,
    SFTConfig,
    StageConfig,
)
from heedful.training.dpo import dpo, evaluate_dpo, reference_logprobs
from heedful.training.folders import METRICS
from heedful.training.pairs import Pair, make_pairs
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.progress import Display
from heedful.training.reward import evaluate_reward, normalisation, reward, reward_state, score_pairs
from heedful.training.run import Intervene, Watch, no_intervention, run
from heedful.training.sft import evaluate_sft, sft, sft_state
from heedful.training.state import TrainState

RecordT = TypeVar("RecordT", Prompt, Demonstration, Preference)


@dataclass(frozen=True)
class Opened:
    """A stage that is not finished yet: where it writes and how it shows progress."""

    out: Path
    display: Display


@contextmanager
def opened(stage: str, config: StageConfig, display: Display | None) -> Iterator[Opened | dict[str, Any]]:
    """Hold the run's folder; yields the manifest of a run that is finished already, else where to work."""
    display = display or Display()
    out = Path(config.out)
    made_here = not out.exists()
    try:
        with locked(out):
            done = begin(out, stage, config)
            if done is not None:
                display.say(f"{stage}: {out} is finished already; delete it, or choose another --out, to run again.")
                yield done
                return
            try:
                yield Opened(out, display)
            except HeedfulError:
                if not (out / METRICS).exists():  # refused before the first step: leave no trace
                    clear(out)
                raise
    finally:
        if made_here and out.exists() and {item.name for item in out.iterdir()} <= {".lock"}:
            shutil.rmtree(out)


def run_sft(config: SFTConfig, display: Display | None = None) -> dict[str, Any]:
    """`heedful sft`: train on demonstrations; returns the manifest of the run."""
    with opened("sft", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_demonstrations(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        records, held_out = prepared(loaded, policy, config, stage.display)
        examples = [demonstration_example(record, policy, config.records.max_length) for record in records]
        evaluation = [demonstration_example(record, policy, config.records.max_length) for record in held_out]
        return fine_tune(
            stage, config, policy, examples, evaluation, prompts_of(held_out or records), loaded.describe()
        )


def fine_tune(
    stage: Opened,
    config: SFTConfig,
    policy: Policy,
    examples: Sequence[Example],
    evaluation: Sequence[Example],
    watched: Sequence[Conversation],
    data: dict[str, Any],
    name: str = "sft",
) -> dict[str, Any]:
    """Train a policy on sequences that are tokens already; what `sft` and the world's pretraining share."""
    total = total_steps(len(examples), config.batch_size, config.epochs)
    state = sft_state(policy, config.optimiser, total, config.seed)
    resume(stage, config, data, state)
    checkpointing(policy, config)
    figures = run(
        sft(state, policy, examples, config),
        state,
        out=stage.out,
        total=total,
        title=name,
        settings=config.run,
        display=stage.display,
        shown=("loss", "held_out_loss"),
        watch=Watch(
            evaluate=lambda: evaluate_sft(policy, evaluation, config.memory.micro_batch_tokens),
            sample=lambda: watched_samples(policy, watched, config.records.max_length),
        ),
    )
    return conclude(stage, name, config, state, policy.save, figures, data)


def run_reward(config: RewardConfig, display: Display | None = None) -> dict[str, Any]:
    """`heedful reward`: train a reward model on preferences; returns the manifest of the run."""
    with opened("reward", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_preferences(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records), adapters=False)
        records, held_out = prepared(loaded, policy, config, stage.display)
        model = new_reward_model(policy, lora=lora_of(config), seed=config.seed)
        pairs = margins(
            make_pairs(records, model.tokenizer, config.labels, config.records.max_length, closing=model.eos[0]), config
        )
        evaluation = make_pairs(
            held_out, model.tokenizer, config.labels, config.records.max_length, closing=model.eos[0]
        )
        budget = config.memory.micro_batch_tokens
        total = total_steps(len(pairs), config.batch_size, config.epochs)
        state = reward_state(model, config, total)
        resume(stage, config, loaded.describe(), state)
        checkpointing(model, config)
        figures = run(
            reward(state, model, pairs, config),
            state,
            out=stage.out,
            total=total,
            title="reward",
            settings=config.run,
            display=stage.display,
            shown=("loss", "accuracy", "held_out_accuracy"),
            watch=Watch(evaluate=lambda: evaluate_reward(model, evaluation, budget)),
        )
        if config.normalise != "none":
            offset, spread = normalisation(model, pairs, budget)
            model.set_normalisation(offset, spread if config.normalise == "standard" else 1.0)
        accuracy = held_out_accuracy(model, held_out, evaluation, budget)
        if accuracy:
            stage.display.say(say_accuracy(accuracy))
        return conclude(stage, "reward", config, state, model.save, figures, loaded.describe(), {"held_out": accuracy})


def held_out_accuracy(
    model: RewardModel, records: Sequence[Preference], pairs: Sequence[Pair], budget: int
) -> dict[str, Any]:
    """Accuracy on held-out pairs with its interval by prompt, beside what "the longer answer" would reach.

    Empty where fewer than two held-out prompts have a preferred answer.
    """
    clusters = [prompt_key(record.prompt) for record in records]
    decided = {key for key, pair in zip(clusters, pairs, strict=True) if pair.probability != 0.5}
    if len(decided) < 2:
        return {}
    a, b = score_pairs(model, pairs, budget)
    found = reward_accuracy(
        a.numpy(),
        b.numpy(),
        [pair.probability for pair in pairs],
        lengths_a=[len(pair.a.tokens) for pair in pairs],
        lengths_b=[len(pair.b.tokens) for pair in pairs],
        clusters=clusters,
    )
    return {
        "accuracy": asdict(found.accuracy),
        "length_only": asdict(found.length_only),
        "chance": 0.5,
        "pairs": found.pairs,
        "ties": found.truth_ties,
    }


def say_accuracy(found: dict[str, Any]) -> str:
    """The held-out accuracy in one line."""
    ours, longer = found["accuracy"], found["length_only"]
    return (
        f"reward: {ours['mean']:.1%} right on {found['pairs']} held-out pairs "
        f"(95% interval {ours['low']:.1%} to {ours['high']:.1%}); the longer answer alone {longer['mean']:.1%}, "
        f"chance 50%"
    )


def margins(pairs: list[Pair], config: RewardConfig) -> list[Pair]:
    """Pairs fit for `use_margin`: hard labels only, the preferred answer first."""
    if not config.use_margin:
        return pairs
    if any(pair.probability not in (0.0, 1.0) for pair in pairs):
        raise HeedfulError(
            "margins and soft labels do not go together, and some pairs have votes on both sides.",
            where="use_margin",
            mend="Leave use_margin out, or give hard labels (and no ties) with --labels majority.",
        )
    return [p if p.probability == 1.0 else Pair(p.b, p.a, 1.0, p.margin, p.weight) for p in pairs]


def run_dpo(
    config: DPOConfig, display: Display | None = None, intervene: Callable[[Policy], Intervene] | None = None
) -> dict[str, Any]:
    """`heedful dpo`: direct preference optimisation; returns the manifest of the run.

    Args:
        intervene: makes what may step in while the run goes, from its policy.
    """
    with opened("dpo", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_preferences(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        records, held_out = prepared(loaded, policy, config, stage.display)
        budget = config.memory.micro_batch_tokens
        pairs = make_pairs(records, policy.tokenizer, config.labels, config.records.max_length)
        evaluation = make_pairs(held_out, policy.tokenizer, config.labels, config.records.max_length)
        stage.display.say(f"dpo: log-probabilities of the reference for {len(pairs) + len(evaluation)} pairs")
        reference = reference_logprobs(policy, pairs, budget)
        held_out_reference = reference_logprobs(policy, evaluation, budget)
        total = total_steps(len(pairs), config.batch_size, config.epochs)
        state = sft_state(policy, config.optimiser, total, config.seed)
        resume(stage, config, loaded.describe(), state)
        checkpointing(policy, config)
        watched = prompts_of(held_out or records)
        figures = run(
            dpo(state, policy, reference, pairs, config),
            state,
            out=stage.out,
            total=total,
            title="dpo",
            settings=config.run,
            display=stage.display,
            shown=("loss", "margin", "accuracy", "held_out_accuracy"),
            watch=Watch(
                evaluate=lambda: evaluate_dpo(policy, held_out_reference, evaluation, config.beta, budget),
                sample=lambda: watched_samples(policy, watched, config.records.max_length),
                intervene=intervene(policy) if intervene else no_intervention,
            ),
        )
        return conclude(stage, "dpo", config, state, policy.save, figures, loaded.describe())


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


def data_spec(path: str, records: RecordsConfig) -> DataSpec:
    """Where and how to read records."""
    return DataSpec(path, records.format, records.split, records.on_bad_row, records.limit)


def open_policy(model: str, config: StageConfig, out: Path, texts: Iterator[str], *, adapters: bool = True) -> Policy:
    """The model that a stage starts from: loaded, or made new from a .yaml description."""
    loading = config.loading
    device = resolve_device(loading.device)
    if model.endswith((".yaml", ".yml")):
        if loading.lora_rank:
            raise HeedfulError(
                "adapters on a model with random weights would train nothing useful.",
                where="loading.lora_rank",
                mend="Leave it at 0 for a new model.",
            )
        policy = open_scratch(model, texts, out, seed=config.seed, device=device)
    else:
        policy = load_policy(
            model,
            template=loading.template,
            pad_token=loading.pad_token,
            lora=lora_of(config) if adapters else None,
            device=device,
            revision=loading.revision,
            seed=config.seed,
        )
    policy.precision = resolve_precision(loading.precision, policy)
    return policy


def lora_of(config: StageConfig) -> LoRA | None:
    """The adapters that a stage asks for, if any."""
    loading = config.loading
    if not loading.lora_rank:
        return None
    targets = loading.lora_targets
    return LoRA(
        loading.lora_rank,
        loading.lora_alpha,
        loading.lora_dropout,
        targets if targets == "all-linear" else tuple(name.strip() for name in targets.split(",")),
    )


def resolve_precision(precision: Precision, policy: Policy) -> Literal["float32", "bfloat16"]:
    """`auto` is bfloat16 on a GPU that has it; on a CPU float32, which is the faster there below large sizes."""
    if precision != "auto":
        return precision
    cuda = policy.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if cuda else "float32"


def resolve_device(device: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        HeedfulError: CUDA is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HeedfulError("this machine has no CUDA device.", where="loading.device", mend="Use cpu or auto.")
    return device


def texts_of(records: Sequence[Prompt | Demonstration | Preference]) -> Iterator[str]:
    """All the text in some records, for training a tokenizer."""
    for record in records:
        yield from (message.content for message in record.prompt)
        if isinstance(record, Demonstration):
            yield record.completion
        elif isinstance(record, Preference):
            yield from (record.a, record.b)


def prompts_of(records: Sequence[Demonstration | Preference]) -> list[Conversation]:
    """The first few prompts, to watch the samples of."""
    return [record.prompt for record in records[:4]]


def prepared(
    loaded: Loaded[RecordT], policy: Policy, config: SFTConfig | RewardConfig | DPOConfig, display: Display
) -> tuple[list[RecordT], list[RecordT]]:
    """Records that fit the window, as (train, held out)."""
    settings = config.records
    records = fit(loaded.records, policy.tokenizer, settings.max_length, settings.on_bad_row, loaded.findings)
    require_records(records, loaded)
    report_findings(loaded, display)
    train, held_out = split(records, settings.held_out, settings.split_seed)
    require_records(train, loaded)
    return train, held_out


def require_records(records: Sequence[object], loaded: Loaded[Any]) -> None:
    """Refuse to train on nothing."""
    if not records:
        raise HeedfulError(
            "no usable record is left.",
            where=loaded.source,
            mend="See the findings above: raise records.max_length, or lower records.held_out.",
        )


def report_findings(loaded: Loaded[Any], display: Display) -> None:
    """Say what was read and what was found wrong with it."""
    display.say(loaded.summary())


def demonstration_example(record: Demonstration, policy: Policy, max_length: int) -> Example:
    """A demonstration as tokens; the model learns the completion and its end of turn."""
    rendered = render_completion(policy.tokenizer, record.prompt, record.completion, max_length=max_length)
    return Example(rendered.tokens, rendered.mask)


def watched_samples(policy: Policy, prompts: Sequence[Conversation], max_length: int) -> list[dict[str, Any]]:
    """Greedy answers to a few prompts, to read along while training."""
    rendered = [render_prompt(policy.tokenizer, prompt) for prompt in prompts]
    if not rendered:
        return []
    longest = max(1, min(128, max_length - max(len(tokens) for tokens in rendered)))
    rollout = NativeEngine(policy).generate(rendered, DecodingParams(max_new_tokens=longest, temperature=0.0))
    texts = decode(policy, rollout)
    return [{"prompt": p[-1].content if p else "", "completion": t} for p, t in zip(prompts, texts, strict=True)]


def checkpointing(model: Policy | RewardModel | Critic, config: StageConfig) -> None:
    """Turn gradient checkpointing on where it is asked for."""
    if config.memory.gradient_checkpointing:
        checkpoint_activations(model.model)


def resume(stage: Opened, config: StageConfig, data: Mapping[str, Any], state: TrainState) -> None:
    """Go on from the newest checkpoint, if there is one, on the inputs that the run was begun with.

    Raises:
        HeedfulError: the data or a model that the run reads has changed since.
    """
    revision = config.loading.revision
    made_of = {
        role: source_fingerprint(name, revision=revision if role == "model" else None)
        for role, name in parents(config).items()
    }
    same_inputs(stage.out, {"data": data["sha256"]} | made_of)
    if load_checkpoint(stage.out, state):
        stage.display.say(f"going on from step {state.step}")


def parents(config: StageConfig) -> dict[str, str]:
    """The models that a stage's result is made from, by role."""
    return {"model": config.model} | ({"reward": config.reward} if isinstance(config, PPOConfig) else {})


def conclude(
    stage: Opened,
    name: str,
    config: StageConfig,
    state: TrainState,
    save: Callable[[Path], None],
    figures: dict[str, float],
    data: dict[str, Any],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the result with its lineage (and `more`), and drop the checkpoints that are no longer needed."""
    inputs = json.loads((stage.out / INPUTS).read_text(encoding="utf-8"))
    made_from = {role: {"name": source, "fingerprint": inputs[role]} for role, source in parents(config).items()}
    manifest = lineage(name, config, made_from, data)
    manifest |= {"figures": figures, **(more or {})}
    manifest["steps"] = state.step
    manifest["seconds"] = state.scalars.get("seconds", 0.0)
    manifest["peak_memory_bytes"] = peak_memory()
    if "stopped" in state.scalars:
        manifest["stopped"] = state.scalars["stopped"]
    return finish(stage.out, save, manifest)


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
