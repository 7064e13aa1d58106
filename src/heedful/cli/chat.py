"""`heedful chat`: talk with a policy in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

import tyro

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.cli.opening import DecodingOptions, open_policy
from heedful.data.records import Conversation, Message, as_messages
from heedful.errors import HeedfulError, nearest
from heedful.training.config.asking import LoadingOptions

if TYPE_CHECKING:
    from heedful.models.policy import Policy

HELP = "/reset begins anew, /retry draws another answer, /quit (or Ctrl-D) leaves; Ctrl-C stops an answer."
COMMANDS = ["/help", "/quit", "/reset", "/retry"]


@dataclass(frozen=True)
class ChatConfig:
    """Talk with a policy: several turns, streamed.

    While it runs: /reset begins anew, /retry draws another answer, /quit (or Ctrl-D) leaves, Ctrl-C stops
    an answer. With --json the conversation is printed at the end.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    system: str | None = None
    """A system message that each conversation begins with."""
    decoding: DecodingOptions = DecodingOptions()
    loading: LoadingOptions = LoadingOptions()


def chat(arguments: list[str]) -> int:
    """Parse the settings and talk until the person leaves."""
    call = parse(ChatConfig, "chat", arguments)
    with stdout_for_results():
        policy = open_policy(call.settings.policy, call.settings.loading)
    stream = sys.stderr if call.json else sys.stdout
    print(HELP, file=stream)
    conversation = talk(policy, call.settings, stream)
    if call.json:
        print_json(as_messages(conversation))
    return 0


def talk(policy: Policy, config: ChatConfig, out: TextIO, ask: Callable[[], str] | None = None) -> Conversation:
    """Hold the conversation; returns it as it stands when the person leaves.

    Args:
        policy: who answers.
        config: the system message and how answers are drawn.
        out: where answers appear.
        ask: reads one line of the person, raising EOFError at the end; the terminal by default.
    """
    opening: Conversation = (Message("system", config.system),) if config.system else ()
    conversation, drawn = opening, 0
    ask = ask or (lambda: _ask(out))
    while True:
        try:
            said = ask().strip()
        except EOFError:
            return conversation
        if said == "/quit":
            return conversation
        if said == "/reset":
            conversation = opening
            print("(a new conversation)", file=out)
            continue
        if said == "/retry" and len(conversation) > len(opening):
            conversation = conversation[:-1]
        elif said.startswith("/"):
            unknown = said not in COMMANDS
            print(f"There is no {said}. {nearest(said, COMMANDS)} {HELP}" if unknown else HELP, file=out)
            continue
        elif not said:
            continue
        else:
            conversation = (*conversation, Message("user", said))
        seed = config.decoding.seed + drawn
        drawn += 1
        try:
            answer = _answer(policy, conversation, replace(config.decoding, seed=seed), out)
        except HeedfulError as error:  # the window is full, say: the person can still /reset
            print(f"{error} Begin anew with /reset.", file=out)
            conversation = conversation[:-1]
            continue
        conversation = (*conversation, Message("assistant", answer))


def _ask(out: TextIO) -> str:
    print("\nyou: ", end="", file=out, flush=True)
    if sys.stdin.isatty():
        import readline  # noqa: F401 (line editing and history for input)
    return input()


def _answer(policy: Policy, conversation: Conversation, decoding: DecodingOptions, out: TextIO) -> str:
    from heedful.data.chat import render_prompt
    from heedful.rollout.engine import NativeEngine

    prompt = render_prompt(policy.tokenizer, conversation)
    text = ""
    print("model: ", end="", file=out, flush=True)
    try:
        for piece in pieces(policy, NativeEngine(policy).stream(prompt, decoding.params())):
            text += piece
            print(piece, end="", file=out, flush=True)
    except KeyboardInterrupt:
        print(" (stopped)", end="", file=out)
    print(file=out, flush=True)
    return text


def pieces(policy: Policy, tokens: Iterator[int]) -> Iterator[str]:
    """The text that each token adds, held back while a character is not whole. End-of-turn is not text."""
    kept: list[int] = []
    given = ""
    for token in tokens:
        if token in policy.eos:
            break
        kept.append(token)
        text = policy.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not text.endswith("\ufffd"):
            yield text[len(given) :]
            given = text
    text = policy.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if len(text) > len(given):
        yield text[len(given) :]
