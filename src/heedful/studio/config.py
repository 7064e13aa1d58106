"""Settings of `heedful studio`. Imports no Django."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from heedful.errors import HeedfulError
from heedful.feedback.setup import DATABASE

LOOPBACK = "127.0.0.1"
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class StudioConfig:
    """Serve the studio: people write, compare and rank answers in a browser."""

    folder: Path = Path()
    """Where its secret key, its journal of erasures and, by default, its database stand."""
    database: str | None = None
    """Address of the database; by default DATABASE_URL, or feedback.db in the folder."""
    runs: Path | None = None
    """Where training runs lie that may be watched; by default below the folder."""
    port: int = 8400
    """Port; 0 takes any that is free."""
    lan: bool = False
    """Serve the local network too, unencrypted, and print the address with a QR code."""
    public_url: str = ""
    """https://… address of a proxy in front: sets hosts, origins, proxy headers and secure cookies."""
    host: str = LOOPBACK
    """Address to listen on behind a proxy of another machine or container; needs --public-url."""
    trusted_proxies: tuple[str, ...] = (LOOPBACK,)
    """Addresses or networks of proxies whose X-Forwarded headers are believed."""
    workers: int = 1
    """Server processes on one port; more than one needs PostgreSQL."""
    log_format: LogFormat = "text"
    """text: what went wrong, for people; json: that and each request, a line of JSON each."""
    migrate: bool = True
    """Bring the database up to date at the start; without it, refuse one that is not."""
    demo: bool = False
    """Fill an empty studio with the embedded world's questions, and print links for a lead and three raters."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise HeedfulError(f"{self.port} is no port.", where="port", mend="Give one from 1024 to 65535.")
        if self.workers < 1:
            raise HeedfulError(f"{self.workers} workers serve nobody.", where="workers", mend="Give 1 or more.")
        if self.workers > 1 and not self.on_server:
            raise HeedfulError(
                "several workers would wait for SQLite's one writer.",
                where="workers",
                mend="Give one worker, or move to PostgreSQL: heedful studio migrate-db.",
            )
        if self.lan and self.public_url:
            raise HeedfulError(
                "--lan and --public-url contradict each other.",
                where="public_url",
                mend="Behind a proxy the studio listens on this machine alone: leave --lan out.",
            )
        if self.public_url:
            check_public_url(self.public_url)
        elif self.host != LOOPBACK or self.trusted_proxies != (LOOPBACK,):
            raise HeedfulError(
                "--host and --trusted-proxies are for a studio behind a proxy.",
                where="host" if self.host != LOOPBACK else "trusted_proxies",
                mend="Say its address too (--public-url https://…), or serve a local network with --lan.",
            )
        if not is_address(self.host):
            raise HeedfulError(f"{self.host!r} is no address.", where="host", mend="Write 127.0.0.1, 0.0.0.0 or ::.")
        for proxy in self.trusted_proxies:
            if not is_network(proxy):
                raise HeedfulError(
                    f"{proxy!r} is no address and no network.", where="trusted_proxies", mend="Write 10.0.0.0/24."
                )

    @property
    def address(self) -> str:
        """Of the database."""
        import os

        return self.database or os.environ.get("DATABASE_URL") or str(self.folder / DATABASE)

    @property
    def on_server(self) -> bool:
        """Whether the database is PostgreSQL."""
        return urlsplit(self.address).scheme in ("postgresql", "postgres")


def check_public_url(url: str) -> None:
    """Refuse an address that a proxy could not serve the studio at.

    Raises:
        HeedfulError: no https, no host, or a path, user or query in it.
    """
    parts = urlsplit(url)
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and not parts.username
    if parts.scheme != "https" or not parts.hostname or not plain:
        raise HeedfulError(
            f"{url!r} is no https address of a site.", where="public_url", mend="Write https://studio.example.org."
        )


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Whether a text is an IP address, or a network as in 10.0.0.0/24."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
