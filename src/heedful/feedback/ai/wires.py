"""One request to an OpenAI-compatible server, and what its answer means.

The answer's bytes are read by the clock: a server that sends one byte a second for ever is a timeout like any other.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Finish, Reply, Usage
from heedful.feedback.ai.budget import Prices
from heedful.feedback.ai.streaming import Assembly, BrokenStreamError

LARGEST = 16 * 2**20
"""Bytes of an answer."""
LOWEST = -1e4
"""Stands for a log-probability of minus infinity, which JSON cannot hold."""
FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


@dataclass(frozen=True)
class Fault:
    """Why a request brought no reply.

    Args:
        reason: as in `Failure`.
        detail: for a person; names no secret.
        again: whether another attempt may fare better.
        retry_after: seconds that the server asked to be left alone.
        maybe_paid: whether the server may have reckoned it all the same.
        fatal: the error for a person where no question at all can be answered.
    """

    reason: str
    detail: str
    again: bool = True
    retry_after: float = 0.0
    maybe_paid: bool = False
    fatal: HeedfulError | None = None


TOO_LARGE = Fault("bad reply", "the answer is too large", again=False, maybe_paid=True)


class Server:
    """A model at an endpoint, through the `openai` client.

    Args:
        url: as the client takes it, https://host/v1; None: the client's own default.
        model: its name there.
        key: sent as a bearer token; "none" where the server asks for none.
        key_variable: the environment variable that it came from, for messages.
        timeout: seconds for a whole answer, or for the next piece of one that is streamed.
        stream: whether answers come piece by piece, so that a slow one is told from a silent server.
    """

    def __init__(
        self,
        url: str | None,
        model: str,
        key: str,
        *,
        key_variable: str = "",
        timeout: float = 120.0,
        stream: bool = False,
    ) -> None:
        import httpx2
        import openai

        self.model, self.timeout, self.key_variable, self.stream = model, timeout, key_variable, stream
        try:
            # Attempts are counted, paced and paid for one level up; no organisation is read from the environment.
            # A redirect would take the key to another address.
            http = httpx2.Client(verify=_certificates(), timeout=timeout, follow_redirects=False)
            self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout, http_client=http)
        except (openai.OpenAIError, httpx2.InvalidURL, TypeError, ValueError) as error:
            raise HeedfulError(
                f"no client can be made ({error}).", where=url or "url", mend="Check the URL."
            ) from error
        self.url = str(self._client.base_url).rstrip("/")
        if self._client.base_url.scheme not in ("http", "https") or not self._client.base_url.host:
            raise HeedfulError(
                f"{url!r} is no address of a server.", where="url", mend="Write it as https://host/v1, scheme included."
            )
        self.limit_name = "max_tokens"
        """What this server calls the longest answer; newer models of some take only max_completion_tokens."""
        self.takes_schema = True
        """Whether it takes a JSON schema; where not, the prompt alone asks for the form."""
        self.schema_form = "json_schema"
        """How it takes one: as OpenAI does, or json_object with the schema beside it, as llama-cpp-python does."""
        self.takes_temperature = True
        """Some reasoning models take no temperature but their own."""
        self.takes_stream_options = True
        """Whether it can be told to end a stream with the tokens used."""
        self.tells_tokens = True
        """Whether its answers tell the tokens used; where not, each counts at its most."""

    def now(self) -> float:
        """Seconds of the clock that pauses are reckoned by."""
        return time.monotonic()

    def request(self, ask: Ask, prices: Prices) -> Reply | Fault:
        """Ask once."""
        import httpx2
        import openai

        try:
            with self._client.chat.completions.with_streaming_response.create(**self._given(ask)) as answer:
                kind = answer.headers.get("content-type", "")
                # A server that knows no streaming answers in one piece.
                body = self._streamed(answer) if kind.startswith("text/event-stream") else self._body(answer)
        except openai.APIStatusError as error:
            return self._refused(error)
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            return self._broken(error)
        except (ValueError, TypeError) as error:  # a text that no JSON or header can hold
            return Fault("bad request", f"the request cannot be written: {error}", again=False)
        return body if isinstance(body, Fault) else read_answer(body, self.model, prices)

    def _body(self, answer: Any) -> bytes | Fault:
        """An answer in one piece. Read by the clock: the client's own would wait for ever for a byte a second."""
        before = self.now()
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if self.now() - before > self.timeout:
                return Fault("timeout", f"no whole answer in {self.timeout:g} s", maybe_paid=True)
            if len(body) > LARGEST:
                return TOO_LARGE
        return bytes(body)

    def _streamed(self, answer: Any) -> bytes | Fault:
        """An answer put together from its pieces; what the server sends to keep the line open is none."""
        assembly, size, last = Assembly(), 0, self.now()
        try:
            for piece in answer.iter_bytes():
                size += len(piece)
                if assembly.take(piece):
                    last = self.now()
                elif self.now() - last > self.timeout:
                    return Fault("timeout", f"no further piece of an answer in {self.timeout:g} s", maybe_paid=True)
                if size > LARGEST:
                    return TOO_LARGE
            return assembly.whole()
        except BrokenStreamError as error:
            return Fault("broken stream", str(error), maybe_paid=True)

    def unreachable(self) -> str:
        """Why no connection can be made; empty where one can. Costs nothing: the list of models is asked for."""
        import openai

        try:
            self._client.models.list()
        except openai.APIConnectionError as error:
            return self._broken(error).detail
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return ""  # it answers, if not with a list
        return ""

    def models(self) -> list[str]:
        """The models that the server lists; none where it lists nothing."""
        import openai

        try:
            return sorted(str(one.id) for one in self._client.models.list(timeout=min(self.timeout, 10.0)))
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return []

    def _given(self, ask: Ask) -> dict[str, Any]:
        given: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": one.role, "content": one.content} for one in ask.messages],
            self.limit_name: ask.max_tokens,
        }
        if self.takes_temperature:
            given["temperature"] = ask.temperature
        if ask.seed is not None:
            given["seed"] = ask.seed
        if self.stream:
            given["stream"] = True
            if self.takes_stream_options:
                given["stream_options"] = {"include_usage": True}
        if ask.top_logprobs:
            given |= {"logprobs": True, "top_logprobs": ask.top_logprobs}
        if ask.schema is not None and self.takes_schema and self.schema_form == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": dict(ask.schema)}
            given["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif ask.schema is not None and self.takes_schema:
            given["response_format"] = {"type": self.schema_form, "schema": dict(ask.schema)}
        return given

    def _broken(self, error: Exception) -> Fault:
        """A connection that failed or fell silent."""
        import httpx2

        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
        # Where no connection was made nothing was sent, so nothing was paid.
        connected = not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
        if connected and isinstance(cause, httpx2.TimeoutException):
            return Fault("timeout", f"no answer in {self.timeout:g} s", maybe_paid=True)
        return Fault("connection", f"the connection failed: {cause}", maybe_paid=connected)

    def _refused(self, error: Any) -> Fault:
        status = int(error.status_code)
        said = _message(error)
        code = str(getattr(error, "code", None) or "")
        wait = _seconds(error.response.headers.get("retry-after"))
        if status == 401 or status == 403:
            key = f"the key of {self.key_variable}" if self.key_variable else "the request, which had no key"
            fatal = HeedfulError(
                f"the server refused {key} ({status}).", where=self.url, mend="Set the right key in the environment."
            )
            return Fault("refused key", said, again=False, fatal=fatal)
        if status == 402 or code == "insufficient_quota":
            fatal = HeedfulError(f"the account has no money left ({said}).", where=self.url, mend="Top it up.")
            return Fault("no quota", said, again=False, fatal=fatal)
        if status == 404:
            return Fault("not found", said, again=False, fatal=self._not_found(said))
        if status == 429:
            return Fault("rate limit", said, retry_after=wait)
        if status in (408, 409) or status >= 500:
            return Fault("server error", f"{status}: {said}", retry_after=wait)
        return Fault("bad request", f"{status}: {said}", again=False)

    def _not_found(self, said: str) -> HeedfulError:
        known = self.models()
        if self.model in known or not known:
            mend = f"Check the URL (most end in /v1) and the model's name, {self.model!r}."
        else:
            from heedful.errors import nearest

            mend = f"{nearest(self.model, known)} The server has: {', '.join(known[:10])}.".strip()
        return HeedfulError(f"the server knows no such model or address ({said}).", where=self.url, mend=mend)


@cache
def _certificates() -> ssl.SSLContext:
    """Those that httpx2 trusts, read once for all servers."""
    import httpx2

    return httpx2.create_ssl_context()


def read_answer(body: bytes, model: str, prices: Prices) -> Reply | Fault:
    """A reply from the bytes of a chat completion, whatever they are."""
    try:
        whole = json.loads(body)
        choice = whole["choices"][0]
        message = choice["message"]
        text, declined = message.get("content"), message.get("refusal")
        usage = _usage(whole.get("usage"))
        tokens, logprobs = _logprobs(choice.get("logprobs"))
        finish = FINISHES.get(str(choice.get("finish_reason")), "other")
        if not isinstance(text, str | None) or not isinstance(declined, str | None):
            raise TypeError("the content is no text")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return Fault("bad reply", f"the answer makes no sense ({type(error).__name__}: {error})", maybe_paid=True)
    if declined:
        text, finish = declined, "refusal"
    said = str(whole.get("model") or model)
    kept = (text or "").encode("utf-8", "replace").decode()
    return Reply(kept, finish, logprobs, usage, said, prices.of(usage), tokens=tokens)


def _usage(given: Any) -> Usage:
    if not isinstance(given, dict):
        return Usage()
    counts = [given.get(name) for name in ("prompt_tokens", "completion_tokens")]
    fit = [one if isinstance(one, int) and not isinstance(one, bool) and one >= 0 else 0 for one in counts]
    return Usage(*fit)


def _logprobs(given: Any) -> tuple[tuple[str, ...], tuple[dict[str, float], ...]]:
    """The answer's tokens, and of each place its alternatives with what was said among them."""
    if not isinstance(given, dict) or not isinstance(given.get("content"), list):
        return (), ()
    tokens, rows = [], []
    for place in given["content"]:
        row: dict[str, float] = {}
        for one in [*(place.get("top_logprobs") or []), place]:
            token, value = str(one["token"]), float(one["logprob"])
            if not math.isnan(value):
                row[token] = max(row.get(token, -math.inf), min(value, 0.0))
        tokens.append(str(place["token"]))
        rows.append({token: max(value, LOWEST) for token, value in row.items()})
    return tuple(tokens), tuple(rows)


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    said = body.get("message") or body.get("detail") or getattr(error, "message", "") or str(error)
    return " ".join(str(said).split())[:300]


def _seconds(header: str | None) -> float:
    """Retry-After as seconds, or as a date."""
    if not header:
        return 0.0
    try:
        value = float(header)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            value = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, IndexError):
            return 0.0
    return value if 0 < value < math.inf else 0.0
