from __future__ import annotations

import pytest
import torch

from heedful.models.alignment import hidden_states, masked_positions, place, previous


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
