"""Words that the raters' page needs in its script, in its menus, in its help."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from heedful.feedback.assignment import SKIP_REASONS

SAID = (
    gettext_noop("this item is no longer yours."),
    gettext_noop("Ask for the next one."),
    gettext_noop("this work is finished."),
    gettext_noop("Ask for the next item."),
    gettext_noop("another tab saved this item since."),
    gettext_noop("Reload the page."),
    gettext_noop("this item is submitted already."),
    gettext_noop("Undo it first."),
    gettext_noop("you have this item again."),
    gettext_noop("you passed this item."),
    gettext_noop("you have judged or passed this item since."),
    gettext_noop("the item has changed since it was shown."),
    gettext_noop("this key was used for another submission."),
    gettext_noop("this judgment holds no longer."),
    gettext_noop("too many ask at the same time."),
    gettext_noop("Ask again."),
    gettext_noop("say why."),
    gettext_noop("This programme asks for a reason each time."),
    gettext_noop("nothing is changed."),
    gettext_noop("Correct the answer, or pass the item."),
    gettext_noop("the text is empty."),
    gettext_noop("the text is missing."),
    gettext_noop("this is still open."),
    gettext_noop("the test is passed."),
    gettext_noop("no attempt is left."),
    gettext_noop("Ask the manager, who can allow another."),
    gettext_noop("the test is not open."),
    gettext_noop("Ask the manager to open it."),
)
"""What the store may say to a rater: listed for the catalogues."""


def say(text: str) -> str:
    """A sentence of the store in the reader's language, where it is translated."""
    return _(text) if text else ""


def skips() -> list[tuple[str, str]]:
    """Reasons for passing an item."""
    known = {
        "unclear": _("It is unclear what is asked"),
        "unsafe": _("It is unsafe or disturbing"),
        "language": _("I do not read this language well enough"),
        "expertise": _("I know too little of the matter"),
        "broken": _("The text is broken or incomplete"),
        "other": _("Something else"),
    }
    return [(reason, known[reason]) for reason in SKIP_REASONS]


def words() -> dict[str, str]:
    """What the script says."""
    return {
        "sending": _("Sending…"),
        "kept": _("Saved here, sending… The connection is down; what you said is not lost."),
        "retrying": _("Saved here, sending… The studio is busy and will be asked again."),
        "sent": _("Sent."),
        "saved": _("Draft saved"),
        "saved_here": _("Draft saved here"),
        "draft_refused": _("This draft cannot be saved: %(why)s"),
        "login": _("Your session has ended. What you said is kept here and is sent once you log in again."),
        "login_link": _("Log in again"),
        "other_tab": _("This item is open in another tab, where it was changed since. This tab saves no more drafts."),
        "reload": _("Load what the other tab saved"),
        "late": _(
            "This item went back to the others meanwhile. You can still send your answer: it counts if a place is "
            "free, and is kept in any case."
        ),
        "next": _("Next item"),
        "open": _("Still open: %(what)s"),
        "choice": _("choose how the answers compare"),
        "rank": _("a rank for answer %(letter)s"),
        "score": _("points for answer %(letter)s: %(name)s"),
        "text": _("the text is empty"),
        "unchanged": _("nothing is changed yet"),
        "why": _("say why"),
        "reason": _("choose a reason"),
        "skipped": _("Skipped."),
        "undone": _("Your last answer is open again."),
        "failed": _("That did not work. Try again in a moment."),
        "gone": _("This item is no longer yours."),
        "offline": _("The connection is down. Trying again…"),
        "ranked": _("Your order: %(order)s"),
        "characters": _("%(count)s characters"),
        "no_change": _("No change yet."),
        "raw_on": _("Show formatted"),
        "raw_off": _("Show as written"),
    }


def help_keys() -> list[tuple[str, list[tuple[str, str]]]]:
    """Shortcuts by the task that they belong to: (heading, [(keys, what they do)])."""
    return [
        (
            _("Comparing two answers"),
            [
                ("1 – 7", _("from “A is much better” to “B is much better”")),
                ("T", _("tie")),
                ("B", _("both bad")),
                ("G", _("both good")),
            ],
        ),
        (
            _("Ranking and scoring"),
            [
                ("A – I", _("go to that answer")),
                ("1 – 9", _("its rank, or the points of the marked question; then the next one")),
            ],
        ),
        (
            _("Everywhere"),
            [
                ("Enter", _("send")),
                ("Ctrl Enter", _("send, from inside a text")),
                ("N", _("write why")),
                ("Esc", _("leave a text field")),
                ("F", _("safety flag")),
                ("R", _("texts formatted or as written")),
                ("S", _("skip")),
                ("U", _("take back the last answer")),
                ("?", _("this help")),
            ],
        ),
    ]
