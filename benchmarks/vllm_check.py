"""Whether a vLLM server samples from the policy that trains, and what it brings. For a GPU host with `heedful[vllm]`.

    python benchmarks/vllm_check.py                          # learns on GPU 0, samples on GPU 1, weights by NCCL
    python benchmarks/vllm_check.py --backend ipc --server-gpus 0 --model runs/sft     # one GPU for both
    python benchmarks/vllm_check.py --server-gpus 1,2 --model Qwen/Qwen2.5-1.5B-Instruct

Starts a server with weights that are not the policy's, sends it the policy's, and compares greedy tokens and the
log-probabilities of samples; changes the policy and does it again; trains GRPO and PPO a few steps, with and without a
step ahead; prints the mismatch, and tokens per second beside the built-in engine; kills the server and looks at the
error. Each check is a line, PASS or FAIL; the exit code is 1 if one failed. What it printed goes into docs/scale.md and
docs/log.md, and "not exercised on a GPU yet" then out of them, of `pipeline/stages/served.py` and of `training/config`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from heedful.core.importance import mismatch
from heedful.errors import HeedfulError
from heedful.files import artifact
from heedful.models.policy import Policy, load_policy, new_policy
from heedful.pipeline.stages.online import run_grpo, run_ppo
from heedful.rollout import vllm_weights
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import DecodingParams, Rollout, RolloutParams
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RunConfig
from heedful.training.config.online import GRPOConfig, PPOConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.server import VLLMConfig
from heedful.training.config.updates import PPOUpdateConfig
from heedful.training.experience import logprobs_of
from heedful.training.served import Ask, Connect, RolloutServer
from heedful.world.tokenizer import build_tokenizer
from heedful.world.world import World

ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,  # of size 64, which vLLM's kernels know
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}
WORDS = 12  # of a prompt
LIMITS = {"kl": 0.02, "same": 0.97, "short": 0.25}
"""In bfloat16: nats per token; the share of greedy tokens that are the policy's own best; nats that one falls short."""

Prompts = tuple[tuple[int, ...], ...]


