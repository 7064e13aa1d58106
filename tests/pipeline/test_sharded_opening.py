"""What workers that shard their weights begin with: the bits of the whole models in parts, frozen ones whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from architectures import tiny_architectures, tiny_tokenizer
from stage_runs import WITHOUT_CRITIC, config, run_stage, write_inputs, write_model
from worker_processes import run_workers

LOW = {"loading": {"precision": "bfloat16"}}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {}),
    "sft-new": ("sft", {"model": "new.yaml"}),
    "sft-padded": ("sft", {"model": "padded", "loading": {"pad_token": "<|more|>"}}),
    "reward": ("reward", {}),
    "reward-ensemble": ("reward", {"heads": {"kind": "ensemble"}, **LOW}),
    "reward-on": ("reward", {"model": "reward"}),
    "dpo": ("dpo", {"model": "tied", **LOW}),
    "ppo": ("ppo", LOW),
    "ppo-other": ("ppo", {"reward": "mean:reward,reward", "reference": "half"}),
    "ppo-shared": ("ppo", {"critic": "shared"}),
    "half": ("ppo", {"model": "half"}),
    **{stage: (stage, {}) for stage in WITHOUT_CRITIC},
}


class Enough(Exception):  # noqa: N818  (no error)
    """The models are there."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opening")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    write_model(folder / "tied", architecture="qwen3")
    write_model(folder / "reward", kind="reward")
    write_half(folder / "half")
    write_padded(folder / "padded")
    (folder / "new.yaml").write_text(
        "vocabulary: 300\narchitecture: {model_type: llama, hidden_size: 16, intermediate_size: 32, "
        "num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2}\n"
    )
    return folder


def write_half(folder: Path) -> None:
    """A model whose file holds bfloat16."""
    from heedful.models.policy import new_policy

    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=5)
    policy.model.to(torch.bfloat16)
    policy.save(folder)


def write_padded(folder: Path) -> None:
    """A model with just the rows that its tokenizer needs, so that a new pad token adds one."""
    from heedful.models.policy import new_policy

    sizes = {"vocab_size": max(tiny_tokenizer().get_vocab().values()) + 1}
    new_policy(tiny_architectures()["gemma3"] | sizes, tiny_tokenizer(), seed=6).save(folder)


def settings(form: str, given: Path, out: Path, **over: Any) -> tuple[str, Any]:
    stage, own = FORMS[form]
    named: dict[str, Any] = dict(own)
    model: Any = given / named.pop("model", "model")
    reward: Any = named.pop("reward", "reward").replace("reward", str(given / "reward"))
    if "reference" in named:
        named["reference"] = str(given / named["reference"])
    return stage, config(stage, given / "inputs", model, reward, out, **named, **over)


def begin(runs: list[tuple[str, Any]], kept: list[Path]) -> None:
    """Open the models of some stages, and keep what they begin with."""
    from heedful.pipeline.stages import common
    from heedful.training.joining import joined
    from heedful.training.workers import current

    frozen: dict[str, Any] = {}

    def part(self: Any, *roles: Any) -> None:
        plain(self, *roles)
        found: dict[str, torch.Tensor] = {}
        for number, role in enumerate(roles):
            parted = {one.role: one for one in current().sharded}.get(role)
            assert (parted is None) == (current().count == 1)
            assert role.device.type == "cpu"
            for name, value in weights(role.model).items():
                found[f"{number}.{name}"] = value
            if parted is not None:
                assert not any(weight.device.type == "meta" for weight in role.model.parameters())
                with current().whole():
                    assert role.model is parted.whole
                    assert not any(weight.device.type == "meta" for weight in role.model.parameters())
        raise Enough(found)

    def anchored(role: Any) -> None:
        held(role)
        found = {f"frozen{len(frozen)}.{name}": value for name, value in weights(role.model).items()}
        frozen.update({f"{len(frozen)}": found})

    from heedful.pipeline.stages import players

    plain, held = common.Opened.part, players.held_by_all
    common.Opened.part, players.held_by_all = part, anchored  # type: ignore[method-assign]
    try:
        with joined(runs[0][1].launch, "cpu") as team:
            for (stage, asked), path in zip(runs, kept, strict=True):
                frozen.clear()
                try:
                    run_stage(stage, asked)
                except Enough as enough:
                    found = enough.args[0]
                for some in frozen.values():
                    found |= some
                rank = f".{team.rank}" if team.count > 1 else ""
                save_file({name: value.clone() for name, value in found.items()}, f"{path}{rank}")
    finally:
        common.Opened.part, players.held_by_all = plain, held  # type: ignore[method-assign]


def weights(model: Any) -> dict[str, torch.Tensor]:
    """All weights and buffers of a model, whole."""
    found = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().contiguous()
        for name, value in found
    }


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_every_stage_begins_with_the_bits_of_the_whole_models(count: int, given: Path, tmp_path: Path) -> None:
    names = list(FORMS)
    alone = given / "alone"
    if not alone.exists():
        alone.mkdir()
        runs = [settings(name, given, given / "runs" / name) for name in names]
        begin(runs, [alone / name for name in names])
    runs = [settings(name, given, tmp_path / name, launch={"shard": True}) for name in names]
    kept = [tmp_path / f"{name}.safetensors" for name in names]
    assert run_workers(count, begin, runs, kept, timeout=600) == [0] * count
    for name, path in zip(names, kept, strict=True):
        expected = load_file(alone / name)
        assert len({key.split(".")[0] for key in expected}) > (name.startswith(("ppo", *WITHOUT_CRITIC)))
        for rank in range(count):
            found = load_file(f"{path}.{rank}")
            assert found.keys() == expected.keys(), name
            for key, value in expected.items():
                assert found[key].dtype == value.dtype, f"{name}: {key}"
                assert torch.equal(found[key], value), f"{name}: {key}"
