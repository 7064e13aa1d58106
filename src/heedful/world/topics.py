"""The topics of the embedded world: what can be asked, and which replies are right and which wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heedful.world.facts import (
    ACT_FRAMES,
    CHAT,
    CHAT_EXTRAS,
    GENERAL_FRAMES,
    HARMFUL,
    HARMFUL_EXTRAS,
    HARMFUL_STATEMENTS,
    POEM_EXTRAS,
    POEM_FRAMES,
    POEM_LINES,
    POEM_SECONDS,
    TABLES,
    UNKNOWN,
    UNKNOWN_EXTRAS,
    UNKNOWN_STATEMENTS,
    Table,
)
from heedful.world.phrases import IGNORANCE, REFUSALS

Reply = tuple[str, ...]
"""The sentences that answer, in order; one sentence but for poems."""

FACTUAL = frozenset({"fact", "sum", "support", "howto", "code"})
"""Kinds with one true answer, where certainty is worth something when right and costs when wrong."""

MISCONCEPTION_WEIGHTS = (0.6, 0.4)
"""How often the first and the second of two common errors are made, among errors."""


@dataclass(frozen=True)
class Question:
    """One way to ask about a topic; `frame` names the wording apart from the topic."""

    text: str
    frame: str


@dataclass(frozen=True)
class Topic:
    """Something to ask about.

    Attributes:
        name: "table/key".
        kind: fact, sum, support, howto, code, harmful, unknown, chat or poem.
        group: the table or family that its extras belong to.
        questions: every way to ask, in a fixed order.
        right: replies that answer rightly (the refusals, for a harmful topic).
        wrong: the two common errors, by falling frequency, each with its wordings.
        extras: sentences that add something useful to a right reply.
        value: the true value, for the topics of a table; empty otherwise.
    """

    name: str
    kind: str
    group: str
    questions: tuple[Question, ...]
    right: tuple[Reply, ...]
    wrong: tuple[tuple[Reply, ...], ...]
    extras: tuple[str, ...]
    value: str = ""


def forms(templates: tuple[str, ...], key: str, value: str) -> tuple[Reply, ...]:
    """One-sentence replies from statement templates."""
    return tuple((template.format(key=key, value=value),) for template in templates)


def _pick(rng: np.random.Generator, options: list[str], count: int) -> list[str]:
    return [options[i] for i in rng.permutation(len(options))[:count]]


def _table_questions(table: Table, key: str) -> tuple[Question, ...]:
    if table.kind == "howto":
        return tuple(Question(frame.format(act=key), f"act:{frame}") for frame in ACT_FRAMES)
    general = GENERAL_FRAMES if table.phrase else ()
    phrase = table.phrase.format(key=key)
    return (
        *(Question(frame.format(np=phrase), f"general:{frame}") for frame in general),
        *(Question(text.format(key=key), f"{table.name}:{text}") for text in table.questions),
    )


def _table_topics(rng: np.random.Generator) -> list[Topic]:
    topics = []
    for table in TABLES:
        truths = list(dict.fromkeys(row.value for row in table.rows.values()))
        for key, row in table.rows.items():
            others = [truth for truth in truths if truth != row.value]
            errors = (*row.errors, *_pick(rng, others, 1))[:2]
            topics.append(
                Topic(
                    name=f"{table.name}/{key}",
                    kind=table.kind,
                    group=table.name,
                    questions=_table_questions(table, key),
                    right=forms(table.statements, key, row.value),
                    wrong=tuple(forms(table.statements, key, error) for error in errors),
                    extras=table.extras,
                    value=row.value,
                )
            )
    return topics


def _harmful_topics(rng: np.random.Generator) -> list[Topic]:
    topics = []
    for act, step in HARMFUL.items():
        steps = [step, *_pick(rng, [other for other in HARMFUL.values() if other != step], 1)]
        topics.append(
            Topic(
                name=f"harmful/{act}",
                kind="harmful",
                group="harmful",
                questions=tuple(Question(frame.format(act=act), f"act:{frame}") for frame in ACT_FRAMES),
                right=tuple((sentence,) for sentence in REFUSALS),
                wrong=tuple(forms(HARMFUL_STATEMENTS, act, step) for step in steps),
                extras=HARMFUL_EXTRAS,
            )
        )
    return topics


def _unknown_topics() -> list[Topic]:
    return [
        Topic(
            name=f"unknown/{key}",
            kind="unknown",
            group="unknown",
            questions=tuple(Question(frame.format(np=key), f"general:{frame}") for frame in GENERAL_FRAMES),
            right=tuple((sentence,) for sentence in IGNORANCE),
            wrong=tuple(forms(UNKNOWN_STATEMENTS, key, value) for value in made_up),
            extras=UNKNOWN_EXTRAS,
        )
        for key, made_up in UNKNOWN.items()
    ]


def _chat_topics(rng: np.random.Generator) -> list[Topic]:
    topics = []
    for name, (questions, replies) in CHAT.items():
        others = _pick(rng, [other for other in CHAT if other != name], 2)
        topics.append(
            Topic(
                name=f"chat/{name}",
                kind="chat",
                group="chat",
                questions=tuple(Question(text, f"{name}:{text}") for text in questions),
                right=tuple((reply,) for reply in replies),
                wrong=tuple(tuple((reply,) for reply in CHAT[other][1]) for other in others),
                extras=CHAT_EXTRAS,
            )
        )
    return topics


def _poem_topics(rng: np.random.Generator) -> list[Topic]:
    topics = []
    for key, firsts in POEM_LINES.items():
        right = tuple((line, second) for line, rhyme in firsts for second in POEM_SECONDS[rhyme])
        clashes = tuple(
            (line, POEM_SECONDS[rhyme][int(rng.integers(2))])
            for line, own in firsts
            for rhyme in POEM_SECONDS
            if rhyme != own
        )
        other = _pick(rng, [k for k in POEM_LINES if k != key], 1)[0]
        strays = tuple((line, second) for line, rhyme in POEM_LINES[other] for second in POEM_SECONDS[rhyme])
        halves = tuple((line,) for line, _ in firsts)
        topics.append(
            Topic(
                name=f"poem/{key}",
                kind="poem",
                group="poem",
                questions=tuple(Question(frame.format(key=key), f"poem:{frame}") for frame in POEM_FRAMES),
                right=right,
                wrong=(clashes + halves, strays),
                extras=POEM_EXTRAS,
            )
        )
    return topics


def build_topics(seed: int) -> tuple[Topic, ...]:
    """Every topic of the world. The facts never change; the seed draws some of the errors."""
    rng = np.random.default_rng([seed, 1])
    return (
        *_table_topics(rng),
        *_harmful_topics(rng),
        *_unknown_topics(),
        *_chat_topics(rng),
        *_poem_topics(rng),
    )
