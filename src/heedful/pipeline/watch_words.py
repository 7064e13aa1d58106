"""What a run's watch left, read and put into words. Works without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.training.folders import WATCH, whole_lines

REFUSALS = "refusals.jsonl"
"""In the watch's folder: a row each time that refusals were measured, with the intervals."""


def read_refusals(run: Path) -> list[dict[str, Any]]:
    """The rows of refusals that a run's watch left, in order; none where it measured nothing."""
    return [row for _, row in whole_lines(run / WATCH / REFUSALS)]


def checks_in_words(watch: Mapping[str, Any]) -> list[str]:
    """What the fresh checks of a finished run found and who judged them, from its manifest's entry `watch`."""
    gold = watch.get("gold") or {}
    said = []
    for check in gold.get("checks", ()):
        rate, panel = check["against_start"], check.get("panel")
        told = (
            f"Step {check['step']}, KL {check['kl']:.2f}: wins {rate['mean']:.0%} of fresh pairs against the start "
            f"({rate['low']:.0%} to {rate['high']:.0%})"
        )
        if panel is not None:
            fresh = "none of whom" if panel["trained"] == 0 else f"{panel['trained']} of whom"
            told += f"; {panel['raters']} raters, {fresh} gave training judgments"
        said.append(told + ".")
    left = gold.get("left_open")
    if left is not None:
        said.append(
            f"Step {left['step']}: the run ended while people judged; {left['filled']} of {left['places']} judgments "
            f"are kept, and {left['held']} pairs lay before raters."
        )
    return said
