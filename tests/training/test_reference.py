"""Log-probabilities of the reference: computed once for the same content, never believed when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from architectures import WORDS, tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Preference
from heedful.models.policy import Policy, new_policy
from heedful.training import reference
from heedful.training.answer_logprobs import known_logprobs
from heedful.training.pairs import Pair, make_pairs
from heedful.training.reference import LogprobCache

BUDGET = 64


def policy_of(seed: int = 1) -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed)


def pairs_of(first: int = 0) -> list[Pair]:
    records = [
        Preference((Message("user", WORDS[i]),), WORDS[i + 1], f"{WORDS[i + 2]} no") for i in range(first, first + 4)
    ]
    return make_pairs(records, tiny_tokenizer(), "soft", 64)


class Counted:
    """A cache that counts how often it computes."""

    def __init__(self, folder: Path | None, policy: Policy, monkeypatch: pytest.MonkeyPatch, budget: int = BUDGET):
        self.calls = 0
        self.said: list[str] = []
        self.cache = LogprobCache(folder, policy, budget, self.said.append)

        def computed(*arguments: object, **named: object) -> torch.Tensor:
            self.calls += 1
            return known_logprobs(*arguments, **named)  # type: ignore[arg-type]

        self.patch = (monkeypatch, computed)

    def logprobs(self, pairs: list[Pair]) -> torch.Tensor:
        monkeypatch, computed = self.patch
        monkeypatch.setattr(reference, "known_logprobs", computed)
        return self.cache.logprobs(pairs)


def test_the_same_content_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    first = Counted(folder, policy_of(), monkeypatch)
    values = first.logprobs(pairs_of())
    assert torch.equal(values, known_logprobs(policy_of(), pairs_of(), BUDGET))
    again = Counted(folder, policy_of(), monkeypatch)
    assert torch.equal(again.logprobs(pairs_of()), values)
    assert (first.calls, again.calls) == (1, 0)


def test_other_content_is_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Counted(tmp_path, policy_of(), monkeypatch).logprobs(pairs_of())
    low = policy_of()
    low.precision = "bfloat16"
    masked = pairs_of()
    masked[0].a.mask[-1] = False
    for policy, pairs, budget in (
        (policy_of(2), pairs_of(), BUDGET),
        (policy_of(), pairs_of(1), BUDGET),
        (policy_of(), pairs_of()[::-1], BUDGET),
        (policy_of(), masked, BUDGET),
        (low, pairs_of(), BUDGET),
        (policy_of(), pairs_of(), BUDGET + 1),
    ):
        counted = Counted(tmp_path, policy, monkeypatch, budget)
        counted.logprobs(pairs)
        assert counted.calls == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another's", "text"])
def test_a_damaged_or_foreign_file_is_made_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = Counted(tmp_path, policy_of(), monkeypatch).logprobs(pairs_of())
    (file,) = tmp_path.glob("logprobs-*.safetensors")
    content = file.read_bytes()
    if damage == "another's":
        other = tmp_path / "other"
        Counted(other, policy_of(2), monkeypatch).logprobs(pairs_of())
        content = next(other.glob("logprobs-*")).read_bytes()
    broken = {
        "cut": content[:-5],
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "another's": content,
        "text": b"not a tensor at all",
    }
    file.write_bytes(broken[damage])
    counted = Counted(tmp_path, policy_of(), monkeypatch)
    assert torch.equal(counted.logprobs(pairs_of()), values)
    assert counted.calls == 1
    assert "made again" in counted.said[0]
    again = Counted(tmp_path, policy_of(), monkeypatch)
    again.logprobs(pairs_of())
    assert again.calls == 0


def test_shared_prompts_have_a_file_of_their_own(tmp_path: Path) -> None:
    """They differ by rounding, and a full cache gives the bits that an empty one gives."""
    for share in (False, True):
        LogprobCache(tmp_path, policy_of(), BUDGET, print, share=share).logprobs(pairs_of())
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_no_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counted = Counted(None, policy_of(), monkeypatch)
    counted.logprobs(pairs_of())
    counted.logprobs(pairs_of())
    assert counted.calls == 2
    assert not list(tmp_path.iterdir())
