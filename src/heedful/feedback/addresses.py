"""Addresses that other people name: the studio connects to none that lies inside its own network.

A webhook, a policy endpoint or an AI judge is a URL that somebody typed. `check` refuses one whose host is, or
resolves to, an address that the public internet does not route; `client` connects to the very address that was
checked, so that a name cannot mean one thing when it is checked and another when it is used.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

import httpx2

from heedful.errors import HeedfulError, Sentence

Address: TypeAlias = IPv4Address | IPv6Address
REDIRECTS = 3
MAX_BYTES = 8 * 2**20
PORTS = {"http": 80, "https": 443}


def _networks(*names: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(name) for name in names)


# The special-purpose registries of IANA (RFC 6890 and its successors), by what they are for.
PRIVATE = _networks(
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("::1/128", "fc00::/7"),
)
"""Private, shared and loopback: what `allow_private` allows."""
NEVER = _networks(
    *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/128", "64:ff9b:1::/48", "100::/63", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
    *("fe80::/10", "fec0::/10", "ff00::/8"),
)
"""Link-local (where clouds keep their credentials), multicast, reserved, unspecified: refused always."""
_EMBED_LAST = _networks("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
"""Mapped, translated, NAT64 and compatible: the last 32 bits are an IPv4 address."""


def plain(address: Address) -> Address:
    """The IPv4 address that hides in an IPv6 address (mapped, NAT64, ...), or the address itself."""
    hidden = isinstance(address, IPv6Address) and int(address) > 1 and _within(address, _EMBED_LAST)
    return IPv4Address(int(address) & 0xFFFFFFFF) if hidden else address


def _within(address: Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def refused(address: Address, *, allow_private: bool = False) -> bool:
    """Whether the studio must not connect to an address."""
    bare = plain(address)
    if _within(bare, PRIVATE):
        return not allow_private
    return _within(bare, NEVER) or not bare.is_global


@dataclass(frozen=True)
class Checked:
    """A URL that may be asked, and the addresses that its host has now."""

    url: httpx2.URL
    host: str
    port: int
    addresses: tuple[Address, ...]


def parse(url: str | httpx2.URL) -> tuple[httpx2.URL, str, int]:
    """A URL with its host and port. Nothing is looked up.

    Args:
        url: http or https, a host, no user and no password.

    Raises:
        HeedfulError: it is no such URL.
    """
    try:
        parsed = httpx2.URL(url)
        host, port = parsed.raw_host.decode("ascii"), parsed.port
    except (httpx2.InvalidURL, UnicodeError, ValueError, TypeError) as error:
        raise HeedfulError(
            "this is no URL ({error}).", where="url", mend="Write https://host/path.", error=str(error)
        ) from error
    if parsed.scheme not in PORTS:
        raise HeedfulError("a URL starts with https:// or http://.", where="url", mend="Write https://host/path.")
    if parsed.userinfo:
        raise HeedfulError("a URL holds no user and no password.", where="url", mend="Take out what stands before @.")
    if not host or "%" in host:
        raise HeedfulError("the URL names no host.", where="url", mend="Write https://host/path.")
    if port is not None and not 0 < port < 65536:
        raise HeedfulError("{port} is no port.", where="url", mend="Give 1 to 65535.", port=port)
    return parsed, host, port or PORTS[parsed.scheme]


def check(url: str | httpx2.URL, *, allow_private: bool = False) -> Checked:
    """Look at an address before it is stored or asked.

    Args:
        url: as `parse` takes it.
        allow_private: private and loopback ranges are fine; link-local, multicast and reserved ones never are.

    Raises:
        HeedfulError: it is no such URL, its host has no address, or one of its addresses must not be asked.
    """
    parsed, host, port = parse(url)
    found = resolve(host, port)
    for address in found:
        if refused(address, allow_private=allow_private):
            if str(address) == host:
                what = Sentence("{host} lies in a range that the studio does not connect to.", host=host)
            else:
                what = Sentence(
                    "{host} is {address}, which lies in a range that the studio does not connect to.",
                    host=host,
                    address=str(address),
                )
            if refused(address, allow_private=True):
                raise HeedfulError(what, where="url", mend="Give another address.")
            raise HeedfulError(
                what,
                where="url",
                mend="Give a public address, or allow private ones in the programme's settings.",
            )
    return Checked(parsed, host, port, found)


def resolve(host: str, port: int) -> tuple[Address, ...]:
    """Every address of a host, as the system resolves it (which reads 2130706433 and 0x7f.1 as 127.0.0.1).

    Raises:
        HeedfulError: it has none.
    """
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = tuple(dict.fromkeys(ip_address(str(row[4][0]).partition("%")[0]) for row in rows))
    except (OSError, UnicodeError, ValueError) as error:
        raise HeedfulError(
            "{host} has no address ({error}).",
            where="url",
            mend="Look for a typing error, or try again.",
            host=host,
            error=str(error),
        ) from error
    if not found:
        raise HeedfulError("{host} has no address.", where="url", mend="Look for a typing error.", host=host)
    return found


class _Deadline:
    """Ends a connection when its time is over, whatever it is doing: a peer may not answer byte by byte for ever."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """httpcore's trace: notes the socket once it is connected, and again once TLS is around it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    def _end(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def cancel(self) -> None:
        self._timer.cancel()


