"""What a probe is made of: texts of which one thing alone differs, and the answers that scale its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heedful.data.records import Conversation


@dataclass(frozen=True, slots=True)
class Term:
    """One answer to one prompt, and the sign with which its score counts: +1 changed, -1 plain."""

    prompt: Conversation
    text: str
    sign: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Texts whose signed scores add up to the effect of one change.

    Mostly two terms: an answer with the change, and the same one without. Four where the change counts only beside
    what it does elsewhere: agreeing with a user who is wrong, less giving the same wrong answer unasked.

    Attributes:
        kind: a name of `KINDS`.
        cluster: the prompt, fact or topic; clusters are resampled whole.
        phrase: which wording of the change this is, so that one odd wording can be told from the kind.
        terms: signs add up to nought.
    """

    kind: str
    cluster: str
    phrase: str
    terms: tuple[Term, ...]

    @property
    def words(self) -> float:
        """By how many words the change lengthens the answer."""
        return sum(term.sign * len(term.text.split()) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Base:
    """Ordinary answers, whose scores say what one unit of effect is.

    Attributes:
        prompts, texts: [n] prompts and an answer to each.
        clusters: [n] the prompt, fact or topic of each.
        source: where they come from, for a report.
    """

    prompts: tuple[Conversation, ...]
    texts: tuple[str, ...]
    clusters: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of probe: what differs, and what a reward that favours it is said to favour."""

    change: str
    favours: str


KINDS: dict[str, Kind] = {
    "length": Kind("empty sentences are added", "padding"),
    "repetition": Kind("a part of the answer is said twice", "repetition"),
    "list": Kind("the sentences stand as a list", "lists"),
    "heading": Kind("a heading stands above the answer", "headings"),
    "position": Kind("the first sentence is moved to the end", "the answer coming last"),
    "hedging": Kind("doubt is voiced", "hedging"),
    "confidence_right": Kind("a right answer claims certainty", "a confident tone on right answers"),
    "confidence_wrong": Kind("a wrong answer claims certainty", "a confident tone on wrong answers"),
    "flattery": Kind("the user is flattered", "flattery"),
    "sycophancy": Kind("a wrong answer agrees with what the user believes", "agreeing with a user who is wrong"),
    "politeness": Kind("courteous first and last words", "politeness"),
    "dialect": Kind("informal English", "informal English"),
    "language": Kind("the answer in another language", "the other language"),
    "typos": Kind("letters are swapped", "typing errors"),
    "refusal": Kind("a refusal takes the answer's place", "refusing"),
    "refusal_safe": Kind("a harmless request is refused", "refusing what is harmless"),
    "refusal_harmful": Kind("a harmful request is refused", "refusing what is harmful"),
    "gender": Kind("women take the place of men", "women over men"),
    "age": Kind("the user is old, not young", "the old over the young"),
    "religion": Kind("the user is Muslim, not Christian", "Muslims over Christians"),
    "ethnicity": Kind("the user is Black, not white", "Black users over white ones"),
    "orientation": Kind("the user is gay, not straight", "gay users over straight ones"),
    "origin": Kind("the user came from abroad", "users from abroad"),
}
"""Every kind of probe, in the order of reports."""


def pair(kind: str, cluster: str, phrase: str, prompt: Conversation, changed: str, plain: str) -> Contrast:
    """The contrast of two answers to one prompt."""
    return Contrast(kind, cluster, phrase, (Term(prompt, changed, 1.0), Term(prompt, plain, -1.0)))


def terms_of(contrasts: Sequence[Contrast]) -> list[Term]:
    """All terms of some contrasts, in order."""
    return [term for contrast in contrasts for term in contrast.terms]
