"""A filter of system calls for the sandbox, as the program of the classic Berkeley Packet Filter that seccomp takes.

What is refused is what a program of plain Python has no use for, and what gives it more of the kernel to attack:
tracing, mounting, namespaces, keys, BPF, io_uring, performance counters, and every socket but those of the machine's
own files. Refused calls fail with EPERM (`clone3` with ENOSYS, upon which the C library takes `clone`). Numbers are
those of Linux's `syscall.h` for each kind of machine.
"""

from __future__ import annotations

import platform
import struct

from heedful.errors import HeedfulError

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, |BPF_JGE, |BPF_JSET, BPF_RET|BPF_K."""
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16
"""Places in `struct seccomp_data`; the argument's lower half, on little-endian machines."""
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
UNIX_SOCKETS = 1
NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
X32 = 0x40000000

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SPECIAL = {"socket": (41, 198), "clone": (56, 220), "clone3": (435, 435)}
REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "personality": (135, 92), "vhangup": (153, 58), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "mbind": (237, 235), "set_mempolicy": (238, 237),
}  # fmt: skip


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def filter_program(machine: str | None = None) -> bytes:
    """The filter, 8 bytes an instruction, for this machine or another (`x86_64`, `aarch64`).

    Raises:
        HeedfulError: a kind of machine whose numbers are not known here.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise HeedfulError(
            f"the sandbox knows no system calls of a {machine}.",
            mend=f"Run generated code on one of {', '.join(MACHINES)}, under Linux.",
        )
    place = list(MACHINES).index(machine)
    refuse = _step(RETURN, ERRNO | EPERM)
    steps = [_step(LOAD, MACHINE), _step(EQUAL, MACHINES[machine], 1, 0), _step(RETURN, KILL), _step(LOAD, NUMBER)]
    if machine == "x86_64":
        steps += [_step(AT_LEAST, X32, 0, 1), _step(RETURN, KILL)]
    for numbers in REFUSED.values():
        steps += [_step(EQUAL, numbers[place], 0, 1), refuse]
    steps += [_step(EQUAL, SPECIAL["clone3"][place], 0, 1), _step(RETURN, ERRNO | ENOSYS)]
    clone, socket = SPECIAL["clone"][place], SPECIAL["socket"][place]
    steps += [_step(EQUAL, clone, 0, 4), _step(LOAD, FIRST_ARGUMENT), _step(ANY_BIT, NEW_NAMESPACES, 0, 1), refuse]
    steps += [_step(RETURN, ALLOW)]
    steps += [_step(EQUAL, socket, 0, 3), _step(LOAD, FIRST_ARGUMENT), _step(EQUAL, UNIX_SOCKETS, 1, 0), refuse]
    steps += [_step(RETURN, ALLOW)]
    return b"".join(steps)
