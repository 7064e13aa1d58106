"""What a run's folder allows: a fresh start where nothing is lost, going on, and no mixing of two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.errors import HeedfulError
from heedful.files import artifact, read_manifest
from heedful.pipeline.run_folder import begin, finish, locked, same_inputs
from heedful.training.config.sft import SFTConfig


def settings(out: Path, data: str = "a.jsonl") -> SFTConfig:
    return SFTConfig("model", data, out)


def fake_checkpoint(out: Path) -> None:
    with artifact(out / "checkpoints" / "step-00000001", {"step": 1}) as folder:
        (folder / "weights").write_text("w")


def test_a_run_without_a_checkpoint_is_begun_anew_with_corrected_settings(tmp_path: Path) -> None:
    begin(tmp_path, "sft", settings(tmp_path, "typo.jsonl"))
    assert begin(tmp_path, "sft", settings(tmp_path, "right.jsonl")) is None
    assert "right.jsonl" in (tmp_path / "heedful.yaml").read_text()


def test_a_run_with_a_checkpoint_keeps_its_settings(tmp_path: Path) -> None:
    begin(tmp_path, "sft", settings(tmp_path))
    fake_checkpoint(tmp_path)
    begin(tmp_path, "sft", settings(tmp_path))
    with pytest.raises(HeedfulError, match=r"other settings: data \(a\.jsonl before, b\.jsonl now\)"):
        begin(tmp_path, "sft", settings(tmp_path, "b.jsonl"))


def test_what_a_kill_left_in_an_empty_folder_does_not_block_it(tmp_path: Path) -> None:
    (tmp_path / ".heedful.yaml.tmp").write_text("half")
    assert begin(tmp_path, "sft", settings(tmp_path)) is None


@pytest.mark.parametrize("text", ["# heedful quickstart\nseed: 0\n", "model: my own recipe\n"])
def test_settings_that_another_wrote_are_never_cleared(tmp_path: Path, text: str) -> None:
    (tmp_path / "heedful.yaml").write_text(text)
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(HeedfulError, match="another kind of run"):
        begin(tmp_path, "sft", settings(tmp_path))
    assert (tmp_path / "heedful.yaml").read_text() == text
    assert (tmp_path / "tokenizer").is_dir()


def test_changed_inputs_are_named(tmp_path: Path) -> None:
    same_inputs(tmp_path, {"data": "1", "model": "2"})
    same_inputs(tmp_path, {"data": "1", "model": "2"})
    with pytest.raises(HeedfulError, match="the content of model is not"):
        same_inputs(tmp_path, {"data": "1", "model": "3"})


def test_finish_leaves_nothing_when_saving_fails(tmp_path: Path) -> None:
    begin(tmp_path, "sft", settings(tmp_path))
    fake_checkpoint(tmp_path)

    def full_disk(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(HeedfulError, match="the disk is full"):
        finish(tmp_path, full_disk, {})
    assert not read_manifest(tmp_path)
    assert not list(tmp_path.rglob("model.safetensors"))
    assert (tmp_path / "checkpoints").exists()
    finish(tmp_path, lambda folder: (folder / "model.safetensors").write_text("whole") and None, {"kind": "sft"})
    assert read_manifest(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(HeedfulError, match="another heedful process"),
        locked(tmp_path),
    ):
        pass


def test_an_artifact_that_a_crash_set_aside_is_put_back(tmp_path: Path) -> None:
    place = tmp_path / "thing"
    with artifact(place, {"version": 1}) as folder:
        (folder / "a").write_text("1")
    place.rename(tmp_path / ".thing.old")  # as between the two renames of a later version

    def broken() -> None:
        with artifact(place, {"version": 2}):
            raise RuntimeError("made badly")

    with pytest.raises(RuntimeError):
        broken()
    assert (read_manifest(place) or {})["version"] == 1
