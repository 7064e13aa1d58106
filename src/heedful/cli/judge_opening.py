"""A judge by its name on the command line: a model at an endpoint, or one in this process."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from heedful.data.held import held, is_held
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Asker
from heedful.feedback.ai.budget import Prices, Purse
from heedful.feedback.ai.functions import FunctionAsker
from heedful.feedback.ai.ledger import Ledger

if TYPE_CHECKING:
    from heedful.cli.judge import BudgetOptions, EndpointOptions
    from heedful.cli.opening import LoadingOptions
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


def opened(
    name: str, config: Reach, ledger: Ledger, purse: Purse, display: Display, *, logprobs: int = 0, forms: bool = False
) -> Asker:
    """Whoever a model's name means, ready to be asked: for texts, and for log-probabilities or JSON where that is said.

    Raises:
        HeedfulError: no key, no such server or model, no log-probabilities where they are needed; no such folder.
    """
    if is_held(name):
        return FunctionAsker(held(name), name, ledger)
    if name.startswith(IN_PROCESS):
        return _in_process(name.removeprefix(IN_PROCESS), config, ledger, display)
    from heedful.feedback.ai.endpoint import EndpointAsker, Pace
    from heedful.feedback.ai.preflight import preflight
    from heedful.feedback.ai.wires import Server

    model, _, url = name.partition("@")
    options = config.endpoint
    address = url or options.url
    if not model:
        raise HeedfulError(f"{name!r} names no model.", where="judge", mend="Write MODEL@URL.")
    key, variable = key_for(address, options.key_variable)
    server = Server(address, model, key, key_variable=variable, timeout=options.timeout)
    prices = Prices(config.budget.price_prompt, config.budget.price_completion)
    pace = Pace(options.concurrency, options.attempts, options.backoff)
    asker = EndpointAsker(server, ledger, purse=purse, prices=prices, pace=pace)
    for note in preflight(asker, top_logprobs=logprobs, schema=forms):
        display.say(note)
    return asker


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


def _in_process(folder: str, config: Reach, ledger: Ledger, display: Display) -> Asker:
    from heedful.cli.opening import open_policy
    from heedful.models.fingerprint import model_fingerprint
    from heedful.rollout.asking import PolicyAsker

    display.say(f"loading {folder}")
    policy = open_policy(folder, config.loading)
    # The weights are part of the name: a ledger must not answer for another training of the same folder.
    return PolicyAsker(policy, f"{IN_PROCESS}{folder}#{model_fingerprint(policy)[:16]}", ledger=ledger)
