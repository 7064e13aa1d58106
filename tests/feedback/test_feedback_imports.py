"""Files into the store: all of a file as one staged batch, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from feedback.hostile import hostile_texts
from feedback_factories import account, programme, rater
from feedback_files import jsonl, table
from heedful.errors import HeedfulError
from heedful.feedback import content
from heedful.feedback.imports import plan as plan_for
from heedful.feedback.imports import stage
from heedful.feedback.models import AuditEvent, Batch, BatchState, Completion, Item, Prompt, Slot


@pytest.mark.django_db
def test_staged_items_are_seen_by_nobody_until_the_batch_is_opened() -> None:
    of = programme()
    source = jsonl(
        {"prompt": "p", "a": "1", "b": "2", "policy_a": "m", "lang": "vi", "skill": "law", "category": "a; b",
         "priority": 3, "note": {"deep": [1]}},
        {"prompt": "q", "a": "1", "b": "2", "policy_a": "n"},
    )  # fmt: skip
    made = plan_for(source, programme=of)
    who = account()
    batch = stage(of, made, name="first", quota=2, purpose="check", round=3, actor=who)
    assert (batch.state, batch.quota, batch.purpose, batch.round) == (BatchState.STAGED, 2, "check", 3)
    assert batch.source_sha256 == source.sha256()
    first, second = batch.items.order_by("position").select_related("prompt")
    assert (first.language, first.expertise, first.priority, first.kind) == ("vi", "law", 3, "pairwise")
    assert first.prompt.categories == ["a", "b"]
    assert first.prompt.source == {"file": "rows.jsonl", "line": 1, "columns": {"note": {"deep": [1]}}}
    assert second.prompt.source == {"file": "rows.jsonl", "line": 2}
    assert [(e.completion.text, e.completion.policy) for e in first.entries.all()] == [("1", "m"), ("2", "")]
    assert not Slot.objects.exists()
    content.open_batch(batch)
    assert Slot.objects.filter(batch=batch).count() == 4
    event = AuditEvent.objects.get(kind="batch.staged")
    assert (event.digest, event.actor) == (source.sha256(), who.pk)


@pytest.mark.django_db
def test_the_same_file_comes_once_unless_told() -> None:
    of = programme()
    made = plan_for(jsonl({"prompt": "p", "a": "1", "b": "2"}), programme=of)
    stage(of, made, name="first")
    with pytest.raises(HeedfulError, match="already, as the batch 'first'"):
        stage(of, made, name="second")
    again = plan_for(made.source, programme=of)
    assert "already" in again.notes[-1]
    stage(of, again, name="second", again=True)
    stage(programme(), made, name="elsewhere")
    assert Batch.objects.count() == 3


@pytest.mark.django_db
def test_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    bad = plan_for(jsonl({"prompt": "p", "a": "1", "b": "2"}, {"prompt": "p", "a": "1"}), programme=of)
    with pytest.raises(HeedfulError, match=r"rows\.jsonl:2: b"):
        stage(of, bad, name="bad")
    good = plan_for(jsonl(*({"prompt": f"p{i}", "a": "1", "b": "2"} for i in range(700))), programme=of)
    record = content.events.record

    def last_of_all(kind: str, **ids: Any) -> Any:
        if kind == "items.added":
            assert Item.objects.count() == 700
            raise RuntimeError("the power is gone")
        return record(kind, **ids)

    monkeypatch.setattr(content.events, "record", last_of_all)
    with pytest.raises(RuntimeError):
        stage(of, good, name="good")
    for model in (Batch, Item, Prompt, Completion):
        assert not model._default_manager.exists()


@pytest.mark.django_db
def test_named_raters_are_looked_up_by_name() -> None:
    of = programme()
    ann = rater(of)
    username = ann.account.username  # type: ignore[union-attr]
    source = jsonl({"prompt": "p", "a": "1", "b": "2", "raters": [username]})
    batch = stage(of, plan_for(source, programme=of), name="named")
    assert batch.items.get().named_raters == [str(ann.pk)]
    unknown = jsonl({"prompt": "p", "a": "1", "b": "2", "raters": f"{username}; zoe"})
    (problem,) = plan_for(unknown, programme=of).problems
    assert (problem.line, problem.field, problem.what) == (1, "raters", "no rater is known as 'zoe'.")


@pytest.mark.django_db
def test_what_the_store_refuses_names_the_line() -> None:
    of = programme()
    ann = rater(of)
    source = jsonl({"prompt": "p", "a": "1", "b": "2"}, {"prompt": "p", "a": "1", "b": "2", "raters": [str(ann.pk)]})
    with pytest.raises(HeedfulError, match=r"rows\.jsonl:2, named_raters: 1 named raters for a quota of 3"):
        stage(of, plan_for(source, programme=of), name="named", quota=3)
    assert not Batch.objects.exists()


@pytest.mark.django_db
def test_a_file_that_changed_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    of = programme()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl({"prompt": "p", "a": "1", "b": "2"}).data)
    made = plan_for(path, programme=of)
    path.write_bytes(jsonl({"prompt": "p", "a": "1", "b": "other"}).data)
    with pytest.raises(HeedfulError, match="has changed"):
        stage(of, made, name="changed")


@pytest.mark.django_db
def test_another_task_looks_at_the_file_again() -> None:
    of = programme()
    made = plan_for(jsonl({"prompt": "p", "completion": "1"}), programme=of)
    assert stage(of, made, name="edit", task="edit").items.get().kind == "edit"
    with pytest.raises(HeedfulError, match="the task pairwise takes 2"):
        stage(of, made, name="pairs", task="pairwise")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["hostile.jsonl", "hostile.csv", "hostile.parquet"])
def test_hostile_texts_survive_byte_for_byte(name: str, tmp_path: Path) -> None:
    of = programme()
    texts = hostile_texts()
    asked = ["Q: " + text if text.startswith("\n\nHuman:") else text for text in texts]  # a prompt may be HH-RLHF's
    rows = [{"prompt": asked[i], "a": text, "b": texts[i - 1], "note": text[:1000]} for i, text in enumerate(texts)]
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif name.endswith("csv"):
        path.write_bytes(table(list(rows[0]), *(list(row.values()) for row in rows)).data)
    else:
        path.write_bytes(jsonl(*rows).data)
    made = plan_for(path, programme=of)
    assert made.problems == ()
    batch = stage(of, made, name="hostile")
    items = list(batch.items.order_by("position").select_related("prompt").prefetch_related("entries__completion"))
    for item, row in zip(items, rows, strict=True):
        assert item.prompt.messages == [{"role": "user", "content": row["prompt"]}]
        assert [e.completion.text for e in item.entries.all()] == [row["a"], row["b"]]
        assert item.prompt.source["columns"] == {"note": row["note"]}
