"""Tasks of the `lm-eval` package (EleutherAI's evaluation harness) on a policy: what it could do before, can it still?

Thin: the harness runs the tasks and scores them. Here policies are handed to it as they are loaded, and two of them
are compared question by question, which tells a tax apart from noise far sooner than their two means do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.core.statistics import Interval, t_interval
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.models.policy import Policy

_Z = 1.959964


@dataclass(frozen=True)
class TaskScore:
    """One metric of a task: the harness's figure with its own standard error, as a 95% interval (bounds that are not
    finite where it gives none); and the score of each question by its number, where the metric is a mean of such."""

    task: str
    metric: str
    value: Interval
    questions: int
    each: Mapping[int, float]

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.task}, {self.metric}"


def run_tasks(
    policy: Policy,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    chat: bool = False,
    batch: int = 8,
) -> list[TaskScore]:
    """Run tasks of the harness.

    Args:
        tasks: names, of the harness's own tasks or of those in `include`.
        include: folder with task files (YAML) of one's own.
        limit: questions of each task; None takes all.
        chat: put questions into the policy's chat template.
        batch: questions a forward pass.

    Raises:
        HeedfulError: the package is not installed, or has no such task.
    """
    harness, model_class, manager_class = _harness()
    manager = manager_class(include_path=None if include is None else str(include))
    for name in tasks:
        if name not in manager.all_tasks:
            raise HeedfulError(f"lm-eval knows no task {name!r}.", where="lm_eval", mend="lm-eval ls tasks lists them.")
    model = model_class(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=batch)
    was_training = policy.model.training
    try:
        found = harness.simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            log_samples=True,
            apply_chat_template=chat,
            bootstrap_iters=1_000,
            verbosity="ERROR",
        )
    finally:
        policy.model.train(was_training)
    return scores_of(found)


def scores_of(found: Mapping[str, Any]) -> list[TaskScore]:
    """The scores in what the harness returns, by task in its order."""
    scores = []
    for task, figures in found["results"].items():
        rows = found.get("samples", {}).get(task, [])
        for key, value in figures.items():
            name, _, filtered = key.partition(",")
            if (
                name.endswith("_stderr")
                or isinstance(value, bool)
                or not isinstance(value, int | float)
                or not filtered
            ):
                continue
            error = figures.get(f"{name}_stderr,{filtered}")
            half = _Z * error if isinstance(error, int | float) else float("nan")
            own = [row for row in rows if row.get("filter", filtered) == filtered]
            each = {int(row["doc_id"]): float(row[name]) for row in own if isinstance(row.get(name), int | float)}
            metric = name if filtered == "none" else f"{name} ({filtered})"
            scores.append(TaskScore(task, metric, Interval(value, value - half, value + half), len(own), each))
    return scores


def lost(policy: TaskScore, baseline: TaskScore) -> Interval | None:
    """By how much the policy scores above the baseline, question by question, with a 95% t interval.

    None where the metric is no mean over questions, or they had other ones.
    """
    if len(policy.each) < 2 or policy.each.keys() != baseline.each.keys():
        return None
    gaps = np.array([policy.each[i] - baseline.each[i] for i in policy.each])
    if not np.isclose(np.mean(list(policy.each.values())), policy.value.mean):
        return None  # a figure of another kind, such as a perplexity
    return t_interval(gaps) if gaps.any() else Interval(0.0, 0.0, 0.0)


def _harness() -> tuple[Any, Any, Any]:
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise HeedfulError(
            "tasks need the package lm-eval.", where="lm_eval", mend="Install it: pip install 'heedful[lm-eval]'."
        ) from error
    return lm_eval, HFLM, TaskManager
