"""`heedful card`: a model card for a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from heedful.cli.command import parse, print_json
from heedful.errors import HeedfulError


@dataclass(frozen=True)
class CardConfig:
    """A model card in Hugging Face's format, generated from a checkpoint's lineage and its checks.

    It is written as README.md into the checkpoint's folder; of a programme's folder, into its last kept policy's.
    """

    path: tyro.conf.Positional[Path]
    """The checkpoint's folder."""
    out: Path | None = None
    """Write it here instead."""
    show: bool = False
    """Print it, and write nothing."""
    license: str | None = None
    """The model's licence as the hub names it, such as apache-2.0; none is stated otherwise."""
    overwrite: bool = False
    """Take the place of a README.md that heedful did not write."""

    def __post_init__(self) -> None:
        if self.show and self.out is not None:
            raise HeedfulError("it is shown or written.", where="show", mend="Give one of --show and --out.")


def card(arguments: list[str]) -> int:
    """Parse the settings and write the card."""
    call = parse(CardConfig, "card", arguments)
    given = call.settings
    from heedful.files import atomic_write
    from heedful.pipeline.lineage import asked_for
    from heedful.pipeline.provenance.card import card_of, write_card

    made = card_of(given.path, license=given.license)
    if given.show:
        print(made, end="")
        return 0
    if given.out is None:
        path = write_card(asked_for(given.path), made, overwrite=given.overwrite)
    else:
        path = given.out
        with atomic_write(path) as file:
            file.write(str(made))
    print_json({"card": path, "data": made.data}) if call.json else print(f"{path}: the model card.")
    return 0
