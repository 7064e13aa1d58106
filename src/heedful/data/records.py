"""The records that training reads, whatever file they came from.

A prompt is a conversation that ends before the answer; a completion is the text of the answer. Every
record remembers where it stood, so that a finding can name its file and line.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Conversation: TypeAlias = tuple[Message, ...]


def as_messages(prompt: Conversation) -> list[dict[str, str]]:
    """A conversation as JSON."""
    return [{"role": message.role, "content": message.content} for message in prompt]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stood: its file (or dataset id) and its line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


MADE_HERE = Origin("<memory>", 0)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer."""

    prompt: Conversation
    origin: Origin = MADE_HERE


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with an answer worth imitating."""

    prompt: Conversation
    completion: str
    origin: Origin = MADE_HERE


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, and how likely a rater of the target population prefers `a`.

    `probability` is 1.0 for a plain "chosen, rejected" row; votes of 2 to 1 give 2/3; a tie 1/2.
    `votes` counts the judgments behind it; `margin` is by how much `a` should win, 0 when none was given;
    `strength` what raters said of how much better `a` is, from -3 to 3 (their mean), None when they did not.
    `weight` is the pair's share in its prompt's loss: 1/C(K,2) when K ranked answers gave C(K,2) pairs.
    `consensus` names how `probability` was come by, empty where the file does not say; `posterior` is the probability
    that `a` is the better answer, None where the consensus has no such notion.
    `made` says how a pair was made that nobody sampled and judged, or who judged it, as names and values: "by" is the
    method. Empty where the file does not say.
    """

    prompt: Conversation
    a: str
    b: str
    probability: float = 1.0
    votes: int = 1
    margin: float = 0.0
    weight: float = 1.0
    origin: Origin = MADE_HERE
    strength: float | None = None
    consensus: str = ""
    posterior: float | None = None
    made: tuple[tuple[str, str | float], ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """Several answers to one prompt in the order that a rater put them in.

    `ranks` has a rank for each completion, the lower the better; equal ranks are ties. `attributes` are ratings by
    name, a figure for each completion (NaN where it was not rated), the higher the more.
    """

    prompt: Conversation
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    attributes: tuple[tuple[str, tuple[float, ...]], ...] = ()
    weight: float = 1.0
    origin: Origin = MADE_HERE


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer with a thumb up (True) or down (False): unpaired feedback."""

    prompt: Conversation
    completion: str
    label: bool
    origin: Origin = MADE_HERE


Record: TypeAlias = Prompt | Demonstration | Preference | Ranking | Labelled


def normalised(prompt: Conversation) -> str:
    """A prompt's text without the differences that do not make it another prompt.

    Unicode NFKC, case folded, white space and punctuation runs collapsed. Roles are kept.
    """
    turns = []
    for message in prompt:
        text = unicodedata.normalize("NFKC", message.content).casefold()
        words = re.sub(r"[\W_]+", " ", text).strip()
        turns.append(f"{message.role}: {words}")
    return "\n".join(turns)


def prompt_key(prompt: Conversation) -> str:
    """A stable hex key of a prompt: equal for prompts that differ only in case, spacing or punctuation."""
    return hashlib.sha256(normalised(prompt).encode()).hexdigest()[:16]
