from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from architectures import VOCABULARY, tiny_architectures, tiny_tokenizer
from heedful.errors import HeedfulError
from heedful.models import alignment, head
from heedful.models.alignment import hidden_states
from heedful.models.head import HeadRule, check_head, head_rule
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import Policy, load_policy, new_policy, reference_of

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}


def plain_logprobs(policy: Policy, batch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """By the model's own head on every position, with an attention mask, token by token."""
    tokens, attention, mask = batch
    logits = policy.model(input_ids=tokens, attention_mask=attention.long()).logits.double()
    logprobs, entropies = torch.zeros(mask.shape).double(), torch.zeros(mask.shape).double()
    for row, at in mask.nonzero().tolist():
        own = logits[row, at - 1] / temperature
        own[list(policy.banned)] = -torch.inf
        p = own.softmax(0)
        logprobs[row, at] = own.log_softmax(0)[tokens[row, at]]
        entropies[row, at] = -sum(x * x.log() for x in p if x > 0)
    return logprobs, entropies


def test_logprobs_and_entropy_equal_the_plain_model(policy, batch) -> None:
    with torch.no_grad():
        expected = plain_logprobs(policy, batch, 0.7)
        found = policy.token_logprobs(*batch, temperature=0.7)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=0)


def test_the_gradient_reaches_every_weight_as_in_the_plain_model(policy, batch) -> None:
    ours, theirs = copy.deepcopy(policy.model), copy.deepcopy(policy.model)
    Policy(ours, policy.tokenizer).token_logprobs(*batch)[0].sum().backward()
    plain_logprobs(Policy(theirs, policy.tokenizer), batch, 1.0)[0].sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, atol=2e-4, rtol=1e-3, msg=name)


@torch.no_grad()
def test_collisions_are_those_of_the_plain_model(policy, batch) -> None:
    """log sum_v pi(v)^2, with whatever the head does beside its matrix."""
    tokens, attention, mask = batch
    with torch.no_grad():
        logits = policy.model(input_ids=tokens).logits[:, :-1].clone()
        logits[..., list(policy.banned)] = -torch.inf
        expected = (2 * logits.log_softmax(-1)).logsumexp(-1)[mask[:, 1:]]
        found = policy.collisions_from(hidden_states(policy.model, tokens, attention), mask)
    torch.testing.assert_close(found[mask], expected, atol=1e-4, rtol=0)
    assert not found[~mask].any()


def test_one_row_alone_gives_what_it_gives_in_a_batch(policy, batch) -> None:
    tokens, attention, mask = batch
    together = policy.token_logprobs(tokens, attention, mask)[0]
    for row, length in enumerate(attention.sum(1).tolist()):
        alone = policy.token_logprobs(*(part[row : row + 1, :length] for part in batch))[0]
        torch.testing.assert_close(together[row : row + 1, :length], alone, atol=1e-5, rtol=0)
        assert not together[row, length:].any()


@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter(policy, batch) -> None:
    tokens, attention, mask = batch
    other = torch.where(attention, tokens, 33)
    first, second = (policy.token_logprobs(t, attention, mask)[0] for t in (tokens, other))
    assert torch.equal(first, second)


@torch.no_grad()
def test_probabilities_of_all_tokens_that_may_be_said_sum_to_one(llama) -> None:
    allowed = [token for token in range(VOCABULARY) if token not in llama.banned]
    tokens = torch.tensor([[1, 5, 9, token] for token in allowed])
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    mask[:, 3] = True
    logprobs = llama.token_logprobs(tokens, torch.ones_like(mask), mask, temperature=1.3)[0]
    assert float(logprobs[:, 3].exp().sum()) == pytest.approx(1, abs=1e-5)


