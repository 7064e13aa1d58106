"""Judgments as columns: what is in, what is out, and what the views make of payloads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from agreement_store import BEGIN, people, say
from feedback_factories import account, batch, item, programme, rater
from feedback_stores import url_of_default
from heedful.feedback import gold, judgment_table
from heedful.feedback.judgment_reading import pull, read
from heedful.feedback.judgment_table import ItemInfo, JudgmentTable, RaterInfo
from heedful.feedback.local import LocalClient
from heedful.feedback.models import GroupAnswer, Guideline, Purpose, RaterKind
from heedful.feedback.reliability import reliability


def table(kind: str, rows: list[tuple[int, int, dict[str, Any]]], **more: Any) -> JudgmentTable:
    """A table of (item, rater, payload)."""
    items, raters, payloads = zip(*rows, strict=True)
    infos = more.pop("infos", None) or [ItemInfo(f"i{n}", kind, f"p{n}", "b") for n in range(max(items) + 1)]
    count = len(rows)
    given = {
        "again": np.zeros(count, dtype=bool),
        "when": np.arange(count, dtype=float),
        "seconds": np.full(count, 10.0),
        "first": np.zeros(count, dtype=np.int64),
        **more,
    }
    names = tuple(RaterInfo(f"r{n}", "person") for n in range(max(raters) + 1))
    return JudgmentTable("p", names, tuple(infos), np.array(items), np.array(raters), payloads, **given)


class TestViews:
    def test_comparisons(self) -> None:
        found = judgment_table.aspects(
            table("pairwise", [(0, 0, {"strength": -3}), (0, 1, {"strength": 0}), (1, 0, {"strength": 2})])
        )
        assert [one.value.tolist() for one in found] == [[-1, 0, 1], [-1, 1], [-3, 0, 2]]
        assert [one.unit.tolist() for one in found] == [[0, 0, 1], [0, 1], [0, 0, 1]]
        assert [one.level for one in found] == ["nominal", "nominal", "ordinal"]

    def test_rankings_are_pairs_and_whole(self) -> None:
        made = table(
            "ranking", [(0, 0, {"ranks": [1, 2, 2]}), (0, 1, {"ranks": [3, 1, 2]}), (1, 0, {"ranks": [1, 2, 3]})]
        )
        (found,) = judgment_table.aspects(made)
        assert found.value.tolist() == [-1, -1, 0, 1, 1, -1, -1, -1, -1]
        assert found.unit.tolist() == [0, 1, 2, 0, 1, 2, 64, 65, 66]
        whole, prompts = judgment_table.rankings(made)
        assert [one.tolist() for one in whole] == [[[1, 2, 2], [3, 1, 2]]]
        assert prompts == ["p0"]

    def test_attributes_have_a_unit_a_completion(self) -> None:
        payload = {"scores": [{"true": 4, "kind": 2}, {"true": 1, "kind": 7}]}
        found = judgment_table.aspects(table("attributes", [(0, 0, payload)], points={"true": 4}))
        assert [(one.name, one.value.tolist(), one.unit.tolist()) for one in found] == [
            ("kind", [2, 7], [0, 1]),
            ("true", [4, 1], [0, 1]),
        ]
        assert [len(one.scale) for one in found] == [7, 4]

    @pytest.mark.parametrize(
        ("kind", "payload", "said"),
        [
            ("pairwise", {"strength": -1}, "a"),
            ("pairwise", {"strength": 3}, "b"),
            ("pairwise", {"strength": 0}, "tie"),
            ("ranking", {"ranks": [2, 3, 1]}, "c"),
            ("ranking", {"ranks": [1, 1, 3]}, "tie"),
            ("attributes", {"scores": [{"x": 1, "y": 5}, {"x": 4, "y": 4}]}, "b"),
            ("attributes", {"scores": [{"x": 1, "y": 5}, {"x": 3, "y": 3}]}, "tie"),
            ("attributes", {"scores": [{"x": 1, "y": 5}]}, "3 points"),
        ],
    )
    def test_a_judgment_as_one_thing(self, kind: str, payload: dict[str, Any], said: str) -> None:
        assert judgment_table.choice(kind, payload) == said

    def test_what_was_shown_first(self) -> None:
        rows = [(n, 0, {"strength": s}) for n, s in enumerate((-1, -1, 1, 0, 1))]
        made = table("pairwise", rows, first=np.array([0, 1, 1, 0, -1]))
        assert judgment_table.judged(made).prefers_first.tolist() == pytest.approx(
            [1, 0, 1, np.nan, np.nan], nan_ok=True
        )

    def test_a_rater_who_saw_one_order_alone_tells_no_habit_of_place(self) -> None:
        """An AI judge who is shown a first each time and likes a may like its content."""
        rows = [(n, r, {"strength": -1}) for n in range(20) for r in range(2)]
        first = np.array([0 if r or n % 2 else 1 for n in range(20) for r in range(2)])
        made = judgment_table.judged(table("pairwise", rows, first=first))
        assert np.isnan(made.prefers_first[made.rater == 1]).all()
        assert made.prefers_first[made.rater == 0].tolist() == [0, 1] * 10

    def test_outcomes_mean_the_same_whatever_the_item(self) -> None:
        infos = [
            ItemInfo("i0", "pairwise", "p", "b", (10, 20), ("old", "new")),
            ItemInfo("i1", "pairwise", "p", "b", (20, 10), ("new", "old")),
            ItemInfo("i2", "pairwise", "p", "b", (5, 5), ("new", "new")),
        ]
        rows = [(0, 0, {"strength": 1}), (1, 0, {"strength": -1}), (2, 0, {"strength": 0}), (1, 1, {"strength": 1})]
        made = judgment_table.outcomes(table("pairwise", rows, infos=infos))
        found = {one.topic: (one.row.tolist(), one.value.tolist()) for one in made}
        assert found == {
            "the longer answer": ([0, 1, 3], [1, 1, 0]),
            "answers of new": ([0, 1, 3], [1, 1, 0]),
            "a tie": ([0, 1, 2, 3], [0, 0, 1, 0]),
        }

    def test_an_unknown_policy_is_no_topic(self) -> None:
        infos = [
            ItemInfo("i0", "pairwise", "p", "b", (10, 20), ("old", "new")),
            ItemInfo("i1", "pairwise", "p", "b", (20, 10), ("", "old")),
        ]
        rows = [(0, 0, {"strength": 1}), (1, 0, {"strength": -1}), (1, 1, {"strength": 1})]
        made = judgment_table.outcomes(table("pairwise", rows, infos=infos))
        found = {one.topic: (one.row.tolist(), one.value.tolist()) for one in made}
        assert found == {"the longer answer": ([0, 1, 2], [1, 1, 0]), "answers of old": ([0, 1, 2], [0, 0, 1])}

    def test_choices_of_different_tasks_are_told_apart(self) -> None:
        infos = [ItemInfo("i0", "pairwise", "p", "b", (1, 2)), ItemInfo("i1", "ranking", "q", "b", (1, 2, 3))]
        said = [{"strength": -2}, {"strength": 0}, {"ranks": [1, 2, 3]}, {"ranks": [2, 3, 1]}, {"ranks": [1, 1, 3]}]
        rows = [(0, 0, said[0]), (0, 1, said[1]), *((1, place, one) for place, one in enumerate(said[2:]))]
        found = judgment_table.judged(table("", rows, infos=infos))
        assert found.value[0] == found.value[2]  # a
        assert found.value[1] == found.value[4]  # a tie
        assert len(set(found.value.tolist())) == 3
        assert found.options.tolist() == [2, 2, 3, 3, 3]

    def test_repeats_pair_the_second_with_the_first(self) -> None:
        rows = [(0, 0, {"strength": 1}), (0, 1, {"strength": 1}), (0, 0, {"strength": -2}), (1, 0, {"strength": 1})]
        again = judgment_table.repeats(table("pairwise", rows, again=np.array([False, False, True, True])))
        assert again is not None
        assert (again.rater.tolist(), again.first.tolist(), again.again.tolist()) == ([0], ["b"], ["a"])
        assert judgment_table.repeats(table("pairwise", rows[:2])) is None


@pytest.mark.django_db
class TestReading:
    def test_what_is_in_and_what_is_out(self) -> None:
        of = programme()
        one, other = people(of, 2)
        own = batch(of, quota=2, name="own")
        asked = item(own, answers=["abc", "defgh"], policies=["base", "tuned"])
        say(asked, one, {"strength": 1}, order=[1, 0])
        say(asked, other, {"strength": -2}, at=BEGIN + timedelta(hours=1))
        say(item(batch(of, purpose=Purpose.CALIBRATION)), one, {"strength": 1}, purpose=Purpose.CALIBRATION)
        became_gold = item(own)
        say(became_gold, one, {"strength": 1})
        gold.promote(became_gold, [{"strength": [1, 3]}], "b", actor=account())
        found = read(of)
        assert [info.id for info in found.items] == [str(asked.pk)]
        (info,) = found.items
        assert (info.lengths, info.policies, info.batch) == ((3, 5), ("base", "tuned"), "own")
        assert [payload["strength"] for payload in found.payload] == [1, -2]
        assert found.first.tolist() == [1, 0]
        assert found.seconds.tolist() == [20.0, 20.0]
        assert found.when[1] - found.when[0] == pytest.approx(3600)
        assert found.points == {"helpful": 5, "honest": 5}
        assert found.gold is None

    def test_the_newest_of_a_rater_counts_once(self) -> None:
        """Under a new version of the rubric a rater may judge an item again: one vote, the later."""
        of = programme()
        (one,) = people(of, 1)
        asked = item(batch(of))
        say(asked, one, {"strength": 1})
        later = Guideline.objects.create(programme=of, version=2, markdown="# New")
        say(asked, one, {"strength": -1}, at=BEGIN + timedelta(days=1), guideline=later)
        found = read(of)
        assert [payload["strength"] for payload in found.payload] == [-1]

    def test_repeats_of_another_rubric_are_left_out(self) -> None:
        of = programme()
        (one,) = people(of, 1)
        first, second = item(batch(of)), item(batch(of))
        later = Guideline.objects.create(programme=of, version=2, markdown="# New")
        for asked, guideline in ((first, first.batch.guideline), (second, later)):
            say(asked, one, {"strength": 1})
            say(asked, one, {"strength": 1}, purpose=Purpose.CHECK, pass_number=2, guideline=guideline)
        assert read(of).again.sum() == 1

    def test_people_are_pseudonyms_unless_names_are_asked_for(self) -> None:
        of = programme()
        person, judge = rater(of), rater(of, kind=RaterKind.AI, name="judge")
        user = rater(of, kind=RaterKind.END_USER, name="someone@example.org")  # no rater of the programme
        asked = item(batch(of))
        for who in (person, judge, user):
            say(asked, who, {"strength": 1})
        masked = read(of).raters
        assert [one.kind for one in masked] == ["person", "ai"]
        assert masked[1].name == "judge"
        assert masked[0].name.startswith("rater ")
        assert person.account is not None
        assert read(of, names=True).raters[0].name == person.account.username
        far = pull(LocalClient(url_of_default()), of.slug)
        assert [one.kind for one in far.raters] == ["person", "ai"]
        assert far.raters[0].name == masked[0].name

    def test_answers_about_oneself_are_read_but_not_those_withheld(self) -> None:
        of = programme()
        one, other = people(of, 2)
        asked = item(batch(of))
        for who, answer in ((one, "north"), (other, "")):
            GroupAnswer.objects.create(rater=who, question="where", answer=answer)
            say(asked, who, {"strength": 1})
        assert read(of).groups == {"where": {0: "north"}}
        assert pull(LocalClient(url_of_default()), of.slug).groups is None


class TestReliability:
    def test_days_become_weeks_where_there_are_many(self) -> None:
        day = 86400.0
        rows = [(n, r, {"strength": 1 if (n + r) % 3 else -1}) for n in range(40) for r in range(2)]
        made = table("pairwise", rows, when=np.array([n * day for n in range(40) for _ in range(2)]))
        found = reliability(made, samples=100)
        weeks = ["1970-01-01", "1970-01-08", "1970-01-15", "1970-01-22", "1970-01-29", "1970-02-05"]
        assert [row.part for row in found.time] == weeks
        assert sum(row.items for row in found.time) == 40

    def test_three_items_on_which_all_agree_prove_nothing(self) -> None:
        said = {"scores": [{"helpful": 4}]}
        rows = [(n, r, {"scores": [{"helpful": 1 + n}]}) for n in range(3) for r in range(2)]
        (scored,) = reliability(table("attributes", rows), samples=100).attributes
        assert scored.alpha is not None
        assert scored.alpha.mean == 1
        assert scored.do == "Too few answers were judged twice to say: have more judged by two raters."
        many = [(n, r, said if n else {"scores": [{"helpful": 2}]}) for n in range(60) for r in range(2)]
        (enough,) = reliability(table("attributes", many), samples=100).attributes
        assert enough.do == "Good enough to train on."
        rows = [(n, r, {"strength": 1 if n else -1}) for n in range(3) for r in range(2)]
        compared = reliability(table("pairwise", rows), samples=100).kinds[0]
        assert compared.raw.low < 0.5
        assert compared.do.startswith("Too few items to know it to within 5 points")

    def test_agreement_by_one_sides_winning_alone_is_called_chance(self) -> None:
        """Each says b of one item in ten, never of the same one: they agree on 80%, and α is below 0."""
        rows = [(n, r, {"strength": 1 if n % 10 == r else -1}) for n in range(400) for r in range(2)]
        found = reliability(table("pairwise", rows), samples=100).kinds[0]
        assert found.raw.mean == 0.8
        assert found.alpha is not None
        assert found.alpha.mean == pytest.approx(-0.1097, abs=1e-4)  # 1 - 799 · 160 / (2 · 80 · 720)
        assert found.do.startswith("Hardly more than chance")

    def test_items_of_one_prompt_alone_have_no_bounds(self) -> None:
        infos = [ItemInfo(f"i{n}", "pairwise", "same", "b") for n in range(3)]
        rows = [(n, r, {"strength": 1 if n or r else -1}) for n in range(3) for r in range(2)]
        found = reliability(table("pairwise", rows, infos=infos), samples=100)
        assert found.kinds[0].raw.mean == pytest.approx(2 / 3)
        assert np.isnan(found.kinds[0].raw.low)
        assert found.ceiling is not None
        assert found.ceiling.widest.low == found.ceiling.ceiling.low

    def test_groups_under_five_raters_are_not_told_of(self) -> None:
        rows = [(n, r, {"strength": 1 if (n + r) % 2 else -1}) for n in range(6) for r in range(10)]
        answers = {r: "big" if r < 5 else "small" if r < 9 else "" for r in range(10)}
        found = reliability(table("pairwise", rows, groups={"q": answers}), samples=100)
        assert found.groups is not None
        (figures,) = found.groups
        assert figures.raters == {"big": 5}
        assert figures.topics == ()
        assert figures.omnibus is None
        assert figures.shares is not None
        assert figures.shares.shares == {"big": 1.0}

    def test_a_population_must_fit_the_groups_that_are_shown(self) -> None:
        rows = [(n, r, {"strength": 1 if (n + r) % 2 else -1}) for n in range(6) for r in range(12)]
        age = {r: "old" if r < 6 else "young" for r in range(12)}
        groups = {"age": age, "place": {r: f"town {r}" for r in range(12)}}
        made = table("pairwise", rows, groups=groups)
        for population, said in (
            ({"shoes": {"large": 1.0}}, "nobody answered a question 'shoes'; answered: age, place"),
            ({"age": {"young": 1.0}}, "says nothing of the group 'old'"),
            ({"age": {"young": 1.0, "old": 1.0, "dead": 1.0}}, "no judgment comes from the group 'dead'"),
            ({"place": {"town 0": 1.0}}, "no answer to 'place' was given by 5 raters or more"),
        ):
            with pytest.raises(ValueError, match=said):
                reliability(made, population=population, samples=100)

    def test_a_dominant_group_is_warned_of(self) -> None:
        rows = [(n, r, {"strength": 1}) for n in range(8) for r in range(15)] + [
            (8, r, {"strength": -1}) for r in range(20)
        ]
        answers = {r: "many" if r < 15 else "few" for r in range(20)}
        found = reliability(table("pairwise", rows, groups={"q": answers}), samples=100)
        assert found.groups is not None
        assert found.groups[0].shares is not None
        assert found.groups[0].shares.dominant == "many"
        assert found.groups[0].do.startswith("'many' gave 96% of the labels: invite others")
