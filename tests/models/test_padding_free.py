"""Rows that are laid end to end give what padded rows give, in every architecture that they are used for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.models import alignment
from heedful.models.alignment import hidden_states, lays
from heedful.models.modes import checkpoint_activations
from heedful.models.padding_free import Rows, Shared
from heedful.models.policy import Policy

LAID = {"llama", "qwen3", "phi", "gpt2", "gpt_neox", "olmo2"}
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def real_of(lengths: list[int], width: int | None = None) -> Tensor:
    return torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """[B, L, H, D] of [B, H, L, D], by the book."""
    if seen is None:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril_()
    share = (query @ key.transpose(2, 3)).masked_fill(~seen, -1e30).softmax(-1)
    return (share @ value).transpose(1, 2)


def drawn(count: int, heads: int = 2, size: int = 3) -> Tensor:
    """[1, H, count, D], zero at the last, a filler."""
    states = torch.randn(1, heads, count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    states[:, :, -1] = 0
    return states


@given(LENGTHS, st.integers(1, 8))
def test_rows_are_parted_and_joined_again(lengths: list[int], multiple: int) -> None:
    real = real_of(lengths)
    rows, tokens = Rows.of(real, multiple), sum(lengths)
    assert rows.count % multiple == 0
    assert tokens < rows.count <= tokens + multiple
    table = torch.arange(real.numel()).view(real.shape)
    laid, positions = rows.laid(table)
    assert laid[0, :tokens].tolist() == table[real].tolist()
    assert positions[0, :tokens].tolist() == [t for length in lengths for t in range(length)]
    assert not laid[0, tokens:].any()
    parted = rows.block.parted(laid[..., None])[..., 0]
    assert torch.equal(parted[real], table[real])
    assert not parted[~real].any()  # a filler's


@given(LENGTHS, st.integers(0, 3))
def test_a_token_attends_to_its_own_row(lengths: list[int], wider: int) -> None:
    rows = Rows.of(real_of(lengths, max(lengths) + wider), 1)
    states = drawn(rows.count)
    found = rows.attend(states, states, states, attend)
    start = 0
    for length in lengths:
        own = states[:, :, start : start + length]
        torch.testing.assert_close(found[:, start : start + length], attend(own, own, own, None))
        start += length
    assert not found[:, start:].any()


PROMPTS, ANSWERS, PARENTS = [4, 2, 3], [2, 1, 3, 2], [0, 1, 0, 2]


def shared() -> Shared:
    return Shared.of(real_of(PROMPTS), real_of(ANSWERS, 4), torch.tensor(PARENTS), 1)


def test_answers_attend_to_their_prompts_and_themselves() -> None:
    laid = shared()
    states = drawn(laid.count)
    found = laid.attend(states, states, states, attend)
    prompts = states.split([*PROMPTS, sum(ANSWERS), 1], dim=2)
    answers = prompts[3].split(ANSWERS, dim=2)
    start = sum(PROMPTS)
    for answer, parent, length in zip(answers, PARENTS, ANSWERS, strict=True):
        row = torch.cat([prompts[parent], answer], dim=2)
        expected = attend(row, row, row, None)[:, -length:]
        torch.testing.assert_close(found[:, start : start + length], expected)
        start += length
    for number, length in enumerate(PROMPTS):
        before = sum(PROMPTS[:number])
        expected = attend(*[prompts[number]] * 3, None)
        torch.testing.assert_close(found[:, before : before + length], expected)
    _, positions = laid.laid(torch.zeros(3, 4).long(), torch.zeros(4, 4).long())
    assert positions[0].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 4, 5, 2, 4, 5, 6, 3, 4, 0]


@pytest.mark.parametrize("laid", [Rows.of(real_of([3, 1, 2]), 4), shared()])
def test_gradients_are_those_of_finite_differences(laid: Rows | Shared) -> None:
    """Of what tokens find; nothing is asked of a filler, so its gradient is zero."""
    states = [drawn(laid.count + k)[:, :, :-1][:, :, k:].contiguous() for k in (0, 1, 2)]
    tokens = laid.count - 1 if isinstance(laid, Shared) else 6
    for one in states:
        one[:, :, tokens:] = 0

    def found(*given: Tensor) -> Tensor:
        filled = [torch.cat([one, one.new_zeros(1, 2, laid.count - tokens, 3)], dim=2) for one in given]
        return laid.attend(*filled, attend)[:, :tokens]  # type: ignore[arg-type]

    inputs = [one[:, :, :tokens].clone().requires_grad_() for one in states]
    assert torch.autograd.gradcheck(found, inputs)


def read(model: Any, batch: Any) -> tuple[Tensor, int]:
    """Hidden states at real tokens, and how many tokens passed the embedding."""
    seen: list[int] = []
    handle = model.get_input_embeddings().register_forward_hook(lambda m, given, out: seen.append(given[0].numel()))
    try:
        states = hidden_states(model, batch[0], batch[1])[batch[1]]
    finally:
        handle.remove()
    return states, sum(seen)


def test_every_architecture_learns_what_it_learns_from_padded_rows(
    policy: Policy, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(policy.model)
    assert lays(model) == (model.config.model_type in LAID)
    tokens = int(batch[1].sum())
    found = []
    for worth, expected in ((alignment.WORTH, tokens + 1 if lays(model) else 42), (0.0, 42)):
        monkeypatch.setattr(alignment, "WORTH", worth)
        states, count = read(model, batch)
        assert count == expected
        model.zero_grad()
        (states * torch.linspace(-1, 1, states.shape[1])).square().sum().backward()
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((states.detach(), flat))
    (laid, gradient), (padded, plain) = found
    torch.testing.assert_close(laid, padded, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, plain, atol=1e-5 * float(plain.abs().max()), rtol=1e-3)


def test_rows_of_like_length_stay_as_they_are(llama: Policy) -> None:
    tokens, full = torch.full((3, 8), 9), real_of([8, 8, 8])
    assert lays(llama.model)
    assert read(llama.model, (tokens, full))[1] == 24
    assert read(llama.model, (tokens, real_of([8, 8, 7])))[1] == 24  # 23 of 24: not worth the copies
    assert read(llama.model, (tokens, real_of([8, 8, 4])))[1] == 21


def test_what_recomputes_or_runs_on_other_attention_reads_padding(llama: Policy) -> None:
    assert lays(llama.model)
    stock = copy.deepcopy(llama.model)
    stock.set_attn_implementation("eager")
    assert not lays(stock)
    checkpoint_activations(llama.model)
    assert not lays(llama.model)


def test_attention_that_scales_by_the_place_in_the_input_reads_padding(llama: Policy) -> None:
    llama.model.config.attn_temperature_tuning = True  # as Llama 4's layers without positions
    assert not lays(llama.model)
    assert not llama.continues()


@pytest.mark.parametrize("fault", ["attends to all", "a mask of its own", "positions"])
def test_an_architecture_that_mixes_rows_is_found_out(fault: str, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(made("gpt2").model)
    forward = model.base_model.forward

    def wrong(*arguments: Any, **more: Any) -> Any:
        if more.get("position_ids") is not None:
            if fault == "positions":
                more["position_ids"] = torch.arange(more["input_ids"].shape[1])[None]
            if fault == "a mask of its own":
                count = more["input_ids"].shape[1]
                more["attention_mask"] = torch.ones(1, 1, count, count, dtype=torch.bool).tril_()
        return forward(*arguments, **more)

    monkeypatch.setattr(model.base_model, "forward", wrong)
    if fault == "attends to all":
        monkeypatch.setattr(Rows, "attend", lambda self, q, k, v, attend: attend(q, k, v, None))
    assert not lays(model)
