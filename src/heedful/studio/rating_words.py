"""Words that the raters' page needs in its script, in its menus, in its help."""

from __future__ import annotations

from django.utils.translation import gettext as _

from heedful.feedback.assignment import SKIP_REASONS


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
