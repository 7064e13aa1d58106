"""Two requests that do not go together."""

from __future__ import annotations

from heedful.errors import HeedfulError


class Conflict(HeedfulError):  # noqa: N818 (409 Conflict)
    """Something else came first: another tab, another submission, a newer version. HTTP says it with 409."""

    exit_code = 2
    status = 409
