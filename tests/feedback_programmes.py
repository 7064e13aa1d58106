"""Programmes with judgments of every kind, for tests of what leaves the store."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feedback_factories import account, batch, item, programme, rater
from heedful.feedback import gold, submission
from heedful.feedback.models import (
    Item,
    Judgment,
    Programme,
    Purpose,
    Rater,
    RaterKind,
)

_keys = itertools.count(1)


def say(of: Item, who: Rater, payload: Mapping[str, Any], **how: Any) -> Judgment:
    """A judgment in the item's own order, as an agent brings it."""
    return submission.record(of, who, payload, key=f"key-{next(_keys)}", **how)


def agents(of: Programme, count: int) -> list[Rater]:
    return [rater(of, kind=RaterKind.SIMULATED) for _ in range(count)]


def lines(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return [json.loads(line) for line in data.decode().split("\n") if line]


def mixed() -> Programme:
    """A programme with comparisons of 3 raters, a tie, a ranking, an edit, a demonstration, and what is no training."""
    of = programme()
    first, second, third = agents(of, 3)
    train = batch(of, quota=3)
    one = item(train, text="one", answers=["a1", "b1"])
    for who, strength in ((first, -2), (second, -1), (third, 3)):
        say(one, who, {"strength": strength})
    tie = item(train, text="tie", answers=["a2", "b2"])
    say(tie, first, {"strength": 0, "both_bad": True})
    ranked = item(train, text="ranked", answers=["r0", "r1", "r2"], kind="ranking")
    say(ranked, first, {"ranks": [2, 1, 3]})
    say(item(train, text="edit", answers=["old"], kind="edit"), first, {}, text="new")
    say(item(train, text="write", answers=["x"], kind="demonstration", completions=0), second, {}, text="written")
    return of


def held_back(of: Programme) -> list[str]:
    """Items whose texts must enter no training format."""
    (who,) = agents(of, 1)
    texts = []
    for purpose in (Purpose.CHECK, Purpose.CALIBRATION, Purpose.QUALIFICATION, Purpose.GOLD):
        text = f"held back for {purpose}"
        say(item(batch(of, purpose=purpose), text=text, answers=[f"{text} a", f"{text} b"]), who, {"strength": 1})
        texts.append(text)
    promoted = item(batch(of), text="promoted to gold", answers=["promoted a", "promoted b"])
    say(promoted, who, {"strength": 1})
    gold.promote(promoted, [{"strength": [1, 3]}], "because", actor=account())
    return [*texts, "promoted"]
