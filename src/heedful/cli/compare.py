"""`heedful compare`: policies against each other, by a reward, by gold, by judgments, or by your own eyes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli.command import parse, print_json, shown, stdout_for_results
from heedful.cli.feedback_io import StoreOptions
from heedful.cli.opening import (
    DecodingOptions,
    PromptOptions,
    answer_all,
    open_policy,
    read_prompts,
)
from heedful.data.held import PREFIX
from heedful.data.records import Conversation, as_messages, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.winrate import WinRate, win_rate
from heedful.training.config.asking import AskingOptions, BudgetOptions, EndpointOptions, LoadingOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from heedful.models.policy import Policy
    from heedful.training.progress import Display

SIDE_BY_SIDE = 20
"""Prompts that are shown where no limit is given."""

SCORES = {"1": 1.0, "2": 0.0, "t": 0.5}
"""What a vote is worth to the answer shown first."""


@dataclass(frozen=True)
class CompareConfig:
    """Policies, or files of their answers, against each other on the same prompts.

    With --reward, --judge for AI judges, --world for the embedded world's truth, or --people for raters of the
    studio, every two of them are judged: win rates, raw, at equal length and in equal style, and strengths of all
    (Bradley-Terry). Several judges stand beside each other. People are asked once: the pairs go into a batch of their
    own, none of which enters training, and the same command tells what they have said so far. With --judgments the
    verdicts of a file are taken instead, and the names are those of the models in it, all where none is given. With
    none of these the answers are shown side by side; --blind hides which is which of two, takes your votes (1, 2 or t
    for a tie) and shows the win rate at the end.
    """

    policies: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders, hub ids, or files with prompts and completions, as `heedful sample --out` writes them."""
    data: str | None = None
    """Prompts: any file that holds prompts, or a hub dataset id."""
    prompt: tuple[str, ...] = ()
    """Prompts given here, each as one user message."""
    reward: str | None = None
    """The judge: a reward model (folder or hub id), or module:function."""
    judge: tuple[str, ...] = ()
    """AI judges, blind, each pair in both orders: MODEL, MODEL@URL or hf:FOLDER, as heedful judge takes them."""
    way: Literal["logprob", "verdict"] = "logprob"
    """Of AI judges: A or B by the probability of the letter, or with a rationale."""
    ledger: Path = Path("ledger.sqlite")
    """Where replies of AI judges are kept, so that none is paid for twice."""
    world: int | None = None
    """Judge by the embedded world of this seed, on its own unseen prompts where no --data is given."""
    people: str | None = None
    """The judges: raters of this programme of the studio, blind, each pair in an order of its own."""
    votes: int = 1
    """Judgments of people for each pair."""
    group: str | None = None
    """A question that raters answered of themselves: rates for each group of five raters or more (of a database)."""
    judgments: str | None = None
    """A file of judgments of named models: AlpacaEval's, Chatbot Arena's, or heedful's with model_a and model_b."""
    blind: bool = False
    """Hide which is which, and vote."""
    samples: int = 1
    """Answers of each to each prompt, where they are judged."""
    by: str | None = None
    """A column of --data that sorts the prompts (topic, phrasing, language): the rates are given for each sort too."""
    out: Path | None = None
    """JSON file for all figures."""
    report: Path | None = None
    """HTML page with the plots, and answers side by side."""
    store: StoreOptions = StoreOptions()
    asking: AskingOptions = AskingOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    decoding: DecodingOptions = DecodingOptions()
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        judges = self.judges
        beside = [*judges, *(["blind"] if self.blind else [])]
        if len(beside) > 1 and ("judgments" in beside or self.blind):
            both = " and ".join(beside)
            raise HeedfulError(f"there is one judge at a time, not {both}.", mend="Run the command once for each.")
        if self.judgments is None and len(self.policies) < 2:
            raise HeedfulError(f"{len(self.policies)} cannot be compared.", where="policies", mend="Name two or more.")
        if len(set(self.policies)) < len(self.policies) and judges:
            raise HeedfulError("one of them stands there twice.", where="policies", mend="Name each once.")
        if self.blind and len(self.policies) != 2:
            raise HeedfulError("a blind vote is between two.", where="policies", mend="Name two.")
        if len(set(self.judge)) < len(self.judge):
            raise HeedfulError("a judge stands there twice.", where="judge", mend="Name each once.")
        if self.samples < 1:
            raise HeedfulError(f"{self.samples} samples answer nothing.", where="samples", mend="Give 1 or more.")
        if self.votes < 1:
            raise HeedfulError(f"{self.votes} votes decide nothing.", where="votes", mend="Give 1 or more.")
        for name, given in (("out", self.out), ("report", self.report)):
            if given is not None and not judges:
                raise HeedfulError("there are no figures to write.", where=name, mend="Give --reward or another judge.")
        if self.group is not None and (self.people is None or self.store.studio):
            raise HeedfulError(
                "only a store's database tells who its raters say they are.",
                where="group",
                mend="Give --people and a database, or leave it away.",
            )
        if self.by is not None and (self.data is None or not judges or self.judgments is not None):
            raise HeedfulError(
                "it names a column of --data that is judged.", where="by", mend="Give --data and a judge."
            )

    @property
    def judges(self) -> list[str]:
        """The settings that name who judges."""
        named = ("people", "judge", "world", "reward", "judgments")
        return [name for name in named if getattr(self, name) not in (None, ())]


