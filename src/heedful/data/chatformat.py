"""What a chat template does with an answer, found by probing it once per tokenizer."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from heedful.data.records import Conversation, Message
from heedful.data.templates import adds_bos, template_text
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACES = " \n\t\r"
_PROBE = "heedfulprobe"
_ONE_TURN = (Message("user", "question"),)
_MORE_TURNS = (Message("user", "first"), Message("assistant", "reply"), Message("user", "question"))


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as tokens, and what an answer must be tokenised with.

    A special token parts a text: what stands before it is tokenised without regard to what follows. So an
    answer needs only `tail`, the prompt's text from its last special token on, for its context.
    """

    tokens: list[int]
    tail: str
    tail_tokens: list[int]
    plain: bool  # its messages hold no special token's text


@dataclass(frozen=True)
class ChatFormat:
    """How a tokenizer's template frames an answer, found by probing it."""

    template: str
    source: object  # the tokenizer's `chat_template` as it was probed
    lead: str  # white space between the generation prompt and the answer
    strips: tuple[str, str]  # what the template trims before and after the answer; all of _SPACES: any space
    closing: str  # from the answer's end to the end-of-turn token, that token included
    end: int  # id of the end-of-turn token
    end_token: str
    bos: bool  # the template begins with the BOS token
    bos_without_template: bool  # the tokenizer would begin plain text with BOS
    special: re.Pattern[str]
    special_tokens: tuple[str, ...]
    special_ids: frozenset[int]
    prompts: OrderedDict[Conversation, RenderedPrompt] = field(default_factory=OrderedDict, repr=False)
    tails: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def answer(self, completion: str) -> str:
        """An answer as it stands in the text: trimmed as the template trims, with its leading space."""
        left, right = self.strips
        text = completion.lstrip(None if left == _SPACES else left) if left else completion
        text = text.rstrip(None if right == _SPACES else right) if right else text
        return text if text.startswith(self.lead) else self.lead + text

    def notes(self) -> list[str]:
        """What a person should know about the format, in sentences."""
        notes = [f"an answer ends with {self.end_token!r} (id {self.end})"]
        if self.strips != ("", ""):
            notes.append("the template trims white space around an answer")
        if self.lead:
            notes.append(f"an answer begins with {self.lead!r}")
        if self.bos_without_template and not self.bos:
            notes.append("the tokenizer begins plain text with BOS, its chat template does not: no BOS is added")
        pins = ("enable_thinking = false", 'date_string = "26 Jul 2024"')
        return notes + [f"pinned in the template: {pin}" for pin in pins if f"set {pin}" in self.template[:120]]


_FORMATS: WeakKeyDictionary[PreTrainedTokenizerBase, ChatFormat] = WeakKeyDictionary()


def chat_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """How the tokenizer's template frames an answer; probed once, and again when the template changes.

    Raises:
        HeedfulError: the tokenizer has no template, the template drops or rewrites answers, or closes them
            with text instead of one token.
    """
    known = _FORMATS.get(tokenizer)
    if known is not None and known.source == tokenizer.chat_template:
        return known
    opening, text, full, at = _probe(tokenizer)
    if opening.strip():
        raise _unusable(tokenizer, f"it puts {opening!r} before an answer", "Call prepare_tokenizer first.")
    tail = full[at + len(_PROBE) :]
    closing, end = _closing(tokenizer, tail)
    tokens = encode(tokenizer, text)
    bos = tokenizer.bos_token_id
    if bos is not None and tokens[:2] == [bos, bos]:
        raise _unusable(tokenizer, "it writes the BOS token twice", "Remove one from the template.")
    special = _special_tokens(tokenizer, closing)
    vocabulary = tokenizer.get_vocab()
    pattern = "|".join(re.escape(token) for token in special)
    chat = ChatFormat(
        template=template_text(tokenizer, "auto"),
        source=tokenizer.chat_template,
        lead=opening,
        strips=_strips(tokenizer, text + opening, tail),
        closing=closing,
        end=end,
        end_token=str(tokenizer.convert_ids_to_tokens(end)),
        bos=bos is not None and tokens[:1] == [bos],
        bos_without_template=adds_bos(tokenizer),
        special=re.compile(pattern or r"(?!)"),
        special_tokens=special,
        special_ids=frozenset({end, *(vocabulary[token] for token in special if token in vocabulary)}),
    )
    _FORMATS[tokenizer] = chat
    return chat


