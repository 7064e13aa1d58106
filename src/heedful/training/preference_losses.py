"""Which preference losses there are and what each needs, read from the signature of its function.

A loss is a pure function of `heedful.core.pair_losses`, `heedful.core.answer_losses` or your own module:

- its parameters before the `*` are `(a, b)`, two answers with `a` preferred, or `(answer, good)`, one with its label;
- annotated `Anchored` they need the reference's log-probabilities, annotated `Answers` they need no reference;
- `margin`, `probability`, `kl` and `shift` behind the `*` are given to it; every other one is a setting with a default;
- `heedful.core.pair_losses.whole_batch` marks a loss that is never cut into micro-batches.

Here alone a loss is known by its name. What one trainer minimises is a `Mixture` of them.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from heedful.core import answer_losses, pair_losses
from heedful.core.answers import Anchored, Answers, expected
from heedful.errors import HeedfulError, nearest
from heedful.models.callables import import_function, names_function

GIVEN = frozenset({"margin", "probability", "kl", "shift"})
"""What a trainer gives to a loss that asks for it; none of them is a setting."""

_TERM = re.compile(r"(?:(?P<weight>\d[\d.]*(?:[eE][-+]?\d+)?)\s*\*\s*)?(?P<name>[A-Za-z_][\w.:-]*)")


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss with what its signature says.

    Args:
        name: as a setting names it.
        function: the pure function.
        paired: it takes two answers; otherwise one with its label.
        anchored: it needs the reference.
        whole_batch: its value for one pair depends on the others of the batch.
        asks: which of `GIVEN` it takes.
        settings: its settings, with the values that it is called with.
    """

    name: str
    function: Callable[..., Tensor]
    paired: bool
    anchored: bool
    whole_batch: bool
    asks: frozenset[str]
    settings: Mapping[str, Any]

    def __call__(self, *answers: Any, **given: Tensor | None) -> Tensor:
        """[N] losses; of what is given, the function gets what it asks for."""
        asked = {key: value for key, value in given.items() if key in self.asks and value is not None}
        return self.function(*answers, **asked, **self.settings)


def read_loss(name: str, function: Callable[..., Any]) -> PreferenceLoss:
    """A loss from the signature of its function.

    Raises:
        HeedfulError: the signature is not one of a preference loss.
    """
    mend = "Write (a: Anchored, b: Anchored, *, ...) or (answer: Anchored, good: bool, *, ...): docs/training.md."
    try:
        parameters = inspect.signature(function).parameters.values()
        hints = typing.get_type_hints(function)
    except (TypeError, ValueError, NameError) as error:
        raise HeedfulError(f"cannot read the signature of the loss: {error}.", where=name, mend=mend) from error
    leading = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    kinds = {hints.get(parameter) for parameter in leading if parameter != "good"}
    if leading not in (["a", "b"], ["answer", "good"]) or kinds - {Anchored, Answers} or len(kinds) != 1:
        what = "its answers are not (a, b) or (answer, good) of one of the two types."
        raise HeedfulError(what, where=name, mend=mend)
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    paired = leading == ["a", "b"]
    asks = GIVEN & keywords.keys()
    settings = {key: default for key, default in keywords.items() if key not in GIVEN}
    empty = [key for key, default in settings.items() if default is inspect.Parameter.empty]
    if empty:
        raise HeedfulError(f"the setting {empty[0]!r} has no default.", where=name, mend=f"Give it one. {mend}")
    whole = bool(getattr(function, "whole_batch", False))
    if whole and (not paired or "probability" in asks):
        what = "takes two answers" if not paired else "gets pairs that are put in order, and no probability"
        raise HeedfulError(f"a loss of the whole batch {what}.", where=name, mend=mend)
    wrong = asks & ({"kl", "shift"} if paired else {"margin", "probability"})
    if wrong:
        whose = "two answers" if paired else "one answer"
        raise HeedfulError(f"a loss on {whose} cannot ask for {min(wrong)!r}.", where=name, mend=mend)
    if "margin" in asks and keywords["margin"] is inspect.Parameter.empty:
        raise HeedfulError("the margin is not always there.", where=name, mend="Write margin: Tensor | None = None.")
    if asks & {"kl", "shift"} and kinds != {Anchored}:
        raise HeedfulError(
            f"{min(asks)!r} is measured against a reference.", where=name, mend="Annotate with Anchored."
        )
    return PreferenceLoss(name, function, paired, kinds == {Anchored}, whole, asks, settings)


def _built_in() -> dict[str, PreferenceLoss]:
    found = {}
    for module in (pair_losses, answer_losses):
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and not name.startswith("_") and function is not pair_losses.whole_batch:
                name = name.replace("_", "-")
                found[name] = read_loss(name, function)
    return found


