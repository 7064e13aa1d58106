"""TRL 1.12, the last TRL with PPO, in an interpreter of its own, to compare with: make oracle."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

INTERPRETER = os.environ.get("HEEDFUL_ORACLE_PYTHON", "")
needs_oracle = [
    pytest.mark.oracle,
    pytest.mark.skipif(not INTERPRETER, reason="HEEDFUL_ORACLE_PYTHON names no interpreter with trl==1.12.0"),
]


class Oracle:
    """One process of TRL's interpreter for all tests: importing TRL takes longer than all its answers."""

    def __init__(self) -> None:
        script = str(Path(__file__).parent / "core" / "oracle_trl.py")
        self.process = subprocess.Popen([INTERPRETER, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str, **given: Any) -> dict[str, Any]:
        plain = {name: x.tolist() if isinstance(x, Tensor) else x for name, x in given.items()}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"what": what, "given": plain}), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise AssertionError("the oracle died; its last words stand on standard error")


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Any) -> bool:
    return torch.allclose(ours.detach(), torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=1e-12)
