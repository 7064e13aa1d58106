"""What a judge is to judge, and what people said of the same: from files of every format, or from a studio's store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

from heedful.data.formats import detect
from heedful.data.load import DataSpec, load_demonstrations, load_preferences, load_rankings
from heedful.data.read import read_rows
from heedful.data.records import Conversation, Message, Origin, Preference
from heedful.errors import HeedfulError
from heedful.evaluation.judges import Votes
from heedful.evaluation.judgments import read_judgments
from heedful.feedback.ai.material import Case
from heedful.feedback.client import FeedbackClient
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.feedback.verdicts import classes

_NAMED = ({"model_a", "model_b"}, {"generator_1", "generator_2"})
PERSON = "person"


@dataclass(frozen=True)
class Cases:
    """Cases to judge, and how they were read."""

    cases: list[Case]
    says: str


@dataclass
class PeopleSaid:
    """People's votes on pairs of answers, by their texts."""

    votes: dict[tuple[Conversation, str, str], list[tuple[str, float]]] = field(default_factory=dict)
    """(prompt, a, b) -> (who, vote for a: 1, 0 or one half); a file names nobody."""

    def add(self, prompt: Conversation, a: str, b: str, vote: float, who: str = "") -> None:
        """One vote."""
        if (prompt, b, a) in self.votes:
            a, b, vote = b, a, 1 - vote
        self.votes.setdefault((prompt, a, b), []).append((who, vote))

    def of(self, prompt: Conversation, a: str, b: str) -> list[tuple[str, float]]:
        """Who voted how for a."""
        if (prompt, b, a) in self.votes:
            return [(who, 1 - vote) for who, vote in self.votes[prompt, b, a]]
        return self.votes.get((prompt, a, b), [])

    def summed(self, prompt: Conversation, a: str, b: str) -> Votes:
        """The votes on a pair together."""
        return Votes.of([vote for _, vote in self.of(prompt, a, b)])


def cases_of_file(spec: DataSpec, *, pairs: bool) -> Cases:
    """Cases out of any file that holds two answers or more to a prompt.

    Args:
        spec: the file: comparisons, rankings, battles of named models, or prompts with a completion a row.
        pairs: whether each case is to have two answers; more are compared two by two.

    Raises:
        HeedfulError: nothing there that can be compared, or more than nine answers to a prompt.
    """
    first = list(islice(read_rows(spec.path, split=spec.split), 1))
    if not first:
        raise HeedfulError("there are no rows at all.", where=spec.path, mend="Check that it is the right file.")
    row = first[0][1]
    if spec.format == "auto" and any(names <= set(row) for names in _NAMED):
        judged = read_judgments(spec.path, split=spec.split, limit=spec.limit)
        made = [Case(one.prompt, (one.a, one.b), policies=(one.model_a, one.model_b)) for one in judged]
        return _distinct(made, f"{spec.path}: answers of named models.")
    known = detect(first).format if spec.format == "auto" else None
    kind = known.kind if known is not None else ""
    if known is not None and kind == "preferences" and known.ranking is not None and not pairs:
        rankings = load_rankings(spec)
        made = [Case(one.prompt, one.completions, origin=one.origin) for one in rankings.records]
        return _distinct(made, rankings.summary())
    if kind == "demonstrations":
        return _grouped(spec, pairs)
    loaded = load_preferences(spec)
    return _distinct([Case(one.prompt, (one.a, one.b), origin=one.origin) for one in loaded.records], loaded.summary())


def _grouped(spec: DataSpec, pairs: bool) -> Cases:
    """Rows of a prompt and a completion: the completions of one prompt are a case."""
    loaded = load_demonstrations(spec)
    answers: dict[Conversation, dict[str, Origin]] = {}
    for one in loaded.records:
        answers.setdefault(one.prompt, {}).setdefault(one.completion, one.origin)
    made = []
    for prompt, texts in answers.items():
        origin = next(iter(texts.values()))
        if len(texts) > MAX_COMPLETIONS:
            raise HeedfulError(
                f"{len(texts)} answers to one prompt; a judge takes {MAX_COMPLETIONS} at most.",
                where=str(origin),
                mend="Keep fewer, as with --samples.",
            )
        groups: Iterable[tuple[str, ...]] = combinations(texts, 2) if pairs else [tuple(texts)]
        made += [Case(prompt, group, origin=origin) for group in groups if len(group) > 1]
    if not made:
        raise HeedfulError(
            "no prompt has two different answers.", where=spec.path, mend="Sample several to each prompt."
        )
    return _distinct(made, loaded.summary())


