"""A proxy that speaks TLS in front of a studio, its certificate, and a client that keeps cookies; on loopback."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

HOST = "studio.example.org"
HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-proto"}
FORWARDED = "x-forwarded-for"


def certificate(folder: Path) -> Path:
    """A key and a certificate of `HOST` that signs itself, in one file."""
    path = folder / "proxy.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path


@contextmanager
def proxy(pem: Path, port: int, *, append: bool = True) -> Iterator[int]:
    """A proxy in front of a port of this machine, in a thread; its own port.

    Args:
        pem: as `certificate` makes it.
        port: of the studio.
        append: add the client's address to what it says of itself in X-Forwarded-For, as nginx's
            `$proxy_add_x_forwarded_for` does; else put it in its place, as Caddy does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            body = await reader.readexactly(int(length[1])) if length else b""
            asked, out = await asyncio.open_connection("127.0.0.1", port)
            out.write(_onwards(head, writer.get_extra_info("peername")[0], append) + body)
            await out.drain()
            while piece := await asked.read(65536):
                writer.write(piece)
                await writer.drain()
            out.close()
        finally:
            writer.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), loop)
    server = starting.result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _onwards(head: str, client: str, append: bool) -> bytes:
    """A request's head as the proxy hands it on."""
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = [(line.partition(":")[0].strip(), line.partition(":")[2].strip()) for line in lines]
    said = [value for name, value in pairs if name.lower() == FORWARDED] if append else []
    kept = [(name, value) for name, value in pairs if name.lower() not in HOP | {FORWARDED}]
    kept += [("X-Forwarded-For", ", ".join([*said, client])), ("X-Forwarded-Proto", "https"), ("Connection", "close")]
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in kept), "", ""]).encode("latin1")


class Browser:
    """Asks a proxy (or a server without TLS) from an address of this machine, and keeps its cookies.

    Args:
        port: of the proxy.
        cafile: of the proxy's certificate; None asks without TLS.
        source: where the requests come from; every address of 127.0.0.0/8 is this machine's.
    """

    def __init__(self, port: int, cafile: Path | None = None, source: str = "127.0.0.1") -> None:
        self.port, self.source = port, source
        self.tls = ssl.create_default_context(cafile=str(cafile)) if cafile else None
        self.origin = f"{'https' if cafile else 'http'}://{HOST if cafile else f'127.0.0.1:{port}'}"
        self.cookies: SimpleCookie = SimpleCookie()
        self.page = ""

    def ask(
        self,
        method: str,
        path: str,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> http.client.HTTPResponse:
        """One request; `page` is what came. A header of None is not sent."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(self.source, 0))
        connection = http.client.HTTPConnection(HOST)
        connection.sock = self.tls.wrap_socket(plain, server_hostname=HOST) if self.tls else plain
        sent: dict[str, str | None] = {
            "Host": self.origin.partition("://")[2],
            "Cookie": "; ".join(f"{name}={one.value}" for name, one in self.cookies.items()) or None,
        }
        body = None
        if method == "POST":
            body = urlencode({"csrfmiddlewaretoken": self.token, **(data or {})})
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
            sent |= {"Referer": f"{self.origin}{path}"}
        sent |= headers or {}
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value is not None})
            answer = connection.getresponse()
            self.page = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or ():
            self.cookies.load(line)
        return answer

    def get(self, path: str, **headers: str | None) -> http.client.HTTPResponse:
        """GET a path."""
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, data: Mapping[str, str] | None = None, **headers: str | None) -> http.client.HTTPResponse:
        """POST a form, with the page's token."""
        return self.ask("POST", path, data, {name.replace("_", "-"): value for name, value in headers.items()})

    @property
    def token(self) -> str:
        """What the last page's forms hold against forgery, or the cookie."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page)
        cookie = self.cookies.get("heedful-csrf")
        return found[1] if found else cookie.value if cookie else ""
