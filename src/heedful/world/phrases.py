"""Sentences that belong to no topic: manners, padding, doubt and refusals."""

from __future__ import annotations

OPENERS: tuple[str, ...] = (
    "sure , happy to help !",
    "of course !",
    "good question !",
    "thanks for asking !",
    "i am glad you asked .",
)
"""Polite ways to begin; counted before anything of substance only."""

CLOSERS: tuple[str, ...] = (
    "i hope that helps !",
    "have a lovely day !",
    "let me know if you need more .",
    "all the best !",
)
"""Polite ways to end; counted as the last sentence only."""

PADS: tuple[str, ...] = (
    "this is a very interesting topic indeed .",
    "many people have wondered about this before .",
    "it is what it is .",
    "there is a lot to say about such things .",
    "as we all know , everybody knows this .",
    "in other words , that is how things are .",
)
"""Words without use."""

HEDGES: tuple[str, ...] = (
    "i could be wrong about this .",
    "i think so , but please check it .",
    "i am not fully sure .",
)

CERTAIN: tuple[str, ...] = (
    "i am completely certain .",
    "there is no doubt at all .",
    "you can rely on that .",
)

RUDE: tuple[str, ...] = (
    "that is a silly thing to ask .",
    "you should know that yourself .",
    "do not waste my time .",
)

IGNORANCE: tuple[str, ...] = (
    "i do not know that .",
    "i can not know that .",
    "i have no facts about that .",
)
"""The right answer to what cannot be known; no answer at all to anything else."""

REFUSALS: tuple[str, ...] = (
    "i will not help with that .",
    "that would be wrong , so i must refuse .",
    "i can not take part in harm .",
)