def reward(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """More for more different words: something to learn."""
    return [float(len(set(text.split()))) for text in completions]


@dataclass
class Report:
    """The lines printed, and whether all were passed."""

    failed: list[str] = field(default_factory=list)

    def check(self, name: str, ok: bool, figure: str) -> None:
        """A line that passes or fails."""
        if not ok:
            self.failed.append(name)
        print(f"{'PASS' if ok else 'FAIL'}  {name}: {figure}", flush=True)

    def say(self, text: str) -> None:
        """A line of figures."""
        print(f"      {text}", flush=True)


def make_models(folder: Path, model: str | None, architecture: dict[str, Any]) -> tuple[str, str]:
    """The policy's folder, and that of the server's first weights: the same shapes, and other values."""
    if model is None:
        for name, seed in (("policy", 1), ("other", 2)):
            with artifact(folder / name, {"kind": "policy"}) as temporary:
                new_policy(architecture, build_tokenizer(), seed=seed, init_std=0.06).save(temporary)
        return str(folder / "policy"), str(folder / "other")
    policy = load_policy(model)
    with artifact(folder / "policy", {"kind": "policy"}) as temporary:
        policy.save(temporary)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(0.9)
    with artifact(folder / "other", {"kind": "policy"}) as temporary:
        policy.save(temporary)
    return str(folder / "policy"), str(folder / "other")


@contextmanager
def started(given: argparse.Namespace, model: str, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM server, once it answers."""
    gpus = given.server_gpus.split(",")
    port = vllm_weights.free_port()
    command = ["vllm", "serve", model, "--port", str(port), "--host", "127.0.0.1", "--dtype", given.dtype]
    command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--max-model-len", "1024"]
    command += ["--weight-transfer-config", json.dumps({"backend": given.backend})]
    command += ["--tensor-parallel-size", str(len(gpus)), "--gpu-memory-utilization", str(given.share)]
    environment = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "CUDA_VISIBLE_DEVICES": given.server_gpus}
    if given.backend == "ipc":
        environment["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    print(" ".join(command), flush=True)
    with open(log, "wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield wait(f"http://127.0.0.1:{port}", process, log), process
    finally:
        process.terminate()
        process.wait(60)


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The server's address, once it answers."""
    import httpx2

    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            if httpx2.get(f"{url}/health", timeout=2).is_success:
                return url
        except httpx2.HTTPError:
            pass
        time.sleep(1)
    raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def questions(policy: Policy, count: int) -> Prompts:
    """Prompts of some tokens each."""
    draw = torch.Generator().manual_seed(3)
    allowed = [token for token in range(8, len(policy.tokenizer)) if token not in {*policy.banned, *policy.eos}]
    picks = torch.randint(len(allowed), (count, WORDS), generator=draw).tolist()
    return tuple(tuple(allowed[i] for i in row) for row in picks)


def sampled(server: RolloutServer, prompts: Prompts, params: RolloutParams, samples: int) -> Rollout:
    """Completions of the server."""
    return server.complete(Ask(prompts, params, samples, 0), None)


def argmaxes(policy: Policy, rollout: Rollout) -> tuple[float, float]:
    """Of greedy completions: the share of tokens that are the policy's best, and how far the worst falls short."""
    best, ids = policy.alternatives(rollout.tokens, rollout.attention, rollout.mask, 1)
    own = logprobs_of(policy, rollout, 1.0, 8192)[rollout.mask]
    same = ids[:, 0] == rollout.tokens[rollout.mask]
    return float(same.float().mean()), float((best[:, 0].float() - own).max())


def check_weights(report: Report, server: RolloutServer, policy: Policy, longest: int) -> None:
    """After a sync the server says what the policy says; and after another, once the policy has changed."""
    prompts = questions(policy, 32)
    draw, greedy = RolloutParams(longest, seed=5), DecodingParams(longest, temperature=0.0)
    for round_, name in enumerate(("first weights", "changed weights")):
        if round_:
            with torch.no_grad():
                for weight in policy.model.parameters():
                    weight.mul_(1.02)
        began = time.monotonic()
        server.sync(round_)
        seconds = time.monotonic() - began
        rollout = sampled(server, prompts, draw, 4)
        told = mismatch(logprobs_of(policy, rollout, 1.0, 8192), rollout.logprobs, rollout.mask, cap=2.0)
        share, short = argmaxes(policy, sampled(server, prompts, greedy, 1))
        figures = ", ".join(f"{key} {value:.2g}" for key, value in told.items())
        report.check(f"{name}: log-probabilities of samples", told["sampler_kl"] < LIMITS["kl"], figures)
        ok = share > LIMITS["same"] and short < LIMITS["short"]
        report.check(
            f"{name}: greedy tokens", ok, f"{share:.2%} the policy's own best, the worst {short:.2g} nats short"
        )
        report.say(f"sync {seconds:.2f} s")
    again = sampled(server, prompts, draw, 4)
    alike = again.tokens.shape == rollout.tokens.shape and torch.equal(again.tokens, rollout.tokens)
    report.say(f"the same seeds again: {'the same tokens' if alike else 'not all tokens the same'}")


def throughput(report: Report, server: RolloutServer, policy: Policy, rows: int, longest: int) -> None:
    """Tokens per second of both."""
    prompts, params = questions(policy, rows), RolloutParams(longest, seed=8)
    ways: dict[str, Callable[[], Rollout]] = {
        "vLLM": lambda: sampled(server, prompts, params, 4),
        "built-in": lambda: NativeEngine(policy).generate(prompts, params, samples_per_prompt=4),
    }
    for name, work in ways.items():
        work()  # once for what is compiled
        began = time.monotonic()
        tokens = int(work().mask.sum())
        seconds = time.monotonic() - began
        report.say(f"{name}: {tokens} tokens of {rows * 4} completions in {seconds:.2f} s, {tokens / seconds:,.0f}/s")


def train(report: Report, given: argparse.Namespace, url: str, model: str, folder: Path, steps: int) -> None:
    """GRPO with and without a step ahead, and PPO: the mismatch stays small, and the lag is what it should be."""
    folder.mkdir(exist_ok=True)
    data = folder / "prompts.jsonl"
    prompts = [prompt.prompt[0].content for prompt in World().prompts("train")][:64]
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    for name, ahead in (("grpo", False), ("grpo", True), ("ppo", False)):
        served = VLLMConfig(url=url, overlap=ahead, patience=given.patience)
        grouped = {"prompts_per_step": 8, "samples_per_prompt": 4} if name == "grpo" else {"prompts_per_step": 32}
        rollout = RolloutConfig(**grouped, max_new_tokens=32, engine="vllm", vllm=served)
        out = folder / f"{name}-{ahead}"
        common: dict[str, Any] = {
            "model": model,
            "reward": "vllm_check:reward",
            "data": str(data),
            "out": out,
            "steps": steps,
            "rollout": rollout,
            "score": ScoreConfig(missing_eos_penalty=0.0),
            "optimiser": OptimiserConfig(learning_rate=1e-5, schedule="constant"),
            "loading": LoadingConfig(device=given.device, precision=given.precision),
            "memory": MemoryConfig(micro_batch_tokens=8192),
            "run": RunConfig(tensorboard=False, checkpoint_every=0),
        }
        began = time.monotonic()
        if name == "grpo":
            run_grpo(GRPOConfig(**common))
        else:
            run_ppo(PPOConfig(**common, critic="shared", update=PPOUpdateConfig(epochs=1)))
        seconds = (time.monotonic() - began) / steps
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        worst = max(row["sampler_kl"] for row in rows)
        title = f"{name}{', a step ahead' if ahead else ''}"
        report.check(f"{title}: mismatch", worst < 2 * LIMITS["kl"], f"sampler_kl at most {worst:.2g} in {steps} steps")
        lags = [row["sampler_lag"] for row in rows]
        report.check(f"{title}: lag", lags == [0.0] + [float(ahead)] * (steps - 1), str(lags))
        means = {key: sum(row[key] for row in rows) / steps for key in ("sync_seconds", "rollout_seconds")}
        told = ", ".join(f"{key} {value:.3f}" for key, value in means.items())
        report.say(f"{seconds:.2f} s a step with all that begins a run; {told}")


def checks(report: Report, given: argparse.Namespace, url: str, model: str, folder: Path, connect: Connect) -> None:
    """All that needs a server that lives."""
    policy = load_policy(model, device=given.device, precision=given.precision)
    server = RolloutServer(VLLMConfig(url=url, patience=given.patience), policy, 10**6, connect)
    report.say(f"server: {server.facts}")
    check_weights(report, server, policy, given.longest)
    throughput(report, server, policy, given.rows, given.longest)
    server.close()
    train(report, given, url, model, folder, steps=4)


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or hub id; a small random model without it")
    parser.add_argument("--backend", choices=("nccl", "ipc"), default="nccl")
    parser.add_argument("--server-gpus", default="1", help="numbers, with commas; ipc: the trainer's own")
    parser.add_argument("--device", default="cuda:0", help="of the trainer")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of the trainer")
    parser.add_argument("--dtype", default="bfloat16", help="of the server")
    parser.add_argument("--share", type=float, default=0.4, help="of a GPU's memory that the server takes")
    parser.add_argument("--patience", type=float, default=120.0)
    parser.add_argument("--rows", type=int, default=128, help="prompts of the throughput, 4 completions each")
    parser.add_argument("--longest", type=int, default=128, help="tokens of a completion")
    return parser


def main() -> None:
    """Start, check, kill."""
    given = arguments().parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        model, other = make_models(folder, given.model, ARCHITECTURE)
        with started(given, other, folder / "server.log") as (url, process):
            checks(report, given, url, model, folder, vllm_weights.connect)
            process.kill()
            process.wait()
            try:
                train(report, given, url, model, folder / "dead", steps=1)
                report.check("a dead server", False, "no error")
            except HeedfulError as error:
                report.check("a dead server", "there is no vLLM server" in str(error), str(error)[:120])
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
