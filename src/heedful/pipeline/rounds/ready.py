"""What can be found out to be missing before a round makes anything: models, data, judges, tests, a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.pipeline.rounds.ai_judges import ready_to_ask
from heedful.pipeline.rounds.needs import why_not_to_be_had
from heedful.pipeline.rounds.parts import Outside, Step
from heedful.pipeline.rounds.recipe import Programme
from heedful.pipeline.rounds.stages import Added, added
from heedful.training.config.programme import Recipe
from heedful.training.progress import Display

WORLD_CODE = "heedful.pipeline.world_code:passed"
WITHOUT_NETWORK = (
    "Without a network nothing is taken in its place: heedful init FOLDER --application NAME --embedded writes a "
    "programme that needs none."
)


def make_ready(programme: Programme, steps: Sequence[Step], display: Display) -> None:
    """Refuse what cannot end well, before people and machines spend anything on these steps.

    Raises:
        HeedfulError: the base model, the prompts, a model that is to judge, or tests that are to reward are not there.
    """
    _model(programme, steps)
    for step in steps:
        if step.stage.name == "prompts":
            _prompts(programme, step.recipe)
            break
    ready_to_ask(programme, steps, display)
    rewarded = {step.recipe.learn.plus: step.recipe for step in steps if step.stage.name == "policy"}
    for recipe in rewarded.values():
        _rewards(programme, recipe)


def _model(programme: Programme, steps: Sequence[Step]) -> None:
    """A base model of the hub, whose configuration can be had; folders are opened by the stages."""
    models = {step.recipe.model: step.recipe for step in steps if _reads_base(step)}
    for name, recipe in models.items():
        if name is None or Path(programme.path(name)).exists():
            continue
        why = why_not_to_be_had(name, "model")
        if why:
            raise _without(f"the model {name} is not to be had: {why}.", "model")
        from heedful.models.storage import open_config

        open_config(name, recipe.method.loading.revision)


def _reads_base(step: Step) -> bool:
    name = step.recipe.model
    return name is not None and Outside(name) in step.stage.inputs(step.recipe, step.number).values()


def _prompts(programme: Programme, recipe: Recipe) -> None:
    """Prompts of a file or of the hub, of which one can be had."""
    from heedful.data.read import read_rows

    if recipe.prompts.data is None:
        return
    place = programme.path(recipe.prompts.data)
    if not Path(place).exists():
        why = why_not_to_be_had(place, "dataset")
        if why:
            raise _without(f"the prompts {place} are not to be had: {why}.", "prompts.data")
    next(read_rows(place, split=recipe.prompts.split), None)


def _without(what: str, where: str) -> HeedfulError:
    return HeedfulError(what, where=where, mend=f"Check the name and the network. {WITHOUT_NETWORK}")


def _rewards(programme: Programme, recipe: Recipe) -> None:
    """What is added to the reward model: weights that are numbers, functions, models, tests and a sandbox for them."""
    if recipe.learn.plus is None:
        return
    from heedful.models.callables import import_function, names_function
    from heedful.models.rewards import aggregation

    aggregation(f"sum:model,{recipe.learn.plus}")
    for one in added(recipe):
        place = programme.path(one.name)
        if one.kind:
            _tested(programme, recipe, one)
        elif names_function(place):
            import_function(place)
            if one.name == WORLD_CODE:
                from heedful.sandbox import jail

                jail.check()
        elif not Path(place).exists():
            why = why_not_to_be_had(place.partition("#")[0], "model")
            if why:
                raise _without(f"the reward {one.name} is not to be had: {why}.", "learn.plus")


def _tested(programme: Programme, recipe: Recipe, one: Added) -> None:
    from heedful.models.unit_tests import load_unit_tests
    from heedful.pipeline.rounds.data import prompts_in

    tests = load_unit_tests(f"{one.kind}{programme.path(one.name)}")
    if recipe.prompts.data is None or recipe.prompts.system is not None:
        raise HeedfulError(
            "unit tests go with prompts of a file, word for word.",
            where="learn.plus",
            mend="Name the file in prompts.data too, and take prompts.system out.",
        )
    prompts = prompts_in(programme.path(recipe.prompts.data), recipe)
    bare = [prompt for prompt in prompts if prompt not in tests.problems]
    if bare:
        raise HeedfulError(
            f"{len(bare)} prompts have no tests, the first of them {bare[0][-1].content[:80]!r}.",
            where=f"learn.plus: {one.name}",
            mend="The file of tests must hold every prompt, word for word.",
        )
