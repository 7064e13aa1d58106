"""What figures of agreement ask to be done, each in a sentence. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heedful.core.ceilings import Ceiling
from heedful.core.groups import Difference, LabelShares, Omnibus
from heedful.core.planning import judgments_for_agreement
from heedful.core.rater_cards import RaterCard
from heedful.core.statistics import Interval
from heedful.errors import Sentence

LOW, HIGH = 0.60, 0.90
"""Raw agreement on comparisons below which the rubric is at fault more often than taste, and above which
items are easy, or raters copy."""
CHANCE = 0.1
"""Krippendorff's alpha whose whole interval lies below it: what raters say of an item tells next to nothing of it."""
UNSURE = 0.05
"""Half a width of an interval from which more items are asked for."""
ENOUGH = 60
"""Answers on which all agree, from which disagreement on more than one in twenty can be ruled out (0.95^60 < 0.05)."""
DIFFERENT = 0.05
"""Adjusted p-value of a difference between groups."""


def on_agreement(raw: Interval, items: int, *, per_item: int = 2, alpha: Interval | None = None) -> str:
    """What to do about the agreement on comparisons.

    Args:
        raw: raw agreement, with its interval.
        items: judged by two raters or more.
        per_item: judgments of such an item, about.
        alpha: Krippendorff's, where it was reckoned.
    """
    if raw.high < LOW:
        return Sentence(
            "Raters agree little: hold a calibration session and sharpen the rubric before you collect more."
        )
    if not (raw.high - raw.low) / 2 <= UNSURE:
        wanted = judgments_for_agreement(UNSURE, agreement=raw.mean, per_item=max(2, per_item)).items
        more = max(wanted - items, 1)
        return Sentence(
            "Too few items to know it to within {points:.0f} points: have about {more:,} more judged by {raters}.",
            points=100 * UNSURE,
            more=more,
            raters=max(2, per_item),
        )
    if alpha is not None and alpha.high < CHANCE:
        return Sentence(
            "Hardly more than chance, since one side wins nearly always or the question is unclear (α {alpha:.2f}): "
            "read the items on which raters differ before you collect more.",
            alpha=alpha.mean,
        )
    if raw.low > HIGH:
        return Sentence("Raters hardly ever differ: check that items are not too easy, and that nobody copies.")
    return Sentence(
        "Within what others report: go on, correct what is wrong, and leave honest disagreement in the data."
    )


def on_batches(lowest: Interval, name: str, share: float) -> str:
    """What to do about the batch on which raters agree least.

    Args:
        lowest: its raw agreement.
        name: the batch's.
        share: raw agreement over all batches.
    """
    if not lowest.high < share:
        return Sentence("No batch stands out beyond chance: nothing to do.")
    return Sentence(
        "Read {name!r} first, where raters agree least ({low:.0%}): is its question clear?", name=name, low=lowest.mean
    )


def on_attribute(alpha: Interval, answers: int) -> str:
    """What to do about the agreement on an attribute's points.

    Args:
        alpha: Krippendorff's, with its interval; its bounds nan where nothing tells them.
        answers: judged by two raters or more.
    """
    if math.isnan(alpha.mean):
        return Sentence("Everybody gave the same points: the attribute tells no answers apart, so drop it or split it.")
    if math.isnan(alpha.low) and not (alpha.mean == 1 and answers >= ENOUGH):
        return Sentence("Too few answers were judged twice to say: have more judged by two raters.")
    if alpha.high < 0.4:
        return Sentence("Hardly better than chance: write down with examples what each point means, then calibrate.")
    if alpha.low >= 0.667 or math.isnan(alpha.low):
        return Sentence("Good enough to train on.")
    return Sentence("Usable as an average of several raters, not of one: keep two or more judgments of each item.")


def on_ceiling(ceiling: Ceiling) -> str:
    """What the ceiling means for a reward model's accuracy on single labels."""
    return Sentence(
        "No reward model can agree with single labels more often than {low:.0%} to {high:.0%}: at {low:.0%} or more, "
        "raise the agreement before you add labels; clearly over {high:.0%}, look for a leak.",
        low=ceiling.low,
        high=ceiling.high,
    )


def on_time(parts: Sequence[Interval]) -> str:
    """What to do about agreement over time, by its first and last part."""
    if len(parts) < 2:
        return Sentence("One period says nothing of a trend: look again later.")
    first, last = parts[0], parts[-1]
    if last.high < first.low:
        return Sentence("Agreement fell: recalibrate, and see whether raters, items or the rubric changed.")
    if last.low > first.high:
        return Sentence("Agreement rose: raters learn, so re-judge a sample of the early items.")
    return Sentence("No change beyond chance: nothing to do.")


def on_judges(people: Interval | None, across: Interval | None) -> str:
    """What to do about AI judges, beside people among themselves."""
    if across is None:
        return Sentence(
            "No item was judged by people and by a machine: have people judge a sample of the machine's items."
        )
    if people is None:
        return Sentence("People never judged one item twice: until they do, nobody knows how good a machine could be.")
    if across.high < people.low:
        return Sentence("The machine agrees with people less than they do with each other: do not train on it alone.")
    return Sentence("The machine agrees with people about as well as they do: keep checking a sample of its items.")


def on_cards(cards: Sequence[RaterCard]) -> str:
    """What to do about the raters."""
    act, look = (sum(card.weight == weight for card in cards) for weight in ("act", "look"))
    if act:
        return Sentence(
            "Talk to {count} of {all} raters now; nothing of theirs was taken out of the data.",
            count=act,
            all=len(cards),
        )
    if look:
        return Sentence("Look at {count} of {all} raters when you next read judgments.", count=look, all=len(cards))
    if cards and all(card.weight == "few" for card in cards):
        return Sentence("Nobody has enough shared items or gold to be compared: raise the quota, or add gold.")
    return Sentence("Nobody stands out: carry on.")


def on_groups(shares: LabelShares, omnibus: Omnibus | None, found: Sequence[Difference]) -> str:
    """What to do about groups of raters."""
    different = [one for one in found if one.adjusted_p <= DIFFERENT]
    apart = omnibus is not None and omnibus.p <= DIFFERENT
    if shares.dominant is not None and (different or apart):
        return Sentence(
            "Groups differ, and {group!r} gave {share:.0%} of labels: re-weight to your population, or invite others.",
            group=str(shares.dominant),
            share=shares.shares[shares.dominant],
        )
    if shares.dominant is not None:
        return Sentence(
            "{group!r} gave {share:.0%} of the labels: invite others, for differences of small groups stay unseen.",
            group=str(shares.dominant),
            share=shares.shares[shares.dominant],
        )
    if different or apart:
        return Sentence(
            "Groups differ: say in the data card whom the labels speak for, and re-weight to your population."
        )
    return Sentence("No difference beyond chance: no re-weighting is called for by these data.")
