"""Records out of any source: read, recognise the format, convert, and deal with what cannot be learnt from."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from heedful.data.findings import Findings, OnBadRow
from heedful.data.formats import Format, Kind, Row, detect, format_named, renaming
from heedful.data.held import row_sha256
from heedful.data.read import read_rows
from heedful.data.records import (
    Conversation,
    Demonstration,
    Labelled,
    Message,
    Origin,
    Preference,
    Prompt,
    Ranking,
    Record,
)
from heedful.data.turns import BROKEN_TEXT, EMPTY_ANSWER, EMPTY_PROMPT, EQUAL_ANSWERS, USER_LAST, BadContentError
from heedful.errors import HeedfulError
from heedful.files import sha256_file, sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RecordT = TypeVar("RecordT", bound=Record)
ValueT = TypeVar("ValueT")

_FIRST_ROWS = 50
_NO_CLEAR_WINNER = "tie, so no answer to imitate"
_THUMB_DOWN = "marked as bad, so nothing to imitate"


@dataclass(frozen=True)
class DataSpec:
    """Which data, and how to read it.

    `path` is a file, a folder or a hub id; `format` a name of `heedful.data.formats.FORMATS` or "auto";
    `split` belongs to hub ids and folders; `limit` is the most records to keep, the first ones.
    """

    path: str
    format: str = "auto"
    split: str | None = None
    on_bad_row: OnBadRow = "skip"
    limit: int | None = None


@dataclass(frozen=True)
class Loaded(Generic[RecordT]):
    """Records with what was found on the way.

    `format` is the format's name and `sentence` what to tell the user about it; `sha256` is the file's own
    hash, or that of all rows where the source is no single file.
    """

    records: list[RecordT]
    source: str
    format: str
    sentence: str
    findings: Findings
    sha256: str

    def describe(self) -> dict[str, Any]:
        """For a manifest: the source, its format and hash, the records read, the findings; of preferences how many
        come from each consensus ("" where the file does not say) and how many from so many raters."""
        labels = {}
        preferences = [record for record in self.records if isinstance(record, Preference)]
        if preferences:
            methods, votes = (Counter(getattr(one, name) for one in preferences) for name in ("consensus", "votes"))
            labels["consensus"] = dict(sorted(methods.items()))
            labels["votes"] = {str(count): votes[count] for count in sorted(votes)}
        return {
            "source": self.source,
            "format": self.format,
            "sha256": self.sha256,
            "records": len(self.records),
            **labels,
            "findings": self.findings.as_dict(),
        }

    def summary(self) -> str:
        """For the terminal: what was recognised, how many records, and each finding with its lines."""
        return f"{self.sentence} {len(self.records)} records; {self.findings.summary()}."


def load_prompts(spec: DataSpec) -> Loaded[Prompt]:
    """Prompts out of any format: what a demonstration, a preference or a label answers counts too.

    Raises:
        HeedfulError: nothing there, malformed rows, no usable rows, or a bad row under "error".
    """
    return _load(spec, _prompts, {"preferences", "demonstrations", "labelled", "prompts"}, "prompts")


def by_prompt(source: str, read: Callable[[Row, str], ValueT], what: str) -> dict[Conversation, ValueT]:
    """What each row of a source says of its prompt.

    Args:
        source: as `DataSpec.path`.
        read: row, and where it stood -> what it says.
        what: that in a word, for messages.

    Raises:
        HeedfulError: as `load_prompts`, what `read` raises, or two rows of one prompt that say different things.
    """
    rows = {str(origin): row for origin, row in read_rows(source)}
    found: dict[Conversation, ValueT] = {}
    for record in load_prompts(DataSpec(source)).records:
        where = str(record.origin)
        value = read(rows[where], where)
        if found.setdefault(record.prompt, value) != value:
            raise HeedfulError(
                f"this prompt has other {what} in an earlier row.", where=where, mend="Join or drop one."
            )
    return found


def load_demonstrations(spec: DataSpec) -> Loaded[Demonstration]:
    """Demonstrations; of preferences the preferred answers, of unpaired feedback those marked as good.

    Raises:
        HeedfulError: as `load_prompts`, or the format holds no answers.
    """
    return _load(spec, _demonstrations, {"preferences", "demonstrations", "labelled"}, "demonstrations")


def load_preferences(spec: DataSpec) -> Loaded[Preference]:
    """Preferences, ties included.

    Raises:
        HeedfulError: as `load_prompts`, or the format compares nothing.
    """
    return _load(spec, _preferences, {"preferences"}, "preferences")


def load_rankings(spec: DataSpec) -> Loaded[Ranking]:
    """Rankings of several answers, ties included. An empty answer, or one that was there before, leaves its ranking.

    Raises:
        HeedfulError: as `load_prompts`, or the format ranks nothing.
    """
    return _load(spec, _rankings, {"preferences"}, "rankings", _ranking)


def load_labelled(spec: DataSpec) -> Loaded[Labelled]:
    """Unpaired feedback; of a preference the better answer counts as good and the other as bad.

    Raises:
        HeedfulError: as `load_prompts`, or the format judges nothing.
    """
    return _load(spec, _labelled, {"preferences", "labelled"}, "labelled answers")


def _load(
    spec: DataSpec,
    wanted: Callable[[list[Record], Origin, Findings, OnBadRow], Iterator[RecordT]],
    kinds: set[Kind],
    name: str,
    convert: Callable[[Format], Callable[[Row, Origin], list[Record]] | None] = lambda known: known.convert,
) -> Loaded[RecordT]:
    rows = read_rows(spec.path, split=spec.split)
    first = list(itertools.islice(rows, _FIRST_ROWS))
    if not first:
        raise HeedfulError("there are no rows at all.", where=spec.path, mend="Check that it is the right file.")
    known, sentence = _format(spec, first)
    read = convert(known)
    if known.kind not in kinds or read is None:
        misspelt = "" if known.kind in kinds else renaming(first[0][1], kinds)
        raise HeedfulError(
            f"this needs {name}, and the format {known.name!r} holds {known.kind} ({known.says}).",
            where=spec.path,
            mend=misspelt or "Give another file; docs/data-formats.md says which formats hold what.",
        )
    records: list[RecordT] = []
    findings = Findings()
    path = Path(spec.path).expanduser()
    hashed: list[str] | None = None if path.is_file() else []
    for origin, row in itertools.chain(first, rows):
        findings.rows += 1
        if hashed is not None:
            hashed.append(row_sha256(row))
        try:
            known.check_keys(row, origin)
            found = read(row, origin)
            records += wanted(found, origin, findings, spec.on_bad_row)
        except BadContentError as bad:
            findings.meet(bad.kind, origin, spec.on_bad_row)
        if spec.limit is not None and len(records) >= spec.limit:
            del records[spec.limit :]
            break
    if not records:
        raise HeedfulError(
            f"no usable rows ({findings.summary()}).", where=spec.path, mend="Look at it with `heedful inspect`."
        )
    digest = sha256_file(path) if hashed is None else sha256_json(hashed)
    return Loaded(records, spec.path, known.name, sentence, findings, digest)


def _format(spec: DataSpec, first: list[tuple[Origin, Row]]) -> tuple[Format, str]:
    if spec.format == "auto":
        detection = detect(first)
        return detection.format, detection.sentence
    known = format_named(spec.format)
    return known, f"{spec.path}: {known.says} (format {known.name!r}, as told)."


def _broken(*texts: str) -> bool:
    """Whether a text holds half a character, which no tokenizer and no file can take."""
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return True
    return False


def _flaw(prompt: Conversation, answers: Sequence[str]) -> str | None:
    """What is wrong with a record's content, if anything."""
    if not any(turn.content.strip() for turn in prompt if turn.role != "system"):
        return EMPTY_PROMPT
    if not all(answer.strip() for answer in answers):
        return EMPTY_ANSWER
    if len(answers) == 2 and answers[0].strip() == answers[1].strip():
        return EQUAL_ANSWERS
    if _broken(*(turn.content for turn in prompt), *answers):
        return BROKEN_TEXT
    return None


