"""`heedful deidentify`: a data file without the addresses and numbers that name people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from heedful.cli.command import parse, print_json, print_result
from heedful.data.deidentify import PATTERNS, REGIONS, check_patterns, check_regions, deidentify
from heedful.errors import HeedfulError


@dataclass(frozen=True)
class DeidentifyConfig:
    """Take e-mail addresses, telephone and card numbers and postal addresses out of every text of a data file.

    Each becomes [email], [phone], [card] or [address]. Names of people are not found: docs/personal-data.md says what
    is, and how much of it. Do this before `heedful import`, on the machine where the texts are.
    """

    data: tyro.conf.Positional[str]
    """The file, in any format that heedful reads."""
    out: Path
    """The file to write: .jsonl or .jsonl.gz, a row for each of the data's."""
    patterns: tuple[str, ...] = tuple(PATTERNS)
    """Which to look for: email, card, phone, address."""
    regions: tuple[str, ...] = REGIONS
    """Countries whose national telephone numbers are meant, as two-letter codes; international ones always are."""
    keep: tuple[str, ...] = ()
    """Columns that stay as they are."""


def run(arguments: list[str]) -> int:
    """Parse the settings, read, write, and say how much was found."""
    call = parse(DeidentifyConfig, "deidentify", arguments)
    rows, found = written(call.settings)
    told = {"rows": rows, **{name: found[name] for name in check_patterns(call.settings.patterns)}}
    if call.json:
        print_json({"out": call.settings.out, **told})
    else:
        print_result(f"deidentify: {call.settings.out}", told)
    return 0


def written(config: DeidentifyConfig) -> tuple[int, Counter[str]]:
    """Write the file; how many rows it has, and how often each pattern was found.

    Raises:
        HeedfulError: an unknown pattern or region, the output is the input, or the data cannot be read.
    """
    from heedful.data.read import read_rows
    from heedful.files import write_json_lines

    check_patterns(config.patterns)
    check_regions(config.regions)
    if Path(config.data).exists() and config.out.exists() and config.out.samefile(config.data):
        raise HeedfulError("the output is the input.", where=str(config.out), mend="Write to another file.")
    found: Counter[str] = Counter()
    rows = 0

    def cleaned() -> Iterator[dict[str, Any]]:
        nonlocal rows
        for _, row in read_rows(config.data):
            rows += 1
            yield {
                name: value if name in config.keep else _cleaned(value, config, found) for name, value in row.items()
            }

    write_json_lines(config.out, cleaned(), default=str)
    return rows, found


def _cleaned(value: Any, config: DeidentifyConfig, found: Counter[str]) -> Any:
    """A value of JSON with all its texts de-identified."""
    if isinstance(value, str):
        text, counted = deidentify(value, config.patterns, regions=config.regions)
        found.update(counted)
        return text
    if isinstance(value, dict):
        return {name: _cleaned(one, config, found) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(one, config, found) for one in value]
    return value
