"""What each prompt is used for: to train the policy, to be judged for the reward model, or to check. Never two of them.

Near-duplicates form a group, a group has one use by a hash of its prompt and the seed, and what an earlier round used a
prompt for stands: the same file, one that has grown, or another one can never bring a prompt under a second use. Works
without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from heedful.data.records import Conversation, prompt_key
from heedful.data.splits import near_duplicates

Use: TypeAlias = Literal["train", "reward", "check"]
USES: tuple[Use, ...] = ("train", "reward", "check")


def place(seed: int, name: str) -> float:
    """A number from 0 to 1 that a name and a seed always have."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def uses_of(
    prompts: Sequence[Conversation],
    shares: Mapping[Use, float],
    seed: int,
    *,
    earlier: Mapping[Use, Sequence[Conversation]] | None = None,
    training: Sequence[Conversation] = (),
) -> list[Use | None]:
    """The use of each prompt; None for one that has none, since it stands near prompts of two uses.

    Args:
        prompts: the prompts.
        shares: of "reward" and "check" among the groups; the rest train.
        seed: of the hash.
        earlier: prompts by the use that earlier rounds made of them.
        training: prompts that are trained on in any case, as those of demonstrations are. One that an earlier round
            used otherwise is without a use for training from then on (`overlapping` finds it).
    """
    known: list[tuple[Conversation, Use]] = [(one, use) for use in USES for one in (earlier or {}).get(use, ())]
    fixed = [*known, *((one, "train") for one in training)]
    everything = [one for one, _ in fixed] + list(prompts)
    groups = near_duplicates(everything)
    names: dict[int, str] = {}
    for group, one in zip(groups, everything, strict=True):
        key = prompt_key(one)
        names[group] = min(names.get(group, key), key)
    before: dict[int, set[Use]] = {}
    for group, (_, use) in zip(groups, known, strict=False):
        before.setdefault(group, set()).add(use)
    taught = {group for group in groups[len(known) : len(fixed)] if group not in before}
    own = {prompt_key(one): use for one, use in known}
    found: list[Use | None] = []
    for group, prompt in zip(groups[len(fixed) :], prompts, strict=True):
        uses = before.get(group, set())
        if prompt_key(prompt) in own:
            found.append(own[prompt_key(prompt)])
        elif uses:
            found.append(next(iter(uses)) if len(uses) == 1 else None)
        elif group in taught:
            found.append("train")
        else:
            found.append(_by_hash(place(seed, names[group]), shares))
    return found


def _by_hash(at: float, shares: Mapping[Use, float]) -> Use:
    if at < shares["check"]:
        return "check"
    return "reward" if at < shares["check"] + shares["reward"] else "train"


def overlapping(prompts: Sequence[Conversation], others: Sequence[Conversation]) -> list[int]:
    """Which of some prompts stand in a group of near-duplicates with any of the others."""
    groups = near_duplicates([*others, *prompts])
    taken = set(groups[: len(others)])
    return [index for index, group in enumerate(groups[len(others) :]) if group in taken]


def in_turn(keys: Sequence[str], used: Mapping[str, int], seed: int) -> list[int]:
    """An order of prompts: those that were used least come first, by a hash of key and seed among equals."""
    return sorted(range(len(keys)), key=lambda index: (used.get(keys[index], 0), place(seed, keys[index])))
