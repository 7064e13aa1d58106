"""A judgment as a plain form, in the order shown: for adjudicators, and for a rater who corrects theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from heedful.errors import HeedfulError
from heedful.feedback.models import TaskKind
from heedful.feedback.payloads import parse, stored
from heedful.studio.lead.words import letter
from heedful.studio.said import tell

PAIRWISE = (
    ("-3", _("A much better")),
    ("-2", _("A better")),
    ("-1", _("A slightly better")),
    ("0", _("Tie")),
    ("1", _("B slightly better")),
    ("2", _("B better")),
    ("3", _("B much better")),
    ("both_bad", _("Both bad")),
    ("both_good", _("Both good")),
)
FLAGS = ("both_good", "both_bad")


class JudgeForm(forms.Form):
    """What somebody says of an item, in the letters that they see.

    Args:
        kind: pairwise, ranking or attributes.
        count: how many answers are shown.
        attributes: of the guideline, for the attributes task.
    """

    def __init__(
        self, kind: str, count: int, attributes: Sequence[Mapping[str, Any]], *given: Any, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.kind, self.count, self.attributes = kind, count, list(attributes)
        if kind == TaskKind.PAIRWISE:
            self.fields["strength"] = forms.ChoiceField(
                label=_("Which answer is better?"), choices=PAIRWISE, widget=forms.RadioSelect
            )
        elif kind == TaskKind.RANKING:
            places = [(str(place), str(place)) for place in range(1, count + 1)]
            for i in range(count):
                self.fields[f"rank_{i}"] = forms.ChoiceField(
                    label=_("Rank of %(letter)s") % {"letter": letter(i)}, choices=places, widget=forms.RadioSelect
                )
        else:
            for i in range(count):
                for n, attribute in enumerate(self.attributes):
                    points = [(str(p), str(p)) for p in range(1, int(attribute.get("points", 5)) + 1)]
                    title = attribute.get("title") or attribute["name"]
                    ends = _("1: %(low)s, %(points)d: %(high)s")
                    self.fields[f"score_{i}_{n}"] = forms.ChoiceField(
                        label=f"{letter(i)}: {title}",
                        choices=points,
                        widget=forms.RadioSelect,
                        help_text=ends % {"low": attribute.get("low", ""), "high": attribute.get("high", ""),
                                          "points": len(points)},
                    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if not self.errors:
            try:
                parse(self.kind, self._payload(found), completions=self.count, attributes=self.attributes)
            except HeedfulError as error:
                self.add_error(None, tell(error))
        return found

    def payload(self) -> dict[str, Any]:
        """The payload of a valid form, in the order shown."""
        said = self._payload(self.cleaned_data)
        return stored(parse(self.kind, said, completions=self.count, attributes=self.attributes))

    def _payload(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if self.kind == TaskKind.PAIRWISE:
            said = given["strength"]
            return {"strength": 0, said: True} if said in FLAGS else {"strength": int(said)}
        if self.kind == TaskKind.RANKING:
            return {"ranks": _settled([int(given[f"rank_{i}"]) for i in range(self.count)])}
        names = [str(attribute["name"]) for attribute in self.attributes]
        return {
            "scores": [{name: int(given[f"score_{i}_{n}"]) for n, name in enumerate(names)} for i in range(self.count)]
        }

    @classmethod
    def start(cls, kind: str, shown: Mapping[str, Any], attributes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """What the form shows for a payload in the order shown."""
        if kind == TaskKind.PAIRWISE:
            flag = next((name for name in FLAGS if shown.get(name)), None)
            return {"strength": flag or str(shown["strength"])}
        if kind == TaskKind.RANKING:
            return {f"rank_{i}": str(rank) for i, rank in enumerate(shown["ranks"])}
        return {
            f"score_{i}_{n}": str(row.get(attribute["name"], ""))
            for i, row in enumerate(shown["scores"])
            for n, attribute in enumerate(attributes)
        }


def _settled(ranks: Sequence[int]) -> list[int]:
    """Ranks as in 1, 2, 2, 4, whatever gaps the person left: only which is above which is meant."""
    return [1 + sum(other < rank for other in ranks) for rank in ranks]


class ReasonForm(forms.Form):
    """Why, and whether the item is unsafe."""

    rationale = forms.CharField(
        label=_("Why"), required=False, max_length=5000, widget=forms.Textarea(attrs={"rows": 3})
    )
    safety_flag = forms.BooleanField(label=_("The item is unsafe"), required=False)


class DecisionForm(forms.Form):
    """Why the verdict stands."""

    reason = forms.CharField(
        label=_("Why this verdict stands"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Kept with the verdict. If the item becomes gold, raters may read it."),
    )
