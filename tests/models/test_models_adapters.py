from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from heedful.errors import HeedfulError
from heedful.models.adapters import LoRA, attach, underlying
from heedful.models.policy import Policy, load_policy, reference_of


def adapted(policy: Policy, lora: LoRA | None = None, *, learnt: bool = True) -> Policy:
    """The policy with adapters; `learnt` ones are far from where they start."""
    made = Policy(attach(copy.deepcopy(policy.model), lora or LoRA(2, 4.0), seed=0), policy.tokenizer)
    if learnt:
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in made.trainable_parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


@torch.no_grad()
def test_fresh_adapters_change_nothing(policy, batch) -> None:
    assert torch.equal(adapted(policy, learnt=False).token_logprobs(*batch)[0], policy.token_logprobs(*batch)[0])


@torch.no_grad()
def test_the_reference_is_the_base_exactly_and_shares_its_weights(policy, batch) -> None:
    moved = adapted(policy)
    reference = reference_of(moved)
    base = policy.token_logprobs(*batch)[0]
    assert torch.equal(reference.token_logprobs(*batch)[0], base)
    assert (moved.token_logprobs(*batch)[0] - base).abs().max() > 0.05
    own = {p.data_ptr() for p in moved.model.parameters()}
    assert {p.data_ptr() for p in reference.model.parameters()} <= own
    assert moved.trainable_parameters()
    assert not reference.trainable_parameters()


def test_only_adapters_learn_and_their_gradient_flows(policy, batch) -> None:
    moved = adapted(policy)
    moved.token_logprobs(*batch)[0].sum().backward()
    named = dict(moved.model.named_parameters())
    trained = {name for name, parameter in named.items() if parameter.grad is not None}
    assert trained == {name for name in named if ".lora_" in name}
    assert all(named[name].grad.abs().sum() > 0 for name in trained)


@torch.no_grad()
def test_a_saved_policy_is_merged_plain_and_keeps_its_adapter_beside(policy, batch, tmp_path: Path) -> None:
    moved = adapted(policy)
    live = {name: value.clone() for name, value in moved.model.state_dict().items()}
    moved.save(tmp_path / "policy")
    assert all(torch.equal(value, live[name]) for name, value in moved.model.state_dict().items())
    tokens, _, _ = batch
    expected = moved.model(input_ids=tokens).logits
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    torch.testing.assert_close(plain(input_ids=tokens).logits, expected, atol=1e-4, rtol=1e-4)
    names = {name for name, _ in plain.named_parameters()}
    assert names == {name for name, _ in policy.model.named_parameters()}
    again = PeftModel.from_pretrained(copy.deepcopy(policy.model), tmp_path / "policy" / "adapter")
    assert torch.equal(again(input_ids=tokens).logits, expected)


def test_loading_with_adapters_follows_the_seed(llama, tmp_path: Path) -> None:
    llama.save(tmp_path)
    first, second, third = (load_policy(tmp_path, lora=LoRA(2, 4.0), seed=s) for s in (1, 1, 2))
    weights = [torch.cat([p.flatten() for p in policy.trainable_parameters()]) for policy in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@torch.no_grad()
def test_an_adapted_head_counts(made, batch, tmp_path: Path) -> None:
    moved = adapted(made("phi"), LoRA(2, 4.0, targets="lm_head, dense"))
    tokens, attention, mask = batch
    own = moved.model(input_ids=tokens).logits
    own[..., list(moved.banned)] = -torch.inf
    expected = own[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    found = moved.token_logprobs(tokens, attention, mask)[0][:, 1:]
    torch.testing.assert_close(found[mask[:, 1:]], expected[mask[:, 1:]], atol=1e-4, rtol=0)
    assert (found - made("phi").token_logprobs(*batch)[0][:, 1:]).abs().max() > 0.05
    moved.save(tmp_path)
    again = load_policy(tmp_path).token_logprobs(tokens, attention, mask)[0]
    torch.testing.assert_close(again[:, 1:], found, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "lora", "message"),
    [
        ("llama", LoRA(2, 4.0, targets="q_prj"), "Did you mean 'q_proj'"),
        ("qwen3", LoRA(2, 4.0, targets="lm_head"), "shares its weights with the embedding"),
        ("phi", LoRA(2, 4.0, 0.1, targets=("lm_head",)), "dropout does not reach"),
    ],
)
def test_targets_that_cannot_be_adapted_are_named(made, name, lora, message) -> None:
    with pytest.raises(HeedfulError, match=message):
        attach(copy.deepcopy(made(name).model), lora, seed=0)


def test_named_targets_alone_are_adapted(llama) -> None:
    model = attach(llama.model, LoRA(3, 6.0, targets=("q_proj", "v_proj")), seed=0)
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, p in model.named_parameters() if p.requires_grad}
    assert layers == {"q_proj", "v_proj"}
    assert underlying(model) is llama.model


@pytest.mark.parametrize(
    "wrong", [{"rank": 0, "alpha": 1.0}, {"rank": 1, "alpha": 0.0}, {"rank": 1, "alpha": 1.0, "dropout": 1.0},
              {"rank": 1, "alpha": 1.0, "targets": " , "}]
)  # fmt: skip
def test_values_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(HeedfulError):
        LoRA(**wrong)
