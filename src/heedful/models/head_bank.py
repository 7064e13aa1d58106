"""Several linear heads on a reward model's trunk: the members of a shared ensemble, or one head an attribute.

The model's own head, which plain transformers reads, is a fixed mixture of them. The heads themselves lie in
`heads.safetensors` beside the model, their names and scales in its configuration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from heedful.errors import HeedfulError

HEADS = "heedful_heads"
"""Key of a configuration that holds the heads' kind, names, offsets and scales."""
WEIGHTS = "heads.safetensors"
ENSEMBLE = "ensemble"
"""The kind whose heads are members, each a reward of its own; those of other kinds are parts of one."""


def float_linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[N, outputs] float32 of states [N, H]; never in lower precision."""
    with torch.autocast(states.device.type, enabled=False):
        return linear(states.float(), weight.float(), None if bias is None else bias.float())


class HeadBank(nn.Module):
    """Linear heads without bias on the state at the last token.

    Args:
        kind: what the heads are to each other: `ENSEMBLE`, or parts of one score.
        names: one a head.
        width: of the states.
        seed: of the first weights, drawn as a reward model's own head is: N(0, 1 / (width + 1)).

    Attributes:
        weight: [heads, width] float32.
        offset, scale: [heads] buffers; a head says (raw - offset) / scale, or of an attribute raw * scale + offset.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, kind: str, names: Sequence[str], width: int, *, seed: int = 0) -> None:
        super().__init__()
        self.kind, self.names = kind, tuple(names)
        drawn = torch.randn(len(self.names), width, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(drawn / math.sqrt(width + 1))
        self.register_buffer("offset", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    def forward(self, states: Tensor) -> Tensor:
        """[N, heads] float32 of states [N, width], differentiable."""
        return float_linear(states, self.weight)

    def said(self, raw: Tensor) -> Tensor:
        """[N, heads] what the heads say of raw outputs [N, heads]: members centred scores, attributes their ratings."""
        return (raw - self.offset) / self.scale if self.kind == ENSEMBLE else raw * self.scale + self.offset

    def describe(self) -> dict[str, Any]:
        """For the configuration."""
        return {
            "kind": self.kind,
            "names": list(self.names),
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
        }

    def save(self, folder: Path) -> None:
        """Write the weights; the rest is in the configuration."""
        save_file({"weight": self.weight.detach().contiguous()}, Path(folder) / WEIGHTS)


def open_bank(source: str, config: Any, revision: str | None) -> HeadBank | None:
    """The heads of a model folder or hub id, or None where its configuration names none.

    Raises:
        HeedfulError: the configuration names heads, and their weights are missing, damaged or of another shape.
    """
    described = getattr(config, HEADS, None)
    if not described:
        return None
    from transformers.utils import cached_file

    try:
        path = cast(str, cached_file(source, WEIGHTS, revision=revision))
        weight = load_file(path)["weight"]
        bank = HeadBank(described["kind"], described["names"], weight.shape[1])
        with torch.no_grad():
            bank.weight.copy_(weight)
            bank.offset.copy_(torch.tensor(described["offset"]))
            bank.scale.copy_(torch.tensor(described["scale"]))
    except (OSError, KeyError, RuntimeError, SafetensorError, EntryNotFoundError, LocalEntryNotFoundError) as error:
        raise HeedfulError(
            f"cannot read the model's further heads: {error}",
            where=f"{source}/{WEIGHTS}",
            mend="Copy the folder again, whole.",
        ) from error
    return bank
