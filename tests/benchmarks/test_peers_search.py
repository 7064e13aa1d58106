"""The search for TRL's fastest settings keeps what is faster, on top of what was, and leaves no process behind."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def peers(repository: Path) -> ModuleType:
    """benchmarks/peers.py, which is no package."""
    path = repository / "benchmarks" / "peers.py"
    spec = importlib.util.spec_from_file_location("peers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = module
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


class Fake:
    """A side whose first step is slow, as the real one's is, and whose others take a stated time."""

    alive = 0

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, 0
        Fake.alive += 1

    def step(self) -> float:
        self.steps += 1
        return 100.0 if self.steps == 1 else self.seconds

    def end(self) -> None:
        Fake.alive -= 1


def test_each_setting_is_tried_on_top_of_the_fastest_so_far(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def peer(work: Any, found: dict[str, Any], cores: str) -> Fake:
        asked.append(found)
        given = {**found.get("work", {}), **found.get("settings", {})}
        seconds = 10.0 - 2 * (found["trl"] == peers.NEW) - 3 * ("attention" in given) + ("checkpointing" in given)
        return Fake(seconds - (given.get("micro") == 8))

    monkeypatch.setattr(peers, "peer", peer)
    found = peers.search(peers.Work("grpo"), "")
    assert found == {"trl": peers.NEW, "work": {"micro": 8}, "settings": {"attention": "eager"}}
    assert Fake.alive == 0
    assert [one["trl"] for one in asked] == [peers.OLD, peers.NEW, peers.NEW, peers.NEW, peers.NEW]
    assert asked[-1]["work"] == {"micro": 8, "checkpointing": True}


def test_a_shared_trunk_is_compared_with_ppo_of_the_last_version_that_has_it(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(peers, "peer", lambda work, found, cores: asked.append(found["trl"]) or Fake(1.0))
    assert peers.search(peers.Work("ppo_shared"), "")["trl"] == peers.OLD
    assert set(asked) == {peers.OLD}


def test_the_newest_line_of_a_work_counts_also_beside_lines_of_older_versions(
    peers: ModuleType, tmp_path: Path
) -> None:
    lines = tmp_path / "peers.jsonl"
    old, new = {"kind": "dpo", "steps": 9}, peers.asdict(peers.Work("dpo", steps=12))
    lines.write_text("".join(json.dumps({"work": work, "number": i}) + "\n" for i, work in enumerate((old, new))))
    assert [found["number"] for found in peers.newest(lines)] == [1]
