"""`heedful synthesise`: comparisons that nobody judged, each saying how it was made; and new prompts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.asker import opened_asker, spending
from heedful.cli.command import Call, parse, print_json, print_result, stdout_for_results
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError, nearest
from heedful.training.config.asking import BudgetOptions, EndpointOptions, LoadingOptions
from heedful.training.progress import Display

if TYPE_CHECKING:
    from heedful.data.load import Loaded
    from heedful.data.records import Conversation, Demonstration, Preference

USAGE = """usage: heedful synthesise METHOD [OPTIONS]

Comparisons whose label is known from how they were made, for `heedful reward` and `heedful dpo`; each pair says how, in
its column `made`. METHOD --help shows a method's settings.

  degrade   answers against damaged copies of themselves
  models    a stronger model's answers against a weaker one's
  best      the best against the worst of several answers, by a reward model
  contrast  answers with a principle kept, against answers with it broken
  prompts   new prompts after the manner of those that are there"""

AT_ONCE = 4
"""Questions for new prompts that see one pool: part of the result, unlike the pace at which a server is asked."""


@dataclass(frozen=True)
class DegradeConfig:
    """Answers against damaged copies of themselves.

    Ways: truncated, shuffled (sentences in another order), repeated (a sentence again), garbled (a sentence's words in
    another order), wrong-number (a digit changed), wrong-fact (with --facts), off-topic (the answer to another prompt).
    The label is right as far as the answer was good to begin with: take demonstrations, or answers that people liked.
    """

    data: tyro.conf.Positional[str]
    """Answers: demonstrations, or the preferred answers of comparisons."""
    out: Path
    """The file of pairs: .jsonl or .jsonl.gz."""
    kinds: tuple[str, ...] = ()
    """Only these ways; by default all that apply."""
    per_answer: int = 1
    """Pairs of each answer, damaged in different ways."""
    facts: Path | None = None
    """YAML file of what is true with what is wrong, as `paris: [lyon, nice]`."""
    seed: int = 0
    """Fixes what is damaged, and how."""
    records: PromptOptions = PromptOptions()

    def __post_init__(self) -> None:
        from heedful.feedback.ai.degrading import kinds_of

        kinds_of(self.kinds)
        if self.per_answer < 1:
            raise HeedfulError(f"{self.per_answer} pairs are none.", where="per_answer", mend="Give 1 or more.")
        if "wrong-fact" in self.kinds and self.facts is None:
            raise HeedfulError("no fact is known to be wrong.", where="facts", mend="Name a file: --facts FILE.")


@dataclass(frozen=True)
class ModelsConfig:
    """A stronger model's answers against a weaker one's, to the same prompts.

    `heedful sample` writes both files. That the stronger one's answer is the better is an assumption, which some of
    these pairs break: a few hundred judged by people say how many.
    """

    stronger: tyro.conf.Positional[str]
    """The stronger model's answers."""
    weaker: tyro.conf.Positional[str]
    """The weaker one's, to the same prompts."""
    out: Path
    """The file of pairs: .jsonl or .jsonl.gz."""
    names: tuple[str, str] | None = None
    """The two models, for the record; by default the files' names."""
    records: PromptOptions = PromptOptions()


@dataclass(frozen=True)
class BestConfig:
    """The best against the worst of several answers to each prompt, by a reward model."""

    data: tyro.conf.Positional[str]
    """Answers, several to a prompt: as `heedful sample --samples` writes them."""
    reward: str
    """The reward that scores them: a model, several of them with a rule, or module:function."""
    out: Path
    """The file of pairs: .jsonl or .jsonl.gz."""
    least_gap: float = 0.0
    """Leave out pairs whose scores differ by no more than this."""
    records: PromptOptions = PromptOptions()
    loading: LoadingOptions = LoadingOptions()


@dataclass(frozen=True)
class ContrastConfig:
    """Answers to prompts that ask for a principle to be kept, against answers that ask for it to be broken (RLCD).

    The pair's prompt is the bare one. Replies are kept in a ledger beside the file: killed, the same command goes on.
    """

    model: tyro.conf.Positional[str]
    """Who answers: MODEL (at --endpoint.url), MODEL@URL, or hf:FOLDER for a model in this process."""
    data: str
    """Prompts: any file that holds prompts, or a hub dataset id."""
    out: Path
    """The file of pairs: .jsonl or .jsonl.gz."""
    constitution: str = "default"
    """YAML file of principles; default: heedful's own. Those with `follow` and `violate` are drawn from."""
    tags: tuple[str, ...] = ()
    """Draw only from principles with one of these tags."""
    max_tokens: int = 512
    """The longest answer; one that is cut makes no pair."""
    temperature: float = 1.0
    """0 always takes the likeliest answer."""
    seed: int = 0
    """Fixes the principles drawn, and is sent to the model."""
    records: PromptOptions = PromptOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    loading: LoadingOptions = LoadingOptions()


