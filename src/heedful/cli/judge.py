"""`heedful judge`: models judge pairs, rankings and scores, and people's judgments say how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli.command import Call, jsonable, parse, print_json, stdout_for_results
from heedful.cli.feedback_io import StoreOptions
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError
from heedful.training.config.asking import AskingOptions, BudgetOptions, EndpointOptions, LoadingOptions
from heedful.training.config.blocks import BlocksOptions
from heedful.training.progress import Display

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heedful.feedback.ai.ways import Way
    from heedful.feedback.client import FeedbackClient
    from heedful.pipeline.judge_cases import Cases, PeopleSaid
    from heedful.pipeline.judging import Judged, Panelist

WayName = Literal["logprob", "verdict", "ranking", "attributes", "critique"]
PAIRS = ("logprob", "verdict")
KINDS = {
    "logprob": ("pairwise",),
    "verdict": ("pairwise",),
    "ranking": ("ranking",),
    "attributes": ("attributes",),
    "critique": ("attributes",),
}
"""The kinds of task in a store that each way answers."""


@dataclass(frozen=True)
class JudgeConfig:
    """Models judge answers: a file's, or a programme's in a studio's store. Both orders are shown and averaged.

    A judge is MODEL (at --endpoint.url), MODEL@URL of any OpenAI-compatible server (vLLM, Ollama, llama.cpp,
    `transformers serve`), or hf:FOLDER for a model in this process. Several are a panel, whose reliability the
    rater-aware model tells. With --people, a file of people's judgments of some of the same pairs, each judge is
    measured and its labels are corrected.
    """

    data: tyro.conf.Positional[str | None] = None
    """Comparisons, rankings, battles, or prompts with a completion a row: any format that heedful reads."""
    judge: tuple[str, ...] = ()
    """Who judges: MODEL, MODEL@URL or hf:FOLDER, one or several."""
    out: Path | None = None
    """Folder for judgments.jsonl, the labels, judge.json and the ledger."""
    way: WayName = "logprob"
    """logprob: A or B by the probability of the letter, a soft label. verdict: A or B with a rationale. ranking: all in
    order. attributes: points for each attribute. critique: a critique of each answer, then a score of 1 to 10."""
    constitution: str | None = None
    """With --way logprob: a YAML file of principles, or default for heedful's own. Each pair is judged by one that is
    drawn for it, in place of a rubric."""
    tags: tuple[str, ...] = ()
    """Of a constitution: draw only from principles with one of these tags."""
    thoughts: bool = False
    """Of a constitution: the judge reasons before it chooses, and its labels are clamped to 40 to 60%."""
    orders: Literal["both", "one"] = "both"
    """Show each case in both orders, or in one that is drawn: half the cost, and its position bias stays in."""
    programme: str = ""
    """Judge the items of this programme in place of a file; the judgments go into its store."""
    batches: tuple[str, ...] = ()
    """Only these batches of the programme, by name or id."""
    people: str | None = None
    """A file of comparisons that people judged; of a programme, its people's judgments are taken by themselves."""
    gold: str | None = None
    """A file of comparisons whose better answer is known."""
    family: str = ""
    """Part of the names of models of the judge's own family; by default the first word of its own name."""
    ledger: Path | None = None
    """Where replies are kept; by default ledger.sqlite in the folder. The same ledger is never paid twice."""
    asking: AskingOptions = AskingOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()
    store: StoreOptions = field(default_factory=StoreOptions)
    blocks: BlocksOptions = BlocksOptions()

    def __post_init__(self) -> None:
        if not self.judge:
            raise HeedfulError(
                "nobody is to judge.", where="judge", mend="Name a judge: --judge MODEL@URL or hf:FOLDER."
            )
        if len(set(self.judge)) < len(self.judge):
            raise HeedfulError("a judge stands there twice.", where="judge", mend="Name each once.")
        if (self.data is None) == (not self.programme):
            raise HeedfulError("give a file or a programme.", where="data", mend="One of them, not both.")
        if self.out is None:
            raise HeedfulError("where do the judgments go?", where="out", mend="Name a folder: --out FOLDER.")
        self._check_constitution()
        if self.blocks.launcher == "ray":
            from heedful.cli.block_work import check_judge

            check_judge(self)
        if self.batches and not self.programme:
            raise HeedfulError("batches are a programme's.", where="batches", mend="Name it: --programme NAME.")

    def _check_constitution(self) -> None:
        for name in ("tags", "thoughts"):
            if getattr(self, name) and self.constitution is None:
                raise HeedfulError("it tells of a constitution's principles.", where=name, mend="Give --constitution.")
        if self.constitution is None:
            return
        if self.way != "logprob":
            raise HeedfulError(
                "a principle's label is the letters' log-probability.", where="way", mend="Leave it at logprob."
            )
        if self.asking.rubric is not None:
            raise HeedfulError("principles stand in a rubric's place.", where="asking.rubric", mend="Give one of them.")
        if len(self.judge) > 1:
            raise HeedfulError(
                "a constitution's labels are one judge's.", where="judge", mend="Name one; run another for the other."
            )


