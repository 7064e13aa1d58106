"""Addresses that people typed: what is inside is never asked, and the name means what was checked."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.feedback import addresses

REAL = socket.getaddrinfo
PUBLIC = "93.184.216.34"


def rows(*found: str) -> list[Any]:
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0, 0, 0)) for one in found
    ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A resolver that knows these names and reads literals; it asks no network."""
    known: dict[str, list[str]] = {}

    def resolve(host: Any, port: Any, *args: Any, **over: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name in known:
            return rows(*known[name])
        try:
            literal = ":" in name or bool(socket.inet_aton(name))
        except OSError:
            literal = False
        if not literal:
            raise socket.gaierror(-2, "Name or service not known")
        return REAL(host, port, *args, **over)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


class Answers(BaseHTTPRequestHandler):
    """What a test's local server says, by path."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.seen.append((self.path, dict(self.headers)))
        if self.path.startswith("/to?"):
            self.send_response(307)
            self.send_header("Location", self.path[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        if self.path == "/drip":
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(1000):
                if server.over.is_set():
                    return
                try:
                    self.wfile.write(b".")
                except OSError:
                    return
                time.sleep(0.02)
            return
        body = b"x" * (2**20) if self.path == "/large" else b"hello"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads, server.seen, server.over = True, [], threading.Event()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Any]:
    with serving() as one:
        yield one


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.com/", "file:///etc/passwd", "gopher://x", "javascript:alert(1)", "example.com", "", "//x"),
        *("http://user@93.184.216.34/", "http://user:pass@93.184.216.34/", "http://93.184.216.34\\@127.0.0.1/"),
        *("http:///path", "http://", "http://a b/", "http://93.184.216.34:0/", "http://93.184.216.34:99999/"),
        *("http://93.184.216.34:port/", "http://\x00/", "http://[::1", "http://[fe80::1%25eth0]/", "http://nowhere/"),
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str, names: dict[str, list[str]]) -> None:
    for allow in (False, True):
        with pytest.raises(HeedfulError) as caught:
            addresses.check(url, allow_private=allow)
        assert caught.value.where == "url"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
        *("2130706433", "0x7f000001", "0x7f.1", "127.1", "[::1]", "[fc00::1]", "[fdff::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]"),
        *("[::ffff:0:7f00:1]", "[::127.0.0.1]"),
    ],
)
def test_private_addresses_need_permission_however_they_are_spelled(host: str, names: dict[str, list[str]]) -> None:
    with pytest.raises(HeedfulError, match="does not connect to"):
        addresses.check(f"http://{host}/", allow_private=False)
    assert addresses.check(f"http://{host}/", allow_private=True).addresses


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0", "169.254.169.254", "0xa9fea9fe", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1"),
        *("240.0.0.1", "255.255.255.255", "192.0.0.8", "[::]", "[fe80::1]", "[ff02::1]", "[fec0::1]", "[2001:db8::1]"),
        *("[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]"),
    ],
)
def test_link_local_multicast_and_reserved_are_refused_even_so(host: str, names: dict[str, list[str]]) -> None:
    for allow in (False, True):
        with pytest.raises(HeedfulError, match="does not connect to"):
            addresses.check(f"http://{host}/", allow_private=allow)


def test_a_name_is_refused_if_any_of_its_addresses_is_inside(names: dict[str, list[str]]) -> None:
    names["out.example"] = [PUBLIC, "2606:2800:220:1::1"]
    names["both.example"] = [PUBLIC, "10.1.2.3"]
    names["six.example"] = ["fe80::1%eth0"]
    found = addresses.check("https://out.example/hook")
    assert [str(one) for one in found.addresses] == names["out.example"]
    assert found.port == 443
    for name in ("both.example", "six.example"):
        with pytest.raises(HeedfulError, match="does not connect to"):
            addresses.check(f"https://{name}/hook")


@given(
    st.sampled_from(
        [IPv4Network(n) for n in ("10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "169.254.0.0/16", "224.0.0.0/4")]
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0xFFFF << 32, 0xFFFF << 48, 0x64FF9B << 96]),
)
def test_nothing_inside_is_reached_through_another_spelling(network: IPv4Network, bits: int, prefix: int) -> None:
    inside = IPv4Address(int(network.network_address) | bits & int(network.hostmask))
    assert addresses.refused(inside)
    assert addresses.refused(IPv6Address(prefix | int(inside)))


@given(st.integers(1 << 24, 2**32 - 1).map(IPv4Address))
def test_an_address_is_refused_or_global(address: IPv4Address) -> None:
    assert addresses.refused(address) or address.is_global
    assert not (addresses.refused(address, allow_private=True) and not addresses.refused(address))


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    """DNS rebinding: public when it is checked, loopback a moment later."""
    names["rebind.example"] = [PUBLIC]
    asked: list[str] = []
    real = socket.create_connection

    def connect(address: Any, *args: Any, **over: Any) -> Any:
        asked.append(address[0])
        names["rebind.example"] = ["127.0.0.1"]
        if address[0] == PUBLIC:
            raise ConnectionRefusedError("nobody there")
        return real(address, *args, **over)

    monkeypatch.setattr(socket, "create_connection", connect)
    with addresses.client() as client, pytest.raises(httpx2.ConnectError):
        client.get(f"http://rebind.example:{server.server_port}/")
    assert asked == [PUBLIC]
    with addresses.client() as client, pytest.raises(HeedfulError):
        client.get(f"http://rebind.example:{server.server_port}/")
    assert asked == [PUBLIC]
    assert not server.seen


def test_the_next_address_is_asked_where_one_does_not_answer(
    names: dict[str, list[str]], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names["two.example"] = ["127.0.0.2", "127.0.0.1"]
    with addresses.client(allow_private=True) as client:
        answer = client.get(f"http://two.example:{server.server_port}/hook")
    assert answer.text == "hello"
    path, headers = server.seen[0]
    assert path == "/hook"
    assert headers["Host"] == f"two.example:{server.server_port}"
    assert headers["Accept-Encoding"] == "identity"


def test_each_redirect_is_checked(names: dict[str, list[str]], server: Any) -> None:
    names["a.example"] = ["127.0.0.1"]
    base = f"http://a.example:{server.server_port}"
    with addresses.client(allow_private=True) as client:
        assert client.get(f"{base}/to?/to?/to?/end").text == "hello"
        with pytest.raises(httpx2.TooManyRedirects):
            client.get(f"{base}/to?/to?/to?/to?/end")
        for there in ("http://169.254.169.254/latest/", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd"):
            with pytest.raises((HeedfulError, httpx2.UnsupportedProtocol)):
                client.get(f"{base}/to?{there}")


def test_a_redirect_from_outside_to_inside_is_refused(
    names: dict[str, list[str]], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host counts as public here; what it sends on to does not."""
    names["out.example"] = ["127.0.0.1"]
    monkeypatch.setattr(addresses, "refused", lambda address, *, allow_private=False: str(address) != "127.0.0.1")
    with addresses.client() as client, pytest.raises(HeedfulError, match=r"127\.0\.0\.5"):
        client.get(f"http://out.example:{server.server_port}/to?http://127.0.0.5:{server.server_port}/secret")
    assert [path for path, _ in server.seen] == [f"/to?http://127.0.0.5:{server.server_port}/secret"]


def test_an_answer_is_bounded_in_size_and_time_and_not_packed(server: Any) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    with addresses.client(True, max_bytes=1000) as client:
        assert client.get(base).text == "hello"
        with pytest.raises(httpx2.ReadError, match="larger"):
            client.get(f"{base}/large")
        with pytest.raises(httpx2.DecodingError):
            client.get(f"{base}/packed")
    with addresses.client(True, total_seconds=0.3) as client:
        begun = time.monotonic()
        with pytest.raises(httpx2.HTTPError):
            client.get(f"{base}/drip")
        assert time.monotonic() - begun < 3


def test_headers_that_come_byte_by_byte_are_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            try:
                peer, _ = listening.accept()
                with peer:
                    for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000:
                        peer.sendall(bytes([letter]))
                        time.sleep(0.05)
            except OSError:
                return

        threading.Thread(target=drip, daemon=True).start()
        begun = time.monotonic()
        with addresses.client(True, total_seconds=0.3) as client, pytest.raises(httpx2.ReadTimeout):
            client.get(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        assert time.monotonic() - begun < 3


def test_proxies_of_the_environment_are_not_asked(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with addresses.client(True) as client:
        assert client.get(f"http://127.0.0.1:{server.server_port}/").text == "hello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {made} -days 2"
    words += " -subj /CN=hooks.example -addext subjectAltName=DNS:hooks.example"
    try:
        subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return key, made


def test_tls_is_checked_against_the_name_not_the_address(
    names: dict[str, list[str]], certificate: tuple[Path, Path]
) -> None:
    key, made = certificate
    names["hooks.example"] = names["other.example"] = ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)  # type: ignore[assignment]
    trusted = ssl.create_default_context(cafile=str(made))
    with serving(context) as server, serving() as plain:
        with addresses.client(True, verify=trusted) as client:
            assert client.get(f"https://hooks.example:{server.server_port}/").text == "hello"
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                client.get(f"https://other.example:{server.server_port}/")
            with pytest.raises(HeedfulError, match="without TLS"):
                client.get(f"https://hooks.example:{server.server_port}/to?http://127.0.0.1:{plain.server_port}/")
        with addresses.client(True) as client, pytest.raises(httpx2.ConnectError, match="certificate"):
            client.get(f"https://hooks.example:{server.server_port}/")
        assert not plain.seen
    assert asked == ["hooks.example", "other.example", "hooks.example", "hooks.example"]
