"""The report of best-of-n: its sentence claims no more than the intervals allow, its page holds the figures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from heedful.core.statistics import Interval
from heedful.data.records import Message
from heedful.evaluation.compare import Answer
from heedful.evaluation.selection import Outcome, Pool, Turn, examine, keep
from heedful.pipeline.best_of_n_report import curves, meaning, report_data, samples
from heedful.pipeline.report import build_report
from heedful.pipeline.report_data import StageRow

MANIFEST = {
    "parents": {"policy": {"name": "runs/sft"}, "reward": {"name": "runs/<reward>"}, "gold": {"name": "judge:gold"}},
    "data": {"source": "prompts.jsonl", "sha256": "0123456789abcdef"},
    "config_sha256": "fedcba9876543210",
    "meaning": "Gold & proxy.",
}


def pool(prompts: int = 9, many: int = 8, *, gold: bool = True) -> Pool:
    """Random scores of numbered answers, some of them cut."""
    rng = np.random.default_rng(0)
    asked = tuple((Message("user", f"question <{i}>"),) for i in range(prompts))
    answers = tuple(tuple(Answer(f"answer {i}/{k}", k > 0, 2) for k in range(many)) for i in range(prompts))
    scores = {"proxy": rng.normal(size=(prompts, many))}
    return Pool(asked, answers, scores | ({"gold": rng.normal(size=(prompts, many))} if gold else {}))


def outcome(gains: dict[str, Interval], *turns: Turn) -> Outcome:
    return Outcome({}, gains, (), turns)


ROSE, NOTHING, FELL = Interval(2.0, 1.0, 3.0), Interval(0.5, -1.0, 2.0), Interval(-2.0, -3.0, -1.0)


@pytest.mark.parametrize(
    ("found", "said", "unsaid"),
    [
        (outcome({"proxy": ROSE}), "cannot say itself: give --gold", "Gold is"),
        (outcome({"proxy": ROSE, "gold": ROSE}), "Gold rises with it, by 2.00 (95% interval 1.00 to 3.00)", "exploits"),
        (outcome({"proxy": ROSE, "gold": NOTHING}), "does not tell the chosen answers from plain ones", "rises with"),
        (outcome({"proxy": ROSE, "gold": FELL}), "Gold falls, by 2.00 (95% interval 1.00 to 3.00)", "rises with"),
        (
            outcome({"proxy": ROSE, "gold": ROSE}, Turn(4, 7.5, ROSE)),
            "Gold is highest at the best of 4 (7.50) and falls from there by 2.00 (95% interval 1.00 to 3.00)",
            "rises with",
        ),
        (outcome({"proxy": ROSE, "gold": FELL}, Turn(1, 7.5, ROSE)), "makes the answers worse", "the best of 1 "),
        (outcome({"proxy": Interval(0.0, 0.0, 0.0)}), "there was nothing to choose", "raises"),
    ],
)
def test_the_sentence(found: Outcome, said: str, unsaid: str) -> None:
    told = meaning(pool(), found)
    assert said in told
    assert unsaid not in told


def page_of(made: Pool) -> str:
    rows = [StageRow("Sampling", 2.0, 2**20)]
    parents = {name: parent for name, parent in MANIFEST["parents"].items() if name != "gold" or "gold" in made.scores}
    return build_report(report_data(made, examine(made), keep(made), rows, MANIFEST | {"parents": parents}))


def test_the_page_holds_a_row_for_each_n_with_the_figures_of_each_judge() -> None:
    made = pool()
    page, found = page_of(made), examine(made)
    for i, n in enumerate((1, 2, 4, 8)):
        row = re.search(rf'<tr><th scope="row">{n}</th>(.*?)</tr>', page)
        assert row is not None
        for judge in ("proxy", "gold"):
            value = found.curves[judge][i].value
            wanted = f"{value.mean:.3f}", f"{value.low:.3f} to {value.high:.3f}"
            assert all(text.replace("-", "−") in row[1] for text in wanted)
    assert "<th scope" in page
    assert page.count('<svg viewBox="0 0 360 216"') == 3
    assert 'href="#curves"' in page
    assert '<section id="curves"' in page


def test_without_gold_nothing_speaks_of_it() -> None:
    page = page_of(pool(gold=False))
    assert "Gold against KL" not in page
    assert '<th scope="col" class="n">Gold</th>' not in page


def test_texts_are_escaped_and_nothing_is_loaded() -> None:
    page = page_of(pool())
    assert "runs/&lt;reward&gt;" in page
    assert "question &lt;" in page
    assert "Gold &amp; proxy." in page
    assert not re.search(r"<(script|link|img)|https?://", page)
    assert "default-src 'none'" in page.replace("&#x27;", "'")


def test_intervals_stand_with_their_points() -> None:
    found = examine(pool())
    gold = next(curve for curve in curves(found) if curve.name == "Gold against KL")
    (line,) = gold.series.values()
    for i, point in enumerate(found.curves["gold"]):
        assert (line.x[i], line.y[i]) == (point.kl_bound, point.value.mean)
        assert line.bounds[i] == (point.value.low, point.value.high)


def test_samples_are_the_ends_and_the_middle_and_gold_prefers() -> None:
    made = pool()
    for row in samples(made):
        p = made.prompts.index(row.prompt)
        proxy = [answer.scores["proxy"] for answer in row.answers]
        table = made.scores["proxy"][p]
        assert (proxy[0], proxy[2]) == (table.max(), table.min())
        assert proxy[0] > proxy[1] > proxy[2]
        assert next(iter(row.answers[0].scores)) == "gold"
    assert len(samples(made)) == 6
    assert [answer.method for answer in samples(pool(2, 2))[0].answers] == ["the best", "the worst"]


def test_answers_cut_short_are_warned_of() -> None:
    made = pool()
    cut = keep(made).cut
    assert cut
    assert f"(finished is false): {cut} of the 9 best" in page_of(made)
