"""The embedded world's own stages: its files, its pretraining, its judged comparisons, its gold judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from heedful.data.chat import render_prompt
from heedful.data.records import Conversation, Prompt
from heedful.data.write import write_records
from heedful.evaluation.compare import Answer
from heedful.files import artifact, read_manifest, sha256_json
from heedful.models.policy import Policy, load_policy, new_policy
from heedful.pipeline.merging import merge
from heedful.pipeline.stages.common import opened
from heedful.pipeline.stages.sft import fine_tune
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import RolloutParams
from heedful.training.batching import Example, records_between
from heedful.training.config.sft import SFTConfig
from heedful.training.progress import Display
from heedful.training.settings import from_mapping
from heedful.training.state import mix
from heedful.world.raters import judge_pairs, panel
from heedful.world.tokenizer import learnt
from heedful.world.world import World

SETTINGS = "quickstart.yaml"
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class WorldSettings:
    """Sizes of the embedded loop."""

    documents: int
    demonstrations: int
    pairs: int
    votes: int
    evaluation_samples: int
    init_std: float
    max_new_tokens: int
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedded:
    """One run of the loop on the embedded world: its truth, its folder and its settings."""

    world: World
    out: Path
    seed: int
    settings: WorldSettings
    stages: Mapping[str, Mapping[str, Any]]
    display: Display

    @property
    def round(self) -> Path:
        """Where the first round's results stand."""
        return self.out / "rounds" / "1"

    def data(self, name: str) -> Path:
        """One of the world's files."""
        return self.out / "data" / f"{name}.jsonl"

    def config(self, cls: type[ConfigT], stage: str, **given: Any) -> ConfigT:
        """A stage's settings: the YAML's, with what is given here on top."""
        own = {"seed": self.seed, "records": {"split_seed": self.seed}}
        merged = merge(merge(self.stages[stage], own), given)
        return from_mapping(cls, merged, f"{SETTINGS} ({stage})")


def read_settings(fast: bool) -> tuple[WorldSettings, dict[str, Any]]:
    """The embedded world's settings, as shipped."""
    loaded = yaml.safe_load(files("heedful.pipeline").joinpath(SETTINGS).read_text(encoding="utf-8"))
    over = loaded.pop("fast")
    if fast:
        loaded = merge(loaded, over)
    return from_mapping(WorldSettings, loaded.pop("world"), SETTINGS), loaded


def write_world(run: Embedded) -> None:
    """Write the demonstrations and the prompts of every split as files that any tool can read."""
    folder = run.out / "data"
    wanted = {"world": run.world.seed, "seed": run.seed, "demonstrations": run.settings.demonstrations}
    done = read_manifest(folder)
    if done and done.get("made_from") == wanted:
        return
    with artifact(folder, {"kind": "data", "made_from": wanted}) as temporary:
        demonstrations = run.world.demonstrations(run.settings.demonstrations, mix(run.seed, 11))
        write_records(temporary / "demonstrations.jsonl", demonstrations)
        for name in ("train", "phrasing", "fact"):
            prompts = [Prompt(prompt.prompt) for prompt in run.world.prompts(name)]
            write_records(temporary / f"prompts-{name}.jsonl", prompts)


def pretrain(run: Embedded, out: Path | None = None) -> dict[str, Any]:
    """Train the base model on the world's web text; replies and what readers say of them are learnt, questions read.

    Args:
        out: its folder, by default `base` in the run's.
    """
    config = run.config(SFTConfig, "pretrain", model="scratch", data="world", out=out or run.out / "base")
    with opened("pretrain", config, run.display) as stage:
        if isinstance(stage, dict):
            return stage
        tokenizer = run.world.tokenizer()
        policy = new_policy(run.settings.architecture, tokenizer, seed=run.seed, init_std=run.settings.init_std)
        texts = run.world.pretraining_documents(run.settings.documents, mix(run.seed, 10))
        tokens = tokenizer(texts, add_special_tokens=False)["input_ids"]
        examples = [Example(row, learnt(row, tokenizer)) for row in tokens]
        held_out = len(examples) // 100
        data = {"source": "embedded world", "world": run.world.seed, "documents": len(texts)}
        data["sha256"] = sha256_json([texts, run.settings.architecture, run.settings.init_std])
        return fine_tune(stage, policy, examples[held_out:], examples[:held_out], [], data)


def sample_pairs(run: Embedded, policy: Policy) -> list[tuple[Conversation, str, str]]:
    """Two answers of the SFT model to each of many training prompts."""
    prompts = [prompt.prompt for prompt in run.world.prompts("train")]
    chosen = records_between(0, run.settings.pairs, len(prompts), mix(run.seed, 12))
    rendered = [render_prompt(policy.tokenizer, prompts[i]) for i in chosen]
    engine = NativeEngine(policy)
    found: list[tuple[Conversation, str, str]] = []
    size = 200
    with run.display.task("sample answers", len(chosen)) as task:
        for start in range(0, len(chosen), size):
            params = RolloutParams(run.settings.max_new_tokens, seed=mix(run.seed, 13, start))
            rollout = engine.generate(rendered[start : start + size], params, samples_per_prompt=2)
            texts = decode(policy, rollout)
            pairs = zip(chosen[start : start + size], texts[::2], texts[1::2], strict=True)
            found += [(prompts[i], a, b) for i, a, b in pairs]
            task.update(len(found), {})
    return found


def judged_comparisons(run: Embedded, sft: Path) -> Path:
    """Sample pairs from the SFT model and have simulated raters judge them; the file of preferences."""
    folder = run.round / "comparisons"
    made_from = {
        "sft": (read_manifest(sft) or {}).get("files", {}).get("model.safetensors"),
        "pairs": run.settings.pairs,
        "votes": run.settings.votes,
        "seed": run.seed,
    }
    done = read_manifest(folder)
    if done and done.get("made_from") == made_from:
        return folder / "preferences.jsonl"
    pairs = sample_pairs(run, load_policy(str(sft)))
    records = judge_pairs(run.world, pairs, panel(), votes=run.settings.votes, seed=mix(run.seed, 14))
    judgments = {"human": 0, "ai": 0, "simulated": len(records) * run.settings.votes}
    with artifact(folder, {"kind": "preferences", "made_from": made_from, "judgments": judgments}) as temporary:
        write_records(temporary / "preferences.jsonl", records)
    return folder / "preferences.jsonl"


def gold_judge(world: World) -> Callable[[Sequence[Conversation], Sequence[Answer]], Sequence[float]]:
    """The world's truth as a judge of answers."""

    def judge(prompts: Sequence[Conversation], answers: Sequence[Answer]) -> Sequence[float]:
        finished = [answer.finished for answer in answers]
        return world.golds(prompts, [answer.text for answer in answers], finished).tolist()

    return judge
