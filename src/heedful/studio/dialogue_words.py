"""Words of the dialogue page: in its script, in its help."""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

FAILURES: dict[str, Any] = {
    "the endpoint's address is refused": gettext_lazy("the endpoint's address is refused"),
    "the endpoint did not answer in time": gettext_lazy("the endpoint did not answer in time"),
    "the endpoint cannot be reached": gettext_lazy("the endpoint cannot be reached"),
    "the endpoint's answer makes no sense": gettext_lazy("the endpoint's answer makes no sense"),
    "the studio failed while it waited": gettext_lazy("the studio failed while it waited"),
}


def failure(text: str) -> str:
    """Why a model did not answer, in the reader's language; empty for what only the server's log need say."""
    status = re.fullmatch(r"the endpoint answered (\d+)", text)
    if status:
        return _("the endpoint answered %(status)s") % {"status": status[1]}
    return str(FAILURES.get(text, ""))


def words() -> dict[str, str]:
    """What the script says."""
    return {
        "sending": _("Sending…"),
        "down": _("The connection is down. What you wrote is still here; send it again in a moment."),
        "lost": _("The connection is down. Nothing is lost: this page goes on by itself when it is back."),
        "login": _("Your session has ended. Log in in another tab, then send it again."),
        "failed": _("That did not work. Try again in a moment."),
        "waiting": _("The model is answering…"),
        "here": _("All answers are here. Read them to the end, then choose."),
        "open": _("Choose first."),
        "reason": _("Choose a reason."),
        "late": _("Your time for this dialogue has run out; you can still finish it."),
        "raw_on": _("Show formatted"),
        "raw_off": _("Show as written"),
    }


def help_keys() -> list[tuple[str, list[tuple[str, str]]]]:
    """Shortcuts: (heading, [(keys, what they do)])."""
    return [
        (
            _("Choosing the answer that goes on"),
            [
                ("1 – 7", _("from “A is much better” to “B is much better”")),
                ("T", _("tie")),
                ("B", _("both bad")),
                ("G", _("both good")),
                ("Enter", _("go on")),
            ],
        ),
        (
            _("Everywhere"),
            [
                ("Ctrl Enter", _("send, from inside a text")),
                ("Esc", _("leave a text field, or show the answers at once")),
                ("N", _("write why")),
                ("F", _("safety flag")),
                ("R", _("texts formatted or as written")),
                ("S", _("skip")),
                ("?", _("this help")),
            ],
        ),
    ]
