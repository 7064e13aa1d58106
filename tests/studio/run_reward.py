"""A reward for runs in processes of their own, which a policy soon exploits: it pays for saying words again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def proxy(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """How many words of each completion it has said before."""
    return [float(len(text.split()) - len(set(text.split()))) for text in completions]
