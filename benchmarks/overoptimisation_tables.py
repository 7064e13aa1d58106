"""The tables of `overoptimisation.py`, as Markdown and JSON; the picture is drawn beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import overoptimisation_prevention as prevention
import overoptimisation_runs as runs
from overoptimisation_read import (
    REPLAYS,
    Study,
    Track,
    best_until,
    budget_from_others,
    gao,
    over_seeds,
    points_of,
    read_study,
    simulated,
    stop_at_budget,
)

from heedful.core.overoptimisation import Curve
from heedful.core.statistics import Interval

EQUAL = (0.5, 1.0, 2.0, 4.0)
"""KLs, in nats, at which arms are held against each other. Fixed before any of them ran."""


def written(found: Interval, digits: int = 2) -> str:
    """A figure with its interval."""
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def over(values: Sequence[float], digits: int = 2) -> str:
    """A mean over seeds with its interval; each seed's own figure where they are too few for one."""
    known = [float(value) for value in values if np.isfinite(value)]
    found = over_seeds(known)
    if found is None:
        return "–"
    if np.isfinite(found.low):
        return written(found, digits)
    return ", ".join(f"{value:.{digits}f}" for value in known)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def name_of(crowd: str, data: str, beta: float | None) -> str:
    """A run in words."""
    pairs = f"{runs.DATA[data]:,} pairs"
    return f"{crowd} crowd, {pairs}" + ("" if beta is None else f", β {beta:g}")


def best_of_n_table(study: Study) -> list[str]:
    """Best-of-n: gold gain by n, in spreads of the SFT model's gold."""
    ns = next(iter(next(iter(study.pools.values())).values()))["n"]
    kl = next(iter(next(iter(study.pools.values())).values()))["kl"]
    heads = ["best of n", *(f"n={n} ({nats:.2f} nats)" for n, nats in zip(ns, kl, strict=True) if n > 1)]
    rows = []
    for (crowd, data), pools in study.pools.items():
        for of in ("gold", "proxy"):
            cells = []
            for at in range(1, len(ns)):
                gains = [(pool[of][at] - pool[of][0]) / pool[f"{of}_spread"] for pool in pools.values()]
                cells.append(over(gains))
            rows.append([f"{name_of(crowd, data, None)}: {of}", *cells])
    return table(heads, rows)


def ppo_table(study: Study) -> list[str]:
    """PPO: gold gain at equal KL, at its peak and at the end, in spreads of the starting policy's gold."""
    heads = ["PPO", "of", *(f"{kl:g} nats" for kl in EQUAL), "at the end", "KL at the end"]
    rows = []
    for (crowd, data, beta), tracks in study.ppo.items():
        for of in ("gold", "proxy"):
            gains = np.array([t.gain(of, EQUAL) / getattr(t, f"{of}_spread") for t in tracks])
            last = [(getattr(t, of)[-1] - getattr(t, of)[0]) / getattr(t, f"{of}_spread") for t in tracks]
            row = [name_of(crowd, data, beta), of, *(counted(column, len(tracks)) for column in gains.T)]
            rows.append([*row, over(last), over([t.kl[-1] for t in tracks], 1)])
    return table(heads, rows)


def counted(values: Sequence[float], all_of: int) -> str:
    """A mean over the seeds that got so far, and how many those are where it is not all."""
    known = [value for value in values if np.isfinite(value)]
    text = over(known)
    return text if len(known) in (0, all_of) else f"{text}, {len(known)} of {all_of}"


def watch_figures(study: Study) -> list[dict[str, Any]]:
    """Of every PPO run: where gold peaked and fell, and where the rule and the budget would have stopped it."""
    rows = []
    for (crowd, data, beta), tracks in study.ppo.items():
        for track in tracks:
            curve, verdict = track.curve, track.ruled
            row: dict[str, Any] = {"crowd": crowd, "data": data, "beta": beta, "seed": track.seed}
            row |= {"fell_from": curve.onset, "peak": curve.peak, "peak_kl": track.kl_at(curve.peak)}
            row["peak_gain"] = (curve.at(curve.peak) - track.gold[0]) / track.gold_spread
            row["rule"] = stopped(track, verdict.stopped, verdict.best) | {"judgments": verdict.judgments}
            replays = simulated(study, track)
            stops = [one for one in replays if one.stopped is not None]
            row["raters"] = {
                "stopped": len(stops) / len(replays),
                "judgments": float(np.mean([one.judgments for one in replays])),
                "step": None if not stops else median(one.stopped for one in stops if one.stopped is not None),
                "lost": float(np.mean([stopped(track, r.stopped, kept(track, r))["lost"] for r in replays])),
            }
            nats, why = budget_from_others(study, crowd, track.seed)
            row["budget"] = {"kl": nats, "reason": why}
            if nats is not None:
                step = stop_at_budget(track, nats)
                row["budget"] |= stopped(track, step, track.steps[-1] if step is None else best_until(track, step))
            rows.append(row)
    return rows