def _prompts(found: list[Record], origin: Origin, findings: Findings, on_bad_row: OnBadRow) -> Iterator[Prompt]:
    for prompt in dict.fromkeys(record.prompt for record in found):
        flaw = _flaw(prompt, ())
        if flaw:
            findings.meet(flaw, origin, on_bad_row)
        else:
            yield Prompt(prompt, origin)


def _ranked(found: list[Record]) -> list[tuple[str, float]]:
    """A row's answers with their shares of wins, the best first."""
    wins: dict[str, float] = {}
    for record in found:
        if isinstance(record, Preference):
            wins[record.a] = wins.get(record.a, 0.0) + record.probability
            wins[record.b] = wins.get(record.b, 0.0) + 1.0 - record.probability
    return sorted(wins.items(), key=lambda pair: -pair[1])


def _demonstrations(
    found: list[Record], origin: Origin, findings: Findings, on_bad_row: OnBadRow
) -> Iterator[Demonstration]:
    first = found[0]
    if isinstance(first, Preference):
        ranked = _ranked(found)
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            findings.add(_NO_CLEAR_WINNER, origin, "left out")
            return
        first = Demonstration(first.prompt, ranked[0][0], origin)
    if isinstance(first, Prompt):
        yield from _without_last_turn(first, findings, on_bad_row)
        return
    assert not isinstance(first, Ranking)  # every format with rankings gives its pairs here
    if isinstance(first, Labelled) and not first.label:
        findings.add(_THUMB_DOWN, origin, "left out")
        return
    flaw = _flaw(first.prompt, (first.completion,))
    if flaw:
        findings.meet(flaw, origin, on_bad_row)
    else:
        yield Demonstration(first.prompt, first.completion, origin)


