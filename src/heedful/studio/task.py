"""What a rating page shows of a task: texts in the order shown, under letters, and nothing of where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import get_language
from django.utils.translation import gettext as _

from heedful.feedback.models import Guideline, TaskKind
from heedful.studio import rendering

LETTERS = "ABCDEFGHI"
STRENGTHS = (-3, -2, -1, 0, 1, 2, 3)
"""What the keys 1 to 7 stand for: strength for B over A, in the order shown."""


def shown(
    kind: str,
    messages: Sequence[Mapping[str, str]],
    texts: Sequence[str],
    guideline: Guideline,
    *,
    language: str = "",
    rationale_needed: bool = False,
) -> dict[str, Any]:
    """The context of `studio/rating/_task.html`, for a rater's page and for a lead's preview of it.

    Args:
        kind: of task.
        messages: of the conversation.
        texts: the completions, in the order in which they are shown.
        guideline: that the judgment goes by.
        language: of the item, a BCP 47 tag; empty: not said.
        rationale_needed: whether a reason must be given.
    """
    title, ask = _words(kind, len(texts))
    count = len(texts)
    return {
        "kind": kind,
        "title": title,
        "ask": ask,
        "conversation": rendering.render_conversation(messages),
        "answers": [{"letter": LETTERS[i], "index": i, "html": rendering.both(text)} for i, text in enumerate(texts)],
        "language": "" if language.lower() == (get_language() or "") else language,
        "count": count,
        "strengths": strengths() if kind == TaskKind.PAIRWISE else [],
        "ranks": list(range(1, count + 1)) if kind == TaskKind.RANKING else [],
        "attributes": attributes(guideline.attributes) if kind == TaskKind.ATTRIBUTES else [],
        "writes": kind in (TaskKind.DEMONSTRATION, TaskKind.EDIT),
        "original": texts[0] if kind == TaskKind.EDIT else "",
        "guideline": rendering.markdown(guideline_text(guideline), top=3),
        "guideline_version": guideline.version,
        "rationale_needed": rationale_needed,
    }


def guideline_text(guideline: Guideline) -> str:
    """The rubric in the reader's language, where it is translated; else as it was written."""
    wanted = (get_language() or "").lower()
    for tag in (wanted, wanted.split("-")[0]):
        for known, text in guideline.translations.items():
            if tag and known.lower() == tag and text.strip():
                return str(text)
    return guideline.markdown


def strengths() -> list[dict[str, Any]]:
    """The seven steps from A to B: value, key, the word on the button, and its whole meaning."""
    words = (
        ("A", _("A is much better"), _("much better")),
        ("A", _("A is better"), _("better")),
        ("A", _("A is slightly better"), _("slightly")),
        ("", _("Tie: they are equally good"), _("tie")),
        ("B", _("B is slightly better"), _("slightly")),
        ("B", _("B is better"), _("better")),
        ("B", _("B is much better"), _("much better")),
    )
    return [
        {
            "value": value,
            "key": i + 1,
            "side": side,
            "by": abs(value),
            "dots": "●" * abs(value),
            "meaning": meaning,
            "word": word,
        }
        for i, (value, (side, meaning, word)) in enumerate(zip(STRENGTHS, words, strict=True))
    ]


def attributes(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rubric's attributes with their points as a list."""
    return [{**one, "scale": list(range(1, int(one.get("points", 5)) + 1))} for one in given]


def _words(kind: str, count: int) -> tuple[str, str]:
    """What a kind of task is called, and what is asked."""
    known = {
        TaskKind.PAIRWISE: (_("Which answer is better?"), _("Read both to the end, then choose.")),
        TaskKind.RANKING: (
            _("Rank the answers"),
            _("1 is the best of %(count)s. Answers that are equally good share a rank.") % {"count": count},
        ),
        TaskKind.ATTRIBUTES: (_("Score the answer"), _("Give points for each question."))
        if count == 1
        else (_("Score the answers"), _("Give points to each answer for each question.")),
        TaskKind.DEMONSTRATION: (_("Write the answer"), _("Write what the ideal assistant would say next.")),
        TaskKind.EDIT: (_("Correct the answer"), _("Change what is wrong and leave what is right.")),
        TaskKind.DIALOGUE: (_("Talk with a model"), _("Each time, choose the answer that should go on.")),
    }
    return known[TaskKind(kind)]
