"""Stages that train: the base model of the world, the SFT model, the reward model, the policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from heedful.data.load import DataSpec, load_demonstrations
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.pipeline.embedded import Embedded, pretrain, read_settings
from heedful.pipeline.rounds.data import (
    CHOSEN,
    LABELLED,
    PREFERENCES,
    USED,
    contaminated,
    demonstrations_of,
    stored_demonstrations,
    with_system,
)
from heedful.pipeline.rounds.parts import Work
from heedful.pipeline.rounds.stages import FILES, METHODS, added
from heedful.pipeline.stages.reward import run_reward
from heedful.pipeline.stages.sft import run_sft
from heedful.training.state import mix
from heedful.world.world import World

IMITATED = ".imitated.jsonl"
"""What the SFT model learns, in its own folder until it is done."""


def make_base(work: Work) -> dict[str, Any]:
    """The embedded world's base model, pretrained on its web text."""
    recipe = work.step.recipe
    settings, stages = read_settings(False)
    settings = dataclasses.replace(settings, documents=recipe.world.documents)
    run = Embedded(World(recipe.world.seed), work.out, recipe.seed, settings, stages, work.display)
    return pretrain(run, work.out)


def make_sft(work: Work) -> dict[str, Any]:
    """The SFT model: the base model on demonstrations, and on answers that raters preferred."""
    found = demonstrations_of(work) + stored_demonstrations(work)
    left_out: set[int] = set()
    if "prompts" in work.inputs:
        left_out = contaminated(found, work.input("prompts") / USED)
    kept = [one for index, one in enumerate(found) if index not in left_out]
    prompts = with_system([one.prompt for one in kept], work)
    records = [dataclasses.replace(one, prompt=prompt) for one, prompt in zip(kept, prompts, strict=True)]
    for place in work.inputs_like("chosen"):
        if (place / CHOSEN).stat().st_size:
            records += load_demonstrations(DataSpec(str(place / CHOSEN))).records
    if not records:
        raise HeedfulError(
            "there is nothing to imitate: no demonstration, and no answer that raters agree on enough.",
            where="learn.refresh",
            mend="Lower learn.refresh_above, raise learn.refresh, or name demonstrations.",
        )
    if left_out:
        work.display.say(f"{work.step.name}: {len(left_out)} demonstrations left out: their prompts are for judging.")
    data = work.out / IMITATED
    write_records(data, records)
    return run_sft(configured(work, "sft", model=work.inputs["base"].path, data=str(data)), work.display)


def make_reward(work: Work) -> dict[str, Any]:
    """The reward model, on all rounds' preferences."""
    data = str(work.input("dataset") / PREFERENCES)
    model = work.inputs.get("last", work.inputs["base"])  # a reward model that is given as the model goes on learning
    return run_reward(configured(work, "reward", model=model.path, data=data), work.display)


def make_policy(work: Work) -> dict[str, Any]:
    """The policy, by the method that the recipe names."""
    block = work.step.recipe.learn.optimise
    module, function = METHODS[block].run.split(":")
    run: Callable[..., dict[str, Any]] = getattr(import_module(f"heedful.pipeline.stages.{module}"), function)
    given = {"model": work.inputs["start"].path}
    if METHODS[block].rewarded:
        given |= {"data": str(work.input("prompts") / "train.jsonl"), "reward": reward_of(work)}
    else:
        unpaired = work.step.recipe.field.use == "unpaired"
        given["data"] = str(work.input("dataset") / (LABELLED if unpaired else PREFERENCES))
    return run(configured(work, block, **given), work.display)


def reward_of(work: Work) -> str:
    """The round's reward model, with the rewards that the recipe adds to it."""
    model = work.inputs["reward"].path
    more = [f"{one.weight}{one.kind}{work.programme.path(one.name)}" for one in added(work.step.recipe)]
    return f"sum:{','.join([model, *more])}" if more else model


def configured(work: Work, block: str, **given: Any) -> Any:
    """A stage's settings as its command takes them: the recipe's block, with what the round gives it."""
    recipe = work.step.recipe
    config = getattr(recipe, block)
    for name in FILES:
        config = _with_file(config, name.split("."), work)
    records = dataclasses.replace(config.records, split_seed=recipe.seed)
    seed = mix(recipe.seed, 60, *([work.step.number] if "round" in work.settings else []))
    return dataclasses.replace(config, **given, out=work.out, seed=seed, records=records)


def _with_file(config: Any, keys: list[str], work: Work) -> Any:
    """The same settings, with the file of one of them named from the programme's folder."""
    name, *rest = keys
    value = getattr(config, name, None)
    if value is None:
        return config
    if rest:
        return dataclasses.replace(config, **{name: _with_file(value, rest, work)})
    if not isinstance(value, str | Path):
        return config
    return dataclasses.replace(config, **{name: type(value)(work.programme.path(str(value)))})
