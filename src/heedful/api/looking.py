"""Policies and rewards looked at from Python: answers, scores, comparisons, probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heedful.api.objects import (
    Model,
    Reward,
    Rows,
    configured,
    display,
    model_name,
    objects,
    prompts_name,
    refuse,
    reward_name,
    rows_name,
)
from heedful.data.held import Holding
from heedful.data.load import DataSpec, Loaded
from heedful.data.load import load_preferences as read_preferences
from heedful.data.records import MADE_HERE, Preference
from heedful.data.turns import prompt_of
from heedful.errors import HeedfulError
from heedful.training.config.common import BadRow

if TYPE_CHECKING:
    from heedful.evaluation.contest import Contest
    from heedful.evaluation.probes.measure import Probing
    from heedful.models.rewards import Reward as Scorer


def load_preferences(
    data: Rows, *, format: str = "auto", split: str | None = None, on_bad_row: BadRow = "skip", limit: int | None = None
) -> Loaded[Preference]:
    """Judged pairs out of any format that heedful knows, ties included.

    Args:
        data: a file, folder or hub dataset id, a `datasets.Dataset`, or a list of dicts.
        format: its format (docs/data-formats.md); auto recognises it.
        split: of a hub dataset or a folder.
        on_bad_row: what to do with empty, equal or broken answers: skip, error or truncate.
        limit: the most records to keep, the first ones.

    Returns:
        `records`, each with prompt, answers a and b, and `probability` (that a is preferred); `findings`, what was
        left out and where; `sentence`, what was recognised.

    Raises:
        HeedfulError: nothing there, malformed rows, or no comparisons in it.
    """
    with objects() as holding:
        return read_preferences(DataSpec(rows_name(holding, data), format, split, on_bad_row, limit))


def load_reward(reward: Reward, **settings: Any) -> Scorer:
    """A reward, ready to be called with prompts and completions; of several models, a classifier, a function too.

    Args:
        reward: what `heedful ppo --reward` takes, such as "runs/reward" or "mean:runs/a,runs/b"; `(classifier,
            tokenizer)`; or a function, whose answers are checked from then on.
        settings: of a reward model: `device`, `precision` and others of `heedful.models.scalar.load_reward_model`.

    Returns:
        a callable from B prompts (each a tuple of messages) and B completions to scores, [B] float32.

    Raises:
        HeedfulError: no such model or function, or a classifier with several labels and none named.
    """
    from heedful.models.rewards import load_reward as open_reward
    from heedful.pipeline.choices import resolve_device

    settings["device"] = resolve_device(settings.get("device", "auto"))
    with objects() as holding:
        return open_reward(reward_name(holding, reward), **settings)


def score(
    reward: Reward, prompts: Sequence[str | Sequence[Mapping[str, str]]], completions: Sequence[str]
) -> list[float]:
    """What a reward says of completions, one number each, the higher the better.

    Args:
        reward: as for `load_reward`.
        prompts: B texts, each a user's message, or lists of `{"role", "content"}`.
        completions: B texts.

    Raises:
        HeedfulError: as many completions as prompts are needed; a prompt that is no conversation; as `load_reward`.
    """
    lists = all(hasattr(one, "__len__") and not isinstance(one, str) for one in (prompts, completions))
    if not lists or len(prompts) != len(completions):
        raise HeedfulError(
            "prompts and completions are two lists of the same length.",
            where="heedful.score",
            mend="Give each completion its prompt.",
        )
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), start=1):
        if not isinstance(completion, str) or not isinstance(prompt, str | Sequence):
            wrong = prompt if isinstance(completion, str) else completion
            raise HeedfulError(
                f"number {number} is a {type(wrong).__name__}.",
                where="heedful.score",
                mend="Completions are texts; prompts are texts or lists of messages.",
            )
    asked = [prompt_of(prompt if isinstance(prompt, str) else list(prompt), "prompt", MADE_HERE) for prompt in prompts]
    return [float(value) for value in load_reward(reward)(asked, list(completions))]


def sample(
    policy: Model, prompts: Rows | Sequence[str], *, samples: int = 1, quiet: bool = False, **settings: Any
) -> list[dict[str, Any]]:
    """Answers of a policy, one row each, in the form that `heedful.sft` and TRL read.

    Args:
        policy: a folder or hub id, a `Run`, or `(model, tokenizer)`.
        prompts: texts, each a user's message; or whatever holds prompts.
        samples: answers to each prompt.
        quiet: show no progress on standard error.
        settings: of `heedful sample --help`: `max_new_tokens` (tokens), `temperature`, `top_p`, `seed` and others.

    Returns:
        rows with `prompt` and `completion` (messages), `sample` (its number), `finished` (whether it ended by itself)
        and `tokens` (its length).

    Raises:
        HeedfulError: no such policy, no prompts, or an unknown setting.
    """
    from heedful.cli.sample import SampleConfig, sampled_rows

    refuse("heedful.sample", settings, ("out", "prompt"))
    with objects() as holding:
        given = {"policy": model_name(holding, policy), "data": prompts_name(holding, prompts), "samples": samples}
        return sampled_rows(configured(SampleConfig, "heedful.sample", {**given, **settings}), display(quiet))


def compare(
    policies: Mapping[str, Model | Rows],
    prompts: Rows | Sequence[str] | None = None,
    *,
    reward: Reward,
    quiet: bool = False,
    **settings: Any,
) -> Contest:
    """Policies, or rows of answers, against each other on the same prompts, every two of them judged by a reward.

    Args:
        policies: two or more by name: a model as for `sample`, or rows with prompts and completions.
        prompts: what they answer; may be left away where one of them is rows of answers.
        reward: the judge, as for `load_reward`. One that a policy was trained on flatters it.
        quiet: show no progress on standard error.
        settings: of `heedful compare --help`: `samples`, `max_new_tokens`, `temperature`, `seed` and others.

    Returns:
        `duels`, each with its win `rate` (`mean`, `low`, `high` of a 95% interval over prompts), raw and in equal
        length and style; `models`, with strengths (Bradley-Terry).

    Raises:
        HeedfulError: fewer than two policies or prompts, or as `sample` and `load_reward`.
    """
    from heedful.cli.compare import CompareConfig, answered
    from heedful.cli.compare_contest import scored
    from heedful.evaluation.contest import contest
    from heedful.evaluation.judgments import judged_by_scores

    refuse("heedful.compare", settings, ("out", "report", "world", "people", "judgments", "blind", "by", "prompt"))
    if not isinstance(policies, Mapping):
        raise HeedfulError("policies come with names.", where="heedful.compare", mend='Write {"sft": ..., "dpo": ...}.')
    with objects() as holding:
        given: dict[str, Any] = {"policies": [_policy_or_rows(holding, one) for one in policies.values()]}
        given["reward"] = reward_name(holding, reward)
        if prompts is not None:
            given["data"] = prompts_name(holding, prompts)
        config = configured(CompareConfig, "heedful.compare", {**given, **settings})
        found = answered(config, display=display(quiet))
        judge = load_reward(reward)
    texts = dict(zip(policies, found.texts.values(), strict=True))
    if len(found.prompts) < 2:
        raise HeedfulError("a comparison needs two prompts or more.", where="heedful.compare", mend="Give more.")
    scores = {name: scored(judge, found.prompts, answers) for name, answers in texts.items()}
    return contest(judged_by_scores(found.prompts, texts, scores), seed=config.decoding.seed)


def _policy_or_rows(holding: Holding, given: Any) -> str:
    rows = isinstance(given, Sequence) and not isinstance(given, str | tuple)
    return rows_name(holding, given) if rows or hasattr(given, "features") else model_name(holding, given)


def probe(reward: Reward, data: Rows, *, quiet: bool = False, **settings: Any) -> Probing:
    """What a reward pays for: one thing at a time is changed in answers, and the change in score is measured.

    Args:
        reward: as for `load_reward`.
        data: prompts with answers, best two or more to each: preferences or demonstrations.
        quiet: show no progress on standard error.
        settings: of `heedful probe --help`: `kinds`, `gold`, `seed` and others.

    Returns:
        `effects`, one for each kind of change, in spreads of the reward, with a 95% interval over prompts and a
        `verdict` in words.

    Raises:
        HeedfulError: no answers to change, an unknown setting, or as `load_reward`.
    """
    from heedful.cli.probe import ProbeConfig, measured

    refuse("heedful.probe", settings, ("out", "world", "rewardbench"))
    with objects() as holding:
        given = {"reward": reward_name(holding, reward), "data": rows_name(holding, data)}
        _, probing, _ = measured(configured(ProbeConfig, "heedful.probe", {**given, **settings}), display(quiet))
    assert probing is not None  # data was given
    return probing
