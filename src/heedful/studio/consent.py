"""Consent, opting out of kinds of content, and what a rater may tell of themself."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from heedful.feedback import events, programmes
from heedful.feedback.models import GroupAnswer, Prompt, Rater
from heedful.feedback.rules import Rules

PREFIX = "group-"


def categories_of(rater: Rater) -> list[str]:
    """The kinds of content that a programme's prompts are marked with."""
    found: set[str] = set()
    for row in Prompt.objects.filter(programme=rater.programme_id).exclude(categories=[]).values_list("categories"):
        found.update(row[0])
    return sorted(found)


class ConsentForm(forms.Form):
    """Agreement where it is asked for, categories to leave out, one question for each group."""

    agree = forms.BooleanField(label=_("I have read this and agree"))
    excluded = forms.MultipleChoiceField(
        label=_("Do not show me"), required=False, widget=forms.CheckboxSelectMultiple, choices=()
    )

    def __init__(self, *args: Any, rater: Rater, rules: Rules, known: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not rules.consent_text:
            del self.fields["agree"]
        else:
            self.fields["agree"].initial = programmes.has_consented(rater)
        categories = categories_of(rater)
        if categories:
            field: Any = self.fields["excluded"]
            field.choices = [(name, name) for name in categories]
            field.initial = rater.excluded_categories
        else:
            del self.fields["excluded"]
        for question in rules.group_questions:
            choices = [("", _("prefer not to say")), *((answer, answer) for answer in question["answers"])]
            self.fields[PREFIX + question["name"]] = forms.ChoiceField(
                label=question["question"],
                required=False,
                choices=choices,
                initial=known.get(question["name"], ""),
            )


def keep_consent(rater: Rater, rules: Rules, given: dict[str, Any]) -> None:
    """Keep a consent form."""
    with transaction.atomic():
        if rules.consent_text and not programmes.has_consented(rater):
            programmes.give_consent(rater)
        if "excluded" in given:
            rater.excluded_categories = given["excluded"]
            rater.save(update_fields=["excluded_categories"])
        for name, answer in given.items():
            if name.startswith(PREFIX):
                GroupAnswer.objects.update_or_create(
                    rater=rater, question=name.removeprefix(PREFIX), defaults={"answer": answer}
                )
        events.record("rater.choices", programme=rater.programme, actor=rater, rater=rater)
