"""Which prompts train, and which only examine.

Two things are held out, never both at once: wordings ("phrasing": topics that were judged, asked in words
that no demonstration, comparison or PPO prompt used) and facts ("fact": known wordings, but facts that
nobody judged or demonstrated). The pretraining text has all of both: the web knows everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from heedful.data.records import Conversation, Message
from heedful.world.topics import Topic

Split = Literal["train", "phrasing", "fact"]
SPLITS: tuple[Split, ...] = ("train", "phrasing", "fact")


HELD_FACT_KINDS = ("fact", "sum", "support")
HELD_FACT_SHARE = 0.375


@dataclass(frozen=True, slots=True)
class WorldPrompt:
    """A question, with what it is about.

    `topic` is the cluster for intervals: prompts of one topic are not independent.
    """

    prompt: Conversation
    kind: str
    topic: str
    frame: str


@dataclass(frozen=True)
class Splits:
    """Every prompt, by split; `web` has those that are only ever read on the web."""

    train: tuple[WorldPrompt, ...]
    phrasing: tuple[WorldPrompt, ...]
    fact: tuple[WorldPrompt, ...]
    web: tuple[WorldPrompt, ...]


def held_frames(topics: tuple[Topic, ...], rng: np.random.Generator) -> frozenset[str]:
    """The wordings that no judged prompt uses, the same for all topics of a family."""
    families: dict[str, list[str]] = {}
    for topic in topics:
        for question in topic.questions:
            family = families.setdefault(question.frame.split(":", 1)[0], [])
            if question.frame not in family:
                family.append(question.frame)
    held: set[str] = set()
    for frames in families.values():
        count = 1 if len(frames) <= 3 else 2
        held.update(frames[i] for i in rng.permutation(len(frames))[:count])
    return frozenset(held)


def held_facts(topics: tuple[Topic, ...], rng: np.random.Generator) -> frozenset[str]:
    """The facts that nobody judges: the same share of every table.

    No two with the same value, so that every value is still the truth of a judged fact.
    """
    groups: dict[str, list[Topic]] = {}
    for topic in topics:
        if topic.kind in HELD_FACT_KINDS:
            groups.setdefault(topic.group, []).append(topic)
    held: set[str] = set()
    for members in groups.values():
        values: set[str] = set()
        for place in rng.permutation(len(members)):
            topic = members[place]
            if topic.value not in values and len(values) < int(HELD_FACT_SHARE * len(members)):
                values.add(topic.value)
                held.add(topic.name)
    return frozenset(held)


def make_splits(topics: tuple[Topic, ...], seed: int) -> Splits:
    """Sort every question of every topic into a split."""
    rng = np.random.default_rng([seed, 2])
    frames, facts = held_frames(topics, rng), held_facts(topics, rng)
    found: dict[str, list[WorldPrompt]] = {"train": [], "phrasing": [], "fact": [], "web": []}
    for topic in topics:
        for question in topic.questions:
            prompt = WorldPrompt((Message("user", question.text),), topic.kind, topic.name, question.frame)
            new_words, new_fact = question.frame in frames, topic.name in facts
            if new_fact:
                split = "web" if new_words else "fact"
            else:
                split = "phrasing" if new_words else "train"
            found[split].append(prompt)
    return Splits(**{name: tuple(prompts) for name, prompts in found.items()})
