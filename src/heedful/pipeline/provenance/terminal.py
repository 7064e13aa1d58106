"""A lineage for a person in a terminal, and as JSON. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.pipeline.provenance.affected import Affected
from heedful.pipeline.provenance.records import PEOPLE, Artifact, Lineage, Link

SHOWN = 8
"""Raters that are named; --json has them all."""
MARKS = {"whole": "", "changed": "CHANGED", "gone": "GONE", "unproven": ""}


def as_dict(found: Lineage) -> dict[str, Any]:
    """A lineage as JSON: its records, and what they come to. Judgments are counted; --judgments lists them."""
    values = asdict(found)
    del values["judgments"]
    for one in values["withdrawn"]:
        del one["ids"]
    return values | {
        "judgments": found.by_kind,
        "listed": len(found.judgments),
        "ai_share": found.ai_share,
        "people": found.people,
        "raters": [asdict(one) for one in found.raters],
        "guidelines": [asdict(one) for one in found.guidelines],
        "constitutions": list(found.constitutions),
        "changed": list(found.changed),
        "ends": found.ends,
    }


def show(found: Lineage) -> None:
    """The counts, what is wrong, and the tree."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    console = Console()
    root = found.named[found.root]
    console.print(Text(f"{root.name}: {root.kind}", style="bold"), soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in counts(found):
        table.add_row(name, Text(value))
    console.print(table)
    for line, style in troubles(found):
        console.print(Text(line, style=style), soft_wrap=True)
    tree = Tree(_label(root, None))
    _grow(tree, root, found, {root.name})
    console.print(tree)


def counts(found: Lineage) -> list[tuple[str, str]]:
    """What the judgments, raters and rubrics come to, a line each."""
    rows = [("artifacts", str(len(found.artifacts)))]
    kinds = found.by_kind
    rows.append(("judgments", ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"))
    if found.people:
        named = [f"{one.rater[:8]} ({one.judgments})" for one in found.raters if one.kind in PEOPLE]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        rows.append(("people", f"{found.people}: {', '.join(named[:SHOWN])}{more}"))
    others = {one.rater: f"{one.rater} ({one.judgments})" for one in found.raters if one.kind not in PEOPLE}
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        rows.append(("other raters", ", ".join(list(others.values())[:SHOWN]) + more))
    for name, values in (
        ("guidelines", [f"{one.programme} version {one.version} ({one.judgments})" for one in found.guidelines]),
        ("snapshots", [f"{one.id} of {one.programme or '?'}" for one in found.snapshots]),
        ("constitutions", list(found.constitutions)),
        ("templates", sorted({one.template for one in found.judges if one.template})),
    ):
        if values:
            rows.append((name, ", ".join(values)))
    for one in found.checks:
        mean, low, high = one.win_rate
        verdict = {True: "kept", False: "rolled back", None: "not decided"}[one.promoted]
        asked = ", ".join(f"{count} {kind}" for kind, count in one.judgments.items())
        rows.append((one.name, f"won {mean:.1%} [{low:.1%}, {high:.1%}] of {one.pairs} pairs by {asked}; {verdict}"))
    return rows


def troubles(found: Lineage) -> list[tuple[str, str]]:
    """What is wrong, and where the chain ends: a line and its style each."""
    rows = [(f"CHANGED or gone: {name} is not the file that the next one was made from.", "bold red")
            for name in found.changed]  # fmt: skip
    for artifact in found.artifacts:
        rows += [
            (f"{artifact.name} was made from another {link.name} than is there now.", "yellow")
            for link in artifact.made_from
            if link.same is False and not found.named[link.name].changed
        ]
    rows += [
        (f"WITHDRAWN: {one.name} rests on {one.judgments} judgments that were erased since.", "bold red")
        for one in found.withdrawn
    ]
    rows += [(f"The chain ends at {name}: {why}.", "") for name, why in found.ends.items()]
    return rows


def _label(artifact: Artifact, link: Link | None) -> Any:
    from rich.text import Text

    label = Text()
    if link is not None:
        label.append(f"{link.role}: ", style="dim")
    label.append(artifact.name, style="bold" if link is None else "")
    label.append(f"  {artifact.kind}", style="cyan")
    if artifact.sha256:
        label.append(f" {artifact.sha256[:8]}", style="dim")
    own = artifact.facts.get("own_judgments", {})
    told = ", ".join(f"{count} {kind}" for kind, count in own.items() if count)
    if told:
        label.append(f"  {told} judgments", style="green")
    if MARKS[artifact.state]:
        label.append(f"  {MARKS[artifact.state]}", style="bold red")
    return label


def _grow(tree: Any, artifact: Artifact, found: Lineage, seen: set[str]) -> None:
    """Add what an artifact was made from; what stands in the tree already is named and not opened again."""
    from rich.text import Text

    for link in artifact.made_from:
        other = found.named[link.name]
        if link.name in seen:
            again = Text(f"{link.role}: {link.name}", style="dim")
            tree.add(again.append("  (above)") if other.made_from else again)
            continue
        seen.add(link.name)
        _grow(tree.add(_label(other, link)), other, found, seen)


def show_affected(found: Sequence[Affected], under: Path, rater: str | None) -> None:
    """What was made from judgments, a line each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    whose = f"judgments of {rater}" if rater is not None else "judgments that were erased since"
    if not found:
        console.print(Text(f"Nothing below {under} was made from {whose}."), soft_wrap=True)
        return
    console.print(Text(f"{len(found)} artifacts below {under} were made from {whose}:"), soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    for one in found:
        why = f"{one.judgments} judgments" if one.judgments else f"by way of {', '.join(one.by_way_of)}"
        listed = [f"snapshot {name}" for name in one.snapshots]
        table.add_row(Text(one.name, style="bold"), Text(one.kind, style="cyan"), Text("; ".join([why, *listed])))
    console.print(table)
