"""Models behind an OpenAI-compatible endpoint as an `Asker`: many requests at once, paid for once, within a budget."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, BudgetSpentError, Failure, Reply
from heedful.feedback.ai.budget import Budget, Prices, Purse, most
from heedful.feedback.ai.ledger import Charge, Ledger
from heedful.feedback.ai.wires import Fault, Server

PATIENCE = 120.0
"""Seconds that a server may ask to be left alone between two attempts; what it asks beyond that is not waited for."""
OVER = {
    "requests": "the budget of {limit:,} requests is spent.",
    "tokens": "the budget of {limit:,} tokens is spent.",
    "money": "the budget of {limit:g} is spent.",
}


@dataclass(frozen=True)
class Pace:
    """How hard a server is worked.

    Args:
        concurrency: requests under way at once.
        attempts: requests for one question, the first included.
        backoff: seconds before the second attempt, about; doubled for each further one, to a minute at most.
    """

    concurrency: int = 8
    attempts: int = 6
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1 or not self.backoff >= 0:
            raise HeedfulError("concurrency and attempts are 1 or more, the back-off 0 or more.", where="pace")


class EndpointAsker:
    """Asks a model behind an endpoint.

    A question that the ledger has a reply to is not sent. Rate limits (429), server errors (5xx), timeouts, broken
    connections and replies that make no sense are tried again, later each time, and not before the server's
    Retry-After has passed; a rate limit holds back all requests. When the consumer stops, or Ctrl-C is pressed, no
    further request is sent, and the replies under way are waited for and kept.

    Args:
        server: reaches the model.
        ledger: keeps what is paid for.
        purse: what may be spent, shared by all who spend from it; by default without a limit.
        prices: of tokens.
        pace: how hard to work the server.
    """

    def __init__(
        self,
        server: Server,
        ledger: Ledger,
        *,
        purse: Purse | None = None,
        prices: Prices | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.server, self.ledger = server, ledger
        self.prices, self.pace = prices or Prices(), pace or Pace()
        self.purse = purse or Purse(Budget(), ledger.spent())
        self._stopped = threading.Event()
        self._clear = threading.Condition()
        self._held_until = 0.0

    @property
    def model(self) -> str:
        """Whom it asks: the model's name and the server's address, as ledgers file it."""
        return f"{self.server.model}@{self.server.url}"

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Asker`. `asks` is read only as fast as requests are sent."""
        numbered = enumerate(asks)
        self._stopped.clear()
        under_way: dict[Future[Reply | Failure], str] = {}
        wanted: dict[str, list[int]] = {}  # equal asks are one request
        over = ""
        pool = ThreadPoolExecutor(self.pace.concurrency, thread_name_prefix="ask")
        try:
            more = True
            while more or under_way:
                while more and len(under_way) < self.pace.concurrency:
                    entry = next(numbered, None)
                    if entry is None:
                        more = False
                        break
                    number, ask = entry
                    key = ask.key(self.model)
                    if key in wanted:
                        wanted[key].append(number)
                        continue
                    known = self.ledger.find(key)
                    if known is not None:
                        yield number, known
                        continue
                    if over:
                        continue  # what the ledger knows is still to be had
                    wanted[key] = [number]
                    under_way[pool.submit(self._answer, ask, key)] = key
                done, _ = wait(under_way, return_when=FIRST_COMPLETED) if under_way else (set(), set())
                for future in done:
                    numbers = wanted.pop(under_way.pop(future))
                    try:
                        outcome = future.result()
                    except _OverError as error:
                        over = error.limit
                        continue
                    for number in numbers:
                        yield number, outcome
        finally:
            self._stop()
            pool.shutdown(wait=True)
        if over:
            raise self._budget_spent(over)

    def once(self, ask: Ask) -> Reply | Fault:
        """One attempt at a question that no ledger answers, such as a first look at a server.

        Raises:
            BudgetSpentError: the budget does not allow it.
        """
        try:
            return self._once(ask, ask.key(self.model), self._reserve(ask))
        except _OverError as error:
            raise self._budget_spent(error.limit) from error

    def wait(self, seconds: float) -> None:
        """Let time pass, unless somebody stops the asker."""
        self._stopped.wait(seconds)

    def _stop(self) -> None:
        self._stopped.set()
        with self._clear:
            self._clear.notify_all()

    def _budget_spent(self, limit: str) -> BudgetSpentError:
        what = OVER[limit].format(limit=getattr(self.purse.budget, limit))
        spent = self.purse.spent
        told = f"Spent so far: {spent.requests:,} requests, {spent.tokens:,} tokens"
        money = f", {spent.cost:.4f} of money" if self.prices != Prices() else ""
        return BudgetSpentError(
            what,
            where=f"budget.{limit}",
            mend=f"{told}{money}. Raise it and run the same command again: nothing that was answered is asked again.",
        )

    def _answer(self, ask: Ask, key: str) -> Reply | Failure:
        """All attempts at one question.

        Raises:
            HeedfulError: the server can answer nothing at all.
            _OverError: the budget does not allow the next attempt.
        """
        fault = Fault("stopped", "stopped before it was sent", again=False)
        sent = 0
        for attempt in range(self.pace.attempts):
            if attempt:
                self._hold(self._pause(attempt, fault), everybody=fault.reason == "rate limit")
            self._wait_for_turn()
            if self._stopped.is_set():
                break
            reserved = self._reserve(ask)
            sent += 1
            outcome = self._once(ask, key, reserved)
            if isinstance(outcome, Reply):
                return outcome
            fault = outcome
            if fault.fatal is not None:
                self._stop()
                raise fault.fatal
            if not fault.again or fault.retry_after > PATIENCE:
                break
        return Failure(fault.reason, fault.detail, sent)

    def _reserve(self, ask: Ask) -> Charge:
        """Set the most that a request can take aside; where others under way hold it, once they are through.

        Raises:
            _OverError: the budget does not allow it.
        """
        reserved = most(ask, self.prices)
        while True:
            limit = self.purse.reserve(reserved)
            if not limit:
                return reserved
            if self.purse.hopeless(reserved) or self._stopped.is_set():
                raise _OverError(limit)
            with self._clear:
                self._clear.wait(0.05)

    def _once(self, ask: Ask, key: str, reserved: Charge) -> Reply | Fault:
        """One request, from its note in the ledger to its end there."""
        number = self.ledger.sent(key, reserved)
        actual = reserved  # what was sent may have been paid for, whatever went wrong
        try:
            got = self.server.request(ask, self.prices)
            if isinstance(got, Fault):
                actual = reserved if got.maybe_paid else Charge(1)
                self.ledger.failed(number, got.reason, actual)
                return got
            if got.usage.completion_tokens or got.usage.prompt_tokens:
                actual = Charge(1, got.usage.prompt_tokens, got.usage.completion_tokens, got.cost)
            self.ledger.paid(number, key, self.model, ask, got, actual)
            return got
        finally:
            self.purse.settle(reserved, actual)
            with self._clear:
                self._clear.notify_all()

    def _pause(self, attempt: int, fault: Fault) -> float:
        """Seconds before the next attempt: doubled each time, with a quarter of chance, or what the server asks."""
        own = min(60.0, self.pace.backoff * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
        return max(own, fault.retry_after)

    def _hold(self, seconds: float, *, everybody: bool) -> None:
        if everybody:
            with self._clear:
                self._held_until = max(self._held_until, self.server.now() + seconds)
        else:
            self.wait(seconds)

    def _wait_for_turn(self) -> None:
        while not self._stopped.is_set():
            left = self._held_until - self.server.now()
            if left <= 0:
                return
            self._stopped.wait(left)


class _OverError(Exception):
    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit
