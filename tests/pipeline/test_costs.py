"""What a programme cost is the sum of what its manifests say, set against what its rounds won."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Message, Reply, Usage
from heedful.feedback.ai.ledger import Charge, Ledger, charged_in
from heedful.files import read_manifest
from heedful.pipeline.costs import Spent, programme_costs
from heedful.pipeline.rounds import sampling
from rounds_programme import go, write_programme

COST = {"wall_seconds": 10.0, "cpu_seconds": 36.0, "gpu_joules": None, "attempts": 1, "watts_per_core": 10.0}


def put(folder: Path, name: str, *, cost: dict[str, Any] | None = None, **more: Any) -> None:
    """A stage's manifest, as the engine writes it."""
    number, stage = name.split("/")
    place = folder / "rounds" / number / stage
    place.mkdir(parents=True)
    record = {"round": int(number), "stage": stage, "seconds": 10.0, "own_judgments": more.pop("own", {})}
    if cost is not None:
        record["cost"] = {**COST, "energy_wh": 0.1, **cost}
    (place / "manifest.json").write_text(json.dumps({"kind": stage, "files": {}, "record": record, **more}))


def check(mean: float, gold: float | None = None) -> dict[str, Any]:
    figures = {"win_rate": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
    if gold is not None:
        figures["gold_win_rate"] = {"mean": gold, "low": gold, "high": gold}
    return {"figures": figures, "own": {"human": 12, "ai": 0, "simulated": 0}}


@pytest.fixture
def programme(tmp_path: Path) -> Path:
    raters = {"hours": 2.0, "judgments": 40, "money": {"USD": 30.0, "VND": 1000.0}}
    put(tmp_path, "0/sft", cost={})
    put(tmp_path, "1/judge", cost={"raters": raters, "judge": {"requests": 3, "tokens": 500, "money": 0.25}})
    put(tmp_path, "1/policy", cost={"gpu_joules": 7200.0, "energy_wh": 2.1, "attempts": 3})
    put(tmp_path, "1/check", cost={"raters": {"hours": 0.5, "judgments": 12, "money": {"USD": 6.0}}}, **check(0.6))
    put(tmp_path, "1/decide", cost={}, promoted=True)
    put(tmp_path, "2/policy", cost=None)
    put(tmp_path, "2/check", cost={}, **check(0.45, gold=0.55))
    put(tmp_path, "2/decide", cost={}, promoted=False)
    return tmp_path


def test_stages_rounds_and_the_programme_add_up(programme: Path) -> None:
    found = programme_costs(programme)
    assert [one.number for one in found.rounds] == [0, 1, 2]
    first = found.rounds[1]
    assert [one.stage for one in first.stages] == ["judge", "policy", "check", "decide"]  # as the table has them
    assert first.spent.rater_money == {"USD": 36.0, "VND": 1000.0}
    assert (first.spent.rater_hours, first.spent.rater_judgments) == (2.5, 52)
    assert first.spent.cpu_seconds == 4 * 36.0
    assert first.spent.energy_wh == pytest.approx(0.1 + 2.1 + 0.1 + 0.1)
    assert first.spent.gpu_joules == 7200.0
    assert [one.attempts for one in first.stages] == [1, 3, 1, 1]
    assert found.total.cpu_seconds == 7 * 36.0
    assert found.total.wall_seconds == 80.0  # the one that was made before has its seconds
    assert (found.total.judge_requests, found.total.judge_tokens, found.total.judge_money) == (3, 500, 0.25)
    assert found.unmeasured == ("2/policy",)
    assert found.watts_per_core == (10.0,)


def test_a_point_costs_what_was_spent_over_what_was_won(programme: Path) -> None:
    found = programme_costs(programme)
    first, second = found.rounds[1:]
    (gain,) = first.gains
    assert (gain.by, gain.points) == ("human", pytest.approx(10.0))
    each = first.per_point(gain)
    assert each is not None
    assert each["rater_hours"] == pytest.approx(0.25)
    assert each["rater_money"] == {"USD": pytest.approx(3.6), "VND": pytest.approx(100.0)}
    best, worst = first.per_point(gain, gain.high), first.per_point(gain, gain.low)
    assert best is not None
    assert best["rater_hours"] == pytest.approx(2.5 / 20)
    assert worst is None  # the low end is one half
    lost, gold = second.gains
    assert second.per_point(lost) is None
    assert (gold.by, gold.points) == ("gold", pytest.approx(5.0))
    assert found.won("human") == pytest.approx(10.0)  # of kept rounds alone
    assert found.won("gold") == 0.0
    assert found.per_point("gold") is None
    every = found.per_point("human")
    assert every is not None
    assert every["cpu_seconds"] == pytest.approx(7 * 36 / 10)  # rounds that were lost have to be paid for too


def test_ledgers_below_the_folder_count(programme: Path) -> None:
    path = programme / "judged" / "ledger.sqlite"
    ledger = Ledger(path)
    ask = Ask((Message("user", "which?"),), 5)
    number = ledger.sent("k", Charge(1, 100, 5, 0.5))
    assert [(one.path, one.in_use) for one in programme_costs(programme).ledgers] == [("judged/ledger.sqlite", True)]
    with pytest.raises(HeedfulError, match="a run has this ledger open"):
        charged_in(path)
    ledger.paid(number, "k", "m", ask, Reply("A", "stop", (), Usage(90, 1), "m", 0.4), Charge(1, 90, 1, 0.4))
    ledger.sent("lost", Charge(1, 10, 5, 0.1))
    ledger.close()
    assert charged_in(path) == Charge(2, 100, 6, 0.5)
    found = programme_costs(programme)
    assert [(one.path, one.spent.judge_requests) for one in found.ledgers] == [("judged/ledger.sqlite", 2)]
    assert found.total.judge_tokens == 500 + 106
    (programme / "other.sqlite").write_text("no database at all, but text that is long enough to be looked at")
    assert len(programme_costs(programme).ledgers) == 1
    assert charged_in(programme / "none.sqlite") is None


def test_sums_take_every_field() -> None:
    one = Spent(1, 2, 3, 4, 5, 6, {"USD": 1.0}, 7, 8, 9)
    assert one + Spent() == one
    assert one + one == Spent(2, 4, 6, 8, 10, 12, {"USD": 2.0}, 14, 16, 18)


def test_a_folder_without_rounds_is_said(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="there are no rounds here"):
        programme_costs(tmp_path)


def test_a_stage_that_was_interrupted_adds_up_in_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_programme(tmp_path / "programme", rounds=1, cost={"watts_per_core": 20.0})

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sampling, "write_pairs", crash)
        with pytest.raises(KeyboardInterrupt):
            go(folder)
    halfway = programme_costs(folder)
    half = next(one for one in halfway.rounds[1].stages if not one.done)
    assert (half.stage, half.attempts) == ("sample", 1)
    assert half.spent.cpu_seconds > 0
    assert half.spent.energy_wh == pytest.approx(half.spent.cpu_seconds * 20 / 3600)
    go(folder)
    cost = (read_manifest(folder / "rounds/1/sample") or {})["record"]["cost"]
    assert cost["attempts"] == 2
    assert cost["cpu_seconds"] > half.spent.cpu_seconds
    assert cost["energy_wh"] == pytest.approx(cost["cpu_seconds"] * 20 / 3600)
    assert not list((folder / "rounds").rglob(".cost.json"))
    found = programme_costs(folder)
    assert found.unmeasured == ()
    assert all(one.done for each in found.rounds for one in each.stages)
