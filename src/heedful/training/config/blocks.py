"""Work on a data set that is larger than memory: block by block, on the workers of a Ray cluster. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heedful.training.config.checks import at_least, require


@dataclass(frozen=True)
class BlocksOptions:
    """Data larger than memory: Parquet in, Parquet out, block by block, on a Ray cluster (docs/scale.md)."""

    launcher: Literal["none", "ray"] = "none"
    """ray: workers of a Ray cluster take blocks of --data, and --out becomes a folder of Parquet files, one a block. A
    run that was stopped goes on when it is called again. none: this process, all in memory."""
    workers: int = 2
    """Processes that each open the model and take one block after another; each takes a GPU where the device is one."""
    address: str | None = None
    """Of a Ray cluster that is there already, HOST:PORT or auto; None starts one on this machine for the run. Its hosts
    need heedful, and the same paths of data, models and --out."""
    rows: int = 256
    """Rows of a block."""

    def __post_init__(self) -> None:
        at_least(1, "blocks.", workers=self.workers, rows=self.rows)
        require(
            self.launcher == "ray" or self.address is None, "an address is of a Ray cluster; set blocks.launcher to "
            "ray.", "blocks.address",
        )  # fmt: skip
