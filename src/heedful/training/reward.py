"""The reward model: a scalar learns what raters said of answers, by any of `LOSSES` and with any of `HEADS`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from heedful.core.answers import agreement
from heedful.models.modes import evaluating, random_devices
from heedful.models.scalar import RewardModel
from heedful.training.batching import batch_at, collate, total_steps
from heedful.training.config.reward import RewardConfig
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.reward_data import Judged, Layout, item_micro_batches, worth_sharing
from heedful.training.reward_heads import HEADS, Heads
from heedful.training.reward_losses import LOSSES, Learnt, RewardLoss, centering
from heedful.training.state import Step, TrainState
from heedful.training.workers import by_place, current


@dataclass(frozen=True)
class Learner:
    """A reward model with its heads, the loss, and what the loss learns beside it."""

    model: RewardModel
    heads: Heads
    loss: RewardLoss
    learnt: Learnt


def learner(model: RewardModel, items: Sequence[Judged], config: RewardConfig) -> Learner:
    """What a configuration asks for, at its start. `items` are all that it will be trained on, in their order.

    Raises:
        HeedfulError: the heads cannot be fitted to these items.
    """
    loss = LOSSES[config.loss]
    heads = HEADS[config.heads.kind](model, config, items)
    return Learner(model, heads, loss, loss.learns().to(model.device))


def reward_state(learner: Learner, config: RewardConfig, total: int) -> TrainState:
    """The state of a run that trains one reward model."""
    weights = {"reward": learner.model.model, "heads": learner.heads.weights}
    scalars = {"loss": learner.learnt, "mixture": learner.heads.learnt}
    optimisers = {"reward": Optimiser(weights, config.optimiser, total)}
    if any(True for module in scalars.values() for _ in module.parameters()):
        own = dataclasses.replace(config.optimiser, learning_rate=config.loss_learning_rate)
        optimisers["loss"] = Optimiser(scalars, own, total)
    return TrainState(weights | scalars, optimisers, config.seed)


@dataclass(frozen=True)
class Batch:
    """The items of one optimiser step, and what their parts have to know of the whole."""

    items: Sequence[Judged]
    shares: Sequence[Sequence[float]]
    """Of each item, its weight in each of the heads' losses."""
    totals: Sequence[float]
    """Of each loss, the weights of all items."""
    rated: int
    """Ratings of attributes in all answers."""

    @staticmethod
    def of(items: Sequence[Judged], chosen: Sequence[int], heads: Heads) -> Batch:
        """The batch of the items that are chosen by their numbers."""
        found = [items[i] for i in chosen]
        shares = [[item.weight * share for share in heads.shares(i)] for i, item in zip(chosen, found, strict=True)]
        rated = sum(value == value for item in found for row in item.ratings for value in row)
        return Batch(found, shares, [sum(row[v] for row in shares) for v in range(len(shares[0]))], rated)


def read(learner: Learner, layout: Layout, *, shared: bool) -> Tensor:
    """[S, outputs]: what the heads say of a layout's answers, from one forward pass."""
    return learner.heads.read(states_of(learner.model, layout, shared=shared))


def states_of(model: RewardModel, layout: Layout, *, shared: bool) -> Tensor:
    """[S, H]: the states at the ends of a layout's answers; what an item's begin with is read once if `shared`."""
    examples = layout.examples()
    if shared:
        items = [row for row, _ in layout]
        return model.end_states([one.tokens for one in examples], [layout.items[row].start for row in items], items)
    batch = collate(examples, model.pad, model.device)
    return model.last_states(batch.tokens, batch.attention)


def objective(learner: Learner, outputs: Tensor, batch: Batch, rows: Sequence[int], config: RewardConfig) -> Tensor:
    """The share of a batch's loss that these of its items have: the weighted mean loss, and the heads' penalty."""
    layout = Layout([batch.items[row] for row in rows])
    votes = learner.heads.votes(outputs)
    parts = []
    for v in range(votes.shape[1]):
        scores = votes[:, v]
        losses = learner.loss.value(layout, scores, learner.learnt, config.use_margin)
        if config.centering:
            losses = losses + config.centering * centering(layout, scores)
        weight = torch.tensor([batch.shares[row][v] for row in rows], device=scores.device)
        parts.append((losses * weight).sum() / (batch.totals[v] or 1.0))
    value = parts[0] if len(parts) == 1 else torch.stack(parts).mean()
    penalty = learner.heads.penalty(outputs, layout, batch.rated)
    return value if penalty is None else value + penalty


