"""What a round takes from the store besides judgments of its own pairs: end users' use, and what raters wrote.

Each is read once, as a snapshot of the store, before the round's prompts are given their uses.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.data.load import DataSpec, load_demonstrations, load_labelled, load_preferences
from heedful.data.records import Conversation, Demonstration, Labelled, Preference, prompt_key
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import SnapshotRow
from heedful.files import write_json
from heedful.pipeline.rounds.parts import Work
from heedful.pipeline.rounds.rows import Said, read_rows, write_prompts, write_rows
from heedful.pipeline.rounds.store import open_store, readable
from heedful.training.config.programme import Recipe

PAIRS, THUMBS, DEMONSTRATIONS, ASKED = "pairs.jsonl", "thumbs.jsonl", "demonstrations.jsonl", "prompts.jsonl"
JUDGMENTS = "judgments.jsonl"
"""Whose they are, one a line: what follows from one is found by it when it is withdrawn."""
KEY = ".snapshot-key.json"
END_USER, DEMONSTRATION = "end_user", "demonstration"
WRITTEN = ("demonstration", "edit")
"""Kinds of tasks in which raters write."""


def make_field(work: Work) -> dict[str, Any]:
    """What end users did: pairs of kept regenerations and edits, thumbs, and edits to be imitated."""
    recipe = work.step.recipe
    if recipe.field.use == "unpaired":
        require_single(recipe)
    client = open_store(recipe, work.programme, work.display)
    with readable(recipe):
        row = snapshot(work, client, "field", END_USER)
        thumbs: list[Labelled] = []
        pairs: list[Preference] = []
        imitated: list[Demonstration] = []
        if row is not None and recipe.field.use == "unpaired":
            thumbs = read(work, client, row, "unpaired", ("thumb",), load_labelled)
        if row is not None and recipe.field.use != "none":
            events = ("regeneration", *(("edit",) if recipe.field.edits == "pairs" else ()))
            pairs = read(work, client, row, "heedful", events, load_preferences)
        if row is not None and recipe.field.edits == "demonstrations":
            imitated = read(work, client, row, "sft", ("edit",), load_demonstrations)
        listed = list_judgments(work, client, row, END_USER, _taken(recipe))
    write_records(work.out / THUMBS, thumbs)
    write_records(work.out / PAIRS, pairs)
    write_records(work.out / DEMONSTRATIONS, imitated)
    judged: list[Preference | Labelled] = [*pairs, *thumbs]
    asked = {prompt_key(one.prompt): one.prompt for one in judged}
    write_prompts(work.out / ASKED, list(asked.values()))
    counts = Counter({"thumb": len(thumbs), "edit": len(imitated)})
    counts.update(str(dict(one.made)["event"]) for one in pairs)
    kinds = {event: counts[event] for event in ("thumb", "regeneration", "edit")}
    if not sum(kinds.values()):
        work.display.say(f"{work.step.name}: no end user has sent anything that this round takes.")
    return {"judgments": {END_USER: listed}, "figures": kinds, **_store(recipe, row)}


def _taken(recipe: Recipe) -> tuple[str, ...]:
    """Kinds of the store's judgments that a recipe takes of end users."""
    own = recipe.field
    pairs = ("pairwise",) if own.use != "none" else ()
    thumbs = ("thumb",) if own.use == "unpaired" else ()
    return (*pairs, *thumbs, *(("edit",) if own.use != "none" or own.edits == "demonstrations" else ()))


def make_written(work: Work) -> dict[str, Any]:
    """What raters wrote in the studio: demonstrations, and answers that they corrected."""
    recipe = work.step.recipe
    client = open_store(recipe, work.programme, work.display)
    with readable(recipe):
        row = snapshot(work, client, "written", "person")
        found = [] if row is None else read(work, client, row, "sft", (), load_demonstrations)
        listed = list_judgments(work, client, row, DEMONSTRATION, WRITTEN)
    if not found:
        work.display.say(f"{work.step.name}: no rater has written anything yet.")
    write_records(work.out / DEMONSTRATIONS, found)
    counts = {DEMONSTRATION: listed}
    return {"judgments": counts, "figures": {"demonstrations": len(found)}, **_store(recipe, row)}


