"""What `overoptimisation.py` runs: worlds, crowds, reward models, best-of-n and PPO, watched all along.

All settings of the study stand here. They were chosen on seeds 51 and 100 and are the same in every arm but for what
the arm names. Every run leaves its folder as `heedful` writes it; a run that is finished is not run again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from heedful.data.records import Conversation, Preference
    from heedful.pipeline.embedded import Embedded
    from heedful.world.raters import Pair

CROWDS = {"biased": 0.75, "careful": 0.0}
"""What ten words more are worth to each of a crowd's five raters, in gold points; their noise is the same."""
DATA = {"few": 300, "many": 1000}
"""Compared pairs, three votes each. The few are among the many."""
ARMS = (("few", 0.0), ("few", 0.1), ("many", 0.0))
"""What PPO runs on for each crowd: reward-model data, KL coefficient."""

CHECK_EVERY, POOL_EVERY, POOL = 2, 2, 64
"""Checks ask every second unseen phrasing; best-of-n every second of those, with so many answers to each."""
REWARD = {"batch_size": 32, "epochs": 2, "optimiser": {"learning_rate": 1e-3}, "run": {"tensorboard": False}}
PPO = {
    "steps": 20,
    "rollout": {"prompts_per_step": 48},
    "optimiser": {"learning_rate": 2e-4, "schedule": "constant"},
    "run": {"tensorboard": False, "evaluate_every": 0, "sample_every": 0, "checkpoint_every": 10},
}
CHECKS = {"every_kl": 2.0, "every_steps": 2}
FAR = 12.0
"""Nats at which a run ends: what matters has happened by then."""


def embedded(out: Path, seed: int) -> Embedded:
    """The seed's run of the embedded world, as small as `heedful quickstart --fast` makes it."""
    from heedful.pipeline.quickstart import embedded as opened
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.progress import Display

    work = opened(QuickstartConfig(out=out / f"seed-{seed}", seed=seed, fast=True), Display(interval=60))
    return replace(work, settings=replace(work.settings, pairs=max(DATA.values())))


def sft(work: Embedded) -> Path:
    """Where the SFT model stands."""
    return work.round / "sft"


def fresh_prompts(work: Embedded) -> list[Conversation]:
    """The prompts that nothing is trained on: unseen phrasings."""
    return [prompt.prompt for prompt in work.world.prompts("phrasing")][::CHECK_EVERY]


# --- what all arms of a seed begin from --------------------------------------------------------------------------


def run_base(out: Path, seed: int) -> None:
    """The world, its SFT model, pairs of that model's answers, and a pool of answers for best-of-n."""
    from heedful.data.records import Preference, Prompt
    from heedful.data.write import write_records
    from heedful.evaluation.sampling import sample
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded import pretrain, sample_pairs, write_world
    from heedful.pipeline.stages.sft import run_sft
    from heedful.rollout.types import RolloutParams
    from heedful.training.config.sft import SFTConfig
    from heedful.training.state import mix

    started = time.monotonic()
    work = embedded(out, seed)
    write_world(work)
    write_records(work.out / "checks.jsonl", [Prompt(prompt) for prompt in fresh_prompts(work)])
    pretrain(work)
    demonstrations = {"model": str(work.out / "base"), "data": str(work.data("demonstrations")), "out": sft(work)}
    run_sft(work.config(SFTConfig, "sft", **demonstrations), work.display)
    policy = load_policy(str(sft(work)))
    pairs = sample_pairs(work, policy)
    write_records(work.out / "pairs.jsonl", [Preference(*pair, probability=0.5) for pair in pairs])
    prompts = fresh_prompts(work)[::POOL_EVERY]
    params = RolloutParams(work.settings.max_new_tokens, seed=mix(seed, 70))
    drawn = sample(policy, prompts, params, samples_per_prompt=POOL).answers
    rows = [{"texts": [a.text for a in answers], "finished": [a.finished for a in answers]} for answers in drawn]
    write_json(work.out / "pool.json", rows)
    write_json(work.out / "base.json", {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time()})


def votes(work: Embedded, crowd: str, pairs: Sequence[Pair], purpose: int) -> list[Preference]:
    """What a crowd says of pairs; those of one and the same text are left out."""
    from heedful.training.state import mix
    from heedful.world.raters import judge_pairs, panel

    raters = [replace(rater, length_bias=CROWDS[crowd]) for rater in panel()]
    found = judge_pairs(work.world, pairs, raters, votes=work.settings.votes, seed=mix(work.seed, purpose))
    return [record for record in found if record.a.strip() != record.b.strip()]


def judged(work: Embedded, crowd: str, data: str) -> Path:
    """The pairs as a crowd judged them; a file of preferences."""
    from heedful.data.load import DataSpec, load_preferences
    from heedful.data.write import write_records

    path = work.out / "labels" / f"{crowd}-{data}.jsonl"
    if not path.exists():
        found = load_preferences(DataSpec(str(work.out / "pairs.jsonl"))).records[: DATA[data]]
        path.parent.mkdir(exist_ok=True)
        write_records(path, votes(work, crowd, [(record.prompt, record.a, record.b) for record in found], purpose=71))
    return path


