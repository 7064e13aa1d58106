"""`heedful agreement`: how far a programme's labels can be trusted, on the screen, as JSON, as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.cli.feedback_io import StoreOptions, open_database, programme_named
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.feedback.judgment_table import JudgmentTable
    from heedful.feedback.reliability import Reliability


@dataclass(frozen=True)
class AgreementConfig:
    """Who agrees, who is careful, what groups prefer: each figure with its interval and what to do about it.

    By kind of task, attribute, source, batch, group and over time, beside what others have published; the range of the
    accuracy that a reward model can reach on such labels; a card for each rater. Nothing is taken out of the data.
    """

    programme: str
    """The programme's short name, as in its address."""
    html: Path | None = None
    """Also write a page that needs nothing but itself."""
    names: bool = False
    """Raters by the name of their account; else people are pseudonyms. At a database only."""
    population: tuple[str, ...] = ()
    """Whom the labels should speak for, as QUESTION.ANSWER=SHARE: --population age.young=0.3 age.old=0.7."""
    samples: int = 1000
    """Bootstrap resamples of whole prompts, for the intervals."""
    seed: int = 0
    """Of resamples and shuffles: the same seed gives the same figures."""
    store: StoreOptions = StoreOptions()

    def __post_init__(self) -> None:
        if self.samples < 100:
            raise HeedfulError("fewer than 100 resamples tell no interval.", where="samples", mend="Give 100 or more.")
        if self.names and self.store.studio:
            raise HeedfulError(
                "a studio's API tells no names.", where="names", mend="Give --database, or leave it away."
            )


def agreement(arguments: list[str]) -> int:
    """`heedful agreement`."""
    call = parse(AgreementConfig, "agreement", arguments)
    config = call.settings
    with stdout_for_results():
        found = measured(config)
    if config.html is not None:
        from heedful.cli.agreement_page import write_page

        write_page(config.html, found)
    if call.json:
        print_json(found)
    else:
        from heedful.cli.agreement_terminal import show

        show(found)
        if config.html is not None:
            print(f"The page is {config.html}.")
    return 0


def measured(config: AgreementConfig) -> Reliability:
    """All figures.

    Raises:
        HeedfulError: no such programme; nothing that can be compared; a population that fits no group.
    """
    wanted = population(config.population)
    table = _table(config)
    from heedful.feedback.reliability import reliability

    if not len(table.item):
        raise HeedfulError(
            "nobody has compared, ranked or scored anything yet.",
            where=config.programme,
            mend="Open a batch in the studio, or import judgments.",
        )
    if wanted and table.groups is None:
        raise HeedfulError(
            "a studio's API tells no groups.", where="population", mend="Give --database, or leave it away."
        )
    try:
        return reliability(table, population=wanted, samples=config.samples, seed=config.seed)
    except ValueError as error:
        if not wanted:
            raise
        raise HeedfulError(f"{error}.", where="population", mend="Correct the question or the answers.") from error


def population(given: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """QUESTION.ANSWER=SHARE by question and answer.

    Raises:
        HeedfulError: one is written otherwise, or its share is no number above 0.
    """
    found: dict[str, dict[str, float]] = {}
    for one in given:
        name, equals, share = one.rpartition("=")
        question, point, answer = name.partition(".")
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not (equals and point and question and answer and 0 < value < float("inf")):
            raise HeedfulError(
                f"{one!r} is no share of a group.",
                where="population",
                mend="Write QUESTION.ANSWER=SHARE: age.young=0.3.",
            )
        found.setdefault(question, {})[answer] = value
    return found


def _table(config: AgreementConfig) -> JudgmentTable:
    if config.store.studio:
        from heedful.feedback.client import connect
        from heedful.feedback.judgment_reading import pull

        client = connect(studio=config.store.studio, allow_insecure=config.store.allow_insecure)
        return pull(client, config.programme)
    open_database(config.store.database)
    from heedful.feedback.judgment_reading import read

    return read(programme_named(config.programme), names=config.names)
