"""The table of stages: what each reads of the recipe, what it is made from, and which function makes it.

Read `STAGES` from top to bottom: it is a round. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heedful.pipeline.rounds.parts import Kept, Made, Outside, Source, Stage, Step
from heedful.pipeline.rounds.recipe import Programme, settings_of
from heedful.training.config.ai_recipe import IN_PROCESS, AIRecipe
from heedful.training.config.programme import JudgesRecipe, Recipe


@dataclass(frozen=True)
class Method:
    """A way to train the policy: `module:function` of `heedful.pipeline.stages`, and the data that it reads.

    `rewarded` ones answer prompts of their own and ask a reward model; the others read judged pairs.
    """

    run: str
    rewarded: bool = True


METHODS = {
    "ppo": Method("online:run_ppo"),
    "rloo": Method("online:run_rloo"),
    "grpo": Method("online:run_grpo"),
    "reinforce": Method("online:run_reinforce"),
    "raft": Method("online:run_raft"),
    "online_dpo": Method("online:run_online_dpo"),
    "dpo": Method("preference:run_dpo", rewarded=False),
}
"""By the name of their block in the recipe."""
FILES = ("reference", "ptx.data", "watch.thresholds", "watch.gold.prompts", "loading.template")
"""Settings of a stage's block that may name files, which count by their content."""


@dataclass(frozen=True)
class Added:
    """A reward that is added to the reward model's: its weight with the star, how it is read, and its file or name."""

    weight: str
    kind: str
    name: str


_ADDED = re.compile(r"\s*([^*,:]+\*)?(unit-tests(?:=\w+)?:)?(.+?)\s*")


def added(recipe: Recipe) -> list[Added]:
    """The rewards that `learn.plus` names."""
    given = recipe.learn.plus
    found = [_ADDED.fullmatch(one) for one in given.split(",")] if given else []
    return [Added(one[1] or "", one[2] or "", one[3]) for one in found if one is not None]


# --- where things come from ---


def method(recipe: Recipe) -> Method:
    """How the policy is trained."""
    return METHODS[recipe.learn.optimise]


def base(recipe: Recipe) -> Source:
    """The base model."""
    return Made(0, "base") if recipe.model is None else Outside(recipe.model)


def taught(recipe: Recipe) -> dict[str, Source]:
    """The demonstrations, where there are any."""
    if recipe.demonstrations is not None:
        return {"demonstrations": Outside(recipe.demonstrations)}
    return {"demonstrations": Made(0, "demonstrations")} if recipe.world.use else {}


def before_prompts(recipe: Recipe) -> dict[str, Source]:
    """The system message of all prompts, where there is one."""
    return {} if recipe.prompts.system is None else {"system": Outside(recipe.prompts.system)}


def kept(recipe: Recipe, number: int) -> Source:
    """The policy after a round; after round 0 the first SFT model, or the base model where nothing taught it."""
    if number > 0:
        return Kept(number)
    return Made(0, "sft") if taught(recipe) else base(recipe)


def refreshed(recipe: Recipe, number: int) -> bool:
    """Whether a round has an SFT model of its own."""
    if number == 0:
        return bool(taught(recipe))
    return recipe.learn.refresh > 0 or recipe.learn.written or recipe.field.edits == "demonstrations"


def imitated(recipe: Recipe, number: int) -> dict[str, Source]:
    """Demonstrations that a round takes from the store."""
    files = ("demonstrations.jsonl",)
    found: dict[str, Source] = {"written": Made(number, "written", files)} if recipe.learn.written else {}
    return found | ({"used": Made(number, "field", files)} if recipe.field.edits == "demonstrations" else {})


def start(recipe: Recipe, number: int) -> Source:
    """Where a round's policy starts."""
    if recipe.learn.start == "last":
        return kept(recipe, number - 1)
    return Made(number, "sft") if refreshed(recipe, number) else kept(recipe, 0)


# --- what each stage reads of the recipe: with `round` where two rounds are to draw apart ---


def world(recipe: Recipe) -> dict[str, Any]:
    """Which world."""
    return {"world.seed": recipe.world.seed} if recipe.world.use else {}


def subject(recipe: Recipe) -> dict[str, Any]:
    """Which world, and which of its questions."""
    kinds = {"world.kinds": list(recipe.world.kinds)} if recipe.world.use and recipe.world.kinds else {}
    return {**world(recipe), **kinds}


