"""A model of settable error that critiques, revises and judges in the embedded world: an `Asker` that knows the truth.

It reads nothing but the questions that it is asked, as a server would: the conversation, the answer and the principle
stand in them. What it gets wrong is drawn from a hash of the question, so it errs alike whenever it is asked the same.
`serve` puts it behind an OpenAI-compatible endpoint on loopback.

**Reviser.** A critique examines what its principle is about and reports one of a few findings; with probability
`error` it reports the opposite. The revision does what the critique says: turns the request down, helps, corrects a
false answer, drops what is rude or empty, or leaves the answer as it is. At an error of one half what it finds has
nothing to do with the answer: that is the control, random revisions.

**Judge.** Worth of an answer is its gold score, with what the principle is about counted twice. Of two answers it
prefers the first with probability sigmoid((difference + slip + position) / noise), which it gives as log-probabilities
of the two letters. `slip` is a normal error of each pair, the same in both orders; `position` favours what stands
first.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from heedful.data.records import Message
from heedful.feedback.ai.asks import Ask, Failure, Reply, Usage
from heedful.feedback.ai.constitution import Constitution, Principle
from heedful.world.gold import GOLD, GoldWeights, score
from heedful.world.lexicon import lexicon, sentences
from heedful.world.phrases import REFUSALS
from heedful.world.topics import Topic
from heedful.world.world import World

NOTHING = "there is nothing to object to ."
HARM = "the request asks for harm , and the answer does not turn it down ."
NEEDLESS = "the request is harmless , and the answer does not help with it ."
FALSE = "the answer is not true ."
MANNERS = "some words of the answer are rude or empty ."

DOUBLED: dict[str, tuple[str, ...]] = {
    "harmlessness": ("harmful", "rude"),
    "no-needless-refusal": ("refused", "harmful"),
    "honesty": ("wrong", "certain_wrong"),
    "helpfulness": ("right", "none", "pad", "repeat", "off_topic"),
}
"""The gold weights that a principle of a tag counts twice."""


@dataclass(frozen=True)
class Habits:
    """What the oracle gets wrong.

    Args:
        error: probability of reporting the opposite of what a critique should find.
        slip: standard deviation of a judgment's error, in gold points.
        position: gold points for the answer that stands first.
        noise: scale of the judge's log-odds, in gold points.
    """

    error: float = 0.0
    slip: float = 0.0
    position: float = 0.0
    noise: float = 1.0


class WorldOracle:
    """See the module. `asked` counts its replies, `words` the words that they took, both ways."""

    def __init__(self, world: World, constitution: Constitution, habits: Habits) -> None:
        self.world, self.constitution, self.habits = world, constitution, habits
        self.asked = 0
        self.words = [0, 0]

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `heedful.feedback.ai.asks.Asker`."""
        for number, ask in enumerate(asks):
            yield number, self.reply(ask)

    def reply(self, ask: Ask) -> Reply:
        """The reply to one question."""
        text = ask.messages[-1].content
        luck = np.random.default_rng(int(ask.key("oracle")[:16], 16))
        logprobs: tuple[Mapping[str, float], ...] = ()
        if ask.top_logprobs:
            said, logprobs = self._judgment(ask)
        elif "<critique>" in text:
            said = self._revision(_part(text, "user"), _part(text, "answer"), _part(text, "critique"), luck)
        else:
            principle = self._principle(text, "critique")
            said = self._critique(_part(text, "user"), _part(text, "answer"), principle, luck)
        self.asked += 1
        usage = Usage(sum(len(m.content.split()) for m in ask.messages), len(said.split()))
        self.words[0] += usage.prompt_tokens
        self.words[1] += usage.completion_tokens
        return Reply(said, "stop", logprobs, usage, "world oracle", tokens=(said,) if logprobs else ())

    def _principle(self, text: str, part: str) -> Principle:
        """The principle whose words stand in a question."""
        found = [p for p in self.constitution.principles if (own := getattr(p, part)) and own in text]
        return max(found, key=lambda p: len(getattr(p, part)))

    def _topic(self, question: str) -> Topic:
        return self.world.topic_of((Message("user", question),))

    def _critique(self, question: str, answer: str, principle: Principle, luck: np.random.Generator) -> str:
        """What a principle finds, or with probability `error` the opposite."""
        topic = self._topic(question)
        found = self.world.attributes((Message("user", question),), answer)
        harmful = topic.kind == "harmful"
        turned_down = any(_category(one) == "refusal" for one in sentences(answer))
        if principle.id in ("harm-to-others", "danger-to-the-asker"):
            there, finding = harmful and found.verdict != "right", HARM
        elif principle.id == "no-needless-refusal":
            there, finding = not harmful and turned_down, NEEDLESS
        elif "honesty" in principle.tags or principle.id == "answer-the-question":
            there, finding = not harmful and found.verdict in ("wrong", "none"), FALSE
        else:
            there, finding = bool(found.rude or found.pads or found.repeats or found.off_topic), MANNERS
        return finding if there != (luck.random() < self.habits.error) else NOTHING

    def _revision(self, question: str, answer: str, critique: str, luck: np.random.Generator) -> str:
        """An answer without what the critique found in it."""
        topic = self._topic(question)
        if critique == HARM:
            return " ".join([*self._manners(answer, "open"), REFUSALS[luck.integers(len(REFUSALS))]])
        if (
            critique == NEEDLESS
        ):  # of a harmful request too, where the critique was wrong: the oracle does as it is told
            helpful = topic.wrong[0] if topic.kind == "harmful" else topic.right
            return self._instead(answer, " ".join(helpful[luck.integers(len(helpful))]))
        if critique == FALSE:
            wrong = self.world.attributes((Message("user", question),), answer).verdict != "right"
            options = topic.right if wrong else topic.wrong[0]
            return self._instead(answer, " ".join(options[luck.integers(len(options))]))
        if critique == MANNERS:
            kept: list[str] = []
            for one in sentences(answer):
                if _category(one) not in ("rude", "pad") and one not in kept:
                    kept.append(one)
            return " ".join(kept) or answer
        return answer

    def _manners(self, answer: str, *categories: str) -> list[str]:
        return [one for one in sentences(answer) if _category(one) in categories]

    def _instead(self, answer: str, said: str) -> str:
        """Another answer between the same polite words."""
        return " ".join([*self._manners(answer, "open")[:1], said, *self._manners(answer, "close")[:1]])

    def _judgment(self, ask: Ask) -> tuple[str, tuple[Mapping[str, float], ...]]:
        """The letter and both log-probabilities."""
        question, first, second = shown_pair(ask)
        weights = weights_of(self._principle(ask.messages[0].content + ask.messages[-1].content, "choice"))
        asked = (Message("user", question),)
        gap = score(self.world.attributes(asked, first), weights) - score(self.world.attributes(asked, second), weights)
        slip = _slip(question, first, second) * self.habits.slip
        odds = (gap + slip + self.habits.position) / self.habits.noise
        a = -math.log1p(math.exp(-odds)) if odds > -700 else odds
        b = -math.log1p(math.exp(odds)) if odds < 700 else -odds
        return ("A" if odds >= 0 else "B"), ({"A": a, "B": b},)


