"""A judge by its name: a model at an endpoint, or one in this process; and the way in which it is asked."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from heedful.data.held import held, is_held
from heedful.errors import HeedfulError
from heedful.feedback.ai import ways
from heedful.feedback.ai.asks import Asker
from heedful.feedback.ai.budget import Prices, Purse
from heedful.feedback.ai.functions import FunctionAsker
from heedful.feedback.ai.ledger import Ledger
from heedful.training.config.asking import AskingOptions, BudgetOptions, EndpointOptions, LoadingOptions

if TYPE_CHECKING:
    from heedful.feedback.ai.wires import Server
    from heedful.training.progress import Display

IN_PROCESS = "hf:"
OWN_KEY = "OPENAI_API_KEY"
OWN_URL = "OPENAI_BASE_URL"


class Reach(Protocol):
    """What a command's settings say of the models that it asks."""

    @property
    def endpoint(self) -> EndpointOptions:
        """How servers are reached."""
        ...

    @property
    def budget(self) -> BudgetOptions:
        """What may be spent."""
        ...

    @property
    def loading(self) -> LoadingOptions:
        """How a model in this process is opened."""
        ...


class Manners(Protocol):
    """What settings say of how judges are asked."""

    @property
    def way(self) -> str:
        """logprob, verdict, ranking, attributes or critique."""
        ...

    @property
    def orders(self) -> str:
        """both or one."""
        ...

    @property
    def constitution(self) -> str | None:
        """A file of principles, in a rubric's place."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Of the principles that are drawn from."""
        ...

    @property
    def thoughts(self) -> bool:
        """Whether a judge by principles reasons first."""
        ...

    @property
    def asking(self) -> AskingOptions:
        """Temperature and the like."""
        ...


def way_of(given: Manners, rubric: str, attributes: Sequence[Mapping[str, Any]]) -> ways.Way:
    """The way of judging that settings name.

    Args:
        given: the settings.
        rubric: the guideline's text; empty for heedful's own starter.
        attributes: of `way: attributes`.

    Raises:
        HeedfulError: the constitution cannot be read, or has no principle that serves.
    """
    asking = given.asking
    manner = ways.Manner(
        rubric=rubric,
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        top_logprobs=asking.top_logprobs,
        ties=asking.ties,
        both=given.orders == "both",
        seed=asking.seed,
    )
    if given.constitution is not None:
        from heedful.feedback.ai.constitution import load_constitution
        from heedful.feedback.ai.principled import PrincipledWay

        return PrincipledWay(load_constitution(given.constitution), given.tags, given.thoughts, manner)
    if given.way == "attributes":
        return ways.AttributesWay(tuple(attributes), manner)
    made: dict[str, Any] = {
        "logprob": ways.LogprobWay,
        "verdict": ways.VerdictWay,
        "ranking": ways.RankingWay,
        "critique": ways.CritiqueWay,
    }
    return made[given.way](manner)  # type: ignore[no-any-return]


def opened(
    name: str,
    config: Reach,
    ledger: Ledger,
    purse: Purse,
    display: Display,
    *,
    logprobs: int = 0,
    forms: bool = False,
    folder: str = "",
) -> Asker:
    """Whoever a model's name means, ready to be asked: for texts, and for log-probabilities or JSON where that is said.

    Args:
        name: MODEL, MODEL@URL or hf:FOLDER.
        config: how it is reached, paid and opened.
        ledger: keeps replies.
        purse: what may be spent.
        display: says what a person should know of a server.
        logprobs: alternatives that the way of judging needs; 0: none.
        forms: whether it asks for JSON of a schema.
        folder: where the folder of an hf: name stands, if not there where the name says.

    Raises:
        HeedfulError: no key, no such server or model, no log-probabilities where they are needed; no such folder.
    """
    if is_held(name):
        return FunctionAsker(held(name), name, ledger)
    if name.startswith(IN_PROCESS):
        return _in_process(name.removeprefix(IN_PROCESS), folder, config, ledger, display)
    from heedful.feedback.ai.endpoint import EndpointAsker, Pace
    from heedful.feedback.ai.preflight import preflight

    options = config.endpoint
    prices = Prices(config.budget.price_prompt, config.budget.price_completion)
    pace = Pace(options.concurrency, options.attempts, options.backoff)
    asker = EndpointAsker(server_of(name, options), ledger, purse=purse, prices=prices, pace=pace)
    for note in preflight(asker, top_logprobs=logprobs, schema=forms):
        display.say(note)
    return asker


def server_of(name: str, options: EndpointOptions) -> Server:
    """The server that MODEL or MODEL@URL means, with its key; nothing is asked yet.

    Raises:
        HeedfulError: no model is named, no key, or no address of a server.
    """
    from heedful.feedback.ai.wires import Server

    model, _, url = name.partition("@")
    address = url or options.url
    if not model:
        raise HeedfulError(f"{name!r} names no model.", where="judge", mend="Write MODEL@URL.")
    key, variable = key_for(address, options.key_variable)
    return Server(address, model, key, key_variable=variable, timeout=options.timeout, stream=options.stream)


def key_for(url: str | None, variable: str) -> tuple[str, str]:
    """The key for a server and the variable that it came from, none for a server on this machine.

    OPENAI_API_KEY goes to nobody but the client's own address, unless it is named.

    Raises:
        HeedfulError: the variable is not set, or none is named for a server elsewhere.
    """
    if not variable and url and _here(url):
        return "none", ""
    if not variable and url:
        raise HeedfulError(
            "no key is named for this server.",
            where=url,
            mend="Put its key into an environment variable, and name that: --endpoint.key-variable NAME.",
        )
    if not variable and _here(os.environ.get(OWN_URL, "")):
        return "none", ""
    variable = variable or OWN_KEY
    key = os.environ.get(variable, "")
    if not key:
        raise HeedfulError(
            f"the environment variable {variable} holds no key.",
            where=url or os.environ.get(OWN_URL) or "endpoint",
            mend=f"Set it: export {variable}=...; or name a server: --judge MODEL@http://127.0.0.1:8000/v1.",
        )
    return key, variable


def _here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_process(name: str, folder: str, config: Reach, ledger: Ledger, display: Display) -> Asker:
    from heedful.models.fingerprint import model_fingerprint
    from heedful.models.policy import load_policy
    from heedful.pipeline.choices import resolve_device, resolve_precision
    from heedful.rollout.asking import PolicyAsker

    display.say(f"loading {name}")
    loading = config.loading
    policy = load_policy(
        folder or name,
        template=loading.template,
        pad_token=loading.pad_token,
        device=resolve_device(loading.device),
        revision=loading.revision,
    )
    policy.precision = resolve_precision(loading.precision, policy.device)
    # The weights are part of the name: a ledger must not answer for another training of the same folder.
    return PolicyAsker(policy, f"{IN_PROCESS}{name}#{model_fingerprint(policy)[:16]}", ledger=ledger)
