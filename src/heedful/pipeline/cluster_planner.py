"""Adding up a stage on GPUs of one layout: what each holds, what a step takes, what is sent. docs/scale.md has the
formulas; `heedful.core.scaling` is their arithmetic.
"""

from __future__ import annotations

from dataclasses import replace

from heedful.core import scaling
from heedful.core.scaling import FULL, HALF, Device, Weights, Work
from heedful.models.rehearsal import Passes
from heedful.pipeline.cluster_plan import SHARE, ClusterPlan, Phase
from heedful.pipeline.plan import KEPT, Need, gibibytes
from heedful.pipeline.plan_troupe import Actor, Troupe, layers_of
from heedful.rollout.engine import GPU_SHARE, row_bytes
from heedful.training.config.cluster import GIB, ClusterConfig
from heedful.training.config.common import LARGEST_MICRO_BATCH
from heedful.training.config.online import OnlineConfig, PPOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig

CONTEXT = int(1.5 * GIB)
"""Bytes of CUDA's context, cuBLAS's workspaces and NCCL's buffers: an assumption."""

SCORING_TOKENS = 16_384
"""Tokens of a scoring pass on a GPU (`heedful.models.scalar.scoring_tokens`)."""

ADAM_BYTES = 7 * FULL
"""Bytes that an optimiser step reads and writes of each weight: it, its gradient and moments; it and they again."""


