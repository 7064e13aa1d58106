"""Learning from preferences without a reward model: one trainer for every loss of `preference_losses`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.modes import evaluating, random_devices
from heedful.models.policy import Policy
from heedful.training.answer_logprobs import (
    chosen,
    empty_table,
    known_logprobs,
    lengths,
    side_logprobs,
    weighed_logprobs,
)
from heedful.training.batching import batch_at, total_steps
from heedful.training.config.common import MemoryConfig, OptimiserConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.optimiser import learning_rate
from heedful.training.pairs import JudgedAnswers, pair_micro_batches
from heedful.training.preference_figures import Seen, figures, join
from heedful.training.preference_losses import Judged, Measured, Mixture
from heedful.training.reference import MovingReference
from heedful.training.sft import sft_state
from heedful.training.state import Step, TrainState
from heedful.training.workers import by_place, current

T = TypeVar("T")


@dataclass(frozen=True)
class PreferenceData:
    """Records of one kind with what is known of them before training.

    Args:
        records: pairs, or single answers with labels.
        moved: each record's prompt behind which another's answers stand; empty where no loss asks for `kl`.
        known: [S, records] float32, log-probabilities under a fixed reference; None where none is needed, or it moves.
        known_moved: the same of `moved`.
    """

    records: JudgedAnswers
    moved: JudgedAnswers = ()
    known: Tensor | None = None
    known_moved: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """What is minimised, and against which reference.

    Args:
        mixture: the loss.
        budget: most tokens in one forward and backward pass.
        moving: the reference where it moves.
        margins: the loss is asked for the stated margins; every pair has its preferred answer first.
        wpo: weigh records by how likely their answers are under the policy.
        share: read the prompt of a pair once, where that pays.
        temperature: of the policy and of its reference.
    """

    mixture: Mixture
    budget: int
    moving: MovingReference | None = None
    margins: bool = False
    wpo: bool = False
    share: bool = False
    temperature: float = 1.0

    def at(self, budget: int) -> Objective:
        """The same, read so many tokens at a time."""
        moving = None if self.moving is None else replace(self.moving, budget=budget)
        return replace(self, budget=budget, moving=moving)

    def logprobs(self, policy: Policy, records: JudgedAnswers) -> Tensor:
        """[S, N] summed log-probabilities of the answers of some records; differentiable."""
        return side_logprobs(policy, records, share=self.share, temperature=self.temperature)

    def judged(self, data: PreferenceData, numbers: list[int], logprob: Tensor) -> Judged:
        """Some records as the loss sees them, from their log-probabilities [S, N] under the policy."""
        records = chosen(data.records, numbers)
        device = logprob.device
        reference = None
        if self.mixture.anchored:
            reference = self._reference(data.records, data.known, numbers).to(device)
        probability = torch.tensor([record.probability for record in records], device=device)
        margin = torch.tensor([getattr(record, "margin", 0.0) for record in records], device=device)
        return Judged(logprob, lengths(records).to(device), reference, probability, margin if self.margins else None)

    def drift(self, data: PreferenceData, numbers: list[int], policy: Policy) -> Tensor:
        """[S, n] on the CPU, without gradient: log pi/ref of some records' answers behind other prompts."""
        some, spare = chosen(data.moved, numbers), data.moved[:1]
        moved = known_logprobs(policy, some, self.budget, self.temperature, share=self.share, spare=spare)
        return moved - self._reference(data.moved, data.known_moved, numbers)

    def _reference(self, records: JudgedAnswers, known: Tensor | None, numbers: list[int]) -> Tensor:
        if self.moving is not None:
            return self.moving.logprobs(chosen(records, numbers))
        assert known is not None
        return known[:, numbers]


