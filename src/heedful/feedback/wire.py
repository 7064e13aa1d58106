"""What goes between a training run and the store, by database or by HTTP. Needs no Django.

`json_of` makes the JSON of any of these; `read` makes one of its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from heedful.errors import HeedfulError

T = TypeVar("T")
CHUNK = 200
"""Items in one request."""
CHUNK_BYTES = 4 * 2**20
PAGE = 500
"""Rows in one page of an answer."""


class NotFoundError(HeedfulError):
    """There is no such thing in the programme. HTTP says it with 404."""

    status = 404


@dataclass(frozen=True)
class NewCompletion:
    """An answer to be judged, and where it came from."""

    text: str
    policy: str = ""
    """Checkpoint or model; raters never see it."""
    sampling: dict[str, Any] = field(default_factory=dict)
    author: Any = None
    """The rater who wrote it, in the store; never sent."""
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewItem:
    """A question to raters: a conversation that waits for an answer, and its completions."""

    messages: Sequence[Mapping[str, str]]
    """[{"role", "content"}], the last from the user."""
    completions: Sequence[NewCompletion]
    kind: str
    """A task kind: pairwise, ranking, attributes, demonstration, edit, dialogue."""
    language: str = ""
    expertise: str = ""
    categories: Sequence[str] = ()
    named_raters: Sequence[str] = ()
    """Ids of raters; empty: anyone who may."""
    priority: int = 0
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchSpec:
    """What a new batch is to be."""

    name: str
    purpose: str = "train"
    round: int = 1
    quota: int = 1
    quota_cap: int | None = None
    priority: int = 0
    deadline: datetime | None = None


@dataclass(frozen=True)
class BatchStatus:
    """A batch, and how far it is."""

    id: str
    name: str
    state: str
    purpose: str
    round: int
    quota: int
    quota_cap: int
    items: int
    done: int
    """Items whose places are all filled."""
    parked: int
    places: int
    """Judgments wanted."""
    filled: int
    """Judgments that count."""
    held: int = 0
    """Judgments that somebody is at work on."""
    fresh_raters: int | None = None
    """Of a batch for checking: raters who may work and gave no judgments for training; none where it was not told."""
    fresh_only: bool = False
    """Of a batch for checking: whether it is handed to those alone, since there are enough of them."""


@dataclass(frozen=True)
class Status:
    """A programme, and how far it is."""

    programme: str
    name: str
    raters: int
    judgments: dict[str, int]
    """Live ones, by purpose."""
    batches: tuple[BatchStatus, ...]


@dataclass(frozen=True)
class Answer:
    """A completion of an item. Its index says which one a payload speaks of."""

    index: int
    text: str
    policy: str = ""
    """Empty for those who may only judge."""


@dataclass(frozen=True)
class ItemRow:
    """An item as a program reads it."""

    id: str
    batch: str
    kind: str
    purpose: str
    version: int
    state: str
    messages: tuple[dict[str, str], ...]
    completions: tuple[Answer, ...]
    guideline: int
    """The version of the rubric."""
    language: str = ""


@dataclass(frozen=True)
class Provenance:
    """How an AI judge came to a judgment, beside the version of its prompt template and the order it saw."""

    model: str
    """As the server named itself."""
    temperature: float | None = None
    cost: float = 0.0
    """Money, at the prices that were stated; 0 where none were."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies: Sequence[Mapping[str, str]] = ()
    """[{"text", "finish"}], all that it said, in order."""


@dataclass(frozen=True)
class JudgmentRow:
    """A judgment as a program reads it. The payload speaks of the item's indices: see `heedful.feedback.payloads`."""

    id: str
    created: datetime
    item: str
    batch: str
    rater: str
    """A pseudonym; the same rater has the same one for as long as the same token or database asks."""
    rater_kind: str
    kind: str
    purpose: str
    pass_number: int
    guideline: int
    payload: dict[str, Any]
    order: tuple[int, ...]
    """The indices in the order shown."""
    active_ms: int
    safety_flag: bool
    surplus: bool
    retracts: bool
    supersedes: str
    live: bool
    """False for one that was corrected or withdrawn, and for the withdrawal itself."""
    judge_template: str = ""
    judge_order: str = ""
    rationale: str = ""
    provenance: Provenance | None = None
    """Of an AI judge's that told it."""


@dataclass(frozen=True)
class Judge:
    """An agent that judges: an AI judge or a simulated rater."""

    name: str
    kind: str = "ai"
    """ai, simulated or end_user."""


@dataclass(frozen=True)
class NewJudgment:
    """What an agent says of an item, in the item's own indices."""

    item: str
    payload: dict[str, Any]
    key: str
    """The same key again is the same judgment."""
    order: Sequence[int] = ()
    """The order in which it saw the completions."""
    judge_template: str = ""
    judge_order: str = ""
    rationale: str = ""
    provenance: Provenance | None = None


