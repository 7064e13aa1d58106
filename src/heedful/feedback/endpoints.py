"""Endpoints that answer as a policy: any server that speaks the OpenAI chat API, always another process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from heedful.errors import HeedfulError, nearest
from heedful.feedback import addresses, clock, events
from heedful.feedback.models import Account, PolicyEndpoint, Programme
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.feedback.rules import rules_of
from heedful.feedback.texts import clean

KEY_VARIABLE = re.compile(r"HEEDFUL_KEY_[A-Z0-9_]{1,60}")
"""Whoever may name an endpoint may have this variable sent to it, so no other variable of the server can be named."""
NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "max_tokens": (1, 32_768),
    "max_completion_tokens": (1, 32_768),
    "seed": (0, 2**53),
}
WHOLE = ("max_tokens", "max_completion_tokens", "seed")
PINNED = ("name", "base_url", "model", "key_variable", "sampling", "candidates")
"""What a dialogue keeps of its endpoint."""
SECONDS = 60.0
TOTAL_SECONDS = 180.0


class EndpointError(Exception):
    """An endpoint did not answer; the message is fit for the person who waits, and names no secret."""


def check_sampling(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings that an endpoint is asked with.

    Raises:
        HeedfulError: an unknown one, or one out of range.
    """
    known = [*NUMBERS, "stop"]
    for name, value in sampling.items():
        where = f"sampling.{name}"
        if name not in known:
            raise HeedfulError("unknown setting {name!r}.", where=where, mend=nearest(name, known), name=name)
        if name == "stop":
            words = isinstance(value, list) and 0 < len(value) <= 4
            if not words or not all(isinstance(one, str) and 0 < len(one) <= 100 for one in value):
                raise HeedfulError("stop is a list of one to four texts.", where=where)
            continue
        low, high = NUMBERS[name]
        types = int if name in WHOLE else int | float
        if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
            raise HeedfulError(
                "{value!r} does not lie in {low:g} to {high:g}.", where=where, value=value, low=low, high=high
            )
    return dict(sampling)


def check_endpoint(given: Mapping[str, Any]) -> None:
    """An endpoint before it is stored, also one that a file brings. Its address is not looked up.

    Args:
        given: the fields of `PINNED`.

    Raises:
        HeedfulError: something is missing, of another type or out of range, or the key's variable is one of the
            server's own.
    """
    for name in PINNED:
        if name not in given:
            raise HeedfulError("it is missing.", where=name)
    for label, longest in (("name", 120), ("model", 300), ("base_url", 400)):
        clean(given[label], label)
        if not given[label].strip() or len(given[label]) > longest:
            raise HeedfulError("it has 1 to {longest} characters.", where=label, longest=longest)
    variable, candidates = clean(given["key_variable"], "key_variable"), given["candidates"]
    if variable and not KEY_VARIABLE.fullmatch(variable):
        raise HeedfulError(
            "the variable's name must begin with HEEDFUL_KEY_.",
            where="key_variable",
            mend="Start the studio with HEEDFUL_KEY_SOMETHING set, and name that.",
        )
    if not isinstance(candidates, int) or isinstance(candidates, bool) or not 2 <= candidates <= MAX_COMPLETIONS:
        raise HeedfulError("a turn has 2 to {most} candidates.", where="candidates", most=MAX_COMPLETIONS)
    if not isinstance(given["sampling"], Mapping):
        raise HeedfulError("it must be an object.", where="sampling")
    check_sampling(given["sampling"])
    try:
        addresses.parse(given["base_url"])
    except HeedfulError as error:
        raise HeedfulError(error.what, where="base_url", mend=error.mend) from error


def create_endpoint(
    programme: Programme,
    name: str,
    base_url: str,
    model: str,
    *,
    actor: Account,
    key_variable: str = "",
    sampling: Mapping[str, Any] | None = None,
    candidates: int = 2,
) -> PolicyEndpoint:
    """Let a programme's dialogues be answered by an endpoint.

    Args:
        base_url: as the openai client takes it, as in https://host/v1.
        key_variable: the server's environment variable that holds the key; empty: none is asked for.
        candidates: answers to each turn, 2 to 9.

    Raises:
        HeedfulError: something is missing or out of range, or the address must not be asked.
    """
    given = {"name": name, "base_url": base_url, "model": model, "key_variable": key_variable,
             "sampling": dict(sampling or {}), "candidates": candidates}  # fmt: skip
    check_endpoint(given)
    try:
        addresses.check(base_url, allow_private=rules_of(programme.settings).allow_private_addresses)
    except HeedfulError as error:
        raise HeedfulError(error.what, where="base_url", mend=error.mend) from error
    with transaction.atomic():
        made = PolicyEndpoint.objects.create(
            programme=programme,
            name=name.strip(),
            base_url=base_url,
            model=model.strip(),
            key_variable=key_variable,
            sampling=given["sampling"],
            candidates=candidates,
        )
        events.record("endpoint.created", programme=programme, actor=actor, endpoint=made)
    return made


def retire_endpoint(endpoint: PolicyEndpoint, *, actor: Account) -> None:
    """Begin no further dialogue with it; those that run go on."""
    with transaction.atomic():
        if PolicyEndpoint.objects.filter(pk=endpoint.pk, retired=None).update(retired=clock.now()):
            events.record("endpoint.retired", programme=endpoint.programme_id, actor=actor, endpoint=endpoint)
    endpoint.refresh_from_db()


def pinned(endpoint: PolicyEndpoint) -> dict[str, Any]:
    """What a dialogue keeps of its endpoint, so that the policy stays the same to the end."""
    return {name: getattr(endpoint, name) for name in PINNED}


def complete(pin: Mapping[str, Any], messages: Sequence[Mapping[str, str]], index: int, *, allow_private: bool) -> str:
    """One candidate answer.

    Args:
        pin: what `pinned` made.
        messages: the conversation, the last from the user.
        index: the candidate's number; it is added to a stated seed, so that candidates differ.

    Raises:
        EndpointError: no answer, an empty one, or one that is refused.
    """
    import openai

    key = ""
    if pin["key_variable"]:
        if not KEY_VARIABLE.fullmatch(pin["key_variable"]):
            raise EndpointError("the key's variable must begin with HEEDFUL_KEY_")
        key = os.environ.get(pin["key_variable"], "")
        if not key:
            raise EndpointError(f"the server has no key in {pin['key_variable']}")
    settings = dict(pin["sampling"])
    if "seed" in settings:
        settings["seed"] += index
    with addresses.client(allow_private, timeout=SECONDS, total_seconds=TOTAL_SECONDS) as http:
        # The key is named, so that the client takes none from the environment; nor does it name an organisation.
        client: Any = openai.OpenAI(
            base_url=pin["base_url"],
            api_key=key or "none",
            max_retries=0,
            http_client=http,  # type: ignore[arg-type]
        )
        client.organization = client.project = None
        try:
            answer = client.chat.completions.create(model=pin["model"], messages=list(messages), **settings)
            text = answer.choices[0].message.content
        except HeedfulError as error:
            raise EndpointError("the endpoint's address is refused") from error
        except openai.APITimeoutError as error:
            raise EndpointError("the endpoint did not answer in time") from error
        except openai.APIStatusError as error:
            raise EndpointError(f"the endpoint answered {error.status_code}") from error
        except openai.APIConnectionError as error:
            raise EndpointError("the endpoint cannot be reached") from error
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise EndpointError("the endpoint's answer makes no sense") from error
    try:
        return clean(text, "answer", empty=False)
    except HeedfulError as error:
        raise EndpointError(f"the endpoint's answer cannot be kept: {error.what}") from error
