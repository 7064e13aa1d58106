"""A new model from a short description: an architecture of transformers, and a tokenizer, trained here if need be.

```yaml
architecture: {model_type: llama, hidden_size: 256, intermediate_size: 768, num_hidden_layers: 4,
               num_attention_heads: 4, tie_word_embeddings: true}
vocabulary: 4096        # train a byte-level BPE tokenizer of this size on the stage's own data, or
tokenizer: path-or-id   # take an existing one
template: chatml        # chat template of a trained tokenizer
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.data.chat import prepare_tokenizer
from heedful.errors import HeedfulError
from heedful.files import artifact, read_manifest
from heedful.models.policy import Policy, new_policy
from heedful.models.storage import open_tokenizer
from heedful.training.settings import load_yaml_config
from heedful.training.workers import current

SPECIALS = {"pad_token": "<|pad|>", "bos_token": "<|begin|>", "eos_token": "<|end|>"}


@dataclass(frozen=True)
class Scratch:
    """The description of a model that does not exist yet."""

    architecture: dict[str, Any] = field(default_factory=dict)
    """Arguments of the transformers config class, `model_type` among them."""
    vocabulary: int = 0
    """Tokens of a byte-level BPE tokenizer to train; 0 when `tokenizer` names one."""
    tokenizer: str | None = None
    """An existing tokenizer: folder or hub id."""
    template: str = "chatml"
    """Chat template of a tokenizer that is trained here."""
    init_std: float | None = None
    """Standard deviation of the initial weights; None keeps the architecture's own."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, template: str) -> Any:
    """A byte-level BPE tokenizer with pad, begin and end tokens and a chat template.

    Raises:
        HeedfulError: the vocabulary cannot hold the 256 bytes and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 256 + len(SPECIALS) + 2:
        raise HeedfulError(
            f"a byte-level vocabulary of {vocabulary} cannot hold the 256 bytes and the special tokens.",
            where="vocabulary",
            mend="Give 512 or more.",
        )
    marks = ["<|im_start|>", "<|im_end|>"] if template == "chatml" else []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIALS.values(), *marks],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    specials = SPECIALS | ({"eos_token": "<|im_end|>"} if marks else {})
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **specials)
    return prepare_tokenizer(fast, template=template, pad_token=None)


def describe_scratch(path: str) -> Scratch:
    """Read a description.

    Raises:
        HeedfulError: an unknown key, no architecture, or not exactly one of vocabulary and tokenizer.
    """
    scratch = load_yaml_config(Scratch, Path(path))
    if "model_type" not in scratch.architecture:
        raise HeedfulError(
            "the description of a new model names no architecture.model_type.",
            where=path,
            mend="Give one that transformers knows, such as llama.",
        )
    if (scratch.vocabulary > 0) == (scratch.tokenizer is not None):
        raise HeedfulError(
            "a new model needs either `vocabulary` (to train a tokenizer) or `tokenizer` (to take one).",
            where=path,
            mend="Give exactly one of the two.",
        )
    return scratch


def open_scratch(path: str, texts: Iterable[str], out: Path, *, seed: int, device: str) -> Policy:
    """Make the policy that a description names, its weights drawn from `seed`.

    A tokenizer that is trained here is kept in `out/tokenizer`, so that a run that goes on has the same.
    """
    scratch = describe_scratch(path)
    kept = out / "tokenizer"
    if scratch.tokenizer is not None:
        tokenizer = open_tokenizer(scratch.tokenizer, None)
        tokenizer = prepare_tokenizer(tokenizer, template="auto", pad_token=None)
    else:
        current().led(lambda: _keep_tokenizer(kept, texts, scratch))
        tokenizer = open_tokenizer(str(kept), None)
    return new_policy(scratch.architecture, tokenizer, seed=seed, init_std=scratch.init_std, device=device)


def _keep_tokenizer(kept: Path, texts: Iterable[str], scratch: Scratch) -> None:
    """Train a tokenizer into a folder, unless one stands there."""
    if not read_manifest(kept):
        made = train_tokenizer(texts, scratch.vocabulary, scratch.template)
        with artifact(kept, {"kind": "tokenizer"}) as folder:
            made.save_pretrained(folder)
