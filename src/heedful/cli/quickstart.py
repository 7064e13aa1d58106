"""`heedful quickstart`: the whole loop on the embedded world."""

from __future__ import annotations

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.training.config.quickstart import QuickstartConfig


def quickstart(arguments: list[str]) -> int:
    """Parse the settings and run the loop, which shows its own progress, table and report."""
    call = parse(QuickstartConfig, "quickstart", arguments)
    from heedful.pipeline.quickstart import run

    if not call.json:
        run(call.settings)
        return 0
    with stdout_for_results():
        result = run(call.settings)
    print_json(result)
    return 0
