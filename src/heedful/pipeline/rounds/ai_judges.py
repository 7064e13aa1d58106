"""Models that judge a round's pairs: opened with the programme's ledger, asked, and what they said and cost.

The ledger stands in the programme's folder, so that no reply is paid for twice whatever becomes of a stage's folder.
What could not be read is recorded and is no vote; what got no reply at all stops the round, which asks for it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.budget import Budget, Purse
from heedful.feedback.ai.guidelines import read_attributes, read_guideline
from heedful.feedback.ai.judging import Opinion
from heedful.feedback.ai.ledger import LEDGER, Ledger
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.principled import PrincipledWay
from heedful.feedback.ai.templates import ULTRAFEEDBACK
from heedful.feedback.ai.ways import Look, Way
from heedful.pipeline.judge_opening import opened, server_of, way_of
from heedful.pipeline.judging import Judged, Panelist, judge_all, look_rows
from heedful.pipeline.rounds.parts import Step, Work
from heedful.pipeline.rounds.recipe import AI_KEYS, Programme, keys_for_flags
from heedful.pipeline.rounds.rows import Pair, Said, write_rows
from heedful.pipeline.rounds.stages import read_by_judges
from heedful.training.config.ai_recipe import IN_PROCESS, AIRecipe
from heedful.training.config.programme import JudgesRecipe, Recipe
from heedful.training.progress import Display

LOOKS = "ai.jsonl"
"""In a stage's folder: each look of a model at a pair, with its replies as they came, or why there is nothing."""
NO_REPLY = ("timeout", "connection", "rate limit", "server error", "bad reply", "stopped")
"""Troubles of looks that another attempt may mend; all others are what the model said, or will always say."""
JUDGING = {"judge": lambda recipe: recipe.judge, "check": lambda recipe: recipe.check.judge}
"""The stages that have pairs judged, and by whom; how AI judges of each are asked, `Recipe.ai_of` says."""


# --- before anything is made ---


def ready_to_ask(programme: Programme, steps: Iterable[Step], display: Display) -> None:
    """Find out whether the models that these steps will ask can be asked: files, keys, addresses, log-probabilities.

    One short request to each server that the programme's ledger has no reply of; after that a look that costs nothing.

    Raises:
        HeedfulError: one of them cannot; nothing is made then.
    """
    seen: list[tuple[AIRecipe, dict[str, str]]] = []
    for step in steps:
        recipe = step.recipe
        judges: JudgesRecipe | None = JUDGING[step.stage.name](recipe) if step.stage.name in JUDGING else None
        if judges is None or not judges.ai:
            continue
        stage = step.stage.name
        ai, told = recipe.ai_of(stage), read_by_judges(recipe, stage)
        if not ai.asked or (ai, told) in seen:
            continue
        seen.append((ai, told))
        with advice_for_recipes(recipe.ai_block(stage)):
            way = ways_of(programme, recipe, stage)
            for name in ai.judges:
                _look_at(name, programme, ai)
            servers = [name for name in ai.judges if not name.startswith(IN_PROCESS)]
            if servers:
                with opened_panel(programme, recipe, stage, way, servers, display):
                    pass


def _look_at(name: str, programme: Programme, ai: AIRecipe) -> None:
    """Whether a model is there, at no cost."""
    if name.startswith(IN_PROCESS):
        from heedful.models.storage import open_config

        open_config(programme.path(name.removeprefix(IN_PROCESS)), ai.loading.revision)
        return
    server = server_of(name, ai.endpoint)
    why = server.unreachable()
    if why:
        raise HeedfulError(
            f"the AI judge cannot be reached: {why}.", where=server.url, mend="Check the URL, and that it runs."
        )


def ways_of(programme: Programme, recipe: Recipe, stage: str) -> Way:
    """How a recipe's models are asked in a stage, judge or check.

    Raises:
        HeedfulError: its rubric, constitution or attributes cannot be read.
    """
    ai = recipe.ai_of(stage)
    files = {role: Path(programme.path(name)) for role, name in read_by_judges(recipe, stage).items()}
    rubric = read_guideline(files["rubric"]) if "rubric" in files else ""
    attributes = read_attributes(files["attributes"]) if "attributes" in files else ULTRAFEEDBACK
    return way_of(_Placed(ai, str(files.get("constitution", ai.constitution))), rubric, attributes)


class _Placed:
    """A recipe's settings with the constitution's file where it stands."""

    def __init__(self, ai: AIRecipe, constitution: str) -> None:
        self.way, self.orders, self.asking = ai.way, ai.orders, ai.asking
        self.tags, self.thoughts = ai.tags, ai.thoughts
        self.constitution = None if ai.constitution is None else constitution


@contextmanager
def advice_for_recipes(block: str) -> Iterator[None]:
    """Errors whose advice names keys of a block of the recipe, where a command's flags stood."""
    try:
        yield
    except HeedfulError as error:
        where = f"{block}.{error.where}" if error.where.split(".")[0] in AI_KEYS else error.where
        raise type(error)(error.what, where=where, mend=keys_for_flags(error.mend, block)) from error


# --- asking ---


@contextmanager
def opened_panel(
    programme: Programme, recipe: Recipe, stage: str, way: Way, names: Sequence[str], display: Display
) -> Iterator[list[Panelist]]:
    """Models ready to judge in a stage, judge or check, with the programme's ledger open."""
    ai = recipe.ai_of(stage)
    book = Ledger(programme.folder / LEDGER)
    try:
        if book.lost:
            display.say(
                f"An earlier run was killed with {book.lost} requests to AI judges under way. They may have been paid "
                "for; they are asked again, and count against the budget."
            )
        purse = Purse(budget_of(recipe), book.spent())
        panel = []
        for name in names:
            place = programme.path(name.removeprefix(IN_PROCESS)) if name.startswith(IN_PROCESS) else ""
            asker = opened(name, ai, book, purse, display, logprobs=way.logprobs, forms=way.forms, folder=place)
            panel.append(Panelist(name, asker, way))
        yield panel
    finally:
        book.close()


