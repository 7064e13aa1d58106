"""How a programme shares out work: the typed form of `Programme.settings`. Needs no Django."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from heedful.data import deidentify
from heedful.errors import HeedfulError, nearest

SELECTIONS = ("order", "random", "information")
REGIONS = " ".join(deidentify.REGIONS)


@dataclass(frozen=True)
class Rules:
    """A programme's rules. What is not stored has the value here."""

    lease_seconds: int = 1800
    """How long an assignment is held without any activity."""
    prefetch_seconds: int = 120
    """How long one that was fetched ahead is held until it is shown."""
    max_share: float = 1.0
    """The largest share of a batch's slots that one rater may fill."""
    skips_to_park: int = 3
    """An item passed by this many raters waits for a manager."""
    gold_rate: float = 0.0
    """Share of assignments that are gold."""
    repeat_rate: float = 0.0
    """Share of assignments in which a rater judges an item of theirs again."""
    selection: str = "order"
    """In which order items are handed out: as imported, by chance, or where a judgment tells most. See
    `heedful.feedback.handing_out`."""
    disagreement: float = 0.5
    """Strengths on both sides of the tie, or rankings whose Kendall's tau is below this, ask for a further slot."""
    gold_floor: float = 0.7
    """Gold accuracy over the last `gold_window` below which a rater is paused for re-calibration; 0 never pauses."""
    gold_window: int = 20
    """Fewer pause only where they leave no doubt: see `heedful.feedback.gold.below`."""
    fresh_checks: bool = True
    """Items for checking go only to raters who gave no judgments for training, where there are enough of them."""
    require_rationale: bool = False
    consent_text: str = ""
    """Markdown; empty asks for none."""
    content_warning: str = ""
    """Markdown, shown before the first item."""
    group_questions: tuple[dict[str, Any], ...] = ()
    """[{"name", "question", "answers": [...]}], each with "prefer not to say" added."""
    seconds_per_judgment: float = 60.0
    """What a forecast starts from, until there are judgments to measure."""
    allow_private_addresses: bool = False
    """Webhooks and policy endpoints may lie in private address ranges."""
    field_share: float = 1.0
    """Share of what end users send that is kept: of whole conversations, by a keyed hash, so that a retry agrees."""
    field_cap: int = 20
    """Judgments of one end user that are kept within `field_cap_days`."""
    field_cap_days: int = 30
    field_regions: str = REGIONS
    """Countries whose national telephone numbers are taken out of what end users send."""

    def __post_init__(self) -> None:
        for name in ("max_share", "gold_rate", "repeat_rate", "gold_floor", "field_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise HeedfulError(
                    "{name} is {value}; it must lie in 0 to 1.",
                    where=f"rules.{name}",
                    name=name,
                    value=getattr(self, name),
                )
        if self.selection not in SELECTIONS:
            raise HeedfulError(
                "{value!r} is no order to hand items out in.",
                where="rules.selection",
                mend="{known}.",
                known=", ".join(SELECTIONS),
                value=self.selection,
            )
        for name in (
            "lease_seconds",
            "prefetch_seconds",
            "skips_to_park",
            "gold_window",
            "field_cap",
            "field_cap_days",
        ):
            if getattr(self, name) < 1:
                raise HeedfulError(
                    "{name} is {value}; it must be 1 or more.",
                    where=f"rules.{name}",
                    name=name,
                    value=getattr(self, name),
                )
        if self.field_regions != REGIONS:  # looking them up loads the numbering plans
            deidentify.check_regions(self.field_regions.split(), where="rules.field_regions")

    def stored(self) -> dict[str, Any]:
        """What `Programme.settings` keeps."""
        return asdict(self) | {"group_questions": list(self.group_questions)}


def rules_of(settings: dict[str, Any]) -> Rules:
    """The rules in a programme's settings.

    Raises:
        HeedfulError: an unknown key, with the nearest known one; a value of another type, or out of range.
    """
    known = [field.name for field in fields(Rules)]
    for key in settings:
        if key not in known:
            raise HeedfulError("unknown rule {key!r}.", where=f"rules.{key}", mend=nearest(key, known), key=key)
    given = dict(settings)
    for field in fields(Rules):
        if field.name in given and not FITS[str(field.type)](given[field.name]):
            raise HeedfulError("{value!r} does not belong here.", where=f"rules.{field.name}", value=given[field.name])
    if "group_questions" in given:
        given["group_questions"] = tuple(given["group_questions"])
    return Rules(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_questions(value: Any) -> bool:
    """Whether these are questions as `Rules.group_questions` holds them."""
    return isinstance(value, list | tuple) and all(
        isinstance(one, dict)
        and all(isinstance(one.get(name), str) and one[name] for name in ("name", "question"))
        and isinstance(one.get("answers"), list | tuple)
        and all(isinstance(answer, str) for answer in one["answers"])
        for one in value
    )


FITS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": _is_number,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "tuple[dict[str, Any], ...]": _are_questions,
}
"""By a rule's type: whether a stored value is of it."""
