"""Who judges a round's pairs: people in the studio, an AI judge, the world's raters, or each a share of the pairs.

A kind of judge is a row of `JUDGES`: a function from pairs to what its raters said of them. People are waited for:
theirs raises `Waiting` until all is judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import BatchSpec, BatchStatus, NewCompletion, NewItem, NotFoundError
from heedful.files import sha256_json, write_json
from heedful.monitoring.checks import Reply
from heedful.pipeline.rounds.parts import WaitingError, Work
from heedful.pipeline.rounds.rows import Pair, Said, read_pairs, write_rows
from heedful.pipeline.rounds.store import BATCH, open_store, readable
from heedful.pipeline.rounds.uses import place
from heedful.training.config.programme import JudgesRecipe, Recipe
from heedful.training.state import mix
from heedful.world.raters import judge as simulate
from heedful.world.raters import panel
from heedful.world.world import World

JUDGMENTS = "judgments.jsonl"
STRONGEST = 3


@dataclass(frozen=True)
class Judged:
    """What was said of some pairs, and entries of the manifest about it."""

    said: list[Said]
    entries: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What judges are asked for: training judgments of a round, or those of a check."""

    work: Work
    judges: JudgesRecipe
    purpose: str
    """train or check."""

    @property
    def recipe(self) -> Recipe:
        """Of the round."""
        return self.work.step.recipe

    @property
    def stage(self) -> str:
        """The stage that asks: judge or check."""
        return "judge" if self.purpose == "train" else self.purpose

    @property
    def seed(self) -> int:
        """Of the judges' draws: checks have raters' luck of their own."""
        return mix(self.recipe.seed, self.work.step.number, 50 + (self.purpose == "check"))


def make_judge(work: Work) -> dict[str, Any]:
    """The judgments of a round's pairs."""
    pairs = read_pairs(work.input("sample") / "pairs.jsonl")
    return judged(Question(work, work.step.recipe.judge, "train"), pairs)


