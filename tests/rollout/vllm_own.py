"""heedful's client against vLLM's own code, on a CPU; prints what test_vllm_own.py looks at. Runs where vLLM is.

vLLM's: the settings of its engine, every route with its request and response models, `OpenAIServingCompletion`, the
trainer's NCCL engine and the worker's, with their rendezvous. Not vLLM's: the model that samples (heedful's own), the
loading of a layer's weights (by name), and the wire: `Wire` sends through the store of the rendezvous what NCCL would
broadcast from GPU to GPU, unpacked.
"""

# ruff: noqa: E402  (which platform vLLM sees is settled before the rest is imported)

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
sys.path += [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[1])]

import torch
import uvicorn
import vllm.distributed.device_communicators.pynccl as pynccl
import vllm.platforms
from fastapi import FastAPI
from vllm.platforms.cpu import CpuPlatform

vllm.platforms._current_platform = CpuPlatform()

from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLWeightTransferEngine
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.completion import api_router as completions
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models import api_router as models
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.rl.online import api_router as rl
from vllm.entrypoints.serve.dev.server_info import api_router as server_info
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput, WeightVersionSpan
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.renderers.registry import renderer_from_config

from architectures import tiny_architectures, tiny_tokenizer
from heedful.errors import HeedfulError
from heedful.files import artifact
from heedful.models.policy import Policy, new_policy
from heedful.rollout import vllm_weights
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import RolloutParams
from heedful.rollout.vllm_server import VLLMServer


class Wire:
    """In PyNcclCommunicator's place: the same rendezvous, and a broadcast through its store."""

    def __init__(self, group: Any, device: Any) -> None:
        self.group = group

    def broadcast(self, tensor: torch.Tensor, src: int, stream: Any = None) -> None:
        """As NCCL's, in place."""
        tensor.copy_(self.group.broadcast_obj(tensor if self.group.rank == src else None, src))

    def destroy(self) -> None:
        """Nothing."""


class Loading:
    """The model that a worker loads weights into."""

    def __init__(self, policy: Policy) -> None:
        self.own = dict(policy.model.named_parameters())

    def load_weights(self, weights: Any) -> None:
        """By name, as a checkpoint's."""
        for name, weight in weights:
            self.own[name].data.copy_(weight)


class Engine:
    """In AsyncLLM's place: the calls that vLLM's routes make of it."""

    errored = False

    def __init__(self, config: Any, policy: Policy) -> None:
        self.vllm_config, self.model_config, self.policy = config, config.model_config, policy
        self.renderer, self.input_processor = renderer_from_config(config), None
        worker = SimpleNamespace(data_parallel_index=0, world_size=1, rank=0)
        own = SimpleNamespace(parallel_config=worker, model_config=config.model_config)
        self.worker = NCCLWeightTransferEngine(
            config.weight_transfer_config,
            own,
            torch.device("cpu"),
            Loading(policy),  # type: ignore[arg-type]
        )
        self.version, self.paused, self.calls = "default", False, []

    def check_admission(self, n: int) -> None:
        """Room for all."""

    async def generate(self, prompt: Any, given: Any, request_id: str, **more: Any) -> Any:
        """Completions, as the sampling parameters that vLLM has read say."""
        assert not self.paused
        assert (given.top_p, given.top_k, given.min_p, given.repetition_penalty) == (1.0, 0, 0.0, 1.0)
        assert (given.presence_penalty, given.frequency_penalty, given.min_tokens) == (0.0, 0.0, 0)
        assert given.ignore_eos
        assert set(given.stop_token_ids) == set(self.policy.eos)
        assert {token for token, bias in given.logit_bias.items() if bias == -100} == set(self.policy.banned)
        assert given.logprobs == 0
        params = RolloutParams(given.max_tokens, given.temperature, given.seed, tuple(given.stop))
        asked = list(prompt["prompt_token_ids"])
        rollout = NativeEngine(self.policy).generate([asked], params, samples_per_prompt=given.n)
        outputs = []
        for row in range(given.n):
            tokens = rollout.tokens[row][rollout.mask[row]].tolist()
            told = rollout.logprobs[row][rollout.mask[row]].tolist()
            outputs.append(
                CompletionOutput(
                    row,
                    "",
                    tokens,
                    sum(told),
                    [{token: Logprob(value)} for token, value in zip(tokens, told, strict=True)],
                    finish_reason="stop" if bool(rollout.finished[row]) else "length",
                    weight_versions=[WeightVersionSpan(self.version, 0, len(tokens))],
                )
            )
        yield RequestOutput(request_id, None, asked, None, outputs, finished=True)

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        """As AsyncLLM's."""
        self.calls.append(f"pause {mode} {clear_cache}")
        self.paused = True

    async def resume_generation(self) -> None:
        """As AsyncLLM's."""
        self.paused = False

    async def init_weight_transfer_engine(self, request: Any) -> None:
        """As AsyncLLM's, with one worker."""
        told = self.worker.parse_init_info(request.init_info)
        await asyncio.to_thread(self.worker.init_transfer_engine, told)

    async def shutdown_weight_transfer_engine(self) -> None:
        """As AsyncLLM's."""
        self.worker.shutdown()

    async def start_weight_update(self) -> None:
        """As AsyncLLM's, without layers that are loaded anew."""
        self.calls.append("start")

    async def update_weights(self, request: Any) -> None:
        """As AsyncLLM's."""
        told = self.worker.parse_update_info(request.update_info)
        await asyncio.to_thread(self.worker.receive_weights, told)

    async def finish_weight_update(self, weight_version: str | None) -> None:
        """As AsyncLLM's."""
        self.calls.append(f"finish {weight_version}")
        if weight_version is not None:
            self.version = weight_version

    async def get_weight_version(self) -> str:
        """As AsyncLLM's."""
        return self.version


