"""Reward models of any other architecture: encoders with a classifier at the first token, encoder-decoders, and kin.

The whole classifier of transformers is called as it is, so its score is what plain transformers gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.data.packing import micro_batches
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.models.labels import chosen_label, classifier_config, finite
from heedful.models.low_precision import autocast
from heedful.models.memory import within_memory
from heedful.models.modes import evaluating
from heedful.models.scalar import scoring_tokens
from heedful.models.storage import Precision, open_model, open_tokenizer

UNLIMITED = 10**9
"""A tokenizer's `model_max_length` above this is none."""


class ClassifierReward:
    """A sequence classifier whose one output, or one named output, is the score. It is a `Reward`.

    A conversation is rendered by the tokenizer's chat template where it has one. Else prompt and completion are the two
    texts of the tokenizer's own pair, with its separators and segments; a prompt of several turns is their texts, one
    blank line between them.

    Args:
        model: a sequence classifier of transformers.
        tokenizer: its tokenizer.
        label: which output is the score.
        precision: compute type.

    Raises:
        HeedfulError: the tokenizer has no pad token.
    """

    def __init__(self, model: Any, tokenizer: Any, *, label: int = 0, precision: Precision = "float32") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.label = label
        self.precision: Precision = precision
        self.name = str(tokenizer.name_or_path)
        self.device: torch.device = next(model.parameters()).device
        if tokenizer.pad_token_id is None:
            raise HeedfulError(
                "the tokenizer has no pad token, so answers of unequal length cannot be scored together.",
                where=self.name,
                mend="Set one and save the tokenizer: tokenizer.pad_token = tokenizer.eos_token.",
            )

    @property
    def context_length(self) -> int | None:
        """The most tokens that the tokenizer says the model takes, or else that the model's positions allow."""
        longest = int(self.tokenizer.model_max_length)
        if longest < UNLIMITED:
            return longest
        config = self.model.config
        positions = getattr(config, "max_position_embeddings", None)
        if positions is None or positions < 1:
            return None
        # The RoBERTa family counts its positions from the pad token's id on.
        first = config.pad_token_id + 1 if _counts_from_pad(self.model) else 0
        return int(positions) - first

    def render(self, prompt: Conversation, completion: str) -> dict[str, list[int]]:
        """What the model reads of one answer, by input name. A completion that passes the context is cut.

        Raises:
            HeedfulError: the prompt alone fills the context.
        """
        if self.tokenizer.chat_template:
            turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
            turns.append({"role": "assistant", "content": completion})
            encoded = self.tokenizer.apply_chat_template(
                turns, return_dict=True, truncation=self.context_length is not None, max_length=self.context_length
            )
            return {name: list(encoded[name]) for name in encoded}
        question = "\n\n".join(turn.content for turn in prompt)
        longest = self.context_length
        asked = len(self.tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"])
        asked += self.tokenizer.num_special_tokens_to_add(pair=True)
        if longest is not None and asked >= longest:
            raise HeedfulError(
                f"the prompt alone has {asked} tokens, and the reward model reads {longest}.",
                where=self.name,
                mend="Leave the prompt out, or give a reward model that reads more.",
            )
        cut: dict[str, Any] = {} if longest is None else {"truncation": "only_second", "max_length": longest}
        encoded = self.tokenizer(question, completion, **cut)
        return {name: list(encoded[name]) for name in encoded}

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Scores [B] float32 of completions, without gradient, in the order given.

        Raises:
            HeedfulError: a score is not finite, or a prompt alone fills the context.
        """
        rendered = [self.render(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        lengths = [len(row["input_ids"]) for row in rendered]

        def scored(tokens: int) -> Tensor:
            scores = torch.empty(len(rendered), device=self.device)
            with evaluating(self.model), autocast(self.precision, self.device):
                for rows in micro_batches(lengths, tokens):
                    logits = self.model(**self._together([rendered[row] for row in rows])).logits
                    scores[torch.tensor(rows, device=self.device)] = logits[:, self.label].float()
            return scores

        return finite(within_memory(scoring_tokens(self.device), max(lengths, default=0), scored), self.name)

    def _together(self, rendered: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
        """Inputs side by side, padded on the right whatever the tokenizer's own side."""
        width = max(len(row["input_ids"]) for row in rendered)
        filling = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        return {
            name: torch.tensor(
                [row[name] + [filling.get(name, 0)] * (width - len(row[name])) for row in rendered], device=self.device
            )
            for name in rendered[0]
        }


def _counts_from_pad(model: Any) -> bool:
    """Whether positions of a model's embedding begin after its pad token's id."""
    embeddings = getattr(model.base_model, "embeddings", None)
    return getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None) is not None


def load_classifier(
    name_or_path: str | Path,
    *,
    label: str | None = None,
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    revision: str | None = None,
) -> ClassifierReward:
    """Open any sequence classifier of transformers as a reward.

    Args:
        label: of several labels, the one whose output is the score: its name or number.

    Raises:
        HeedfulError: no such model, no sequence classifier, several labels and none named.
    """
    from transformers import AutoModelForSequenceClassification

    source = str(name_or_path)
    config = classifier_config(source, revision)
    chosen = chosen_label(config, label, source)
    tokenizer = open_tokenizer(source, revision)
    model = open_model(AutoModelForSequenceClassification, source, revision, "float32", config=config)
    return ClassifierReward(model.to(device), tokenizer, label=chosen, precision=precision)


def reads_last_token(name_or_path: str | Path, revision: str | None = None) -> bool:
    """Whether a sequence classifier is a linear `score` on a decoder, which `load_reward_model` opens.

    Raises:
        HeedfulError: no such model, or no sequence classifier.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSIFIERS

    config = classifier_config(str(name_or_path), revision)
    if type(config) not in CLASSIFIERS:
        return False
    with torch.device("meta"):
        classifier: Any = CLASSIFIERS[type(config)]
        model = classifier(config)
    return isinstance(getattr(model, "score", None), torch.nn.Linear)
