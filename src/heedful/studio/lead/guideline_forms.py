"""A rubric as forms: its text, translations, attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import get_language_info
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models import Guideline
from heedful.feedback.rubric import MOST_POINTS

LONGEST = 100_000


class GuidelineForm(forms.Form):
    """A rubric to be published. `base` is the version that it was written from."""

    markdown = forms.CharField(
        label=_("Guideline"),
        max_length=LONGEST,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 22, "spellcheck": "true"}),
        help_text=_("Markdown. Raters see it beside every item."),
    )
    summary = forms.CharField(
        label=_("What is new"), max_length=200, required=False, help_text=_("One line for the history.")
    )
    base = forms.IntegerField(widget=forms.HiddenInput, min_value=0)

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        for tag, name in languages():
            self.fields[f"text_{tag}"] = forms.CharField(
                label=name,
                max_length=LONGEST,
                required=False,
                strip=False,
                widget=forms.Textarea(attrs={"rows": 12, "lang": tag}),
            )

    def clean_markdown(self) -> str:
        """The text with plain line ends; a browser sends others."""
        text = plain(self.cleaned_data["markdown"])
        if not text.strip():
            raise forms.ValidationError(_("Say how raters should judge."))
        return text

    def translated(self) -> Iterator[forms.BoundField]:
        """The fields of the other languages."""
        for tag, _name in languages():
            yield self[f"text_{tag}"]

    def translations(self) -> dict[str, str]:
        """Language to text, of a valid form; empty ones are left out."""
        found = {tag: plain(self.cleaned_data[f"text_{tag}"]) for tag, _name in languages()}
        return {tag: text for tag, text in found.items() if text.strip()}

    @classmethod
    def start(cls, guideline: Guideline) -> dict[str, Any]:
        """What the form shows for a version."""
        texts = {f"text_{tag}": guideline.translations.get(tag, "") for tag, _name in languages()}
        return {"markdown": guideline.markdown, "base": guideline.version, **texts}


def plain(text: str) -> str:
    """A text as a form sends it, with plain line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def languages() -> list[tuple[str, str]]:
    """The studio's languages but English, by their own names."""
    return [(tag, get_language_info(tag)["name_local"]) for tag, _name in settings.LANGUAGES if tag != "en"]


class AttributeForm(forms.Form):
    """One attribute of the attributes task; a row left empty is none."""

    name = forms.SlugField(label=_("Name in exports"), max_length=40, required=False)
    title = forms.CharField(label=_("Title"), max_length=60, required=False)
    question = forms.CharField(label=_("Question"), max_length=200, required=False)
    low = forms.CharField(label=_("Lowest means"), max_length=40, required=False)
    high = forms.CharField(label=_("Highest means"), max_length=40, required=False)
    points = forms.IntegerField(label=_("Points"), min_value=2, max_value=MOST_POINTS, initial=5, required=False)

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        said = any(found.get(key) for key in ("title", "question", "low", "high"))
        if said and not found.get("name") and "name" not in self.errors:
            self.add_error("name", _("Give the attribute a short name."))
        return found

    def attribute(self) -> dict[str, Any] | None:
        """The attribute that a valid form says, or None."""
        given = self.cleaned_data
        if not given.get("name"):
            return None
        texts = {key: given[key] for key in ("question", "low", "high")}
        return {
            "name": given["name"],
            "title": given["title"] or given["name"],
            **texts,
            "points": given["points"] or 5,
        }


class _Attributes(forms.BaseFormSet):
    def clean(self) -> None:
        names = [form.cleaned_data.get("name") for form in self.forms if form.is_valid()]
        given = [name for name in names if name]
        if len(set(given)) < len(given):
            raise forms.ValidationError(_("Two attributes have the same name."))


AttributeFormSet = forms.formset_factory(
    AttributeForm, formset=_Attributes, extra=1, max_num=12, validate_max=True, can_delete=True, can_delete_extra=False
)


def attributes_in(formset: forms.BaseFormSet) -> list[dict[str, Any]]:
    """The attributes that a valid formset holds, without those ticked for deletion."""
    kept = [form for form in formset.forms if not form.cleaned_data.get("DELETE")]
    return [found for found in (form.attribute() for form in kept) if found]


def attribute_rows(attributes: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the formset shows for these attributes."""
    names = AttributeForm.base_fields
    return [{name: attribute.get(name, "") for name in names} for attribute in attributes]
