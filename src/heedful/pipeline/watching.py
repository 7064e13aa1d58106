"""The watch over a run that learns online: from the figures of each step to alarms, and to the events that step in.

`heedful.monitoring` knows signs, checks and the rule, and nothing of trainers; `heedful.training` knows events, and
nothing of signs. They meet here. All that the watch remembers lies in the run's checkpoint, finished checks beside it,
so that a run that was killed goes on to the same alarms and the same events.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError, nearest
from heedful.files import sha256_file, write_json
from heedful.monitoring.budget import PredictedBudget
from heedful.monitoring.calibrate import Thresholds, read_thresholds
from heedful.monitoring.checks import Ruling
from heedful.monitoring.monitor import Alarm, Monitor
from heedful.monitoring.signs import SIGNS, Limits, Tier, limits_of_run
from heedful.pipeline.conservatism import Conservatism
from heedful.pipeline.gold_checks import GoldChecks
from heedful.pipeline.refusal_report import over_training
from heedful.pipeline.report import write_report
from heedful.pipeline.watch_words import read_refusals
from heedful.training.config.online import LeashedConfig, OnlineConfig
from heedful.training.config.watch import WatchConfig
from heedful.training.folders import ALARMS, EVENTS, WATCH, rewind, whole_lines
from heedful.training.progress import Display
from heedful.training.run import Watch, no_intervention
from heedful.training.state import (
    Event,
    FreezePolicy,
    Keep,
    RollBack,
    SetAside,
    SetKLCoefficient,
    Settle,
    Step,
    Stop,
    TrainState,
)

MEMORY = "watch"
"""The scalar of a run's state that holds what its watch remembers."""

FORECAST = "forecast.json"
"""In the watch's folder: the newest fit to the fresh checks (`monitoring.budget.Forecast`)."""

GOLD = "gold"
"""The name under which fresh checks alarm."""


