"""A programme is made once; what changes makes anew just what depends on it; and nothing good is lost on the way."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.files import read_manifest, sha256_file
from heedful.pipeline.rounds import engine as engine_module
from heedful.pipeline.rounds import judging, stages
from heedful.pipeline.rounds.contents import content
from heedful.pipeline.rounds.lock import held, holder
from heedful.pipeline.rounds.programme import foreseen, status
from heedful.pipeline.rounds.rows import read_prompts, read_rows
from heedful.pipeline.rounds.uses import overlapping
from rounds_programme import go, write_programme, write_recipe

ROUND = ["prompts", "sample", "judge", "consensus", "dataset", "reward", "policy", "check", "decide"]
FILES = ("model.safetensors", "preferences.jsonl", "judgments.jsonl", "pairs.jsonl", "uses.jsonl", "decision.json")


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_programme(tmp_path_factory.mktemp("whole") / "programme")
    go(folder)
    return folder


@pytest.fixture
def programme(two_rounds: Path, tmp_path: Path) -> Path:
    """A copy of a programme that has made its two rounds."""
    return Path(shutil.copytree(two_rounds, tmp_path / "programme"))


def results(folder: Path) -> dict[str, str]:
    """Hashes of all that rounds have made."""
    found = [path for path in sorted((folder / "rounds").rglob("*")) if path.name in FILES]
    return {str(path.relative_to(folder)): sha256_file(path) for path in found}


def to_make(folder: Path, **over: Any) -> list[str]:
    return [one.step.name for one in foreseen(folder, **over) if not one.done]


def test_two_rounds_are_made_in_order_and_then_there_is_nothing_to_do(programme: Path) -> None:
    assert go(programme)["made"] == []
    names = [one.step.name for one in foreseen(programme)]
    assert names == ["0/sft", *(f"{number}/{name}" for number in (1, 2) for name in ROUND)]
    found = status(programme)
    assert (found["done"], found["next"], found["waiting"], found["held_by"]) == (19, None, None, None)


def test_every_result_says_what_it_was_made_from(programme: Path) -> None:
    record = (read_manifest(programme / "rounds/2/policy") or {})["record"]
    assert {role: one["from"] for role, one in record["inputs"].items()} == {
        "start": "rounds/1/policy",
        "prompts": "rounds/2/prompts",
        "reward": "rounds/2/reward",
    }
    assert all(len(one["sha256"]) == 64 for one in record["inputs"].values())
    assert record["settings"]["rloo.steps"] == 2
    assert record["started"] <= record["ended"]
    assert record["seconds"] > 0
    pairs = [len(list(read_rows(programme / f"rounds/{number}/judge/judgments.jsonl"))) for number in (1, 2)]
    assert record["judged_in"] == {f"{k}/judge": {"human": 0, "ai": n, "simulated": 0} for k, n in enumerate(pairs, 1)}
    assert record["judgments"] == {"human": 0, "ai": sum(pairs), "simulated": 0}
    assert record["own_judgments"] == {}


def test_prompts_keep_their_use_over_the_rounds(programme: Path) -> None:
    texts = {name: [] for name in ("train", "reward", "check")}
    for number in (1, 2):
        for name in texts:
            texts[name] += read_prompts(programme / f"rounds/{number}/prompts/{name}.jsonl")
    assert overlapping(texts["train"], texts["reward"] + texts["check"]) == []
    assert overlapping(texts["reward"], texts["check"]) == []
    first, second = (set(read_prompts(programme / f"rounds/{n}/prompts/check.jsonl")) for n in (1, 2))
    assert not first & second  # there are enough that nobody has been asked about
    policies = {row["policy_b"] for row in read_rows(programme / "rounds/2/sample/pairs.jsonl")}
    assert len(policies) == 2  # the last one and an older one
    taught = [row["prompt"] for row in read_rows(programme / "demonstrations.jsonl")]
    trained = {prompt[0].content for prompt in texts["train"]}
    assert set(taught) <= trained


@pytest.mark.parametrize(
    ("over", "made"),
    [
        ({"rloo": {"steps": 3}}, ["policy", "check", "decide"]),
        ({"rloo": {"run": {"checkpoint_every": 2}}, "reward": {"memory": {"micro_batch_tokens": 512}}}, []),
        ({"reward": {"optimiser": {"learning_rate": 3e-4}}}, ["reward", "policy", "check", "decide"]),
        ({"check": {"above": 0.2}}, ["decide"]),
        ({"check": {"pairs": 11}}, ["prompts", "check", "decide"]),
        ({"learn": {"decay": 0.5}}, ["dataset"]),  # of one round: the same preferences, so that nothing follows
        ({"ppo": {"steps": 9}}, []),  # of a method that is not chosen
    ],
)
def test_one_setting_makes_anew_just_what_depends_on_it(programme: Path, over: dict[str, Any], made: list[str]) -> None:
    write_recipe(programme, **over)
    would = to_make(programme, rounds=1)
    assert go(programme, rounds=1)["made"] == [f"1/{name}" for name in made]
    assert set(made) <= {name.removeprefix("1/") for name in would}
    assert bool(would) == bool(made)
    assert to_make(programme, rounds=1) == []


def test_what_would_be_made_is_said_with_its_reason_and_nothing_is_touched(programme: Path) -> None:
    before = results(programme)
    write_recipe(programme, rloo={"steps": 3})
    why = {one.step.name: one.why for one in foreseen(programme) if not one.done}
    assert why["1/policy"] == ("rloo.steps: 2 before, 3 now",)
    assert why["1/check"] == ("policy: rounds/1/policy is made first",)
    assert "policy: the policy after round 1 is made first" in why["2/sample"]
    assert "2/prompts" not in why
    with open(programme / "demonstrations.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "another one", "completion": "yes"}) + "\n")
    why = {one.step.name: one.why for one in foreseen(programme) if not one.done}
    assert why["0/sft"] == ("the content of demonstrations has changed",)
    assert results(programme) == before


def test_a_change_from_a_round_on_leaves_the_rounds_before_it(programme: Path) -> None:
    write_recipe(programme, changes={2: {"rloo": {"steps": 3}}})
    assert go(programme)["made"] == ["2/policy", "2/check", "2/decide"]


def test_code_that_makes_something_else_makes_it_anew(programme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = [dataclasses.replace(one, version=2) if one.name == "consensus" else one for one in stages.STAGES]
    monkeypatch.setattr(stages, "STAGES", tuple(raised))
    (first, *_) = [one for one in foreseen(programme, 1) if not one.done]
    assert first.why == ("its code has changed (version 1 before, 2 now)",)
    assert go(programme, rounds=1)["made"] == ["1/consensus"]


def test_a_result_that_is_gone_is_made_again_to_the_bit_and_what_follows_stays(programme: Path) -> None:
    before = results(programme)
    shutil.rmtree(programme / "rounds/1/policy")
    assert go(programme)["made"] == ["1/policy"]
    assert results(programme) == before


def test_a_file_that_is_not_what_was_written_is_named_and_nothing_else_touched(programme: Path) -> None:
    broken = programme / "rounds/1/policy/model.safetensors"
    data = bytearray(broken.read_bytes())
    data[-5] ^= 1
    broken.write_bytes(data)
    before = results(programme)
    write_recipe(programme, changes={2: {"sample": {"pairs": 10}}})
    with pytest.raises(HeedfulError, match=r"is not what was written.*") as found:
        go(programme)
    assert found.value.where == str(broken)
    assert results(programme) == before
    shutil.rmtree(broken.parent)
    assert go(programme)["made"][0] == "1/policy"
    assert read_manifest(programme / "rounds/2/decide")


def test_a_full_disk_is_said_and_the_last_good_state_stands(programme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results(programme)
    write_recipe(programme, judge={"votes": 2})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(judging, "write_rows", full)
        with pytest.raises(HeedfulError, match="the disk is full"):
            go(programme)
    assert results(programme) == before
    assert go(programme)["made"] == ["1/judge", "2/judge"]  # the AI judge has one vote: all comes out as it was
    assert results(programme) == before


def test_a_crash_before_the_new_result_stands_costs_nothing(programme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipe(programme, check={"above": 0.2})

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "put_in_place", crash)
        with pytest.raises(KeyboardInterrupt):
            go(programme, rounds=1)
    place = programme / "rounds/1/decide"
    place.rename(programme / "rounds/1/.decide.old")  # as between the two renames
    stamp = (place.with_name("decide.part") / "decision.json").stat().st_mtime_ns
    assert go(programme, rounds=1)["made"] == ["1/decide"]
    assert (place / "decision.json").stat().st_mtime_ns == stamp  # the whole result was waiting there
    assert not list((programme / "rounds/1").glob(".*.old"))


def test_what_was_begun_under_other_settings_is_not_gone_on_with(
    programme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heedful.training import run

    whole = Path(shutil.copytree(programme, programme.with_name("whole")))
    for folder in (programme, whole):
        write_recipe(folder, rloo={"steps": 4})

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            go(programme, rounds=1)
    assert status(programme)["next"] == "1/policy"
    assert {row["step"]: row["state"] for row in status(programme)["steps"]}["1/policy"] == "begun"
    for folder in (programme, whole):
        write_recipe(folder, rloo={"steps": 3})
        go(folder, rounds=1)
    assert results(programme) == results(whole)


def test_a_round_that_is_not_better_is_rolled_back(tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "programme", check={"above": 1.0})
    found = go(folder)
    assert [row["promoted"] for row in found["rounds"]] == [False, False]
    assert [row["policy"] for row in found["rounds"]] == ["rounds/0/sft", "rounds/0/sft"]
    record = (read_manifest(folder / "rounds/2/policy") or {})["record"]
    assert record["inputs"]["start"]["from"] == "rounds/0/sft"


def test_a_base_model_of_ones_own_is_what_is_gone_back_to(tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "programme", demonstrations=None, check={"above": 1.0}, rounds=1)
    found = go(folder)
    assert found["made"][0] == "1/prompts"
    assert found["rounds"][0]["policy"] == "model"
    assert to_make(folder, rounds=2)[0] == "2/prompts"
    assert go(folder, rounds=2)["rounds"][1]["policy"] == "model"


OTHERS: dict[str, dict[str, Any]] = {
    "ppo": {"critic_learning_rate": 1e-3, "rollout": {"prompts_per_step": 4, "max_new_tokens": 6}, "steps": 1},
    "grpo": {"steps": 1, "rollout": {"prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 6}},
    "reinforce": {"steps": 1, "rollout": {"prompts_per_step": 4, "max_new_tokens": 6}},
    "raft": {"steps": 1, "rollout": {"prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 6}},
    "online_dpo": {"steps": 1, "rollout": {"prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 6}},
    "dpo": {"batch_size": 8},
}


@pytest.mark.parametrize(
    "method",
    ["dpo", "ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted({*OTHERS} - {"dpo", "ppo"}))],
)
def test_any_method_trains_a_round(method: str, programme: Path) -> None:
    common = {"records": {"max_length": 64, "held_out": 0.0}, "run": {"sample_every": 0, "tensorboard": False}}
    common |= {} if method == "dpo" else {"watch": {"mode": "off"}}
    write_recipe(programme, learn={"optimise": method}, **{method: {**OTHERS[method], **common}})
    made = go(programme, rounds=1)["made"]
    assert made == ["1/policy", "1/check", "1/decide"]
    assert (read_manifest(programme / "rounds/1/policy") or {})["kind"] == method.replace("_", "-")


def test_a_method_without_a_reward_model_fits_none(tmp_path: Path) -> None:
    dpo = {"batch_size": 8, "records": {"max_length": 64}, "run": {"sample_every": 0, "tensorboard": False}}
    folder = write_programme(tmp_path / "programme", learn={"optimise": "dpo"}, dpo=dpo, rounds=1)
    assert "1/reward" not in go(folder)["made"]


def test_a_warm_reward_model_goes_on_from_the_last(programme: Path) -> None:
    write_recipe(programme, learn={"warm": True})
    assert go(programme)["made"][0] == "2/reward"
    manifest = read_manifest(programme / "rounds/2/reward") or {}
    assert manifest["parents"]["model"]["name"].endswith("rounds/1/reward")
    assert manifest["record"]["inputs"]["last"]["from"] == "rounds/1/reward"


def test_preferred_answers_refresh_the_sft_model_on_prompts_that_train(tmp_path: Path) -> None:
    learn = {"start": "sft", "refresh": 8, "refresh_above": 0.9}
    folder = write_programme(tmp_path / "programme", learn=learn, rounds=1)
    made = go(folder)["made"]
    assert made.index("1/sft") == made.index("1/dataset") + 1
    chosen = list(read_rows(folder / "rounds/1/consensus/chosen.jsonl"))
    manifest = read_manifest(folder / "rounds/1/sft") or {}
    assert 0 < len(chosen) <= 8
    assert manifest["data"]["records"] == 10 + len(chosen)
    trained = {prompt[0].content for prompt in read_prompts(folder / "rounds/1/prompts/train.jsonl")}
    assert {row["prompt"][0]["content"] for row in chosen} <= trained
    assert manifest["record"]["judgments"]["ai"] > len(chosen)


def test_decay_weighs_earlier_rounds_less(programme: Path) -> None:
    write_recipe(programme, learn={"decay": 0.5})
    go(programme)
    weights = [row["weight"] for row in read_rows(programme / "rounds/2/dataset/preferences.jsonl")]
    counts = [len(list(read_rows(programme / f"rounds/{n}/consensus/preferences.jsonl"))) for n in (1, 2)]
    assert weights == [0.5] * counts[0] + [1.0] * counts[1]


def test_a_judge_that_is_written_anew_judges_anew(
    programme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_judge.py").write_text("def score(prompts, texts):\n    return [len(one) for one in texts]\n")
    monkeypatch.syspath_prepend(tmp_path)
    write_recipe(programme, ai={"judge": "own_judge:score"})
    assert {"1/judge", "1/check"} <= set(to_make(programme, rounds=1))
    before = content("own_judge:score")
    (tmp_path / "own_judge.py").write_text("def score(prompts, texts):\n    return [-len(one) for one in texts]\n")
    assert content("own_judge:score") != before
    assert content("some/hub-id") == content("some/hub-id") != content("some/other")


def test_what_was_begun_under_a_setting_that_was_put_back_is_cleared(
    programme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(programme, check={"above": 0.2})

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "put_in_place", crash)
        with pytest.raises(KeyboardInterrupt):
            go(programme, rounds=1)
    assert (programme / "rounds/1/decide.part").exists()
    write_recipe(programme)
    assert go(programme)["made"] == []
    assert not (programme / "rounds/1/decide.part").exists()


# --- the lock ---


def _hold(folder: Path, told: Any) -> None:
    with held(folder):
        told.send(os.getpid())
        signal.pause()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[multiprocessing.Process]:
    """Another process that works on the folder."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == process.pid
    yield process
    process.kill()
    process.join()


def test_a_second_process_is_refused_by_name_and_a_dead_ones_lock_is_taken(
    tmp_path: Path, other: multiprocessing.Process
) -> None:
    said = rf"process {other.pid} on \S+ works on this programme, since \d{{4}}-"
    with pytest.raises(HeedfulError, match=said), held(tmp_path):
        pass
    assert (holder(tmp_path) or {})["pid"] == other.pid
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert holder(tmp_path) is None
    with held(tmp_path):
        assert (holder(tmp_path) or {})["pid"] == os.getpid()
    assert holder(tmp_path) is None
