"""Every dependency's licence, as installed, and newest release, by the index: two columns of docs/architecture.md.

`nox -s upkeep`, or in an environment with everything: pip install pypi-simple && python .ci/upkeep.py
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version
from pypi_simple import DistributionPackage, PyPISimple

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def names(project: dict[str, Any]) -> Iterator[str]:
    """Every package that pyproject.toml asks for, once."""
    lists = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    found = dict.fromkeys(Requirement(line).name for lines in lists for line in lines)
    yield from (name for name in found if name != "heedful")


def newest(packages: list[DistributionPackage]) -> DistributionPackage:
    """The newest final release that is not yanked, as a wheel."""
    usable = [
        one for one in packages if one.version and one.package_type == "wheel" and not one.is_yanked and one.upload_time
    ]
    return max(usable, key=lambda one: (not Version(one.version or "0").is_prerelease, Version(one.version or "0")))


def licence(name: str) -> str:
    """What an installed package says of its licence."""
    try:
        said = metadata(name)
    except PackageNotFoundError:
        return "not installed"
    kinds = [kind.rpartition("::")[2].strip() for kind in said.get_all("Classifier", []) if kind.startswith("License")]
    return said.get("License-Expression") or "; ".join(kinds) or said.get("License", "?").split("\n")[0]


def main() -> None:
    """Print a row for each dependency."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    with PyPISimple(*filter(None, [os.environ.get("PIP_INDEX_URL")])) as index:
        for name in names(project):
            last = newest(index.get_project_page(name).packages)
            print(f"{name} | {licence(name)} | {last.version}, {last.upload_time:%Y-%m-%d}", flush=True)


if __name__ == "__main__":
    main()
