"""A judge that knows the embedded world's truth, as well and as fairly as one likes, in the chat-completions format.

Its logit for the answer shown first is that of a simulated rater (`heedful.world.raters.Rater`), with an error of its
own for each pair, which no repetition averages out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heedful.data.records import Message
from heedful.world.raters import Rater
from heedful.world.world import World
from scripted_server import Act, Say

_ANSWER = re.compile(r"^=== answer ([A-I]) ([0-9a-f]{16}) ===$", re.MULTILINE)


@dataclass
class OracleJudge:
    """A script of a `ScriptedServer`.

    Args:
        world: whose truth it knows.
        rater: its noise (the scale of its logits) and biases.
        error: spread of its error on a pair, in gold points.
        seed: of the errors.
    """

    world: World
    rater: Rater = field(default_factory=lambda: Rater("oracle", noise=1.0))
    error: float = 0.0
    seed: int = 0

    def __call__(self, given: dict[str, Any], before: int) -> Say | Act:
        text = given["messages"][-1]["content"]
        if not _ANSWER.search(text):
            return Say("A")  # somebody looks whether it is there
        question, answers, task = material(text)
        logit = self.logit(question, answers[0], answers[1])
        if '"verdict"' in task:
            verdict = {"rationale": "by the world's truth", "verdict": "A" if logit > 0 else "B", "strength": 2}
            return Say(json.dumps(verdict))
        a, b = -math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))
        return Say("A" if logit > 0 else "B", {"A": max(a, -50.0), "B": max(b, -50.0), "C": -20.0})

    def logit(self, question: str, first: str, second: str) -> float:
        """Of the answer shown first over the second."""
        prompt = (Message("user", question),)
        gap = self.worth(prompt, first) - self.worth(prompt, second) + self.rater.position_bias
        return float(np.clip(gap / self.rater.noise, -30, 30))

    def worth(self, prompt: tuple[Message, ...], answer: str) -> float:
        """Of an answer, in gold points, with the judge's own error of it."""
        digest = hashlib.sha256(f"{self.seed} {prompt[0].content} {answer}".encode()).digest()
        luck = np.random.default_rng(int.from_bytes(digest[:8], "little")).normal()
        return self.rater.worth(self.world.attributes(prompt, answer)) + self.error * luck / math.sqrt(2)


def material(text: str) -> tuple[str, list[str], str]:
    """(the question, the answers in the order shown, the task below them)."""
    mark = _ANSWER.search(text)
    assert mark is not None
    head, _, rest = text.partition(f"=== conversation {mark[2]} ===\n[user]\n")[2].partition("\n=== answer A ")
    body, _, task = rest.partition(f"\n=== end {mark[2]} ===\n\n")
    return head, re.split(rf"\n?=== answer [B-I] {mark[2]} ===\n", body.partition("===\n")[2]), task
