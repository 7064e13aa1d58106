"""How models are asked, reached, paid and opened: what `heedful judge` and a programme's recipe both say of AI judges.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.training.config.common import Precision


@dataclass(frozen=True)
class LoadingOptions:
    """How a model and its tokenizer are opened."""

    template: str = "auto"
    """Chat template: auto (the tokenizer's own), a named one (chatml, plain, raw) or a Jinja file."""
    pad_token: str | None = None
    """A token to pad with, added when the tokenizer lacks one; never the end-of-turn token."""
    revision: str | None = None
    """Hub revision: a branch, tag or commit."""
    precision: Precision = "auto"
    """Compute type. auto: bfloat16 where it pays."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class AskingOptions:
    """How a judge is asked."""

    temperature: float = 0.0
    """0 for the likeliest answer."""
    max_tokens: int = 1024
    """The longest rationale, critique or form, in tokens."""
    top_logprobs: int = 20
    """Alternatives to the letter that a server lists, of --way logprob."""
    ties: bool = True
    """Whether a judge may say that neither is better."""
    rubric: Path | None = None
    """A text file that judges go by; by default the programme's guideline, or heedful's own starter."""
    seed: int = 0
    """Of orders that are drawn; sent to the server too."""

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0, 2), ("max_tokens", 16, 32_768), ("top_logprobs", 2, 100)):
            if not low <= getattr(self, name) <= high:
                raise HeedfulError(
                    f"it is {getattr(self, name)}.", where=f"asking.{name}", mend=f"It lies between {low} and {high}."
                )


@dataclass(frozen=True)
class EndpointOptions:
    """How servers are reached, and how hard they are worked."""

    url: str | None = None
    """Of judges named without one: https://host/v1; by default the openai client's own, or OPENAI_BASE_URL."""
    key_variable: str = ""
    """The environment variable that holds the key. By default OPENAI_API_KEY for the client's own address, and no key
    for a server on this machine."""
    timeout: float = 120.0
    """Seconds for a whole answer; with `stream` for the next piece of it."""
    stream: bool = False
    """Take answers piece by piece: for slow models, and servers behind what cuts idle connections."""
    concurrency: int = 8
    """Requests under way at once."""
    attempts: int = 6
    """Requests for one question, the first included, where the server is busy or stumbles."""
    backoff: float = 1.0
    """Seconds before the second attempt, about; doubled for each further one."""


@dataclass(frozen=True)
class BudgetOptions:
    """The most that may be spent, over all runs with one ledger. What is under way counts at its most."""

    requests: int | None = None
    """Requests, those that failed included."""
    tokens: int | None = None
    """Tokens of prompts and answers."""
    money: float | None = None
    """Money, at the prices below."""
    price_prompt: float = 0.0
    """Price of a million tokens of prompts."""
    price_completion: float = 0.0
    """Price of a million tokens of answers."""

    def __post_init__(self) -> None:
        if self.money is not None and not (self.price_prompt > 0 or self.price_completion > 0):
            raise HeedfulError(
                "a budget of money needs prices.",
                where="budget.money",
                mend="Give --budget.price-prompt and --budget.price-completion, for a million tokens.",
            )
