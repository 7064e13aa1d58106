"""Ways of judging: what is asked of a judge, and what a judgment of its replies is.

A look is one judge's view of one case in one order of the answers. What a reply says of letters is told of the case's
own answers here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from heedful.feedback.ai.asks import Ask, Message, Reply
from heedful.feedback.ai.dialogue import Dialogue, FailedError
from heedful.feedback.ai.material import LETTERS, Case, shown
from heedful.feedback.ai.reading import (
    UnreadableError,
    checked,
    choice_field,
    letter_logits,
    ranks_field,
    read_form,
    text_field,
    whole_field,
)
from heedful.feedback.ai.templates import (
    CRITIQUE_POINTS,
    REPAIR,
    Template,
    attributes_template,
    critique_template,
    letter_template,
    ranking_template,
    verdict_template,
)
from heedful.feedback.payloads import Attributes, Pairwise, Payload, Ranking

T = TypeVar("T")
STEPS = (0.05, 0.25, 0.45)
"""How far from one half a probability lies for the strengths 1, 2 and 3 of a judgment in the store."""


@dataclass(frozen=True)
class Manner:
    """How a judge is asked.

    Args:
        rubric: the guideline; empty: heedful's own starter.
        temperature: of every answer.
        max_tokens: the longest rationale, critique or form.
        top_logprobs: alternatives that the letter's place lists.
        ties: whether a judge may say that neither is better.
        both: show every case in both orders (a ranking in an order and its reverse).
        seed: of orders that are drawn, and sent to the server.
        draw: tells repeated judgments at a temperature above 0 apart.
    """

    rubric: str = ""
    temperature: float = 0.0
    max_tokens: int = 1024
    top_logprobs: int = 20
    ties: bool = True
    both: bool = True
    seed: int = 0
    draw: int = 0


@dataclass(frozen=True)
class Look:
    """What one judge said of one case in one order.

    Args:
        order: the case's indices as they were shown.
        payload: the judgment in the case's own indices; None where nothing could be read.
        logit: of answer 0 over answer 1, where the way knows more than a side.
        rationale: the judge's words.
        trouble: why there is no payload: "refused", "cut short", "unreadable", "no log-probabilities", or the reason of
            a failure.
        detail: the trouble in a sentence.
        replies: all that the judge said, the repaired included, in order.
        repairs: how many replies had to be asked for again.
    """

    order: tuple[int, ...]
    payload: Payload | None
    logit: float | None = None
    rationale: str = ""
    trouble: str = ""
    detail: str = ""
    replies: tuple[Reply, ...] = ()
    repairs: int = 0

    @property
    def cost(self) -> float:
        """Money that its replies cost when they were paid for."""
        return sum(reply.cost for reply in self.replies)


class Way(Protocol):
    """A way of judging."""

    @property
    def manner(self) -> Manner:
        """How judges are asked."""
        ...

    @property
    def logprobs(self) -> int:
        """Alternatives that it needs the log-probabilities of; 0: none."""
        ...

    @property
    def forms(self) -> bool:
        """Whether it asks for JSON of a given schema."""
        ...

    def template(self, case: Case) -> Template:
        """What a judge is told of a case."""
        ...

    def orders(self, case: Case) -> list[tuple[int, ...]]:
        """The orders in which a case is looked at."""
        ...

    def placed(self, case: Case) -> bool:
        """Whether all that a look says was said of the answers in its one order."""
        ...

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """Look at a case once."""
        ...


@dataclass
class Talk:
    """The replies of one look, as they come."""

    manner: Manner
    template: Template
    replies: list[Reply] = field(default_factory=list)
    repairs: int = 0

    def hear(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, read: Callable[[Reply], T],
             *, logprobs: int = 0, tokens: int = 0) -> Dialogue[T]:  # fmt: skip
        """Ask, and read the reply; ask once more where it cannot be read.

        Raises:
            UnreadableError: the second cannot be read either.
        """
        manner = self.manner
        # A letter is one token; those that dress it get room.
        ask = Ask(tuple(messages), tokens or manner.max_tokens, manner.temperature, schema, logprobs,
                  manner.seed, manner.draw)  # fmt: skip
        reply = yield ask
        self.replies.append(reply)
        try:
            return read(reply)
        except UnreadableError as error:
            why = str(error)
        self.repairs += 1
        again = REPAIR.replace("{why}", why).replace("{form}", self.template.form)
        said = Message("assistant", reply.text.strip() or "(nothing)")
        reply = yield replace(ask, messages=(*messages, said, Message("user", again)))
        self.replies.append(reply)
        return read(reply)

    def opening(self, case: Case, order: Sequence[int], task: str) -> tuple[Message, ...]:
        """The system's words, then the material with the task below it."""
        return (
            Message("system", self.template.system),
            Message("user", f"{shown(case, order)}\n\n{task}"),
        )