def _without_last_turn(record: Prompt, findings: Findings, on_bad_row: OnBadRow) -> Iterator[Demonstration]:
    """A conversation that ends with the user: under "truncate" it ends with its last answer instead."""
    answers = [index for index, turn in enumerate(record.prompt) if turn.role == "assistant"]
    cut = on_bad_row == "truncate" and bool(answers)
    findings.meet(USER_LAST, record.origin, on_bad_row, cut=cut)
    if cut:
        yield Demonstration(record.prompt[: answers[-1]], record.prompt[answers[-1]].content, record.origin)


def _preferences(found: list[Record], origin: Origin, findings: Findings, on_bad_row: OnBadRow) -> Iterator[Preference]:
    for record in found:
        assert isinstance(record, Preference)
        flaw = _flaw(record.prompt, (record.a, record.b))
        if flaw:
            findings.meet(flaw, origin, on_bad_row)
        else:
            yield record


def _ranking(known: Format) -> Callable[[Row, Origin], list[Record]] | None:
    """How a format's rows become rankings, if they do."""
    read = known.ranking
    return None if read is None else lambda row, origin: [read(row, origin)]


def _rankings(found: list[Record], origin: Origin, findings: Findings, on_bad_row: OnBadRow) -> Iterator[Ranking]:
    for record in found:
        assert isinstance(record, Ranking)
        kept: list[int] = []
        seen: set[str] = set()
        flaws: dict[str, None] = {}
        for index, text in enumerate(record.completions):
            flaw = _flaw(record.prompt, (text,)) or (EQUAL_ANSWERS if text.strip() in seen else None)
            seen.add(text.strip())
            if flaw:
                flaws[flaw] = None
            else:
                kept.append(index)
        for flaw in flaws:
            findings.meet(flaw, origin, on_bad_row)
        if len(kept) > 1:
            yield _only(record, kept)


def _only(record: Ranking, kept: Sequence[int]) -> Ranking:
    """A ranking of some of its answers."""
    if len(kept) == len(record.completions):
        return record
    return dataclasses.replace(
        record,
        completions=tuple(record.completions[i] for i in kept),
        ranks=tuple(record.ranks[i] for i in kept),
        attributes=tuple((name, tuple(values[i] for i in kept)) for name, values in record.attributes),
    )


