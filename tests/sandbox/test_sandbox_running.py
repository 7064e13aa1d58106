"""Hostile programs in the sandbox: what they try fails, they end, and nothing of them is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.errors import HeedfulError
from heedful.sandbox import jail
from heedful.sandbox.limits import Limits
from heedful.sandbox.running import Finished, run

pytestmark = pytest.mark.usefixtures("jailed")
LIMITS = Limits(seconds=60)
"""Much, on a machine that is busy; programs here end by themselves or by another limit."""


def tried(program: str, **limits: float) -> Finished:
    return run(program, limits=replace(LIMITS, **limits))


def last_error(finished: Finished) -> str:
    return finished.errors.strip().splitlines()[-1]


def test_a_harmless_program_runs_with_the_standard_library() -> None:
    finished = tried("import asyncio, json, sqlite3\nprint(json.dumps([1, 2]), __name__)")
    assert (finished.ended, finished.output, finished.errors) == ("finished", "[1, 2] __main__\n", "")


def test_a_program_that_fails_says_why() -> None:
    finished = tried("raise SystemExit(3)")
    assert finished.ended == "failed"
    assert last_error(tried("1 / 0")) == "ZeroDivisionError: division by zero"


def test_a_fork_bomb_is_held_to_its_processes_and_ends_with_the_clock() -> None:
    counted = tried(
        "import os, time\nn = 0\ntry:\n while True:\n  if os.fork() == 0:\n   time.sleep(600)\n  n += 1\n"
        "except OSError as error:\n print(n, error.errno, flush=True)\n os.kill(os.getpid(), 9)",
        processes=8,
    )
    assert counted.output == "7 11\n"  # EAGAIN
    bomb = tried("import os\nwhile True:\n try: os.fork()\n except OSError: pass", seconds=1.5)
    assert bomb.ended == "timeout"
    if os.geteuid() == 0:  # each sandbox then has a user's number that no other process has
        assert passing_processes() == []


def passing_processes() -> list[int]:
    found: list[int] = []
    for _ in range(100):  # the kernel ends a namespace's processes after the first of them
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = status.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            users = next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))
            if users >= jail.PASSING_USERS and (users - jail.PASSING_USERS) // 64 == os.getpid() % 2**20:
                found.append(int(status.parent.name))
        if not found:
            break
        time.sleep(0.05)
    return found


def test_threads_count_as_processes() -> None:
    finished = tried(
        "from threading import Thread\nimport time\n"
        "for n in range(50): Thread(target=time.sleep, args=(1,), daemon=True).start()",
        processes=8,
    )
    assert last_error(finished) == "RuntimeError: can't start new thread"


def test_memory_has_an_end() -> None:
    assert last_error(tried("x = bytearray(10**9)", memory_mib=128)) == "MemoryError"
    assert tried("x = []\nwhile True: x.append(bytes(10**6))", memory_mib=128).ended == "failed"


def test_a_file_bomb_meets_the_end_of_its_folder() -> None:
    one = tried("f = open('a', 'wb')\nwhile True: f.write(bytes(2**20))", disk_mib=4)
    assert last_error(one) == "OSError: [Errno 27] File too large"
    many = tried("for n in range(100): open(str(n), 'wb').write(bytes(2**20))", disk_mib=4)
    assert last_error(many) == "OSError: [Errno 28] No space left on device"
    assert last_error(tried("x = [open('/dev/null') for _ in range(100)]")).startswith("OSError: [Errno 24]")


def test_processor_time_and_the_clock_have_an_end() -> None:
    assert tried("while True: pass", processor_seconds=1).ended == "killed"
    sleeping = tried("import time; time.sleep(600)", seconds=1.0)
    assert sleeping.ended == "timeout"
    assert sleeping.seconds < 30


def test_a_flood_of_output_is_stopped() -> None:
    finished = tried("while True: print('x' * 1000)", output_bytes=5000)
    assert finished.ended == "output"
    assert len(finished.output) == 5000
    assert tried("import sys\nwhile True: sys.stderr.write('x' * 1000)", output_bytes=5000).ended == "output"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"])
def test_there_is_no_network(family: str) -> None:
    kind = (
        "SOCK_RAW"
        if family in ("AF_PACKET", "AF_NETLINK")
        else "SOCK_SEQPACKET"
        if family == "AF_ALG"
        else "SOCK_STREAM"
    )
    finished = tried(f"import socket\nsocket.socket(socket.{family}, socket.{kind})")
    assert last_error(finished) == "PermissionError: [Errno 1] Operation not permitted"


def test_programs_of_one_machine_cannot_reach_each_others_loopback_even_by_other_means() -> None:
    finished = tried("print(open('/proc/net/dev').read().count(':'))")
    assert finished.output == "1\n"  # the sandbox's own loopback, and no other interface


def test_no_file_of_the_machine_is_seen_but_the_system_and_python(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    program = f"""
import os
for path in ({str(secret)!r}, "/etc/passwd", "/etc/shadow", os.path.expanduser("~root/.ssh"), "/proc/1/environ"):
    try:
        print(open(path).read())
    except OSError as error:
        print(type(error).__name__)
