"""The order in which items are handed out: as imported, by chance, or where a judgment tells most."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from django.db import connections

from feedback_factories import programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import assignment, background, content, handing_out, submission
from heedful.feedback.models import AuditEvent, Batch, Item, Programme, Rater, Slot
from heedful.feedback.replay import difference, replay
from heedful.feedback.rules import Rules

pytestmark = pytest.mark.django_db
ASK = [{"role": "user", "content": "Which?"}]
TWO = [content.NewCompletion("a"), content.NewCompletion("b")]


def made(of: Programme, count: int, *, kind: str = "pairwise", **over: Any) -> tuple[Batch, list[Item]]:
    work = content.create_batch(of, "work", **over)
    content.add_items(work, [content.NewItem(ASK, TWO, kind) for _ in range(count)])
    content.open_batch(work)
    return work, list(Item.objects.filter(batch=work).order_by("position"))


def judge(who: Rater, strength: int = 1) -> Item:
    held = assignment.next_assignment(who)
    assert held is not None, "no work"
    submission.submit(held, {"strength": strength}, key=str(held.pk), item_version=held.item_version)
    return held.item


def order(work: Batch) -> list[Item]:
    rows = Slot.objects.filter(batch=work, state="free", lane=1).order_by("-priority", "position")
    return [slot.item for slot in rows.select_related("item")]


def rule(of: Programme, selection: str) -> None:
    of.settings = {**of.settings, "selection": selection}
    of.save()


def test_levels_go_by_own_priority_then_worth_and_leave_equals_together() -> None:
    assert handing_out.levels([0, 0, 5, 0], np.array([0.1, 0.9, 0.0, 0.9])) == [-750, 0, 750, 0]
    assert handing_out.levels([0, 0, 0], np.full(3, 2.0)) == [0, 0, 0]
    many = handing_out.levels([0] * 5000, -np.arange(5000.0))
    assert many == sorted(many, reverse=True)
    assert (many[0], many[-1]) == (1000, -1000)


def test_chance_mixes_a_batch_once_and_a_raters_own_judging_goes_by_it() -> None:
    of = programme(selection="random")
    work, items = made(of, 30)
    [done] = handing_out.reorder(of)
    assert (done.selection, done.places, done.moved) == ("random", 30, 30)
    mixed = order(work)
    assert mixed != items
    assert sorted(mixed, key=lambda one: one.position) == items
    who = rater(of)
    assert [judge(who) for _ in range(5)] == mixed[:5]
    handing_out.reorder(of)
    assert order(work) == mixed[5:]
    before = list(Slot.objects.filter(batch=work, state="free"))
    rule(of, "order")
    assert handing_out.reorder(of)[0].moved == sum(bool(slot.priority) for slot in before)
    assert order(work) == [one for one in items if one not in mixed[:5]]
    assert handing_out.reorder(of)[0].moved == 0
    assert difference(replay()) == []


def test_what_was_moved_before_a_raters_cursor_is_given_next() -> None:
    of = programme()
    work, items = made(of, 30)
    who = rater(of)
    assert [judge(who) for _ in range(5)] == items[:5]
    rule(of, "random")
    handing_out.reorder(of)
    ahead = order(work)
    assert Slot.objects.get(item=ahead[0]).priority > 0
    assert [judge(who) for _ in range(3)] == ahead[:3]


def test_an_items_own_priority_stays_before_chance() -> None:
    of = programme(selection="random")
    work, items = made(of, 20)
    content.prioritise(work, {items[17].pk: 3})
    handing_out.reorder(of)
    assert order(work)[0] == items[17]


def test_information_puts_new_pairs_first_then_split_ones_and_settled_ones_last() -> None:
    of = programme()
    ada, ben, cy = rater(of), rater(of), rater(of)
    work, items = made(of, 12, quota=3)
    for number in range(10):  # two raters judge ten pairs alike, but for the fourth
        for who in (ada, ben):
            held = assignment.next_assignment(who)
            assert held is not None
            assert held.item == items[number]
            side = -1 if number == 3 and who is ben else 1
            shown = side if held.order == [0, 1] else -side
            submission.submit(held, {"strength": shown}, key=str(held.pk), item_version=1)
    rule(of, "information")
    [done] = handing_out.reorder(of)
    assert (done.places, done.note) == (16, "")
    waiting = order(work)
    assert waiting[:2] == [items[10], items[11]]  # the first judgment of a pair tells most
    split = waiting.index(items[3])
    assert split < min(waiting.index(one) for number, one in enumerate(items[:10]) if number != 3)
    assert [judge(cy) for _ in range(2)] == waiting[:2]
    assert AuditEvent.objects.filter(kind="batch.prioritised").exists()
    assert difference(replay()) == []


def test_a_pair_under_way_is_worth_what_a_further_judgment_tells() -> None:
    of = programme(selection="information")
    work, items = made(of, 3, quota=2)
    who = rater(of)
    judge(who)
    held = assignment.next_assignment(who)
    assert held is not None
    assert held.item == items[1]
    handing_out.reorder(of)
    waiting = order(work)
    assert waiting[0] == items[2]  # untouched; the pair under way counts as judged once
    assert set(waiting[1:]) == set(items)


def test_raters_still_get_nothing_twice_and_every_place_is_filled() -> None:
    of = programme(selection="information")
    made(of, 6, quota=2)
    people = [rater(of) for _ in range(3)]
    had: dict[Any, list[Any]] = {one.pk: [] for one in people}
    for turn in range(12):
        who = people[turn % 3]
        held = assignment.next_assignment(who)
        if held is None:
            continue
        had[who.pk].append(held.item_id)
        submission.submit(held, {"strength": 1 if turn % 5 else -1}, key=str(held.pk), item_version=1)
        handing_out.reorder(of)
    for one in people:  # whoever came last finds what is left, also behind their cursor
        while (held := assignment.next_assignment(one)) is not None:
            had[one.pk].append(held.item_id)
            submission.submit(held, {"strength": 1}, key=str(held.pk), item_version=1)
    assert all(len(keys) == len(set(keys)) for keys in had.values())
    assert Slot.objects.filter(state="done").count() == 12
    assert difference(replay()) == []


def test_where_the_rule_cannot_be_followed_the_batch_stays_and_says_why() -> None:
    of = programme(selection="information")
    work, items = made(of, 4)
    [done] = handing_out.reorder(of)
    assert "Nobody has compared" in done.note
    assert order(work) == items
    other = programme(selection="information")
    ranked = content.create_batch(other, "ranks")
    three = [*TWO, content.NewCompletion("c")]
    content.add_items(ranked, [content.NewItem(ASK, three, "ranking")])
    content.open_batch(ranked)
    assert "comparisons alone" in handing_out.reorder(other)[0].note


def test_the_worker_looks_again_only_when_something_changed_and_ends_when_told() -> None:
    of = programme(selection="random")
    made(of, 5)
    seen: dict[Any, Any] = {}
    assert handing_out.look(seen) == 1
    assert handing_out.look(seen) == 0
    rule(of, "order")
    assert handing_out.look(seen) >= 1
    handing_out.look(seen)
    assert handing_out.look(seen) == 0
    rule(of, "information")
    assert handing_out.look(seen) == 1
    assert handing_out.look(seen) == 0
    judge(rater(of))
    assert handing_out.look(seen) == 1
    stop = threading.Event()
    with (
        patch.object(handing_out, "look", side_effect=lambda *_: stop.set()) as once,
        patch.object(handing_out, "connection"),
        patch.object(background, "close_old_connections"),
    ):
        handing_out.run_forever(stop, pause=0.0)
    assert once.call_count == 1


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(HeedfulError, match="no order"):
        Rules(selection="best")


def test_the_command_says_what_it_did(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from heedful.cli.main import main

    of = programme(selection="random")
    made(of, 5)
    with patch("heedful.cli.studio._configure"):
        assert main(["studio", "prioritise", "--programme", of.slug, "--json"]) == 0
        [told] = json.loads(capsys.readouterr().out)["batches"]
        assert (told["name"], told["selection"], told["places"]) == ("work", "random", 5)
        assert main(["studio", "prioritise", "--programme", of.slug]) == 0
        assert "work: 5 places by random, 0 moved." in capsys.readouterr().out
        assert main(["studio", "prioritise", "--programme", "none-of-that"]) == 2


@pytest.mark.django_db(transaction=True)
def test_raters_judge_on_while_the_order_changes() -> None:
    of = programme(selection="information")
    made(of, 8, quota=2)
    people = [rater(of) for _ in range(3)]
    failed: list[Exception] = []

    def rate(who: Rater) -> None:
        try:
            while (held := assignment.next_assignment(who)) is not None:
                submission.submit(held, {"strength": 1}, key=str(held.pk), item_version=1)
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    def reorder() -> None:
        try:
            for selection in ("information", "random") * 4:
                Programme.objects.filter(pk=of.pk).update(settings={"selection": selection})
                handing_out.reorder(Programme.objects.get(pk=of.pk))
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=rate, args=(who,)) for who in people] + [threading.Thread(target=reorder)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert Slot.objects.filter(state="done").count() == 16
    assert difference(replay()) == []
