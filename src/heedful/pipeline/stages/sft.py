"""`heedful sft`: supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.data.load import load_demonstrations
from heedful.data.records import Conversation
from heedful.models.policy import Policy
from heedful.pipeline.stages.common import (
    Opened,
    checkpointing,
    compiling,
    conclude,
    data_spec,
    demonstration_example,
    open_policy,
    opened,
    prepared,
    prompts_of,
    resume,
    texts_of,
    watched_samples,
)
from heedful.training.batching import Example, total_steps
from heedful.training.config.sft import SFTConfig
from heedful.training.progress import Display
from heedful.training.run import Watch
from heedful.training.sft import evaluate_sft, sft, sft_state


def run_sft(config: SFTConfig, display: Display | None = None) -> dict[str, Any]:
    """`heedful sft`: train on demonstrations; returns the manifest of the run."""
    with opened("sft", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        config = stage.config
        loaded = load_demonstrations(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        records, held_out = prepared(loaded, policy, config, stage.display)
        examples = [demonstration_example(record, policy, config.records.max_length) for record in records]
        evaluation = [demonstration_example(record, policy, config.records.max_length) for record in held_out]
        return fine_tune(stage, policy, examples, evaluation, prompts_of(held_out or records), loaded.describe())


def fine_tune(
    stage: Opened[SFTConfig],
    policy: Policy,
    examples: Sequence[Example],
    evaluation: Sequence[Example],
    watched: Sequence[Conversation],
    data: dict[str, Any],
) -> dict[str, Any]:
    """Train a policy on sequences that are tokens already; what `sft` and the world's pretraining share."""
    config = stage.config
    total = total_steps(len(examples), config.batch_size, config.epochs)
    stage.part(policy)
    state = sft_state(policy, config.optimiser, total, config.seed)
    resume(stage, data, state)
    checkpointing(policy, config)
    compiling(config, policy)
    watch = Watch(
        evaluate=lambda: evaluate_sft(policy, evaluation, state.tokens(config.memory)),
        sample=lambda: watched_samples(policy, watched, config.records.max_length),
    )
    trainer = sft(state, policy, examples, config)
    figures = stage.train(trainer, state, total, ("loss", "held_out_loss"), watch)
    return conclude(stage, state, policy.save, figures, data)
