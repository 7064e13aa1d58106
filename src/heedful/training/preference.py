"""Learning from preferences without a reward model: one trainer for every loss of `preference_losses`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.modes import evaluating, random_devices
from heedful.models.policy import Policy
from heedful.training.answer_logprobs import chosen, known_logprobs, lengths, side_logprobs, weighed_logprobs
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

    def measured(self, data: PreferenceData, numbers: list[int], policy: Policy, state: TrainState) -> Measured:
        """What the loss asks for beside the answers: measured over the whole batch, without gradient."""
        kl = ratio = None
        if self.mixture.asks("kl"):
            moved = known_logprobs(policy, chosen(data.moved, numbers), self.budget, self.temperature)
            kl = (moved - self._reference(data.moved, data.known_moved, numbers)).mean().to(policy.device)
        if self.mixture.asks("shift"):
            ratio = torch.tensor(state.scalars.get("ratio", 0.0), device=policy.device)
        return Measured(kl, ratio)

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
    longest = max(len(record.answers) * record.longest for record in chosen(data.records, numbers))

    def work(tokens: int) -> dict[str, float]:
        return descend(state, policy, objective.at(tokens), data, numbers, watch)

    return state.within_memory(memory, longest, work)


def descend(
    state: TrainState,
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    watch: Callable[[list[int], Tensor], None] | None = None,
) -> dict[str, float]:
    """Add the gradient of the loss of one optimiser step, over some records by number; returns its figures.

    The weighted mean runs over all of them, however they are cut into micro-batches. A loss that must see them all at
    once is taken in two passes: its gradient by every log-probability, then micro-batches that carry it on.

    Args:
        watch: is shown the log-probabilities [S, n] of n records at a time, without gradient.
    """
    measured = objective.measured(data, numbers, policy, state)
    weight = weight_of(chosen(data.records, numbers))
    weights = float(weight.sum())
    groups = pair_micro_batches(chosen(data.records, numbers), objective.budget)
    loss, seen, shares = 0.0, [], []
    if objective.mixture.whole_batch and len(groups) > 1:
        loss, whole = _in_two_passes(policy, objective, data, numbers, groups, measured)
        seen.append(whole)
        if watch is not None:
            watch(numbers, whole.logprob)
        groups = []
    for rows in groups:
        group = [numbers[row] for row in rows]
        share = weight[rows].to(policy.device)
        if objective.wpo:
            logprob, likely = weighed_logprobs(policy, chosen(data.records, group), share=objective.share)
            share = share * likely
            shares.append(likely)
        else:
            logprob = objective.logprobs(policy, chosen(data.records, group))
        if watch is not None:
            watch(group, logprob.detach())
        judged = objective.judged(data, group, logprob)
        micro_loss = (objective.mixture(judged, measured) * share).sum() / weights
        micro_loss.backward()
        loss += float(micro_loss.detach())
        seen.append(Seen.of(judged))
    everything = join(seen)
    _remember(state, objective.mixture, everything)
    return {"loss": loss, **figures(everything, objective.mixture.beta), **_told(measured, shares)}


def _in_two_passes(
    policy: Policy,
    objective: Objective,
    data: PreferenceData,
    numbers: list[int],
    groups: list[list[int]],
    measured: Measured,
) -> tuple[float, Seen]:
    """The gradient of a loss of the whole batch, one micro-batch at a time; returns the loss and what was seen."""
    records = chosen(data.records, numbers)
    logprob = torch.empty(len(records[0].answers), len(records), device=policy.device)
    with torch.random.fork_rng(devices=random_devices(policy.device)), torch.no_grad():
        for rows in groups:
            logprob[:, rows] = objective.logprobs(policy, chosen(records, rows))
    logprob.requires_grad_()
    judged = objective.judged(data, numbers, logprob)
    loss = objective.mixture(judged, measured).mean()  # the weights of the records are equal: `check_records`
    (pull,) = torch.autograd.grad(loss, logprob)
    for rows in groups:  # with the dropout of the first pass
        (pull[:, rows] * objective.logprobs(policy, chosen(records, rows))).sum().backward()
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
    numbers = list(range(len(data.records)))
    logprob, weight = _weighed(policy, objective, data.records)
    judged = objective.judged(data, numbers, logprob)
    measured = objective.measured(data, numbers, policy, state)
    cpu = Measured(*(None if value is None else value.cpu() for value in (measured.kl, measured.ratio)))
    found = figures(Seen.of(judged), objective.mixture.beta)
    told = {"held_out_loss": float((objective.mixture(judged, cpu) * weight).sum() / weight_of(data.records).sum())}
    return told | {f"held_out_{name}": found[name] for name in ("accuracy", "margin") if name in found}


def _weighed(policy: Policy, objective: Objective, records: JudgedAnswers) -> tuple[Tensor, Tensor]:
    """[S, N], [N] on the CPU: log-probabilities of records without gradient, and what each counts in the loss."""
    weight = weight_of(records)
    if not objective.wpo:
        return known_logprobs(policy, records, objective.budget, objective.temperature), weight
    logprob = torch.empty(len(records[0].answers), len(records))
    with evaluating(policy.model):
        for rows in pair_micro_batches(records, objective.budget):
            found, likely = weighed_logprobs(policy, chosen(records, rows))
            logprob[:, rows], weight[rows] = found.float().cpu(), weight[rows] * likely.float().cpu()
    return logprob, weight


def weight_of(records: JudgedAnswers) -> Tensor:
    """[N] the records' own weights."""
    return torch.tensor([record.weight for record in records])