@dataclass(frozen=True)
class PromptsConfig:
    """New prompts after the manner of those that are there, without repeats (Self-Instruct).

    A prompt joins only where its ROUGE-L similarity to every other is below --threshold. Each is written with its
    nearest neighbour. Replies are kept in a ledger beside the file: killed, the same command goes on.
    """

    model: tyro.conf.Positional[str]
    """Who writes them: MODEL (at --endpoint.url), MODEL@URL, or hf:FOLDER for a model in this process."""
    data: str
    """Prompts to begin with, of one message each; a few dozen that differ."""
    out: Path
    """The file of new prompts: .jsonl."""
    wanted: int = 100
    """New prompts."""
    per_ask: int = 8
    """How many one reply is asked for."""
    shown: int = 8
    """Prompts shown with each question, a quarter of them new ones."""
    threshold: float = 0.7
    """ROUGE-L of words at which a prompt is a repeat; 0.7 in Self-Instruct."""
    most_asks: int = 200
    """Questions after which growing ends."""
    instruction: str = ""
    """What else is asked of the new prompts, such as a subject or a language."""
    max_tokens: int = 1024
    """The longest reply; one that is cut brings nothing."""
    temperature: float = 0.7
    """Of replies."""
    seed: int = 0
    """Fixes which prompts are shown, and is sent to the model."""
    records: PromptOptions = PromptOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        for name in ("wanted", "per_ask", "shown", "most_asks"):
            if getattr(self, name) < 1:
                raise HeedfulError(f"it is {getattr(self, name)}.", where=name, mend="Give 1 or more.")
        if not 0 < self.threshold <= 1:
            raise HeedfulError(f"it is {self.threshold}.", where="threshold", mend="It lies above 0 and at most at 1.")


