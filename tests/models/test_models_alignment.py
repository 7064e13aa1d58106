from __future__ import annotations

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.models.alignment import hidden_states, masked_positions, place, previous
from heedful.models.policy import Policy, new_policy


def test_a_masked_token_is_predicted_from_the_state_before_it() -> None:
    hidden = torch.tensor([[[10.0], [11.0], [12.0], [13.0]], [[20.0], [21.0], [22.0], [23.0]]])
    mask = torch.tensor([[False, True, False, True], [False, False, True, False]])
    assert previous(hidden, mask).squeeze(1).tolist() == [10.0, 12.0, 21.0]


def test_values_are_placed_at_their_own_token() -> None:
    mask = torch.tensor([[False, True, False, True], [False, False, True, False]])
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    placed = place(values, mask)
    assert placed.tolist() == [[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]]
    (placed * torch.tensor([[9.0, 5.0, 9.0, 6.0], [9.0, 9.0, 7.0, 9.0]])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [5.0, 6.0, 7.0]


def test_the_first_token_of_a_row_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="first token"):
        masked_positions(torch.tensor([[False, True], [True, False]]))


def test_padding_on_the_left_is_refused(llama) -> None:
    tokens = torch.tensor([[0, 8, 9], [7, 8, 9]])
    with pytest.raises(ValueError, match="padded on the right"):
        hidden_states(llama.model, tokens, tokens != 0)


def test_shapes_must_agree(llama) -> None:
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        hidden_states(llama.model, torch.tensor([[7, 8]]), torch.tensor([[True]]))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_are_not_filled_up_beyond_the_positions_of_a_model(architecture: str) -> None:
    """21 positions are no multiple of eight; GPT-2 has an embedding for each, and none beyond."""
    sizes = tiny_architectures()[architecture]
    limit = "n_positions" if "n_positions" in sizes else "max_position_embeddings"
    exact = new_policy(sizes | {limit: 21}, tiny_tokenizer(), seed=1)
    low = Policy(exact.model, exact.tokenizer, precision="bfloat16")
    tokens = torch.randint(7, 50, (1, 21), generator=torch.Generator().manual_seed(2)).repeat(3, 1)
    tokens[1:, 15:] = torch.tensor([[9, 8, 7, 9, 8, 7], [11, 12, 13, 14, 15, 16]])
    attention = torch.ones_like(tokens, dtype=torch.bool)
    mask = attention.clone()
    mask[:, :15] = False
    with torch.no_grad():
        expected = exact.token_logprobs(tokens, attention, mask)[0]
        whole = low.token_logprobs(tokens, attention, mask)[0]
        grouped = low.grouped_logprobs(tokens, attention, mask, torch.zeros(3, dtype=torch.int64))[0]
    torch.testing.assert_close(whole, expected, atol=0.2, rtol=0)
    torch.testing.assert_close(grouped, expected, atol=0.2, rtol=0)
