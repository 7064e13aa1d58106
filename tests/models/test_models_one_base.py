"""Critic and reward model as adapters on the policy's frozen base: the same figures, the same tensors, counted once."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from heedful.errors import HeedfulError
from heedful.files import artifact
from heedful.models.adapters import LoRA, attach
from heedful.models.one_base import BASE, SharedBase, base_fingerprint, weight_bytes
from heedful.models.policy import Policy, load_policy, reference_of
from heedful.models.rewards import EnsembleReward, load_reward
from heedful.models.scalar import Critic, RewardModel, load_reward_model, new_reward_model

FLOAT = 4
"""Bytes of a float32."""


def moved(model: Any, seed: int = 3) -> Any:
    """The same, its trained weights far from where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def trained_reward(policy: Policy, folder: Path, seed: int = 3) -> RewardModel:
    """A reward model with learnt adapters on a copy of a policy, as `heedful reward` leaves it."""
    frozen = Policy(copy.deepcopy(policy.model).requires_grad_(False), policy.tokenizer)
    reward = moved(new_reward_model(frozen, lora=LoRA(3, 6.0)), seed)
    reward.set_normalisation(0.25, 2.0)
    with artifact(folder, {BASE: base_fingerprint(frozen)}) as temporary:
        reward.save(temporary)
    return reward


def adapted(policy: Policy, dropout: float = 0.0) -> Policy:
    """A policy on the same weights with fresh adapters."""
    return Policy(attach(copy.deepcopy(policy.model), LoRA(2, 4.0, dropout), seed=0), policy.tokenizer)


def base_of(model: Any) -> dict[str, torch.nn.Parameter]:
    """The frozen weights of a model, by name."""
    return {name: p for name, p in model.named_parameters() if ".lora_" not in name and not p.requires_grad}


