"""Whether the hub, or its cache on this machine, has what a recipe names. Asks for names alone; downloads nothing."""

from __future__ import annotations

import re
from pathlib import Path

from heedful.data.read import SUFFIXES

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def missing_from_hub(folder: Path, model: str, prompts: str) -> list[str]:
    """What of a recipe can be had neither from a folder nor from the hub nor from its cache, a clause each.

    Args:
        folder: the programme's, from which files are named.
        model: a folder or a hub id.
        prompts: a file, a folder or a hub dataset id.
    """
    found = []
    for name, kind in ((model, "model"), (prompts, "dataset")):
        if (folder / name).exists() or Path(name).exists():
            continue
        why = why_not_to_be_had(name, kind)
        if why:
            found.append(f"the {kind} {name} ({why})")
    return found


def why_not_to_be_had(name: str, kind: str) -> str:
    """Why the hub and its cache have no such model or dataset; empty where one of them has. `kind` says which."""
    if not _HUB_ID.fullmatch(name) or name.endswith(SUFFIXES):
        return "there is no such file or folder"
    name = name.partition(":")[0]
    try:
        from huggingface_hub import HfApi, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound, HfHubHTTPError
    except ImportError:
        return "huggingface_hub is not installed: pip install 'heedful[train]'"
    try:
        if any(one.repo_id == name and one.repo_type == kind for one in scan_cache_dir().repos):
            return ""
    except CacheNotFound:
        pass
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=5)
    except HfHubHTTPError as error:
        return str(error).splitlines()[0]
    except Exception as error:  # whatever the client under it raises for a network that is not there
        return f"the hub cannot be reached: {type(error).__name__}"
    return ""
