"""`heedful evaluate`: a policy against a baseline by a reward, its refusals, held-out text, and tasks of lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli import evaluate_beyond as beyond
from heedful.cli.command import parse, print_json, shown, stdout_for_results
from heedful.cli.opening import (
    DecodingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.errors import HeedfulError
from heedful.files import write_json
from heedful.training.config.asking import LoadingOptions

if TYPE_CHECKING:
    from heedful.data.records import Conversation
    from heedful.evaluation.compare import Answer, Comparison, Generate
    from heedful.evaluation.refusal_rates import RefusalReport
    from heedful.evaluation.tasks import TaskScore
    from heedful.models.policy import Policy
    from heedful.training.progress import Display


@dataclass(frozen=True)
class EvaluateConfig:
    """Win rate of a policy over a baseline on the same prompts, judged by a reward (--baseline, --reward, --data).

    Ties count half; the intervals resample prompts. A judge that the policy was trained on flatters it:
    use another one, or people.

    --refusals tells how often safe requests are refused against how often unsafe ones are, and --perplexity how well
    text is predicted that nothing was trained on; --lm-eval runs tasks of the lm-eval package. All of the baseline too,
    if one is named. Each can be asked for alone.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    baseline: str | None = None
    """What it is compared with, usually the SFT model."""
    reward: str | None = None
    """The judge: a reward model (folder or hub id), or module:function."""
    data: str | None = None
    """Prompts that neither has seen: any file that holds prompts, or a hub dataset id."""
    refusals: Literal["prompts", "world"] | None = None
    """Which requests: prompts (heedful's own 200 safe and 200 unsafe ones), or world (the embedded world's)."""
    refusal_judge: str | None = None
    """module:function from prompts and answers to whether each is a refusal, beside the rules."""
    perplexity: str | None = None
    """Held-out text: rows with a text column, or prompts with answers."""
    window: int = 1024
    """Most tokens of held-out text that are read at once."""
    lm_eval: tuple[str, ...] = ()
    """Tasks of the lm-eval package (heedful[lm-eval]): mmlu gsm8k, and so on."""
    lm_eval_include: Path | None = None
    """Folder with task files of your own for lm-eval."""
    lm_eval_chat: bool = False
    """Put the tasks' questions into the policy's chat template."""
    out: Path | None = None
    """JSON file for the whole record: every pair of answers with its scores."""
    report: Path | None = None
    """HTML page with the plots of --refusals."""
    samples: int = 1
    """Answers of each side to each prompt."""
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise HeedfulError(f"{self.samples} samples answer nothing.", where="samples", mend="Give 1 or more.")
        if self.asks_win_rate:
            missing = [name for name in ("baseline", "reward", "data") if getattr(self, name) is None]
            if missing:
                raise HeedfulError(
                    f"a win rate needs --{missing[0]}.",
                    mend="Name --baseline, --reward and --data; or ask for --refusals, --perplexity or --lm-eval.",
                )
        beyond.check(self)

    @property
    def asks_win_rate(self) -> bool:
        """Whether a win rate is asked for: by a reward or prompts, or because nothing else is."""
        others = self.refusals is not None or self.perplexity is not None or bool(self.lm_eval)
        return self.reward is not None or self.data is not None or not others


def evaluate(arguments: list[str]) -> int:
    """Parse the settings, compare, print the table."""
    call = parse(EvaluateConfig, "evaluate", arguments)
    config = call.settings
    with stdout_for_results():
        comparison, refusals, predicted, tasks = evaluated(config)
        if refusals:
            beyond.write_page(config, refusals)
    extra = beyond.as_json(refusals, predicted, tasks)
    record = comparison.as_dict() if comparison is not None else {}
    if config.out is not None:
        write_json(config.out, {**record, **extra})
    if call.json:
        record.pop("pairs", None)
        print_json({**record, **extra})
        return 0
    if comparison is not None:
        show(comparison)
    if refusals:
        beyond.show_refusals(refusals)
    if predicted:
        beyond.show_perplexity(predicted)
    if tasks:
        beyond.show_tasks(tasks)
    return 0


def evaluated(
    config: EvaluateConfig,
) -> tuple[Comparison | None, dict[str, RefusalReport], dict[str, Any], dict[str, list[TaskScore]]]:
    """Open the policies, and get whatever was asked for: the comparison; refusals, perplexities and tasks by policy."""
    from heedful.training.progress import Display

    display = Display()
    names = [config.policy, *([config.baseline] if config.baseline is not None else [])]
    policies = {name: open_policy(name, config.loading) for name in dict.fromkeys(names)}
    comparison = _compared(config, policies, display) if config.asks_win_rate else None
    refusals = beyond.refusals_of(config, policies, display) if config.refusals is not None else {}
    predicted = beyond.perplexity_of(config, policies) if config.perplexity is not None else {}
    tasks = beyond.tasks_of(config, policies) if config.lm_eval else {}
    return comparison, refusals, predicted, tasks


def _compared(config: EvaluateConfig, policies: dict[str, Policy], display: Display) -> Comparison:
    """Sample both sides and judge them."""
    from heedful.evaluation.compare import compare, judge_by
    from heedful.models.rewards import load_reward

    assert config.baseline is not None
    assert config.reward is not None
    policy, baseline = policies[config.policy], policies[config.baseline]
    reward = load_reward(config.reward, device=str(policy.device), precision=policy.precision)
    prompts = read_prompts(config.data, (), config.records, [policy, baseline], config.decoding, display)
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
