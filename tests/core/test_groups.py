from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from heedful.core.groups import agreement_within_groups, differences, label_shares, population_weights


def two_groups(seed: int, *, gap: float, raters: int = 24, items: int = 30) -> tuple[np.ndarray, ...]:
    """Every rater judges every item once; raters differ by themselves, and by `gap` between groups."""
    random = np.random.default_rng(seed)
    group = np.where(np.arange(raters) < raters // 2, "x", "y")
    own = np.clip(0.5 + 0.1 * random.normal(size=raters) + np.where(group == "x", gap / 2, -gap / 2), 0, 1)
    rater, item = np.indices((raters, items)).reshape(2, -1)
    outcome = (random.random(len(rater)) < own[rater]).astype(float)
    return item, rater, outcome, group[rater]


class TestDifferences:
    def test_by_hand(self) -> None:
        # raters a, b (group x): 1 1 and 1 0; c, d (y): 0 0 and 0 1. Means 3/4 and 1/4.
        rater = list("aabbccdd")
        (found,) = differences(["t"] * 8, rater, [1, 1, 1, 0, 0, 0, 0, 1], [*"xxxxyyyy"], permutations=500)
        assert (found.topic, found.group, found.raters, found.other_raters) == ("t", "x", 2, 2)
        assert (found.mean, found.others) == (0.75, 0.25)
        # each group: residuals +-1/2 over 4 judgments, 2/1 · (1/4 + 1/4) / 16 = 1/16; both 1/8, 2 degrees of freedom
        half = 4.302653 * math.sqrt(1 / 8)
        assert found.difference.mean == 0.5
        assert (found.difference.low, found.difference.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
        # of six ways to split the raters, x = {a, b} and {c, d} have the largest |t|; all a, b and b, a count
        exact = sum(abs(t_of(split)) >= abs(t_of((0, 1))) - 1e-9 for split in itertools.combinations(range(4), 2)) / 6
        assert found.p == pytest.approx(exact, abs=0.07)
        assert found.adjusted_p == found.p

    def test_a_planted_difference_is_found_and_its_size_covered(self) -> None:
        item, rater, outcome, group = two_groups(1, gap=0.4)
        (found,) = differences(["longer"] * len(item), rater, outcome, group)
        assert found.p < 0.01
        assert found.difference.low <= 0.4 <= found.difference.high

    def test_false_alarms_are_as_rare_as_the_level_although_judgments_hang_together(self) -> None:
        p = []
        for seed in range(200):
            item, rater, outcome, group = two_groups(seed, gap=0.0, raters=16, items=20)
            p.append(differences(["t"] * len(item), rater, outcome, group, permutations=199)[0].p)
        assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09

    def test_many_topics_are_corrected_together(self) -> None:
        item, rater, outcome, group = two_groups(3, gap=0.0, items=60)
        found = differences(item % 20, rater, outcome, group, permutations=199)
        assert len(found) == 20
        assert [one.p for one in found] == sorted(one.p for one in found)
        assert all(one.adjusted_p >= one.p for one in found)
        assert min(one.adjusted_p for one in found) > 0.05
        holm = differences(item % 20, rater, outcome, group, permutations=199, method="holm")
        assert all(a.adjusted_p >= b.adjusted_p for a, b in zip(holm, found, strict=True))

    def test_one_true_difference_among_many_survives_the_correction(self) -> None:
        """A thousand shuffles tell no p below 1/1001, which two hundred tests would correct to 0.2."""
        random = np.random.default_rng(5)
        rater, item = np.indices((24, 200)).reshape(2, -1)
        group = np.where(rater < 12, "x", "y")
        outcome = (random.random(len(rater)) < 0.5).astype(float)
        outcome[item == 7] = (group[item == 7] == "x").astype(float)
        outcome[(item == 7) & (rater % 12 == 0)] = 0.5
        first, *others = differences(item, rater, outcome, group, permutations=1000)
        assert first.topic == 7
        assert first.adjusted_p < 0.05
        assert min(one.adjusted_p for one in others) > 0.05

    def test_three_groups_give_three_tests_small_ones_none(self) -> None:
        rater = np.repeat(np.arange(9), 4)
        group = np.repeat([*"xxxyyyzz", ""], 4)
        outcome = np.tile([1.0, 0.0, 1.0, 0.5], 9)
        found = differences(np.zeros(36), rater, outcome, group, permutations=50)
        assert {one.group for one in found} == {"x", "y", "z"}
        assert {one.raters + one.other_raters for one in found} == {8}  # who did not say is left out
        found = differences(np.zeros(36), rater, outcome, group, permutations=50, least=3)
        assert {one.group for one in found} == {"x", "y"}
        assert differences(np.zeros(36), rater, outcome, group, least=6) == []

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="two groups"):
            differences([0, 0], ["a", "a"], [1, 0], ["x", "y"])
        with pytest.raises(ValueError, match="not finite"):
            differences([0], ["a"], [math.nan], ["x"])
        with pytest.raises(ValueError, match="2 or more"):
            differences([0], ["a"], [1], ["x"], least=1)


def t_of(inside: tuple[int, int]) -> float:
    totals = np.array([2, 1, 0, 1])
    one, other = totals[list(inside)], np.delete(totals, list(inside))
    error = math.sqrt(sum(2 * ((side - side.mean()) ** 2).sum() / 16 for side in (one, other)))
    gap = one.mean() / 2 - other.mean() / 2
    return gap / error if error else math.inf * np.sign(gap) if gap else 0.0


class TestOmnibus:
    def test_by_hand(self) -> None:
        # one item: a, b say 1 (x), c says 2, d says 1 (y). Within: ab agree, cd not: 1/2; between: ac no, ad, bc no, bd
        found = agreement_within_groups([0] * 4, list("abcd"), [1, 1, 2, 1], list("xxyy"), permutations=300)
        assert (found.within, found.between) == (0.5, 0.5)
        assert (found.within_pairs, found.between_pairs) == (2, 4)
        found = agreement_within_groups([0] * 4, list("abcd"), [1, 1, 2, 2], list("xxyy"), permutations=600)
        assert (found.within, found.between, found.difference) == (1.0, 0.0, 1.0)
        assert found.p == pytest.approx(1 / 3, abs=0.06)  # two of the six splits

    def test_groups_with_a_taste_of_their_own(self) -> None:
        random = np.random.default_rng(0)
        rater, item = np.indices((20, 60)).reshape(2, -1)
        group = np.where(rater < 10, "x", "y")
        taste = {"x": random.integers(0, 2, 60), "y": random.integers(0, 2, 60)}
        wanted = np.where(group == "x", taste["x"][item], taste["y"][item])
        value = np.where(random.random(1200) < 0.85, wanted, 1 - wanted)
        found = agreement_within_groups(item, rater, value, group, permutations=300)
        assert found.difference > 0.15
        assert found.p < 0.01
        shared = np.where(random.random(1200) < 0.85, taste["x"][item], 1 - taste["x"][item])
        assert agreement_within_groups(item, rater, shared, group, permutations=300).p > 0.05

    def test_pairs_can_be_drawn(self) -> None:
        rater, item = np.indices((20, 40)).reshape(2, -1)
        group = np.where(rater < 10, "x", "y")
        value = np.where(group == "x", item % 2, (item // 2) % 2)
        found = agreement_within_groups(item, rater, value, group, permutations=20, most_pairs=1000)
        assert found.within_pairs + found.between_pairs == 1000
        assert (found.within, found.between) == (1.0, pytest.approx(0.5, abs=0.08))

    def test_refuses_one_group(self) -> None:
        with pytest.raises(ValueError, match="two raters of one group"):
            agreement_within_groups([0, 0], list("ab"), [1, 1], list("xx"))


class TestPopulation:
    def test_shares_and_dominance(self) -> None:
        found = label_shares(["x"] * 6 + ["y"] * 2 + ["", None])
        assert list(found.shares.items()) == [("x", 0.75), ("y", 0.25)]
        assert found.dominant == "x"
        assert found.effective == pytest.approx(1.6)
        assert label_shares(["x", "y"]).dominant is None
        assert label_shares(["x", "x"]).dominant is None
        with pytest.raises(ValueError, match="no judgment"):
            label_shares(["", ""])

    def test_weights_by_hand(self) -> None:
        found = population_weights(["x", "x", "x", "y"], {"x": 1, "y": 1})
        assert found.weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
        assert found.effective == pytest.approx(16 / (3 * 4 / 9 + 4))

    def test_the_weighted_mean_is_the_populations(self) -> None:
        group = np.array(["x"] * 80 + ["y"] * 20)
        outcome = np.where(group == "x", 0.9, 0.2)
        weights = population_weights(group, {"x": 0.3, "y": 0.7}).weights
        assert np.average(outcome, weights=weights) == pytest.approx(0.3 * 0.9 + 0.7 * 0.2)
        assert weights.mean() == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ({"x": 1, "y": 1, "z": 1}, "no judgment comes from the group 'z'"),
            ({"x": 1}, "says nothing of the group 'y'"),
            ({"x": 1, "y": 0}, "above 0"),
        ],
    )
    def test_refuses(self, target: dict[str, float], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            population_weights(["x", "y"], target)
