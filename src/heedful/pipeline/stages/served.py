"""Opening the server that an online stage samples from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from heedful.errors import HeedfulError
from heedful.models.checkpoint_weights import check_names
from heedful.models.policy import Policy
from heedful.pipeline.stages.common import Opened
from heedful.rollout import vllm_weights
from heedful.training.config.online import OnlineConfig
from heedful.training.served import RolloutServer

UNTRIED = (
    "warning: rollout.engine vllm has not been exercised on a GPU yet. On a GPU host, benchmarks/vllm_check.py tells "
    "whether the server samples from this policy."
)


@contextmanager
def rollout_server(stage: Opened, config: OnlineConfig, policy: Policy) -> Iterator[RolloutServer | None]:
    """The server that samples in the policy's place, while the block runs; None where the policy samples for itself.

    A run that fails leaves it as it is: it may be the server that failed, and the next run shuts its connection.

    Raises:
        HeedfulError: there is no server, it was not started as training needs it, or the policy's weights are not sent.
    """
    if config.rollout.engine == "built-in":
        yield None
        return
    check_names(policy)
    stage.display.say(UNTRIED)
    server = RolloutServer(config.rollout.vllm, policy, config.steps, vllm_weights.connect)
    ahead = ", a step ahead" if config.rollout.vllm.overlap else ""
    stage.display.say(f"sampling from {config.rollout.vllm.url} ({server.facts.workers} GPU){ahead}")
    yield server
    try:
        server.close()
    except HeedfulError as error:  # the run itself has ended well
        stage.display.say(f"warning: {error}")
