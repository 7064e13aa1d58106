"""What torchrun tells its workers, for benchmarks that start a few of them on this machine."""

from __future__ import annotations

import os
import socket


def environments(count: int) -> list[dict[str, str]]:
    """The environment of each worker, which meet at a port that was free just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    alike = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [alike | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [os.environ | {name: str(value) for name, value in told.items()} for told in ranks]
