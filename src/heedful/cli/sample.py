"""`heedful sample`: answers of a policy to prompts, or pairs of them to be judged, as JSON lines or on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli.command import Call, parse, print_json, stdout_for_results
from heedful.cli.opening import (
    DecodingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.data.records import as_messages
from heedful.errors import HeedfulError
from heedful.files import check_json_lines, write_json_lines
from heedful.training.config.asking import LoadingOptions
from heedful.training.config.blocks import BlocksOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heedful.data.records import Conversation
    from heedful.evaluation.compare import Answer
    from heedful.evaluation.pairs_to_judge import Members, Pair
    from heedful.training.progress import Display


@dataclass(frozen=True)
class ChoiceOptions:
    """Which pairs of answers people are to compare."""

    select: Literal["random", "disagreement", "information"] | None = None
    """random: by chance. disagreement: where reward models' score differences vary most. information: where a vote
    tells most about which of them is right. None: no pairs, all answers."""
    pairs: int | None = None
    """How many pairs; by default as many as prompts."""
    reward: str | None = None
    """The reward models, as mean:runs/a,runs/b, or mean:runs/reward where one has an ensemble of heads."""
    diversity: float = 0.0
    """0 to 1: how much it counts that the prompts chosen are unlike each other."""
    judge: str | None = None
    """Have the pairs judged at once, and write preferences that heedful reward reads: a reward model or module:function
    that gives gold scores, or world:SEED, the embedded world's truth. People judge what heedful import reads."""

    def __post_init__(self) -> None:
        given = [name for name in ("pairs", "reward", "judge") if getattr(self, name) is not None]
        given += ["diversity"] if self.diversity else []
        if self.select is None and given:
            raise HeedfulError(
                "it tells how pairs are chosen, and none are.", where=given[0], mend="Give --select, or leave it away."
            )
        if self.select == "random" and self.reward is not None:
            raise HeedfulError("chance asks no reward model.", where="reward", mend="Leave it away.")
        if self.select in ("disagreement", "information") and self.reward is None:
            raise HeedfulError(
                f"{self.select} needs reward models that can differ.",
                where="reward",
                mend="Give --reward mean:runs/a,runs/b, or --select random.",
            )
        if self.pairs is not None and self.pairs < 1:
            raise HeedfulError(f"{self.pairs} pairs are none to judge.", where="pairs", mend="Give 1 or more.")
        if not 0 <= self.diversity <= 1:
            raise HeedfulError(f"it is {self.diversity}, and must be from 0 to 1.", where="diversity")


