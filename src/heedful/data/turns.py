"""Turns of a conversation out of what rows hold: message lists, ShareGPT lists, HH-RLHF strings, plain text."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, get_args

from heedful.data.records import Conversation, Message, Origin, Role
from heedful.errors import HeedfulError, nearest

ROLES: tuple[str, ...] = get_args(Role)

EMPTY_PROMPT = "empty prompt"
EMPTY_ANSWER = "empty answer"
EQUAL_ANSWERS = "equal answers"
DIFFERING_PROMPTS = "differing prompts"
USER_LAST = "ends with the user"
TURNS_OUT_OF_ORDER = "turns out of order"
NO_VERDICT = "no verdict"
BROKEN_TEXT = "broken text"

_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


class BadContentError(Exception):
    """A row that can be read but not learnt from: a content finding, dealt with by `on_bad_row`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


def wrong_type(origin: Origin, key: str, value: Any, wanted: str) -> HeedfulError:
    """The error for a value of the wrong type."""
    kind = "null" if value is None else type(value).__name__
    return HeedfulError(f"{key!r} must be {wanted}, not {kind}.", where=str(origin), mend="Correct the row.")


def text_of(value: Any, key: str, origin: Origin) -> str:
    """A text value.

    Raises:
        HeedfulError: it is something else.
    """
    if not isinstance(value, str):
        raise wrong_type(origin, key, value, "text")
    return value


def is_hh(value: Any) -> bool:
    """Whether a value is a conversation written as HH-RLHF writes it."""
    return isinstance(value, str) and value.startswith(("\n\nHuman:", "\n\nAssistant:"))


def hh_turns(text: str) -> Conversation:
    """The turns of an HH-RLHF string, in whatever order; the one space behind each colon is no part of one."""
    parts = _HH_TURN.split(text)
    turns = [
        Message(_HH_ROLES[name], content.removeprefix(" "))
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return tuple(turns)


def in_turn(turns: Conversation) -> Conversation:
    """The turns of an HH-RLHF string, once it is sure that Human and Assistant took turns, Human first.

    Raises:
        BadContentError: they did not.
    """
    roles = [turn.role for turn in turns]
    if roles[0] != "user" or any(a == b for a, b in itertools.pairwise(roles)):
        raise BadContentError(TURNS_OUT_OF_ORDER)
    return turns


def message_turns(value: Any, key: str, origin: Origin, *, answers: bool = False) -> Conversation:
    """The turns of a list of `{"role", "content"}` (or ShareGPT's `{"from", "value"}`) objects, in order.

    Args:
        answers: the list may begin with the assistant, as what follows a prompt does.

    Raises:
        HeedfulError: a wrong type, an unknown or missing key, an unknown role, or roles out of order.
    """
    if not isinstance(value, list) or not value:
        raise (
            wrong_type(origin, key, value, "a list of messages")
            if value != []
            else HeedfulError(f"{key!r} has no messages.", where=str(origin), mend="Correct the row.")
        )
    turns = tuple(_message(item, f"{key}[{index}]", origin) for index, item in enumerate(value))
    _check_order(turns, key, origin, answers)
    return turns


def _message(item: Any, place: str, origin: Origin) -> Message:
    if not isinstance(item, dict):
        raise wrong_type(origin, place, item, 'an object with "role" and "content"')
    if "from" in item and "role" not in item:
        item = {"role": _SHAREGPT.get(item["from"], item["from"])} | {
            "content" if name == "value" else name: value for name, value in item.items() if name != "from"
        }
    for name in ("role", "content"):
        if name not in item:
            raise HeedfulError(
                f"{place} has no {name!r}. {_hint(name, list(item))}".strip(),
                where=str(origin),
                mend="Correct the row.",
            )
    unknown = [
        name for name, value in item.items() if name not in ("role", "content") and value not in (None, "", [], {})
    ]
    if unknown:
        raise HeedfulError(
            f"{place} has the unknown key {unknown[0]!r}.",
            where=str(origin),
            mend="heedful reads role and content; remove the key, or leave it empty.",
        )
    role = item["role"]
    if role not in ROLES:
        hint = nearest(str(role), list(ROLES))
        raise HeedfulError(
            f"{place} has the unknown role {role!r}. {hint}".strip(),
            where=str(origin),
            mend=f"Known: {', '.join(ROLES)}.",
        )
    return Message(role, _content(item["content"], place, origin))


def _hint(wanted: str, found: list[str]) -> str:
    close = nearest(wanted, found)
    return f"It has {close.split(' ')[-1].rstrip('?')}." if close else ""


def _content(value: Any, place: str, origin: Origin) -> str:
    """Text, or a list of text parts."""
    if isinstance(value, list):
        texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if value and all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
        raise wrong_type(origin, f"{place}.content", value, "text (images and other parts are not read)")
    return text_of(value, f"{place}.content", origin)


def _check_order(turns: Conversation, key: str, origin: Origin, answers: bool) -> None:
    """System first if at all, then the user; user and assistant in turn; tools answer the assistant."""
    may_follow: dict[str, tuple[str, ...]] = {
        "": ("system", "user", "assistant") if answers else ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("tool", "assistant"),
    }
    before = ""
    for index, turn in enumerate(turns):
        if turn.role not in may_follow[before]:
            place = f"comes after {before!r}" if before else "comes first"
            raise HeedfulError(
                f"roles out of order: {key}[{index}] is {turn.role!r} and {place}.",
                where=str(origin),
                mend=f"Here it may be: {', '.join(may_follow[before])}.",
            )
        before = turn.role


def conversation(value: Any, key: str, origin: Origin) -> Conversation:
    """A conversation: messages, an HH-RLHF string, or plain text (one message of the user).

    Raises:
        HeedfulError: malformed messages or a wrong type.
        BadContentError: an HH-RLHF string whose turns are out of order.
    """
    if isinstance(value, list):
        return message_turns(value, key, origin)
    if is_hh(value):
        return in_turn(hh_turns(value))
    if isinstance(value, str):
        return (Message("user", value),)
    raise wrong_type(origin, key, value, "text or a list of messages")


def prompt_of(value: Any, key: str, origin: Origin) -> Conversation:
    """A conversation that waits for an answer. An HH-RLHF string may end with an open "Assistant:".

    Raises:
        HeedfulError: malformed, or it ends with the assistant.
        BadContentError: an HH-RLHF string whose turns are out of order.
    """
    turns = conversation(value, key, origin)
    if turns[-1].role == "assistant" and not turns[-1].content.strip():
        turns = turns[:-1]
    if not turns or turns[-1].role in ("assistant", "system"):
        last = turns[-1].role if turns else "assistant"
        raise HeedfulError(
            f"roles out of order: {key!r} ends with {last!r}, so nothing waits for an answer.",
            where=str(origin),
            mend="End it with the user's message.",
        )
    return turns


def split_answer(turns: Conversation) -> tuple[Conversation, str]:
    """A conversation's last answer apart from what it answers.

    Raises:
        BadContentError: the conversation ends with the user.
    """
    if turns[-1].role != "assistant" or len(turns) < 2:
        raise BadContentError(USER_LAST)
    return turns[:-1], turns[-1].content


def json_list(value: Any, key: str, origin: Origin) -> list[Any]:
    """A list, given as one or as its JSON text.

    Raises:
        HeedfulError: neither.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:
            raise wrong_type(origin, key, value, "a list in JSON") from error
    if not isinstance(value, list):
        raise wrong_type(origin, key, value, "a list")
    return value
