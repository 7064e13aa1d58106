"""What people judged, as files: for training, and whole."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.db import transaction

from heedful.errors import HeedfulError, Sentence, nearest
from heedful.feedback import events, raw_export, snapshots
from heedful.feedback.databases import steady
from heedful.feedback.export_consensus import Consensus, check_method, settle
from heedful.feedback.export_lineage import write_record
from heedful.feedback.export_rows import FORMATS, TIES, Options, Row, Tally, rows_of
from heedful.feedback.export_select import Selection, anchors, judged, selection
from heedful.feedback.export_votes import SHARE
from heedful.feedback.models import Item, Programme, Prompt, Purpose, Snapshot
from heedful.feedback.pseudonyms import Pseudonyms
from heedful.feedback.withdrawal import WITHDRAWN
from heedful.files import atomic_write, sha256_file

PROMPTS = "prompt-only"
RAW = "raw"
NAMES = (*FORMATS, PROMPTS, RAW)
"""Every format."""
HELD_BACK = Sentence("gold or check since the snapshot")
"""Why an item of a snapshot is left out."""
NAMED = 20
"""Items that a note names; the report has them all."""
_PREFERENCES = ("trl-preference", "heedful")
_OPTIONS = {
    "margin": _PREFERENCES,
    "consensus": _PREFERENCES,
    "attribute": (*_PREFERENCES, "ranking", "unpaired"),
    "best": ("sft",),
    "adjudicated": (*_PREFERENCES, "ranking", "unpaired", "sft"),
    "include_surplus": tuple(FORMATS),
    "raters": tuple(FORMATS),
    "batches": (*FORMATS, PROMPTS),
    "rounds": (*FORMATS, PROMPTS),
    "snapshot": (*FORMATS, PROMPTS),
}
"""Which formats each option says something to."""


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    format: str
    out: Path
    rows: int
    sha256: str
    items: int = 0
    judgments: int = 0
    raters: dict[str, int] = field(default_factory=dict)
    """Votes by kind of rater."""
    ties: int = 0
    ties_out: Path | None = None
    """The file beside that holds them."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why something gave no row, with counts."""
    snapshot: str = ""
    notes: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    """Ids of the snapshot's items that have become gold or check since: they are not in the file."""
    consensus: str = ""
    """How the probabilities of preferences were come by."""
    anchors: int = 0
    """Judgments of gold that the consensus rests on besides."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": self.format,
            "out": str(self.out),
            "rows": self.rows,
            "sha256": self.sha256,
            "items": self.items,
            "judgments": self.judgments,
            "raters": self.raters,
            "ties": self.ties,
            "ties_out": str(self.ties_out) if self.ties_out else None,
            "left_out": self.left_out,
            "held_back": list(self.held_back),
            "consensus": self.consensus,
            "anchors": self.anchors,
            "snapshot": self.snapshot,
            "notes": list(self.notes),
        }


def export(
    programme: Programme,
    format: str,
    out: Path | str,
    *,
    batches: Iterable[Any] | None = None,
    rounds: Iterable[int] | None = None,
    raters: Iterable[str] | None = None,
    snapshot: Snapshot | None = None,
    adjudicated: bool = False,
    include_surplus: bool = False,
    margin: str = "none",
    attribute: str = "",
    best: bool = False,
    consensus: str = SHARE,
    salt: bytes | None = None,
    record: bool = False,
    actor: Any = None,
) -> ExportReport:
    """Write a programme's judgments as JSON lines; whole or not at all.

    Only judgments for training enter a training format, ever: what a snapshot lists and has become gold or check
    since is left out, counted and named; what a rater said who was erased is left out and counted. Raters are
    pseudonyms that no two exports share; those of a snapshot are the snapshot's own, so that its exports are else the
    same bytes each time.

    Args:
        programme: whose.
        format: one of `NAMES`.
        out: ends with .jsonl or .jsonl.gz. Ties of trl-preference stand in a file beside, "NAME-ties.jsonl".
        batches: rows, ids or names; by default all.
        rounds: of the batches.
        raters: kinds of raters; by default all.
        snapshot: exactly its judgments.
        adjudicated: a verdict stands in place of an item's votes.
        include_surplus: judgments that came when their place was gone, too.
        margin: a name of `MARGINS`.
        attribute: compare answers by this attribute of the rubric, or by the "mean" of all.
        best: of sft: the preferred answers of comparisons too.
        consensus: of preferences: a name of `heedful.core.consensus.METHODS`. All but share and majority are models
            of the raters, fitted to the chosen judgments and to what the same raters said of the programme's gold.
        salt: key of the pseudonyms; by default fresh, or the snapshot's own.
        record: write beside the file which judgments it rests on (`heedful.feedback.export_lineage`); formats for
            training have one.
        actor: who asks, for the audit log.

    Raises:
        HeedfulError: an unknown format, an option that says nothing in it, nothing to export, a consensus that does not
            converge, or the file cannot be written.
    """
    out = Path(out)
    given = {
        "batches": batches, "rounds": rounds, "raters": raters, "snapshot": snapshot, "adjudicated": adjudicated,
        "include_surplus": include_surplus, "margin": margin if margin != "none" else "", "attribute": attribute,
        "best": best, "consensus": consensus if consensus != SHARE else "",
    }  # fmt: skip
    _check(format, out, given)
    check_method(consensus)
    options = Options(margin, attribute, best)
    if snapshot is not None and not snapshot.training:
        raise HeedfulError("this snapshot is not for training.", where="snapshot", mend="Make one that is.")
    chosen = selection(
        programme,
        batches=batches,
        rounds=rounds,
        raters=raters,
        include_surplus=include_surplus,
        adjudicated=adjudicated,
        snapshot=snapshot,
    )
    names = Pseudonyms(salt or (snapshots.salt_of(snapshot) if snapshot is not None else None))
    with steady():
        if format == RAW:
            report = _raw(programme, out, names)
        elif format == PROMPTS:
            report = _prompts(chosen, out)
        else:
            settled = _settled(chosen, names, consensus, attribute)
            report = _rows(chosen, format, replace(options, consensus=settled), names, out)
            report = _with_consensus(report, consensus, settled)
        report = _told(report, chosen.held_back())
        if format in FORMATS:
            report = _without(report, chosen.withdrawn())
            if record:
                write_record(report, chosen, names)
    with transaction.atomic():
        events.record(
            "export.made",
            programme=programme,
            actor=actor,
            digest=report.sha256,
            rows=report.rows,
            judgments=report.judgments,
            snapshot=snapshot,
            held_back=len(report.held_back),
            anchors=report.anchors,
            consensus=report.consensus or None,
        )
    return report


def _settled(chosen: Selection, names: Pseudonyms, method: str, attribute: str) -> Consensus | None:
    """A first look at what is exported, for a method that weighs raters by all of it."""
    if method == SHARE:
        return None
    return settle(judged(chosen, names), anchors(chosen, names), method, attribute)


def _with_consensus(report: ExportReport, method: str, settled: Consensus | None) -> ExportReport:
    if report.format not in _PREFERENCES:
        return report
    if settled is None:
        return replace(report, consensus=method)
    return replace(
        report, consensus=method, anchors=settled.gold, notes=(*report.notes, *(text for text in settled.caveats))
    )


def _told(report: ExportReport, held_back: Sequence[str]) -> ExportReport:
    """The report with the items that are in a snapshot, and no longer for training."""
    if not held_back:
        return report
    items = ", ".join(held_back[:NAMED])
    if len(held_back) > NAMED:
        items = Sentence("{items} and {more} more", items=items, more=len(held_back) - NAMED)
    note = Sentence("Gold or check since the snapshot was made, so not in this export: {items}.", items=items)
    return replace(
        report,
        left_out={**report.left_out, HELD_BACK: len(held_back)},
        held_back=tuple(held_back),
        notes=(*report.notes, note),
    )


def _without(report: ExportReport, withdrawn: int) -> ExportReport:
    """The report with the number of judgments that are not in the file since their rater was erased."""
    return replace(report, left_out={**report.left_out, WITHDRAWN: withdrawn}) if withdrawn else report


def _check(name: str, out: Path, given: dict[str, Any]) -> None:
    if name not in NAMES:
        hint = nearest(name, list(NAMES))
        raise HeedfulError(
            "there is no format {name!r}. {hint}",
            where="format",
            mend="{known}.",
            name=name,
            hint=hint,
            known=", ".join(NAMES),
        )
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise HeedfulError("exports are JSON lines.", where=str(out), mend="Let the name end with .jsonl or .jsonl.gz.")
    for option, value in given.items():
        if value and name not in _OPTIONS[option]:
            raise HeedfulError(
                "{option} says nothing in the format {name!r}.",
                where=option.replace("_", "-"),
                mend="Leave it away, or export {formats}.",
                option=option,
                name=name,
                formats=", ".join(_OPTIONS[option]),
            )
    if given["adjudicated"] and name == "sft" and not given["best"]:
        raise HeedfulError("verdicts tell which answer is best.", where="adjudicated", mend="Ask for best too.")


def line_of(row: Row) -> bytes:
    """A row as a line of JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")


