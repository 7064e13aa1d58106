"""Stages that work on records alone: demonstrations, prompts and their uses, consensus, all rounds' preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heedful.core.consensus import consensus
from heedful.core.crowd import judgments as crowd
from heedful.data.load import DataSpec, load_demonstrations, load_labelled, load_preferences, load_prompts
from heedful.data.records import Conversation, Demonstration, Labelled, Message, Preference, as_messages, prompt_key
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.files import read_manifest, sha256_json
from heedful.pipeline.rounds.field import ASKED, admitted, demonstrations_in, pairs_in, thumbs_in, within_share
from heedful.pipeline.rounds.parts import Work
from heedful.pipeline.rounds.rows import (
    Pair,
    Said,
    conversation,
    read_pairs,
    read_prompts,
    read_rows,
    read_said,
    write_prompts,
    write_rows,
)
from heedful.pipeline.rounds.uses import USES, Use, in_turn, overlapping, uses_of
from heedful.pipeline.rounds.uses import place as number_of
from heedful.training.config.programme import Recipe
from heedful.training.state import mix
from heedful.world.world import World

USED, PREFERENCES, CHOSEN, DEMONSTRATIONS = "uses.jsonl", "preferences.jsonl", "chosen.jsonl", "demonstrations.jsonl"
LABELLED, FIELD = "labelled.jsonl", "field.jsonl"
LEAST_CHECKS = 10


def shares_of(recipe: Recipe) -> dict[Use, float]:
    """Share of the groups of prompts by use."""
    return {"reward": recipe.prompts.reward, "check": recipe.prompts.check}


def world_prompts(recipe: Recipe) -> list[Conversation]:
    """The embedded world's prompts that may be judged, of the kinds that the recipe names; those of unseen wordings and
    facts stay out of programmes."""
    kinds = recipe.world.kinds
    return [one.prompt for one in World(recipe.world.seed).prompts("train") if not kinds or one.kind in kinds]


def with_system(prompts: Sequence[Conversation], work: Work) -> list[Conversation]:
    """Prompts with the recipe's system message before those that have none.

    Raises:
        HeedfulError: its file cannot be read, or is empty.
    """
    if "system" not in work.inputs:
        return list(prompts)
    message = Message("system", read_text(work.input("system"), "the system message"))
    return [one if one[0].role == "system" else (message, *one) for one in prompts]


def read_text(path: Path, what: str) -> str:
    """The text of a file of the recipe, without white space around it.

    Raises:
        HeedfulError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HeedfulError(f"cannot read {what}: {error}.", where=str(path), mend="Give a text file.") from error
    if not text:
        raise HeedfulError(f"{what} is empty.", where=str(path), mend="Write it, or take the setting out.")
    return text


def make_demonstrations(work: Work) -> dict[str, Any]:
    """Demonstrations of the embedded world, on prompts that train."""
    recipe, wanted = work.step.recipe, work.step.recipe.world.demonstrations
    prompts = world_prompts(recipe)
    uses = dict(zip(prompts, uses_of(prompts, shares_of(recipe), recipe.seed), strict=True))
    found: list[Demonstration] = []
    drawn = World(recipe.world.seed).demonstrations((80 if recipe.world.kinds else 8) * wanted, mix(recipe.seed, 11))
    found = [one for one in drawn if uses.get(one.prompt) == "train"][:wanted]
    write_records(work.out / DEMONSTRATIONS, found)
    return {"figures": {"demonstrations": len(found)}}


