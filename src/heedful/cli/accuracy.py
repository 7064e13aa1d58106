"""`heedful accuracy`: how well a reward orders pairs that somebody judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, shown, stdout_for_results
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.data.records import Preference
    from heedful.evaluation.accuracy import RewardAccuracy
    from heedful.models.rewards import Reward


@dataclass(frozen=True)
class AccuracyConfig:
    """How often a reward prefers the answer that raters prefer, beside what "the longer one" alone reaches.

    Give held-out pairs, and pairs of the trained policy's own answers, which a reward knows least about: each file gets
    a line of its own. Intervals resample prompts.
    """

    reward: tyro.conf.Positional[str]
    """The reward, as in `heedful ppo --reward`: a model, several of them with a rule, or module:function."""
    data: tuple[str, ...]
    """Files of judged pairs (or rankings), or hub dataset ids."""
    out: Path | None = None
    """JSON file for all figures: slices by length, and the data of the reliability diagrams."""
    slices: int = 4
    """Parts of equal size by how much longer the better answer is."""
    bins: int = 10
    """Bins of the reliability diagram."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    records: PromptOptions = PromptOptions()

    def __post_init__(self) -> None:
        for name in ("slices", "bins"):
            if getattr(self, name) < 1:
                raise HeedfulError("it must be 1 or more.", where=name, mend="Correct the value.")
        if not self.data:
            raise HeedfulError("no file is named.", where="data", mend="Give judged pairs.")


def accuracy(arguments: list[str]) -> int:
    """Parse the settings, score the pairs, print the table."""
    call = parse(AccuracyConfig, "accuracy", arguments)
    with stdout_for_results():
        found = measured(call.settings)
    if call.settings.out is not None:
        from heedful.files import write_json

        write_json(call.settings.out, found)
    if call.json:
        print_json(found)
    else:
        _show(call.settings.reward, found)
    return 0


def measured(config: AccuracyConfig) -> dict[str, Any]:
    """The figures of each file, by its name."""
    from heedful.data.load import DataSpec, load_preferences
    from heedful.models.rewards import load_reward
    from heedful.pipeline.choices import resolve_device
    from heedful.pipeline.stages.common import report_findings
    from heedful.pipeline.stages.reward_result import summary
    from heedful.training.progress import Display

    records, display = config.records, Display()
    loaded = {
        path: load_preferences(DataSpec(path, records.format, records.split, records.on_bad_row, records.limit))
        for path in config.data
    }
    reward = load_reward(config.reward, device=resolve_device(config.device))
    found = {}
    for path, read in loaded.items():
        report_findings(read, display)
        figures, temperature = _of(reward, read.records, path, config)
        found[path] = summary(figures) | {"temperature": temperature}
    return found


def _of(
    reward: Reward, records: list[Preference], path: str, config: AccuracyConfig
) -> tuple[RewardAccuracy, float | None]:
    """The accuracy, and the best temperature where there is one."""
    import numpy as np

    from heedful.core.calibration import fit_temperature
    from heedful.evaluation.accuracy import accuracy_on, scored

    a, b = scored(reward, records)
    try:
        figures = accuracy_on(a, b, records, slices=config.slices, bins=config.bins)
    except ValueError as error:
        raise HeedfulError(f"{error}.", where=path, mend="Give pairs of several prompts, not ties alone.") from error
    try:
        truth, weights = ([getattr(record, name) for record in records] for name in ("probability", "weight"))
        temperature = fit_temperature(np.subtract(a, b), truth, weights)
    except ValueError:
        return figures, None
    return figures, temperature


def _show(reward: str, found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=reward, title_justify="left")
    for name in ("pairs judged in", "pairs", "accuracy [95%]", "the longer one", "ECE [95%]", "temperature"):
        table.add_column(name, justify="left" if name == "pairs judged in" else "right", overflow="fold")
    for path, figures in found.items():
        table.add_row(
            Text(path),
            str(figures["pairs"]),
            _interval(figures["accuracy"]),
            _interval(figures["length_only"]),
            _interval(figures["calibration"]["ece"]),
            "none" if figures["temperature"] is None else shown(figures["temperature"]),
        )
    console = Console()
    console.print(table)
    for path, figures in found.items():
        console.print(Text(f"{path}: by how many words the better answer is longer", style="bold"))
        for part in figures["slices"]:
            console.print(
                Text(
                    f"  {part['low']:+.0f} to {part['high']:+.0f}: {part['accuracy']:.1%} of {part['pairs']} pairs "
                    f"(the longer one {part['length_only']:.1%})"
                )
            )


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
