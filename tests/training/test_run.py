"""The consumer of trainers: logs, resume after a kill at any step, guards, and interventions that are replayed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from heedful.errors import HeedfulError
from heedful.training.checkpoint import load_checkpoint
from heedful.training.config.common import OptimiserConfig, RunConfig
from heedful.training.folders import checkpoints
from heedful.training.optimiser import Optimiser
from heedful.training.progress import Display
from heedful.training.run import Watch, run
from heedful.training.state import (
    Event,
    Keep,
    RollBack,
    SetKLCoefficient,
    Step,
    Stop,
    TrainState,
    event_from_json,
    event_to_json,
)

TOTAL = 20
SETTINGS = RunConfig(checkpoint_every=4, tensorboard=False, sample_every=0)


def fresh() -> TrainState:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    optimiser = Optimiser({"net": module}, OptimiserConfig(learning_rate=1e-2), TOTAL)
    return TrainState({"net": module}, {"net": optimiser}, seed=7, scalars={"kl_coefficient": 0.1})


def trainer(state: TrainState, die_in: int | None = None, bad_at: int | None = None) -> Iterator[Step]:
    while state.step < TOTAL:
        if state.step + 1 == die_in:
            raise KeyboardInterrupt
        state.begin_step()
        x = torch.randn(8, 3)
        loss = ((state.modules["net"](x) - x.sum(1, keepdim=True)) ** 2).mean() * (1 + state.scalars["kl_coefficient"])
        if state.step + 1 == bad_at:
            loss = loss * float("nan")
        loss.backward()
        state.optimisers["net"].step(state.step)
        state.step += 1
        yield Step(state.step, {"loss": float(loss.detach()), "beta": state.scalars["kl_coefficient"]})


def quiet() -> Display:
    return Display(Console(file=io.StringIO()))


def go(out: Path, state: TrainState, steps: Iterator[Step], watch: Watch | None = None) -> dict[str, float]:
    return run(
        steps,
        state,
        out=out,
        total=TOTAL,
        title="t",
        settings=SETTINGS,
        display=quiet(),
        shown=("loss",),
        watch=watch,
    )


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.modules["net"].parameters()])


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("die_in", [1, 3, 4, 5, 9, 13, 17, 20])
def test_a_killed_run_goes_on_to_the_same_bits_and_the_same_log(tmp_path: Path, die_in: int) -> None:
    whole = fresh()
    go(tmp_path / "whole", whole, trainer(whole))
    state = fresh()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", state, trainer(state, die_in=die_in))
    again = fresh()
    assert load_checkpoint(tmp_path / "cut", again) == (die_in > 4)
    assert again.step == (die_in - 1) // 4 * 4
    go(tmp_path / "cut", again, trainer(again))
    assert torch.equal(weights(whole), weights(again))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")


def test_only_the_newest_checkpoints_are_kept_and_half_written_ones_do_not_count(tmp_path: Path) -> None:
    state = fresh()
    go(tmp_path, state, trainer(state))
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000016"]
    (tmp_path / "checkpoints" / "step-00000018").mkdir()
    again = fresh()
    load_checkpoint(tmp_path, again)
    assert again.step == 16


def test_not_a_number_stops_the_run_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    state = fresh()
    with pytest.raises(HeedfulError, match=r"step 11.*step-00000008"):
        go(tmp_path, state, trainer(state, bad_at=11))
    good = fresh()
    load_checkpoint(tmp_path, good)
    assert torch.isfinite(weights(good)).all()


def test_a_loss_past_the_guard_stops_the_run(tmp_path: Path) -> None:
    state = fresh()
    settings = RunConfig(checkpoint_every=4, tensorboard=False, max_loss=1e-9)
    with pytest.raises(HeedfulError, match=r"above run\.max_loss"):
        run(
            trainer(state),
            state,
            out=tmp_path,
            total=TOTAL,
            title="t",
            settings=settings,
            display=quiet(),
            shown=(),
        )


def test_an_intervention_acts_from_the_next_step_and_is_replayed_on_resume(tmp_path: Path) -> None:
    def raise_beta(step: Step) -> list[Event]:
        return [SetKLCoefficient(0.5)] if step.number == 6 else []

    whole = fresh()
    go(tmp_path / "whole", whole, trainer(whole), Watch(intervene=raise_beta))
    assert [row["beta"] for row in metrics(tmp_path / "whole")][4:8] == [0.1, 0.1, 0.5, 0.5]

    state = fresh()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", state, trainer(state, die_in=8), Watch(intervene=raise_beta))
    again = fresh()
    load_checkpoint(tmp_path / "cut", again)
    assert again.step == 4
    go(tmp_path / "cut", again, trainer(again))  # nobody intervenes this time: the journal does
    assert torch.equal(weights(whole), weights(again))


def test_stop_ends_the_run_after_its_step(tmp_path: Path) -> None:
    state = fresh()
    go(
        tmp_path,
        state,
        trainer(state),
        Watch(intervene=lambda step: [Stop("enough")] if step.number == 5 else []),
    )
    assert state.step == 5
    assert state.scalars["stopped"] == "enough"
    assert len(metrics(tmp_path)) == 5


def keep_and_go_back(step: Step) -> list[Event]:
    events: dict[int, list[Event]] = {3: [Keep("good")], 6: [Keep("better")], 10: [RollBack(6, "hacked")]}
    return events.get(step.number, [])


def test_rolling_back_ends_the_run_with_the_weights_that_were_kept(tmp_path: Path) -> None:
    short = fresh()
    go(tmp_path / "short", short, trainer(short), Watch(intervene=lambda s: [Stop("")] if s.number == 6 else []))
    state = fresh()
    go(tmp_path / "whole", state, trainer(state), Watch(intervene=keep_and_go_back))
    assert torch.equal(weights(state), weights(short))
    assert (state.step, state.scalars["stopped"], state.scalars["rolled_back_to"]) == (10, "hacked", 6)
    assert [folder.name for folder in (tmp_path / "whole" / "kept").iterdir()] == ["step-00000006"]


@pytest.mark.parametrize("die_in", [4, 6, 7, 8, 10])
def test_what_was_kept_is_there_again_after_a_kill(tmp_path: Path, die_in: int) -> None:
    whole = fresh()
    go(tmp_path / "whole", whole, trainer(whole), Watch(intervene=keep_and_go_back))
    state = fresh()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", state, trainer(state, die_in=die_in), Watch(intervene=keep_and_go_back))
    again = fresh()
    load_checkpoint(tmp_path / "cut", again)
    go(tmp_path / "cut", again, trainer(again), Watch(intervene=keep_and_go_back))
    assert torch.equal(weights(whole), weights(again))
    for name in ("events.jsonl", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_weights_that_were_never_kept_cannot_be_put_back(tmp_path: Path) -> None:
    state = fresh()
    with pytest.raises(HeedfulError, match="step 2 are to be put back"):
        go(tmp_path, state, trainer(state), Watch(intervene=lambda step: [RollBack(2, "x")]))


def test_whoever_intervenes_sees_every_step_and_the_journal_decides(tmp_path: Path) -> None:
    state, seen = fresh(), []
    (tmp_path / "events.jsonl").write_text(json.dumps({"step": 3, **event_to_json(SetKLCoefficient(0.3))}) + "\n")

    def look(step: Step) -> list[Event]:
        seen.append(step.number)
        return [SetKLCoefficient(0.9)] if step.number == 2 else []

    go(tmp_path, state, trainer(state), Watch(intervene=look))
    assert seen == list(range(1, TOTAL + 1))
    assert [row["beta"] for row in metrics(tmp_path)][1:4] == [0.1, 0.1, 0.3]


def test_every_event_comes_back_from_the_journal() -> None:
    for event in (Keep("a"), RollBack(3, "b"), Stop("c"), SetKLCoefficient(0.1)):
        assert event_from_json(json.loads(json.dumps({"step": 9, **event_to_json(event)}))) == event


ODD_TEXT = "caf\u00e9 \u2028 and \u0085 \U0001f642"


def test_logged_text_survives_a_kill_byte_for_byte(tmp_path: Path) -> None:
    settings = RunConfig(checkpoint_every=4, tensorboard=False, sample_every=2)
    watch = Watch(sample=lambda: [{"completion": ODD_TEXT}])

    def logged(out: Path, state: TrainState, steps: Iterator[Step]) -> None:
        run(steps, state, out=out, total=TOTAL, title="t", settings=settings, display=quiet(), shown=(), watch=watch)

    whole = fresh()
    logged(tmp_path / "whole", whole, trainer(whole))
    state = fresh()
    with pytest.raises(KeyboardInterrupt):
        logged(tmp_path / "cut", state, trainer(state, die_in=12))
    with open(tmp_path / "cut" / "samples.jsonl", "ab") as file:
        file.write('{"step": 12, "completion": "caf\u00e9'.encode()[:-1])  # a kill in the middle of a character
    again = fresh()
    load_checkpoint(tmp_path / "cut", again)
    logged(tmp_path / "cut", again, trainer(again))
    assert (tmp_path / "cut" / "samples.jsonl").read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()
    assert (tmp_path / "whole" / "samples.jsonl").read_bytes().count(b"\n") == TOTAL // 2


def test_a_torn_line_of_the_journal_does_not_swallow_the_next_event(tmp_path: Path) -> None:
    state = fresh()
    (tmp_path / "events.jsonl").write_text('{"step": 2, "event": "SetKLCoefficient", "value": 0.3}\n{"step": 3, "ev')
    go(tmp_path, state, trainer(state), Watch(intervene=lambda s: [SetKLCoefficient(0.7)] if s.number == 9 else []))
    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(row["step"], row["value"]) for row in written] == [(2, 0.3), (9, 0.7)]
    assert [row["beta"] for row in metrics(tmp_path)][7:11] == [0.3, 0.3, 0.7, 0.7]


def test_figures_of_an_evaluation_that_are_not_numbers_stop_the_run(tmp_path: Path) -> None:
    state = fresh()
    with pytest.raises(HeedfulError, match="gold is nan"):
        go(tmp_path, state, trainer(state), Watch(evaluate=lambda: {"gold": float("nan")}))
