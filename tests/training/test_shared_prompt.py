"""A prompt that both answers share gives what separate rows give, on every architecture that it is used for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from architectures import WORDS, tiny_architectures, tiny_tokenizer
from heedful.data.records import Labelled, Message, Preference
from heedful.models import alignment
from heedful.models.policy import Policy, new_policy
from heedful.training import answer_logprobs, shared_prompt
from heedful.training.answer_logprobs import known_logprobs, side_logprobs, weighed_logprobs
from heedful.training.batching import Example
from heedful.training.pairs import Pair, make_labelled, make_pairs
from heedful.training.shared_prompt import can_share, is_exact, pays, saves

# Prompts beyond the sliding windows of 6, and answers that reach back over them.
LENGTHS = ((12, 2, 5), (15, 4, 1), (9, 1, 1))


def policy_of(architecture: str) -> Policy:
    return new_policy(tiny_architectures()[architecture], tiny_tokenizer(), seed=1)


def pairs_of(lengths: tuple[tuple[int, int, int], ...] = LENGTHS) -> list[Pair]:
    def words(count: int, start: int) -> str:
        return " ".join(WORDS[(start + 3 * i) % len(WORDS)] for i in range(count))

    records = [
        Preference((Message("user", words(p, i)),), words(a, i + 1), words(b, i + 2))
        for i, (p, a, b) in enumerate(lengths)
    ]
    return make_pairs(records, tiny_tokenizer(), "soft", 128)


def gradients(policy: Policy, pairs: list[Pair], share: bool) -> tuple[torch.Tensor, torch.Tensor]:
    policy.model.zero_grad()
    logprobs = side_logprobs(policy, pairs, share=share)
    (logprobs * torch.tensor([[1.0], [-2.0]])).sum().backward()
    flat = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
    return logprobs.detach(), torch.cat(flat)


@pytest.mark.parametrize("way", ["going on", "going on through a cache", "one row"])
@pytest.mark.parametrize("architecture", sorted(tiny_architectures()))
def test_it_equals_separate_rows(architecture: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(architecture)
    pairs = pairs_of()
    monkeypatch.setattr(shared_prompt, "LONG", 0.0)
    monkeypatch.setattr(shared_prompt, "ENOUGH", 1.0)
    monkeypatch.setattr(shared_prompt, "SAVES", 1.0)
    if way == "going on through a cache":
        monkeypatch.setattr(alignment, "lays", lambda inner: False)
    if way == "one row":
        monkeypatch.setattr(policy, "continues", lambda: False)
        assert is_exact(policy, pairs, 1000)
    goes_on = policy.continues()  # not with a window, or a state of its own
    taken: list[str] = []
    for name in ("continued_hidden", "shared_hidden"):
        real = getattr(answer_logprobs, name)
        noted = lambda *given, name=name, real=real: (taken.append(name), real(*given))[1]  # noqa: E731
        monkeypatch.setattr(answer_logprobs, name, noted)
    assert can_share(policy, pairs, 1000, later=False)
    apart, together = gradients(policy, pairs, False), gradients(policy, pairs, True)
    assert torch.allclose(together[0], apart[0], atol=1e-4)
    assert torch.allclose(together[1], apart[1], atol=1e-4 * float(apart[1].abs().max()), rtol=1e-3)
    with torch.no_grad():
        weights = [weighed_logprobs(policy, pairs, share=share)[1] for share in (False, True)]
    assert torch.allclose(weights[0], weights[1], rtol=1e-3)
    assert set(taken) == {"continued_hidden" if goes_on else "shared_hidden"}
    known = [known_logprobs(policy, pairs, 1000, share=share) for share in (False, True)]
    assert torch.allclose(known[0], known[1], atol=1e-4)


def test_one_row_is_read_for_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llama")
    shapes: list[tuple[int, ...]] = []
    whole = policy.model.base_model.forward

    def watched(*arguments: Any, **more: Any) -> Any:
        shapes.append(tuple(more["input_ids"].shape))
        return whole(*arguments, **more)

    monkeypatch.setattr(policy.model.base_model, "forward", watched)
    pairs = pairs_of(((40, 3, 2), (38, 1, 4)))
    assert policy.continues()
    assert policy.lays()
    shapes.clear()  # of the trials
    side_logprobs(policy, pairs, share=True)
    prompts, answers = (
        sum(p.a.mask.index(True) for p in pairs),
        sum(sum(a.mask) - 1 for p in pairs for a in p.answers),
    )
    assert shapes == [(1, prompts + answers + 1)]  # and a filler; nothing is asked of a last token
    shapes.clear()
    monkeypatch.setattr(policy, "continues", lambda: False)
    side_logprobs(policy, pairs, share=True)
    side_logprobs(policy, pairs, share=False)
    longest = max(pair.longest for pair in pairs)
    assert shapes == [(2, max(len(p.a.tokens) + sum(p.b.mask) for p in pairs)), (4, longest)]


def test_rounding_to_bfloat16_is_no_reason_to_keep_rows_apart() -> None:
    """It is off by more than the tolerance there, as separate rows in another batch are."""
    policy = policy_of("mistral")
    policy.precision = "bfloat16"
    assert is_exact(policy, pairs_of(((60, 9, 2),)), 1000)
    assert policy.precision == "bfloat16"


def test_where_it_pays() -> None:
    long, short = pairs_of(((40, 3, 2),)), pairs_of(((4, 8, 8),))
    assert pays(long)
    assert not pays(short)
    assert pays(pairs_of(((21, 11, 11),)))  # with the template's 4 and an end of turn: 25 to 12
    assert not pays(pairs_of(((19, 11, 11),)))  # 23 to 12
    assert not pays([*long, *pairs_of(((2, 40, 40),))])
    other = replace(long[0], b=Example([*long[0].b.tokens[:5], 9, *long[0].b.tokens[6:]], long[0].b.mask))
    assert not pays([other])  # the answers stand behind different prompts
    single = make_labelled([Labelled((Message("user", "a b"),), "c", True)], tiny_tokenizer(), 64)
    assert not pays(single)


def test_where_going_on_pays() -> None:
    policy = policy_of("llama")
    alike, short = pairs_of(((12, 12, 12),)), pairs_of(((1, 40, 40),))
    assert saves(policy, alike)
    assert not saves(policy, short)  # 5 of 92 tokens
    assert not pays(alike)  # in one row
    assert not saves(policy, make_labelled([Labelled((Message("user", "a b"),), "c", True)], tiny_tokenizer(), 64))
    table = policy_of("gpt2")  # of 128 positions
    assert saves(table, pairs_of(((60, 8, 8),)))
    assert not saves(table, [*pairs_of(((90, 4, 4),)), *pairs_of(((4, 60, 60),))])


def test_what_comes_later_decides_how_it_is_shared() -> None:
    """Compiled layers and recomputed activations go with no answers that go on."""
    alike, long = pairs_of(((12, 12, 12),)), pairs_of(((40, 3, 2),))
    policy = policy_of("llama")
    assert can_share(policy, alike, 1000, later=False)
    assert not can_share(policy, alike, 1000, later=True)
    assert can_share(policy, long, 1000, later=True)
    policy.compiles = True
    assert not can_share(policy, alike, 1000, later=False)


def test_an_architecture_that_it_is_wrong_for_keeps_its_separate_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llama")
    pairs = pairs_of(((40, 3, 2),))
    assert is_exact(policy, pairs, 1000)
    assert is_exact(policy, pairs, 50)  # none fits, and a pass takes one all the same
    assert not is_exact(policy, pairs_of(((4, 8, 8),)), 1000)  # none is worth it: nothing to try it on
    whole = policy.model.base_model.forward

    def deaf(*arguments: Any, **more: Any) -> Any:
        more["attention_mask"] = None  # as an architecture that takes no mask of ours
        return whole(*arguments, **more)

    monkeypatch.setattr(policy.model.base_model, "forward", deaf)
    assert not is_exact(policy, pairs, 1000)

    def refuses(*arguments: Any, **more: Any) -> Any:
        if more.get("attention_mask") is not None:
            raise ValueError("no such mask")
        return whole(*arguments, **more)

    monkeypatch.setattr(policy.model.base_model, "forward", refuses)
    assert not is_exact(policy, pairs, 1000)
