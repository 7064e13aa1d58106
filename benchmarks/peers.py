"""heedful and TRL side by side: the same model, texts, lengths, batch, micro-batch budget and precision, turn by turn.

    python benchmarks/peers.py --kinds sft dpo ppo grpo --sizes 2.5m 30m --out runs/peers

Each side is a process of its own, TRL in an environment that this command makes: 1.12.0, the last with PPO, and the
newest. Both stand ready at the same time; then one takes a step, then the other. TRL runs at the fastest version and
settings that `search` finds first, heedful at its defaults. A time is the median of the timed
steps after the warm-up, with their range; a ratio is the median of the ratios of neighbouring steps. Peaks of memory
are those of the whole process above what was held before the first step, less AdamW's two moments and one gradient a
trained weight for "activations". The floor is the time of the step's matrix products and attention, at the rate that
the machine reaches on one product of that shape, or of its weights' bytes where that is longer, both measured beside
the steps; "at most" is TRL's time over the floor, the ratio of a side that did nothing else. Tokens a second are the
rows' own, each counted once however many passes read it. Measurements gather in the folder: the
table and the picture show the newest of each work, so that they can be made one by one.
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
from table import HEADER, newest, picture, row, table  # noqa: E402
from work import LENGTHS, Work  # noqa: E402

OLD, NEW = "1.12.0", "1.16.0"
PINS = ("torch==2.13.0", "transformers==5.24.0", "peft", "requests")
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192",
}
"""What `heedful` sets for its own commands, given to both sides."""

Candidate = dict[str, dict[str, Any]]
"""What TRL runs with: fields of `Work` ("work") and of its side's `Settings` ("settings")."""

EVERYWHERE: list[Candidate] = [
    {"settings": {"attention": "eager"}},  # on a CPU in bfloat16 its backward pass is the faster
    {"work": {"micro": 8}},
    {"work": {"checkpointing": True}},
]
CANDIDATES: dict[str, list[Candidate]] = {
    "sft": [{"settings": {"by_length": True}}, {"work": {"packing": True}}, *EVERYWHERE],
    "reward": [{"settings": {"by_length": True}}, *EVERYWHERE],
    "dpo": [{"settings": {"by_length": True}}, *EVERYWHERE],
    "ppo": [{"settings": {"rollout": 64}}, *EVERYWHERE],
    "rloo": EVERYWHERE,
    "grpo": EVERYWHERE,
    "generate": [{"settings": {"generation": {"cache_implementation": "dynamic"}}}, EVERYWHERE[0]],
}
"""Settings of TRL that the search tries, for each kind of work; all within the same budget of a pass.

Weights held in bfloat16 are not among them: at these learning rates most updates would be lost in rounding, so that it
is not the same work (`Settings.model_dtype` has it).
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
    first: tuple[float, float]
    """Seconds of the first step, compiling included: ours, theirs."""


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
    if work.one_base:
        theirs = replace(theirs, lora=0)
    return Side(environment(found["trl"]), "trl_side.py", theirs, found.get("settings", {}), cores)


def search(work: Work, cores: str, steps: int = 3) -> dict[str, Any]:
    """TRL's fastest version and settings.

    First the versions, then each of `CANDIDATES` on top of the best so far: the two of them take a step to warm up and
    some more by turns, and the one whose median is less stays.
    """
    kind = "ppo" if work.kind == "ppo_shared" else work.kind
    versions = {"ppo": [OLD], "generate": [NEW]}.get(kind, [OLD, NEW])
    tried: list[Candidate] = list(CANDIDATES[kind])
    tried += [{"settings": {"trainer": {"torch_compile": True}}}] if work.compile else []
    long = replace(work, steps=(steps + 1) * (len(versions) + len(tried)) + 1)
    best: dict[str, Any] = {"trl": versions[0]}
    champion = peer(long, best, cores)
    for more in [*({"trl": version} for version in versions[1:]), *tried]:
        challenge = {
            "trl": more.get("trl", best["trl"]),
            **{key: {**best.get(key, {}), **more.get(key, {})} for key in ("work", "settings")},
        }
        challenger = peer(long, challenge, cores)
        times = [(champion.step(), challenger.step()) for _ in range(steps + 1)][1:]
        kept, beaten = (statistics.median(column) for column in zip(*times, strict=True))
        if beaten < kept:
            champion, challenger, best = challenger, champion, challenge
        challenger.end()
    champion.end()
    return best


def first_found(work: Work) -> dict[str, Any]:
    """TRL's oldest version that has the trainer, at its settings as they come."""
    return {"trl": NEW if work.kind == "generate" else OLD}