def descend(
    learner: Learner, batch: Batch, config: RewardConfig, micro_batch_tokens: int
) -> tuple[float, list[tuple[Layout, Tensor]]]:
    """Add the gradient of a batch's loss; returns the loss, and each part's layout with its answers' scores [S].

    Of several workers each adds the gradient of its share of the items, and returns its share of the loss.
    """
    team = current()
    mine = team.dealt([item.tokens for item in batch.items])
    shared = worth_sharing(learner.model, batch.items, config.memory.tokens)  # of the whole batch: all workers agree
    own, limit = [batch.items[row] for row in mine], learner.model.context_length
    found = item_micro_batches(own, micro_batch_tokens, shared=shared, limit=limit)
    parts = [[mine[row] for row in rows] for rows in found]
    layouts = [Layout([batch.items[row] for row in rows]) for rows in parts]
    slopes: list[Tensor] = []
    loss = 0.0
    twice = learner.heads.whole_batch and (len(parts) > 1 or team.count > 1)
    if twice:
        loss, slopes = _slopes(learner, batch, parts, layouts, config, shared=shared)
    seen = []
    for number, (rows, counts) in enumerate(team.in_step(parts, spare=[0])):
        layout = Layout([batch.items[row] for row in rows])
        outputs = read(learner, layout, shared=shared)
        if not counts:
            (0.0 * outputs).sum().backward()
            continue
        if twice:
            (outputs * slopes[number]).sum().backward()
        else:
            part = objective(learner, outputs, batch, rows, config)
            part.backward()
            loss += float(part.detach())
        seen.append((layout, learner.heads.score(outputs.detach()).detach()))
    return loss, seen


def _slopes(
    learner: Learner,
    batch: Batch,
    parts: Sequence[Sequence[int]],
    layouts: Sequence[Layout],
    config: RewardConfig,
    *,
    shared: bool,
) -> tuple[float, list[Tensor]]:
    """The loss of a whole batch, and its slopes [S, outputs] by every output of this worker's parts.

    A correlation over the batch is no sum over its parts, so a first pass without gradients collects all outputs, and
    the second pass goes backward from the slopes. Both draw the same dropout. What of the loss does not come by way of
    the outputs has its gradient here, at the first worker alone; the loss is told there too.
    """
    team = current()
    steps = team.reading(learner.model, parts, spare=[0])
    with torch.random.fork_rng(devices=random_devices(learner.model.device)), torch.no_grad():
        read_now = [read(learner, Layout([batch.items[row] for row in rows]), shared=shared) for rows, _ in steps]
    outputs = read_now[: len(parts)]
    if team.count > 1:
        return _slopes_of_all(learner, batch, parts, outputs, config)
    return _slopes_of(learner, batch, parts, layouts, outputs, config)


def _slopes_of_all(
    learner: Learner, batch: Batch, parts: Sequence[Sequence[int]], outputs: Sequence[Tensor], config: RewardConfig
) -> tuple[float, list[Tensor]]:
    """`_slopes_of` all workers' parts, of which this worker's are returned."""
    team, device = current(), learner.model.device
    told = team.gathered([(list(rows), part.cpu()) for rows, part in zip(parts, outputs, strict=True)])
    everything = [one for some in told for one in some]
    layouts = [Layout([batch.items[row] for row in rows]) for rows, _ in everything]
    rows, whole = [rows for rows, _ in everything], [part.to(device) for _, part in everything]
    loss, slopes = _slopes_of(learner, batch, rows, layouts, whole, config)
    if not team.leads:
        loss = 0.0
        for module in (learner.model.model, learner.heads.weights, learner.heads.learnt, learner.learnt):
            module.zero_grad(set_to_none=True)
    first = sum(len(some) for some in told[: team.rank])
    return loss, slopes[first : first + len(parts)]


def _slopes_of(
    learner: Learner,
    batch: Batch,
    parts: Sequence[Sequence[int]],
    layouts: Sequence[Layout],
    outputs: list[Tensor],
    config: RewardConfig,
) -> tuple[float, list[Tensor]]:
    """The loss of a whole batch that is read already, and its slopes by the outputs of each part."""
    rows = [row for part in parts for row in part]
    whole = Layout([batch.items[row] for row in rows])
    starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0).tolist()
    places = {
        (starts[number] + row, place): (number, index)
        for number, layout in enumerate(layouts)
        for index, (row, place) in enumerate(layout)
    }
    ends = torch.tensor([0, *(len(part) for part in outputs)]).cumsum(0).tolist()
    order = [ends[number] + index for number, index in (places[where] for where in whole)]
    leaves = torch.cat(outputs).requires_grad_()
    value = objective(learner, leaves[order], batch, rows, config)
    value.backward()
    assert leaves.grad is not None
    return float(value.detach()), list(leaves.grad.split([len(part) for part in outputs]))


