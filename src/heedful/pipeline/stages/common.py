"""What every stage does alike: hold its folder, open its model, read its records, go on, and conclude."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console

from heedful.data.chat import render_completion, render_prompt
from heedful.data.load import DataSpec, Loaded, fit
from heedful.data.records import Conversation, Demonstration, Labelled, Preference, Prompt, Ranking
from heedful.data.splits import split
from heedful.errors import HeedfulError
from heedful.models import cpu
from heedful.models.fingerprint import source_fingerprint
from heedful.models.low_precision import Computing
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import Policy, load_policy
from heedful.models.scalar import Critic, RewardModel
from heedful.models.storage import check_source
from heedful.pipeline.choices import lora_of, precision_of, resolve_device
from heedful.pipeline.plan import planned_tokens
from heedful.pipeline.ray_scorers import refuse_beside_scorers
from heedful.pipeline.run_folder import CONFIG, INPUTS, begin, begun_with, clear, finish, lineage, locked, same_inputs
from heedful.pipeline.scratch import open_scratch
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import DecodingParams
from heedful.training.batching import Example
from heedful.training.checkpoint import load_checkpoint
from heedful.training.config.common import RecordsConfig
from heedful.training.config.online import LeashedConfig, OnlineConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.config.stage import StageConfig
from heedful.training.folders import METRICS
from heedful.training.progress import Display
from heedful.training.run import Watch, run
from heedful.training.sharding import opened_by_leader, sharding
from heedful.training.state import Step, TrainState
from heedful.training.trackers import check_wandb
from heedful.training.workers import current

RecordT = TypeVar("RecordT", Prompt, Demonstration, Preference, Ranking, Labelled)
ConfigT = TypeVar("ConfigT", bound=StageConfig)


@dataclass(frozen=True)
class Opened(Generic[ConfigT]):
    """A stage that is not finished yet: where it writes, how it shows progress, and its settled settings."""

    name: str
    out: Path
    display: Display
    config: ConfigT
    parting: ExitStack
    """Holds the models that train parted among the workers, until they are trained."""

    def part(self, *roles: Computing) -> None:
        """Part the layers of models that train among the workers, if the run asks for it; before optimisers are made.

        Raises:
            HeedfulError: as `sharding`.
        """
        self.parting.enter_context(sharding(*roles))

    def train(
        self, trainer: Iterator[Step], state: TrainState, total: int, shown: Sequence[str], watch: Watch | None
    ) -> dict[str, float]:
        """Run a trainer to its end and return the last figures. Models stay parted until `conclude`."""
        return run(
            trainer,
            state,
            out=self.out,
            total=total,
            title=self.name,
            settings=self.config.run,
            display=self.display,
            shown=shown,
            watch=watch,
        )


@contextmanager
def opened(stage: str, config: ConfigT, display: Display | None) -> Iterator[Opened[ConfigT] | dict[str, Any]]:
    """Hold the run's folder; yields the manifest of a run that is finished already, else where to work.

    Raises:
        HeedfulError: the folder is another run's, or a setting that this machine cannot follow.
    """
    team = current()
    display = (display or Display()) if team.leads else Display(Console(quiet=True))
    cpu.prepare()
    check_workers(stage, config)
    check_wandb(config.run.wandb)
    out = Path(config.out)
    with ExitStack() as held:

        def begun() -> tuple[dict[str, Any] | None, ConfigT]:
            held.enter_context(untouched(out))
            held.enter_context(locked(out))
            now = settled(stage, config, out, display)
            done = begin(out, stage, now)
            if done is None:
                held.enter_context(cleared_where_refused(out))
            return done, now

        done, config = team.led(begun)  # the leader alone holds the folder
        if done is not None:
            display.say(f"{stage}: {out} is finished already; delete it, or choose another --out, to run again.")
            yield done
            return
        yield Opened(stage, out, display, config, held.enter_context(ExitStack()))


@contextmanager
def untouched(out: Path) -> Iterator[None]:
    """Leave no folder that was made to be locked and nothing else, and no lock in a folder that is no run's."""
    made_here, foreign = not out.exists(), out.is_dir() and not (out / ".lock").exists()
    try:
        yield
    finally:
        if made_here and out.exists() and {item.name for item in out.iterdir()} <= {".lock"}:
            shutil.rmtree(out)
        if foreign and not (out / CONFIG).exists():
            (out / ".lock").unlink(missing_ok=True)


