"""Plans of GPUs that are not at hand: real shapes, what a share holds, what makes a plan fit."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.models.rehearsal import update
from heedful.pipeline import plan_cluster as plan_cluster_module
from heedful.pipeline.cluster_plan import SHARE
from heedful.pipeline.cluster_planner import ClusterPlanner
from heedful.pipeline.plan_cluster import plan_cluster
from heedful.pipeline.plan_troupe import Actor, Troupe
from heedful.training.config.cluster import GIB, ClusterConfig
from heedful.training.config.online import GRPOConfig, PPOConfig
from heedful.training.config.rollout import RolloutConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.settings import from_mapping
from model_shapes import SHAPES, write_shape

SMALL = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 2048, "head_dim": 16,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip


def sft(model: Path, **over: Any) -> SFTConfig:
    given = {"model": str(model), "data": "", "out": "", "records": {"max_length": 64}, "batch_size": 8}
    return from_mapping(SFTConfig, given | over, "a test")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shape(tmp_path_factory.mktemp("plans") / "model", "Llama-3.2-1B", **SMALL, num_hidden_layers=7)


@pytest.fixture(scope="module", autouse=True)
def rehearsed_once() -> Iterator[None]:
    """Passes of equal settings are rehearsed once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_cluster_module, "Troupe", functools.cache(Troupe))
        yield


def size_of(made: Any, what: str) -> int:
    return sum(need.bytes for need in made.needs if need.what == what)


def counted(folder: Path, name: str) -> float:
    whole = Troupe(sft(write_shape(folder / name, name))).cast.trained["policy"]
    return Actor(whole, whole, whole, (1, 1, 1)).weights.total


QUICK = ("Llama-3.1-8B", "Llama-3.1-70B")


@pytest.mark.parametrize("name", QUICK)
def test_published_models_have_the_parameters_that_they_are_published_with(name: str, tmp_path: Path) -> None:
    assert counted(tmp_path, name) == SHAPES[name][1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHAPES if n not in QUICK])
def test_so_have_the_others(name: str, tmp_path: Path) -> None:
    assert counted(tmp_path, name) == SHAPES[name][1]


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_pass_of_a_deep_model_is_reckoned_from_two_shallow_ones(small: Path, checkpointing: bool) -> None:
    config = sft(small, memory={"gradient_checkpointing": checkpointing})
    troupe = Troupe(config)
    found = troupe.update("policy", 2, 64, 63)
    whole = update([troupe.cast.trained["policy"]], "cpu", 2, 64, 63)
    assert found.saved == whole.saved
    assert found.flops == whole.flops
    assert found.kernels == pytest.approx(whole.kernels, rel=0.01)
    assert found.work == pytest.approx(whole.work, rel=0.05)


def test_products_are_counted_as_six_times_weights_and_tokens(small: Path) -> None:
    troupe = Troupe(sft(small))
    model, tokens, width = troupe.actors["policy"], 2 * 64, 64
    products = sum(p.numel() for name, p in model.whole.model.named_parameters() if p.ndim == 2 and "embed" not in name)
    heads, size, layers = 4, 16, 7
    attention = (4 + 10) * tokens * width * heads * size * layers
    head = 6 * 2048 * 64 * 2 * 63
    assert troupe.update("policy", 2, 64, 63).flops == pytest.approx(6 * products * tokens + head + attention, rel=0.1)
    read = troupe.read("policy", 2, 64).flops
    plain = 2 * products * tokens + 4 * tokens * width * heads * size * layers
    rotation = (
        2 * tokens * (heads + 2) * size * size * layers
    )  # a product where a test before has installed the CPU's ways
    assert min(abs(read / plain - 1), abs(read / (plain + rotation) - 1)) < 0.01


@pytest.mark.slow
def test_a_share_is_what_fully_shard_leaves_of_its_layers_with_all_the_rest(small: Path) -> None:
    made = plan_cluster("sft", sft(small), ClusterConfig(gpus="8x80GB", layout="sharded"))
    script = f"""
import torch, torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModelForCausalLM
dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
mesh = init_device_mesh("cpu", (8,))
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained({str(small)!r}), dtype=torch.float32)
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
print(sum(getattr(p, "to_local", lambda p=p: p)().nbytes for p in model.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    local = int(done.stdout.split()[-1])
    assert size_of(made, "weights: policy") == pytest.approx(local, rel=0.002)
    assert size_of(made, "optimiser state") == pytest.approx(2 * local, rel=0.002)
    assert size_of(made, "gradients") == pytest.approx(local, rel=0.002)


def test_more_gpus_hold_less_each_and_replicas_the_same(small: Path) -> None:
    def total(gpus: str, layout: Any) -> int:
        made = plan_cluster("sft", sft(small), ClusterConfig(gpus=gpus, layout=layout))
        return made.at("always")

    assert total("8x80GB", "sharded") < total("2x80GB", "sharded") < total("2x80GB", "replicas")
    assert total("8x80GB", "replicas") == total("2x80GB", "replicas")


def test_what_fits_keeps_within_its_share_and_nothing_else_is_said_to(small: Path) -> None:
    roomy = plan_cluster("sft", sft(small), ClusterConfig(gpus="4x8GB"))
    assert roomy.fits
    assert roomy.layout == "replicas"
    assert roomy.total <= SHARE * roomy.memory
    tight = plan_cluster("sft", sft(small), ClusterConfig(gpus="1x1GB"))
    assert not tight.fits


@pytest.mark.slow
def test_flags_that_are_offered_make_it_fit(tmp_path: Path) -> None:
    model = write_shape(tmp_path / "model", "Llama-3.2-1B")
    config = sft(model, records={"max_length": 512})
    made = plan_cluster("sft", config, ClusterConfig(gpus="2x24GB", layout="replicas"))
    assert not made.fits
    assert "--cluster.layout sharded" in made.mends
    again = plan_cluster("sft", config, ClusterConfig(gpus="2x24GB", layout="sharded"))
    assert again.fits


@pytest.mark.slow
def test_a_larger_micro_batch_is_chosen_where_there_is_room(small: Path) -> None:
    config = sft(small, batch_size=64, records={"max_length": 512})
    roomy = plan_cluster("sft", config, ClusterConfig(gpus="1x80GB"))
    tight = plan_cluster("sft", config, ClusterConfig(gpus="1x1.95GB"))
    assert roomy.micro_batch_tokens == 8192
    assert tight.micro_batch_tokens < 8192


def test_adapters_send_only_what_learns(small: Path) -> None:
    cluster = ClusterConfig(gpus="8xH100", layout="replicas")
    full = plan_cluster("sft", sft(small), cluster)
    adapters = plan_cluster("sft", sft(small, loading={"lora_rank": 4}), cluster)
    weights = SHAPES["Llama-3.2-1B"][1]
    assert full.traffic == pytest.approx(2 * 4 * full.parameters["policy"] * 7 / 8)
    assert full.parameters["policy"] < weights
    assert adapters.traffic is not None
    assert adapters.traffic < 0.2 * full.traffic


def test_shares_fetch_layers_in_every_micro_batch_and_send_gradients(small: Path) -> None:
    config = sft(small, batch_size=32, memory={"micro_batch_tokens": 128})
    made = plan_cluster("sft", config, ClusterConfig(gpus="8xH100", layout="sharded"))
    root = 2048 * 64 + 64  # tied embeddings and the last norm
    layers, micro = made.parameters["policy"] - root, 2
    assert made.traffic == pytest.approx(micro * (2 * 2 + 4) * layers * 7 / 8 + 2 * 4 * root * 7 / 8)


def test_shares_are_handed_out_tensor_by_tensor_and_laid_together_to_be_sampled_from_alone(small: Path) -> None:
    cluster = ClusterConfig(gpus="64x80GB", layout="sharded")
    made = plan_cluster("sft", sft(small), cluster)
    assert made.at("beginning") == 4 * 64 * 128  # the largest tensor of a layer
    assert size_of(made, "weights laid together") == 2 * made.parameters["policy"]
    assert any("main memory" in remark for remark in made.remarks)
    silent = plan_cluster("sft", sft(small, run={"sample_every": 0}), cluster)
    assert silent.at("rollouts") == 0
    replicas = plan_cluster("sft", sft(small), ClusterConfig(gpus="64x80GB", layout="replicas"))
    assert replicas.at("beginning") == replicas.at("rollouts") == 0
    assert not any("main memory" in remark for remark in replicas.remarks)


@pytest.mark.slow
def test_70b_with_all_weights_fits_64_gpus_of_80_gb(tmp_path: Path) -> None:
    model = write_shape(tmp_path / "70b", "Llama-3.1-70B")
    over = {"records": {"max_length": 1024}, "batch_size": 512, "memory": {"gradient_checkpointing": True}}
    cluster = ClusterConfig(gpus="64xH100", layout="sharded")
    sampled = plan_cluster("sft", sft(model, **over), cluster)
    assert not sampled.fits
    assert "--run.sample-every 0" in sampled.mends
    made = plan_cluster("sft", sft(model, **over, run={"sample_every": 0}), cluster)
    assert made.fits
    share = 16 * (made.parameters["policy"] / 64)  # weights, moments and gradients in float32, were all of it in layers
    assert made.at("always") + size_of(made, "gradients") > share


def test_adapters_do_not_go_with_shares(small: Path) -> None:
    config = sft(small, loading={"lora_rank": 4})
    with pytest.raises(HeedfulError, match="do not go with"):
        plan_cluster("sft", config, ClusterConfig(gpus="8xH100", layout="sharded"))
    assert plan_cluster("sft", config, ClusterConfig(gpus="8xH100")).layout == "replicas"


def online(cls: Any, model: Path, **over: Any) -> Any:
    given = {"model": str(model), "reward": str(model), "data": "", "out": "", "records": {"max_length": 64}}
    rollout = {"prompts_per_step": 8, "samples_per_prompt": 2, "max_new_tokens": 32}
    return from_mapping(cls, given | {"rollout": rollout} | over, "a test")


def test_a_step_of_ppo_has_its_phases(small: Path) -> None:
    config = online(PPOConfig, small)
    made = plan_cluster("ppo", config, ClusterConfig(gpus="8xH100"))
    assert made.phases is not None
    assert [one.what for one in made.phases] == [
        "sampling", "scores", "critic's values", "reference's log-probabilities",
        "update of the policy", "update of the critic", "optimiser",
    ]  # fmt: skip
    assert made.at("rollouts") > 0
    assert made.seconds == pytest.approx(sum(one.seconds for one in made.phases))
    assert made.per_day == pytest.approx(16 * 86_400 / made.seconds)
    assert json.loads(json.dumps(made.describe()))["fits"] is True


def test_what_is_not_known_of_a_gpu_is_said_and_memory_is_planned(small: Path) -> None:
    made = plan_cluster("sft", sft(small), ClusterConfig(gpus="2x80GB", tflops=300))
    assert made.phases is None
    assert made.seconds is None
    assert made.remarks == ("no times: give --cluster.bandwidth and --cluster.link",)
    assert plan_cluster("sft", sft(small), ClusterConfig(gpus="1x80GB", tflops=300, bandwidth=2000)).seconds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gpus": "H200"}, "how many"),
        ({"gpus": "8xH20"}, "Did you mean 'H200'"),
        ({"gpus": "0xH200"}, "how many"),
        ({"gpus": "8xH200", "efficiency": 1.5}, "efficiency"),
    ],
)
def test_gpus_that_mean_nothing_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(HeedfulError) as error:
        ClusterConfig(**given)
    assert said in f"{error.value.what} {error.value.mend}"


def test_memory_alone_names_a_gpu() -> None:
    assert ClusterConfig(gpus="8x80GB").gpu.memory == pytest.approx(80e9 / GIB)
    assert ClusterConfig(gpus="2x24GiB").gpu.memory == 24


def test_samples_of_a_group_share_the_reading_of_their_prompt(small: Path) -> None:
    few = online(GRPOConfig, small, rollout=asdict(RolloutConfig(4, 4, 32)))
    planner = ClusterPlanner("grpo", Troupe(few), ClusterConfig(gpus="2xH100", layout="replicas"))
    assert any(need.what == "reading 2 x 32 tokens of prompts" for need in planner.sampling())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "gpus", "flags"),
    [
        ("Qwen2.5-0.5B", "1xRTX4090", {}),
        ("Llama-3.1-8B", "8xH200", {}),
        ("Qwen2.5-32B", "64xB200", {"gradient_checkpointing": True}),
    ],
)
def test_real_shapes_fit_by_a_rehearsal_of_all_their_layers(
    name: str, gpus: str, flags: dict[str, Any], tmp_path: Path
) -> None:
    """The plan's activations come from two shallow models; here the whole model is rehearsed, and no shortcut taken."""
    config = sft(write_shape(tmp_path / name, name), records={"max_length": 1024}, batch_size=64, memory=flags)
    made = plan_cluster("sft", config, ClusterConfig(gpus=gpus))
    assert made.fits
    whole = update([Troupe(config).cast.trained["policy"]], "cpu", made.rows, made.width, made.width - 1)
    planned = size_of(made, f"activations of {made.rows} x {made.width} tokens")
    assert planned == whole.saved
    beside = made.total - planned - size_of(made, "chunk of logits, and what passes by")
    assert beside + whole.saved + whole.work <= made.memory