def make_prompts(work: Work) -> dict[str, Any]:
    """What each prompt is used for, and those of this round: to train on, to be judged, to check with."""
    recipe, number = work.step.recipe, work.step.number
    prompts = world_prompts(recipe) if "data" not in work.inputs else prompts_in(work.inputs["data"].path, recipe)
    prompts = list({prompt_key(one): one for one in prompts}.values())
    imitated = [one.prompt for one in stored_demonstrations(work)]
    taught = [one.prompt for one in demonstrations_of(work)] + imitated
    rows = list(read_rows(work.input("earlier") / USED)) if "earlier" in work.inputs else []
    before = [(conversation(row["prompt"]), row["use"], row["used"]) for row in rows]
    earlier = {use: [prompt for prompt, other, _ in before if other == use] for use in USES}
    uses = uses_of(prompts, shares_of(recipe), recipe.seed, earlier=earlier, training=taught)
    used = {prompt_key(prompt): count for prompt, _, count in before}
    by: dict[Use, list[Conversation]] = {
        use: [prompt for prompt, own in zip(prompts, uses, strict=True) if own == use] for use in USES
    }
    for use in USES:
        least = LEAST_CHECKS if use == "check" else 1
        if len(by[use]) < least:
            raise HeedfulError(
                f"{len(by[use])} prompts are for {use}, and {least} or more are needed.",
                where="prompts",
                mend="Give more prompts, or another share in prompts.reward and prompts.check.",
            )
    chosen = {
        "reward": _cycled(by["reward"], recipe.sample.pairs, used, mix(recipe.seed, number, 30)),
        "refresh": _cycled(by["train"], recipe.learn.refresh, used, mix(recipe.seed, number, 31)),
        "check": _cycled(by["check"], min(recipe.check.pairs, len(by["check"])), used, mix(recipe.seed, number, 32)),
    }
    for name, some in {**chosen, "train": by["train"]}.items():
        write_prompts(work.out / f"{name}.jsonl", with_system(some, work))
    counts = {name: len(some) for name, some in by.items()} | {"without": uses.count(None)}
    for some in chosen.values():
        for prompt in some:
            used[prompt_key(prompt)] = used.get(prompt_key(prompt), 0) + 1
    ledger = {prompt_key(prompt): (prompt, use) for prompt, use, _ in before}
    ledger |= {prompt_key(one): (one, use) for one, use in zip(prompts, uses, strict=True) if use is not None}
    for one in imitated:
        ledger.setdefault(prompt_key(one), (one, "train"))
    if "field" in work.inputs:
        apart = [one for one, use in ledger.values() if use != "reward"] + taught
        apart += [one for one, use in zip(prompts, uses, strict=True) if use is None]
        counts |= _from_use(work, apart, ledger)
    write_rows(
        work.out / USED,
        ({"prompt": as_messages(one), "use": use, "used": used.get(key, 0)} for key, (one, use) in ledger.items()),
    )
    return {"figures": counts}


def _from_use(work: Work, apart: Sequence[Conversation], ledger: dict[str, tuple[Conversation, Any]]) -> dict[str, int]:
    """Let end users' prompts be judged ones, but for those near a prompt that trains, checks or has no use."""
    asked = read_prompts(work.input("field") / ASKED)
    near = set(overlapping(asked, apart))
    let = [one for index, one in enumerate(asked) if index not in near]
    for one in let:
        ledger.setdefault(prompt_key(one), (one, "reward"))
    write_prompts(work.out / FIELD, let)
    return {"field": len(let), "field_left_out": len(near)}


def prompts_in(source: str, recipe: Recipe) -> list[Conversation]:
    """The prompts of a file or a hub dataset, as the recipe reads it."""
    own = recipe.prompts
    return [one.prompt for one in load_prompts(DataSpec(source, split=own.split, limit=own.limit)).records]


def _cycled(prompts: Sequence[Conversation], count: int, used: dict[str, int], seed: int) -> list[Conversation]:
    order = in_turn([prompt_key(one) for one in prompts], used, seed)
    return [prompts[order[turn % len(order)]] for turn in range(count)]


def demonstrations_of(work: Work) -> list[Demonstration]:
    """The demonstrations that a stage is given; none where there are none."""
    if "demonstrations" not in work.inputs:
        return []
    path = Path(work.inputs["demonstrations"].path)
    source = path / DEMONSTRATIONS if (path / DEMONSTRATIONS).exists() else path
    return list(load_demonstrations(DataSpec(str(source))).records)


def stored_demonstrations(work: Work) -> list[Demonstration]:
    """The demonstrations out of the store that a stage is given: what raters wrote, and end users' edits."""
    return [one for role in ("written", "used") if role in work.inputs for one in demonstrations_in(work.input(role))]


def make_consensus(work: Work) -> dict[str, Any]:
    """Of many votes on a pair one preference; the preferred answers of pairs that were judged for the SFT model."""
    recipe = work.step.recipe
    pairs, said = read_pairs(work.input("sample") / "pairs.jsonl"), read_said(work.input("judge") / "judgments.jsonl")
    preferences = dict(zip((pair.id for pair in pairs), settled(pairs, said, recipe.learn.consensus), strict=True))
    judged = {pair.id: found for pair in pairs if (found := preferences[pair.id]) is not None}
    rewarding = [judged[pair.id] for pair in pairs if pair.id in judged and pair.use == "reward"]
    refreshing = [judged[pair.id] for pair in pairs if pair.id in judged and pair.use == "refresh"]
    withdrawn = ((read_manifest(work.input("judge")) or {}).get("record", {})).get("withdrawn")
    if not rewarding and not withdrawn:
        raise HeedfulError("no pair was judged.", where=str(work.input("judge")), mend="Delete that folder; run again.")
    chosen = [one for one in refreshing if max(one.probability, 1 - one.probability) >= recipe.learn.refresh_above]
    imitated = [Demonstration(one.prompt, one.a if one.probability > 0.5 else one.b) for one in chosen]
    write_records(work.out / PREFERENCES, rewarding)
    write_records(work.out / CHOSEN, imitated)
    undecided = sum(one.probability == 0.5 for one in rewarding)
    return {"figures": {"preferences": len(rewarding), "ties": undecided, "chosen": len(imitated)}}


