"""bfloat16 over float32 weights: what is trained, what runs, and that the one follows the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from heedful.models.adapters import LoRA, attach
from heedful.models.low_precision import WorkingCopy, lower
from heedful.models.policy import Policy, reference_of
from heedful.models.scalar import new_reward_model
from heedful.training.config.common import OptimiserConfig
from heedful.training.optimiser import Optimiser


@pytest.fixture
def low(llama: Policy) -> Policy:
    """A Llama of one's own, computed in bfloat16."""
    return Policy(llama.model, llama.tokenizer, precision="bfloat16")


def test_float32_weights_collect_the_gradients_of_all_micro_batches(low: Policy, batch: Any) -> None:
    low.token_logprobs(*batch)[0].sum().backward()
    once = [p.grad.clone() for p in low.model.parameters()]
    low.token_logprobs(*batch)[0].sum().backward()
    for weight, gradient in zip(low.model.parameters(), once, strict=True):
        assert weight.grad.dtype == torch.float32
        assert torch.equal(weight.grad, 2 * gradient)
    assert all(p.grad is None and p.dtype == torch.bfloat16 for p in low.running().parameters())


def test_small_gradients_are_not_lost_beside_large_ones(low: Policy, batch: Any) -> None:
    """In bfloat16 256 + 0.5 is 256; micro-batches are added up in float32."""
    for scale in (256.0, *[0.5] * 64):
        (scale * low.token_logprobs(*batch)[0].sum()).backward()
    many = low.model.lm_head.weight.grad.clone()
    low.model.zero_grad()
    low.token_logprobs(*batch)[0].sum().backward()
    torch.testing.assert_close(many, (256 + 32) * low.model.lm_head.weight.grad, rtol=1e-2, atol=1e-2)


def test_the_copy_follows_an_optimiser_s_step_a_checkpoint_and_a_move(low: Policy, batch: Any) -> None:
    def told() -> torch.Tensor:
        with torch.no_grad():
            return low.token_logprobs(*batch)[0]

    before = told()
    optimiser = Optimiser({"policy": low.model}, OptimiserConfig(learning_rate=0.05, warmup=0.0), total=10)
    low.token_logprobs(*batch)[0].sum().backward()
    optimiser.step(0)
    after = told()
    assert (after - before).abs().max() > 0.1
    fresh = Policy(copy.deepcopy(low.model), low.tokenizer, precision="bfloat16")
    with torch.no_grad():
        assert torch.equal(after, fresh.token_logprobs(*batch)[0])
        for weight in low.model.parameters():
            weight.copy_(weight * 0.5)
    assert not torch.equal(told(), after)
    assert torch.equal(low.to("cpu").token_logprobs(*batch)[0], told())


def test_a_pass_does_not_spoil_the_backward_pass_of_one_before(low: Policy, batch: Any) -> None:
    first = low.token_logprobs(*batch)[0]
    low.token_logprobs(*batch)
    first.sum().backward()
    assert low.model.lm_head.weight.grad.abs().sum() > 0


def test_what_is_frozen_stays_without_gradient(low: Policy, batch: Any) -> None:
    low.token_logprobs(*batch)
    low.model.lm_head.weight.requires_grad_(False)
    low.token_logprobs(*batch)[0].sum().backward()
    assert low.model.lm_head.weight.grad is None
    assert low.model.model.embed_tokens.weight.grad is not None


def test_tied_weights_stay_tied_and_buffers_are_shared(made: Any) -> None:
    model = copy.deepcopy(made("gemma3").model)
    twin = WorkingCopy(model).model
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().weight
    own, other = dict(model.named_buffers()), dict(twin.named_buffers())
    assert own
    assert all(own[name] is other[name] for name in own)


def test_adapters_run_under_autocast_on_one_base(llama: Policy, batch: Any) -> None:
    adapted = Policy(attach(llama.model, LoRA(2, 4.0), seed=0), llama.tokenizer, precision="bfloat16")
    assert adapted.running() is adapted.model
    logprobs, _ = adapted.token_logprobs(*batch)
    logprobs.sum().backward()
    assert all(p.grad is not None for p in adapted.trainable_parameters())


def test_a_frozen_reference_and_judge_keep_no_float32_but_the_score(low: Policy, batch: Any) -> None:
    reference = reference_of(low)
    assert {p.dtype for p in reference.model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert torch.equal(reference.token_logprobs(*batch)[0], low.token_logprobs(*batch)[0])
    assert {p.dtype for p in low.model.parameters()} == {torch.float32}
    judge = new_reward_model(low)
    with torch.no_grad():
        before = judge.raw_scores(*batch[:2])
        judge.freeze()
        assert torch.equal(judge.raw_scores(*batch[:2]), before)
    kept = [name for name, p in judge.model.named_parameters() if p.dtype == torch.float32]
    assert kept == ["score.weight"]
    assert not judge.trainable_parameters()


def test_weights_that_an_architecture_keeps_in_float32_stay(llama: Policy) -> None:
    llama.model._keep_in_fp32_modules = ["down_proj"]
    lower(llama.model)
    kept = {name.split(".")[-2] for name, p in llama.model.named_parameters() if p.dtype == torch.float32}
    assert kept == {"down_proj"}


def test_float32_runs_the_model_itself(llama: Policy) -> None:
    assert llama.running() is llama.model