@dataclass(frozen=True)
class Said:
    """What a reply says, once it is read."""

    payload: Payload
    logit: float | None = None
    rationale: str = ""


def look_at(way: Way, case: Case, order: tuple[int, ...], steps: Callable[[Talk], Dialogue[Said]]) -> Dialogue[Look]:
    """A look from its steps: what cannot be read, and what got no reply, is a look with its trouble."""
    talk = Talk(way.manner, way.template(case))
    trouble, detail, said = "", "", None
    try:
        said = yield from steps(talk)
    except UnreadableError as error:
        trouble, detail = error.trouble, str(error)
    except FailedError as error:
        trouble, detail = error.failure.reason, error.failure.detail
    look = Look(order, None, trouble=trouble, detail=detail, replies=tuple(talk.replies), repairs=talk.repairs)
    if said is None:
        return look
    return replace(look, payload=said.payload, logit=said.logit, rationale=said.rationale)


@dataclass(frozen=True)
class _Together:
    """A way whose looks show all answers at once, in one order."""

    manner: Manner = Manner()

    def orders(self, case: Case) -> list[tuple[int, ...]]:
        """See `Way`."""
        return case.orders(both=self.manner.both, seed=self.manner.seed)

    def placed(self, case: Case) -> bool:
        """See `Way`."""
        return True


@dataclass(frozen=True)
class LogprobWay(_Together):
    """A or B by the log-probability of the letter: a soft label.

    The logit is that of P(A) + P(C)/2 over P(B) + P(C)/2, C the tie (Lee et al. 2023, section 2.2, with a tie added).
    """

    forms = False

    @property
    def logprobs(self) -> int:
        """See `Way`."""
        return self.manner.top_logprobs

    def template(self, case: Case) -> Template:
        """See `Way`."""
        return letter_template(self.manner.rubric, ties=self.manner.ties)

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""

        def steps(talk: Talk) -> Dialogue[Said]:
            def read(reply: Reply) -> dict[str, float]:
                return letter_logits(reply, 3 if self.manner.ties else 2)

            opening = talk.opening(case, order, talk.template.tasks[0])
            found = yield from talk.hear(opening, None, read, logprobs=self.logprobs, tokens=LETTER_TOKENS)
            tie = math.exp(found["C"]) / 2 if self.manner.ties else 0.0
            logit = math.log(math.exp(found["A"]) + tie) - math.log(math.exp(found["B"]) + tie)
            logit = logit if order == (0, 1) else -logit
            return Said(Pairwise(strength_of(1 / (1 + math.exp(-logit)), ties=self.manner.ties)), logit)

        return look_at(self, case, order, steps)


LETTER_TOKENS = 4
"""For one letter, and what may dress it."""


def strength_of(probability: float, *, ties: bool) -> int:
    """A judgment's strength for answer 1, -3 to 3, from the probability that answer 0 is preferred.

    The nearest to one half are a tie; without ties none is but one half itself. Beyond, the steps of `STEPS`.
    """
    away = abs(probability - 0.5)
    size = sum(away >= step for step in STEPS)
    if size == 0 and not ties and away > 0:
        size = 1
    return size if probability < 0.5 else -size


@dataclass(frozen=True)
class VerdictWay(_Together):
    """A or B in a form with a rationale, and by how much."""

    logprobs = 0
    forms = True

    def template(self, case: Case) -> Template:
        """See `Way`."""
        return verdict_template(self.manner.rubric, ties=self.manner.ties)

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""

        def steps(talk: Talk) -> Dialogue[Said]:
            opening = talk.opening(case, order, talk.template.tasks[0])
            return (yield from talk.hear(opening, talk.template.schemas[0], lambda reply: self._read(reply, order)))

        return look_at(self, case, order, steps)

    def _read(self, reply: Reply, order: tuple[int, ...]) -> Said:
        form = read_form(reply, ("rationale", "verdict", "strength"))
        verdict = choice_field(form, "verdict", ("A", "B", "tie") if self.manner.ties else ("A", "B"))
        strength = whole_field(form, "strength", 0, 3)
        if (strength == 0) != (verdict == "tie"):
            raise UnreadableError("unreadable", "strength is 0 with a tie and 1 to 3 otherwise")
        winner = order[0] if verdict == "A" else order[1]
        return Said(Pairwise(strength if winner == 1 else -strength), None, text_field(form, "rationale"))


