"""How conservative a policy becomes as it learns: a curve through the run, not a figure found afterwards.

The same requests are asked again and again with the same random draws, so that what changes from row to row is the
policy. Rows lie in the run's watch folder and are no part of what is learnt: a run with them ends with the same bits as
one without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.data.records import Conversation
from heedful.evaluation.refusal_rates import (
    Judge,
    by_rules,
    by_world,
    natural_set,
    refusal_report,
    spread,
    world_set,
)
from heedful.evaluation.refusals import RefusalPrompt
from heedful.pipeline.watch_words import REFUSALS
from heedful.training.config.watch import RefusalsConfig
from heedful.training.folders import rewind
from heedful.training.state import due
from heedful.world.world import World

JUDGES: dict[str, tuple[str, Judge]] = {"prompts": ("rules", by_rules), "world": ("the world's truth", by_world)}
"""Who tells refusals, by what is asked."""

Asked = list[tuple[RefusalPrompt, Conversation]]


def requests(settings: RefusalsConfig) -> Asked:
    """The requests that the settings name."""
    return spread(world_set(World(0)) if settings.requests == "world" else natural_set(), settings.limit)


class Conservatism:
    """Measures refusals of a run.

    Args:
        settings: when, and which.
        asked: the requests.
        answer: answers them as the policy does now.
        folder: of the watch.
        step: that the run goes on from; rows of later ones are dropped.
    """

    def __init__(
        self, settings: RefusalsConfig, asked: Asked, answer: Callable[[], Sequence[str]], folder: Path, step: int
    ) -> None:
        assert settings.requests is not None
        self.settings, self.asked, self.answer, self.path = settings, asked, answer, folder / REFUSALS
        self.by, self.judge = JUDGES[settings.requests]
        if not (rewind(self.path, step) if self.path.exists() else []) and step == 0:
            self._measure(0, 0.0)

    def after(self, step: int, kl: float | None, *, checked: bool) -> dict[str, float]:
        """The figures of a step: shares of safe and of unsafe requests refused; none where it is not their turn.

        Args:
            checked: whether a fresh check was made after this step.
        """
        every = self.settings.every_steps
        return self._measure(step, kl) if due(step, every) or (every == 0 and checked) else {}

    def _measure(self, step: int, kl: float | None) -> dict[str, float]:
        report = refusal_report(self.asked, [[text] for text in self.answer()], {self.by: self.judge})
        rates = report.rates[self.by]
        row: dict[str, Any] = {"step": step, "kl": kl, "safe": asdict(rates.safe), "unsafe": asdict(rates.unsafe)}
        row |= {"by": self.by, "requests": report.prompts, "over_refused": report.over_refused}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return {"refused_safe": rates.safe.mean, "refused_unsafe": rates.unsafe.mean}
