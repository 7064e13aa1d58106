"""What the next item costs does not grow with what was judged."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from studio_process import scratch

from heedful.feedback.models import Programme

SMALL, LARGE = 400, 4_000


@pytest.fixture(scope="module")
def bench(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("studio_queue", repository / "benchmarks" / "studio_queue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.django_db
@pytest.mark.on_sqlite  # at these sizes PostgreSQL rightly reads whole tables; the benchmark measures larger ones
def test_rows_examined_stay_within_half_as_many_again_at_ten_times_the_judgments(bench: ModuleType) -> None:
    found: dict[float, list[float]] = {1.0: [], 0.9: []}
    for size in (SMALL, LARGE):
        of = bench.build(size)
        for share, costs in found.items():
            Programme.objects.filter(pk=of.programme.pk).update(settings={"max_share": share})
            bench.measure(of, rounds=2)  # counts for a largest share are made once
            costs.append(bench.measure(of, rounds=5)[0])
    for share, (small, large) in found.items():
        assert 0 < large <= 1.5 * small, f"max_share {share}: {small:.0f} steps, then {large:.0f}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_rows_examined_at_ten_thousand_to_a_million_judgments(repository: Path) -> None:
    """On a database of its own, since it takes some 5 GB: a few minutes on two idle cores."""
    program = [sys.executable, str(repository / "benchmarks" / "studio_queue.py")]
    program += ["--judgments", "10000", "100000", "1000000", "--limit", "1.5"]
    with scratch(os.environ.get("HEEDFUL_TEST_DATABASE", "")) as database:
        done = subprocess.run([*program, "--database", database], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000,000 judgments" in done.stdout
    assert "largest over smallest" in done.stdout
