from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.rater_statistics import drift, first_shown, longest_run, speed, with_others, with_self


class TestWithOthers:
    def test_by_hand(self) -> None:
        # item 0: a, b say 1, c says 2. a's others are 1 and 2: split; c's are 1 and 1.  item 1: a and d differ.
        item = [0, 0, 0, 1, 1, 2]
        rater = ["a", "b", "c", "a", "d", "a"]
        found = with_others(item, rater, [1, 1, 2, 1, 2, 1])
        assert found.names.tolist() == ["a", "b", "c", "d"]
        assert found.row.tolist() == [-1, -1, 0, 0, 0, -1]
        assert found.agreed.tolist() == [0, 0, 0, 0]
        assert found.compared.tolist() == [1, 0, 1, 1]
        assert math.isnan(found.p[1])

    def test_nobody_votes_for_themselves(self) -> None:
        found = with_others([0, 0, 0], ["a", "b", "c"], ["x", "x", "x"])
        assert found.row.tolist() == [1, 1, 1]
        assert with_others([0], ["a"], ["x"]).compared.tolist() == [0]

    def test_the_p_value_is_the_binomial_tail_at_the_rate_of_the_rest(self) -> None:
        # a: 0 of 2; b and c: 2 of 2 each on items of their own, so the rest's rate is 1 for a, and 2 of 4 for b
        item = [0, 0, 0, 1, 1, 1]
        found = with_others(item, list("abcabc"), [2, 1, 1, 2, 1, 1])
        assert found.row.tolist() == [0, -1, -1, 0, -1, -1]
        found = with_others([0, 0, 1, 1, 2, 2], list("ababab"), [1, 1, 1, 1, 1, 2])
        # both agree in 2 of 3; a at the rest's 2/3: P(2 or fewer of 3) = 1 - 8/27
        assert found.p.tolist() == pytest.approx([1 - 8 / 27] * 2)

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from("xyz")), min_size=1, max_size=20))
    @settings(max_examples=60)
    def test_as_counted_one_by_one(self, rows: list[tuple[int, int, str]]) -> None:
        rows = list({(i, r): (i, r, v) for i, r, v in rows}.values())
        expected = []
        for i, r, v in rows:
            others = [w for j, q, w in rows if j == i and q != r]
            top = max((others.count(w) for w in "xyz"), default=0)
            best = [w for w in "xyz" if top and others.count(w) == top]
            expected.append(-1 if len(best) != 1 else int(v == best[0]))
        assert with_others(*zip(*rows, strict=True)).row.tolist() == expected


class TestSpeed:
    def test_by_hand(self) -> None:
        # median of all 10; a is at 10, b at 20, c at 2 (all of them below a quarter)
        found = speed(list("aaabbbccc"), [10, 10, 10, 20, 20, 20, 2, 2, 2])
        assert found.factor.tolist() == pytest.approx([1, 2, 0.2])
        assert found.hasty.tolist() == [0, 0, 1]
        spread = 1.4826 * math.log(2)
        assert found.z.tolist() == pytest.approx([0, math.log(2) / spread, math.log(0.2) / spread])
        assert found.judgments.tolist() == [3, 3, 3]

    def test_only_like_work_is_compared(self) -> None:
        found = speed(list("aabb"), [10, 10, 100, 100], [0, 0, 1, 1])
        assert found.factor.tolist() == pytest.approx([1, 1])

    def test_times_that_are_not_known_are_left_out(self) -> None:
        found = speed(list("aab"), [10, math.nan, 0])
        assert found.names.tolist() == ["a"]
        assert found.judgments.tolist() == [1]
        assert speed([], []).names.tolist() == []


