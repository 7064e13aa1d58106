"""`heedful average`: one reward model whose weights are the mean of several's (WARM)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from heedful.cli.command import parse, print_json, print_result, stdout_for_results
from heedful.errors import HeedfulError


@dataclass(frozen=True)
class AverageConfig:
    """Average the weights of reward models that began from the same ones (WARM; Ramé et al. 2024).

    Train the members with one --head-seed and different --seed: they then differ in the order of their data alone.
    Members of another architecture, shape, tokenizer or start are refused.
    """

    members: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of reward models, two or more."""
    out: Path
    """Folder of the average."""
    same_start: bool = False
    """Vouch that the members began from the same weights, where their folders do not say it."""


def average(arguments: list[str]) -> int:
    """Parse the settings, check the members, write the folder."""
    call = parse(AverageConfig, "average", arguments)
    with stdout_for_results():
        manifest = averaged(call.settings)
    if call.json:
        print_json({"out": call.settings.out, **manifest})
    else:
        print_result(f"average: {call.settings.out}", {"members": len(call.settings.members)})
    return 0


def averaged(config: AverageConfig) -> dict[str, Any]:
    """Write the average; returns its manifest.

    Raises:
        HeedfulError: the members do not average, or the folder exists already.
    """
    from heedful.files import artifact, read_manifest
    from heedful.models.averaging import INITIALISATION, check_members
    from heedful.models.averaging import average as write
    from heedful.models.fingerprint import model_fingerprint
    from heedful.pipeline.run_folder import code_version

    if config.out.exists() and any(config.out.iterdir()):
        raise HeedfulError("the folder is not empty.", where=str(config.out), mend="Choose another --out.")
    start = check_members(config.members, same_start=config.same_start)
    parents = {
        f"member {number}": {"name": str(folder), "fingerprint": model_fingerprint(folder)}
        for number, folder in enumerate(config.members, start=1)
    }
    manifest = {"kind": "average", "parents": parents, "code": {"heedful": code_version()}, INITIALISATION: start}
    with artifact(config.out, manifest) as temporary:
        write(config.members, temporary)
    done = read_manifest(config.out)
    assert done is not None
    return done
