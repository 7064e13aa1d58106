"""What is done with a block of rows: answers sampled, rewards given, judgments asked for.

A work is made in the process that does it, from settings that travel, and opens its models once. None needs Ray.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heedful.data.blocks import Block
from heedful.data.held import Holding
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.cli.judge import JudgeConfig
    from heedful.cli.sample import SampleConfig
    from heedful.cli.score import ScoreConfig
    from heedful.training.progress import Display

JUDGED = ("judgments", "preferences")
"""The folders of judged blocks."""


class SampleWork:
    """Answers of a policy to the prompts of a block, a row each, as `heedful sample` writes them."""

    def __init__(self, config: SampleConfig) -> None:
        from heedful.cli.opening import open_policy

        self.config = config
        self.policy = open_policy(config.policy, config.loading)

    def __call__(self, table: Any, block: Block) -> Mapping[str, Any]:
        """The seed of a block is the run's and the number of its first row: who samples it does not count."""
        from heedful.cli.opening import answer_all, read_prompts
        from heedful.cli.sample import as_rows

        config = self.config
        records = replace(config.records, limit=None)
        with Holding() as holding:
            name = holding.rows(table.to_pylist())
            prompts = read_prompts(name, (), records, [self.policy], config.decoding, silent())
        params = config.decoding.params()
        params = replace(params, seed=params.seed + block.start)
        answers = answer_all(self.policy, prompts, params, config.samples, silent(), "sample")
        return {"": _arrow(as_rows(prompts, answers), _sampled_schema())}


class ScoreWork:
    """Rewards of answers: the rows of a block with one column more."""

    def __init__(self, config: ScoreConfig) -> None:
        from heedful.models.rewards import load_reward
        from heedful.pipeline.choices import resolve_device

        self.config = config
        self.reward = load_reward(config.reward, device=resolve_device(config.device))

    def __call__(self, table: Any, block: Block | None = None) -> Mapping[str, Any]:
        """A row that cannot be read, or has no answer, gets no reward (null)."""
        import pyarrow

        values = self.rewards(table.to_pylist())
        column = self.config.column
        if column in table.column_names:
            table = table.drop_columns([column])
        return {"": table.append_column(column, pyarrow.array(values, pyarrow.float64()))}

    def rewards(self, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
        """The reward of each row's answer."""
        from heedful.data.load import DataSpec, load_demonstrations

        records = self.config.records
        with Holding() as holding:
            spec = DataSpec(holding.rows(rows), records.format, None, records.on_bad_row)
            found = load_demonstrations(spec).records
        given: list[float | None] = [None] * len(rows)
        scores = self.reward([one.prompt for one in found], [one.completion for one in found])
        for one, score in zip(found, scores.tolist(), strict=True):
            given[one.origin.line - 1] = float(score)
        return given


class JudgeWork:
    """A judge's judgments of a block's pairs, and the labels that they make.

    Args:
        ledger, purse: kept by one process for all workers, or this one's own.
    """

    def __init__(self, config: JudgeConfig, ledger: Any, purse: Any) -> None:
        from heedful.cli.judge import _panel, _way

        self.config = config
        self.panel = _panel(config, _way(config, None), ledger, purse, silent())
        self.done = getattr(ledger, "release", lambda: None)

    def __call__(self, table: Any, block: Block) -> Mapping[str, Any]:
        """Raises BudgetSpentError where the budget does not reach the block's end: what was answered is kept."""
        from heedful.cli.judge import PAIRS
        from heedful.data.load import DataSpec
        from heedful.data.write import WRITERS
        from heedful.pipeline.judge_cases import PeopleSaid, cases_of_file
        from heedful.pipeline.judging import cards_of, judge_all, labels, look_rows

        config, nobody = self.config, PeopleSaid()
        with Holding() as holding:
            spec = DataSpec(holding.rows(table.to_pylist()), config.records.format, None, config.records.on_bad_row)
            cases = cases_of_file(spec, pairs=config.way in PAIRS).cases
        try:
            judged = judge_all(self.panel, cases, tell=lambda *_: None, keep=lambda *_: None)
        finally:
            self.done()
        if judged.stopped is not None:
            raise judged.stopped
        rows = [
            row | {"case": block.start + number, "origin": str(block)}
            for one in self.panel
            for number, opinion in sorted(judged.opinions[one.name].items())
            for row in look_rows(one, number, cases[number], opinion)
        ]
        cards = cards_of(self.panel, judged, nobody, nobody, seed=config.asking.seed)
        records = labels(self.panel, judged, cards, None).records if cards else []
        made = [WRITERS["heedful"](record) for record in records]
        return {
            "judgments": _arrow([{"json": json.dumps(row, ensure_ascii=True)} for row in rows], _json_schema()),
            "preferences": _arrow(made, _preference_schema()),
        }


def silent() -> Display:
    """A display that shows nothing: a worker has no terminal."""
    from rich.console import Console

    from heedful.training.progress import Display

    return Display(Console(file=open(os.devnull, "w"), force_terminal=False))


def _arrow(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _messages() -> Any:
    import pyarrow

    return pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))