def duel(work: Work, options: argparse.Namespace) -> Duel:
    """Both sides take turns."""
    settings = first_found(work) if options.no_search else search(work, options.cores, options.search_steps)
    us, them = (
        Side(Path(sys.executable), "heedful_side.py", work, {}, options.cores),
        peer(work, settings, options.cores),
    )
    first = (us.step(), them.step())
    for _ in range(options.warm_up - 1):
        us.step(), them.step()
    rates, ours, theirs = [rate(work, options.cores)], [], []
    for _ in range(options.steps):
        ours.append(us.step())
        theirs.append(them.step())
    rates.append(rate(work, options.cores))
    mean = {name: statistics.mean(one[name] for one in rates) for name in rates[0]}
    version = "generate()" if work.kind == "generate" else settings["trl"]
    return Duel(work, version, settings, ours, theirs, us.end(), them.end(), floor_seconds(work, mean), first)


def rate(work: Work, cores: str) -> dict[str, float]:
    """What the machine reaches just now."""
    command = [sys.executable, str(SIDES / "rates.py"), json.dumps(asdict(work))]
    command = ["taskset", "-c", cores, *command] if cores else command
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR})
    return json.loads(done.stdout)


def main() -> None:
    """Run what is asked for, print the table as it grows, and leave it with all figures in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=[*CANDIDATES, "ppo_shared"])
    parser.add_argument("--sizes", nargs="+", default=["2.5m", "30m"])
    parser.add_argument("--families", nargs="+", default=["llama"])
    parser.add_argument("--lengths", nargs="+", default=["ragged"], choices=list(LENGTHS))
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="heedful's layers compiled, torch_compile tried for TRL")
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument(
        "--one-base", action="store_true", help="PPO: heedful's adapters on one base, TRL's all weights"
    )
    parser.add_argument("--no-search", action="store_true", help="TRL's settings as they come, where memory is all")
    parser.add_argument("--search-steps", type=int, default=3, help="timed steps of each of TRL's settings")
    parser.add_argument("--cached-reference", action="store_true", help="DPO's reference before the clock, both sides")
    parser.add_argument("--checkpointing", action="store_true", help="of gradients, both sides")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="as taskset takes them; all, where empty")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    options = parser.parse_args()
    if options.one_base and not options.lora:
        parser.error("--one-base needs --lora, the rank of the adapters")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "peers.jsonl"
    print(HEADER)
    for size in options.sizes:
        for kind in options.kinds:
            for family in options.families:
                for lengths in options.lengths:
                    for precision in options.precisions:
                        work = Work(
                            kind, size, family, lengths, precision, micro=options.micro, epochs=options.epochs,
                            lora=options.lora, threads=options.threads, steps=options.steps + options.warm_up + 1,
                            compile=options.compile, cached_reference=options.cached_reference,
                            checkpointing=options.checkpointing, one_base=options.one_base,
                        )  # fmt: skip
                        found = asdict(duel(work, options))
                        print(row(found), flush=True)
                        with lines.open("a") as file:
                            file.write(json.dumps(found) + "\n")
                        measured = newest(lines)
                        (options.out / "peers.md").write_text(table(measured))
                        picture(measured, options.out / "peers.png")


if __name__ == "__main__":
    main()
