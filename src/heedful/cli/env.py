"""`heedful env`: what a bug report needs to know of this machine, and nothing that is secret."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from heedful.cli.command import parse, print_json

PROGRAMS = ("bwrap", "chromium", "psql")
"""Programs that parts of heedful call where they are there."""

NAMED = re.compile(r"HEEDFUL_\w+|DATABASE_URL|OPENAI_\w+|HF_\w+|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES")
SHOWN = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HEEDFUL_DEBUG", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE")
"""Variables whose value is told too; of all others only that they are set."""

_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclass(frozen=True)
class EnvConfig:
    """Versions, devices, threads, extras and paths of this machine. Paste it into a bug report.

    Of environment variables that may hold a secret only the names are told, and your home folder is written ~.
    """


def env(arguments: list[str]) -> int:
    """Print the environment."""
    call = parse(EnvConfig, "env", arguments)
    found = environment()
    if call.json:
        print_json(found)
    else:
        _show(found)
    return 0


def environment() -> dict[str, Any]:
    """Everything that `heedful env` tells, as JSON values."""
    import shutil

    extras = extras_installed()
    return {
        "heedful": version("heedful"),
        "installed_at": _home(Path(__file__).parents[1]),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "processors_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _memory(),
        "packages": {name: _version(name) for names in extras.values() for name in names["packages"]},
        "extras": {extra: not one["missing"] for extra, one in extras.items() if extra},
        "torch": _torch(),
        "programs": {name: shutil.which(name) is not None for name in PROGRAMS},
        "paths": _paths(),
        "variables": {
            name: _home(Path(os.environ[name])) if name in SHOWN else "(set)"
            for name in sorted(os.environ)
            if NAMED.fullmatch(name)
        },
    }


def extras_installed() -> dict[str, dict[str, list[str]]]:
    """The packages that each extra asks for ("" for the base), and which of them are missing."""
    found: dict[str, dict[str, list[str]]] = {"": {"packages": [], "missing": []}}
    for requirement in requires("heedful") or []:
        name = re.split(r"[\s<>=!~;\[(]", requirement)[0]
        extra = _EXTRA.search(requirement)
        own = found.setdefault(extra[1] if extra else "", {"packages": [], "missing": []})
        if name != "heedful":
            own["packages"].append(name)
            if _version(name) is None:
                own["missing"].append(name)
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _memory() -> int | None:
    """Bytes of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _torch() -> dict[str, Any] | None:
    """Devices and threads as torch sees them; None without torch, a message where it cannot be imported."""
    if _version("torch") is None:
        return None
    try:
        import torch
    except Exception as error:  # a broken installation is what a bug report may be about
        return {"cannot_import": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    devices = [
        {"name": torch.cuda.get_device_name(index), "memory": torch.cuda.get_device_properties(index).total_memory}
        for index in range(torch.cuda.device_count())
    ]
    return {
        "cuda": torch.version.cuda,
        "devices": devices,
        "bfloat16_on_gpu": torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _paths() -> dict[str, str]:
    """Where things are looked for: the hub's cache, the working folder's store and recipe."""
    cache = os.environ.get("HF_HUB_CACHE") or str(Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    found = {"hub cache": cache, "store here": "feedback.db", "recipe here": "heedful.yaml"}
    return {
        name: f"{_home(Path(path).expanduser())} ({'there' if Path(path).expanduser().exists() else 'not there'})"
        for name, path in found.items()
    }


def _home(path: Path) -> str:
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _show(found: Mapping[str, Any], indent: str = "") -> None:
    for name, value in found.items():
        label = indent + (name if name.isupper() else name.replace("_", " "))
        if isinstance(value, Mapping):
            print(f"{label}:")
            _show(value, f"{indent}  ")
        else:
            print(f"{label}: {_word(name, value)}")


def _word(name: str, value: Any) -> str:
    if value is None:
        return "not installed" if name != "cuda" else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "memory":
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, list):
        return ", ".join(f"{one['name']} ({_word('memory', one['memory'])})" for one in value) or "none"
    return str(value)