def tokenizer_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """A tokenizer's folder or hub id, for messages."""
    return str(getattr(tokenizer, "name_or_path", "") or "tokenizer")


def opening_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes between its generation prompt and an answer."""
    return _probe(tokenizer)[0]


def _unusable(tokenizer: PreTrainedTokenizerBase, why: str, mend: str) -> HeedfulError:
    why = f"this chat template cannot be trained with: {why}."
    return HeedfulError(why, where=tokenizer_name(tokenizer), mend=mend)


def _probe(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str, int]:
    """(what stands between generation prompt and answer, prompt text, full text, the answer's place)."""
    text = render_template(tokenizer, _ONE_TURN, answering=True)
    openings = []
    for turns in (_MORE_TURNS, _ONE_TURN):
        text = render_template(tokenizer, turns, answering=True)
        full = render_template(tokenizer, (*turns, Message("assistant", _PROBE)), answering=False)
        at = full.rfind(_PROBE)
        mend = "Choose another --loading.template (chatml, plain, or a Jinja file)."
        if at < 0:
            raise _unusable(tokenizer, "it drops the assistant's answer", mend)
        if not full[:at].startswith(text):
            before = full[:at][-40:]
            why = f"its generation prompt ends with {text[-40:]!r}, but a finished answer follows {before!r}"
            raise _unusable(tokenizer, why, mend)
        openings.append(full[len(text) : at])
    if openings[0] != openings[1]:
        raise _unusable(tokenizer, f"later answers begin with {openings[0]!r}, first ones with {openings[1]!r}", mend)
    return openings[1], text, full, at


def render_template(tokenizer: PreTrainedTokenizerBase, turns: Conversation, *, answering: bool) -> str:
    """The template's text of a conversation; with `answering`, its generation prompt appended.

    Raises:
        HeedfulError: the template refuses the conversation.
    """
    import jinja2

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering)
    except (jinja2.TemplateError, TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
        roles = ", ".join(turn.role for turn in turns)
        raise HeedfulError(
            f"the chat template refuses a conversation of the roles {roles}: {error}.",
            where=tokenizer_name(tokenizer),
            mend="Drop such rows, or choose another --loading.template.",
        ) from error
    assert isinstance(text, str)
    return text


def _closing(tokenizer: PreTrainedTokenizerBase, tail: str) -> tuple[str, int]:
    """The text from the answer's end to the first token of its own behind it, and that token's id."""
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    found = [(tail.find(token), -len(token), token) for token in added if token and token in tail]
    if found:
        at, _, token = min(found)
        if tail[:at].strip():
            raise _unusable(tokenizer, f"it closes an answer with the text {tail[:at]!r}", "Close it with one token.")
        return tail[: at + len(token)], added[token]
    if tail.strip():
        raise _unusable(tokenizer, f"it closes an answer with the text {tail!r}", "Close it with one token.")
    if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
        raise _unusable(tokenizer, "nothing closes an answer, and there is no EOS token", "Set eos_token.")
    return tokenizer.eos_token, int(tokenizer.eos_token_id)


def _special_tokens(tokenizer: PreTrainedTokenizerBase, closing: str) -> tuple[str, ...]:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {str(token) for token in tokenizer.all_special_tokens} | {closing.strip()}
    return tuple(sorted((token for token in special if token), key=lambda token: (-len(token), token)))


def _strips(tokenizer: PreTrainedTokenizerBase, before: str, tail: str) -> tuple[str, str]:
    """Which white space the template trims on either side of an answer."""
    left, right = "", ""
    for space in _SPACES:
        answer = Message("assistant", space + _PROBE + space)
        full = render_template(tokenizer, (*_ONE_TURN, answer), answering=False)
        at = full.rfind(_PROBE)
        if full[:at] == before:
            left += space
        if full[at + len(_PROBE) :] == tail:
            right += space
    return left, right


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of rendered text; special tokens' text becomes the tokens, nothing is added or cut."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return list(tokenizer.encode(text, add_special_tokens=False))
    if backend.truncation is not None:  # another caller's settings stay behind in the shared backend
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens:
        backend.encode_special_tokens = False
    return backend.encode(text, add_special_tokens=False).ids
