from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from heedful.models.actor_critic import VALUE_HEAD, SeparateActorCritic, SharedActorCritic
from heedful.models.adapters import LoRA, attach
from heedful.models.policy import Policy
from heedful.models.scalar import Critic, load_critic, new_reward_model


def test_separate_models_give_what_each_gives_alone(policy, batch) -> None:
    critic = Critic.from_reward(new_reward_model(policy))
    both = SeparateActorCritic(policy, critic)
    with torch.no_grad():
        logprobs, entropy, values = both.evaluate(*batch, temperature=0.8)
        expected = policy.token_logprobs(*batch, temperature=0.8)
        assert torch.equal(logprobs, expected[0])
        assert torch.equal(entropy, expected[1])
        assert torch.equal(values, critic.token_values(*batch))
    assert both.value_module is critic.model
    assert len(list(both.parameters())) == len(policy.trainable_parameters()) + len(critic.trainable_parameters())


def test_a_shared_trunk_gives_the_same_logprobs_from_one_pass(policy, batch) -> None:
    shared = SharedActorCritic(policy)
    passes = []
    hook = policy.model.base_model.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        logprobs, entropy, values = shared.evaluate(*batch, temperature=0.8)
    hook.remove()
    assert len(passes) == 1
    expected = policy.token_logprobs(*batch, temperature=0.8)
    assert torch.equal(logprobs, expected[0])
    assert torch.equal(entropy, expected[1])
    assert not values.any()


def test_shared_values_describe_the_prefix_before_their_token(policy, batch) -> None:
    tokens, attention, mask = batch
    shared = SharedActorCritic(policy)
    shared.value_module.weight.data.copy_(torch.linspace(-1, 1, 32))
    shared.value_module.bias.data.fill_(0.25)
    with torch.no_grad():
        values = shared.evaluate(tokens, attention, mask)[2]
        hidden = policy.model.base_model(input_ids=tokens[:1, :8]).last_hidden_state[0, -1]
    expected = float(hidden @ torch.linspace(-1, 1, 32)) + 0.25
    assert float(values[0, 8]) == pytest.approx(expected, abs=1e-4)
    assert not values[~mask].any()


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_values_alone_are_those_of_the_whole_evaluation(kind: str, llama: Policy, batch) -> None:
    shared = SharedActorCritic(llama)
    shared.value_module.weight.data.copy_(torch.linspace(-1, 1, 32))
    both = shared if kind == "shared" else SeparateActorCritic(llama, Critic.from_reward(new_reward_model(llama)))
    with torch.no_grad():
        values = both.values(*batch)
        assert values.any()
        assert torch.equal(values, both.evaluate(*batch)[2])


def test_the_value_loss_trains_head_and_trunk(llama, batch) -> None:
    shared = SharedActorCritic(llama)
    shared.value_module.weight.data.fill_(0.1)
    shared.evaluate(*batch)[2].sum().backward()
    assert shared.value_module.weight.grad.abs().sum() > 0
    assert llama.model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0
    assert len(list(shared.parameters())) == len(llama.trainable_parameters()) + 2


def test_a_shared_trunk_with_adapters(llama, batch) -> None:
    adapted = Policy(attach(llama.model, LoRA(2, 4.0), seed=0), llama.tokenizer)
    shared = SharedActorCritic(adapted)
    logprobs, _, values = shared.evaluate(*batch)
    (logprobs.sum() + values.sum()).backward()
    assert all(p.grad is not None for p in shared.value_module.parameters())
    assert all(p.requires_grad for p in shared.parameters())


def test_a_value_head_is_saved(llama, batch, tmp_path: Path) -> None:
    shared = SharedActorCritic(llama)
    shared.value_module.weight.data.fill_(0.2)
    shared.value_module.bias.data.fill_(-1.0)
    shared.save_value(tmp_path / "critic")
    again = SharedActorCritic(llama)
    again.value_module.load_state_dict(load_file(tmp_path / "critic" / VALUE_HEAD))
    assert torch.equal(again.evaluate(*batch)[2], shared.evaluate(*batch)[2])


def test_a_critic_is_saved_and_read_back(llama, batch, tmp_path: Path) -> None:
    both = SeparateActorCritic(llama, Critic.from_reward(new_reward_model(llama, seed=1)))
    both.critic.set_normalisation(0.5, 3.0)
    both.save_value(tmp_path)
    other = SeparateActorCritic(llama, Critic.from_reward(new_reward_model(llama, seed=2)))
    assert not torch.equal(other.evaluate(*batch)[2], both.evaluate(*batch)[2])
    again = SeparateActorCritic(llama, load_critic(tmp_path))
    assert torch.equal(again.evaluate(*batch)[2], both.evaluate(*batch)[2])
