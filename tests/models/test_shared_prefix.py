"""Sequences that begin alike: the states at their ends, each beginning read once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message
from heedful.models import alignment, scalar
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import new_policy
from heedful.models.scalar import RewardModel, new_reward_model
from heedful.models.shared_prefix import common_start, common_starts

LONG = (Message("user", "what is the sky and the sun and a cat or a dog and a bird " * 2),)
SHORT = (Message("user", "what is the sky"),)
ANSWERS = ["the sky is blue", "no", "a cat and a dog", "red"]


def judge(name: str = "llama") -> RewardModel:
    return new_reward_model(new_policy(tiny_architectures()[name], tiny_tokenizer(), seed=1), seed=2)


def tokens_read(model: RewardModel, work: object) -> int:
    """Tokens, padding counted, that pass the embedding while `work()` runs."""
    seen: list[int] = []
    layer = model.model.get_input_embeddings()
    handle = layer.register_forward_hook(lambda module, given, out: seen.append(given[0].numel()))
    try:
        work()  # type: ignore[operator]
    finally:
        handle.remove()
    return sum(seen)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=5))
def test_what_sequences_begin_with_leaves_each_a_token(sequences: list[list[int]]) -> None:
    start = common_start(sequences)
    assert len({tuple(one[:start]) for one in sequences}) == 1
    assert min(map(len, sequences)) > start
    longer = {tuple(one[: start + 1]) for one in sequences}
    assert len(longer) > 1 or start + 1 == min(map(len, sequences))


def test_starts_are_of_each_group() -> None:
    assert common_starts([[1, 2, 3], [1, 2, 4], [1, 5], [7, 7]], ["a", "a", "a", "b"]) == [1, 1, 1, 1]
    assert common_starts([[1, 2, 3], [4, 4, 1], [1, 2, 4]], [0, 1, 0]) == [2, 2, 2]


@pytest.mark.parametrize("laid", [True, False])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "phi"])
def test_end_states_and_gradients_are_those_of_whole_sequences(
    name: str, laid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not laid:  # as on a GPU: through a cache
        monkeypatch.setattr(alignment, "lays", lambda inner: False)
    model = judge(name)
    assert model.continues()
    sequences = [model.render(prompt, answer) for prompt in (LONG, SHORT) for answer in ANSWERS]
    groups = [0] * 4 + [1] * 4
    width = max(map(len, sequences))
    tokens = torch.tensor([one + [0] * (width - len(one)) for one in sequences])
    attention = torch.arange(width) < torch.tensor([[len(one)] for one in sequences])
    weights = list(model.model.base_model.parameters())
    whole = model.last_states(tokens, attention)
    expected = torch.autograd.grad(whole.square().sum(), weights, allow_unused=True)
    states = model.end_states(sequences, common_starts(sequences, groups), groups)
    torch.testing.assert_close(states, whole, atol=1e-5, rtol=1e-4)
    found = torch.autograd.grad(states.square().sum(), weights, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def scored(
    model: RewardModel, share: float, prompts: Sequence[tuple[Message, ...]], answers: Sequence[str] = ()
) -> tuple[torch.Tensor, int]:
    answers = answers or ANSWERS * (len(prompts) // 4)
    found: list[torch.Tensor] = []
    model.continues()  # its trial reads tokens too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalar, "ENOUGH", share)
        read = tokens_read(model, lambda: found.append(model(prompts, answers)))
    return found[0], read


def test_scores_of_one_prompts_answers_read_it_once() -> None:
    model = judge()
    prompts = [LONG] * 4 + [SHORT] * 4
    apart, all_tokens = scored(model, 0.0, prompts)
    shared, few = scored(model, scalar.ENOUGH, prompts)
    torch.testing.assert_close(shared, apart, atol=1e-5, rtol=0)
    assert few < 0.6 * all_tokens


def test_sequences_that_share_little_are_read_whole() -> None:
    model = judge()
    prompts = [(Message("user", ""),)] * 2 + [(Message("user", "no"),)] * 2
    answers = ["a cat and a dog and a bird or the sun can do it very well thank you " * 2, "the sky is blue " * 7] * 2
    (_, read), (_, plain), (_, shared) = (scored(model, share, prompts, answers) for share in (scalar.ENOUGH, 0.0, 9.0))
    assert read == plain != shared


def test_a_model_that_cannot_go_on_from_a_prompt_reads_it_for_each_answer() -> None:
    model = judge("mistral")  # its window is shorter than the prompt
    assert not model.continues()
    apart, all_tokens = scored(model, 0.0, [LONG] * 4)
    same, read = scored(model, scalar.ENOUGH, [LONG] * 4)
    assert torch.equal(apart, same)
    assert read == all_tokens


def test_recomputed_activations_end_the_sharing_whenever_they_begin() -> None:
    model = judge()
    assert model.continues()
    checkpoint_activations(model.model)
    assert not model.continues()


def test_a_long_prompt_and_a_long_answer_stay_apart_where_the_context_ends() -> None:
    model = judge("gpt2")  # a table of 128 positions
    prompts = [(Message("user", "what is the sky and " * 20),)] * 2 + [(Message("user", "a cat or a dog " * 4),)] * 2
    answers = ["no", "red", "the sky is blue " * 24, "the sun can do it " * 18]
    longest = [max(len(model.render(p, a)) for p, a in zip(prompts, answers, strict=True))]
    assert 100 < longest[0] <= 128
    apart, all_tokens = scored(model, 0.0, prompts, answers)
    shared, few = scored(model, 9.0, prompts, answers)
    assert few < all_tokens
    torch.testing.assert_close(shared, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["dynamic", "default"])
def test_positions_that_turn_by_length_are_read_whole(kind: str) -> None:
    architecture = tiny_architectures()["llama"]
    rope = {"rope_type": kind, "factor": 2.0, "rope_theta": 10_000.0}
    policy = new_policy(architecture | {"rope_parameters": rope}, tiny_tokenizer(), seed=1)
    assert policy.continues() == (kind == "default")


def test_what_is_copied_for_answers_is_not_kept() -> None:
    model = judge().model.base_model
    layers: list[object] = []
    update = alignment._Continued.update

    def watched(self: alignment._Continued, *given: object, **more: object) -> object:
        layers.append(self)
        return update(self, *given, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(alignment._Continued, "update", watched)
        patch.setattr(alignment, "lays", lambda inner: False)
        prompt, answers = torch.tensor([[5, 6, 7, 8]]), torch.full((9, 3), 4)
        real, told = (torch.ones_like(tokens, dtype=torch.bool) for tokens in (prompt, answers))
        alignment.continued_hidden_states(model, prompt, real, answers, told, torch.zeros(9).long())
    assert len(layers) == 2
    assert {tuple(layer.keys.shape[::2]) for layer in layers} == {(1, 4)}  # type: ignore[attr-defined]
