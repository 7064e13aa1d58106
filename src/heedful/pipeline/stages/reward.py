"""`heedful reward`: a reward model learns from preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from heedful.data.load import load_preferences
from heedful.data.records import Preference, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.accuracy import reward_accuracy
from heedful.models.scalar import RewardModel, new_reward_model
from heedful.pipeline.stages.common import (
    checkpointing,
    conclude,
    data_spec,
    lora_of,
    open_policy,
    opened,
    prepared,
    resume,
    texts_of,
)
from heedful.training.batching import total_steps
from heedful.training.config.reward import RewardConfig
from heedful.training.pairs import Pair, make_pairs
from heedful.training.progress import Display
from heedful.training.reward import evaluate_reward, normalisation, reward, reward_state, score_pairs
from heedful.training.run import Watch, run


def run_reward(config: RewardConfig, display: Display | None = None) -> dict[str, Any]:
    """`heedful reward`: train a reward model on preferences; returns the manifest of the run."""
    with opened("reward", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_preferences(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records), adapters=False)
        records, held_out = prepared(loaded, policy, config, stage.display)
        model = new_reward_model(policy, lora=lora_of(config), seed=config.seed)
        pairs = margins(
            make_pairs(records, model.tokenizer, config.labels, config.records.max_length, closing=model.eos[0]), config
        )
        evaluation = make_pairs(
            held_out, model.tokenizer, config.labels, config.records.max_length, closing=model.eos[0]
        )
        budget = config.memory.micro_batch_tokens
        total = total_steps(len(pairs), config.batch_size, config.epochs)
        state = reward_state(model, config, total)
        resume(stage, config, loaded.describe(), state)
        checkpointing(model, config)
        figures = run(
            reward(state, model, pairs, config),
            state,
            out=stage.out,
            total=total,
            title="reward",
            settings=config.run,
            display=stage.display,
            shown=("loss", "accuracy", "held_out_accuracy"),
            watch=Watch(evaluate=lambda: evaluate_reward(model, evaluation, budget)),
        )
        if config.normalise != "none":
            offset, spread = normalisation(model, pairs, budget)
            model.set_normalisation(offset, spread if config.normalise == "standard" else 1.0)
        accuracy = held_out_accuracy(model, held_out, evaluation, budget)
        if accuracy:
            stage.display.say(say_accuracy(accuracy))
        return conclude(stage, "reward", config, state, model.save, figures, loaded.describe(), {"held_out": accuracy})


def held_out_accuracy(
    model: RewardModel, records: Sequence[Preference], pairs: Sequence[Pair], budget: int
) -> dict[str, Any]:
    """Accuracy on held-out pairs with its interval by prompt, beside what "the longer answer" would reach.

    Empty where fewer than two held-out prompts have a preferred answer.
    """
    clusters = [prompt_key(record.prompt) for record in records]
    decided = {key for key, pair in zip(clusters, pairs, strict=True) if pair.probability != 0.5}
    if len(decided) < 2:
        return {}
    a, b = score_pairs(model, pairs, budget)
    found = reward_accuracy(
        a.numpy(),
        b.numpy(),
        [pair.probability for pair in pairs],
        lengths_a=[len(pair.a.tokens) for pair in pairs],
        lengths_b=[len(pair.b.tokens) for pair in pairs],
        clusters=clusters,
    )
    return {
        "accuracy": asdict(found.accuracy),
        "length_only": asdict(found.length_only),
        "chance": 0.5,
        "pairs": found.pairs,
        "ties": found.truth_ties,
    }


def say_accuracy(found: dict[str, Any]) -> str:
    """The held-out accuracy in one line."""
    ours, longer = found["accuracy"], found["length_only"]
    return (
        f"reward: {ours['mean']:.1%} right on {found['pairs']} held-out pairs "
        f"(95% interval {ours['low']:.1%} to {ours['high']:.1%}); the longer answer alone {longer['mean']:.1%}, "
        f"chance 50%"
    )


def margins(pairs: list[Pair], config: RewardConfig) -> list[Pair]:
    """Pairs fit for `use_margin`: hard labels only, the preferred answer first."""
    if not config.use_margin:
        return pairs
    if any(pair.probability not in (0.0, 1.0) for pair in pairs):
        raise HeedfulError(
            "margins and soft labels do not go together, and some pairs have votes on both sides.",
            where="use_margin",
            mend="Leave use_margin out, or give hard labels (and no ties) with --labels majority.",
        )
    return [p if p.probability == 1.0 else Pair(p.b, p.a, 1.0, p.margin, p.weight) for p in pairs]
