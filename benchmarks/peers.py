"""heedful and TRL side by side: the same model, texts, lengths, batch, micro-batch budget and precision, turn by turn.

    python benchmarks/peers.py --kinds sft dpo ppo grpo --sizes 2.5m 30m --out runs/peers

Each side is a process of its own, TRL in an environment that this command makes: 1.12.0, the last with PPO, and the
newest. Both stand ready at the same time; then one takes a step, then the other. TRL runs at the fastest of the
settings and versions that are tried first (`CANDIDATES`), heedful at its defaults. A time is the median of the timed
steps after the warm-up, with their range; a ratio is the median of the ratios of neighbouring steps. Peaks of memory
are those of the whole process above what was held before the first step, less AdamW's two moments and one gradient a
trained weight for "activations". The floor is the time of the step's matrix products and attention, at the rate that
the machine reaches on one product of that shape, measured beside the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIDES = HERE / "peer_sides"
sys.path.insert(0, str(SIDES))

from flops import floor_seconds  # noqa: E402
from work import Work  # noqa: E402

OLD, NEW = "1.12.0", "1.16.0"
PINS = ("torch==2.13.0", "transformers==5.24.0", "peft", "requests")
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192",
}
"""What `heedful` sets for its own commands, given to both sides."""

CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "sft": [{}, {"work": {"packing": True}}, {"settings": {"by_length": True}}],
    "reward": [{}, {"settings": {"by_length": True}}],
    "dpo": [{}, {"settings": {"by_length": True}}],
    "ppo": [{}, {"settings": {"rollout": 64}}],
    "rloo": [{}],
    "grpo": [{}],
    "generate": [{}, {"settings": {"generation": {"cache_implementation": "dynamic"}}}],
}
"""Settings of TRL that the search tries, for each kind of work; all within the same budget of a pass.

Each is tried in both versions where both have the trainer: on a CPU the older one is often the faster. Checkpointing,
larger passes and `torch.compile` were slower wherever they were tried (docs/log.md).
"""


class Side:
    """A process that takes a step when it is told to."""

    def __init__(self, python: Path, script: str, work: Work, settings: dict[str, Any], cores: str) -> None:
        command = [str(python), str(SIDES / script), json.dumps(asdict(work))]
        command += [json.dumps(settings)] if settings else []
        pinned = ["taskset", "-c", cores, *command] if cores else command
        self.errors = (Path(os.environ.get("TMPDIR", "/tmp")) / f"peers-{script}-{os.getpid()}.log").open("w+")
        self.process = subprocess.Popen(
            pinned,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **ALLOCATOR, "TOKENIZERS_PARALLELISM": "false"},
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{' '.join(self.process.args[-3:])} ended:\n{self.errors.read()[-2000:]}")  # type: ignore[index]
        return json.loads(line)

    def step(self) -> float:
        """Seconds of one step."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self._read()["seconds"])

    def end(self) -> dict[str, int]:
        """Memory: the peak, and what was held before the first step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = self._read()
        self.process.wait()
        return found


@dataclass(frozen=True)
class Duel:
    """One work, done by both."""

    work: Work
    trl: str
    settings: dict[str, Any]
    ours: list[float]
    theirs: list[float]
    our_memory: dict[str, int]
    their_memory: dict[str, int]
    floor: float

    @property
    def ratio(self) -> float:
        """How many times as long TRL takes."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """The same of each two neighbouring steps."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def above(self, memory: dict[str, int], trained: int) -> float:
        """Bytes of a peak that are neither weights, nor gradients, nor AdamW's moments."""
        return memory["peak"] - memory["base"] - 12 * trained


def environment(version: str) -> Path:
    """The Python of TRL's environment, which is made where it is missing."""
    folder = HERE.parent / ".peers" / f"trl-{version}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        print(f"making {folder.name} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"trl=={version}", *PINS], check=True)
        (folder / ".ready").touch()
    return python


