"""Whether a server can do what it will be asked, found out by one request of one token before the first that matters.

What was found out is kept in the ledger: a run that goes on pays for no second look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Reply, ask_of
from heedful.feedback.ai.budget import fingerprint
from heedful.feedback.ai.endpoint import EndpointAsker
from heedful.feedback.ai.wires import Fault, Server

PROBE: Mapping[str, Any] = {
    "type": "object",
    "properties": {"letter": {"type": "string"}},
    "required": ["letter"],
    "additionalProperties": False,
}
FOUND_OUT = ("limit_name", "takes_schema", "schema_form", "takes_temperature", "takes_stream_options", "tells_tokens")
"""What a server is found to take, as `Server` names it."""
ASKED_OF = ("max_completion_tokens", "stream_options", "temperature", "response_format", "schema", "logprob")
"""Words for what a request asks. Some servers refuse with a 500 that names one: another attempt fares no better."""
TOKENS = 32
"""Of the probe: room for its form; some servers refuse fewer."""


def preflight(asker: EndpointAsker, *, top_logprobs: int, schema: bool) -> list[str]:
    """Make sure that a model answers, and with log-probabilities where they are needed; adapt to what it takes.

    Args:
        asker: who is to be asked.
        top_logprobs: alternatives that will be asked for; 0: none.
        schema: whether replies of a given form will be asked for.

    Returns:
        what a person should know of the server, a sentence each.

    Raises:
        HeedfulError: no connection, a refused key, an unknown model, no log-probabilities where they are needed.
    """
    server, ledger = asker.server, asker.ledger
    streamed = " streamed" if server.stream else ""
    name = f"server {fingerprint(server.url, server.model)} {top_logprobs} {schema}{streamed}"
    known = ledger.fact(name)
    if known is None:
        held = _try(asker, top_logprobs, schema)
        known = {"held": held, "others": _others(server)} | {field: getattr(server, field) for field in FOUND_OUT}
        ledger.learn(name, known)
    for field in FOUND_OUT:
        setattr(server, field, known.get(field, getattr(server, field)))
    notes = []
    if schema and not server.takes_schema:
        notes.append(
            f"{server.model} takes no JSON schema: the prompt alone asks for the form, and replies are checked."
        )
    elif schema and not known["held"]:
        notes.append(
            f"{server.model} is given a JSON schema and does not keep to it: replies are checked all the same."
        )
    if not server.takes_temperature:
        notes.append(f"{server.model} takes no temperature but its own.")
    if not server.tells_tokens:
        what = "a streamed answer" if server.stream else "an answer"
        notes.append(f"{server.model} does not tell the tokens of {what}: each counts at the most it may take.")
    if known.get("others"):
        notes.append(
            f"{server.model} is not among the models that the server lists ({', '.join(known['others'])}), and it "
            "answers all the same: it may be another model that judges."
        )
    return notes


def _others(server: Server) -> list[str]:
    """The first models that a server lists, where what was asked for is none of them."""
    listed = server.models()
    names = {part for one in listed for part in (one, one.split(":")[0], one.rsplit("/", 1)[-1])}
    return [] if server.model in names else listed[:3]


def _try(asker: EndpointAsker, top_logprobs: int, schema: bool) -> bool:
    """Whether a schema, where one was taken, was kept to."""
    server = asker.server
    refusal = ""
    for _ in range(len(FOUND_OUT) + 1):  # each turn drops one thing that the server does not take
        form = PROBE if schema and server.takes_schema else None
        words = 'Reply with this JSON: {"letter": "A"}' if form else "Reply with the letter A and nothing else."
        ask = ask_of([("user", words)], TOKENS, schema=form, top_logprobs=top_logprobs)
        got = _patiently(asker, ask)
        if isinstance(got, Reply):
            if top_logprobs and not got.logprobs:
                raise _no_logprobs(server.model, server.url, "it sent none")
            server.tells_tokens = bool(got.usage.prompt_tokens or got.usage.completion_tokens)
            return form is None or _is_of(got.text)
        refusal = got.detail
        said = refusal.lower()
        if got.reason != "bad request" and not _refuses_what_was_asked(got):
            raise HeedfulError(
                f"the server does not answer: {got.detail}.", where=server.url, mend="Check the URL, and that it runs."
            )
        if "max_completion_tokens" in said and server.limit_name == "max_tokens":
            server.limit_name = "max_completion_tokens"
        elif "stream_options" in said and server.stream and server.takes_stream_options:
            server.takes_stream_options = False
        elif "temperature" in said and server.takes_temperature:
            server.takes_temperature = False
        elif form is not None and any(word in said for word in ("response_format", "json_schema", "schema")):
            server.takes_schema = server.schema_form == "json_schema"  # the other way to say it is still to be tried
            server.schema_form = "json_object"
        elif "logprob" in said:
            raise _no_logprobs(server.model, server.url, got.detail)
        else:
            break
    raise HeedfulError(f"the server refuses the request ({refusal}).", where=server.url, mend="Check the model.")


def _is_of(text: str) -> bool:
    """Whether a reply is of the probe's schema."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(value) == {"letter"} and isinstance(value["letter"], str)


def _refuses_what_was_asked(got: Fault) -> bool:
    """Whether what a server calls a fault of its own is one of the request."""
    return got.reason == "server error" and any(word in got.detail.lower() for word in ASKED_OF)


def _patiently(asker: EndpointAsker, ask: Ask) -> Reply | Fault:
    """The probe's answer; a server that stumbles is asked thrice."""
    got = _once(asker, ask)
    for attempt in range(1, min(3, asker.pace.attempts)):
        if not isinstance(got, Fault) or got.reason not in ("rate limit", "server error"):
            break
        if _refuses_what_was_asked(got):
            break
        asker.wait(max(asker.pace.backoff * 2 ** (attempt - 1), got.retry_after))
        got = _once(asker, ask)
    return got


def _once(asker: EndpointAsker, ask: Ask) -> Reply | Fault:
    got = asker.once(ask)
    if isinstance(got, Fault) and got.fatal is not None:
        raise got.fatal
    return got


def _no_logprobs(model: str, url: str, why: str) -> HeedfulError:
    return HeedfulError(
        f"{model} gives no log-probabilities as they are needed here ({why}).",
        where=url,
        mend="Use --way verdict, which needs none, a lower --asking.top-logprobs, or a model in process: "
        "--judge hf:FOLDER.",
    )
