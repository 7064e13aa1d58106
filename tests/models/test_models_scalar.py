from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from architectures import tiny_tokenizer
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.adapters import LoRA
from heedful.models.policy import load_policy, new_policy
from heedful.models.scalar import Critic, RewardModel, load_critic, load_reward_model, new_reward_model

PROMPT = (Message("user", "what is the sky"),)
ANSWERS = ["the sky is blue", "no", "a cat and a dog and a bird or the sun can do it very well thank you", "", "red"]


def asked(count: int = len(ANSWERS)):
    return [PROMPT] * count


@torch.no_grad()
def test_the_score_is_the_head_at_the_last_real_token(policy, batch) -> None:
    tokens, attention, _ = batch
    reward = new_reward_model(policy)
    scores = reward.raw_scores(tokens, attention)
    weight = reward.model.score.weight[0]
    for row, length in enumerate((14, 9, 11)):
        hidden = policy.model.base_model(input_ids=tokens[row : row + 1, :length]).last_hidden_state
        assert float(scores[row]) == pytest.approx(float(hidden[0, -1] @ weight), abs=1e-5)


@torch.no_grad()
def test_a_saved_reward_model_gives_the_raw_score_in_plain_transformers(policy, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    reward = new_reward_model(policy)
    reward.set_normalisation(1.5, 0.5)
    raw = reward.raw_scores(tokens, attention)
    reward.save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    theirs = plain(input_ids=tokens, attention_mask=attention.long()).logits[:, 0]
    torch.testing.assert_close(theirs, raw, atol=1e-5, rtol=0)
    assert plain.config.heedful_reward == {"offset": 1.5, "scale": 0.5}
    again = load_reward_model(tmp_path)
    saved, read = reward.model.state_dict(), again.model.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[name], read[name]) for name in saved)
    # On one machine gemma3, phi and qwen3 differed in the last bits here, from equal weights; on others they do not.
    torch.testing.assert_close(again.raw_scores(tokens, attention), raw, atol=1e-6, rtol=0)
    sequences = [tokens[row, :length].tolist() for row, length in enumerate((14, 9, 11))]
    torch.testing.assert_close(again.score_tokens(sequences), (raw - 1.5) / 0.5, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_company_order_or_batching(policy) -> None:
    reward = new_reward_model(policy)
    together = reward(asked(), ANSWERS)
    assert together.shape == (5,)
    assert not together.requires_grad
    for answer, score in zip(ANSWERS, together.tolist(), strict=True):
        assert float(reward([PROMPT], [answer])) == pytest.approx(score, abs=1e-5)
    backwards = reward(asked(), ANSWERS[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)
    sequences = [reward.render(PROMPT, answer) for answer in ANSWERS]
    torch.testing.assert_close(reward.score_tokens(sequences, budget=40), together, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_the_padding_side(policy, tmp_path: Path) -> None:
    reward = new_reward_model(policy)
    together = reward(asked(), ANSWERS)
    for side in ("left", "right"):
        reward.tokenizer.padding_side = side
        reward.save(tmp_path / side)
        again = load_reward_model(tmp_path / side)
        again.tokenizer.padding_side = side
        torch.testing.assert_close(again(asked(), ANSWERS), together, atol=1e-5, rtol=0)
        torch.testing.assert_close(again(asked(2), ANSWERS[2:4]), together[2:4], atol=1e-5, rtol=0)


def test_a_pass_stays_within_its_budget_of_tokens(llama, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = new_reward_model(llama)
    shapes = []

    def record(tokens: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tokens.shape))
        return attention.sum(1)[:, None].float()

    monkeypatch.setattr(reward, "last_states", record)
    monkeypatch.setattr(reward, "_head", lambda states: states[:, 0])
    lengths = [3, 9, 4, 10, 5, 2, 31]
    scores = reward.score_tokens([[7] * length for length in lengths], budget=20)
    assert scores.tolist() == lengths
    assert shapes == [(1, 31), (2, 10), (4, 5)]


def test_what_is_scored_ends_with_end_of_turn(llama) -> None:
    reward = new_reward_model(llama)
    tokenizer = llama.tokenizer
    text = tokenizer.decode(reward.render(PROMPT, "the sky is blue"))
    assert text.split()[-5:] == ["the", "sky", "is", "blue", "<eos>"]
    long = reward.render(PROMPT, "blue " * 300)
    assert len(long) == 128
    assert long[-2:] == [tokenizer.convert_tokens_to_ids("blue"), 2]


def test_scoring_leaves_training_mode_and_gradients_as_they_were(llama) -> None:
    reward = new_reward_model(llama)
    reward.model.train()
    reward.model.score.eval()
    reward(asked(2), ANSWERS[:2])
    assert reward.model.training
    assert not reward.model.score.training
    assert reward.raw_scores(torch.tensor([[5, 7, 2]]), torch.ones(1, 3).bool()).requires_grad


def test_the_head_starts_small_and_by_its_seed(llama) -> None:
    wide = new_policy(
        {"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 1, "intermediate_size": 16,
         "num_attention_heads": 8}, tiny_tokenizer(), seed=0,
    )  # fmt: skip
    spread = float(new_reward_model(wide, seed=3).model.score.weight.detach().std())
    assert spread == pytest.approx(1 / math.sqrt(1025), rel=0.1)
    first, second, third = (new_reward_model(llama, seed=s).model.score.weight for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_reward_model_is_a_copy_of_the_policy(llama, batch) -> None:
    before = llama.token_logprobs(*batch)[0].detach()
    reward = new_reward_model(llama)
    with torch.no_grad():
        for parameter in reward.trainable_parameters():
            parameter.zero_()
    assert torch.equal(llama.token_logprobs(*batch)[0], before)


@torch.no_grad()
def test_a_reward_model_of_an_adapted_policy_starts_from_the_merged_trunk(llama, batch, tmp_path: Path) -> None:
    llama.save(tmp_path / "base")
    moved = load_policy(tmp_path / "base", lora=LoRA(2, 4.0))
    for parameter in moved.trainable_parameters():
        parameter.add_(0.1)
    moved.save(tmp_path / "moved")
    tokens, attention, _ = batch
    scores = new_reward_model(moved).raw_scores(tokens, attention)
    merged = new_reward_model(load_policy(tmp_path / "moved")).raw_scores(tokens, attention)
    torch.testing.assert_close(scores, merged, atol=1e-5, rtol=0)
    assert (scores - new_reward_model(llama).raw_scores(tokens, attention)).abs().max() > 1e-3


def test_a_reward_model_with_adapters_trains_them_and_the_head(policy, batch, tmp_path: Path) -> None:
    tokens, attention, _ = batch
    reward = new_reward_model(policy, lora=LoRA(2, 4.0))
    reward.raw_scores(tokens, attention).square().sum().backward()
    named = dict(reward.model.named_parameters())
    trained = {name for name, parameter in named.items() if parameter.grad is not None}
    assert trained == {name for name in named if ".lora_" in name or name.endswith("score.weight")}
    with torch.no_grad():
        for parameter in reward.trainable_parameters():
            parameter.add_(0.05)
        raw = reward.raw_scores(tokens, attention)
        reward.save(tmp_path)
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        theirs = plain(input_ids=tokens, attention_mask=attention.long()).logits[:, 0]
    torch.testing.assert_close(theirs, raw, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_value_of_a_prefix_does_not_see_the_token_it_is_before(policy, batch) -> None:
    tokens, attention, mask = batch
    critic = Critic.from_reward(new_reward_model(policy))
    values = critic.token_values(tokens, attention, mask)
    assert values.shape == tokens.shape
    assert not values[~mask].any()
    changed = tokens.clone()
    changed[0, 8] = 50 if int(tokens[0, 8]) != 50 else 49
    moved = critic.token_values(changed, attention, mask)
    assert torch.equal(moved[0, :9], values[0, :9])
    assert (moved[0, 9] - values[0, 9]).abs() > 1e-5
    assert torch.equal(moved[1:], values[1:])


@torch.no_grad()
def test_a_critic_from_a_reward_model_says_the_normalised_score_after_the_answer(policy, batch) -> None:
    tokens, attention, _ = batch
    reward = new_reward_model(policy)
    reward.set_normalisation(-0.7, 2.0)
    critic = Critic.from_reward(reward)
    mask = torch.zeros_like(attention)
    mask[0, 13] = True  # the prefix before token 13 is an answer of 13 tokens
    value = critic.token_values(tokens, attention, mask)[0, 13]
    score = reward.score_tokens([tokens[0, :13].tolist()])[0]
    assert float(value) == pytest.approx(float(score), abs=1e-5)
    next(iter(critic.model.parameters())).add_(1.0)
    assert float(reward.score_tokens([tokens[0, :13].tolist()])[0]) == pytest.approx(float(score))


def test_a_critic_from_a_policy_starts_at_zero_and_can_learn(llama, batch, tmp_path: Path) -> None:
    critic = Critic.from_policy(llama)
    values = critic.token_values(*batch)
    assert not values.any()
    (values[batch[2]] - 1).square().sum().backward()
    assert critic.model.score.weight.grad.abs().sum() > 0
    with torch.no_grad():
        critic.model.score.weight.fill_(0.3)
    critic.save(tmp_path)
    assert torch.equal(load_critic(tmp_path).token_values(*batch), critic.token_values(*batch))


def test_a_bfloat16_trunk_has_a_float32_head(llama, batch) -> None:
    reward = new_reward_model(llama)
    exact = reward.raw_scores(*batch[:2])
    low = RewardModel(reward.model, reward.tokenizer, precision="bfloat16").raw_scores(*batch[:2])
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, atol=0.15, rtol=0)


def test_a_classifier_of_others_has_no_normalisation(llama, tmp_path: Path) -> None:
    new_reward_model(llama).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["heedful_reward"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    foreign = load_reward_model(tmp_path)
    assert (foreign.offset, foreign.scale) == (0.0, 1.0)


def test_models_of_the_wrong_kind_are_named(policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "policy")
    with pytest.raises(HeedfulError, match="not a reward model"):
        load_reward_model(tmp_path / "policy")
    new_reward_model(policy).save(tmp_path / "reward")
    with pytest.raises(HeedfulError, match="not a policy"):
        load_policy(tmp_path / "reward")


def test_a_classifier_with_two_labels_is_refused(llama, tmp_path: Path) -> None:
    reward = new_reward_model(llama)
    model = copy.deepcopy(reward.model)
    model.config.num_labels = 2
    model.score = torch.nn.Linear(32, 2, bias=False)
    RewardModel(model, reward.tokenizer).save(tmp_path)
    with pytest.raises(HeedfulError, match="has 2"):
        load_reward_model(tmp_path)


def test_an_architecture_without_a_classifier_says_so() -> None:
    policy = new_policy(
        {"model_type": "granite", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 2, "intermediate_size": 16}, tiny_tokenizer(), seed=0,
    )  # fmt: skip
    with pytest.raises(HeedfulError, match="no sequence classifier for GraniteForCausalLM"):
        new_reward_model(policy)


def test_scores_that_are_not_finite_are_an_error(llama) -> None:
    reward = new_reward_model(llama)
    reward.model.score.weight.data.fill_(torch.nan)
    with pytest.raises(HeedfulError, match="no finite numbers"):
        reward([PROMPT], ["blue"])


@pytest.mark.parametrize(("offset", "scale"), [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (math.inf, 1.0)])
def test_a_wrong_normalisation_is_refused(llama, offset, scale) -> None:
    with pytest.raises(ValueError, match="scale above 0"):
        new_reward_model(llama).set_normalisation(offset, scale)


def test_prompts_and_completions_must_match(llama) -> None:
    with pytest.raises(ValueError, match="1 prompts and 2 completions"):
        new_reward_model(llama)([PROMPT], ["a", "b"])
