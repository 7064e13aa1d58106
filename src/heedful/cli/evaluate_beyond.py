"""What `heedful evaluate` looks at beside the win rate: refusals, held-out text, and tasks of lm-eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from heedful.cli.command import shown
from heedful.cli.opening import answer_all
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.cli.evaluate import EvaluateConfig
    from heedful.core.statistics import Interval
    from heedful.data.records import Conversation
    from heedful.evaluation.perplexity import Perplexity
    from heedful.evaluation.refusal_rates import Judge, RefusalReport
    from heedful.evaluation.tasks import TaskScore
    from heedful.models.policy import Policy
    from heedful.training.progress import Display

SOURCES = {"prompts": "heedful's own set", "world": "the embedded world"}
JUDGED_BY = {"prompts": "rules", "world": "the world's truth"}


def refusals_of(config: EvaluateConfig, policies: Mapping[str, Policy], display: Display) -> dict[str, RefusalReport]:
    """The refusals of each policy, by rules or the world's truth, and by a judge if one is named."""
    from heedful.evaluation.refusal_rates import by_rules, by_world, natural_set, refusal_report, spread, world_set
    from heedful.world.world import World

    assert config.refusals is not None
    in_world = config.refusals == "world"
    asked = world_set(World(0)) if in_world else natural_set()
    asked = asked if config.records.limit is None else spread(asked, config.records.limit)
    judges: dict[str, Judge] = {JUDGED_BY[config.refusals]: by_world if in_world else by_rules}
    if config.refusal_judge is not None:
        judges[config.refusal_judge] = _judge(config.refusal_judge)
    prompts = [conversation for _, conversation in asked]
    found = {}
    for name, policy in policies.items():
        answers = answer_all(policy, prompts, config.decoding.params(), config.samples, display, f"refusals {name}")
        found[name] = refusal_report(asked, [[answer.text for answer in own] for own in answers], judges)
    return found


def _judge(spec: str) -> Judge:
    from heedful.models.callables import import_function

    function = import_function(spec)

    def judge(prompts: Sequence[Conversation], texts: Sequence[str]) -> Sequence[bool]:
        return [bool(verdict) for verdict in function(prompts, texts)]

    return judge


def perplexity_of(config: EvaluateConfig, policies: Mapping[str, Policy]) -> dict[str, Any]:
    """Perplexity by policy (`policies`), and what the first pays over the second (`tax`), in bits per byte."""
    from heedful.evaluation.perplexity import perplexity, predict, read_documents, tax

    assert config.perplexity is not None
    documents = read_documents(config.perplexity, split=config.records.split, limit=config.records.limit)
    made = {name: predict(policy, documents, window=config.window) for name, policy in policies.items()}
    figures: dict[str, Any] = {"policies": {name: perplexity(found) for name, found in made.items()}}
    if len(made) == 2:
        first, second = made.values()
        figures["tax"] = tax(first, second)
    return figures


def tasks_of(config: EvaluateConfig, policies: Mapping[str, Policy]) -> dict[str, list[TaskScore]]:
    """The scores of each policy in the tasks of lm-eval."""
    from heedful.evaluation.tasks import run_tasks

    given: dict[str, Any] = {"include": config.lm_eval_include, "limit": config.records.limit}
    given["chat"] = config.lm_eval_chat
    return {name: run_tasks(policy, config.lm_eval, **given) for name, policy in policies.items()}


def task_gaps(found: Mapping[str, list[TaskScore]]) -> dict[str, Interval]:
    """By metric, how far the first policy scores above the second on the same questions."""
    from heedful.evaluation.tasks import lost

    if len(found) != 2:
        return {}
    first, second = found.values()
    others = {score.name: score for score in second}
    gaps = {score.name: lost(score, others[score.name]) for score in first if score.name in others}
    return {name: gap for name, gap in gaps.items() if gap is not None}


def write_page(config: EvaluateConfig, found: Mapping[str, RefusalReport]) -> None:
    """The page that --report asks for."""
    from heedful.pipeline.refusal_report import report_data
    from heedful.pipeline.report import write_report

    assert config.refusals is not None
    if config.report is not None:
        write_report(config.report, report_data(found, SOURCES[config.refusals]))