class _Bounded(httpx2.SyncByteStream):
    """A body that ends after so many bytes, and before its deadline."""

    def __init__(self, inner: httpx2.SyncByteStream, most: int, deadline: _Deadline) -> None:
        self._inner, self._most, self._deadline = inner, most, deadline

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._inner:
            seen += len(chunk)
            if seen > self._most:
                raise httpx2.ReadError(f"the answer is larger than {self._most} bytes")
            yield chunk
        if self._deadline.passed:
            raise httpx2.ReadTimeout("the answer did not end in time")

    def close(self) -> None:
        self._deadline.cancel()
        self._inner.close()


class Guarded(httpx2.BaseTransport):
    """Checks each request, redirects included, and connects to the address that it checked.

    The name stays in the Host header and in the TLS handshake, so certificates are checked against it.
    """

    def __init__(
        self, *, allow_private: bool, max_bytes: int, total_seconds: float, verify: ssl.SSLContext | None
    ) -> None:
        self._allow, self._most, self._seconds = allow_private, max_bytes, total_seconds
        # No connection is kept: one made for a name is never used for another name at the same address.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.HTTPTransport(verify=verify or True, trust_env=False, limits=limits)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request.

        Raises:
            HeedfulError: it goes to an address that is refused.
            httpx2.HTTPError: no address answered, or the answer is too large, too slow or compressed.
        """
        target = check(request.url, allow_private=self._allow)
        request.headers["Accept-Encoding"] = "identity"
        deadline = _Deadline(self._seconds)
        try:
            return self._bounded(self._ask(request, target, deadline), deadline)
        except BaseException as error:
            deadline.cancel()
            if deadline.passed and isinstance(error, httpx2.HTTPError):
                raise httpx2.ReadTimeout("the answer did not come in time") from error
            raise

    def _ask(self, request: httpx2.Request, target: Checked, deadline: _Deadline) -> httpx2.Response:
        extensions = {**request.extensions, "trace": deadline.trace}
        if target.url.scheme == "https":
            extensions["sni_hostname"] = target.host
        for number, address in enumerate(target.addresses, 1):
            url = target.url.copy_with(host=str(address))
            moved = httpx2.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=extensions
            )
            try:
                return self._inner.handle_request(moved)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if number == len(target.addresses) or deadline.passed:
                    raise
        raise AssertionError("a checked URL has an address")

    def _bounded(self, response: httpx2.Response, deadline: _Deadline) -> httpx2.Response:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        assert isinstance(response.stream, httpx2.SyncByteStream)
        if encoding not in ("", "identity"):
            response.stream.close()
            raise httpx2.DecodingError(f"the answer is packed with {encoding}, which nobody asked for")
        response.stream = _Bounded(response.stream, self._most, deadline)
        return response

    def close(self) -> None:
        """Close what is open."""
        self._inner.close()


def _same_or_safer(response: httpx2.Response) -> None:
    """Refuse a redirect that leaves TLS: it would send in the clear what was sent encrypted."""
    if response.has_redirect_location and response.url.scheme == "https":
        there = response.url.join(response.headers["location"])
        if there.scheme != "https":
            raise HeedfulError(
                "{host} sends on to an address without TLS.",
                where="url",
                mend="Give the final address.",
                host=response.url.host,
            )


def client(
    allow_private: bool = False,
    *,
    timeout: float = 10.0,
    total_seconds: float = 120.0,
    max_bytes: int = MAX_BYTES,
    redirects: int = REDIRECTS,
    verify: ssl.SSLContext | None = None,
) -> httpx2.Client:
    """An HTTP client for addresses that people typed.

    It follows at most `redirects` redirects and checks each; it never leaves TLS once in it; it reads no proxy
    settings (a proxy would look the name up again); an answer ends at `max_bytes` bytes and `total_seconds` seconds.
    `verify` says which certificates to trust, where not those that httpx2 trusts.
    """
    guarded = Guarded(allow_private=allow_private, max_bytes=max_bytes, total_seconds=total_seconds, verify=verify)
    return httpx2.Client(
        transport=guarded,
        follow_redirects=redirects > 0,
        max_redirects=redirects,
        timeout=timeout,
        trust_env=False,
        event_hooks={"response": [_same_or_safer]},
    )
