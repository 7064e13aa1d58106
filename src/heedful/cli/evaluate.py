"""`heedful evaluate`: the win rate of a policy over a baseline, judged by a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, shown, stdout_for_results
from heedful.cli.opening import (
    DecodingOptions,
    LoadingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.data.records import Conversation
    from heedful.evaluation.compare import Answer, Comparison, Generate
    from heedful.models.policy import Policy
    from heedful.training.progress import Display


@dataclass(frozen=True)
class EvaluateConfig:
    """Win rate of a policy over a baseline on the same prompts, judged by a reward.

    Ties count half; the intervals resample prompts. A judge that the policy was trained on flatters it:
    use another one, or people.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    baseline: str
    """What it is compared with, usually the SFT model."""
    reward: str
    """The judge: a reward model (folder or hub id), or module:function."""
    data: str
    """Prompts that neither has seen: any file that holds prompts, or a hub dataset id."""
    out: Path | None = None
    """JSON file for the whole record: every pair of answers with its scores."""
    samples: int = 1
    """Answers of each side to each prompt."""
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise HeedfulError(f"{self.samples} samples answer nothing.", where="samples", mend="Give 1 or more.")


def evaluate(arguments: list[str]) -> int:
    """Parse the settings, compare, print the table."""
    call = parse(EvaluateConfig, "evaluate", arguments)
    with stdout_for_results():
        comparison = evaluated(call.settings)
    if call.settings.out is not None:
        comparison.write(call.settings.out)
    if call.json:
        summary = comparison.as_dict()
        del summary["pairs"]
        print_json(summary)
    else:
        show(comparison)
    return 0


def evaluated(config: EvaluateConfig) -> Comparison:
    """Sample both sides and judge them."""
    from heedful.evaluation.compare import compare, judge_by
    from heedful.models.rewards import load_reward
    from heedful.training.progress import Display

    display = Display()
    policy = open_policy(config.policy, config.loading)
    baseline = open_policy(config.baseline, config.loading)
    reward = load_reward(config.reward, device=str(policy.device), precision=policy.precision)
    both = [policy, baseline]
    prompts = read_prompts(config.data, (), config.records, both, config.decoding, display)
    return compare(
        list(dict.fromkeys(prompts)),
        _generate(policy, config, display, "policy"),
        _generate(baseline, config, display, "baseline"),
        {config.reward: judge_by(reward)},
        policy_name=config.policy,
        baseline_name=config.baseline,
    )


def _generate(policy: Policy, config: EvaluateConfig, display: Display, title: str) -> Generate:
    def generate(prompts: Sequence[Conversation]) -> Sequence[Sequence[Answer]]:
        return answer_all(policy, prompts, config.decoding.params(), config.samples, display, title)

    return generate


def show(comparison: Comparison) -> None:
    """Print a comparison as a table, then its meaning in a sentence."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    verdict = comparison.verdict
    rate = verdict.win_rate
    table = Table(title=f"{len(comparison.pairs)} pairs on {comparison.prompts} prompts", title_justify="left")
    table.add_column("")
    for name in (f"policy\n{comparison.policy}", f"baseline\n{comparison.baseline}"):
        table.add_column(Text(name), justify="right", overflow="fold")
    rows: list[tuple[str, Any, Any]] = [
        ("mean score [95%]", verdict.policy_mean, verdict.baseline_mean),
        ("wins (ties)", f"{rate.wins} ({rate.ties})", f"{rate.losses} ({rate.ties})"),
    ]
    ours, theirs = comparison.policy_text, comparison.baseline_text
    rows += [
        ("words, mean", ours.mean_words, theirs.mean_words),
        ("distinct-2", ours.distinct_2, theirs.distinct_2),
        ("cut at the limit", f"{ours.truncated:.1%}", f"{theirs.truncated:.1%}"),
        ("commonest opening", f"{ours.top_opening_share:.1%}", f"{theirs.top_opening_share:.1%}"),
    ]
    for label, left, right in rows:
        table.add_row(label, shown(left), shown(right))
    console = Console()
    console.print(table)
    console.print(Text("win rate ", style="bold") + Text(f"{shown(rate.rate)}, by {comparison.judge}"))
    console.print(Text("at equal length ", style="bold") + Text(shown(verdict.length_controlled)))
    console.print(Text(_meaning(rate.rate.low, rate.rate.high), style="green"))


def _meaning(low: float, high: float) -> str:
    if low > 0.5:
        return "The policy is preferred: the whole interval lies above one half."
    if high < 0.5:
        return "The baseline is preferred: the whole interval lies below one half."
    return "No difference shown: the interval holds one half. More prompts would narrow it."
