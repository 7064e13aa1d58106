"""What a setting names is hashed by content: folders, hub models in the cache, files, functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heedful.files import sha256_file
from heedful.models import fingerprint
from heedful.models.fingerprint import model_fingerprint, source_fingerprint
from heedful.models.rewards import load_reward


def test_a_hub_model_is_hashed_where_the_cache_keeps_it(llama, tmp_path: Path, monkeypatch) -> None:
    snapshot = tmp_path / "models--somebody--model" / "snapshots" / ("0" * 40)
    llama.save(snapshot)
    asked = {}

    def cached(source: str, name: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.update(source=source, revision=revision, local=local_files_only)
        return str(snapshot / name)

    monkeypatch.setattr(fingerprint, "cached_file", cached)
    assert source_fingerprint("somebody/model", revision="v2") == model_fingerprint(snapshot)
    assert asked == {"source": "somebody/model", "revision": "v2", "local": True}


def test_a_function_is_hashed_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my_own_scores.py"
    file.write_text("def shortness(prompts, completions):\n    return [-len(c) for c in completions]\n")
    monkeypatch.chdir(tmp_path)
    load_reward("my_own_scores:shortness")
    try:
        assert source_fingerprint("my_own_scores:shortness") == sha256_file(file)
    finally:
        del sys.modules["my_own_scores"]


def test_what_is_nowhere_on_disk_has_no_hash() -> None:
    assert source_fingerprint("scratch") == ""
    assert source_fingerprint("sys:getsizeof") == ""
