"""One ledger and one purse for all workers of a cluster, kept by an actor beside the driver.

A question is sent by one worker at a time: whoever asks for a reply that is not there takes the question on, and
others that need the same reply wait for it. So no request is paid twice, however the blocks fall. A worker that is not
heard of for a while has lost what it took on: its requests may have been paid for, and count so, and their questions
are free again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Reply
from heedful.feedback.ai.budget import Budget, Purse
from heedful.feedback.ai.ledger import LOST, Charge, Ledger

SILENCE = 30.0
"""Seconds after which a worker that does not call is taken to be gone; it calls every second."""

PATIENCE = 60.0
"""Seconds to wait for a ledger that a driver before this one may still hold."""


@dataclass
class _Worker:
    heard: float
    questions: set[str] = field(default_factory=set)
    requests: dict[int, Charge] = field(default_factory=dict)


class LedgerKeeper:
    """The ledger and the purse, with who has taken what on. Methods are fit for threads."""

    def __init__(self, path: str, budget: Budget) -> None:
        began = time.monotonic()
        while True:
            try:
                self.ledger = Ledger(Path(path))
                break
            except HeedfulError as error:
                if "another run" not in error.what or time.monotonic() - began > PATIENCE:
                    raise
                time.sleep(0.5)
        self.purse = Purse(budget, self.ledger.spent())
        self._workers: dict[str, _Worker] = {}
        self._lock = threading.Lock()

    def heard(self, who: str) -> None:
        """A worker is there."""
        with self._lock:
            self._workers.setdefault(who, _Worker(0.0)).heard = time.monotonic()
            for name, worker in list(self._workers.items()):
                if time.monotonic() - worker.heard > SILENCE:
                    self._forget(name, worker)

    def _forget(self, name: str, worker: _Worker) -> None:
        del self._workers[name]
        for number, reserved in worker.requests.items():
            self.ledger.failed(number, LOST, reserved)
            self.purse.settle(reserved, reserved)

    def find(self, who: str, key: str) -> Reply | bool:
        """The reply to a question; True where the worker is to ask it, False where another is about to."""
        self.heard(who)
        with self._lock:
            known = self.ledger.find(key)
            if known is not None:
                return known
            if any(key in worker.questions for name, worker in self._workers.items() if name != who):
                return False
            self._workers[who].questions.add(key)
            return True

    def release(self, who: str) -> None:
        """A worker is through with what it took on: what was not answered is anybody's again."""
        with self._lock:
            if who in self._workers:
                self._workers[who].questions.clear()

    def sent(self, who: str, key: str, reserved: Charge) -> int:
        """See `Ledger.sent`."""
        self.heard(who)
        with self._lock:
            number = self.ledger.sent(key, reserved)
            self._workers[who].requests[number] = reserved
            return number

    def paid(self, who: str, number: int, key: str, model: str, ask: Ask, reply: Reply, charge: Charge) -> None:
        """See `Ledger.paid`; a reply of a worker that was given up is as good as any."""
        with self._lock:
            self.ledger.paid(number, key, model, ask, reply, charge)
            if who in self._workers:
                self._workers[who].requests.pop(number, None)
                self._workers[who].questions.discard(key)

    def failed(self, who: str, number: int, outcome: str, charge: Charge) -> None:
        """See `Ledger.failed`."""
        with self._lock:
            self.ledger.failed(number, outcome, charge)
            if who in self._workers:
                self._workers[who].requests.pop(number, None)

    def call(self, of: str, method: str, *given: Any) -> Any:
        """A method of the ledger or the purse that nobody has to take on."""
        return getattr(getattr(self, of), method)(*given)

    def spent(self) -> Charge:
        """What was spent so far."""
        return self.purse.spent

    def close(self) -> dict[str, int]:
        """Close the ledger; says how requests ended."""
        outcomes = self.ledger.outcomes()
        self.ledger.close()
        return outcomes


