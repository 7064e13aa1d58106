"""What de-identification finds of a made corpus, and what it takes for personal that is not.

    python benchmarks/deidentify.py

The corpus (benchmarks/personal_data.txt) is small and made up, in English, German, French, Vietnamese and Chinese. A
mark counts as found when nothing of it but punctuation is left; as found in part when something is. A false alarm is a
stretch that was taken out and lies in no mark. Intervals are Wilson's, at 95%.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from heedful.core.statistics import wilson
from heedful.data.deidentify import PATTERNS, find

CORPUS = Path(__file__).with_name("personal_data.txt")
_MARK = re.compile(r"\{(\w+)\|([^}]*)\}")


def marked(line: str) -> tuple[str, list[tuple[str, int, int]]]:
    """A line without its marks, and where they were: kind, start, end."""
    text, marks, last = "", [], 0
    for mark in _MARK.finditer(line):
        text += line[last : mark.start()]
        marks.append((mark[1], len(text), len(text) + len(mark[2])))
        text += mark[2]
        last = mark.end()
    return text + line[last:], marks


def measured() -> tuple[dict[str, Counter[str]], list[str]]:
    """By kind, how many marks were found, found in part and missed, and how many false alarms; and what went wrong."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in PATTERNS}
    told = []
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text, marks = marked(line)
        found = find(text)
        for kind, start, end in marks:
            left = [at for at in range(start, end) if text[at].isalnum()]
            over = [at for at in left if not any(one.start <= at < one.end for one in found)]
            outcome = "found" if not over else "missed" if len(over) == len(left) else "in part"
            counts[kind][outcome] += 1
            if over:
                told.append(f"{outcome}: {text}")
        for one in found:
            if not any(one.start < end and start < one.end for _, start, end in marks):
                counts[one.pattern]["false alarm"] += 1
                told.append(f"false alarm ({one.pattern}): {text}")
    return counts, told


def main() -> None:
    counts, told = measured()
    print("| pattern | marks | found | 95% interval | in part | missed | false alarms |")
    print("|---|---|---|---|---|---|---|")
    for kind, count in counts.items():
        total = count["found"] + count["in part"] + count["missed"]
        interval = wilson(count["found"], total)
        found = f"{count['found'] / total:.0%} | {interval.low:.0%} to {interval.high:.0%}"
        print(f"| {kind} | {total} | {found} | {count['in part']} | {count['missed']} | {count['false alarm']} |")
    print(*("", *told), sep="\n")


if __name__ == "__main__":
    main()