def new(seed: int) -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed)


@contextmanager
def serving(folder: Path, policy: Policy) -> Iterator[tuple[str, Engine]]:
    """vLLM's routes over an engine, on a port of their own."""
    transfer = WeightTransferConfig(backend="nccl")
    args = EngineArgs(model=str(folder), dtype="float32", max_model_len=128, generation_config="vllm")
    args.logprobs_mode, args.weight_transfer_config = "processed_logprobs", transfer
    config = args.create_engine_config()
    engine: Any = Engine(config, policy)
    app = FastAPI()
    for module in (completions, models, rl, server_info):
        app.include_router(module.router)
    init_exception_handler(app)
    app.state.engine_client, app.state.vllm_config = engine, config
    app.state.args = SimpleNamespace(log_error_stack=False)
    known = OpenAIServingModels(engine, [BaseModelPath("served", str(folder))])
    renderer = OnlineRenderer(
        engine.model_config, engine.renderer, request_logger=None, chat_template=None,
        chat_template_content_format="auto",
    )  # fmt: skip
    app.state.openai_serving_models = known
    app.state.openai_serving_completion = OpenAIServingCompletion(
        engine, known, online_renderer=renderer, request_logger=None
    )
    port = vllm_weights.free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}", engine
    server.should_exit = True
    thread.join()


def main() -> None:
    """Facts, weights, samples, refusals."""
    pynccl.PyNcclCommunicator = Wire  # type: ignore[misc]
    torch.cuda.current_stream = lambda device=None: None  # type: ignore[assignment]
    torch.accelerator.current_device_index = lambda: 0
    packed = NCCLTrainerInitInfo.__init__
    NCCLTrainerInitInfo.__init__ = lambda self, *a, **k: packed(self, *a, packed=False, **k)  # type: ignore[method-assign]
    policy = new(seed=1)
    params = RolloutParams(6, temperature=0.7, seed=3, stop=("please",))
    prompts = [[9, 10, 11], [12, 13], [14]]
    with tempfile.TemporaryDirectory() as home:
        with artifact(Path(home) / "model", {"kind": "policy"}) as folder:
            new(seed=9).save(folder)
        with serving(Path(home) / "model", new(seed=9)) as (url, engine):
            server = VLLMServer(url, 60.0)
            facts = server.facts()
            told: dict[str, Any] = {"facts": [facts.model, facts.window, facts.backend, facts.workers]}

            def ask(version: str, model: str = "served") -> Any:
                return server.sample(
                    model, prompts, params, samples=2, at_once=None, first=0, eos=policy.eos, banned=policy.banned,
                    version=version,
                )  # fmt: skip

            before = ask("default")
            sender = vllm_weights.begin(server, facts, policy, "127.0.0.1")
            for version in ("run-0", "run-1"):
                if version == "run-1":
                    with torch.no_grad():
                        policy.model.lm_head.weight.mul_(1.5)
                server.call("POST", "/pause", params={"mode": "wait"})
                sender.send(version)
                server.call("POST", "/resume")
                alike = [
                    torch.equal(a, b)
                    for a, b in zip(engine.policy.model.parameters(), policy.model.parameters(), strict=True)
                ]
                told[version] = [all(alike), engine.version]
            told["info"] = server.call("GET", "/weight_info")
            after = ask("run-1")
            apart = []
            for prompt, samples in zip(prompts, after, strict=True):
                for one in samples:
                    row = torch.tensor([[*prompt, *one.tokens]])
                    mask = torch.arange(row.shape[1])[None] >= len(prompt)
                    mine, _ = policy.token_logprobs(row, torch.ones_like(mask), mask, temperature=0.7)
                    apart.append(float((mine[mask].detach() - torch.tensor(one.logprobs)).abs().max()))
            told["apart"], told["changed"] = max(apart), before != after
            told["again"] = ask("run-1") == after
            for name, broken in (("stale", lambda: ask("run-2")), ("model", lambda: ask("run-1", "other"))):
                try:
                    broken()
                except HeedfulError as error:
                    told[name] = str(error)
            sender.close()
            told["calls"] = engine.calls
    print("answer " + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
