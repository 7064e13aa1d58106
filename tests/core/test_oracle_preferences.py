"""Preference losses against TRL 1.12, from logits to gradients, in float64: make oracle.

Where TRL computes something else on purpose, the test says what: docs/losses.md lists the differences.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.core import pair_losses
from heedful.core.answer_losses import bco, kto, sft
from heedful.core.answers import Anchored, Answers
from heedful.core.logprob import linear_collision, linear_logprob
from heedful.core.pair_losses import cpo, orpo, simpo
from trl_oracle import Oracle, close, draw, needs_oracle

pytestmark = needs_oracle

PAIRS, LENGTH, VOCABULARY = 3, 7, 5


def made() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of policy and reference [2N, T, V], tokens and masks [2N, T]: unequal lengths, one answer of one token."""
    logits, reference = (draw(2 * PAIRS, LENGTH, VOCABULARY, seed=s) for s in (20, 21))
    logits[0] *= 40  # a policy that is nearly certain
    tokens = torch.randint(VOCABULARY, (2 * PAIRS, LENGTH), generator=torch.Generator().manual_seed(22))
    prompt, ends = torch.tensor([1, 2, 3, 1, 2, 3]), torch.tensor([7, 4, 5, 3, 3, 6])
    place = torch.arange(LENGTH)
    return logits.requires_grad_(), reference, tokens, (place >= prompt[:, None]) & (place < ends[:, None])