class ClusterPlanner:
    """Adds up a stage on GPUs of one layout.

    Args:
        cluster: with `layout` replicas or sharded.
    """

    def __init__(self, stage: str, troupe: Troupe, cluster: ClusterConfig) -> None:
        self.stage, self.troupe, self.cluster = stage, troupe, cluster
        self.config, self.cast, self.actors = troupe.config, troupe.cast, troupe.actors
        self.count = cluster.count
        self.sharded = cluster.layout == "sharded" and self.count > 1
        self.longest = self.config.records.max_length
        self.answers = 2 if isinstance(self.config, RewardConfig | DPOConfig | OnlineDPOConfig) else 1
        self.memory = int(cluster.gpu.memory * GIB)
        self.remarks = list(self.cast.remarks)
        self.device = self._device()

    def _device(self) -> Device | None:
        """The GPU with its wires; None where something is not known, which a remark then names."""
        gpu, cluster = self.cluster.gpu, self.cluster
        wanted = ["tflops", "bandwidth", *(["link"] if self.count > 1 else [])]
        lacking = [name for name in wanted if getattr(gpu, name) is None]
        if lacking:
            flags = " and ".join(f"--cluster.{name}" for name in lacking)
            self.remarks.append(f"no times: give {flags}")
            return None
        assert gpu.tflops is not None
        assert gpu.bandwidth is not None
        return Device(
            flops=gpu.tflops * 1e12,
            bandwidth=gpu.bandwidth * 1e9,
            link=(gpu.link or 1.0) * 1e9,
            network=cluster.network * 1e9,
            per_host=cluster.per_host,
            efficiency=cluster.efficiency,
            launch=cluster.launch * 1e-6,
        )

    @property
    def batch(self) -> int:
        """Items of one optimiser step, of all devices."""
        config = self.config
        if isinstance(config, OnlineConfig):
            return scaling.shares(config.learnt, config.update.minibatches)
        return config.batch_size

    @property
    def own(self) -> int:
        """Items of one optimiser step that the fullest device has."""
        return scaling.shares(self.batch, self.count)

    def shape(self, tokens: int) -> tuple[int, int]:
        """Rows and width of the largest micro-batch of a device."""
        items = max(1, min(tokens // (self.answers * self.longest), self.own))
        return items * self.answers, self.longest

    def plan(self) -> ClusterPlan:
        """The plan at the micro-batch that the settings name; or at the largest that fits, up to the usual one."""
        memory = self.config.memory
        tokens = LARGEST_MICRO_BATCH if memory.micro_batch_tokens == "auto" else memory.tokens
        smallest = self.answers * self.longest if memory.micro_batch_tokens == "auto" else tokens
        if self.hopeless:
            tokens = smallest
        while True:
            rows, width = self.shape(tokens)
            needs = [*self.held(), *self.updating(rows, width), *self.sampling(), *self.scoring(), *self.looking_on()]
            needs += self.handing_out()
            made = self._made(tokens, rows, width, needs)
            if made.at("always") + made.at("update") <= SHARE * self.memory or tokens <= smallest:
                break
            tokens = max(smallest, tokens // 2)
        if self.sharded:
            whole = gibibytes(int(FULL * sum(one.total for one in self.parted)))
            self.remarks.append(f"rank 0 opens and saves whole weights in its host's main memory: {whole} in float32")
        if self.batch < self.count:
            self.remarks.append(f"{self.count} GPUs share {self.batch} items of a step: some have none")
        phases = None if self.device is None else tuple(self.phases(rows, width))
        return replace(made, phases=phases, remarks=tuple(self.remarks))

    def _made(self, tokens: int, rows: int, width: int, needs: list[Need]) -> ClusterPlan:
        config = self.config
        if isinstance(config, OnlineConfig):
            items, unit = config.batch, "answers sampled and judged"
        else:
            items, unit = (
                config.batch_size,
                ("judged pairs" if self.answers == 2 else "demonstrations") + " learnt from",
            )
        sizes = {name: actor.weights.total for name, actor in self.actors.items()}
        return ClusterPlan(
            stage=self.stage,
            gpus=self.cluster.gpus or "",
            layout=self.cluster.layout if self.count > 1 else "one GPU",
            count=self.count,
            micro_batch_tokens=tokens,
            rows=rows,
            width=width,
            parameters=sizes,
            needs=tuple(needs),
            memory=self.memory,
            phases=None,
            items=items,
            unit=unit,
            price=self.cluster.price,
        )

    # --- memory ---

    @property
    def hopeless(self) -> bool:
        """Whether what is held is too much with gradients, or with the whole models, whatever a pass takes."""
        most = max(self.gradients, sum(need.bytes for need in self.looking_on()))
        return sum(need.bytes for need in self.held()) + most > SHARE * self.memory

    @property
    def gradients(self) -> int:
        """Bytes: one number for every weight that learns, of a device's share."""
        return int(sum(self._share(name) * model.trained for name, model in self.cast.trained.items()))

    @property
    def trained(self) -> dict[str, Actor]:
        """The models that learn."""
        return {name: self.actors[name] for name in self.cast.trained}

    def held(self) -> list[Need]:
        """What a device always holds."""
        needs = [Need("context and communicators", CONTEXT, "always")]
        for name, size in self.cast.weights.items():
            share = self._share(name) if name in self.trained else 1.0
            needs += [Need(f"weights: {name}", int(size * share), "always")] if size else []
        if not self.config.optimiser.offload:
            moments = sum(2 * self._share(name) * model.trained for name, model in self.cast.trained.items())
            needs.append(Need("optimiser state", int(moments), "always"))
        copies = sum(model.weights // 2 for model in self.cast.trained.values() if model.low)
        if copies and not self.sharded:
            needs.append(Need("working copies in bfloat16", copies, "always"))
        return needs

    def _share(self, name: str) -> float:
        """Of a model that trains, how much a device holds: all, or what is not in layers and a share of these."""
        weights = self.actors[name].weights
        return weights.own(self.count) / weights.total if self.sharded else 1.0

    @property
    def parted(self) -> list[Weights]:
        """The numbers of the models that are parted."""
        return [actor.weights for actor in self.trained.values()] if self.sharded else []

    @property
    def width(self) -> int:
        """Bytes of a number as it is computed with, and gathered."""
        return HALF if self.troupe.precision == "bfloat16" else FULL

    def updating(self, rows: int, width: int) -> list[Need]:
        """What an optimiser step takes."""
        made = self.update_passes(rows, width)
        together = isinstance(self.config, PPOConfig) and self.config.critic_warmup > 0
        saved = sum(p.saved for p in made.values()) if together else max(p.saved for p in made.values())
        if self.config.memory.offload_activations:
            saved = 0
        needs = [
            Need("gradients", self.gradients, "update"),
            Need(f"activations of {rows} x {width} tokens", saved, "update"),
            Need("chunk of logits, and what passes by", max(p.work for p in made.values()), "update"),
        ]
        if self.sharded:
            gathers = [
                scaling.gather_buffers(one, self.width) + scaling.scatter_buffers(one, self.width)
                for one in self.parted
            ]
            needs.append(Need("layers gathered, gradients scattered", int(max(gathers)), "update"))
        return _with_kept(needs)

    def update_passes(self, rows: int, width: int) -> dict[str, Passes]:
        """Forward and backward of one micro-batch, for each model that learns."""
        config = self.config
        learnt = min(width - 1, config.rollout.max_new_tokens) if isinstance(config, OnlineConfig) else width - 1
        return {name: self.troupe.update(name, rows, width, learnt) for name in self.trained}

    def at_once(self) -> int:
        """Rows that are sampled together: all of a device's, or as many as its room has caches for."""
        config, policy = self.config, self.actors["policy"]
        assert isinstance(config, OnlineConfig)
        row = sum(row_bytes(policy.whole.model.config, self.longest, HALF))
        room = GPU_SHARE * (self.memory - sum(need.bytes for need in self.held()) - self.laid_together)
        most = max(1, int(max(0.0, room) // row))
        return min(scaling.shares(config.batch, self.count), config.rollout.max_batch or most, most)

    @property
    def laid_together(self) -> int:
        """Bytes of the whole models that a device lays together out of all shares, to sample."""
        return int(self.width * sum(one.total for one in self.parted))

    def handing_out(self) -> list[Need]:
        """What a device holds beside its parts as they are handed out to it: one tensor at a time."""
        if not self.sharded:
            return []
        layers = [layer for actor in self.trained.values() for layer in layers_of(actor.whole)]
        largest = max(weight.numel() for layer in layers for weight in layer.parameters())
        return [Need("a tensor that is handed out, in float32", FULL * largest, "beginning")]

    def looking_on(self) -> list[Need]:
        """What samples to read along take of a device whose models are parted, where nothing else is sampled."""
        logs = isinstance(self.config, SFTConfig | DPOConfig) and self.config.run.sample_every > 0
        if not (self.sharded and logs):
            return []
        return _with_kept([Need("weights laid together", self.laid_together, "rollouts")])

    def sampling(self) -> list[Need]:
        """What sampling takes of a device that trains."""
        config = self.config
        if not isinstance(config, OnlineConfig):
            return []
        rows, policy = self.at_once(), self.actors["policy"]
        cache, logits = row_bytes(policy.whole.model.config, self.longest, HALF)
        prompts = scaling.shares(rows, config.rollout.samples_per_prompt)
        room = max(1, self.longest - config.rollout.max_new_tokens)
        read = self.troupe.read("policy", prompts, room)
        needs = [
            Need(f"key-value cache of {rows} rows", rows * cache, "rollouts"),
            Need("sampler", rows * logits, "rollouts"),
            Need(f"reading {prompts} x {room} tokens of prompts", read.work, "rollouts"),
        ]
        if self.sharded:
            needs.append(Need("weights laid together", self.laid_together, "rollouts"))
        return _with_kept(needs)

    def scoring(self) -> list[Need]:
        """What the judge takes while it reads."""
        if "judge" not in self.actors or not isinstance(self.config, OnlineConfig):
            return []
        rows = max(1, min(scaling.shares(self.config.batch, self.count), SCORING_TOKENS // self.longest))
        needs = [
            Need(
                f"scoring {rows} x {self.longest} tokens", self.troupe.read("judge", rows, self.longest).work, "scoring"
            )
        ]
        if self.sharded:
            needs.append(Need("weights laid together", self.laid_together, "scoring"))
        return _with_kept(needs)

    # --- time ---

    def phases(self, rows: int, width: int) -> list[Phase]:
        """What a step consists of, on the fullest device."""
        config = self.config
        if not isinstance(config, OnlineConfig):
            return [*self._learning(rows, width, 1), self._optimiser(1)]
        own = scaling.shares(config.batch, self.count)
        found = [self._sampled()]
        if "judge" in self.actors:
            found.append(self._reading_phase("scores", "judge", own))
        if "critic" in self.actors:
            found.append(self._reading_phase("critic's values", "critic", own))
        found.append(self._reading_phase("reference's log-probabilities", "policy", own))
        times = config.update.epochs * config.update.minibatches
        return [*found, *self._learning(rows, width, times), self._optimiser(times)]

    def _sampled(self) -> Phase:
        config, policy, device = self.config, self.actors["policy"], self.device
        assert isinstance(config, OnlineConfig)
        assert device is not None
        rows, answer = self.at_once(), config.rollout.max_new_tokens
        waves = scaling.shares(scaling.shares(config.batch, self.count), rows)
        prompts = scaling.shares(rows, config.rollout.samples_per_prompt)
        room = max(1, self.longest - answer)
        token, prefill = self.troupe.read("policy", 1, 1), self.troupe.read("policy", prompts, room)
        text = policy.whole.model.config.get_text_config()
        head = 2 * text.hidden_size * text.vocab_size
        cache = row_bytes(policy.whole.model.config, room + answer // 2, HALF)[0]
        weights = self.cast.weights["policy"] if config.loading.lora_rank else HALF * policy.weights.total
        steps = scaling.decoding(weights, rows * cache, rows * (token.flops + head), token.kernels, answer)
        first = Work(prefill.flops, weights, prefill.kernels)
        seconds = waves * (scaling.seconds(device, first) + scaling.seconds(device, steps))
        sent = sum(scaling.gathered(FULL * one.layers, self.count) for one in self.parted)
        return Phase("sampling", seconds, sent / scaling.wire(device, self.count), sent, overlapped=False)

    def _reading_phase(self, what: str, name: str, rows: int) -> Phase:
        """Forward passes without gradient of all of a device's rows."""
        assert self.device is not None
        at_once = max(1, min(rows, SCORING_TOKENS // self.longest))
        one, actor = self.troupe.read(name, at_once, self.longest), self.actors[name]
        work = Work(one.flops, HALF * actor.weights.total, one.kernels) * (rows / at_once)
        return Phase(what, scaling.seconds(self.device, work))

    def _learning(self, rows: int, width: int, times: int) -> list[Phase]:
        """Forward and backward passes of `times` optimiser steps, and what they send."""
        assert self.device is not None
        micro = scaling.shares(self.own * self.answers, rows)
        found = []
        for name, one in self.update_passes(rows, width).items():
            actor = self.actors[name]
            fill = self.own * self.answers / (micro * rows)
            work = Work(one.flops * fill, 3 * HALF * actor.weights.total, one.kernels) * (micro * times)
            own, count = actor.weights, self.count
            if self.sharded:  # layers twice gathered and once scattered in each pass; what is whole summed at the end
                passes = scaling.gathered((2 * self.width + FULL) * own.layers, count)
                sent = (passes * micro + scaling.all_reduced(FULL * own.root, count)) * times
            else:
                sent = scaling.all_reduced(FULL * own.trained, count) * times
            wires = sent / scaling.wire(self.device, self.count)
            seconds = scaling.seconds(self.device, work)
            found.append(Phase(f"update of the {name}", seconds, wires, sent, overlapped=self.sharded))
        return found

    def _optimiser(self, times: int) -> Phase:
        assert self.device is not None
        trained = sum(self._share(name) * actor.weights.trained for name, actor in self.trained.items())
        work = Work(bytes=ADAM_BYTES * trained) * times
        return Phase("optimiser", scaling.seconds(self.device, work))


def _with_kept(needs: list[Need]) -> list[Need]:
    kept = KEPT["cuda"] * sum(need.bytes for need in needs)
    return [*needs, Need("kept by the allocator", int(kept), needs[0].when)]
