"""Settings of what is learnt from: how the policy is sampled, and what becomes of a reward before a method sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heedful.errors import HeedfulError
from heedful.training.config.checks import at_least, require, share
from heedful.training.config.server import VLLMConfig


@dataclass(frozen=True)
class RolloutConfig:
    """How training samples. The policy's own distribution: top-k, top-p, min-p and penalties are refused."""

    prompts_per_step: int = 128
    """Prompts in one step. With the samples of each, the rollout batch; 512 [N]."""
    samples_per_prompt: int = 1
    """Completions sampled for each prompt."""
    max_new_tokens: int = 256
    """The longest completion."""
    temperature: float = 1.0
    """Sampling temperature; the trained distribution is the tempered one [O, V]."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion."""
    max_batch: int | None = None
    """Most sequences decoded at once; None leaves it to the engine."""
    recompute_logprobs: bool = False
    """Take the old log-probs from the trainer's forward pass, not from the sampler. Their mismatch is logged."""
    engine: Literal["built-in", "vllm"] = "built-in"
    """built-in: the policy samples in this program; vllm: a vLLM server does, with the weights of every step (not
    exercised on a GPU yet)."""
    vllm: VLLMConfig = VLLMConfig()

    def __post_init__(self) -> None:
        where = "rollout."
        at_least(1, where, prompts_per_step=self.prompts_per_step, samples_per_prompt=self.samples_per_prompt)
        at_least(1, where, max_new_tokens=self.max_new_tokens)
        require(self.temperature > 0, "training samples at a temperature above 0.", "rollout.temperature")
        if self.engine == "built-in" and self.vllm.overlap:
            raise HeedfulError(
                "the built-in engine samples where the policy learns, so that nothing would be done at once.",
                where="rollout.vllm.overlap",
                mend="Leave it out, or sample from a server on other GPUs (rollout.engine vllm).",
            )
        if self.engine == "built-in" and self.vllm != VLLMConfig():
            raise HeedfulError(
                "these settings are of a vLLM server, and the built-in engine samples.",
                where="rollout.vllm",
                mend="Set rollout.engine to vllm, or leave them out.",
            )

    @property
    def recomputes(self) -> bool:
        """Whether the old log-probs are the trainer's own: asked for, or because another program samples."""
        return self.recompute_logprobs or self.engine == "vllm"


@dataclass(frozen=True)
class ScoreConfig:
    """What happens to the reward before the method sees it."""

    missing_eos_penalty: float = 1.0
    """Subtracted, after normalisation, from a completion that did not end by itself [T]."""
    normalise: Literal["none", "reference"] = "none"
    """reference: subtract the mean and divide by the spread of the scores of the reference's own samples."""
    normalise_samples: int = 256
    """How many samples of the reference fix that mean and spread, the ceiling's quantile and the usual length."""
    ceiling: float | None = None
    """Pay no more than this reward, in the reward model's own points (constrained reward, Moskovitz et al. 2023)."""
    ceiling_quantile: float = 0.0
    """Instead: pay no more than this quantile (0.99, say) of the rewards of the reference's own samples; 0 is off."""
    bound: Literal["none", "sigmoid", "logsigmoid"] = "none"
    """sigmoid: pay in 0 to 1 (Fu et al. 2025, best with normalise reference); logsigmoid: pay ever less for more above
    the reference (Wang et al. 2024)."""
    clip: float = 0.0
    """Clamp the score to [-clip, clip]; 0 clamps nothing."""
    length_penalty: float = 0.0
    """Points taken for every 100 tokens above `length_free`."""
    length_free: float | None = None
    """Tokens that cost nothing; None takes the mean length of the reference's own samples."""
    repetition_penalty: float = 0.0
    """Points times the share of an answer's 4-grams that it has already used."""

    def __post_init__(self) -> None:
        at_least(0, "score.", missing_eos_penalty=self.missing_eos_penalty, clip=self.clip)
        at_least(0, "score.", length_penalty=self.length_penalty, repetition_penalty=self.repetition_penalty)
        at_least(2, "score.", normalise_samples=self.normalise_samples)
        share("score.", ceiling_quantile=self.ceiling_quantile)
        require(
            self.ceiling is None or self.ceiling_quantile == 0,
            "give a ceiling, or the quantile that it stands at, not both.",
            "score.ceiling",
        )
        require(
            self.length_free is None or self.length_penalty > 0,
            "length_free says nothing without a length_penalty.",
            "score.length_free",
        )
        require(
            self.bound == "none" or self.clip == 0,
            f"clip {self.clip} and bound {self.bound} both bound the score; keep one of them.",
            "score.bound",
        )

    @property
    def measured(self) -> bool:
        """Whether something is to be measured on the reference's own samples first."""
        usual_length = self.length_penalty > 0 and self.length_free is None
        return self.normalise == "reference" or self.ceiling_quantile > 0 or usual_length