def summed(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """[2N] log-probabilities through heedful's own head, whose weight is the identity."""
    flat = mask[:, 1:]
    identity = torch.eye(VOCABULARY, dtype=torch.float64)
    logprobs, _ = linear_logprob(logits[:, :-1][flat], identity, tokens[:, 1:][flat])
    return torch.zeros(flat.shape, dtype=torch.float64).masked_scatter(flat, logprobs).sum(1)


def anchored() -> tuple[Anchored, Anchored, dict[str, Tensor]]:
    logits, reference, tokens, mask = made()
    policy, base, length = summed(logits, tokens, mask), summed(reference, tokens, mask), mask.sum(1)
    a, b = (Anchored(*parts) for parts in zip(*(x.chunk(2) for x in (policy, length, base)), strict=True))
    return a, b, {"logits": logits, "reference_logits": reference, "tokens": tokens, "mask": mask}


@pytest.mark.parametrize(
    ("theirs", "ours", "settings"),
    [
        ("sigmoid", "sigmoid", {"beta": 0.3}),
        ("hinge", "hinge", {"beta": 0.3}),
        ("ipo", "ipo_mean", {"beta": 0.2}),
        ("exo_pair", "exo", {"beta": 0.3, "epsilon": 0.02}),
        ("nca_pair", "nca", {"beta": 0.3}),
        ("robust", "robust", {"beta": 0.3, "epsilon": 0.2}),
        ("sppo_hard", "sppo_hard", {"beta": 0.3}),
        ("aot", "aot", {"beta": 0.3}),
        ("aot_unpaired", "aot_unpaired", {"beta": 0.3}),
        ("apo_zero", "apo_zero", {"beta": 0.3}),
        ("apo_down", "apo_down", {"beta": 0.3}),
        ("discopop", "discopop", {"beta": 0.1}),
        ("sigmoid_norm", "dpo_norm", {"beta": 2.0}),
    ],
)
def test_pair_losses(theirs: str, ours: str, settings: dict[str, float], ask: Oracle) -> None:
    a, b, given = anchored()
    more: dict[str, Any] = {"probability": torch.ones(PAIRS, dtype=torch.float64)} if ours == "exo" else {}
    loss = getattr(pair_losses, ours)(a, b, **settings, **more).mean()
    loss.backward()
    found = ask(
        "dpo", **given, loss=theirs, epsilon=settings.get("epsilon", 0.0), beta=settings["beta"], weighting=False
    )
    assert close(loss, found["loss"])
    assert close(given["logits"].grad, found["gradient"])


@pytest.mark.parametrize(
    ("theirs", "ours", "settings"),
    [
        ("sigmoid", "sigmoid", {"beta": 0.3}),
        ("ipo", "ipo_mean", {"beta": 0.2}),
        ("apo_down", "apo_down", {"beta": 0.3}),
        ("sigmoid_norm", "dpo_norm", {"beta": 2.0}),
    ],
)
def test_one_pair_cut_off_against_an_empty_answer_padded_with_the_end_of_turn(
    theirs: str, ours: str, settings: dict[str, float], ask: Oracle
) -> None:
    """A batch of one: `a` fills the window and never ends, `b` is nothing but its end of turn, which is the pad too."""
    end = 0
    logits, reference = draw(2, LENGTH, VOCABULARY, seed=70).requires_grad_(), draw(2, LENGTH, VOCABULARY, seed=71)
    tokens = torch.tensor([[2, 3, 1, 4, 2, 3, 1], [2, 3, end, end, end, end, end]])
    mask = torch.tensor([[False, False] + [True] * 5, [False, False, True] + [False] * 4])
    policy, base = summed(logits, tokens, mask), summed(reference, tokens, mask)
    a, b = (Anchored(*parts) for parts in zip(*(x.chunk(2) for x in (policy, mask.sum(1), base)), strict=True))
    loss = getattr(pair_losses, ours)(a, b, **settings).mean()
    loss.backward()
    given = {"logits": logits, "reference_logits": reference, "tokens": tokens, "mask": mask}
    found = ask("dpo", **given, loss=theirs, epsilon=0.0, beta=settings["beta"], weighting=False)
    assert close(loss, found["loss"])
    assert close(logits.grad, found["gradient"])


def test_wpo_weighs_a_pair_as_trl_does(ask: Oracle) -> None:
    """As the trainer has it: exp of the mean over tokens of log pi(y_t) - log sum_v pi(v)^2, of both answers."""
    a, b, given = anchored()
    logits, tokens, mask = given["logits"], given["tokens"], given["mask"]
    flat = mask[:, 1:]
    identity, states = torch.eye(VOCABULARY, dtype=torch.float64), logits.detach()[:, :-1][flat]
    taken, _ = linear_logprob(states, identity, tokens[:, 1:][flat])
    above = torch.zeros(flat.shape, dtype=torch.float64).masked_scatter(
        flat, taken - linear_collision(states, identity)
    )
    weight = (above.sum(1) / flat.sum(1)).view(2, -1).sum(0).exp()
    loss = (pair_losses.sigmoid(a, b, beta=0.3) * weight).mean()
    loss.backward()
    found = ask("dpo", **given, loss="sigmoid", epsilon=0.0, beta=0.3, weighting=True)
    assert close(loss, found["loss"])
    assert close(logits.grad, found["gradient"])


def test_bco_of_a_pair_without_a_shift(ask: Oracle) -> None:
    a, b, given = anchored()
    nothing = torch.tensor(0.0)
    loss = (bco(a, True, shift=nothing, beta=0.3) + bco(b, False, shift=nothing, beta=0.3)).mean()
    loss.backward()
    found = ask("dpo", **given, loss="bco_pair", epsilon=0.0, beta=0.3, weighting=False)
    assert close(loss, found["loss"])
    assert close(given["logits"].grad, found["gradient"])


def test_sft_differs_in_how_tokens_are_averaged(ask: Oracle) -> None:
    """TRL averages over the tokens of the batch, heedful over the tokens of an answer and then over answers."""
    a, _, given = anchored()
    found = ask("dpo", **given, loss="sft", epsilon=0.0, beta=0.3, weighting=False)
    assert close((sft(a, True) * a.length).sum() / a.length.sum(), found["loss"])
    assert not close(sft(a, True).mean(), found["loss"])


def test_bco_with_a_shift(ask: Oracle) -> None:
    chosen, rejected, of_chosen, of_rejected = (draw(4, seed=s) for s in (30, 31, 32, 33))
    found = ask(
        "sums",
        loss="bco",
        chosen=chosen,
        rejected=rejected,
        reference_chosen=of_chosen,
        reference_rejected=of_rejected,
        settings={"beta": 0.4},
    )
    good, bad, one = chosen.requires_grad_(), rejected.requires_grad_(), torch.ones(4, dtype=torch.float64)
    # TRL's running mean starts at 0 and this call does not update it
    shift = torch.tensor(0.0, dtype=torch.float64)
    ours = torch.cat(
        [
            bco(Anchored(good, one, of_chosen), True, shift=shift, beta=0.4),
            bco(Anchored(bad, one, of_rejected), False, shift=shift, beta=0.4),
        ]
    )
    ours.sum().backward()
    assert close(ours, found["loss"])
    assert close(good.grad, found["chosen"])
    assert close(bad.grad, found["rejected"])


@pytest.mark.parametrize("loss", ["orpo", "simpo", "cpo"])
def test_losses_without_a_reference(loss: str, ask: Oracle) -> None:
    chosen, rejected = (-draw(4, seed=s).abs() for s in (40, 41))
    settings = {
        "orpo": {"beta": 0.7},
        "simpo": {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.6},
        "cpo": {"loss_type": "sigmoid", "beta": 0.3},
    }[loss]
    found = ask("sums", loss=loss, chosen=chosen, rejected=rejected, settings=settings)
    good, bad, one = chosen.requires_grad_(), rejected.requires_grad_(), torch.ones(4, dtype=torch.float64)
    a, b = Answers(good, one), Answers(bad, one)
    if loss == "orpo":
        ours = orpo(a, b, weight=0.7) + a.mean  # without the likelihood of the preferred answer
    elif loss == "simpo":
        ours = simpo(a, b, beta=2.0, gamma=0.6)
    else:
        ours = cpo(a, b, beta=0.3, alpha=0.0)
    ours.sum().backward()
    exact = {"rtol": 2e-5, "atol": 1e-6} if loss == "orpo" else {"rtol": 1e-9, "atol": 1e-12}  # TRL's ORPO is float32
    for mine, theirs in ((ours, "loss"), (good.grad, "chosen"), (bad.grad, "rejected")):
        assert mine is not None
        assert torch.allclose(mine.detach(), torch.tensor(found[theirs], dtype=torch.float64), **exact)


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_kto(scale: float, ask: Oracle) -> None:
    """Its KL is the mean over mismatched sequences, held at or above zero (`scale` gives either sign)."""
    logits, reference, tokens, mask = made()
    other, other_reference = (draw(2 * PAIRS, LENGTH, VOCABULARY, seed=s) for s in (50, 51))
    good = [True, False, True, True, False, False]
    flipped_tokens, flipped_mask = tokens.flip(0), mask.flip(0)
    kl = (summed(other, flipped_tokens, flipped_mask) - summed(other_reference, flipped_tokens, flipped_mask)).mean()
    if float(kl) * scale < 0:
        other, other_reference, kl = other_reference, other, -kl
    answer = Anchored(summed(logits, tokens, mask), mask.sum(1), summed(reference, tokens, mask))
    settings = {"beta": 0.3, "desirable": 1.5, "undesirable": 0.7}
    label = torch.tensor(good)
    ours = torch.where(label, kto(answer, True, kl=kl, **settings), kto(answer, False, kl=kl, **settings)).mean()
    ours.backward()
    found = ask(
        "kto",
        logits=logits,
        mismatched=other,
        reference=reference,
        reference_mismatched=other_reference,
        tokens=tokens,
        mask=mask,
        good=good,
        **settings,
    )
    assert close(ours, found["loss"])
    assert close(logits.grad, found["gradient"])