def reward_model(work: Embedded, data: Path, out: Path, **over: Any) -> Path:
    """A reward model on judged pairs, from the base model; its folder."""
    from heedful.pipeline.embedded import merge
    from heedful.pipeline.stages.reward import run_reward
    from heedful.training.config.reward import RewardConfig

    settings = merge(REWARD, {"model": str(work.out / "base"), "data": str(data), "out": out})
    run_reward(work.config(RewardConfig, "reward", **merge(settings, over)), work.display)
    return out


def run_pool(work: Embedded, reward: Path) -> dict[str, Any]:
    """Best-of-n on the pool by a reward model: proxy and gold against KL, by `heedful.evaluation.best_of_n`."""
    import json

    from heedful.evaluation.best_of_n import best_of_n, best_of_n_kl
    from heedful.models.rewards import load_reward

    rows = json.loads((work.out / "pool.json").read_text(encoding="utf-8"))
    asked = [p for p in fresh_prompts(work)[::POOL_EVERY] for _ in range(POOL)]
    texts = [text for row in rows for text in row["texts"]]
    ended = [end for row in rows for end in row["finished"]]
    gold = work.world.golds(asked, texts, ended).reshape(-1, POOL)
    proxy = np.asarray(load_reward(str(reward))(asked, texts), dtype=float).reshape(-1, POOL)
    ns = [2**i for i in range(POOL.bit_length())]
    return {
        "n": ns,
        "kl": [best_of_n_kl(n) for n in ns],
        "gold": [float(best_of_n(proxy, gold, n).mean()) for n in ns],
        "proxy": [float(best_of_n(proxy, proxy, n).mean()) for n in ns],
        "gold_spread": float(gold.std()),
        "proxy_spread": float(proxy.std()),
    }


# --- PPO ---------------------------------------------------------------------------------------------------------


def ppo_run(work: Embedded, reward: str, out: Path, *, beta: float, mode: str = "warn", **over: Any) -> Path:
    """PPO against a reward, with fresh checks by the world's truth, to its last step or `FAR` nats; its folder."""
    from heedful.pipeline.embedded import merge
    from heedful.pipeline.stages.online import run_ppo
    from heedful.training.config.online import PPOConfig
    from heedful.training.run import Watch
    from heedful.training.state import Event, Step, Stop

    def far(step: Step) -> list[Event]:
        return [Stop(f"{FAR:g} nats")] if step.metrics["kl"] >= FAR else []

    gold = {"judge": f"world:{work.seed}", "prompts": str(work.out / "checks.jsonl"), **CHECKS}
    own = {"model": str(sft(work)), "reward": reward, "data": str(work.data("prompts-train")), "out": out}
    settings = merge(PPO, {**own, "kl": {"coefficient": beta}, "watch": {"mode": mode, "gold": gold}})
    run_ppo(work.config(PPOConfig, "ppo", **merge(settings, over)), work.display, watch=lambda _: Watch(intervene=far))
    return out


def run_crowd(out: Path, seed: int, crowd: str) -> None:
    """A crowd's reward models, best-of-n by them, and PPO on them."""
    from heedful.files import write_json

    started = time.monotonic()
    work = embedded(out, seed)
    folder = work.out / crowd
    for data in DATA:
        reward = reward_model(work, judged(work, crowd, data), folder / f"reward-{data}")
        if not pool_file(work, crowd, data).exists():
            write_json(pool_file(work, crowd, data), run_pool(work, reward))
    for data, beta in ARMS:
        ppo_run(work, str(folder / f"reward-{data}"), ppo_folder(work, crowd, data, beta), beta=beta)
    write_json(work.out / f"{crowd}.json", {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time()})


def pool_file(work: Embedded, crowd: str, data: str) -> Path:
    """Where best-of-n by a crowd's reward model leaves its figures."""
    return work.out / crowd / f"best-of-n-{data}.json"


def ppo_folder(work: Embedded, crowd: str, data: str, beta: float) -> Path:
    """Where an arm of PPO runs."""
    return work.out / crowd / f"ppo-{data}-{beta:g}"


def end_of(work: Embedded, run: Path) -> dict[str, float]:
    """What a finished run's policy is worth on the prompts of the checks, in fresh answers, and how far it went."""
    from heedful.evaluation.sampling import divergence, sample
    from heedful.models.policy import load_policy
    from heedful.rollout.types import RolloutParams
    from heedful.training.state import mix

    policy, prompts = load_policy(str(run)), fresh_prompts(work)
    params = RolloutParams(work.settings.max_new_tokens, seed=mix(work.seed, 73))
    found = sample(policy, prompts, params)
    answers = [row[0] for row in found.answers]
    gold = work.world.golds(prompts, [a.text for a in answers], [a.finished for a in answers])
    moved = divergence(policy, load_policy(str(sft(work))), found.rollout, clusters=list(range(len(prompts))))
    return {"gold": float(gold.mean()), "kl": moved.kl.mean}
