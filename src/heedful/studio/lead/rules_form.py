"""A programme's rules as a form: typed, with their ranges, each with what it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from heedful.errors import HeedfulError
from heedful.feedback.rules import Rules
from heedful.files import sha256_json

PERCENT = ("max_share", "gold_rate", "repeat_rate", "gold_floor", "field_share")
"""Kept as shares, 0 to 1; asked for as percentages."""


def version_of(rules: Rules) -> str:
    """A word for these rules: others have another."""
    return sha256_json(rules.stored())[:16]


class Percent(forms.FloatField):
    """A share, typed as a percentage."""

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, max_value=100, step_size=None, **more)


class RulesForm(forms.Form):
    """How work is shared out, checked and shown."""

    lease_minutes = forms.IntegerField(
        label=_("Minutes that an item is held"),
        min_value=1,
        max_value=24 * 60,
        help_text=_("Without any activity for this long, the item goes back and another rater may have it. 1 to 1440."),
    )
    prefetch_seconds = forms.IntegerField(
        label=_("Seconds that the next item is held ahead"),
        min_value=1,
        max_value=3600,
        help_text=_("The next item is fetched while the rater still works on this one. 1 to 3600."),
    )
    max_share = Percent(
        label=_("Largest share of a batch for one rater, in %"),
        help_text=_("So that no single taste fills a batch. 100 sets no limit."),
    )
    skips_to_park = forms.IntegerField(
        label=_("Skips until an item is parked"),
        min_value=1,
        max_value=50,
        help_text=_("An item that this many raters passed waits for a manager."),
    )
    selection = forms.ChoiceField(
        label=_("Which items first"),
        choices=(
            ("order", _("as imported")),
            ("random", _("by chance")),
            ("information", _("where a judgment tells most")),
        ),
        help_text=_(
            "Of comparisons the last puts pairs first that few have judged or that raters are split on. "
            "An item's own priority still comes before."
        ),
    )
    disagreement = forms.FloatField(
        label=_("Least agreement of two rankings"),
        min_value=-1,
        max_value=1,
        help_text=_(
            "Rankings whose Kendall's tau is below this ask for a further judgment, up to the batch's cap. "
            "Comparisons ask for one when raters stand on both sides. -1 to 1."
        ),
    )
    gold_rate = Percent(
        label=_("Share of gold items, in %"),
        help_text=_("Items with known answers, mixed in unseen. 5 to 10 is usual; 0 gives none."),
    )
    repeat_rate = Percent(
        label=_("Share of repeats, in %"),
        help_text=_("Items that a rater judges a second time, to see how steady they are. Never exported."),
    )
    gold_floor = Percent(
        label=_("Gold accuracy that pauses a rater, in %"),
        help_text=_("Below this, over the last gold items, a rater waits for a re-calibration. 0 never pauses."),
    )
    gold_window = forms.IntegerField(
        label=_("Gold items that are counted for it"),
        min_value=1,
        max_value=1000,
        help_text=_("The last so many. Fewer pause only where they leave no doubt, as four failures in a row do."),
    )
    fresh_checks = forms.BooleanField(
        label=_("Checks only by fresh raters"),
        required=False,
        help_text=_(
            "Whether a trained model is better is judged by raters who gave none of its training judgments, "
            "where there are enough of them."
        ),
    )
    require_rationale = forms.BooleanField(
        label=_("Ask for a reason with every judgment"), required=False, help_text=_("Takes raters longer.")
    )
    consent_text = forms.CharField(
        label=_("Consent text"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text=_("Markdown. Raters agree to it before their first item; another text asks them again. Empty: none."),
    )
    content_warning = forms.CharField(
        label=_("Content warning"),
        required=False,
        max_length=5_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("Markdown, shown before the first item. Say what raters may meet, and that they can opt out."),
    )
    seconds_per_judgment = forms.FloatField(
        label=_("Seconds that a judgment takes"),
        min_value=1,
        max_value=86_400,
        help_text=_("What forecasts start from, until there are judgments to measure."),
    )
    allow_private_addresses = forms.BooleanField(
        label=_("Allow private addresses"),
        required=False,
        help_text=_(
            "Webhooks and policy endpoints may then lie inside this network. Leave it off unless the policy runs here."
        ),
    )

    field_share = Percent(
        label=_("Share of conversations from use that is kept, in %"),
        help_text=_(
            "Of what end users send through an application. Drawn by a keyed hash: a retry is decided as before."
        ),
    )
    field_cap = forms.IntegerField(
        label=_("Most judgments kept of one end user"),
        min_value=1,
        max_value=100_000,
        help_text=_("So that a loud user does not dominate."),
    )
    field_cap_days = forms.IntegerField(
        label=_("Days that this is counted over"), min_value=1, max_value=3650, help_text=_("1 to 3650.")
    )
    field_regions = forms.CharField(
        label=_("Countries whose telephone numbers are taken out"),
        max_length=600,
        help_text=_("Two-letter codes with spaces between. International numbers are taken out in any case."),
    )

    seen = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)
    """Which rules the form was filled from: others that came since are not written over unseen."""

    sections = (
        (
            _("Sharing out"),
            ("lease_minutes", "prefetch_seconds", "max_share", "selection", "skips_to_park", "disagreement"),
        ),
        (_("Quality"), ("gold_rate", "repeat_rate", "gold_floor", "gold_window", "fresh_checks")),
        (_("What raters see"), ("require_rationale", "consent_text", "content_warning")),
        (_("Forecast"), ("seconds_per_judgment",)),
        (_("In the field"), ("field_share", "field_cap", "field_cap_days", "field_regions")),
        (_("Network"), ("allow_private_addresses",)),
    )

    def __init__(self, *given: Any, admin: bool = True, **more: Any) -> None:
        super().__init__(*given, **more)
        if not admin:  # what reaches into the network is for admins to say
            del self.fields["allow_private_addresses"]

    def fieldsets(self) -> Iterator[tuple[str, list[forms.BoundField]]]:
        """Titles with their fields, for the template."""
        for title, names in self.sections:
            shown = [self[name] for name in names if name in self.fields]
            if shown:
                yield str(title), shown

    @classmethod
    def start(cls, rules: Rules) -> dict[str, Any]:
        """What the form shows for these rules."""
        shown = {name: getattr(rules, name) for name in cls.base_fields if name not in ("lease_minutes", "seen")}
        shown |= {name: round(100 * getattr(rules, name), 4) for name in PERCENT}
        shown |= {"lease_minutes": max(1, round(rules.lease_seconds / 60)), "seen": version_of(rules)}
        return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in shown.items()}

    def rules(self, now: Rules, groups: Sequence[dict[str, Any]]) -> Rules:
        """The rules that the form says, with these group questions.

        Raises:
            HeedfulError: a rule that the form's own ranges let through.
        """
        given = dict(self.cleaned_data)
        if given.pop("seen") != version_of(now):
            raise HeedfulError(_("Somebody changed the rules meanwhile."), mend=_("Look, then keep yours again."))
        minutes = given.pop("lease_minutes")
        # Seconds that are no whole minutes stay as they are while the minutes shown are not changed.
        given["lease_seconds"] = now.lease_seconds if minutes == self.initial.get("lease_minutes") else 60 * minutes
        given |= {name: given[name] / 100 for name in PERCENT}
        return replace(now, **given, group_questions=tuple(groups))


class GroupForm(forms.Form):
    """One question about who raters are. All may be left unanswered."""

    name = forms.SlugField(
        label=_("Name in exports"), max_length=60, required=False, help_text=_("Letters, digits, hyphens.")
    )
    question = forms.CharField(label=_("Question"), max_length=300, required=False)
    answers = forms.CharField(
        label=_("Answers, one a line"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("“Prefer not to say” is added by itself."),
    )

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        lines = [line.strip() for line in str(found.get("answers", "")).splitlines() if line.strip()]
        if any((found.get("name"), found.get("question"), lines)) and not self.errors:
            if not found.get("name"):
                self.add_error("name", _("Give the question a short name."))
            if not found.get("question"):
                self.add_error("question", _("What are raters asked?"))
            if len(lines) < 2:
                self.add_error("answers", _("Give two answers or more, one a line."))
            elif len(set(lines)) < len(lines):
                self.add_error("answers", _("An answer stands here twice."))
            elif any(len(line) > 60 for line in lines):
                self.add_error("answers", _("An answer has at most 60 characters."))
        return found | {"lines": lines}


class _Groups(forms.BaseFormSet):
    def clean(self) -> None:
        names = [form.cleaned_data.get("name") for form in self.forms if form.is_valid()]
        given = [name for name in names if name]
        if len(set(given)) < len(given):
            raise forms.ValidationError(_("Two questions have the same name."))


GroupFormSet = forms.formset_factory(GroupForm, formset=_Groups, extra=1, max_num=12, validate_max=True)


def group_questions(formset: forms.BaseFormSet) -> list[dict[str, Any]]:
    """The questions that a valid formset holds; a question without name, text and answers is dropped."""
    found = []
    for form in formset.forms:
        given = form.cleaned_data
        if given.get("name"):
            found.append({"name": given["name"], "question": given["question"], "answers": given["lines"]})
    return found
