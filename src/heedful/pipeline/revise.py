"""A run of critique and revision: its folder, begun once, gone on with after a kill, finished whole. No torch.

```
runs/revised/
  heedful.yaml          the settings
  ledger.sqlite         every reply that was paid for: a run that is started again asks nothing twice
  demonstrations.jsonl  the last revisions: what `heedful sft` and TRL read
  pairs.jsonl           the last revision against the first answer, where it changed
  chains.jsonl          every chain, the broken ones included
  constitution.yaml     the principles as they were read
  manifest.json         written last: lineage, figures, what was spent
```
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.data.records import Conversation, Demonstration, Origin, Prompt
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.feedback.ai.answering import Sampling, answers
from heedful.feedback.ai.asks import Asker, BudgetSpentError, Failure
from heedful.feedback.ai.constitution import Constitution
from heedful.feedback.ai.revising import (
    WORDING,
    Answered,
    Chain,
    Revising,
    answered,
    demonstrations,
    figures,
    preferences,
    revise,
)
from heedful.feedback.ai.spending import Spent
from heedful.files import MANIFEST, atomic_write, read_manifest
from heedful.pipeline.run_folder import CONFIG, claim, finish, holds, lineage, locked
from heedful.training.progress import Display
from heedful.training.settings import to_yaml

NAME = "revise"
DEMONSTRATIONS, PAIRS, CHAINS, CONSTITUTION = "demonstrations.jsonl", "pairs.jsonl", "chains.jsonl", "constitution.yaml"
AT_ONCE = 512
"""Chains that go through their rounds together."""


@dataclass(frozen=True)
class Work:
    """What a run revises: the items, the description of the data they come from, and the principles."""

    items: Items
    data: dict[str, Any]
    constitution: Constitution


@contextmanager
def held(out: Path, config: Any, display: Display, *, again: bool) -> Iterator[dict[str, Any] | None]:
    """Hold a run's folder; yields the manifest of a run that is finished already, else None.

    Args:
        out: the folder.
        config: what makes it this run and no other; see `heedful.pipeline.run_folder.claim`.
        again: take a finished run up again, for the chains that are broken.

    Raises:
        HeedfulError: the folder holds another kind of run, a finished one with other settings, or another process
            writes to it.
    """
    with locked(out):
        done = read_manifest(out)
        if done is None and holds(out, NAME):  # replies are kept by their questions: other settings lose none of them
            with atomic_write(out / CONFIG) as file:
                file.write(f"# heedful {NAME}\n{to_yaml(config)}")
        else:
            claim(out, NAME, config)
        if done is not None and again and done["figures"]["broken"]:
            (out / MANIFEST).unlink()
            done = None
        elif done is not None:
            broken = sum(done["figures"]["broken"].values())
            hint = f" {broken} of its chains are broken: --again asks anew where no reply came." if broken else ""
            display.say(f"{NAME}: {out} is finished already; delete it, or choose another --out, to run again.{hint}")
        yield done


@dataclass(frozen=True)
class Items:
    """What chains begin with, and what the model's own answers took where it gave them."""

    answered: Sequence[Answered]
    unanswered: Counter[str]
    spent: Spent


def items_of(
    records: Sequence[Demonstration] | Sequence[Prompt],
    asker: Asker,
    sampling: Sampling,
    samples: int,
    display: Display,
) -> Items:
    """Items of a file's answers, or of the model's own.

    Args:
        records: demonstrations, or with `samples` above 0 prompts.
        samples: the model's answers to each prompt.

    Raises:
        HeedfulError: no prompt was answered, or see `Asker.ask`.
    """
    spent, unanswered = Spent(), Counter[str]()
    if not samples:
        return Items(answered([r for r in records if isinstance(r, Demonstration)]), unanswered, spent)
    origins: dict[Conversation, Origin] = {}
    for record in records:
        origins.setdefault(record.prompt, record.origin)
    prompts = list(origins)
    found: list[Demonstration] = []
    with display.task("answer", samples * len(prompts)) as bar:
        drawn = answers(prompts, asker, sampling, spent, samples=samples, told=lambda done: bar.update(done, {}))
    for prompt, own in zip(prompts, drawn, strict=True):
        for text in own:
            if isinstance(text, Failure):
                unanswered[text.reason] += 1
            else:
                found.append(Demonstration(prompt, text, origins[prompt]))
    if not found:
        why = ", ".join(f"{reason} ({count})" for reason, count in unanswered.items())
        raise HeedfulError(f"no prompt was answered: {why}.", mend="Mend the cause and run the same command again.")
    return Items(answered(found), unanswered, spent)


def run_revise(out: Path, config: Any, work: Work, how: Revising, asker: Asker, display: Display) -> dict[str, Any]:
    """Make every chain and finish the folder, which `held` holds; returns the manifest.

    Raises:
        BudgetSpentError: nothing is written but the ledger, with which the same command goes on.
        HeedfulError: no chain is whole, or see `Asker.ask`.
    """
    started = time.monotonic()
    spent, chains, items = work.items.spent, list[Chain](), work.items.answered
    before, total = spent.replies, 2 * how.rounds * len(items)
    with display.task("revise", total) as bar:
        spent.heard = lambda: bar.update(spent.replies - before, {"cost": spent.cost} if spent.cost else {})
        try:
            for chain in revise(items, asker, how, spent, at_once=AT_ONCE):
                chains.append(chain)
        except BudgetSpentError:
            display.say(f"{len(chains)} of {len(items)} chains were done when the budget ended.")
            raise
    found = figures(chains) | {"unanswered": dict(work.items.unanswered)}
    if not found["whole"]:
        why = ", ".join(f"{reason} ({count})" for reason, count in found["broken"].items())
        detail = next(chain.broken.detail for chain in chains if chain.broken)
        raise HeedfulError(
            f"no chain is whole: {why}. The first: {detail}.",
            where=str(out),
            mend="Nothing was written but the ledger. Mend the cause and run the same command again.",
        )
    manifest = lineage(NAME, config, {}, work.data)
    manifest |= {"constitution": work.constitution.describe(), "wording": WORDING, "figures": found}
    manifest |= {"judgments": {"human": 0, "ai": 0}, "spent": spent.describe(), "seconds": time.monotonic() - started}
    return finish(out, lambda folder: write_result(folder, chains, work.constitution), manifest)


def write_result(folder: Path, chains: Sequence[Chain], constitution: Constitution) -> None:
    """Write what a run leaves; the same chains give the same bytes."""
    for name, rows in ((DEMONSTRATIONS, demonstrations(chains)), (CHAINS, [chain.row() for chain in chains])):
        with atomic_write(folder / name) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_records(folder / PAIRS, preferences(chains, constitution.version))
    with atomic_write(folder / CONSTITUTION) as file:
        file.write(constitution.text())
