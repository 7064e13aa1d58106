"""What follows from a judgment, in the transaction that keeps it: gold scores, finished tests, pauses."""

from __future__ import annotations

from heedful.feedback import gold, qualification
from heedful.feedback.models import Assignment, Judgment, Purpose


def after_judgment(judgment: Judgment) -> None:
    """Score what has a key; finish a test whose last item this was; pause a rater who drifted.

    Called for every row that a rater's submission, correction or undo writes; most ask for nothing.
    """
    if judgment.purpose == Purpose.GOLD:
        if gold.score(judgment) is not None:
            gold.pause_if_drifted(judgment.rater)
    elif judgment.purpose == Purpose.QUALIFICATION:
        qualification.after(judgment.rater, judgment.batch, judgment.pass_number)


def after_skip(assignment: Assignment) -> None:
    """A skipped item of a test has no acceptable answer: finish the test if it was the last."""
    if assignment.purpose == Purpose.QUALIFICATION:
        qualification.after(assignment.rater, assignment.item.batch, assignment.pass_number)
