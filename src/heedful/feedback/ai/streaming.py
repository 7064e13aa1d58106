"""A chat completion that comes in pieces: server-sent events put together to what one answer would have been.

An answer that ends without its finish is one that was cut off; what had come of it is no reply.
"""

from __future__ import annotations

import json
from typing import Any

DONE = b"[DONE]"


class BrokenStreamError(Exception):
    """The server said in mid-stream that it failed, or sent what is no event."""


class Assembly:
    """Puts the events of one streamed completion together."""

    def __init__(self) -> None:
        self._rest = b""
        self._texts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._places: list[Any] = []
        self._told: dict[str, Any] = {}
        self._finish: str | None = None

    def take(self, piece: bytes) -> bool:
        """Read the next bytes, which may end anywhere; returns whether an event was among them. Comments are none.

        Raises:
            BrokenStreamError: the server reports an error, or an event is no part of a completion.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        for event in events:
            if event and event != DONE:
                self._read(event)
        return bool(events)

    def whole(self) -> bytes:
        """The completion as JSON, as a server sends it that does not stream.

        Raises:
            BrokenStreamError: the stream ended before the answer did.
        """
        if self._finish is None:
            raise BrokenStreamError("it ended before the answer did")
        message = {name: "".join(parts) for name, parts in self._texts.items() if parts}
        choice: dict[str, Any] = {"message": message, "finish_reason": self._finish}
        if self._places:
            choice["logprobs"] = {"content": self._places}
        return json.dumps({**self._told, "choices": [choice]}).encode()

    def _read(self, event: bytes) -> None:
        try:
            chunk = json.loads(event)
            if chunk.get("error"):
                raise BrokenStreamError(f"the server failed: {str(chunk['error'])[:300]}")
            self._told |= {name: chunk[name] for name in ("model", "usage") if chunk.get(name)}
            for choice in chunk.get("choices") or []:
                self._extend(choice)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BrokenStreamError(f"an event makes no sense ({type(error).__name__}: {error})") from error

    def _extend(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        for name, parts in self._texts.items():
            text = delta.get(name)
            if not isinstance(text, str | None):
                raise TypeError(f"the {name} is no text")
            if text:
                parts.append(text)
        self._places += (choice.get("logprobs") or {}).get("content") or []
        self._finish = choice.get("finish_reason") or self._finish
