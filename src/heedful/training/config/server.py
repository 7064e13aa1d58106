"""Settings of a vLLM server that samples while this program trains. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from heedful.errors import HeedfulError
from heedful.training.config.checks import at_least, require


@dataclass(frozen=True)
class VLLMConfig:
    """The vLLM server of `rollout.engine vllm`, on other GPUs (docs/scale.md). Not exercised on a GPU yet."""

    url: str = "http://127.0.0.1:8000"
    """Where the server listens."""
    overlap: bool = False
    """Sample the next batch while this one is learnt from: with the weights of one step before, so off-policy by a
    step."""
    cap: float = 2.0
    """Samples are weighted by the policy's probability over the sampler's, at most this much (truncated importance
    sampling, Yao et al. 2025) [V]; 0 weights nothing."""
    max_kl: float = 0.5
    """The run ends with an error where KL(sampler || policy) is more nats per token: the server then has other weights,
    or another distribution."""
    address: str | None = None
    """This machine as the server's GPUs reach it, for the weights; None: as this machine reaches the server."""
    patience: float = 600.0
    """Seconds that an answer, or a transfer of weights, may take."""

    def __post_init__(self) -> None:
        where = "rollout.vllm."
        at_least(0, where, cap=self.cap)
        require(self.max_kl > 0, f"max_kl is {self.max_kl}; it must be above 0.", f"{where}max_kl")
        require(self.patience > 0, f"patience is {self.patience}; it must be above 0.", f"{where}patience")
        if not self.url.startswith(("http://", "https://")):
            raise HeedfulError(
                f"{self.url!r} is no address of a server.",
                where="rollout.vllm.url",
                mend="Give one such as http://127.0.0.1:8000.",
            )
