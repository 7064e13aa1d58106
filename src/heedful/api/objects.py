"""What a caller may give, and the settings that it becomes: paths as they are, objects under their names."""

from __future__ import annotations

import dataclasses
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from heedful.data.held import Holding
from heedful.errors import HeedfulError
from heedful.training.settings import all_keys, from_mapping, plain

if TYPE_CHECKING:
    from heedful.training.progress import Display

T = TypeVar("T")

Model: TypeAlias = str | os.PathLike[str] | tuple[Any, Any]
"""A folder or hub id, a `Run`, or a loaded model of transformers and its tokenizer: `(model, tokenizer)`."""

Rows: TypeAlias = str | os.PathLike[str] | Iterable[Any]
"""A file, folder or hub dataset id; or a `datasets.Dataset`, a list of dicts, a list of heedful's records."""

Reward: TypeAlias = str | os.PathLike[str] | tuple[Any, Any] | Callable[[Any, Sequence[str]], Any]
"""Whatever `heedful ppo --reward` takes, `(classifier, tokenizer)`, or a function (prompts, completions) -> scores."""


@contextmanager
def objects() -> Iterator[Holding]:
    """Keeps what a call was given under its names, and the caller's random numbers as they were; says how to get a
    package that is not installed.

    Raises:
        HeedfulError: a package of `heedful[train]` is needed and missing.
    """
    from heedful.cli.main import explained

    try:
        with Holding() as holding, own_draws():
            yield holding
    except ModuleNotFoundError as error:
        told = explained(error)
        if told is None:
            raise
        raise told from error


@contextmanager
def own_draws() -> Iterator[None]:
    """Puts the caller's generators (random, numpy, torch, its GPUs) back: a stage seeds them for itself."""
    python, numpy, torch = random.getstate(), sys.modules.get("numpy"), sys.modules.get("torch")
    array = None if numpy is None else numpy.random.get_state()
    tensor = None if torch is None else torch.get_rng_state()
    devices = None if torch is None or not torch.cuda.is_initialized() else torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(array)
        if torch is not None:
            torch.set_rng_state(tensor)
        if torch is not None and devices is not None:
            torch.cuda.set_rng_state_all(devices)


def refuse(where: str, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse settings of a command that its function has no use for.

    Raises:
        HeedfulError: naming the first.
    """
    for name in names:
        if name in settings:
            raise HeedfulError(
                f"'{name}' is for the command.", where=where, mend="Leave it away, and use what the function returns."
            )


def model_name(holding: Holding, given: Model) -> str:
    """The setting that names a model.

    Raises:
        HeedfulError: it is none; a model without its tokenizer.
    """
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    from heedful.models.holding import hold_model

    if isinstance(given, tuple) and len(given) == 2:
        return hold_model(holding, *given)
    raise HeedfulError(
        f"this {type(given).__name__} comes without its tokenizer."
        if hasattr(given, "state_dict")
        else f"a {type(given).__name__} is no model.",
        where="model",
        mend="Give (model, tokenizer), a folder or a hub id.",
    )


def reward_name(holding: Holding, given: Reward) -> str:
    """The setting that names a reward. Raises as `model_name`."""
    if isinstance(given, str | os.PathLike | tuple):
        return model_name(holding, given)
    from heedful.models.holding import hold_reward

    return hold_reward(holding, given)


def rows_name(holding: Holding, given: Rows) -> str:
    """The setting that names data.

    Raises:
        HeedfulError: as `Holding.rows`.
    """
    return os.fspath(given) if isinstance(given, str | os.PathLike) else holding.rows(given)


def prompts_name(holding: Holding, given: Rows | Sequence[str]) -> str:
    """As `rows_name`; in a list of texts each is a user's message."""
    if isinstance(given, Sequence) and not isinstance(given, str) and given and isinstance(given[0], str):
        return holding.rows([{"prompt": text} for text in given])
    return rows_name(holding, given)


def configured(cls: type[T], where: str, given: Mapping[str, Any]) -> T:
    """Settings from keyword arguments. A block may be left out where the rest names one setting: `learning_rate`.

    Raises:
        HeedfulError: an unknown name, with the nearest; one that stands in several blocks, or is given twice; a value
            that the settings refuse.
    """
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    keys = all_keys(cls)
    mapping: dict[str, Any] = {}
    for name, value in given.items():
        value = plain(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        found = [] if name in names else [key for key in keys if key.endswith(f".{name}")]
        if len(found) > 1:
            blocks = " or ".join(map(_written, found))
            raise HeedfulError(f"'{name}' stands in several blocks.", where=where, mend=f"Write {blocks}.")
        _put(mapping, (found[0] if found else name).split("."), value, where)
    return from_mapping(cls, mapping, where)


def _written(key: str) -> str:
    """A dotted key as keyword arguments say it: `watch={'gold': {'level': ...}}`."""
    first, *blocks, last = key.split(".")
    text = f"{{'{last}': ...}}"
    for block in reversed(blocks):
        text = f"{{'{block}': {text}}}"
    return f"{first}={text}"


def _put(mapping: dict[str, Any], path: Sequence[str], value: Any, where: str) -> None:
    *blocks, last = path
    inner = mapping
    for block in blocks:
        inner = inner.setdefault(block, {})
    if isinstance(value, Mapping) and isinstance(inner.get(last), dict):
        for key, one in value.items():
            _put(inner[last], [key], one, where)
        return
    if last in inner:
        raise HeedfulError(f"'{'.'.join(path)}' is given twice.", where=where, mend="Leave one of the two away.")
    inner[last] = dict(value) if isinstance(value, Mapping) else value


def display(quiet: bool) -> Display:
    """Where progress is shown: standard error, or nowhere."""
    from rich.console import Console

    from heedful.training.progress import Display

    return Display(Console(stderr=True, quiet=True, force_terminal=False) if quiet else None)
