"""The supervised stage of Constitutional AI: critique an answer by a drawn principle, revise it, again and again.

Bai et al. 2022, "Constitutional AI: Harmlessness from AI Feedback" (arXiv 2212.08073), section 3. The last revision of
a chain becomes a demonstration; the chain is kept. A chain that got no whole reply somewhere ends there and
demonstrates nothing. Needs no Django and no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heedful.data.records import Conversation, Demonstration, Preference, as_messages
from heedful.feedback.ai.answering import Sampling, whole
from heedful.feedback.ai.asks import Ask, Asker, BudgetSpentError, Failure
from heedful.feedback.ai.constitution import Principle, draw
from heedful.feedback.ai.dialogue import Dialogue, converse
from heedful.feedback.ai.quoting import MATERIAL, quoted, turns, unwrapped
from heedful.feedback.ai.spending import Spent
from heedful.files import sha256_json

SYSTEM = f"You examine answers that an assistant gave, and improve them. {MATERIAL}"
CRITIQUE = """{material}

The answer above is to be examined. {principle}

Reply with the critique alone, in a few sentences. If there is nothing to object to, say so."""
REVISION = """{material}

The answer above was examined, and the critique says what was found. {principle}

Reply with the rewritten answer alone, as the user is to read it: no introduction, no remark, no tags. If nothing needs
changing, repeat the answer as it is."""
WORDING = sha256_json([SYSTEM, CRITIQUE, REVISION])[:12]
"""The version of the words around a principle: a hash of them."""


@dataclass(frozen=True)
class Answered:
    """A prompt with the answer that a chain begins with.

    Args:
        key: hash of both; principles are drawn by it, so that what else is in a file changes nothing.
        copy: how many of the same stood before it in the file.
        origin: where it stood, for people.
    """

    prompt: Conversation
    answer: str
    key: str
    copy: int = 0
    origin: str = ""


@dataclass(frozen=True)
class Step:
    """One round of a chain."""

    principle: str
    critique: str
    revision: str


@dataclass(frozen=True)
class Broken:
    """Where a chain ended early: the round, counted from 1, what was asked for, and why there was no whole reply."""

    round: int
    part: str
    principle: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Chain:
    """An answer, its rounds, and where they broke off, if they did."""

    item: Answered
    steps: tuple[Step, ...] = ()
    broken: Broken | None = None

    @property
    def answer(self) -> str:
        """The newest answer: the last revision, or what the chain began with."""
        return self.steps[-1].revision if self.steps else self.item.answer

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "prompt": as_messages(self.item.prompt),
            "answer": self.item.answer,
            "steps": [
                {
                    "round": number,
                    "principle": step.principle,
                    "critique": step.critique,
                    "revision": step.revision,
                }
                for number, step in enumerate(self.steps, 1)
            ],
            "revision": None if self.broken else self.answer,
            "broken": None if self.broken is None else vars(self.broken),
            "key": self.item.key,
            "copy": self.item.copy,
            "origin": self.item.origin,
        }


def answered(records: Sequence[Demonstration]) -> list[Answered]:
    """Prompts with answers as chains begin with them: keys, and copies numbered in the file's order."""
    seen: Counter[str] = Counter()
    found = []
    for record in records:
        key = sha256_json([as_messages(record.prompt), record.completion])
        found.append(Answered(record.prompt, record.completion, key, seen[key], str(record.origin)))
        seen[key] += 1
    return found


@dataclass(frozen=True)
class Revising:
    """How chains are made.

    Args:
        principles: which are drawn from; each serves "revising".
        rounds: critiques and revisions of each answer.
        seed: fixes the principles drawn.
        critique, revision: how replies are drawn.
    """

    principles: tuple[Principle, ...]
    rounds: int
    seed: int
    critique: Sampling
    revision: Sampling

    def principle(self, item: Answered, round: int) -> Principle:
        """The principle of an item's round, whatever else is revised."""
        return draw(self.principles, self.seed, "revise", item.key, item.copy, round)

    def ask_critique(self, chain: Chain, round: int) -> Ask:
        """What is asked first in a round."""
        item = chain.item
        material = quoted([*turns(item.prompt), ("answer", chain.answer)])
        text = CRITIQUE.format(material=material, principle=self.principle(item, round).critique)
        return self.critique.ask([("system", SYSTEM), ("user", text)], item.copy)

    def ask_revision(self, chain: Chain, round: int, critique: str) -> Ask:
        """What is asked second."""
        item = chain.item
        material = quoted([*turns(item.prompt), ("answer", chain.answer), ("critique", critique)])
        text = REVISION.format(material=material, principle=self.principle(item, round).revision)
        return self.revision.ask([("system", SYSTEM), ("user", text)], item.copy)


