"""The rubric: its versions, what changed between them, and the editor that publishes the next."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback.models import Guideline, Programme, Role
from heedful.feedback.programmes import newest_guideline, publish_guideline
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame
from heedful.studio.lead.diffs import Line, difference
from heedful.studio.lead.guideline_forms import (
    LONGEST,
    AttributeFormSet,
    GuidelineForm,
    attribute_rows,
    attributes_in,
    languages,
)
from heedful.studio.rendering import markdown
from heedful.studio.security import limited


def version_of(programme: Programme, number: int) -> Guideline:
    """A version of the programme's rubric; 404 if there is none."""
    found = programme.guidelines.select_related("author").filter(version=number).first()
    if found is None:
        raise Http404
    return found


@requires(Role.MANAGER)
def guidelines(request: Request, slug: str) -> HttpResponse:
    """The newest version, and all before it."""
    return _shown(request, newest_guideline(request.programme))


@requires(Role.MANAGER)
def guideline(request: Request, slug: str, version: int) -> HttpResponse:
    """One version."""
    return _shown(request, version_of(request.programme, version))


def _shown(request: Request, shown: Guideline) -> HttpResponse:
    versions = request.programme.guidelines.select_related("author").annotate(used=Count("batches"))
    names = dict(languages())
    context = {
        "guideline": shown,
        "html": markdown(shown.markdown, top=3),
        "translations": [(tag, names.get(tag, tag), markdown(text, top=3)) for tag, text in shown.translations.items()],
        "versions": list(versions.order_by("-version")),
    }
    return render(request, "studio/lead/guidelines.html", context)


@requires(Role.MANAGER)
def compare(request: Request, slug: str) -> HttpResponse:
    """What changed from one version to another."""
    versions = list(request.programme.guidelines.order_by("-version"))
    newest = versions[0].version
    old = version_of(request.programme, _number(request.GET.get("old"), max(1, newest - 1)))
    new = version_of(request.programme, _number(request.GET.get("new"), newest))
    names = dict(languages())
    tags = [tag for tag in names if tag in old.translations or tag in new.translations]
    parts: list[tuple[str, list[Line]]] = [(_("Guideline"), difference(old.markdown, new.markdown))]
    for tag in tags:
        texts = (old.translations.get(tag, ""), new.translations.get(tag, ""))
        parts.append((names[tag], difference(*texts)))
    parts.append((_("Attributes"), difference(_attributes_text(old), _attributes_text(new))))
    changed = [(title, lines) for title, lines in parts if any(line.sign in ("added", "removed") for line in lines)]
    context = {"old": old, "new": new, "versions": versions, "parts": changed}
    return render(request, "studio/lead/guideline_compare.html", context)


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise Http404
    return int(text)


def _attributes_text(shown: Guideline) -> str:
    """Attributes as lines, so that they can be compared as text is."""
    lines = []
    for one in shown.attributes:
        ends = f"1 = {one.get('low', '')}, {one.get('points', 5)} = {one.get('high', '')}"
        lines.append(f"{one['name']}: {one.get('title', '')}. {one.get('question', '')} ({ends})")
    return "\n".join(lines)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def edit(request: Request, slug: str) -> HttpResponse:
    """The editor. What is published becomes the next version; batches that exist keep theirs."""
    newest = newest_guideline(request.programme)
    if request.method != "POST":
        form = GuidelineForm(initial=GuidelineForm.start(newest))
        formset = AttributeFormSet(initial=attribute_rows(newest.attributes), prefix="attribute")
        return _editor(request, newest, form, formset)
    form = GuidelineForm(request.POST)
    formset = AttributeFormSet(request.POST, prefix="attribute")
    if form.is_valid() and formset.is_valid() and _publish(request, newest, form, formset):
        return redirect("guidelines", request.programme.slug)
    return _editor(request, newest, form, formset, status=422)


def _publish(request: Request, newest: Guideline, form: GuidelineForm, formset: AttributeFormSet) -> bool:
    if form.cleaned_data["base"] != newest.version:
        text = _("Version %(number)d was published while you wrote. Compare, then publish again: yours comes after it.")
        form.add_error(None, text % {"number": newest.version})
        form.data = form.data.copy()
        form.data["base"] = str(newest.version)
        return False
    text, translations, attributes = form.cleaned_data["markdown"], form.translations(), attributes_in(formset)
    if (text, translations, attributes) == (newest.markdown, newest.translations, newest.attributes):
        form.add_error(None, _("Nothing has changed since version %(number)d.") % {"number": newest.version})
        return False
    try:
        made = publish_guideline(
            request.programme,
            text,
            author=request.user,
            attributes=attributes,
            translations=translations,
            summary=form.cleaned_data["summary"],
        )
    except HeedfulError as error:
        blame(form, error)
        return False
    messages.success(request, _("Version %(number)d is published. New batches use it.") % {"number": made.version})
    return True


def _editor(
    request: Request, newest: Guideline, form: GuidelineForm, formset: AttributeFormSet, status: int = 200
) -> HttpResponse:
    text = form["markdown"].value() or ""
    context = {"form": form, "formset": formset, "newest": newest, "html": markdown(text[:LONGEST], top=3)}
    return render(request, "studio/lead/guideline_edit.html", context, status=status)


@limited("preview", 300, 60)
@require_POST
@requires(Role.MANAGER)
def preview(request: Request, slug: str) -> HttpResponse:
    """Markdown as raters would see it. Keeps nothing."""
    text = request.POST.get("markdown", "")[:LONGEST]
    return render(request, "studio/lead/_markdown.html", {"html": markdown(text, top=3)})
