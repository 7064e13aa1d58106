"""The picture of `overoptimisation.py`: proxy and gold against KL, a row for each crowd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import overoptimisation_runs as runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from overoptimisation_read import LEAST_SEEDS, Floats, Study, Track, over_seeds

GOLD, PROXY, STOP = "#b07d00", "#2f6db3", "#c0392b"
GRID = 60
SHOWN = (-0.9, 2.4)
"""Gains that the picture shows; intervals over three seeds reach beyond."""


def band(axes: Axes, kl: Floats, gains: Floats, colour: str, label: str, style: str = "-") -> None:
    """Mean over seeds of gains [seeds, points], its 95% t interval shaded where all seeds are, and each seed thinly."""
    everyone = np.isfinite(gains).all(0)
    found = [over_seeds(column) for column in gains.T[everyone]]
    means = np.array([one.mean for one in found if one is not None])
    axes.plot(kl[everyone], means, color=colour, lw=2.2, ls=style, label=label, zorder=3)
    if len(gains) >= LEAST_SEEDS:
        low, high = (np.array([getattr(one, end) for one in found if one is not None]) for end in ("low", "high"))
        axes.fill_between(kl[everyone], low, high, color=colour, alpha=0.14, lw=0)
    for row in gains:
        axes.plot(kl, row, color=colour, lw=0.7, alpha=0.5)


def pool_panel(axes: Axes, study: Study, crowd: str) -> None:
    """Best-of-n with either amount of data."""
    for data, style in (("few", "-"), ("many", "--")):
        pools = list(study.pools.get((crowd, data), {}).values())
        if not pools:
            continue
        for of, colour in (("proxy", PROXY), ("gold", GOLD)):
            gains = np.array([(np.array(p[of]) - p[of][0]) / p[f"{of}_spread"] for p in pools])
            label = f"{of}, {runs.DATA[data]:,} pairs"
            band(axes, np.array(pools[0]["kl"]), gains, colour, label, style)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def ppo_panel(axes: Axes, tracks: Sequence[Track], watched: Sequence[dict[str, Any]], most: float) -> None:
    """One arm of PPO, with where the watch would have stopped each seed."""
    if not tracks:
        axes.text(0.5, 0.5, "not run yet", transform=axes.transAxes, ha="center", color="#888")
        return
    kl = np.linspace(0, most, GRID)
    for of, colour in (("proxy", PROXY), ("gold", GOLD)):
        gains = np.array([t.gain(of, kl) / getattr(t, f"{of}_spread") for t in tracks])
        band(axes, kl, gains, colour, f"{of}")
    label = "the watch stops"
    for track, row in zip(tracks, watched, strict=True):
        step = row["rule"]["stopped"]
        if step is not None and (far := track.kl_at(step)) <= most:
            height = float(track.gain("gold", [far])[0]) / track.gold_spread
            axes.plot(far, height, marker="X", ms=8, mec="white", mew=0.8, color=STOP, ls="", label=label, zorder=5)
            label = "_"


def draw(study: Study, watched: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the picture."""
    crowds = [crowd for crowd in runs.CROWDS if any(key[0] == crowd for key in study.ppo)]
    figure = Figure(figsize=(13, 3.3 * len(crowds) + 0.6), dpi=110, facecolor="white", layout="constrained")
    grid = figure.subplots(len(crowds), 1 + len(runs.ARMS), sharey=True, squeeze=False)
    for row, crowd in enumerate(crowds):
        pool_panel(grid[row][0], study, crowd)
        grid[row][0].set_title(f"best of n, {crowd} crowd", fontsize=10)
        grid[row][0].set_ylabel("gain over SFT,\nin spreads of SFT answers", fontsize=9)
        for column, (data, beta) in enumerate(runs.ARMS, 1):
            axes, tracks = grid[row][column], study.ppo.get((crowd, data, beta), [])
            own = [w for w in watched if (w["crowd"], w["data"], w["beta"]) == (crowd, data, beta)]
            ppo_panel(axes, tracks, own, runs.FAR)
            axes.set_title(f"PPO, {crowd} crowd, {runs.DATA[data]:,} pairs, β {beta:g}", fontsize=10)
            axes.set_ylim(*SHOWN)
            axes.set_xlim(-0.02 * runs.FAR, runs.FAR)
            if column == 1:
                axes.legend(frameon=False, fontsize=8, loc="upper right")
        for axes in grid[row]:
            axes.axhline(0, color="#888", lw=0.7)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
            if row == len(crowds) - 1:
                axes.set_xlabel("KL to the SFT model, nats", fontsize=9)
    told = "mean of the seeds that ran, 95% interval shaded where they are three or more, each seed thin"
    figure.suptitle(f"Proxy and gold against KL: {told}", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
