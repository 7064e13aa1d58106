"""A readable difference between two texts: lines, with the words that changed marked inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

Sign: TypeAlias = Literal["same", "added", "removed", "gap"]
CONTEXT = 3
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
LIKE = 0.4
"""Lines less alike than this are shown as one removed and one added, without marks inside."""


@dataclass(frozen=True)
class Piece:
    """A run of text in a line; marked if it is what changed."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class Line:
    """One line of the difference. Numbers count from 1; None where the line is not in that version."""

    sign: Sign
    old: int | None
    new: int | None
    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """Of a gap: how many lines it stands for."""
        return int(self.text) if self.sign == "gap" else 1

    @property
    def text(self) -> str:
        """The line without its marks."""
        return "".join(piece.text for piece in self.pieces)


def difference(old: str, new: str, *, context: int = CONTEXT) -> list[Line]:
    """What changed, with a few lines of what did not around it; longer stretches become one `gap` line.

    The lines that are not "added" (gaps filled in) are `old`, those not "removed" are `new`.
    """
    before, after = old.splitlines(), new.splitlines()
    lines: list[Line] = []
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for place, (tag, a, b, c, d) in enumerate(blocks):
        if tag == "equal":
            first, last = place == 0, place == len(blocks) - 1
            lines += _same(before, a, b, c, head=0 if first else context, tail=0 if last else context)
        else:
            lines += _changed(before[a:b], after[c:d], a, c)
    return lines


def _same(before: Sequence[str], a: int, b: int, c: int, *, head: int, tail: int) -> Iterator[Line]:
    hidden = range(a + head, b - tail)
    for i in range(a, b):
        if len(hidden) > 1 and i in hidden:
            if i == hidden.start:
                yield Line("gap", None, None, (Piece(str(len(hidden))),))
        else:
            yield Line("same", i + 1, c + i - a + 1, (Piece(before[i]),))


def _changed(removed: Sequence[str], added: Sequence[str], a: int, c: int) -> Iterator[Line]:
    pairs = list(zip(removed, added, strict=False))
    marked = [_words(x, y) for x, y in pairs]
    for i, text in enumerate(removed):
        yield Line("removed", a + i + 1, None, marked[i][0] if i < len(marked) else (Piece(text),))
    for i, text in enumerate(added):
        yield Line("added", None, c + i + 1, marked[i][1] if i < len(marked) else (Piece(text),))


def _words(old: str, new: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    said, says = ([word for word in words if word.strip()] for words in (before, after))
    if SequenceMatcher(None, said, says).ratio() < LIKE:
        return (Piece(old),), (Piece(new),)
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        left.append(Piece("".join(before[a:b]), tag != "equal"))
        right.append(Piece("".join(after[c:d]), tag != "equal"))
    return _joined(left), _joined(right)


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Pieces with what stands between two marks and is only space marked too, neighbours of a kind made one."""
    kept = [piece for piece in pieces if piece.text]
    found: list[Piece] = []
    for i, piece in enumerate(kept):
        between = 0 < i < len(kept) - 1 and not piece.text.strip() and kept[i - 1].marked and kept[i + 1].marked
        marked = piece.marked or between
        if found and found[-1].marked == marked:
            found[-1] = Piece(found[-1].text + piece.text, marked)
        else:
            found.append(Piece(piece.text, marked))
    return tuple(found)
