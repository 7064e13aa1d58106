"""Judgments out and in, snapshots, exports."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router
from pydantic import Field

from heedful.feedback import clock, pulls, services, wire
from heedful.feedback.exports import NAMED
from heedful.feedback.exports import export as write_export
from heedful.studio.api.auth import Token, programme_of
from heedful.studio.api.batches import Cursor, Most
from heedful.studio.api.errors import answers
from heedful.studio.api.schemas import (
    JudgedKind,
    JudgmentsIn,
    JudgmentsPage,
    Kept,
    Purpose,
    RaterKind,
    Short,
    SnapshotIn,
    Withdrawn,
    out,
)

router = Router()
READ, WRITE = Token("judgments:read"), Token("judgments:write")
SnapshotOut = out(wire.SnapshotRow)
LIST = list[SnapshotOut]  # type: ignore[valid-type]
OVERLAP = timedelta(minutes=1)
CHUNK = 64 * 1024


@router.get("/programmes/{slug:slug}/judgments", response=answers(JudgmentsPage), auth=READ, tags=["judgments"])
def judgments(
    request: HttpRequest,
    slug: str,
    batch: uuid.UUID | None = None,
    purpose: Purpose = "train",
    kind: JudgedKind | None = None,
    since: datetime | None = None,
    history: bool = False,
    surplus: bool = False,
    snapshot: uuid.UUID | None = None,
    cursor: Cursor = "",
    limit: Most = wire.PAGE,
) -> Any:
    """Judgments in the order in which they were made; raters under pseudonyms that are this token's own.

    To follow a programme, give the `resume` of the last pull as `since` of the next. It lies a minute back, so
    that none is missed that was being written: tell rows by their ids. `history` gives corrected and withdrawn
    ones too, `surplus` those that came when their place was gone, `snapshot` those alone that it lists.
    """
    programme = programme_of(request, slug)
    wanted = pulls.Wanted(
        batch=str(batch or ""),
        purpose=purpose,
        kind=kind or "",
        since=since,
        history=history,
        surplus=surplus,
        snapshot=str(snapshot or ""),
    )
    resume = clock.now() - OVERLAP
    names = pulls.pseudonyms(request.auth.token_hash)  # type: ignore[attr-defined]
    rows, following = pulls.judgments_page(programme, wanted, after=cursor, most=limit, names=names)
    return {"judgments": wire.json_of(rows), "next": following, "resume": resume}


@router.get("/programmes/{slug:slug}/judgments/withdrawn", response=answers(Withdrawn), auth=READ, tags=["judgments"])
def withdrawn(request: HttpRequest, slug: str) -> dict[str, list[str]]:
    """Ids of the judgments that nothing is to be learnt from any more, since their raters were erased."""
    return {"judgments": sorted(services.withdrawn(programme_of(request, slug)))}


@router.post("/programmes/{slug:slug}/judgments", response=answers(Kept), auth=WRITE, tags=["judgments"])
def record(request: HttpRequest, slug: str, body: JudgmentsIn) -> dict[str, list[str]]:
    """Keep judgments of an AI judge, a simulated rater or an end user: all, or none."""
    programme = programme_of(request, slug)
    judge = wire.Judge(body.judge.name, body.judge.kind)
    return {"judgments": services.record(programme, judge, [one.plain() for one in body.judgments])}


@router.get("/programmes/{slug:slug}/snapshots", response=answers(LIST), auth=READ, tags=["snapshots"])
def list_snapshots(request: HttpRequest, slug: str) -> Any:
    """Every snapshot, the oldest first."""
    rows = programme_of(request, slug).snapshots.order_by("pk")
    return wire.json_of([services.snapshot_row(row) for row in rows])


@router.post("/programmes/{slug:slug}/snapshots", response=answers(SnapshotOut), auth=READ, tags=["snapshots"])
def create_snapshot(request: HttpRequest, slug: str, body: SnapshotIn) -> Any:
    """Write down which judgments hold now: an immutable list for a training run."""
    programme = programme_of(request, slug)
    row = services.snapshot(
        programme,
        body.name,
        key=body.key,
        batches=body.batches,
        rounds=body.rounds,
        raters=body.raters,
        author=request.auth.author,  # type: ignore[attr-defined]
    )
    return wire.json_of(row)


@router.get(
    "/programmes/{slug:slug}/snapshots/{uuid:snapshot}", response=answers(SnapshotOut), auth=READ, tags=["snapshots"]
)
def get_snapshot(request: HttpRequest, slug: str, snapshot: uuid.UUID) -> Any:
    """One snapshot."""
    return wire.json_of(services.snapshot_row(services.snapshot_of(programme_of(request, slug), snapshot)))


Format = Literal["trl-preference", "heedful", "ranking", "unpaired", "sft", "prompt-only", "raw"]


@router.get(
    "/programmes/{slug:slug}/export",
    auth=READ,
    tags=["judgments"],
    response=answers(None),
    openapi_extra={"responses": {200: {"description": "JSON lines", "content": {"application/jsonl": {}}}}},
)
def export(
    request: HttpRequest,
    slug: str,
    format: Format,
    batch: Annotated[list[Short], Query([], max_length=1000)],
    round: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Query([], max_length=1000)],
    rater: Annotated[list[RaterKind], Query([], max_length=4)],
    snapshot: Short = "",
    adjudicated: bool = False,
    include_surplus: bool = False,
    margin: Literal["none", "strength", "scaled"] = "none",
    attribute: Annotated[str, Field(max_length=80)] = "",
    best: bool = False,
    consensus: Literal["share", "majority", "weighted", "dawid-skene", "mace", "rater-aware"] = "share",
) -> StreamingHttpResponse:
    """Judgments as JSON lines, as `heedful export` writes them.

    Ties of trl-preference, which cannot say them, are left out and counted in the header Heedful-Ties; the format
    heedful has them. Items of a snapshot that have become gold or check since are left out, counted in the header
    Heedful-Held-Back; Heedful-Held-Back-Items names the first of them.
    """
    programme = programme_of(request, slug)
    chosen = services.snapshot_of(programme, snapshot) if snapshot else None
    folder = tempfile.TemporaryDirectory(prefix="heedful-export-")
    try:
        report = write_export(
            programme,
            format,
            Path(folder.name) / "export.jsonl",
            batches=batch or None,
            rounds=round or None,
            raters=rater or None,
            snapshot=chosen,
            adjudicated=adjudicated,
            include_surplus=include_surplus,
            margin=margin,
            attribute=attribute,
            best=best,
            consensus=consensus,
            actor=request.auth.author_id,  # type: ignore[attr-defined]
        )
    except BaseException:
        folder.cleanup()
        raise
    response = StreamingHttpResponse(_pieces(report.out, folder), content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{slug}-{format}.jsonl"'
    response["Content-Length"] = str(report.out.stat().st_size)
    response["Heedful-Rows"], response["Heedful-Ties"] = str(report.rows), str(report.ties)
    response["Heedful-Sha256"] = report.sha256
    if report.held_back:
        response["Heedful-Held-Back"] = str(len(report.held_back))
        response["Heedful-Held-Back-Items"] = ", ".join(report.held_back[:NAMED])
    return response


def _pieces(path: Path, folder: tempfile.TemporaryDirectory[str]) -> Iterator[bytes]:
    with folder, open(path, "rb") as file:
        while piece := file.read(CHUNK):
            yield piece
