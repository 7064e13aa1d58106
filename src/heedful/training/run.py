"""Consume a trainer: checkpoints, metrics, samples, progress, guards, interventions and exact resume."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from heedful.errors import HeedfulError
from heedful.training.checkpoint import drop_kept, keep_weights, restore_weights, save_checkpoint, set_aside
from heedful.training.config.common import RunConfig
from heedful.training.folders import EVENTS, METRICS, SAMPLES, checkpoints, rewind
from heedful.training.optimiser import Diverged
from heedful.training.progress import Display
from heedful.training.state import (
    Event,
    Keep,
    LimitMicroBatch,
    RollBack,
    SetAside,
    Settle,
    Step,
    TrainState,
    due,
    event_from_json,
    event_to_json,
)
from heedful.training.trackers import open_trackers
from heedful.training.workers import Workers, current

Intervene: TypeAlias = Callable[[Step], Sequence[Event]]
"""Looks at a step and names the events to apply after it."""


def no_intervention(step: Step) -> Sequence[Event]:
    """Let the run go on."""
    return ()


@dataclass(frozen=True)
class Watch:
    """What a consumer adds to a run; each is called at a step boundary.

    Args:
        evaluate: figures on held-out records.
        sample: samples worth logging, as JSON objects.
        intervene: events to apply after a step. It is asked again about the steps that a run goes over again after a
            kill; what it says of those that are journalled does not count.
    """

    evaluate: Callable[[], dict[str, float]] = dict
    sample: Callable[[], Sequence[dict[str, Any]]] = tuple
    intervene: Intervene = no_intervention


class _Journal:
    """Events applied so far: those of an earlier run are replayed at their step, new ones are written down."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[int, list[Event]] = {}
        self.last = 0
        for row in rewind(path, math.inf) if path.exists() else []:
            self.known.setdefault(row["step"], []).append(event_from_json(row))
            self.last = max(self.last, row["step"])

    def at(self, step: Step, intervene: Intervene) -> Sequence[Event]:
        """The events after a step. Whoever intervenes sees every step; where the journal speaks, it alone counts."""
        events = intervene(step)
        if step.number <= self.last:
            return self.known.get(step.number, ())
        if events:
            self.write(step.number, events)
        return events

    def write(self, step: int, events: Sequence[Event]) -> None:
        """Write down events that came after a step."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": step, **event_to_json(e)}) + "\n" for e in events)
            file.flush()
            os.fsync(file.fileno())


class _Logs:
    """Figures and samples of each step on disk; what a killed run logged after the step it goes on from is dropped."""

    def __init__(self, out: Path, step: int, settings: RunConfig, title: str) -> None:
        self.out, self.step, self.settings, self.title = out, step, settings, title
        out.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, SAMPLES):
            rewind(out / name, step)

    def open(self, stack: ExitStack) -> None:
        """Open the files until the stack ends."""
        self.metrics, self.samples = (
            stack.enter_context(open(self.out / name, "a", encoding="utf-8"))  # noqa: SIM115  (the stack closes it)
            for name in (METRICS, SAMPLES)
        )
        self.trackers = open_trackers(self.out, self.step, self.settings, self.title)
        stack.push(self._close)

    def write(self, step: int, figures: Mapping[str, float], samples: Sequence[dict[str, Any]]) -> None:
        """Log one step."""
        _log(self.metrics, [{"step": step, **figures}])
        _log(self.samples, [{"step": step, **sample} for sample in samples])
        for tracker in self.trackers:
            tracker.write(step, figures)

    def _close(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        for tracker in self.trackers:
            tracker.close(failed=kind is not None)


def run(
    trainer: Iterator[Step],
    state: TrainState,
    *,
    out: Path,
    total: int,
    title: str,
    settings: RunConfig,
    display: Display,
    shown: Sequence[str],
    watch: Watch | None = None,
) -> dict[str, float]:
    """Run a trainer to its end and return its last figures.

    `state` already holds the checkpoint that the run goes on from, if any; the trainer starts at `state.step`.

    Args:
        shown: names of the metrics that the progress bar shows.

    Raises:
        HeedfulError: the loss or a gradient is not a number, or the loss passed `settings.max_loss`.
    """
    watch = watch or Watch()
    team = current()
    logs = _Logs(out, state.step, settings, title) if team.leads else None
    journal = team.led(lambda: _Journal(out / EVENTS))
    for event in journal.known.get(state.step, ()):  # one may have come after the checkpoint, in the step that began
        carry_out(event, state, out)

    def told(event: Event) -> None:
        if team.leads:
            journal.write(state.step, [event])
        if isinstance(event, LimitMicroBatch):
            display.say(f"{title}: no memory left in step {state.step + 1}; on with {event.tokens} tokens at a time")

    state.told = told
    last: dict[str, float] = {}
    started = time.monotonic() - state.scalars.get("seconds", 0.0)
    with ExitStack() as stack:
        if logs is not None:
            logs.open(stack)
        task = stack.enter_context(display.task(title, total, state.step))
        try:
            for step in trainer:
                _guard(step.number, step.metrics, settings)
                state.scalars["seconds"] = time.monotonic() - started
                for event in _events(team, journal, step, watch.intervene):
                    carry_out(event, state, out)
                ends = step.number == total or "stopped" in state.scalars
                figures = dict(step.metrics)
                if ends or due(step.number, settings.evaluate_every):
                    figures |= watch.evaluate()
                    _guard(step.number, figures, settings)
                samples = list(step.samples)
                if settings.sample_every > 0 and (ends or due(step.number, settings.sample_every)):
                    with team.whole():
                        samples += watch.sample() if team.leads else ()
                if logs is not None:
                    logs.write(step.number, figures, samples)
                task.update(step.number, {name: figures[name] for name in shown if name in figures})
                last = figures
                if ends:
                    break
                stops = any(team.gathered(team.asked_to_stop))
                if due(step.number, settings.checkpoint_every) or (stops and settings.checkpoint_every):
                    save_checkpoint(out, state, settings.keep_checkpoints)
                if stops:
                    raise KeyboardInterrupt
        except Diverged as problem:
            raise _diverged(problem, out, problem.step or state.step + 1) from problem
    return last


def _events(team: Workers, journal: _Journal, step: Step, intervene: Intervene) -> Sequence[Event]:
    """The events after a step, which the leader names and all carry out."""
    watched = bool(team.sharded) and team.led(lambda: intervene is not no_intervention)
    with team.whole() if watched else nullcontext():  # who looks on may sample
        return team.led(lambda: journal.at(step, intervene))


def carry_out(event: Event, state: TrainState, out: Path) -> None:
    """Apply an event at a step boundary, with what it asks of the disk."""
    team = current()
    if isinstance(event, Keep):
        team.led(lambda: keep_weights(out, state))
    elif isinstance(event, SetAside):
        team.led(lambda: set_aside(out, state))
    elif isinstance(event, Settle):
        team.led(lambda: drop_kept(out, event.best_step))
    elif isinstance(event, RollBack):
        restore_weights(out, state, event.to_step)
    state.apply(event)


def _log(file: IO[str], rows: Sequence[dict[str, Any]]) -> None:
    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.flush()


def _guard(step: int, figures: Mapping[str, float], settings: RunConfig) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value}", step)
    loss = figures.get("loss", 0.0)
    if abs(loss) > settings.max_loss:
        raise Diverged(f"the loss is {loss:.4g}, above run.max_loss", step)


def _diverged(problem: Diverged, out: Path, step: int) -> HeedfulError:
    good = checkpoints(out)
    kept = f"The last good checkpoint is {good[-1]}." if good else "No checkpoint was written before it."
    return HeedfulError(
        f"training diverged in step {step}: {problem}.",
        where=str(out),
        mend=f"{kept} Lower optimiser.learning_rate and use another --out, or look at {METRICS} for where it began.",
    )
