"""heedful.yaml read and checked: the settings of every round, and of each of its stages. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.pipeline.merging import merge
from heedful.pipeline.run_folder import FREE, flat
from heedful.training.config.programme import GIVEN, STAGE_BLOCKS, Recipe
from heedful.training.schema import json_schema
from heedful.training.settings import Source, all_keys, build, draft, plain, read_yaml

AI_KEYS = ("asking", "endpoint", "budget", "loading", "judge", "way", "constitution", "tags", "orders")
"""Settings below `ai` that `heedful judge` has too, where they stand by themselves."""
RECIPE = "heedful.yaml"
SCHEMA = "heedful.schema.json"


@dataclass(frozen=True)
class Programme:
    """A programme's folder, and its recipe as it is in each round."""

    folder: Path
    base: Recipe
    source: Source
    given: Mapping[str, Any]

    def recipe(self, number: int) -> Recipe:
        """The recipe of a round: the file's, with the changes up to that round on top."""
        mapping = {key: value for key, value in self.given.items() if key != "changes"}
        for start in sorted(self.base.changes):
            if start <= number:
                mapping = merge(mapping, _underscored(self.base.changes[start]))
        return _built(mapping, self.source)

    def place(self, number: int, stage: str) -> Path:
        """Where the result of a round's stage stands."""
        return self.folder / "rounds" / str(number) / stage

    def path(self, given: str) -> str:
        """A file or folder of the recipe, which are named from its own folder; anything else as it is."""
        beside = self.folder / given
        return str(beside) if beside.exists() else given


def read_programme(folder: Path) -> Programme:
    """Read a programme's recipe, that of each round checked.

    Raises:
        HeedfulError: no recipe, an unknown key or a wrong value (with file and line), or a setting that rounds set.
    """
    folder = Path(folder).resolve()
    path = folder / RECIPE
    if not path.exists():
        raise HeedfulError(
            "there is no recipe here.",
            where=str(path),
            mend="heedful init makes one; or name the programme's folder: heedful round FOLDER.",
        )
    mapping, source = read_yaml(path)
    given = _underscored(mapping)
    _check_given(given, source, ())
    base = _built(given, source)
    for start, change in base.changes.items():
        if not isinstance(start, int) or start < 1:
            raise HeedfulError("changes name rounds by number, from 1 on.", where=source.place(("changes", str(start))))
        below = ("changes", str(start))
        _check_given(_underscored(change), source, below)
        if "changes" in change:
            raise HeedfulError("changes hold no further changes.", where=source.place((*below, "changes")))
        draft(Recipe, change, source, below)
    made = Programme(folder, base, source, given)
    for start in base.changes:
        made.recipe(start)
    return made


def _built(mapping: Mapping[str, Any], source: Source) -> Recipe:
    made = draft(Recipe, mapping, source)
    block = "check.ai"
    try:
        build(made.values["check"].values["ai"], source)  # alone: its errors are those of `ai`, which stands elsewhere
        block = "ai"
        return build(made, source)
    except HeedfulError as error:
        if not error.where or error.where.startswith(source.name):
            raise
        key = error.where
        if key.split(".")[0] in AI_KEYS[:3]:
            key = f"{block}.{key}"
        elif key.startswith("ai."):
            key = f"{block}{key.removeprefix('ai')}"
        place = source.place(tuple(key.split(".")))
        mend = keys_for_flags(error.mend, block).replace("ai.judge", f"{block}.judge")
        raise HeedfulError(error.what, where=f"{place} ({key})", mend=mend) from error


def keys_for_flags(text: str, block: str = "ai") -> str:
    """Advice that names flags of `heedful judge`, with the keys of a recipe's block in their place."""
    flags = re.compile(rf"--((?:{'|'.join(AI_KEYS)})\b[.a-z-]*)")
    return flags.sub(lambda found: f"{block}." + found[1].replace("-", "_"), text)


def _underscored(mapping: Any) -> Any:
    """Keys as the settings name them, however they are written: two files that say the same are merged alike."""
    if not isinstance(mapping, Mapping):
        return mapping
    return {
        key if isinstance(key, int) else str(key).replace("-", "_"): _underscored(value)
        for key, value in mapping.items()
    }


def _check_given(mapping: Mapping[str, Any], source: Source, below: tuple[str, ...]) -> None:
    for block in STAGE_BLOCKS:
        inner = mapping.get(block)
        for name in GIVEN:
            if isinstance(inner, Mapping) and name in inner:
                raise HeedfulError(
                    f"'{block}.{name}' is set by the round itself.",
                    where=source.place((*below, block, name)),
                    mend="Take it out; model, data and seed of a programme stand at the top of its recipe.",
                )


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of heedful.yaml."""
    left_out = {f"{block}.{name}" for block in STAGE_BLOCKS for name in GIVEN} & set(all_keys(Recipe))
    made = json_schema(Recipe, "heedful.yaml", left_out)
    everything = {name: one for name, one in made["properties"].items() if name != "changes"}
    made["definitions"] = {"settings": {"type": "object", "additionalProperties": False, "properties": everything}}
    made["properties"] = {name: {"$ref": f"#/definitions/settings/properties/{name}"} for name in everything}
    made["properties"]["changes"] = {
        "type": "object",
        "description": "Settings from a round on, by its number, as blocks of this file.",
        "patternProperties": {"^[1-9][0-9]*$": {"$ref": "#/definitions/settings"}},
        "additionalProperties": False,
    }
    return made


def settings_of(config: Any) -> dict[str, Any]:
    """What of a stage's settings decides its result, by dotted name: not where it runs, logs or keeps checkpoints."""
    found = flat(plain(config)) if dataclasses.is_dataclass(config) else flat(config)
    free = (*FREE, *GIVEN)
    return {key: value for key, value in found.items() if not any(key == f or key.startswith(f + ".") for f in free)}
