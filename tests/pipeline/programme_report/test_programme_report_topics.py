"""What prompts are about."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from heedful.data.records import Conversation, Message
from heedful.pipeline.programme_report.topics import Topics, clusters_of, topics_of
from heedful.pipeline.rounds.recipe import Programme, read_programme
from heedful.world.world import World

OWN = {"model": "hub/model", "prompts": {"data": "prompts.jsonl"}, "ai": {"judge": "a:b"}}
JUDGED = {"judge": {"ai": 1.0}, "check": {"judge": {"ai": 1.0}}}
COOKING = [f"how long do i {verb} {what} for dinner" for verb in ("boil", "fry", "bake") for what in ("rice", "beans")]
MAKING = [f"write python code that {verb} a list of {what}" for verb in ("sorts", "sums", "shows") for what in "abc"]


def ask(text: str) -> Conversation:
    return (Message("user", text),)


def programme(folder: Path, rows: list[dict[str, str]]) -> Programme:
    (folder / "heedful.yaml").write_text(yaml.safe_dump({**OWN, **JUDGED}))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_programme(folder)


def test_a_column_names_them(tmp_path: Path) -> None:
    rows = [{"prompt": "q1", "category": "billing"}, {"prompt": "q2", "category": "returns"}, {"prompt": "q3"}]
    found = topics_of([ask(name) for name in ("q2", "q1", "q3", "q9")], programme(tmp_path, rows))
    assert found.names == ("returns", "billing", "other", "other")
    assert "“category”" in found.how


def test_without_a_column_like_wordings_form_groups(tmp_path: Path) -> None:
    texts = [*COOKING * 2, *MAKING, *MAKING[:6]]
    found = topics_of([ask(text) for text in texts], programme(tmp_path, [{"prompt": text} for text in texts]))
    assert len(set(found.names)) == 2
    assert len(set(found.names[:12])) == len(set(found.names[12:])) == 1
    assert "dinner" in found.names[0]
    assert "code" in found.names[-1]
    assert "k-means" in found.how
    assert found == topics_of([ask(text) for text in texts], programme(tmp_path, [{"prompt": text} for text in texts]))


def test_a_few_prompts_form_none(tmp_path: Path) -> None:
    made = programme(tmp_path, [{"prompt": "q"}])
    assert topics_of([ask("q")] * 23, made) == Topics(
        (), "23 prompts without a column topic, category, dataset are too few to form groups."
    )


def test_a_file_that_is_gone_leaves_the_wording(tmp_path: Path) -> None:
    made = programme(tmp_path, [{"prompt": "q", "topic": "t"}])
    (tmp_path / "prompts.jsonl").unlink()
    assert topics_of([ask("q")], made).names == ()


def test_the_world_knows_its_own(tmp_path: Path) -> None:
    recipe = {"world": {"use": True}, "judge": {"simulated": 1.0}, "check": {"judge": {"simulated": 1.0}}}
    (tmp_path / "heedful.yaml").write_text(yaml.safe_dump(recipe))
    made, one = read_programme(tmp_path), World(0).prompts("train")[0]
    topic = World(0).topic_of(one.prompt)
    assert topics_of([one.prompt, ask("something else")], made).names == (topic.kind, "other")
    assert clusters_of([one.prompt, one.prompt], made) == [topic.name] * 2
