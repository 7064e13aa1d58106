"""Every method that learns online: the best is kept, a response comes, the best comes back, a kill changes no bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import test_watch
import torch
from safetensors.torch import load_file
from test_watch import Killed, falling, go, kill_at, long_answers, rows, settings

from heedful.files import sha256_file
from heedful.monitoring.checks import Check, Ruling
from heedful.pipeline.stages.online import run_grpo, run_raft, run_reinforce
from stage_runs import write_inputs, write_model

__all__ = ["falling", "long_answers"]  # judge and reward of the runs, by name
METHODS = {"ppo": "raise", "rloo": "raise", "grpo": "raise", "reinforce": "freeze", "raft": "freeze"}
METHODS |= {"online-dpo": "freeze"}
QUICK = ("ppo",)
BEST, FELL, STOPPED = 2, 4, 7


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    return folder


def ruled(checks: Sequence[Check], best_step: int, test: Any = None) -> Ruling:
    """Better at step 2, fallen at 4, fallen again at 7: what a rule that saw so much would say."""
    step = checks[-1].step
    if step == BEST:
        return Ruling(BEST, False, False, "better")
    return Ruling(best_step, step >= FELL, step == STOPPED, "fallen" if step >= FELL else "no clear difference")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr("heedful.pipeline.gold_checks.rule", ruled)
    for name, runs in (("grpo", run_grpo), ("reinforce", run_reinforce), ("raft", run_raft)):
        monkeypatch.setitem(test_watch.RUNS, name, runs)


def given(stage: str, made: Path, out: Path, steps: int = 10) -> Any:
    prompts = str(made / "inputs" / "prompts.jsonl")
    gold = {"judge": "test_watch_methods:falling", "prompts": prompts, "every_steps": 1, "every_kl": 100.0, "pairs": 12}
    watch = {"signs": ["kl"], "gold": gold, "respond": METHODS[stage], "freeze_steps": 2, "cooldown": 5}
    over: dict[str, Any] = {"optimiser": {"learning_rate": 1e-2}, "score": {"normalise": "none"}}
    found = settings(stage, made, out, watch, steps=steps, **over)
    return type(found)(**{**vars(found), "reward": "test_watch_methods:long_answers"})


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS]
)
def test_what_steps_in_is_journalled_and_comes_again_after_a_kill(stage: str, made: Path, tmp_path: Path) -> None:
    manifest, _ = go(stage, given(stage, made, tmp_path / "whole"))
    events = rows(tmp_path / "whole" / "events.jsonl")
    response = {"raise": "SetKLCoefficient", "freeze": "FreezePolicy"}[METHODS[stage]]
    assert [(one["event"], one["step"]) for one in events] == [("Keep", 2), (response, 4), ("RollBack", 7)]
    assert (manifest["steps"], manifest["watch"]["rolled_back_to"]) == (STOPPED, BEST)

    files = ["metrics.jsonl", "alarms.jsonl", "events.jsonl", "model.safetensors"]
    files += [str(one.relative_to(tmp_path / "whole")) for one in sorted((tmp_path / "whole" / "watch").iterdir())]
    for kill in (3, 5, 7):  # after Keep and before its checkpoint; while it responds; while it rolls back
        cut = tmp_path / f"cut-{kill}"
        with pytest.raises(Killed):
            go(stage, given(stage, made, cut), watch=kill_at(kill))
        go(stage, given(stage, made, cut))
        for name in files:
            assert sha256_file(tmp_path / "whole" / name) == sha256_file(cut / name), (kill, name)

    go(stage, given(stage, made, tmp_path / "short", steps=BEST))
    best, end = (load_file(tmp_path / name / "model.safetensors") for name in ("short", "whole"))
    assert all(torch.equal(best[name], end[name]) for name in best)