@dataclass(frozen=True)
class Shown:
    """One prompt with the answers of both policies."""

    prompt: Conversation
    a: str
    b: str


@dataclass(frozen=True)
class Answered:
    """Prompts with the answers of each: [P] prompts, and by name [P][K] texts."""

    prompts: tuple[Conversation, ...]
    texts: dict[str, list[list[str]]]


def compare(arguments: list[str]) -> int:
    """Parse the settings, get the answers, judge or show them or take votes."""
    call = parse(CompareConfig, "compare", arguments)
    config = call.settings
    if config.judges:
        from heedful.cli.compare_contest import run_contest

        return run_contest(config, as_json=call.json)
    if config.records.limit is None:
        config = replace(config, records=replace(config.records, limit=SIDE_BY_SIDE))
    with stdout_for_results():
        found = answered(config)
    rows = list(zip(found.prompts, *([t[0] for t in found.texts[name]] for name in found.texts), strict=True))
    if config.blind:
        items = [Shown(prompt, a, b) for prompt, a, b in rows]
        with stdout_for_results():
            votes = take_votes(items, config.decoding.seed, input)
        _conclude(config, items, votes, as_json=call.json)
    elif call.json and len(config.policies) == 2:
        print_json([{"prompt": as_messages(prompt), "a": a, "b": b} for prompt, a, b in rows])
    elif call.json:
        names = list(found.texts)
        print_json([{"prompt": as_messages(p), "answers": dict(zip(names, a, strict=True))} for p, *a in rows])
    else:
        _show_all(list(found.texts), rows)
    return 0


def answered(
    config: CompareConfig, given: Sequence[Conversation] | None = None, display: Display | None = None
) -> Answered:
    """The answers of policies, sampled, and of files, read; on the prompts that all have.

    Args:
        given: prompts that take the place of --data and --prompt.
        display: where progress is shown; by default on standard error.

    Raises:
        HeedfulError: no prompts to sample for, or none that all have answered.
    """
    from heedful.training.progress import Display

    display = display or Display()
    files = {name: _completions(name, config) for name in config.policies if _is_file(name)}
    sides = [(name, f"policy {chr(97 + i)}") for i, name in enumerate(config.policies)]
    policies = {name: open_policy(name, config.loading) for name, _ in sides if name not in files}
    prompts = _prompts(config, given, files, list(policies.values()), display)
    kept = [prompt for prompt in prompts if all(prompt in answers for answers in files.values())]
    if not kept:
        raise HeedfulError("no prompt is answered in all files.", mend="Give answers to the same prompts.")
    count = config.samples
    for answers in files.values():
        count = min(count, *(len(answers[prompt]) for prompt in kept))
    texts: dict[str, list[list[str]]] = {}
    for name, title in sides:
        key = name if name not in texts else f"{name} (2)"
        if name in files:
            texts[key] = [files[name][prompt][:count] for prompt in kept]
        else:
            drawn = answer_all(policies[name], kept, config.decoding.params(), count, display, title)
            texts[key] = [[answer.text for answer in answers] for answers in drawn]
    return Answered(tuple(kept), texts)


def _is_file(name: str) -> bool:
    return name.startswith(f"{PREFIX}rows-") or Path(name).is_file()


def _completions(path: str, config: CompareConfig) -> dict[Conversation, list[str]]:
    from heedful.data.load import DataSpec, load_demonstrations

    found: dict[Conversation, list[str]] = {}
    for record in load_demonstrations(DataSpec(path, on_bad_row=config.records.on_bad_row)).records:
        found.setdefault(record.prompt, []).append(record.completion)
    return found


def _prompts(
    config: CompareConfig,
    given: Sequence[Conversation] | None,
    files: dict[str, dict[Conversation, list[str]]],
    policies: Sequence[Policy],
    display: Display,
) -> list[Conversation]:
    """Those asked for, else those of the first file. Judged prompts are answered once each."""
    if given is not None:
        return list(given)
    if config.data is None and not config.prompt and files:
        return list(next(iter(files.values())))[: config.records.limit]
    found = read_prompts(config.data, config.prompt, config.records, policies, config.decoding, display)
    return list(dict.fromkeys(found)) if config.judges else found


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
        first, second = config.policies
        summary: dict[str, Any] = {"policy_a": first, "policy_b": second, "win_rate": rate}
        print_json({**summary, "votes": judged})
    elif rate is None:
        print(f"{len(votes)} votes: too few for a win rate; it takes two prompts.")
    else:
        print(f"{config.policies[0]} against {config.policies[1]}: win rate {shown(rate.rate)}")
        print(f"{rate.wins} wins, {rate.ties} ties, {rate.losses} losses")


def _show_all(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    from rich.console import Console

    console = Console()
    for prompt, *answers in rows:
        console.rule()
        _show_pair(console, prompt, *zip(names, answers, strict=True))


def _show_pair(console: Console, prompt: Conversation, *answers: tuple[str, str]) -> None:
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    for message in prompt:
        console.print(Text(f"{message.role}: ", style="bold cyan") + Text(message.content))
    side_by_side = console.width >= 50 * len(answers)
    width = console.width // len(answers) - 1 if side_by_side else console.width
    panels = [Panel(Text(text), title=Text(name), title_align="left", width=width) for name, text in answers]
    for row in [Columns(panels, padding=(0, 1))] if side_by_side else panels:
        console.print(row)