def judge(arguments: list[str]) -> int:
    """`heedful judge`."""
    call = parse(JudgeConfig, "judge", arguments)
    if call.settings.blocks.launcher == "ray":
        return _in_blocks(call)
    with stdout_for_results():
        found = judged_by(call.settings, Display())
    if call.json:
        print_json(found)
    else:
        from heedful.cli.judge_terminal import show

        show(found)
    judged = any(one["card"] is not None for one in found["judges"])
    return 0 if found["finished"] and judged else 1


def _in_blocks(call: Call[JudgeConfig]) -> int:
    from heedful.cli.block_work import judged_blocks

    with stdout_for_results():
        found = judged_blocks(call.settings)
    if call.json:
        print_json(found)
    else:
        spent = found["spent"]
        print(f"{found['preferences']} labels of {found['read']} rows: {call.settings.out}")
        print(f"spent over all runs: {spent['requests']:,} requests, {spent['tokens']:,} tokens, {spent['cost']:.4f}")
    return 0


def judged_by(config: JudgeConfig, display: Display) -> dict[str, Any]:
    """Judge, write the folder, and say what is known of the judges.

    Raises:
        HeedfulError: wrong input, or a judge that cannot answer as it must, before the first case is judged.
    """
    from heedful.feedback.ai.budget import Budget, Purse
    from heedful.feedback.ai.ledger import LEDGER, Ledger
    from heedful.pipeline.judging import StoreWriter, judge_all
    from heedful.pipeline.run_folder import locked

    assert config.out is not None
    limits = Budget(config.budget.requests, config.budget.tokens, config.budget.money)
    client = _client(config) if config.programme else None
    cases, people, gold = _material(config, client)
    display.say(f"{cases.says} {len(cases.cases)} cases to judge.")
    with locked(config.out):
        ledger = Ledger(config.ledger or config.out / LEDGER)
        try:
            if ledger.lost:
                display.say(
                    f"An earlier run was killed with {ledger.lost} requests under way. They may have been paid for;"
                    " they are asked again, and count against the budget."
                )
            way = _way(config, client)
            purse = Purse(limits, ledger.spent())
            panel = _panel(config, way, ledger, purse, display)
            before = purse.spent
            writer = StoreWriter(client, config.programme, cases.cases) if client is not None else None
            with display.task("judging", len(panel) * len(cases.cases)) as bar:

                def tell(done: int, total: int) -> None:
                    spent = purse.spent - before
                    figures = {"requests": spent.requests, "cost": spent.cost}
                    bar.update(done, {what: value for what, value in figures.items() if value})

                keep = writer.keep if writer is not None else lambda *_: None
                judged = judge_all(panel, cases.cases, tell=tell, keep=keep)
            if writer is not None:
                writer.close()
            return _concluded(config, panel, judged, people, gold, ledger, writer.written if writer else None)
        finally:
            ledger.close()


