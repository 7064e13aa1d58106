"""`heedful dpo`: learning from preferences without a reward model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heedful.data.load import load_preferences
from heedful.models.policy import Policy
from heedful.pipeline.stages.common import (
    checkpointing,
    conclude,
    data_spec,
    open_policy,
    opened,
    prepared,
    prompts_of,
    resume,
    texts_of,
    watched_samples,
)
from heedful.training.batching import total_steps
from heedful.training.config.preference import DPOConfig
from heedful.training.dpo import dpo, evaluate_dpo, reference_logprobs
from heedful.training.pairs import make_pairs
from heedful.training.progress import Display
from heedful.training.run import Intervene, Watch, no_intervention, run
from heedful.training.sft import sft_state


def run_dpo(
    config: DPOConfig, display: Display | None = None, intervene: Callable[[Policy], Intervene] | None = None
) -> dict[str, Any]:
    """`heedful dpo`: direct preference optimisation; returns the manifest of the run.

    Args:
        intervene: makes what may step in while the run goes, from its policy.
    """
    with opened("dpo", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        loaded = load_preferences(data_spec(config.data, config.records))
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        records, held_out = prepared(loaded, policy, config, stage.display)
        budget = config.memory.micro_batch_tokens
        pairs = make_pairs(records, policy.tokenizer, config.labels, config.records.max_length)
        evaluation = make_pairs(held_out, policy.tokenizer, config.labels, config.records.max_length)
        stage.display.say(f"dpo: log-probabilities of the reference for {len(pairs) + len(evaluation)} pairs")
        reference = reference_logprobs(policy, pairs, budget)
        held_out_reference = reference_logprobs(policy, evaluation, budget)
        total = total_steps(len(pairs), config.batch_size, config.epochs)
        state = sft_state(policy, config.optimiser, total, config.seed)
        resume(stage, config, loaded.describe(), state)
        checkpointing(policy, config)
        watched = prompts_of(held_out or records)
        figures = run(
            dpo(state, policy, reference, pairs, config),
            state,
            out=stage.out,
            total=total,
            title="dpo",
            settings=config.run,
            display=stage.display,
            shown=("loss", "margin", "accuracy", "held_out_accuracy"),
            watch=Watch(
                evaluate=lambda: evaluate_dpo(policy, held_out_reference, evaluation, config.beta, budget),
                sample=lambda: watched_samples(policy, watched, config.records.max_length),
                intervene=intervene(policy) if intervene else no_intervention,
            ),
        )
        return conclude(stage, "dpo", config, state, policy.save, figures, loaded.describe())