def reward(state: TrainState, learner: Learner, items: Sequence[Judged], config: RewardConfig) -> Iterator[Step]:
    """Minimise the weighted mean loss; yields after every optimiser step."""
    total = total_steps(len(items), config.batch_size, config.epochs)
    team = current()
    learner.model.model.train()
    while state.step < total:
        state.begin_step()
        chosen = batch_at(state.step, len(items), config.batch_size, config.epochs, state.seed)
        batch = Batch.of(items, chosen, learner.heads)
        shared = worth_sharing(learner.model, batch.items, config.memory.tokens)
        longest = max(item.once if shared else item.tokens for item in batch.items)
        work = partial(descend, learner, batch, config)
        if learner.heads.whole_batch and team.count > 1:  # no second try: what comes between is of all workers
            loss, seen = work(state.tokens(config.memory))
        else:
            loss, seen = state.within_memory(config.memory, longest, work)
        norms = [optimiser.step(state.step) for optimiser in state.optimisers.values()]
        figures = {
            **team.summed({"loss": loss}),
            **_agreements(seen),
            "gradient_norm": norms[0],
            "learning_rate": learning_rate(state.step, total, config.optimiser),
            **learner.learnt.figures(),
            **learner.heads.figures(),
        }
        state.step += 1
        yield Step(state.step, figures)


def _agreements(seen: Sequence[tuple[Layout, Tensor]]) -> dict[str, float]:
    """How often the scores name the preferred answer, and how far apart they are, over all pairs."""
    right, decided, spread, pairs = 0.0, 0, 0.0, 0
    for layout, scores in seen:
        gap, probability = pair_gaps(layout, scores)
        clear = probability != 0.5
        right += float(agreement(gap, probability)[clear].sum())
        decided += int(clear.sum())
        spread += float(gap.abs().sum())
        pairs += len(gap)
    told = current().summed({"right": right, "decided": decided, "spread": spread, "pairs": pairs})
    return {"accuracy": told["right"] / max(1, told["decided"]), "score_gap": told["spread"] / told["pairs"]}


def pair_gaps(layout: Layout, scores: Tensor) -> tuple[Tensor, Tensor]:
    """[P], [P]: of every two answers of an item, the scores' gap and the probability that the first is better."""
    where = {place: index for index, place in enumerate(layout)}
    found = [
        (where[row, i], where[row, j], probability)
        for row, item in enumerate(layout.items)
        for i, j, probability in item.pairs()
    ]
    first, second, probabilities = zip(*found, strict=True)
    gap = scores[list(first)] - scores[list(second)]
    return gap, torch.tensor(probabilities, dtype=torch.float32, device=scores.device)


def score_items(
    model: RewardModel,
    items: Sequence[Judged],
    micro_batch_tokens: int,
    head: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """[S] float32 on the CPU: raw scores of all answers, in the order of `Layout(items)`. All workers take part.

    Args:
        head: states [N, H] -> scores [N]; None: the model's own head.
    """
    team = current()
    mine = team.dealt([item.tokens for item in items])
    where = {place: index for index, place in enumerate(Layout(items))}
    scores = torch.empty(len(where))
    places: list[int] = []
    shared, own = worth_sharing(model, items, micro_batch_tokens), [items[row] for row in mine]
    found = item_micro_batches(own, micro_batch_tokens, shared=shared, limit=model.context_length)
    parts = [[mine[row] for row in part] for part in found]
    with evaluating(model.model):
        for rows, counts in team.reading(model, parts, spare=[0]):
            layout = Layout([items[row] for row in rows])
            read_now = (head or model.head)(states_of(model, layout, shared=shared))
            if not counts:
                continue
            now = [where[rows[row], place] for row, place in layout]
            scores[now] = read_now.float().cpu()
            places += now
    return scores if team.count == 1 else by_place(team.gathered((places, scores[places])), len(scores))


def evaluate_reward(learner: Learner, items: Sequence[Judged], micro_batch_tokens: int) -> dict[str, float]:
    """Accuracy (tied scores count half, tied labels are left out) and loss, without margins, on held-out items."""
    if not items:
        return {}
    learner.heads.settle()
    layout, scores = Layout(items), score_items(learner.model, items, micro_batch_tokens)
    weight = torch.tensor([item.weight for item in items])
    with torch.no_grad():
        losses = learner.loss.value(layout, scores, copy.deepcopy(learner.learnt).to("cpu"), False)
        loss = float((losses * weight).sum() / weight.sum())
    gap, probability = pair_gaps(layout, scores)
    figures = {"held_out_loss": loss}
    clear = probability != 0.5
    if clear.any():
        figures["held_out_accuracy"] = float(agreement(gap, probability)[clear].mean())
    return figures


def normalisation(scores: Tensor) -> tuple[float, float]:
    """Mean and spread of raw scores of some answers: the offset, and the scale where one is asked for."""
    spread = float(scores.std()) if len(scores) > 1 else 1.0
    return float(scores.mean()), spread if spread > 1e-6 else 1.0
