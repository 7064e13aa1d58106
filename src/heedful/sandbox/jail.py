"""The walls: bubblewrap's command line, and whether it works on this machine."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from functools import cache
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.sandbox.limits import MIB, Limits
from heedful.sandbox.seccomp import filter_program

NOBODY = 65534
"""Whom the kernel knows by no name: who a program believes that it is."""
PASSING_USERS = 0x70000000
"""From here on, user numbers that nobody has. Root gives each sandbox one of them, since the kernel counts processes by
user; for anyone else each sandbox has a user namespace of its own, and its count with it."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
"""Of the machine's files, all that the sandbox shows, read-only, beside the interpreter's own folder."""
USER = ("--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY))
ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
"""What the harness needs to become somebody without any capability."""
INSIDE = "/box"
"""The program's folder in the sandbox: its home, empty at first, the only one that it can write in."""
NOT_LINUX = "generated code runs in Linux's namespaces, which this system does not have."


_slots = itertools.count()


def passing_user() -> int | None:
    """The user that the harness is to become; None where this process is not root, and the sandbox has its own."""
    if os.geteuid() != 0:
        return None
    return PASSING_USERS + (os.getpid() % 2**20) * 64 + next(_slots) % 64


def interpreter() -> Path:
    """The Python that programs run in: this one's own, out of any virtual environment, with its standard library."""
    home = Path(sys.base_prefix)
    found = home / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return found if found.exists() else Path(os.path.realpath(sys.executable))


def command(limits: Limits, filter_fd: int, harness: str, *, root: bool) -> list[str]:
    """What starts a sandbox and, in it, the harness. Its sources and results go through file descriptors.

    Args:
        limits: only the folder's size is set here; the harness sets the rest on itself, before any program runs.
        filter_fd: an open descriptor with the filter of system calls.
        harness: the source of the script that runs in the sandbox.
        root: whether this process is root, and the harness will have to become somebody else.
    """
    shown = [part for path in SYSTEM for part in ("--ro-bind-try", path, path)]
    python = interpreter()
    home = Path(sys.base_prefix)
    if not home.is_relative_to("/usr"):
        above = [folder for folder in reversed(home.parents) if folder != Path("/")]
        shown += [part for folder in above for part in ("--perms", "0755", "--dir", str(folder))]
        shown += ["--ro-bind", str(home), str(home)]
    return [
        _bubblewrap(),
        "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL",
        *(ROOT if root else USER),
        *shown,
        "--proc", "/proc", "--dev", "/dev",
        "--perms", "1777", "--size", str(limits.disk_mib * MIB), "--tmpfs", INSIDE,
        "--remount-ro", "/", "--chdir", INSIDE,
        "--clearenv", "--setenv", "HOME", INSIDE, "--setenv", "TMPDIR", INSIDE, "--setenv", "PATH", "/usr/bin:/bin",
        "--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0",
        "--seccomp", str(filter_fd),
        str(python), "-I", "-S", "-B", "-c", harness,
    ]  # fmt: skip


def _bubblewrap() -> str:
    if not sys.platform.startswith("linux"):
        raise HeedfulError(NOT_LINUX, mend="Run it on Linux, or in a container with it.")
    found = shutil.which("bwrap")
    if found is None:
        raise HeedfulError(
            "generated code is run by bubblewrap (the command bwrap), which is not here.",
            mend="Install the package 'bubblewrap', 0.8 or later, of your system.",
        )
    return found


def filter_pipe() -> int:
    """A descriptor from which the filter of system calls can be read once; the caller closes it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(filter_program())
    return reading


@cache
def check() -> None:
    """See that a sandbox can be had, once in a process.

    Raises:
        HeedfulError: no Linux, no bubblewrap, one that is too old, or a system that does not let it work.
    """
    from heedful.sandbox.running import run

    finished = run("print('ready')", limits=Limits(seconds=30))
    if finished.output.strip() != "ready":
        said = finished.errors.strip().splitlines()
        raise HeedfulError(
            f"the sandbox for generated code does not start: {said[-1] if said else finished.ended}.",
            mend=_advice(finished.errors),
        )


def _advice(errors: str) -> str:
    if "nrecognized option" in errors or "Unknown option" in errors:
        return "bubblewrap is too old: 0.8 or later is needed."
    return "Unprivileged user namespaces are needed; in a container, allow them and an unmasked /proc."
