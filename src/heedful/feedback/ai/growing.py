"""New prompts after the manner of some that are there, without repeats (Wang et al. 2022, "Self-Instruct", 2212.10560).

A model is shown a few prompts of the pool and asked for more. A new one joins the pool only where its ROUGE-L
similarity to every prompt in it is below a threshold (0.7 there and here). What is shown is drawn by the seed and the
pool, so that the same replies grow the same pool. Needs no Django and no torch.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from heedful.core.text import rouge_l, words
from heedful.feedback.ai.answering import Sampling, outcomes
from heedful.feedback.ai.asks import Ask, Asker, Failure
from heedful.feedback.ai.quoting import MATERIAL, quoted, said
from heedful.feedback.ai.spending import Spent
from heedful.files import sha256_json

SYSTEM = f"You write requests that people might send to an assistant. {MATERIAL}"
REQUEST = """{material}

Above are {shown} requests. Write {wanted} new ones that differ from them and from each other in subject and in kind,
and that are as natural. {instruction}

Reply with the {wanted} requests alone: each on one line of its own that begins with its number and a full stop."""
WORDING = sha256_json([SYSTEM, REQUEST])[:12]
"""The version of the words around the examples."""

_NUMBERED = re.compile(r"^\s*(\d{1,3})[.)]\s+(.*\S)\s*$")
_LONGEST = 150
"""Words of the longest prompt; Self-Instruct's."""
_SHORTEST = 2


@dataclass(frozen=True)
class Growing:
    """How a pool grows.

    Args:
        wanted: new prompts.
        per_ask: how many one reply is asked for.
        shown: how many prompts a question shows, a quarter of them new ones where there are any (2 of 8 there).
        threshold: ROUGE-L of words at which a prompt is a repeat, above 0 and at most 1.
        asks_at_once: questions that see the same pool.
        most_asks: questions after which growing ends, however few prompts there are.
        instruction: what else is asked of the new prompts; may be empty.
        seed: fixes which prompts are shown.
        sampling: how replies are drawn.
    """

    wanted: int
    per_ask: int
    shown: int
    threshold: float
    asks_at_once: int
    most_asks: int
    instruction: str
    seed: int
    sampling: Sampling


@dataclass(frozen=True)
class Grown:
    """A new prompt: its text, the nearest one that was there before it, how near that is, and who wrote it."""

    text: str
    nearest: str
    similarity: float
    model: str


@dataclass
class Pool:
    """Texts with their words, those given first."""

    given: int
    texts: list[str] = field(default_factory=list)
    cut: list[list[str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """One more."""
        self.texts.append(text)
        self.cut.append(words(text))

    def nearest(self, text: str) -> tuple[str, float]:
        """The text most like another by ROUGE-L, and how alike they are; ("", 0) in an empty pool."""
        own = words(text)
        counts = Counter(own)
        best, alike = "", 0.0
        for other, cut in zip(self.texts, self.cut, strict=True):
            total = len(own) + len(cut)
            # No common subsequence is longer than the shorter text, nor than the words that both hold.
            if not total or 2 * min(len(own), len(cut)) / total <= alike:
                continue
            if 2 * sum((counts & Counter(cut)).values()) / total <= alike:
                continue
            found = rouge_l(own, cut)
            if found > alike:
                best, alike = other, found
        return best, alike


def pool_of(texts: Sequence[str]) -> Pool:
    """A pool that begins with the prompts given."""
    pool = Pool(len(texts))
    for text in texts:
        pool.add(text)
    return pool


def numbered(reply: str) -> list[str]:
    """The requests of a reply: the lines that begin with a number and a full stop, numbered 1, 2, 3, ... without a gap.

    Anything else ends the list: what a model says behind it, or a line that is numbered out of turn, is no request.
    """
    found: list[str] = []
    for line in reply.splitlines():
        if not line.strip():
            continue
        met = _NUMBERED.match(line)
        if met is None and not found:
            continue  # an introduction
        if met is None or int(met[1]) != len(found) + 1:
            break
        found.append(met[2])
    return found


def unfit(text: str, pool: Pool, threshold: float) -> tuple[str, str, float]:
    """Why a text does not join a pool (empty where it does), its nearest neighbour, and how near that is."""
    length = len(words(text))
    if length < _SHORTEST:
        return "too short", "", 0.0
    if length > _LONGEST:
        return "too long", "", 0.0
    nearest, alike = pool.nearest(text)
    return ("a repeat" if alike >= threshold else ""), nearest, alike


def grow(pool: Pool, asker: Asker, how: Growing, spent: Spent, left_out: Counter[str]) -> Iterator[Grown]:
    """New prompts, each as it joins the pool; the pool grows with them.

    Questions go out in groups that see one pool. Growing ends with `how.wanted` prompts, after `how.most_asks`
    questions, or after a whole group that brought none.

    Args:
        left_out: counts what did not join, by reason, and questions without a whole reply.

    Raises:
        BudgetSpentError: what was yielded before stays good, and a ledger keeps what was paid for.
    """
    found = asked = 0
    while found < how.wanted and asked < how.most_asks:
        group = min(how.asks_at_once, how.most_asks - asked)
        asks = [_ask(pool, how, asked + number) for number in range(group)]
        before = found
        for outcome in outcomes(asker, asks):
            spent.add(outcome)
            text = said(outcome, "list of requests")
            if isinstance(text, Failure):
                left_out[f"no reply: {text.reason}"] += 1
                continue
            assert not isinstance(outcome, Failure)
            requests = numbered(text)
            if not requests:
                left_out["no numbered request in a reply"] += 1
            for request in requests[: how.per_ask]:
                why, nearest, alike = unfit(request, pool, how.threshold)
                if why:
                    left_out[why] += 1
                elif found < how.wanted:
                    pool.add(request)
                    found += 1
                    yield Grown(request, nearest, alike, outcome.model)
        asked += group
        if found == before:
            break


def _ask(pool: Pool, how: Growing, number: int) -> Ask:
    """The question of a number: which prompts it shows is drawn from the pool as it is."""
    chance = random.Random(sha256_json([how.seed, "grow", number]))
    new = len(pool.texts) - pool.given
    fresh = min(new, how.shown // 4)
    own = min(pool.given, how.shown - fresh)
    places = chance.sample(range(pool.given), own) + chance.sample(range(pool.given, len(pool.texts)), fresh)
    chance.shuffle(places)
    material = quoted([("request", pool.texts[place]) for place in places])
    text = REQUEST.format(material=material, shown=len(places), wanted=how.per_ask, instruction=how.instruction)
    return how.sampling.ask([("system", SYSTEM), ("user", text)], number)
