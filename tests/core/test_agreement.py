"""Agreement coefficients: published vectors, other libraries' figures as literals, properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.agreement import (
    Coefficient,
    Votes,
    alpha,
    cohen,
    fleiss,
    gwet,
    paired,
    raw,
    tabulate,
    weight_table,
)
from heedful.core.resampling import _kinds, resampled_sums

KRIPPENDORFF = "123321412... 1233224125.3 .3332342251. 12332441251."
WIKIPEDIA = ".....34121133.3 1.213343....... ..21344.21133.4"
FLEISS = "0,0,0,0,14;0,2,6,4,2;0,0,3,5,6;0,3,9,2,0;2,2,8,1,1;7,7,0,0,0;3,2,6,3,0;2,5,3,2,2;6,5,2,1,0;0,2,2,3,7"
COEFFICIENTS = [raw(), alpha("nominal"), alpha("ordinal"), alpha("interval"), alpha("ratio"), fleiss(), gwet()]
CHANCE_CORRECTED = [one for one in COEFFICIENTS if one.name != "raw agreement"]


def matrix(text: str) -> np.ndarray:
    """[raters, items], NaN for a point."""
    return np.array([[np.nan if c == "." else float(c) for c in row] for row in text.split()])


def votes_of(table: np.ndarray, **more: Any) -> Votes:
    rater, item = np.indices(table.shape)
    return tabulate(item.ravel(), rater.ravel(), table.ravel(), **more)


def from_counts(text: str) -> Votes:
    rows = [[int(n) for n in row.split(",")] for row in text.split(";")]
    found = [
        (i, r, k)
        for i, row in enumerate(rows)
        for r, k in enumerate(itertools.chain(*([k] * n for k, n in enumerate(row))))
    ]
    return tabulate(*zip(*found, strict=True))


class TestPublished:
    @pytest.mark.parametrize(
        ("level", "text", "value"),
        [
            # Krippendorff 2011, Computing alpha-reliability, section D
            ("nominal", KRIPPENDORFF, ".743"),
            ("ordinal", KRIPPENDORFF, ".815"),
            ("interval", KRIPPENDORFF, ".849"),
            ("ratio", KRIPPENDORFF, ".797"),
            # the article on his alpha in Wikipedia
            ("nominal", WIKIPEDIA, ".691"),
            ("ordinal", WIKIPEDIA, ".807"),
            ("interval", WIKIPEDIA, ".811"),
        ],
    )
    def test_alpha(self, level: Any, text: str, value: str) -> None:
        assert f"{alpha(level).of(votes_of(matrix(text))):.3f}".lstrip("0") == value

    def test_fleiss(self) -> None:
        assert round(fleiss().of(from_counts(FLEISS)), 6) == 0.209931

    def test_cohen(self) -> None:
        first = [1] * 25 + [0] * 25
        second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
        assert cohen().of(paired(first, second)) == pytest.approx(0.40, abs=1e-12)

    @pytest.mark.parametrize(
        ("coefficient", "krippendorff", "wikipedia"),
        # irrCAC 0.4.4 (Python), CAC(table, weights, categories=1..5 and 1..4)
        [
            (gwet(), 0.77544407, 0.70916392),
            (gwet("linear"), 0.85873914, 0.77342163),
            (gwet("quadratic"), 0.91400072, 0.83523857),
            (gwet("ordinal"), 0.89893977, 0.81545901),
            (fleiss(), 0.76116928, 0.68601951),
            (fleiss("linear"), 0.81794477, 0.74429161),
            (fleiss("quadratic"), 0.86493506, 0.80029195),
            (fleiss("ordinal"), 0.85020619, 0.78149243),
        ],
        ids=lambda one: one.name if isinstance(one, Coefficient) else "",
    )
    def test_missing_judgments_as_irrcac_has_them(
        self, coefficient: Coefficient, krippendorff: float, wikipedia: float
    ) -> None:
        assert coefficient.of(votes_of(matrix(KRIPPENDORFF))) == pytest.approx(krippendorff, abs=1e-8)
        assert coefficient.of(votes_of(matrix(WIKIPEDIA))) == pytest.approx(wikipedia, abs=1e-8)

    @pytest.mark.parametrize(
        ("weights", "value"),  # scikit-learn 1.9.1, cohen_kappa_score
        [("identity", 0.3739130434782608), ("linear", 0.6146788990825687), ("quadratic", 0.7906976744186046)],
    )
    def test_weighted_cohen_as_scikit_learn_has_it(self, weights: Any, value: float) -> None:
        one = [1, 2, 3, 4, 5, 1, 2, 2, 3, 5, 4, 4]
        other = [1, 3, 3, 4, 4, 2, 2, 1, 5, 5, 4, 3]
        assert cohen(weights).of(paired(one, other)) == pytest.approx(value, abs=1e-12)

    def test_ratio_of_the_second_matrix_as_the_krippendorff_package_has_it(self) -> None:
        assert alpha("ratio").of(votes_of(matrix(WIKIPEDIA))) == pytest.approx(0.808944, abs=5e-7)


class TestByHand:
    def test_two_items(self) -> None:
        # item 0: 1 1 2, one of three pairs agrees; item 1: 2 2, agrees. pairs 2 of 4; p_a = (1/3 + 1) / 2 = 2/3
        # shares of "1": (2/3 + 0) / 2 = 1/3, so p_e = 5/9 (Fleiss) and 2 · 1/3 · 2/3 = 4/9 (AC1)
        votes = tabulate([0, 0, 0, 1, 1], list("abcab"), [1, 1, 2, 2, 2])
        assert raw().of(votes) == pytest.approx(2 / 4)
        assert fleiss().of(votes) == pytest.approx((2 / 3 - 5 / 9) / (4 / 9))
        assert gwet().of(votes) == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))
        # coincidences: 1-1 1, 1-2 1 twice, 2-2 2; n = 5, 2 ones, 3 twos; D_o = 2/5, D_e = 2 · 2 · 3 / (5 · 4) = 3/5
        assert alpha().of(votes) == pytest.approx(1 - (2 / 5) / (3 / 5))
        assert (votes.judgments, votes.items, votes.pairs) == (5, 2, 4)

    def test_one_value_dominates(self) -> None:
        """18 of 20 items alike on the common value: AC1 stays high, kappa does not."""
        first = [1] * 19 + [0]
        second = [1] * 18 + [0, 1]
        votes = tabulate([*range(20), *range(20)], [0] * 20 + [1] * 20, first + second)
        assert raw().of(votes) == 0.9
        assert cohen().of(paired(first, second)) == pytest.approx(-1 / 19)
        assert gwet().of(votes) == pytest.approx((0.9 - 0.095) / 0.905)

    def test_ac1_counts_values_that_nobody_gave(self) -> None:
        votes = tabulate([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 2], values=[1, 2, 3, 4])
        # shares 3/4 and 1/4: p_e = (3/16 + 3/16) / 3 = 1/8
        assert gwet().of(votes) == pytest.approx((1 / 2 - 1 / 8) / (7 / 8))

    def test_tables_of_weights(self) -> None:
        values = np.array([1, 2, 3, 4])
        assert weight_table(values, "linear")[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
        assert weight_table(values, "quadratic")[0].tolist() == pytest.approx([1, 8 / 9, 5 / 9, 0])
        assert weight_table(values, "ordinal")[0].tolist() == pytest.approx([1, 5 / 6, 3 / 6, 0])
        assert weight_table(np.array([0, 1, 10]), "linear")[0].tolist() == pytest.approx([1, 0.9, 0])

    def test_names_have_no_distances(self) -> None:
        votes = tabulate([0, 0, 1, 1], [0, 1, 0, 1], ["bad", "good", "good", "good"])
        assert alpha().of(votes) == pytest.approx(0.0)
        with pytest.raises(ValueError, match="needs numbers, not 'bad'"):
            alpha("interval").of(votes)

    def test_the_ratio_level_refuses_negative_numbers(self) -> None:
        with pytest.raises(ValueError, match="from zero up"):
            alpha("ratio").of(tabulate([0, 0], [0, 1], [-1, 1]))
        assert alpha("ratio").of(tabulate([0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 2, 2])) == 1.0


tables = (
    st.integers(2, 5)
    .flatmap(
        lambda raters: st.lists(
            st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0, math.nan]), min_size=raters, max_size=raters),
            min_size=3,
            max_size=9,
        )
    )
    .map(lambda rows: np.array(rows).T)
)


def enough(table: np.ndarray) -> bool:
    return bool(((~np.isnan(table)).sum(0) >= 2).any())


def values_of(table: np.ndarray, chosen: Sequence[Coefficient] = COEFFICIENTS, **more: Any) -> list[float]:
    return [one.of(votes_of(table, **more)) for one in chosen]


@given(tables.filter(enough), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_who_is_who_and_what_is_first_does_not_matter(table: np.ndarray, random: Any) -> None:
    raters, items = list(range(table.shape[0])), list(range(table.shape[1]))
    random.shuffle(raters)
    random.shuffle(items)
    assert values_of(table[raters][:, items]) == pytest.approx(values_of(table), nan_ok=True)


@given(tables.filter(enough))
@settings(max_examples=60)
def test_names_of_the_values_do_not_matter_to_nominal_coefficients(table: np.ndarray) -> None:
    chosen = [raw(), alpha(), fleiss(), gwet()]
    other = np.vectorize({1.0: 30.0, 2.0: 1.0, 3.0: 7.0, 5.0: 2.0}.get, otypes=[float])(table)
    other[np.isnan(table)] = np.nan
    assert values_of(other, chosen) == pytest.approx(values_of(table, chosen), nan_ok=True)


@given(tables.filter(enough))
@settings(max_examples=60)
def test_ordinal_alpha_asks_for_the_order_alone_interval_alpha_for_distances(table: np.ndarray) -> None:
    assert values_of(table**3, [alpha("ordinal")]) == pytest.approx(values_of(table, [alpha("ordinal")]), nan_ok=True)
    assert values_of(3 * table - 7, [alpha("interval")]) == pytest.approx(
        values_of(table, [alpha("interval")]), nan_ok=True
    )


@given(tables.filter(enough))
@settings(max_examples=60)
def test_a_missing_judgment_is_as_one_never_asked_for(table: np.ndarray) -> None:
    more = np.hstack([table, np.full((table.shape[0], 2), np.nan)])
    more[0, -1] = 2.0  # an item with one judgment has nothing to agree with; Fleiss and AC1 still count its value
    assert values_of(more, COEFFICIENTS[:5]) == pytest.approx(values_of(table, COEFFICIENTS[:5]), nan_ok=True)
    rows = np.vstack([table, np.full((1, table.shape[1]), np.nan)])
    assert values_of(rows) == pytest.approx(values_of(table), nan_ok=True)
    pairs = [x == y for item in table.T for x, y in itertools.combinations(item[~np.isnan(item)], 2)]
    assert raw().of(votes_of(table)) == pytest.approx(np.mean(pairs))


@given(
    st.lists(st.sampled_from([0, 1, 2]), min_size=2, max_size=8).filter(lambda row: len(set(row)) > 1),
    st.integers(2, 5),
)
@settings(max_examples=40)
def test_perfect_agreement_is_one(row: list[int], raters: int) -> None:
    table = np.array([row] * raters, dtype=float)
    assert values_of(table) == pytest.approx([1.0] * len(COEFFICIENTS))
    for weights in ("identity", "linear", "quadratic"):
        assert cohen(weights).of(paired(row, row)) == pytest.approx(1.0)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.2, 0.3, 0.5)])
def test_chance_agreement_is_nought(shares: tuple[float, ...]) -> None:
    """Pairs of answers as often as independence says: corrected coefficients are 0 (alpha but for its n - 1)."""
    cells = [(i, j) for i, p in enumerate(shares) for j, q in enumerate(shares) for _ in range(round(1000 * p * q))]
    first, second = zip(*cells, strict=True)
    assert cohen().of(paired(first, second)) == pytest.approx(0, abs=1e-12)
    count = len(cells)
    votes = tabulate([*range(count), *range(count)], [0] * count + [1] * count, [*first, *second])
    assert fleiss().of(votes) == pytest.approx(0, abs=1e-12)
    for level in ("nominal", "ordinal", "interval"):
        assert alpha(level).of(votes) == pytest.approx(0, abs=0.001)
    if len(shares) == 2:
        assert gwet().of(votes) == pytest.approx(0, abs=1e-12)


class TestRefusals:
    def test_a_single_rater_agrees_with_nobody(self) -> None:
        votes = tabulate([0, 1, 2], ["a", "a", "a"], [1, 2, 1])
        for one in COEFFICIENTS:
            with pytest.raises(ValueError, match="no item was judged by two raters"):
                one.of(votes)
        with pytest.raises(ValueError, match="no item in common"):
            cohen().of(paired([math.nan, 1.0], [1.0, math.nan]))

    def test_one_value_alone_leaves_nothing_to_correct(self) -> None:
        votes = tabulate([0, 0, 1, 1], [0, 1, 0, 1], [3, 3, 3, 3])
        assert raw().of(votes) == 1.0
        for one in CHANCE_CORRECTED:
            assert math.isnan(one.of(votes)), one.name
        known = tabulate([0, 0, 1, 1], [0, 1, 0, 1], [3, 3, 3, 3], values=[1, 2, 3])
        assert gwet().of(known) == 1.0
        assert math.isnan(cohen().of(paired([1, 1], [1, 1])))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (([0, 0], [1, 1], [1, 2]), "judged the same item twice"),
            (([0, 0], [1], [1, 2]), "same length"),
            ((list(range(201)), [0] * 201, list(range(201))), "201 different values"),
        ],
    )
    def test_bad_judgments(self, given: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            tabulate(*given)

    def test_bad_scales_and_clusters(self) -> None:
        with pytest.raises(ValueError, match="4 is not on the scale"):
            tabulate([0], [0], [4], values=[1, 2, 3])
        with pytest.raises(ValueError, match="names a value twice"):
            tabulate([0], [0], [1], values=[1, 2, 1])
        with pytest.raises(ValueError, match="two clusters"):
            tabulate([0, 0], [0, 1], [1, 2], cluster=["p", "q"])
        with pytest.raises(ValueError, match="no level"):
            alpha("rational")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no weights"):
            gwet("cubic").of(tabulate([0, 0], [0, 1], [1, 2]))  # type: ignore[arg-type]


class TestIntervals:
    def test_two_clusters_by_enumeration(self) -> None:
        # one cluster agrees on 1 of 1 pair, the other on 0 of 3: draws give 1, 1/4 and 0 at 1/4, 1/2, 1/4
        votes = tabulate([0, 0, 1, 1, 1], [0, 1, 0, 1, 2], [1, 1, 1, 2, 3], cluster=[0, 0, 1, 1, 1])
        found = raw().interval(votes, level=0.4)
        assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
        found = raw().interval(votes, level=0.95)
        assert (found.low, found.high) == (0.0, 1.0)

    def test_where_all_agree_few_items_promise_little(self) -> None:
        """Ten of ten: Wilson's lower bound is 1 / (1 + z²/10); of 3,000 it is near 1. Other coefficients have none."""
        for items, low in ((10, 0.7225), (3000, 0.9987)):
            item, rater = np.indices((items, 2)).reshape(2, -1)
            votes = tabulate(item, rater, item % 2)
            found = raw().interval(votes, samples=200)
            assert (found.mean, found.low, found.high) == (1, pytest.approx(low, abs=1e-4), 1)
            beyond = alpha().interval(votes, samples=200)
            assert beyond.mean == 1
            assert np.isnan([beyond.low, beyond.high]).all()
        # never alike, two items of one prompt: one case of it
        never = tabulate([0, 0, 1, 1, 2, 2], [0, 1] * 3, [1, 2] * 3, cluster=[0, 0, 0, 0, 1, 1])
        found = raw().interval(never, samples=200)
        assert (found.mean, found.low, found.high) == (0, 0, pytest.approx(0.6576, abs=1e-4))  # z² / (2 + z²)

    def test_one_cluster_has_no_spread(self) -> None:
        with pytest.raises(ValueError, match="one cluster alone"):
            raw().interval(tabulate([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 2], cluster=[7, 7, 7, 7]))

    def test_items_of_a_prompt_stay_together(self) -> None:
        """20 prompts, each with five items that are all alike: an interval over items is too narrow by about √5."""
        same = np.repeat(np.random.default_rng(3).random(20) < 0.6, 5)
        item = np.repeat(np.arange(100), 2)
        rater = np.tile([0, 1], 100)
        value = np.column_stack([np.ones(100), np.where(same, 1, 0)]).ravel()
        whole = raw().interval(tabulate(item, rater, value, cluster=item // 5))
        single = raw().interval(tabulate(item, rater, value))
        assert 1.8 < (whole.high - whole.low) / (single.high - single.low) < 2.7

    def test_both_ways_to_draw_are_one_distribution(self) -> None:
        """Clusters that all differ are drawn one by one, alike ones together; the intervals are alike."""
        random = np.random.default_rng(5)
        item, rater = np.repeat(np.arange(400), 3), np.tile([0, 1, 2], 400)
        value = (random.random(1200) < np.repeat(random.random(400), 3)).astype(int)
        few = alpha().interval(tabulate(item, rater, value), samples=4000)
        votes = tabulate(item, rater, value)
        features = alpha().features(votes.patterns, votes.values)
        unlike = features[votes.member] + np.arange(400)[:, None] * 1e-13  # so little that the sums stay the same
        sums = resampled_sums(unlike, np.arange(400), np.arange(400), samples=4000, seed=9)
        low, high = np.quantile(alpha().finish(sums, votes.values), [0.025, 0.975])
        assert (low, high) == pytest.approx((few.low, few.high), abs=0.01)

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1), st.sampled_from([0.0, -0.0, 0.1])), min_size=1))
    def test_clusters_are_told_apart_by_all_their_sums(self, rows: list[tuple[float, ...]]) -> None:
        table = np.array(rows, dtype=float)
        kinds, times = _kinds(
            np.vstack([table, table]), np.arange(2 * len(rows)), np.arange(2 * len(rows)) // 2, len(rows)
        )
        halves = np.vstack([table, table]).reshape(len(rows), 2, 3).sum(1)
        expected, counts = np.unique(halves, axis=0, return_counts=True)
        order = np.lexsort(kinds.T[::-1])
        assert kinds[order].tolist() == expected.tolist()
        assert times[order].tolist() == counts.tolist()

    def test_same_seed_same_interval(self) -> None:
        votes = from_counts(FLEISS)
        assert fleiss().interval(votes, seed=3) == fleiss().interval(votes, seed=3)
        assert fleiss().interval(votes, seed=3) != fleiss().interval(votes, seed=4)

    def test_where_resamples_are_often_undefined_there_are_no_bounds(self) -> None:
        votes = tabulate([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 2, 2])
        found = alpha().interval(votes)  # half of the resamples hold one value alone
        assert found.mean == 1.0
        assert math.isnan(found.low)
        assert math.isnan(found.high)

    def test_coverage_of_a_known_alpha(self) -> None:
        """Two raters toss for each item whether to say its truth or guess: alpha is 0.49 for a share of 0.7."""
        random = np.random.default_rng(11)
        covered = 0
        for trial in range(200):
            truth = random.integers(0, 2, 150)
            said = [np.where(random.random(150) < 0.7, truth, random.integers(0, 2, 150)) for _ in range(2)]
            votes = tabulate(np.tile(np.arange(150), 2), np.repeat([0, 1], 150), np.concatenate(said))
            found = alpha().interval(votes, samples=300, seed=trial)
            covered += found.low <= 0.49 <= found.high
        assert 0.90 <= covered / 200 <= 0.985


def test_a_million_judgments_become_a_few_patterns() -> None:
    random = np.random.default_rng(0)
    count = 1_000_000
    item = np.arange(count) // 4
    rater = random.integers(0, 250, count // 4)[item] * 4 + np.arange(count) % 4
    truth = random.integers(-3, 4, count // 4)
    value = np.clip(truth[item] + random.integers(-1, 2, count), -3, 3)
    votes = tabulate(item, rater, value, values=range(-3, 4))
    assert (votes.judgments, votes.items, votes.pairs) == (count, count // 4, 6 * count // 4)
    assert len(votes.patterns) < 100
    found = alpha("ordinal").interval(votes)
    assert found.high - found.low < 0.003
    assert 0.8 < found.low < found.mean < found.high < 0.9
