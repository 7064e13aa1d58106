"""Serve the studio: migrate, make what is missing, say where it is, run until stopped."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from heedful.errors import HeedfulError
from heedful.studio.config import LOOPBACK, StudioConfig

GRACE = 10
"""Seconds that requests under way have to end when the studio is stopped."""
HUNG = 60
"""Seconds without a sign of life after which a worker is replaced; also how long one may take to start."""
BACKLOG = 2048
"""Connections that may wait to be taken: uvicorn's own number, which it sets again."""

STATIC = "static"
"""The folder of hashed and packed static files, in the studio's own."""
Say = Callable[[str], None]


def serve(config: StudioConfig, say: Say = print) -> None:
    """Run the studio until it is interrupted.

    Args:
        config: where, and for whom.
        say: prints a line for whoever started it.

    Raises:
        HeedfulError: the folder or the database cannot be used, or the port is taken.
    """
    os.umask(0o077)  # the database holds what people wrote and who they are: nobody else on this machine reads it
    listening = listen(config)
    port = listening.getsockname()[1]
    hosts = [LOOPBACK, "localhost", *(addresses() if config.lan else ())]
    with figures_folder(config):
        prepare(config, hosts)
        from heedful.studio.own_programme import begin_own

        own = config.public_url.rstrip("/") or f"http://{LOOPBACK}:{port}"
        links = demo_links() if config.demo else []
        begun = begin_own(config)
        if begun:
            say(begun)
        for line in welcome(config, own, port, hosts, links):
            say(line)
        sys.stdout.flush()  # into a journal, too, before anything else happens
        pass_on(config, hosts)
        with background():
            _run(config, listening)


def _run(config: StudioConfig, listening: socket.socket) -> None:
    """Answer requests until told to stop.

    Raises:
        HeedfulError: the workers do not start.
    """
    import uvicorn

    settings = uvicorn.Config(
        "heedful.studio.asgi:application",
        workers=config.workers,
        log_config=None,  # Django's setting LOGGING says how, in each process
        log_level=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.public_url),
        forwarded_allow_ips=list(config.trusted_proxies),
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=HUNG,
    )
    try:
        if config.on_server:
            from heedful.studio.workers import Workers

            Workers(settings, [listening]).run()
        else:
            uvicorn.Server(settings).run(sockets=[listening])
    finally:
        listening.close()


