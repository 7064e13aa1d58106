"""Stages that end a round: fresh judgments of the new policy against the last, and what follows from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from heedful.core.statistics import Interval
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer
from heedful.evaluation.winrate import rate_interval
from heedful.files import write_json
from heedful.pipeline.rounds.judging import JUDGMENTS, Question, judged
from heedful.pipeline.rounds.parts import Work
from heedful.pipeline.rounds.rows import NEW, Pair, different, read_prompts, read_said, won, write_pairs
from heedful.pipeline.rounds.sampling import answered, open_policy
from heedful.pipeline.rounds.uses import place
from heedful.training.config.programme import Recipe
from heedful.training.state import mix
from heedful.world.world import World

PAIRS, RESULT, ANSWERS = "pairs.jsonl", "check.json", ".answers.json"
PURPOSE = 70


def make_check(work: Work) -> dict[str, Any]:
    """Both policies answer prompts that nothing was trained on, and raters say whose answer is better, blind.

    Equal answers are ties that nobody is asked about. The win rate's interval resamples prompts.
    """
    recipe = work.step.recipe
    prompts = read_prompts(work.input("prompts") / "check.jsonl")
    new, last = _answers(work, prompts)
    pairs = [_pair(work, row, prompts[row], new[row].text, last[row].text) for row in range(len(prompts))]
    telling = [pair for pair in pairs if different(pair.a, pair.b)]
    write_pairs(work.out / PAIRS, pairs)
    entries = judged(Question(work, recipe.check.judge, "check"), telling)
    shares = won(pairs, read_said(work.out / JUDGMENTS))
    rows = [index for index, pair in enumerate(pairs) if shares[pair.id] is not None]
    values = [shares[pairs[index].id] for index in rows]
    clusters = [prompt_key(prompts[index]) for index in rows]
    if len(set(clusters)) < 2:
        raise HeedfulError(
            f"{len(values)} pairs of this check have a verdict, which is too few for an interval.",
            where=f"rounds/{work.step.number}/check",
            mend="Raise check.pairs; where judgments were withdrawn, --again has people asked anew.",
        )
    rate = rate_interval(np.array(values, dtype=float), np.array(clusters), seed=recipe.seed)
    result: dict[str, Any] = {"win_rate": asdict(rate), "pairs": len(pairs), "equal": len(pairs) - len(telling)}
    if recipe.world.use:
        result["gold_win_rate"] = asdict(_gold(recipe, prompts, new, last))
    write_json(work.out / RESULT, result)
    (work.out / ANSWERS).unlink(missing_ok=True)
    return {**entries, "figures": result}


def _answers(work: Work, prompts: list[Conversation]) -> tuple[list[Answer], list[Answer]]:
    """One answer of each policy to each prompt, as it is trained to sample; drawn once, however long people take."""
    kept = work.out / ANSWERS
    recipe = work.step.recipe
    if not kept.exists():
        found = {}
        for number, role in enumerate(("policy", "last")):
            seed = mix(recipe.seed, work.step.number, PURPOSE, number)
            found[role] = [asdict(one) for one in answered(open_policy(work, role), prompts, recipe, 1.0, seed)]
        write_json(kept, found)
    rows = json.loads(kept.read_text(encoding="utf-8"))
    new, last = ([Answer(**one) for one in rows[role]] for role in ("policy", "last"))
    return new, last


def _pair(work: Work, row: int, prompt: Conversation, new: str, last: str) -> Pair:
    first = place(mix(work.step.recipe.seed, work.step.number, PURPOSE), f"coin {row}") < 0.5
    texts, names = ((new, last), (NEW, "last")) if first else ((last, new), ("last", NEW))
    return Pair(f"check-{work.step.number}-{row:06d}", prompt, *texts, "check", *names)


def _gold(recipe: Recipe, prompts: list[Conversation], new: list[Answer], last: list[Answer]) -> Interval:
    """The win rate by the world's truth, which nothing is decided by."""
    world = World(recipe.world.seed)
    scores = [world.golds(prompts, [one.text for one in row], [one.finished for one in row]) for row in (new, last)]
    wins = (np.sign(scores[0] - scores[1]) + 1) / 2
    return rate_interval(wins, np.array([prompt_key(one) for one in prompts]), seed=recipe.seed)


def make_decide(work: Work) -> dict[str, Any]:
    """Keep the new policy where the check says so; else go back to the last."""
    recipe = work.step.recipe
    rate = json.loads((work.input("check") / RESULT).read_text(encoding="utf-8"))["win_rate"]
    promoted = rate[recipe.check.bound] > recipe.check.above
    path = work.input("policy" if promoted else "last")
    inside = path.is_relative_to(work.programme.folder / "rounds")
    kept: Any = [int(path.parent.name), path.name] if inside else recipe.model
    figures = {"win_rate": rate, "promoted": promoted}
    write_json(work.out / "decision.json", {"kept": kept, **figures})
    said = "kept" if promoted else "rolled back"
    work.display.say(
        f"{work.step.name}: win rate over the last policy {rate['mean']:.3f} "
        f"[{rate['low']:.3f}, {rate['high']:.3f}]: {said}"
    )
    return {"kept": kept, "promoted": promoted, "figures": figures}
