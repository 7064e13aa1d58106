"""Draw the figures of docs/explain/rlhf-in-pictures.md from two finished quickstarts: `make pictures`.

usage: python docs/site/pictures.py runs/quickstart runs/quickstart-fast

The short one serves the last figure alone: what a weaker reward model does. It also prints answers before and after, as
the table on that page, and the points of the figures of the leash.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

import pictures_read as read
from heedful.core.statistics import wilson
from heedful.world.raters import NOISE

OUT = Path(__file__).resolve().parent.parent / "explain"
GOLD, PROXY, PLAIN, WARN = "#b07d00", "#2f6db3", "#555555", "#c0392b"
LAYERS = ("proxy", "gold")
BINS = 12
LAST = 5
"""Steps at the end of PPO whose mean KL is its place in a figure."""


def figure(width: float, height: float) -> Figure:
    """A white sheet."""
    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")


def tidy(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, labels, two spines."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def comparison(run: read.Quickstart) -> Figure:
    """How often raters name the better answer, by how much better it is."""
    gaps, shares = run.comparisons()
    gaps, shares = np.concatenate([gaps, -gaps]), np.concatenate([shares, 1 - shares])
    sheet = figure(6.2, 3.8)
    axes = sheet.subplots()
    edges = np.linspace(-9, 9, 19)
    middle = (edges[:-1] + edges[1:]) / 2
    place = np.digitize(gaps, edges) - 1
    kept = [i for i in range(len(middle)) if (place == i).sum() >= 20]
    mean = [float(shares[place == i].mean()) for i in kept]
    line = np.linspace(-9, 9, 200)
    axes.plot(line, 1 / (1 + np.exp(-line / NOISE)), color=PLAIN, lw=1.5, label="Bradley–Terry, the raters' noise")
    axes.plot(middle[kept], mean, "o", color=GOLD, label=f"votes on {len(gaps) // 2:,} pairs")
    axes.axhline(0.5, color="#cccccc", lw=0.8, zorder=0)
    axes.axvline(0, color="#cccccc", lw=0.8, zorder=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(axes, "A vote is a noisy look at which is better", "a better by, in gold points", "share of votes for a")
    return sheet


def reward_model(run: read.Quickstart, sft: read.Drawn) -> Figure:
    """Scores against the truth, and how far a stated probability can be believed."""
    sheet = figure(9.6, 3.9)
    left, right = sheet.subplots(1, 2)
    generator = np.random.default_rng(0)
    flat = generator.permutation(sft.gold.size)[:1500]
    gold, proxy = sft.gold.ravel(), sft.proxy.ravel()
    jitter = generator.uniform(-0.12, 0.12, len(flat))
    left.plot(gold[flat] + jitter, proxy[flat], ".", color=PROXY, alpha=0.25, ms=4, mew=0)
    values = [v for v in np.unique(gold) if (gold == v).sum() >= 30]
    left.plot(values, [proxy[gold == v].mean() for v in values], color=GOLD, lw=2, label="mean")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(left, "What the reward model says of SFT answers", "gold points: the truth", "reward model's score")
    held = run.manifest("reward")["held_out"]["calibration"]
    right.plot([0.5, 1], [0.5, 1], color="#aaaaaa", lw=1)
    right.plot(held["confidence"], held["outcome"], "o-", color=PROXY, lw=1.2)
    ece = held["ece"]
    tidy(
        right,
        f"Calibration on held-out pairs: error {ece['mean']:.2f} ({ece['low']:.2f} to {ece['high']:.2f})",
        "probability that it states",
        "share of votes that agree",
    )
    return sheet


def along_ppo(run: read.Quickstart) -> Figure:
    """Proxy, gold, KL, entropy, length and finished answers of a run, step by step."""
    rows = run.rows("ppo")
    sheet = figure(9.6, 5.0)
    panels = (
        ("reward", "Proxy: the reward model", "score", PROXY),
        ("gold", "Gold: the truth", "gold points", GOLD),
        ("kl", "KL to the SFT model", "nats an answer", PLAIN),
        ("entropy", "Entropy", "nats a token", PLAIN),
        ("length", "Length", "tokens an answer", PLAIN),
        ("finished", "Finished answers", "share", PLAIN),
    )
    for axes, (name, title, unit, colour) in zip(sheet.subplots(2, 3, sharex=True).flat, panels, strict=True):
        seen = [row for row in rows if name in row]
        axes.plot([row["step"] for row in seen], [row[name] for row in seen], color=colour)
        if min(row[name] for row in seen) >= -1e-3:
            axes.set_ylim(0, 1.05 * max(row[name] for row in seen))
        tidy(axes, title, "step" if name in ("entropy", "length", "finished") else "", unit)
    return sheet


def before_after(drawn: dict[str, read.Drawn]) -> Figure:
    """How good the answers are, before and after."""
    sheet = figure(7.6, 3.8)
    axes = sheet.subplots()
    edges = np.arange(-6.25, 6.3, 0.5)
    for (name, one), colour in zip(drawn.items(), (PLAIN, GOLD, PROXY), strict=True):
        label = f"{name}: mean {one.gold.mean():.2f}, right answers {one.right.mean():.0%}"
        axes.hist(one.gold.ravel(), edges, density=True, histtype="step", lw=1.8, color=colour, label=label)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(axes, "Answers to unseen phrasings", "gold points", "density")
    return sheet


def leash(sft: read.Drawn, ppo: read.Drawn, ppo_kl: float) -> Figure:
    """What each nat of KL buys: the best that can be had of the drawn answers, for each β; and best of n."""
    sheet = figure(9.6, 4.0)
    left, right = sheet.subplots(1, 2)
    found = {
        name: [read.tilted(sft.proxy, value, beta) for beta in read.BETAS]
        for name, value in (("proxy", sft.proxy), ("gold", sft.gold))
    }
    optima = []
    for axes, name, colour in ((left, "proxy", PROXY), (right, "gold", GOLD)):
        source, reached = getattr(sft, name), getattr(ppo, name)
        kls, means = [0.0, *(k for _, k in found[name])], [source.mean(), *(m for m, _ in found[name])]
        optima += axes.plot(kls, means, "o-", ms=4, color=colour)
        for beta, (mean, kl) in zip(read.BETAS, found[name], strict=True):
            if beta in (1.0, 0.3, 0.1, 0.02):
                axes.annotate(f"β {beta:g}", (kl, mean), xytext=(4, -12), textcoords="offset points", fontsize=8)
        numbers = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= read.ANSWERS]
        best = [read.best_of(sft.proxy, source, n) for n in numbers]
        kls = [read.kl_of_best(n) for n in numbers]
        chosen = axes.plot(kls, best, "--", color=PLAIN, lw=1.2)
        end = axes.plot(ppo_kl, reached.mean(), "*", ms=13, color=WARN)
    sheet.legend(
        [tuple(optima), *chosen, *end],
        [
            "the optimum at each β, over the SFT model's own answers",
            "best of 1, 2, 4 ... 64",
            "PPO, at the end of its run",
        ],
        handler_map={tuple: HandlerTuple(ndivide=None)},
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    tidy(left, "Proxy: what is optimised", "KL to the SFT model, nats an answer", "reward model's score")
    tidy(right, "Gold: what was wanted", "KL to the SFT model, nats an answer", "gold points")
    return sheet


def doubt(sft: read.Drawn) -> Figure:
    """How often the reward model names the better of two, by how far apart it puts them."""
    sheet = figure(6.2, 3.8)
    axes = sheet.subplots()
    gap = (sft.proxy[:, ::2] - sft.proxy[:, 1::2]).ravel()
    truth = (sft.gold[:, ::2] - sft.gold[:, 1::2]).ravel()
    gap, truth = gap[truth != 0], truth[truth != 0]
    right = np.sign(gap) == np.sign(truth)
    edges = np.quantile(np.abs(gap), np.linspace(0, 1, BINS + 1))
    place = np.clip(np.digitize(np.abs(gap), edges) - 1, 0, BINS - 1)
    middle = [float(np.abs(gap)[place == i].mean()) for i in range(BINS)]
    rates = [wilson(float(right[place == i].sum()), int((place == i).sum())) for i in range(BINS)]
    low, high = ([abs(r.mean - getattr(r, end)) for r in rates] for end in ("low", "high"))
    means, drawn = [r.mean for r in rates], {"color": PROXY, "ms": 4, "lw": 1}
    axes.errorbar(middle, means, yerr=[low, high], fmt="o", label="by the truth", **drawn)
    line = np.linspace(0, max(middle), 100)
    axes.plot(line, 1 / (1 + np.exp(-line)), color=PLAIN, lw=1.2, label="as raters vote: odds of e to the difference")
    axes.set_ylim(0.45, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    title = f"It names the truly better answer {right.mean():.0%} of the time"
    tidy(axes, title, "difference of the two scores", "share that is right")
    return sheet


def table(run: read.Quickstart, drawn: dict[str, read.Drawn], rows: int = 5) -> str:
    """The first answer of each policy to a few prompts, as Markdown."""
    names = list(drawn)
    lines = ["| asked | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for number in range(0, len(run.asked), max(1, len(run.asked) // rows)):
        cells = [f"{one.answers[number][0].text} ({one.gold[number, 0]:g})" for one in drawn.values()]
        lines.append(f"| {run.asked[number][-1].content} | {' | '.join(cells)} |")
    return "\n".join(lines)


def leash_of(run: read.Quickstart, drawn: dict[str, read.Drawn]) -> Figure:
    """`leash`, of a run; prints its points."""
    ppo_kl = float(np.mean([row["kl"] for row in run.rows("ppo")[-LAST:]]))
    for beta in read.BETAS:
        (proxy, kl), (gold, _) = (read.tilted(drawn["SFT"].proxy, getattr(drawn["SFT"], n), beta) for n in LAYERS)
        print(f"{run.folder}: beta {beta:g}: KL {kl:.2f}, proxy {proxy:.2f}, gold {gold:.2f}")
    for name, one in drawn.items():
        print(f"{run.folder}: {name}: proxy {one.proxy.mean():.2f}, gold {one.gold.mean():.2f}, KL of PPO {ppo_kl:.2f}")
    return leash(drawn["SFT"], drawn["PPO"], ppo_kl)


def draw(folder: Path, short: Path, out: Path = OUT) -> None:
    """Draw every figure."""
    run, weaker = read.Quickstart(folder), read.Quickstart(short)
    drawn = {name: run.draw(stage) for name, stage in (("SFT", "sft"), ("PPO", "ppo"), ("DPO", "dpo"))}
    sheets = {
        "comparison": comparison(run),
        "reward-model": reward_model(run, drawn["SFT"]),
        "doubt": doubt(drawn["SFT"]),
        "along-ppo": along_ppo(run),
        "before-after": before_after(drawn),
        "leash": leash_of(run, drawn),
        "leash-short": leash_of(weaker, {name: weaker.draw(stage) for name, stage in (("SFT", "sft"), ("PPO", "ppo"))}),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, sheet in sheets.items():
        sheet.savefig(out / f"{name}.png", metadata={"Software": None})
    print(table(run, drawn))
    print("right: a vote {:.1%}, a majority {:.1%}".format(*run.votes_right()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