def require_single(recipe: Recipe) -> None:
    """Refuse thumbs for a loss that compares two answers.

    Raises:
        HeedfulError: naming the losses on single answers.
    """
    from heedful.training.preference_losses import LOSSES, read_mixture

    if read_mixture(recipe.dpo.loss, recipe.dpo.loss_settings).paired:
        single = ", ".join(name for name, loss in LOSSES.items() if not loss.paired)
        raise HeedfulError(
            f"thumbs are of one answer each, and {recipe.dpo.loss} compares two.",
            where="field.use",
            mend=f"Set dpo.loss to one of {single}, or field.use to pairs.",
        )


def snapshot(work: Work, client: FeedbackClient, name: str, kind: str) -> SnapshotRow | None:
    """The judgments of a kind of rater as they hold now; None where there are none. The same one after a crash."""
    kept = work.out / KEY
    if not kept.exists():
        write_json(kept, uuid.uuid4().hex)
    key = json.loads(kept.read_text(encoding="utf-8"))
    slug = str(work.step.recipe.store.programme)
    try:
        return client.snapshot(slug, f"round {work.step.number}: {name}", key=key, raters=[kind])
    except HeedfulError as error:
        if error.where != "filters":  # it says so where nothing is to be listed
            raise
        return None


def read(
    work: Work, client: FeedbackClient, row: SnapshotRow, format: str, events: Sequence[str], load: Any
) -> list[Any]:
    """A snapshot's records in an export format, of some kinds of events; of none named, all."""
    path = work.out / f".{format}.jsonl"
    try:
        client.export(str(work.step.recipe.store.programme), format, path, snapshot=row.id)
    except HeedfulError as error:
        if error.where != format:  # it says so where nothing of the snapshot is in this format
            raise
        return []
    chosen = [line for line in _lines(path) if not events or line.get("made", {}).get("event") in events]
    path.unlink()
    if not chosen:
        return []
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in chosen), encoding="utf-8")
    found = list(load(DataSpec(str(path))).records)
    path.unlink()
    return found


def list_judgments(work: Work, client: FeedbackClient, row: SnapshotRow | None, kind: str, tasks: Sequence[str]) -> int:
    """Write down which judgments of a snapshot a stage rests on, and whose they are; gives how many.

    Args:
        kind: what lineage calls them.
        tasks: kinds of tasks; those of others are not read.
    """
    said: list[Said] = []
    if row is not None:
        slug = str(work.step.recipe.store.programme)
        found = client.judgments(slug, snapshot=row.id, history=True, surplus=True)
        said += [Said("", kind, one.rater, 0.0, one.id, one.guideline) for one in found if one.kind in tasks]
    write_rows(work.out / JUDGMENTS, (asdict(one) for one in said))
    return len(said)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    yield from read_rows(path)


def _store(recipe: Recipe, row: SnapshotRow | None) -> dict[str, Any]:
    """The manifest's entry that leads back to each judgment."""
    if row is None:
        return {}
    told = {"id": row.id, "sha256": row.sha256, "judgments": row.count}
    return {"store": {"programme": recipe.store.programme, "snapshot": told}}


# --- read back ---


def demonstrations_in(place: Path) -> list[Demonstration]:
    """The demonstrations of a stage of this module."""
    path = place / DEMONSTRATIONS
    return list(load_demonstrations(DataSpec(str(path))).records) if path.stat().st_size else []


def pairs_in(place: Path) -> list[Preference]:
    """The pairs of the stage `field`."""
    path = place / PAIRS
    return list(load_preferences(DataSpec(str(path))).records) if path.stat().st_size else []


def thumbs_in(place: Path) -> list[Labelled]:
    """The thumbs of the stage `field`."""
    path = place / THUMBS
    return list(load_labelled(DataSpec(str(path))).records) if path.stat().st_size else []


def within_share(records: Sequence[Any], others: int, share: float, order: Sequence[float]) -> list[Any]:
    """So many of the records, those of the lowest `order` first, that they are at most a share of all with the others.

    Args:
        records: from use.
        others: how many records stand beside them.
        share: above 0 and below 1.
        order: [len(records)] a number of each.
    """
    most = int(share / (1 - share) * others + 1e-9)
    if len(records) <= most:
        return list(records)
    chosen = set(sorted(range(len(records)), key=lambda index: order[index])[:most])
    return [one for index, one in enumerate(records) if index in chosen]


def admitted(records: Sequence[Any], prompts: Sequence[Conversation]) -> list[Any]:
    """The records whose prompts may be judged in this round: those that the stage `prompts` let through."""
    known = {prompt_key(one) for one in prompts}
    return [one for one in records if prompt_key(one.prompt) in known]
