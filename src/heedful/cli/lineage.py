"""`heedful lineage`: from a checkpoint back to every judgment, and from a rater to all that was made from theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from heedful.cli.command import parse, print_json
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.pipeline.provenance.records import Lineage

NOTES = """Exit code 1: a file is not what its manifest says, or something is gone."""


@dataclass(frozen=True)
class LineageConfig:
    """What a checkpoint was made from: every stage, dataset, snapshot, judgment, rater and rubric, hashes verified.

    Of a programme's folder it is its last kept policy. --withdrawn and --rater ask the other way round: what below the
    folder was made from judgments that were erased, or from a rater's.
    """

    path: tyro.conf.Positional[Path] = Path()
    """A checkpoint, a dataset, a file, or a programme's folder."""
    judgments: Path | None = None
    """Write every judgment here, one a line of JSON: id, rater, guideline, and where it was given."""
    withdrawn: bool = False
    """Name all below the folder that was made from judgments which were erased since."""
    rater: str | None = None
    """Name all below the folder that was made from the judgments of this rater, by pseudonym."""
    under: Path | None = None
    """The folder that --withdrawn and --rater search; by default the path."""
    journal: tuple[Path, ...] = ()
    """Journals of erasures (erasures.jsonl), besides those in the folder and in the one above it."""

    def __post_init__(self) -> None:
        if self.withdrawn and self.rater is not None:
            raise HeedfulError("--withdrawn and --rater are two questions.", where="rater", mend="Ask one at a time.")
        if self.backwards and self.judgments is not None:
            raise HeedfulError(
                "judgments are listed of a lineage.", where="judgments", mend="Leave --withdrawn and --rater away."
            )
        if self.under is not None and not self.backwards:
            raise HeedfulError("it is searched for a rater's work.", where="under", mend="Give --withdrawn or --rater.")
        for path in self.journal:
            if not path.is_file():
                raise HeedfulError("there is no such journal.", where=str(path), mend="It stands beside the store.")

    @property
    def backwards(self) -> bool:
        """Whether it is asked what was made from judgments."""
        return self.withdrawn or self.rater is not None


def lineage(arguments: list[str]) -> int:
    """Parse the settings and tell."""
    call = parse(LineageConfig, "lineage", arguments, notes=NOTES)
    given = call.settings
    if given.backwards:
        return _affected(given, call.json)
    from heedful.pipeline.lineage import trace
    from heedful.pipeline.provenance.terminal import as_dict, show

    found = trace(given.path, journals=given.journal)
    if given.judgments is not None:
        _write_judgments(given.judgments, found)
    if call.json:
        print_json(as_dict(found))
    else:
        show(found)
        if given.judgments is not None:
            print(f"{given.judgments}: {len(found.judgments)} judgments, one a line.")
    return 1 if found.changed else 0


def _write_judgments(path: Path, found: Lineage) -> None:
    from dataclasses import asdict

    from heedful.pipeline.rounds.rows import write_rows

    erased = {one for gone in found.withdrawn for one in gone.ids}
    write_rows(path, (asdict(one) | {"withdrawn": one.id in erased} for one in found.judgments))


def _affected(given: LineageConfig, as_json: bool) -> int:
    from heedful.pipeline.provenance.affected import made_from_rater, made_from_withdrawn
    from heedful.pipeline.provenance.terminal import show_affected

    under = given.under or given.path
    if not under.is_dir():
        raise HeedfulError("there is no such folder.", where=str(under), mend="Name the folder to search: --under.")
    if given.rater is not None:
        found = made_from_rater(under, given.rater)
    else:
        found = made_from_withdrawn(under, given.journal)
    if as_json:
        print_json({"under": under, "rater": given.rater, "made_from": found})
    else:
        show_affected(found, under, given.rater)
    return 0
