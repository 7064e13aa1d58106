"""The trainer of preference losses: micro-batches change nothing, what is measured is measured right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import WORDS, tiny_architectures, tiny_tokenizer
from heedful.core.answers import Anchored
from heedful.core.pair_losses import whole_batch
from heedful.data.records import Labelled, Message, Preference
from heedful.errors import HeedfulError
from heedful.models.adapters import LoRA, attach
from heedful.models.policy import Policy, moving_reference_of, new_policy
from heedful.training.answer_logprobs import known_logprobs, weighed_logprobs
from heedful.training.batching import batch_at
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.optimiser import Optimiser
from heedful.training.pairs import JudgedAnswers, Pair, make_labelled, make_pairs, mismatched, preferred_first
from heedful.training.preference import (
    Objective,
    PreferenceData,
    check_records,
    descend,
    dpo,
    evaluate_dpo,
    measure,
    preference_state,
)
from heedful.training.preference_losses import LOSSES, Mixture, read_loss, read_mixture
from heedful.training.reference import MovingReference
from heedful.training.state import TrainState

WHOLE, CUT = 100_000, 40


def policy_of(seed: int = 1, lora: float | None = None) -> Policy:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed)
    if lora is None:
        return policy
    return Policy(attach(policy.model, LoRA(2, 8.0, dropout=lora), seed=0), policy.tokenizer)


def preferences(count: int = 7) -> list[Preference]:
    shares = (1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 1.0)
    return [
        Preference(
            (Message("user", f"{WORDS[i]} {WORDS[3 * i]}"),),
            " ".join(WORDS[i : i + 1 + i % 4]),
            f"no {WORDS[i + 9]}",
            probability=shares[i % 7],
            margin=float(i),
        )
        for i in range(count)
    ]


def prepared(mixture: Mixture, records: JudgedAnswers) -> PreferenceData:
    """Records with what a loss needs, the reference another model so that nothing starts at zero."""
    reference = policy_of(5)
    moved: JudgedAnswers = mismatched(records, records, 0, 64) if mixture.asks("kl") else ()
    known = [known_logprobs(reference, some, WHOLE) for some in (records, moved)] if mixture.anchored else [None, None]
    return PreferenceData(records, moved, *known)


def settings(**over: Any) -> DPOConfig:
    still = OptimiserConfig(learning_rate=0.0, clip_norm=0.0, warmup=0.0)
    return DPOConfig(model="", data="", out=Path(), **{"batch_size": 7, "optimiser": still, **over})


class Caught(Optimiser):
    """An optimiser that keeps the gradient and moves nothing."""

    def step(self, index: int) -> float:
        self.gradient = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}
        return super().step(index)


def first_step(
    loss: str | Mixture, records: JudgedAnswers, budget: int, *, policy: Policy | None = None, **more: Any
) -> tuple[float, Tensor]:
    """Loss and gradient, flat, of one step over all records."""
    policy = policy or policy_of()
    config = settings(batch_size=len(records))
    mixture = read_mixture(loss) if isinstance(loss, str) else loss
    objective = Objective(mixture, budget, **more)
    modules = {"policy": policy.model}
    caught = Caught(modules, config.optimiser, 1)
    state = TrainState(modules, {"policy": caught}, 0, scalars={"ratio": 0.7, "ratios": 3})
    data = prepared(mixture, records)
    step = next(iter(dpo(state, policy, objective, data, config)))
    return step.metrics["loss"], torch.cat([g.flatten() for _, g in sorted(caught.gradient.items())])


def same(a: tuple[float, Tensor], b: tuple[float, Tensor]) -> bool:
    close = torch.allclose(a[1], b[1], atol=1e-5 * float(b[1].abs().max()), rtol=1e-4)
    return a[0] == pytest.approx(b[0], rel=1e-5) and close


@pytest.mark.parametrize("loss", [*LOSSES, "sigmoid + 0.2*sft", "aot + 0.5*kto + sft"])
def test_micro_batches_change_neither_loss_nor_gradient(loss: str) -> None:
    pairs = make_pairs(preferences(), tiny_tokenizer(), "soft", 64)
    whole = first_step(loss, pairs, WHOLE)
    assert same(first_step(loss, pairs, CUT), whole)
    assert whole[1].abs().max() > 1e-4


@pytest.mark.parametrize("loss", ["kto", "bco", "sft"])
def test_micro_batches_of_single_answers(loss: str) -> None:
    records = [Labelled(p.prompt, text, good) for p in preferences() for text, good in ((p.a, True), (p.b, False))]
    answers = make_labelled(records, tiny_tokenizer(), 64)
    assert same(first_step(loss, answers, CUT), first_step(loss, answers, WHOLE))


def squared(a: Anchored, b: Anchored) -> Tensor:
    return (a.ratio - b.ratio - 1).square()


def test_the_two_passes_of_a_whole_batch_loss_draw_the_same_dropout() -> None:
    def marked(a: Anchored, b: Anchored) -> Tensor:
        return squared(a, b)

    pairs = preferred_first(make_pairs([*preferences(3), *preferences(7)[4:]], tiny_tokenizer(), "soft", 64), "")
    results = []
    for function in (squared, whole_batch(marked)):
        mixture = Mixture(((1.0, read_loss("squared", function)),))
        results.append(first_step(mixture, pairs, CUT, policy=policy_of(lora=0.5)))
    assert same(results[1], results[0])


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "nca", "bco", "simpo", "discopop", "sigmoid + sft"])
def test_two_of_three_votes_equal_two_pairs_and_one_turned_round(loss: str) -> None:
    def made(shares: list[float], turned: list[bool]) -> list[Pair]:
        first = preferences()[2]
        records = []
        for share, turn in zip(shares, turned, strict=True):
            a, b = (first.b, first.a) if turn else (first.a, first.b)
            records.append(replace(first, a=a, b=b, probability=share))
        records.append(preferences()[4])
        return make_pairs(records, tiny_tokenizer(), "soft", 64)

    split = made([2 / 3], [False])
    split = [replace(split[0], weight=3.0), split[1]]
    plain = made([1.0, 1.0, 1.0], [False, False, True])
    assert same(first_step(loss, split, WHOLE), first_step(loss, plain, WHOLE))


def test_weights_are_shares_of_the_batch() -> None:
    pairs = make_pairs(preferences(3), tiny_tokenizer(), "soft", 64)
    weighted = [replace(pair, weight=w) for pair, w in zip(pairs, (1.0, 2.0, 0.5), strict=True)]
    losses, gradients = zip(*(first_step("ipo", [pair], WHOLE) for pair in pairs), strict=True)
    loss, gradient = first_step("ipo", weighted, CUT)
    assert loss == pytest.approx((losses[0] + 2 * losses[1] + 0.5 * losses[2]) / 3.5, rel=1e-5)
    expected = (gradients[0] + 2 * gradients[1] + 0.5 * gradients[2]) / 3.5
    assert torch.allclose(gradient, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)


class TestMeasured:
    def test_partners_answer_another_prompt_and_follow_from_the_seed(self) -> None:
        pairs = make_pairs([*preferences(4), *preferences(4)], tiny_tokenizer(), "soft", 64)
        moved = mismatched(pairs, pairs, 3, 64)
        prompts = [pair.a.tokens[: pair.a.mask.index(True)] for pair in pairs]
        for own, prompt in zip(moved, prompts, strict=True):
            answer = own.answers[0]
            start = answer.mask.index(True)
            assert answer.tokens[:start] == prompt
            others = [p for p, q in zip(pairs, prompts, strict=True) if q != prompt]
            assert answer.tokens[start:] in [p.a.tokens[p.a.mask.index(True) :] for p in others]
            assert all(answer.mask[start:])
        assert moved == mismatched(pairs, pairs, 3, 64)
        assert moved != mismatched(pairs, pairs, 4, 64)

    def test_a_window_cuts_them(self) -> None:
        pairs = make_pairs(preferences(), tiny_tokenizer(), "soft", 64)
        longest = max(len(answer.tokens) for pair in pairs for answer in pair.answers) - 2
        short = [p for p in pairs if p.longest <= longest]
        assert max(len(a.tokens) for p in mismatched(short, pairs, 0, longest) for a in p.answers) <= longest

    def test_one_prompt_alone_has_no_partner(self) -> None:
        records = [replace(record, prompt=preferences()[0].prompt) for record in preferences()]
        pairs = make_pairs(records, tiny_tokenizer(), "soft", 64)
        with pytest.raises(HeedfulError, match="one prompt"):
            mismatched(pairs, pairs, 0, 64)

    def test_the_kl_is_the_mean_over_mismatched_answers(self) -> None:
        policy = policy_of()
        pairs = make_pairs(preferences(), policy.tokenizer, "soft", 64)
        data = prepared(read_mixture("kto"), pairs)
        objective = Objective(read_mixture("kto"), CUT)
        measured = measure(TrainState({}, {}, 0), policy, objective, data, [4, 1], lambda work: work(CUT))
        total = 0.0
        for record in (data.moved[4], data.moved[1]):
            for answer in record.answers:
                for sign, model in ((1, policy), (-1, policy_of(5))):
                    tokens, mask = torch.tensor([answer.tokens]), torch.tensor([answer.mask])
                    with torch.no_grad():
                        logprobs, _ = model.token_logprobs(tokens, torch.ones_like(mask), mask)
                    total += sign * float(logprobs.sum())
        assert measured.kl is not None
        assert float(measured.kl) == pytest.approx(total / 4, abs=1e-4)

    def test_the_shift_is_the_running_mean_of_the_batches_before(self) -> None:
        policy = policy_of()
        pairs = make_pairs(preferences(6), policy.tokenizer, "soft", 64)
        data = prepared(read_mixture("bco"), pairs)
        config = settings(batch_size=2)
        state = preference_state(policy, config.optimiser, 3, 0)
        ratios = known_logprobs(policy, pairs, WHOLE) - data.known
        steps = dpo(state, policy, Objective(read_mixture("bco"), CUT), data, config)
        told = [step.metrics["mean_ratio"] for step in steps]
        batches = [ratios[:, batch_at(i, 6, 2, 1.0, 0)] for i in range(3)]
        assert told[0] == 0.0
        assert told[1] == pytest.approx(float(batches[0].mean()), rel=1e-4)
        assert told[2] == pytest.approx(float(torch.cat(batches[:2], 1).mean()), rel=1e-4)
        assert state.scalars["ratios"] == 12

    def test_wpos_weight_by_hand(self) -> None:
        policy = policy_of()
        pairs = make_pairs(preferences(2), policy.tokenizer, "soft", 64)
        with torch.no_grad():
            logprob, weight = weighed_logprobs(policy, pairs)
        assert torch.allclose(logprob, known_logprobs(policy, pairs, WHOLE), atol=1e-4)
        for number, pair in enumerate(pairs):
            product = 1.0
            for answer in pair.answers:
                with torch.no_grad():
                    logits = policy.model(input_ids=torch.tensor([answer.tokens])).logits[0].double()
                logits[:, list(policy.banned)] = -torch.inf
                share = torch.softmax(logits, -1)
                places = [place for place, asked in enumerate(answer.mask) if asked]
                above = [float((share[p - 1, answer.tokens[p]] / share[p - 1].square().sum()).log()) for p in places]
                product *= float(torch.tensor(above).mean().exp())
            assert float(weight[number]) == pytest.approx(product, rel=1e-4)

    def test_wpo_weighs_losses_and_is_no_part_of_the_gradient(self) -> None:
        pairs = make_pairs(preferences(2), tiny_tokenizer(), "soft", 64)
        with torch.no_grad():
            _, weight = weighed_logprobs(policy_of(), pairs)
        losses, gradients = zip(*(first_step("sigmoid", [pair], WHOLE) for pair in pairs), strict=True)
        loss, gradient = first_step("sigmoid", pairs, CUT, wpo=True)
        assert loss == pytest.approx(float((torch.tensor(losses) * weight).mean()), rel=1e-4)
        expected = (gradients[0] * weight[0] + gradients[1] * weight[1]) / 2
        assert torch.allclose(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


class TestMovingReference:
    @pytest.mark.parametrize("lora", [None, 0.0])
    @pytest.mark.parametrize(("share", "steps"), [(1.0, 2), (0.25, 1)])
    def test_it_moves_when_due_and_by_its_share(self, lora: float | None, share: float, steps: int) -> None:
        policy = policy_of(lora=lora)
        pairs = make_pairs(preferences(6), policy.tokenizer, "soft", 64)
        moving = MovingReference(moving_reference_of(policy), share, steps, CUT)
        objective = Objective(read_mixture("sigmoid"), CUT, moving)
        config = settings(batch_size=2, optimiser=OptimiserConfig(learning_rate=1e-2, warmup=0.0))
        state = preference_state(policy, config.optimiser, 3, 0, moving)
        expected = [p.detach().clone() for p in policy.trainable_parameters()]
        for step in dpo(state, policy, objective, PreferenceData(pairs), config):
            if step.number % steps == 0:
                now = policy.trainable_parameters()
                expected = [share * p.detach() + (1 - share) * q for p, q in zip(now, expected, strict=True)]
            for own, goal in zip(moving.policy.trainable_parameters(), expected, strict=True):
                assert torch.allclose(own, goal, atol=1e-6)
        assert all(p.grad is None for p in moving.policy.trainable_parameters())

    def test_under_adapters_it_shares_the_base(self) -> None:
        policy = policy_of(lora=0.0)
        moving = moving_reference_of(policy)
        mine = {p.data_ptr() for p in policy.model.parameters() if not p.requires_grad}
        theirs = {p.data_ptr() for p in moving.model.parameters() if not p.requires_grad}
        assert mine == theirs
        own = {p.data_ptr() for p in moving.trainable_parameters()}
        assert own.isdisjoint(p.data_ptr() for p in policy.trainable_parameters())

    def test_the_loss_is_against_the_reference_as_it_now_is(self) -> None:
        policy = policy_of()
        pairs = make_pairs(preferences(6), policy.tokenizer, "soft", 64)
        moving = MovingReference(moving_reference_of(policy), 1.0, 1, CUT)
        objective = Objective(read_mixture("sigmoid"), CUT, moving)
        config = settings(batch_size=2, optimiser=OptimiserConfig(learning_rate=1e-2, warmup=0.0))
        state = preference_state(policy, config.optimiser, 3, 0, moving)
        losses = [s.metrics["loss"] for s in dpo(state, policy, objective, PreferenceData(pairs), config)]
        assert losses == pytest.approx([0.6931472] * 3, abs=1e-5)  # it is the policy itself at every step


class TestRefusals:
    def pairs(self, shares: list[float], weights: list[float] | None = None) -> list[Pair]:
        records = [replace(r, probability=p) for r, p in zip(preferences(len(shares)), shares, strict=True)]
        pairs = make_pairs(records, tiny_tokenizer(), "soft", 64)
        return [replace(p, weight=w) for p, w in zip(pairs, weights or [1.0] * len(pairs), strict=True)]

    @pytest.mark.parametrize(
        ("loss", "shares", "weights", "more", "said"),
        [
            ("aot", [1.0, 2 / 3], None, {}, "takes no share of votes.*--labels majority"),
            ("aot", [1.0, 0.0], [1.0, 0.5], {}, "unequal weight"),
            ("aot-unpaired", [1.0, 0.0], None, {"wpo": True}, "weights of single pairs"),
            ("sigmoid + ipo", [1.0, 0.0], None, {"margins": True}, "ipo reads no margin"),
            ("kto", [1.0, 0.0], None, {"margins": True}, "single answers reads no margin"),
        ],
    )
    def test_before_training(
        self, loss: str, shares: list[float], weights: list[float] | None, more: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(HeedfulError, match=said):
            check_records(Objective(read_mixture(loss), CUT, **more), self.pairs(shares, weights))

    def test_what_is_taken(self) -> None:
        check_records(Objective(read_mixture("aot"), CUT), self.pairs([1.0, 0.5, 0.0]))
        check_records(Objective(read_mixture("sigmoid + hinge + sft"), CUT, margins=True), self.pairs([1.0]))

    def test_margins_need_hard_labels_and_turn_pairs_to_the_winner(self) -> None:
        turned = preferred_first(self.pairs([0.0, 1.0]), "use_margin")
        assert [pair.probability for pair in turned] == [1.0, 1.0]
        assert turned[0].a == self.pairs([0.0, 1.0])[0].b
        with pytest.raises(HeedfulError, match="margins and soft labels"):
            preferred_first(self.pairs([0.0, 0.5]), "use_margin")


def test_figures_of_single_answers() -> None:
    policy = policy_of()
    records = [Labelled(p.prompt, text, good) for p in preferences() for text, good in ((p.a, True), (p.b, False))]
    answers = make_labelled(records, policy.tokenizer, 64)
    data = prepared(read_mixture("kto"), answers)
    objective = Objective(read_mixture("kto"), CUT)
    ratio = (known_logprobs(policy, answers, WHOLE) - data.known)[0].tolist()
    found = evaluate_dpo(policy, objective, data, TrainState({}, {}, 0))
    good, bad = ratio[::2], ratio[1::2]
    right = sum((x > y) + 0.5 * (x == y) for x in good for y in bad) / len(good) / len(bad)
    assert found["held_out_accuracy"] == pytest.approx(right)
    assert found["held_out_margin"] == pytest.approx(0.1 * (sum(good) - sum(bad)) / 7, abs=1e-5)


def test_a_held_out_set_of_pairs_has_the_loss_of_training() -> None:
    policy = policy_of()
    pairs = make_pairs(preferences(), policy.tokenizer, "soft", 64)
    unequal = [replace(pair, weight=0.1 + number % 3) for number, pair in enumerate(pairs)]
    for loss, records in (("sigmoid", unequal), ("simpo", unequal), ("kto", pairs), ("aot", pairs)):
        data = prepared(read_mixture(loss), records)
        objective = Objective(read_mixture(loss), CUT)
        found = evaluate_dpo(policy, objective, data, TrainState({}, {}, 0))
        assert found["held_out_loss"] == pytest.approx(first_step(loss, records, WHOLE)[0], rel=1e-4)


def test_a_held_out_loss_is_weighed_as_wpo_weighs_in_training() -> None:
    policy = policy_of()
    pairs = make_pairs(preferences(), policy.tokenizer, "soft", 64)
    mixture = read_mixture("simpo")
    found = evaluate_dpo(policy, Objective(mixture, CUT, wpo=True), PreferenceData(pairs), TrainState({}, {}, 0))
    told = descend(
        TrainState({}, {}, 0), policy, Objective(mixture, WHOLE, wpo=True), PreferenceData(pairs), [*range(7)]
    )
    assert found["held_out_loss"] == pytest.approx(told["loss"], rel=1e-4)
    plain = evaluate_dpo(policy, Objective(mixture, CUT), PreferenceData(pairs), TrainState({}, {}, 0))
    assert plain["held_out_loss"] != pytest.approx(told["loss"], rel=1e-2)