def test_pad_and_unused_rows_are_banned_and_more_can_be(llama) -> None:
    used = len(tiny_tokenizer())
    assert llama.banned == (0, *range(used, VOCABULARY))
    assert llama.eos == (2,)
    asked = Policy(llama.model, llama.tokenizer, banned=[9])
    assert asked.banned == (0, 9, *range(used, VOCABULARY))
    with pytest.raises(ValueError, match="banned"):
        asked.token_logprobs(torch.tensor([[7, 9]]), torch.tensor([[True, True]]), torch.tensor([[False, True]]))
    with pytest.raises(HeedfulError, match="end-of-turn"):
        Policy(llama.model, llama.tokenizer, banned=[2])


def test_stops_that_the_model_lists_stay_stops(llama, tmp_path: Path) -> None:
    further = llama.tokenizer.convert_tokens_to_ids("<|user|>")
    llama.model.generation_config.eos_token_id = [further, 2, 0, 9]  # 0 is the pad, 9 a word
    again = Policy(llama.model, llama.tokenizer)
    assert again.eos == (2, further)
    again.save(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id == [2, further]
    llama.model.generation_config.eos_token_id = [further, 2]
    assert Policy(llama.model, llama.tokenizer, banned=[further]).eos == (2,)
    llama.model.generation_config.eos_token_id = further  # one alone may be transformers' default
    assert Policy(llama.model, llama.tokenizer).eos == (2,)


def test_no_masked_token_gives_zeros(llama, batch) -> None:
    tokens, attention, mask = batch
    logprobs, entropy = llama.token_logprobs(tokens, attention, torch.zeros_like(mask))
    assert logprobs.shape == entropy.shape == tokens.shape
    assert not logprobs.any()
    assert not entropy.any()


@torch.no_grad()
def test_a_saved_policy_loads_in_plain_transformers(policy, batch, tmp_path: Path) -> None:
    policy.save(tmp_path)
    tokens, attention, mask = batch
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ours = policy.model(input_ids=tokens).logits
    assert torch.equal(plain(input_ids=tokens).logits, ours)
    assert plain.generation_config.eos_token_id == [2]
    assert plain.generation_config.pad_token_id == 0
    assert plain.generation_config.suppress_tokens == list(policy.banned)
    assert not list(tmp_path.glob("*.bin"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == policy.tokenizer.chat_template
    assert tokenizer("the sky is blue")["input_ids"] == policy.tokenizer("the sky is blue")["input_ids"]
    again = load_policy(tmp_path)
    assert again.banned == policy.banned
    assert torch.equal(
        again.token_logprobs(tokens, attention, mask)[0], policy.token_logprobs(tokens, attention, mask)[0]
    )


def test_asked_bans_survive_saving(llama, tmp_path: Path) -> None:
    Policy(llama.model, llama.tokenizer, banned=[9]).save(tmp_path)
    assert 9 in load_policy(tmp_path).banned


def test_dropout_is_off_unless_nothing_says_so(tmp_path: Path, made) -> None:
    made("gpt2").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_policy(tmp_path).model.train()
    tokens = torch.arange(7, 20)[None]
    assert torch.equal(model(tokens).logits, model(tokens).logits)


def test_a_new_policy_follows_its_seed_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second, third = (
        new_policy({"model_type": "llama", **SMALL}, tiny_tokenizer(), seed=seed) for seed in (4, 4, 5)
    )
    assert torch.equal(torch.rand(2), expected)
    weights = [policy.model.model.embed_tokens.weight for policy in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape[0] == len(tiny_tokenizer())


def test_init_std_is_the_spread_of_new_weights() -> None:
    made = new_policy({"model_type": "llama", **SMALL}, tiny_tokenizer(), seed=0, init_std=0.5)
    assert float(made.model.lm_head.weight.detach().std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({**SMALL}, "no model_type"),
        ({"model_type": "lama", **SMALL}, "Did you mean 'llama'"),
        ({"model_type": "llama", "hiden_size": 16}, "Did you mean 'hidden_size'"),
        ({"model_type": "llama", **SMALL, "vocab_size": 10}, "too small for the tokenizer's 53"),
        ({"model_type": "llama", **SMALL, "num_attention_heads": 3}, "not a multiple"),
    ],
)
def test_a_wrong_architecture_is_named(architecture, message) -> None:
    with pytest.raises(HeedfulError, match=message):
        new_policy(architecture, tiny_tokenizer(), seed=0)


def test_settings_of_older_configurations_are_taken_up() -> None:
    made = new_policy({"model_type": "llama", **SMALL, "rope_theta": 77.0}, tiny_tokenizer(), seed=0)
    assert made.model.config.rope_parameters["rope_theta"] == 77.0


def test_an_added_pad_token_gets_a_row(llama, tmp_path: Path) -> None:
    llama.save(tmp_path)
    policy = load_policy(tmp_path, pad_token="<fresh>")
    assert policy.pad == 53
    small = new_policy({"model_type": "phi", **SMALL, "tie_word_embeddings": False}, tiny_tokenizer(), seed=0)
    small.save(tmp_path / "small")
    grown = load_policy(tmp_path / "small", pad_token="<fresh>")
    assert grown.pad == 53
    assert grown.banned == (0, 53)  # what the folder suppressed stays so
    embedding = grown.model.get_input_embeddings().weight
    torch.testing.assert_close(embedding[53], embedding[:53].mean(0))
    assert grown.model.get_output_embeddings().bias.shape == (54,)
    grown.save(tmp_path / "grown")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "grown").config.vocab_size == 54


def test_a_tokenizer_of_another_model_is_refused(llama) -> None:
    small = new_policy({"model_type": "llama", **SMALL}, tiny_tokenizer(), seed=0)
    small.model.resize_token_embeddings(2)
    with pytest.raises(HeedfulError, match="beyond the model's 2 embeddings"):
        Policy(small.model, llama.tokenizer)


def test_the_reference_of_full_weights_is_a_frozen_copy(llama, batch) -> None:
    reference = reference_of(llama)
    before = reference.token_logprobs(*batch)[0]
    assert torch.equal(before, llama.token_logprobs(*batch)[0])
    with torch.no_grad():
        for parameter in llama.model.parameters():
            parameter.mul_(1.5)
    assert torch.equal(reference.token_logprobs(*batch)[0], before)
    assert not before.requires_grad
    assert not reference.trainable_parameters()
    assert llama.trainable_parameters()


def test_bfloat16_computes_low_and_keeps_weights_and_gradients_high(llama, batch) -> None:
    low = Policy(llama.model, llama.tokenizer, precision="bfloat16")
    logprobs, entropy = low.token_logprobs(*batch)
    exact = llama.token_logprobs(*batch)[0]
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert not torch.equal(logprobs, exact)
    torch.testing.assert_close(logprobs, exact, atol=0.15, rtol=0)
    logprobs.sum().backward()
    assert {p.grad.dtype for p in llama.trainable_parameters()} == {torch.float32}


def test_stored_bfloat16_weights(llama, batch, tmp_path: Path) -> None:
    llama.save(tmp_path)
    low = load_policy(tmp_path, dtype="bfloat16")
    assert {p.dtype for p in low.model.parameters()} == {torch.bfloat16}
    exact = llama.token_logprobs(*batch)[0]
    torch.testing.assert_close(low.token_logprobs(*batch)[0], exact, atol=0.2, rtol=0)


def test_an_unknown_precision_is_refused(llama) -> None:
    with pytest.raises(HeedfulError, match="float16"):
        Policy(llama.model, llama.tokenizer, precision="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "extra", [{"model_type": "cohere", "logit_scale": 0.25}, {"model_type": "granite", "logits_scaling": 4.0}]
)
def test_logit_scales_are_honoured(extra, batch) -> None:
    scaled = new_policy({**SMALL, "initializer_range": 0.3, **extra}, tiny_tokenizer(), seed=0)
    assert head_rule(scaled.model) == HeadRule(0.25, None)
    with torch.no_grad():
        torch.testing.assert_close(
            scaled.token_logprobs(*batch)[0].double(), plain_logprobs(scaled, batch, 1.0)[0], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("rule", [HeadRule(2.0, None), HeadRule(1.0, 0.5)])
def test_a_head_that_works_otherwise_is_found_out(llama, rule) -> None:
    check_head(llama.model, head_rule(llama.model))
    with pytest.raises(HeedfulError, match="unknown to heedful"):
        check_head(llama.model, rule)


def test_recomputed_activations_change_no_gradient(policy, batch) -> None:
    plain, sparing = copy.deepcopy(policy.model).train(), copy.deepcopy(policy.model).train()
    checkpoint_activations(sparing)
    for model in (plain, sparing):
        Policy(model, policy.tokenizer).token_logprobs(*batch)[0].sum().backward()
    for a, b in zip(plain.parameters(), sparing.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_context_length_is_known_by_any_name(policy) -> None:
    assert policy.context_length == 128


def test_all_eight_architectures_are_here() -> None:
    assert set(tiny_architectures()) == {
        "llama", "qwen3", "gemma3", "mistral", "phi", "gpt2", "gpt_neox", "olmo2"
    }  # fmt: skip


def answered(groups: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, attention, mask, group): answers of 1 to 7 tokens behind prompts of 5, 9 and 3."""
    draw = torch.Generator().manual_seed(3)
    prompts = [torch.randint(7, 50, (n,), generator=draw) for n in (5, 9, 3)]
    answers = [torch.randint(7, 50, (int(torch.randint(1, 8, (1,), generator=draw)),), generator=draw) for _ in groups]
    rows = [torch.cat([prompts[group], answer]) for group, answer in zip(groups, answers, strict=True)]
    width = max(map(len, rows))
    tokens = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    attention = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
    mask = attention & (torch.arange(width) >= torch.tensor([len(prompts[group]) for group in groups])[:, None])
    return tokens, attention, mask, torch.tensor(groups)


@pytest.mark.parametrize("groups", [(0, 1, 1, 2, 0, 0), (2, 2)])
def test_a_prompt_read_once_gives_what_whole_rows_give(policy: Policy, groups: tuple[int, ...]) -> None:
    tokens, attention, mask, group = answered(groups)
    found = []
    for compute in (policy.token_logprobs, lambda *a, **k: policy.grouped_logprobs(*a, group, **k)):
        policy.model.zero_grad()
        logprobs, entropy = compute(tokens, attention, mask, temperature=0.7)
        (logprobs.sum() + 0.3 * entropy.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
        found.append((logprobs.detach(), entropy.detach(), gradient / gradient.abs().max()))
    policy.model.zero_grad()
    for whole, once in zip(*found, strict=True):
        torch.testing.assert_close(once, whole, atol=2e-5, rtol=0)


def test_which_architectures_read_a_prompt_once(made: Any) -> None:
    assert {name for name in ("llama", "qwen3", "gpt2", "phi", "mistral", "gemma3") if made(name).continues()} == {
        "llama", "qwen3", "gpt2", "phi",  # the others' windows slide
    }  # fmt: skip


def test_a_model_that_recomputes_activations_reads_whole_rows(llama: Policy) -> None:
    checkpoint_activations(llama.model)
    assert not llama.continues()
    tokens, attention, mask, group = answered((0, 0))
    assert torch.equal(
        llama.grouped_logprobs(tokens, attention, mask, group)[0], llama.token_logprobs(tokens, attention, mask)[0]
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_filling_up_shapes_changes_nothing(llama: Policy, batch: Any, precision: Any, monkeypatch: Any) -> None:
    """Rows and columns of padding are added where products are compiled by shape; results are as without them."""
    own = Policy(llama.model, llama.tokenizer, precision=precision)
    given = answered((0, 1, 1, 2, 0))
    with torch.no_grad():
        found = []
        for fills in (False, True):
            for module in (alignment, head):
                monkeypatch.setattr(module, "compiles_by_shape", lambda model, fills=fills: fills)
            found.append((*own.token_logprobs(*batch), *own.grouped_logprobs(*given)))
    for plain, filled in zip(*found, strict=True):
        torch.testing.assert_close(filled, plain, atol=1e-5 if precision == "float32" else 0.06, rtol=0)
