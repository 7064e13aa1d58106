"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv 2106.09685) through peft: attach, merge, look past.

The `LoRA` settings import without torch; everything else imports torch and peft when it is called.
"""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import HeedfulError, nearest

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER_FOLDER = "adapter"
"""Where a model's folder keeps its adapter beside the merged weights."""
WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
HEAD = "base_model.model.score.weight"
"""Name of a scalar head among an adapter's weights."""


@dataclass(frozen=True)
class LoRA:
    """Adapters of `rank` on the layers that `targets` names; the update is scaled by `alpha / rank`.

    Args:
        rank: of the update; at least 1.
        alpha: numerator of its scale.
        dropout: on the adapters' input while training.
        targets: "all-linear" (every linear layer but the heads), or names of layers.

    Raises:
        HeedfulError: a value out of range.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise HeedfulError(f"a LoRA rank of {self.rank} adapts nothing.", mend="Give a rank of at least 1.")
        if self.alpha <= 0:
            raise HeedfulError(f"a LoRA alpha of {self.alpha} adapts nothing.", mend="Give one above 0.")
        if not 0 <= self.dropout < 1:
            raise HeedfulError(f"a LoRA dropout of {self.dropout} is no probability below 1.", mend="Try 0.")
        if not self.names:
            raise HeedfulError("LoRA targets name no layer.", mend="Give all-linear, or layer names.")

    @property
    def names(self) -> str | list[str]:
        """The targets as peft takes them."""
        if self.targets == "all-linear":
            return "all-linear"
        names = self.targets.split(",") if isinstance(self.targets, str) else self.targets
        return [name.strip() for name in names if name.strip()]


def underlying(model: Any) -> Any:
    """The transformers model itself: what a PeftModel wraps, else the model. Its layers may hold adapters."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "base_model") else model


def is_adapted(model: Any) -> bool:
    """Whether adapters are attached."""
    return underlying(model) is not model


def attach(model: Any, lora: LoRA, *, seed: int) -> Any:
    """Freeze a transformers model and attach adapters that change nothing yet. Returns a PeftModel.

    The scalar head of a sequence classifier stays trainable. Works in place on `model`'s layers.

    Raises:
        HeedfulError: no layer has one of the target names; the head is a target that cannot be adapted.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    _check_targets(model, lora)
    task = "CAUSAL_LM" if model.get_output_embeddings() is not None else None
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft only divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=lora.names,
        exclude_modules=["score"] if hasattr(model, "score") else None,
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
        task_type=task,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    if hasattr(model, "score"):
        model.score.requires_grad_(True)
    return adapted


def _check_targets(model: Any, lora: LoRA) -> None:
    if lora.names == "all-linear":
        return
    layers = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "weight")}
    for name in lora.names:
        if name.rsplit(".", 1)[-1] not in layers:
            known = ", ".join(sorted(layers))
            raise HeedfulError(
                f"the model has no layer {name!r} to adapt.",
                where="lora_targets",
                mend=nearest(name, sorted(layers)) or f"It has {known}.",
            )
    head = model.get_output_embeddings()
    last = next((name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is head), None)
    if last not in lora.names:
        return
    if head.weight is model.get_input_embeddings().weight:
        raise HeedfulError(
            f"{last!r} shares its weights with the embedding, so an adapter on it cannot be merged.",
            where="lora_targets",
            mend="Leave it out.",
        )
    if lora.dropout:
        raise HeedfulError(
            f"adapter dropout does not reach {last!r}: its log-probabilities skip the layer's forward.",
            where="lora_dropout",
            mend="Set it to 0, or leave the head out of the targets.",
        )


def is_fresh(model: Any) -> bool:
    """Whether the adapters change nothing (yet): the second factor of each is zero, as `attach` leaves it."""
    return not any(bool(value.any()) for name, value in model.named_parameters() if ".lora_B." in name)


def own_weight(layer: Any) -> Tensor:
    """The weight that a layer has without its adapter; of a 4-bit layer, what it stands for, in floating point."""
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer)


def effective_weight(layer: Any) -> Tensor:
    """The weight a layer acts with: its own, plus its adapter's update where it has one. Differentiable."""
    if not hasattr(layer, "get_delta_weight"):
        return layer.weight
    weight = own_weight(layer)
    for adapter in layer.active_adapters:
        weight = weight + layer.get_delta_weight(adapter)
    return weight


def merged_state(model: Any) -> dict[str, Tensor] | None:
    """State dict of the plain transformers model with the adapters merged in; the live model stays as it is.

    None for a model without adapters. All of it is float32, since a bfloat16 or 4-bit weight would lose most of a small
    update; float32 weights without an adapter are shared, not copied.
    """
    import torch

    if not is_adapted(model):
        return None
    inner = underlying(model)
    weights = {name for name, _ in (*inner.named_parameters(remove_duplicate=False), *inner.named_buffers())}
    state: dict[str, Tensor] = {}
    whole: dict[int, Tensor] = {}  # tied weights stay one tensor
    with torch.no_grad():
        for name, value in inner.state_dict().items():
            if name in weights and ".lora_" not in name:
                plain = whole.setdefault(value.data_ptr(), value.float() if value.is_floating_point() else value)
                state[name.replace(".base_layer.", ".")] = plain
        for name, module in inner.named_modules():
            if hasattr(module, "get_delta_weight"):
                state[f"{name}.weight"] = effective_weight(module).float().contiguous()
            elif hasattr(module, "quant_state") and ".base_layer" not in name:
                state[f"{name}.weight"] = own_weight(module).float()
    return state


def without_adapters(model: Any) -> Any:
    """A plain transformers model on the *same* weight tensors as a PeftModel, without its adapters.

    It takes no memory for weights, and its results are those of the base model exactly.
    """
    return _sharing(model, [*model.parameters(), *model.buffers()]).unload()


def copy_what_trains(model: Any) -> Any:
    """A second model: copies of the weights that training changes, and the *same* tensors for all that is frozen.

    Of a model with adapters it has adapters (and a scalar head) of its own on the same base.
    """
    return _sharing(model, [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.requires_grad])


def _sharing(model: Any, tensors: list[Tensor]) -> Any:
    """A copy of a tree of modules that stands on some tensors of the first."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter alone, for peft; a scalar head goes with it, so that the two stand on the base again.

    Raises:
        OSError: the folder cannot be written.
    """
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    score = getattr(underlying(model), "score", None)
    if score is None:
        return
    weights = load_file(folder / WEIGHTS) | {HEAD: score.weight.detach().cpu().contiguous()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8")) | {"modules_to_save": ["score"]}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def attach_saved(model: Any, folder: Path, *, dropout: float = 0.0) -> Any:
    """Freeze a transformers model and attach the adapter, and scalar head, that `save_adapter` wrote.

    Args:
        dropout: on the adapter's input while it trains on; what it was trained with does not bind.

    Returns:
        a PeftModel, as of `attach`.

    Raises:
        HeedfulError: the adapter cannot be read, or does not fit the model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        names = tuple(settings["target_modules"])
        adapted = attach(model, LoRA(settings["r"], settings["lora_alpha"], dropout, names), seed=0)
        weights = load_file(folder / WEIGHTS)
        head = weights.pop(HEAD, None)
        if weights.keys() != get_peft_model_state_dict(adapted, save_embedding_layers=False).keys():
            raise RuntimeError("its layers are not those of the model")
        set_peft_model_state_dict(adapted, weights)
        if head is not None:
            model.score.weight.data.copy_(head)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise HeedfulError(
            f"cannot put the adapter on its base: {error}", where=str(folder), mend="Copy the folder again, whole."
        ) from error
    return adapted