def settled(pairs: Sequence[Pair], said: Sequence[Said], method: str) -> list[Preference | None]:
    """The consensus on each pair; None for a pair that nobody judged.

    Raises:
        HeedfulError: the method does not go with these votes.
    """
    if not said:
        return [None] * len(pairs)
    votes: dict[str, list[Said]] = {}
    for one in said:
        votes.setdefault(one.pair, []).append(one)
    data = crowd(
        [one.pair for one in said], [f"{one.kind} {one.rater}" for one in said], np.array([one.vote for one in said])
    )
    try:
        found = consensus(data, method)
    except ValueError as error:
        raise HeedfulError(f"{error}.", where="learn.consensus", mend="docs/consensus.md names the methods.") from error
    place = {str(name): index for index, name in enumerate(found.item_ids)}
    result: list[Preference | None] = []
    for pair in pairs:
        if pair.id not in votes:
            result.append(None)
            continue
        at, own = place[pair.id], votes[pair.id]
        made = Preference(pair.prompt, pair.a, pair.b, float(found.probability[at]), votes=len(own), consensus=method)
        if all(one.kind == "human" for one in own):  # they say by how much
            made = replace(made, strength=3 * sum(one.vote for one in own) / len(own))
        if method == "share" and all(one.kind == "ai" for one in own):  # they say how likely, not only which
            made = replace(made, probability=sum((1 + one.vote) / 2 for one in own) / len(own))
        if found.posterior is not None:
            made = replace(made, posterior=float(found.posterior[at]))
        result.append(made)
    return result


def make_dataset(work: Work) -> dict[str, Any]:
    """All rounds' preferences, those of earlier rounds at less weight."""
    rounds = work.inputs_like("round")
    decay, records, counts = work.step.recipe.learn.decay, [], {}
    for number, place in enumerate(rounds, 1):
        file = place / PREFERENCES
        found = load_preferences(DataSpec(str(file))).records if file.stat().st_size else []
        weight = decay ** (len(rounds) - number)
        records += [replace(one, weight=one.weight * weight) for one in found]
        counts[f"round_{number}"] = len(found)
    if not records:
        raise HeedfulError(
            "no judgment is left: all of them were withdrawn.",
            where=f"rounds/{work.step.number}/dataset",
            mend="Have further pairs judged: a new programme, or this one with more rounds and --again.",
        )
    if "field" not in work.inputs:
        write_records(work.out / PREFERENCES, records)
        return {"figures": {"preferences": len(records), **counts}}
    return {"figures": _with_use(work, records) | counts}


def _with_use(work: Work, records: list[Preference]) -> dict[str, int]:
    """Write the dataset with what end users did, which is at most its share; figures of it."""
    own, place = work.step.recipe.field, work.input("field")
    prompts = read_prompts(work.input("prompts") / FIELD)
    pairs, thumbs = admitted(pairs_in(place), prompts), admitted(thumbs_in(place), prompts)
    if own.use == "pairs":
        kept = within_share(pairs, len(records), own.share, _drawn(work, pairs))
        write_records(
            work.out / PREFERENCES, [*records, *(replace(one, weight=one.weight * own.weight) for one in kept)]
        )
        return {"preferences": len(records) + len(kept), "from_use": len(kept), "left_out": len(pairs) - len(kept)}
    write_records(work.out / PREFERENCES, records)
    judged = load_labelled(DataSpec(str(work.out / PREFERENCES))).records
    used: list[Labelled] = [one for pair in pairs for one in _apart(pair)] + thumbs
    kept = within_share(used, len(judged), own.share, _drawn(work, used))
    write_records(work.out / LABELLED, [*judged, *kept])
    counts = {"preferences": len(records), "labelled": len(judged) + len(kept)}
    return counts | {"from_use": len(kept), "left_out": len(used) - len(kept)}


def _apart(pair: Preference) -> tuple[Labelled, Labelled]:
    """A pair as one good and one bad answer."""
    better = pair.probability > 0.5
    return Labelled(pair.prompt, pair.a, better), Labelled(pair.prompt, pair.b, not better)


def _drawn(work: Work, records: Sequence[Any]) -> list[float]:
    """A number of each record that it always has, by its texts."""
    seed = work.step.recipe.seed
    texts = [[one.a, one.b] if isinstance(one, Preference) else [one.completion, one.label] for one in records]
    keys = (sha256_json([prompt_key(one.prompt), *own]) for one, own in zip(records, texts, strict=True))
    return [number_of(seed, key) for key in keys]


def contaminated(demonstrations: Sequence[Demonstration], uses: Path) -> set[int]:
    """Which demonstrations ask what a prompt for judging or checking asks, or nearly that."""
    rows = [row for row in read_rows(uses) if row["use"] != "train"]
    return set(overlapping([one.prompt for one in demonstrations], [conversation(row["prompt"]) for row in rows]))
