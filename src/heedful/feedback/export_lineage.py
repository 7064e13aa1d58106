"""The record beside an exported file: which judgments it rests on, whose, under which guideline, of which snapshot.

Raters are listed apart from the judgments: pseudonyms of two exports cannot be joined through the judgments that they
share. Needs no Django to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.files import sha256_file, sha256_json, write_json

if TYPE_CHECKING:
    from heedful.feedback.export_select import Selection
    from heedful.feedback.exports import ExportReport
    from heedful.feedback.pseudonyms import Pseudonyms

ENDING = ".lineage.json"
EXPORTED = ("trl-preference", "heedful", "ranking", "unpaired", "sft")
"""Formats whose files have a record: those for training."""


def beside(out: Path) -> Path:
    """Where the record of a file stands."""
    return out.with_name(f"{out.name}{ENDING}")


def kind_of(rater_kind: str) -> str:
    """A kind of rater as lineage says it: a person's judgments are human ones."""
    return "human" if rater_kind == "person" else rater_kind


def write_thin_record(out: Path, programme: str, studio: str, format: str, rows: int, snapshot: str) -> Path:
    """Write the record of a file that came from a studio elsewhere, whose store has the judgments; gives its path."""
    made = {"kind": "export", "file": out.name, "sha256": sha256_file(out), "format": format, "rows": rows}
    path = beside(out)
    write_json(
        path, {**made, "programme": programme, "studio": studio, "snapshot": {"id": snapshot} if snapshot else None}
    )
    return path


def write_record(report: ExportReport, chosen: Selection, names: Pseudonyms) -> Path:
    """Write the record of an export beside its file; gives its path."""
    from heedful.feedback.models import Guideline, Rater

    said = list(chosen.judgments().order_by("pk").values_list("pk", "rater_id", "rater__kind", "guideline__version"))
    counts: dict[Any, int] = {}
    for _, rater, _, _ in said:
        counts[rater] = counts.get(rater, 0) + 1
    kinds = dict(Rater.objects.filter(pk__in=counts).values_list("pk", "kind"))
    agents = dict(Rater.objects.filter(pk__in=counts).exclude(kind="person").values_list("pk", "name"))
    raters = [
        {"rater": agents.get(key) or str(names.of(key)), "kind": kind_of(kinds[key]), "judgments": count}
        for key, count in counts.items()
    ]
    versions = {version for _, _, _, version in said}
    guidelines = Guideline.objects.filter(programme=chosen.programme, version__in=versions).order_by("version")
    snapshot = chosen.snapshot
    path = beside(report.out)
    write_json(
        path,
        {
            "kind": "export",
            "file": report.out.name,
            "sha256": report.sha256,
            "format": report.format,
            "rows": report.rows,
            "consensus": report.consensus,
            "programme": chosen.programme.slug,
            "snapshot": None
            if snapshot is None
            else {"id": str(snapshot.pk), "sha256": snapshot.sha256, "judgments": snapshot.count},
            "guidelines": [
                {"version": one.version, "sha256": sha256_json([one.markdown, one.translations, one.attributes])}
                for one in guidelines
            ],
            "raters": sorted(raters, key=lambda row: (-int(row["judgments"]), str(row["rater"]))),
            "judgments": [[str(key), kind_of(kind), version] for key, _, kind, version in said],
        },
    )
    return path
