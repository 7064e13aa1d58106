"""The judged half of `heedful compare`: who judges, what they say, and how it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from heedful.cli.command import print_json, shown, stdout_for_results
from heedful.cli.compare import Answered, CompareConfig, answered
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from rich.console import Console

    from heedful.evaluation.contest import Contest, Duel
    from heedful.evaluation.judgments import Judged
    from heedful.feedback.wire import BatchStatus
    from heedful.pipeline.blind_pairs import Given, Pair
    from heedful.world.world import World

FEWEST_IN_GROUP = 5
"""A group of fewer raters is not shown by itself, so that nobody can be made out."""


@dataclass(frozen=True)
class Judgments:
    """What every judge says, by its name; `waiting` is the batch of people who have not judged all of it, `unread` on
    how many pairs an AI judge came to nothing."""

    by: Mapping[str, list[Judged]]
    answers: Answered | None
    waiting: BatchStatus | None = None
    unread: Mapping[str, int] = field(default_factory=dict)


def run_contest(config: CompareConfig, *, as_json: bool) -> int:
    """Get the judgments, and print or write what they say."""
    from heedful.evaluation.contest import contest

    with stdout_for_results():
        given = _judged(config)
        enough = {name: rows for name, rows in given.by.items() if len({row.cluster for row in rows}) > 1}
        few = [name for name in given.by if name not in enough]
        if few and (given.waiting is None or len(enough) < len(given.by) - 1):
            raise HeedfulError(
                f"{few[0]}: a comparison needs judgments on two prompts at least.", mend="Give more prompts."
            )
        found = {name: contest(rows, seed=config.decoding.seed) for name, rows in enough.items()}
        _write(config, found, given)
    if as_json:
        print_json(_as_json(found, given))
    else:
        _show(config, found, given)
    return 0


def _write(config: CompareConfig, found: Mapping[str, Contest], given: Judgments) -> None:
    from heedful.files import write_json

    if config.out is not None:
        write_json(config.out, _as_json(found, given))
    if config.report is not None and found:
        from heedful.pipeline.compare_report import report_data
        from heedful.pipeline.report import write_report

        prompts, texts = (given.answers.prompts, given.answers.texts) if given.answers else ((), {})
        write_report(config.report, report_data(found, prompts, texts))


def _as_json(found: Mapping[str, Contest], given: Judgments) -> dict[str, Any]:
    """One judge's figures as they are; several by name. What people have yet to judge stands beside them."""
    figures = {name: asdict(one) for name, one in found.items()}
    several = len(given.by) > 1 or not figures
    told: dict[str, Any] = {"judges": figures} if several else dict(next(iter(figures.values())))
    if given.waiting is not None:
        told["waiting"] = {name: getattr(given.waiting, name) for name in ("name", "filled", "places")}
    if given.unread:
        told["unread"] = dict(given.unread)
    return told


def _judged(config: CompareConfig) -> Judgments:
    """The judgments of a file; or of every two models' answers, by each judge that is named."""
    from heedful.evaluation.judgments import between, judged_by_scores, read_judgments

    if config.judgments is not None:
        rows = read_judgments(config.judgments, split=config.records.split, limit=config.records.limit)
        return Judgments({config.judgments: between(rows, config.policies)}, None)
    world, asked = _world(config)
    answers = answered(config, asked)
    sorts = _sorts(config, answers.prompts)
    clusters = None
    if world is not None:
        topics = [world.topic_of(prompt) for prompt in answers.prompts]
        clusters = [topic.name for topic in topics]
        sorts = sorts or [topic.kind for topic in topics]
    scorers: dict[str, Any] = {}
    if world is not None:
        scorers[f"gold (world {config.world})"] = world.golds
    if config.reward is not None:
        from heedful.models.rewards import load_reward
        from heedful.pipeline.choices import resolve_device

        scorers[config.reward] = load_reward(config.reward, device=resolve_device(config.loading.device))
    found: dict[str, list[Judged]] = {}
    waiting = None
    if config.people is not None:
        found[f"people ({config.people})"], waiting = _by_people(config, answers, clusters, sorts)
    unread = {}
    if config.judge:
        from heedful.cli.compare_ai import judged_by_models

        spoken = judged_by_models(config, answers, clusters, sorts)
        found |= {name: one.rows for name, one in spoken.items()}
        unread = {name: one.unread for name, one in spoken.items() if one.unread}
    for name, scorer in scorers.items():
        scores = {model: scored(scorer, answers.prompts, texts) for model, texts in answers.texts.items()}
        found[name] = judged_by_scores(answers.prompts, answers.texts, scores, clusters=clusters, topics=sorts)
    return Judgments(found, answers, waiting, unread)


