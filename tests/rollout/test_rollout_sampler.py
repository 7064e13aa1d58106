from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from heedful.rollout.sampler import BLOCK, Sampler, draw, narrow, penalise
from heedful.rollout.types import DecodingParams, RolloutParams

ALMOST_ONE = 1 - 2.0**-53
VOCABULARIES = [1, 2, 7, 8 * BLOCK, 8 * BLOCK + 1, 9 * BLOCK, 20 * BLOCK + 77]


def even(count: int) -> torch.Tensor:
    """Points in the middle of `count` equal parts of [0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


@settings(max_examples=60)
@given(
    vocabulary=st.sampled_from(VOCABULARIES),
    seed=st.integers(0, 2**31),
    scale=st.floats(0.01, 12),
    dead=st.floats(0, 0.95),
    point=st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, ALMOST_ONE])),
)
def test_inverts_the_cumulative_distribution(vocabulary, seed, scale, dead, point):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocabulary, generator=generator) * scale
    gone = torch.rand(1, vocabulary, generator=generator) < dead
    gone[0, int(torch.randint(vocabulary, (1,), generator=generator))] = False
    logits = logits.masked_fill(gone, -torch.inf)
    tokens, logprobs = draw(logits, torch.tensor([point], dtype=torch.float64))
    token = int(tokens[0])
    exact = logits.double().softmax(1)[0]
    upper = float(exact[: token + 1].sum())
    assert not gone[0, token]
    assert upper - float(exact[token]) <= point + 3e-6
    assert point <= upper + 3e-6
    assert float(logprobs[0]) == pytest.approx(float(exact[token].log()), abs=2e-5)


@pytest.mark.parametrize("vocabulary", VOCABULARIES[2:])
@pytest.mark.parametrize("point", [0.0, 0.5, ALMOST_ONE])
def test_the_only_token_left_is_drawn(vocabulary, point):
    uniform = torch.tensor([point], dtype=torch.float64)
    for only in (0, vocabulary // 2, vocabulary - 1):
        logits = torch.full((1, vocabulary), -torch.inf)
        logits[0, only] = -40.0
        tokens, logprobs = draw(logits, uniform)
        assert tokens.tolist() == [only]
        assert logprobs.tolist() == [0.0]


def test_rounding_at_the_far_end_never_draws_a_dead_token():
    logits = torch.randn(300, 9 * BLOCK, generator=torch.Generator().manual_seed(0))
    logits[:, -BLOCK // 2 :] = -torch.inf
    tokens, _ = draw(logits, torch.full((300,), ALMOST_ONE, dtype=torch.float64))
    assert (tokens < 9 * BLOCK - BLOCK // 2).all()
    assert (tokens >= 8 * BLOCK).all()


@pytest.mark.parametrize("vocabulary", [5, 8 * BLOCK + 3])
def test_frequencies_are_the_probabilities(vocabulary):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(vocabulary, generator=generator) * 2
    logits[::3] = -torch.inf
    count = 100_000
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    tokens = torch.cat([draw(logits.expand(len(u), -1), u)[0] for u in uniform.split(2_000)])
    expected = logits.double().softmax(0) * count
    seen = tokens.bincount(minlength=vocabulary)
    assert not seen[::3].any()
    usual = expected >= 5
    counts, wanted = seen[usual].tolist(), expected[usual].tolist()
    if expected[~usual].any():
        counts.append(int(seen[~usual].sum()))
        wanted.append(float(expected[~usual].sum()))
    assert stats.chisquare(counts, wanted).pvalue > 0.001


def test_every_row_has_its_own_point():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(10, 4)
    tokens, _ = draw(logits, even(10))
    assert tokens.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_training_draws_from_temperature_and_banned_tokens_alone():
    logits = torch.tensor([[4.0, 1.0, 2.0, 0.0]]).expand(1000, 4)
    sampler = Sampler(RolloutParams(1, temperature=2.0), torch.tensor([0]))
    tokens, logprobs = sampler(logits, even(1000), None)
    exact = torch.tensor([0.5, 1.0, 0.0]).softmax(0)
    assert tokens.bincount(minlength=4).tolist()[0] == 0
    assert tokens.bincount(minlength=4)[1:].div(1000).tolist() == pytest.approx(exact.tolist(), abs=1e-3)
    assert logprobs.tolist() == pytest.approx(exact.log()[tokens - 1].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("decoding", "oracle"),
    [
        ({"top_k": 3}, [TopKLogitsWarper(3)]),
        ({"top_k": 10_000}, []),
        ({"top_p": 0.7}, [TopPLogitsWarper(0.7)]),
        ({"top_p": 1e-6}, [TopPLogitsWarper(1e-6)]),
        ({"min_p": 0.2}, [MinPLogitsWarper(0.2)]),
        (
            {"top_k": 9, "top_p": 0.8, "min_p": 0.1},
            [TopKLogitsWarper(9), TopPLogitsWarper(0.8), MinPLogitsWarper(0.1)],
        ),
    ],
)
def test_narrowing_is_that_of_transformers(decoding, oracle):
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(1)) * 2
    expected = logits
    for warper in oracle:
        expected = warper(None, expected)
    assert torch.equal(narrow(logits, DecodingParams(1, **decoding)), expected)


def test_repetition_penalty_is_that_of_transformers():
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[1, 1, 4], [0, 2, 19], [7, 8, 9]])
    present = torch.zeros(3, 20, dtype=torch.bool).scatter_(1, tokens, True)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(tokens, logits)
    assert torch.equal(penalise(logits, present, 1.7), expected)


def test_decoding_keeps_the_log_probability_of_the_policy():
    logits = torch.randn(40, 12, generator=torch.Generator().manual_seed(2))
    own = (logits / 0.7).log_softmax(1)
    sampler = Sampler(DecodingParams(1, temperature=0.7, top_k=2), None)
    tokens, logprobs = sampler(logits, even(40), None)
    assert all(t in row.topk(2).indices for t, row in zip(tokens, logits, strict=True))
    assert logprobs.tolist() == pytest.approx(own.gather(1, tokens[:, None]).squeeze(1).tolist(), abs=1e-5)


def test_greedy_takes_the_best_token_that_is_not_banned():
    logits = torch.tensor([[5.0, 1.0, 3.0]])
    tokens, logprobs = Sampler(DecodingParams(1, temperature=0), torch.tensor([0]))(logits, None, None)
    assert tokens.tolist() == [2]
    assert float(logprobs) == pytest.approx(-0.126928, abs=1e-5)  # log(1 / (1 + exp(-2)))
