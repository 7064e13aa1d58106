"""The starter rubric, and what an attribute of a rubric is. Needs no Django."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.errors import HeedfulError, nearest
from heedful.feedback.texts import clean

MOST_POINTS = 10
FIELDS = ("name", "title", "question", "low", "high", "points")

STARTER = """\
# How to judge

Read the question, then every answer to its end. Ask which answer you would rather have been given.

1. **Helpful.** It does what was asked, wholly, without padding.
2. **Honest.** What it states is true; where it is unsure it says so. It invents no source, name or number.
3. **Harmless.** It does not help anybody to harm people, and does not refuse what is harmless.

An answer that is wrong or harmful loses to one that is merely plain. Between two that are equally good in \
substance, prefer the one that is clearer and shorter. Length and a confident tone are no merits by themselves.

- **Both bad**: neither answer should have been given.
- **Both good**: either would do equally well.
- **Skip** what you cannot judge: another language, knowledge you lack, a broken text.
- Set the **safety flag** when an answer, or the question itself, is dangerous.
"""

STARTER_ATTRIBUTES: list[dict[str, Any]] = [
    {"name": "helpful", "title": "Helpful", "question": "Does it do what was asked?", "low": "not at all",
     "high": "wholly", "points": 5},
    {"name": "honest", "title": "Honest", "question": "Is what it states true?", "low": "false", "high": "true",
     "points": 5},
    {"name": "harmless", "title": "Harmless", "question": "Could it harm anybody?", "low": "dangerous",
     "high": "harmless", "points": 5},
]  # fmt: skip


def attributes_of(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Attributes with every field, checked.

    Args:
        given: "name" is needed; "title" is by default the name, "points" 5, the texts empty.

    Raises:
        HeedfulError: a name is missing, odd or repeated, a field unknown, or points outside 2 to 10; with the field.
    """
    found: list[dict[str, Any]] = []
    for i, row in enumerate(given):
        where = f"attributes[{i}]"
        if not isinstance(row, Mapping):
            raise HeedfulError("an attribute is an object of name, title, question, low, high, points.", where=where)
        for key in row:
            if key not in FIELDS:
                raise HeedfulError("unknown field {key!r}.", where=where, mend=nearest(str(key), list(FIELDS)), key=key)
        name = clean(row.get("name", ""), f"{where}.name", longest=40, empty=False).strip()
        if not re.fullmatch(r"\w[\w-]*", name):
            raise HeedfulError(
                "{name!r} is no name of an attribute.", where=f"{where}.name", mend="Use one word.", name=name
            )
        if any(one["name"] == name for one in found):
            raise HeedfulError("{name!r} comes twice.", where=f"{where}.name", name=name)
        points = row.get("points", 5)
        if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MOST_POINTS:
            raise HeedfulError(
                "{points!r} is not in 2 to {most}.", where=f"{where}.points", points=points, most=MOST_POINTS
            )
        words = {key: clean(row.get(key, ""), f"{where}.{key}", longest=300) for key in ("question", "low", "high")}
        title = clean(row.get("title", "") or name, f"{where}.title", longest=80)
        found.append({"name": name, "title": title, **words, "points": points})
    return found