@contextmanager
def written(out: Path) -> Iterator[Callable[[bytes], Any]]:
    """A file of lines that appears once it is whole, packed where its name ends with .gz; equal rows, equal bytes."""
    with atomic_write(out, "wb") as file:
        if not out.name.endswith(".gz"):
            yield file.write
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            yield packed.write


def _rows(chosen: Selection, name: str, options: Options, names: Pseudonyms, out: Path) -> ExportReport:
    tally = Tally()
    rows = 0
    ties: list[bytes] = []
    with written(out) as write:
        for item in judged(chosen, names):
            for file, row in rows_of(item, name, options, tally):
                if file == TIES:
                    ties.append(line_of(row))
                else:
                    write(line_of(row))
                    rows += 1
        if not rows and not ties:
            left_out = tally.left_out + Counter({HELD_BACK: len(chosen.held_back()), WITHDRAWN: chosen.withdrawn()})
            told = ", ".join(f"{count} {why}" for why, count in left_out.items())
            raise HeedfulError(
                "there is nothing to export ({told})." if told else "there is nothing to export.",
                where=name,
                mend="Only judgments for training are exported; see what is chosen.",
                told=told,
            )
    beside = _ties_path(out) if name == "trl-preference" else None
    if beside is not None and (ties or beside.exists()):
        with written(beside) as write:
            write(b"".join(ties))
    return ExportReport(
        name,
        out,
        rows,
        sha256_file(out),
        tally.items,
        tally.judgments,
        dict(tally.raters),
        len(ties),
        beside if ties else None,
        dict(tally.left_out),
        str(chosen.snapshot.pk) if chosen.snapshot else "",
    )


