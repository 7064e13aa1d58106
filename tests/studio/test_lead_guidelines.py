"""The rubric's editor, its history, and the difference between versions."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lead_world import World, login, world

from heedful.feedback.programmes import publish_guideline
from heedful.studio.lead.diffs import difference

LINES = st.lists(st.text(alphabet="ab c*", max_size=6), max_size=12).map("\n".join)


@given(LINES, LINES)
def test_a_difference_holds_both_texts(old: str, new: str) -> None:
    assume(old.splitlines() != new.splitlines())  # all the same is one gap
    lines = difference(old, new, context=10_000)
    assert [line.text for line in lines if line.sign != "added"] == old.splitlines()
    assert [line.text for line in lines if line.sign != "removed"] == new.splitlines()
    assert [line.old for line in lines if line.old] == list(range(1, len(old.splitlines()) + 1))
    assert [line.new for line in lines if line.new] == list(range(1, len(new.splitlines()) + 1))
    assert all(a.marked != b.marked for line in lines for a, b in zip(line.pieces, line.pieces[1:], strict=False))


@given(LINES)
def test_equal_texts_differ_in_nothing(text: str) -> None:
    assert all(line.sign in ("same", "gap") for line in difference(text, text))


def test_a_changed_word_is_marked_and_far_lines_are_a_gap() -> None:
    old = [f"line {n}" for n in range(20)]
    new = [*old]
    new[10] = "line ten"
    lines = difference("\n".join(old), "\n".join(new))
    assert [(line.sign, line.text) for line in lines] == [
        ("gap", "7"),
        *(("same", f"line {n}") for n in (7, 8, 9)),
        ("removed", "line 10"),
        ("added", "line ten"),
        *(("same", f"line {n}") for n in (11, 12, 13)),
        ("gap", "6"),
    ]
    assert lines[0].count == 7
    assert [(piece.text, piece.marked) for piece in lines[5].pieces] == [("line ", False), ("ten", True)]


def test_lines_that_have_nothing_in_common_carry_no_marks() -> None:
    lines = difference("# Prefer what helps", "# How to judge")
    assert [(line.sign, [piece.marked for piece in line.pieces]) for line in lines] == [
        ("removed", [False]),
        ("added", [False]),
    ]


pytest_db = pytest.mark.django_db


@pytest.fixture
def of() -> World:
    return world(items=0)


def sent(**over: str) -> dict[str, str]:
    row = {"name": "clear", "title": "Clear", "question": "Is it?", "low": "no", "high": "yes", "points": "4"}
    return {
        "markdown": "# Be kind\r\n\r\nAlways.",
        "summary": "Kindness",
        "base": "1",
        "text_vi": "# Tử tế",
        "attribute-TOTAL_FORMS": "1",
        "attribute-INITIAL_FORMS": "0",
        **{f"attribute-0-{key}": value for key, value in row.items()},
        **over,
    }


@pytest_db
def test_publishing_makes_the_next_version_and_keeps_the_last(of: World) -> None:
    client = login(of.manager)
    assert client.post(of.at("guidelines/edit/"), sent()).status_code == 302
    first, second = of.programme.guidelines.order_by("version")
    assert (second.markdown, second.summary, second.author) == ("# Be kind\n\nAlways.", "Kindness", of.manager)
    assert second.translations == {"vi": "# Tử tế"}
    assert [one["name"] for one in second.attributes] == ["clear"]
    assert of.batch.guideline == first
    page = client.get(of.at("guidelines/")).content.decode()
    assert "Kindness" in page
    assert "Tử tế" in page
    assert client.get(of.at("guidelines/1/")).status_code == 200
    assert client.get(of.at("guidelines/9/")).status_code == 404


@pytest_db
def test_two_who_write_at_once_do_not_overwrite_each_other(of: World) -> None:
    publish_guideline(of.programme, "# Mine", author=of.admin)
    client = login(of.manager)
    answer = client.post(of.at("guidelines/edit/"), sent())
    assert answer.status_code == 422
    assert "Version 2 was published while you wrote" in answer.content.decode()
    assert "Be kind" in answer.content.decode()
    assert client.post(of.at("guidelines/edit/"), sent(base=answer.context["form"]["base"].value())).status_code == 302
    assert of.programme.guidelines.count() == 3


@pytest_db
def test_what_is_wrong_is_told_and_nothing_published(of: World) -> None:
    client = login(of.manager)
    for over, words in (
        ({"markdown": " "}, "Say how raters should judge"),
        ({"attribute-0-name": ""}, "Give the attribute a short name"),
        ({"attribute-0-points": "99"}, "less than or equal to 10"),
        ({"markdown": "nul \0"}, "Null characters"),
    ):
        answer = client.post(of.at("guidelines/edit/"), sent(**over))
        assert answer.status_code == 422, over
        assert words in answer.content.decode()
    same = of.programme.guidelines.get()
    start = client.get(of.at("guidelines/edit/")).context
    unchanged = {
        "markdown": same.markdown,
        "base": "1",
        **{f"attribute-{k}": v for k, v in (("TOTAL_FORMS", "3"), ("INITIAL_FORMS", "2"))},
        **{
            f"attribute-{i}-{key}": str(start["formset"].initial[i][key])
            for i in range(2)
            for key in ("name", "title", "question", "low", "high", "points")
        },
    }
    answer = client.post(of.at("guidelines/edit/"), unchanged)
    assert "Nothing has changed" in answer.content.decode()
    assert of.programme.guidelines.count() == 1


@pytest_db
def test_versions_are_compared_word_by_word_and_their_texts_are_only_words(of: World) -> None:
    publish_guideline(of.programme, "# Prefer what truly helps <script>alert(1)</script>", author=of.admin)
    page = login(of.manager).get(of.at("guidelines/compare/"), {"old": "1", "new": "2"}).content.decode()
    assert "<ins>truly </ins>" in page or "<ins> truly</ins>" in page
    assert "<script>alert" not in page
    assert (
        "These two say the same"
        in login(of.manager).get(of.at("guidelines/compare/"), {"old": "1", "new": "1"}).content.decode()
    )
    for old in ("x", "0", "99", "-1", "1e3"):
        assert login(of.manager).get(of.at("guidelines/compare/"), {"old": old}).status_code == 404


@pytest_db
def test_the_preview_is_clean_and_keeps_nothing(of: World) -> None:
    answer = login(of.manager).post(of.at("guidelines/preview/"), {"markdown": "**Be** <b onclick=x>kind</b>"})
    text = answer.content.decode()
    assert "<strong>Be</strong>" in text
    assert "<b onclick" not in text
    assert of.programme.guidelines.count() == 1