def peer(work: Work, found: dict[str, Any], cores: str) -> Side:
    """TRL's side at some settings."""
    kind = "ppo" if work.kind == "ppo_shared" else work.kind
    theirs = replace(work, kind=kind, **found.get("work", {}))
    return Side(environment(found["trl"]), "trl_side.py", theirs, found.get("settings", {}), cores)


def search(work: Work, cores: str, steps: int = 3) -> dict[str, Any]:
    """TRL's fastest settings: each candidate takes a step to warm up and some more, all of them by turns."""
    kind = "ppo" if work.kind == "ppo_shared" else work.kind
    versions = {"ppo": [OLD], "generate": [NEW]}.get(kind, [OLD, NEW])
    candidates = [{"trl": version, **candidate} for version in versions for candidate in CANDIDATES[kind]]
    sides = [peer(work, candidate, cores) for candidate in candidates]
    times = [[side.step() for side in sides] for _ in range(steps + 1)][1:]
    for side in sides:
        side.end()
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return candidates[medians.index(min(medians))]


def duel(work: Work, options: argparse.Namespace) -> Duel:
    """Both sides take turns."""
    settings = search(work, options.cores)
    us, them = (
        Side(Path(sys.executable), "heedful_side.py", work, {}, options.cores),
        peer(work, settings, options.cores),
    )
    for _ in range(options.warm_up):
        us.step(), them.step()
    rates, ours, theirs = [rate(work, options.cores)], [], []
    for _ in range(options.steps):
        ours.append(us.step())
        theirs.append(them.step())
    rates.append(rate(work, options.cores))
    mean = {name: statistics.mean(one[name] for one in rates) for name in rates[0]}
    version = "generate()" if work.kind == "generate" else settings["trl"]
    return Duel(work, version, settings, ours, theirs, us.end(), them.end(), floor_seconds(work, mean))


def rate(work: Work, cores: str) -> dict[str, float]:
    """What the machine reaches just now."""
    command = [sys.executable, str(SIDES / "rates.py"), json.dumps(asdict(work))]
    command = ["taskset", "-c", cores, *command] if cores else command
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR})
    return json.loads(done.stdout)


HEADER = (
    "| work | size | lengths | precision | TRL | heedful s | TRL s | TRL's time as a multiple | activations "
    "| total peak | of the floor |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(found: Duel) -> str:
    """A line of the table."""
    from flops import trained_weights

    def span(times: list[float]) -> str:
        return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"

    work, trained = found.work, trained_weights(found.work)
    ours, theirs = (found.above(memory, trained) for memory in (found.our_memory, found.their_memory))
    ratios = f"**{found.ratio:.1f}** ({min(found.ratios):.1f} to {max(found.ratios):.1f})"
    totals = found.our_memory["peak"] / found.their_memory["peak"]
    share = found.floor / statistics.median(found.ours)
    return (
        f"| {work.kind} | {work.size} | {work.lengths} | {work.precision} | {found.trl} | {span(found.ours)} "
        f"| {span(found.theirs)} | {ratios} | {ours / max(theirs, 1):.2f} | {totals:.2f} | {share:.0%} |"
    )


def main() -> None:
    """Run what is asked for, print the table as it grows, and leave it with all figures in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=[*CANDIDATES, "ppo_shared"])
    parser.add_argument("--sizes", nargs="+", default=["2.5m", "30m"])
    parser.add_argument("--families", nargs="+", default=["llama"])
    parser.add_argument("--lengths", nargs="+", default=["ragged"])
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="as taskset takes them; all, where empty")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [HEADER]
    print(HEADER)
    for size in options.sizes:
        for kind in options.kinds:
            for family in options.families:
                for lengths in options.lengths:
                    for precision in options.precisions:
                        work = Work(
                            kind, size, family, lengths, precision, micro=options.micro, epochs=options.epochs,
                            lora=options.lora, threads=options.threads, steps=options.steps + options.warm_up + 1,
                        )  # fmt: skip
                        found = duel(work, options)
                        lines.append(row(found))
                        print(lines[-1], flush=True)
                        with (options.out / "peers.jsonl").open("a") as file:
                            file.write(json.dumps({**asdict(found), "ratio": found.ratio}) + "\n")
                        (options.out / "peers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
