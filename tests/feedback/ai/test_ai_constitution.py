"""A constitution: what is read, what is refused and where, and that draws depend on their place alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.feedback.ai.constitution import Principle, draw, load_constitution, parse_constitution, uniform

TWO = """# a comment
name: ours
principles:
  - id: kind
    tags: [manners]
    critique: Is it kind?
    revision: >-
      Make it
      kind.
  - id: short
    weight: 3
    choice: Which is shorter?
"""


def test_what_is_read() -> None:
    found = parse_constitution(TWO, "ours.yaml")
    assert found.name == "ours"
    assert found.principles == (
        Principle("kind", critique="Is it kind?", revision="Make it kind.", tags=("manners",)),
        Principle("short", choice="Which is shorter?", weight=3.0),
    )
    assert [p.id for p in found.only("revising")] == ["kind"]
    assert [p.id for p in found.only("choosing")] == ["short"]


def test_the_version_is_of_what_is_said_not_of_how_it_is_laid_out() -> None:
    found = parse_constitution(TWO, "ours.yaml")
    other = TWO.replace("# a comment\n", "").replace(">-\n      Make it\n      kind.", '"Make it  kind."')
    assert parse_constitution(other.replace("name: ours", "name: theirs"), "x").version == found.version
    assert parse_constitution(TWO.replace("weight: 3", "weight: 2"), "x").version != found.version
    assert parse_constitution(TWO.replace("kind?", "kind!"), "x").version != found.version
    assert parse_constitution(found.text(), "x") == parse_constitution(TWO, "x")


def test_the_one_that_is_shipped_serves_every_use_and_what_it_is_to_cover() -> None:
    found = load_constitution()
    assert found.version == "b50708fe4d18", "say so in the log when the default changes, and write the new version here"
    for tag in ("helpfulness", "harmlessness", "honesty", "no-needless-refusal"):
        assert found.only("revising", [tag])
        assert found.only("choosing", [tag])
        assert found.only("contrasting", [tag])
    assert parse_constitution(found.text(), "x").version == found.version


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "c.yaml", "no block of"),
        ("name: x\n", "c.yaml:1", "no principles"),
        ("principles: []\n", "c.yaml:1", "no principles"),
        ("nmae: x\nprinciples: []", "c.yaml:1", "'nmae' is not known. Did you mean 'name'?"),
        ("principles:\n- id: a\n  choise: x\n", "c.yaml:3", "'choise' is not known. Did you mean 'choice'?"),
        ("principles:\n- id: a\n  choice: x\n  choice: y\n", "c.yaml:4", "stands here twice"),
        ("principles:\n- choice: x\n", "c.yaml:2", "has no id"),
        ("principles:\n- id: A b\n  choice: x\n", "c.yaml:2", "the id 'A b' is none"),
        ("principles:\n- id: a\n", "c.yaml:2", "'a' is empty"),
        ("principles:\n- id: a\n  choice:\n", "c.yaml:3", "'choice' is empty"),
        ("principles:\n- id: a\n  choice: '  '\n", "c.yaml:3", "'choice' is empty"),
        ("principles:\n- id: a\n  choice: 3\n", "c.yaml:3", "'choice' is no text"),
        ("principles:\n- id: a\n  choice: !!python/name:os.system x\n", "c.yaml:3", "'choice' is no text"),
        ("principles:\n- id: a\n  critique: x\n", "c.yaml:2", "has 'critique' and no 'revision'"),
        ("principles:\n- id: a\n  violate: x\n", "c.yaml:2", "has 'violate' and no 'follow'"),
        ("principles:\n- id: a\n  choice: x\n- id: a\n  choice: y\n", "c.yaml:4", "'a' stands at c.yaml:2 already"),
        (
            "principles:\n- id: a\n  choice: Be kind!\n- id: b\n  choice: be  kind\n",
            "c.yaml:4",
            "repeats the choice of",
        ),
        ("principles:\n- id: a\n  choice: x\n  weight: 0\n", "c.yaml:4", "no number above 0"),
        ("principles:\n- id: a\n  choice: x\n  weight: .inf\n", "c.yaml:4", "no number above 0"),
        ("principles:\n- id: a\n  choice: x\n  weight: yes\n", "c.yaml:4", "no number above 0"),
        ("principles:\n- id: a\n  choice: x\n  tags: kind\n", "c.yaml:4", "'tags' is no list"),
        ("principles:\n  - [a\n", "c.yaml:3", "not YAML"),
    ],
)
def test_what_is_refused_names_its_line(text: str, where: str, what: str) -> None:
    with pytest.raises(HeedfulError) as caught:
        parse_constitution(text, "c.yaml")
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.mend


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="default is the one that heedful ships"):
        load_constitution(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(HeedfulError, match="not UTF-8"):
        load_constitution(tmp_path / "odd.yaml")


def test_a_use_or_a_tag_that_no_principle_has() -> None:
    found = parse_constitution(TWO, "ours.yaml")
    with pytest.raises(HeedfulError, match="no principle serves contrasting"):
        found.only("contrasting")
    with pytest.raises(HeedfulError, match="no principle with the tag manners serves choosing"):
        found.only("choosing", ["manners"])
    with pytest.raises(HeedfulError, match="Did you mean 'manners'"):
        found.only("revising", ["maners"])


def test_draws_follow_the_weights_and_their_place_alone() -> None:
    principles = (Principle("a", choice="x"), Principle("b", choice="y", weight=3.0))
    count = Counter(draw(principles, 7, "key", i).id for i in range(4000))
    assert abs(count["b"] / 4000 - 0.75) < 0.03
    assert [draw(principles, 7, "key", i).id for i in (3, 1, 2)] == [
        draw(principles, 7, "key", 3).id,
        draw(principles, 7, "key", 1).id,
        draw(principles, 7, "key", 2).id,
    ]
    assert [draw(principles, 8, "key", i).id for i in range(40)] != [
        draw(principles, 7, "key", i).id for i in range(40)
    ]


def test_the_number_of_a_place_is_pinned() -> None:
    """A resumed run draws what it drew: on any machine, with any version."""
    assert uniform(0, "revise", "k", 1) == 0.12192252188818453


@given(st.integers(), st.lists(st.text()))
def test_numbers_lie_in_the_unit_interval(seed: int, place: list[str]) -> None:
    assert 0 <= uniform(seed, *place) < 1
