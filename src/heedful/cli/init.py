"""`heedful init`: begin a programme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from heedful.cli.command import parse, print_json
from heedful.errors import HeedfulError


@dataclass(frozen=True)
class InitConfig:
    """Begin a programme: a folder with a commented recipe, heedful.yaml, which heedful round carries out.

    Without --model, --prompts and --application it is one on the embedded world, which needs no download and no people.
    """

    folder: tyro.conf.Positional[Path] = Path()
    """The programme's folder; it may be new."""
    model: str | None = None
    """The base model of your own: a folder or a hub id."""
    prompts: str | None = None
    """Prompts of your own: a file, a folder or a hub dataset id."""
    demonstrations: str | None = None
    """Demonstrations of your own, for the first policy to imitate."""
    application: Literal["chat", "service", "writing", "code"] | None = None
    """A worked recipe with its guideline, on a model of the hub (docs/applications.md): a chat assistant, customer
    service, creative writing, or code with unit tests."""
    embedded: bool = False
    """Of an application, the variant on the embedded world: no network, no people."""
    judge: str | None = None
    """Of an application, the AI judge: MODEL@URL or hf:FOLDER."""

    def __post_init__(self) -> None:
        for name in ("embedded", "judge"):
            if getattr(self, name) and self.application is None:
                raise HeedfulError(
                    "it tells of an application.",
                    where=name,
                    mend="Name one: --application chat, service, writing, code.",
                )
        if self.application is not None and self.demonstrations is not None:
            raise HeedfulError(
                "an application's first policy is its model.",
                where="demonstrations",
                mend="Add demonstrations to the recipe once it is written.",
            )


def init(arguments: list[str]) -> int:
    """Parse the settings and write the recipe."""
    call = parse(InitConfig, "init", arguments)
    given = call.settings
    from heedful.pipeline.rounds.starting import start_application, start_programme

    if given.application is not None:
        written = start_application(
            given.folder,
            given.application,
            embedded=given.embedded,
            model=given.model,
            prompts=given.prompts,
            judge=given.judge,
        )
    else:
        written = start_programme(
            given.folder, model=given.model, prompts=given.prompts, demonstrations=given.demonstrations
        )
    if call.json:
        print_json({"written": written})
        return 0
    where = "" if given.folder == Path() else f" {given.folder}"
    print(f"{written[0]}: the recipe, with its schema beside it for your editor.")
    if written[2:]:
        print(f"Beside it: {', '.join(one.name for one in written[2:])}.")
    if given.application is not None and not given.embedded:
        _say_what_it_needs(given)
    if given.model is not None or (given.application is not None and not given.embedded):
        print(f"People judge in the studio: heedful studio --folder {given.folder} (docs/studio.md).")
    print(f"Next: heedful round{where} --dry-run, then heedful round{where}.")
    return 0


def _say_what_it_needs(given: InitConfig) -> None:
    """An application's model, prompts and judge; and whether the hub has what it needs of it."""
    from heedful.pipeline.applications.catalogue import JUDGE, application_named
    from heedful.pipeline.rounds.needs import missing_from_hub

    own = application_named(str(given.application))
    model = given.model or own.model
    prompts = given.prompts or own.prompts[0].removeprefix("data: ")
    judge = f", the AI judge {given.judge or JUDGE}" if own.asks else ""
    print(f"It trains {model} on prompts of {prompts}{judge}.")
    missing = missing_from_hub(given.folder, model, prompts)
    if missing:
        print(f"Not to be had from here: {'; '.join(missing)}. heedful round will say so and stop.")
        print(
            f"Without a network: heedful init FOLDER --application {given.application} --embedded writes the variant "
            "that needs none."
        )
