"""What the pages of training runs call things."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from heedful.studio.runs import curves
from heedful.studio.runs.disk import Happened

FIGURES: tuple[tuple[str, Any, Any], ...] = (
    ("reward", gettext_lazy("Reward"), gettext_lazy("what the reward model says; people may not agree")),
    ("kl", gettext_lazy("KL"), gettext_lazy("how far it is from where it began, in nats an answer")),
    ("entropy", gettext_lazy("Entropy"), gettext_lazy("falls when it comes to say one thing only")),
    ("length", gettext_lazy("Length"), gettext_lazy("tokens of an answer")),
    ("kl_coefficient", gettext_lazy("KL coefficient β"), gettext_lazy("the leash; a watch that acts raises it")),
    (
        "reward_length_correlation",
        gettext_lazy("Reward and length"),
        gettext_lazy("correlation; near 1 the reward pays for length"),
    ),
    ("finished", gettext_lazy("Finished answers"), gettext_lazy("share that ended by themselves")),
    ("distinct_2", gettext_lazy("Variety"), gettext_lazy("share of word pairs that are said once")),
    ("repetition", gettext_lazy("Repetition"), gettext_lazy("share of an answer that was said in it before")),
    ("disagreement", gettext_lazy("Disagreement"), gettext_lazy("between the reward models")),
    ("latent_outliers", gettext_lazy("Outliers"), gettext_lazy("share that look new to the reward model")),
    ("explained_variance", gettext_lazy("Critic"), gettext_lazy("share of the returns that it explains")),
    ("clip_fraction", gettext_lazy("Clipped"), gettext_lazy("share of tokens whose step was cut")),
    ("loss", gettext_lazy("Loss"), gettext_lazy("on what it learns from")),
    ("held_out_loss", gettext_lazy("Held-out loss"), gettext_lazy("on what it does not")),
    ("accuracy", gettext_lazy("Accuracy"), gettext_lazy("share of pairs put in the right order")),
)
"""Figures that are drawn, in order, where a run has them: name in metrics.jsonl, title, what it is."""


def state_words() -> dict[str, tuple[str, str]]:
    """Where a run stands: in words, and the badge's colour."""
    return {
        "running": (_("running"), "good"),
        "asking": (_("waits for people"), "gold"),
        "silent": (_("silent"), ""),
        "finished": (_("finished"), "good"),
        "stopped": (_("stopped"), "gold"),
        "rolled_back": (_("stopped and rolled back"), "bad"),
    }


def tier_words() -> dict[str, tuple[str, str]]:
    """Tiers of alarms: in words, and the badge's colour."""
    return {"warn": (_("warning"), "gold"), "act": (_("acts"), "bad"), "stop": (_("stops"), "bad")}


def verdict_words() -> dict[str, tuple[str, str]]:
    """Verdicts of a check: in words, and the badge's colour."""
    return {
        "better": (_("better"), "good"),
        "worse": (_("worse"), "bad"),
        "alike": (_("alike"), ""),
        "undecided": (_("not clear"), ""),
    }


def policy_of(step: Any) -> str:
    """Which policy a step's weights are."""
    return _("the starting policy") if step == 0 else _("the weights of step %(step)s") % {"step": step}


def happened(event: Happened) -> str:
    """An event that stepped in, in words; one of another version by its name."""
    fields = event.fields
    value, steps = fields.get("value"), fields.get("steps")
    if event.kind == "SetKLCoefficient" and isinstance(value, int | float):
        return _("β is now %(value)s") % {"value": curves.words(float(value))}
    if event.kind == "FreezePolicy":
        return _("the policy rests; steps: %(steps)s") % {"steps": steps}
    if event.kind == "Keep":
        return _("these weights are kept as the best so far")
    if event.kind == "SetAside":
        return _("these weights are set aside while people judge them")
    if event.kind == "Settle":
        return _("the best so far: %(policy)s") % {"policy": policy_of(fields.get("best_step"))}
    if event.kind == "RollBack":
        return _("stopped, and back to %(policy)s") % {"policy": policy_of(fields.get("to_step"))}
    if event.kind == "LimitMicroBatch":
        return _("memory ran out; tokens at a time from now on: %(tokens)s") % {"tokens": fields.get("tokens")}
    return _("stopped") if event.kind == "Stop" else event.kind