@dataclass(frozen=True)
class SampleConfig:
    """Answers of a policy to prompts of a file or of the command line.

    With --out, each answer is a JSON line that `heedful sft` can read; else answers appear on the screen. With
    --select, pairs of answers are chosen for people to compare, and `heedful import` reads the file; with --judge too
    they are compared at once, and `heedful reward` reads it.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    data: str | None = None
    """Prompts: any file that holds prompts, or a hub dataset id."""
    prompt: tuple[str, ...] = ()
    """Prompts given here, each as one user message."""
    out: Path | None = None
    """File to write, one JSON object a line: .jsonl or .jsonl.gz; with --blocks.launcher a folder."""
    samples: int = 1
    """Answers to each prompt."""
    choice: ChoiceOptions = ChoiceOptions()
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()
    blocks: BlocksOptions = BlocksOptions()

    def __post_init__(self) -> None:
        self._check_blocks()
        if self.samples < 1:
            raise HeedfulError(f"{self.samples} samples answer nothing.", where="samples", mend="Give 1 or more.")
        if self.choice.select is None:
            return
        if self.samples < 2:
            raise HeedfulError("one answer to a prompt makes no pair.", where="samples", mend="Give 2 or more.")
        if self.decoding.temperature == 0:
            raise HeedfulError(
                "at 0 all answers to a prompt are the same, and nobody can compare them.",
                where="decoding.temperature",
                mend="Give a temperature above 0.",
            )

    def _check_blocks(self) -> None:
        if self.blocks.launcher == "none":
            if self.out is not None:
                check_json_lines(self.out)
            return
        if self.data is None or self.out is None:
            raise HeedfulError(
                "blocks are read from --data and written to --out.", where="blocks.launcher", mend="Give both."
            )
        if self.choice.select is not None:
            raise HeedfulError(
                "pairs are chosen among all prompts, and a block has a few.",
                where="choice.select",
                mend="Leave it away: all answers are written, and heedful judge compares them.",
            )


def sample(arguments: list[str]) -> int:
    """Parse the settings, sample, and write or print."""
    call = parse(SampleConfig, "sample", arguments)
    if call.settings.blocks.launcher == "ray":
        return _in_blocks(call)
    with stdout_for_results():
        rows = sampled_rows(call.settings)
    out = call.settings.out
    if out is not None:
        write_json_lines(out, rows)
    what = "answers" if call.settings.choice.select is None else "pairs"
    if call.json:
        print_json({"out": out, what: len(rows)} if out is not None else rows)
    elif out is not None:
        print(f"{len(rows)} {what}: {out}")
    elif what == "pairs":
        _show_pairs(rows)
    else:
        _show(rows)
    return 0


def _in_blocks(call: Call[SampleConfig]) -> int:
    from heedful.cli.block_work import SampleWork
    from heedful.cli.blocks import run

    config = call.settings
    assert config.data is not None
    assert config.out is not None
    with stdout_for_results():
        found = run(config, SampleWork, config.blocks, data=config.data, out=config.out)
    if call.json:
        print_json(found)
    else:
        print(f"{found['rows']} answers to {found['read']} rows: {config.out}")
    return 0


def sampled_rows(config: SampleConfig, display: Display | None = None) -> list[dict[str, Any]]:
    """Open the policy, answer the prompts; one JSON object per answer, or per pair of answers chosen."""
    from heedful.training.progress import Display

    display = display or Display()
    judges = None if config.choice.reward is None else _members(config.choice.reward, config.loading)
    policy = open_policy(config.policy, config.loading)
    prompts = read_prompts(config.data, config.prompt, config.records, [policy], config.decoding, display)
    answers = answer_all(policy, prompts, config.decoding.params(), config.samples, display, "sample")
    if config.choice.select is None:
        return as_rows(prompts, answers)
    return _pair_rows(config, prompts, answers, judges, display)


def _members(spec: str, loading: LoadingOptions) -> Members:
    """The reward models of a setting, each for itself.

    Raises:
        HeedfulError: it names a single one.
    """
    from heedful.models.rewards import EnsembleReward, load_reward
    from heedful.pipeline.choices import resolve_device, resolve_precision

    device = resolve_device(loading.device)
    reward = load_reward(spec, device=device, precision=resolve_precision(loading.precision, device))
    if not isinstance(reward, EnsembleReward):
        raise HeedfulError(
            "a single reward model has nothing to differ from.",
            where=f"reward {spec}",
            mend="Give several, as mean:runs/a,runs/b, or one with --heads.kind ensemble, as mean:runs/reward.",
        )

    def score(prompts: Sequence[Conversation], texts: Sequence[str]) -> Any:
        return reward.members(prompts, texts).detach().double().cpu().numpy()

    return score


def _pair_rows(
    config: SampleConfig,
    prompts: Sequence[Conversation],
    answers: Sequence[Sequence[Answer]],
    members: Members | None,
    display: Display,
) -> list[dict[str, Any]]:
    """The pairs chosen, as rows that `heedful import` reads, the first choice first."""
    from heedful.evaluation.pairs_to_judge import pairs_to_judge

    choice = config.choice
    assert choice.select is not None
    wanted = len(prompts) if choice.pairs is None else choice.pairs
    found = pairs_to_judge(
        prompts,
        answers,
        wanted,
        by=choice.select,
        members=members,
        diversity=choice.diversity,
        seed=config.decoding.seed,
    )
    if not found:
        raise HeedfulError(
            "no prompt has two different answers, so there is nothing to compare.",
            where="samples",
            mend="Sample more, or at a higher temperature.",
        )
    if len(found) < wanted:
        display.say(f"{len(found)} pairs of different answers, not {wanted}: all are taken.")
    if choice.judge is not None:
        return _judged(choice.judge, config.loading, prompts, answers, found)
    return [
        {
            "prompt": as_messages(prompts[pair.prompt]),
            "completion_a": answers[pair.prompt][pair.a].text,
            "completion_b": answers[pair.prompt][pair.b].text,
            "policy_a": config.policy,
            "policy_b": config.policy,
            "selected_by": choice.select,
            "score": pair.score,
        }
        for pair in found
    ]


def _judged(
    spec: str,
    loading: LoadingOptions,
    prompts: Sequence[Conversation],
    answers: Sequence[Sequence[Answer]],
    pairs: Sequence[Pair],
) -> list[dict[str, Any]]:
    """Pairs as a judge decided them: rows of heedful's own preferences. It is not told how they were chosen."""
    from statistics import fmean

    from heedful.monitoring.checks import Reply
    from heedful.pipeline.choices import resolve_device
    from heedful.pipeline.gold_checks import open_judge

    world = spec.partition(":")[0] == "world"
    judge = open_judge(spec, **({} if world else {"device": resolve_device(loading.device)}))
    asked = [prompts[pair.prompt] for pair in pairs]
    first, second = (
        [Reply(answers[pair.prompt][side].text, answers[pair.prompt][side].finished, 0.0) for pair, side in rows]
        for rows in ([(pair, pair.a) for pair in pairs], [(pair, pair.b) for pair in pairs])
    )
    return [
        {
            "prompt": as_messages(prompt),
            "a": a.text,
            "b": b.text,
            "probability": fmean(vote.won for vote in votes),
            "votes": len(votes),
        }
        for prompt, a, b, votes in zip(asked, first, second, judge(asked, first, second), strict=True)
        if votes
    ]


def as_rows(prompts: Sequence[Conversation], answers: Sequence[Sequence[Answer]]) -> list[dict[str, Any]]:
    """Answers as JSON objects, in the prompt-completion form that `heedful sft` and TRL read."""
    return [
        {
            "prompt": as_messages(prompt),
            "completion": [{"role": "assistant", "content": answer.text}],
            "sample": number,
            "finished": answer.finished,
            "tokens": answer.tokens,
        }
        for prompt, drawn in zip(prompts, answers, strict=True)
        for number, answer in enumerate(drawn)
    ]


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for row in rows:
        if row["sample"] == 0:
            for message in row["prompt"]:
                console.print(Text(f"{message['role']}: ", style="bold cyan") + Text(message["content"]))
        ending = Text("" if row["finished"] else "  [cut at the longest answer]", style="dim")
        console.print(Text("answer: ", style="bold green") + Text(row["completion"][0]["content"]) + ending, end="\n\n")


def _show_pairs(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for row in rows:
        for message in row["prompt"]:
            console.print(Text(f"{message['role']}: ", style="bold cyan") + Text(message["content"]))
        for side in ("a", "b"):
            text = row[side] if side in row else row[f"completion_{side}"]
            console.print(Text(f"{side}: ", style="bold green") + Text(text))
        said = f"probability that a is preferred: {row['probability']:g}" if "probability" in row else _worth(row)
        console.print(Text(said, style="dim"), end="\n\n")


def _worth(row: dict[str, Any]) -> str:
    return f"worth {row['score']:.4g} by {row['selected_by']}"