def _ties_path(out: Path) -> Path:
    ending = ".jsonl.gz" if out.name.endswith(".gz") else ".jsonl"
    return out.with_name(f"{out.name.removesuffix(ending)}-ties{ending}")


def _prompts(chosen: Selection, out: Path) -> ExportReport:
    seen: set[bytes] = set()
    keys: set[str] = set()
    left_out = 0
    prompts = Prompt.objects.filter(items__in=chosen.items()).order_by("pk").distinct()
    with written(out) as write:
        for prompt in prompts.iterator(chunk_size=500):
            line = line_of({"prompt": prompt.messages})
            digest = hashlib.sha256(line).digest()
            if not any(message["content"] for message in prompt.messages):
                left_out += 1
            elif digest not in seen:
                seen.add(digest)
                keys.add(prompt.key)
                write(line)
        if not seen:
            raise HeedfulError("there is nothing to export.", where=PROMPTS, mend="See which batches are chosen.")
    held = Item.objects.filter(programme=chosen.programme).exclude(purpose=Purpose.TRAIN)
    shared = len(keys & set(held.values_list("prompt__key", flat=True)))
    told = Sentence("{count} of these prompts are asked for checking or gold, too.", count=shared)
    notes = (told,) if shared else ()
    return ExportReport(
        PROMPTS, out, len(seen), sha256_file(out), left_out={"erased": left_out} if left_out else {}, notes=notes
    )


def _raw(programme: Programme, out: Path, names: Pseudonyms) -> ExportReport:
    with written(out) as write:
        rows = 0
        for row in raw_export.records(programme, names):
            write(line_of(row))
            rows += 1
    return ExportReport(RAW, out, rows - 1, sha256_file(out))
