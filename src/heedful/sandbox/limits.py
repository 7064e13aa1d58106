"""What a program in the sandbox may use."""

from __future__ import annotations

from dataclasses import dataclass, fields

from heedful.errors import HeedfulError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """All of them are enforced by the kernel but `seconds` and `output_bytes`, which the caller's side watches."""

    seconds: float = 10.0
    """By the clock, from the start of the sandbox to its end."""
    processor_seconds: int = 5
    """Of each process."""
    memory_mib: int = 256
    """Address space of each process; `processes` times it is what a program can take at the very most."""
    processes: int = 8
    """Processes and threads at a time, the program's own first one included."""
    disk_mib: int = 16
    """All that lies in the sandbox's folder, which is memory too."""
    open_files: int = 64
    output_bytes: int = 64 * 1024
    """Of standard output and error each; what says more is stopped."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise HeedfulError(
                    f"{getattr(self, field.name)} leaves nothing to run in.",
                    where=f"limits.{field.name}",
                    mend="Give a number above 0.",
                )