def budget_of(recipe: Recipe) -> Budget:
    """The most that AI judges of a programme may spend, whichever block names them: the smaller of two limits."""
    blocks = (recipe.ai.budget, recipe.check.ai.budget)

    def least(name: str) -> Any:
        return min((one for one in (getattr(block, name) for block in blocks) if one is not None), default=None)

    return Budget(least("requests"), least("tokens"), least("money"))


def said_by_models(work: Work, pairs: Sequence[Pair], stage: str) -> tuple[list[Said], dict[str, Any]]:
    """What a recipe's models say of pairs, each model one rater, and entries of the manifest: `ai` and `cost`.

    Args:
        work: whose step's recipe names them.
        pairs: what they are shown.
        stage: judge or check, which may have judges of their own.

    Raises:
        BudgetSpentError: before all is judged; what was paid for is kept.
        HeedfulError: a model cannot be asked, gave no reply to more than `ai.missing` of the questions, or could be
            read on no pair.
    """
    cases = [Case(pair.prompt, (pair.a, pair.b)) for pair in pairs]
    panel, judged = asked_of(work.programme, work.step.recipe, stage, cases, work.display)
    rows = (
        _sorted({"pair": pairs[number].id, **row})
        for one in panel
        for number, opinion in sorted(judged.opinions[one.name].items())
        for row in look_rows(one, number, cases[number], opinion)
    )
    write_rows(work.out / LOOKS, rows)
    said = [
        Said(pairs[number].id, "ai", one.name, 2 * label - 1)
        for one in panel
        for number, opinion in sorted(judged.opinions[one.name].items())
        if (label := label_of(one.way, opinion)) is not None
    ]
    return said, {"ai": [_described(one, judged) for one in panel], "cost": _cost(judged)}


def asked_of(
    programme: Programme, recipe: Recipe, stage: str, cases: Sequence[Case], display: Display
) -> tuple[list[Panelist], Judged]:
    """The models that judge in a stage, and what each says of some cases, paid for once.

    Raises:
        BudgetSpentError, HeedfulError: as `said_by_models`.
    """
    with advice_for_recipes(recipe.ai_block(stage)):
        way, names = ways_of(programme, recipe, stage), recipe.ai_of(stage).judges
        with (
            opened_panel(programme, recipe, stage, way, names, display) as panel,
            display.task("AI judges", len(panel) * len(cases)) as bar,
        ):
            judged = judge_all(panel, cases, tell=lambda done, _: bar.update(done, {}), keep=lambda *_: None)
        if judged.stopped is not None:
            raise judged.stopped
    for one in panel:
        _refuse_gaps(one, judged, recipe.ai_of(stage).missing, recipe.ai_block(stage))
    return panel, judged


def _sorted(row: dict[str, Any]) -> Any:
    """A row whose bytes do not tell whether its replies came from the ledger, which keeps keys in order."""
    return json.loads(json.dumps(row, sort_keys=True))


def label_of(way: Way, opinion: Opinion) -> float | None:
    return way.label(opinion) if isinstance(way, PrincipledWay) else opinion.probability


def _looks(judged: Judged, name: str) -> list[Look]:
    return [look for opinion in judged.opinions[name].values() for look in opinion.looks]


def _refuse_gaps(one: Panelist, judged: Judged, allowed: float, block: str) -> None:
    looks = _looks(judged, one.name)
    gaps = [look for look in looks if look.trouble in NO_REPLY]
    if len(gaps) > allowed * len(looks):
        raise HeedfulError(
            f"the AI judge {one.name} gave no reply to {len(gaps)} of {len(looks)} questions "
            f"({gaps[0].trouble}: {gaps[0].detail}).",
            where=f"{block}.judge",
            mend=f"Run the same command again: it asks for these alone. {block}.missing allows a share of them.",
        )
    if not any(label_of(one.way, opinion) is not None for opinion in judged.opinions[one.name].values()):
        told = ", ".join(f"{count} {why}" for why, count in judged.troubles(one.name).items())
        raise HeedfulError(
            f"the AI judge {one.name} could be read on none of {len(judged.cases)} pairs ({told}).",
            where=f"{block}.judge",
            mend=f"Choose another model or another {block}.way.",
        )


def _described(one: Panelist, judged: Judged) -> dict[str, Any]:
    """A judge, for the manifest: what it was told, on how many pairs it could be read, and why not on the others."""
    opinions = judged.opinions[one.name]
    versions = sorted({one.way.template(judged.cases[number]).version for number in opinions})
    return {
        "judge": one.name,
        "templates": versions,
        "temperature": one.way.manner.temperature,
        "judged": sum(label_of(one.way, opinion) is not None for opinion in opinions.values()),
        "troubles": judged.troubles(one.name),
    }


def _cost(judged: Judged) -> dict[str, Any]:
    """What the replies to these questions took when they were paid for; failed requests are in the ledger alone."""
    replies = [reply for name in judged.opinions for look in _looks(judged, name) for reply in look.replies]
    prompts, answers = (sum(getattr(r.usage, f"{of}_tokens") for r in replies) for of in ("prompt", "completion"))
    return {
        "judge": {
            "requests": len(replies),
            "tokens": prompts + answers,
            "prompt_tokens": prompts,
            "completion_tokens": answers,
            "money": sum(reply.cost for reply in replies),
        }
    }
