"""The reference of preference losses: log-probabilities known once and kept by content, or a model that moves."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from heedful.files import atomic_write, explain, sha256_json
from heedful.models.fingerprint import model_fingerprint
from heedful.models.memory import within_memory
from heedful.models.policy import Policy
from heedful.training.answer_logprobs import chosen, known_logprobs
from heedful.training.pairs import JudgedAnswers
from heedful.training.shared_prompt import goes_on
from heedful.training.state import due
from heedful.training.workers import by_place, current

CACHE = ".heedful-cache"


class LogprobCache:
    """Log-probabilities of answers under a model that does not change, computed once for the same content.

    The key is a hash of the model (weights, adapters, vocabulary), the tokens and masks of every answer, and all that
    may change the last bit: precision, kind of device, threads, tokens at a time, torch's version. So a run gives the
    same bits with a full cache as with an empty one.

    Args:
        folder: where to keep them; None keeps nothing.
        policy: the model, as it is when the log-probabilities are asked for.
        budget: tokens at a time.
        say: is told what is computed, and of a damaged file.
        share: as for `known_logprobs`.
    """

    def __init__(
        self, folder: Path | None, policy: Policy, budget: int, say: Callable[[str], None], *, share: bool = False
    ) -> None:
        self.folder = folder
        self.policy = policy
        self.budget = budget
        self.say = say
        self.share = share
        self._model: str | None = None

    def identify(self) -> None:
        """Hash the model now, while rank 0 has its weights; else it is done when its hash is asked for."""
        if self.folder is not None:
            current().led(lambda: setattr(self, "_model", model_fingerprint(self.policy)))

    def logprobs(self, records: JudgedAnswers) -> Tensor:
        """[S, N] float32 on the CPU, read from the cache or computed and written to it.

        Raises:
            HeedfulError: the folder cannot be written.
        """
        if not records or self.folder is None:
            return self._compute(records)
        folder, team = self.folder, current()
        key, path, found = team.led(lambda: self._look(folder, records))
        if found is not None:
            return found
        known = self._compute(records)
        team.led(lambda: _write(path, key, known))
        return known

    def _look(self, folder: Path, records: JudgedAnswers) -> tuple[str, Path, Tensor | None]:
        """The key of some records, their file, and what it holds, if anything."""
        key = self._key(records)
        path = folder / f"logprobs-{key[:32]}.safetensors"
        found = _read(path, key, (len(records[0].answers), len(records)))
        if found is None and path.exists():
            self.say(f"{path} is damaged, or another's: it is made again")
        return key, path, found

    def _compute(self, records: JudgedAnswers) -> Tensor:
        """Of several workers each computes its share."""
        read = partial(known_logprobs, self.policy, share=self.share)
        if not records:
            return read(records, self.budget)
        self.say(f"dpo: log-probabilities of the reference for {len(records)} records")
        sizes, team = [len(record.answers) * record.longest for record in records], current()
        mine = team.dealt(sizes)
        some, own = chosen(records, mine), None
        if self.policy.sharded:  # a pass is one of all workers: none can try again by itself
            found = read(some, self.budget, spare=records[:1])
            own = found if mine else None
        elif mine:
            own = within_memory(self.budget, max(sizes), partial(read, some))
        return by_place(team.gathered((mine, own)), len(records))

    def _key(self, records: JudgedAnswers) -> str:
        if self._model is None:
            self._model = model_fingerprint(self.policy)
        return sha256_json(
            {
                "model": self._model,
                "answers": _answers_hash(records),
                "precision": self.policy.precision,
                "device": self.policy.device.type,
                "threads": torch.get_num_threads(),
                "budget": self.budget,
                "torch": torch.__version__,
                "order": sys.byteorder,
                **({"workers": current().count} if current().count > 1 else {}),
                **({"sharded": True} if self.policy.sharded else {}),
                **({"padding free": True} if self.policy.lays() else {}),
                **({"shared prompts": True} if self.share and goes_on(self.policy) else {}),
            }
        )


def _answers_hash(records: JudgedAnswers) -> str:
    digest = hashlib.sha256()
    for record in records:
        for answer in record.answers:
            digest.update(len(answer.tokens).to_bytes(8, "big"))
            digest.update(np.asarray(answer.tokens, dtype=">i8").tobytes())
            digest.update(np.asarray(answer.mask, dtype=np.uint8).tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _read(path: Path, key: str, shape: tuple[int, int]) -> Tensor | None:
    """The log-probabilities of a file that is whole and was written under this key, else None."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            known = file.get_tensor("logprobs")
    except (OSError, SafetensorError):
        return None
    sound = known.dtype == torch.float32 and tuple(known.shape) == shape
    return known if sound and facts.get("key") == key and facts.get("sha256") == _bytes_hash(known) else None


def _bytes_hash(known: Tensor) -> str:
    return hashlib.sha256(known.contiguous().numpy().tobytes()).hexdigest()


def _write(path: Path, key: str, known: Tensor) -> None:
    """Write a file of the cache; runs that share the cache write one after another."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with atomic_write(path, "wb") as file:
                file.write(save({"logprobs": known.contiguous()}, {"key": key, "sha256": _bytes_hash(known)}))
    except OSError as error:
        raise explain(error, path) from error


@dataclass(frozen=True)
class MovingReference:
    """TR-DPO's reference, which follows the policy (Gorbatovski et al. 2024).

    Every `steps` optimiser steps its weights become share * policy + (1 - share) * their own: soft with a share below
    1, hard with 1. It holds a copy of the trained weights, which belongs to the state of the run.
    """

    policy: Policy
    share: float
    steps: int
    budget: int
    read_once: bool = False
    """As `share` of `known_logprobs`."""

    def logprobs(self, records: JudgedAnswers) -> Tensor:
        """[S, N] float32 on the CPU, under the reference as it now is."""
        return known_logprobs(self.policy, records, self.budget, share=self.read_once)

    @torch.no_grad()
    def follow(self, policy: Policy, step: int) -> bool:
        """Move towards the policy where a move is due after step `step` (from 1); whether it went there wholly."""
        if not due(step, self.steps):
            return False
        for own, its in zip(self.policy.trainable_parameters(), policy.trainable_parameters(), strict=True):
            own.lerp_(its, self.share)
        return self.share == 1.0
