"""The one exception that heedful raises for a mistake that its user can mend."""

from __future__ import annotations


class HeedfulError(Exception):
    """A problem that the user can mend: what was wrong, where, and what to do.

    The command line prints it as one message and exits with code 2.

    Args:
        what: what was wrong, one sentence.
        where: the place: a file and line, a config key, a folder.
        mend: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} {self.mend}" if self.mend else head


def nearest(word: str, known: list[str]) -> str:
    """The known word most like `word`, as the clause "Did you mean 'x'?", or an empty string."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {found[0]!r}?" if found else ""