class _Remote:
    """Calls an actor and gives its answer; an error for a person arrives as itself."""

    def __init__(self, keeper: Any) -> None:
        self.keeper = keeper

    def _call(self, method: str, *given: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self.keeper, method).remote(*given))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, HeedfulError):
                raise cause from None
            raise


class RemoteLedger(_Remote):
    """The ledger as a worker has it: the methods of `Ledger` that askers use.

    Args:
        waits: whether to wait for a reply that another worker has asked for. A server's costs money and is sent at
            once; a model in the worker's own process is asked in batches, and two of those could wait for each other.
    """

    def __init__(self, keeper: Any, *, waits: bool) -> None:
        super().__init__(keeper)
        self.waits = waits
        self._who = ""

    @property
    def who(self) -> str:
        """This process, by a name that no other has; from the first call on it is heard of every second."""
        if not self._who:
            import uuid

            self._who = uuid.uuid4().hex
            threading.Thread(target=self._stay, daemon=True).start()
        return self._who

    def _stay(self) -> None:
        import ray

        while True:
            try:
                self._call("heard", self._who)
            except ray.exceptions.RayError:
                return
            time.sleep(1.0)

    def __getstate__(self) -> dict[str, Any]:
        return {"keeper": self.keeper, "waits": self.waits, "_who": ""}

    def find(self, key: str) -> Reply | None:
        """See `Ledger.find`; waits where another worker is about to ask."""
        while True:
            found = self._call("find", self.who, key)
            if isinstance(found, Reply):
                return found
            if found or not self.waits:
                return None
            time.sleep(0.05)

    def release(self) -> None:
        """What this worker took on and did not get is anybody's again."""
        self._call("release", self.who)

    def sent(self, key: str, reserved: Charge) -> int:
        """See `Ledger.sent`."""
        return int(self._call("sent", self.who, key, reserved))

    def paid(self, request: int, key: str, model: str, ask: Ask, reply: Reply, charge: Charge) -> None:
        """See `Ledger.paid`."""
        self._call("paid", self.who, request, key, model, ask, reply, charge)

    def failed(self, request: int, outcome: str, charge: Charge) -> None:
        """See `Ledger.failed`."""
        self._call("failed", self.who, request, outcome, charge)

    def spent(self) -> Charge:
        """See `Ledger.spent`."""
        return self._call("spent")  # type: ignore[no-any-return]

    def fact(self, name: str) -> Any:
        """See `Ledger.fact`."""
        return self._call("call", "ledger", "fact", name)

    def learn(self, name: str, value: Any) -> None:
        """See `Ledger.learn`."""
        self._call("call", "ledger", "learn", name, value)


class RemotePurse(_Remote):
    """The purse as a worker has it."""

    def __init__(self, keeper: Any, budget: Budget) -> None:
        super().__init__(keeper)
        self.budget = budget

    @property
    def spent(self) -> Charge:
        """See `Purse.spent`."""
        return self._call("spent")  # type: ignore[no-any-return]

    def reserve(self, charge: Charge) -> str:
        """See `Purse.reserve`."""
        return str(self._call("call", "purse", "reserve", charge))

    def settle(self, reserved: Charge, actual: Charge) -> None:
        """See `Purse.settle`."""
        self._call("call", "purse", "settle", reserved, actual)

    def hopeless(self, charge: Charge) -> bool:
        """See `Purse.hopeless`."""
        return bool(self._call("call", "purse", "hopeless", charge))


@contextmanager
def keeping(path: Path, budget: Budget, *, waits: bool) -> Iterator[tuple[RemoteLedger, RemotePurse]]:
    """The ledger of a path with a budget, for all workers, in an actor on the driver's own host: the file is there.

    Args:
        waits: see `RemoteLedger`.

    Raises:
        HeedfulError: the ledger cannot be used.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    keeper = ray.remote(LedgerKeeper).options(num_cpus=0, max_concurrency=64, scheduling_strategy=here)
    actor = keeper.remote(str(path.absolute()), budget)
    ledger = RemoteLedger(actor, waits=waits)
    ledger.spent()
    yield ledger, RemotePurse(actor, budget)
    ray.get(actor.close.remote())
