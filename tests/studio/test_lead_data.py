"""Exports and snapshots: what leaves the studio, and what never does."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from lead_world import World, judge, judged, login, world

from feedback_factories import batch, item
from feedback_quality import answer, take
from heedful.feedback import gold
from heedful.feedback.models import AuditEvent, Judgment

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports wait in a folder of the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def full() -> World:
    return judged(world(), (2, 2))


def fetch(client: Client, of: World, **sent: Any) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """The report of an export, and the rows of its files."""
    answer = client.post(of.at("export/"), {"format": "trl-preference", "margin": "none", **sent})
    assert answer.status_code == 302, answer.context["form"].errors
    ready = client.get(answer.url).context["ready"]
    files = {}
    for name, _size in ready.files:
        got = client.get(reverse("export_file", args=[of.slug, ready.key, name]))
        assert got.streaming
        assert "attachment" in got["Content-Disposition"]
        data = b"".join(got.streaming_content)
        text = gzip.GzipFile(fileobj=io.BytesIO(data)).read() if name.endswith(".gz") else data
        files[name] = [json.loads(line) for line in text.decode().splitlines()]
    return ready.report, files


def test_preferences_leave_with_ties_beside_and_counted(full: World) -> None:
    tie = item(full.batch)
    judge(full.raters[0], 1)
    judge(full.raters[1], -1)
    report, files = fetch(login(full.manager), full, margin="strength")
    main, ties = files[f"{full.slug}-trl-preference.jsonl"], files[f"{full.slug}-trl-preference-ties.jsonl"]
    assert (report["rows"], report["ties"], report["judgments"]) == (3, 1, 8)
    assert [row["margin"] for row in main] == [2.0, 2.0, 2.0]
    assert [row["prompt"][0]["content"] for row in ties] == [tie.prompt.messages[0]["content"]]
    text = json.dumps(files)
    assert not any(str(one.pk) in text or one.account.username in text for one in full.raters)
    assert AuditEvent.objects.filter(kind="export.made", programme=full.programme.pk).count() == 1


def test_the_consensus_is_chosen_and_told_in_the_readers_language(full: World) -> None:
    from heedful.core.consensus import METHODS

    client = login(full.manager)
    form = client.get(full.at("export/")).context["form"]
    assert [name for name, _label in form.fields["consensus"].choices] == list(METHODS)
    assert form["consensus"].value() == "share"
    report, files = fetch(client, full, format="heedful", consensus="rater-aware")
    assert report["consensus"] == "rater-aware"
    (rows,) = files.values()
    assert {(row["consensus"], row["votes"]) for row in rows} == {("rater-aware", 2)}
    assert all("posterior" in row for row in rows)
    shared, _ = fetch(client, full, format="heedful")
    assert shared["consensus"] == "share"
    wrong = client.post(full.at("export/"), {"format": "sft", "consensus": "mace"})
    assert (wrong.status_code, list(wrong.context["form"].errors)) == (422, ["consensus"])
    full.manager.language = "vi"
    full.manager.save()
    made = client.post(full.at("export/"), {"format": "heedful", "consensus": "rater-aware"})
    page = client.get(made.url).content.decode()
    assert "Xác suất theo: rater-aware" in page
    assert "người đánh giá, dữ liệu cho biết" in page  # what the method does not know


@pytest.mark.parametrize("name", ["trl-preference", "heedful", "unpaired", "prompt-only"])
def test_an_export_never_holds_what_is_for_checking_or_gold(full: World, name: str) -> None:
    check = batch(full.programme, purpose="check")
    item(check, text="A secret check?")
    judge(full.raters[0], 1, of=check)
    gold.promote(full.items[0], [{"strength": [1, 3]}], "B.", actor=full.admin)
    report, files = fetch(login(full.manager), full, format=name)
    text = json.dumps(files)
    assert "A secret check?" not in text
    assert full.items[0].prompt.messages[0]["content"] not in text
    assert full.items[1].prompt.messages[0]["content"] in text
    assert report["rows"] >= 2


def test_rankings_leave_whole_a_row_a_rater(full: World) -> None:
    ranked = item(full.batch, kind="ranking", completions=3)
    held = take(full.raters[0])
    assert held.item_id == ranked.pk
    answer(held, ranks=[2, 1, 2])
    report, files = fetch(login(full.manager), full, format="ranking")
    (rows,) = files.values()
    assert report["rows"] == 1
    assert [(row["ranks"], row["weight"]) for row in rows] == [([2, 1, 2], 1.0)]
    assert rows[0]["completions"] == [entry.completion.text for entry in ranked.entries.order_by("index")]


def test_what_an_option_does_not_say_is_told_beside_it(full: World) -> None:
    client = login(full.manager)
    answer = client.post(full.at("export/"), {"format": "sft", "margin": "strength"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["margin"])
    nothing = client.post(full.at("export/"), {"format": "sft", "margin": "none"})
    assert "nothing to export" in nothing.content.decode()
    other = world().batch
    wrong = client.post(full.at("export/"), {"format": "heedful", "margin": "none", "batches": [str(other.pk)]})
    assert list(wrong.context["form"].errors) == ["batches"]


def test_an_export_is_its_makers_and_gone_when_it_is_old(full: World, folder: Any) -> None:
    import os

    from heedful.studio.lead.export_files import sweep

    client = login(full.manager)
    answer = client.post(full.at("export/"), {"format": "heedful", "margin": "none", "packed": "on"})
    assert client.get(answer.url).status_code == 200
    assert login(full.admin).get(answer.url).status_code == 404
    assert client.get(answer.url + "..%2Fsecret").status_code == 404
    (kept,) = folder.glob("heedful-export-*")
    assert kept.stat().st_mode & 0o077 == 0
    sweep()
    assert kept.exists()
    os.utime(kept, (0, 0))
    sweep()
    assert client.get(answer.url).status_code == 404


def test_a_snapshot_is_made_verified_and_exported_the_same_each_time(
    full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(full.manager)
    assert client.post(full.at("snapshots/"), {"name": " "}).status_code == 422
    client.post(full.at("snapshots/"), {"name": "Before run 7"})
    made = full.programme.snapshots.get()
    assert made.count == Judgment.objects.count() == 6
    item(full.batch)
    judge(full.raters[0], 1)
    path = reverse("snapshot_verify", args=[full.slug, made.pk])
    assert "is as it was made" in client.post(path, follow=True).content.decode()
    first, _files = fetch(client, full, snapshot=str(made.pk))
    second, _files = fetch(client, full, snapshot=str(made.pk))
    assert first["sha256"] == second["sha256"]
    assert first["rows"] == 3
    monkeypatch.setattr("heedful.feedback.snapshots.verify", lambda _: ["its judgments are not the ones listed."])
    assert "not the ones listed" in client.post(path, follow=True).content.decode()


def test_a_snapshot_of_nothing_is_refused() -> None:
    empty = world(items=1)
    answer = login(empty.manager).post(empty.at("snapshots/"), {"name": "Nothing"})
    assert answer.status_code == 422
    assert "no judgments" in answer.content.decode()
