"""`heedful best-of-n`: sample many answers, keep the one that a reward likes best, and see what that brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.cli.opening import (
    DecodingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.errors import HeedfulError
from heedful.training.config.asking import LoadingOptions

if TYPE_CHECKING:
    from heedful.data.records import Conversation
    from heedful.evaluation.compare import Answer


@dataclass(frozen=True)
class BestOfNConfig:
    """Sample N answers to each prompt and keep the one that a reward likes best.

    --out then holds best.jsonl for `heedful sft` (rejection sampling), pairs.jsonl (best against worst) for
    `heedful dpo`, samples.jsonl (all answers with their scores) and report.html: what the best of n = 1, 2, 4, ..., N
    is worth, to the reward and to --gold, against the KL that it costs at most.

    An interrupted run leaves nothing behind and begins anew; a finished one is not run again.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    reward: str
    """The reward that chooses: a model, several of them with a rule, or module:function."""
    out: Path
    """Folder of the result."""
    data: str | None = None
    """Prompts: any file that holds prompts, or a hub dataset id. One that stands there twice is answered once."""
    prompt: tuple[str, ...] = ()
    """Prompts given here, each as one user message."""
    gold: str | None = None
    """A judge that does not choose, in the same forms: where it falls, the reward is being exploited."""
    samples: int = 16
    """Answers to each prompt, of which the best is kept."""
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise HeedfulError(
                f"{self.samples} leaves nothing to choose among.", where="samples", mend="Give 2 or more."
            )
        if self.decoding.temperature == 0:
            raise HeedfulError(
                "at 0 all answers to a prompt are the same, and there is nothing to choose among.",
                where="decoding.temperature",
                mend="Give a temperature above 0.",
            )


def best_of_n(arguments: list[str]) -> int:
    """Parse the settings, sample, choose, write the folder, print the curve."""
    call = parse(BestOfNConfig, "best-of-n", arguments)
    with stdout_for_results():
        manifest = chosen(call.settings)
    if call.json:
        print_json({"out": call.settings.out, **manifest})
    else:
        _show(call.settings.out, manifest)
    return 0


def chosen(config: BestOfNConfig) -> dict[str, Any]:
    """Write the folder; returns its manifest."""
    from heedful.pipeline.best_of_n import Asked, each_once, held, load_judges, run_best_of_n
    from heedful.training.progress import Display

    display = Display()
    with held(config.out, config, display) as done:
        if done is not None:
            return done
        policy = open_policy(config.policy, config.loading)
        judges = load_judges(config.reward, config.gold, device=str(policy.device), precision=policy.precision)
        found = read_prompts(config.data, config.prompt, config.records, [policy], config.decoding, display)
        prompts = each_once(found, display)

        def generate(prompts: Sequence[Conversation]) -> Sequence[Sequence[Answer]]:
            return answer_all(policy, prompts, config.decoding.params(), config.samples, display, "sample")

        source = config.data if config.data is not None else "the command line"
        asked = Asked(config.policy, config.loading.revision, source, prompts, config.decoding.seed)
        return run_best_of_n(asked, config, judges, generate, display)


def _show(out: Path, manifest: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    figures = manifest["figures"]
    judges = [name for name in ("proxy", "gold") if name in figures["curves"]]
    title = f"{figures['prompts']} prompts, {figures['samples']} answers to each"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("n", "KL at most", *(f"{judge} [95%]" for judge in judges), "words"):
        table.add_column(name, justify="right", no_wrap=True)
    for i, words in enumerate(figures["words"]):
        points = [figures["curves"][judge][i] for judge in judges]
        values = [f"{p['mean']:.3f} [{p['low']:.3f}, {p['high']:.3f}]" for p in points]
        table.add_row(str(points[0]["n"]), f"{points[0]['kl_bound']:.2f}", *values, f"{words:.1f}")
    console = Console()
    console.print(table)
    console.print(Text(f"{figures['best']} best answers, {figures['pairs']} pairs: {out}"), soft_wrap=True)
    for said in _left_out(figures):
        console.print(Text(said, "yellow"), soft_wrap=True)
    console.print(Text(manifest["meaning"], style="green"))


def _left_out(figures: dict[str, Any]) -> list[str]:
    """What is not in the files, and why, a line each."""
    left, prompts = figures["left_out"], f"of {figures['prompts']} prompts"
    told = (
        (left["empty_best"], f"no best answer to {{}} {prompts}: the best is empty"),
        (left["alike"], f"no pair of {{}} {prompts}: their answers all score alike"),
        (left["unusable_pairs"], f"no pair of {{}} {prompts}: best or worst is empty, or both are the same text"),
        (figures["cut_best"], f"cut at the longest answer: {{}} of {figures['best']} best; raise --max-new-tokens"),
    )
    return [said.format(count) for count, said in told if count]
