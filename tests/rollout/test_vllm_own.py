"""The client of a vLLM server against vLLM 0.33's own routes and transfer engines, on a CPU (`vllm_own.py`).

Run it by hand in an environment of its own, with torch for a CPU: `pip install --no-deps vllm==0.33.0`, then whatever
its import asks for, and peft, httpx2; HEEDFUL_VLLM_PYTHON names its interpreter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

INTERPRETER = os.environ.get("HEEDFUL_VLLM_PYTHON", "")


@pytest.mark.oracle
@pytest.mark.timeout(900)  # importing vLLM takes a minute or two
@pytest.mark.skipif(not INTERPRETER, reason="HEEDFUL_VLLM_PYTHON names no interpreter with vllm==0.33.0")
def test_vllms_own_code_takes_what_the_client_sends_and_answers_what_it_reads() -> None:
    script = str(Path(__file__).parent / "vllm_own.py")
    done = subprocess.run([INTERPRETER, script], capture_output=True, text=True, timeout=800)
    answers = [line for line in done.stdout.splitlines() if line.startswith("answer ")]
    assert answers, done.stdout[-2000:] + done.stderr[-4000:]
    told = json.loads(answers[0].removeprefix("answer "))
    assert told["facts"] == ["served", 128, "nccl", 1]
    assert told["run-0"] == [True, "run-0"]  # all weights are the policy's, bit by bit
    assert told["run-1"] == [True, "run-1"]
    assert told["info"] == {"weight_version": "run-1"}
    assert told["apart"] < 1e-4  # the log-probabilities that came back are the policy's own
    assert told["changed"]
    assert told["again"]  # the same seeds, the same samples
    assert re.search("weights 'run-1' where 'run-2' were sent", told["stale"])
    assert re.search("404.*The model `other` does not exist", told["model"])
    assert told["calls"] == [line for v in ("run-0", "run-1") for line in ("pause wait True", "start", f"finish {v}")]
