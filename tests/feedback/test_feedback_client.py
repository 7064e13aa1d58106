"""One suite for both clients: at the database, and through a running studio's API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.db import connection

from feedback_factories import account, item, open_batch, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import clock, content, erasure, gold, http, submission, tokens
from heedful.feedback.client import FeedbackClient, HeldBackWarning, connect, pieces
from heedful.feedback.conflict import Conflict
from heedful.feedback.export_lineage import beside
from heedful.feedback.http import HttpClient
from heedful.feedback.models import Batch, CurrentJudgment, Item, Judgment, Programme, Push, Slot
from heedful.feedback.wire import BatchSpec, Judge, NewCompletion, NewItem, NewJudgment, NotFoundError
from heedful.files import sha256_file

CHUNK = 20
Make = Callable[..., FeedbackClient]


def database_url() -> str:
    """Of the database that the test runs on."""
    own = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{own['NAME']}"
    return f"postgresql://{own['USER']}:{own['PASSWORD']}@{own['HOST']}:{own['PORT']}/{own['NAME']}"


@pytest.fixture
def of(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Programme:
    """A programme, and pieces and pages so small that a few rows make several."""
    monkeypatch.setattr("heedful.feedback.client.CHUNK", CHUNK)
    for module in ("local", "http"):
        monkeypatch.setattr(f"heedful.feedback.{module}.PAGE", 7)
    return programme()


@pytest.fixture(params=["local", "http"])
def make(request: pytest.FixtureRequest, of: Programme) -> Iterator[Make]:
    """A client of the programme `of`, of either kind; for HTTP with the scopes that are named."""
    opened: list[HttpClient] = []
    local = request.param == "local"
    url = "" if local else request.getfixturevalue("live_server").url

    def made(*scopes: str) -> FeedbackClient:
        if local:
            return connect(database=database_url())
        _, text = tokens.create_token(of, "test", scopes or list(tokens.SCOPES), author=account())
        client = connect(studio=url, token=text)
        assert isinstance(client, HttpClient)
        opened.append(client)
        return client

    yield made
    for client in opened:
        client.close()


@pytest.fixture
def client(make: Make) -> FeedbackClient:
    return make()


def new(number: int, **over: Any) -> NewItem:
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"What is {number}? Tiếng Việt, 中文, 🙂"}],
        "completions": [
            NewCompletion(f"a{number}", "policy-a", {"temperature": 0.5}),
            NewCompletion(f"b{number}", "b"),
        ],
        "kind": "pairwise",
        "source": {"row": number},
    }
    return NewItem(**given | over)


def test_items_go_in_and_come_back_in_order(client: FeedbackClient, of: Programme) -> None:
    made = client.push_items(of.slug, BatchSpec("round 2", round=2, quota=2), (new(n) for n in range(45)))
    assert (made.state, made.items, made.round, made.quota, made.places) == ("staged", 45, 2, 2, 0)
    found = list(client.items(of.slug, made.id))
    assert [one.messages[0]["content"] for one in found] == [new(n).messages[0]["content"] for n in range(45)]
    assert [[answer.text for answer in one.completions] for one in found[:2]] == [["a0", "b0"], ["a1", "b1"]]
    assert [answer.policy for answer in found[0].completions] == ["policy-a", "b"]
    kept = Item.objects.filter(batch=made.id).order_by("position").first()
    assert kept is not None
    assert kept.prompt.source == {"row": 0}
    assert kept.entries.get(index=0).completion.sampling == {"temperature": 0.5}


def test_a_push_is_done_once_for_its_key(client: FeedbackClient, of: Programme) -> None:
    items = [new(n) for n in range(CHUNK + 10)]
    first = client.push_items(of.slug, BatchSpec("one"), items, key="run-7 " * 40)
    again = client.push_items(of.slug, BatchSpec("one"), items, key="run-7 " * 40)
    assert again == first
    assert Item.objects.count() == len(items)
    with pytest.raises(Conflict):
        client.push_items(of.slug, BatchSpec("one"), [*items[:-1], new(99)], key="run-7 " * 40)
    with pytest.raises(Conflict):
        client.push_items(of.slug, BatchSpec("another"), items, key="run-7 " * 40)
    assert Item.objects.count() == len(items)
    assert Batch.objects.count() == 1


def test_a_push_that_was_cut_off_goes_on(client: FeedbackClient, of: Programme) -> None:
    items = [new(n) for n in range(CHUNK * 2)]

    def cut() -> Iterator[NewItem]:
        yield from items[: CHUNK + 5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.push_items(of.slug, BatchSpec("one"), cut(), key="k")
    assert Item.objects.count() == CHUNK
    assert client.push_items(of.slug, BatchSpec("one"), items, key="k").items == len(items)


def test_a_deadline_without_a_zone_is_in_utc(client: FeedbackClient, of: Programme) -> None:
    made = client.push_items(of.slug, BatchSpec("one", deadline=datetime(2030, 1, 2, 3)), [new(1)])
    assert Batch.objects.get(pk=made.id).deadline == datetime(2030, 1, 2, 3, tzinfo=UTC)


def test_a_wrong_item_is_named_by_number_and_field_and_its_piece_is_not_written(
    client: FeedbackClient, of: Programme
) -> None:
    wrong = new(3, completions=[NewCompletion("only one")])
    with pytest.raises(HeedfulError) as caught:
        client.push_items(of.slug, BatchSpec("one"), [*(new(n) for n in range(CHUNK + 2)), wrong])
    assert caught.value.where == f"item {CHUNK + 3}, completions"
    assert "pairwise takes 2" in caught.value.what
    assert Item.objects.count() == CHUNK
    assert not Slot.objects.exists()
    for text, word in (("a\0b", "NUL"), ("a\ud800", "")):
        with pytest.raises(HeedfulError) as caught:
            client.push_items(of.slug, BatchSpec("two"), [new(1, messages=[{"role": "user", "content": text}])])
        assert caught.value.where == "item 1, messages[0].content"
        assert word in caught.value.what


def test_items_are_added_to_a_batch_that_is_there(client: FeedbackClient, of: Programme) -> None:
    made = client.push_items(of.slug, BatchSpec("one"), [new(1)])
    assert client.push_items(of.slug, made.id, [new(2)]).items == 2
    opened = client.open_batch(of.slug, made.id)
    assert (opened.state, opened.places) == ("open", 2)
    assert client.open_batch(of.slug, made.id) == opened
    assert client.push_items(of.slug, made.id, [new(3)]).places == 3
    assert client.pause_batch(of.slug, made.id).state == "paused"
    assert client.pause_batch(of.slug, made.id).state == "paused"


def test_a_staged_batch_cannot_pause_and_an_empty_one_cannot_open(client: FeedbackClient, of: Programme) -> None:
    made = client.push_items(of.slug, BatchSpec("one"), [])
    with pytest.raises(Conflict):
        client.pause_batch(of.slug, made.id)
    with pytest.raises(HeedfulError, match="no items"):
        client.open_batch(of.slug, made.id)


def test_judgments_come_in_order_page_by_page_with_one_name_for_a_rater(client: FeedbackClient, of: Programme) -> None:
    mine, other = rater(of, kind="simulated"), rater(of, kind="ai")
    batch = open_batch(of, 5, quota=2)
    made = []
    for number, one in enumerate(batch.items.order_by("position")):
        made.append(submission.record(one, mine, {"strength": -2}, key=f"m{number}", rationale="because"))
        made.append(submission.record(one, other, {"strength": 1}, key=f"o{number}", judge_template="t1"))
    found = list(client.judgments(of.slug))
    assert [one.id for one in found] == [str(one.pk) for one in made]
    assert found[0].payload == {"strength": -2, "both_bad": False, "both_good": False}
    assert (found[0].rationale, found[1].judge_template, found[0].rater_kind) == ("because", "t1", "simulated")
    assert found[0].live
    assert len({one.rater for one in found}) == 2
    assert not {one.rater for one in found} & {str(mine.pk), str(other.pk)}
    assert found[0].rater == found[2].rater
    assert list(client.judgments(of.slug, batch=str(batch.pk))) == found
    assert list(client.judgments(of.slug, kind="ranking")) == []
    assert list(client.judgments(of.slug, since=found[-1].created - timedelta(minutes=1))) == found
    assert list(client.judgments(of.slug, since=clock.now() + timedelta(minutes=1))) == []
    naive = (found[-1].created - timedelta(minutes=1)).replace(tzinfo=None)
    assert list(client.judgments(of.slug, since=naive)) == found


def test_what_holds_no_longer_and_what_is_for_checking_come_only_when_asked_for(
    client: FeedbackClient, of: Programme
) -> None:
    own = rater(of, kind="simulated")
    one = item(open_batch(of, 0))
    first = submission.record(one, own, {"strength": 1}, key="1")
    second = submission.correct(first, {"strength": -1}, key="2")
    late = submission.record(one, rater(of, kind="ai"), {"strength": 0}, key="3")
    check = submission.record(item(open_batch(of, 0, purpose="check")), own, {"strength": 3}, key="4")
    assert late.surplus
    assert [row.id for row in client.judgments(of.slug)] == [str(second.pk)]
    assert [row.id for row in client.judgments(of.slug, surplus=True)] == [str(second.pk), str(late.pk)]
    history = list(client.judgments(of.slug, history=True))
    assert [(row.id, row.live, row.supersedes) for row in history] == [
        (str(first.pk), False, ""),
        (str(second.pk), True, str(first.pk)),
    ]
    assert [row.id for row in client.judgments(of.slug, purpose="check")] == [str(check.pk)]
    with pytest.raises(HeedfulError) as caught:
        list(client.judgments(of.slug, purpose="fun"))
    assert caught.value.where == "purpose"


def test_what_has_become_gold_since_is_in_no_pull_for_training(client: FeedbackClient, of: Programme) -> None:
    batch, own = open_batch(of, 3), rater(of, kind="ai")
    kept, promoted, withdrawn = batch.items.order_by("position")
    first = submission.record(promoted, own, {"strength": 3}, key="first")
    corrected = submission.correct(first, {"strength": 2}, key="corrected")
    late = submission.record(promoted, rater(of, kind="ai"), {"strength": 1}, key="late")
    out = submission.record(withdrawn, own, {"strength": 1}, key="out")
    stays = submission.record(kept, own, {"strength": 1}, key="stays")
    assert [row.id for row in client.judgments(of.slug)] == [str(one.pk) for one in (corrected, out, stays)]
    gold.promote(promoted, [{"strength": [1, 3]}], "because", actor=account())
    content.withdraw_item(withdrawn, actor=account())
    assert [row.id for row in client.judgments(of.slug)] == [str(stays.pk)]
    history = [row.id for row in client.judgments(of.slug, history=True, surplus=True)]
    assert history == [str(out.pk), str(stays.pk)]
    assert not {str(first.pk), str(corrected.pk), str(late.pk)} & {
        row.id for purpose in ("train", "gold", "check") for row in client.judgments(of.slug, purpose=purpose)
    }


def test_preferences_put_votes_together_and_leave_out_what_is_for_checking(
    client: FeedbackClient, of: Programme
) -> None:
    batch = open_batch(of, 0, quota=3)
    one = item(batch, text="Which?", answers=["good", "bad"])
    for number, strength in enumerate((-2, -1, 2)):
        submission.record(one, rater(of, kind="simulated"), {"strength": strength}, key=str(number))
    tie = item(batch, text="And this?", answers=["x", "y"])
    submission.record(tie, rater(of, kind="simulated"), {"strength": 0}, key="t")
    held = item(open_batch(of, 0, purpose="check"))
    submission.record(held, rater(of, kind="simulated"), {"strength": 3}, key="c")
    found = list(client.preferences(of.slug))
    assert [(p.a, p.b, round(p.probability, 3), p.votes) for p in found] == [
        ("good", "bad", 0.667, 3),
        ("x", "y", 0.5, 1),
    ]
    assert found[0].prompt[0].content == "Which?"
    assert list(client.preferences(of.slug, batches=[str(batch.pk)])) == found
    with pytest.raises(HeedfulError, match="nothing to export"):
        list(client.preferences(of.slug, rounds=[9]))
    with pytest.raises(HeedfulError, match="no batch"):
        list(client.preferences(of.slug, batches=["nowhere"]))


def test_what_has_become_gold_since_is_in_no_export_of_a_snapshot_and_is_named(
    client: FeedbackClient, of: Programme, tmp_path: Path
) -> None:
    batch = open_batch(of, 2)
    kept, promoted = batch.items.order_by("position")
    for number, one in enumerate((kept, promoted)):
        submission.record(one, rater(of, kind="ai"), {"strength": 1}, key=str(number))
    made = client.snapshot(of.slug, "before")
    gold.promote(promoted, [{"strength": [1, 3]}], "because", actor=account())
    with pytest.warns(HeldBackWarning, match=f"^1 items of the snapshot .*: {promoted.pk}"):
        assert client.export(of.slug, "heedful", tmp_path / "out.jsonl", snapshot=made.id) == 1
    assert kept.prompt.messages[0]["content"] in (tmp_path / "out.jsonl").read_text()
    with pytest.warns(HeldBackWarning):
        assert len(list(client.preferences(of.slug, snapshot="before"))) == 1


def test_a_snapshot_holds_what_held_then(client: FeedbackClient, of: Programme, tmp_path: Path) -> None:
    batch = open_batch(of, 2)
    items = list(batch.items.order_by("position"))
    submission.record(items[0], rater(of, kind="simulated"), {"strength": -1}, key="1")
    made = client.snapshot(of.slug, "before", key="s", batches=[str(batch.pk)])
    submission.record(items[1], rater(of, kind="simulated"), {"strength": -1}, key="1")
    assert client.snapshot(of.slug, "before", key="s", batches=[str(batch.pk)]) == made
    assert (made.count, made.training, len(made.sha256)) == (1, True, 64)
    assert len(list(client.preferences(of.slug, snapshot=made.id))) == 1
    assert len(list(client.preferences(of.slug, snapshot="before"))) == 1
    out = tmp_path / "all.jsonl"
    assert client.export(of.slug, "trl-preference", out, margin="strength") == 2
    assert len(out.read_text().splitlines()) == 2
    with pytest.raises(NotFoundError):
        list(client.preferences(of.slug, snapshot=str(batch.pk)))
    with pytest.raises(HeedfulError):
        client.export(of.slug, "parquet", out)
    assert len(out.read_text().splitlines()) == 2


def test_an_agent_judges_once_for_its_key_and_fills_places(client: FeedbackClient, of: Programme) -> None:
    batch = open_batch(of, 3)
    rows = list(client.items(of.slug, str(batch.pk)))
    said = [NewJudgment(row.id, {"strength": -1}, f"k{i}", (1, 0), "t1", "1,0", "why") for i, row in enumerate(rows)]
    judge = Judge("model-x")
    made = client.record(of.slug, judge, said)
    assert client.record(of.slug, judge, said) == made
    assert CurrentJudgment.objects.count() == 3
    assert client.batch(of.slug, str(batch.pk)).filled == 3
    kept = Judgment.objects.get(pk=made[0])
    assert (kept.rater.kind, kept.rater.name, kept.order, kept.judge_order) == ("ai", "model-x", [1, 0], "1,0")
    for wrong, field, kind in (
        (NewJudgment(rows[0].id, {"strength": 9}, "n"), "judgment 2, strength", HeedfulError),
        (NewJudgment(str(batch.pk), {"strength": 1}, "n"), "judgment 2, item", NotFoundError),
        (NewJudgment(rows[0].id, {"strength": 1}, "k0"), "judgment 2, key", Conflict),
    ):
        good = NewJudgment(rows[1].id, {"strength": 1}, "second-template", judge_template="t2")
        with pytest.raises(kind) as caught:
            client.record(of.slug, judge, [good, wrong])
        assert caught.value.where == field
    assert CurrentJudgment.objects.count() == 3


def test_the_status_counts_what_is_there(client: FeedbackClient, of: Programme) -> None:
    rater(of)
    batch = open_batch(of, 2, quota=2)
    submission.record(batch.items.all()[0], rater(of, kind="ai"), {"strength": 1}, key="1")
    found = client.status(of.slug)
    assert (found.programme, found.name, found.raters, found.judgments) == (of.slug, of.name, 1, {"train": 1})
    [own] = found.batches
    assert own == client.batch(of.slug, str(batch.pk))
    assert (own.items, own.done, own.places, own.filled) == (2, 0, 4, 1)


def test_another_programme_is_not_there(client: FeedbackClient, of: Programme) -> None:
    other = programme()
    theirs = open_batch(other, 1)
    for act in (
        lambda: client.status("nowhere"),
        lambda: client.batch(of.slug, str(theirs.pk)),
        lambda: client.open_batch(of.slug, str(theirs.pk)),
        lambda: client.batch(of.slug, "no-id"),
        lambda: list(client.items(of.slug, str(theirs.pk))),
        lambda: list(client.judgments(of.slug, batch=str(theirs.pk))),
        lambda: client.push_items(of.slug, str(theirs.pk), [new(1)]),
    ):
        with pytest.raises(NotFoundError):
            act()
    assert theirs.items.count() == 1
    assert not Push.objects.exists()


# --- what only HTTP has ---


def test_a_token_does_what_its_scopes_say_and_speaks_to_its_own_programme(of: Programme, live_server: Any) -> None:
    _, text = tokens.create_token(of, "reader", ["judgments:read"], author=account())
    with HttpClient(live_server.url, text) as client:
        assert list(client.judgments(of.slug)) == []
        for act in (lambda: client.status(of.slug), lambda: client.push_items(of.slug, BatchSpec("x"), [])):
            with pytest.raises(HeedfulError, match="lacks the scope"):
                act()
        with pytest.raises(NotFoundError):
            list(client.judgments(programme().slug))
    with HttpClient(live_server.url, "heedful_wrong") as client, pytest.raises(HeedfulError, match="unknown"):
        client.status(of.slug)


def test_one_who_may_only_judge_sees_no_policies(of: Programme, live_server: Any) -> None:
    batch = open_batch(of, 1)
    _, text = tokens.create_token(of, "judge", ["judgments:write"], author=account())
    with HttpClient(live_server.url, text) as client:
        [row] = client.items(of.slug, str(batch.pk))
        assert [answer.policy for answer in row.completions] == ["", ""]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(http.time, "sleep", found.append)
    return found


STATUS = {"programme": "p", "name": "P", "raters": 0, "judgments": {}, "batches": [], "new in another version": 1}


@pytest.mark.parametrize("first", [500, 502, 503, 429, httpx2.ConnectError("no"), httpx2.ReadTimeout("slow")])
def test_failures_on_the_way_are_tried_again(first: Any, waits: list[float]) -> None:
    answers: list[Any] = [first, first, httpx2.Response(200, json=STATUS)]

    def answer(request: httpx2.Request) -> httpx2.Response:
        one = answers.pop(0)
        if isinstance(one, Exception):
            raise one
        return httpx2.Response(one, headers={"Retry-After": "7"}) if isinstance(one, int) else one

    client = HttpClient("https://studio.example", "t", transport=httpx2.MockTransport(answer))
    assert client.status("p").name == "P"
    assert len(waits) == 2
    assert all(wait >= 7 for wait in waits) if isinstance(first, int) else 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1


def test_it_gives_up_at_last_and_says_why(waits: list[float]) -> None:
    client = HttpClient("https://studio.example", "t", transport=httpx2.MockTransport(lambda _: httpx2.Response(503)))
    with pytest.raises(HeedfulError, match="answered 503") as caught:
        client.status("p")
    assert caught.value.where == "https://studio.example"
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("status", "kind", "where"),
    [
        (401, HeedfulError, "https://studio.example"),
        (403, HeedfulError, "https://studio.example"),
        (404, NotFoundError, "programme"),
        (409, Conflict, "programme"),
        (422, HeedfulError, "programme"),
        (302, HeedfulError, "programme"),
    ],
)
def test_refusals_are_not_tried_again(status: int, kind: type, where: str, waits: list[float]) -> None:
    body = {"detail": "no.", "field": "programme", "line": None, "mend": "mend."}
    headers = {"Location": "https://elsewhere.example/"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body, headers=headers))
    with pytest.raises(kind) as caught:
        HttpClient("https://studio.example", "t", transport=transport).status("p")
    assert (caught.value.what, caught.value.where, waits) == ("no.", where, [])
    assert caught.value.mend


def test_what_is_no_studio_is_called_so(waits: list[float]) -> None:
    for response in (
        httpx2.Response(200, html="<p>hello"),
        httpx2.Response(200, json=[]),
        httpx2.Response(200, json={}),
    ):
        transport = httpx2.MockTransport(lambda _, response=response: response)
        with pytest.raises(HeedfulError):
            HttpClient("https://studio.example", "t", transport=transport).status("p")


def test_an_export_that_was_cut_off_is_fetched_again(tmp_path: Path, waits: list[float]) -> None:
    import hashlib

    whole, calls = b'{"a": 1}\n' * 100, []
    headers = {"Heedful-Sha256": hashlib.sha256(whole).hexdigest(), "Heedful-Rows": "100"}

    def answer(_: httpx2.Request) -> httpx2.Response:
        calls.append(1)
        content = whole if len(calls) > 1 else whole[:50]
        return httpx2.Response(200, content=content, headers=headers | {"Content-Type": "application/jsonl"})

    client = HttpClient("https://studio.example", "t", transport=httpx2.MockTransport(answer))
    assert client.export("p", "raw", tmp_path / "x.jsonl") == 100
    assert (tmp_path / "x.jsonl").read_bytes() == whole
    assert len(calls) == 2


def test_a_studio_is_asked_with_a_token_over_tls() -> None:
    for url in ("http://studio.example", "ftp://studio.example", "studio.example", "https://u:p@studio.example", ""):
        with pytest.raises(HeedfulError) as caught:
            HttpClient(url, "t")
        assert caught.value.where == "studio"
    for token in ("", "  ", "a\nb", "ế"):
        with pytest.raises(HeedfulError) as caught:
            HttpClient("https://studio.example", token)
        assert caught.value.where == "token"
    for url in ("http://127.0.0.1:8400", "http://localhost:8400", "http://[::1]:8400"):
        HttpClient(url, "t").close()
    HttpClient("http://studio.example", "t", allow_insecure=True).close()
    assert "secret" not in repr(HttpClient("https://studio.example", "secret"))


def test_connect_takes_one_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeedfulError, match="not both"):
        connect(database="x.db", studio="https://studio.example")
    monkeypatch.delenv("HEEDFUL_TOKEN", raising=False)
    with pytest.raises(HeedfulError, match="HEEDFUL_TOKEN"):
        connect(studio="https://studio.example")
    monkeypatch.setenv("HEEDFUL_TOKEN", "t")
    assert isinstance(connect(studio="https://studio.example"), HttpClient)
    assert settings.configured


def test_pieces_are_small_in_number_and_size() -> None:
    assert [len(some) for some in pieces(range(450))] == [200, 200, 50]
    large = [new(n, messages=[{"role": "user", "content": "x" * 1_500_000}]) for n in range(4)]
    assert [len(some) for some in pieces(large)] == [2, 2]
    assert list(pieces([])) == []


def test_neither_django_nor_torch_is_needed_to_speak_to_a_studio() -> None:
    code = (
        "import sys; from heedful.feedback.client import connect; import heedful.feedback.wire;"
        "connect(studio='https://studio.example', token='t');"
        "assert not {'django', 'torch'} & set(sys.modules), sorted({'django', 'torch'} & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_withdrawn_judgments_and_work_are_told(client: FeedbackClient, of: Programme, tmp_path: Path) -> None:
    made = open_batch(of, 2, quota=2)
    first, second = rater(of), rater(of)
    for one in made.items.all():
        for who in (first, second):
            submission.record(one, who, {"strength": 1}, key=f"{who.pk}-{one.pk}")
    assert client.withdrawn(of.slug) == frozenset()
    erasure.withdraw_judgments(first)
    gone = {str(key) for key in Judgment.objects.filter(rater=first).values_list("pk", flat=True)}
    assert client.withdrawn(of.slug) == gone
    assert not gone & {row.id for row in client.judgments(of.slug, batch=str(made.pk))}
    assert client.work(of.slug, str(made.pk)).money == {}
    out = tmp_path / "preferences.jsonl"
    assert client.export(of.slug, "heedful", out) == 2
    record = json.loads(beside(out).read_text())
    assert (record["programme"], record["sha256"]) == (of.slug, sha256_file(out))
    with pytest.raises(NotFoundError):
        client.work(of.slug, "00000000-0000-7000-8000-000000000000")
