"""The reference of commands: a page for each, one for the blocks that many share, and a list of all."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from command_read import ABOUT, Usage, groups, usages
from heedful.cli.main import COMMANDS
from heedful.cli.stages import STAGES
from heedful.training.config.cluster import ClusterConfig
from settings_read import Setting, blocks_of, default_in_words, defaults_of, settings_of

SHARED_BY = 3
"""A block that so many commands have stands on a page of its own."""

MADE = "<!-- Made by `make reference` from the code: change the code, not this page. -->"
HEAD = "| setting | takes | by default | |\n|---|---|---|---|"

INTRODUCTION = """Every setting is a flag, and a key of the YAML file that `--config` names: `--kl.coefficient 0.02`
is `kl: {coefficient: 0.02}`, and dashes are underscores there. Flags win. The block may be left out of a flag where the
rest names one only (`--learning-rate`). Yes-or-no settings are `--NAME` and `--no-NAME`. `--json` prints the result for
a program, `--help` the settings. [Command line](../../command-line.md) tells how commands go together."""


@dataclass(frozen=True)
class Block:
    """A block of settings that several commands have."""

    name: str
    settings: type
    users: tuple[str, ...]
    alone: bool
    """Whether no other shared block has its name."""

    @property
    def title(self) -> str:
        """Its heading on the page of blocks."""
        return self.name if self.alone else f"{self.name} of {self.users[0]} and its kin"

    @property
    def anchor(self) -> str:
        """Its heading as a link has it."""
        return self.title.replace(" ", "-")


def pages() -> dict[str, str]:
    """All pages: their names below docs/reference/commands, and their text."""
    known = {name: usages(name) for name in COMMANDS}
    shared = shared_blocks(known)
    made = {f"{name}.md": command_page(name, known[name], shared) for name in COMMANDS}
    return made | {"index.md": index_page(), "blocks.md": blocks_page(shared)}


def shared_blocks(known: Mapping[str, Iterable[Usage]]) -> dict[tuple[str, type], Block]:
    """Blocks that many commands have, by name and class."""
    users: dict[tuple[str, type], list[str]] = {}
    for ways in known.values():
        for way in ways:
            for block in blocks_of(way.settings).items():
                users.setdefault(block, []).append(way.words.removeprefix("heedful "))
    many = {block: words for block, words in users.items() if len(words) >= SHARED_BY}
    names = [name for name, _ in many]
    return {
        (name, cls): Block(name, cls, tuple(words), names.count(name) == 1)
        for (name, cls), words in sorted(many.items(), key=lambda item: item[0][0])
    }


def index_page() -> str:
    """All commands with their lines in `heedful --help`."""
    parts = [MADE, "# Commands and settings", INTRODUCTION, "[Blocks of settings](blocks.md) that many commands share."]
    for group, names in groups().items():
        rows = [f"| [`{name}`]({name}.md) | {COMMANDS[name].summary} |" for name in names]
        parts += [f"## {group}", "\n".join(["| command | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def blocks_page(shared: Mapping[tuple[str, type], Block]) -> str:
    """The shared blocks, with the defaults of their own; a command's page says where it has others."""
    parts = [
        MADE,
        "# Blocks of settings",
        "What many commands share. Where a command has other defaults, its page says so.",
    ]
    for block in shared.values():
        users = ", ".join(user if user.split()[0] not in COMMANDS else linked(user) for user in block.users)
        parts += [
            f"## {block.title}",
            f"{documented(block.settings)}\n\nOf {users}.",
            table(settings_of(block.settings, path=(block.name,))),
        ]
    return "\n\n".join(parts) + "\n"


def linked(words: str) -> str:
    """A command's words, leading to its page."""
    return f"[`{words}`]({words.split()[0]}.md)"


def command_page(name: str, ways: Iterable[Usage], shared: Mapping[tuple[str, type], Block]) -> str:
    """One command: what it is for, its own settings, the blocks of its own, and the shared ones."""
    command = COMMANDS[name]
    parts = [MADE, f"# heedful {name}", command.summary]
    if command.resumes:
        parts.append("Interrupted, it goes on where it was when you run the same command again.")
    if name in ABOUT:
        parts.append(ABOUT[name])
    if name == "plan":
        stages = ", ".join(linked(stage) for stage in STAGES)
        parts += ["```text\nheedful plan STAGE [OPTIONS]\n```", f"STAGE is one of {stages}, whose settings it takes."]
        parts += ["## cluster", documented(ClusterConfig), table(settings_of(ClusterConfig, path=("cluster",)))]
    ways = list(ways)
    for way in ways:
        parts += ([f"## {way.words}"] if len(ways) > 1 else []) + way_to_call(
            way, shared, "###" if len(ways) > 1 else "##"
        )
    return "\n\n".join(parts) + "\n"


def way_to_call(way: Usage, shared: Mapping[tuple[str, type], Block], level: str) -> list[str]:
    """A usage's text, its call with what is required, and its tables."""
    parts = [way.text]
    every = list(settings_of(way.settings))
    needed = [s for s in every if s.required]
    words = [s.flag if s.positional else f"{s.flag} {s.path[-1].upper()}" for s in needed]
    parts.append(f"```text\n{' '.join([way.words, *words, '[OPTIONS]'])}\n```")
    own = [s for s in every if len(s.path) == 1]
    parts += [table(own)] if own else []
    for name, cls in blocks_of(way.settings).items():
        if (name, cls) not in shared:
            parts += [f"{level} {name}", documented(cls), table(s for s in every if s.path[0] == name)]
    theirs = [block for block in shared.values() if blocks_of(way.settings).get(block.name) is block.settings]
    if theirs:
        rows = [
            f"| [`--{b.name}.*`](blocks.md#{b.anchor}) | {documented(b.settings)} | {others(way, b)} |" for b in theirs
        ]
        parts += [f"{level} Shared blocks", "\n".join(["| | | other defaults here |", "|---|---|---|", *rows])]
    return parts


def others(way: Usage, block: Block) -> str:
    """Where a command's defaults of a shared block are not the block's own."""
    usual = {s.path: s.default for s in settings_of(block.settings, path=(block.name,))}
    here = settings_of(block.settings, defaults_of(way.settings).values[block.name], (block.name,))
    return ", ".join(
        f"`{'.'.join(s.path[1:])}` {default_in_words(s.default)}" for s in here if s.default != usual[s.path]
    )


def documented(cls: type) -> str:
    """The first paragraph of a class's docstring, as one line."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def table(settings: Iterable[Setting]) -> str:
    """Settings as a table."""
    return "\n".join([HEAD, *(row(one, one.flag) for one in settings)])


def row(setting: Setting, name: str) -> str:
    """One setting: its name, what it takes, its default, its help."""
    cells = (f"`{name}`", setting.takes, default_in_words(setting.default), setting.help)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
