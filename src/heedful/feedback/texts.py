"""What text the store takes. Needs no Django."""

from __future__ import annotations

from typing import Any

from heedful.errors import HeedfulError

LONGEST = 200_000
"""Characters in one text."""
LONGEST_CONTENT = 2_000_000
"""Characters in one message or completion: what a model wrote is kept whole."""


def clean(text: Any, field: str, *, longest: int = LONGEST, empty: bool = True) -> str:
    """The text as it was given, if a database can keep it as it is.

    Raises:
        HeedfulError: it is no text, holds NUL or a lone surrogate, is too long, or is empty where it may not be;
            with the field.
    """
    if not isinstance(text, str):
        raise HeedfulError("{kind} is no text.", where=field, kind=type(text).__name__)
    if len(text) > longest:
        raise HeedfulError(
            "{count:,} characters; at most {longest:,} are kept.",
            where=field,
            mend="Shorten it.",
            count=len(text),
            longest=longest,
        )
    at = text.find("\0")
    if at >= 0:
        raise HeedfulError("a NUL character at place {place}.", where=field, mend="Remove it.", place=at + 1)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise HeedfulError(
            "half a surrogate pair at place {place}.",
            where=field,
            mend="Write the text as valid Unicode.",
            place=error.start + 1,
        ) from error
    if not empty and not text.strip():
        raise HeedfulError("the text is empty.", where=field)
    return text


def clean_json(value: Any, field: str, *, depth: int = 20) -> Any:
    """A JSON value whose texts are all clean; fields inside are named as in `source.notes[2]`.

    Raises:
        HeedfulError: see `clean`; or the value is no JSON, or is nested too deep.
    """
    if depth == 0:
        raise HeedfulError("nested too deep.", where=field)
    if isinstance(value, str):
        return clean(value, field)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if value - value != 0:
            raise HeedfulError("{value} is no JSON number.", where=field, value=value)
        return value
    if isinstance(value, list | tuple):
        return [clean_json(one, f"{field}[{i}]", depth=depth - 1) for i, one in enumerate(value)]
    if isinstance(value, dict):
        found = {}
        for key, one in value.items():
            clean(key, f"{field} (a key)", longest=500)
            found[key] = clean_json(one, f"{field}.{key}", depth=depth - 1)
        return found
    raise HeedfulError("{kind} is no JSON.", where=field, kind=type(value).__name__)
