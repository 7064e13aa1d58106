"""What the services say, in the reader's language.

The services speak English (`heedful.errors.Sentence`); `.ci/sentences` gives their templates to the catalogues.
"""

from __future__ import annotations

from django.utils.translation import gettext as _

from heedful.errors import HeedfulError, Sentence


def say(text: str) -> str:
    """A sentence in the language of the page, begun with a capital; one that no catalogue has stays English."""
    said = _translated(text)
    template = text.template if isinstance(text, Sentence) else text
    return said if template.startswith("{") else said[:1].upper() + said[1:]


def tell(error: HeedfulError, *, place: bool = False) -> str:
    """What was wrong and how to mend it; with the place, which says in which line or field, if that is asked for."""
    what = f"{error.where}: {_translated(error.what)}" if place and error.where else say(error.what)
    return " ".join(filter(None, (what, say(error.mend))))


def _translated(text: str) -> str:
    if not text:
        return ""  # the catalogue's entry of the empty text is its header
    if not isinstance(text, Sentence):
        return _(text)
    template = _(text.template)
    values = {name: _translated(one) if isinstance(one, Sentence) else one for name, one in text.values.items()}
    return template.format(**values).strip() if values else template