def synthesise(arguments: list[str]) -> int:
    """Run the method that is named first."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
        return 0
    if name not in METHODS:
        mend = nearest(name, list(METHODS)) or f"Name one of {', '.join(METHODS)}."
        raise HeedfulError(f"there is no method {name!r}.", mend=mend)
    cls, make = METHODS[name]
    call: Call[Any] = parse(cls, f"synthesise {name}", rest)
    config: Any = call.settings
    _check_out(config.out, compressed=name != "prompts")
    with stdout_for_results():
        found = make(config, Display())
    if call.json:
        print_json({"out": config.out, **found})
    else:
        shown = {key: spending(value) if key == "spent" else value for key, value in found.items()}
        print_result(f"synthesise {name}: {config.out}", shown)
    return 0


def _check_out(out: Path, *, compressed: bool) -> None:
    """Refuse a name that cannot be written before anything is asked."""
    endings = (".jsonl", ".jsonl.gz") if compressed else (".jsonl",)
    if not out.name.endswith(endings):
        raise HeedfulError(
            "the result is JSON lines.", where=str(out), mend=f"Let the name end with {' or '.join(endings)}."
        )


def _written(config: Any, pairs: Sequence[Preference], left_out: Mapping[str, int], **figures: Any) -> dict[str, Any]:
    """Write the pairs, whole or not at all; what to tell."""
    from heedful.data.write import write_records

    if not pairs:
        why = ", ".join(f"{reason} ({count})" for reason, count in left_out.items() if count)
        raise HeedfulError(f"no pair came of it: {why or 'nothing to begin with'}.", where=str(config.out))
    write_records(config.out, pairs)
    return {"pairs": len(pairs), "left_out": {why: count for why, count in left_out.items() if count}, **figures}


def _spec(source: str, read: PromptOptions) -> Any:
    from heedful.data.load import DataSpec

    return DataSpec(source, read.format, read.split, read.on_bad_row, read.limit)


def _answers(source: str, read: PromptOptions, display: Display) -> Loaded[Demonstration]:
    from heedful.data.load import load_demonstrations

    loaded = load_demonstrations(_spec(source, read))
    display.say(loaded.summary())
    return loaded


def _prompts(source: str, read: PromptOptions, display: Display) -> list[Conversation]:
    from heedful.data.load import load_prompts

    loaded = load_prompts(_spec(source, read))
    display.say(loaded.summary())
    return [record.prompt for record in loaded.records]


def _degrade(config: DegradeConfig, display: Display) -> dict[str, Any]:
    from heedful.feedback.ai.degrading import degradations, kinds_of

    facts = _facts(config.facts) if config.facts else {}
    records = _answers(config.data, config.records, display).records
    kinds = [kind for kind in kinds_of(config.kinds) if kind != "wrong-fact" or facts]
    pairs, without = degradations(records, kinds, per_answer=config.per_answer, seed=config.seed, facts=facts)
    counts = Counter(str(dict(pair.made)["kind"]) for pair in pairs)
    return _written(config, pairs, {"answers that no way applies to": without}, kinds=dict(sorted(counts.items())))


def _facts(path: Path) -> dict[str, list[str]]:
    """What is true, with what is wrong.

    Raises:
        HeedfulError: it is no such file.
    """
    from heedful.training.settings import read_yaml

    mapping, source = read_yaml(path)
    for true, wrong in mapping.items():
        where = source.place((str(true).replace("-", "_"),))
        listed = wrong if isinstance(wrong, list) else []
        if not isinstance(true, str) or not listed or not all(isinstance(one, str) and one.strip() for one in listed):
            raise HeedfulError(
                f"{true!r} is no text with a list of texts.", where=where, mend="Write it as `paris: [lyon, nice]`."
            )
        if any(one.casefold() == true.casefold() for one in listed):
            raise HeedfulError(f"{true!r} stands among what is wrong.", where=where, mend="Take it out.")
    return {true: list(wrong) for true, wrong in mapping.items()}


def _models(config: ModelsConfig, display: Display) -> dict[str, Any]:
    from heedful.feedback.ai.synthetic import by_models

    stronger, weaker = (_answers(name, config.records, display) for name in (config.stronger, config.weaker))
    found = by_models(stronger.records, weaker.records, config.names or (config.stronger, config.weaker))
    return _written(config, found.pairs, found.left_out)


def _best(config: BestConfig, display: Display) -> dict[str, Any]:
    from heedful.feedback.ai.synthetic import by_score
    from heedful.models.rewards import load_reward
    from heedful.pipeline.choices import resolve_device, resolve_precision

    records = _answers(config.data, config.records, display).records
    device = resolve_device(config.loading.device)
    reward = load_reward(config.reward, device=device, precision=resolve_precision(config.loading.precision, device))
    scores: list[float] = []
    size = 256
    with display.task("score", len(records)) as bar:
        for start in range(0, len(records), size):
            rows = records[start : start + size]
            scores += reward([r.prompt for r in rows], [r.completion for r in rows]).double().tolist()
            bar.update(len(scores), {})
    found = by_score(records, scores, config.reward, least_gap=config.least_gap)
    return _written(config, found.pairs, found.left_out)


def ledger_of(out: Path) -> Path:
    """Where replies for a file are kept: beside it."""
    return out.with_name(f"{out.name}.ledger.sqlite")


def _contrast(config: ContrastConfig, display: Display) -> dict[str, Any]:
    from heedful.feedback.ai.answering import Sampling
    from heedful.feedback.ai.constitution import load_constitution
    from heedful.feedback.ai.spending import Spent
    from heedful.feedback.ai.synthetic import Contrast, by_contrast

    constitution = load_constitution(config.constitution)
    sampling = Sampling(config.max_tokens, config.temperature, config.seed)
    how = Contrast(constitution, constitution.only("contrasting", config.tags), config.seed, sampling)
    prompts, spent = _prompts(config.data, config.records, display), Spent()
    with (
        opened_asker(config.model, config, ledger_of(config.out), display) as asker,
        display.task("contrast", 2 * len(prompts)) as bar,
    ):
        found = by_contrast(prompts, asker, how, spent, told=lambda done: bar.update(done, {}))
    told = {"constitution": constitution.version, "spent": spent.describe()}
    return _written(config, found.pairs, found.left_out, **told)


def _grow(config: PromptsConfig, display: Display) -> dict[str, Any]:
    from heedful.feedback.ai.answering import Sampling
    from heedful.feedback.ai.growing import Growing, grow, pool_of
    from heedful.feedback.ai.spending import Spent
    from heedful.files import atomic_write

    prompts = _prompts(config.data, config.records, display)
    texts = list(dict.fromkeys(prompt[0].content for prompt in prompts if [m.role for m in prompt] == ["user"]))
    left_out = Counter({"seeds of several messages": sum([m.role for m in p] != ["user"] for p in prompts)})
    if not texts:
        raise HeedfulError("no prompt is a single message of the user.", where=config.data, mend="Give such prompts.")
    how = Growing(
        wanted=config.wanted,
        per_ask=config.per_ask,
        shown=config.shown,
        threshold=config.threshold,
        asks_at_once=AT_ONCE,
        most_asks=config.most_asks,
        instruction=config.instruction,
        seed=config.seed,
        sampling=Sampling(config.max_tokens, config.temperature, config.seed),
    )
    pool, spent, found = pool_of(texts), Spent(), []
    with (
        opened_asker(config.model, config, ledger_of(config.out), display) as asker,
        display.task("prompts", config.wanted) as bar,
    ):
        for one in grow(pool, asker, how, spent, left_out):
            found.append(one)
            bar.update(len(found), {})
    rows = [
        {
            "prompt": [{"role": "user", "content": one.text}],
            "made": {"by": "growth", "model": one.model, "nearest": one.nearest, "similarity": one.similarity},
        }
        for one in found
    ]
    if not rows:
        raise HeedfulError(
            f"no new prompt came of it: {dict(+left_out)}.", where=str(config.out), mend="Try another model."
        )
    if len(rows) < config.wanted:
        display.say("It ended early: the last questions brought nothing new, or there were as many as --most-asks.")
    with atomic_write(config.out) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return {"prompts": len(rows), "left_out": dict(+left_out), "spent": spent.describe()}


METHODS: dict[str, tuple[type, Callable[[Any, Display], dict[str, Any]]]] = {
    "degrade": (DegradeConfig, _degrade),
    "models": (ModelsConfig, _models),
    "best": (BestConfig, _best),
    "contrast": (ContrastConfig, _contrast),
    "prompts": (PromptsConfig, _grow),
}
"""Each method's settings, and what makes its file."""