def own_weights(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def test_what_stands_on_one_base_says_what_it_says_alone(policy, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    alone = trained_reward(policy, tmp_path / "reward")
    learner = adapted(policy)
    base = SharedBase(learner)
    judge = base.reward_model(str(tmp_path / "reward"))
    assert judge is not None
    assert (base.standing, base.apart) == ([str(tmp_path / "reward")], [])
    assert (judge.offset, judge.scale) == (0.25, 2.0)
    torch.testing.assert_close(
        judge.raw_scores(tokens, attention), alone.raw_scores(tokens, attention), atol=1e-6, rtol=1e-6
    )
    merged = load_reward_model(tmp_path / "reward")  # a model of its own, as plain transformers opens it
    torch.testing.assert_close(
        judge.raw_scores(tokens, attention), merged.raw_scores(tokens, attention), atol=1e-4, rtol=1e-4
    )
    critic = Critic.from_reward(judge, lora=LoRA(2, 4.0))
    torch.testing.assert_close(
        critic.token_values(*batch), Critic.from_reward(merged).token_values(*batch), atol=1e-4, rtol=1e-4
    )
    assert not Critic.from_policy(learner, lora=LoRA(2, 4.0)).token_values(*batch).any()
    plain = policy.token_logprobs(*batch)[0]
    moved(learner)
    assert torch.equal(reference_of(learner).token_logprobs(*batch)[0], plain)
    assert (learner.token_logprobs(*batch)[0] - plain).abs().max() > 0.01


def test_the_base_is_in_memory_once(policy, tmp_path: Path) -> None:
    trained_reward(policy, tmp_path / "reward")
    learner = adapted(policy)
    judge = SharedBase(learner).reward_model(str(tmp_path / "reward"))
    assert judge is not None
    critics = [Critic.from_reward(judge, lora=LoRA(2, 4.0)), Critic.from_policy(learner, lora=LoRA(2, 4.0))]
    places = {parameter.data_ptr() for parameter in base_of(learner.model).values()}
    everyone = [learner.model, reference_of(learner).model, judge.model, *(critic.model for critic in critics)]
    for model in everyone:
        shared = {parameter.data_ptr() for parameter in base_of(model).values()}
        assert shared
        assert shared <= places
    own = FLOAT * sum(own_weights(model) for model in everyone)
    assert weight_bytes(everyone) == weight_bytes([reference_of(learner).model]) + own
    assert own_weights(critics[0].model) == own_weights(judge.model)
    trainable = [{p.data_ptr() for p in model.parameters() if p.requires_grad} for model in everyone]
    assert sum(map(len, trainable)) == len(set().union(*trainable))  # nobody trains what another does


def test_training_the_critic_moves_nobody_else(llama, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    trained_reward(llama, tmp_path / "reward")
    learner = adapted(llama)
    judge = SharedBase(learner).reward_model(str(tmp_path / "reward"))
    assert judge is not None
    critic = Critic.from_reward(judge)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    with torch.no_grad():
        scores, values = judge.raw_scores(tokens, attention), critic.token_values(*batch)
    optimiser = torch.optim.AdamW(critic.trainable_parameters(), lr=0.01)
    (critic.token_values(*batch) - 1).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in learner.model.state_dict().items())
    assert all(parameter.grad is None for parameter in (*learner.model.parameters(), *judge.model.parameters()))
    with torch.no_grad():
        assert torch.equal(judge.raw_scores(tokens, attention), scores)
        assert (critic.token_values(*batch) - values).abs().max() > 1e-3


def test_an_adapter_of_another_base_is_a_model_of_its_own(llama, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    alone = trained_reward(llama, tmp_path / "reward")
    with torch.no_grad():
        llama.model.model.layers[1].mlp.up_proj.weight[3, 2] += 1e-3
    base = SharedBase(adapted(llama))
    found = load_reward(str(tmp_path / "reward"), base=base)
    assert isinstance(found, RewardModel)
    assert (base.standing, base.apart) == ([], [str(tmp_path / "reward")])
    with torch.no_grad():
        torch.testing.assert_close(
            found.raw_scores(tokens, attention), alone.raw_scores(tokens, attention), atol=1e-4, rtol=0
        )
    new_reward_model(llama).save(tmp_path / "plain")
    load_reward(str(tmp_path / "plain"), base=base)
    assert base.apart == [str(tmp_path / "reward")]  # the plain one claims no base


@torch.no_grad()
def test_a_critic_of_a_frozen_model_of_its_own_shares_that_one(llama, tmp_path: Path) -> None:
    new_reward_model(llama).save(tmp_path)
    judge = load_reward_model(tmp_path)
    judge.freeze_trunk()
    critic = Critic.from_reward(judge, lora=LoRA(2, 4.0))
    assert weight_bytes([judge.model, critic.model]) == weight_bytes([judge.model]) + FLOAT * own_weights(critic.model)
    whole = Critic.from_reward(load_reward_model(tmp_path))
    assert own_weights(whole.model) == sum(weight.numel() for weight in whole.model.parameters())


def test_the_members_of_an_ensemble_stand_on_one_base(llama, batch, tmp_path: Path) -> None:
    for seed in (1, 2):
        trained_reward(llama, tmp_path / str(seed), seed)
    base = SharedBase(adapted(llama))
    found = load_reward(f"mean:{tmp_path / '1'},{tmp_path / '2'}", base=base)
    assert isinstance(found, EnsembleReward)
    assert len(base.standing) == 2


@torch.no_grad()
def test_a_saved_adapter_with_its_head_is_one_of_peft(llama, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    llama.save(tmp_path / "base")
    reward = trained_reward(llama, tmp_path / "reward")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1, pad_token_id=0)
    again = PeftModel.from_pretrained(plain, tmp_path / "reward" / "adapter")
    theirs = again(input_ids=tokens, attention_mask=attention.long()).logits[:, 0]
    torch.testing.assert_close(theirs, reward.raw_scores(tokens, attention), atol=1e-5, rtol=1e-5)
    again.save_pretrained(tmp_path / "again")  # peft knows the head for a part of the adapter, and keeps it
    with safe_open(tmp_path / "again" / "adapter_model.safetensors", "pt") as file:
        assert "base_model.model.score.weight" in file.keys()  # noqa: SIM118


def test_a_damaged_adapter_is_named(llama, tmp_path: Path) -> None:
    trained_reward(llama, tmp_path / "reward")
    settings = tmp_path / "reward" / "adapter" / "adapter_config.json"
    kept = json.loads(settings.read_text())
    settings.write_text(json.dumps(kept | {"target_modules": ["q_proj"]}))
    with pytest.raises(HeedfulError, match="layers are not those"):
        SharedBase(adapted(llama)).reward_model(str(tmp_path / "reward"))
    settings.unlink()
    with pytest.raises(HeedfulError, match="cannot put the adapter on its base"):
        SharedBase(adapted(llama)).reward_model(str(tmp_path / "reward"))


def test_dropout_is_that_of_the_run(llama, tmp_path: Path) -> None:
    trained_reward(llama, tmp_path / "reward")
    judge = SharedBase(adapted(llama, 0.25)).reward_model(str(tmp_path / "reward"))
    assert judge is not None
    found = [m.p for m in Critic.from_reward(judge).model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    assert found
    assert set(found) == {0.25}


@torch.no_grad()
def test_learnt_adapters_are_merged_into_a_copy(llama, batch) -> None:
    """What a critic starts from is the policy as it stands; its base is shared where that is the same thing."""
    learner = moved(adapted(llama))
    places = {parameter.data_ptr() for parameter in learner.model.parameters()}
    critic = Critic.from_policy(learner, lora=LoRA(2, 4.0))
    assert not places & {parameter.data_ptr() for parameter in critic.model.parameters()}


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_a_bfloat16_base_takes_half_and_its_adapters_are_float32(name, made, batch, tmp_path: Path) -> None:
    made(name).save(tmp_path / "base")
    whole, half = (load_policy(tmp_path / "base", lora=LoRA(2, 4.0), dtype=d, precision="bfloat16")
                   for d in ("float32", "bfloat16"))  # fmt: skip
    sizes = [weight_bytes([reference_of(policy).model]) for policy in (whole, half)]
    assert sizes[1] <= 0.55 * sizes[0]  # rotary tables stay float32
    moved(half)
    assert {parameter.dtype for parameter in half.trainable_parameters()} == {torch.float32}
    critic = Critic.from_policy(half, lora=LoRA(2, 4.0))
    assert critic.token_values(*batch).dtype == torch.float32
    half.save(tmp_path / "policy")
    with safe_open(tmp_path / "policy" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float32}  # noqa: SIM118
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert again.dtype == torch.float32
    assert {n for n, _ in again.named_parameters()} == {n for n, _ in made(name).model.named_parameters()}
    base, tuned = dict(made(name).model.named_parameters()), dict(again.named_parameters())
    changed = next(key for key in tuned if "q_proj.weight" in key or "c_attn.weight" in key)
    layer = half.model.get_base_model().get_submodule(changed.removesuffix(".weight"))
    expected = base[changed].bfloat16().float() + layer.get_delta_weight("default")
    torch.testing.assert_close(tuned[changed], expected, atol=1e-6, rtol=1e-6)  # a bfloat16 sum would be 1e-3 off
    found = load_policy(tmp_path / "policy", precision="bfloat16").token_logprobs(*batch)[0]
    torch.testing.assert_close(found, half.token_logprobs(*batch)[0], atol=0.1, rtol=0.05)


def test_four_bits_need_a_gpu_and_their_library(llama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama.save(tmp_path)
    with pytest.raises(HeedfulError, match="needs a GPU"):
        load_policy(tmp_path, lora=LoRA(2, 4.0), dtype="nf4")
    monkeypatch.setattr("heedful.models.storage.find_spec", lambda name: None)
    with pytest.raises(HeedfulError, match="bitsandbytes, which is not installed"):
        load_policy(tmp_path, lora=LoRA(2, 4.0), dtype="nf4", device="cuda")
