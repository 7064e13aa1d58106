"""Scalar heads: the reward model, one score per answer, and the critic, one value per token.

Both are sequence classifiers of transformers with one label, so that a saved one loads in plain
`AutoModelForSequenceClassification`. A reward model's score is read at the last token of a sequence, which is
always the end-of-turn token; that is where plain transformers reads it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from heedful.data.chat import end_of_turn_ids, prepare_tokenizer, render_completion
from heedful.data.packing import micro_batches, prompt_micro_batches
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.models.adapters import (
    ADAPTER_FOLDER,
    LoRA,
    attach,
    copy_what_trains,
    is_adapted,
    save_adapter,
    underlying,
)
from heedful.models.alignment import hidden_states, place, previous
from heedful.models.attention import quicken
from heedful.models.head_bank import HEADS, HeadBank, float_linear, open_bank
from heedful.models.labels import chosen_label, classifier_config, finite, keep_label
from heedful.models.low_precision import Computing
from heedful.models.memory import within_memory
from heedful.models.modes import evaluating
from heedful.models.policy import Policy
from heedful.models.shared_prefix import common_starts, end_states
from heedful.models.storage import (
    Precision,
    fit_vocabulary,
    open_model,
    open_tokenizer,
    torch_dtype,
    write_folder,
)
from heedful.models.trunk import classifier_on

NORMALISATION = "heedful_reward"
"""Key of a configuration that holds a reward's `offset` and `scale`."""


ENOUGH = 0.9
"""Beginnings are read once where that leaves at most this share of the tokens, padding counted. Time goes down with
tokens, but for the masks and the further calls."""


def scoring_tokens(device: torch.device | str) -> int:
    """Most tokens, padding counted, in one forward pass of scoring: on a CPU few, which are less padded."""
    return 2048 if torch.device(device).type == "cpu" else 16_384


class ScalarModel(Computing):
    """A trunk with a linear head of one output, its tokenizer, and the normalisation of what it says.

    Args:
        model: a sequence classifier of transformers with one label and a linear `score`, or a PeftModel.
        tokenizer: prepared, with a pad token distinct from the end-of-turn token.
        precision: compute type of the trunk; the head is always float32.

    Attributes:
        pad, eos, device: as a Policy's.
        offset, scale: a normalised figure is (raw - offset) / scale.
    """

    def __init__(self, model: Any, tokenizer: Any, *, precision: Precision = "float32") -> None:
        torch_dtype(precision)
        self.model = model
        self.tokenizer = tokenizer
        self.precision: Precision = precision
        self.pad: int = int(tokenizer.pad_token_id)
        self.eos: tuple[int, ...] = end_of_turn_ids(tokenizer)
        self.device: torch.device = next(model.parameters()).device
        quicken(underlying(model))
        config = underlying(model).config
        config.get_text_config().pad_token_id = self.pad
        stored = getattr(config, NORMALISATION, None) or {}
        self.set_normalisation(float(stored.get("offset", 0.0)), float(stored.get("scale", 1.0)))

    def set_normalisation(self, offset: float, scale: float) -> None:
        """From now on a normalised figure is (raw - offset) / scale; saved in the configuration.

        Raises:
            ValueError: an offset that is no finite number, or a scale that is not above 0.
        """
        if not (math.isfinite(offset) and math.isfinite(scale) and scale > 0):
            raise ValueError(f"offset must be finite and scale above 0, got {offset} and {scale}")
        self.offset, self.scale = float(offset), float(scale)
        setattr(underlying(self.model).config, NORMALISATION, {"offset": self.offset, "scale": self.scale})

    def rescale(self, mean: float, spread: float) -> None:
        """From now on a normalised figure is what it was, less `mean`, divided by `spread`."""
        self.set_normalisation(self.offset + mean * self.scale, self.scale * spread)

    @property
    def context_length(self) -> int | None:
        """The most tokens the model was made for, or None where its configuration does not say."""
        return getattr(underlying(self.model).config.get_text_config(), "max_position_embeddings", None)

    def to(self, device: torch.device | str) -> ScalarModel:
        """Move the weights; returns the model itself."""
        self.model.to(device)
        self.device = next(self.model.parameters()).device
        self._copy = None
        return self

    def continues(self) -> bool:
        """As `Computing.continues`; not where layers are compiled, which would be for each length of a prompt anew."""
        return not self.compiles and super().continues()

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The weights that training changes."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def save(self, folder: Path) -> None:
        """Write a folder that plain `AutoModelForSequenceClassification` opens; as `Policy.save`."""
        write_folder(self.model, self.tokenizer, folder)

    def _head(self, states: Tensor) -> Tensor:
        """[N] float32 of states [N, H]; never in lower precision."""
        score = underlying(self.model).score
        return float_linear(states, score.weight, score.bias).squeeze(-1)