def _distinct(cases: list[Case], says: str) -> Cases:
    """Each case once: the same texts again would be paid for once, and count twice."""
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(case.key, case)
    return Cases(list(found.values()), says)


def people_of_file(spec: DataSpec) -> PeopleSaid:
    """People's votes out of a file of comparisons.

    Raises:
        HeedfulError: as `load_preferences`.
    """
    said = PeopleSaid()
    for one in load_preferences(spec).records:
        for vote in votes_of(one):
            said.add(one.prompt, one.a, one.b, vote)
    return said


def votes_of(record: Preference) -> list[float]:
    """The votes behind a share: as few ties as the share allows; a single vote is the share itself."""
    if record.votes == 1:
        return [record.probability]
    halves = round(2 * record.probability * record.votes)
    wins, tied = divmod(halves, 2)
    return [1.0] * wins + [0.5] * tied + [0.0] * (record.votes - wins - tied)


def cases_of_store(client: FeedbackClient, programme: str, batches: Sequence[str], kinds: Sequence[str]) -> Cases:
    """Items of a programme as cases.

    Args:
        client: reaches the store.
        programme: its short name.
        batches: their names or ids; none: all.
        kinds: the kinds of task that the way of judging answers.

    Raises:
        HeedfulError: no such batch, or no item of such a kind.
    """
    known = client.status(programme).batches
    for name in batches:
        if not any(name in (one.id, one.name) for one in known):
            raise HeedfulError(
                f"there is no batch {name!r}.", where="batches", mend=f"Known: {', '.join(one.name for one in known)}."
            )
    made = []
    other: set[str] = set()
    for batch in known:
        if batches and not {batch.id, batch.name} & set(batches):
            continue
        for item in client.items(programme, batch.id):
            if item.kind not in kinds:
                other.add(item.kind)
                continue
            prompt = tuple(Message(turn["role"], turn["content"]) for turn in item.messages)  # type: ignore[arg-type]
            texts = tuple(one.text for one in item.completions)
            policies = tuple(one.policy for one in item.completions)
            made.append(Case(prompt, texts, item.id, Origin(programme, 0), policies, str(item.purpose)))
    if not made:
        told = f"it has items of the kind {', '.join(sorted(other))}" if other else "it has no items"
        raise HeedfulError(
            f"nothing here can be judged this way: {told}.",
            where=programme,
            mend=f"This way judges: {', '.join(kinds)}.",
        )
    return Cases(made, f"{programme}: {len(made)} items.")


def people_of_store(client: FeedbackClient, programme: str, cases: Sequence[Case]) -> PeopleSaid:
    """What people said of items, pair by pair of their answers; repeats of one rater do not count."""
    mine = {case.item: case for case in cases}
    said = PeopleSaid()
    for purpose in ("train", "check"):
        for row in client.judgments(programme, purpose=purpose, surplus=True):
            case = mine.get(row.item)
            if case is None or row.rater_kind != PERSON or row.pass_number > 1 or not row.live:
                continue
            if row.kind not in ("pairwise", "ranking"):
                continue
            signs = classes(row.kind, row.payload)
            for (i, j), sign in zip(combinations(range(len(case.completions)), 2), signs, strict=True):
                said.add(case.prompt, case.completions[i], case.completions[j], (1 - sign) / 2, row.rater)
    return said


def family_of(model: str) -> str:
    """The first word of a model's name: "llama" of "meta/llama-3.1-8b", for telling who wrote an answer."""
    name = model.rpartition("@")[0] or model
    word = name.rpartition("/")[2].casefold()
    letters = "".join(char if char.isalpha() else " " for char in word).split()
    return letters[0] if letters else ""


def own_family(case: Case, i: int, j: int, family: str) -> float:
    """1 where a model of the family wrote answer i alone, -1 where j alone, else 0."""
    if not family or len(case.policies) <= max(i, j):
        return 0.0
    return float(family in case.policies[i].casefold()) - float(family in case.policies[j].casefold())
