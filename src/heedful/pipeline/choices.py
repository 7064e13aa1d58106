"""What settings leave to the machine: device and precision; and the adapters that they ask for."""

from __future__ import annotations

from typing import Literal

import torch

from heedful.errors import HeedfulError
from heedful.models.adapters import LoRA
from heedful.training.config.common import LoadingConfig, Precision
from heedful.training.config.stage import StageConfig
from heedful.training.joining import device_of_worker
from heedful.training.workers import current


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


def precision_of(loading: LoadingConfig, device: torch.device | str) -> Literal["float32", "bfloat16"]:
    """The compute type of a stage: bfloat16 on a base that is stored in less than float32."""
    return resolve_precision("bfloat16" if loading.base_dtype != "float32" else loading.precision, device)


def resolve_precision(precision: Precision, device: torch.device | str) -> Literal["float32", "bfloat16"]:
    """`auto` is bfloat16 on a GPU that has it; on a CPU float32, which is the faster there below large sizes."""
    if precision != "auto":
        return precision
    cuda = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if cuda else "float32"


def resolve_device(device: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU; of several workers each has its own.

    Raises:
        HeedfulError: CUDA is asked for and there is none; as `heedful.training.joining.device_of_worker`.
    """
    if current().count > 1:
        return device_of_worker(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HeedfulError("this machine has no CUDA device.", where="loading.device", mend="Use cpu or auto.")
    return device
