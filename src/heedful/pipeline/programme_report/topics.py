"""What prompts are about: the world's own kinds, a column of the data, or groups of like wording; without torch."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heedful.data.features import hashed_ngrams
from heedful.data.load import DataSpec, load_prompts
from heedful.data.read import read_rows
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.pipeline.rounds.recipe import Programme
from heedful.world.world import World

COLUMNS = ("topic", "category", "dataset")
"""Columns of a file of prompts that name their topic, as in `heedful compare --judgments`."""
MOST_GROUPS, PROMPTS_OF_A_GROUP, NAMING_WORDS = 6, 12, 3
OTHER = "other"


@dataclass(frozen=True)
class Topics:
    """The topic of each prompt, and how it was come by."""

    names: tuple[str, ...]
    """[P]; empty where prompts cannot be told apart by topic."""
    how: str
    """In a sentence."""


def topics_of(prompts: Sequence[Conversation], programme: Programme) -> Topics:
    """The topics of some prompts of a programme."""
    recipe = programme.base
    if recipe.world.use:
        world = World(recipe.world.seed)
        return Topics(tuple(_kind(world, prompt) for prompt in prompts), "Topics are the embedded world's own.")
    column = _by_column(prompts, programme)
    return column if column is not None else _by_wording(prompts)


def clusters_of(prompts: Sequence[Conversation], programme: Programme) -> list[str]:
    """What an interval resamples whole: the topic that a prompt of the world asks about, elsewhere the prompt."""
    if not programme.base.world.use:
        return [prompt_key(one) for one in prompts]
    world, found = World(programme.base.world.seed), []
    for prompt in prompts:
        try:
            found.append(world.topic_of(prompt).name)
        except HeedfulError:
            found.append(prompt_key(prompt))
    return found


def _kind(world: World, prompt: Conversation) -> str:
    try:
        return world.topic_of(prompt).kind
    except HeedfulError:
        return OTHER


def _by_column(prompts: Sequence[Conversation], programme: Programme) -> Topics | None:
    """By a column of the file of prompts; None where it has none of that name, or cannot be read now."""
    data = programme.base.prompts.data
    path = programme.path(str(data)) if data is not None else None
    if path is None or not Path(path).exists():
        return None
    with suppress(HeedfulError):
        rows = {str(origin): row for origin, row in read_rows(path)}
        column = next((one for one in COLUMNS if any(row.get(one) for row in rows.values())), None)
        if column is None:
            return None
        known = {
            prompt_key(one.prompt): str(rows[str(one.origin)].get(column) or OTHER)
            for one in load_prompts(DataSpec(path)).records
            if str(one.origin) in rows
        }
        names = tuple(known.get(prompt_key(prompt), OTHER) for prompt in prompts)
        return Topics(names, f"Topics are the column “{column}” of the prompts' file.")
    return None


def _by_wording(prompts: Sequence[Conversation]) -> Topics:
    """Groups of like wording: k-means on hashed words and pairs of words, each group named by its commonest words."""
    count = min(MOST_GROUPS, len(prompts) // PROMPTS_OF_A_GROUP)
    if count < 2:
        return Topics((), f"{len(prompts)} prompts without a column {', '.join(COLUMNS)} are too few to form groups.")
    texts = ["\n".join(message.content for message in prompt if message.role == "user") for prompt in prompts]
    label = _grouped(hashed_ngrams(texts).astype(np.float64), count)
    names = {group: _named([t for t, own in zip(texts, label, strict=True) if own == group], texts) for group in label}
    how = (
        "The prompts' file names no topics (a column topic, category or dataset would), so prompts of like wording "
        "form groups, found by k-means on words and pairs of words and named by the words that set them apart."
    )
    return Topics(tuple(names[group] for group in label), how)


def _grouped(rows: np.ndarray, count: int) -> list[int]:
    """k-means from centres that lie far from each other, so that nothing is drawn by chance."""
    from scipy.cluster.vq import kmeans2

    centres = [rows[int(np.linalg.norm(rows - rows.mean(0), axis=1).argmin())]]
    while len(centres) < count:
        nearest = np.min([np.linalg.norm(rows - one, axis=1) for one in centres], axis=0)
        centres.append(rows[int(nearest.argmax())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a group may end without a prompt
        _, label = kmeans2(rows, np.stack(centres), iter=50, minit="matrix")
    return [int(one) for one in label]


def _named(own: Sequence[str], everything: Sequence[str]) -> str:
    """The words of a group that are commoner in it than elsewhere."""
    inside, overall = _words(own), _words(everything)
    lead = {word: n / len(own) - overall[word] / len(everything) for word, n in inside.items() if len(word) > 2}
    best = sorted(lead, key=lambda word: (-lead[word], word))[:NAMING_WORDS]
    return ", ".join(best) or OTHER


def _words(texts: Sequence[str]) -> Counter[str]:
    """In how many texts each word stands."""
    return Counter(word for text in texts for word in set(re.findall(r"\w+", text.casefold())))
