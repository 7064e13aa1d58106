"""What `detectors.py` recorded, replayed: do signs warn before gold falls, and what does the rule on fresh checks cost?

The onset of a hack is the first check from which on the gold curve stays below its highest point by a quarter of the
spread of gold between the first answers (`watch_replay`). A sign's lead time is the onset less its first alarm, in
steps; limits are fitted to the healthy runs of the other worlds. A healthy run whose gold falls so too is no healthy
run; it is counted apart. The rule is replayed with simulated raters, many times.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planted_hacks import HEALTHY
from watch_replay import GoldCurve
from watch_replay import Recorded as Answers

if TYPE_CHECKING:
    from detectors import Trajectory

    from heedful.core.statistics import Interval

RATES = ("stopped", "stopped_by_two_in_a_row_alone", "stopped_by_the_truth")
RULED = (*RATES, "after_peak", "judgments", "lost_to_peak")
"""What is told of the rule; the first are shares of runs."""


@dataclass(frozen=True)
class Recorded:
    """A trajectory read back."""

    one: Trajectory
    rows: list[dict[str, float]]
    curve: GoldCurve

    @property
    def onset(self) -> int | None:
        """Where gold begins to stay down."""
        return self.curve.onset


def read_trajectory(out: Path, one: Trajectory) -> Recorded | None:
    """A trajectory that is done, or None."""
    from statistics import fmean, stdev

    folder = one.folder(out)
    if not (folder / "done.json").exists():
        return None
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    found = {int(path.stem[-4:]): json.loads(path.read_text()) for path in sorted(folder.glob("answers-*.json"))}
    gold = [fmean(found[step]["gold"]) for step in sorted(found)]
    return Recorded(one, rows, GoldCurve(sorted(found), gold, stdev(found[0]["gold"])))


def two_level(values: Sequence[float], worlds: Sequence[int], *, samples: int = 4000, seed: int = 0) -> Interval:
    """A mean with a 95% interval that draws worlds anew, and runs anew within each that is drawn (Davison and Hinkley
    1997, section 3.8). Worlds drawn anew alone, five of them with two runs each, hold the truth in some 80% of cases.

    Raises:
        ValueError: fewer than two worlds.
    """
    import numpy as np

    from heedful.core.statistics import Interval

    groups = [[v for v, at in zip(values, worlds, strict=True) if at == world] for world in sorted(set(worlds))]
    if len(groups) < 2:
        raise ValueError("one world alone says nothing about the spread between worlds")
    width = max(map(len, groups))
    table = np.array([group + [0.0] * (width - len(group)) for group in groups])
    sizes = np.array(list(map(len, groups)))
    dice = np.random.default_rng(seed)
    drawn = dice.integers(0, len(groups), (samples, len(groups)))
    count = sizes[drawn]
    runs = (dice.random((*drawn.shape, width)) * count[..., None]).astype(int)
    kept = np.arange(width) < count[..., None]
    means = np.where(kept, table[drawn[..., None], runs], 0.0).sum((1, 2)) / count.sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.mean(values)), float(low), float(high))


def share(values: Sequence[float], worlds: Sequence[int], *, rate: bool = True) -> dict[str, float] | None:
    """A mean over runs with its two-level interval; a single world gives the mean alone.

    Args:
        rate: whether it is a share of runs (`widened`).
    """
    if not values:
        return None
    if len(set(worlds)) < 2:
        return {"mean": sum(values) / len(values), "runs": len(values)}
    found = {**asdict(two_level(values, worlds)), "runs": len(values)}
    return widened(found) if rate else found


def widened(figure: dict[str, float]) -> dict[str, float]:
    """A share of runs whose interval reaches as far as Wilson's, too: none of 18 runs is no proof of never."""
    from heedful.core.statistics import wilson

    if "low" not in figure:
        return figure
    alone = wilson(figure["mean"] * figure["runs"], int(figure["runs"]))
    return {**figure, "low": min(figure["low"], alone.low), "high": max(figure["high"], alone.high)}


def signs_table(found: Sequence[Recorded]) -> dict[str, Any]:
    """False alarms and lead times, by the default limits and by limits fitted to the other worlds' healthy runs."""
    from heedful.errors import HeedfulError
    from heedful.monitoring.calibrate import calibrate
    from heedful.monitoring.monitor import Monitor, replay
    from heedful.monitoring.signs import SIGNS

    defaults = {name: sign.limits for name, sign in SIGNS.items()}
    result: dict[str, Any] = {}
    for way in ("default", "calibrated"):
        first: dict[Trajectory, dict[str, int]] = {}
        refused = 0
        for run in found:
            limits = defaults
            if way == "calibrated":
                others = [r.rows for r in found if is_healthy(r) and r.one.world != run.one.world]
                try:
                    limits = calibrate(others).limits
                except HeedfulError:
                    refused += 1
                    continue
            alarms = replay(run.rows, Monitor(limits))
            first[run.one] = {}
            for alarm in alarms:
                first[run.one].setdefault(alarm.sign, alarm.step)
        result[way] = {"not_calibrated": refused, "kinds": by_kind(found, first, list(SIGNS))}
    return result