class RewardModel(ScalarModel):
    """How good an answer is, one number. Called with prompts and completions it is a `Reward`.

    Attributes:
        bank: further heads on the same trunk (`heedful.models.head_bank`), or None.
    """

    bank: HeadBank | None = None

    def to(self, device: torch.device | str) -> RewardModel:
        """Move the weights, further heads included; returns the model itself."""
        super().to(device)
        if self.bank is not None:
            self.bank.to(device)
        return self

    def save(self, folder: Path) -> None:
        """As `ScalarModel.save`; beside the weights lie further heads, and an adapter together with the head."""
        if self.bank is not None:
            setattr(underlying(self.model).config, HEADS, self.bank.describe())
        super().save(folder)
        if is_adapted(self.model):
            save_adapter(self.model, Path(folder) / ADAPTER_FOLDER)
        if self.bank is not None:
            self.bank.save(folder)

    def freeze_trunk(self) -> None:
        """Leave the head alone to be trained: critics that start from this model then share its trunk."""
        self.model.requires_grad_(False)
        underlying(self.model).score.requires_grad_(True)

    def last_states(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The trunk's states at the last real token of each row, which must be its end-of-turn token.

        Args:
            tokens: [B, T] int64, padded on the right.
            attention: [B, T] bool, True at real tokens; at least one in each row.

        Returns:
            [B, H], differentiable.
        """
        with self.autocast():
            hidden = hidden_states(self.running(), tokens, attention)
        last = attention.sum(1) - 1
        return hidden[torch.arange(len(tokens), device=tokens.device), last]

    def head(self, states: Tensor) -> Tensor:
        """[N] float32: the raw scores of states [N, H], differentiable."""
        return self._head(states)

    def end_states(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], groups: Sequence[Hashable]
    ) -> Tensor:
        """`last_states` [B, H] of sequences, of which those of a group share their first tokens, read once.

        Args:
            sequences: token ids, the end-of-turn token last; of a model that `continues()`.
            starts, groups: of each, how many tokens it shares with its group, and which that is (`shared_prefix`).
        """
        with self.autocast():
            return end_states(self.running(), sequences, starts, groups, self.pad, self.device)

    def raw_scores(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """[B] float32, differentiable, not normalised: what plain transformers gives. Arguments as `last_states`."""
        return self._head(self.last_states(tokens, attention))

    def normalised(self, raw: Tensor) -> Tensor:
        """(raw - offset) / scale."""
        return (raw - self.offset) / self.scale

    def render(self, prompt: Conversation, completion: str) -> list[int]:
        """The tokens that a completion is scored on: prompt, completion, end-of-turn.

        A completion that passes the model's context length is cut there and still ends with end-of-turn.

        Raises:
            HeedfulError: the prompt alone fills the context, or the template refuses it.
        """
        rendered = render_completion(self.tokenizer, prompt, completion, max_length=self.context_length)
        if rendered.truncated:
            return [*rendered.tokens[:-1], self.eos[0]]
        return rendered.tokens

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Normalised scores [B] float32 of completions, without gradient, in the order given."""
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts and {len(completions)} completions")
        sequences = self._rendered(prompts, completions)
        return self.normalised(self._over(sequences, None, self._head, prompts))

    def head_scores(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """[B, heads] float32: what the further heads say of completions, without gradient.

        Raises:
            HeedfulError: the model has no further heads, or a score is not finite.
        """
        bank = self.bank
        if bank is None:
            raise HeedfulError(
                "this reward model has one head alone.",
                where=str(self.tokenizer.name_or_path),
                mend="Give several models, or one that was trained with --heads.kind ensemble or attributes.",
            )
        return bank.said(self._over(self._rendered(prompts, completions), None, bank, prompts))

    def scores_and_states(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Normalised scores [B] of completions and the states [B, H] that they were read off, without gradient."""

        def read(states: Tensor) -> Tensor:
            return torch.cat([self._head(states)[:, None], states.float()], dim=1)

        both = self._over(self._rendered(prompts, completions), None, read, prompts)
        return self.normalised(both[:, 0]), both[:, 1:]

    def score_tokens(self, sequences: Sequence[Sequence[int]], *, budget: int | None = None) -> Tensor:
        """Normalised scores [B] float32 of token sequences that end with end-of-turn, without gradient.

        Sequences of like length go together, at most `budget` tokens (padding counted) at a time, by default
        `scoring_tokens`.

        Raises:
            HeedfulError: a score is not finite.
        """
        return self.normalised(self._over(sequences, budget, self._head, None))

    def _rendered(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> list[list[int]]:
        return [self.render(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]

    def _over(
        self,
        sequences: Sequence[Sequence[int]],
        budget: int | None,
        read: Callable[[Tensor], Tensor],
        groups: Sequence[Hashable] | None,
    ) -> Tensor:
        """What `read` gives of the states [B, H] at the sequences' ends, in the order given, without gradient.

        Args:
            groups: of each, what those that begin alike have in common; None where nothing is known of that.
        """
        if not sequences:
            return torch.empty(0, device=self.device)
        longest = max(len(sequence) for sequence in sequences)
        found: list[Tensor] = [torch.empty(0, device=self.device)] * len(sequences)

        def work(tokens: int) -> None:
            for rows, states in self._ends(sequences, tokens, groups):
                for row, score in zip(rows, read(states), strict=True):
                    found[row] = score

        with evaluating(self.model):
            within_memory(budget or scoring_tokens(self.device), longest, work)
        return finite(torch.stack(found), str(self.tokenizer.name_or_path))

    def _ends(
        self, sequences: Sequence[Sequence[int]], budget: int, groups: Sequence[Hashable] | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Rows that are read together, at most `budget` tokens, with the states at their ends; beginnings once if that
        saves enough."""
        lengths = [len(sequence) for sequence in sequences]
        parts = micro_batches(lengths, budget)
        plain = sum(len(rows) * lengths[rows[0]] for rows in parts)
        if groups is not None and len(set(groups)) < len(groups) and self.continues():
            starts = common_starts(sequences, groups)
            rests = [length - start for length, start in zip(lengths, starts, strict=True)]
            number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
            together, tokens = prompt_micro_batches(
                [number[group] for group in groups], starts, rests, budget, self.context_length
            )
            if self.lays():
                plain, tokens = sum(lengths), sum(rests)
                tokens += sum(sum({groups[row]: starts[row] for row in rows}.values()) for rows in together)
            if min(starts) > 0 and tokens <= ENOUGH * plain:
                for rows in together:
                    yield (
                        rows,
                        self.end_states(
                            [sequences[row] for row in rows],
                            [starts[row] for row in rows],
                            [groups[row] for row in rows],
                        ),
                    )
                return
        for rows in parts:
            width = lengths[rows[0]]
            padded = [[*sequences[row], *([self.pad] * (width - lengths[row]))] for row in rows]
            count = torch.tensor([lengths[row] for row in rows], device=self.device)
            attention = torch.arange(width, device=self.device)[None, :] < count[:, None]
            yield rows, self.last_states(torch.tensor(padded, device=self.device), attention)


class Critic(ScalarModel):
    """V of every prefix: the normalised score that the answer will get if it goes on from here."""

    def token_values(self, tokens: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """Values of the prefixes *before* each masked token, read from the hidden state at the token before.

        Args:
            tokens: [B, T] int64, padded on the right.
            attention: [B, T] bool, True at real tokens.
            mask: [B, T] bool; False in the first column.

        Returns:
            [B, T] float32, on the scale of normalised rewards, zero outside the mask, differentiable.
        """
        with self.autocast():
            hidden = hidden_states(self.running(), tokens, attention)
        raw = self._head(previous(hidden, mask))
        return place((raw - self.offset) / self.scale, mask)

    @classmethod
    def from_reward(cls, reward: RewardModel, *, lora: LoRA | None = None, seed: int = 0) -> Critic:
        """A critic that starts as a copy of a reward model, normalisation included.

        Weights that are frozen in the reward model are shared with it, not copied.

        Args:
            lora: train adapters and the head instead of all weights. A reward model that has adapters keeps them: the
                critic's are copies, of the same rank.
        """
        model = copy_what_trains(reward.model)
        if lora and not is_adapted(model):
            model = attach(model, lora, seed=seed)
        return cls(model, reward.tokenizer, precision=reward.precision)

    @classmethod
    def from_policy(cls, policy: Policy, *, lora: LoRA | None = None, seed: int = 0) -> Critic:
        """A critic on a policy's trunk as it stands; its head starts at zero, so all its first values are 0.

        The trunk is a copy; with `lora` it is the policy's own base, as in `new_reward_model`.
        """
        model = classifier_on(policy, share=lora is not None)
        model.score.weight.data.zero_()
        return cls(attach(model, lora, seed=seed) if lora else model, policy.tokenizer, precision=policy.precision)


def new_reward_model(policy: Policy, *, lora: LoRA | None = None, seed: int = 0) -> RewardModel:
    """A reward model on a policy's trunk as it stands, with a fresh small head.

    The trunk is a copy, adapters merged in. With `lora` it is the policy's own where nothing can move that: a base
    with adapters that have learnt nothing, or a policy that is frozen.

    The head's weights are drawn from N(0, 1 / (H + 1)), a standard deviation of 1 / sqrt(H + 1), as in
    Stiennon et al. 2020, "Learning to summarize from human feedback", arXiv 2009.01325, appendix B.1.

    Args:
        policy: the SFT model.
        lora: train adapters and the head instead of all weights.
        seed: of the head and the adapters.

    Raises:
        HeedfulError: transformers has no sequence classifier of this architecture.
    """
    model = classifier_on(policy, share=lora is not None)
    generator = torch.Generator().manual_seed(seed)
    width = model.score.weight.shape[1]
    head = torch.randn(model.score.weight.shape, generator=generator) / math.sqrt(width + 1)
    model.score.weight.data.copy_(head)
    adapted = attach(model, lora, seed=seed) if lora else model
    return RewardModel(adapted, policy.tokenizer, precision=policy.precision)


ScalarT = TypeVar("ScalarT", bound=ScalarModel)


def _load(
    cls: type[ScalarT],
    name_or_path: str | Path,
    template: str,
    pad_token: str | None,
    lora: LoRA | None,
    dtype: Precision,
    precision: Precision,
    device: torch.device | str,
    revision: str | None,
    seed: int,
    label: str | None = None,
) -> ScalarT:
    from transformers import AutoModelForSequenceClassification

    source = str(name_or_path)
    config = classifier_config(source, revision)
    chosen = chosen_label(config, label, source)
    tokenizer = prepare_tokenizer(open_tokenizer(source, revision), template=template, pad_token=pad_token)
    empty = {"device": "meta"} if torch.device(device).type == "meta" else {}
    model = open_model(AutoModelForSequenceClassification, source, revision, dtype, config=config, **empty)
    if not hasattr(getattr(model, "score", None), "weight"):
        raise HeedfulError(f"{type(model).__name__} has no linear score.", where=source, mend="Give another model.")
    keep_label(model, chosen)
    fit_vocabulary(model, tokenizer)
    model.score.float()
    if lora is not None:
        model = attach(model, lora, seed=seed)
    return cls(model.to(device), tokenizer, precision=precision)


def load_reward_model(
    name_or_path: str | Path,
    *,
    template: str = "auto",
    pad_token: str | None = None,
    lora: LoRA | None = None,
    dtype: Precision = "float32",
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    revision: str | None = None,
    seed: int = 0,
    label: str | None = None,
) -> RewardModel:
    """Open a reward model by folder or hub id: one of ours, or a classifier with a linear `score` at the last token.

    A classifier that heedful did not make has offset 0 and scale 1. Arguments as in `load_policy`, and:

    Args:
        label: of a classifier with several labels, the one whose output is the score: its name or number.

    Raises:
        HeedfulError: as `load_policy`, and for a model that is no such classifier.
    """
    model = _load(RewardModel, name_or_path, template, pad_token, lora, dtype, precision, device, revision, seed, label)
    model.bank = open_bank(str(name_or_path), underlying(model.model).config, revision)
    return model.to(device)


def load_critic(
    name_or_path: str | Path,
    *,
    lora: LoRA | None = None,
    dtype: Precision = "float32",
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Critic:
    """Open a critic that `Critic.save` wrote, or a reward model's folder as a critic.

    Raises:
        HeedfulError: as `load_reward_model`.
    """
    return _load(Critic, name_or_path, "auto", None, lora, dtype, precision, device, None, seed)
