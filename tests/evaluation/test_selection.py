"""What choosing brings, against enumeration of every subset; what is kept; and when gold is said to turn."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from heedful.data.records import Message, Preference
from heedful.evaluation.best_of_n import best_of_n
from heedful.evaluation.compare import Answer
from heedful.evaluation.selection import Kept, Pool, examine, keep, levels, turn


def pool(
    texts: list[list[str]], proxy: list[list[float]], gold: list[list[float]] | None = None, cut: tuple[str, ...] = ()
) -> Pool:
    """A pool of answers; those in `cut` did not end by themselves."""
    prompts = tuple((Message("user", f"question {i}"),) for i in range(len(texts)))
    answers = tuple(tuple(Answer(text, text not in cut, len(text.split())) for text in drawn) for drawn in texts)
    return Pool(prompts, answers, {"proxy": np.array(proxy)} | ({} if gold is None else {"gold": np.array(gold)}))


SMALL = pool(
    [["a", "b b", "c c c", "d"], ["e e", "f", "g", "h h h h"], ["i", "j", "k k", "l"]],
    [[1.0, 2.0, 3.0, 3.0], [0.5, 0.5, 0.5, -1.0], [4.0, 1.0, 2.0, 3.0]],
    [[5.0, 1.0, 0.0, 2.0], [1.0, 2.0, 6.0, 9.0], [-3.0, 7.0, 1.0, 1.0]],
)


def enumerated(proxy: list[float], value: list[float], n: int) -> float:
    """Over every n of the answers: the mean value of those that the proxy likes best among them."""
    found = []
    for subset in combinations(range(len(proxy)), n):
        top = max(proxy[k] for k in subset)
        found.append(np.mean([value[k] for k in subset if proxy[k] == top]))
    return float(np.mean(found))


@pytest.mark.parametrize("total", range(1, 70))
def test_levels_double_up_to_the_total(total: int) -> None:
    found = levels(total)
    assert found[0] == 1
    assert found[-1] == total
    assert all(b == 2 * a for a, b in pairwise(found[:-1]))
    assert len(found) == 1 or found[-2] < total <= 2 * found[-2]


def test_the_curve_is_the_mean_over_every_choice_of_n() -> None:
    outcome = examine(SMALL)
    lengths = [[float(len(answer.text.split())) for answer in drawn] for drawn in SMALL.answers]
    for i, n in enumerate((1, 2, 4)):
        for judge in ("proxy", "gold"):
            tables = zip(SMALL.scores["proxy"].tolist(), SMALL.scores[judge].tolist(), strict=True)
            wanted = float(np.mean([enumerated(chooser, value, n) for chooser, value in tables]))
            point = outcome.curves[judge][i]
            assert point.n == n
            assert point.value.mean == pytest.approx(wanted)
            assert point.value.low <= wanted <= point.value.high
        rows = zip(SMALL.scores["proxy"].tolist(), lengths, strict=True)
        assert outcome.words[i] == pytest.approx(np.mean([enumerated(*row, n) for row in rows]))
    assert [point.kl_bound for point in outcome.curves["gold"]] == pytest.approx([0.0, 0.193147181, 0.636294361])


def test_literals_of_the_curve_and_the_gains() -> None:
    outcome = examine(SMALL)
    # Plain answers have mean gold 2, 4.5, 1.5. The best of 4: (0 + 2) / 2, (1 + 2 + 6) / 3 and -3.
    assert outcome.curves["gold"][0].value.mean == pytest.approx(8 / 3)
    assert outcome.curves["gold"][2].value.mean == pytest.approx((1 + 3 - 3) / 3)
    assert outcome.gains["gold"].mean == pytest.approx((1 + 3 - 3) / 3 - 8 / 3)
    assert (outcome.gains["gold"].low, outcome.gains["gold"].high) == pytest.approx((-4.5, -1.0))
    assert outcome.gains["proxy"].mean == pytest.approx((3.0 + 0.5 + 4.0) / 3 - (2.25 + 0.125 + 2.5) / 3)


def test_without_gold_there_is_the_proxy_alone() -> None:
    outcome = examine(pool([["a", "b"], ["c", "d"]], [[1.0, 2.0], [3.0, 1.0]]))
    assert list(outcome.curves) == list(outcome.gains) == ["proxy"]
    assert outcome.turns == ()


def test_prompts_that_differ_in_case_alone_are_one_cluster() -> None:
    answers = (Answer("a", True, 1), Answer("b", True, 1))
    prompts = ((Message("user", "Hello!"),), (Message("user", "hello"),))
    alike = Pool(prompts, (answers, answers), {"proxy": np.array([[1.0, 2.0], [2.0, 1.0]])})
    with pytest.raises(ValueError, match="two clusters"):
        examine(alike)


def curve_of(gold: np.ndarray, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Expected gold [len(ns), P] where the proxy is the standard normal that `gold` is a function of."""
    proxy = np.random.default_rng(seed).normal(size=gold.shape)
    ns = list(levels(gold.shape[1]))
    return np.stack([best_of_n(proxy, gold, n) for n in ns]), ns


