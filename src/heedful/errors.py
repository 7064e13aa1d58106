"""The one exception that heedful raises for a mistake that its user can mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Sentence(str):
    """An English sentence that remembers how it was made, so that a page can say it in another language.

    It is its English text wherever it goes: on a terminal, in JSON, in a log. `heedful.studio.said` looks the
    template up in the catalogues and fills it with the same values; `.ci/sentences` lists the templates.

    Args:
        template: as `str.format` takes it; a plain text where no values are given.
        values: what stands in its places. One that is a Sentence itself is translated too.
    """

    template: str
    values: Mapping[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Sentence:
        made = super().__new__(cls, template.format(**values).strip() if values else template)
        made.template, made.values = template, values
        return made


class HeedfulError(Exception):
    """A problem that the user can mend: what was wrong, where, and what to do.

    The command line prints it as one message and exits with code 2.

    Args:
        what: what was wrong, one sentence.
        where: the place: a file and line, a config key, a folder.
        mend: what to do about it.
        values: what stands in the places of `what` and `mend`, which are templates then; see `Sentence`.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "", **values: Any) -> None:
        self.what = _filled(what, values)
        self.where = where
        self.mend = _filled(mend, values)
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} {self.mend}" if self.mend else head


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return Sentence(text, **values) if values and not isinstance(text, Sentence) else text


def nearest(word: str, known: list[str]) -> str:
    """The known word most like `word`, as the clause "Did you mean 'x'?", or an empty string."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return Sentence("Did you mean {word!r}?", word=found[0]) if found else ""
