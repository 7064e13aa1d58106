"""The base install has no torch: what must import without it does, and the public names all resolve."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import heedful

ABSENT = [
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "datasets",
    "tensorboard",
]

MODULES = [
    "heedful",
    "heedful.errors",
    "heedful.files",
    "heedful.core.agreement",
    "heedful.core.agreement_advice",
    "heedful.core.ceilings",
    "heedful.core.concordance",
    "heedful.core.groups",
    "heedful.core.planning",
    "heedful.core.rater_cards",
    "heedful.core.consensus",
    "heedful.core.rater_items",
    "heedful.core.selection",
    "heedful.core.statistics",
    "heedful.training.config.stage",
    "heedful.training.settings",
    "heedful.evaluation.contest",
    "heedful.evaluation.perplexity",
    "heedful.evaluation.probes.natural",
    "heedful.evaluation.probes.worldly",
    "heedful.evaluation.refusal_rates",
    "heedful.evaluation.reward_bench",
    "heedful.evaluation.winrate",
    "heedful.core.sequential",
    "heedful.core.overoptimisation",
    "heedful.monitoring.calibrate",
    "heedful.monitoring.checks",
    "heedful.pipeline.programme_report.compare",
    "heedful.pipeline.programme_report.page",
    "heedful.pipeline.programme_report.run_page",
    "heedful.pipeline.report",
    "heedful.pipeline.revise",
    "heedful.feedback.ai.degrading",
    "heedful.feedback.ai.growing",
    "heedful.feedback.ai.principled",
    "heedful.feedback.ai.synthetic",
    "heedful.pipeline.rounds.programme",
    "heedful.pipeline.rounds.starting",
    "heedful.pipeline.rounds.uses",
    "heedful.training.config.programme",
    "heedful.training.schema",
]
FOLDERS = ["data", "world", "cli", "api"]

SCRIPT = """
    import importlib, importlib.abc, json, sys, traceback

    class Absent(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {absent}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Absent())
    failed = {{}}
    for name in {modules}:
        try:
            importlib.import_module(name)
        except Exception:
            failed[name] = traceback.format_exc(limit=-3)
    print(json.dumps({{"failed": failed, "loaded": sorted(sys.modules)}}))
"""


def without_torch(modules: list[str]) -> dict[str, dict[str, str]]:
    script = textwrap.dedent(SCRIPT).format(absent=ABSENT, modules=modules)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_base_imports_without_torch(repository: Path) -> None:
    source = repository / "src"
    found = [
        ".".join(path.relative_to(source).with_suffix("").parts)
        for folder in FOLDERS
        for path in sorted((source / "heedful" / folder).glob("*.py"))
        if path.name != "__init__.py"
    ]
    assert {"heedful.data.records", "heedful.cli.main"} <= set(found)
    failed = without_torch([*MODULES, *found])["failed"]
    assert not failed, "\n".join(f"{name}:\n{text}" for name, text in failed.items())


def test_the_hook_does_hide_torch() -> None:
    assert "No module named 'torch'" in without_torch(["torch"])["failed"]["torch"]


def test_importing_heedful_loads_next_to_nothing() -> None:
    loaded = without_torch(["heedful"])["loaded"]
    assert not {"numpy", "tyro", "rich", "yaml", "heedful.data.records"} & set(loaded)


def test_every_public_name_resolves() -> None:
    for name in heedful.__all__:
        assert getattr(heedful, name).__name__ == name
    assert set(heedful.__all__) <= set(dir(heedful))
    assert len(heedful.__all__) <= 16