class TestLongestRun:
    def test_by_hand(self) -> None:
        # of 6 answers with 3 of each: three in a row at one of four places, P = 2 · 4 / 20, and both at once in 2 of 20
        found = longest_run([0, 0, 0, 1, 0, 1][:6])
        assert found.longest == 3
        found = longest_run([1, 1, 1, 0, 0, 1])  # four 1: 15 orders, three of them with four in a row
        assert (found.longest, found.length) == (3, 6)

    @pytest.mark.parametrize("counts", [(3, 3), (5, 2), (4, 4), (2, 2, 3), (6, 1)])
    def test_never_below_the_exact_probability_and_exact_for_long_runs(self, counts: tuple[int, ...]) -> None:
        answers = [kind for kind, count in enumerate(counts) for _ in range(count)]
        n = len(answers)
        orders = set(itertools.permutations(answers))
        lengths = {order: max(len(list(run)) for _, run in itertools.groupby(order)) for order in orders}
        for order in itertools.islice(orders, 40):
            found = longest_run(order)
            exact = sum(length >= found.longest for length in lengths.values()) / len(orders)
            assert found.longest == lengths[order]
            assert found.p >= exact - 1e-12
            if 2 * found.longest > n:
                assert found.p == pytest.approx(exact)

    def test_one_answer_throughout_has_no_shuffle(self) -> None:
        assert longest_run([1] * 50).p == 1.0
        assert longest_run(["b"]).p == 1.0
        with pytest.raises(ValueError, match="needs answers"):
            longest_run([])

    def test_a_stretch_in_a_random_row_stands_out(self) -> None:
        answers = np.random.default_rng(2).integers(0, 2, 200)
        assert longest_run(answers).p > 0.2
        answers[60:85] = 1
        assert longest_run(answers).p < 1e-4


class TestFirstShown:
    def test_by_hand(self) -> None:
        # a: 5 of 5, two-sided 2 / 32; b: 1 of 2; c: a tie alone
        found = first_shown(list("aaaaabbc"), [1, 1, 1, 1, 1, 1, 0, math.nan])
        assert found.first.tolist() == [5, 1, 0]
        assert found.decided.tolist() == [5, 2, 0]
        assert found.p[:2].tolist() == pytest.approx([1 / 16, 1.0])
        assert math.isnan(found.p[2])

    @pytest.mark.parametrize("n", [7, 12])
    def test_exact_by_enumeration(self, n: int) -> None:
        for k in range(n + 1):
            tail = sum(math.comb(n, j) for j in range(n + 1) if abs(j - n / 2) >= abs(k - n / 2)) / 2**n
            assert first_shown([0] * n, [1] * k + [0] * (n - k)).p[0] == pytest.approx(tail)

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="1, 0 or nan"):
            first_shown([0], [0.5])
        with pytest.raises(ValueError, match="same length"):
            first_shown([0, 1], [1])


class TestDrift:
    def test_by_hand(self) -> None:
        # places -2..2 from the mean, hits 1 1 1 0 0: sum -3; variance 0.6 · 0.4 · 10 = 2.4
        found = drift([1, 2, 3, 4, 5], [1, 1, 1, 0, 0])
        assert found.z == pytest.approx(-3 / math.sqrt(2.4))
        assert found.p == pytest.approx(math.erfc(3 / math.sqrt(2.4) / math.sqrt(2)))
        assert (found.early, found.late) == (1.0, 0.0)

    def test_order_of_rows_and_direction_of_time(self) -> None:
        times, hits = [5.0, 1.0, 3.0, 2.0, 4.0], [0, 1, 1, 1, 0]
        assert drift(times, hits) == drift(sorted(times), [1, 1, 1, 0, 0])
        assert drift([-t for t in times], hits).z == pytest.approx(-drift(times, hits).z)

    def test_all_hit(self) -> None:
        assert (drift([1, 2, 3], [1, 1, 1]).z, drift([1, 2, 3], [1, 1, 1]).p) == (0.0, 1.0)

    def test_false_alarms_are_as_rare_as_the_level(self) -> None:
        random = np.random.default_rng(7)
        p = [drift(np.arange(60), random.random(60) < 0.8).p for _ in range(600)]
        assert 0.03 < np.mean(np.array(p) < 0.05) < 0.075

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="three"):
            drift([1, 2], [1, 0])
        with pytest.raises(ValueError, match="1 or 0"):
            drift([1, 2, 3], [1, 0, 2])


def test_consistency_with_oneself() -> None:
    found = with_self(["b", "a", "a"], [1, 2, 3], [1, 2, 1])
    assert found.names.tolist() == ["a", "b"]
    assert found.same.tolist() == [1, 1]
    assert found.repeated.tolist() == [2, 1]
