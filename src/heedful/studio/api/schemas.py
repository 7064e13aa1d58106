"""What the API takes and gives, typed and bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, JsonValue, create_model

from heedful.errors import HeedfulError
from heedful.feedback import wire
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.feedback.texts import LONGEST, clean_json


def _storable(value: Any) -> Any:
    """Refuse what a database cannot keep: NUL, half a surrogate pair, numbers that are no JSON."""
    try:
        clean_json(value, "value")
    except HeedfulError as error:
        raise ValueError(error.what) from error
    return value


Storable = AfterValidator(_storable)
Short = Annotated[str, Field(max_length=200), Storable]
Name = Annotated[str, Field(min_length=1, max_length=200), Storable]
Key = Annotated[str, Field(min_length=1, max_length=80), Storable]
Text = Annotated[str, Field(max_length=LONGEST), Storable]
Used = Annotated[str, Field(max_length=32_000), Storable]
"""Of an end user's: the patterns that take names out look through all of it."""
Free = Annotated[dict[str, JsonValue], Storable]
"""A JSON object of the sender's own."""
Id = Annotated[str, Field(max_length=36), Storable]
Round = Annotated[int, Field(ge=1, le=1_000_000)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Count = Annotated[int, Field(ge=1, le=100)]
Index = Annotated[int, Field(ge=0, lt=MAX_COMPLETIONS)]
Purpose = Literal["train", "check", "gold", "qualification", "calibration"]
Kind = Literal["pairwise", "ranking", "attributes", "demonstration", "edit", "dialogue"]
JudgedKind = Literal["pairwise", "ranking", "attributes", "demonstration", "edit", "dialogue", "thumb"]
RaterKind = Literal["person", "ai", "simulated", "end_user"]


class In(Schema):
    """What is sent: no field but the named ones."""

    model_config = ConfigDict(extra="forbid", strict=False)


class MessageIn(In):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class CompletionIn(In):
    """An answer to be judged, and where it came from. Raters never see its policy."""

    text: Text
    policy: Annotated[str, Field(max_length=300), Storable] = ""
    sampling: Free = Field(default_factory=dict)
    source: Free = Field(default_factory=dict)


class ItemIn(In):
    """A prompt, its completions, and what raters are asked to do with them."""

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=200)]
    completions: Annotated[list[CompletionIn], Field(max_length=MAX_COMPLETIONS)]
    kind: Kind
    language: Annotated[str, Field(max_length=12), Storable] = ""
    expertise: Annotated[str, Field(max_length=60), Storable] = ""
    categories: Annotated[list[Annotated[str, Field(max_length=60), Storable]], Field(max_length=20)] = Field(
        default_factory=list
    )
    named_raters: Annotated[list[Annotated[str, Field(max_length=36), Storable]], Field(max_length=100)] = Field(
        default_factory=list
    )
    priority: Priority = 0
    source: Free = Field(default_factory=dict)

    def plain(self) -> wire.NewItem:
        """As the store takes it."""
        given = {name: getattr(self, name) for name in self.__class__.model_fields}
        given["messages"] = [{"role": one.role, "content": one.content} for one in self.messages]
        given["completions"] = [wire.NewCompletion(one.text, one.policy, one.sampling, None, one.source)
                                for one in self.completions]  # fmt: skip
        return wire.NewItem(**given)


class ItemsIn(In):
    """Items for a batch: all are taken, or none. The same key again is the same push."""

    key: Key
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=1000)]


class BatchIn(In):
    """A new batch. The same key again gives the same batch."""

    key: Key
    name: Name
    purpose: Purpose = "train"
    round: Round = 1
    quota: Count = 1
    quota_cap: Count | None = None
    priority: Priority = 0
    deadline: datetime | None = None


class JudgeIn(In):
    """An agent that judges."""

    name: Annotated[str, Field(min_length=1, max_length=120), Storable]
    kind: Literal["ai", "simulated", "end_user"] = "ai"


class ReplyIn(In):
    """What an AI judge said, as it said it, and why it ended."""

    text: Text
    finish: Annotated[str, Field(max_length=40), Storable] = ""


class ProvenanceIn(In):
    """How an AI judge came to a judgment. Kept with it when it is first kept, and never changed."""

    model: Annotated[str, Field(max_length=300), Storable]
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    cost: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    prompt_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    completion_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    replies: Annotated[list[ReplyIn], Field(max_length=100)] = Field(default_factory=list)


class JudgmentIn(In):
    """What an agent says of an item, in the item's own indices. The same key again is the same judgment."""

    item: Id
    payload: Free
    key: Key
    order: Annotated[list[Index], Field(max_length=MAX_COMPLETIONS)] = Field(default_factory=list)
    judge_template: Annotated[str, Field(max_length=80), Storable] = ""
    judge_order: Annotated[str, Field(max_length=20), Storable] = ""
    rationale: Annotated[str, Field(max_length=20_000), Storable] = ""
    provenance: ProvenanceIn | None = None

    def plain(self) -> wire.NewJudgment:
        """As the store takes it."""
        given = dict(self)
        told = self.provenance
        if told is not None:
            replies = [{"text": one.text, "finish": one.finish} for one in told.replies]
            given["provenance"] = wire.Provenance(**{**dict(told), "replies": replies})
        return wire.NewJudgment(**given)


