"""What a programme's raters go by, for judges who are to go by the same. Reads the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.cli.feedback_io import programme_named
from heedful.errors import HeedfulError


def guideline_of(slug: str, batches: Sequence[str]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """The rubric's text and attributes of a programme's batches.

    Raises:
        HeedfulError: the batches go by different versions of it.
    """
    from heedful.feedback.models import Batch

    rows = Batch.objects.filter(programme=programme_named(slug)).select_related("guideline")
    wanted = [row for row in rows if not batches or {str(row.pk), row.name} & set(batches)]
    versions = {row.guideline.pk: row.guideline for row in wanted if row.guideline is not None}
    if len(versions) > 1:
        names = ", ".join(sorted(f"{row.name} (version {row.guideline.version})" for row in wanted))
        raise HeedfulError(
            f"these batches go by different versions of the guideline: {names}.",
            where="batches",
            mend="Name batches of one version.",
        )
    for guideline in versions.values():
        return guideline.markdown, list(guideline.attributes)
    return "", []
