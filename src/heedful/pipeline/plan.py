"""What a stage will need of memory, before it runs, and the micro-batch that fits. docs/memory.md has the formulas.

Only configurations are read: no weights, no data. What is always held is counted from the models' shapes, and what a
pass takes beside it is rehearsed (`heedful.models.rehearsal`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch

from heedful.core.logprob import CHUNK_LOGITS
from heedful.errors import HeedfulError
from heedful.models.rehearsal import NoRehearsal, Passes, Sketch, reading, update
from heedful.models.scalar import scoring_tokens
from heedful.models.storage import Precision
from heedful.pipeline.available import available_memory
from heedful.pipeline.choices import precision_of, resolve_device
from heedful.pipeline.plan_models import Casting
from heedful.rollout.engine import CPU_BUDGET, GPU_SHARE, row_bytes
from heedful.training.config.common import LARGEST_MICRO_BATCH, usual_micro_batch
from heedful.training.config.online import OnlineConfig, PPOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.stage import StageConfig
from heedful.training.joining import local_count

SHARE = 0.8
"""Of the memory that is available, how much a stage may take."""

KEPT = {"cpu": 0.65, "cuda": 0.1}
"""What an allocator keeps in pieces that fit nobody, as a share of what comes and goes, where a step has several
passes: on a CPU as measured (docs/memory.md), on a GPU not."""

When = Literal["always", "update", "rollouts", "scoring", "beginning"]
PASSING: tuple[When, ...] = ("update", "rollouts", "scoring")


@dataclass(frozen=True)
class Need:
    """One thing that takes memory."""

    what: str
    bytes: int
    when: When


@dataclass(frozen=True)
class Plan:
    """What a stage needs on one device.

    Attributes:
        micro_batch_tokens: of the plan; chosen, where the settings leave it open.
        rows, width: of the largest micro-batch.
        available: bytes that may still be taken; None where that is unknown.
        remarks: what the figures do not know.
    """

    stage: str
    device: str
    micro_batch_tokens: int
    chosen: bool
    rows: int
    width: int
    needs: tuple[Need, ...]
    available: int | None
    remarks: tuple[str, ...] = ()

    def at(self, when: When) -> int:
        """Bytes of one moment, beside what is always held."""
        return sum(need.bytes for need in self.needs if need.when == when)

    @property
    def total(self) -> int:
        """Bytes at the worst moment: what is always held, and the largest of what comes and goes."""
        return self.at("always") + self.at(self.worst)

    @property
    def worst(self) -> When:
        """The moment that takes the most beside what is always held."""
        return max(PASSING, key=self.at)

    @property
    def fits(self) -> bool:
        """Whether the stage keeps within its share of what is available; True where that is unknown."""
        return self.available is None or self.total <= SHARE * self.available

    def describe(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return {
            "stage": self.stage,
            "device": self.device,
            "micro_batch_tokens": self.micro_batch_tokens,
            "chosen": self.chosen,
            "micro_batch": [self.rows, self.width],
            "needs": [vars(need) for need in self.needs],
            "total": self.total,
            "available": self.available,
            "share": SHARE,
            "fits": self.fits,
            "remarks": list(self.remarks),
        }


def plan(stage: str, config: StageConfig) -> Plan:
    """What a stage with these settings needs.

    Raises:
        HeedfulError: a model's configuration cannot be read, or the device is not there.
    """
    return Planner(stage, config).plan()


def planned_tokens(stage: str, config: StageConfig) -> tuple[int, str]:
    """The micro-batch of a stage whose settings leave it open, and a sentence where it is not the usual one.

    A model that cannot be planned has the usual one: whatever is wrong with it, the stage itself will say better.
    """
    usual = LARGEST_MICRO_BATCH
    try:
        usual = usual_micro_batch(resolve_device(config.loading.device))
        planner = Planner(stage, config)
        if planner.plenty:
            return usual, ""
        made = planner.plan()
    except HeedfulError:
        return usual, ""
    if not made.fits:
        return made.micro_batch_tokens, f"warning: {shortage(made)}"
    if made.micro_batch_tokens == usual:
        return usual, ""
    return made.micro_batch_tokens, f"memory is short: micro-batches of {made.micro_batch_tokens} tokens"


def shortage(made: Plan) -> str:
    """What a plan that does not fit lacks, and what to do about it."""
    assert made.available is not None
    lower = "lower --memory.micro-batch-tokens or --records.max-length"
    mend = "lower --rollout.max-batch" if made.worst == "rollouts" else lower
    return (
        f"{made.stage} needs about {gibibytes(made.total)}, and {SHARE:.0%} of what is available is "
        f"{gibibytes(int(SHARE * made.available))}; {mend}, turn on --memory.gradient-checkpointing, or train adapters "
        "with --loading.lora-rank"
    )


def gibibytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


class Planner:
    """Reads the configurations of a stage's models and adds up."""

    def __init__(self, stage: str, config: StageConfig) -> None:
        self.stage = stage
        self.config = config
        self.device = resolve_device(config.loading.device)
        self.precision: Precision = precision_of(config.loading, self.device)
        self.longest = config.records.max_length
        self.answers = 2 if isinstance(config, RewardConfig | DPOConfig | OnlineDPOConfig) else 1
        self.cast = Casting(config, self.precision).cast()

    @cached_property
    def available(self) -> int | None:
        """Bytes that the device has left; of a CPU's memory, this worker's share."""
        if self.device.startswith("cuda"):
            return int(torch.cuda.mem_get_info(torch.device(self.device))[0])
        left = available_memory()
        return None if left is None else left // local_count()

    @property
    def held(self) -> tuple[Need, ...]:
        """Weights, and AdamW's two moments of every weight that learns, in float32, where they lie on the device."""
        trained = self.cast.trained
        moments = 0 if self.config.optimiser.offload else 2 * sum(model.trained for model in trained.values())
        needs = [Need(f"weights: {name}", size, "always") for name, size in self.cast.weights.items()]
        copies = sum(model.weights // 2 for model in trained.values() if model.low)
        if copies:
            needs.append(Need("working copies in bfloat16", copies, "always"))
        return (*needs, Need("optimiser state", moments, "always"))

    @property
    def gradients(self) -> int:
        """Bytes: one number for every weight that learns."""
        return sum(model.trained for model in self.cast.trained.values())

    @property
    def plenty(self) -> bool:
        """Whether the usual micro-batch fits by so much that nobody has to look closer."""
        if self.available is None:
            return True
        rows, width = self.shape(usual_micro_batch(self.device))
        rough = sum(_rough(model, rows, width) for model in self.cast.trained.values())
        held = sum(need.bytes for need in self.held)
        return held + (1 + KEPT["cpu"]) * (self.gradients + rough) <= SHARE * self.available

    def shape(self, tokens: int) -> tuple[int, int]:
        """Rows and width of the largest micro-batch: as many of the longest rows as `tokens` allow, at least one item.

        An item is a sequence, or a pair of them.
        """
        items = max(1, min(tokens // (self.answers * self.longest), self.batch))
        return items * self.answers, self.longest

    @property
    def batch(self) -> int:
        """Items of one optimiser step."""
        config = self.config
        if isinstance(config, OnlineConfig):
            return math.ceil(config.learnt / config.update.minibatches)
        return config.batch_size

    def plan(self) -> Plan:
        """The plan at the micro-batch that the settings name; or at the largest that fits, up to the usual one."""
        memory = self.config.memory
        if memory.micro_batch_tokens != "auto":
            return self._at(memory.tokens, chosen=False)
        tokens, smallest = usual_micro_batch(self.device), self.answers * self.longest
        while True:
            made = self._at(tokens, chosen=True)
            room = math.inf if made.available is None else SHARE * made.available - made.at("always")
            if made.at("update") <= room or tokens <= smallest:
                return made
            token = made.at("update") / tokens  # a little too low for smaller ones, which are rehearsed in their turn
            tokens //= 2
            while tokens > smallest and token * tokens > room:
                tokens //= 2

    def _at(self, tokens: int, *, chosen: bool) -> Plan:
        rows, width = self.shape(tokens)
        remarks = [*self.cast.remarks]
        try:
            passes = self._passes(rows, width)
        except NoRehearsal as problem:
            rough = sum(_rough(model, rows, width) for model in self.cast.trained.values())
            passes = Passes(rough, 0)
            remarks.append(f"activations by a rough rule, on the safe side: no rehearsal ({problem})"[:200])
        update = [
            Need("gradients", self.gradients, "update"),
            Need(f"activations of {rows} x {width} tokens", passes.saved, "update"),
            Need("chunk of logits, and what passes by", passes.work, "update"),
        ]
        if rows < self.answers * self.batch or len(self.cast.trained) > 1:  # a step that is one pass leaves no pieces
            update = self._with_kept(update)
        needs = [*self.held, *update, *self._rollouts(), *self._scoring()]
        return Plan(self.stage, self.device, tokens, chosen, rows, width, tuple(needs), self.available, tuple(remarks))

    def _with_kept(self, needs: list[Need]) -> list[Need]:
        """Needs of one moment, and what the allocator keeps of such memory when it is free."""
        kept = KEPT[torch.device(self.device).type] * sum(need.bytes for need in needs)
        return [*needs, Need("kept by the allocator", int(kept), needs[0].when)]

    def _passes(self, rows: int, width: int) -> Passes:
        config = self.config
        learnt = min(width - 1, config.rollout.max_new_tokens) if isinstance(config, OnlineConfig) else width - 1
        models = list(self.cast.trained.values())
        together = isinstance(config, PPOConfig) and config.critic_warmup > 0
        groups = [models] if together else [[model] for model in models]  # else the critic goes back before the policy
        made = [update(group, self.device, rows, width, learnt) for group in groups]
        most = max(made, key=lambda passes: passes.saved + passes.work)
        return replace(most, saved=0) if config.memory.offload_activations else most

    def _rollouts(self) -> list[Need]:
        """What sampling takes."""
        config = self.config
        if not isinstance(config, OnlineConfig):
            return []
        policy, rollout = self.cast.trained["policy"], config.rollout
        cache, logits = row_bytes(policy.model.config, self.longest, 2 if policy.low else 4)
        budget = CPU_BUDGET
        if self.device.startswith("cuda"):
            budget = int(GPU_SHARE * max(0, (self.available or 0) - sum(need.bytes for need in self.held)))
        rows = min(config.batch, rollout.max_batch or max(1, budget // (cache + logits)))
        prompts, room = math.ceil(rows / rollout.samples_per_prompt), max(1, self.longest - rollout.max_new_tokens)
        read = _reading(policy, self.device, prompts, room)
        needs = [
            Need(f"key-value cache of {rows} rows", rows * cache, "rollouts"),
            Need("sampler", rows * logits, "rollouts"),
            *([Need("weights as matrix products like them", policy.weights // 2, "rollouts")] if policy.low else []),
            Need(f"reading {prompts} x {room} tokens of prompts", read + 5 * prompts * room**2, "rollouts"),
        ]
        return self._with_kept(needs)

    def _scoring(self) -> list[Need]:
        """What the reward model takes while it reads."""
        config, judge = self.config, self.cast.judge
        if not isinstance(config, OnlineConfig) or judge is None:
            return []
        window = getattr(judge.model.config.get_text_config(), "max_position_embeddings", None)
        width = min(self.longest, window or self.longest)
        rows = max(1, min(config.batch, scoring_tokens(self.device) // width))
        read = _reading(judge, self.device, rows, width)
        return self._with_kept([Need(f"scoring {rows} x {width} tokens", read, "scoring")])


def _reading(model: Sketch, device: str, rows: int, width: int) -> int:
    try:
        return reading(model, device, rows, width)
    except NoRehearsal:
        return _rough(model, rows, width) // _layers(model)


def _layers(model: Sketch) -> int:
    return int(getattr(model.model.config.get_text_config(), "num_hidden_layers", 1))


def _rough(model: Sketch, rows: int, width: int) -> int:
    """Bytes of a forward and backward pass, on the safe side: two to four times what transformers' decoders take.

    Of each token, in each layer: 24 numbers of the hidden size, 8 of the inner one, and four rows of attention; with
    two copies of its logits at most as many as a chunk holds, and the head's gradient.
    """
    config = model.model.config.get_text_config()
    hidden = int(config.hidden_size)
    experts = int(getattr(config, "num_experts_per_tok", None) or 1)
    inner = experts * int(getattr(config, "intermediate_size", None) or 4 * hidden)
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    layers = 1 if model.checkpointed else _layers(model)
    token = 24 * hidden + 8 * inner + 4 * heads * width
    boundaries = _layers(model) * hidden
    head = 4 * (3 * CHUNK_LOGITS + config.vocab_size * hidden)
    return 4 * rows * width * (layers * token + boundaries) + head
