"""Do the early signs warn in time? Healthy runs and seeded hacks on the embedded world, recorded once and replayed.

    .venv/bin/python benchmarks/detectors.py record            # about an hour of one core; goes on where it was stopped
    .venv/bin/python benchmarks/detectors.py replay            # tables to OUT/detectors.md and OUT/detectors.json
    .venv/bin/python benchmarks/detectors.py tables            # the same tables from the last replay, the signs anew
    .venv/bin/python benchmarks/detectors.py record --full     # the quickstart's own sizes: hours
    .venv/bin/python benchmarks/detectors.py record --worlds 1 --runs 1 --hacked-runs 1   # a try

A world is pretrained, fine-tuned and given a reward model as in the quickstart (without --full as in its --fast). On it
run PPO policies of several seeds: healthy ones against the reward model, hacked ones against the reward model plus
points for a planted flaw (`planted_hacks.py`). Every few steps the policy answers prompts that nothing was trained on,
and the truth scores them: the gold curve. A world is one process with one thread; a run that is done is left alone.

What the tables mean stands in `detector_tables.py`, which replays the signs and the rule on what is recorded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parts import run_parts
from planted_hacks import HACKS, HEALTHY, REWARD_VARIABLE


@dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Attributes:
        steps, prompts_per_step: of PPO; None takes the quickstart's.
        check_every: steps between two checks.
        check_prompts: prompts of a check.
    """

    fast: bool
    steps: int
    prompts_per_step: int | None
    check_every: int
    check_prompts: int


AGAIN = 2
"""How often the policy of a check answers anew, as the opponent of later ones."""
SMALL, FULL = Scale(True, 24, 32, 4, 100), Scale(False, 90, None, 5, 200)


@dataclass(frozen=True)
class Trajectory:
    """One run to record."""

    world: int
    kind: str
    seed: int

    def folder(self, out: Path) -> Path:
        return out / f"world-{self.world}" / "trajectories" / f"{self.kind}-{self.seed}"


def trajectories(args: argparse.Namespace) -> list[Trajectory]:
    """All runs, world by world; within one, kinds take turns."""
    return [
        Trajectory(world, kind, seed)
        for world in range(args.first_world, args.first_world + args.worlds)
        for seed in range(max(args.runs, args.hacked_runs))
        for kind in (HEALTHY, *args.hacks)
        if seed < (args.runs if kind == HEALTHY else args.hacked_runs)
    ]


def prepare(out: Path, world: int, scale: Scale) -> Any:
    """A world with its SFT and reward models, made once; the embedded run."""
    from heedful.pipeline import quickstart as qs
    from heedful.pipeline.embedded import judged_comparisons, pretrain, write_world
    from heedful.pipeline.stages.reward import run_reward
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.progress import Display

    folder, display = out / f"world-{world}", Display(interval=60)
    work = qs.embedded(QuickstartConfig(out=folder, seed=world, fast=scale.fast), display)
    base, sft = work.out / "base", work.round / "sft"
    write_world(work)
    pretrain(work)
    demonstrations = str(work.data("demonstrations"))
    run_sft(work.config(SFTConfig, "sft", model=str(base), data=demonstrations, out=sft), display)
    preferences = str(judged_comparisons(work, sft))
    reward = work.round / "reward"
    run_reward(work.config(RewardConfig, "reward", model=str(base), data=preferences, out=reward), display)
    return work


