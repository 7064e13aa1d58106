"""What `heedful judge` found, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from heedful.cli.command import shown

if TYPE_CHECKING:
    from heedful.evaluation.judges import JudgeCard


def show(found: Mapping[str, Any]) -> None:
    """Print it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    for judge in found["judges"]:
        say(f"\n{judge['name']}", "bold")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in _rows(judge):
            table.add_row(Text(name), Text(value))
        console.print(table)
        for sentence in judge["card"].advice if judge["card"] is not None else ():
            say(f"  {sentence}")
        for row in judge["win_rates"]:
            say(
                f"  {row['a']} wins over {row['b']}: {shown(row['mean'])}; by people alone {shown(row['people'])}."
                f" Here one person's label does as much as {row['labels']:.1f} would without the judge."
            )
        if judge["card"] is None:
            say("  It came to no judgment at all: judgments.jsonl says why, and has every reply.", "bold red")
    spent = found["spent"]
    cost = f", {spent['cost']:.4f} of money" if spent["cost"] else ""
    say(f"\nSpent with this ledger: {spent['requests']:,} requests, {spent['tokens']:,} tokens{cost}.")
    if found["recorded"] is not None:
        say(f"{found['recorded']:,} judgments are in the store.")
    if found["labels"]:
        file = found["files"].get("preferences") or found["files"].get("rankings")
        say(f"{found['labels']:,} labels in {found['out']}/{file}: {found['how']}.", "green")
    if found["left_out"]:
        say(f"{found['left_out']:,} cases are left out: no judgment in every order. judgments.jsonl says why.")
    if found["stopped"]:
        say(found["stopped"], "bold yellow")


def _rows(judge: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "template", f"{judge['template']}, temperature {judge['temperature']:g}"
    yield "cases judged", f"{judge['judged']:,}"
    if judge["troubles"]:
        yield "looks without a judgment", ", ".join(f"{count:,} {why}" for why, count in judge["troubles"].items())
    card: JudgeCard | None = judge["card"]
    if card is None:
        return
    for name, value in (
        ("agrees with a person", card.agreement),
        ("people with each other", card.people),
        ("agrees with gold", card.gold),
        ("same in both orders", card.consistency),
        ("prefers the first shown", card.first),
        ("first place adds", card.position),
    ):
        if value is not None:
            yield name, shown(value)
    for name, interval in card.bias.items():
        if interval is not None:
            yield f"{name} adds", shown(interval)
    if card.worth is not None:
        yield "worth in people's labels", shown(card.worth.labels)
    if card.error is not None and card.uncorrected is not None:
        yield "squared error, corrected", f"{card.error:.4f}, of the score alone {card.uncorrected:.4f}"
    reliability = judge["reliability"]
    if reliability is not None:
        yield "accuracy in the panel", f"{reliability['accuracy']:.3f}"
        yield "slope in the panel", f"{reliability['slope']:.2f} ± {reliability['slope_error']:.2f}"
