"""Every reply that was paid for, on disk before it is used: a run that is killed asks nothing twice.

One SQLite file. A request is written down before it is sent, and again, with its reply, once that has come; the
reply is synced to disk before anybody sees it. What is left between the two after a `kill -9` are requests whose
replies were on their way: they may have been paid for, and are asked again. That window cannot be closed from here;
`Ledger.lost` counts them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Reply, Usage
from heedful.files import explain

LEDGER = "ledger.sqlite"
"""The file's name in the folder of whoever asks."""
FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT NOT NULL, ask TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, outcome TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
SENT, PAID, LOST = "sent", "paid", "lost"


@dataclass(frozen=True)
class Charge:
    """What one request or many took, or may have taken: requests, tokens, and money at the stated prices."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Charge) -> Charge:
        return Charge(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
        )

    def __sub__(self, other: Charge) -> Charge:
        return self + Charge(-other.requests, -other.prompt_tokens, -other.completion_tokens, -other.cost)


def charged_in(path: Path) -> Charge | None:
    """What all requests of a ledger's file took, read without touching it; None where the file is no ledger.

    Raises:
        HeedfulError: a run has it open.
    """
    try:
        db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)
    except sqlite3.OperationalError:
        return None
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if version != FORMAT or not {"replies", "requests", "facts"} <= tables:
            return None
        return _summed(db)
    except sqlite3.OperationalError as error:
        raise HeedfulError(
            "a run has this ledger open.", where=str(path), mend="Wait for it, or end it; then ask again."
        ) from error
    except sqlite3.DatabaseError:
        return None
    finally:
        db.close()


def _summed(db: sqlite3.Connection) -> Charge:
    statement = "SELECT count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost) FROM requests"
    requests, prompt, completion, cost = db.execute(statement).fetchone()
    return Charge(requests, prompt or 0, completion or 0, cost or 0.0)


class Ledger:
    """Replies by the hash of their question, and every request that was sent. Fit for threads; one run at a time.

    Args:
        path: the file; made where it is not there.

    Raises:
        HeedfulError: another run has it open, it is no ledger, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise self._unusable(error) from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from error
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        # An exclusive lock is held to the end and goes with the process, whatever ends it.
        # Only replies are synced: the rest outlives the process, and a power cut may cost a count.
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            self._db.execute(f"PRAGMA {pragma}")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version != FORMAT and (version or tables):
            raise HeedfulError("this file is no ledger of this version.", where=str(self.path), mend="Name another.")
        self._db.execute("BEGIN EXCLUSIVE")
        for table in _TABLES.split(";"):
            self._db.execute(table)
        self._db.execute(f"PRAGMA user_version={FORMAT}")
        self.lost = self._db.execute("UPDATE requests SET outcome=? WHERE outcome=?", (LOST, SENT)).rowcount
        """Requests that an earlier run had sent and whose replies it did not live to see."""
        self._db.execute("COMMIT")

    def _unusable(self, error: Exception) -> HeedfulError:
        if isinstance(error, OSError):
            return explain(error, self.path)
        if "locked" in str(error):
            return HeedfulError(
                "another run has this ledger open.",
                where=str(self.path),
                mend="Wait for it, or name another with --ledger.",
            )
        return HeedfulError(f"the ledger cannot be used ({error}).", where=str(self.path), mend="Name another file.")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def find(self, key: str) -> Reply | None:
        """The reply to a question, marked as cached; None where it was never answered."""
        with self._lock:
            row = self._db.execute("SELECT reply FROM replies WHERE key=?", (key,)).fetchone()
        return None if row is None else replace(_reply(json.loads(row[0])), cached=True)

    def sent(self, key: str, reserved: Charge) -> int:
        """Note a request that is about to be sent, with the most that it can take; gives its number."""
        row = (key, SENT, reserved.prompt_tokens, reserved.completion_tokens, reserved.cost)
        statement = "INSERT INTO requests (key,outcome,prompt_tokens,completion_tokens,cost) VALUES (?,?,?,?,?)"
        with self._lock:
            return int(self._write(statement, row).lastrowid or 0)

    def paid(self, request: int, key: str, model: str, ask: Ask, reply: Reply, charge: Charge) -> None:
        """Keep a reply, and what its request took. It is on disk when this returns."""
        with self._lock:
            try:
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("BEGIN IMMEDIATE")
                self._settle(request, PAID, charge)
                self._db.execute(
                    "INSERT OR REPLACE INTO replies VALUES (?,?,?,?)",
                    (key, model, _json(asdict(ask)), _json(asdict(reply))),
                )
                self._db.execute("COMMIT")
                self._db.execute("PRAGMA synchronous=NORMAL")
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def failed(self, request: int, outcome: str, charge: Charge) -> None:
        """Note that a request got no reply, and what it may have taken all the same."""
        with self._lock:
            self._settle(request, outcome, charge)

    def _settle(self, request: int, outcome: str, charge: Charge) -> None:
        row = (outcome, charge.prompt_tokens, charge.completion_tokens, charge.cost, request)
        self._write("UPDATE requests SET outcome=?, prompt_tokens=?, completion_tokens=?, cost=? WHERE id=?", row)

    def _write(self, statement: str, row: tuple[Any, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, row)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def spent(self) -> Charge:
        """All requests of all runs with this ledger."""
        with self._lock:
            return _summed(self._db)

    def outcomes(self) -> dict[str, int]:
        """How many requests ended in which way: paid, lost, timeout and so on."""
        with self._lock:
            return dict(self._db.execute("SELECT outcome, count(*) FROM requests GROUP BY outcome ORDER BY outcome"))

    def fact(self, name: str) -> Any:
        """What was found out about a server before, such as whether it takes a schema; None where nothing was."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def learn(self, name: str, value: Any) -> None:
        """Keep such a fact."""
        with self._lock:
            self._write("INSERT OR REPLACE INTO facts VALUES (?,?)", (name, _json(value)))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _reply(given: dict[str, Any]) -> Reply:
    return Reply(**{**given, "usage": Usage(**given["usage"]), "logprobs": tuple(given["logprobs"]),
                    "tokens": tuple(given["tokens"])})  # fmt: skip