def _concluded(
    config: JudgeConfig,
    panel: list[Panelist],
    judged: Judged,
    people: PeopleSaid,
    gold: PeopleSaid,
    ledger: Any,
    recorded: int | None,
) -> dict[str, Any]:
    from heedful.pipeline.judging import (
        Labels,
        cards_of,
        constitution_of,
        labels,
        panel_consensus,
        read_by,
        win_rates,
        write_out,
    )
    from heedful.pipeline.run_folder import code_version

    assert config.out is not None
    cards = cards_of(panel, judged, people, gold, seed=config.asking.seed)
    crowd = panel_consensus(panel, judged, people, gold) if len(panel) > 1 and cards else None
    made = Labels([], "", len(judged.cases))
    if len(cards) == len(panel):
        made = labels(panel, judged, cards, crowd)
    spent, outcomes = ledger.spent(), ledger.outcomes()
    found: dict[str, Any] = {
        "out": str(config.out),
        "finished": judged.stopped is None,
        "stopped": "" if judged.stopped is None else str(judged.stopped),
        "cases": len(judged.cases),
        "labels": len(made.records),
        "left_out": made.left_out,
        "how": made.how,
        "recorded": recorded,
        "read": read_by({"data": config.data, "people": config.people, "gold": config.gold}),
        "programme": config.programme,
        "constitution": constitution_of(panel),
        "code": {"heedful": code_version()},
        "spent": {"requests": spent.requests, "tokens": spent.tokens, "cost": spent.cost, "outcomes": outcomes},
        "judges": [
            {
                "name": one.name,
                "template": one.way.template(judged.cases[0]).version,
                "temperature": one.way.manner.temperature,
                "judged": len(judged.opinions.get(one.name, {})),
                "troubles": judged.troubles(one.name) if one.name in judged.opinions else {},
                "card": cards[one.name][1] if one.name in cards else None,
                "win_rates": win_rates(cards[one.name][0], judged, cards[one.name][1]) if one.name in cards else [],
                "reliability": _reliability(crowd, one.name) if crowd is not None else None,
            }
            for one in panel
        ],
    }
    found["files"] = write_out(config.out, panel, judged, made, jsonable(found))
    return found


def _reliability(crowd: Any, name: str) -> dict[str, float] | None:
    """What the rater-aware model says of one judge; None where it judged nothing."""
    ids = [str(one) for one in crowd.rater_ids.tolist()]
    if name not in ids:
        return None
    at = ids.index(name)
    figures = {"accuracy": float(crowd.accuracy[at])}
    for kind in ("slope", "position", "length"):
        estimates = getattr(crowd, kind)
        figures |= {kind: float(estimates.value[at]), f"{kind}_error": float(estimates.error[at])}
    return figures


def _client(config: JudgeConfig) -> FeedbackClient:
    from heedful.feedback.client import connect

    if config.store.studio:
        return connect(studio=config.store.studio, allow_insecure=config.store.allow_insecure)
    from heedful.cli.feedback_io import open_database

    open_database(config.store.database)
    return connect(database=config.store.database)


def _material(config: JudgeConfig, client: FeedbackClient | None) -> tuple[Cases, PeopleSaid, PeopleSaid]:
    from heedful.data.load import DataSpec
    from heedful.pipeline.judge_cases import PeopleSaid, cases_of_file, cases_of_store, people_of_file, people_of_store

    options = config.records
    people = PeopleSaid()
    if client is not None:
        cases = cases_of_store(client, config.programme, config.batches, KINDS[config.way])
        people = people_of_store(client, config.programme, cases.cases)
    else:
        assert config.data is not None
        spec = DataSpec(config.data, options.format, options.split, options.on_bad_row, options.limit)
        cases = cases_of_file(spec, pairs=config.way in PAIRS)
    if config.people is not None:
        people = people_of_file(DataSpec(config.people))
    gold = PeopleSaid() if config.gold is None else people_of_file(DataSpec(config.gold))
    return cases, people, gold


def _way(config: JudgeConfig, client: FeedbackClient | None) -> Way:
    from heedful.feedback.ai.guidelines import read_guideline
    from heedful.feedback.ai.templates import ULTRAFEEDBACK
    from heedful.pipeline.judge_opening import way_of

    rubric = ""
    attributes: tuple[Mapping[str, Any], ...] = ULTRAFEEDBACK
    if client is not None and not config.store.studio:
        from heedful.cli.judge_store import guideline_of

        rubric, own = guideline_of(config.programme, config.batches)
        attributes = tuple(own) or attributes
    elif client is not None and config.way in ("attributes", "critique"):
        raise HeedfulError(
            "a studio's API does not tell a rubric's attributes.", where="way", mend="Give --database, or another way."
        )
    if config.way == "critique" and client is not None and [one["name"] for one in attributes] != ["overall"]:
        raise HeedfulError(
            "a critique ends in one score, which the programme's rubric has no attribute for.",
            where="way",
            mend="Use --way attributes, or judge a file.",
        )
    if config.asking.rubric is not None:
        rubric = read_guideline(config.asking.rubric)
    return way_of(config, rubric, attributes)


def _panel(config: JudgeConfig, way: Way, ledger: Any, purse: Any, display: Display) -> list[Panelist]:
    from heedful.pipeline.judge_opening import opened
    from heedful.pipeline.judging import Panelist

    return [
        Panelist(
            name,
            opened(name, config, ledger, purse, display, logprobs=way.logprobs, forms=way.forms),
            way,
            config.family.casefold(),
        )
        for name in config.judge
    ]