@contextmanager
def cleared_where_refused(out: Path) -> Iterator[None]:
    """Clear a run that is refused before its first step."""
    try:
        yield
    except HeedfulError:
        if not (out / METRICS).exists():
            clear(out)
        raise


def check_workers(stage: str, config: StageConfig) -> None:
    """Refuse, before anything is read, what several workers cannot do.

    Raises:
        HeedfulError: naming the setting.
    """
    team, launch = current(), config.launch
    if launch.workers not in (1, team.count):
        raise HeedfulError(
            f"{launch.workers} workers are asked for, and {team.count} run.",
            where="launch.workers",
            mend="Start them with heedful STAGE --launcher torchrun, or leave the setting out.",
        )
    if launch.shard:
        refuse_beside_shards(config)
    if launch.scorers:
        if not isinstance(config, OnlineConfig):
            raise HeedfulError(f"{stage} asks no reward model.", where="launch.scorers", mend="Leave it out.")
        refuse_beside_scorers(config)


def refuse_beside_shards(config: StageConfig) -> None:
    """Refuse what does not go with sharded weights.

    Raises:
        HeedfulError: naming the setting.
    """
    reference = getattr(config, "reference", None)
    watch = config.watch if isinstance(config, OnlineConfig) else None
    goes_back = watch is not None and watch.mode == "act" and watch.gold.judge is not None
    for asked, where, what in (
        (config.loading.lora_rank > 0, "loading.lora_rank", "adapters, whose base is frozen and shared, do"),
        (config.loading.compile, "loading.compile", "compiled layers do"),
        (config.memory.offload_activations, "memory.offload_activations", "activations off the device do"),
        (config.optimiser.offload, "optimiser.offload", "an optimiser off the device does"),
        (getattr(reference, "update", "fixed") != "fixed", "reference.update", "a reference that moves does"),
        (goes_back, "watch.gold.judge", "a watch that keeps the best weights to go back to does"),
    ):
        if asked:
            raise HeedfulError(f"{what} not go with launch.shard.", where=where, mend="Leave one of the two out.")


def refuse_leaving(config: StageConfig) -> None:
    """Refuse, on a CPU, what would take memory off a GPU.

    Raises:
        HeedfulError: naming the setting, and what saves memory on a CPU.
    """
    for asked, where, what, mend in (
        (
            config.memory.offload_activations,
            "memory.offload_activations",
            "activations lie",
            "--memory.gradient-checkpointing and smaller micro-batches save memory on a CPU.",
        ),
        (
            config.optimiser.offload,
            "optimiser.offload",
            "AdamW's moments lie",
            "adapters (--loading.lora-rank) save moments on a CPU.",
        ),
    ):
        if asked:
            raise HeedfulError(
                f"{what} in the machine's memory already: there is no GPU here to take them from.",
                where=where,
                mend=f"Leave it out; {mend}",
            )


def settled(stage: str, config: ConfigT, out: Path, display: Display) -> ConfigT:
    """The settings with the micro-batch settled: the one that a run goes on with, else what memory allows.

    Which micro-batch it is may change the last bit of a sum, so that a run keeps it whatever memory is free later.

    Raises:
        HeedfulError: activations or moments are to leave the device, and there is no GPU to leave.
    """
    memory: Any = config.memory  # of the stage's own class
    if not resolve_device(config.loading.device).startswith("cuda"):
        refuse_leaving(config)
    if memory.micro_batch_tokens != "auto":
        return config
    tokens = begun_with(out, stage, "memory.micro_batch_tokens")
    if not isinstance(tokens, int):
        if not config.model.endswith((".yaml", ".yml")):
            check_source(config.model)  # a plan needs no weights, and a run that would find none needs no plan
        tokens, said = planned_tokens(stage, config)
        if said:
            display.say(f"{stage}: {said}")
    return replace(config, memory=replace(memory, micro_batch_tokens=tokens))


def data_spec(path: str, records: RecordsConfig) -> DataSpec:
    """Where and how to read records."""
    return DataSpec(path, records.format, records.split, records.on_bad_row, records.limit)


