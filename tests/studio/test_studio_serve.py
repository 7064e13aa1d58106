"""`heedful studio` as a process: an empty folder, a taken port, the local network, stopping."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

from heedful.errors import HeedfulError
from heedful.studio.config import StudioConfig
from heedful.studio.serve import addresses, listen, qr_lines
from served_studio import run, studio

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def get(url: str, tries: int = 50) -> str:
    """A page, as soon as the server answers."""
    for left in range(tries - 1, -1, -1):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if not left:
                raise
            time.sleep(0.2)
    raise AssertionError


def check_hashed(base: str, page: str) -> None:
    """The page's files, and those that a script imports, are under names with hashes, packed and for good."""
    sheet = re.search(r"/static/studio/studio\.[0-9a-f]{12}\.css", page)
    assert sheet, page
    packed = urllib.request.Request(base + sheet[0], headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(packed) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "immutable" in answer.headers["Cache-Control"]
    imported = re.findall(r'from "\./([\w.]+)"', get(f"{base}/static/studio/js/rate.js"))
    assert len(imported) > 5
    manifest = json.loads(get(f"{base}/static/staticfiles.json"))["paths"]
    script = get(f"{base}/static/{manifest['studio/js/rate.js']}")
    hashed = re.findall(r'from "\./([\w.]+)"', script)
    assert {f"studio/js/{name}" for name in hashed} == {manifest[f"studio/js/{name}"] for name in imported}


def test_an_empty_folder_becomes_a_studio_and_stops_when_asked(tmp_path: Path) -> None:
    with studio(tmp_path) as (process, printed):
        base = re.search(r"The studio is at (\S+)/\n", printed)
        first = re.search(r"^(http\S+/first/\S+/)$", printed, re.MULTILINE)
        assert base, printed
        assert first, printed
        assert '"status": "ok"' in get(f"{base[1]}/health/")
        assert "password1" in get(first[1])
        assert "text/css" in urllib.request.urlopen(f"{base[1]}/static/studio/studio.css").headers["Content-Type"]
        check_hashed(base[1], get(f"{base[1]}/login/"))
        names = {path.name for path in tmp_path.iterdir()}
        assert {"feedback.db", "secret-key"} <= names
        for name in names:
            assert not stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077, f"others can read {name}"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) in (0, 130, -signal.SIGINT)
    with studio(tmp_path) as (_, printed):
        again = re.search(r"^(http\S+/first/\S+/)$", printed, re.MULTILINE)
        assert again
        assert again[1].split("/")[4] != first[1].split("/")[4]


def test_the_demo_gives_links_that_open(tmp_path: Path) -> None:
    with studio(tmp_path, "--demo") as (_, printed):
        links = re.findall(r"^  (lead|rater \d)\s+(\S+)$", printed, re.MULTILINE)
        assert [who for who, _ in links] == ["lead", "rater 1", "rater 2", "rater 3"]
        assert "Demo: a small assistant" in get(links[1][1])


def test_a_store_is_copied_while_it_serves_restored_and_moved(tmp_path: Path) -> None:
    served, restored = tmp_path / "served", tmp_path / "restored"
    copy, moved = tmp_path / "copy", tmp_path / "moved.db"
    with studio(served, "--demo"):
        done = run("studio", "backup", "--folder", str(served), "--out", str(copy))
    assert done.returncode == 0, done.stderr
    assert "checked and on disk" in done.stdout
    restored.mkdir()
    done = run("studio", "restore", "--file", str(copy), "--folder", str(restored))
    assert done.returncode == 0, done.stderr
    assert (restored / "feedback.db").exists()
    done = run("studio", "migrate-db", "--source", str(restored / "feedback.db"), "--target", str(moved), "--json")
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    assert tables["feedback_judgment"]["rows"] == 36
    again = run("studio", "migrate-db", "--source", str(restored / "feedback.db"), "--target", str(moved))
    assert again.returncode == 2
    assert "error:" in again.stderr
    assert run("studio", "bakup").returncode == 2