def shares(recipe: Recipe) -> dict[str, Any]:
    """How prompts are kept apart."""
    return {"seed": recipe.seed, "prompts.reward": recipe.prompts.reward, "prompts.check": recipe.prompts.check}


def of_base(recipe: Recipe, number: int) -> dict[str, Any]:
    """The shipped settings of the embedded world's base model are part of heedful's code."""
    return {"seed": recipe.seed, **world(recipe), "world.documents": recipe.world.documents}


def of_demonstrations(recipe: Recipe, number: int) -> dict[str, Any]:
    return {**shares(recipe), **subject(recipe), "world.demonstrations": recipe.world.demonstrations}


def of_prompts(recipe: Recipe, number: int) -> dict[str, Any]:
    counts = {"sample.pairs": recipe.sample.pairs, "learn.refresh": recipe.learn.refresh}
    chosen = {
        f"prompts.{name}": one for name in ("split", "limit") if (one := getattr(recipe.prompts, name)) is not None
    }
    return {"round": number, **shares(recipe), **subject(recipe), **chosen, **counts, "check.pairs": recipe.check.pairs}


def of_field(recipe: Recipe, number: int) -> dict[str, Any]:
    own = {"store.programme": recipe.store.programme, "field.use": recipe.field.use, "field.edits": recipe.field.edits}
    return {"round": number, **own} | ({"dpo.loss": recipe.dpo.loss} if recipe.field.use == "unpaired" else {})


def of_written(recipe: Recipe, number: int) -> dict[str, Any]:
    return {"round": number, "store.programme": recipe.store.programme}


def of_sample(recipe: Recipe, number: int) -> dict[str, Any]:
    own = recipe.sample
    found: dict[str, Any] = {"round": number, "seed": recipe.seed, "sample.temperatures": list(own.temperatures)}
    found["sample.max_new_tokens"] = own.max_new_tokens
    if own.older:
        found["sample.older_share"] = own.older_share
    return found


def of_judges(recipe: Recipe, judges: JudgesRecipe, prefix: str) -> dict[str, Any]:
    """Who judges, and what tells them apart."""
    found: dict[str, Any] = {f"{prefix}{kind}": part for kind, part in judges.shares.items()}
    if judges.people:
        found["store.programme"] = recipe.store.programme
    if judges.simulated:
        found |= {**world(recipe), f"{prefix}panel": judges.panel}
    if judges.ai:
        stage = prefix.split(".")[0]
        found |= of_ai(recipe.ai_of(stage), recipe.ai_block(stage))
    return found | {"seed": recipe.seed, f"{prefix}votes": judges.votes}


def of_ai(ai: AIRecipe, block: str = "ai") -> dict[str, Any]:
    """What of the AI judge in a block of the recipe decides what it says: not how its server is reached and paid."""
    found: dict[str, Any] = {"judge": ai.judge if isinstance(ai.judge, str) else list(ai.judges)}
    if ai.asked:
        found |= {"way": ai.way, "orders": ai.orders}
        if ai.constitution is not None:
            found |= {"constitution": ai.constitution, "tags": list(ai.tags), "thoughts": ai.thoughts}
        for name in ("temperature", "max_tokens", "top_logprobs", "ties", "seed"):
            found[f"asking.{name}"] = getattr(ai.asking, name)
        if any("@" not in name and not name.startswith(IN_PROCESS) for name in ai.judges):
            found["endpoint.url"] = ai.endpoint.url
        if any(name.startswith(IN_PROCESS) for name in ai.judges):
            found |= {f"loading.{name}": getattr(ai.loading, name) for name in ("template", "pad_token", "revision")}
    return {f"{block}.{name}": one for name, one in found.items()}


def of_judge(recipe: Recipe, number: int) -> dict[str, Any]:
    return {"round": number, **of_judges(recipe, recipe.judge, "judge.")}


