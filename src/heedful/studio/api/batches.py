"""Programmes, batches and the items in them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import Field

from heedful.feedback import pulls, services, wire
from heedful.studio.api.auth import Token, programme_of
from heedful.studio.api.errors import answers
from heedful.studio.api.schemas import Added, BatchIn, ItemsIn, ItemsPage, ProgrammeOut, out

router = Router()
Most = Annotated[int, Query(wire.PAGE, ge=1, le=wire.PAGE)]
Cursor = Annotated[str, Field(max_length=40)]
BatchOut = out(wire.BatchStatus)
WorkOut = out(wire.WorkRow)
LIST = list[BatchOut]  # type: ignore[valid-type]
WRITE, STATUS = Token("prompts:write"), Token("status:read")
READ_ITEMS = Token("judgments:read", "judgments:write")


@router.get("/programmes", response=answers(list[ProgrammeOut]), auth=Token(), tags=["programmes"])
def programmes(request: HttpRequest) -> list[dict[str, Any]]:
    """The programmes that the token may speak to: its own, with what it may do there."""
    token: Any = request.auth  # type: ignore[attr-defined]
    return [{"slug": token.programme.slug, "name": token.programme.name, "scopes": token.scopes}]


@router.get("/programmes/{slug:slug}", response=answers(out(wire.Status)), auth=STATUS, tags=["programmes"])
def status(request: HttpRequest, slug: str) -> Any:
    """How far a programme and its batches are."""
    return wire.json_of(services.status(programme_of(request, slug)))


@router.get("/programmes/{slug:slug}/batches", response=answers(LIST), auth=STATUS, tags=["batches"])
def batches(request: HttpRequest, slug: str) -> Any:
    """Every batch, the oldest first."""
    return wire.json_of(services.batch_statuses(programme_of(request, slug)))


@router.post("/programmes/{slug:slug}/batches", response=answers(BatchOut), auth=WRITE, tags=["batches"])
def create_batch(request: HttpRequest, slug: str, body: BatchIn) -> Any:
    """Make a batch. It is staged: raters see nothing of it until it is opened."""
    given = {name: getattr(body, name) for name in BatchIn.model_fields if name != "key"}
    return wire.json_of(services.create_batch(programme_of(request, slug), wire.BatchSpec(**given), key=body.key))


@router.get("/programmes/{slug:slug}/batches/{uuid:batch}", response=answers(BatchOut), auth=STATUS, tags=["batches"])
def batch_status(request: HttpRequest, slug: str, batch: uuid.UUID) -> Any:
    """How far a batch is."""
    return wire.json_of(services.batch_status(services.batch_of(programme_of(request, slug), batch)))


@router.get(
    "/programmes/{slug:slug}/batches/{uuid:batch}/work", response=answers(WorkOut), auth=STATUS, tags=["batches"]
)
def batch_work(request: HttpRequest, slug: str, batch: uuid.UUID) -> Any:
    """People's hours on a batch, all of them together, and what they are worth at the programme's rates."""
    return wire.json_of(services.work(services.batch_of(programme_of(request, slug), batch)))


@router.post(
    "/programmes/{slug:slug}/batches/{uuid:batch}/open", response=answers(BatchOut), auth=WRITE, tags=["batches"]
)
def open_batch(request: HttpRequest, slug: str, batch: uuid.UUID) -> Any:
    """Hand a batch out. Opening an open one changes nothing."""
    found = services.batch_of(programme_of(request, slug), batch)
    return wire.json_of(services.open_batch(found, actor=_author(request)))


@router.post(
    "/programmes/{slug:slug}/batches/{uuid:batch}/pause", response=answers(BatchOut), auth=WRITE, tags=["batches"]
)
def pause_batch(request: HttpRequest, slug: str, batch: uuid.UUID) -> Any:
    """Hand out no more of a batch for now; what is being worked on may be finished."""
    found = services.batch_of(programme_of(request, slug), batch)
    return wire.json_of(services.pause_batch(found, actor=_author(request)))


@router.post("/programmes/{slug:slug}/batches/{uuid:batch}/items", response=answers(Added), auth=WRITE, tags=["items"])
def push_items(request: HttpRequest, slug: str, batch: uuid.UUID, body: ItemsIn) -> dict[str, int]:
    """Add items to a batch: all, or none. The same key again is the same push, and adds nothing."""
    found = services.batch_of(programme_of(request, slug), batch)
    return {"added": services.push(found, [item.plain() for item in body.items], key=body.key)}


@router.get(
    "/programmes/{slug:slug}/batches/{uuid:batch}/items", response=answers(ItemsPage), auth=READ_ITEMS, tags=["items"]
)
def items(request: HttpRequest, slug: str, batch: uuid.UUID, cursor: Cursor = "", limit: Most = wire.PAGE) -> Any:
    """A batch's items with their completions. Policies are told only to a token that reads judgments."""
    found = services.batch_of(programme_of(request, slug), batch)
    token: Any = request.auth  # type: ignore[attr-defined]
    rows, following = pulls.items_page(found, after=cursor, most=limit, policies="judgments:read" in token.scopes)
    return {"items": wire.json_of(rows), "next": following}


def _author(request: HttpRequest) -> Any:
    """Who made the token: what it does is done in their name."""
    return request.auth.author_id  # type: ignore[attr-defined]
