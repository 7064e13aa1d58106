"""Scorers: actors of a Ray cluster that hold the reward model, so that the workers that train need not.

A scorer keeps no state but the model, and each request names it. So one that dies is started again by Ray, and what
it had under way is asked again: scoring is pure, and costs nothing but its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heedful.data.held import is_held
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.models.rewards import Reward, aggregation, judged, load_reward, names_code
from heedful.training.config.launch import LaunchConfig, label
from heedful.training.config.online import OnlineConfig
from heedful.training.workers import current

Scores = tuple[Tensor, dict[str, Tensor]]
"""Scores [B] float32, and measures [B] by name, in main memory."""


class Scorer:
    """One of the actors. It opens what it is asked about when it is first asked."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], Reward] = {}

    def score(self, spec: str, precision: str, prompts: Sequence[Conversation], completions: Sequence[str]) -> Scores:
        """What `models.rewards.judged` gives of completions.

        Raises:
            HeedfulError: as the reward.
        """
        key = (spec, precision)
        if key not in self._opened:
            device = "cuda" if torch.cuda.is_available() else "cpu"  # Ray shows the GPUs that it has given
            self._opened[key] = load_reward(spec, device=device, precision=precision)
        given, told = judged(self._opened[key], prompts, completions)
        scores = torch.as_tensor(given, dtype=torch.float32).cpu()
        return scores, {name: values.cpu() for name, values in told.items()}


class RemoteReward:
    """A reward whose model is a scorer's. It is a `Reward`, and tells what its model can tell beside the score.

    Args:
        scorer: the actor.
        name: the setting that names the reward.
        precision: to compute in.
        patience: seconds to wait for an answer.
    """

    def __init__(self, scorer: Any, name: str, precision: str, patience: float) -> None:
        self.scorer, self.name, self.precision, self.patience = scorer, name, precision, patience

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Scores [B] float32, in main memory."""
        return self.measured(prompts, completions)[0]

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Scores:
        """Scores [B], and measures [B] by name: none, where the model has none.

        Raises:
            HeedfulError: as the reward; the scorer does not answer, or died more often than it is started again.
        """
        import ray

        asked = self.scorer.score.remote(self.name, self.precision, list(prompts), list(completions))
        try:
            return ray.get(asked, timeout=self.patience)  # type: ignore[no-any-return]
        except ray.exceptions.GetTimeoutError as error:
            what = f"no scorer has answered for {self.patience:g} s."
            mend = "See that the cluster has room for launch.scorers beside the workers, or raise launch.patience."
            raise HeedfulError(what, where="launch.scorers", mend=mend) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, HeedfulError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            what = "a scorer died more often than it is started again (launch.restarts)."
            mend = "See that its host has the memory for the reward model, and run the same command again."
            raise HeedfulError(what, where="launch.scorers", mend=mend) from error


_given: Sequence[Any] = ()


def give(scorers: Sequence[Any]) -> None:
    """Tell a worker of the scorers that its run has."""
    global _given
    _given = scorers


def start_scorers(ray: Any, launch: LaunchConfig) -> list[Any]:
    """The scorers that settings ask for, on a cluster that is connected; with a GPU each, where there are enough."""
    gpus = ray.cluster_resources().get("GPU", 0) >= launch.workers + launch.scorers
    actor = ray.remote(Scorer).options(
        num_cpus=1,
        num_gpus=int(gpus),
        resources=label(launch.scorers_on),
        max_restarts=launch.restarts,
        max_task_retries=launch.restarts,
    )
    return [actor.remote() for _ in range(launch.scorers)]


def remote_reward(config: OnlineConfig, precision: str) -> RemoteReward:
    """The reward of a run that has scorers, as one of its workers asks for it: each has one that it asks.

    Raises:
        HeedfulError: nothing has started any.
    """
    if not _given:
        raise HeedfulError(
            "nothing has started the scorers of this run.",
            where="launch.scorers",
            mend="Run the stage's own command, with --launch.launcher ray.",
        )
    scorer = _given[current().rank % len(_given)]
    return RemoteReward(scorer, config.reward, precision, config.launch.patience)


def refuse_beside_scorers(config: OnlineConfig) -> None:
    """Refuse, before anything is read, what does not go with scorers.

    Raises:
        HeedfulError: naming the setting.
    """
    together = aggregation(config.reward)
    parts = together.members if together is not None else (config.reward,)
    functions = any(is_held(part) or names_code(part) for part in parts)
    for asked, where, what in (
        (functions, "reward", "scorers hold models, and functions run in the workers that train"),
        (config.loading.lora_rank > 0, "loading.lora_rank", "adapters have the reward model on the policy's base"),
        (config.watch.latent_samples > 0, "watch.latent_samples", "a look at the reward model's states is one at hand"),
    ):
        if asked:
            raise HeedfulError(f"{what}.", where=where, mend="Leave launch.scorers out.")
