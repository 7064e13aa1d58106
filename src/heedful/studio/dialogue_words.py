"""Words of the dialogue page: in its script, in its help, and what the store may say to a rater."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

SAID = (
    gettext_noop("this dialogue is over."),
    gettext_noop("this dialogue has not begun."),
    gettext_noop("there is no policy to talk with."),
    gettext_noop("A manager can name one on the settings page."),
    gettext_noop("the turn before is not done."),
    gettext_noop("Choose the answer that goes on."),
    gettext_noop("this turn was said otherwise."),
    gettext_noop("this turn is not there."),
    gettext_noop("another answer went on."),
    gettext_noop("not every answer is there."),
    gettext_noop("Wait, or try again."),
    gettext_noop("nothing was said yet."),
    gettext_noop("Finish a turn, or pass the item."),
    gettext_noop("Ask for the next item."),
    gettext_noop("Reload the page."),
    gettext_noop("Hand it in."),
    gettext_noop("the text is empty."),
    gettext_noop("this is still open."),
    gettext_noop("say why."),
    gettext_noop("This programme asks for a reason each time."),
)
"""What the store may say to a rater here: listed for the catalogues."""


def say_error(text: str) -> str:
    """A sentence of the store in the reader's language, where it is translated."""
    return _(text) if text else ""


def words() -> dict[str, str]:
    """What the script says."""
    return {
        "sending": _("Sending…"),
        "down": _("The connection is down. What you wrote is still here; send it again in a moment."),
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
