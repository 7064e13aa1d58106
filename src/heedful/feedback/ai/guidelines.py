"""A rubric and its attributes from files: what a recipe's raters and judges go by. Needs no Django."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from heedful.errors import HeedfulError
from heedful.feedback.rubric import attributes_of


def read_guideline(path: Path) -> str:
    """A rubric from a Markdown file.

    Raises:
        HeedfulError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeedfulError(f"cannot read the rubric: {error}.", where=str(path), mend="Check the path.") from error
    if not text.strip():
        raise HeedfulError("the rubric is empty.", where=str(path), mend="Write it, or leave the setting out.")
    return text


def read_attributes(path: Path) -> list[dict[str, Any]]:
    """Attributes from a YAML list.

    Raises:
        HeedfulError: no such file, no list, or an attribute that is none.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HeedfulError(
            f"cannot read the attributes: {error}.", where=str(path), mend="Give a YAML list."
        ) from error
    if not isinstance(rows, list) or not rows:
        raise HeedfulError("there is no list of attributes.", where=str(path), mend="Begin each with '- name:'.")
    try:
        return attributes_of(rows)
    except HeedfulError as error:
        raise HeedfulError(str(error.what), where=f"{path}: {error.where}", mend=str(error.mend)) from error
