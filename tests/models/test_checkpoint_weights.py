"""A policy's weights one by one: the names and values of the checkpoint that it would write, adapters merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from architectures import tiny_architectures, tiny_tokenizer
from heedful.errors import HeedfulError
from heedful.files import artifact
from heedful.models.adapters import LoRA, attach
from heedful.models.checkpoint_weights import check_names, checkpoint_weights, weight_shapes
from heedful.models.policy import Policy, new_policy


def new(name: str, lora: LoRA | None = None, precision: str = "float32") -> Policy:
    policy = new_policy(tiny_architectures()[name], tiny_tokenizer(), seed=1)
    model = policy.model if lora is None else attach(policy.model, lora, seed=0)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if ".lora_B." in weight_name:  # an update that is one
                weight.normal_(generator=torch.Generator().manual_seed(2))
    return Policy(model, policy.tokenizer, precision=precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("lora", [None, LoRA(2, 4.0)], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_they_are_what_a_checkpoint_holds(name: str, lora: LoRA | None, tmp_path: Path) -> None:
    policy = new(name, lora)
    with artifact(tmp_path / "model", {"kind": "policy"}) as folder:
        policy.save(folder)
    written = load_file(tmp_path / "model" / "model.safetensors")
    told = weight_shapes(policy)
    for (known, dtype, shape), (weight_name, weight) in zip(told, checkpoint_weights(policy), strict=True):
        assert (known, dtype, shape) == (weight_name, weight.dtype, tuple(weight.shape))
        assert not weight.requires_grad
        assert torch.allclose(written.pop(weight_name), weight, atol=1e-6)
    assert not written


def test_in_bfloat16_they_are_what_the_policy_runs_and_follow_its_changes() -> None:
    policy = new("llama", precision="bfloat16")
    before = dict(checkpoint_weights(policy))
    assert {weight.dtype for weight in before.values()} == {torch.bfloat16}
    before = {name: weight.clone() for name, weight in before.items()}
    with torch.no_grad():
        policy.model.lm_head.weight.add_(1.0)
    after = dict(checkpoint_weights(policy))
    assert torch.equal(after["lm_head.weight"], policy.model.lm_head.weight.bfloat16())
    assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert {dtype for _, dtype, _ in weight_shapes(new("llama", LoRA(2, 4.0), "bfloat16"))} == {torch.bfloat16}


def test_what_a_checkpoint_names_otherwise_is_refused() -> None:
    check_names(new("llama"))
    check_names(new("llama", LoRA(2, 4.0)))
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    experts = MixtralForCausalLM(MixtralConfig(vocab_size=64, num_key_value_heads=2, num_local_experts=2, **sizes))
    policy = new("llama")
    policy.model = experts
    with pytest.raises(HeedfulError, match="other weights in memory"):
        check_names(policy)
    packed = new("llama")
    packed.model.model.layers[0].mlp.up_proj.quant_state = "nf4"
    with pytest.raises(HeedfulError, match="4 bits"):
        check_names(packed)