def _sampled_schema() -> Any:
    import pyarrow

    return pyarrow.schema(
        [
            ("prompt", _messages()),
            ("completion", _messages()),
            ("sample", pyarrow.int64()),
            ("finished", pyarrow.bool_()),
            ("tokens", pyarrow.int64()),
        ]
    )


def _preference_schema() -> Any:
    import pyarrow

    number, text = pyarrow.float64(), pyarrow.string()
    return pyarrow.schema(
        [
            ("prompt", _messages()),
            ("a", text),
            ("b", text),
            ("probability", number),
            ("votes", pyarrow.int64()),
            ("margin", number),
            ("weight", number),
            ("consensus", text),
        ]
    )


def _json_schema() -> Any:
    import pyarrow

    return pyarrow.schema([("json", pyarrow.string())])


def check_judge(config: JudgeConfig) -> None:
    """Refuse what a judge of blocks cannot be asked for.

    Raises:
        HeedfulError: a store, people's or gold judgments, several judges, or a way that makes no pairs' labels.
    """
    from heedful.cli.judge import PAIRS

    mend = "Judge it without blocks.launcher, or leave it out."
    for name, given in (("programme", config.programme), ("people", config.people), ("gold", config.gold)):
        if given:
            what = "block by block a judge is measured by nobody, and no store is written."
            raise HeedfulError(what, where=name, mend=mend)
    if len(config.judge) > 1:
        raise HeedfulError("a panel needs all its judgments at once.", where="judge", mend="Name one judge.")
    if config.way not in PAIRS:
        raise HeedfulError(f"blocks are judged by {' or '.join(PAIRS)}.", where="way", mend=mend)


def judged_blocks(config: JudgeConfig) -> dict[str, Any]:
    """Have a judge's blocks made on a Ray cluster, with one ledger; says what was made and spent.

    Raises:
        HeedfulError: as `heedful.cli.blocks.run`; a judge that cannot answer as it must, before the first block.
    """
    from heedful.cli.blocks import run
    from heedful.feedback.ai.budget import Budget
    from heedful.feedback.ai.ledger import LEDGER, Ledger
    from heedful.pipeline.ray_ledger import keeping

    assert config.data is not None
    assert config.out is not None
    path = config.ledger or config.out / LEDGER
    budget = Budget(config.budget.requests, config.budget.tokens, config.budget.money)
    waits = not config.judge[0].startswith("hf:")

    @contextmanager
    def shared() -> Iterator[tuple[Any, ...]]:
        with keeping(path, budget, waits=waits) as (ledger, purse):
            JudgeWork(config, ledger, purse)  # what is wrong with the judge is found here, once, and said at once
            yield ledger, purse

    found = run(config, JudgeWork, config.blocks, data=config.data, out=config.out, kinds=JUDGED, shared=shared)
    ledger = Ledger(path)
    try:
        spent, outcomes = ledger.spent(), ledger.outcomes()
    finally:
        ledger.close()
    return found | {
        "spent": {"requests": spent.requests, "tokens": spent.tokens, "cost": spent.cost, "outcomes": outcomes}
    }
