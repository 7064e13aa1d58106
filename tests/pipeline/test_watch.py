"""The watch over online stages: alarms, interventions, fresh checks, rolling back, and all of it again after a kill."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from heedful.core.statistics import Interval
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.files import artifact, read_manifest, sha256_file
from heedful.monitoring.checks import Check, Contest, Reply, Ruling, ScoreJudge
from heedful.monitoring.monitor import Monitor
from heedful.monitoring.signs import Limits
from heedful.pipeline.gold_checks import ANSWERS_ANEW, GoldChecks, open_judge
from heedful.pipeline.quickstart_report import watched as saw
from heedful.pipeline.stages.online import run_online_dpo, run_ppo, run_rloo
from heedful.pipeline.watching import Watcher
from heedful.training.config.watch import GoldConfig, WatchConfig
from heedful.training.progress import Display
from heedful.training.run import Watch
from heedful.training.state import (
    Event,
    FreezePolicy,
    Keep,
    RollBack,
    SetKLCoefficient,
    Step,
    Stop,
    TrainState,
)
from stage_runs import config, write_inputs, write_model

RUNS = {"rloo": run_rloo, "ppo": run_ppo, "online-dpo": run_online_dpo}
LIMITS = "signs: {length: {warn: 0.5, act: 0.9}}\n"
"""So low that every run passes them at once."""


class Killed(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, prompts for checks, a policy, a reward model, and limits that are always passed."""
    folder = tmp_path_factory.mktemp("watch")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    write_model(folder / "reward", kind="reward")
    (folder / "limits.yaml").write_text(LIMITS)
    return folder


def settings(stage: str, made: Path, out: Path, watch: dict[str, Any], **over: Any) -> Any:
    given = {"steps": 8, "optimiser": {"learning_rate": 1e-2}, "kl": {"adaptive": False}, **over}
    if stage == "online-dpo":
        given.pop("kl")
    short = {"window": 1, "baseline_steps": 1, "cooldown": 3, "mode": "act", **watch}
    return config(stage, made / "inputs", made / "policy", made / "reward", out, watch=short, **given)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def go(stage: str, given: Any, **more: Any) -> tuple[dict[str, Any], str]:
    text = io.StringIO()
    manifest = RUNS[stage](given, Display(Console(file=text, width=1000)), **more)
    return manifest, text.getvalue()


def kill_at(number: int) -> Any:
    def killed(step: Step) -> list[Event]:
        if step.number == number:
            raise Killed
        return []

    return lambda models: Watch(intervene=killed)


def same_after_a_kill(stage: str, at: int, whole: Path, cut: Any) -> None:
    with pytest.raises(Killed):
        go(stage, cut, watch=kill_at(at))
    go(stage, cut)
    names = ["model.safetensors", "metrics.jsonl", "alarms.jsonl", "events.jsonl"]
    names += [str(path.relative_to(whole)) for path in sorted((whole / "watch").glob("*"))]
    for name in names:
        assert sha256_file(whole / name) == sha256_file(cut.out / name), name


def test_by_default_alarms_are_told_and_nothing_is_done(made: Path, tmp_path: Path) -> None:
    given = settings("rloo", made, tmp_path / "run", {"mode": "warn", "thresholds": str(made / "limits.yaml")})
    manifest, said = go("rloo", given)
    alarms = rows(tmp_path / "run" / "alarms.jsonl")
    assert alarms[0]["sign"] == "length"
    assert alarms[0]["tier"] == "act"
    assert alarms[0]["done"] == []
    assert alarms[0]["sentence"] in said
    assert manifest["watch"]["alarms"] == len(alarms)
    assert rows(tmp_path / "run" / "events.jsonl") == []
    off, _ = go("rloo", settings("rloo", made, tmp_path / "off", {"mode": "off"}))
    assert "watch" not in off
    assert sha256_file(tmp_path / "off" / "model.safetensors") == sha256_file(tmp_path / "run" / "model.safetensors")


