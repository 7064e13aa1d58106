"""`heedful inspect`: what a data file holds, and what training would see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli.command import parse, print_json
from heedful.cli.opening import PromptOptions
from heedful.training.config.asking import LoadingOptions

if TYPE_CHECKING:
    from heedful.data.inspect import Inspection


@dataclass(frozen=True)
class InspectedRecords(PromptOptions):
    """How the records are read."""

    max_length: int = 1024
    """The longest prompt with completion, in tokens."""


@dataclass(frozen=True)
class InspectConfig:
    """What a data source holds: its format, findings, lengths and duplicates.

    With --model, records appear token by token, those that training learns from in green.
    """

    data: tyro.conf.Positional[str]
    """A file, a folder or a hub dataset id."""
    model: str | None = None
    """The model whose tokenizer and chat template render the records: a folder or a hub id."""
    kind: Literal["auto", "prompts", "demonstrations", "preferences", "labelled"] = "auto"
    """Read the records as these; auto takes what the format holds."""
    examples: int = 2
    """Records to show token by token."""
    records: InspectedRecords = InspectedRecords()
    loading: LoadingOptions = LoadingOptions()


def inspect(arguments: list[str]) -> int:
    """Parse the settings and show the data."""
    call = parse(InspectConfig, "inspect", arguments)
    if call.json:
        print_json(inspected(call.settings, None).as_dict())
        return 0
    from rich.console import Console

    inspected(call.settings, Console())
    return 0


def inspected(config: InspectConfig, console: Any) -> Inspection:
    """Read the data, and print it to a console if there is one."""
    from heedful.data.inspect import inspect_data
    from heedful.data.load import DataSpec

    records = config.records
    spec = DataSpec(config.data, records.format, records.split, records.on_bad_row, records.limit)
    return inspect_data(
        spec,
        _tokenizer(config.model, config.loading) if config.model is not None else None,
        kind=config.kind,
        max_length=records.max_length,
        examples=config.examples,
        console=console,
    )


def _tokenizer(model: str, loading: LoadingOptions) -> Any:
    from heedful.data.chat import prepare_tokenizer
    from heedful.models.storage import open_tokenizer

    tokenizer = open_tokenizer(model, loading.revision)
    return prepare_tokenizer(tokenizer, template=loading.template, pad_token=loading.pad_token)