def kept(track: Track, ruled: Any) -> int:
    """Whose weights a run ends with: the best where it was stopped, else the last."""
    return ruled.best if ruled.stopped is not None else track.steps[-1]


def stopped(track: Track, step: int | None, left: int) -> dict[str, Any]:
    """A stop against the peak: steps and nats after it, and the gold that what is left lacks, in spreads."""
    peak = track.curve.peak
    lost = (track.curve.at(peak) - track.curve.at(left if step is not None else track.steps[-1])) / track.gold_spread
    found: dict[str, Any] = {"stopped": step, "kept": left, "lost": lost}
    if step is not None:
        found |= {"steps_after_peak": step - peak, "nats_after_peak": track.kl_at(step) - track.kl_at(peak)}
    return found


def watch_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a run."""
    heads = ["run", "seed", "gold peaks at", "gold falls from", "rule, truth judging", "after the peak", "judgments"]
    heads += ["gold lost, rule", "gold lost, unwatched", f"raters: stopped, of {REPLAYS}", "judgments", "gold lost"]
    heads += ["budget", "stops at", "gold lost"]
    cells = []
    for row in rows:
        rule, raters, budget = row["rule"], row["raters"], row["budget"]
        halted = rule["stopped"] is not None
        cells.append(
            [
                name_of(row["crowd"], row["data"], row["beta"]),
                row["seed"],
                f"step {row['peak']}, {row['peak_kl']:.1f} nats",
                "–" if row["fell_from"] is None else f"step {row['fell_from']}",
                f"step {rule['stopped']}, back to {rule['kept']}" if halted else "goes on",
                f"{rule['steps_after_peak']} steps, {rule['nats_after_peak']:.1f} nats" if halted else "–",
                rule["judgments"],
                f"{rule['lost']:.2f}" if halted else "–",
                f"{row['unwatched_lost']:.2f}",
                f"{raters['stopped'] * REPLAYS:.0f}"
                + ("" if raters["step"] is None else f", at step {raters['step']:g}"),
                f"{raters['judgments']:.0f}",
                f"{raters['lost']:.2f}",
                "none" if budget["kl"] is None else f"{budget['kl']:.2f} nats",
                "–" if budget.get("stopped") is None else f"step {budget['stopped']}",
                "–" if budget.get("stopped") is None else f"{budget['lost']:.2f}",
            ]
        )
    return table(heads, cells)


def watch_summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the rule did with runs whose gold fell, and with those where it held, by the truth and by raters."""
    fell = [row for row in rows if row["fell_from"] is not None]
    held = [row for row in rows if row["fell_from"] is None]
    line = rule_summary(rows)
    if fell:
        share = np.mean([row["raters"]["stopped"] for row in fell])
        line += f" With simulated raters, one vote a pair, it stopped {share:.0%} of replays where gold fell"
        line += f" and {np.mean([r['raters']['stopped'] for r in held]):.0%} where it held." if held else "."
    return [line, ""]


def rule_summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many runs the rule stopped, truth judging, how far after the peak and at what cost."""
    fell = [row for row in rows if row["fell_from"] is not None]
    held = [row for row in rows if row["fell_from"] is None]
    caught = [row["rule"] for row in fell if row["rule"]["stopped"] is not None]
    line = f"Gold fell in {len(fell)} of {len(rows)} runs. The rule, truth judging, stopped {len(caught)}"
    if caught:
        steps, nats, cost, lost = (
            [rule[name] for rule in caught] for name in ("steps_after_peak", "nats_after_peak", "judgments", "lost")
        )
        line += (
            f", {median(steps):g} steps ({min(steps)} to {max(steps)}) and {median(nats):.1f} nats "
            f"({min(nats):.1f} to {max(nats):.1f}) after the peak (median, range), for {median(cost):g} judgments "
            f"({min(cost)} to {max(cost)}), and put back weights that lack {median(lost):.2f} spreads "
            f"({min(lost):.2f} to {max(lost):.2f}) to the peak"
        )
    wrongly = sum(row["rule"]["stopped"] is not None for row in held)
    return line + f". Of the {len(held)} runs whose gold held it stopped {wrongly}."


def prevention_rule(study: Study) -> list[str]:
    """What the rule would have done with the runs of the arms that only watched; those of a refresh are two runs each,
    and are left out."""
    rows = []
    for name, tracks in study.prevention.items():
        if name in prevention.ALREADY or "refresh" in name or "stepping in" in name:
            continue
        for track in tracks:
            rule = track.ruled
            found = stopped(track, rule.stopped, rule.best) | {"judgments": rule.judgments}
            rows.append({"fell_from": track.curve.onset, "rule": found})
    return ["The other arms' runs, watched as well:", "", rule_summary(rows), ""] if rows else []


def fits_table(study: Study) -> tuple[list[str], list[dict[str, Any]]]:
    """Gao's forms, fitted over seeds."""
    rows, found = [], []

    def add(name: str, curve: Curve | str) -> None:
        if isinstance(curve, str):
            rows.append([name, "–", "–", "–", curve])
            found.append({"name": name, "not_fitted": curve})
            return
        peak = "none" if curve.peak is None else f"{written(curve.peak.kl)} nats, {curve.peak.gold:.2f} spreads"
        rows.append([name, written(curve.alpha), written(curve.beta), f"{curve.r_squared:.2f}", peak])
        found.append({"name": name, **asdict(curve)})

    for (crowd, data), pools in study.pools.items():
        points = [
            (seed, kl, (gold - pool["gold"][0]) / pool["gold_spread"])
            for seed, pool in pools.items()
            for kl, gold in zip(pool["kl"], pool["gold"], strict=True)
        ]
        add(f"best of n, {name_of(crowd, data, None)}", gao(points, "best_of_n"))
    for (crowd, data, beta), tracks in study.ppo.items():
        add(f"PPO, {name_of(crowd, data, beta)}", gao(points_of(tracks), "rl"))
    return table(["curve", "α", "β", "R²", "peak, 80% interval"], rows), found


