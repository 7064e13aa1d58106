"""The filter of system calls, run by an interpreter of its instructions."""

from __future__ import annotations

import struct

import pytest

from heedful.errors import HeedfulError
from heedful.sandbox.seccomp import ALLOW, ERRNO, KILL, MACHINES, filter_program


def decided(machine: str, number: int, argument: int = 0, *, arch: int | None = None) -> int:
    """What the filter says of a call, its instructions carried out as the kernel would."""
    data = {0: number, 4: MACHINES[machine] if arch is None else arch, 16: argument & 0xFFFFFFFF}
    steps = [
        struct.unpack_from("=HBBI", filter_program(machine), at) for at in range(0, len(filter_program(machine)), 8)
    ]
    held, place = 0, 0
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == 0x20:
            held = data[value]
        elif code == 0x06:
            return int(value)
        else:
            met = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            place += yes if met else no


READ, SOCKET, CLONE, MOUNT = (
    {"x86_64": 0, "aarch64": 63},
    {"x86_64": 41, "aarch64": 198},
    {"x86_64": 56, "aarch64": 220},
    {"x86_64": 165, "aarch64": 40},
)


@pytest.mark.parametrize("machine", MACHINES)
def test_plain_calls_pass_and_dangerous_ones_do_not(machine: str) -> None:
    assert decided(machine, READ[machine]) == ALLOW
    assert decided(machine, MOUNT[machine]) == ERRNO | 1
    assert decided(machine, 435) == ERRNO | 38  # clone3
    assert decided(machine, 425) == ERRNO | 1  # io_uring_setup


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_the_machines_own_files_and_clones_make_no_namespace(machine: str) -> None:
    assert decided(machine, SOCKET[machine], 1) == ALLOW
    assert [decided(machine, SOCKET[machine], family) for family in (0, 2, 10, 16, 17, 38, 40)] == [ERRNO | 1] * 7
    threads = 0x3D0F00
    assert decided(machine, CLONE[machine], threads) == ALLOW
    assert decided(machine, CLONE[machine], 17) == ALLOW  # SIGCHLD: a fork
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decided(machine, CLONE[machine], flag | 17) == ERRNO | 1


def test_calls_by_another_machines_numbers_end_the_program() -> None:
    assert decided("x86_64", 0, arch=0x40000003) == KILL  # 32 bits
    assert decided("x86_64", 0x40000000) == KILL  # x32


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(HeedfulError, match="riscv64"):
        filter_program("riscv64")
