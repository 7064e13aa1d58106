"""The sentences of the services that a page may show, as Python that xgettext reads: python .ci/sentences.py

They are the literal first words of errors, their `mend=`, and of `heedful.errors.Sentence`; see `heedful.studio.said`.
A sentence with values is a template. An f-string there cannot be translated, and is an error: exit code 1.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "heedful"
NO_PAGE = {
    *("backup", "client", "databases", "erasure", "events", "http", "raw_import", "replay", "rows", "setup"),
    *("journal", "transfer", "wire"),
}
"""Modules of `feedback` whose sentences only the command line and programs meet."""
FINDINGS, FORMATS = ROOT / "data" / "findings.py", ROOT / "data" / "formats.py"
"""An import shows only the table of kinds and mends of the one, and what the formats of the other are."""
TABLES = {"MENDS", "_SAYS"}
ERRORS = {"HeedfulError", "Conflict", "NotFoundError"}
PLACES = {
    "Sentence": (0,),
    "Anchor": (0,),
    "Caveat": (1,),
    "Format": (2,),
    "_require": (1, 3),
    "_problem": (2, 3),
    "add": (2, 3),
}
"""Which arguments of other calls are sentences."""


def files() -> list[Path]:
    """What is searched."""
    services = [path for path in (ROOT / "feedback").glob("*.py") if path.stem not in NO_PAGE]
    pages = [ROOT / "studio" / f"{name}.py" for name in ("answers", "dialogue")]
    figures = [
        ROOT / "core" / f"{name}.py"
        for name in ("agreement_advice", "ceilings", "consensus", "rater_aware", "rater_cards", "rater_fit")
    ]
    return sorted([*services, *pages, *figures, ROOT / "errors.py", ROOT / "data" / "read.py", FINDINGS, FORMATS])


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, sentence) of a file.

    Raises:
        ValueError: an f-string stands where a sentence does.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            for given in _given(node, errors=path not in (FINDINGS, FORMATS)):
                yield from _literals(given, path)
        elif isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "left_out":
            yield from _literals(node.slice, path)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in TABLES:
            assert isinstance(node.value, ast.Dict)
            kinds = node.value.keys if path == FINDINGS else []  # those of the other are names of formats
            for one in (*kinds, *node.value.values):
                yield from _literals(one, path)


def _given(call: ast.Call, *, errors: bool) -> Iterator[ast.expr]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name == "add" and "problems" not in ast.unparse(call.func):
        return
    if name in ERRORS and not errors:
        return
    for index in (0,) if name in ERRORS else PLACES.get(name, ()):
        if index < len(call.args):
            yield call.args[index]
    if name in ERRORS:
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "mend")


def _literals(node: ast.expr | None, path: Path) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr):
        raise ValueError(f"{path}:{node.lineno}: write a template and its values, not an f-string")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.lineno, node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body, path)
        yield from _literals(node.orelse, path)
    elif isinstance(node, ast.BoolOp):
        for one in node.values:
            yield from _literals(one, path)


def main() -> int:
    """Print a line for xgettext of each sentence."""
    found: dict[str, None] = {}
    for path in files():
        try:
            found |= dict.fromkeys(text for _line, text in sentences(path))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    print("from django.utils.translation import gettext_noop\n")
    for text in found:
        print(f"gettext_noop({text!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