def prevention_table(study: Study) -> tuple[list[str], dict[str, Any]]:
    """Gold gain of each arm at equal KL, at the end, and less the bare run's at the same KL, in spreads of gold."""
    if not study.prevention:
        return [], {}
    bare = {track.seed: track for track in study.prevention.get("nothing", [])}
    heads = ["the same run with", "seeds", *(f"gold at {kl:g} nats" for kl in EQUAL), "at 2 nats, less nothing"]
    heads += ["gold at the end", "KL at the end"]
    rows, figures = [], {}
    for name, tracks in study.prevention.items():
        gains = np.array([t.gain("gold", EQUAL) / t.gold_spread for t in tracks])
        both = [t for t in tracks if t.seed in bare and name != "nothing"]
        more = [float((t.gain("gold", [2.0]) - bare[t.seed].gain("gold", [2.0]))[0]) / t.gold_spread for t in both]
        ends = [(study.ends[name][t.seed]["gold"] - t.gold[0]) / t.gold_spread for t in tracks]
        far = [study.ends[name][t.seed]["kl"] for t in tracks]
        cells = [counted(column, len(tracks)) for column in gains.T]
        rows.append([name, len(tracks), *cells, counted(more, len(tracks)) if both else "–"])
        rows[-1] += [over(ends), over(far, 1)]
        figures[name] = {"seeds": [t.seed for t in tracks], "gain": gains.tolist(), "end": ends, "end_kl": far}
        figures[name]["less_nothing"] = more
    return table(heads, rows), figures


def report(out: Path, seeds: Sequence[int], picture: Path | None) -> str:
    """Write tables and picture of what is finished; the tables as Markdown."""
    from overoptimisation_picture import draw

    from heedful.files import atomic_write, write_json

    study = read_study(out, seeds)
    if not study.ppo:
        return "nothing is finished yet"
    watched = watch_figures(study)
    for row, track in zip(watched, (t for tracks in study.ppo.values() for t in tracks), strict=True):
        row["unwatched_lost"] = stopped(track, None, track.steps[-1])["lost"]
    fits, curves = fits_table(study)
    helped, figures = prevention_table(study)
    seen = ", ".join(str(seed) for seed in study.worlds)
    lines = [f"Seeds {seen}: mean with 95% t interval over seeds; where fewer than three ran, the figure of each.", ""]
    lines += [*best_of_n_table(study), *ppo_table(study), *watch_summary(watched), *watch_table(watched), *fits]
    text = "\n".join([*lines, *helped, *prevention_rule(study)])
    tracks = {
        name_of(*key): [{"seed": t.seed, "steps": t.steps, "kl": t.kl, "gold": t.gold, "proxy": t.proxy} for t in found]
        for key, found in study.ppo.items()
    }
    pools = {name_of(*key, None): found for key, found in study.pools.items()}
    write_json(
        out / "overoptimisation.json",
        {"best_of_n": pools, "ppo": tracks, "watch": watched, "fits": curves, "prevention": figures},
    )
    with atomic_write(out / "overoptimisation.md") as file:
        file.write(text + "\n")
    for path in [out / "overoptimisation.png", *([picture] if picture else [])]:
        draw(study, watched, path)
    return text
