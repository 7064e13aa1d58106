"""Comparisons that nobody judged, from how their answers came about; each says how it was made.

A stronger model against a weaker one (Kim et al. 2023, "Aligning Large Language Models through Synthetic Feedback",
arXiv 2305.13735), the best against the worst of several answers by a reward model, and answers to prompts that ask for
a principle to be kept or broken (Yang et al. 2023, "RLCD", arXiv 2307.12950). Damaged answers are
`heedful.feedback.ai.degrading`'s. Needs no Django and no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heedful.data.records import Conversation, Demonstration, Preference, as_messages
from heedful.feedback.ai.answering import Sampling, outcomes, spoken
from heedful.feedback.ai.asks import Ask, Asker, Failure, Reply
from heedful.feedback.ai.constitution import Constitution, Principle, draw
from heedful.feedback.ai.quoting import said
from heedful.feedback.ai.spending import Spent
from heedful.files import sha256_json


@dataclass(frozen=True)
class Synthesised:
    """Pairs, and what came to nothing: by reason, how many."""

    pairs: list[Preference]
    left_out: Counter[str]


def usable(a: str, b: str) -> str:
    """Why two answers make no pair, in a few words; empty where they do."""
    if not a.strip() or not b.strip():
        return "an empty answer"
    return "equal answers" if a.strip() == b.strip() else ""


def by_models(
    stronger: Sequence[Demonstration], weaker: Sequence[Demonstration], names: tuple[str, str]
) -> Synthesised:
    """Answers of a stronger model against those of a weaker one to the same prompts, the first to the first and so on.

    Args:
        stronger, weaker: answers, in any order of prompts.
        names: of the two, for the record.
    """
    others: dict[Conversation, list[str]] = {}
    for record in weaker:
        others.setdefault(record.prompt, []).append(record.completion)
    found = Synthesised([], Counter())
    made = (("by", "stronger against weaker"), ("stronger", names[0]), ("weaker", names[1]))
    for record in stronger:
        waiting = others.get(record.prompt)
        if not waiting:
            found.left_out["no answer of the weaker model"] += 1
            continue
        other = waiting.pop(0)
        why = usable(record.completion, other)
        if why:
            found.left_out[why] += 1
        else:
            found.pairs.append(Preference(record.prompt, record.completion, other, origin=record.origin, made=made))
    found.left_out["no answer of the stronger model"] += sum(len(left) for left in others.values())
    return Synthesised(found.pairs, +found.left_out)


def by_score(
    records: Sequence[Demonstration], scores: Sequence[float], judge: str, *, least_gap: float = 0.0
) -> Synthesised:
    """Of each prompt's answers the one that a reward model scores highest against the lowest.

    Args:
        records: answers, several a prompt, in any order.
        scores: one for each answer, finite.
        judge: the reward model's name, for the record.
        least_gap: pairs whose scores differ by no more than this are left out.

    Raises:
        ValueError: scores that do not fit the answers, or one that is not finite.
    """
    if len(scores) != len(records) or not all(math.isfinite(score) for score in scores):
        raise ValueError(f"{len(scores)} scores for {len(records)} answers, and each must be finite")
    drawn: dict[Conversation, list[tuple[float, Demonstration]]] = {}
    for record, score in zip(records, scores, strict=True):
        drawn.setdefault(record.prompt, []).append((float(score), record))
    found = Synthesised([], Counter())
    for prompt, own in drawn.items():
        best, worst = max(own, key=lambda one: one[0]), min(own, key=lambda one: one[0])
        gap = best[0] - worst[0]
        why = usable(best[1].completion, worst[1].completion)
        if len(own) < 2:
            found.left_out["one answer alone"] += 1
        elif gap <= least_gap:
            found.left_out["scores too close"] += 1
        elif why:
            found.left_out[why] += 1
        else:
            made = (("by", "best against worst"), ("of", len(own)), ("reward", judge), ("gap", gap))
            texts = (best[1].completion, worst[1].completion)
            found.pairs.append(Preference(prompt, *texts, origin=best[1].origin, made=made))
    return found


@dataclass(frozen=True)
class Contrast:
    """How contrasting answers are asked for.

    Args:
        constitution, principles: which are drawn from; each serves "contrasting".
        seed: fixes the principles drawn.
        sampling: how answers are drawn.
    """

    constitution: Constitution
    principles: tuple[Principle, ...]
    seed: int
    sampling: Sampling

    def principle(self, prompt: Conversation, copy: int) -> Principle:
        """The principle of a prompt's pair, whatever else is asked."""
        return draw(self.principles, self.seed, "contrast", sha256_json(as_messages(prompt)), copy)

    def asks(self, prompt: Conversation, copy: int) -> tuple[Ask, Ask]:
        """A prompt with the instruction to keep the principle, and with the one to break it."""
        principle = self.principle(prompt, copy)
        kept, broken = (self.sampling.ask(spoken(prompt, text), copy) for text in (principle.follow, principle.violate))
        return kept, broken


def by_contrast(
    prompts: Sequence[Conversation],
    asker: Asker,
    how: Contrast,
    spent: Spent,
    *,
    told: Callable[[int], None] = lambda done: None,
) -> Synthesised:
    """Answers to each prompt with a principle kept, against answers with it broken. The pair's prompt is the bare one.

    A prompt that stands in the list again gets a pair of its own. `told` hears how many of the two questions a prompt
    have been answered.

    Raises:
        BudgetSpentError: see `Asker.ask`; a ledger keeps what was paid for.
    """
    seen: Counter[Conversation] = Counter()
    places: list[tuple[Conversation, int]] = []
    for prompt in prompts:
        places.append((prompt, seen[prompt]))
        seen[prompt] += 1
    asks = [ask for place in places for ask in how.asks(*place)]
    replies = outcomes(asker, asks, told)
    found = Synthesised([], Counter())
    for (prompt, copy), kept, broken in zip(places, replies[::2], replies[1::2], strict=True):
        pair = [_text(reply, spent) for reply in (kept, broken)]
        failed = next((text for text in pair if isinstance(text, Failure)), None)
        if failed is not None:
            found.left_out[failed.reason] += 1
            continue
        a, b = map(str, pair)
        why = usable(a, b)
        if why:
            found.left_out[why] += 1
            continue
        made = (
            ("by", "contrast"),
            ("principle", how.principle(prompt, copy).id),
            ("constitution", how.constitution.version),
            ("model", kept.model if isinstance(kept, Reply) else ""),
        )
        found.pairs.append(Preference(prompt, a, b, made=made))
    return found


def _text(outcome: Reply | Failure, spent: Spent) -> str | Failure:
    spent.add(outcome)
    return said(outcome, "answer")