def record(out: Path, one: Trajectory, work: Any, scale: Scale) -> None:
    """Run one trajectory; leaves metrics.jsonl, answers-STEP.json and, last, done.json."""
    from heedful.evaluation.sampling import sample
    from heedful.files import write_json
    from heedful.monitoring.checks import Reply
    from heedful.pipeline.stages.online import run_ppo
    from heedful.rollout.types import RolloutParams
    from heedful.training.config.online import PPOConfig
    from heedful.training.progress import Display
    from heedful.training.run import Watch
    from heedful.training.state import Event, Step, mix

    folder = one.folder(out)
    if (folder / "done.json").exists():
        return
    prompts = [prompt.prompt for prompt in work.world.prompts("phrasing")][: scale.check_prompts]
    config = work.config(
        PPOConfig,
        "ppo",
        model=str(work.round / "sft"),
        reward=f"planted_hacks:{one.kind}",
        data=str(work.data("prompts-train")),
        out=folder / "run",
        seed=mix(one.world, 31, one.seed),
        steps=scale.steps,
        watch={"mode": "off"},
        run={"evaluate_every": 0, "sample_every": 0, "tensorboard": False},
        **({} if scale.prompts_per_step is None else {"rollout": {"prompts_per_step": scale.prompts_per_step}}),
    )
    folder.mkdir(parents=True, exist_ok=True)

    def watch(models: Any) -> Watch:
        def replies(policy: Any, seed: int) -> list[dict[str, Any]]:
            params = RolloutParams(work.settings.max_new_tokens, seed=seed)
            found = [row[0] for row in sample(policy, prompts, params).answers]
            proxy = [float(score) for score in models.reward(prompts, [answer.text for answer in found])]
            return [asdict(Reply(a.text, a.finished, score)) for a, score in zip(found, proxy, strict=True)]

        def answer(policy: Any, step: int) -> None:
            told = replies(policy, mix(one.world, 32, one.seed, step))
            gold = work.world.golds(prompts, [r["text"] for r in told], [r["finished"] for r in told]).tolist()
            again = [replies(policy, mix(one.world, 33, one.seed, step, turn)) for turn in range(AGAIN)]
            write_json(folder / f"answers-{step:04d}.json", {"replies": told, "gold": gold, "opponents": again})

        if not (folder / "answers-0000.json").exists():
            answer(models.reference, 0)

        def look(step: Step) -> Sequence[Event]:
            if step.number % scale.check_every == 0:
                answer(models.policy, step.number)
            return ()

        return Watch(intervene=look)

    manifest = run_ppo(config, Display(interval=60), watch=watch)
    write_json(folder / "done.json", {"figures": manifest["figures"], "seconds": manifest["seconds"]})


def record_world(args: argparse.Namespace, world: int) -> None:
    """Every trajectory of a world, one after the other."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # the rewards lie here, wherever one stands
    work = prepare(args.out, world, args.scale)
    os.environ[REWARD_VARIABLE] = str(work.round / "reward")
    for one in trajectories(args):
        if one.world == world:
            record(args.out, one, work, args.scale)


def record_all(args: argparse.Namespace) -> int:
    """Every world in a process of its own; what is done is left alone."""
    left = {one.world for one in trajectories(args) if not (one.folder(args.out) / "done.json").exists()}
    given = ["--out", str(args.out), "--runs", str(args.runs), "--hacked-runs", str(args.hacked_runs)]
    given += ["--hacks", *args.hacks, *(["--full"] if args.full else [])]
    given += ["--first-world", str(args.first_world), "--worlds", str(args.worlds)]
    return run_parts(
        sorted(left),
        lambda world: [sys.executable, __file__, "world", *given, "--which", str(world)],
        lambda world: args.out / f"world-{world}.log",
        jobs=args.jobs,
        finished=lambda world: print(f"world {world}: recorded", flush=True),
    )


def main() -> int:
    """Record, or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["record", "replay", "tables", "world"])
    parser.add_argument("--out", type=Path, default=Path("runs/detectors"))
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--first-world", type=int, default=40, help="seed of the first world")
    parser.add_argument("--runs", type=int, default=4, help="healthy runs on a world")
    parser.add_argument("--hacked-runs", type=int, default=2, help="runs of each hack on a world")
    parser.add_argument("--hacks", nargs="*", default=list(HACKS), choices=HACKS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--replays", type=int, default=200, help="of the rule with simulated raters, a run")
    parser.add_argument("--full", action="store_true", help="worlds and runs of the quickstart's own size")
    parser.add_argument("--which", type=int, metavar="WORLD", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    args.scale = FULL if args.full else SMALL
    if args.part == "world":
        record_world(args, args.which)
        return 0
    if args.part == "record":
        return record_all(args)
    from detector_tables import replay_all, tables_again

    if args.part == "tables":
        return tables_again(args.out, trajectories(args))
    return replay_all(args.out, trajectories(args), args.replays, args.scale.check_prompts)


if __name__ == "__main__":
    sys.exit(main())