LOSSES: Mapping[str, PreferenceLoss] = _built_in()
"""The losses that heedful has, by name."""


def find_loss(name: str) -> PreferenceLoss:
    """A built-in loss by its name (hyphens or underscores), or a `module:function` of the user's.

    Raises:
        HeedfulError: there is none, or its signature is not one of a preference loss.
    """
    if names_function(name):
        return read_loss(name, import_function(name))
    known = name.replace("_", "-")
    if known not in LOSSES:
        hint = nearest(known, list(LOSSES)) or f"There are {', '.join(LOSSES)}, and module:function of your own."
        raise HeedfulError(f"there is no loss {name!r}.", where="loss", mend=hint)
    return LOSSES[known]


@dataclass(frozen=True)
class Judged:
    """N records as a loss sees them: S = 2 answers each (pairs), or S = 1 with a label."""

    logprob: Tensor  # [S, N] log pi(y | x), with gradient
    length: Tensor  # [S, N] tokens of each answer
    reference: Tensor | None  # [S, N] log ref(y | x); None where no loss needs it
    probability: Tensor  # [N] that the first answer is the better one, or that the answer is good
    margin: Tensor | None = None  # [N]; None: not asked of the loss

    def answers(self, side: int, anchored: bool, rows: Tensor | None = None) -> Answers:
        """The answers of one side, or some `rows` of them, as a loss takes them."""
        parts = [self.logprob[side], self.length[side]]
        if anchored:
            assert self.reference is not None
            parts.append(self.reference[side])
        if rows is not None:
            parts = [part.index_select(0, rows) for part in parts]
        return Anchored(*parts) if anchored else Answers(*parts)


