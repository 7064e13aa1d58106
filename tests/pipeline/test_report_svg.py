"""The report's pictures: where points land, how gaps and long series are drawn."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import Curve, Series
from heedful.pipeline.report_svg import BUCKETS, chart, describe, range_bar, thin, ticks, tone


def plot(*series: Series) -> str:
    return chart(Curve("PPO", "Reward", "step", "score", {f"line {i}": s for i, s in enumerate(series)}), "c")


def lines(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in found]


def test_points_land_where_their_values_are() -> None:
    (line,) = lines(plot(Series((0.0, 5.0, 10.0), (0.0, 1.0, 2.0))))
    # From x 46 to 348; y upwards from 178 to 24 with 6% room at both ends.
    margin = 154 * 0.06 / 1.12
    assert line == [(46.0, round(178 - margin, 1)), (197.0, 101.0), (348.0, round(24 + margin, 1))]


def test_intervals_are_upright_strokes_that_fit_the_picture() -> None:
    svg = plot(Series((0.0, 10.0), (1.0, 2.0), ((0.0, 1.5), (1.0, 4.0))))
    found = re.findall(r'<line x1="([\d.]*)" y1="([\d.]*)" x2="([\d.]*)" y2="([\d.]*)" class="bound s0"', svg)
    margin = 154 * 0.06 / 1.12
    low, high = 178 - margin, 24 + margin  # of 0 and of 4, the lowest and the highest bound

    def at(value: float) -> float:
        return round(low + value / 4 * (high - low), 1)

    wanted = [(46.0, at(0.0), 46.0, at(1.5)), (348.0, at(1.0), 348.0, at(4.0))]
    assert [tuple(map(float, one)) for one in found] == wanted
    assert "bound" not in plot(Series((0.0, 10.0), (1.0, 2.0)))


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    svg = plot(Series((0.0, 1.0, 2.0, 3.0, 4.0), (1.0, 2.0, math.nan, 3.0, 4.0)))
    assert [len(line) for line in lines(svg)] == [2, 2]
    assert svg.count("<circle") == 4


def test_a_series_without_a_finite_point_says_so() -> None:
    assert "Nothing was recorded." in plot(Series((), ()), Series((1.0,), (math.inf,)))


def test_one_point_and_a_constant_can_be_drawn() -> None:
    assert plot(Series((3.0,), (0.0,))).count("<circle") == 1
    (line,) = lines(plot(Series((0.0, 1.0), (5.0, 5.0))))
    assert line == [(46.0, 101.0), (348.0, 101.0)]


def test_a_long_series_is_means_within_their_range() -> None:
    xs = tuple(float(i) for i in range(300))
    svg = plot(Series(xs, tuple(float(i % 4) for i in range(300))))
    (line,) = lines(svg)
    assert len(line) == BUCKETS
    assert {y for _, y in line} == {101.0}  # each bucket holds 0, 1, 2, 3: the mean, in the middle
    assert svg.count("<polygon") == 1


def test_a_long_trajectory_that_turns_back_has_no_band() -> None:
    xs = tuple(math.sin(i / 50) for i in range(400))
    assert "<polygon" not in plot(Series(xs, tuple(float(i) for i in range(400))))


def test_thinning_keeps_means_and_extremes() -> None:
    points = [(float(i), float(i * i)) for i in range(150)]
    means, band = thin(points)
    assert means[0] == (0.5, 0.5)
    assert band[0] == (0.5, 0.0, 1.0)
    assert max(high for _, _, high in band) == 149.0**2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 100, [0, 25, 50, 75, 100]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (0.61, 0.84, [0.65, 0.7, 0.75, 0.8]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected, abs=1e-12)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_within_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert all(low - width * 1e-6 <= tick <= low + width * (1 + 1e-6) for tick in found)


def test_tick_labels_have_the_decimals_that_they_need() -> None:
    svg = plot(Series((0.0, 40_000.0), (-0.5, 0.5)))
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert shown == ["−0.50", "−0.25", "0.00", "0.25", "0.50", "0k", "10k", "20k", "30k", "40k", "score", "step"]


def test_the_chart_is_told_in_words() -> None:
    curve = Curve("PPO", "Reward", "step", "score", {"proxy": Series((0.0, 8.0, 9.0), (0.5, 2.0, 1.25))})
    assert describe(curve) == (
        "score against step. proxy: 0.500 at the start (step 0), 1.25 at the end (step 9.00), between 0.500 and 2.00."
    )


def test_a_series_needs_as_many_x_as_y() -> None:
    with pytest.raises(ValueError, match=r"as many x \(1\) as y \(2\)"):
        Series((1.0,), (1.0, 2.0))


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.51, 0.6, "good"), (0.5, 0.6, "even"), (0.4, 0.49, "bad"), (0.4, 0.5, "even")]
)
def test_tone_follows_the_whole_interval(low: float, high: float, expected: str) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert tone(interval, 0.5) == expected
    assert f'class="range {expected}"' in range_bar(interval, chance=0.5)
    assert 'class="range bad"' in range_bar(interval, chance=0.5, mood="bad")


def test_the_range_bar_spans_its_interval() -> None:
    svg = range_bar(Interval(0.75, 0.5, 1.2), chance=0.5, goal=0.8)
    assert '<rect x="80.0" y="8" width="76.0"' in svg  # from the middle of 4..156 to the end, not beyond
    assert '<rect x="116.8"' in svg  # the mean at 118, half its mark's width to the left
    assert 'd="M125.6 ' in svg
