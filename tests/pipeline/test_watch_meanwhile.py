"""A run that trains on while people judge: what they found acts at a later step, after a kill at the same one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_watch import Killed, go, long_answers, rows, settings

from heedful.data.records import Conversation
from heedful.files import sha256_file
from heedful.monitoring.checks import NotYetJudged, Panel, Reply, Vote
from heedful.pipeline.people_judge import LeftOpen
from heedful.training.run import Watch
from heedful.training.state import Event, Step, Stop
from stage_runs import write_inputs, write_model

__all__ = ["long_answers"]  # the runs' reward, by name
NAMES = ("ann", "bob", "cem")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meanwhile")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    return folder


class Crowd:
    """Three raters who judge whatever was asked when they are called; what they said outlives a run, as in a store."""

    def __init__(self, prefers: Callable[[str, str], bool]) -> None:
        self.prefers = prefers
        self.asked: list[str] = []
        self.judged: set[str] = set()

    def work(self) -> None:
        """Judge all that is open."""
        self.judged |= set(self.asked)

    def glance(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> list[list[Vote]]:
        key = repr([[reply.text for reply in side] for side in (ours, theirs)])
        if key not in self.judged:
            self.asked.append(key)
            raise NotYetJudged
        pairs = zip(ours, theirs, strict=True)
        votes = [0.5 if a.text == b.text else float(self.prefers(a.text, b.text)) for a, b in pairs]
        return [[Vote(won, name) for name in NAMES] for won in votes]

    def __call__(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> list[list[Vote]]:
        """As one that is waited for."""
        try:
            return self.glance(prompts, ours, theirs)
        except NotYetJudged:
            self.work()
            return self.glance(prompts, ours, theirs)

    def take_panel(self) -> Panel:
        return Panel(3, 1, fresh_only=False)

    @property
    def asks(self) -> bool:
        return bool(set(self.asked) - self.judged)

    def leave(self) -> LeftOpen | None:
        return LeftOpen("fresh check", 72, 5, 1) if self.asks else None


def shorter(ours: str, theirs: str) -> bool:
    return len(ours.split()) < len(theirs.split())


def longer(ours: str, theirs: str) -> bool:
    return len(ours.split()) > len(theirs.split())


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Crowd]:
    """hire(prefers) -> whom the next runs ask."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def found(prefers: Callable[[str, str], bool]) -> Crowd:
        crowd = Crowd(prefers)
        monkeypatch.setattr("heedful.pipeline.stages.watched.ask_people", lambda *_: crowd)
        return crowd

    return found


def given(made: Path, out: Path, steps: int = 14) -> Any:
    """Settings of a run that checks every four steps, is paid for length and trains on while people judge."""
    gold = {"judge": "people:shop", "every_steps": 4, "every_kl": 100.0, "pairs": 24, "block": 24, "votes": 3}
    prompts = {"prompts": str(made / "inputs" / "prompts.jsonl"), "meanwhile": "train"}
    found = settings(
        "rloo",
        made,
        out,
        {"signs": ["kl"], "gold": {**gold, **prompts}},
        steps=steps,
        optimiser={"learning_rate": 3e-2},
        score={"normalise": "none", "missing_eos_penalty": 0.0},
    )
    return type(found)(**{**vars(found), "reward": "test_watch_meanwhile:long_answers"})


def at(steps: dict[int, Callable[[], Any]]) -> Any:
    """What a run's caller does after steps, once the watch has looked at them."""

    def act(step: Step) -> list[Event]:
        return steps.get(step.number, lambda: None)() or []

    return lambda models: Watch(intervene=act)


def killed() -> None:
    raise Killed


def enough() -> list[Event]:
    return [Stop("enough")]


def same(whole: Path, cut: Path) -> None:
    names = ["model.safetensors", "metrics.jsonl", "alarms.jsonl", "events.jsonl"]
    names += [str(path.relative_to(whole)) for path in sorted((whole / "watch").glob("*"))]
    for name in names:
        assert (whole / name).exists() == (cut / name).exists(), name
        if (whole / name).exists():
            assert sha256_file(whole / name) == sha256_file(cut / name), name


