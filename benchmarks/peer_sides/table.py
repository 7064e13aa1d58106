"""The table and the picture of what `benchmarks/peers.py` has measured, made from its lines of JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flops import tokens_of_step, trained_weights
from work import Work

HEADER = (
    "| work | size | lengths | precision | TRL | heedful s | TRL s | TRL's time as a multiple | activations "
    "| total peak | tokens a second | of the floor | at most | first step s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)
GOALS = {
    "ppo": 4.0,
    "ppo_shared": 7.0,
    "grpo": 3.0,
    "rloo": 3.0,
    "dpo": 3.0,
    "reward": 2.5,
    "sft": 2.7,
    "generate": 3.5,
}
"""What is aimed at in bfloat16, drawn as ticks."""
TITLES = {"ppo_shared": "PPO, shared trunk", "sft": "SFT", "reward": "reward model", "generate": "generation"}

Found = dict[str, Any]


def newest(lines: Path) -> list[Found]:
    """The last measurement of each work, in the order in which they were first made."""
    found: dict[str, Found] = {}
    for line in lines.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        work = asdict(Work(**one["work"]))  # whole, also where the line is older than a field of it
        found[json.dumps({k: v for k, v in work.items() if k != "steps"}, sort_keys=True)] = one
    return list(found.values())


def named(work: Work) -> str:
    """A work in a word or two, with what sets it apart."""
    more = [f"LoRA {work.lora}" + (" on one base, against all weights" if work.one_base else "")] if work.lora else []
    more += ["Qwen2"] if work.family == "qwen2" else []
    more += ["compiled"] if work.compile else []
    more += ["cached reference"] if work.cached_reference else []
    more += ["checkpointing"] if work.checkpointing else []
    more += [f"{work.epochs} epochs"] if work.epochs > 1 else []
    return ", ".join([TITLES.get(work.kind, work.kind.upper()), *more])


def table(all_found: list[Found]) -> str:
    """Markdown, a line for each work."""
    return "\n".join([HEADER, *(row(found) for found in all_found)]) + "\n"


def row(found: Found) -> str:
    """A line of the table."""
    work = Work(**found["work"])

    def span(times: list[float]) -> str:
        return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"

    ratios = ratios_of(found)
    memory = [found["our_memory"], found["their_memory"]]
    ours, theirs = (one["peak"] - one["base"] - 12 * trained_weights(work) for one in memory)
    activations = f"{ours / theirs:.2f}" if theirs > 0 and not work.lora else ""
    total = memory[0]["peak"] / memory[1]["peak"]
    ours_s, theirs_s = (statistics.median(found[side]) for side in ("ours", "theirs"))
    speeds = ", ".join(f"{tokens_of_step(work) / seconds:,.0f}" for seconds in (ours_s, theirs_s))
    first = f"{found['first'][0]:.0f}, {found['first'][1]:.0f}" if "first" in found else ""
    return (
        f"| {named(work)} | {work.size} | {work.lengths} | {work.precision} | {peer(found)} | {span(found['ours'])} "
        f"| {span(found['theirs'])} | **{statistics.median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f}) "
        f"| {activations} | {total:.2f} | {speeds} | {found['floor'] / ours_s:.0%} "
        f"| {theirs_s / found['floor']:.1f} | {first} |"
    )


def peer(found: Found) -> str:
    """TRL's version and the settings that were its fastest."""
    given = {**found["settings"].get("work", {}), **found["settings"].get("settings", {})}
    said = [key if value is True else f"{key} {value}" for key, value in given.items()]
    return ", ".join([found["trl"], *said]).replace("_", " ")


def ratios_of(found: Found) -> list[float]:
    """How many times as long TRL takes, of each two neighbouring steps."""
    return [theirs / ours for ours, theirs in zip(found["ours"], found["theirs"], strict=True)]


def picture(all_found: list[Found], path: Path) -> None:
    """A bar for each work: the median ratio, its range, and a tick where the goal is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    works = [Work(**found["work"]) for found in all_found]
    widest = 1.15 * max(max(ratios_of(found)) for found in all_found)  # with room for the figure behind the bar
    groups = list(dict.fromkeys((work.size, work.precision, work.lengths) for work in works))
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(8, sum(1.1 + 0.34 * count(works, group) for group in groups)), sharex=True,
        squeeze=False, height_ratios=[1 + count(works, group) for group in groups],
    )  # fmt: skip
    for axis, group in zip(axes[:, 0], groups, strict=True):
        members = [
            (found, work)
            for found, work in zip(all_found, works, strict=True)
            if (work.size, work.precision, work.lengths) == group
        ]
        for place, (found, work) in enumerate(reversed(members)):
            ratios = ratios_of(found)
            middle = statistics.median(ratios)
            axis.barh(place, middle, color="#2b6cb0" if not work.compile else "#63a4dc", height=0.62)
            axis.plot([min(ratios), max(ratios)], [place, place], color="#1a202c", linewidth=1.2)
            axis.text(max(ratios) + 0.06, place, f"{middle:.1f}×", va="center", fontsize=9)
            if work.precision == "bfloat16":
                axis.plot(2 * [GOALS[work.kind]], [place - 0.4, place + 0.4], color="#c05621", linewidth=1.6)
        axis.set_yticks(range(len(members)), [named(work) for _, work in reversed(members)], fontsize=9)
        axis.set_title(" · ".join(group), fontsize=10, loc="left")
        axis.axvline(1, color="#718096", linewidth=0.8)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlim(0, widest)
    goals = ", orange: goal" if any(work.precision == "bfloat16" for work in works) else ""
    axes[-1, 0].set_xlabel(f"TRL's time as a multiple of heedful's (bar: median, line: range{goals})", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def count(works: list[Work], group: tuple[str, str, str]) -> int:
    """How many works belong to a size, precision and lengths."""
    return sum((work.size, work.precision, work.lengths) == group for work in works)