class Watcher:
    """Looks at each step of a run, says and logs alarms, and names the events that step in.

    Args:
        settings: what to watch, and what to do.
        monitor: the signs.
        checks: fresh checks, or None.
        state: of the run, as it goes on.
        out: folder of the run.
        display: where to say it.
        refusals: measures how conservative the policy becomes, or None.
        last: the step with which the run ends, unless something ends it before; None for one that is not known.
    """

    def __init__(
        self,
        settings: WatchConfig,
        monitor: Monitor,
        checks: GoldChecks | None,
        state: TrainState,
        out: Path,
        display: Display,
        refusals: Conservatism | None = None,
        last: int | None = None,
    ) -> None:
        self.settings, self.monitor, self.checks, self.refusals = settings, monitor, checks, refusals
        self.state, self.out, self.display, self.last = state, out, display, last
        self.budget = PredictedBudget() if checks is not None and settings.gold.predict else None
        self.responded = -settings.cooldown
        kept = state.scalars.get(MEMORY)
        if kept is not None:
            monitor.restore(kept["monitor"])
            self.responded = kept["responded"]
            if checks is not None:
                checks.restore(kept["gold"])
            if checks is not None and self.budget is not None and kept.get("budget"):
                self.budget.restore(checks.checks, kept["budget"])
        if checks is not None:
            checks.journalled = max((row["step"] for _, row in whole_lines(out / EVENTS)), default=0)
        if (out / ALARMS).exists():
            rewind(out / ALARMS, state.step)

    def intervene(self, step: Step) -> list[Event]:
        """The events after a step; alarms are said and logged on the way, and refusals join the step's figures."""
        alarms = self.monitor.see(step.number, step.metrics)
        ruling = None
        if self.checks is not None:
            ruling = self.checks.after(step.number, self.monitor.mean("kl"), last=step.number == self.last)
            alarms += [] if ruling is None else self._of_gold(step.number, ruling)
        alarms += self._of_budget(step.number, checked=ruling is not None)
        if self.refusals is not None:
            kl = self.monitor.mean("kl")
            step.metrics.update(self.refusals.after(step.number, kl, checked=ruling is not None))
        events = self._events(step, alarms, ruling) if self.settings.mode == "act" else []
        self._tell(alarms, events)
        self.state.scalars[MEMORY] = {
            "monitor": self.monitor.to_json(),
            "responded": self.responded,
            "gold": None if self.checks is None else self.checks.to_json(),
            "budget": None if self.budget is None else self.budget.to_json(),
        }
        return events

    def _of_budget(self, step: int, *, checked: bool) -> list[Alarm]:
        """What the KL is to the budget that the fresh checks predict; it is fitted anew after each of them."""
        if self.budget is None or self.checks is None:
            return []
        if checked:
            known = self.budget.found.budget
            self.budget.learn(self.checks.checks)
            write_json(self.out / WATCH / FORECAST, self.budget.found.to_json())
            found = self.budget.found.budget
            if found.kl is not None:
                self.display.say(f"watch: predicted budget {found.kl:.3g} nats: {found.reason}")
            elif known.kl is not None:
                self.display.say(f"watch: no budget is predicted any more: {found.reason}")
        return self.budget.see(step, self.monitor.mean("kl"))

    def _of_gold(self, step: int, ruling: Ruling) -> list[Alarm]:
        assert self.checks is not None
        if not ruling.fell:
            self.display.say(f"watch: {ruling.sentence}")
            return []
        rate = self.checks.checks[-1].against_best.rate
        tier = Tier.STOP if ruling.stop else Tier.ACT
        return [Alarm(step, GOLD, tier, rate.mean, 0.5, rate.high, 0.5, ruling.sentence)]

    def _events(self, step: Step, alarms: Sequence[Alarm], ruling: Ruling | None) -> list[Event]:
        events = self._weights(step.number, ruling)
        if ruling is not None and ruling.stop:
            return [RollBack(ruling.best_step, ruling.sentence)]
        gravest = max((alarm for alarm in alarms if alarm.tier == Tier.STOP), key=lambda a: a.sign, default=None)
        if gravest is not None:
            if self.checks is not None:
                return [*events, RollBack(self.checks.best_step, gravest.sentence)]
            return [Stop(gravest.sentence)]
        if self.settings.step_cap is not None and step.number >= self.settings.step_cap:
            return [*events, Stop(f"step cap: {self.settings.step_cap} steps")]
        beyond = self.budget is not None and self.budget.now == Tier.ACT
        grave = (ruling is not None and ruling.fell) or beyond or Tier.ACT in self.monitor.tiers.values()
        if grave and step.number - self.responded >= self.settings.cooldown:
            self.responded = step.number
            events.append(self._response())
        return events

    def _weights(self, step: int, ruling: Ruling | None) -> list[Event]:
        """Which weights are kept after a step for a run that may have to go back to them."""
        if self.checks is None:
            return []
        if not self.checks.goes_on:
            return [Keep(ruling.sentence)] if ruling is not None and ruling.best_step == step else []
        begun = self.checks.last_step == step
        events: list[Event] = [SetAside("people judge the answers of this step")] if begun else []
        return events if ruling is None else [*events, Settle(ruling.best_step, ruling.sentence)]

    def _response(self) -> Event:
        settings = self.settings
        if settings.respond == "freeze":
            return FreezePolicy(settings.freeze_steps)
        now = self.state.scalars["kl_coefficient"]
        return SetKLCoefficient(max(now * settings.raise_factor, settings.least_coefficient))

    def _tell(self, alarms: Sequence[Alarm], events: Sequence[Event]) -> None:
        done = [said_of(event) for event in events]
        for alarm in alarms:
            self.display.say(f"watch: step {alarm.step}, {alarm.sign} ({alarm.tier.name.lower()}): {alarm.sentence}")
        for said in done:
            self.display.say(f"watch: {said}")
        if alarms:
            with open(self.out / ALARMS, "a", encoding="utf-8") as file:
                for alarm in alarms:
                    file.write(json.dumps({**alarm.to_json(), "done": done}, ensure_ascii=False) + "\n")

    def conclude(self) -> None:
        """The run has ended: say what of a check is still open."""
        left = "" if self.checks is None else self.checks.conclude()
        if left:
            self.display.say(f"watch: {left}")

    def summary(self) -> dict[str, Any]:
        """What the manifest says of the watch; the page of refusals is written where they were measured."""
        path = self.out / ALARMS
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        said: dict[str, Any] = {"mode": self.settings.mode, "alarms": len(rows)}
        said["signs"] = sorted({row["sign"] for row in rows})
        if "rolled_back_to" in self.state.scalars:
            said["rolled_back_to"] = self.state.scalars["rolled_back_to"]
        if self.refusals is not None:
            found = read_refusals(self.out)
            said["refusals"] = [{key: row[key] for key in ("step", "kl", "safe", "unsafe", "by")} for row in found]
            write_report(self.out / WATCH / "refusals.html", over_training(found))
        if self.budget is not None:
            said["predicted_budget"] = asdict(self.budget.found.budget)
        return said if self.checks is None else said | {"gold": self.checks.summary()}


