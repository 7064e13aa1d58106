"""WARM: one reward model whose weights are the mean of several's (Ramé et al. 2024, arXiv 2401.12187).

It works for fine-tunes of one initialisation, head included, whose weights lie in one basin; the mean of two models
that began elsewhere is no model. So each member has to say what it began from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.files import read_manifest
from heedful.models.head_bank import HEADS
from heedful.models.labels import classifier_config
from heedful.models.scalar import NORMALISATION
from heedful.models.storage import open_tokenizer

INITIALISATION = "initialisation"
"""Key of a run's manifest: a hash of the weights that it began from, head included."""
OWN = (NORMALISATION, HEADS, "_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""What the configurations of members may differ in."""
BESIDE = (
    "config.json",
    "*.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "vocab*",
    "merges.txt",
    "*.model",
)
"""What stands beside the weights in a model's folder."""


def check_members(folders: Sequence[Path], *, same_start: bool = False) -> str:
    """Refuse models that do not average; returns the hash of their common start, empty where it is only vouched for.

    Args:
        folders: reward models.
        same_start: their start is not looked at: somebody vouches for it.

    Raises:
        HeedfulError: fewer than two, the same folder twice, no reward model, another architecture, shape, vocabulary or
            start, or a start that is not known.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise HeedfulError("an average needs two different models or more.", mend="Name their folders.")
    first, *others = folders
    config, shapes, vocabulary = _config(first), _shapes(first), _vocabulary(first)
    for other in others:
        mine = _config(other)
        unlike = sorted(key for key in config.keys() | mine.keys() if config.get(key) != mine.get(key))
        if unlike:
            raise _apart(first, other, f"configurations differ in {', '.join(unlike[:4])}")
        theirs = _shapes(other)
        unlike = sorted(key for key in shapes.keys() | theirs.keys() if shapes.get(key) != theirs.get(key))
        if unlike:
            raise _apart(first, other, f"weights differ in name, type or shape: {', '.join(unlike[:3])}")
        if vocabulary != _vocabulary(other):
            raise _apart(first, other, "tokenizers or chat templates differ")
    if same_start:
        return ""
    starts = {folder: str((read_manifest(folder) or {}).get(INITIALISATION, "")) for folder in folders}
    for folder, start in starts.items():
        if not start:
            raise HeedfulError(
                "what this model began from is not known.",
                where=str(folder),
                mend="Give runs of heedful reward, or vouch for it with --same-start.",
            )
        if start != starts[first]:
            raise HeedfulError(
                f"it did not begin from the weights that {first} began from.",
                where=str(folder),
                mend="Train the members from one model with one --head-seed, and different --seed.",
            )
    return starts[first]


def average(folders: Sequence[Path], out: Path) -> None:
    """Write the model whose every weight is the mean of the members', summed in float64; check the members first.

    The rest of the folder is the first member's. Offset and scale are means too: near the mean of the scores of the
    answers that fixed them, but no longer exactly it. Call it inside `heedful.files.artifact`.

    Args:
        folders: as `check_members` accepts them.
        out: an empty folder.
    """
    first = folders[0]
    for item in sorted({item for pattern in BESIDE for item in first.glob(pattern)}):
        shutil.copyfile(item, out / item.name)
    for path in sorted(first.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            means = {name: _mean([folder / path.name for folder in folders], name) for name in file.keys()}  # noqa: SIM118
        save_file(means, out / path.name, metadata=metadata)
    _write_scales(folders, out)


def _mean(paths: Sequence[Path], name: str) -> Tensor:
    total: Tensor | None = None
    for path in paths:
        with safe_open(path, "pt") as file:
            tensor = file.get_tensor(name)
        total = tensor.double() if total is None else total + tensor.double()
    assert total is not None
    return (total / len(paths)).to(tensor.dtype).contiguous()


def _write_scales(folders: Sequence[Path], out: Path) -> None:
    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders]
    merged: dict[str, Any] = configs[0]
    for key in (NORMALISATION, HEADS):
        if key not in merged:
            continue
        for name in ("offset", "scale"):
            values = torch.tensor([config[key][name] for config in configs], dtype=torch.float64)
            merged[key][name] = values.mean(0).tolist()
    (out / "config.json").write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise HeedfulError("there is no such folder.", where=str(folder), mend="Name folders of reward models.")
    found = classifier_config(str(folder), None).to_dict()
    heads = found.get(HEADS) or {}
    plain = {key: value for key, value in found.items() if key not in OWN}
    return plain | {"heads": [heads.get("kind"), heads.get("names")]}


def _shapes(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(type, shape) by file and name."""
    shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    shapes[f"{path.name}:{name}"] = (str(part.get_dtype()), tuple(part.get_shape()))
        except SafetensorError as error:
            raise HeedfulError(
                f"the weights are damaged ({error}).", where=str(path), mend="Copy or make them again."
            ) from error
    return shapes


def _vocabulary(folder: Path) -> tuple[Any, ...]:
    tokenizer = open_tokenizer(str(folder), None)
    return tokenizer.get_vocab(), tokenizer.chat_template, tokenizer.pad_token_id


def _apart(first: Path, other: Path, what: str) -> HeedfulError:
    return HeedfulError(
        f"it cannot be averaged with {first}: {what}.",
        where=str(other),
        mend="An average needs fine-tunes of one model.",
    )