def judged(question: Question, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Have pairs judged and write what was said; gives the manifest's entries.

    Raises:
        WaitingError: people have not judged all of it yet.
    """
    said: list[Said] = []
    entries: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    for kind, some in shared_out(question.judges, pairs).items():
        found = JUDGES[kind](question, some)
        said += found.said
        costs |= found.entries.get("cost", {})  # people's and judges', beside each other
        entries |= found.entries
    write_rows(question.work.out / JUDGMENTS, (asdict(one) for one in said))
    counts = {"human": 0, "ai": 0, "simulated": 0}
    for one in said:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    told = len({one.pair for one in said})
    return {"judgments": counts, "figures": {"pairs": len(pairs), "judged": told}, **entries, "cost": costs}


def shared_out(judges: JudgesRecipe, pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs of each kind of judge, people first: by a hash of a pair's texts, whatever other pairs there are."""
    found: dict[str, list[Pair]] = {kind: [] for kind in judges.shares}
    for pair in pairs:
        at, upto = place(0, sha256_json([pair.id, pair.a, pair.b])), 0.0
        for kind, part in judges.shares.items():
            upto += part
            if at < upto or kind == list(judges.shares)[-1]:
                found[kind].append(pair)
                break
    return {kind: some for kind, some in found.items() if some}


# --- the kinds ---


def by_simulated(question: Question, pairs: Sequence[Pair]) -> Judged:
    """Raters of the embedded world, who see its truth through noise and habit."""
    raters, world = panel(question.judges.panel), World(question.recipe.world.seed)
    asked = [(pair.prompt, pair.a, pair.b) for pair in pairs]
    found = simulate(world, asked, raters, votes=question.judges.votes, seed=question.seed)
    said = [
        Said(pair.id, "simulated", raters[who].name, 1.0 if for_a else -1.0)
        for pair, whose, votes in zip(pairs, found.rater, found.for_a, strict=True)
        for who, for_a in zip(whose, votes, strict=True)
    ]
    return Judged(said, {})


def by_ai(question: Question, pairs: Sequence[Pair]) -> Judged:
    """Models that are asked; or a reward model or function that scores answers, where the higher score wins the pair.

    Raises:
        HeedfulError: they cannot be asked, or did not answer; see `ai_judges.said_by_models`.
    """
    ai = question.recipe.ai_of(question.stage)
    if ai.asked:
        from heedful.pipeline.rounds.ai_judges import said_by_models

        return Judged(*said_by_models(question.work, pairs, question.stage))
    from heedful.pipeline.gold_checks import open_judge

    name = str(ai.judge)
    judge = open_judge(question.work.programme.path(name))
    a, b = ([Reply(getattr(pair, side), True, 0.0) for pair in pairs] for side in ("a", "b"))
    votes = judge([pair.prompt for pair in pairs], a, b)
    said = [Said(pair.id, "ai", name, 2 * one.won - 1) for pair, own in zip(pairs, votes, strict=True) for one in own]
    return Judged(said, {"ai_judge": name})


def by_people(question: Question, pairs: Sequence[Pair]) -> Judged:
    """Raters of the studio. Asked once, however often the round is interrupted: a batch has a key made of its texts.

    Raises:
        WaitingError: not all of it is judged.
        HeedfulError: the store or its programme is not there.
    """
    recipe, slug = question.recipe, str(question.recipe.store.programme)
    client = open_store(recipe, question.work.programme, question.work.display)
    number = question.work.step.number
    items = [_item(pair) for pair in pairs]
    key = sha256_json([[item.messages, [one.text for one in item.completions]] for item in items])
    spec = BatchSpec(f"round {number}: {question.purpose}", question.purpose, number, question.judges.votes)
    with readable(recipe):
        batch = _pushed(question.work, client, slug, spec, items, f"round-{question.purpose}-{key}-{spec.quota}")
        if batch.done + batch.parked < batch.items:
            raise WaitingError(told(slug, batch))
        places = {item.id: pair for item, pair in zip(client.items(slug, batch.id), pairs, strict=True)}
        said = []
        for one in client.judgments(slug, batch=batch.id, purpose=question.purpose):
            vote = -int(one.payload["strength"]) / STRONGEST
            kind = "human" if one.rater_kind == "person" else one.rater_kind
            said.append(Said(places[one.item].id, kind, one.rater, vote, one.id, one.guideline))
        entries: dict[str, Any] = {"store": {"programme": slug, "batch": batch.id}}
        if question.purpose == "train" and said:
            listed = sha256_json([one.judgment for one in said])  # the same judgments are the same snapshot
            row = client.snapshot(slug, f"round {number}", key=f"round-{key}-{listed}", batches=[batch.id])
            entries["store"]["snapshot"] = {"id": row.id, "sha256": row.sha256, "judgments": row.count}
        try:
            entries["cost"] = {"raters": asdict(client.work(slug, batch.id))}
        except NotFoundError:  # the batch is there: a studio of before
            question.work.display.say(f"{question.work.step.name}: this studio does not tell people's hours.")
    return Judged(said, entries)


JUDGES: dict[str, Callable[[Question, Sequence[Pair]], Judged]] = {
    "people": by_people,
    "ai": by_ai,
    "simulated": by_simulated,
}
"""By the names of their shares; people come first, so that nothing else is spent while they are awaited."""


# --- people ---


def _pushed(
    work: Work, client: FeedbackClient, programme: str, spec: BatchSpec, items: Sequence[NewItem], key: str
) -> BatchStatus:
    """The batch of these items, open: made once, and after that known by its id."""
    kept = work.out / BATCH
    if kept.exists():
        try:
            return client.batch(programme, json.loads(kept.read_text(encoding="utf-8")))
        except NotFoundError:
            work.display.say(f"{work.step.name}: its batch is gone from the store; the pairs are put up again.")
    batch = client.push_items(programme, spec, items, key=key)
    if batch.state == "staged":
        batch = client.open_batch(programme, batch.id)
    write_json(kept, batch.id)
    return batch


def told(programme: str, batch: BatchStatus) -> dict[str, Any]:
    """What is waited for."""
    return {
        "for": f"judgments by people in {batch.name!r} of {programme}",
        "filled": batch.filled,
        "places": batch.places,
        "items": batch.items,
        "done": batch.done + batch.parked,
    }


def _item(pair: Pair) -> NewItem:
    """A pair as an item; its answers come in an order by a coin, and who gave them is told to no rater."""
    messages = [{"role": message.role, "content": message.content} for message in pair.prompt]
    answers = [NewCompletion(pair.a, policy=pair.policy_a), NewCompletion(pair.b, policy=pair.policy_b)]
    return NewItem(messages, answers, "pairwise")
