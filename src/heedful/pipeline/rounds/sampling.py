"""The stage that samples: two answers to each prompt, by the last policy or an older one, at mixed temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer
from heedful.evaluation.sampling import sample
from heedful.files import sha256_json
from heedful.models.policy import Policy, load_policy
from heedful.pipeline.choices import precision_of, resolve_device
from heedful.pipeline.rounds.parts import Work
from heedful.pipeline.rounds.rows import Pair, different, read_prompts, write_pairs
from heedful.pipeline.rounds.uses import place
from heedful.rollout.types import RolloutParams
from heedful.training.config.common import LoadingConfig
from heedful.training.config.programme import Recipe
from heedful.training.state import mix

CHUNK = 200
PURPOSE = 40


@dataclass(frozen=True)
class Draw:
    """Who answers a prompt, and how warmly."""

    policy: str
    temperature: float


def open_policy(work: Work, role: str) -> Policy:
    """A policy that a stage is given, opened as the method that trains it opens it."""
    return opened(work.inputs[role].path, work.step.recipe.method.loading)


def opened(path: str, loading: LoadingConfig) -> Policy:
    """A policy from a folder or a hub id, by a method's settings."""
    device = resolve_device(loading.device)
    found = load_policy(
        path,
        template=loading.template,
        pad_token=loading.pad_token,
        device=device,
        revision=loading.revision,
    )
    found.precision = precision_of(loading, found.device)
    return found


def draws(recipe: Recipe, number: int, count: int, older: Sequence[str]) -> list[tuple[Draw, Draw]]:
    """Who gives the two answers of each pair, the second sometimes an older policy; by hashes of the pair's place."""
    seed, temperatures = mix(recipe.seed, number, PURPOSE), recipe.sample.temperatures

    def at(what: str, among: Sequence[Any]) -> Any:
        return among[min(int(place(seed, what) * len(among)), len(among) - 1)]

    found = []
    for row in range(count):
        old = bool(older) and place(seed, f"old {row}") < recipe.sample.older_share
        second = at(f"which {row}", older) if old else "policy"
        warm = (at(f"first {row}", temperatures), at(f"second {row}", temperatures))
        found.append((Draw("policy", warm[0]), Draw(second, warm[1])))
    return found


def make_sample(work: Work) -> dict[str, Any]:
    """Pairs of different answers to the round's prompts, in an order that says nothing of who gave them."""
    recipe, number = work.step.recipe, work.step.number
    asked = [(prompt, "reward") for prompt in read_prompts(work.input("prompts") / "reward.jsonl")]
    asked += [(prompt, "refresh") for prompt in read_prompts(work.input("prompts") / "refresh.jsonl")]
    older = sorted(role for role in work.inputs if role.startswith("older"))
    wanted = draws(recipe, number, len(asked), older)
    both = [(row, side) for row in range(len(asked)) for side in range(2)]
    answers: dict[tuple[int, int], Answer] = {}
    with work.display.task("sample answers", len(both)) as task:
        for which in dict.fromkeys(draw.policy for pair in wanted for draw in pair):
            policy = open_policy(work, which)
            for temperature in dict.fromkeys(recipe.sample.temperatures):
                rows = [(row, side) for row, side in both if wanted[row][side] == Draw(which, temperature)]
                for begin in range(0, len(rows), CHUNK):
                    some = rows[begin : begin + CHUNK]
                    seed = mix(recipe.seed, number, PURPOSE, int(sha256_json([which, temperature, begin])[:8], 16))
                    found = answered(policy, [asked[row][0] for row, _ in some], recipe, temperature, seed)
                    answers |= dict(zip(some, found, strict=True))
                    task.update(len(answers), {})
    pairs = [
        turned(asked[row], [answers[row, side] for side in range(2)], wanted[row], work, row)
        for row in range(len(asked))
        if different(answers[row, 0].text, answers[row, 1].text)
    ]
    if not any(pair.use == "reward" for pair in pairs):
        raise HeedfulError(
            "no two answers to a prompt differ, so there is nothing to compare.",
            where="sample.temperatures",
            mend="Raise them, or sample more pairs.",
        )
    write_pairs(work.out / "pairs.jsonl", pairs)
    return {"figures": {"pairs": len(pairs), "equal_or_empty": len(asked) - len(pairs)}}


def answered(
    policy: Policy, prompts: Sequence[Conversation], recipe: Recipe, temperature: float, seed: int
) -> list[Answer]:
    """One answer to each prompt."""
    params = RolloutParams(recipe.sample.max_new_tokens, temperature=temperature, seed=seed)
    return [drawn[0] for drawn in sample(policy, prompts, params).answers]


def turned(
    asked: tuple[Conversation, str], texts: Sequence[Answer], drawn: Sequence[Draw], work: Work, row: int
) -> Pair:
    """A pair with its answers in an order by a coin."""
    coin = place(mix(work.step.recipe.seed, work.step.number, PURPOSE), f"coin {row}") < 0.5
    a, b = (0, 1) if coin else (1, 0)
    return Pair(
        f"{work.step.number}-{row:06d}",
        asked[0],
        texts[a].text,
        texts[b].text,
        asked[1],
        work.inputs[drawn[a].policy].digest[:16],
        work.inputs[drawn[b].policy].digest[:16],
        drawn[a].temperature,
        drawn[b].temperature,
    )
