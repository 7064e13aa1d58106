"""Settings of online and iterative DPO."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from heedful.training.config.checks import require
from heedful.training.config.online import OnlineConfig
from heedful.training.config.preference import LossSettings, MovingConfig, PairMemoryConfig
from heedful.training.config.rollout import RolloutConfig


@dataclass(frozen=True)
class OnlineReferenceConfig(MovingConfig):
    """The reference that a loss compares the policy with."""

    every: int | None = None
    """Rollout batches between two moves; left out, 1."""
    usual: ClassVar[int] = 1


@dataclass(frozen=True)
class OnlineDPOConfig(OnlineConfig):
    """DPO and its kin on the policy's own answers, judged as they come (Guo et al. 2024).

    Small rollout batches of one minibatch are online DPO. Large ones, learnt from in many minibatches, are iterative
    DPO (Xiong et al. 2024); --reference.update hard then starts each iteration from the policy of the last one.
    """

    rollout: RolloutConfig = RolloutConfig(prompts_per_step=64, samples_per_prompt=2)
    """64 prompts with 2 completions each [T]: as many as PPO's."""
    loss: str = "sigmoid"
    """A loss of docs/losses.md, module:function of your own, or a mixture: "sigmoid + 0.2*sft"."""
    beta: float | None = None
    """β, the price of one nat; left out, the loss's own default: 0.1 for the sigmoid [T]."""
    settings: LossSettings = LossSettings()
    pairs: Literal["extremes", "all"] = "extremes"
    """extremes: a prompt's best completion against its worst; all: every two of them, K (K - 1) / 2."""
    labels: Literal["hard", "soft"] = "hard"
    """hard: the higher score is preferred; soft: with probability sigmoid(score difference), as a Bradley-Terry
    reward model means it. Equal scores are a tie of one half either way."""
    reference: OnlineReferenceConfig = OnlineReferenceConfig()
    memory: PairMemoryConfig = PairMemoryConfig()

    unit: ClassVar[str] = "pairs"

    def __post_init__(self) -> None:
        self._in_groups()
        super().__post_init__()
        require(
            not self.rollout.recompute_logprobs,
            "a loss on preferences reads no log-probs of the policy that sampled.",
            "rollout.recompute_logprobs",
        )
        require(self.beta is None or self.beta > 0, f"beta is {self.beta}; it must be above 0.", "beta")

    @property
    def learnt(self) -> int:
        """Pairs."""
        samples = self.rollout.samples_per_prompt
        return self.rollout.prompts_per_step * (samples * (samples - 1) // 2 if self.pairs == "all" else 1)

    @property
    def loss_settings(self) -> dict[str, float | None]:
        """Every setting of a loss by name; None where it is left out."""
        return {"beta": self.beta, **asdict(self.settings)}
