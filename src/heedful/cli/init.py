"""`heedful init`: begin a programme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from heedful.cli.command import parse, print_json


@dataclass(frozen=True)
class InitConfig:
    """Begin a programme: a folder with a commented recipe, heedful.yaml, which heedful round carries out.

    Without --model and --prompts it is one on the embedded world, which needs no download and no people.
    """

    folder: tyro.conf.Positional[Path] = Path()
    """The programme's folder; it may be new."""
    model: str | None = None
    """The base model of your own: a folder or a hub id."""
    prompts: str | None = None
    """Prompts of your own: a file, a folder or a hub dataset id."""
    demonstrations: str | None = None
    """Demonstrations of your own, for the first policy to imitate."""


def init(arguments: list[str]) -> int:
    """Parse the settings and write the recipe."""
    call = parse(InitConfig, "init", arguments)
    given = call.settings
    from heedful.pipeline.rounds.starting import start_programme

    written = start_programme(
        given.folder, model=given.model, prompts=given.prompts, demonstrations=given.demonstrations
    )
    if call.json:
        print_json({"written": written})
        return 0
    where = "" if given.folder == Path() else f" {given.folder}"
    print(f"{written[0]}: the recipe, with its schema beside it for your editor.")
    if given.model is not None:
        print(f"People judge in the studio: heedful studio --folder {given.folder} (docs/studio.md).")
    print(f"Next: heedful round{where} --dry-run, then heedful round{where}.")
    return 0
