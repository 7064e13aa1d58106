"""Opening the watch of an online stage: its limits, its fresh checks, and the reward model's usual states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.core.sequential import LEAST_RATERS
from heedful.data.load import DataSpec, fit, load_prompts
from heedful.data.read import read_rows
from heedful.data.records import Conversation, Prompt, prompt_key
from heedful.errors import HeedfulError
from heedful.feedback.client import connect
from heedful.files import read_manifest
from heedful.models.policy import Policy
from heedful.models.scalar import RewardModel
from heedful.monitoring.checks import Judge, Reply
from heedful.monitoring.latents import LatentReward, fit_region, read_region
from heedful.monitoring.monitor import Monitor
from heedful.pipeline.conservatism import Conservatism, requests
from heedful.pipeline.gold_checks import Answer, GoldChecks, enough_prompts, open_judge
from heedful.pipeline.people_judge import PeopleJudge
from heedful.pipeline.stages.common import Opened
from heedful.pipeline.watching import Watcher, limits_for, settled_watch
from heedful.rollout.engine import decode
from heedful.training.batching import records_between
from heedful.training.checkpoint import keep_weights
from heedful.training.config.online import OnlineConfig
from heedful.training.config.watch import GoldConfig, WatchConfig
from heedful.training.folders import ASKING, WATCH
from heedful.training.rollouts import Questions, as_scores, complete
from heedful.training.state import TrainState, mix
from heedful.training.workers import current

LATENT_PURPOSE, GOLD_PURPOSE, REFUSAL_PURPOSE = 7, 8, 9
"""As the purposes of `training.rollouts`: no two draws of a run share their numbers."""

SCORE_RANGE = "score_range"
"""Key of a reward model's manifest: what one training answer in a hundred scored below and above."""


def open_watch(
    stage: Opened,
    config: OnlineConfig,
    models: Any,
    state: TrainState,
    prompts: Sequence[Prompt],
    held_out: Sequence[Prompt],
) -> tuple[Any, Watcher | None]:
    """Who takes part, with a judge that tells what the watch reads, and the watch; None where it is off.

    Of several workers the leader alone watches; what it decides, all do (`heedful.training.run`).

    Args:
        prompts: that the run trains on.
        held_out: that it does not.

    Raises:
        HeedfulError: settings of the watch that cannot be followed.
    """
    if config.watch.mode == "off":
        return models, None
    settings, found = settled_watch(config.watch)
    if settings.mode == "act" and settings.respond == "raise" and "kl_coefficient" not in state.scalars:
        raise HeedfulError(
            "this method has no KL coefficient to raise.", where="watch.respond", mend="Set watch.respond freeze."
        )
    low = models.policy.precision != "float32"
    limits = limits_for(config, settings, found, reward_high(config.reward), low)
    if settings.latent_samples:
        models = replace(models, reward=with_region(stage, config, models, prompts))
    if not current().leads:
        return models, None
    checks = open_checks(stage, config, settings, models, held_out) if settings.gold.judge is not None else None
    if checks is not None and settings.mode == "act" and state.step == 0:
        keep_weights(stage.out, state)
    refusals = open_refusals(stage, config, models, state) if settings.refusals.requests is not None else None
    monitor = Monitor(limits, window=settings.window, baseline_steps=settings.baseline_steps)
    capped = settings.mode == "act" and settings.step_cap is not None
    last = min(config.steps, settings.step_cap or config.steps) if capped else config.steps
    return models, Watcher(settings, monitor, checks, state, stage.out, stage.display, refusals, last)


def said_by(watcher: Watcher | None) -> dict[str, Any]:
    """The watch's entry of the manifest."""
    return {} if watcher is None else {"watch": watcher.summary()}


def reward_high(reward: str) -> float | None:
    """What one of a reward model's training answers in a hundred scored above, where its folder tells."""
    folder = Path(reward)
    manifest = read_manifest(folder) if folder.is_dir() else None
    return None if manifest is None or SCORE_RANGE not in manifest else float(manifest[SCORE_RANGE][1])


def with_region(stage: Opened, config: OnlineConfig, models: Any, prompts: Sequence[Prompt]) -> LatentReward:
    """The reward model with the region of its states on the starting policy's answers; fitted once in a run.

    Raises:
        HeedfulError: the reward is no single reward model.
    """
    reward = models.reward
    if not isinstance(reward, RewardModel):
        raise HeedfulError(
            "only a single reward model has states to look at.",
            where="watch.latent_samples",
            mend="Leave it at 0; an ensemble has the sign disagreement instead.",
        )
    path = stage.out / WATCH / "region.npz"

    def fit() -> None:
        questions, wanted = Questions(models.policy, prompts), config.watch.latent_samples
        seed = mix(config.seed, LATENT_PURPOSE)
        chosen = records_between(0, wanted, len(questions), seed)
        rollout = complete(beginning(models), questions, chosen, seed, config.rollout, samples=1)
        asked = [questions.conversations[i] for i in chosen]
        states = reward.scores_and_states(asked, decode(models.policy, rollout))[1]
        fit_region(states.double().cpu().numpy()).write(path)

    current().led(lambda: None if path.exists() else fit())
    return LatentReward(reward, read_region(path))


