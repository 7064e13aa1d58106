"""Conversations to tokens and back: the one place where a chat template meets a tokenizer.

What is rendered is what the policy sees when it answers: the prompt with its generation prompt, then the
answer's text, then the end-of-turn token, and nothing after it. The template is probed once per tokenizer
with a marked answer; from then on the answer is placed by what the probe found, so that no template can
rewrite it. A prompt's tokens are the same whether it stands alone or before an answer. Nothing is ever
added by the tokenizer itself (`add_special_tokens=False`): BOS and EOS come from the template alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedful.data.chatformat import (
    ChatFormat,
    RenderedPrompt,
    chat_format,
    encode,
    opening_of,
    render_template,
    tokenizer_name,
)
from heedful.data.records import Conversation, Message
from heedful.data.templates import CHAT_TEMPLATES, pinned, template_text, with_opening
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CHAT_TEMPLATES",
    "ChatFormat",
    "Rendered",
    "answer_text",
    "chat_format",
    "end_of_turn_ids",
    "prepare_tokenizer",
    "render_completion",
    "render_prompt",
]

_PAD_WORDS = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|vision_pad|>", "<|endoftext|>")
_REMEMBERED_PROMPTS = 1024


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt with its answer as tokens. Index `t` of `mask` describes token `t`.

    `mask` is True exactly on the answer's tokens, its end-of-turn token included; `truncated` tells that
    the answer was cut at the window, so that its end-of-turn token is missing.
    """

    tokens: list[int]
    mask: list[bool]
    truncated: bool

    @property
    def prompt_length(self) -> int:
        """How many tokens the prompt has."""
        return len(self.tokens) - sum(self.mask)


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Conversation) -> list[int]:
    """A prompt's token ids, the generation prompt appended: what the policy answers.

    Text of special tokens inside a message is inert: it is read as text, never as the token.

    Raises:
        HeedfulError: the prompt is empty, or the template refuses it (such as a system message where the
            template knows none).
    """
    return list(_prompt(tokenizer, chat_format(tokenizer), prompt).tokens)


def render_completion(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Conversation,
    completion: str,
    *,
    max_length: int | None = None,
) -> Rendered:
    """A prompt and its answer as token ids with the answer's mask.

    The prompt's tokens equal `render_prompt` exactly. The answer is tokenised in its context; where the
    tokenizer would merge its first characters into the prompt's last token, it is tokenised apart, as a
    policy that answers token by token would write it.

    Args:
        max_length: the window; a longer answer is cut at it and loses its end-of-turn token.

    Raises:
        HeedfulError: the template refuses the prompt, or the prompt alone fills the window.
    """
    chat = chat_format(tokenizer)
    head = _prompt(tokenizer, chat, prompt)
    start = len(head.tokens)
    answer = chat.answer(completion)
    tokens: list[int] | None = None
    if head.plain and not chat.special.search(answer):
        tail = len(head.tail_tokens)
        ending = encode(tokenizer, head.tail + answer + chat.closing)
        if (
            ending[:tail] == head.tail_tokens
            and chat.end in ending[tail:]
            and ending.index(chat.end, tail) == len(ending) - 1
        ):
            tokens = head.tokens + ending[tail:]
    if tokens is None:
        space = chat.closing.removesuffix(chat.end_token)  # such as the one before Llama 2's </s>
        tokens = head.tokens + _encode_apart(tokenizer, chat, head.tokens, answer + space) + [chat.end]
    truncated = max_length is not None and len(tokens) > max_length
    if truncated:
        if start >= (max_length or 0):
            raise HeedfulError(
                f"the prompt alone takes {start} tokens of a window of {max_length}.",
                mend="Raise --records.max-length, or drop such rows.",
            )
        tokens = tokens[:max_length]
    return Rendered(tokens, [False] * start + [True] * (len(tokens) - start), truncated)


def answer_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """An answer's text from its token ids: end-of-turn, what follows it and the leading space are dropped."""
    chat = chat_format(tokenizer)
    ends = set(end_of_turn_ids(tokenizer))
    kept = list(tokens)
    for index, token in enumerate(kept):
        if token in ends:
            kept = kept[:index]
            break
    text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text.removeprefix(chat.lead)


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids that end an assistant's turn: first the one the template writes, then EOS where it is another."""
    chat = chat_format(tokenizer)
    eos = tokenizer.eos_token_id
    others = () if eos is None or eos in (chat.end, tokenizer.pad_token_id) else (int(eos),)
    return (chat.end, *others)


def prepare_tokenizer(
    tokenizer: PreTrainedTokenizerBase, *, template: str = "auto", pad_token: str | None = None
) -> PreTrainedTokenizerBase:
    """Settle a tokenizer's chat template and pad token; the tokenizer is changed in place and returned.

    Args:
        template: "auto" (its own), a name of CHAT_TEMPLATES, or a Jinja file. Open variables are pinned
            in the template that the tokenizer then carries: thinking off, a fixed date, and whatever the
            template puts before every answer becomes part of its generation prompt.
        pad_token: a token to pad with. One that the vocabulary lacks is added to it, so that the model's
            embedding needs a row for `len(tokenizer)` tokens.

    Raises:
        HeedfulError: no template, no pad token, a pad token that also ends a turn, or a template whose
            generation prompt is not how it renders an answer.
    """
    text = pinned(template_text(tokenizer, template))
    tokenizer.chat_template = text
    _settle_pad(tokenizer, pad_token)
    opening = opening_of(tokenizer)
    if opening.strip():
        tokenizer.chat_template = with_opening(text, opening)
    chat = chat_format(tokenizer)
    where = tokenizer_name(tokenizer)
    if tokenizer.pad_token_id == chat.end:
        raise HeedfulError(
            f"the pad token {tokenizer.pad_token!r} also ends an answer, so its end cannot be learnt.",
            where=where,
            mend=_pad_advice(tokenizer),
        )
    if tokenizer.pad_token_id == tokenizer.unk_token_id and tokenizer.unk_token_id in encode(tokenizer, "\u2603\ua66e"):
        raise HeedfulError(
            f"the pad token {tokenizer.pad_token!r} also stands for unknown words.",
            where=where,
            mend=_pad_advice(tokenizer),
        )
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.eos_token = chat.end_token  # as Qwen's base models: their pad is their EOS, not their end of turn
    return tokenizer