def revise(items: Sequence[Answered], asker: Asker, how: Revising, spent: Spent, *, at_once: int) -> Iterator[Chain]:
    """Chains in the order of their items.

    Groups of `at_once` items go through all their rounds together, so that what was paid for makes whole chains when
    a budget ends early.

    Args:
        items: what chains begin with.
        asker: the model; it should keep a ledger, so that another run asks nothing twice.
        how: principles, rounds and sampling.
        spent: counts every reply.
        at_once: items in a group; many more than are asked at a time.

    Raises:
        BudgetSpentError: after every chain that could be ended on what was paid for.
        HeedfulError: see `Asker.ask`.
    """
    for start in range(0, len(items), at_once):
        group = items[start : start + at_once]
        found: dict[int, Chain] = {}
        over: BudgetSpentError | None = None
        try:
            for number, chain in converse(asker, [_chain(item, how, spent) for item in group]):
                assert isinstance(chain, Chain)  # a failed ask ends inside its chain
                found[number] = chain
        except BudgetSpentError as error:
            over = error
        yield from (found[number] for number in sorted(found))
        if over is not None:
            raise over


def _chain(item: Answered, how: Revising, spent: Spent) -> Dialogue[Chain]:
    """One item through its rounds, or to where a reply is not whole."""
    chain = Chain(item)
    for round in range(1, how.rounds + 1):
        principle = how.principle(item, round).id
        critique = yield from whole(how.ask_critique(chain, round), "critique", spent)
        if isinstance(critique, Failure):
            return replace(chain, broken=Broken(round, "critique", principle, critique.reason, critique.detail))
        revision = yield from whole(how.ask_revision(chain, round, critique), "revision", spent)
        if not isinstance(revision, Failure):
            revision = unwrapped(revision, "answer") or Failure("empty", "there is nothing between the reply's tags", 1)
        if isinstance(revision, Failure):
            return replace(chain, broken=Broken(round, "revision", principle, revision.reason, revision.detail))
        chain = replace(chain, steps=(*chain.steps, Step(principle, critique, revision)))
    return chain


def demonstrations(chains: Sequence[Chain]) -> list[dict[str, Any]]:
    """The last revisions of whole chains, in the prompt-completion form that `heedful sft` and TRL read."""
    return [
        {
            "prompt": as_messages(chain.item.prompt),
            "completion": [{"role": "assistant", "content": chain.answer}],
            "principles": [step.principle for step in chain.steps],
            "changed": chain.answer != chain.item.answer.strip(),
        }
        for chain in chains
        if chain.broken is None
    ]


def preferences(chains: Sequence[Chain], version: str) -> list[Preference]:
    """The last revision against the first answer, of whole chains that changed it; `made` says how.

    Args:
        chains: of one run.
        version: the constitution's.
    """
    found = []
    for chain in chains:
        if chain.broken is None and chain.answer != chain.item.answer.strip():
            principles = ",".join(step.principle for step in chain.steps)
            made = (("by", "revision"), ("constitution", version), ("principles", principles))
            found.append(Preference(chain.item.prompt, chain.answer, chain.item.answer, made=made))
    return found


def figures(chains: Sequence[Chain]) -> dict[str, Any]:
    """What a run brought: counts of chains by how they ended, and of principles by how often they changed an answer."""
    whole = [chain for chain in chains if chain.broken is None]
    drawn: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for chain in chains:
        before = chain.item.answer.strip()
        for step in chain.steps:
            drawn[step.principle] += 1
            changed[step.principle] += step.revision != before
            before = step.revision
    return {
        "answers": len(chains),
        "whole": len(whole),
        "changed": sum(chain.answer != chain.item.answer.strip() for chain in whole),
        "broken": dict(Counter(chain.broken.reason for chain in chains if chain.broken)),
        "principles": _shares(drawn, changed),
    }


def _shares(drawn: Mapping[str, int], changed: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {name: {"drawn": count, "changed": changed[name]} for name, count in sorted(drawn.items())}