@dataclass(frozen=True)
class Measured:
    """What a trainer measures before the loss of a step, without gradient."""

    kl: Tensor | None = None  # scalar: mean log pi/ref of answers behind prompts that are not theirs
    ratio: Tensor | None = None  # scalar: mean log pi/ref of the answers of all batches before this one


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of losses: what one trainer minimises."""

    terms: tuple[tuple[float, PreferenceLoss], ...]

    @property
    def paired(self) -> bool:
        """Whether a term needs two answers to a prompt."""
        return any(loss.paired for _, loss in self.terms)

    @property
    def anchored(self) -> bool:
        """Whether a term needs the reference."""
        return any(loss.anchored for _, loss in self.terms)

    @property
    def whole_batch(self) -> bool:
        """Whether a term must see the whole batch at once."""
        return any(loss.whole_batch for _, loss in self.terms)

    def asks(self, what: str) -> bool:
        """Whether a term asks for one of `GIVEN`."""
        return any(what in loss.asks for _, loss in self.terms)

    @property
    def beta(self) -> float:
        """By what implicit rewards are multiplied: beta of the first term that has one, else 1."""
        return next((float(loss.settings["beta"]) for _, loss in self.terms if "beta" in loss.settings), 1.0)

    def describe(self) -> list[dict[str, Any]]:
        """For a manifest: each term with its weight and its settings."""
        return [{"loss": loss.name, "weight": weight, **loss.settings} for weight, loss in self.terms]

    def __call__(self, judged: Judged, measured: Measured) -> Tensor:
        """[N] losses; average them with the weights of the records.

        A loss on single answers counts both of a pair: their sum beside a loss on pairs, their mean where there is
        none, so that a step's loss is the mean over its answers. A whole-batch loss gives every record its mean.
        """
        parts = []
        for weight, loss in self.terms:
            if not loss.paired:
                part = self._of_answers(loss, judged, measured)
            elif loss.whole_batch:
                part = _oriented(loss, judged).mean().expand_as(judged.probability)
            else:
                part = _of_pairs(loss, judged)
            parts.append(part if weight == 1.0 else weight * part)
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _of_answers(self, loss: PreferenceLoss, judged: Judged, measured: Measured) -> Tensor:
        shift = None if measured.ratio is None else float(loss.settings.get("beta", 1.0)) * measured.ratio
        sides = []
        for side in range(len(judged.logprob)):
            answer = judged.answers(side, loss.anchored)
            good, bad = (loss(answer, label, kl=measured.kl, shift=shift) for label in (True, False))
            sides.append(expected(good, bad, judged.probability if side == 0 else 1 - judged.probability))
        total = torch.stack(sides).sum(0)
        return total if self.paired else total / len(sides)


def _of_pairs(loss: PreferenceLoss, judged: Judged) -> Tensor:
    """[N] the expectation over both ways round. A hard label is one way round only: the other may be infinite."""
    p = judged.probability
    if judged.margin is not None:  # hard labels with the preferred answer first: `heedful.training.pairs`
        return loss(judged.answers(0, loss.anchored), judged.answers(1, loss.anchored), margin=judged.margin)
    if "probability" in loss.asks:
        return loss(judged.answers(0, loss.anchored), judged.answers(1, loss.anchored), probability=p)
    losses = torch.zeros_like(judged.logprob[0])
    for rows, first in (((p == 1).nonzero()[:, 0], 0), ((p == 0).nonzero()[:, 0], 1)):
        if len(rows):
            winner, loser = (judged.answers(side, loss.anchored, rows) for side in (first, 1 - first))
            losses = losses.index_copy(0, rows, loss(winner, loser))
    rows = ((p != 0) & (p != 1)).nonzero()[:, 0]
    if len(rows):
        a, b = (judged.answers(side, loss.anchored, rows) for side in (0, 1))
        losses = losses.index_copy(0, rows, expected(loss(a, b), loss(b, a), p[rows]))
    return losses


def _oriented(loss: PreferenceLoss, judged: Judged) -> Tensor:
    """[2 N] a whole-batch loss, the winner first: every pair twice, so that a tie enters once either way round."""
    p = judged.probability
    first = torch.cat([(p < 0.5).long(), (p <= 0.5).long()])
    columns = torch.arange(len(p), device=p.device).repeat(2)

    def pick(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.stack([values[first, columns], values[1 - first, columns]])

    logprob, length = pick(judged.logprob), pick(judged.length)
    assert logprob is not None
    assert length is not None
    margin = None if judged.margin is None else judged.margin.repeat(2)
    twice = Judged(logprob, length, pick(judged.reference), p.repeat(2), margin)
    return loss(twice.answers(0, loss.anchored), twice.answers(1, loss.anchored), margin=margin)


def read_mixture(text: str, settings: Mapping[str, float | None] | None = None) -> Mixture:
    """The mixture that a setting names: "ipo", "my_module:my_loss", "sigmoid + 0.2*sft".

    Args:
        settings: values by name; every loss that has a setting of that name gets it. None keeps a loss's default.

    Raises:
        HeedfulError: it cannot be read, names no loss, or a setting is given that no loss of it reads or that it
            refuses.
    """
    terms = []
    for part in re.split(r"(?<![eE])\+", text):
        found = _TERM.fullmatch(part.strip())
        weight = float(found["weight"] or 1.0) if found and (found["weight"] or "1").count(".") <= 1 else 0.0
        if found is None or not 0 < weight < math.inf:
            raise HeedfulError(
                f"cannot read {part.strip() or text!r} as a loss.",
                where="loss",
                mend="Write a name, or a mixture such as 'sigmoid + 0.2*sft' with weights above 0.",
            )
        terms.append((weight, find_loss(found["name"])))
    given = {key: value for key, value in (settings or {}).items() if value is not None}
    for key, value in given.items():
        if not math.isfinite(value):
            raise HeedfulError(f"{key} is {value}.", where=key, mend="Give a finite number.")
        if not any(key in loss.settings for _, loss in terms):
            readers = ", ".join(name for name, loss in LOSSES.items() if key in loss.settings)
            raise HeedfulError(
                f"no loss of {text!r} reads {key}.", where=key, mend=f"Leave it out. These read it: {readers}."
            )
    mixture = Mixture(tuple((weight, _set(loss, given)) for weight, loss in terms))
    for _, loss in mixture.terms:
        _try(loss)
    return mixture


def _set(loss: PreferenceLoss, given: Mapping[str, float]) -> PreferenceLoss:
    own = {key: given.get(key, default) for key, default in loss.settings.items()}
    return replace(loss, settings=own)


def _try(loss: PreferenceLoss) -> None:
    """Call a loss once on two pairs, so that what it refuses shows before anything is loaded."""
    logprob = torch.tensor([[-4.0, -5.0], [-6.0, -3.0]], requires_grad=True)
    length = torch.tensor([[3, 4], [5, 2]])
    probability = torch.tensor([1.0, 1.0])
    judged = Judged(logprob, length, torch.full((2, 2), -5.0), probability, torch.zeros(2))
    try:
        if loss.paired:
            losses = loss(judged.answers(0, loss.anchored), judged.answers(1, loss.anchored), probability=probability)
        else:
            zero = torch.zeros(())
            losses = loss(judged.answers(0, loss.anchored), True, kl=zero, shift=zero)
    except ValueError as error:
        raise HeedfulError(f"{error}.", where=loss.name, mend="Correct the setting.") from error
    except TypeError as error:
        mend = "It is called as its signature says, with what it asks for: docs/training.md."
        raise HeedfulError(f"failed on two records: {error}.", where=loss.name, mend=mend) from error
    if not isinstance(losses, Tensor) or losses.shape != (2,):
        shape = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise HeedfulError(f"gave {shape} for two records.", where=loss.name, mend="Return a tensor of [N] losses.")
