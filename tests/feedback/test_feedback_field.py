"""What end users did: taken in once, with consent, in a sample, under a cap, without names, and erased when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from feedback_factories import account, batch, item, programme, rater
from feedback_programmes import lines
from heedful.errors import HeedfulError
from heedful.feedback import agreement, clock, erasure, field, field_figures, gold, people, replay, services, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.content import add_items
from heedful.feedback.exports import export
from heedful.feedback.models import (
    Batch,
    Completion,
    Consent,
    FieldEvent,
    FieldRefusal,
    Item,
    Judgment,
    Programme,
    Prompt,
    Rater,
    RaterKind,
)
from heedful.feedback.snapshots import create_snapshot
from heedful.feedback.wire import FieldFeedback, NewCompletion, NewItem

KEY = b"k" * 32
THUMB = FieldFeedback(
    "e1", "thumb", "u1", True, "shop-2", [{"role": "user", "content": "Where is my parcel?"}], "On its way.", up=True
)
AGAIN = replace(THUMB, id="e2", kind="regeneration", up=None, new="It left us on Monday.", kept=True)
EDIT = replace(THUMB, id="e3", kind="edit", up=None, edited="It is on its way.")
NAMING = "I am jo@example.com, call +44 20 7946 0958, card 4111 1111 1111 1111, 12 Baker Street, London NW1 6XE"


@pytest.fixture
def of(db: None) -> Programme:
    return programme()


def take(of: Programme, *given: FieldFeedback) -> list[str]:
    return [one.status for one in field.take_in(of, given, key=KEY)]


def stored_texts() -> Iterator[str]:
    """Every value of every table of the store, as text."""
    for model in apps.get_app_config("feedback").get_models():
        for row in model._default_manager.values_list():
            yield from map(str, row)


def test_a_thumb_is_a_judgment_of_an_end_user(of: Programme) -> None:
    assert take(of, THUMB, replace(THUMB, id="e4", up=False, comment="too short")) == ["kept", "kept"]
    up, down = Judgment.objects.order_by("pk")
    assert (up.kind, up.payload, up.purpose, up.surplus, up.assignment) == ("thumb", {"up": True}, "train", False, None)
    assert (down.payload, down.rationale.text) == ({"up": False}, "too short")
    assert up.rater == down.rater
    assert (up.rater.kind, up.rater.account) == (RaterKind.END_USER, None)
    assert [entry.completion.policy for entry in up.item.entries.all()] == ["shop-2"]
    assert (up.item.state, up.item.batch.state, up.item.slots.count()) == ("done", "closed", 0)
    assert replay.difference(replay.replay(of)) == []


def test_a_regeneration_that_was_kept_is_a_pair_and_one_that_was_not_is_nothing(of: Programme) -> None:
    assert take(of, AGAIN, replace(AGAIN, id="e5", kept=False)) == ["kept", "not_kept"]
    (said,) = Judgment.objects.all()
    assert (said.kind, said.payload["strength"], said.order) == ("pairwise", 1, [0, 1])
    texts = [entry.completion.text for entry in said.item.entries.order_by("index")]
    assert texts == ["On its way.", "It left us on Monday."]


def test_an_edit_is_preferred_to_its_original(of: Programme) -> None:
    assert take(of, EDIT) == ["kept"]
    said = Judgment.objects.get()
    assert said.edit.original.text == "On its way."
    assert said.edit.completion.text == "It is on its way."
    assert said.edit.completion.author == said.rater


def test_without_consent_nothing_is_stored_but_a_count(of: Programme) -> None:
    take(of, replace(THUMB, id="other", user="somebody else"))
    before = {model: model._default_manager.count() for model in apps.get_app_config("feedback").get_models()}
    refused = replace(THUMB, consent=False, user="u9", messages=[{"role": "user", "content": "xyzzy"}])
    assert take(of, refused, refused) == ["no_consent", "no_consent"]
    after = {model: model._default_manager.count() for model in apps.get_app_config("feedback").get_models()}
    assert {model.__name__ for model in after if after[model] != before[model]} == {"FieldRefusal"}
    row = FieldRefusal.objects.get()
    assert (row.day, row.policy, row.count) == (clock.now().date(), "shop-2", 2)
    assert not any("xyzzy" in text or "u9" in text for text in stored_texts())
    assert take(of, replace(refused, consent=True)) == ["kept"]  # they agreed since


def test_the_same_event_again_is_kept_once_and_another_under_its_id_is_refused(of: Programme) -> None:
    assert take(of, THUMB, THUMB) == ["kept", "kept"]
    assert take(of, replace(THUMB, consent_text="version 2")) == ["kept"]
    assert Judgment.objects.count() == 1
    (result,) = field.take_in(of, [replace(THUMB, up=False)], key=KEY)
    assert (result.status, result.field) == ("conflict", "id")
    assert take(programme(), THUMB) == ["kept"]  # ids are each programme's own


@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"up": None}, "up"),
        ({"new": "x"}, "new"),
        ({"kept": True}, "kept"),
        ({"user": " "}, "user"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"kind": "edit", "up": None, "edited": "On its way. "}, "edited"),
        ({"kind": "regeneration", "up": None, "new": "Yes."}, "kept"),
        ({"answer": "a\0b"}, "answer"),
        ({"conversation": "a\0b"}, "conversation"),
    ],
)
def test_a_wrong_event_is_refused_with_its_field_and_leaves_nothing(
    of: Programme, over: dict[str, Any], where: str
) -> None:
    wrong = replace(THUMB, **over)
    first, second = field.take_in(of, [wrong, replace(THUMB, id="right")], key=KEY)
    assert (first.status, first.field) == ("refused", where)
    assert first.detail
    assert second.status == "kept"
    assert (FieldEvent.objects.count(), Prompt.objects.count(), Judgment.objects.count()) == (1, 1, 1)
    assert take(of, THUMB) == ["kept"]  # mended, under the same id


# --- the sample and the cap ---


def test_the_sample_keeps_its_share_of_conversations_whole_and_a_retry_agrees(of: Programme) -> None:
    of.settings = {"field_share": 0.3, "field_cap": 1000}
    of.save()
    events = [
        replace(THUMB, id=f"{talk}-{turn}", conversation=f"talk {talk}") for talk in range(200) for turn in range(2)
    ]
    first = take(of, *events)
    assert set(first) == {"kept", "sampled_out"}
    assert all(first[2 * talk] == first[2 * talk + 1] for talk in range(200))
    assert 0.2 < first.count("kept") / 400 < 0.4  # 60 of 200 expected, with a standard deviation of 6.5
    assert take(of, *events) == first
    assert Judgment.objects.count() == first.count("kept")
    assert not Item.objects.filter(judgments=None).exists()


def test_a_loud_user_is_capped_within_the_days_and_others_are_not(of: Programme, monkeypatch: Any) -> None:
    of.settings = {"field_cap": 3, "field_cap_days": 7}
    of.save()
    mine = [replace(THUMB, id=f"mine {i}") for i in range(5)]
    assert take(of, *mine) == ["kept"] * 3 + ["capped"] * 2
    assert take(of, replace(THUMB, id="yours", user="u2")) == ["kept"]
    assert take(of, mine[4]) == ["capped"]
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(days=8))
    assert take(of, replace(THUMB, id="later")) == ["kept"]


def test_a_thumb_that_is_turned_stands_in_place_of_the_first(of: Programme, tmp_path: Path) -> None:
    of.settings = {"field_cap": 1}
    of.save()
    down = replace(THUMB, id="turned", up=False, replaces="e1")
    assert take(of, THUMB, down) == ["kept", "kept"]  # one of the two counts towards the cap
    assert take(of, THUMB, down) == ["replaced", "kept"]
    export(of, "unpaired", tmp_path / "now.jsonl")
    assert [row["label"] for row in lines(tmp_path / "now.jsonl")] == [False]
    figures = field_figures.overview(of, 30).total
    assert (figures.kept, figures.outcomes["replaced"], figures.thumbs and figures.thumbs.share) == (1, 1, 0)
    assert take(of, replace(THUMB, id="again", replaces="turned")) == ["kept"]
    (result,) = field.take_in(of, [replace(down, id="theirs", user="u2", replaces="again")], key=KEY)
    assert (result.status, result.field) == ("refused", "replaces")
    (result,) = field.take_in(of, [replace(down, id="self", replaces="self")], key=KEY)
    assert (result.status, result.field) == ("refused", "replaces")
    assert take(of, replace(THUMB, id="of none", user="u3", replaces="never came")) == ["kept"]
    assert replay.difference(replay.replay(of)) == []


def test_what_replaces_one_out_of_the_sample_is_out_too(of: Programme) -> None:
    of.settings = {"field_share": 0.5, "field_cap": 1000}
    of.save()
    first = take(of, *(replace(THUMB, id=f"{i}", user=f"u{i}") for i in range(40)))
    later = take(of, *(replace(THUMB, id=f"later {i}", user=f"u{i}", up=False, replaces=f"{i}") for i in range(40)))
    assert later == first
    assert set(first) == {"kept", "sampled_out"}


# --- names ---


def test_no_text_that_names_somebody_and_no_id_of_the_application_reaches_the_database(of: Programme) -> None:
    said = [{"role": "user", "content": f"{NAMING}. Where is my parcel?"}]
    given = [
        replace(one, id=f"secret-event-{i}", user="secret-user", conversation="secret-talk", messages=said,
                answer=f"{NAMING} yes {i}", new=one.new and f"{NAMING} no", edited=one.edited and f"{NAMING} or",
                comment=NAMING)
        for i, one in enumerate((THUMB, AGAIN, EDIT))
    ]  # fmt: skip
    assert take(of, *given) == ["kept"] * 3
    for text in stored_texts():
        for name in ("jo@example.com", "7946 0958", "4111 1111", "Baker", "secret-"):
            assert name not in text
    prompt = Prompt.objects.order_by("pk")[0]
    assert prompt.messages[0]["content"] == "I am [email], call [phone], card [card], [address]. Where is my parcel?"
    assert FieldEvent.objects.order_by("pk")[0].found == {"email": 3, "phone": 3, "card": 3, "address": 3}
    assert field_figures.overview(of, 30).found["email"] == 3 + 4 + 4
    assert Rater.objects.get(kind=RaterKind.END_USER).name == field.Secret(KEY, of).of("user", "secret-user")


def test_hashes_are_of_the_server_and_of_the_programme(of: Programme) -> None:
    other = programme()
    one, theirs, elsewhere = (field.Secret(KEY, of), field.Secret(KEY, other), field.Secret(b"x" * 32, of))
    assert len({one.of("user", "u"), theirs.of("user", "u"), elsewhere.of("user", "u"), one.of("event", "u")}) == 4
    with pytest.raises(HeedfulError, match="32 bytes"):
        field.Secret(b"short", of)
    take(of, THUMB)
    with pytest.raises(Conflict, match="field key"):  # under it nobody could withdraw
        field.take_in(of, [replace(THUMB, id="new")], key=b"x" * 32)


# --- withdrawal ---


def test_withdrawal_erases_what_they_wrote_and_what_they_were_answered(of: Programme, tmp_path: Path) -> None:
    take(of, THUMB, AGAIN, EDIT, replace(THUMB, id="yours", user="u2", answer="Tomorrow.", comment="no"))
    snapshot = create_snapshot(of, "before")
    found = field.withdraw(of, "u1", key=KEY)
    assert found.known
    assert found.erased["prompt"] == 3
    texts = set(Completion.objects.filter(erased=None).values_list("text", flat=True))
    assert texts == {"Tomorrow."}
    assert [one.messages[0]["content"] for one in Prompt.objects.order_by("pk")] == ["", "", "", "Where is my parcel?"]
    assert not Consent.objects.filter(rater__erased__isnull=False, withdrawn=None).exists()
    assert not any(field.Secret(KEY, of).of("user", "u1") in text for text in stored_texts())
    export(of, "unpaired", tmp_path / "now.jsonl")
    assert len(lines(tmp_path / "now.jsonl")) == 1
    export(of, "unpaired", tmp_path / "before.jsonl", snapshot=snapshot)  # nor out of a snapshot from before
    assert len(lines(tmp_path / "before.jsonl")) == 1
    assert take(of, THUMB) == ["withdrawn"]  # a late retry brings nothing back
    assert field.withdraw(of, "u1", key=KEY) == field.Erasure(False, {})
    assert field.withdraw(of, "nobody", key=KEY).known is False
    assert take(of, replace(THUMB, id="anew")) == ["kept"]  # who agrees again is somebody new
    assert Rater.objects.filter(kind=RaterKind.END_USER).count() == 3


def test_what_comes_back_with_a_backup_is_erased_again(of: Programme) -> None:
    take(of, EDIT)
    prompt = Prompt.objects.get()
    before = prompt.messages
    field.withdraw(of, "u1", key=KEY)
    Prompt.objects.filter(pk=prompt.pk).update(messages=before)
    assert erasure.apply_tombstones() == 1
    assert Prompt.objects.get().messages[0]["content"] == ""


# --- apart from raters ---


def test_end_users_count_in_no_agreement_no_quota_and_no_list_of_raters(of: Programme) -> None:
    work = batch(of, quota=2)
    asked = item(work)
    who, other = rater(of), rater(of)
    submission.record(asked, who, {"strength": 2}, key="a")
    end_user = rater(of, kind=RaterKind.END_USER)
    third = submission.record(asked, end_user, {"strength": -2}, key="b")
    assert (third.surplus, hasattr(third, "current"), third.current.slot) == (False, True, None)
    assert asked.slots.filter(state="free").count() == 1
    assert agreement.overall(agreement.by_item(agreement.votes(of))) is None
    submission.record(asked, other, {"strength": 1}, key="c")
    found = agreement.overall(agreement.by_item(agreement.votes(of)))
    assert found is not None
    assert (found.share, found.of) == (1.0, 1)
    take(of, THUMB, AGAIN)
    assert {row.rater.kind for row in people.table(of)} == {RaterKind.PERSON}
    assert [one.name for one in services.batch_statuses(of)] == [work.name]
    assert services.status(of).raters == 2


def test_their_conversations_are_shown_to_no_rater(of: Programme) -> None:
    take(of, AGAIN)
    with pytest.raises(HeedfulError, match="shown to no rater"):
        gold.promote(Item.objects.get(), [{"strength": [1, 3]}], "known", actor=account())
    with pytest.raises(HeedfulError, match="no rater is asked for a thumb"):
        add_items(batch(of), [NewItem([{"role": "user", "content": "Hi"}], [NewCompletion("a")], "thumb")])


# --- what training reads ---


def test_thumbs_are_unpaired_and_regenerations_and_edits_pairs_with_their_origin(of: Programme, tmp_path: Path) -> None:
    take(of, THUMB, replace(THUMB, id="e4", up=False, answer="No idea."), AGAIN, EDIT)
    report = export(of, "unpaired", tmp_path / "kto.jsonl")
    thumbs = [row for row in lines(tmp_path / "kto.jsonl") if row["made"]["event"] == "thumb"]
    assert [(row["completion"][0]["content"], row["label"]) for row in thumbs] == [
        ("On its way.", True),
        ("No idea.", False),
    ]
    assert report.raters == {"end_user": 4}
    export(of, "trl-preference", tmp_path / "pairs.jsonl")
    pairs = lines(tmp_path / "pairs.jsonl")
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["made"]) for row in pairs] == [
        ("It left us on Monday.", "On its way.", {"by": "end_user", "event": "regeneration"}),
        ("It is on its way.", "On its way.", {"by": "end_user", "event": "edit"}),
    ]
    export(of, "sft", tmp_path / "sft.jsonl")
    assert [(row["completion"][0]["content"], row["made"]["event"]) for row in lines(tmp_path / "sft.jsonl")] == [
        ("It is on its way.", "edit")
    ]


def test_exports_tell_end_users_from_raters(of: Programme, tmp_path: Path) -> None:
    one = item(batch(of))
    submission.record(one, rater(of), {"strength": 2}, key="a")
    take(of, AGAIN)
    for kind, count in (("person", 1), ("end_user", 1)):
        report = export(of, "heedful", tmp_path / f"{kind}.jsonl", raters=[kind])
        assert (report.rows, report.raters) == (count, {kind: 1})
        assert [("made" in row) for row in lines(tmp_path / f"{kind}.jsonl")] == [kind == "end_user"]
    assert export(of, "heedful", tmp_path / "all.jsonl").raters == {"person": 1, "end_user": 1}


# --- figures ---


def test_the_figures_are_those_of_what_came(of: Programme) -> None:
    of.settings = {"field_cap": 4}
    of.save()
    up = [replace(THUMB, id=f"a{i}", user=f"u{i}", up=i < 6) for i in range(8)]
    loud = [replace(THUMB, id=f"l{i}", user="loud", up=False, model="shop-3") for i in range(6)]
    take(of, *up, *loud, AGAIN, replace(AGAIN, id="n", kept=False), replace(THUMB, id="x", consent=False))
    found = field_figures.overview(of, 30)
    first, second = found.models
    assert (first.policy, first.received, first.kept, first.no_consent) == ("shop-2", 11, 9, 1)
    assert dict(first.outcomes) == {"kept": 9, "not_kept": 1}
    assert dict(first.kinds) == {"thumb": 8, "regeneration": 1}
    assert (second.policy, second.received, second.outcomes["capped"]) == ("shop-3", 6, 2)
    assert first.thumbs is not None
    assert (first.thumbs.share, first.thumbs.of, first.thumbs.clusters) == (0.75, 8, 8)
    assert 0.3 < first.thumbs.interval.low < 0.75 < first.thumbs.interval.high < 1
    assert second.thumbs is not None
    assert (second.thumbs.share, second.thumbs.of, second.thumbs.clusters) == (0, 4, 1)
    assert (found.total.received, found.users) == (17, 9)
    (point,) = field_figures.over_time(of, "shop-2", 30)
    assert (point.begins, point.thumbs.share) == (clock.now().date(), 0.75)
    assert [row.judgments.get().kind for row in field_figures.items(of, kind="regeneration")] == ["pairwise"]
    assert field_figures.items(of, policy="shop-3").count() == 4


@pytest.mark.django_db(transaction=True)
def test_two_servers_take_the_same_event_in_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    of = programme()

    def send(_: int) -> list[str]:
        try:
            return take(of, THUMB, AGAIN, EDIT)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(send, range(4)))
    assert found == [["kept"] * 3] * 4
    assert (Judgment.objects.count(), Batch.objects.count(), Rater.objects.count()) == (3, 1, 1)
    assert json.dumps(sorted(Item.objects.values_list("position", flat=True))) == "[0, 1, 2]"