def test_the_run_trains_on_and_what_people_found_acts_at_a_later_step(
    hire: Callable[..., Crowd], made: Path, tmp_path: Path
) -> None:
    crowd = hire(shorter)
    manifest, said = go("rloo", given(made, tmp_path / "run"), watch=at({5: crowd.work, 11: crowd.work}))
    events = [(event["event"], event["step"]) for event in rows(tmp_path / "run" / "events.jsonl")]
    assert events[:2] == [("SetAside", 4), ("Settle", 6)]
    assert events[-1] == ("RollBack", 12)  # proxy up and gold down, of steps 4 and 8
    kept = json.loads((tmp_path / "run" / "watch" / "check-00000004.json").read_text())
    assert (kept["check"]["step"], kept["known_after"]) == (4, 6)
    assert "At step 4" in said
    assert "second time in a row" in manifest["stopped"]
    assert manifest["watch"]["rolled_back_to"] == 0
    start, end = (load_file(folder / "model.safetensors") for folder in (made / "policy", tmp_path / "run"))
    assert all(torch.equal(start[name], end[name]) for name in start)
    assert manifest["watch"]["gold"]["checks"][0]["panel"] == {"raters": 3, "trained": 1, "fresh_only": False}


@pytest.mark.parametrize("kill", [5, 6, 8])
def test_after_a_kill_it_is_known_after_the_same_step_and_not_before(
    kill: int, hire: Callable[..., Crowd], made: Path, tmp_path: Path
) -> None:
    """All is judged after step 5. A run that dies in step 6, before its journal says what the verdict did, goes on
    from step 4 with everything judged, and still learns it after step 6."""
    for name in ("whole", "cut"):
        crowd = hire(longer)
        hook: dict[int, Any] = {5: crowd.work}
        if name == "cut":
            with pytest.raises(Killed):
                go("rloo", given(made, tmp_path / name), watch=at({5: crowd.work, kill: killed}))
            assert crowd.judged or kill == 5
        done, _ = go("rloo", given(made, tmp_path / name), watch=at({**hook, 10: enough}))
        assert done["steps"] == 10
    same(tmp_path / "whole", tmp_path / "cut")
    assert ("Settle", 6) in [(row["event"], row["step"]) for row in rows(tmp_path / "cut" / "events.jsonl")]


def test_weights_that_turn_out_better_are_those_of_the_step_that_was_judged(
    hire: Callable[..., Crowd], made: Path, tmp_path: Path
) -> None:
    crowd = hire(lambda ours, theirs: True)
    with pytest.raises(Killed):
        go("rloo", given(made, tmp_path / "run"), watch=at({6: crowd.work, 9: killed}))
    settled = next(row for row in rows(tmp_path / "run" / "events.jsonl") if row["event"] == "Settle")
    assert (settled["step"], settled["best_step"]) == (7, 4)
    kept = sorted(path.name for path in (tmp_path / "run" / "kept").iterdir())
    assert kept == ["step-00000000", "step-00000004", "step-00000008"]  # the next check began with step 8


def test_a_run_waits_at_its_end(hire: Callable[..., Crowd], made: Path, tmp_path: Path) -> None:
    crowd = hire(longer)
    manifest, _ = go("rloo", given(made, tmp_path / "run", steps=6))
    assert crowd.judged  # by the call that waits
    assert [check["step"] for check in manifest["watch"]["gold"]["checks"]] == [4]
    assert rows(tmp_path / "run" / "events.jsonl")[-1]["step"] == 6


def test_what_is_open_when_a_run_is_stopped_is_said(hire: Callable[..., Crowd], made: Path, tmp_path: Path) -> None:
    hire(longer)
    manifest, said = go("rloo", given(made, tmp_path / "run"), watch=at({5: enough}))
    left = manifest["watch"]["gold"]["left_open"]
    assert left == {"step": 4, "batch": "fresh check", "places": 72, "filled": 5, "held": 1}
    assert "5 of 72 judgments of 'fresh check' are in and are kept; 1 pairs lie before raters" in said
    prompts = json.loads((tmp_path / "run" / "watch" / "prompts.json").read_text())
    assert len(prompts) == 24
    assert prompts[0][0]["role"] == "user"