def check_records(objective: Objective, records: JudgedAnswers) -> None:
    """Refuse, before training, records and settings that a loss can make nothing of.

    Raises:
        HeedfulError: margins that no loss on pairs reads; a loss of the whole batch with soft labels, unequal weights
            or WPO.
    """
    paired = [loss for _, loss in objective.mixture.terms if loss.paired]
    deaf = [loss.name for loss in paired if "margin" not in loss.asks]
    if objective.margins and (deaf or not paired):
        what = f"{deaf[0]} reads no margin" if deaf else "a loss on single answers reads no margin"
        raise HeedfulError(f"{what}.", where="use_margin", mend="Leave use_margin out, or choose another --loss.")
    if not objective.mixture.whole_batch:
        return
    name = next(loss.name for loss in paired if loss.whole_batch)
    if objective.wpo:
        what, mend = "does not go with weights of single pairs", "Leave --weighting out"
    elif any(record.probability not in (0.0, 0.5, 1.0) for record in records):
        what, mend = "takes no share of votes", "Give --labels majority"
    elif len({record.weight for record in records}) > 1:
        what, mend = "takes no pairs of unequal weight, as of rankings of unequal length", "Give pairs of one weight"
    else:
        return
    raise HeedfulError(
        f"{name} compares the sorted answers of a whole batch, and {what}.",
        where="loss",
        mend=f"{mend}, or choose another --loss.",
    )


def preference_state(
    policy: Policy, optimiser: OptimiserConfig, total: int, seed: int, moving: MovingReference | None = None
) -> TrainState:
    """The state of a run: the policy, and the weights of a reference that moves."""
    state = sft_state(policy, optimiser, total, seed)
    if moving is not None:
        state.modules["reference"] = moving.policy.model
    return state


def dpo(
    state: TrainState, policy: Policy, objective: Objective, data: PreferenceData, config: DPOConfig
) -> Iterator[Step]:
    """Minimise the weighted mean of a preference loss; yields after every optimiser step."""
    total = total_steps(len(data.records), config.batch_size, config.epochs)
    policy.model.train()
    while state.step < total:
        state.begin_step()
        numbers = batch_at(state.step, len(data.records), config.batch_size, config.epochs, state.seed)
        told = gather(state, policy, objective, data, numbers, config.memory)
        told["gradient_norm"] = state.optimisers["policy"].step(state.step)
        told["learning_rate"] = learning_rate(state.step, total, config.optimiser)
        state.step += 1
        if objective.moving is not None and objective.moving.follow(policy, state.step):
            forget_ratio(state)
        yield Step(state.step, told)


Attempt: TypeAlias = Callable[[Callable[[int], T]], T]
"""Does some work that is given the most tokens to read at a time, again with fewer where memory runs out."""


def gather(
    state: TrainState,
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    memory: MemoryConfig,
    watch: Callable[[list[int], Tensor], None] | None = None,
) -> dict[str, float]:
    """`descend`, in micro-batches that the device has memory for."""
    longest = max(sizes_of(chosen(data.records, numbers)))
    return descend(state, policy, objective, data, numbers, watch, partial(state.within_memory, memory, longest))


def descend(
    state: TrainState,
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    watch: Callable[[list[int], Tensor], None] | None = None,
    attempt: Attempt[Any] | None = None,
) -> dict[str, float]:
    """Add the gradient of the loss of one optimiser step, over some records by number; returns its figures.

    The weighted mean runs over all of them, however they are cut into micro-batches. A loss that must see them all at
    once is taken in two passes: its gradient by every log-probability, then micro-batches that carry it on. Of several
    workers each adds the gradient of its share; the figures are of all.

    Args:
        watch: is shown the log-probabilities [S, n] of n of this worker's records at a time, without gradient.
        attempt: what sees to memory; None reads `objective.budget` tokens at a time.
    """
    team = current()
    attempt = attempt or (lambda work: work(objective.budget))
    mine = [numbers[place] for place in team.dealt(sizes_of(chosen(data.records, numbers)))]
    measured = measure(state, policy, objective, data, numbers, attempt)
    if objective.mixture.whole_batch and team.count > 1:  # no second try: what comes between is of all workers
        loss, whole = _in_two_passes(policy, objective, data, mine, measured)
        told: list[tuple[float, list[Seen], list[Tensor]]] = [(loss, [whole], [])]
        if watch is not None:
            watch([number for some in team.gathered(mine) for number in some], whole.logprob)
    else:

        def work(tokens: int) -> tuple[float, list[Seen], list[Tensor]]:
            return _add_gradients(policy, objective.at(tokens), data, numbers, mine, measured, watch)

        told = team.gathered(attempt(work))
    everything = join([part for _, seen, _ in told for part in seen])
    _remember(state, objective.mixture, everything)
    loss, shares = sum(one for one, _, _ in told), [share for _, _, some in told for share in some]
    return {"loss": loss, **figures(everything, objective.mixture.beta), **_told(measured, shares)}