def said_of(event: Event) -> str:
    """An intervention in words."""
    if isinstance(event, SetKLCoefficient):
        return f"β is now {event.value:.4g}"
    if isinstance(event, FreezePolicy):
        return f"the policy rests for {event.steps} steps"
    if isinstance(event, Keep):
        return "these weights are kept as the best so far"
    if isinstance(event, SetAside):
        return "these weights are set aside while people judge"
    if isinstance(event, Settle):
        return f"the best so far are the weights of step {event.best_step}"
    if isinstance(event, RollBack):
        where = "the starting policy" if event.to_step == 0 else f"the weights of step {event.to_step}"
        return f"stopped, and back to {where}"
    return f"stopped: {event.reason}" if isinstance(event, Stop) else type(event).__name__


def together(own: Watcher | None, given: Watch | None) -> Watch | None:
    """The watch of a run and what its caller looks at beside it, as one."""
    if own is None:
        return given
    given = given or Watch()
    if given.intervene is no_intervention:
        return replace(given, intervene=own.intervene)

    def both(step: Step) -> list[Event]:
        return [*own.intervene(step), *given.intervene(step)]

    return replace(given, intervene=both)


def watch_inputs(settings: WatchConfig) -> dict[str, str]:
    """Content hashes of the files that a watch reads, by name.

    Raises:
        HeedfulError: there is no such file.
    """
    files = {"watch.thresholds": settings.thresholds, "watch.gold.prompts": settings.gold.prompts}
    found: dict[str, str] = {}
    for name, file in files.items():
        if settings.mode != "off" and file is not None and (name == "watch.thresholds" or Path(file).is_file()):
            try:
                found[name] = sha256_file(Path(file))
            except OSError as error:
                raise HeedfulError(
                    "cannot read this file.", where=f"{name} ({file})", mend="Check the path."
                ) from error
    return found


def settled_watch(settings: WatchConfig) -> tuple[WatchConfig, Thresholds | None]:
    """The settings with what the thresholds file says: how figures are read, since its limits were fitted so; and a
    budget and a cap where the settings have none.

    Raises:
        HeedfulError: the file means nothing.
    """
    if settings.thresholds is None:
        return settings, None
    found = read_thresholds(settings.thresholds)
    return replace(
        settings,
        window=found.window or settings.window,
        baseline_steps=found.baseline_steps or settings.baseline_steps,
        kl_budget=found.kl_budget if settings.kl_budget is None else settings.kl_budget,
        step_cap=found.step_cap if settings.step_cap is None else settings.step_cap,
    ), found


def limits_for(
    config: OnlineConfig, settings: WatchConfig, found: Thresholds | None, reward_high: float | None, low: bool
) -> dict[str, Limits]:
    """The signs that a run watches, with their limits: those of a file win over the defaults.

    Args:
        reward_high: what one training answer in a hundred scored above, where that is known.
        low: whether the policy computes in bfloat16.

    Raises:
        HeedfulError: an unknown sign.
    """
    steered = isinstance(config, LeashedConfig) and config.kl.adaptive
    target = config.kl.target if steered and isinstance(config, LeashedConfig) else None
    limits = limits_of_run(kl_target=target, kl_budget=settings.kl_budget, reward_high=reward_high, low_precision=low)
    if found is not None:
        own = {"kl": limits["kl"]} if settings.kl_budget is not None else {}
        limits = {**limits, **found.limits, **own}
    if settings.signs == ("all",):
        return limits
    for name in settings.signs:
        if name not in SIGNS:
            raise HeedfulError(
                f"{name!r} is no sign.",
                where="watch.signs",
                mend=nearest(name, list(SIGNS)) or f"Known: {', '.join(SIGNS)}, or all.",
            )
    return {name: limits[name] for name in settings.signs}