def test_a_turn_is_found_where_gold_falls_after_its_peak() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(80, 32))
    gold = proxy - 0.7 * np.maximum(0, proxy - 0.5) ** 2 * 2 + 0.3 * rng.normal(size=proxy.shape)
    ns = list(levels(32))
    worth = np.stack([best_of_n(proxy, gold, n) for n in ns])
    found = turn(worth, ns, list(range(80)))
    assert found is not None
    assert 1 < found.n < 32
    assert found.value == pytest.approx(worth.mean(1).max())
    assert found.fall.mean == pytest.approx(worth.mean(1).max() - worth[-1].mean())
    assert 0 < found.fall.low < found.fall.mean < found.fall.high


def test_no_turn_where_gold_rises_to_the_end() -> None:
    rng = np.random.default_rng(1)
    proxy = rng.normal(size=(40, 16))
    worth = np.stack([best_of_n(proxy, proxy + rng.normal(size=proxy.shape), n) for n in levels(16)])
    assert turn(worth, levels(16), list(range(40))) is None


def test_the_fall_is_judged_by_pairs_of_one_prompt_and_by_cluster() -> None:
    # Prompts differ by far more than the fall, which is the same in each: only the paired difference shows it.
    level = np.linspace(-100, 100, 30)
    worth = np.stack([level + 1.0, level + np.where(np.arange(30) % 2, 0.4, 0.6)])
    found = turn(worth, (1, 2), list(range(30)))
    assert found is not None
    assert found.fall.mean == pytest.approx(0.5)
    # Ten prompts of one topic fall, twenty of two others rise a little: over topics that is nothing.
    uneven = np.stack([np.zeros(30), np.repeat([-5.0, 1.0, 0.5], 10)])
    assert turn(uneven, (1, 2), list(range(30))) is not None
    assert turn(uneven, (1, 2), np.repeat(["a", "b", "c"], 10).tolist()) is None


def test_a_turn_is_seldom_seen_where_gold_has_nothing_to_do_with_the_proxy() -> None:
    seen = 0
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        gold = rng.normal(size=(40, 1)) + rng.normal(size=(40, 8))
        worth, ns = curve_of(gold, seed)
        seen += turn(worth, ns, list(range(40)), seed=seed) is not None
    assert seen <= 8


def test_what_is_kept() -> None:
    kept = keep(
        pool(
            [["good", "bad"], ["same", "same"], ["", "filled"], ["long", ""], ["twin", "twin "], ["x", "y"]],
            [[2.0, 0.5], [1.0, 1.0], [9.0, 1.0], [3.0, 1.0], [1.0, 0.0], [0.0, 1.5]],
            cut=("long",),
        )
    )
    assert kept == Kept(
        best=((0, 0), (1, 0), (3, 0), (4, 0), (5, 1)),
        pairs=(
            Preference((Message("user", "question 0"),), "good", "bad", margin=1.5),
            Preference((Message("user", "question 5"),), "y", "x", margin=1.5),
        ),
        empty=1,
        cut=1,
        alike=1,
        unusable=3,
    )


def test_of_answers_alike_the_first_is_best_and_the_last_worst() -> None:
    found = pool([["a", "b", "c", "d"]], [[1.0, 2.0, 2.0, 1.0]])
    assert (found.best().tolist(), found.worst().tolist()) == ([1], [3])


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ([[1.0, 2.0]], "shape"),
        ([[1.0, float("nan")], [1.0, 2.0]], "finite"),
    ],
)
def test_a_pool_is_whole(proxy: list[list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pool([["a", "b"], ["c", "d"]], proxy)


def test_a_pool_has_as_many_answers_to_each_prompt_and_a_proxy() -> None:
    with pytest.raises(ValueError, match="same number"):
        pool([["a", "b"], ["c"]], [[1.0, 2.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="first"):
        Pool(SMALL.prompts, SMALL.answers, {"gold": SMALL.scores["gold"]})
