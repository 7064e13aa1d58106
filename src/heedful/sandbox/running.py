"""Starting a sandbox, giving it a job, and taking what it says without being flooded or kept waiting.

One program runs in a sandbox of its own: bubblewrap's namespaces (no network, no other process in sight, a root of its
own that holds the interpreter and cannot be written), a filter of system calls, no capabilities, and limits of time,
memory, processes, files and output. Where that cannot be had, nothing is run and the error says what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from heedful.sandbox import jail
from heedful.sandbox.limits import Limits

HARNESS = Path(__file__).with_name("harness.py").read_text("utf-8")
Ended = Literal["finished", "failed", "timeout", "killed", "output"]


@dataclass(frozen=True)
class Finished:
    """How a program ended.

    Attributes:
        ended: `finished` by itself with exit code 0; `failed` with another; `timeout` by the clock; `killed` by a
            signal, as the kernel does at its limit of processor time; `output`: it said more than it may.
        output: standard output, as far as it may go; errors: the same of standard error.
        results: lines that the harness wrote.
        seconds: by the clock.
    """

    ended: Ended
    output: str
    errors: str
    results: tuple[str, ...]
    seconds: float


def run(
    program: str,
    *,
    calls: Sequence[tuple[int, str]] = (),
    checks: Sequence[tuple[int, str]] = (),
    limits: Limits | None = None,
) -> Finished:
    """Run a Python program in a sandbox of its own.

    Args:
        program: its source. Without calls and checks it runs as a script does, as `__main__`.
        calls: numbered expressions to evaluate after it; see `heedful.sandbox.harness`.
        checks: numbered statements to run after them.
        limits: `Limits()` where not given.

    Raises:
        HeedfulError: there is no sandbox to be had here. Nothing was run then.
    """
    limits = limits or Limits()
    as_main = not (calls or checks)
    user = jail.passing_user()
    filter_fd = jail.filter_pipe()
    results_in, results_out = os.pipe()
    job: dict[str, Any] = {"limits": asdict(limits), "program": program, "calls": list(calls), "checks": list(checks)}
    job |= {"as_main": as_main, "user": user, "results": results_out}
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            jail.command(limits, filter_fd, HARNESS, root=user is not None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(filter_fd, results_out),
            cwd="/",
        )
    except BaseException:
        os.close(results_in)
        raise
    finally:
        os.close(filter_fd)
        os.close(results_out)
    try:
        ended, said = _listen(process, results_in, json.dumps(job).encode(), limits, started)
    finally:
        _end(process)
        os.close(results_in)
    if ended is None:
        code = process.returncode
        # bubblewrap passes on that its program died of signal s as the exit code 128 + s
        ended = "finished" if code == 0 else "killed" if code < 0 or code > 128 else "failed"
    output, errors, results = (part.decode(errors="replace") for part in said)
    return Finished(ended, output, errors, tuple(results.splitlines()), time.monotonic() - started)


def _listen(
    process: subprocess.Popen[bytes], results: int, job: bytes, limits: Limits, started: float
) -> tuple[Ended | None, tuple[bytes, bytes, bytes]]:
    """Feed the job and gather what is said until the program ends, its time is up, or it says too much."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process has no pipes")
    said: dict[int, bytearray] = {fd: bytearray() for fd in (process.stdout.fileno(), process.stderr.fileno(), results)}
    ended: Ended | None = None
    with selectors.DefaultSelector() as selector:
        for fd in said:
            selector.register(fd, selectors.EVENT_READ)
        feed = process.stdin.fileno()
        os.set_blocking(feed, False)
        selector.register(feed, selectors.EVENT_WRITE)
        while selector.get_map():
            left = started + limits.seconds - time.monotonic()
            if left <= 0:
                ended = "timeout"
                break
            for key, _ in selector.select(left):
                if key.fd == feed:
                    job = _feed(feed, job)
                    if not job:
                        selector.unregister(feed)
                        process.stdin.close()
                        feed = -1
                    continue
                heard = os.read(key.fd, 65536)
                said[key.fd] += heard
                if not heard:
                    selector.unregister(key.fd)
                if len(said[key.fd]) > limits.output_bytes:
                    ended = "output"
            if ended:
                break
    if ended is None:
        try:
            process.wait(max(0.0, started + limits.seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            ended = "timeout"
    most = limits.output_bytes
    output, errors, lines = (bytes(part[:most]) for part in said.values())
    return ended, (output, errors, lines)


def _feed(fd: int, job: bytes) -> bytes:
    """What is left of the job; nothing where the other side reads no more."""
    try:
        return job[os.write(fd, job) :]
    except BrokenPipeError:
        return b""
    except BlockingIOError:
        return job


def _end(process: subprocess.Popen[bytes]) -> None:
    """See that nothing of a sandbox is left: its first process's end is the end of all in its namespace."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
