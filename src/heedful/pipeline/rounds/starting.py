"""`heedful init`: a programme's folder with a commented recipe and the schema that editors complete it by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.files import atomic_write, write_json
from heedful.pipeline.applications.catalogue import application_named, beside, embedded_recipe_of, recipe_of
from heedful.pipeline.rounds.recipe import RECIPE, SCHEMA, read_programme, recipe_schema


def start_programme(folder: Path, *, model: str | None, prompts: str | None, demonstrations: str | None) -> list[Path]:
    """Write the recipe of the embedded world, or of a model and prompts of one's own; gives the files written.

    Raises:
        HeedfulError: there is a recipe already, or a model without prompts (or the other way round).
    """
    if (model is None) != (prompts is None):
        missing = "prompts" if prompts is None else "model"
        raise HeedfulError(
            "a programme of your own needs a model and prompts.",
            where=missing,
            mend=f"Give --{missing} too, or neither for the embedded world.",
        )
    if model is None and demonstrations is not None:
        raise HeedfulError(
            "the embedded world has demonstrations of its own.",
            where="demonstrations",
            mend="Give --model and --prompts.",
        )
    values = _names(folder)
    if model is not None:
        values |= {"model": json.dumps(model), "prompts": json.dumps(prompts)}
        values["demonstrations"] = (
            "# demonstrations: demonstrations.jsonl   # none: the base model is the first policy"
            if demonstrations is None
            else f"demonstrations: {json.dumps(demonstrations)}"
        )
    text = files("heedful.pipeline.rounds").joinpath("world.yaml" if model is None else "own.yaml").read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return _write(folder, text, {})


def start_application(
    folder: Path,
    name: str,
    *,
    embedded: bool = False,
    model: str | None = None,
    prompts: str | None = None,
    judge: str | None = None,
) -> list[Path]:
    """Write a worked recipe with its guideline and what else it needs; gives the files written.

    Args:
        folder: the programme's.
        name: chat, service, writing or code.
        embedded: on the embedded world, which needs no network and no people; else on a model of the hub.
        model: in place of the hub's.
        prompts: in place of the recipe's prompts.
        judge: the AI judge, MODEL@URL or hf:FOLDER.

    Raises:
        HeedfulError: no such application, a file that is there already, or a model, prompts or a judge for the world.
    """
    application_named(name)
    given = {"model": model, "prompts": prompts, "judge": judge}
    for what, value in given.items():
        if embedded and value is not None:
            raise HeedfulError(
                f"the embedded variant has its own {what}.", where=what, mend=f"Leave out --{what}, or --embedded."
            )
    values = _names(folder)
    text = embedded_recipe_of(name, values) if embedded else recipe_of(name, values, **given)
    return _write(folder, text, beside(name, embedded=embedded))


def _names(folder: Path) -> dict[str, str]:
    """A programme's names, from its folder's."""
    name = re.sub(r"[^a-z0-9]+", "-", Path(folder).resolve().name.lower()).strip("-") or "programme"
    return {"name": name, "programme": name}


def _write(folder: Path, recipe: str, more: Mapping[str, str]) -> list[Path]:
    """The recipe first, its schema, and the files beside it; nothing that is there is written over.

    Raises:
        HeedfulError: one of them is there already.
    """
    folder = Path(folder)
    path = folder / RECIPE
    if path.exists():
        raise HeedfulError("there is a recipe already.", where=str(path), mend="Choose another folder, or edit it.")
    for name in more:
        if (folder / name).exists():
            raise HeedfulError(
                "this file is there already, and the recipe brings its own.",
                where=str(folder / name),
                mend="Choose another folder, or rename it.",
            )
    write_json(folder / SCHEMA, recipe_schema())
    for name, text in {**more, RECIPE: recipe}.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    read_programme(folder)
    return [path, folder / SCHEMA, *(folder / name for name in more)]