@dataclass(frozen=True)
class RankingWay(_Together):
    """All answers in order, ties allowed."""

    logprobs = 0
    forms = True

    def template(self, case: Case) -> Template:
        """See `Way`."""
        return ranking_template(self.manner.rubric, len(case.completions))

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""

        def read(reply: Reply) -> Said:
            form = read_form(reply, ("rationale", "ranking"))
            ranks = ranks_field(form, "ranking", len(order))
            if not self.manner.ties and len(set(ranks)) < len(ranks):
                raise UnreadableError("unreadable", "no two answers may share a list")
            return Said(Ranking(_own(ranks, order)), None, text_field(form, "rationale"))

        def steps(talk: Talk) -> Dialogue[Said]:
            opening = talk.opening(case, order, talk.template.tasks[0])
            return (yield from talk.hear(opening, talk.template.schemas[0], read))

        return look_at(self, case, order, steps)


@dataclass(frozen=True)
class AttributesWay:
    """Points for each attribute: one question an attribute, the answers in an order drawn for each of them."""

    attributes: tuple[Mapping[str, Any], ...]
    manner: Manner = Manner()
    logprobs = 0
    forms = True

    def template(self, case: Case) -> Template:
        """See `Way`."""
        return attributes_template(self.manner.rubric, self.attributes, len(case.completions))

    def orders(self, case: Case) -> list[tuple[int, ...]]:
        """See `Way`. Of the first attribute; the others are drawn anew, and reversed where this one is."""
        return case.orders(both=self.manner.both, seed=self.manner.seed, salt=str(self.attributes[0]["name"]))

    def placed(self, case: Case) -> bool:
        """See `Way`."""
        return self.manner.both and len(case.completions) == 2

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""
        which = self.orders(case).index(order)

        def steps(talk: Talk) -> Dialogue[Said]:
            scores: list[dict[str, int]] = [{} for _ in case.completions]
            words = []
            for one, task, schema in zip(self.attributes, talk.template.tasks, talk.template.schemas, strict=True):
                name, points = str(one["name"]), int(one.get("points", 5))
                drawn = case.orders(both=self.manner.both, seed=self.manner.seed, salt=name)[which]

                def read(reply: Reply, points: int = points) -> list[tuple[str, int]]:
                    return _points(reply, len(case.completions), points)

                found = yield from talk.hear(talk.opening(case, drawn, task), schema, read)
                for index, (why, score) in zip(drawn, found, strict=True):
                    scores[index][name] = score
                    words.append(f"{name}, answer {index + 1}: {why}")
            return Said(Attributes(tuple(scores)), None, "\n".join(words))

        return look_at(self, case, order, steps)


def _points(reply: Reply, count: int, points: int) -> list[tuple[str, int]]:
    """(rationale, score) by letter."""
    form = read_form(reply, LETTERS[:count])
    found = []
    for letter in LETTERS[:count]:
        one = form[letter]
        if not isinstance(one, dict) or set(one) != {"rationale", "score"}:
            raise UnreadableError("unreadable", f"{letter} must be an object of rationale and score")
        found.append((text_field(one, "rationale"), whole_field(one, "score", 1, points)))
    return found


@dataclass(frozen=True)
class CritiqueWay:
    """A critique of each answer alone, then a score of 1 to 10 by it: no answer stands beside another."""

    manner: Manner = Manner()
    logprobs = 0
    forms = True

    def template(self, case: Case) -> Template:
        """See `Way`."""
        return critique_template(self.manner.rubric)

    def orders(self, case: Case) -> list[tuple[int, ...]]:
        """See `Way`. One: an answer that is judged alone has no place."""
        return [tuple(range(len(case.completions)))]

    def placed(self, case: Case) -> bool:
        """See `Way`."""
        return False

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""

        def steps(talk: Talk) -> Dialogue[Said]:
            scores, words = [], []
            for index in order:
                opening = talk.opening(case, (index,), talk.template.tasks[0])
                critique = yield from talk.hear(opening, None, _words)
                after = (*opening, Message("assistant", critique), Message("user", talk.template.tasks[1]))

                def score(reply: Reply) -> int:
                    return whole_field(read_form(reply, ("score",)), "score", 1, CRITIQUE_POINTS)

                scores.append({"overall": (yield from talk.hear(after, talk.template.schemas[1], score))})
                words.append(f"answer {index + 1}: {critique}")
            return Said(Attributes(tuple(scores)), None, "\n\n".join(words))

        return look_at(self, case, order, steps)


def _words(reply: Reply) -> str:
    text = checked(reply)
    if not text:
        raise UnreadableError("unreadable", "the reply is empty")
    return text


def _own(ranks: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """What was said of A, B, C, told of the case's own answers."""
    found = [0] * len(order)
    for place, index in enumerate(order):
        found[index] = ranks[place]
    return tuple(found)
