"""Acceptable answers as form fields: what a lead chooses, as patterns of `heedful.feedback.payloads.matches`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models import GoldKey, Item, TaskKind
from heedful.feedback.payloads import STRENGTH
from heedful.studio.lead.words import letter

STRENGTHS = (
    (-3, _("A much better")),
    (-2, _("A better")),
    (-1, _("A slightly better")),
    (0, _("a tie")),
    (1, _("B slightly better")),
    (2, _("B better")),
    (3, _("B much better")),
)
ANY, BAD, GOOD = "any", "both_bad", "both_good"


class GoldForm(forms.Form):
    """A key: which answers are right, and why. Letters are the item's own order, as the item's page shows it."""

    reason = forms.CharField(
        label=_("Why"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Raters read this when the answer is explained to them."),
    )

    def __init__(self, item: Item, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.item = item
        self.count = item.entries.count()
        self.attributes = list(item.batch.guideline.attributes) if item.kind == TaskKind.ATTRIBUTES else []
        made = {
            TaskKind.PAIRWISE: self._pairwise,
            TaskKind.RANKING: self._ranking,
            TaskKind.ATTRIBUTES: self._attributes,
        }.get(TaskKind(item.kind))
        fields = made() if made else {}
        self.key = GoldKey.objects.filter(item=item).first()
        if self.key is not None:
            fields["also"] = forms.BooleanField(
                label=_("Go on accepting what is accepted now"),
                required=False,
                help_text=_("This becomes one more acceptable answer. Unticked: it takes the others' place."),
            )
        for name, field in fields.items():
            self.fields[name] = field
        self.order_fields([*fields, "reason"])

    def _pairwise(self) -> dict[str, forms.Field]:
        choices = [(str(value), words) for value, words in STRENGTHS]
        return {
            "low": forms.ChoiceField(label=_("Right answers go from"), choices=choices),
            "high": forms.ChoiceField(label=_("to"), choices=choices),
            "flag": forms.ChoiceField(
                label=_("A tie must say"),
                choices=((ANY, _("nothing in particular")), (BAD, _("both bad")), (GOOD, _("both good"))),
            ),
        }

    def _ranking(self) -> dict[str, forms.Field]:
        answers = [(str(i), letter(i)) for i in range(self.count)]
        many: dict[str, Any] = {"choices": answers, "required": False, "widget": forms.CheckboxSelectMultiple}
        above = {
            f"above_{i}": forms.MultipleChoiceField(
                label=_("%(letter)s must stand above") % {"letter": letter(i)},
                **{**many, "choices": [choice for choice in answers if choice[0] != str(i)]},
            )
            for i in range(self.count)
        }
        best = forms.MultipleChoiceField(
            label=_("Best is one of"), help_text=_("None ticked: any may be best."), **many
        )
        return {"best": best, **above}

    def _attributes(self) -> dict[str, forms.Field]:
        fields: dict[str, forms.Field] = {}
        for i in range(self.count):
            for n, attribute in enumerate(self.attributes):
                points = int(attribute.get("points", 5))
                label = f"{letter(i)}: {attribute.get('title') or attribute['name']}"
                for end, words in (("low", _("%(what)s, at least")), ("high", _("%(what)s, at most"))):
                    fields[f"{end}_{i}_{n}"] = forms.IntegerField(
                        label=words % {"what": label}, min_value=1, max_value=points
                    )
        return fields

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        for name in list(found):
            if name == "low" or name.startswith("low_"):
                high = found.get("high" + name[3:])
                if high is not None and found[name] is not None and int(high) < int(found[name]):
                    self.add_error("high" + name[3:], _("This lies below where the range begins."))
        return found

    def acceptable(self) -> list[dict[str, Any]]:
        """The patterns that a valid form says."""
        if self.key is not None and self.cleaned_data["also"]:
            return [*(kept for kept in self.key.acceptable if [kept] != self._said()), *self._said()]
        return self._said()

    def _said(self) -> list[dict[str, Any]]:
        given = self.cleaned_data
        if self.item.kind == TaskKind.PAIRWISE:
            flags = {} if given["flag"] == ANY else {given["flag"]: True}
            return [{"strength": [int(given["low"]), int(given["high"])], **flags}]
        if self.item.kind == TaskKind.RANKING:
            best = [int(i) for i in given["best"]]
            above = [[i, int(j)] for i in range(self.count) for j in given[f"above_{i}"]]
            return [({"best": best} if best else {}) | ({"above": above} if above else {})]
        scores: dict[str, dict[str, list[int]]] = {}
        for i in range(self.count):
            for n, attribute in enumerate(self.attributes):
                low, high = given[f"low_{i}_{n}"], given[f"high_{i}_{n}"]
                if (low, high) != (1, int(attribute.get("points", 5))):
                    scores.setdefault(str(i), {})[attribute["name"]] = [low, high]
        return [{"scores": scores}]

    @classmethod
    def start(cls, item: Item, acceptable: Sequence[Mapping[str, Any]], reason: str = "") -> dict[str, Any]:
        """What the form shows for the first of some patterns; none: what any answer matches."""
        pattern = acceptable[0] if acceptable else {}
        shown: dict[str, Any] = {"reason": reason}
        if item.kind == TaskKind.PAIRWISE:
            low, high = pattern.get("strength", (-STRENGTH, STRENGTH))
            flag = next((name for name in (BAD, GOOD) if pattern.get(name)), ANY)
            return shown | {"low": str(low), "high": str(high), "flag": flag}
        if item.kind == TaskKind.RANKING:
            shown["best"] = [str(i) for i in pattern.get("best", ())]
            for i, j in pattern.get("above", ()):
                shown.setdefault(f"above_{i}", []).append(str(j))
            return shown
        scores = pattern.get("scores", {})
        for i in range(item.entries.count()):
            for n, attribute in enumerate(item.batch.guideline.attributes):
                ends = scores.get(str(i), {}).get(attribute["name"], (1, int(attribute.get("points", 5))))
                shown |= {f"low_{i}_{n}": ends[0], f"high_{i}_{n}": ends[1]}
        return shown

    @classmethod
    def of_key(cls, key: GoldKey) -> dict[str, Any]:
        """What the form shows for a key."""
        return cls.start(key.item, key.acceptable, key.reason)