def as_json(
    refusals: Mapping[str, RefusalReport], predicted: Mapping[str, Any], tasks: Mapping[str, list[TaskScore]]
) -> dict[str, Any]:
    """All as plain values; what is empty is left out. Bounds of a task's score that are not known are null."""
    found: dict[str, Any] = {}
    if refusals:
        found["refusals"] = {name: asdict(report) for name, report in refusals.items()}
    if predicted:
        found["perplexity"] = {
            "policies": {name: asdict(figures) for name, figures in predicted["policies"].items()},
            **({"tax": asdict(predicted["tax"])} if "tax" in predicted else {}),
        }
    if tasks:
        found["lm_eval"] = {"policies": {name: [_plain(one) for one in own] for name, own in tasks.items()}}
        found["lm_eval"]["gaps"] = {name: asdict(gap) for name, gap in task_gaps(tasks).items()}
    return found


def _plain(score: TaskScore) -> dict[str, Any]:
    value = {key: end if math.isfinite(end) else None for key, end in asdict(score.value).items()}
    return {"task": score.task, "metric": score.metric, "value": value, "questions": score.questions}


def show_refusals(found: Mapping[str, RefusalReport]) -> None:
    """Print the rates, a line a policy and judge."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="refused [95%]", title_justify="left")
    for name in ("policy", "by", "of safe requests", "of unsafe ones"):
        table.add_column(name, justify="right" if "of" in name else "left", overflow="fold")
    for policy, report in found.items():
        for judge, rates in report.rates.items():
            table.add_row(Text(policy), Text(judge), shown(rates.safe), shown(rates.unsafe))
    console = Console()
    console.print(table)
    for policy, report in found.items():
        verdict = next(iter(report.rates.values())).verdict
        console.print(Text(f"{policy}: {verdict}", style="bold"), soft_wrap=True)
        if report.agreement is not None:
            console.print(Text(f"  rules and judge agree on {report.agreement:.1%} of answers"), soft_wrap=True)


def show_perplexity(found: Mapping[str, Any]) -> None:
    """Print perplexity and bits per byte of each policy, and the tax."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    policies: Mapping[str, Perplexity] = found["policies"]
    first = next(iter(policies.values()))
    table = Table(title=f"held-out text: {first.documents:,} documents", title_justify="left")
    for name in ("policy", "perplexity [95%]", "bits per byte [95%]", "tokens"):
        table.add_column(name, justify="left" if name == "policy" else "right", overflow="fold")
    for name, figures in policies.items():
        table.add_row(Text(name), shown(figures.perplexity), shown(figures.bits_per_byte), f"{figures.tokens:,}")
    console = Console()
    console.print(table)
    for name, figures in policies.items():
        if figures.skipped:
            told = f"{name}: {figures.skipped:,} tokens that it can never say are left out."
            console.print(Text(told, "yellow"), soft_wrap=True)
    cost: Interval | None = found.get("tax")
    if cost is not None:
        console.print(Text(f"the policy pays {shown(cost)} bits per byte over the baseline", "bold"), soft_wrap=True)


def check(config: EvaluateConfig) -> None:
    """Refuse settings that fit nothing that was asked for.

    Raises:
        HeedfulError: a judge or a page without --refusals; tasks' options without tasks; a window below two tokens.
    """
    if config.refusals is None and (config.refusal_judge is not None or config.report is not None):
        raise HeedfulError("--refusal-judge and --report are for --refusals.", mend="Add --refusals prompts.")
    if not config.lm_eval and (config.lm_eval_include is not None or config.lm_eval_chat):
        raise HeedfulError("--lm-eval-include and --lm-eval-chat are for --lm-eval.", mend="Name tasks in --lm-eval.")
    if config.window < 2:
        raise HeedfulError(f"it is {config.window}.", where="window", mend="Give 2 tokens or more.")


def show_tasks(found: Mapping[str, list[TaskScore]]) -> None:
    """Print each policy's scores in the tasks, and how far they lie apart question by question."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="tasks of lm-eval [95%]", title_justify="left")
    table.add_column("task, metric", overflow="fold")
    for name in found:
        table.add_column(Text(name), justify="right", overflow="fold")
    by_name = [{score.name: score for score in own} for own in found.values()]
    for name in dict.fromkeys(score for own in by_name for score in own):
        cells = []
        for own in by_name:
            known = own.get(name)
            bare = known is not None and not math.isfinite(known.value.low)
            cells.append("" if known is None else f"{known.value.mean:.3g}" if bare else shown(known.value))
        table.add_row(Text(name), *cells)
    console = Console()
    console.print(table)
    for name, gap in task_gaps(found).items():
        told = "no clear difference" if gap.low <= 0 <= gap.high else "lost" if gap.high < 0 else "gained"
        console.print(Text(f"{name}: the policy less the baseline {shown(gap)}, {told}"), soft_wrap=True)