@dataclass(frozen=True)
class SnapshotRow:
    """An immutable list of judgments, and the hash of it."""

    id: str
    name: str
    created: datetime
    training: bool
    count: int
    sha256: str


@dataclass(frozen=True)
class WorkRow:
    """What people did on a batch, and what it is worth at the programme's rates."""

    hours: float
    """Active time, of what was given back half done too."""
    judgments: int
    """That hold."""
    money: dict[str, float]
    """By currency, to the cent; empty where no rate is stated."""


@dataclass(frozen=True)
class FieldFeedback:
    """What an end user of an application did with an answer, as the application's server sends it."""

    id: str
    """The application's own, of this one event: sent again, it is the same."""
    kind: str
    """thumb, regeneration or edit."""
    user: str
    """A key of the end user that says nothing of them, always the same one; it is kept as a keyed hash."""
    consent: bool
    """Whether they agree that this is kept and trained on. Without it nothing is stored."""
    model: str
    """Which policy answered: its name and version."""
    messages: Sequence[Mapping[str, str]]
    """[{"role", "content"}], the conversation up to the answer."""
    answer: str
    """That the thumb is of, that was rejected, or that was corrected."""
    up: bool | None = None
    """Of a thumb."""
    new: str = ""
    """Of a regeneration: the answer that came in place of the first."""
    kept: bool | None = None
    """Of a regeneration: whether the user went on with the new one."""
    edited: str = ""
    """Of an edit: the text as the user made it."""
    comment: str = ""
    conversation: str = ""
    """The application's own id of the conversation: all of its events are in the sample, or none."""
    replaces: str = ""
    """Id of an earlier event of the same user that holds no longer, as of a thumb that was turned."""
    language: str = ""
    consent_text: str = ""
    """Version of the text that the user agreed to."""


@dataclass(frozen=True)
class FieldResult:
    """What became of an event."""

    id: str
    status: str
    """kept, sampled_out, capped, not_kept, replaced, no_consent, withdrawn, refused or conflict."""
    detail: str = ""
    """Of one that was refused: why."""
    field: str = ""


def json_of(value: Any) -> Any:
    """The JSON of one of these records (or of a list of them)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: json_of(getattr(value, f.name))
            for f in fields(value)
            if not (isinstance(value, NewCompletion) and f.name == "author")
        }
    if isinstance(value, Mapping):
        return {str(key): json_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_of(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def packed(value: Any) -> bytes:
    """The bytes of a record's JSON.

    Raises:
        HeedfulError: something in it is no JSON.
    """
    try:
        return json.dumps(json_of(value), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise HeedfulError(f"this cannot be sent as JSON: {error}.", where=type(value).__name__) from error


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return get_type_hints(cast(type, cls))


def read(cls: type[T], given: Any, where: str = "") -> T:
    """A record from JSON. Fields that it does not know are passed over: a newer studio may say more.

    Raises:
        HeedfulError: a field is missing or of another type, with its path.
    """
    if not isinstance(given, Mapping):
        raise HeedfulError("this is no JSON object.", where=where or "answer")
    hints = _hints(cast(Any, cls))
    known = [f for f in fields(cls) if f.name != "author"]  # type: ignore[arg-type]
    missing = [f.name for f in known if f.name not in given and _needed(f)]
    if missing:
        raise HeedfulError(f"{missing[0]} is missing.", where=_at(where, missing[0]))
    found = {f.name: _value(hints[f.name], given[f.name], _at(where, f.name)) for f in known if f.name in given}
    return cls(**found)


def _needed(one: Any) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value(hint: Any, given: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return given
    if origin in (Union, UnionType):
        if given is None and NoneType in args:
            return None
        return _value(next(a for a in args if a is not NoneType), given, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, given, where)
    if origin in (tuple, list, Sequence):
        _require(isinstance(given, list | tuple), "a list", given, where)
        return tuple(_value(args[0], one, f"{where}[{i}]") for i, one in enumerate(given))
    if origin in (dict, Mapping):
        _require(isinstance(given, Mapping), "an object", given, where)
        return {str(key): _value(args[1], one, _at(where, str(key))) for key, one in given.items()}
    if hint is datetime:
        try:
            return datetime.fromisoformat(given)
        except (TypeError, ValueError):
            _require(False, "a time in ISO 8601", given, where)
    fits = isinstance(given, hint) and not (hint is int and isinstance(given, bool))
    _require(fits, {str: "a text", int: "a whole number", bool: "true or false"}.get(hint, hint), given, where)
    return given


def _require(ok: bool, wanted: Any, given: Any, where: str) -> None:
    if not ok:
        shown = repr(given)
        raise HeedfulError(f"{shown if len(shown) < 60 else shown[:57] + '...'} is not {wanted}.", where=where)
