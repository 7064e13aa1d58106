"""Fill a studio's database for a trial under load, and say afterwards what is wrong with it.

    python benchmarks/studio_store.py prepare --folder F --database URL   < {"raters": 8, "items": 30, "quota": 2, ...}
    python benchmarks/studio_store.py check --folder F --database URL     < {"slug": ..., "kept": [...], ...}

Both read JSON and print JSON. `studio_process.store` calls them, so that the trial's own process serves nobody else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LAG = 2.0
"""Seconds that a transaction may take from telling of a freed slot to its commit."""


def configure(folder: Path, database: str) -> None:
    from heedful.studio.setup import configure as studio_settings

    studio_settings(database, folder)


def prepare(given: dict[str, Any]) -> dict[str, Any]:
    """A programme with an open batch and raters who are logged in."""
    from django.test import Client

    from heedful.feedback import content, programmes
    from heedful.feedback.models import Account, Role

    number = Account.objects.count()
    lead = Account.objects.create(username=f"lead-{number}")
    of = programmes.create_programme(f"load {number}", account=lead)
    quota = given["quota"]
    batch = content.create_batch(of, "load", quota=quota, quota_cap=quota + 1)
    content.add_items(batch, (_item(i) for i in range(given["items"])))
    content.open_batch(batch, actor=lead)
    raters = []
    for i in range(given["raters"]):
        own = Account.objects.create(username=f"rater-{number}-{i}")
        programmes.add_member(of, own, Role.RATER, actor=lead)
        browser = Client()
        browser.force_login(own, backend="django.contrib.auth.backends.ModelBackend")
        rater = programmes.rater_of(own, of)
        assert rater is not None
        raters.append({"id": str(rater.pk), "cookie": browser.cookies["heedful"].value})
    return {"slug": of.slug, "raters": raters}


def _item(number: int) -> Any:
    from heedful.feedback import content

    ask = [{"role": "user", "content": f"Question {number}: what is a good way to keep *bread* fresh?"}]
    answers = [
        "Keep it in a **paper bag** at room temperature.\n\n1. Not in the fridge.\n2. Freeze what you cannot eat.",
        "Put it in the fridge. `Bread` stays fresh there for weeks, people say; toast it before you eat it.",
    ]
    return content.NewItem(ask, [content.NewCompletion(text) for text in answers], "pairwise")


def check(given: dict[str, Any]) -> dict[str, Any]:
    """What is wrong after a trial.

    Args:
        given: `slug`; `kept`: [rater, key, assignment] of each submission that was acknowledged; `sent`: the same of
            each that was sent, answered or not; `none`: [rater, sent, received] of each "no work"; `finished`:
            whether everybody was asked again at the end, and had no work.
    """
    from heedful.feedback.models import CurrentJudgment, Judgment, Programme
    from heedful.feedback.replay import difference, replay

    of = Programme.objects.get(slug=given["slug"])
    problems = [*_integrity(), *_kept(of, given["kept"], given["sent"]), *_counted(of)]
    problems += difference(replay(of))
    problems += _false_none(of, given.get("none", []))
    if given.get("finished"):
        problems += _left(of)
    return {
        "problems": problems,
        "judgments": Judgment.objects.filter(programme=of).count(),
        "counted": CurrentJudgment.objects.filter(item__programme=of, slot__isnull=False).count(),
    }


def _integrity() -> Iterator[str]:
    from django.db import connection

    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        for pragma, sound in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
            cursor.execute(f"PRAGMA {pragma}")
            found = cursor.fetchall()
            if found != sound:
                yield f"{pragma}: {found[:3]}"


def _kept(of: Any, kept: list[list[str]], sent: list[list[str]]) -> Iterator[str]:
    """Every acknowledged submission is there once, and nothing that nobody sent."""
    from heedful.feedback.models import Judgment

    rows = Judgment.objects.filter(programme=of).values_list("rater_id", "idempotency_key", "assignment_id")
    there = Counter((str(rater), key, str(assignment)) for rater, key, assignment in rows)
    said = {tuple(one) for one in sent}
    for one in {tuple(one) for one in kept}:
        if there[one] != 1:
            yield f"acknowledged, and there {there[one]} times: {one}"
    for one, count in there.items():
        if one not in said:
            yield f"nobody sent {one}"
        if count > 1:
            yield f"{count} rows of one submission: {one}"
    assignments = Counter(assignment for _, _, assignment in there.elements())
    yield from (f"{count} judgments of assignment {one}" for one, count in assignments.items() if count > 1)


def _counted(of: Any) -> Iterator[str]:
    """No item has more counted judgments than its quota, and one more only where its raters disagree."""
    from heedful.feedback.models import CurrentJudgment, Item
    from heedful.feedback.verdicts import disagree

    payloads = defaultdict(list)
    pairs: Counter[Any] = Counter()
    rows = CurrentJudgment.objects.filter(item__programme=of).order_by("judgment__created")
    for item, rater, slot, payload in rows.values_list("item_id", "rater_id", "slot_id", "judgment__payload"):
        pairs[item, rater] += 1
        if slot is not None:
            payloads[item].append(payload)
    yield from (f"rater {rater} counts {n} times on item {item}" for (item, rater), n in pairs.items() if n > 1)
    for item in Item.objects.filter(programme=of).select_related("batch"):
        most = item.batch.quota + item.extra_slots
        said = payloads[item.pk]
        if len(said) > most or most > item.batch.quota_cap:
            yield f"item {item.pk} has {len(said)} counted judgments, its quota is {item.batch.quota}"
        if item.extra_slots and not disagree(item.kind, said, 0.5):
            yield f"item {item.pk} has a further slot, though its raters agree"


def _left(of: Any) -> Iterator[str]:
    """Slots that are still free, or leased, though some rater never had their item."""
    from heedful.feedback.models import HELD, Assignment, Item, Rater, Slot

    raters = set(Rater.objects.filter(programme=of).values_list("pk", flat=True))
    for slot, item, state in Slot.objects.filter(item__programme=of).values_list("pk", "item_id", "state"):
        had = set(Assignment.objects.filter(item=item, state__in=HELD).values_list("rater_id", flat=True))
        if state == "leased" or (state == "free" and raters - had):
            yield f"slot {slot} is still {state}, {len(raters - had)} raters never had its item"
    still = Item.objects.filter(programme=of, state="open").exclude(slots__state__in=("free", "leased"))
    yield from (f"item {one.pk} is open without a place" for one in still)


def _false_none(of: Any, none: list[list[Any]]) -> Iterator[str]:
    """Answers "no work" during all of which a slot stood free that the rater could have had."""
    from heedful.feedback.models import Assignment

    begun: dict[Any, dict[Any, float]] = defaultdict(dict)
    rows = Assignment.objects.filter(item__programme=of).order_by("-created")
    for item, rater, at in rows.values_list("item_id", "rater_id", "created"):
        begun[str(item)][str(rater)] = at.timestamp()
    spells = list(_free_spells(of))
    for rater, sent, received in none:
        for slot, item, since, until in spells:
            if since + LAG < sent and until > received and begun[item].get(rater, received) >= received:
                yield f"rater {rater} was told of no work at {sent:.3f}, while slot {slot} was free"
                break


def _free_spells(of: Any) -> Iterator[tuple[str, str, float, float]]:
    """(slot, its item, from, to) of each time that a slot was free, by the events."""
    from heedful.feedback.models import AuditEvent, Slot
    from heedful.feedback.replay import FREE, STEPS, State

    rows = Slot.objects.filter(item__programme=of).values_list("pk", "item_id", "created")
    items = {str(pk): str(item) for pk, item, _ in rows}
    since = {str(pk): at.timestamp() for pk, _, at in rows}
    state = State()
    for event in AuditEvent.objects.filter(programme=of.pk).order_by("seq").iterator():
        step = STEPS.get(event.kind)
        if step is None:
            continue
        step(state, event.ids)
        touched = [*event.ids.get("slots", ()), event.ids.get("slot")]
        touched += [state.assignments.get(event.ids.get("assignment"), ("", None))[1]]
        for slot in {one for one in touched if one}:
            free = state.slots.get(slot, FREE) == FREE
            if free:
                since.setdefault(slot, event.at.timestamp())
            elif slot in since:
                yield slot, items[slot], since.pop(slot), event.at.timestamp()
    yield from ((slot, items[slot], at, float("inf")) for slot, at in since.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "check"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--database", required=True)
    own = parser.parse_args()
    configure(own.folder, own.database)
    json.dump({"prepare": prepare, "check": check}[own.command](json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
