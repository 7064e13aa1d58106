"""`heedful init`: a programme's folder with a commented recipe and the schema that editors complete it by."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.files import atomic_write, write_json
from heedful.pipeline.rounds.recipe import RECIPE, SCHEMA, read_programme, recipe_schema


def start_programme(folder: Path, *, model: str | None, prompts: str | None, demonstrations: str | None) -> list[Path]:
    """Write the recipe of the embedded world, or of a model and prompts of one's own; gives the files written.

    Raises:
        HeedfulError: there is a recipe already, or a model without prompts (or the other way round).
    """
    folder = Path(folder)
    path = folder / RECIPE
    if path.exists():
        raise HeedfulError("there is a recipe already.", where=str(path), mend="Choose another folder, or edit it.")
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
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "programme"
    values = {"name": name, "programme": name}
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
    write_json(folder / SCHEMA, recipe_schema())
    with atomic_write(path) as file:
        file.write(text)
    read_programme(folder)
    return [path, folder / SCHEMA]
