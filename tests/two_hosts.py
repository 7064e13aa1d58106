"""Two hosts on this machine: network namespaces with a switch between them, whose cable can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

NETWORK = "10.77.31"


@dataclass(frozen=True)
class Hosts:
    """Two hosts, 0 and 1, with the addresses 10.77.31.1 and .2; each has a loopback address of its own.

    Args:
        name: what their namespaces begin with.
    """

    name: str

    def address(self, host: int) -> str:
        return f"{NETWORK}.{host + 1}"

    def start(self, host: int, words: list[str], said: str, **environment: str) -> subprocess.Popen[str]:
        """A process on one of them; what it says goes to a file."""
        with open(said, "w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", f"{self.name}{host}", *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def cut(self) -> None:
        """From now on what one sends is lost on the way; neither is told."""
        _ip("-n", f"{self.name}s", "link", "set", "port1", "nomaster")

    def heal(self) -> None:
        _ip("-n", f"{self.name}s", "link", "set", "port1", "master", "switch")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two hosts for the length of a block; skips the test where this machine does not let us make any."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the program ip")
    name = f"heedful{os.getpid()}-"
    try:
        try:
            _lay_cables(name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield Hosts(name)
    finally:
        for end in ("s", "0", "1"):
            subprocess.run(["ip", "netns", "del", f"{name}{end}"], capture_output=True)


def _lay_cables(name: str) -> None:
    _ip("netns", "add", f"{name}s")
    _ip("-n", f"{name}s", "link", "add", "switch", "type", "bridge")
    _ip("-n", f"{name}s", "link", "set", "switch", "up")
    for host in (0, 1):
        own = f"{name}{host}"
        _ip("netns", "add", own)
        _ip("-n", own, "link", "set", "lo", "up")
        peer = ["type", "veth", "peer", "name", f"port{host}", "netns", f"{name}s"]
        _ip("-n", own, "link", "add", "cable", *peer)
        _ip("-n", own, "addr", "add", f"{NETWORK}.{host + 1}/24", "dev", "cable")
        _ip("-n", own, "link", "set", "cable", "up")
        _ip("-n", f"{name}s", "link", "set", f"port{host}", "master", "switch", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
