"""The reference of a programme's recipe, `heedful.yaml`: its own keys; the stages' are those of their commands."""

from __future__ import annotations

from collections.abc import Iterable

from command_pages import MADE, documented, row
from heedful.cli.stages import STAGES
from heedful.training.config.programme import Recipe
from settings_read import Setting, blocks_of, settings_of

INTRODUCTION = """`heedful init` writes a commented one; [Rounds](../rounds.md) tells how it is carried through. A dot
is a block: `judge.votes` below is `judge: {votes: 3}` in the file."""


def page() -> str:
    """The page as text."""
    every = list(settings_of(Recipe))
    stages = {name.replace("-", "_"): name for name in STAGES}
    parts = [MADE, "# Recipe", documented(Recipe), INTRODUCTION]
    parts.append(keys(s for s in every if len(s.path) == 1))
    for name, cls in blocks_of(Recipe).items():
        if name not in stages:
            parts += [f"## {name}", documented(cls), keys(s for s in every if s.path[0] == name)]
    listed = ", ".join(f"[`{key}`](commands/{name}.md)" for key, name in stages.items())
    parts += ["## Stages", f"Each takes the settings of its command: {listed}."]
    return "\n\n".join(parts) + "\n"


def keys(settings: Iterable[Setting]) -> str:
    """Settings as a table, by their keys."""
    return "\n".join(["| key | takes | by default | |", "|---|---|---|---|", *(row(one, one.key) for one in settings)])