def of_consensus(recipe: Recipe, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {"learn.consensus": recipe.learn.consensus}
    return found | ({"learn.refresh_above": recipe.learn.refresh_above} if recipe.learn.refresh else {})


def of_dataset(recipe: Recipe, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {"learn.decay": recipe.learn.decay}
    if recipe.field.use != "none":
        found |= {"field.use": recipe.field.use, "field.weight": recipe.field.weight, "field.share": recipe.field.share}
        found["seed"] = recipe.seed
    return found


def of_sft(recipe: Recipe, number: int) -> dict[str, Any]:
    return {"seed": recipe.seed} | {f"sft.{name}": one for name, one in settings_of(recipe.sft).items()}


def of_reward(recipe: Recipe, number: int) -> dict[str, Any]:
    return {"seed": recipe.seed} | {f"reward.{name}": one for name, one in settings_of(recipe.reward).items()}


def of_policy(recipe: Recipe, number: int) -> dict[str, Any]:
    block = recipe.learn.optimise
    own = {f"{block}.{name}": one for name, one in settings_of(recipe.method).items()}
    plus = {"learn.plus": recipe.learn.plus} if recipe.learn.plus else {}
    return {"round": number, "seed": recipe.seed, "learn.optimise": block, **own, **plus}


def of_check(recipe: Recipe, number: int) -> dict[str, Any]:
    judges = of_judges(recipe, recipe.check.judge, "check.judge.")
    return {"round": number, **judges, **world(recipe), "sample.max_new_tokens": recipe.sample.max_new_tokens}


def of_decide(recipe: Recipe, number: int) -> dict[str, Any]:
    return {"check.bound": recipe.check.bound, "check.above": recipe.check.above}


# --- what each stage is made from ---


def named_files(settings: dict[str, Any]) -> dict[str, Source]:
    """Files that a block's settings name, and the modules of losses of one's own."""
    found: dict[str, Source] = {}
    for name, value in settings.items():
        key = name.partition(".")[2]
        if key in FILES and value is not None and "." in str(value):
            found[name] = Outside(str(value))
        elif key == "loss":
            found |= {f"{name} {one}": Outside(one) for one in re.findall(r"[\w.]+:\w+", value)}
    return found


def judges_of(recipe: Recipe, judges: JudgesRecipe, stage: str) -> dict[str, Source]:
    """What AI judges of a stage are made of and go by, as far as it may be a file or a folder."""
    ai = recipe.ai_of(stage)
    if not judges.ai:
        return {}
    if not ai.asked:
        return {"ai": Outside(str(ai.judge))}
    folders = [name.removeprefix(IN_PROCESS) for name in ai.judges if name.startswith(IN_PROCESS)]
    found: dict[str, Source] = {f"ai {folder}": Outside(folder) for folder in folders}
    for role, name in read_by_judges(recipe, stage).items():
        found[role] = Outside(name)
    return found


def read_by_judges(recipe: Recipe, stage: str) -> dict[str, str]:
    """The files that models who judge are told: a constitution, or a rubric; and the attributes that they score."""
    ai, found = recipe.ai_of(stage), {}
    if ai.constitution is not None:
        return {} if ai.constitution == "default" else {"constitution": ai.constitution}
    rubric = recipe.store.guideline if ai.asking.rubric is None else str(ai.asking.rubric)
    if rubric is not None:
        found["rubric"] = rubric
    if ai.way == "attributes" and recipe.store.attributes is not None:
        found["attributes"] = recipe.store.attributes
    return found


def from_prompts(recipe: Recipe, number: int) -> dict[str, Source]:
    found = taught(recipe)
    if recipe.prompts.data is not None:
        found["data"] = Outside(recipe.prompts.data)
    found |= before_prompts(recipe)
    if recipe.field.use != "none":
        found["field"] = Made(number, "field", ("prompts.jsonl",))
    found |= imitated(recipe, number)
    return found | ({"earlier": Made(number - 1, "prompts", ("uses.jsonl",))} if number > 1 else {})


def from_sample(recipe: Recipe, number: int) -> dict[str, Source]:
    older = range(1, min(recipe.sample.older, number - 1) + 1)
    policies = {f"older{back}": kept(recipe, number - 1 - back) for back in older}
    asked = Made(number, "prompts", ("reward.jsonl", "refresh.jsonl"))
    return {"prompts": asked, "policy": kept(recipe, number - 1), **policies}


def from_judge(recipe: Recipe, number: int) -> dict[str, Source]:
    return {"sample": Made(number, "sample"), **judges_of(recipe, recipe.judge, "judge")}


def from_consensus(recipe: Recipe, number: int) -> dict[str, Source]:
    return {"sample": Made(number, "sample"), "judge": Made(number, "judge")}


def from_dataset(recipe: Recipe, number: int) -> dict[str, Source]:
    found: dict[str, Source] = {
        f"round{one}": Made(one, "consensus", ("preferences.jsonl",)) for one in range(1, number + 1)
    }
    if recipe.field.use != "none":
        found["field"] = Made(number, "field", ("pairs.jsonl", "thumbs.jsonl"))
        found["prompts"] = Made(number, "prompts", ("field.jsonl",))
    return found


def from_sft(recipe: Recipe, number: int) -> dict[str, Source]:
    found: dict[str, Source] = {"base": base(recipe), **taught(recipe), **named_files(of_sft(recipe, number))}
    found |= before_prompts(recipe)
    for one in range(1, number + 1):
        found[f"chosen{one}"] = Made(one, "consensus", ("chosen.jsonl",))
    if number > 0:
        found |= {"prompts": Made(number, "prompts", ("uses.jsonl",)), **imitated(recipe, number)}
    return found


def from_reward(recipe: Recipe, number: int) -> dict[str, Source]:
    found: dict[str, Source] = {"base": base(recipe), "dataset": Made(number, "dataset")}
    found |= named_files(of_reward(recipe, number))
    return found | ({"last": Made(number - 1, "reward")} if recipe.learn.warm and number > 1 else {})


def from_policy(recipe: Recipe, number: int) -> dict[str, Source]:
    found: dict[str, Source] = {"start": start(recipe, number), **named_files(of_policy(recipe, number))}
    if not method(recipe).rewarded:
        return found | {"dataset": Made(number, "dataset")}
    found |= {f"plus {one.name}": Outside(one.name) for one in added(recipe)}
    return found | {"prompts": Made(number, "prompts", ("train.jsonl",)), "reward": Made(number, "reward")}


def from_check(recipe: Recipe, number: int) -> dict[str, Source]:
    found: dict[str, Source] = {"prompts": Made(number, "prompts", ("check.jsonl",)), "policy": Made(number, "policy")}
    return found | {"last": kept(recipe, number - 1), **judges_of(recipe, recipe.check.judge, "check")}


def from_decide(recipe: Recipe, number: int) -> dict[str, Source]:
    return {"check": Made(number, "check"), "policy": Made(number, "policy"), "last": kept(recipe, number - 1)}


FIRST = (
    Stage("base", "training:make_base", of_base, lambda r, n: {}, lambda r, n: r.world.use and r.model is None),
    Stage(
        "demonstrations", "data:make_demonstrations", of_demonstrations, lambda r, n: {},
        lambda r, n: r.world.use and r.demonstrations is None,
    ),
    Stage("sft", "training:make_sft", of_sft, from_sft, refreshed),
)  # fmt: skip
"""What comes before the first round."""
STAGES = (
    Stage("field", "field:make_field", of_field, lambda r, n: {}, lambda r, n: r.field.taken, records=True),
    Stage("written", "field:make_written", of_written, lambda r, n: {}, lambda r, n: r.learn.written, records=True),
    Stage("prompts", "data:make_prompts", of_prompts, from_prompts),
    Stage("sample", "sampling:make_sample", of_sample, from_sample),
    Stage("judge", "judging:make_judge", of_judge, from_judge, records=True),
    Stage("consensus", "data:make_consensus", of_consensus, from_consensus, records=True),
    Stage("dataset", "data:make_dataset", of_dataset, from_dataset, records=True),
    Stage("sft", "training:make_sft", of_sft, from_sft, refreshed),
    Stage(
        "reward", "training:make_reward", of_reward, from_reward, lambda r, n: method(r).rewarded
    ),
    Stage("policy", "training:make_policy", of_policy, from_policy),
    Stage("check", "checking:make_check", of_check, from_check),
    Stage("decide", "checking:make_decide", of_decide, from_decide),
)  # fmt: skip
"""A round."""


def steps(programme: Programme, rounds: int) -> Iterator[Step]:
    """Every step of a programme up to a round, in order."""
    for number in range(rounds + 1):
        recipe = programme.recipe(max(number, 1))
        for stage in FIRST if number == 0 else STAGES:
            if stage.needed(recipe, number):
                yield Step(number, stage, recipe)