@pytest.mark.parametrize(("respond", "at", "after"), [("raise", 4, [1, 4]), ("freeze", 6, [1, 4, 7])])
def test_a_response_before_and_after_a_kill_ends_with_the_same_bits(
    respond: str, at: int, after: list[int], made: Path, tmp_path: Path
) -> None:
    """Responses come after these steps, while the figure is beyond the limit for acting; checkpoints after 2, 4, 6."""
    watch = {"thresholds": str(made / "limits.yaml"), "respond": respond, "freeze_steps": 2}
    stage = "ppo" if respond == "freeze" else "rloo"
    go(stage, settings(stage, made, tmp_path / "whole", watch))
    events = rows(tmp_path / "whole" / "events.jsonl")
    assert [event["step"] for event in events] == after
    same_after_a_kill(stage, at, tmp_path / "whole", settings(stage, made, tmp_path / "cut", watch))
    metrics = rows(tmp_path / "whole" / "metrics.jsonl")
    first = events[0]["step"]
    if respond == "raise":
        assert metrics[first]["kl_coefficient"] == pytest.approx(1.5 * metrics[first - 1]["kl_coefficient"])
    else:
        assert [row.get("frozen") for row in metrics[first : first + 3]] == [1.0, 1.0, None]


def test_a_frozen_policy_rests_while_its_critic_learns(made: Path, tmp_path: Path) -> None:
    watch = {"thresholds": str(made / "limits.yaml"), "respond": "freeze", "freeze_steps": 100}
    go("ppo", settings("ppo", made, tmp_path / "long", watch))
    go("ppo", settings("ppo", made, tmp_path / "short", watch, steps=3))
    long, short = (load_file(tmp_path / name / "model.safetensors") for name in ("long", "short"))
    assert all(torch.equal(long[name], short[name]) for name in long)
    critics = [sha256_file(tmp_path / name / "critic" / "model.safetensors") for name in ("long", "short")]
    assert critics[0] != critics[1]


