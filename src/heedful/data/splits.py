"""Training and held-out records that never share a prompt, nor nearly the same one."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from heedful.data.records import Conversation, Record, normalised, prompt_key
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    import numpy.typing as npt

RecordT = TypeVar("RecordT", bound=Record)

SIMILAR = 0.8
"""Prompts with at least this share of three-word sequences in common (Jaccard index) are near-duplicates."""

Shingles: TypeAlias = "npt.NDArray[np.uint64]"

_WORDS = 3
_BANDS, _ROWS = 16, 4
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def split(records: Sequence[RecordT], fraction: float, seed: int) -> tuple[list[RecordT], list[RecordT]]:
    """Training and held-out records, in their order.

    Near-duplicate prompts form a group, and a group goes to one side by a hash of its prompt and the seed:
    the side of a prompt does not depend on the order of the file nor on how many other rows it has, and a
    larger fraction holds out more without letting go of what was held out before. The share is therefore
    met on average, not exactly.

    Args:
        fraction: the share of groups to hold out, from 0 (nothing) to below 1.

    Raises:
        HeedfulError: the fraction is out of range, or there is only one group of prompts to part.
    """
    if not 0.0 <= fraction < 1.0:
        raise HeedfulError(
            f"the held-out share is {fraction}.", where="held_out", mend="It lies between 0 and 1, 1 excluded."
        )
    if fraction == 0.0:
        return list(records), []
    groups = near_duplicates([record.prompt for record in records])
    names: dict[int, str] = {}
    for record, group in zip(records, groups, strict=True):
        key = prompt_key(record.prompt)
        names[group] = min(names.get(group, key), key)
    if len(names) < 2:
        raise HeedfulError(
            "all prompts are the same or nearly so, and cannot be parted.",
            mend="Give more prompts, or hold out nothing: --records.held-out 0.",
        )
    places = {group: _place(name, seed) for group, name in names.items()}
    held = {group for group, place in places.items() if place < fraction}
    held = held or {min(places, key=places.__getitem__)}
    if len(held) == len(places):
        held.discard(max(places, key=places.__getitem__))
    train = [record for record, group in zip(records, groups, strict=True) if group not in held]
    return train, [record for record, group in zip(records, groups, strict=True) if group in held]


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def near_duplicates(prompts: Sequence[Conversation], *, similar: float = SIMILAR) -> list[int]:
    """A group number for each prompt; near-duplicates, and near-duplicates of those, share one.

    A dialogue and its own continuation (a prompt that is the beginning of another prompt) count as such too.

    Candidates come from MinHash with 16 bands of 4 (Leskovec, Rajaraman, Ullman, "Mining of Massive
    Datasets", 3.4): two prompts that are exactly `similar` = 0.8 alike become candidates with probability
    0.9998, and each candidate is then compared exactly.
    """
    first: dict[str, int] = {}
    exact = [first.setdefault(normalised(prompt), index) for index, prompt in enumerate(prompts)]
    shingles = {index: _shingles(text) for text, index in first.items()}
    parent = list(range(len(prompts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for text, index in first.items():
        turns = text.split("\n")
        for length in range(1, len(turns)):
            beginning = first.get("\n".join(turns[:length]))
            if beginning is not None:
                parent[root(index)] = root(beginning)
    for bucket in _buckets(shingles):
        groups: dict[int, list[int]] = {}
        for index in bucket:
            joined = groups.pop(root(index), [])
            for other in list(
                groups
            ):  # one near member is enough, and one that is near to no first may be near a later
                if any(_jaccard(shingles[index], shingles[member]) >= similar for member in groups[other]):
                    parent[root(index)] = other
                    joined += groups.pop(other)
            groups[root(index)] = [*joined, index]
    return [root(index) for index in exact]


def _shingles(text: str) -> Shingles:
    """Sorted hashes of a text's three-word sequences; of the whole text when it is shorter."""
    words = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in text.split()], dtype=np.uint64)
    if len(words) <= _WORDS:
        return np.array([zlib.crc32(text.encode("utf-8", "replace"))], dtype=np.uint64)
    mixed = words[:-2] * _MIX[0] + words[1:-1] * _MIX[1] + words[2:] * _MIX[2]
    return np.unique(mixed >> np.uint64(24))


def _jaccard(a: Shingles, b: Shingles) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _buckets(shingles: dict[int, Shingles]) -> list[list[int]]:
    """Groups of prompts whose MinHash signatures agree in a whole band."""
    numbers = np.random.default_rng(0)
    count = _BANDS * _ROWS
    factors = numbers.integers(1, 2**63, size=(count, 1), dtype=np.uint64) | np.uint64(1)
    offsets = numbers.integers(0, 2**63, size=(count, 1), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, values in shingles.items():
        signature = ((factors * values + offsets) >> np.uint64(32)).min(axis=1).astype(np.uint32)
        for band in range(_BANDS):
            key = signature[band * _ROWS : (band + 1) * _ROWS].tobytes()
            buckets.setdefault((band, key), []).append(index)
    return [members for members in buckets.values() if len(members) > 1]
