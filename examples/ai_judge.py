"""Any function as a judge: it compares answers, people's own comparisons say how far to trust it.

    python examples/ai_judge.py runs/judged

Put the call of your own model into `ask`. Every reply is kept on disk before it is used: running this again asks
nobody twice.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import heedful

Talk = list[dict[str, str]]


def pairs(count: int = 60) -> list[dict[str, Any]]:
    """Comparisons that people made: four in five prefer the answer that gives a reason."""
    found = []
    for number in range(count):
        reason, bare = f"yes, because it is number {number}", f"yes, number {number}"
        better = (reason, bare) if number % 5 else (bare, reason)
        found.append({"prompt": f"is {number} right ?", "chosen": better[0], "rejected": better[1]})
    return found


def ask(conversations: list[Talk]) -> list[str]:
    """Stands for a model: it prefers the answer with a reason, and the first one where it sees none."""
    replies = []
    for talk in conversations:
        first, second = re.findall(r"=== answer [AB] \w+ ===\n(.*?)\n(?====)", talk[-1]["content"], re.DOTALL)
        verdict = "B" if "because" in second and "because" not in first else "A"
        replies.append(json.dumps({"rationale": "a reason is given", "verdict": verdict, "strength": 2}))
    return replies


def main(out: Path) -> dict[str, Any]:
    """Judge all pairs, measure the judge on people's, and say what its labels are worth."""
    people = pairs()
    found = heedful.judge(people, ask, out=out, way="verdict", people=people)
    card = found["judges"][0]["card"]
    print(f"agrees with people on {card.agreement.mean:.0%} ({card.agreement.low:.0%} to {card.agreement.high:.0%})")
    print(*card.advice, sep="\n")
    labels = heedful.load_preferences(out / found["files"]["preferences"]).records
    print(f"{len(labels)} labels for heedful.reward_model, in {out}")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/judged"))