def weights_of(principle: Principle) -> GoldWeights:
    """The gold weights with what a principle is about counted twice."""
    names = {name for tag in principle.tags for name in DOUBLED.get(tag, ())}
    return replace(GOLD, **{name: 2 * getattr(GOLD, name) for name in names})


def shown_pair(ask: Ask) -> tuple[str, str, str]:
    """The question and the two answers in the order in which a judge is shown them."""
    text = ask.messages[-1].content
    form = (
        r"=== conversation (\w+) ===\n\[user\]\n(.*?)\n=== answer A \1 ===\n(.*?)\n=== answer B \1 ===\n(.*?)\n=== end"
    )
    found = re.search(form, text, re.DOTALL)
    assert found is not None, text
    return found[2], found[3], found[4]


def _slip(question: str, first: str, second: str) -> float:
    """A standard normal number of a pair, turned over with its order."""
    low, high = sorted((first, second))
    digest = hashlib.sha256(f"{question}\n{low}\n{high}".encode()).digest()
    value = float(np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal())
    return value if first == low else -value


def _category(sentence: str) -> str:
    known = lexicon().get(sentence)
    return known.category if known else "garbled"


def _part(text: str, name: str) -> str:
    found = re.search(rf"<{name}>\n(.*?)\n</{name}>", text, re.DOTALL)
    assert found is not None, text
    return found[1]
