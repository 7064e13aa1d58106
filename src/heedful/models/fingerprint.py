"""What a model is made of, as one hash: for lineage, and as the key of what is computed from it once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from heedful.data.held import held_sha256, is_held
from heedful.files import sha256_file, sha256_json
from heedful.models.adapters import underlying
from heedful.models.folder_hash import folder_fingerprint
from heedful.models.policy import Policy
from heedful.models.rewards import aggregation
from heedful.models.scalar import ScalarModel
from heedful.models.storage import content_of, hash_tensors
from heedful.models.trl_reward import names_trl_function, parts_of
from heedful.models.unit_tests import names_unit_tests, tests_file


def model_fingerprint(model: Policy | ScalarModel | Path | str) -> str:
    """Hex SHA-256 of a model's content.

    Of a folder: its weights, an adapter beside them, configuration and tokenizer files. Of a model in memory: its
    weights, adapters included, its configuration, vocabulary and chat template. The two kinds of hash are not
    comparable.

    Raises:
        HeedfulError: the folder holds no model.
    """
    if isinstance(model, Policy | ScalarModel):
        return memory_fingerprint(model.model, model.tokenizer, getattr(model, "banned", ()))
    return folder_fingerprint(Path(model))


def source_fingerprint(source: str, *, revision: str | None = None) -> str:
    """Hex SHA-256 of what a setting names, which has been loaded already.

    Of a folder or a hub id: the model's content, as `model_fingerprint`; of an object in memory: what it was hashed
    to when it was named (`heedful.models.holding`); of a `.yaml` description: the file; of
    `module:function`: the file of that module; of `unit-tests:FILE`: that file; of `trl=FILE:module:function`: both
    together. Empty where there is no file to
    hash: a built-in module, a model that was made in memory. Of an ensemble: the hashes of its members together; of
    one label of a classifier, the model's.
    """
    if is_held(source):
        return held_sha256(source)
    aggregated = aggregation(source)
    if aggregated is not None:
        return sha256_json([source_fingerprint(member, revision=revision) for member in aggregated.members])
    if names_unit_tests(source):
        return sha256_file(tests_file(source))
    if names_trl_function(source):
        data, function = parts_of(source)
        read = sha256_file(Path(data)) if Path(data).is_file() else data
        return sha256_json([read, source_fingerprint(function, revision=revision)])
    if "#" in source and not Path(source).exists():
        source = source.rpartition("#")[0]
    path = Path(source)
    if path.is_dir():
        return model_fingerprint(path)
    if path.is_file():
        return sha256_file(path)
    module = sys.modules.get(source.partition(":")[0]) if ":" in source else None
    if module is not None:
        file = getattr(module, "__file__", None)
        return sha256_file(Path(file)) if file else ""
    try:
        cached = cached_file(source, "config.json", revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return ""
    return model_fingerprint(Path(cached).parent) if cached else ""


def memory_fingerprint(model: Any, tokenizer: Any, banned: Sequence[int] = ()) -> str:
    """Hex SHA-256 of a model in memory: weights, configuration, vocabulary, chat template, banned tokens."""
    digest = hashlib.sha256()
    hash_tensors(digest, model.state_dict().items())
    facts = {
        "config": content_of(underlying(model).config),
        "vocabulary": tokenizer.get_vocab(),
        "template": str(tokenizer.chat_template),
        "banned": list(banned),
    }
    digest.update(sha256_json(facts).encode())
    return digest.hexdigest()