def beginning(models: Any) -> Policy:
    """The policy as the run began with it."""
    return models.reference if models.start is None else models.start


def open_checks(
    stage: Opened, config: OnlineConfig, settings: WatchConfig, models: Any, held_out: Sequence[Prompt]
) -> GoldChecks:
    """The fresh checks of a run.

    Raises:
        HeedfulError: too few prompts, or no such judge.
    """
    gold = settings.gold
    assert gold.judge is not None
    asked = held_out if gold.prompts is None else fresh_prompts(gold.prompts, config, models.policy)
    where = "records.held_out" if gold.prompts is None else "watch.gold.prompts"
    prompts = [prompt.prompt for prompt in asked]
    clusters = [prompt_key(prompt) for prompt in prompts]
    if gold.cluster is not None and gold.prompts is not None:
        clusters = column_of(gold.prompts, gold.cluster, asked, clusters)
    enough_prompts(clusters[: gold.pairs], where)
    kind, _, name = gold.judge.partition(":")
    judge: Judge
    people = None
    if kind == "people" and name:
        judge = people = ask_people(stage, gold, name)
    else:
        judge = open_judge(gold.judge, **({} if kind == "world" else {"device": str(models.policy.device)}))
    policy, start = (answers(models, one, asked, config, gold.pairs) for one in (models.policy, beginning(models)))
    seed = mix(config.seed, GOLD_PURPOSE)
    return GoldChecks(gold, judge, prompts, policy, start, stage.out / WATCH, seed, people, clusters)


def ask_people(stage: Opened, gold: GoldConfig, programme: str) -> PeopleJudge:
    """Raters of a programme as the judge.

    Raises:
        HeedfulError: there is no such programme: before anything is trained.
    """
    client, say = connect(studio=gold.studio), stage.display.say
    raters = client.status(programme).raters
    if raters < LEAST_RATERS:
        say(
            f"watch: {programme!r} has {raters} raters so far; checks give no verdict before {LEAST_RATERS} have judged"
        )
    asking = stage.out / WATCH / ASKING
    return PeopleJudge(client, programme, votes=gold.votes, patience=3600 * gold.patience, say=say, asking=asking)


def fresh_prompts(source: str, config: OnlineConfig, policy: Policy) -> list[Prompt]:
    """The prompts of a file that leave room for an answer."""
    loaded = load_prompts(DataSpec(source, on_bad_row=config.records.on_bad_row))
    room = config.records.max_length - config.rollout.max_new_tokens
    return fit(loaded.records, policy.tokenizer, room, config.records.on_bad_row, loaded.findings)


def column_of(source: str, column: str, prompts: Sequence[Prompt], otherwise: Sequence[str]) -> list[str]:
    """[n] what a column of a file says of prompts that were read from it; `otherwise` where it says nothing.

    Raises:
        HeedfulError: there is no such column.
    """
    said = {str(origin): row.get(column) for origin, row in read_rows(source)}
    if all(value in (None, "") for value in said.values()):
        raise HeedfulError(
            f"no row of {source} has a column {column!r}.", where="watch.gold.cluster", mend="Name another column."
        )
    values = [said.get(str(prompt.origin)) for prompt in prompts]
    return [f"{column} {v}" if v not in (None, "") else own for v, own in zip(values, otherwise, strict=True)]


def open_refusals(stage: Opened, config: OnlineConfig, models: Any, state: TrainState) -> Conservatism:
    """What measures refusals as the run goes; the starting policy's are measured at once.

    Raises:
        HeedfulError: a request leaves no room for an answer.
    """
    asked = requests(config.watch.refusals)
    questions = Questions(models.policy, [Prompt(conversation) for _, conversation in asked])
    room = config.records.max_length - config.rollout.max_new_tokens
    longest = max(len(tokens) for tokens in questions.tokens)
    if longest > room:
        raise HeedfulError(
            f"a request has {longest} tokens, and records.max_length leaves {room} beside the answer.",
            where="watch.refusals.requests",
            mend="Raise records.max_length, or lower rollout.max_new_tokens.",
        )
    seed = mix(config.seed, REFUSAL_PURPOSE)

    def answer() -> list[str]:
        rollout = complete(models.policy, questions, range(len(questions)), seed, config.rollout, samples=1)
        return decode(models.policy, rollout)

    return Conservatism(config.watch.refusals, asked, answer, stage.out / WATCH, state.step)


def answers(models: Any, policy: Policy, prompts: Sequence[Prompt], config: OnlineConfig, most: int) -> Answer:
    """How a policy answers the prompts of the checks, one answer each, as it is trained to sample."""
    questions = Questions(policy, prompts[:most])

    def answer(seed: int) -> list[Reply]:
        chosen = range(len(questions))
        rollout = complete(policy, questions, chosen, seed, config.rollout, samples=1)
        texts = decode(policy, rollout)
        asked: list[Conversation] = [questions.conversations[i] for i in chosen]
        rewards = as_scores(models.reward(asked, texts), rollout).tolist()
        rows = zip(texts, rollout.finished.tolist(), rewards, strict=True)
        return [Reply(text, finished, reward) for text, finished, reward in rows]

    return answer
