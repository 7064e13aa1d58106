"""Sphinx's settings for the docs site: `make docs`.

The pages are plain Markdown, readable where the code is hosted. What only a site needs (the navigation) stands in
`docs/nav.yaml` and is added to the front page as it is read.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml

project = "heedful"
author = "the heedful authors"
version = release = installed("heedful")

extensions = ["myst_parser"]
exclude_patterns = ["site"]
myst_heading_anchors = 4
highlight_language = "text"
smartquotes = False  # two dashes before a flag stay two dashes

html_theme = "furo"
html_title = "heedful"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False


def navigation(pages: list[dict[str, list[str]]]) -> str:
    """The tables of contents that the sidebar is made of, in MyST's words, from `nav.yaml`."""
    parts = []
    for part in pages:
        for caption, entries in part.items():
            lines = [":hidden:", f":caption: {caption}", "", *entries]
            parts.append("\n".join(["```{toctree}", *lines, "```"]))
    return "\n\n".join(parts)


def add_navigation(app: Any, name: str, source: list[str]) -> None:
    """Append the navigation to the front page, and to the front page of a folder all that lies in it."""
    if name.endswith("/index"):
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    if name == "index":
        pages = yaml.safe_load((Path(app.srcdir) / "nav.yaml").read_text(encoding="utf-8"))
        source[0] += f"\n\n{navigation(pages)}\n"


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
