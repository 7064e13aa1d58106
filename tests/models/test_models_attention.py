"""The quick backward pass of attention: exact in float64, near float32 in bfloat16, and out of the way elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.models import attention
from heedful.models.attention import NAME, attend
from heedful.models.policy import Policy


def drawn(heads: int, length: int, keys: int | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    made = torch.randn(
        2, heads, keys or length, 4, dtype=dtype, generator=torch.Generator().manual_seed(heads + length)
    )
    return made.requires_grad_()


def left_padded(length: int, keys: int) -> Tensor:
    """[2, 1, L, S] causal, the first row with two keys that nobody sees."""
    seen = torch.ones(length, keys, dtype=torch.bool).tril_(keys - length)[None, None].repeat(2, 1, 1, 1)
    seen[0, :, :, :2] = False
    return seen


@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("keys", [5, 8])
@pytest.mark.parametrize("kept", [0, 8])
def test_gradients_are_those_of_finite_differences(
    heads: int, groups: int, keys: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "KEPT", kept)
    query, key, value = drawn(heads, 5), drawn(groups, 5, keys), drawn(groups, 5, keys)
    seen = None if keys == 5 else left_padded(5, keys)
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention._Attention.apply(q, k, v, seen, 0.4), (query, key, value), raise_exception=True
    )


@pytest.mark.parametrize("kept", [0, 8])
def test_a_query_that_sees_nothing_gives_no_nan(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "KEPT", kept)
    query, key, value = drawn(2, 4), drawn(2, 4), drawn(2, 4)
    out = attention._Attention.apply(query, key, value, left_padded(4, 4), 0.5)
    out[:, :, 2:].square().sum().backward()  # the first row's first two queries see nothing
    assert all(bool(x.grad.isfinite().all()) for x in (query, key, value))


def test_every_architecture_on_the_stock_interface_learns_what_it_learns_in_float32(
    policy: Policy, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = []
    inner = attention._Attention.apply
    monkeypatch.setattr(attention._Attention, "apply", lambda *given: (quick.append(1), inner(*given))[1])
    gradients = {}
    for precision in ("float32", "bfloat16"):
        own = Policy(copy.deepcopy(policy.model), policy.tokenizer, precision=precision)  # type: ignore[arg-type]
        own.token_logprobs(*batch)[0].sum().backward()
        gradients[precision] = torch.cat([p.grad.flatten() for p in own.model.parameters() if p.grad is not None])
        assert bool(quick) == (precision == "bfloat16" and policy.model.config._attn_implementation == NAME)
    cosine = torch.cosine_similarity(gradients["float32"], gradients["bfloat16"], dim=0)
    assert float(cosine) > 0.995


def test_most_architectures_are_on_the_stock_interface(made: Any) -> None:
    for name in ("llama", "qwen3", "mistral", "gpt2", "phi"):
        assert made(name).model.config._attn_implementation == NAME
        assert "heedful" not in made(name).model.config.to_json_string()


class Layer(torch.nn.Module):
    is_causal = True


@pytest.mark.parametrize(
    "case",
    ["no gradient", "float32", "dropout", "a bias", "long", "one query", "a mask of floats", "as it is made for"],
)
def test_what_it_is_not_made_for_goes_to_the_stock_function(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = []
    inner = attention.sdpa_attention_forward
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: (stock.append(1), inner(*a, **k))[1])
    monkeypatch.setattr(attention, "LONGEST", 8)
    monkeypatch.setattr(attention, "KEPT", 5)
    dtype = torch.float32 if case == "float32" else torch.bfloat16
    length, keys = {"long": (9, 9), "one query": (1, 6)}.get(case, (6, 6))
    query, key, value = drawn(2, length, length, dtype), drawn(2, 6, keys, dtype), drawn(2, 6, keys, dtype)
    mask = torch.zeros(1, 1, 6, 6, dtype=dtype) if case == "a mask of floats" else None
    more = {"position_bias": torch.zeros(1, 2, 6, 6, dtype=dtype)} if case == "a bias" else {}
    with torch.set_grad_enabled(case != "no gradient"):
        found, _ = attend(Layer(), query, key, value, mask, 0.1 if case == "dropout" else 0.0, **more)
    assert found.shape == (2, length, 2, 4)
    assert bool(stock) == (case != "as it is made for")


@pytest.mark.parametrize("kept", [5, 6])
def test_scoring_rounds_as_training_does(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a policy would differ from a copy of itself, its reference, before it learns anything."""
    monkeypatch.setattr(attention, "KEPT", kept)
    given = [drawn(2, 6 + k, 6, torch.bfloat16) for k in range(3)]
    trained, _ = attend(Layer(), *given, None)
    with torch.no_grad():
        scored, _ = attend(Layer(), *given, None)
    assert trained.requires_grad
    assert torch.equal(trained, scored)


