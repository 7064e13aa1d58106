"""`heedful sample`: answers of a policy to prompts, as JSON lines or on the screen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.cli.opening import (
    DecodingOptions,
    LoadingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.data.records import as_messages
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heedful.data.records import Conversation
    from heedful.evaluation.compare import Answer


@dataclass(frozen=True)
class SampleConfig:
    """Answers of a policy to prompts of a file or of the command line.

    With --out, each answer is a JSON line that `heedful sft` can read; else answers appear on the screen.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    data: str | None = None
    """Prompts: any file that holds prompts, or a hub dataset id."""
    prompt: tuple[str, ...] = ()
    """Prompts given here, each as one user message."""
    out: Path | None = None
    """File to write, one JSON object a line."""
    samples: int = 1
    """Answers to each prompt."""
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise HeedfulError(f"{self.samples} samples answer nothing.", where="samples", mend="Give 1 or more.")


def sample(arguments: list[str]) -> int:
    """Parse the settings, sample, and write or print."""
    call = parse(SampleConfig, "sample", arguments)
    with stdout_for_results():
        rows = sampled_rows(call.settings)
    out = call.settings.out
    if out is not None:
        from heedful.files import atomic_write

        with atomic_write(out) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if call.json:
        print_json({"out": out, "answers": len(rows)} if out is not None else rows)
    elif out is not None:
        print(f"{len(rows)} answers: {out}")
    else:
        _show(rows)
    return 0


def sampled_rows(config: SampleConfig) -> list[dict[str, Any]]:
    """Open the policy, answer the prompts; one JSON object per answer."""
    from heedful.training.progress import Display

    display = Display()
    policy = open_policy(config.policy, config.loading)
    prompts = read_prompts(config.data, config.prompt, config.records, [policy], config.decoding, display)
    answers = answer_all(policy, prompts, config.decoding.params(), config.samples, display, "sample")
    return as_rows(prompts, answers)


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
