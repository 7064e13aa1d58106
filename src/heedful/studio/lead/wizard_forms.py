"""The wizard's forms: a file, its columns, the task, the rubric, how many judgments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from heedful.feedback.import_columns import LETTERS, OTHERS, TARGETS
from heedful.feedback.import_plan import Plan
from heedful.feedback.models import ASKED, Purpose
from heedful.studio.lead.guideline_forms import LONGEST, plain

MAX_UPLOAD = 32 * 2**20
MAX_UNPACKED = 4 * MAX_UPLOAD
"""Of a packed file, so that a small one that unpacks to a huge one holds up nobody."""
ENDINGS = ".csv,.tsv,.jsonl,.json,.parquet,.gz"


class FileForm(forms.Form):
    """The file."""

    file = forms.FileField(
        label=gettext_lazy("File"),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ENDINGS}),
        help_text=gettext_lazy("CSV, TSV, JSONL, JSON or Parquet, also packed with gzip; up to 32 MiB."),
    )

    def clean_file(self) -> Any:
        """A file that is not empty, and small enough for a browser's upload."""
        file = self.cleaned_data["file"]
        if file.size == 0:
            raise forms.ValidationError(_("The file is empty."))
        if file.size > MAX_UPLOAD:
            raise forms.ValidationError(_("The file is larger than 32 MiB. Split it, or use heedful import."))
        return file


def target_words(target: str) -> str:
    """What a target of a mapping is called."""
    if target in LETTERS:
        return _("Answer %(letter)s") % {"letter": target.upper()}
    if target.startswith("policy_"):
        return _("Policy of answer %(letter)s (hidden from raters)") % {"letter": target[7:].upper()}
    return {
        "prompt": _("Prompt"),
        "completions": _("Answers, as a list"),
        "policy": _("Policy of all answers (hidden from raters)"),
        "policies": _("Policies, as a list (hidden from raters)"),
        "language": _("Language"),
        "category": _("Content category"),
        "expertise": _("Expertise it needs"),
        "priority": _("Priority"),
        "raters": _("Named raters"),
    }[target]


class ColumnsForm(forms.Form):
    """What each column of the file is."""

    def __init__(self, plan: Plan, mapping: Mapping[str, str], *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.plan = plan
        used = {column: target for target, column in mapping.items()}
        answers = [(letter, target_words(letter)) for letter in LETTERS]
        policies = [(name, target_words(name)) for name in TARGETS if name.startswith("polic")]
        choices = [
            ("", _("not used, but kept")),
            ("prompt", target_words("prompt")),
            (_("Answers"), [*answers, ("completions", target_words("completions"))]),
            (_("Where answers come from"), policies),
            (_("Who gets it"), [(name, target_words(name)) for name in OTHERS]),
        ]
        for i, column in enumerate(plan.columns):
            self.fields[f"column_{i}"] = forms.ChoiceField(
                label=column, choices=choices, required=False, initial=used.get(column, "")
            )

    def rows(self) -> Iterator[tuple[str, tuple[str, ...], forms.BoundField]]:
        """(column, its first values, its field)."""
        for i, column in enumerate(self.plan.columns):
            yield column, tuple(self.plan.samples.get(column, ()))[:3], self[f"column_{i}"]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        seen: dict[str, str] = {}
        for i, column in enumerate(self.plan.columns):
            target = found.get(f"column_{i}", "")
            if target in seen:
                text = _("%(column)s is %(target)s already.")
                names = {"column": seen[target], "target": target_words(target)}
                self.add_error(f"column_{i}", text % names)
            elif target:
                seen[target] = column
        return found

    def chosen(self) -> dict[str, str]:
        """Target to column, of a valid form."""
        pairs = ((self.cleaned_data[f"column_{i}"], column) for i, column in enumerate(self.plan.columns))
        return {target: column for target, column in pairs if target}


@dataclass(frozen=True)
class TaskCard:
    """A task that can be chosen, and what raters do in it."""

    kind: str
    title: str
    text: str


def task_cards() -> list[TaskCard]:
    """All tasks but dialogue, which needs no file."""
    return [
        TaskCard("pairwise", _("Compare two answers"), _("Which is better, and by how much.")),
        TaskCard("ranking", _("Rank answers"), _("Two to nine answers, from the best to the worst.")),
        TaskCard("attributes", _("Score attributes"), _("Points for each of the rubric's attributes.")),
        TaskCard("demonstration", _("Write the answer"), _("Prompts without answers; people write them.")),
        TaskCard("edit", _("Correct an answer"), _("One answer each; people make it right.")),
        TaskCard("dialogue", _("Talk with a model"), _("The prompt opens it. Needs a policy endpoint.")),
    ]


class TaskForm(forms.Form):
    """What raters do, and what it is for."""

    task = forms.ChoiceField(label=gettext_lazy("Task"), choices=ASKED, widget=forms.RadioSelect)
    batch_name = forms.CharField(label=gettext_lazy("Name of the batch"), max_length=200)
    purpose = forms.ChoiceField(label=gettext_lazy("What the judgments are for"), choices=())
    again = forms.BooleanField(label=gettext_lazy("Import this file a second time"), required=False)

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        purpose = self.fields["purpose"]
        assert isinstance(purpose, forms.ChoiceField)
        purpose.choices = [
            (Purpose.TRAIN, _("training: they enter exports")),
            (Purpose.CHECK, _("checking a model: they never enter training")),
            (Purpose.CALIBRATION, _("calibration: everybody judges all of it, then it is discussed")),
            (Purpose.QUALIFICATION, _("qualification: a test with known answers")),
            (Purpose.GOLD, _("gold: known answers, mixed in among the others")),
        ]


class RubricForm(forms.Form):
    """The rubric's text."""

    markdown = forms.CharField(
        label=gettext_lazy("Guideline"),
        max_length=LONGEST,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 18, "spellcheck": "true"}),
        help_text=gettext_lazy("Markdown. Raters see it beside every item."),
    )

    def clean_markdown(self) -> str:
        """The text with plain line ends."""
        text = plain(self.cleaned_data["markdown"])
        if not text.strip():
            raise forms.ValidationError(_("Say how raters should judge."))
        return text


class QuotaForm(forms.Form):
    """How many judgments each item gets."""

    quota = forms.IntegerField(
        label=gettext_lazy("Judgments of each item"),
        min_value=1,
        max_value=50,
        initial=1,
        help_text=gettext_lazy("By different people. Two or more tell how far raters agree. 1 to 50."),
    )
    quota_cap = forms.IntegerField(
        label=gettext_lazy("At most, where they disagree"),
        min_value=1,
        max_value=50,
        initial=1,
        help_text=gettext_lazy("Further people are asked, up to this many. 1 to 50."),
    )

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        quota, cap = found.get("quota"), found.get("quota_cap")
        if quota is not None and cap is not None and cap < quota:
            self.add_error("quota_cap", _("This cannot be fewer than each item gets."))
        return found
