from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from architectures import tiny_architectures, tiny_tokenizer
from heedful.core.logprob import distribution
from heedful.errors import HeedfulError
from heedful.models.policy import Policy, new_policy
from heedful.rollout import decoding
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import DecodingParams, ReadRollout, Rollout, RolloutParams

ARCHITECTURES = sorted(tiny_architectures())


def greedy_by_transformers(policy: Policy, prompts, new_tokens: int, **settings) -> list[list[int]]:
    """What `generate()` says, left-padded, cut after the end-of-turn token."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[policy.pad] * (width - len(p)) + p for p in prompts])
    real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    policy.model.eval()
    out = policy.model.generate(
        tokens,
        attention_mask=real,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=list(policy.eos),
        pad_token_id=policy.pad,
        suppress_tokens=list(policy.banned),
        **settings,
    )
    said = []
    for row in out[:, width:].tolist():
        ends = [i for i, token in enumerate(row) if token in policy.eos]
        said.append(row[: ends[0] + 1] if ends else row)
    return said


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_is_generate_token_for_token(name, make_policy, prompts, completions):
    policy = make_policy(name)
    policy.eos = (2, 9, 17, 23)  # so that rows end early and leave the batch
    rollout = NativeEngine(policy).generate(prompts, DecodingParams(40, temperature=0))
    said = completions(rollout)
    assert said == greedy_by_transformers(policy, prompts, 40)
    assert len(set(map(len, said))) > 1
    assert len({token for row in said for token in row}) > 5


@pytest.mark.parametrize(
    "architecture",
    [
        # convolution layers with a state of their own between attention layers
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "num_key_value_heads": 2},
        # biases by distance, read from the attention mask; no position ids
        {"model_type": "bloom", "n_head": 4},
        # positions learned, with an offset
        {"model_type": "opt", "ffn_dim": 48, "word_embed_proj_dim": 32, "num_attention_heads": 4},
    ],
    ids=lambda architecture: architecture["model_type"],
)
def test_greedy_with_other_kinds_of_layers(architecture, prompts, completions):
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    policy = new_policy(sizes | architecture, tiny_tokenizer(), seed=3)
    for weight in policy.model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(3))
    policy.eos = (greedy_by_transformers(policy, prompts, 5)[0][4],)  # so that a row leaves early
    said = completions(NativeEngine(policy).generate(prompts, DecodingParams(30, temperature=0)))
    assert said == greedy_by_transformers(policy, prompts, 30)
    assert len(set(map(len, said))) > 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probabilities_are_those_of_the_policy(name, make_policy, prompts):
    policy = make_policy(name)
    params = RolloutParams(30, temperature=1.3, seed=3)
    rollout = NativeEngine(policy).generate(prompts, params, samples_per_prompt=2)
    with torch.no_grad():
        again, _ = policy.token_logprobs(rollout.tokens, rollout.attention, rollout.mask, temperature=1.3)
    assert (rollout.logprobs - again).abs().max() < 1e-5
    assert (rollout.logprobs[rollout.mask] < 0).all()
    assert not rollout.logprobs[~rollout.mask].any()


def test_the_record_is_well_formed(make_policy, prompts, completions):
    policy = make_policy()
    policy.eos = (2, 9, 17)
    rollout = NativeEngine(policy).generate(prompts, RolloutParams(12, seed=1), samples_per_prompt=3)
    assert rollout.prompt_index.tolist() == [p for p in range(6) for _ in range(3)]
    assert rollout.tokens.dtype == torch.int64
    assert rollout.logprobs.dtype == torch.float32
    assert rollout.finished.any()
    assert not rollout.finished.all()
    longest = 0
    for row, said in enumerate(completions(rollout)):
        prompt = prompts[row // 3]
        whole = len(prompt) + len(said)
        longest = max(longest, whole)
        assert rollout.tokens[row].tolist() == [*prompt, *said] + [policy.pad] * (len(rollout.tokens[row]) - whole)
        assert rollout.attention[row].tolist() == [t < whole for t in range(rollout.tokens.shape[1])]
        assert rollout.mask[row].tolist() == [len(prompt) <= t < whole for t in range(rollout.tokens.shape[1])]
        assert rollout.lengths[row] == len(said)
        assert bool(rollout.finished[row]) == (said[-1] in policy.eos)
        assert not set(said[:-1]) & {*policy.eos, *policy.banned}
        assert len(said) == 12 or rollout.finished[row]
    assert rollout.tokens.shape[1] == longest


@settings(max_examples=8)
@given(max_batch=st.integers(1, 19), keep=st.integers(1, 6))
def test_batching_does_not_change_the_samples(max_batch, keep, make_policy, prompts, completions):
    policy = make_policy(double=True)
    policy.eos = (2, 9, 17)
    engine = NativeEngine(policy)
    params = RolloutParams(10, seed=7)
    together = completions(engine.generate(prompts, params, samples_per_prompt=3))
    apart = completions(engine.generate(prompts[:keep], params, samples_per_prompt=3, max_batch=max_batch))
    assert apart == together[: 3 * keep]


def test_random_numbers_made_in_blocks_are_the_same(make_policy, prompts, completions, monkeypatch):
    engine = NativeEngine(make_policy())
    whole = completions(engine.generate(prompts, RolloutParams(20, seed=1)))
    monkeypatch.setattr(decoding, "UNIFORM_BLOCK", 3)
    assert completions(engine.generate(prompts, RolloutParams(20, seed=1))) == whole


def test_seeds_and_samples_differ(make_policy, prompts, completions):
    engine = NativeEngine(make_policy())
    one = completions(engine.generate(prompts[:1] * 2, RolloutParams(10, seed=1), samples_per_prompt=2))
    again = completions(engine.generate(prompts[:1] * 2, RolloutParams(10, seed=1), samples_per_prompt=2))
    other = completions(engine.generate(prompts[:1] * 2, RolloutParams(10, seed=2), samples_per_prompt=2))
    assert one == again
    assert len({tuple(said) for said in one + other}) == 8


def test_a_prompt_is_read_once_and_finished_rows_leave(make_policy, prompts, watch, completions):
    policy = make_policy()
    policy.eos = (2, 9, 17, 23, 30, 31)
    shapes = watch(policy)
    rollout = NativeEngine(policy).generate(prompts, RolloutParams(20, seed=1), samples_per_prompt=4)
    assert shapes[0] == (6, 17)
    lengths = torch.tensor([len(said) for said in completions(rollout)])
    going = [int((lengths > step).sum()) for step in range(1, 20)]
    assert [rows for rows, _ in shapes[1:]] == [n for n in going if n]
    assert all(tokens == 1 for _, tokens in shapes[1:])


def test_max_batch_bounds_the_rows(make_policy, prompts, watch):
    policy = make_policy()
    shapes = watch(policy)
    NativeEngine(policy).generate(prompts, RolloutParams(3), samples_per_prompt=2, max_batch=5)
    assert max(rows for rows, _ in shapes) == 4  # two prompts' samples; five would split a prompt
    # Prompts of like length go together: the longest, 17 tokens, with the next, 11.
    assert [shape for shape in shapes if shape[1] > 1] == [(2, 3), (2, 8), (2, 17)]


def test_two_token_policy_samples_its_exact_distribution(make_policy):
    policy = make_policy(seed=4, spread=0.2)
    allowed = [2, 8, 9, 10, 11]
    policy.banned = tuple(t for t in range(64) if t not in allowed)
    prompt = [12, 13]
    count = 20_000
    rollout = NativeEngine(policy).generate([prompt], RolloutParams(2, seed=11), samples_per_prompt=count)
    banned = torch.tensor(policy.banned)
    probability = {}
    with torch.no_grad():
        first = distribution(policy.model(torch.tensor([prompt])).logits[0, -1], temperature=1.0, banned=banned)
        for a in allowed:
            logits = policy.model(torch.tensor([[*prompt, a]])).logits[0, -1]
            second = distribution(logits, temperature=1.0, banned=banned).softmax(0)
            if a == 2:
                probability[(2,)] = float(first.softmax(0)[2])
                continue
            for b in allowed:
                probability[(a, b)] = float(first.softmax(0)[a] * second[b])
    seen = dict.fromkeys(probability, 0)
    for tokens, mask in zip(rollout.tokens, rollout.mask, strict=True):
        seen[tuple(tokens[mask].tolist())] += 1
    assert sum(probability.values()) == pytest.approx(1)
    expected = [p * count for p in probability.values()]
    assert stats.chisquare(list(seen.values()), expected, sum_check=False).pvalue > 0.001


def test_sampled_kl_is_the_full_vocabulary_kl(make_policy, prompts):
    """The mean log-ratio of samples estimates the exact KL, and the exact KL is never negative."""
    policy, reference = make_policy(seed=1, spread=0.15), make_policy(seed=2, spread=0.15)
    rollout = NativeEngine(policy).generate(prompts, RolloutParams(8, seed=5), samples_per_prompt=150)
    given = (rollout.tokens, rollout.attention, rollout.mask)
    banned = torch.tensor(policy.banned)
    with torch.no_grad():
        ratio = (rollout.logprobs - reference.token_logprobs(*given)[0])[rollout.mask]
        positions = rollout.attention.cumsum(1) - 1
        p, q = (
            distribution(
                side.model(rollout.tokens, attention_mask=rollout.attention, position_ids=positions).logits,
                temperature=1.0,
                banned=banned,
            ).log_softmax(-1)[:, :-1][rollout.mask[:, 1:]]
            for side in (policy, reference)
        )
    full = (p.exp() * (p - q).masked_fill(p.isinf(), 0)).sum(-1)
    assert full.min() >= -1e-6
    difference = ratio - full
    assert abs(float(difference.mean())) < 3 * float(difference.std()) / math.sqrt(len(difference))
    assert float(full.mean()) > 0.1


def test_stream_is_generate(make_policy, prompts, completions):
    policy = make_policy()
    policy.eos = (2, 9, 17, 23, 30, 31)
    engine = NativeEngine(policy)
    for params in (RolloutParams(15, seed=6), DecodingParams(15, temperature=0), DecodingParams(15, top_p=0.6)):
        for prompt in prompts:
            assert [list(engine.stream(prompt, params))] == completions(engine.generate([prompt], params))


def test_the_model_is_left_as_it_was_found(make_policy, prompts):
    policy = make_policy()
    policy.model.train()
    policy.model.model.layers[0].eval()
    flags = [module.training for module in policy.model.modules()]
    engine = NativeEngine(policy)
    engine.generate(prompts, RolloutParams(3))
    for _ in engine.stream(prompts[0], RolloutParams(3)):
        assert [module.training for module in policy.model.modules()] == flags
        assert torch.is_grad_enabled()

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = policy.model.model.layers[1].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(prompts, RolloutParams(3))
    handle.remove()
    assert [module.training for module in policy.model.modules()] == flags
    assert torch.is_grad_enabled()
    assert len(engine.generate(prompts, RolloutParams(3))) == 6


def test_dropout_is_off(prompts, completions):
    architecture = tiny_architectures()["llama"]
    policy = new_policy(architecture, tiny_tokenizer(), seed=0)
    policy.model.train()
    for layer in policy.model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    engine = NativeEngine(policy)
    noisy = engine.generate(prompts, RolloutParams(10))
    policy.model.eval()
    assert torch.equal(noisy.logprobs, engine.generate(prompts, RolloutParams(10)).logprobs)


def test_stop_strings_end_a_completion(make_policy, prompts, completions):
    policy = make_policy(double=True)
    policy.eos = ()
    engine = NativeEngine(policy)
    free = engine.generate(prompts, RolloutParams(30, seed=2), samples_per_prompt=4)
    texts = decode(policy, free)
    stop = (texts[0][5:19], " and ", "dog")  # the first spans several tokens and cuts words in two
    rollout = engine.generate(prompts, RolloutParams(30, seed=2, stop=stop), samples_per_prompt=4)
    assert rollout.finished.any()
    assert not rollout.finished.all()
    for row, said in enumerate(completions(rollout)):
        whole = completions(free)[row]
        assert said == whole[: len(said)]
        cut = [policy.tokenizer.decode(whole[:n]) for n in range(1, 31)]
        hits = [n + 1 for n, text in enumerate(cut) if any(s in text for s in stop)]
        assert len(said) == (hits[0] if hits else 30)
        assert bool(rollout.finished[row]) == bool(hits)


def test_repetition_penalty_counts_prompt_and_completion(make_policy, prompts, completions):
    policy = make_policy(spread=0.2)
    params = DecodingParams(30, temperature=0, repetition_penalty=1.3)
    said = completions(NativeEngine(policy).generate(prompts, params))
    # `generate()` counts padding as said; pad is banned here, so that cannot show.
    assert said == greedy_by_transformers(policy, prompts, 30, repetition_penalty=1.3)
    assert said != completions(NativeEngine(policy).generate(prompts, DecodingParams(30, temperature=0)))


def test_decode_leaves_the_end_of_turn_out(make_policy):
    policy = make_policy()
    policy.banned = tuple(t for t in range(64) if t not in (2, 8, 9))
    rollout = NativeEngine(policy).generate([[10]] * 20, RolloutParams(4, seed=1))
    words = policy.tokenizer.convert_ids_to_tokens([8, 9])
    for row, text in enumerate(decode(policy, rollout)):
        length = int(rollout.lengths[row]) - int(rollout.finished[row])
        assert len(text.split()) == length
        assert set(text.split()) <= set(words)
    assert rollout.finished.any()


def test_adapters_sample_as_their_merged_weights(make_policy, prompts):
    from peft import LoraConfig, get_peft_model

    policy = make_policy()
    adapted = get_peft_model(policy.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    params = DecodingParams(20, temperature=0)
    rollout = NativeEngine(Policy(adapted, policy.tokenizer)).generate(prompts, params)
    merged = Policy(adapted.merge_and_unload(), policy.tokenizer)
    assert torch.equal(rollout.tokens, NativeEngine(merged).generate(prompts, params).tokens)


def test_bfloat16_runs_in_the_precision_of_the_policy(prompts):
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=0, precision="bfloat16")
    rollout = NativeEngine(policy).generate(prompts, RolloutParams(20, seed=1))
    given = (rollout.tokens, rollout.attention, rollout.mask)
    with torch.no_grad():
        low, _ = policy.token_logprobs(*given)
        policy.precision = "float32"
        exact, _ = policy.token_logprobs(*given)
    assert rollout.logprobs.dtype == torch.float32
    assert (rollout.logprobs - exact).abs().max() > 0
    assert (rollout.logprobs - low).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([], {}, "no prompts"),
        ([[5], []], {}, "Prompt 1 has no tokens"),
        ([[5] * 100], {}, "window of 128"),
        ([[5]], {"samples_per_prompt": 0}, "at least 1"),
        ([[5]], {"max_batch": 0}, "at least 1"),
    ],
)
def test_refuses(prompts, settings, message, make_policy):
    with pytest.raises(HeedfulError, match=message):
        NativeEngine(make_policy()).generate(prompts, RolloutParams(50), **settings)


def test_refuses_logits_that_are_not_finite(make_policy, prompts):
    policy = make_policy()
    with torch.no_grad():
        policy.model.lm_head.weight[3] = torch.nan
    engine = NativeEngine(policy)
    with pytest.raises(HeedfulError, match="not finite"):
        engine.generate(prompts, RolloutParams(5))
    with pytest.raises(HeedfulError, match="not finite"):
        next(engine.stream(prompts[0], RolloutParams(5)))


def test_refuses_a_model_with_a_cache_of_its_own():
    policy = new_policy({"model_type": "rwkv", "hidden_size": 16, "num_hidden_layers": 2}, tiny_tokenizer(), seed=0)
    with pytest.raises(HeedfulError, match="cache of its own kind"):
        NativeEngine(policy).generate([[8, 9]], RolloutParams(2))


@pytest.mark.parametrize(
    "values",
    [
        {"max_new_tokens": 0},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"seed": -1},
        {"stop": "text"},
        {"stop": ("",)},
    ],
)
def test_training_params_refuse_nonsense(values):
    (name,) = values
    with pytest.raises(HeedfulError, match=name):
        RolloutParams(**{"max_new_tokens": 5, **values})


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.nan},
    ],
)
def test_decoding_params_refuse_nonsense(values):
    (name,) = values
    with pytest.raises(HeedfulError, match=name):
        DecodingParams(5, **values)


def test_training_params_have_no_decoding():
    with pytest.raises(TypeError):
        RolloutParams(5, top_k=3)


@pytest.mark.parametrize("stop", [(), ("w9",)])
def test_rows_that_leave_by_eights_change_nothing(make_policy, prompts, watch, stop, monkeypatch):
    """Where shapes are compiled, ended rows ride along until eight can leave: the rollout is the same."""
    policy = make_policy(double=True)
    policy.eos = (2, 9, 17, 23, 30, 31)
    params = RolloutParams(24, seed=3, stop=stop)
    found = {}
    for compiled in (False, True):
        monkeypatch.setattr(decoding, "compiles_by_shape", lambda model, compiled=compiled: compiled)
        shapes = watch(policy)
        found[compiled] = NativeEngine(policy).generate(prompts, params, samples_per_prompt=4)
        rows = [count for count, _ in shapes[1:]]
        assert rows[-1] < rows[0]
        assert all(count % 8 == 0 for count in rows) == compiled
    for name in Rollout.__dataclass_fields__:
        assert torch.equal(getattr(found[False], name), getattr(found[True], name)), name


@pytest.mark.parametrize("limit", [None, 3])
def test_a_readout_sees_the_states_that_tokens_are_sampled_from(make_policy, prompts, limit):
    policy = make_policy()
    weight = torch.randn(policy.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    engine, params = NativeEngine(policy), RolloutParams(16, seed=2)
    given = {"samples_per_prompt": 2, "max_batch": limit}
    rollout = engine.generate(prompts, params, **given, readout=lambda states: states @ weight)
    assert isinstance(rollout, ReadRollout)
    assert not rollout.readouts[~rollout.mask].any()
    with torch.no_grad():
        hidden = policy.model.base_model(input_ids=rollout.tokens).last_hidden_state
    expected = torch.cat([torch.zeros(len(rollout), 1), (hidden @ weight)[:, :-1]], dim=1).where(rollout.mask, 0.0)
    torch.testing.assert_close(rollout.readouts, expected, atol=1e-4, rtol=1e-4)
    plain = engine.generate(prompts, params, **given)
    assert type(plain) is Rollout
    assert torch.equal(plain.tokens, rollout.tokens)
