"""A reward for runs in processes of their own: it pays for words, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def proxy(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """The number of words of each completion."""
    return [float(len(text.split())) for text in completions]
