"""`heedful reward`: a reward model learns from what raters said of answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from heedful.data.load import DataSpec, Loaded, fit, load_demonstrations, load_preferences, load_rankings
from heedful.data.records import Conversation, Preference, Ranking
from heedful.errors import HeedfulError
from heedful.files import sha256_json
from heedful.models.averaging import INITIALISATION
from heedful.models.fingerprint import model_fingerprint
from heedful.models.head_bank import HEADS
from heedful.models.one_base import BASE, base_fingerprint
from heedful.models.policy import Policy
from heedful.models.scalar import RewardModel, load_reward_model, new_reward_model
from heedful.models.storage import open_config
from heedful.pipeline.choices import lora_of, precision_of, resolve_device
from heedful.pipeline.stages.common import (
    Opened,
    checkpointing,
    compiling,
    conclude,
    data_spec,
    open_policy,
    opened,
    prepared,
    resume,
    texts_of,
)
from heedful.pipeline.stages.reward_result import calibrate, held_out_accuracy, normalise, say_accuracy, score_range
from heedful.training.batching import total_steps
from heedful.training.config.reward import RewardConfig
from heedful.training.progress import Display
from heedful.training.reward import evaluate_reward, learner, reward, reward_state
from heedful.training.reward_data import (
    Comparison,
    Judged,
    attribute_names,
    judged_pairs,
    judged_rankings,
    rendered_answers,
)
from heedful.training.reward_losses import LOSSES, RewardLoss
from heedful.training.run import Watch
from heedful.training.sharding import opened_by_leader
from heedful.training.workers import current

R = TypeVar("R", Preference, Ranking)


@dataclass(frozen=True)
class Ready(Generic[R]):
    """The model and what it learns from, read and checked before training starts."""

    start: Policy | RewardModel
    """What the model begins from: a policy, or a reward model that goes on learning."""
    loaded: Loaded[R]
    items: list[Judged]
    held_out: list[Judged]
    prompts: list[Conversation]
    """Of the held-out items."""
    config: RewardConfig
    """The settings, with the attributes named that the data rates."""


def run_reward(config: RewardConfig, display: Display | None = None) -> dict[str, Any]:
    """`heedful reward`: train a reward model on preferences or rankings; returns the manifest of the run."""
    check_combination(config, LOSSES[config.loss])
    with opened("reward", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        config = stage.config
        ready = read_judged(config, stage)
        settled = ready.config
        reference = reference_answers(config, ready.start)
        model, base = first_model(stage, ready, config)
        made = current().led(lambda: model_fingerprint(model))
        start = sha256_json([made, config.heads.kind, config.start_seed])
        ready = dataclasses.replace(ready, start=model)  # what it began from may go
        budget = config.memory.tokens
        total = total_steps(len(ready.items), config.batch_size, config.epochs)
        stage.part(model)
        learning = learner(model, ready.items, settled)
        state = reward_state(learning, config, total)
        more = {} if reference is None else {"reference": str(reference.described["sha256"])}
        resume(stage, ready.loaded.describe(), state, more)
        checkpointing(model, config)
        compiling(config, model)
        watch = Watch(evaluate=lambda: evaluate_reward(learning, ready.held_out, state.tokens(config.memory)))
        trainer = reward(state, learning, ready.items, settled)
        figures = stage.train(trainer, state, total, ("loss", "accuracy", "held_out_accuracy"), watch)
        learning.heads.settle()
        normalise(model, ready.items if reference is None else reference.items, config)
        said: dict[str, Any] = {INITIALISATION: start, "loss": config.loss, **base}
        said["learnt"] = learning.learnt.figures() | learning.heads.figures()
        if reference is not None:
            said["reference"] = reference.described
        if config.calibrate:
            said["temperature"] = calibrate(model, ready.held_out, budget)
        said["score_range"] = score_range(model, ready.items, budget)
        said["held_out"] = held_out_accuracy(model, ready.held_out, ready.prompts, budget)
        if said["held_out"]:
            stage.display.say(say_accuracy(said["held_out"]))
        return conclude(stage, state, model.save, figures, ready.loaded.describe(), said)


def first_model(stage: Opened, ready: Ready[Any], config: RewardConfig) -> tuple[RewardModel, dict[str, str]]:
    """The model as it starts, and what the manifest says of the base that it stands on, if it does."""
    if isinstance(ready.start, RewardModel):
        stage.display.say(f"reward: {config.model} is a reward model, and goes on learning, its head included.")
        return ready.start, {}
    base = settle_base(ready.start, config)
    model = new_reward_model(ready.start, lora=lora_of(config), seed=config.start_seed)
    model.compute_on(ready.start.device)
    return model, base


def check_combination(config: RewardConfig, loss: RewardLoss) -> None:
    """Refuse settings that say nothing to the loss that is asked for.

    Raises:
        HeedfulError: naming the setting.
    """
    if config.use_margin and not loss.margins:
        able = ", ".join(name for name, other in LOSSES.items() if other.margins)
        raise HeedfulError(
            f"the loss {config.loss} asks for no margin.", where="use_margin", mend=f"Leave it out, or take {able}."
        )
    if config.labels != "soft" and (loss.reads != "pairs" or loss.strengths):
        raise HeedfulError(
            f"the loss {config.loss} reads no shares of votes.", where="labels", mend="Leave the setting out."
        )
    rated = config.heads.kind == "attributes"
    if rated and loss.reads != "rankings":
        able = " or ".join(name for name, other in LOSSES.items() if other.reads == "rankings")
        raise HeedfulError(
            "pairs hold no ratings of attributes; rankings do.", where="heads.kind", mend=f"Take --loss {able}."
        )
    if config.heads.attributes and not rated:
        raise HeedfulError(
            "attributes are learnt by heads of their own.",
            where="heads.attributes",
            mend="Add --heads.kind attributes.",
        )


def settle_base(policy: Policy, config: RewardConfig) -> dict[str, str]:
    """Freeze the model under adapters, which then stand on it; what the manifest says of it."""
    if lora_of(config) is None:
        return {}
    policy.model.requires_grad_(False)
    return {BASE: base_fingerprint(policy)}


def read_judged(config: RewardConfig, stage: Opened) -> Ready[Any]:
    """Read and render what the loss learns from.

    Raises:
        HeedfulError: bad records, with file and line; soft labels beside margins; no strengths, or no attributes.
    """
    loss, records, spec = LOSSES[config.loss], config.records, data_spec(config.data, config.records)
    loaded: Loaded[Any] = load_preferences(spec) if loss.reads == "pairs" else load_rankings(spec)
    if loss.strengths:
        _check_strengths(loaded.records)
    start = open_start(config, stage, loaded)
    train, held_out = prepared(loaded, start, config, stage.display)
    tokenizer, closing = start.tokenizer, start.eos[0]
    prompts = [record.prompt for record in held_out]
    if loss.reads == "pairs":
        items, kept = (
            judged_pairs(found, tokenizer, config.labels, records.max_length, closing) for found in (train, held_out)
        )
        return Ready(start, loaded, margins(items, config), kept, prompts, config)
    heads = config.heads
    if heads.kind == "attributes":
        heads = dataclasses.replace(heads, attributes=_attributes(heads.attributes, train, loaded.source))
        config = dataclasses.replace(config, heads=heads)
    items, kept = (
        judged_rankings(found, tokenizer, records.max_length, closing, heads.attributes) for found in (train, held_out)
    )
    return Ready(start, loaded, items, kept, prompts, config)


def open_start(config: RewardConfig, stage: Opened, loaded: Loaded[Any]) -> Policy | RewardModel:
    """What the model begins from: a policy, or a reward model that goes on learning with the head that it has.

    Raises:
        HeedfulError: the model cannot be opened, or a reward model is to go on with other heads or under adapters.
    """
    source, loading = config.model, config.loading
    described = None if source.endswith((".yaml", ".yml")) else open_config(source, loading.revision)
    if not any("ForSequenceClassification" in name for name in getattr(described, "architectures", None) or ()):
        return open_policy(source, config, stage.out, texts_of(loaded.records), adapters=False)
    if config.heads.kind != "scalar" or lora_of(config) is not None or hasattr(described, HEADS):
        raise HeedfulError(
            "a reward model goes on learning with its one head and all of its weights; this one has several heads, or "
            "other heads or adapters are asked for.",
            where=f"model ({source})",
            mend="Leave heads.kind and loading.lora_rank as they are, or begin from the SFT model.",
        )
    model = opened_by_leader(
        lambda where: load_reward_model(
            source,
            template=loading.template,
            pad_token=loading.pad_token,
            device=where,
            revision=loading.revision,
        ),
        resolve_device(loading.device),
    )
    model.precision = precision_of(loading, model.device)
    model.set_normalisation(0.0, 1.0)  # it is made anew at the end
    return model


def _check_strengths(records: Sequence[Preference]) -> None:
    missing = next((record for record in records if record.strength is None), None)
    if missing is not None:
        raise HeedfulError(
            "the loss ordinal learns strengths of preference, and this row states none.",
            where=str(missing.origin),
            mend="Give a 'strength' from -3 to 3 for a, as heedful export --format heedful writes it.",
        )


def _attributes(asked: tuple[str, ...], records: Sequence[Ranking], source: str) -> tuple[str, ...]:
    known = attribute_names(records)
    unknown = [name for name in asked if name not in known]
    if unknown or not known:
        raise HeedfulError(
            f"no answer is rated by {unknown[0]!r}." if unknown else "no answer is rated by any attribute.",
            where=source,
            mend=f"The data rates {', '.join(known)}." if known else "Give rankings with 'attributes'.",
        )
    return asked or known


@dataclass(frozen=True)
class Reference:
    """Answers that score 0 on average, and what a manifest says of them."""

    items: list[Judged]
    described: dict[str, Any]


def reference_answers(config: RewardConfig, start: Policy | RewardModel) -> Reference | None:
    """The answers that the normalisation is fixed on, where they are not the training answers.

    Raises:
        HeedfulError: the file holds no answers, or none that fit.
    """
    if config.reference is None:
        return None
    loaded = load_demonstrations(DataSpec(config.reference, on_bad_row=config.records.on_bad_row))
    longest = config.records.max_length
    records = fit(loaded.records, start.tokenizer, longest, config.records.on_bad_row, loaded.findings)
    if not records:
        raise HeedfulError("no reference answer fits.", where=config.reference, mend="Raise records.max_length.")
    return Reference(rendered_answers(records, start.tokenizer, longest, start.eos[0]), loaded.describe())


def margins(items: list[Judged], config: RewardConfig) -> list[Judged]:
    """Items fit for `use_margin`: hard labels only, the preferred answer first."""
    if not config.use_margin:
        return items
    found = []
    for item in items:
        said = item.said
        assert isinstance(said, Comparison)
        if said.probability not in (0.0, 1.0):
            raise HeedfulError(
                "margins and soft labels do not go together, and some pairs have votes on both sides.",
                where="use_margin",
                mend="Leave use_margin out, or give hard labels (and no ties) with --labels majority.",
            )
        turned = dataclasses.replace(said, probability=1.0, strength=-said.strength)
        swapped = Judged(item.answers[::-1], turned, item.weight)
        found.append(item if said.probability == 1.0 else swapped)
    return found
