"""Sharded weights: opened by the leader alone and handed out one by one; laid together there, one by one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from architectures import tiny_architectures, tiny_tokenizer
from heedful.models import storage
from heedful.models.policy import Policy, new_policy
from worker_processes import run_workers

NOISE = 12 * 2**20
"""Bytes of memory that come and go beside weights."""


def model() -> Policy:
    """Some 100 MiB in float32, in matrices of at most 3 MiB."""
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_key_value_heads": 4}
    return new_policy(tiny_architectures()["llama"] | sizes, tiny_tokenizer(), seed=3)


def resident(name: str) -> int:
    """Bytes of main memory: VmRSS now, VmHWM the most since it was set back."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def collect(out: Path) -> None:
    from heedful.training.config.launch import LaunchConfig
    from heedful.training.joining import joined
    from heedful.training.sharding import sharding

    with joined(LaunchConfig(shard=True), "cpu") as team:
        policy = model()
        policy.precision = "bfloat16"
        first = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
        with sharding(policy):
            with team.whole():  # as it samples
                for name, weight in policy.model.named_parameters():
                    assert torch.equal(weight, first[name].to(torch.bfloat16)), name
            del first
            before = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the most is what it is now
        grown = resident("VmHWM") - before
        (out / f"{team.rank}.json").write_text(json.dumps(grown))
        if team.leads:
            storage.FILE = "20MB"
            policy.save(out / "model")
        else:
            assert {weight.device.type for weight in policy.model.parameters()} == {"meta"}


def hand_out(out: Path, folder: Path) -> None:
    from heedful.models.policy import load_policy
    from heedful.training.config.launch import LaunchConfig
    from heedful.training.joining import joined
    from heedful.training.sharding import opened_by_leader, sharding

    with joined(LaunchConfig(shard=True), "cpu") as team:
        load_policy(folder, device="meta")  # what is imported on the way does not count
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        policy = opened_by_leader(lambda device: load_policy(folder, device=device), "cpu")
        with sharding(policy):
            (out / f"{team.rank}.json").write_text(json.dumps(resident("VmHWM") - before))
            own = sum(getattr(w, "to_local", lambda w=w: w)().numel() for w in policy.model.parameters())
            assert sum(team.gathered(own)) < 1.1 * sum(weight.numel() for weight in policy.model.parameters())


@pytest.mark.slow
def test_no_worker_but_the_leader_ever_holds_the_whole_model(tmp_path: Path) -> None:
    policy = model()
    policy.save(tmp_path / "model")
    sizes = [weight.numel() * 4 for weight in policy.model.parameters()]
    assert run_workers(4, hand_out, tmp_path, tmp_path / "model") == [0] * 4
    grown = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    assert sum(sizes) / 4 + 2 * max(sizes) + 2 * NOISE < 0.7 * sum(sizes)  # so that the bound says something
    assert all(one < 0.7 * sum(sizes) for one in grown[1:]), (grown, sum(sizes))
    assert grown[0] < 1.25 * sum(sizes) + 2 * max(sizes) + 4 * NOISE, (grown, sum(sizes))


@pytest.mark.slow
def test_whole_weights_are_laid_together_at_the_leader_alone_and_one_by_one(tmp_path: Path) -> None:
    assert run_workers(2, collect, tmp_path) == [0, 0]
    policy = model()
    sizes = [weight.numel() * 4 for weight in policy.model.parameters()]
    grown = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert sum(sizes) > 5 * (4 * max(sizes) + NOISE) / 2  # so that both bounds say something
    assert grown[0] < sum(sizes) + 4 * max(sizes) + NOISE
    assert grown[1] < 4 * max(sizes) + NOISE
    files = sorted((tmp_path / "model").glob("model-*.safetensors"))
    assert len(files) > 4
    assert all(file.stat().st_size < 21e6 for file in files)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    for name, weight in policy.model.state_dict().items():
        assert torch.equal(opened[name], weight), name