def _world(config: CompareConfig) -> tuple[World | None, list[Conversation] | None]:
    """The embedded world where it judges, and its own unseen prompts where no others are given."""
    if config.world is None:
        return None, None
    from heedful.world.world import World

    world = World(config.world)
    if config.data or config.prompt:
        return world, None
    own = [prompt for split in ("phrasing", "fact") for prompt in world.prompts(split)]  # type: ignore[arg-type]
    return world, [prompt.prompt for prompt in own][: config.records.limit]


def _sorts(config: CompareConfig, prompts: Sequence[Conversation]) -> list[str] | None:
    """[P] what the column --by says of each prompt; None where none is named.

    Raises:
        HeedfulError: there is no such column.
    """
    if config.by is None:
        return None
    from heedful.data.load import DataSpec, load_prompts
    from heedful.data.read import read_rows

    assert config.data is not None
    values = {str(origin): row.get(config.by) for origin, row in read_rows(config.data, split=config.records.split)}
    if not any(value not in (None, "") for value in values.values()):
        raise HeedfulError(
            f"no row has a column {config.by!r}.", where=config.data, mend="Name another column in --by."
        )
    options = config.records
    records = load_prompts(DataSpec(config.data, options.format, options.split, options.on_bad_row)).records
    found: dict[Conversation, str] = {}
    for record in records:
        value = values.get(str(record.origin))
        found.setdefault(record.prompt, "" if value is None else str(value))
    return [found.get(prompt, "") for prompt in prompts]


def scored(reward: Any, prompts: Sequence[Conversation], texts: list[list[str]]) -> list[list[float]]:
    """[P][K] scores of texts."""
    asked = [prompt for prompt, own in zip(prompts, texts, strict=True) for _ in own]
    flat = [float(score) for score in reward(asked, [text for own in texts for text in own])]
    found, at = [], 0
    for own in texts:
        found.append(flat[at : at + len(own)])
        at += len(own)
    return found


def _by_people(
    config: CompareConfig, answers: Answered, clusters: Sequence[str] | None, sorts: Sequence[str] | None
) -> tuple[list[Judged], BatchStatus | None]:
    """What raters have said so far of every two models' answers; and their batch while some of it is open.

    Raises:
        HeedfulError: no such programme, or a question that nobody answered.
    """
    from heedful.evaluation.judgments import Judged
    from heedful.feedback.client import connect
    from heedful.pipeline.blind_pairs import Pair, ask, judgments_of

    assert config.people is not None
    store = config.store
    client = connect(store.database, store.studio, allow_insecure=store.allow_insecure)
    places = [
        (p, k, a, b)
        for a, b in combinations(answers.texts, 2)
        for p in range(len(answers.prompts))
        for k in range(len(answers.texts[a][p]))
    ]
    pairs = [Pair(answers.prompts[p], answers.texts[a][p][k], answers.texts[b][p][k]) for p, k, a, b in places]
    asked = ask(client, config.people, pairs, name="comparison", votes=config.votes)
    given = judgments_of(client, config.people, pairs, asked)
    groups = _groups(config, [one for own in given for one in own])
    rows = []
    for (p, _, a, b), pair, own in zip(places, pairs, given, strict=True):
        cluster = clusters[p] if clusters is not None else prompt_key(pair.prompt)
        topic = sorts[p] if sorts is not None else ""
        for won, group in _outcomes(pair, own, groups):
            rows.append(Judged(pair.prompt, cluster, a, b, pair.ours, pair.theirs, won, topic, group))
    done = asked is None or asked.batch.done + asked.batch.parked >= asked.batch.items
    return rows, None if asked is None or done else asked.batch


