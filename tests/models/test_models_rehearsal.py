"""A rehearsal counts the bytes that the real pass takes, for every architecture; and says when it cannot.

Without data transformers writes out a causal mask that it leaves out else, and repeats grouped keys and values for it:
at these sizes a tenth more. Never less.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from architectures import tiny_architectures, tiny_tokenizer
from heedful.core.logprob import linear_logprob
from heedful.models import rehearsal
from heedful.models.adapters import LoRA, attach, underlying
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import new_policy
from heedful.models.rehearsal import Ledger, NoRehearsal, reading, sketch, update
from heedful.models.storage import switch_off_dropout

ROWS, WIDTH, LEARNT = 3, 20, 7


def config_of(name: str) -> Any:
    arguments = dict(tiny_architectures()[name])
    config = CONFIG_MAPPING[arguments.pop("model_type")](**arguments)
    switch_off_dropout(config)
    return config


def close(made: int, real: int) -> bool:
    """Whether a rehearsal's figure is on the safe side of the real one, and near it."""
    return 0.99 * real <= made <= 1.15 * real


def really(model: Any) -> tuple[int, int]:
    """Bytes that wait for the backward pass, and the most alive beside them, of the real forward and backward pass."""
    ledger = Ledger()
    for parameter in model.parameters():
        ledger.note(parameter)
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
            ledger.note(parameter.grad)
    for buffer in model.buffers():
        ledger.note(buffer)
    start = ledger.live
    with ledger:
        tokens = torch.ones(ROWS, WIDTH, dtype=torch.int64)
        hidden = underlying(model).base_model(input_ids=tokens, use_cache=False).last_hidden_state[:, -LEARNT:]
        head = underlying(model).get_output_embeddings()
        states = hidden.flatten(0, 1)
        targets = torch.zeros(len(states), dtype=torch.int64)
        loss = linear_logprob(states, head.weight, targets, bias=head.bias)[0].sum()
        saved = ledger.live - start
        loss.backward()
    return saved, ledger.peak - start - saved


@pytest.mark.parametrize("name", tiny_architectures())
def test_the_rehearsal_is_what_the_real_pass_takes(name: str) -> None:
    config = config_of(name)
    saved, work = really(AutoModelForCausalLM.from_config(config).train())
    passes = update([sketch(AutoModelForCausalLM, copy.deepcopy(config))], "cpu", ROWS, WIDTH, LEARNT)
    assert close(passes.saved, saved)
    assert close(passes.saved + passes.work, saved + work)


@pytest.mark.parametrize("kind", ["adapters", "checkpointing"])
def test_adapters_and_checkpointed_activations_are_counted_as_they_are(kind: str) -> None:
    config = config_of("llama")
    model = AutoModelForCausalLM.from_config(config).train()
    lora = LoRA(4, 8.0) if kind == "adapters" else None
    if lora:
        model = attach(model, lora, seed=0)
    else:
        checkpoint_activations(model)
    saved, work = really(model)
    made = sketch(AutoModelForCausalLM, copy.deepcopy(config), lora=lora, checkpoint=lora is None)
    passes = update([made], "cpu", ROWS, WIDTH, LEARNT)
    assert close(passes.saved + passes.work, saved + work)
    assert made.trained == sum(p.nbytes for p in model.parameters() if p.requires_grad)


def test_a_second_model_adds_its_own_and_a_reading_keeps_less() -> None:
    config = config_of("llama")
    policy = sketch(AutoModelForCausalLM, copy.deepcopy(config))
    config.num_labels = 1
    critic = sketch(AutoModelForSequenceClassification, config)
    one = update([policy], "cpu", ROWS, WIDTH, LEARNT)
    both = update([policy, critic], "cpu", ROWS, WIDTH, LEARNT)
    assert both.saved > 1.7 * one.saved
    assert reading(policy, "cpu", ROWS, WIDTH) < one.saved


def test_activations_grow_with_tokens_and_a_sketch_can_be_used_again() -> None:
    made = sketch(AutoModelForCausalLM, config_of("qwen3"))
    few, many = (update([made], "cpu", rows, WIDTH, LEARNT).saved for rows in (2, 8))
    assert many == pytest.approx(4 * few, rel=0.05)
    assert all(tensor.device.type == "meta" for tensor in made.model.parameters())


def test_a_model_whose_shapes_hang_on_values_says_so() -> None:
    config = CONFIG_MAPPING["mixtral"](
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    config._experts_implementation = "eager"
    with pytest.raises(NoRehearsal):
        update([sketch(AutoModelForCausalLM, config)], "cpu", ROWS, WIDTH, LEARNT)


def test_a_rehearsal_that_takes_too_long_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MOST_OPERATIONS", 20)
    with pytest.raises(NoRehearsal, match="more than 20 operations"):
        update([sketch(AutoModelForCausalLM, config_of("llama"))], "cpu", ROWS, WIDTH, LEARNT)


@pytest.mark.parametrize("first", ["pass", "rehearsal"])
def test_a_rehearsal_and_quickened_passes_leave_each_other_alone(first: str) -> None:
    """A round plans its next stage in the process in which a stage has run in bfloat16."""
    low = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1, precision="bfloat16")
    tokens = torch.arange(7, 31).view(2, 12)
    mask = torch.arange(12).expand(2, -1) > 5
    low.running()  # its rotation is replaced for the whole process

    def found() -> torch.Tensor:
        return low.token_logprobs(tokens, torch.ones_like(mask), mask)[0]

    before = found() if first == "pass" else None
    made = update([sketch(AutoModelForCausalLM, low.model.config, precision="bfloat16")], "cpu", 2, 12, 6)
    assert made.saved > 0
    after = found()
    assert bool(after.isfinite().all())
    assert before is None or torch.equal(before, after)
