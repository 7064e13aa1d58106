"""Which models a stage holds, as sketches without data: what `heedful.pipeline.plan` adds up."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.data.held import held, is_held
from heedful.errors import HeedfulError
from heedful.files import read_manifest
from heedful.models.adapters import LoRA
from heedful.models.one_base import BASE
from heedful.models.policy import new_config
from heedful.models.rehearsal import Sketch, sketch
from heedful.models.rewards import aggregation, names_code
from heedful.models.storage import Precision, open_config, open_tokenizer
from heedful.pipeline.choices import lora_of
from heedful.pipeline.scratch import describe_scratch
from heedful.training.config.online import LeashedConfig, OnlineConfig, PPOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.stage import StageConfig

BASE_SHARE = {"float32": 1.0, "bfloat16": 0.5, "nf4": 0.15}
"""Bytes of a frozen base by `loading.base_dtype`, as a share of float32. nf4 keeps embeddings and norms in bfloat16."""


@dataclass(frozen=True)
class Cast:
    """The models of a stage.

    Attributes:
        trained: those that learn, the first with a language-model head unless it is a reward model.
        weights: bytes of the weights of all models, by name; what stands on another's is counted there.
        judge: a reward model that scores, or None.
        remarks: what is not known of them.
    """

    trained: dict[str, Sketch]
    weights: dict[str, int]
    judge: Sketch | None = None
    remarks: tuple[str, ...] = ()


class Casting:
    """Who takes part in a stage, as sketches without data.

    Args:
        layers: every model with so many layers instead of its own, for what is known to grow by the layer.
    """

    def __init__(self, config: StageConfig, precision: Precision, layers: int | None = None) -> None:
        self.config = config
        self.layers = layers
        self.precision = precision
        self.checkpoint = config.memory.gradient_checkpointing
        self.lora = lora_of(config)

    def cast(self) -> Cast:
        """The models of the stage."""
        described, remarks = policy_config(self.config)
        config = self.config
        if isinstance(config, RewardConfig):
            start, model = self._causal(described, None), self._scalar(described)
            return Cast(
                {"reward model": model},
                {"reward model": self._beside(model)} | (self._start(start) if self.lora else {}),
                None,
                remarks,
            )
        policy = self._causal(described, self.lora)
        weights = {"policy": self._on_base(policy)}
        if isinstance(config, DPOConfig | OnlineDPOConfig) and config.reference.update != "fixed":
            weights["reference that moves"] = policy.trained
        if not isinstance(config, OnlineConfig):
            return Cast({"policy": policy}, weights, None, remarks)
        weights["reference"] = 0 if self.lora else policy.weights // (2 if policy.low else 1)
        if isinstance(config, LeashedConfig) and config.reference is not None and config.watch.mode != "off":
            weights["policy as it began"] = weights["reference"]
        judges, more = self._judges(config.reward)
        trained = {"policy": policy}
        if isinstance(config, PPOConfig) and config.critic == "separate":
            alone = len(judges) == 1 and judges[0][1].model.config.vocab_size == described.vocab_size
            trained["critic"] = self._scalar(judges[0][1].model.config if alone else described)
            weights["critic"] = self._beside(trained["critic"])
        for name, judge in judges:
            if self.lora and BASE in (read_manifest(Path(name)) or {}):
                weights[f"reward {name}"] = self._scalar(described).trained
                more = (*more, f"{name} is counted as an adapter of the policy's base; of another it weighs more")
            else:
                weights[f"reward {name}"] = judge.weights // (2 if judge.low else 1)
        largest = max((judge for _, judge in judges), key=lambda one: one.weights, default=None)
        return Cast(trained, weights, largest, (*remarks, *more))

    def _on_base(self, policy: Sketch) -> int:
        """Bytes of a policy: under adapters its base, of the type that is asked for, and them."""
        base = policy.weights - policy.trained
        return policy.trained + int(BASE_SHARE[self.config.loading.base_dtype] * base)

    def _beside(self, scalar: Sketch) -> int:
        """Bytes of a scalar model: under adapters it stands on a base that is there already."""
        return scalar.trained if self.lora else scalar.weights

    def _start(self, start: Sketch) -> dict[str, int]:
        """The base that a reward model's adapters stand on: the model that it begins from."""
        return {"SFT model": int(BASE_SHARE[self.config.loading.base_dtype] * start.weights)}

    def _causal(self, config: Any, lora: LoRA | None) -> Sketch:
        from transformers import AutoModelForCausalLM

        return self._sketch(AutoModelForCausalLM, config, lora)

    def _scalar(self, config: Any) -> Sketch:
        from transformers import AutoModelForSequenceClassification

        scalar = copy.deepcopy(config)
        scalar.num_labels = 1
        return self._sketch(AutoModelForSequenceClassification, scalar, self.lora)

    def _sketch(self, auto_class: Any, config: Any, lora: LoRA | None, *, checkpoint: bool | None = None) -> Sketch:
        again = self.checkpoint if checkpoint is None else checkpoint
        described = copy.deepcopy(config) if self.layers is None else shortened(config, self.layers)
        try:
            return sketch(auto_class, described, precision=self.precision, lora=lora, checkpoint=again)
        except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as error:
            raise HeedfulError(
                f"cannot make a {config.model_type} model of this kind: {str(error).splitlines()[0]}",
                where=self.config.model,
                mend="Check the model's configuration.",
            ) from error

    def _judges(self, spec: str) -> tuple[list[tuple[str, Sketch]], tuple[str, ...]]:
        """The reward models that a setting names, and what is not known of it."""
        from transformers import AutoModelForSequenceClassification

        found = aggregation(spec)
        names: Sequence[str] = (spec,) if found is None else found.members
        judges, remarks = [], []
        for name in names:
            if names_code(name) or (is_held(name) and callable(held(name))):
                remarks.append(f"what {name} takes is not known")
                continue
            source = name if Path(name).exists() else name.partition("#")[0]
            config = open_config(source, None)
            judges.append((name, self._sketch(AutoModelForSequenceClassification, config, None, checkpoint=False)))
        return judges, tuple(remarks)


def shortened(config: Any, layers: int) -> Any:
    """A model's configuration with the first so many of its layers."""
    made = copy.deepcopy(config)
    text = made.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = text.layer_types[:layers]
    return made


@dataclass(frozen=True)
class _Untrained:
    """Stands for a tokenizer that will be trained: at most so many tokens."""

    tokens: int
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2

    def get_vocab(self) -> dict[str, int]:
        return {"last": self.tokens - 1}


def policy_config(config: StageConfig) -> tuple[Any, tuple[str, ...]]:
    """The configuration of the model that a stage starts from, and a remark where its vocabulary is not known yet.

    Raises:
        HeedfulError: there is none.
    """
    source = config.model
    if not source.endswith((".yaml", ".yml")):
        return open_config(source, config.loading.revision), ()
    new = describe_scratch(source)
    if new.tokenizer is not None:
        return new_config(new.architecture, open_tokenizer(new.tokenizer, None), None), ()
    described = new_config(new.architecture, _Untrained(new.vocabulary), None)
    return described, (f"the tokenizer is not trained yet; counted as of its full {new.vocabulary} tokens",)
