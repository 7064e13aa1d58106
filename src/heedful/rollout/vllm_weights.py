"""Weights to a vLLM server, by vLLM's own transfer engines (`vllm.distributed.weight_transfer`, vLLM 0.33).

The server says which engine it was started with: nccl, from GPU to other GPUs; or ipc, on one and the same GPU.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.checkpoint_weights import checkpoint_weights, weight_shapes
from heedful.models.policy import Policy
from heedful.rollout.vllm_server import Facts, VLLMServer, in_background

T = TypeVar("T")


class Sender(Protocol):
    """What brings a policy's weights, as they stand, to a server."""

    def send(self, version: str) -> None:
        """Send them; they bear this version there."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


def connect(server: VLLMServer, facts: Facts, policy: Policy, address: str | None) -> Sender:
    """A connection to the GPUs of a server.

    Args:
        address: of this machine, as those GPUs' processes reach it; None: as this one reaches the server.

    Raises:
        HeedfulError: vLLM is not installed here, the policy is not on a GPU, or the server takes weights otherwise.
    """
    if policy.device.type != "cuda":
        raise HeedfulError(
            "weights go to a vLLM server from GPU to GPU, and the policy is on none.",
            where="rollout.engine",
            mend="Leave it at built-in on a CPU.",
        )
    try:
        import vllm.distributed.weight_transfer  # noqa: F401
    except ImportError as error:
        raise HeedfulError(
            f"vLLM sends the weights, and is not installed beside this program ({error}).",
            where="rollout.engine",
            mend="Install it: pip install 'heedful[vllm]'.",
        ) from error
    return begin(server, facts, policy, address)


def begin(server: VLLMServer, facts: Facts, policy: Policy, address: str | None) -> Sender:
    """`connect`, where vLLM and a device that it knows are there."""
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    server.call("POST", "/shutdown_weight_transfer_engine")  # of a trainer that was killed
    client, init = _client(server), _init_info(server, facts, address)

    def opened() -> Any:
        return WeightTransferTrainerFactory.trainer_init(init, client=client, source=_source(policy))

    return VLLMSender(server, policy.device, in_time(server, policy.device, opened), client)


class VLLMSender:
    """vLLM's trainer engine, and the client that it drives the server with."""

    def __init__(self, server: VLLMServer, device: torch.device, engine: Any, client: Any) -> None:
        self.server, self.device, self.engine, self.client = server, device, engine, client

    def send(self, version: str) -> None:
        """As `Sender`.

        Raises:
            HeedfulError: the transfer failed; the server's weights are then neither the old nor the new.
        """
        self.client.version = version
        in_time(self.server, self.device, self.engine.send_weights)

    def close(self) -> None:
        """As `Sender`."""
        in_time(self.server, self.device, self.engine.shutdown)
        self.server.call("POST", "/shutdown_weight_transfer_engine")


def in_time(server: VLLMServer, device: torch.device, work: Callable[[], T]) -> T:
    """What vLLM's own code does with a server, given up after `server.patience`: NCCL waits for ever for a dead peer.

    Raises:
        HeedfulError: it failed, or took too long.
    """

    def on_device() -> T:
        if device.index is not None:
            torch.cuda.set_device(device)  # is of a thread
        return work()

    try:
        return in_background(on_device).result(server.patience)
    except HeedfulError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else f"nothing within {server.patience:g} seconds"
        raise HeedfulError(
            f"the weights did not reach the vLLM server: {said}.",
            where=server.url,
            mend="Look at the server's log: it has to serve the policy's own architecture and vocabulary, with nccl on "
            "other GPUs than this program's. Start it anew, then the same command: it goes on from the last "
            "checkpoint.",
        ) from error


def _client(server: VLLMServer) -> Any:
    """vLLM's own client of its routes, with our errors, and a version for what is sent."""
    from vllm.distributed.weight_transfer import HTTPVLLMWeightSyncClient

    class Client(HTTPVLLMWeightSyncClient):  # type: ignore[misc]
        version: str | None = None

        def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
            server.call("POST", f"/{path}", json=json)

        def finish_weight_update(self, weight_version: str | None = None) -> None:
            super().finish_weight_update(weight_version or self.version)

    return Client(server.url, timeout=server.patience)


def _source(policy: Policy) -> Any:
    """The policy's weights as vLLM reads them off a trainer."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class Source(WeightSource):  # type: ignore[misc]
        @cached_property
        def metadata(self) -> list[Any]:
            return [ParamMeta(*one) for one in weight_shapes(policy)]

        def iter_full(self) -> Iterator[tuple[str, Tensor]]:
            yield from checkpoint_weights(policy)

    return Source()


def _init_info(server: VLLMServer, facts: Facts, address: str | None) -> Any:
    """What the engine of the server's kind is begun with."""
    if facts.backend == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        address = address or own_address(server.url)
        return NCCLTrainerInitInfo(address, free_port(), facts.workers + 1, rank=0)
    if facts.backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0, packed=True)
    raise server.problem(f"it takes weights by {facts.backend!r}, and this program sends by nccl or ipc")


def own_address(url: str) -> str:
    """The address of this machine on the way to a server.

    Raises:
        HeedfulError: there is no way.
    """
    parts = urlsplit(url)
    try:
        family, kind, _, _, where = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise HeedfulError(f"there is no way there: {error}.", where=url, mend="Set rollout.vllm.address.") from error


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
