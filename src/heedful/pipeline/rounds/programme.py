"""`heedful round`: bring a programme to so many rounds, say what would be done, or how far it is. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import read_manifest
from heedful.pipeline.rounds.contents import CARD, is_card
from heedful.pipeline.rounds.engine import STAMP, Engine, asked_again, now, waiting_for
from heedful.pipeline.rounds.lock import held, holder
from heedful.pipeline.rounds.parts import Kept, Made, Source, Standing, Step, WaitingError
from heedful.pipeline.rounds.ready import make_ready
from heedful.pipeline.rounds.recipe import Programme, read_programme
from heedful.pipeline.rounds.stages import steps
from heedful.training.progress import Display


@dataclass(frozen=True)
class Going:
    """How `heedful round` is to go about it.

    Attributes:
        rounds: to which number; the recipe's where None.
        wait: hold while people work.
        every: seconds between two looks at their work.
        again: make stages again that hold people's judgments.
        unlearn: make again what decided rounds trained on judgments that were withdrawn since.
        sleep: waits so many seconds.
    """

    rounds: int | None = None
    wait: bool = False
    every: float = 10.0
    again: bool = False
    unlearn: bool = False
    sleep: Callable[[float], None] = time.sleep


def run_rounds(folder: Path, going: Going, display: Display | None = None) -> dict[str, Any]:
    """Make all that is not done, in order; what is done already is left alone.

    Returns:
        `made`, names of the steps that were made, `rounds`, what came of each, and `withdrawn`, the results that were
        left as they are though judgments were withdrawn from what they were made from.

    Raises:
        WaitingError: people have not judged all that they were asked, and `wait` is off.
        HeedfulError: the recipe is wrong, another process works here, or a stage cannot be made.
    """
    programme, display = read_programme(folder), display or Display()
    with held(programme.folder):
        engine = Engine(programme, display, again=going.again, unlearn=going.unlearn)
        upto = _upto(programme, going.rounds)
        standings = _foreseen(engine, upto)
        if not going.again:
            spare_people(standings)
        make_ready(programme, [one.step for one in standings if not one.done], display)
        made = [step.name for step in steps(programme, upto) if _carry_out(engine, step, going, display)]
        write_cards(programme, upto)
        return {"made": made, **outcome(programme, upto), "withdrawn": lacking(_foreseen(engine, upto))}


def _upto(programme: Programme, rounds: int | None) -> int:
    if rounds is not None and rounds < 1:
        raise HeedfulError(f"{rounds} rounds are none.", where="rounds", mend="Give 1 or more.")
    return programme.base.rounds if rounds is None else rounds


def _carry_out(engine: Engine, step: Step, going: Going, display: Display) -> bool:
    """Make a step, and hold as long as people work on it where that is asked for."""
    last = None
    while True:
        try:
            return engine.carry_out(step)
        except WaitingError as waiting:
            if not going.wait:
                raise
            if waiting.told != last:
                display.say(f"{step.name}: {waiting.what}")
            last = waiting.told
            going.sleep(going.every)


def write_cards(programme: Programme, upto: int) -> None:
    """A model card in the folder of each round's kept policy, unless somebody has written one of their own there.

    It is no part of the policy's content, so that nothing is made again for it.
    """
    from heedful.pipeline.provenance.card import card_of, write_card

    for number in range(1, upto + 1):
        kept = (read_manifest(programme.place(number, "decide")) or {}).get("kept")
        if kept is None or isinstance(kept, str):
            continue
        place = programme.place(*kept)
        path = place / CARD
        if path.exists() and not is_card(path):
            continue
        card = card_of(place, verify=False)
        if not path.exists() or path.read_text(encoding="utf-8") != str(card):
            write_card(place, card)


def outcome(programme: Programme, upto: int) -> dict[str, Any]:
    """What came of each round that has ended."""
    rounds = []
    for number in range(1, upto + 1):
        decided = read_manifest(programme.place(number, "decide"))
        if decided is None:
            continue
        check = read_manifest(programme.place(number, "check")) or {}
        record = decided["record"]
        kept = decided["kept"]
        rounds.append(
            {
                "round": number,
                "promoted": decided["promoted"],
                "policy": kept if isinstance(kept, str) else f"rounds/{kept[0]}/{kept[1]}",
                **check.get("figures", {}),
                "judgments": record["judgments"],
            }
        )
    return {"rounds": rounds}


# --- what would be done ---


def foreseen(folder: Path, rounds: int | None = None, *, unlearn: bool = False) -> list[Standing]:
    """How every step stands, nothing of it being made: done, or why it would run.

    A step whose input is made first is listed with it; should the input come out as it was, the step is not made.
    """
    programme = read_programme(folder)
    return _foreseen(Engine(programme, Display(), unlearn=unlearn), _upto(programme, rounds))


def _foreseen(engine: Engine, upto: int) -> list[Standing]:
    anew: set[Source] = set()
    cleaned: set[Source] = set()
    found = []
    for step in steps(engine.programme, upto):
        standing = engine.standing(step, anew, cleaned)
        if not standing.done:
            anew.add(Made(step.number, step.stage.name))
            if standing.but_for_withdrawn and step.stage.records:
                cleaned.add(Made(step.number, step.stage.name))
        found.append(standing)
    return found


def lacking(standings: Sequence[Standing]) -> list[str]:
    """Names of the results that stand though judgments were withdrawn from them or from what they were made from."""
    return [f"rounds/{one.step.name}" for one in standings if one.done and one.but_for_withdrawn]


def spare_people(standings: Sequence[Standing]) -> None:
    """Refuse before anything is made what would have people judge again what they have judged.

    A result that is only gone is taken to come out as it was; one of other settings or inputs is not.

    Raises:
        HeedfulError: naming the stage and what has changed.
    """
    changed: set[str] = set()
    for one in standings:
        if (one.there and one.differs) or any(name in changed for name in one.after.values()):
            changed |= {str(Made(one.step.number, one.step.stage.name))}
            changed |= {str(Kept(one.step.number))} if one.step.stage.name == "decide" else set()
            if one.human and not one.but_for_withdrawn:
                raise asked_again(one)


# --- how far it is ---


def status(folder: Path, rounds: int | None = None) -> dict[str, Any]:
    """What is done and how long it took, what is at work or waited for and since when, and who holds the programme."""
    programme = read_programme(folder)
    standings = foreseen(folder, rounds)
    rows = list(_rows(programme, standings))
    following = next((row for row in rows if row["state"] != "done"), None)
    return {
        "folder": str(programme.folder),
        "held_by": holder(programme.folder),
        "done": sum(row["state"] == "done" for row in rows),
        "steps": rows,
        "next": following and following["step"],
        "waiting": following and following.get("waiting"),
        "withdrawn": lacking(standings),
        **outcome(programme, _upto(programme, rounds)),
    }


def _rows(programme: Programme, standings: list[Standing]) -> Iterator[dict[str, Any]]:
    for standing in standings:
        step = standing.step
        place = programme.place(step.number, step.stage.name)
        row: dict[str, Any] = {"step": step.name, "state": "done" if standing.done else "to do"}
        part = place.with_name(f"{place.name}.part")
        if standing.done:
            record = (read_manifest(place) or {})["record"]
            row |= {"seconds": record["seconds"], "ended": record["ended"]}
            row |= {"judgments": record["own_judgments"]} if record["own_judgments"] else {}
        elif (part / STAMP).exists():
            row["state"] = "begun"
            waiting = waiting_for(part)
            if waiting is not None:
                since = datetime.fromisoformat(waiting["since"])
                row["state"] = "waiting"
                row["waiting"] = waiting | {"seconds": (datetime.fromisoformat(now()) - since).total_seconds()}
        if not standing.done:
            row["why"] = list(standing.why)
        yield row