def _outcomes(pair: Pair, own: Sequence[Given], groups: Mapping[str, str]) -> list[tuple[float, str]]:
    """The votes on a pair with the group of who gave them; a tie, of nobody, where both texts are the same."""
    if pair.ours == pair.theirs:
        return [(0.5, "")]
    return [(one.won, groups.get(one.rater, "")) for one in own]


def _groups(config: CompareConfig, given: Sequence[Given]) -> dict[str, str]:
    """The group of each rater: their answer to --group, of groups that are large enough; else what they are (person,
    AI judge and so on), where there are several sorts."""
    if config.group is None:
        kinds = {one.rater: one.kind for one in given}
        return kinds if len(set(kinds.values())) > 1 else {}
    from heedful.cli.feedback_io import programme_named
    from heedful.feedback.judgment_reading import told_groups

    assert config.people is not None
    told = told_groups(programme_named(config.people), config.group)
    here = {one.rater for one in given}
    sizes = Counter(answer for rater, answer in told.items() if rater in here)
    return {rater: answer for rater, answer in told.items() if sizes[answer] >= FEWEST_IN_GROUP}


def _show(config: CompareConfig, found: Mapping[str, Contest], given: Judgments) -> None:
    from rich.console import Console
    from rich.text import Text

    console, waiting = Console(), given.waiting
    for name, count in given.unread.items():
        told = f"{name}: {count} pairs are left out, which it was not read on in both orders."
        console.print(Text(told, "yellow"), soft_wrap=True)
    if waiting is not None:
        told = f"{waiting.filled} of {waiting.places} judgments of people are in, in the batch {waiting.name!r}. "
        console.print(Text(f"{told}The same command shows more as they come.", "yellow"), soft_wrap=True)
    for name, one in found.items():
        if len(found) > 1:
            console.rule(Text(f"by {name}"))
        _show_contest(console, one)
    if config.reward is not None:
        console.print(Text("A reward that one of them was trained on flatters it.", "dim"), soft_wrap=True)
    if config.report is not None and found:
        console.print(Text(f"The page is {config.report}."), soft_wrap=True)


def _show_contest(console: Console, found: Contest) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{found.judgments:,} judgments on {found.clusters:,} prompts or topics"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("model", "strength [95%]", "in equal style [95%]", "words"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for row in found.models:
        table.add_row(Text(row.model), shown(row.strength), shown(row.in_equal_style), f"{row.words:.1f}")
    console.print(table)
    if not found.connected:
        said = "Some of these models were never compared with the rest: their strengths are of different scales."
        console.print(Text(said, "yellow"), soft_wrap=True)
    for duel in found.duels:
        _show_duel(console, duel)
    length = found.length
    if length.longer is not None:
        told = (
            f"The judge prefers the longer answer in {length.longer:.1%} of {length.pairs:,} pairs that differ in it."
        )
        console.print(Text(told), soft_wrap=True)


def _show_duel(console: Console, duel: Duel) -> None:
    from rich.text import Text

    rate = duel.rate
    meaning = "preferred" if rate.low > 0.5 else "not preferred" if rate.high < 0.5 else "no difference shown"
    console.print(Text(f"{duel.a} against {duel.b}: ", "bold") + Text(f"{shown(rate)}, {meaning}"), soft_wrap=True)
    told = f"  {duel.wins} wins, {duel.ties} ties, {duel.losses} losses; sign test p = {duel.sign_p:.3g}; "
    told += f"at equal length {shown(duel.length_controlled)}; in equal style {shown(duel.style_controlled)}"
    console.print(Text(told), soft_wrap=True)
    for name, interval in duel.by.items():
        console.print(Text(f"  {name}: {shown(interval)}"), soft_wrap=True)