def open_policy(model: str, config: StageConfig, out: Path, texts: Iterator[str], *, adapters: bool = True) -> Policy:
    """The model that a stage starts from: loaded, or made new from a .yaml description.

    Where weights are sharded, rank 0 alone has some, in main memory, until the model is parted.
    """
    loading = config.loading
    device = resolve_device(loading.device)
    if model.endswith((".yaml", ".yml")):
        if loading.lora_rank:
            raise HeedfulError(
                "adapters on a model with random weights would train nothing useful.",
                where="loading.lora_rank",
                mend="Leave it at 0 for a new model.",
            )
        policy = open_scratch(model, texts, out, seed=config.seed, device="cpu" if current().shards else device)
        if current().shards:
            policy.compute_on(device)
    else:
        policy = opened_by_leader(
            lambda where: load_policy(
                model,
                template=loading.template,
                pad_token=loading.pad_token,
                lora=lora_of(config) if adapters else None,
                dtype=loading.base_dtype,
                device=where,
                revision=loading.revision,
                seed=config.seed,
            ),
            device,
        )
    policy.precision = precision_of(loading, policy.device)
    return policy


def texts_of(records: Sequence[Prompt | Demonstration | Preference | Ranking | Labelled]) -> Iterator[str]:
    """All the text in some records, for training a tokenizer."""
    for record in records:
        yield from (message.content for message in record.prompt)
        if isinstance(record, Demonstration | Labelled):
            yield record.completion
        elif isinstance(record, Preference):
            yield from (record.a, record.b)
        elif isinstance(record, Ranking):
            yield from record.completions


def prompts_of(records: Sequence[Demonstration | Preference | Labelled]) -> list[Conversation]:
    """The first few prompts, to watch the samples of."""
    return [record.prompt for record in records[:4]]


def prepared(
    loaded: Loaded[RecordT],
    policy: Policy | RewardModel,
    config: SFTConfig | RewardConfig | DPOConfig,
    display: Display,
) -> tuple[list[RecordT], list[RecordT]]:
    """Records that fit the window, as (train, held out)."""
    settings = config.records
    records = fit(loaded.records, policy.tokenizer, settings.max_length, settings.on_bad_row, loaded.findings)
    report_findings(loaded, display)
    require_records(records, loaded)
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


def compiling(config: StageConfig, *roles: object) -> None:
    """Let the layers of those who take part run compiled, where that is asked for. Rewards that are no model stay."""
    for role in roles:
        if config.loading.compile and isinstance(role, Computing):
            role.compiles = True


def resume(stage: Opened, data: Mapping[str, Any], state: TrainState, more: Mapping[str, str] | None = None) -> None:
    """Go on from the newest checkpoint, if there is one, on the inputs that the run was begun with.

    Args:
        more: content hashes of what else the run reads, by name.

    Raises:
        HeedfulError: the data or a model that the run reads has changed since.
    """
    revision = stage.config.loading.revision

    def compare() -> None:
        made_of = {
            role: source_fingerprint(name, revision=revision if role == "model" else None)
            for role, name in parents(stage.config).items()
        }
        same_inputs(stage.out, {"data": data["sha256"], **made_of, **(more or {})})

    current().led(compare)
    if load_checkpoint(stage.out, state):
        stage.display.say(f"going on from step {state.step}")


def parents(config: StageConfig) -> dict[str, str]:
    """The models that a stage's result is made from, by role."""
    found = {"model": config.model}
    if isinstance(config, OnlineConfig):
        found["reward"] = config.reward
    if isinstance(config, LeashedConfig) and config.reference is not None:
        found["reference"] = config.reference
    return found


def conclude(
    stage: Opened,
    state: TrainState,
    save: Callable[[Path], None],
    figures: dict[str, float],
    data: dict[str, Any],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the result with its lineage (and `more`), and drop the checkpoints that are no longer needed.

    Parted models are laid together first, in the main memory of rank 0.
    """
    stage.parting.close()

    def write() -> dict[str, Any]:
        inputs = json.loads((stage.out / INPUTS).read_text(encoding="utf-8"))
        made_from = {
            role: {"name": source, "fingerprint": inputs[role]} for role, source in parents(stage.config).items()
        }
        manifest = lineage(stage.name, stage.config, made_from, data)
        manifest |= {"figures": figures, **(more or {})}
        manifest["steps"] = state.step
        manifest["seconds"] = state.scalars.get("seconds", 0.0)
        manifest["peak_memory_bytes"] = peak_memory()
        if "stopped" in state.scalars:
            manifest["stopped"] = state.scalars["stopped"]
        return finish(stage.out, save, manifest)

    return current().led(write)


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
