"""`benchmarks/vllm_check.py` on a CPU, with `fake_vllm` in vLLM's place: its own code runs, and its checks can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import vllm_check

from fake_vllm import connecting, serving
from heedful.models.policy import load_policy
from heedful.rollout import vllm_weights

SMALL = vllm_check.ARCHITECTURE | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
FLAGS = ["--device", "cpu", "--precision", "float32", "--rows", "2", "--longest", "6", "--patience", "30"]


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_the_check_passes_what_is_right_and_fails_what_is_not(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = vllm_check.make_models(tmp_path, None, SMALL)
    report = vllm_check.Report()
    with serving(load_policy(other), window=1024) as fake:
        monkeypatch.setattr(vllm_weights, "connect", connecting(fake))
        if broken:
            fake.shift = 0.3  # log-probabilities of another distribution
        given = vllm_check.arguments().parse_args(FLAGS)
        vllm_check.checks(report, given, fake.url, model, tmp_path, connecting(fake))
    printed = capsys.readouterr().out
    assert "completions in" in printed
    if broken:
        assert "first weights: log-probabilities of samples" in report.failed
    else:
        assert not report.failed
        assert printed.count("PASS") == 10