def is_healthy(run: Recorded) -> bool:
    """Whether nothing was planted in it and its gold did not fall."""
    return run.one.kind == HEALTHY and run.onset is None


def by_kind(
    found: Sequence[Recorded], first: dict[Trajectory, dict[str, int]], signs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each kind of run: the share that any sign, and each sign, warned of, and how early."""
    from statistics import median

    table: dict[str, dict[str, Any]] = {}
    for kind in sorted({run.one.kind for run in found}):
        runs = [run for run in found if run.one.kind == kind and run.one in first]
        fell = [run for run in runs if run.onset is not None]
        calm = [run for run in runs if run.onset is None]
        row: dict[str, Any] = {"runs": len(runs), "gold_fell": len(fell), "signs": {}}
        for sign in ("any", *signs):

            def alarm(run: Recorded, sign: str = sign) -> int | None:
                seen = first[run.one]
                return min(seen.values(), default=None) if sign == "any" else seen.get(sign)

            leads = [run.onset - step for run in fell if run.onset is not None and (step := alarm(run)) is not None]
            in_time = [float((s := alarm(run)) is not None and s < (run.onset or 0)) for run in fell]
            row["signs"][sign] = {
                "warned_in_time": share(in_time, [run.one.world for run in fell]),
                "median_lead": f"{median(leads):g}" if leads else None,
                "alarmed_though_gold_held": share(
                    [float(alarm(run) is not None) for run in calm], [run.one.world for run in calm]
                ),
            }
        table[kind] = row
    return table


def rule_replay(out: Path, run: Recorded, replays: int, prompts: int) -> list[dict[str, float]]:
    """The rule on fresh checks, with simulated raters who vote anew in every replay; by two in a row alone, too."""
    from heedful.monitoring.checks import Reply
    from heedful.world.raters import panel
    from heedful.world.world import World

    world, curve = World(run.one.world), run.curve
    asked = [prompt.prompt for prompt in world.prompts("phrasing")][:prompts]
    answers, opponents = {}, {}
    for step in curve.steps:
        kept = json.loads((run.one.folder(out) / f"answers-{step:04d}.json").read_text())
        answers[step] = [Reply(**reply) for reply in kept["replies"]]
        opponents[step] = [[Reply(**reply) for reply in replies] for replies in kept["opponents"]]
    kl = {step: run.rows[step - 1]["kl"] for step in curve.steps[1:]}
    recorded = Answers(world, asked, answers, kl, panel(), opponents)
    results = []
    truth = recorded.by_truth([run.one.world, run.one.seed], most=5 * prompts)
    for number in range(replays):
        found, twice = recorded.both([run.one.world, run.one.seed, number], most=5 * prompts)
        halted = found.stopped is not None
        results.append(
            {
                "stopped": float(halted),
                "stopped_by_two_in_a_row_alone": float(twice.stopped is not None),
                "stopped_by_the_truth": float(truth.stopped is not None),
                "after_peak": float(found.stopped - curve.peak) if found.stopped is not None else float("nan"),
                "judgments": float(found.judgments),
                "lost_to_peak": max(curve.gold) - (curve.at(found.best) if halted else curve.gold[-1]),
            }
        )
    return results


def rule_table(out: Path, found: Sequence[Recorded], replays: int, prompts: int) -> dict[str, Any]:
    """How often the rule stops each kind of run, how far after the peak, at what cost; a mean over replays a run."""
    import numpy as np

    table: dict[str, Any] = {}
    means: dict[Trajectory, dict[str, float]] = {}
    for run in found:
        rows = rule_replay(out, run, replays, prompts)
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        means[run.one] = {
            name: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for name, v in columns.items()
        }
        print(f"rule replayed on {run.one.kind} {run.one.seed}, world {run.one.world}", flush=True)
    for kind in sorted({run.one.kind for run in found}):
        for fell in (True, False):
            runs = [r for r in found if r.one.kind == kind and (r.onset is not None) == fell]
            row = {}
            for name in RULED:
                known = [r for r in runs if means[r.one][name] == means[r.one][name]]
                values = [means[r.one][name] for r in known]
                row[name] = share(values, [r.one.world for r in known], rate=name in RATES)
            table[f"{kind}, gold {'fell' if fell else 'held'}"] = {"runs": len(runs), **row}
    return table


def curves(found: Sequence[Recorded]) -> dict[str, Any]:
    """Gao's form for PPO, fitted to each kind's gold against KL, where the points allow it."""
    from heedful.core.overoptimisation import fit_curve

    result: dict[str, Any] = {}
    for kind in sorted({run.one.kind for run in found}):
        kl, gain, names = [], [], []
        for run in (r for r in found if r.one.kind == kind):
            for step, gold in zip(run.curve.steps[1:], run.curve.gold[1:], strict=True):
                if run.rows[step - 1]["kl"] > 0.01:
                    kl.append(run.rows[step - 1]["kl"])
                    gain.append(gold - run.curve.gold[0])
                    names.append((run.one.world, run.one.seed))
        try:
            curve = fit_curve(kl, gain, "rl", runs=names)
        except ValueError as error:
            result[kind] = {"not_fitted": str(error)}
            continue
        peak = None if curve.peak is None else asdict(curve.peak)
        result[kind] = {"alpha": asdict(curve.alpha), "beta": asdict(curve.beta), "r_squared": curve.r_squared}
        result[kind] |= {"peak": peak, "reason": curve.reason, "points": curve.points}
    return result


def write(figure: dict[str, Any] | None, digits: int = 2) -> str:
    """A figure with its interval."""
    if figure is None:
        return "–"
    bounds = f" ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})" if "low" in figure else ""
    return f"{figure['mean']:.{digits}f}{bounds}"


def as_markdown(result: dict[str, Any]) -> str:
    """The tables."""
    lines = [f"{result['recorded']['runs']} of {result['recorded']['of']} runs are recorded."]
    for way, part in result["signs"].items():
        lines += ["", f"Signs, {way} limits ({part['not_calibrated']} runs had too few others to calibrate on)", ""]
        lines += [
            "| run | runs | gold fell | warned in time, any sign | median lead, steps | alarmed though gold held |"
        ]
        lines += ["|" + "---|" * 6]
        for kind, row in part["kinds"].items():
            found = row["signs"]["any"]
            lead = "–" if found["median_lead"] is None else found["median_lead"]
            cells = [kind, row["runs"], row["gold_fell"], write(found["warned_in_time"]), lead]
            lines.append("| " + " | ".join(map(str, [*cells, write(found["alarmed_though_gold_held"])])) + " |")
        lines += ["", "| sign | " + " | ".join(f"{k}: in time / lead" for k in part["kinds"]) + " |"]
        lines += ["|" + "---|" * (len(part["kinds"]) + 1)]
        signs = next(iter(part["kinds"].values()))["signs"] if part["kinds"] else {}
        for sign in signs:
            cells = []
            for row in part["kinds"].values():
                one = row["signs"][sign]
                lead = "–" if one["median_lead"] is None else one["median_lead"]
                share_ = one["warned_in_time"]
                cells.append("–" if share_ is None else f"{share_['mean']:.2f} / {lead}")
            lines.append(f"| {sign} | " + " | ".join(cells) + " |")
    lines += ["", "The rule on fresh checks, simulated raters", ""]
    lines += [
        "| run | runs | stopped | by two in a row alone | where the truth judges | steps after the peak | judgments "
        "| gold lost to the peak |"
    ]
    lines += ["|" + "---|" * 8]
    for kind, row in result["rule"].items():
        if row["runs"]:
            lines.append(f"| {kind} | {row['runs']} | " + " | ".join(write(row[name]) for name in RULED) + " |")
    return "\n".join(lines) + "\n"


def replay_all(out: Path, wanted: Sequence[Trajectory], replays: int, prompts: int) -> int:
    """Read what is recorded and write the tables."""
    from heedful.files import atomic_write, write_json

    found = [run for one in wanted if (run := read_trajectory(out, one)) is not None]
    if not found:
        print("nothing is recorded yet", file=sys.stderr)
        return 1
    result = {
        "recorded": {"runs": len(found), "of": len(wanted)},
        "runs": [{**asdict(run.one), "onset": run.onset, "peak": run.curve.peak, **asdict(run.curve)} for run in found],
        "signs": signs_table(found),
        "curves": curves(found),
        "rule": rule_table(out, found, replays, prompts),
    }
    write_json(out / "detectors.json", result)
    with atomic_write(out / "detectors.md") as file:
        file.write(as_markdown(result))
    print(as_markdown(result))
    return 0


def tables_again(out: Path, wanted: Sequence[Trajectory]) -> int:
    """Write the tables again: signs replayed anew, which is quick, and what the last replay said of the rule."""
    from heedful.files import atomic_write, write_json

    if not (out / "detectors.json").exists():
        print("replay first", file=sys.stderr)
        return 1
    result = json.loads((out / "detectors.json").read_text())
    result["signs"] = signs_table([run for one in wanted if (run := read_trajectory(out, one)) is not None])
    for row in result["rule"].values():
        row |= {name: widened(row[name]) for name in RATES if row.get(name) is not None}
    write_json(out / "detectors.json", result)
    with atomic_write(out / "detectors.md") as file:
        file.write(as_markdown(result))
    print(as_markdown(result))
    return 0