class JudgmentsIn(In):
    """Judgments of one agent: all are kept, or none."""

    judge: JudgeIn
    judgments: Annotated[list[JudgmentIn], Field(min_length=1, max_length=1000)]


class SnapshotIn(In):
    """Which judgments a training run reads, written down. The same key again gives the same snapshot."""

    key: Key
    name: Name
    batches: Annotated[list[Short], Field(max_length=1000)] = Field(default_factory=list)
    rounds: Annotated[list[Round], Field(max_length=1000)] = Field(default_factory=list)
    raters: Annotated[list[RaterKind], Field(max_length=4)] = Field(default_factory=list)


class UsedMessageIn(In):
    """One turn of an end user's conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Used


class EventIn(In):
    """What an end user did with an answer: a thumb (`up`), a regeneration (`new`, `kept`) or an edit (`edited`)."""

    id: Name
    kind: Literal["thumb", "regeneration", "edit"]
    user: Annotated[str, Field(min_length=1, max_length=500), Storable]
    consent: bool
    model: Annotated[str, Field(min_length=1, max_length=300), Storable]
    messages: Annotated[list[UsedMessageIn], Field(min_length=1, max_length=100)]
    answer: Used
    up: bool | None = None
    new: Used = ""
    kept: bool | None = None
    edited: Used = ""
    comment: Annotated[str, Field(max_length=20_000), Storable] = ""
    conversation: Short = ""
    replaces: Short = ""
    language: Annotated[str, Field(max_length=12), Storable] = ""
    consent_text: Short = ""

    def plain(self) -> wire.FieldFeedback:
        """As the store takes it."""
        given = {name: getattr(self, name) for name in self.__class__.model_fields}
        given["messages"] = [{"role": one.role, "content": one.content} for one in self.messages]
        return wire.FieldFeedback(**given)


class FeedbackIn(In):
    """Events of an application's end users."""

    events: Annotated[list[EventIn], Field(min_length=1, max_length=100)]


class WithdrawalIn(In):
    """Which end user no longer consents."""

    user: Annotated[str, Field(min_length=1, max_length=500), Storable]


class WithdrawalOut(Schema):
    """What was erased, in counts."""

    known: bool
    erased: dict[str, int]


class Problem(Schema):
    """One thing that was wrong."""

    detail: str
    field: str = ""


class Error(Schema):
    """What was wrong, where, and what to do about it."""

    detail: str
    field: str = ""
    line: int | None = None
    """The number of the item or judgment, from 1."""
    mend: str = ""
    problems: list[Problem] = Field(default_factory=list)
    """Every problem, where there are several."""


@cache
def out(cls: Any) -> type[Schema]:
    """The schema of one of `wire`'s records, field for field."""
    hints = get_type_hints(cls)
    made: dict[str, Any] = {}
    for one in fields(cls):
        default = ... if one.default is MISSING else one.default
        made[one.name] = (_shown(hints[one.name]), default)
    return cast(type[Schema], create_model(cls.__name__, __base__=Schema, __doc__=cls.__doc__, **made))


def _shown(hint: Any) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return out(hint)
    args = get_args(hint)
    if get_origin(hint) in (tuple, list, Sequence):
        return list[_shown(args[0])]  # type: ignore[misc]
    if get_origin(hint) is UnionType and any(is_dataclass(one) for one in args):
        return next(_shown(one) for one in args if is_dataclass(one)) | None
    return hint


class Health(Schema):
    """The studio answers, and so does its database."""

    status: Literal["ok"]
    version: str


class ProgrammeOut(Schema):
    """A programme that the token may speak to."""

    slug: str
    name: str
    scopes: list[str]


class Added(Schema):
    """How many items were added; a repeated push says the same again."""

    added: int


class Kept(Schema):
    """The judgments' ids, in the order in which they were sent."""

    judgments: list[str]


class Withdrawn(Schema):
    """Ids of judgments that nothing is to be learnt from any more."""

    judgments: list[str]


class FeedbackOut(Schema):
    """What became of each event, in the order sent."""

    results: list[out(wire.FieldResult)]  # type: ignore[valid-type]


class ItemsPage(Schema):
    """Items, and where the next page begins (empty at the end)."""

    items: list[out(wire.ItemRow)]  # type: ignore[valid-type]
    next: str


class JudgmentsPage(Schema):
    """Judgments, where the next page begins (empty at the end), and the `since` of the next pull."""

    judgments: list[out(wire.JudgmentRow)]  # type: ignore[valid-type]
    next: str
    resume: datetime
