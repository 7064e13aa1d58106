"""The run's own report names the case of "the chosen log-prob falls", with its figures."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.pipeline.preference_report import Movement, explain, movement, preference_report
from heedful.pipeline.report import build_report


def rows(chosen: float, rejected: float, steps: int = 20) -> list[dict[str, float]]:
    """A run whose log-ratios go evenly from 0 to these, at beta 0.5, on answers of -30 and -40 nats."""
    made = []
    for step in range(1, steps + 1):
        c, r = chosen * step / steps, rejected * step / steps
        made.append(
            {
                "step": step,
                "loss": 0.6,
                "chosen_reward": 0.5 * c,
                "rejected_reward": 0.5 * r,
                "chosen_logprob": -30 + c,
                "rejected_logprob": -40 + r,
                "margin": 0.5 * (c - r),
                "accuracy": 0.7,
            }
        )
    return made


def test_movement_is_the_mean_of_the_last_tenth_in_nats() -> None:
    found = movement(rows(4, -8), 0.5, against_start=True)
    assert found == Movement(pytest.approx(3.9), pytest.approx(-7.8))
    raw = movement(rows(4, -8), 1.0, against_start=False)
    assert raw == Movement(pytest.approx(3.9 - 0.3), pytest.approx(-7.8 + 0.6))


def test_a_label_that_never_comes_up_has_no_movement() -> None:
    kept = [{k: v for k, v in row.items() if not k.startswith("rejected")} for row in rows(1, -1)]
    assert movement(kept, 0.5, against_start=True) is None
    page = build_report(preference_report("dpo: kto", kept, 0.5, against_start=True))
    assert "What this means" not in page


@pytest.mark.parametrize(
    ("chosen", "rejected", "heading", "said"),
    [
        (3.0, -1.0, "The chosen log-prob rises", "25.0% of the margin was won by pushing"),
        (3.0, 1.0, "The chosen log-prob rises", "0.0% of the margin was won by pushing"),
        (0.01, -2.0, "The chosen log-prob stays", "99.5% of the margin came from the others"),
        (-2.0, -9.0, "The chosen log-prob falls", "all of the margin was won by pushing down"),
        (-2.0, -1.0, "The margin did not grow", "did not tell the answers apart"),
        (0.0, 0.0, "The margin did not grow", "did not tell the answers apart"),
    ],
)
def test_cases(chosen: float, rejected: float, heading: str, said: str) -> None:
    found = explain(Movement(chosen, rejected))
    assert found.heading == heading
    assert said in " ".join(found.paragraphs)


def test_a_fall_comes_with_figures_and_remedies() -> None:
    text = " ".join(explain(Movement(-2.0, -9.0)).paragraphs)
    for word in ("−2.00 nats", "−9.00 nats", "+7.00 nats", "0.2*sft", "apo-zero", "ipo", "--beta", "fewer steps"):
        assert word in text


def test_the_page_has_the_curves_and_the_words() -> None:
    given: list[dict[str, Any]] = rows(-2, -9)
    given[-1] |= {"held_out_accuracy": 0.8, "held_out_margin": 1.0, "held_out_loss": 0.5}
    page = build_report(preference_report("dpo: sigmoid", given, 0.5, against_start=True))
    assert "The chosen log-prob falls" in page
    for curve in ("Log-probabilities", "Implicit rewards", "Margin", "Accuracy", "Loss"):
        assert curve in page
    assert "chosen logprob" in page
    assert "80.0%" in page