def _labelled(found: list[Record], origin: Origin, findings: Findings, on_bad_row: OnBadRow) -> Iterator[Labelled]:
    first = found[0]
    judged: list[Labelled] = [record for record in found if isinstance(record, Labelled)]
    if isinstance(first, Preference):
        ranked = _ranked(found)
        if len(ranked) > 1 and ranked[0][1] == ranked[-1][1]:
            findings.add(_NO_CLEAR_WINNER, origin, "left out")
            return
        judged = [Labelled(first.prompt, ranked[i][0], i == 0, origin) for i in (0, -1)]
    answers = [record.completion for record in judged]
    flaw = _flaw(judged[0].prompt, answers)
    if flaw:
        findings.meet(flaw, origin, on_bad_row)
    else:
        yield from judged


def fit(
    records: Sequence[RecordT],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    on_bad_row: OnBadRow,
    findings: Findings,
) -> list[RecordT]:
    """The records that fit a window of `max_length` tokens, end-of-turn token included.

    Under "truncate", a record too long first loses its oldest turns (never the system message, nor the
    last turn); what is still too long then keeps its prompt and has its answer cut by
    `render_completion(max_length=...)`. A prompt that alone fills the window is skipped. So is a
    conversation that the chat template refuses. Both sides of a preference must fit.

    Raises:
        HeedfulError: a record does not fit and `on_bad_row` is "error".
    """
    kept = []
    for record in records:
        try:
            fitted, kind, cut = _fitted(record, tokenizer, max_length, on_bad_row == "truncate")
        except HeedfulError as error:
            if on_bad_row == "error":
                raise HeedfulError(error.what, where=str(record.origin), mend=error.mend) from error
            findings.add("refused by the chat template", record.origin, "skipped")
            continue
        if kind:
            findings.meet(kind, record.origin, on_bad_row, cut=cut)
        if fitted is not None:
            kept.append(fitted)
    return kept


def _answers(record: Record) -> tuple[str, ...]:
    if isinstance(record, Preference):
        return record.a, record.b
    if isinstance(record, Ranking):
        return record.completions
    return () if isinstance(record, Prompt) else (record.completion,)


def _fitted(
    record: RecordT, tokenizer: PreTrainedTokenizerBase, window: int, truncate: bool
) -> tuple[RecordT | None, str, bool]:
    """(the record as it fits or None, the finding or "", whether it was cut)."""
    longest, prompt = _lengths(record, tokenizer)
    if longest <= window:
        return record, "", False
    if not truncate:
        return None, "over the window", False
    for shorter in _shorter(record.prompt):
        record = cast("RecordT", dataclasses.replace(record, prompt=shorter))
        longest, prompt = _lengths(record, tokenizer)
        if longest <= window:
            return record, "over the window", True
    if prompt < window and not isinstance(record, Prompt):
        return record, "over the window", True
    return None, "over the window", False


def _lengths(record: Record, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Tokens of the record's longest side, and of its prompt."""
    from heedful.data.chat import render_completion, render_prompt

    prompt = len(render_prompt(tokenizer, record.prompt))
    sides = [len(render_completion(tokenizer, record.prompt, text).tokens) for text in _answers(record)]
    return max(sides, default=prompt), prompt


def _shorter(prompt: Conversation) -> Iterator[Conversation]:
    """The prompt without its oldest exchange, without its two oldest, and so on down to the last turn."""
    system: tuple[Message, ...] = prompt[:1] if prompt and prompt[0].role == "system" else ()
    turns = prompt[len(system) :]
    for index in range(1, len(turns)):
        if turns[index].role == "user":
            yield system + turns[index:]


def load(spec: DataSpec, kind: Kind | Literal["auto"] = "auto") -> Loaded[Any]:
    """Records of a kind by its name; "auto" takes the kind that the format holds.

    Raises:
        HeedfulError: as the loader of that kind.
    """
    loaders: dict[Kind, Callable[[DataSpec], Loaded[Any]]] = {
        "prompts": load_prompts,
        "demonstrations": load_demonstrations,
        "preferences": load_preferences,
        "labelled": load_labelled,
    }
    return loaders[kind_of(spec) if kind == "auto" else kind](spec)


def kind_of(spec: DataSpec) -> Kind:
    """What the records of a source are, by its format; of an empty one, prompts.

    Raises:
        HeedfulError: nothing there, or malformed rows.
    """
    first = list(itertools.islice(read_rows(spec.path, split=spec.split), _FIRST_ROWS))
    return _format(spec, first)[0].kind if first else "prompts"
