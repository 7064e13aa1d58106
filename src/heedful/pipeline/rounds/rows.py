"""The files that stages of a round hand on: JSON lines, read back as they were written. Works without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful.data.records import Conversation, Message, as_messages
from heedful.files import atomic_write

NEW = "new"
"""What a pair of a check calls the policy that is checked."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, to be judged."""

    id: str
    """Unique in its round."""
    prompt: Conversation
    a: str
    b: str
    use: str
    """reward, or refresh: its preferred answer is imitated."""
    policy_a: str = ""
    policy_b: str = ""
    temperature_a: float = 1.0
    temperature_b: float = 1.0


@dataclass(frozen=True)
class Said:
    """One rater's judgment of a pair."""

    pair: str
    kind: str
    """human, ai or simulated; end_user, and demonstration, of what a round takes from the store."""
    rater: str
    vote: float
    """1 for a, -1 for b, 0 a tie, and between by the strength that was stated."""
    judgment: str = ""
    """Its id in the store, for those that stand there."""
    guideline: int = 0
    """The version of the rubric that was followed, for those that follow one."""


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, whole or not at all; equal rows are equal bytes."""
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def write_prompts(path: Path, prompts: Sequence[Conversation]) -> None:
    """Prompts as any command of heedful reads them."""
    write_rows(path, ({"prompt": as_messages(prompt)} for prompt in prompts))


def read_prompts(path: Path) -> list[Conversation]:
    """The prompts that `write_prompts` wrote."""
    return [conversation(row["prompt"]) for row in read_rows(path)]


def conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """A conversation of its JSON."""
    return tuple(Message(one["role"], one["content"]) for one in messages)


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Pairs, one a line."""
    write_rows(path, ({**asdict(pair), "prompt": as_messages(pair.prompt)} for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs that `write_pairs` wrote."""
    return [Pair(**{**row, "prompt": conversation(row["prompt"])}) for row in read_rows(path)]


def read_said(path: Path) -> list[Said]:
    """The judgments of a round."""
    return [Said(**row) for row in read_rows(path)]


def different(a: str, b: str) -> bool:
    """Whether people can tell two answers apart: neither is empty, and they are not one text."""
    return bool(a.strip()) and bool(b.strip()) and a.strip() != b.strip()


def won(pairs: Sequence[Pair], said: Sequence[Said]) -> dict[str, float | None]:
    """Of each pair of a check the share of votes for the new policy's answer; a tie is half a vote for each.

    None where nobody voted, 1/2 for answers that nobody can tell apart, which are put before nobody.
    """
    votes: dict[str, list[float]] = {}
    for one in said:
        side = (one.vote > 0) - (one.vote < 0)
        votes.setdefault(one.pair, []).append((side + 1) / 2)
    found: dict[str, float | None] = {}
    for pair in pairs:
        own = votes.get(pair.id)
        if own is None:
            found[pair.id] = None if different(pair.a, pair.b) else 0.5
        else:
            share = sum(own) / len(own)
            found[pair.id] = share if pair.policy_a == NEW else 1 - share
    return found
