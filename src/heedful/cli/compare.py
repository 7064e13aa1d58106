"""`heedful compare`: two policies side by side, and a blind vote if a person wants one."""

from __future__ import annotations

import random
from dataclasses import dataclass
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
from heedful.data.records import Conversation, as_messages, prompt_key
from heedful.evaluation.winrate import WinRate, win_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from heedful.evaluation.compare import Answer

SCORES = {"1": 1.0, "2": 0.0, "t": 0.5}
"""What a vote is worth to the answer shown first."""


@dataclass(frozen=True)
class CompareConfig:
    """Two policies side by side on the same prompts.

    With --blind the two answers come in random order without names; you type 1, 2 or t (a tie), and see
    the win rate at the end.
    """

    policy_a: tyro.conf.Positional[str]
    """The first policy: a folder or a hub id."""
    policy_b: tyro.conf.Positional[str]
    """The second policy."""
    data: str | None = None
    """Prompts: any file that holds prompts, or a hub dataset id."""
    prompt: tuple[str, ...] = ()
    """Prompts given here, each as one user message."""
    blind: bool = False
    """Hide which is which, and vote."""
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions(limit=20)
    loading: LoadingOptions = LoadingOptions()


@dataclass(frozen=True)
class Shown:
    """One prompt with the answers of both policies."""

    prompt: Conversation
    a: str
    b: str


def compare(arguments: list[str]) -> int:
    """Parse the settings, sample both, show or take votes."""
    call = parse(CompareConfig, "compare", arguments)
    config = call.settings
    with stdout_for_results():
        items = answered(config)
    if config.blind:
        with stdout_for_results():
            votes = take_votes(items, config.decoding.seed, input)
        _conclude(config, items, votes, as_json=call.json)
    elif call.json:
        print_json([{"prompt": as_messages(item.prompt), "a": item.a, "b": item.b} for item in items])
    else:
        _show_all(config, items)
    return 0


def answered(config: CompareConfig) -> list[Shown]:
    """Both policies' answers to the prompts."""
    from heedful.training.progress import Display

    display = Display()
    policies = [open_policy(name, config.loading) for name in (config.policy_a, config.policy_b)]
    prompts = read_prompts(config.data, config.prompt, config.records, policies, config.decoding, display)
    params = config.decoding.params()
    sides: list[Sequence[tuple[Answer, ...]]] = [
        answer_all(policy, prompts, params, 1, display, title)
        for policy, title in zip(policies, ("policy a", "policy b"), strict=True)
    ]
    return [Shown(p, a[0].text, b[0].text) for p, a, b in zip(prompts, *sides, strict=True)]


def take_votes(items: Sequence[Shown], seed: int, ask: Callable[[str], str]) -> list[float]:
    """Show pairs in random order and take a vote on each: 1 where a wins, 0 where b does, 1/2 for a tie.

    Ends early, with the votes so far, at "q", Ctrl-C or the end of the input.

    Args:
        items: the pairs.
        seed: of the order in which the two answers of a pair are shown.
        ask: prints a question and returns the line typed.
    """
    from rich.console import Console

    console = Console(stderr=True)
    order = random.Random(seed)
    votes: list[float] = []
    for number, item in enumerate(items, start=1):
        a_first = order.random() < 0.5
        first, second = (item.a, item.b) if a_first else (item.b, item.a)
        console.rule(f"{number} of {len(items)}")
        _show_pair(console, item.prompt, ("1", first), ("2", second))
        vote = _vote(ask)
        if vote is None:
            break
        votes.append(vote if a_first else 1 - vote)
    return votes


def _vote(ask: Callable[[str], str]) -> float | None:
    while True:
        try:
            typed = ask("Better: 1, 2, t (tie) or q (stop)? ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            return None
        if typed == "q":
            return None
        if typed in SCORES:
            return SCORES[typed]


def rate_of(items: Sequence[Shown], votes: Sequence[float]) -> WinRate | None:
    """The win rate of policy a over b by some votes; None with votes on fewer than two prompts."""
    clusters = [prompt_key(item.prompt) for item in items[: len(votes)]]
    if len(set(clusters)) < 2:
        return None
    return win_rate(votes, [1 - vote for vote in votes], clusters)


def _conclude(config: CompareConfig, items: Sequence[Shown], votes: Sequence[float], *, as_json: bool) -> None:
    rate = rate_of(items, votes)
    if as_json:
        judged = [
            {"prompt": as_messages(item.prompt), "a": item.a, "b": item.b, "a_wins": vote}
            for item, vote in zip(items, votes, strict=False)
        ]
        summary: dict[str, Any] = {"policy_a": config.policy_a, "policy_b": config.policy_b, "win_rate": rate}
        print_json({**summary, "votes": judged})
    elif rate is None:
        print(f"{len(votes)} votes: too few for a win rate; it takes two prompts.")
    else:
        print(f"{config.policy_a} against {config.policy_b}: win rate {shown(rate.rate)}")
        print(f"{rate.wins} wins, {rate.ties} ties, {rate.losses} losses")


def _show_all(config: CompareConfig, items: Sequence[Shown]) -> None:
    from rich.console import Console

    console = Console()
    for item in items:
        console.rule()
        _show_pair(console, item.prompt, (config.policy_a, item.a), (config.policy_b, item.b))


def _show_pair(console: Console, prompt: Conversation, first: tuple[str, str], second: tuple[str, str]) -> None:
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    for message in prompt:
        console.print(Text(f"{message.role}: ", style="bold cyan") + Text(message.content))
    side_by_side = console.width >= 100
    width = console.width // 2 - 1 if side_by_side else console.width
    panels = [Panel(Text(text), title=Text(name), title_align="left", width=width) for name, text in (first, second)]
    for row in [Columns(panels, padding=(0, 1))] if side_by_side else panels:
        console.print(row)