@contextmanager
def figures_folder(config: StudioConfig) -> Iterator[None]:
    """Where workers keep what they count, for as long as the studio runs; on SQLite the one process keeps it itself."""
    if not config.on_server:
        yield
        return
    folder = tempfile.mkdtemp(prefix="heedful-figures-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def background() -> Iterator[None]:
    """What is done beside requests, in this process alone, however many workers there are."""
    from heedful.feedback import handing_out, webhooks

    stop = threading.Event()
    threads = [
        threading.Thread(target=work, args=(stop,), name=name, daemon=True)
        for name, work in (("webhooks", webhooks.run_forever), ("handing-out", handing_out.run_forever))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=GRACE / 2)


def listen(config: StudioConfig) -> socket.socket:
    """The socket that the studio serves on; it listens before anything is written, so that a taken port costs nothing.

    Raises:
        HeedfulError: the port is taken, or may not be used.
    """
    host = "0.0.0.0" if config.lan else config.host
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if held.family == socket.AF_INET6:  # else IPv4 proxies would come under names that nobody trusts
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        held.bind((host, config.port))
        held.listen(BACKLOG)  # from here on whoever follows the printed link waits, and is not refused
    except OSError as error:
        held.close()
        raise HeedfulError(
            f"port {config.port} cannot be used: {error.strerror}.",
            where="port" if host in (LOOPBACK, "0.0.0.0") else "host",
            mend="Another studio may be running. Choose another: --port 8401.",
        ) from error
    held.set_inheritable(True)
    return held


def prepare(config: StudioConfig, hosts: Sequence[str]) -> None:
    """Configure Django, bring the database up to date, erase again what a restored backup brought back, fill the demo.

    Raises:
        HeedfulError: the folder cannot be written, or the database cannot be reached.
    """
    from heedful.studio.setup import configure_served

    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeedfulError(
            f"cannot make this folder: {error.strerror}.", where=str(config.folder), mend="Choose another --folder."
        ) from error
    if not os.access(config.folder, os.W_OK):
        raise HeedfulError("cannot write to this folder.", where=str(config.folder), mend="Choose another --folder.")
    configure_served(config, hosts, config.folder / STATIC)
    from heedful.studio.static import collect

    collect()
    bring_up_to_date(config)
    from heedful.feedback.erasure import apply_tombstones

    apply_tombstones()
    if config.demo:
        from heedful.studio.demo import fill

        fill()


def bring_up_to_date(config: StudioConfig) -> None:
    """Migrate, or, with --no-migrate, see that nothing is left to do.

    Raises:
        HeedfulError: the database cannot be reached, or is not up to date and shall not be brought there.
    """
    from django.db import OperationalError

    from heedful.feedback import migrating

    try:
        if config.migrate:
            migrating.migrate()
            return
        left = migrating.pending()
    except OperationalError as error:
        raise HeedfulError(
            f"the database cannot be reached: {str(error).strip().splitlines()[0]}.",
            where="DATABASE_URL",
            mend="Start the server, or correct the address.",
        ) from error
    if left:
        raise HeedfulError(
            f"{len(left)} migrations are not applied, and --no-migrate applies none.",
            where=".".join(left[0]),
            mend="Run heedful studio migrate first.",
        )


def demo_links() -> list[tuple[str, str]]:
    """(who, path) of fresh invitations to the demo."""
    from heedful.studio.demo import invitations

    return invitations()


def pass_on(config: StudioConfig, hosts: Sequence[str]) -> None:
    """Tell the server's processes, through their environment, what they configure themselves with."""
    os.environ["HEEDFUL_STUDIO_DATABASE"] = config.address
    os.environ["HEEDFUL_STUDIO_FOLDER"] = str(config.folder.resolve())
    os.environ["HEEDFUL_STUDIO_RUNS"] = "" if config.runs is None else str(config.runs.resolve())
    os.environ["HEEDFUL_STUDIO_PUBLIC_URL"] = config.public_url
    os.environ["HEEDFUL_STUDIO_HOSTS"] = ",".join(hosts)
    os.environ["HEEDFUL_STUDIO_LAN"] = "1" if config.lan else ""
    os.environ["HEEDFUL_STUDIO_WORKERS"] = str(config.workers)
    os.environ["HEEDFUL_STUDIO_STATIC"] = str((config.folder / STATIC).resolve())
    os.environ["HEEDFUL_STUDIO_LOG"] = config.log_format


def welcome(
    config: StudioConfig, own: str, port: int, hosts: Sequence[str], links: Sequence[tuple[str, str]]
) -> list[str]:
    """What is printed at the start."""
    from heedful.studio.accounts import first_admin_link

    lines = [f"The studio is at {own}/"]
    if config.public_url:
        host = f"[{config.host}]" if ":" in config.host else config.host
        lines += [f"The proxy in front of it asks http://{host}:{port}; see docs/studio.md for what it has to say."]
    first = first_admin_link()
    if first:
        lines += ["", "Nobody has an account yet. This link makes the first, the admin's; it works once:", own + first]
    if config.lan:
        others = [f"http://{host}:{port}" for host in hosts if host not in (LOOPBACK, "localhost")]
        if others:
            lines += ["", f"On this network: {', '.join(other + '/' for other in others)}", *qr_lines(others[0] + "/")]
        else:
            lines += ["", "This machine has no address on a network: only programs on it can reach the studio."]
        lines += ["Traffic is NOT encrypted: use --lan only on a network that you trust."]
    if links:
        base = f"http://{hosts[2]}:{port}" if config.lan and len(hosts) > 2 else own
        lines += ["", "The demo's links, each for one person:"]
        lines += [f"  {who:<10} {base}{path}" for who, path in links]
    return [*lines, "", "Stop with Ctrl-C."]


def qr_lines(text: str) -> list[str]:
    """A QR code of half-block characters, for a terminal."""
    import io

    import qrcode

    code = qrcode.QRCode(border=2, error_correction=qrcode.constants.ERROR_CORRECT_L)
    code.add_data(text)
    drawn = io.StringIO()
    code.print_ascii(out=drawn, invert=True)
    return drawn.getvalue().rstrip("\n").splitlines()


def addresses() -> list[str]:
    """IPv4 addresses of this machine's interfaces but loopback."""
    found = []
    for _, name in socket.if_nameindex():
        address = _address_of(name)
        if address and not address.startswith("127."):
            found.append(address)
    return found


def _address_of(interface: str) -> str:
    """An interface's IPv4 address, empty where it has none (Linux's SIOCGIFADDR; elsewhere, by name)."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            given = struct.pack("256s", interface.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, given)[20:24])
    except OSError:
        return ""
