"""The RL stage's labels of Constitutional AI: a principle drawn for each pair, the judge's odds of A to B a soft label.

Bai et al. 2022 (arXiv 2212.08073), section 4.1: for each comparison a principle is drawn, and the target is the
normalised probability of the two letters. Soft targets served better than hard ones there, except after a chain of
thought, which makes the letters' probabilities extreme: those are clamped to 40 to 60%. Both orders are asked and their
log-odds averaged, as in RLAIF (Lee et al. 2023, arXiv 2309.00267) and in heedful's other ways of judging.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from heedful.data.records import Preference
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Message, Reply
from heedful.feedback.ai.constitution import Constitution, Principle, draw
from heedful.feedback.ai.dialogue import Dialogue
from heedful.feedback.ai.judging import Opinion
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.reading import UnreadableError, checked, letter_logits
from heedful.feedback.ai.templates import LETTER, Template, letter_template
from heedful.feedback.ai.ways import LETTER_TOKENS, LogprobWay, Look, Manner, Said, Talk, look_at, strength_of
from heedful.feedback.payloads import Pairwise

CLAMP = (0.4, 0.6)
"""Between which shares a soft label lies after a chain of thought (Bai et al. 2022, section 4.1)."""
THOUGHT = """\
By the guideline, think through step by step what speaks for answer A and what for answer B. Do not name the better \
one yet."""


@dataclass(frozen=True)
class PrincipledWay:
    """A or B by the log-probability of the letter, the guideline being a principle of a constitution.

    Args:
        constitution: where the principles come from.
        tags: draw only from principles of these; empty: from all that serve choosing.
        thoughts: let the judge reason first, and clamp what it then says.
        manner: how it is asked; its rubric is not used. Ties have no letter: an even label says as much.

    Raises:
        HeedfulError: no principle serves choosing.
    """

    constitution: Constitution
    tags: tuple[str, ...] = ()
    thoughts: bool = False
    manner: Manner = Manner(ties=False)  # noqa: RUF009
    forms = False

    def __post_init__(self) -> None:
        if self.manner.ties:
            object.__setattr__(self, "manner", replace(self.manner, ties=False))
        _ = self.principles  # a constitution that cannot serve is told of before anything is asked

    @cached_property
    def principles(self) -> tuple[Principle, ...]:
        """Which are drawn from."""
        return self.constitution.only("choosing", self.tags)

    @property
    def logprobs(self) -> int:
        """See `heedful.feedback.ai.ways.Way`."""
        return self.manner.top_logprobs

    def principle(self, case: Case) -> Principle:
        """The principle of a case: the same in both orders, and whatever else is judged."""
        return draw(self.principles, self.manner.seed, "choose", case.key)

    def template(self, case: Case) -> Template:
        """See `Way`."""
        plain = letter_template(self.principle(case).choice, ties=False)
        if not self.thoughts:
            return replace(plain, name="principle")
        return replace(plain, name="principle-thoughts", tasks=(THOUGHT, *plain.tasks), schemas=(None, None))

    def orders(self, case: Case) -> list[tuple[int, ...]]:
        """See `Way`.

        Raises:
            HeedfulError: a case of more than two answers.
        """
        if len(case.completions) != 2:
            raise HeedfulError(
                f"a principle chooses between two answers, and there are {len(case.completions)}.",
                where=str(case.origin),
                mend="Give pairs, or judge rankings by a rubric.",
            )
        return case.orders(both=self.manner.both, seed=self.manner.seed)

    def placed(self, case: Case) -> bool:
        """See `Way`."""
        return True

    def look(self, case: Case, order: tuple[int, ...]) -> Dialogue[Look]:
        """See `Way`."""
        if not self.thoughts:
            plain = LogprobWay(replace(self.manner, rubric=self.principle(case).choice))
            return plain.look(case, order)

        def steps(talk: Talk) -> Dialogue[Said]:
            opening = talk.opening(case, order, THOUGHT)
            thought = yield from talk.hear(opening, None, _thought)
            letter = (*opening, Message("assistant", thought), Message("user", LETTER.format(tie="")))
            found = yield from talk.hear(
                letter, None, lambda reply: letter_logits(reply, 2), logprobs=self.logprobs, tokens=LETTER_TOKENS
            )
            logit = found["A"] - found["B"]
            logit = logit if order == (0, 1) else -logit
            return Said(Pairwise(strength_of(1 / (1 + math.exp(-logit)), ties=False)), logit, thought)

        return look_at(self, case, order, steps)

    def label(self, opinion: Opinion) -> float | None:
        """The soft label: that answer 0 is preferred. None where a look could not be read.

        After thoughts it is clamped to 40 to 60%.
        """
        probability = opinion.probability
        if probability is None or not self.thoughts:
            return probability
        return min(max(probability, CLAMP[0]), CLAMP[1])

    def preference(self, case: Case, opinion: Opinion, model: str) -> Preference | None:
        """An opinion as a record for training; None where there is none.

        Args:
            case, opinion: what was judged, and what was said of it.
            model: the judge, for the record.
        """
        label = self.label(opinion)
        if label is None:
            return None
        made: tuple[tuple[str, str | float], ...] = (
            ("by", "constitution"),
            ("principle", self.principle(case).id),
            ("constitution", self.constitution.version),
            ("model", model),
            ("template", self.template(case).version),
        )
        if opinion.consistency is not None:
            made = (*made, ("consistency", opinion.consistency))
        a, b = case.completions
        return Preference(case.prompt, a, b, probability=label, origin=case.origin, consensus="judge", made=made)


def _thought(reply: Reply) -> str:
    """A judge's reasoning.

    Raises:
        UnreadableError: it was refused, cut short, or is empty.
    """
    text = checked(reply)
    if not text:
        raise UnreadableError("unreadable", "the reply is empty")
    return text


def cases_of(records: Sequence[Preference]) -> list[Case]:
    """Pairs as a judge takes them; whatever was said of them before is not looked at."""
    return [Case(record.prompt, (record.a, record.b), origin=record.origin) for record in records]
