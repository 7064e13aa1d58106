"""`heedful score`: the reward of every answer in a file, beside the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from heedful.cli.command import jsonable, parse, print_json, stdout_for_results
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError
from heedful.files import check_json_lines, write_json_lines
from heedful.training.config.blocks import BlocksOptions


@dataclass(frozen=True)
class ScoreConfig:
    """Rewards of answers: the rows of a file of prompts with an answer each, and one column more.

    A row that cannot be read gets no reward. Rows are written as JSON lines; with --blocks.launcher a folder of Parquet
    files is made of Parquet files.
    """

    reward: tyro.conf.Positional[str]
    """The reward, as in `heedful ppo --reward`: a model, several of them with a rule, or module:function."""
    data: str
    """Prompts with an answer: a file, a folder or a hub dataset id; with --blocks.launcher Parquet."""
    out: Path
    """File to write, .jsonl or .jsonl.gz; with --blocks.launcher a folder."""
    column: str = "reward"
    """What the column is called; one of that name is replaced."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    records: PromptOptions = PromptOptions()
    blocks: BlocksOptions = BlocksOptions()

    def __post_init__(self) -> None:
        if self.blocks.launcher == "none":
            check_json_lines(self.out)


def score(arguments: list[str]) -> int:
    """Parse the settings, score, write."""
    call = parse(ScoreConfig, "score", arguments)
    with stdout_for_results():
        found = scored_rows(call.settings)
    if call.json:
        print_json(found)
    else:
        print(f"{found['rows']} rows: {call.settings.out}")
    return 0


def scored_rows(config: ScoreConfig) -> dict[str, Any]:
    """Score all rows and write them; says how many there were.

    Raises:
        HeedfulError: nothing that has an answer, no such reward, or the file cannot be written.
    """
    from heedful.cli.block_work import ScoreWork

    if config.blocks.launcher == "ray":
        from heedful.cli.blocks import run

        return run(config, ScoreWork, config.blocks, data=config.data, out=config.out)
    from itertools import islice

    from heedful.data.read import read_rows

    rows = [row for _, row in islice(read_rows(config.data, split=config.records.split), config.records.limit)]
    if not rows:
        raise HeedfulError("there are no rows at all.", where=config.data, mend="Check that it is the right file.")
    rewards = ScoreWork(config).rewards(rows)
    write_json_lines(
        config.out, (jsonable(dict(row) | {config.column: value}) for row, value in zip(rows, rewards, strict=True))
    )
    return {"out": str(config.out), "rows": len(rows), "without_reward": rewards.count(None)}
