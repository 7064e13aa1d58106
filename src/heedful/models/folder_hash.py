"""The content of a model's folder as one hash. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from heedful.errors import HeedfulError
from heedful.files import sha256_file, sha256_json
from heedful.models.adapters import ADAPTER_FOLDER

_NAMES = (
    "*.safetensors",
    f"{ADAPTER_FOLDER}/adapter_*",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "*.jinja",
    "vocab*",
    "merges.txt",
)


def folder_fingerprint(folder: Path) -> str:
    """Hex SHA-256 of a model's folder: its weights, an adapter beside them, configuration and tokenizer files.

    Raises:
        HeedfulError: the folder holds no model.
    """
    files = sorted({path for pattern in _NAMES for path in folder.glob(pattern) if path.is_file()})
    if not any(path.suffix == ".safetensors" and path.parent == folder for path in files):
        raise HeedfulError("no model here to fingerprint.", where=str(folder), mend="Give a model folder.")
    return sha256_json({path.name: sha256_file(path) for path in files})
