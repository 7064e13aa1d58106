"""`make reference`: write the pages of the reference that are made from the code; `--check` only says what is stale."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import command_pages
import metric_page
import python_page
import recipe_page

FOLDER = Path(__file__).resolve().parent.parent / "reference"


@functools.cache
def made() -> dict[str, str]:
    """Every page made from the code: its place below docs/reference, and its text."""
    pages = {f"commands/{name}": text for name, text in command_pages.pages().items()}
    single = {"metrics.md": metric_page, "python.md": python_page, "recipe.md": recipe_page}
    return pages | {name: module.page() for name, module in single.items()}


def stale(folder: Path = FOLDER) -> list[str]:
    """Pages that are not what the code says, and pages of commands that are no more."""
    pages = made()
    wrong = [
        name
        for name, text in pages.items()
        if not (folder / name).exists() or (folder / name).read_text("utf-8") != text
    ]
    kept = {path.relative_to(folder).as_posix() for path in (folder / "commands").glob("*.md")}
    return sorted({*wrong, *(kept - pages.keys())})


def write(folder: Path = FOLDER) -> None:
    """Write what is stale, and remove pages of commands that are no more."""
    pages = made()
    for name in stale(folder):
        path = folder / name
        if name in pages:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages[name], encoding="utf-8")
        else:
            path.unlink()
        print(name)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("\n".join(["Not what the code says; run make reference:", *old]) if (old := stale()) else 0)
    write()
