"""A programme's folder of manifests alone, with costs that are easily reckoned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COST = {"wall_seconds": 10.0, "cpu_seconds": 36.0, "gpu_joules": None, "attempts": 1, "watts_per_core": 10.0}


def put(folder: Path, name: str, *, cost: dict[str, Any] | None = None, **more: Any) -> None:
    """A stage's manifest, as the engine writes it."""
    number, stage = name.split("/")
    place = folder / "rounds" / number / stage
    place.mkdir(parents=True)
    record = {"round": int(number), "stage": stage, "seconds": 10.0, "own_judgments": more.pop("own", {})}
    if cost is not None:
        record["cost"] = {**COST, "energy_wh": 0.1, **cost}
    (place / "manifest.json").write_text(json.dumps({"kind": stage, "files": {}, "record": record, **more}))


def checked(mean: float, gold: float | None = None) -> dict[str, Any]:
    figures = {"win_rate": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
    if gold is not None:
        figures["gold_win_rate"] = {"mean": gold, "low": gold, "high": gold}
    return {"figures": figures, "own": {"human": 12, "ai": 0, "simulated": 0}}


def write_costs(folder: Path) -> Path:
    """Two rounds: one that won ten points by people, and one that was rolled back."""
    raters = {"hours": 2.0, "judgments": 40, "money": {"USD": 30.0, "VND": 1000.0}}
    put(folder, "0/sft", cost={})
    put(folder, "1/judge", cost={"raters": raters, "judge": {"requests": 3, "tokens": 500, "money": 0.25}})
    put(folder, "1/policy", cost={"gpu_joules": 7200.0, "energy_wh": 2.1, "attempts": 3})
    put(folder, "1/check", cost={"raters": {"hours": 0.5, "judgments": 12, "money": {"USD": 6.0}}}, **checked(0.6))
    put(folder, "1/decide", cost={}, promoted=True)
    put(folder, "2/policy", cost=None)
    put(folder, "2/check", cost={}, **checked(0.45, gold=0.55))
    put(folder, "2/decide", cost={}, promoted=False)
    return folder
