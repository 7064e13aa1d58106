"""Rollouts from a vLLM server: weights before samples, samples ahead of time, and the figures of both.

Of several workers the leader sends the weights, and each asks for the completions of its own share of the prompts.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.core.importance import mismatch
from heedful.errors import HeedfulError
from heedful.models.policy import Policy
from heedful.rollout.types import Rollout, RolloutParams
from heedful.rollout.vllm_server import Facts, Sampled, VLLMServer, in_background
from heedful.rollout.vllm_weights import Sender
from heedful.training.config.server import VLLMConfig
from heedful.training.workers import current

FLOOR = -9999.0
"""What vLLM writes for a log-probability below it."""

Completions = list[list[Sampled]]
Connect = Callable[[VLLMServer, Facts, Policy, str | None], Sender]


@dataclass(frozen=True)
class Ask:
    """What is asked of a server at once; also the name of what was asked for ahead of time."""

    prompts: tuple[tuple[int, ...], ...]
    params: RolloutParams
    samples: int
    first: int


class RolloutServer:
    """A vLLM server that samples for a run.

    The server bears the version of the weights that it was sent last, and says of each completion which sampled it. A
    run begins with none, so that it sends its weights before its first sample, whether it is new or goes on.

    Args:
        settings: of the run.
        policy: whose weights are sent.
        steps: of the run; nothing is sampled for a step beyond.
        connect: opens the way of the weights (`rollout.vllm_weights.connect`).

    Raises:
        HeedfulError: there is no server, or it was not started as training needs it.
    """

    def __init__(self, settings: VLLMConfig, policy: Policy, steps: int, connect: Connect) -> None:
        team = current()
        self.settings, self.policy, self.steps = settings, policy, steps
        self.server = VLLMServer(settings.url, settings.patience)
        self.facts = team.led(self.server.facts)
        if self.facts.backend == "ipc" and team.count > 1:
            raise HeedfulError(
                f"{self.facts.backend} takes weights of one process, and {team.count} train.",
                where=settings.url,
                mend="Start the server with the backend nccl, on other GPUs.",
            )
        self.run = team.led(lambda: uuid.uuid4().hex[:12])
        self.of_step: int | None = None
        self._connect = connect
        self._sender: Sender | None = None
        self._ahead: dict[Ask, Future[Completions]] = {}
        self._ahead_of: int | None = None
        self._lag = 0
        self._seconds = {"sync_seconds": 0.0, "rollout_seconds": 0.0}

    def prepare(self, step: int) -> None:
        """Before a step's batch is asked for: with its weights, unless it was asked for ahead of time."""
        self._seconds, self._lag = dict.fromkeys(self._seconds, 0.0), int(self._ahead_of == step)
        if not self._lag:
            self._ahead.clear()
            self.sync(step)

    def sync(self, step: int) -> None:
        """Let the server have the policy's weights as they stand before a step's update."""
        if self.of_step == step:
            return
        began, team = time.monotonic(), current()
        with team.whole():
            team.led(lambda: self._send(step))
        self.of_step = step
        self._seconds["sync_seconds"] += time.monotonic() - began

    def _send(self, step: int) -> None:
        if self._sender is None:
            self._sender = self._connect(self.server, self.facts, self.policy, self.settings.address)
        self.server.call("POST", "/pause", params={"mode": "wait"})  # it forgets what it has read with the old weights
        self._sender.send(self.version(step))
        self.server.call("POST", "/resume")

    def version(self, step: int) -> str:
        """What the server calls the weights of a step of this run."""
        return f"{self.run}-{step}"

    def complete(self, ask: Ask, at_once: int | None) -> Rollout:
        """The completions asked for, now or ahead of time.

        Raises:
            HeedfulError: a prompt leaves no room, or the server is gone, or answers otherwise than asked.
        """
        began = time.monotonic()
        begun = self._ahead.pop(ask, None)
        if begun is None:
            assert self.of_step is not None
            answers = self._sampled(ask, at_once, self.of_step)
        else:
            answers = begun.result()
        self._seconds["rollout_seconds"] += time.monotonic() - began
        return assemble(ask.prompts, answers, self.policy.pad, self.policy.device)

    def _sampled(self, ask: Ask, at_once: int | None, step: int) -> Completions:
        longest = max(len(prompt) for prompt in ask.prompts) + ask.params.max_new_tokens
        if longest > self.facts.window:
            raise HeedfulError(
                f"prompt and completion may have {longest} tokens, and the server was started for {self.facts.window}.",
                where=self.settings.url,
                mend=f"Start it with --max-model-len {longest} or more, or lower rollout.max_new_tokens.",
            )
        return self.server.sample(
            self.facts.model,
            ask.prompts,
            ask.params,
            samples=ask.samples,
            at_once=at_once,
            first=ask.first,
            eos=self.policy.eos,
            banned=self.policy.banned,
            version=self.version(step),
        )

    def wants_ahead(self, step: int) -> bool:
        """Whether the batch after a step's is to be sampled while that is learnt from."""
        return self.settings.overlap and step + 1 < self.steps

    def begin(self, step: int, ask: Ask | None, at_once: int | None) -> None:
        """Ask for a later step's completions with the weights as they stand, and do not wait.

        Args:
            ask: this worker's share; None for none.
        """
        assert self.of_step is not None
        self._ahead.clear()
        self._ahead_of = step
        if ask is None:
            return
        of_step = self.of_step
        self._ahead[ask] = in_background(lambda: self._sampled(ask, at_once, of_step))

    def figures(self, rollout: Rollout, logprobs: Tensor) -> dict[str, float]:
        """How the samples of a step fit the policy that learns, and what they cost in time.

        Args:
            logprobs: [B, T] of the policy before the step's update.

        Raises:
            HeedfulError: they fit so badly that the server cannot have the policy's weights.
        """
        figures = mismatch(logprobs, rollout.logprobs, rollout.mask, cap=self.settings.cap)
        if not figures["sampler_kl"] <= self.settings.max_kl:
            raise HeedfulError(
                f"the server's samples are {figures['sampler_kl']:.3g} nats per token off the policy that learns, more "
                f"than {self.settings.max_kl:g}.",
                where=self.settings.url,
                mend="Look whether it serves the model that the run began with, without quantisation or draft model; "
                "what is wanted like this is allowed by --rollout.vllm.max-kl.",
            )
        return figures | {"sampler_lag": float(self._lag)} | self._seconds

    def close(self) -> None:
        """Let the server go. It keeps the last weights."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()


def assemble(prompts: Sequence[Sequence[int]], answers: Completions, pad: int, device: torch.device | str) -> Rollout:
    """The rollout of completions behind their prompts.

    Args:
        prompts: P of them.
        answers: K completions of each.
    """
    rows = [(number, one) for number, samples in enumerate(answers) for one in samples]
    width = max(len(prompts[number]) + len(one.tokens) for number, one in rows)
    tokens = torch.full((len(rows), width), pad, dtype=torch.int64)
    attention, mask = (torch.zeros((len(rows), width), dtype=torch.bool) for _ in range(2))
    logprobs = torch.zeros((len(rows), width))
    for row, (number, one) in enumerate(rows):
        start, end = len(prompts[number]), len(prompts[number]) + len(one.tokens)
        tokens[row, :end] = torch.tensor([*prompts[number], *one.tokens])
        attention[row, :end] = True
        mask[row, start:end] = True
        logprobs[row, start:end] = torch.tensor(one.logprobs)
    finished = torch.tensor([one.finished for _, one in rows])
    index = torch.tensor([number for number, _ in rows])
    if not bool(logprobs.isfinite().all()) or float(logprobs.min()) <= FLOOR:
        raise HeedfulError(
            "the server sampled a token that it gives no probability.", mend="Look at its log: weights may be NaN."
        )
    return Rollout(tokens, attention, mask, logprobs, finished, index).to(device)