os.symlink({str(tmp_path)!r}, "link")
try:
    print(os.listdir("link"))
except OSError as error:
    print(type(error).__name__)
print(sorted(os.environ))
"""
    finished = tried(program)
    assert finished.ended == "finished", finished.errors
    lines = finished.output.splitlines()
    assert all(line in ("FileNotFoundError", "PermissionError") for line in lines[:6]), lines
    assert eval(lines[6]) == ["HOME", "LANG", "PATH", "PWD", "PYTHONHASHSEED", "TMPDIR"]


@pytest.mark.parametrize("path", ["/x", "/usr/x", "/tmp/x", "/box/../x", "/dev/x", "/proc/sys/kernel/hostname"])
def test_nothing_can_be_written_but_in_its_own_folder(path: str) -> None:
    finished = tried(f"open({path!r}, 'w').write('x')")
    if path == "/dev/x":  # a file system of its own, in memory, that ends with the sandbox
        assert finished.ended in ("finished", "failed")
        assert not Path(path).exists()
        return
    assert last_error(finished).split(":")[0] in ("OSError", "PermissionError", "FileNotFoundError")


def test_it_sees_no_other_process_and_cannot_end_the_one_above_it() -> None:
    finished = tried("""
import os
seen = []
for n in range(1, 5000):
    try:
        os.kill(n, 0)
        seen.append(n)
    except ProcessLookupError:
        pass
    except PermissionError:
        seen.append(n)
print(seen == [1, os.getpid()], flush=True)
try:
    os.kill(1, 9)
except PermissionError:
    pass
print("alive")
""")
    assert finished.output == "True\nalive\n"


def test_the_kernel_is_asked_for_nothing_that_plain_programs_do_not_need() -> None:
    finished = tried("""
import ctypes
c = ctypes.CDLL(None, use_errno=True)
for call in (lambda: c.unshare(0x10000000), lambda: c.ptrace(0, 0, 0, 0), lambda: c.mount(b"a", b"b", b"tmpfs", 0, 0),
             lambda: c.setns(0, 0), lambda: c.chroot(b"/"), lambda: c.personality(0xffffffff), lambda: c.setuid(0)):
    print(call(), ctypes.get_errno())
""")
    assert finished.output == "-1 1\n" * 7


def test_limits_cannot_be_raised_again() -> None:
    finished = tried("import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))")
    assert last_error(finished) == "ValueError: not allowed to raise maximum limit"


def test_a_program_ends_with_the_process_that_asked_for_it() -> None:
    """Killed outright, it takes the sandbox with it: none goes on unseen."""
    marker = f"heedful-{os.getpid()}-orphan"
    command = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', {!r}])"
    program = command.format(marker)
    asking = (
        "from heedful.sandbox.running import run\nfrom heedful.sandbox.limits import Limits\n"
        f"run({program!r}, limits=Limits(seconds=600))"
    )
    process = subprocess.Popen([sys.executable, "-c", asking])
    waited(lambda: bool(named(marker)))
    process.kill()
    process.wait()
    waited(lambda: not named(marker))


def named(word: str) -> list[int]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            parts = line.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in parts:
            found.append(int(line.parent.name))
    return found


def waited(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("in a minute, it did not come about")


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(HeedfulError, match=r"limits\.seconds: 0"):
        Limits(seconds=0)


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeedfulError, match="Install the package 'bubblewrap'"):
        run("print(1)")
