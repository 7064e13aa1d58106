"""The policy: any causal language model of transformers, with full weights or LoRA."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heedful.data.chat import end_of_turn_ids, prepare_tokenizer
from heedful.errors import HeedfulError, nearest
from heedful.models.adapters import (
    ADAPTER_FOLDER,
    LoRA,
    attach,
    copy_what_trains,
    is_adapted,
    save_adapter,
    underlying,
    without_adapters,
)
from heedful.models.alignment import (
    continued_hidden_states,
    hidden_states,
    masked_positions,
    place,
    previous,
)
from heedful.models.attention import quicken
from heedful.models.head import check_head, head_alternatives, head_collisions, head_logprobs, head_rule
from heedful.models.low_precision import Computing
from heedful.models.storage import (
    Precision,
    Stored,
    check_source,
    fit_vocabulary,
    open_config,
    open_model,
    open_tokenizer,
    switch_off_dropout,
    torch_dtype,
    write_folder,
)


class Policy(Computing):
    """A causal language model with its tokenizer, and the distribution over completions that the two define.

    Args:
        model: of transformers, or a PeftModel around one. Weights of a dtype of their own are kept.
        tokenizer: with a chat template, and a pad token distinct from the end-of-turn token
            (`heedful.data.chat.prepare_tokenizer`).
        precision: compute type of forward and backward (`heedful.models.low_precision`); weights keep theirs.
        banned: further token ids that the policy never says.

    Attributes:
        pad: the pad token's id.
        eos: ids that end a turn: the template's first, then EOS, then those of the model's own list.
        banned: ids without probability: the pad token, rows of the model that no token uses, those asked for.
        device: where the weights are.

    Raises:
        HeedfulError: a pad or end-of-turn token beyond the model's vocabulary, or a banned end-of-turn token.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, precision: Precision = "float32", banned: Sequence[int] = ()
    ) -> None:
        torch_dtype(precision)
        self.model = model
        self.tokenizer = tokenizer
        self.precision: Precision = precision
        self.pad: int = int(tokenizer.pad_token_id)
        self.eos: tuple[int, ...] = self._ends(banned)
        self.banned: tuple[int, ...] = self._banned(banned)
        self.device: torch.device = next(model.parameters()).device
        self._banned_tensor = torch.tensor(self.banned, dtype=torch.int64, device=self.device)
        self._rule = head_rule(model)
        quicken(underlying(model))
        self._settle_config()

    def _ends(self, banned: Sequence[int]) -> tuple[int, ...]:
        """What ends a turn by the tokenizer; and special tokens that the model's generation config lists besides, such
        as Llama 3.1's <|eom_id|>."""
        ends = end_of_turn_ids(self.tokenizer)
        listed = underlying(self.model).generation_config.eos_token_id
        if not isinstance(listed, list):  # a single one may be transformers' own default
            return ends
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return (*ends, *(token for token in listed if token in special - {self.pad, *ends, *banned}))

    def _banned(self, asked: Sequence[int]) -> tuple[int, ...]:
        rows = underlying(self.model).get_input_embeddings().weight.shape[0]
        name = getattr(self.tokenizer, "name_or_path", "")
        for token in (self.pad, *self.eos):
            if token >= rows:
                raise HeedfulError(
                    f"token {token} of the tokenizer is beyond the model's {rows} embeddings.",
                    where=name,
                    mend="Use the tokenizer that belongs to the model.",
                )
        unused = set(range(rows)) - set(self.tokenizer.get_vocab().values())
        banned = {self.pad} | unused | {int(token) for token in asked}
        wrong = sorted(token for token in banned if not 0 <= token < rows)
        if wrong or banned & set(self.eos):
            what = f"tokens {wrong} are not in the vocabulary" if wrong else "an end-of-turn token is banned"
            raise HeedfulError(f"{what}.", where=name, mend="Correct the banned tokens.")
        return tuple(sorted(banned))

    def _settle_config(self) -> None:
        """Make plain transformers and vLLM agree with this object: end-of-turn, pad and suppressed tokens."""
        model = underlying(self.model)
        model.config.get_text_config().pad_token_id = self.pad
        settings = model.generation_config
        settings.pad_token_id = self.pad
        settings.eos_token_id = list(self.eos)
        settings.suppress_tokens = list(self.banned)
        if self.tokenizer.bos_token_id is not None:
            settings.bos_token_id = self.tokenizer.bos_token_id

    @property
    def context_length(self) -> int | None:
        """The most tokens the model was made for, or None where its configuration does not say."""
        return getattr(underlying(self.model).config.get_text_config(), "max_position_embeddings", None)

    def to(self, device: torch.device | str) -> Policy:
        """Move the weights; returns the policy itself."""
        self.model.to(device)
        self.device = next(self.model.parameters()).device
        self._banned_tensor = self._banned_tensor.to(self.device)
        self._copy = None
        return self

    def compute_on(self, device: torch.device | str) -> None:
        """As `Computing.compute_on`."""
        super().compute_on(device)
        self._banned_tensor = torch.tensor(self.banned, dtype=torch.int64, device=device)

    def token_logprobs(
        self, tokens: Tensor, attention: Tensor, mask: Tensor, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of every masked token given those before it, and the entropy where it was chosen.

        Both are of the policy's own distribution (`heedful.core.logprob.distribution`): banned tokens have no
        probability, logits are divided by the temperature. The head runs at masked tokens only.

        Args:
            tokens: [B, T] int64, padded on the right.
            attention: [B, T] bool, True at real tokens.
            mask: [B, T] bool, the tokens asked for; False in the first column.
            temperature: above 0.

        Returns:
            log-probabilities and entropies in nats, [B, T] float32, zero outside the mask, differentiable.

        Raises:
            ValueError: padding on the left, a mask in the first column, or a masked token that is banned.
        """
        with self.autocast():
            hidden = hidden_states(self.running(), tokens, attention)
            return self.logprobs_from(hidden, tokens, mask, temperature=temperature)

    def grouped_logprobs(
        self, tokens: Tensor, attention: Tensor, mask: Tensor, group: Tensor, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """`token_logprobs` of rows that go on from the same prompts, each of which is read once.

        Args:
            tokens, attention: as for `token_logprobs`.
            mask: [B, T] bool, the answer of each row: all of its real tokens from the first one on, at least one.
            group: [B] int64; rows of one number are alike before their masks begin.
            temperature: above 0.

        Returns:
            as `token_logprobs`; whole rows are read where the architecture does not allow it (`continues`).
        """
        if not self.continues():
            return self.token_logprobs(tokens, attention, mask, temperature=temperature)
        starts, lengths = mask.int().argmax(1), mask.sum(1)
        _, parents = group.unique(return_inverse=True)
        first = torch.full((int(parents.max()) + 1,), len(group), device=group.device)
        first.scatter_reduce_(0, parents, torch.arange(len(group), device=group.device), "amin")
        longest = int(starts[first].max())
        prompts = tokens[first, :longest]
        real = torch.arange(longest, device=group.device) < starts[first, None]
        place_of = torch.arange(int(lengths.max()), device=group.device)
        told = place_of < lengths[:, None]
        answers = tokens.gather(1, (starts[:, None] + place_of).clamp(max=tokens.shape[1] - 1)).where(told, self.pad)
        with self.autocast():
            fed = told[:, 1:]  # nothing is asked of a last token's state
            states = continued_hidden_states(self.running(), prompts, real, answers[:, :-1], fed, parents)[told]
            logprobs, entropy = head_logprobs(
                self.running(), self._rule, states, answers[told], temperature, self._banned_tensor
            )
        return place(logprobs, mask), place(entropy, mask)

    def logprobs_from(
        self, hidden: Tensor, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """`token_logprobs` from hidden states [B, T, H] of the model that is `running()`, inside `autocast()`."""
        positions = masked_positions(mask)
        states = previous(hidden, mask, positions)
        targets = tokens.flatten().index_select(0, positions)
        logprobs, entropy = head_logprobs(self.running(), self._rule, states, targets, temperature, self._banned_tensor)
        return place(logprobs, mask), place(entropy, mask)

    def collisions_from(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """log sum_v pi(v)^2 where each masked token was chosen (`heedful.core.logprob.linear_collision`).

        Args:
            hidden: [B, T, H] of `hidden_states`. Call it inside `autocast()`.
            mask: [B, T] bool, the tokens asked for; False in the first column.

        Returns:
            [B, T] float32 in nats, zero outside the mask, without gradient.
        """
        states = previous(hidden.detach(), mask)
        return place(head_collisions(self.running(), self._rule, states, self._banned_tensor), mask)

    def alternatives(self, tokens: Tensor, attention: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The likeliest tokens at every masked place, given what stands before it, at temperature 1.

        Args:
            tokens, attention, mask: as for `token_logprobs`.
            count: how many, at most the vocabulary's size.

        Returns:
            log-probabilities [N, count] float32 in nats and ids [N, count] int64 of the N masked tokens, row by row,
            the likeliest first. Without gradient.
        """
        with torch.no_grad(), self.autocast():
            hidden = hidden_states(self.running(), tokens, attention)
            states = previous(hidden, mask)
            return head_alternatives(self.running(), self._rule, states, count, self._banned_tensor)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights that training changes: all of them, or the adapters' only."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def save(self, folder: Path) -> None:
        """Write a standard Hugging Face folder: safetensors, tokenizer, chat template, generation settings.

        With LoRA the weights are the merged ones, and the adapter lies in `folder/adapter`. Call it inside
        `heedful.files.artifact`, which makes the folder appear whole or not at all.

        Raises:
            HeedfulError: the weights cannot be written.
            OSError: the folder cannot be written, or the disk is full (`artifact` explains it).
        """
        write_folder(self.model, self.tokenizer, folder)
        if is_adapted(self.model):
            save_adapter(self.model, Path(folder) / ADAPTER_FOLDER)


def load_policy(
    name_or_path: str | Path,
    *,
    template: str = "auto",
    pad_token: str | None = None,
    lora: LoRA | None = None,
    dtype: Stored = "float32",
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    revision: str | None = None,
    seed: int = 0,
) -> Policy:
    """Open a causal language model by folder or hub id. No pickle, no code of the model's own, no dropout.

    Args:
        name_or_path: a folder in Hugging Face format, or a hub id.
        template: "auto" for the tokenizer's own chat template, a named one, or a Jinja file.
        pad_token: a token to pad with; added, with a row of the embedding, where the tokenizer lacks it.
        lora: train adapters instead of all weights.
        dtype: type of the stored weights. "bfloat16" halves a base that is only read or frozen under LoRA; "nf4"
            stores its linear layers in 4 bits, on a GPU.
        precision: compute type.
        device: where to put it; "meta" opens all but the weights.
        revision: branch, tag or commit of a hub id.
        seed: of the adapters' initial weights.

    Raises:
        HeedfulError: no such model, no tokenizer, no usable pad token or chat template, pickle weights, a
            reward model's folder, or an architecture whose head heedful does not know.
    """
    from transformers import AutoModelForCausalLM

    source = str(name_or_path)
    check_source(source)
    config = open_config(source, revision)
    if any("ForSequenceClassification" in name for name in config.architectures or ()):
        raise HeedfulError(
            "this is a reward model (a sequence classifier), not a policy.",
            where=source,
            mend="Give the folder of a causal language model.",
        )
    tokenizer = prepare_tokenizer(open_tokenizer(source, revision), template=template, pad_token=pad_token)
    model = open_model(AutoModelForCausalLM, source, revision, dtype, device=device, config=config)
    fit_vocabulary(model, tokenizer)
    if torch.device(device).type != "meta":
        check_head(model, head_rule(model))
    banned = _suppressed(model)
    if lora is not None:
        model = attach(model, lora, seed=seed)
    return Policy(model.to(device), tokenizer, precision=precision, banned=banned)


def _suppressed(model: Any) -> Sequence[int]:
    """Tokens that the model's own generation settings suppress, those beyond its vocabulary left out."""
    rows = model.get_input_embeddings().weight.shape[0]
    return [token for token in model.generation_config.suppress_tokens or () if 0 <= token < rows]


def new_policy(
    architecture: dict[str, Any],
    tokenizer: Any,
    *,
    seed: int,
    init_std: float | None = None,
    template: str = "auto",
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
) -> Policy:
    """A policy from scratch, with random weights.

    Args:
        architecture: arguments of a transformers configuration, among them `model_type` ("llama", "gpt2").
            A vocabulary size that is not given is the tokenizer's.
        tokenizer: with a pad token; it gets the chat template.
        seed: fixes the weights.
        init_std: standard deviation of the initial weights (`initializer_range`); None keeps the
            architecture's own.
        template: as in `load_policy`.
        precision: compute type.
        device: where to put it.

    Raises:
        HeedfulError: no or an unknown `model_type`, a key that the architecture does not have, values that it
            refuses, or a vocabulary smaller than the tokenizer's.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = prepare_tokenizer(tokenizer, template=template)
    config = new_config(architecture, tokenizer, init_std)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, TypeError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise HeedfulError(
            f"cannot make a {architecture['model_type']} model of this configuration: {error}",
            where="architecture",
            mend="Correct the sizes.",
        ) from error
    check_head(model, head_rule(model))
    return Policy(model.to(device), tokenizer, precision=precision)


def new_config(architecture: dict[str, Any], tokenizer: Any, init_std: float | None) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    where = "architecture"
    settings = dict(architecture)
    kind = settings.pop("model_type", None)
    known = list(CONFIG_MAPPING.keys())
    if kind not in known:
        what = "no model_type is given" if kind is None else f"no such model_type: {kind!r}"
        mend = nearest(str(kind), known) or "Name one, such as llama."
        raise HeedfulError(f"{what}.", where=where, mend=mend)
    size = max(tokenizer.get_vocab().values()) + 1
    for key, value in (("bos_token_id", tokenizer.bos_token_id), ("eos_token_id", tokenizer.eos_token_id)):
        settings.setdefault(key, value)
    settings.setdefault("vocab_size", size)
    settings["pad_token_id"] = tokenizer.pad_token_id
    if settings["vocab_size"] < size:
        raise HeedfulError(
            f"a vocabulary of {settings['vocab_size']} is too small for the tokenizer's {size} tokens.",
            where=where,
            mend="Leave vocab_size out, or raise it.",
        )
    if init_std is not None:
        settings["initializer_range"] = init_std
    try:
        config = CONFIG_MAPPING[kind](**settings)
    except (ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        raise HeedfulError(
            f"transformers refuses this {kind} configuration: {error.__cause__ or error}",
            where=where,
            mend="Correct the sizes.",
        ) from error
    default = CONFIG_MAPPING[kind]()
    for key in architecture:
        # transformers takes up a key of its older configurations under the new name; a key that stays as it
        # was given, beside the settings of the class, is one that nothing reads.
        if not hasattr(default, key) and hasattr(config, key):
            names = [name for name in default.to_dict() if not name.startswith("_")]
            mend = nearest(key, names) or "See the configuration class in transformers."
            raise HeedfulError(f"a {kind} model has no setting {key!r}.", where=where, mend=mend)
    switch_off_dropout(config)
    return config


def reference_of(policy: Policy) -> Policy:
    """The frozen reference: the policy as it stands now, for a KL penalty or DPO.

    Full weights: a copy, in the precision that it is computed in. LoRA: a plain model on the same base weights without
    the adapters, which takes no memory; it equals the policy before its adapters learnt anything, exactly.
    """
    if is_adapted(policy.model):
        model = without_adapters(policy.model)
    else:
        model = copy.deepcopy(policy.model)
    model.eval()
    reference = Policy(model, policy.tokenizer, precision=policy.precision, banned=policy.banned)
    reference.shares = is_adapted(policy.model)
    reference.freeze()
    return reference


def moving_reference_of(policy: Policy) -> Policy:
    """A reference that can follow the policy: a second copy of the weights that training changes.

    What training leaves alone (the base under LoRA) is shared. The copies keep `requires_grad`, which tells a
    checkpoint that they change; no gradient is ever taken.
    """
    model = copy_what_trains(policy.model)
    model.eval()
    return Policy(model, policy.tokenizer, precision=policy.precision, banned=policy.banned)