def test_a_taken_port_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        command = [sys.executable, "-m", "heedful.cli.main", "studio", "--folder", str(tmp_path / "new")]
        done = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port} cannot be used" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"port": 70000}, "port"),
        ({"workers": 0}, "workers"),
        ({"workers": 2, "database": "sqlite:///feedback.db"}, "workers"),
        ({"host": "0.0.0.0"}, "host"),
        ({"trusted_proxies": ("10.0.0.1",)}, "trusted_proxies"),
        ({"host": "studio", "public_url": "https://studio.example"}, "host"),
        ({"trusted_proxies": ("10.0.0.1/8",), "public_url": "https://studio.example"}, "trusted_proxies"),
        ({"public_url": "http://plain.example"}, "public_url"),
        ({"public_url": "https://studio.example/path"}, "public_url"),
        ({"public_url": "https://studio.example", "lan": True}, "public_url"),
    ],
)
def test_settings_that_cannot_be_are_refused(over: dict[str, object], field: str) -> None:
    with pytest.raises(HeedfulError) as caught:
        StudioConfig(**over)  # type: ignore[arg-type]
    assert caught.value.where == field


def test_loopback_alone_is_listened_on_unless_the_network_is_asked_for() -> None:
    with listen(StudioConfig(port=0)) as held:
        assert held.getsockname()[0] == "127.0.0.1"
    with listen(StudioConfig(port=0, lan=True)) as held:
        assert held.getsockname()[0] == "0.0.0.0"
    with listen(StudioConfig(port=0, public_url="https://studio.example", host="127.0.0.9")) as held:
        assert held.getsockname()[0] == "127.0.0.9"


def test_whoever_follows_the_printed_link_at_once_waits_and_is_not_refused() -> None:
    with listen(StudioConfig(port=0)) as held, socket.create_connection(held.getsockname(), timeout=5) as came:
        assert came.getpeername() == held.getsockname()
        with pytest.raises(HeedfulError, match="cannot be used"):
            listen(StudioConfig(port=held.getsockname()[1]))


def test_a_code_for_phones_is_square() -> None:
    lines = qr_lines("http://10.0.0.5:8400/")
    assert len({len(line) for line in lines}) == 1
    assert abs(len(lines[0]) - 2 * len(lines)) <= 1


def test_another_machine_reaches_the_studio_over_the_network(tmp_path: Path) -> None:
    """From a second network namespace, over a pair of virtual cables."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        if IN_CI:
            pytest.fail("CI runs as root with iproute2")
        pytest.skip("making a network namespace needs root and iproute2")
    tag = uuid.uuid4().hex[:6]
    space, here, there = f"heedful-{tag}", f"hf{tag}a", f"hf{tag}b"
    setup = [
        f"ip netns add {space}",
        f"ip link add {here} type veth peer name {there} netns {space}",
        f"ip addr add 10.209.7.1/24 dev {here}",
        f"ip link set {here} up",
        f"ip -n {space} addr add 10.209.7.2/24 dev {there}",
        f"ip -n {space} link set {there} up",
    ]
    try:
        for command in setup:
            subprocess.run(command.split(), check=True, capture_output=True)
        assert "10.209.7.1" in addresses()
        with studio(tmp_path, "--lan") as (_, printed):
            assert "NOT encrypted" in printed
            port = re.search(r"127\.0\.0\.1:(\d+)", printed)
            assert port
            assert f"http://10.209.7.1:{port[1]}/" in printed
            get(f"http://127.0.0.1:{port[1]}/health/")
            fetch = (
                f"import urllib.request as u; print(u.urlopen('http://10.209.7.1:{port[1]}/login/', timeout=10).read())"
            )
            seen = subprocess.run(
                ["ip", "netns", "exec", space, sys.executable, "-c", fetch], capture_output=True, text=True, timeout=30
            )
            assert "Log in" in seen.stdout, seen.stderr
        with studio(tmp_path) as (_, printed):
            port = re.search(r"127\.0\.0\.1:(\d+)", printed)
            assert port
            get(f"http://127.0.0.1:{port[1]}/health/")
            fetch = f"import urllib.request as u; u.urlopen('http://10.209.7.1:{port[1]}/login/', timeout=5)"
            refused = subprocess.run(
                ["ip", "netns", "exec", space, sys.executable, "-c", fetch], capture_output=True, text=True, timeout=30
            )
            assert refused.returncode != 0, "without --lan nobody else gets in"
    finally:
        subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["ip", "link", "del", here], capture_output=True)
