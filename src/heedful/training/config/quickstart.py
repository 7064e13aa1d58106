"""Settings of the loop on the embedded world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class QuickstartConfig:
    """The whole loop on the embedded world."""

    out: Path | None = None
    """Folder of the programme: runs/quickstart, or runs/quickstart-fast. The same command goes on after a stop."""
    seed: int = 0
    """Fixes the world's splits, every model and every sample."""
    fast: bool = False
    """A smaller loop in under 90 seconds; its figures are weaker."""

    @property
    def folder(self) -> Path:
        """Where the loop works."""
        return self.out or Path("runs") / ("quickstart-fast" if self.fast else "quickstart")