def _prompt(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, prompt: Conversation) -> RenderedPrompt:
    known = chat.prompts.get(prompt)
    if known is not None:
        return known
    if not prompt:
        raise HeedfulError("the prompt is empty.", mend="Give it at least one message.")
    if any(chat.special.search(turn.content) for turn in prompt):
        made = _inert_prompt(tokenizer, chat, prompt)
    else:
        text = render_template(tokenizer, prompt, answering=True)
        made = _with_tail(tokenizer, chat, text, encode(tokenizer, text))
    if len(chat.prompts) >= _REMEMBERED_PROMPTS:
        chat.prompts.popitem(last=False)
    chat.prompts[prompt] = made
    return made


def _with_tail(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, text: str, tokens: list[int]) -> RenderedPrompt:
    at = max((text.rfind(token) for token in chat.special_tokens), default=0)
    if at > 0:
        tail = text[at:]
        tail_tokens = chat.tails.get(tail)
        if tail_tokens is None:
            tail_tokens = encode(tokenizer, tail)
            if len(chat.tails) < _REMEMBERED_PROMPTS:
                chat.tails[tail] = tail_tokens
        if tokens[-len(tail_tokens) :] == tail_tokens:
            return RenderedPrompt(tokens, tail, tail_tokens, True)
    return RenderedPrompt(tokens, text, tokens, True)


def _inert_prompt(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, prompt: Conversation) -> RenderedPrompt:
    """A prompt whose messages hold the text of special tokens, tokenised as the text that it is."""
    used = "".join(turn.content for turn in prompt)
    count = len(chat.special_tokens)
    base = next(b for b in (0xE000, 0xF0000, 0x100000) if not any(b <= ord(c) < b + count for c in used))
    marks = {token: chr(base + index) for index, token in enumerate(chat.special_tokens)}
    back = {mark: token for token, mark in marks.items()}
    turns = tuple(Message(m.role, chat.special.sub(lambda hit: marks[hit.group()], m.content)) for m in prompt)
    text = render_template(tokenizer, turns, answering=True)
    tokens: list[int] = []
    for piece in re.split(f"({chat.special.pattern})", text):
        restored = "".join(back.get(letter, letter) for letter in piece)
        if restored == piece:
            tokens += encode(tokenizer, piece) if piece else []
        else:
            tokens += _encode_text(tokenizer, chat, restored)
    return RenderedPrompt(tokens, "", [], False)


def _encode_text(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, text: str) -> list[int]:
    """Token ids of text in which special tokens' text is only text.

    Where the tokenizer has a special token among its ordinary words too, its text is broken in two.
    """
    if not text:
        return []
    if not chat.special.search(text):
        tokens = encode(tokenizer, text)
    else:
        tokens = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    unwanted = chat.special_ids - {tokenizer.unk_token_id}
    if unwanted.isdisjoint(tokens):
        return tokens
    cuts = [0, *(hit.start() + 1 for hit in chat.special.finditer(text)), len(text)]
    parts = (text[a:b] for a, b in itertools.pairwise(cuts) if a < b)
    broken = [tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"] for part in parts]
    return [token for part in broken for token in part if token not in unwanted]


def _encode_apart(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, head: list[int], answer: str) -> list[int]:
    """An answer's ids without its context, yet without the space that some tokenizers put before a text."""
    head = head[-8:]  # enough to see what a text does that stands behind others
    expected = _decode(tokenizer, head) + answer
    for anchor in ("", "\n", "."):
        before = _encode_text(tokenizer, chat, anchor)
        tokens = _encode_text(tokenizer, chat, anchor + answer)
        if tokens[: len(before)] == before and _decode(tokenizer, head + tokens[len(before) :]) == expected:
            return tokens[len(before) :]
    return _encode_text(tokenizer, chat, answer)


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    text = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _settle_pad(tokenizer: PreTrainedTokenizerBase, pad_token: str | None) -> None:
    if pad_token is not None:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    elif tokenizer.pad_token is None:
        raise HeedfulError(
            "the tokenizer has no pad token.",
            where=tokenizer_name(tokenizer),
            mend=_pad_advice(tokenizer),
        )


def _pad_advice(tokenizer: PreTrainedTokenizerBase) -> str:
    vocabulary = tokenizer.get_vocab()
    taken = {tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token}
    spare = next((word for word in _PAD_WORDS if word in vocabulary and word not in taken), None)
    if spare is None:
        reserved = sorted(word for word in vocabulary if re.search(r"reserved|unused", word) and word not in taken)
        spare = reserved[0] if reserved else None
    if spare is not None:
        return f"Name one: --loading.pad-token '{spare}' (in the vocabulary, and nothing else uses it)."
    return "Name one: --loading.pad-token '<pad>' (it will be added to the vocabulary)."
