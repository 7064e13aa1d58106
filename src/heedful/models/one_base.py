"""One frozen base, many heads: reward models as adapters on the base of a policy that is trained with LoRA.

A reward model that was trained with LoRA is its base, an adapter and a head. Where the base is the policy's, bit for
bit, only the other two are opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from heedful.data.chat import prepare_tokenizer
from heedful.files import read_manifest, sha256_json
from heedful.models.adapters import ADAPTER_FOLDER, attach_saved, is_adapted, underlying, without_adapters
from heedful.models.head_bank import HEADS, open_bank
from heedful.models.policy import Policy
from heedful.models.scalar import NORMALISATION, RewardModel
from heedful.models.storage import content_of, hash_tensors, open_config, open_tokenizer
from heedful.models.trunk import classifier_on

BASE = "base"
"""Key of a manifest: the fingerprint of the base that an adapter was trained on."""


class SharedBase:
    """The frozen base of a LoRA policy, on which reward models stand that were trained as adapters of it.

    Args:
        policy: whose adapters have learnt nothing yet.

    Attributes:
        standing: the reward models that were opened on the base.
        apart: adapters of another base, which were opened as models of their own.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.standing: list[str] = []
        self.apart: list[str] = []

    @cached_property
    def fingerprint(self) -> str:
        """That of the base."""
        return base_fingerprint(self.policy)

    def reward_model(self, source: str) -> RewardModel | None:
        """The reward model of a folder on this base; None where it is no adapter, or one of another base.

        Raises:
            HeedfulError: its adapter is damaged.
        """
        known = (read_manifest(Path(source)) or {}).get(BASE)
        if known is None:
            return None
        if known != self.fingerprint:
            self.apart.append(source)
            return None
        self.standing.append(source)
        return self._opened(source)

    def _opened(self, source: str) -> RewardModel:
        policy, config = self.policy, open_config(source, None)
        model = classifier_on(policy, share=True)
        for key in (NORMALISATION, HEADS):
            if hasattr(config, key):
                setattr(model.config, key, getattr(config, key))
        dropout = policy.model.peft_config["default"].lora_dropout
        model = attach_saved(model, Path(source) / ADAPTER_FOLDER, dropout=dropout).eval()
        tokenizer = prepare_tokenizer(open_tokenizer(source, None), template="auto", pad_token=None)
        reward = RewardModel(model, tokenizer, precision=policy.precision)
        reward.bank = open_bank(source, config, None)
        return reward.to(policy.device)


def base_fingerprint(policy: Policy) -> str:
    """Hex SHA-256 of a policy's trunk without adapters: the bits and names of its weights, and its configuration."""
    plain = without_adapters(policy.model) if is_adapted(policy.model) else policy.model
    digest = hashlib.sha256()
    hash_tensors(digest, plain.base_model.state_dict().items())
    digest.update(sha256_json(content_of(underlying(policy.model).config)).encode())
    return digest.hexdigest()


def weight_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes that the weights and buffers of some modules take, those that stand in several counted once."""
    storages: dict[int, int] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage: Any = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
