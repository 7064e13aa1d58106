"""The network interface by which workers on several machines reach each other.

gloo takes the address that the machine's own name stands for. On many machines that is the loopback address (Debian
writes 127.0.1.1 into /etc/hosts), which other machines cannot reach.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

CHOSEN = "GLOO_SOCKET_IFNAME"
"""Environment variable by which gloo is told its interface."""


def choose_interface() -> None:
    """Tell gloo the interface that leads to `MASTER_ADDR`, where workers run on several machines and none is named."""
    if CHOSEN in os.environ or int(os.environ.get("WORLD_SIZE", "1")) <= int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
        return
    name = interface_to(os.environ.get("MASTER_ADDR", ""))
    if name is not None:
        os.environ[CHOSEN] = name


def interface_to(address: str) -> str | None:
    """The name of the interface that leads to a host (IPv4); None where that cannot be told. Nothing is sent."""
    if sys.platform != "linux" or not address:
        return None
    import fcntl

    asked = 0x8915  # SIOCGIFADDR, linux/sockios.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return None
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe.fileno(), asked, struct.pack("256s", name.encode()))
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(found[20:24]) == own:
                return name
    return None
