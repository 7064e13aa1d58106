"""What a raw export may not say: nothing that pages stumble over, nothing that the server alone decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import batch, item, programme, rater
from feedback_programmes import agents, held_back, lines, mixed, say
from feedback_quality import take
from feedback_stores import forget
from heedful.errors import HeedfulError
from heedful.feedback import dialogue, endpoints
from heedful.feedback.exports import export
from heedful.feedback.imports import plan, restore
from heedful.feedback.models import Item, Judgment, PolicyEndpoint, Programme, Purpose
from heedful.feedback.rules import Rules, rules_of
from heedful.feedback.snapshots import create_snapshot

Rows = list[dict[str, Any]]
EVIL = "AWS_SECRET_ACCESS_KEY"


def full() -> Programme:
    """A programme with judgments of every purpose, a snapshot, and a dialogue with an endpoint."""
    of = mixed()
    held_back(of)
    (who,) = agents(of, 1)
    say(Item.objects.get(prompt__messages__0__content="one"), who, {"strength": 1}, counts=False, pass_number=2)
    create_snapshot(of, "first")
    PolicyEndpoint.objects.create(programme=of, name="p", base_url="https://policy.example/v1", model="m")
    made = batch(of)
    item(made, kind="dialogue", completions=0)
    dialogue.begin(take(rater(of), batch=made))
    return of


def restored(of: Programme, folder: Path, change: Callable[[Rows], Any]) -> Programme:
    """A programme out, changed on the way, and in again."""
    export(of, "raw", folder / "raw.jsonl")
    forget(of)
    rows = lines(folder / "raw.jsonl")
    change(rows)
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return restore(plan(folder / "raw.jsonl"))


def first(rows: Rows, record: str, **where: Any) -> dict[str, Any]:
    return next(row for row in rows if row.get("record") == record and where.items() <= row.items())


def settings(rows: Rows, **over: Any) -> None:
    rows[0]["programme"]["settings"] = over


def held(rows: Rows) -> dict[str, Any]:
    return first(rows, "judgment", purpose="check")


CHANGES: dict[str, tuple[Callable[[Rows], Any], str]] = {
    "a rule of another type": (lambda rows: settings(rows, lease_seconds="x"), "rules.lease_seconds: 'x'"),
    "a rule that is nothing": (lambda rows: settings(rows, gold_rate=None), "rules.gold_rate"),
    "questions that are none": (lambda rows: settings(rows, group_questions=[5]), "rules.group_questions"),
    "a question without answers": (
        lambda rows: settings(rows, group_questions=[{"name": "a", "question": "b"}]), "rules.group_questions"
    ),
    "rules that are none": (lambda rows: rows[0]["programme"].update(settings=[]), "programme.settings"),
    "an attribute without a name": (
        lambda rows: first(rows, "guideline").update(attributes=[{"points": 3}]), "attributes[0].name"
    ),
    "a translation that is no text": (
        lambda rows: first(rows, "guideline").update(translations={"vi": 3}), "translations: it must be"
    ),
    "languages that are no texts": (lambda rows: first(rows, "rater").update(languages=[3]), "languages: it must be"),
    "an order with a gap": (lambda rows: first(rows, "assignment").update(order=[0, 2]), "order"),
    "a variable of the server's": (
        lambda rows: first(rows, "endpoint").update(key_variable=EVIL), "must begin with HEEDFUL_KEY_"
    ),
    "an address that is none": (lambda rows: first(rows, "endpoint").update(base_url="file:///etc"), "base_url"),
    "a setting that no endpoint has": (
        lambda rows: first(rows, "endpoint").update(sampling={"api_key": "x"}), "sampling.api_key"
    ),
    "a variable of the server's in a dialogue": (
        lambda rows: first(rows, "dialogue")["pinned"].update(key_variable=EVIL), "pinned.key_variable"
    ),
    "a dialogue that keeps nothing": (lambda rows: first(rows, "dialogue").update(pinned={}), "pinned.name"),
    "a judgment for training of an item for checking": (
        lambda rows: held(rows).update(purpose="train"), "purpose: a judgment for train of an item for check"
    ),
    "an entry for training of a judgment for checking": (
        lambda rows: first(rows, "snapshot-entry").update(judgment_id=held(rows)["id"], item_id=held(rows)["item_id"]),
        "it says something else than its judgment",
    ),
    "an entry of another item": (
        lambda rows: first(rows, "snapshot-entry").update(item_id=held(rows)["item_id"]), "it says something else"
    ),
    "an entry that is not as its snapshot": (
        lambda rows: first(rows, "snapshot-entry").update(training=False), "it says something else"
    ),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("name", CHANGES)
def test_what_create_would_refuse_no_file_brings_in(name: str, tmp_path: Path) -> None:
    change, said = CHANGES[name]
    of = full()
    with pytest.raises(HeedfulError) as caught:
        restored(of, tmp_path, change)
    assert said in str(caught.value)
    assert "raw.jsonl:" in caught.value.where
    assert not Programme.objects.filter(pk=of.pk).exists()
    assert not Judgment.objects.exists()


@pytest.mark.django_db
def test_judgments_of_all_purposes_come_back(tmp_path: Path) -> None:
    """Those from before an item became gold, and a second pass, are of another purpose than their item."""
    of = full()
    before = sorted(Judgment.objects.values_list("purpose", "item__purpose"))
    assert (Purpose.TRAIN, Purpose.GOLD) in before
    restored(of, tmp_path, lambda rows: None)
    assert sorted(Judgment.objects.values_list("purpose", "item__purpose")) == before


@pytest.mark.django_db
def test_no_file_says_that_private_addresses_may_be_asked(tmp_path: Path) -> None:
    of = programme(allow_private_addresses=True, lease_seconds=60)
    export(of, "raw", tmp_path / "raw.jsonl")
    forget(of)
    made = plan(tmp_path / "raw.jsonl")
    assert any("private addresses" in note for note in made.notes)
    rules = rules_of(restore(made).settings)
    assert (rules.allow_private_addresses, rules.lease_seconds) == (False, 60)


def test_no_variable_of_the_server_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVIL, "top-secret")
    pin = {"name": "p", "base_url": "http://127.0.0.1:9/v1", "model": "m", "key_variable": EVIL, "sampling": {},
           "candidates": 2}  # fmt: skip
    with pytest.raises(endpoints.EndpointError, match="must begin with HEEDFUL_KEY_"):
        endpoints.complete(pin, [{"role": "user", "content": "x"}], 0, allow_private=True)


@pytest.mark.parametrize(
    "given",
    [
        {"lease_seconds": 1.5}, {"lease_seconds": True}, {"max_share": "1"}, {"max_share": float("nan")},
        {"require_rationale": 1}, {"consent_text": None}, {"group_questions": "abc"}, {"group_questions": {}},
        {"group_questions": [{"name": "a", "question": "b", "answers": [1]}]}, {"disagreement": float("inf")},
    ],
)  # fmt: skip
def test_a_rule_of_another_type_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError) as caught:
        rules_of(given)
    assert caught.value.where == f"rules.{next(iter(given))}"


def test_rules_are_what_was_stored() -> None:
    asked = ({"name": "a", "question": "b", "answers": ["c", "d"]},)
    rules = Rules(max_share=1, consent_text="I agree.", group_questions=asked)
    assert rules_of(json.loads(json.dumps(rules.stored()))) == Rules(
        max_share=1.0, consent_text="I agree.", group_questions=asked
    )
