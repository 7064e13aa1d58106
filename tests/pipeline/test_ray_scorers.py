"""Reward models in actors of their own: the same rewards, where settings say, also when a scorer is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import heedful
from architectures import WORDS
from heedful.errors import HeedfulError
from heedful.training.settings import to_yaml
from stage_runs import config, write_inputs, write_model
from worker_processes import command, curve, run_workers

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

STEPS = 12


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray-scorers")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    write_model(folder / "reward", kind="reward")
    return folder


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two hosts, as Ray sees it: one to train, one to judge."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(heedful.__file__).parents[1]))  # from whatever folder a process starts

    for attempt in range(3):  # a host has 30 s to come up, which a busy machine may not keep
        made = Cluster(initialize_head=False)
        try:
            made.add_node(num_cpus=4, resources={"training": 1})
            made.add_node(num_cpus=2, resources={"judging": 1})
            break
        except Exception:
            made.shutdown()
            if attempt == 2:
                raise
    try:
        yield made
    finally:
        made.shutdown()


def parents_of(name: str) -> dict[int, int]:
    """Which process started each of Ray's processes of a name: the raylet of its host. No other cluster runs here."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text()
        except OSError:
            continue
        if words.startswith(b"ray::") and name.encode() in words:
            found[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def test_scorers_give_the_same_rewards_also_when_one_is_killed(hosts: Any, given: Path, tmp_path: Path) -> None:
    made = config("ppo", given / "inputs", given / "model", given / "reward", tmp_path / "OUT", steps=STEPS)
    path = tmp_path / "ppo.yaml"
    path.write_text(to_yaml(made), encoding="utf-8")
    words = ["ppo", "--config", str(path)]
    assert run_workers(2, command, [*words, "--out", str(tmp_path / "plain")], tmp_path / "said") == [0, 0]
    flags = [f"--launch.{flag}" for flag in ("launcher", "workers", "address", "scorers", "on", "scorers-on")]
    values = ["ray", "2", hosts.address, "1", "training", "judging"]
    more = [word for pair in zip(flags, values, strict=True) for word in pair]
    started = [sys.executable, "-m", "heedful.cli.main", *words, "--out", str(tmp_path / "ray"), *more]
    driver = subprocess.Popen(started, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    end = time.monotonic() + 800
    while not (tmp_path / "ray" / "metrics.jsonl").exists() or len(curve(tmp_path / "ray")) < 2:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)
    judging, training = parents_of("Scorer"), parents_of("TrainWorker")
    (scorer,) = judging
    os.kill(scorer, signal.SIGKILL)
    assert len(curve(tmp_path / "ray")) < STEPS
    told = driver.communicate(timeout=800)[1]
    assert driver.returncode == 0, told
    assert len(training) == 2
    assert len(set(training.values())) == 1
    assert not set(training.values()) & set(judging.values())  # on the hosts that the settings name
    one, other = curve(tmp_path / "plain"), curve(tmp_path / "ray")
    assert len(one) == len(other) == STEPS
    for name in ("reward", "reward_spread", "reward_90", "loss", "kl"):
        assert [row[name] for row in other] == [row[name] for row in one], name
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("plain", "ray")]
    assert weights[0] == weights[1]


def test_a_scorer_says_what_the_model_says_also_after_a_kill_and_what_is_wrong(given: Path, tmp_path: Path) -> None:
    import ray

    from heedful.data.records import Message
    from heedful.models.rewards import load_reward
    from heedful.pipeline.ray_scorers import RemoteReward, start_scorers
    from heedful.training.config.launch import LaunchConfig

    asked = [(Message("user", f"{WORDS[i]} {WORDS[i + 5]}"),) for i in range(9)]
    texts = [f"{WORDS[2 * i]} yes" + " please" * (i % 4) for i in range(9)]
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        (scorer,) = start_scorers(ray, LaunchConfig(launcher="ray", scorers=1))
        remote = RemoteReward(scorer, str(given / "reward"), "float32", 300)
        known = load_reward(str(given / "reward"))(asked, texts)
        assert torch.equal(remote(asked, texts), torch.as_tensor(known))
        os.kill(ray.get(scorer.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
        assert torch.equal(remote(asked, texts), torch.as_tensor(known))
        with pytest.raises(HeedfulError, match="nowhere"):
            RemoteReward(scorer, str(tmp_path / "nowhere"), "float32", 300)(asked, texts)
        (waiting,) = start_scorers(ray, LaunchConfig(launcher="ray", scorers=1, scorers_on="judging"))
        with pytest.raises(HeedfulError, match="no scorer has answered for 3 s"):
            RemoteReward(waiting, str(given / "reward"), "float32", 3)(asked, texts)
    finally:
        ray.shutdown()