def sizes_of(records: JudgedAnswers) -> list[int]:
    """Tokens that each record takes, padding counted."""
    return [len(record.answers) * record.longest for record in records]


def measure(
    state: TrainState,
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    attempt: Attempt[Tensor],
) -> Measured:
    """What the loss asks for beside the answers: measured over the whole batch, without gradient."""
    kl = ratio = None
    if objective.mixture.asks("kl"):
        team = current()
        places = team.dealt(sizes_of(chosen(data.moved, numbers)))
        some = [numbers[place] for place in places]
        own = None
        if some or policy.sharded:
            own = attempt(lambda tokens: objective.at(tokens).drift(data, some, policy))
        kl = by_place(team.gathered((places, own)), len(numbers)).mean().to(policy.device)
    if objective.mixture.asks("shift"):
        ratio = torch.tensor(state.scalars.get("ratio", 0.0), device=policy.device)
    return Measured(kl, ratio)


def _add_gradients(
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    mine: list[int],
    measured: Measured,
    watch: Callable[[list[int], Tensor], None] | None,
) -> tuple[float, list[Seen], list[Tensor]]:
    """Add the gradient of some records' share of the loss; returns that share, what was seen, and WPO's weights.

    Args:
        numbers: of all records of the step.
        mine: of those that this worker reads.
    """
    weights = float(weight_of(chosen(data.records, numbers)).sum())
    weight = weight_of(chosen(data.records, mine))
    groups = pair_micro_batches(chosen(data.records, mine), objective.budget)
    loss, seen, shares = 0.0, [], []
    if objective.mixture.whole_batch and len(groups) > 1:
        loss, whole = _in_two_passes(policy, objective, data, mine, measured)
        if watch is not None:
            watch(mine, whole.logprob)
        return loss, [whole], []
    parts = [[mine[row] for row in rows] for rows in groups]
    counted = dict(zip(mine, weight, strict=True))
    for group, counts in current().in_step(parts, spare=numbers[:1]):
        share = torch.stack([counted.get(number, weight_of([data.records[number]])[0]) for number in group])
        share = share.to(policy.device)
        if objective.wpo:
            logprob, likely = weighed_logprobs(policy, chosen(data.records, group), share=objective.share)
            share = share * likely
        else:
            logprob = objective.logprobs(policy, chosen(data.records, group))
        judged = objective.judged(data, list(group), logprob)
        micro_loss = (objective.mixture(judged, measured) * share).sum() / weights
        (counts * micro_loss).backward()
        if not counts:
            continue
        if watch is not None:
            watch(list(group), logprob.detach())
        if objective.wpo:
            shares.append(likely)
        loss += float(micro_loss.detach())
        seen.append(Seen.of(judged))
    return loss, seen, shares


def _in_two_passes(
    policy: Policy, objective: Objective, data: PreferenceData, mine: list[int], measured: Measured
) -> tuple[float, Seen]:
    """The gradient of a loss of the whole batch, one micro-batch at a time; returns the loss and what was seen.

    Args:
        mine: the records that this worker reads; the loss is of all workers' together.
    """
    team = current()
    records = chosen(data.records, mine)
    groups = pair_micro_batches(records, objective.budget)
    sides = len(data.records[0].answers)
    own = torch.empty(sides, len(records), device=policy.device)
    with torch.random.fork_rng(devices=random_devices(policy.device)), torch.no_grad():
        for rows, counts in team.reading(policy, groups, spare=()):
            found = objective.logprobs(policy, chosen(records, rows) if counts else data.records[:1])
            if counts:
                own[:, rows] = found
    told = team.gathered((mine, own.cpu() if team.count > 1 else own))
    numbers = [number for some, _ in told for number in some]
    logprob = torch.cat([part.to(policy.device) for _, part in told], 1).requires_grad_()
    judged = objective.judged(data, numbers, logprob)
    loss = objective.mixture(judged, measured).mean()  # the weights of the records are equal: `check_records`
    (pull,) = torch.autograd.grad(loss, logprob)
    first = sum(len(some) for some, _ in told[: team.rank])
    pull = pull[:, first : first + len(mine)]
    for part, counts in team.in_step(groups, spare=[]):  # with the dropout of the first pass
        some, slope = (records, pull[:, list(part)]) if counts else (data.records[:1], pull.new_zeros(sides, 1))
        (slope * objective.logprobs(policy, chosen(some, part or [0]))).sum().backward()
    return float(loss.detach()), Seen.of(judged)


