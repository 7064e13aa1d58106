"""`heedful round`: bring a programme to its next state, or say what that would be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.pipeline.rounds.parts import Standing

NOTES = """heedful.yaml in the folder is the recipe (heedful init makes one). What is done already is not done again:
a stage is made anew only where a setting or an input of it has changed. Exit code 3: it waits for people."""


@dataclass(frozen=True)
class RoundConfig:
    """Carry a programme through its rounds: sample, judge, fit the reward model, train the policy, check, keep or go
    back."""

    folder: tyro.conf.Positional[Path] = Path()
    """The programme's folder."""
    rounds: int | None = None
    """Bring it to this many rounds in all; by default the recipe's number."""
    wait: bool = False
    """Hold while people judge, and go on when all is judged."""
    every: float = 10.0
    """Seconds between two looks at people's work, with --wait."""
    status: bool = False
    """Say what is done, what it waits for and since when; do nothing."""
    dry_run: bool = False
    """Say what would be made and why: which setting or input has changed. Do nothing."""
    again: bool = False
    """Make stages anew even where people would be asked again for what they have judged."""
    unlearn: bool = False
    """Make anew what decided rounds trained on judgments that were withdrawn since; else only datasets lose them."""

    def __post_init__(self) -> None:
        if self.status and self.dry_run:
            raise HeedfulError("--status and --dry-run are two questions.", where="status", mend="Ask one at a time.")
        if self.every <= 0:
            raise HeedfulError(f"every is {self.every}; it must be above 0.", where="every", mend="Give seconds.")


def round_command(arguments: list[str]) -> int:
    """Parse the settings and run, or answer."""
    call = parse(RoundConfig, "round", arguments, notes=NOTES)
    given = call.settings
    from heedful.pipeline.rounds import programme

    if given.dry_run:
        _foreseen(programme.foreseen(given.folder, given.rounds, unlearn=given.unlearn), call.json)
    elif given.status:
        found = programme.status(given.folder, given.rounds)
        print_json(found) if call.json else _show_status(found)
    else:
        from heedful.pipeline.rounds.parts import WaitingError

        going = programme.Going(given.rounds, given.wait, given.every, given.again, given.unlearn)
        try:
            with stdout_for_results():
                found = programme.run_rounds(given.folder, going)
        except WaitingError as waiting:
            print_json({"waiting": waiting.told}) if call.json else print(f"{waiting.what.capitalize()} {waiting.mend}")
            return waiting.exit_code
        print_json(found) if call.json else _show_outcome(found, given.folder)
    return 0


def _foreseen(standings: list[Standing], as_json: bool) -> None:
    if as_json:
        rows = [{"step": one.step.name, "done": one.done, "why": one.why} for one in standings]
        print_json({"steps": rows, "to_make": [row["step"] for row in rows if not row["done"]]})
        return
    due = [one for one in standings if not one.done]
    print(f"{len(standings) - len(due)} of {len(standings)} steps are done.")
    for one in due:
        print(f"  {one.step.name:<18}{'; '.join(one.why)}")
    if any("is made first" in reason for one in due for reason in one.why):
        print("A step whose only reason is an input that is made first is left alone where that comes out as it was.")


def _show_outcome(found: dict[str, Any], folder: Path) -> None:
    print(f"{len(found['made'])} steps made." if found["made"] else "Nothing to do: all is as the recipe says.")
    for row in found["rounds"]:
        print(_round_line(row))
    _show_withdrawn(found["withdrawn"])
    print(f"What it brought, as a page: heedful report{'' if folder == Path() else f' {folder}'}")


def _show_withdrawn(names: list[str]) -> None:
    if names:
        print(f"Made from judgments that were withdrawn since, and left as they are: {', '.join(names)}.")
        print("heedful lineage --withdrawn names all that follows from them; heedful round --unlearn makes it anew.")


def _round_line(row: dict[str, Any]) -> str:
    rate = row["win_rate"]
    line = f"round {row['round']}: won {rate['mean']:.1%} of checks [{rate['low']:.1%}, {rate['high']:.1%}]"
    if "gold_win_rate" in row:
        line += f", by the world's truth {row['gold_win_rate']['mean']:.1%}"
    return f"{line}; {'kept' if row['promoted'] else 'rolled back'}: {row['policy']}"


def _show_status(found: dict[str, Any]) -> None:
    by = found["held_by"]
    print(f"{found['folder']}: {found['done']} of {len(found['steps'])} steps done.")
    if by:
        print(f"At work: process {by['pid']} on {by['host']}, since {by['since']}.")
    for row in found["steps"]:
        seconds = f"{row['seconds']:.0f} s" if row.get("seconds") is not None else ""
        counts = ", ".join(f"{count} {kind}" for kind, count in row.get("judgments", {}).items() if count)
        print(f"  {row['step']:<18}{row['state']:<9}{seconds:>8}  {counts}".rstrip())
    waiting = found["waiting"]
    if waiting:
        print(
            f"Waiting for {waiting['for']}, for {_long(waiting['seconds'])} (since {waiting['since']}): "
            f"{waiting['filled']} of {waiting['places']} are in."
        )
    for row in found["rounds"]:
        print(_round_line(row))
    _show_withdrawn(found["withdrawn"])


def _long(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
