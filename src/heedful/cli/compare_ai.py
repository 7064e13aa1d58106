"""`heedful compare --judge`: what AI judges say of every two models' answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from heedful.cli.asker import opened_book
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.training.config.asking import AskingOptions

if TYPE_CHECKING:
    from heedful.cli.compare import Answered, CompareConfig
    from heedful.evaluation.judgments import Judged
    from heedful.feedback.ai.material import Case
    from heedful.pipeline.judging import Judged as Said
    from heedful.pipeline.judging import Panelist


@dataclass(frozen=True)
class Spoken:
    """What one AI judge says, and on how many pairs it came to nothing."""

    rows: list[Judged]
    unread: int


@dataclass(frozen=True)
class _Manners:
    """How the judges are asked: pairs, in both orders, by a rubric."""

    way: str
    asking: AskingOptions
    orders: str = "both"
    constitution: str | None = None
    tags: tuple[str, ...] = ()
    thoughts: bool = False


def judged_by_models(
    config: CompareConfig, answers: Answered, clusters: Sequence[str] | None, sorts: Sequence[str] | None
) -> dict[str, Spoken]:
    """What each AI judge says of every two models' k-th answers to each prompt, by its name.

    A pair is shown in both orders, without names. A win counts as much as the judge is sure of it: its probability, or
    the share of the orders in which it took that side. Equal texts are ties that no judge is asked about, and the same
    two texts are asked about once.

    Raises:
        BudgetSpentError: before all is judged; what was paid for is kept.
        HeedfulError: a judge cannot be reached or asked, or could be read on no pair.
    """
    from heedful.evaluation.judgments import Judged
    from heedful.feedback.ai.material import Case

    places = [
        (p, k, a, b)
        for a, b in combinations(answers.texts, 2)
        for p in range(len(answers.prompts))
        for k in range(len(answers.texts[a][p]))
    ]
    number: dict[tuple[Conversation, str, str], int] = {}
    cases: list[Case] = []
    for p, k, a, b in places:
        prompt, ours, theirs = answers.prompts[p], answers.texts[a][p][k], answers.texts[b][p][k]
        if ours != theirs and (prompt, ours, theirs) not in number:
            number[prompt, ours, theirs] = number[prompt, theirs, ours] = len(cases)
            cases.append(Case(prompt, (ours, theirs), purpose="check"))
    panel, said = _asked(config, cases)
    found = {}
    for one in panel:
        rows, unread = [], 0
        for p, k, a, b in places:
            prompt, ours, theirs = answers.prompts[p], answers.texts[a][p][k], answers.texts[b][p][k]
            won: float | None = 0.5
            if ours != theirs:
                case = number[prompt, ours, theirs]
                won = said.opinions[one.name][case].probability
                won = won if won is None or cases[case].completions[0] == ours else 1 - won
            if won is None:
                unread += 1
                continue
            cluster = clusters[p] if clusters is not None else prompt_key(prompt)
            rows.append(Judged(prompt, cluster, a, b, ours, theirs, won, sorts[p] if sorts is not None else ""))
        found[f"AI judge {one.name}"] = Spoken(rows, unread)
    return found


def _asked(config: CompareConfig, cases: Sequence[Case]) -> tuple[list[Panelist], Said]:
    """Ask every judge about every case; replies are kept in the ledger, so that none is paid for twice."""
    from heedful.feedback.ai.guidelines import read_guideline
    from heedful.pipeline.judge_opening import opened, way_of
    from heedful.pipeline.judging import Panelist, judge_all
    from heedful.training.progress import Display

    display = Display()
    rubric = "" if config.asking.rubric is None else read_guideline(config.asking.rubric)
    way = way_of(_Manners(config.way, config.asking), rubric, ())
    with opened_book(config, config.ledger, display) as (book, purse):
        panel = []
        for name in config.judge:
            asker = opened(name, config, book, purse, display, logprobs=way.logprobs, forms=way.forms)
            panel.append(Panelist(name, asker, way))
        with display.task("AI judges", len(panel) * len(cases)) as bar:
            said = judge_all(panel, cases, tell=lambda done, _: bar.update(done, {}), keep=lambda *_: None)
    if said.stopped is not None:
        raise said.stopped
    for one in panel:
        if cases and all(opinion.probability is None for opinion in said.opinions[one.name].values()):
            told = ", ".join(f"{count} {why}" for why, count in said.troubles(one.name).items())
            raise HeedfulError(
                f"{one.name} could be read on none of {len(cases)} pairs ({told}).",
                where="judge",
                mend="Choose another model, or the other --way.",
            )
    return panel, said