def _told(measured: Measured, shares: list[Tensor]) -> dict[str, float]:
    told = {}
    if measured.kl is not None:
        told["mismatched_kl"] = float(measured.kl)
    if measured.ratio is not None:
        told["mean_ratio"] = float(measured.ratio)
    if shares:
        told["wpo_weight"] = float(torch.cat(shares).mean())
    return told


def _remember(state: TrainState, mixture: Mixture, seen: Seen) -> None:
    """Keep the mean log-ratio of all answers so far, where a loss asks for it (BCO's shift)."""
    if mixture.asks("shift"):
        before = state.scalars.get("ratios", 0)
        count = before + seen.value.numel()
        mean = state.scalars.get("ratio", 0.0)
        state.scalars["ratio"] = mean + (float(seen.value.double().sum()) - mean * seen.value.numel()) / count
        state.scalars["ratios"] = count


def forget_ratio(state: TrainState) -> None:
    """Begin the mean log-ratio anew: it was to a reference that is no more."""
    for name in ("ratio", "ratios"):
        state.scalars.pop(name, None)


def evaluate_dpo(policy: Policy, objective: Objective, data: PreferenceData, state: TrainState) -> dict[str, float]:
    """Loss, implicit-reward accuracy and margin on held-out records."""
    if not data.records:
        return {}
    team = current()
    numbers = list(range(len(data.records)))
    mine = team.dealt(sizes_of(data.records))
    measured = measure(state, policy, objective, data, numbers, lambda work: work(objective.budget))
    logprob, weight = _weighed(policy, objective, chosen(data.records, mine), data.records[:1])
    own = objective.judged(data, mine, logprob) if mine else None
    told = team.gathered((own, weight))
    judged = _joined([part for part, _ in told if part is not None])
    weight = torch.cat([part for _, part in told])
    cpu = Measured(*(None if value is None else value.cpu() for value in (measured.kl, measured.ratio)))
    found = figures(Seen.of(judged), objective.mixture.beta)
    told_loss = float((objective.mixture(judged, cpu) * weight).sum() / weight_of(data.records).sum())
    return {"held_out_loss": told_loss} | {f"held_out_{n}": found[n] for n in ("accuracy", "margin") if n in found}


def _joined(parts: Sequence[Judged]) -> Judged:
    """All workers' records as one."""
    if len(parts) == 1:
        return parts[0]
    reference = [part.reference for part in parts if part.reference is not None]
    margin = [part.margin for part in parts if part.margin is not None]
    return Judged(
        torch.cat([part.logprob for part in parts], 1),
        torch.cat([part.length for part in parts], 1),
        torch.cat(reference, 1) if reference else None,
        torch.cat([part.probability for part in parts]),
        torch.cat(margin) if margin else None,
    )


def _weighed(
    policy: Policy, objective: Objective, records: JudgedAnswers, spare: JudgedAnswers
) -> tuple[Tensor, Tensor]:
    """[S, N], [N] on the CPU: log-probabilities of records without gradient, and what each counts in the loss.

    Args:
        spare: as of `known_logprobs`.
    """
    weight = weight_of(records)
    if not objective.wpo:
        known = known_logprobs(
            policy, records, objective.budget, objective.temperature, share=objective.share, spare=spare
        )
        return known, weight
    logprob = empty_table(records, spare)
    with evaluating(policy.model):
        for rows, counts in current().reading(policy, pair_micro_batches(records, objective.budget), spare=()):
            found, likely = weighed_logprobs(policy, chosen(records, rows) if counts else spare[:1])
            if counts:
                logprob[:, rows], weight[rows] = found.float().cpu(), weight[rows] * likely.float().cpu()
    return logprob, weight


def weight_of(records: JudgedAnswers) -> Tensor:
    """[N] the records' own weights."""
    return torch.tensor([record.weight for record in records])