@pytest.mark.parametrize("groups", [6, 3, 1])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [7, 33])
def test_a_sampled_token_finds_what_the_stock_function_finds(
    groups: int, masked: bool, dtype: torch.dtype, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys lie in a larger buffer, as those of a rollout do."""
    layer = Layer()
    layer.num_key_value_groups = 6 // groups  # type: ignore[assignment]
    query = drawn(6, 1, 1, torch.float32).detach()
    key, value = (drawn(groups, 50, 50, torch.float32).detach()[:, :, :keys] * scale for scale in (1.0, 2.0))
    seen = left_padded(1, keys) if masked else None
    truth, _ = attention.sdpa_attention_forward(layer, query, key, value, seen, scaling=0.4)
    stock = dtype == torch.float32 and groups == 6
    if not stock:
        monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: pytest.fail("by the stock function"))
    query, key, value = (states.to(dtype) for states in (query, key, value))
    with torch.no_grad():
        found, _ = attend(layer, query, key, value, seen, scaling=0.4)
    assert found.dtype == dtype
    assert found.shape == truth.shape
    exact = dtype == torch.float32
    torch.testing.assert_close(found.float(), truth, atol=1e-5 if exact else 0.03, rtol=0)
    assert torch.equal(found, truth) or not stock


def test_a_sampled_token_that_sees_nothing_gives_no_nan() -> None:
    query, key = drawn(2, 1, 1, torch.float32), drawn(2, 1, 5, torch.float32)
    with torch.no_grad():
        found, _ = attend(Layer(), query, key, key, torch.zeros(2, 1, 1, 5, dtype=torch.bool))
    assert bool(found.isfinite().all())


@pytest.mark.parametrize(("length", "keys"), [(1, 7), (6, 6)])
@pytest.mark.parametrize("floats", [False, True])
def test_shared_keys_are_read_where_they_lie(
    length: int, keys: int, floats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer()
    layer.num_key_value_groups = 3  # type: ignore[assignment]
    query, key, value = (drawn(heads, n, n, torch.float32) for heads, n in ((6, length), (2, keys), (2, keys)))
    seen = left_padded(length, keys)
    seen[0, :, :2, 2] = True  # everybody sees something
    mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf) if floats else seen
    with torch.no_grad():
        stock, _ = attention.sdpa_attention_forward(layer, query, key, value, mask, scaling=0.4)
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: pytest.fail("copied for each head"))
    with torch.no_grad():
        found, _ = attend(layer, query, key, value, mask, scaling=0.4)
    assert torch.allclose(found, stock, atol=1e-6)
    assert found.is_contiguous()


def test_shared_keys_that_learn_go_to_the_stock_function(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = []
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: (stock.append(1), (None, None))[1])
    attend(Layer(), drawn(4, 6, 6, torch.float32), *(drawn(2, 6, 6, torch.float32) for _ in "kv"), left_padded(6, 6))
    assert stock