def falling(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """Gold that likes short answers; the random reward model does not care."""
    return [-float(len(text.split())) for text in completions]


def long_answers(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """A proxy that pays for length, and so is hacked at once."""
    return [float(len(text.split())) for text in completions]


HACKED = {"gold": {"judge": "test_watch:falling", "every_steps": 2, "every_kl": 100.0, "pairs": 40}, "signs": ["kl"]}


def hacked(made: Path, out: Path, **watch: Any) -> Any:
    prompts = made / "inputs" / "prompts.jsonl"
    gold = {**HACKED["gold"], "prompts": str(prompts), **watch.pop("gold", {})}
    given = settings(
        "rloo",
        made,
        out,
        {**HACKED, **watch, "gold": gold},
        steps=14,
        optimiser={"learning_rate": 3e-2},
        score={"normalise": "none", "missing_eos_penalty": 0.0},
    )
    return type(given)(**{**vars(given), "reward": "test_watch:long_answers"})


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.usefixtures("importable")
def test_proxy_up_and_gold_down_stops_the_run_and_puts_the_best_back(made: Path, tmp_path: Path) -> None:
    manifest, said = go("rloo", hacked(made, tmp_path / "whole"))
    watch = manifest["watch"]
    assert manifest["steps"] < 14
    assert "stop, and back to the starting policy" in manifest["stopped"]
    assert "stopped, and back to the starting policy" in said
    assert (watch["rolled_back_to"], watch["gold"]["best_step"]) == (0, 0)
    fell = [check for check in watch["gold"]["checks"] if check["against_best"]["high"] < 0.5]
    assert fell
    start, end = load_file(made / "policy" / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    assert all(torch.equal(start[name], end[name]) for name in start)
    assert not (tmp_path / "whole" / "kept").exists()
    assert rows(tmp_path / "whole" / "alarms.jsonl")[-1]["sign"] == "gold"
    same_after_a_kill("rloo", manifest["steps"], tmp_path / "whole", hacked(made, tmp_path / "cut"))


class Checks(GoldChecks):
    """Fresh checks whose outcome is known beforehand: step -> ruling."""

    def __init__(self, rulings: dict[int, Ruling]) -> None:
        self.rulings, self.checks, self.best_step, self.people = rulings, [], 0, None
        self.open = None
        self.last_kl, self.last_step = 0.0, 0

    def after(self, step: int, kl: float | None, *, last: bool = False) -> Ruling | None:
        ruling = self.rulings.get(step)
        if ruling is not None:
            self.best_step = ruling.best_step
            contest = Contest(Interval(0.4, 0.3, 0.45), Interval(1.0, 0.5, 1.5), "worse", 50, 50)
            self.checks.append(Check(step, 1.0, ruling.best_step, contest, contest))
        return ruling


def watched(out: Path, checks: GoldChecks | None, lengths: list[float], **given: Any) -> list[list[Event]]:
    """The events that a watch names after each step of a run with these lengths."""
    out.mkdir(exist_ok=True)
    state = TrainState({}, {}, 0, scalars={"kl_coefficient": 0.0})
    monitor = Monitor({"length": Limits(1.5, 2.0, 3.0)}, window=1, baseline_steps=1)
    config = WatchConfig(**{"mode": "act", **given})
    watcher = Watcher(config, monitor, checks, state, out, Display(Console(file=io.StringIO())))
    return [watcher.intervene(Step(i, {"length": length, "kl": 1.0})) for i, length in enumerate(lengths, 1)]


def test_which_event_follows_which_alarm(tmp_path: Path) -> None:
    better, fell, stop = Ruling(2, False, False, "good"), Ruling(2, True, False, "bad"), Ruling(2, True, True, "twice")
    worse = Ruling(0, True, False, "bad")
    checked = watched(tmp_path / "a", Checks({2: better, 4: fell, 6: stop}), [9.0] * 6)
    assert checked == [[], [Keep("good")], [], [SetKLCoefficient(0.01)], [], [RollBack(2, "twice")]]
    frozen = watched(tmp_path / "b", Checks({2: worse}), [9.0] * 3, respond="freeze", freeze_steps=7)
    assert frozen == [[], [FreezePolicy(7)], []]
    (_, (acted,), *quiet, (again,)) = watched(tmp_path / "c", None, [9.0, 20.0, 20.0, 20.0, 20.0], cooldown=3)
    assert (acted, again) == (SetKLCoefficient(0.01), SetKLCoefficient(0.01))
    assert quiet == [[], []]
    (_, (ended,)) = watched(tmp_path / "d", None, [9.0, 30.0])
    assert isinstance(ended, Stop)
    assert "3.33 times as long" in ended.reason
    (_, _, (back,)) = watched(tmp_path / "e", Checks({2: better}), [9.0, 9.0, 30.0])
    assert isinstance(back, RollBack)
    assert back.to_step == 2
    assert watched(tmp_path / "f", None, [9.0, 9.0], step_cap=2)[1] == [Stop("step cap: 2 steps")]
    assert watched(tmp_path / "g", Checks({1: stop}), [9.0, 30.0], mode="warn") == [[], []]
    assert len(rows(tmp_path / "g" / "alarms.jsonl")) == 2


def test_a_sign_that_is_back_below_its_tier_asks_for_no_more_responses(tmp_path: Path) -> None:
    events = watched(tmp_path / "a", None, [9.0, 20.0] + [15.0] * 6, cooldown=2)
    assert [bool(event) for event in events] == [False, True] + [False] * 6


def gold_checks(folder: Path, answered: list[int]) -> GoldChecks:
    """Checks on 20 prompts by length; a policy that is clearly better from step 2 on, and says when it is asked."""

    def policy(seed: int) -> list[Reply]:
        answered.append(seed)
        return [Reply("long " * 9 + str(seed), True, 1.0)] * 20

    def start(seed: int) -> list[Reply]:
        return [Reply("short", True, 0.0)] * 20

    judge = ScoreJudge(lambda prompts, replies: [len(reply.text.split()) for reply in replies])
    prompts: list[Any] = [((Message("user", f"q {i}"),)) for i in range(20)]
    return GoldChecks(GoldConfig(judge="world", every_kl=2.0, pairs=20), judge, prompts, policy, start, folder, 5)


def test_a_check_is_due_when_the_kl_has_moved_either_way(tmp_path: Path) -> None:
    checks = gold_checks(tmp_path, [])
    assert not checks.due(1, 1.9)
    assert checks.after(3, 6.0) is not None
    assert not checks.due(4, 7.9)
    assert not checks.due(4, 4.1)
    assert checks.due(4, 3.9)  # a response has taken it back


def test_a_new_best_answers_anew_for_the_checks_to_come_and_only_once(tmp_path: Path) -> None:
    answered: list[int] = []
    checks = gold_checks(tmp_path, answered)
    ruling = checks.after(2, 3.0)
    assert ruling is not None
    assert ruling.best_step == 2
    assert len(set(answered)) == 1 + ANSWERS_ANEW
    kept = json.loads((tmp_path / "check-00000002.json").read_text())
    assert kept["replies"] not in kept["opponents"]
    again = gold_checks(tmp_path, answered)
    assert again.after(2, 3.0) == ruling
    assert len(answered) == 1 + ANSWERS_ANEW  # after a kill none is asked for again
    met = []
    for step in range(3, 9):
        met.append([asdict(reply) for reply in again._opponents(2)])
        again.checks.append(replace(again.checks[0], step=step, best_step=2))
    assert met == [*kept["opponents"], *kept["opponents"][:2]]  # in turn


def test_the_starting_policys_answers_take_turns_too_and_are_made_once(tmp_path: Path) -> None:
    seeds: list[int] = []
    checks = gold_checks(tmp_path, [])

    def start(seed: int) -> list[Reply]:
        seeds.append(seed)
        return [Reply(f"answer {seed}", True, 0.0)] * 20

    checks.start = start
    met = []
    for step in range(2 * ANSWERS_ANEW):
        met.append(checks._opponents(0))
        one = Contest(Interval(0.5, 0.3, 0.7), Interval(1.0, 0.5, 1.5), "undecided", 20, 20)
        checks.checks.append(Check(step + 1, 1.0, 0, one, one))
    assert met[:ANSWERS_ANEW] == met[ANSWERS_ANEW:]
    kept = json.loads((tmp_path / "check-00000000.json").read_text())
    assert [[asdict(reply) for reply in replies] for replies in met[1:ANSWERS_ANEW]] == kept["opponents"]
    assert len({replies[0].text for replies in met}) == len(seeds) == len(set(seeds)) == ANSWERS_ANEW
    checks.checks.clear()
    assert checks._opponents(0) == checks._replies(0) == met[0]


class Forecasts(Checks):
    """Fresh checks whose gold falls beyond a KL of 5, one after each step, at a KL of as much as its number."""

    def after(self, step: int, kl: float | None, *, last: bool = False) -> Ruling | None:
        d = (step / 5) ** 0.5
        gain = 1.4 * (2 * d - d * d)
        gold = Interval(gain, gain - 0.1, gain + 0.1)
        contest = Contest(Interval(0.5, 0.3, 0.7), Interval(1.0, 0.5, 1.5), "undecided", 50, 50, gold)
        self.checks.append(Check(step, float(step), 0, contest, contest))
        return Ruling(0, False, False, "no difference")

    def restore(self, kept: dict[str, Any]) -> None:
        self.checks = []
        for step in range(1, len(kept["checks"]) + 1):
            self.after(step, 0.0)


def test_a_budget_that_the_checks_predict_is_told_of_and_responded_to(tmp_path: Path) -> None:
    def steps(state: TrainState, out: Path, first: int, last: int, **given: Any) -> list[list[Event]]:
        config = WatchConfig(**{"mode": "act", "cooldown": 4, "window": 1, **given})
        monitor = Monitor({"length": Limits()}, window=1, baseline_steps=1)
        watcher = Watcher(config, monitor, Forecasts({}), state, out, Display(Console(file=io.StringIO())))
        return [watcher.intervene(Step(i, {"kl": float(i)})) for i in range(first, last + 1)]

    def begun() -> TrainState:
        return TrainState({}, {}, 0, scalars={"kl_coefficient": 0.1})

    whole, out = begun(), tmp_path / "whole"
    out.mkdir()
    events = steps(whole, out, 1, 20)
    acted = [i for i, event in enumerate(events, 1) if event]
    assert acted == list(range(acted[0], 21, 4))
    assert 5 < acted[0] < 16
    assert events[acted[0] - 1] == [SetKLCoefficient(pytest.approx(0.15))]
    alarms = rows(out / "alarms.jsonl")
    assert [alarm["sign"] for alarm in alarms] == ["budget"]
    assert "that the fresh checks so far allow" in alarms[0]["sentence"]
    forecast = json.loads((out / "watch" / "forecast.json").read_text())
    assert forecast["kl"] == [float(i) for i in range(1, 21)]
    assert 2 < forecast["budget"]["kl"] < 5

    cut, parts = begun(), tmp_path / "cut"
    parts.mkdir()
    first = steps(cut, parts, 1, acted[0] + 1)
    on = TrainState({}, {}, 0, step=acted[0] + 1, scalars=json.loads(json.dumps(cut.scalars)))
    assert first + steps(on, parts, acted[0] + 2, 20) == events
    assert sha256_file(parts / "alarms.jsonl") == sha256_file(out / "alarms.jsonl")
    assert sha256_file(parts / "watch" / "forecast.json") == sha256_file(out / "watch" / "forecast.json")

    quiet = tmp_path / "quiet"
    quiet.mkdir()
    assert not any(steps(begun(), quiet, 1, 20, gold=GoldConfig(judge="world", predict=False)))
    assert not (quiet / "watch").exists()


@pytest.mark.usefixtures("importable")
def test_a_finished_check_is_not_asked_again_after_a_kill(made: Path, tmp_path: Path) -> None:
    given = hacked(made, tmp_path / "run", mode="warn")
    with pytest.raises(Killed):
        go("rloo", given, watch=kill_at(4))  # after the check of step 4, before its checkpoint
    path = tmp_path / "run" / "watch" / "check-00000002.json"
    kept = json.loads(path.read_text())
    kept["check"]["against_best"]["pairs"] = 7
    path.write_text(json.dumps(kept))
    (tmp_path / "run" / "watch" / "check-00000004.json").unlink()
    with pytest.raises(Killed):
        go("rloo", given, watch=kill_at(3))
    manifest, _ = go("rloo", given)
    assert json.loads(path.read_text())["check"]["against_best"]["pairs"] == 7
    assert [check["step"] for check in manifest["watch"]["gold"]["checks"]][:2] == [2, 4]


def test_the_region_of_states_is_a_sign(made: Path, tmp_path: Path) -> None:
    watch = {"mode": "warn", "latent_samples": 40}
    given = settings("ppo", made, tmp_path / "run", watch, steps=2)
    go("ppo", given)
    assert all(0 <= row["latent_outliers"] <= 1 for row in rows(tmp_path / "run" / "metrics.jsonl"))
    plain = settings("ppo", made, tmp_path / "plain", {"mode": "off"}, steps=2)
    go("ppo", plain)
    hashes = [sha256_file(tmp_path / name / "model.safetensors") for name in ("run", "plain")]
    assert hashes[0] == hashes[1]  # looking changes nothing


@pytest.mark.parametrize(
    ("stage", "watch", "said"),
    [
        ("rloo", {"signs": ["lenght"]}, "Did you mean 'length'"),
        ("online-dpo", {}, "Set watch.respond freeze"),
        ("rloo", {"thresholds": "nowhere.yaml"}, "watch.thresholds"),
        ("rloo", {"gold": {"judge": "world"}}, "too few for fresh checks"),
        ("rloo", {"gold": {"judge": "nowhere:judge"}, "signs": ["kl"]}, "too few|cannot import"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_anything_is_written(
    stage: str, watch: dict[str, Any], said: str, made: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeedfulError, match=said):
        go(stage, settings(stage, made, tmp_path / "run", watch))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "watch",
    [
        {"raise_factor": 1.0},
        {"window": 0},
        {"latent_samples": 10},
        {"kl_budget": 0.0},
        {"step_cap": 0},
        {"gold": {"prompts": "x.jsonl"}},
        {"gold": {"judge": "world", "pairs": 5}},
        {"gold": {"judge": "world", "every_kl": 0.0}},
        {"gold": {"judge": "world", "studio": "https://studio.example.org"}},
        {"gold": {"judge": "people:shop", "votes": 0}},
        {"gold": {"judge": "world", "meanwhile": "train"}},
        {"gold": {"judge": "people:shop", "patience": 0.0}},
    ],
)
def test_settings_that_mean_nothing(watch: dict[str, Any], made: Path, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError):
        settings("rloo", made, tmp_path / "run", watch)


def test_the_report_says_what_the_watch_saw(tmp_path: Path) -> None:
    folder = tmp_path / "rounds" / "1" / "ppo"
    work: Any = SimpleNamespace(out=tmp_path)
    assert saw(work) == ()
    with artifact(folder, {"kind": "ppo", "watch": {"alarms": 0}}):
        pass
    assert saw(work)[0].paragraphs == ("No sign of reward hacking alarmed.",)
    rate = {"mean": 0.7, "low": 0.55, "high": 0.85}
    panel = {"raters": 4, "trained": 1, "fresh_only": False}
    left = {"step": 20, "batch": "b", "places": 60, "filled": 7, "held": 2}
    check = {"step": 10, "kl": 1.25, "against_start": rate, "panel": panel}
    with artifact(folder, {"kind": "ppo", "watch": {"gold": {"checks": [check], "left_open": left}}}):
        pass
    assert saw(work)[0].paragraphs[1:] == (
        "Step 10, KL 1.25: wins 70% of fresh pairs against the start (55% to 85%); 4 raters, 1 of whom gave training "
        "judgments.",
        "Step 20: the run ended while people judged; 7 of 60 judgments are kept, and 2 pairs lay before raters.",
    )
    with artifact(folder, {"kind": "ppo", "watch": {"alarms": 0}}):
        pass
    (folder / "alarms.jsonl").write_text('{"step": 7, "sign": "length", "tier": "warn", "sentence": "Long."}\n')
    assert saw(work)[0].paragraphs == ("Step 7, length (warn): Long.",)


def test_the_worlds_truth_judges() -> None:
    from heedful.monitoring.checks import Reply
    from heedful.world.world import World

    world = World(3)
    prompt = world.prompts("train")[0].prompt
    good, bad = Reply(world.topic_of(prompt).right[0][0], True, 0.0), Reply("nonsense", False, 9.0)
    ((vote,),) = open_judge("world:3")([prompt], [good], [bad])
    assert vote.won == 1.0


def test_a_thresholds_file_may_hold_the_budget_and_the_cap(made: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("step_cap: 3\nsigns: {}\n")
    manifest, _ = go("rloo", settings("rloo", made, tmp_path / "run", {"thresholds": str(limits), "signs": ["kl"]}))
    assert (manifest["steps"], manifest["stopped"]) == (3, "step cap: 3 steps")
    assert read_manifest(tmp_path / "run") == manifest
    cut = settings("rloo", made, tmp_path / "cut", {"thresholds": str(limits), "signs": ["kl"]})
    with pytest.raises(Killed):
        go("rloo", cut, watch=kill_at(3))
    limits.write_text("step_cap: 4\nsigns: {}\n")
    with pytest.raises(HeedfulError, match=r"watch\.thresholds is not what this run was begun with"):
        go("rloo", cut)
