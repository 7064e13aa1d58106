"""The store reached through a studio's API, with a token and nothing else."""

from __future__ import annotations

import hashlib
import ipaddress
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from heedful.errors import HeedfulError
from heedful.feedback.client import TOKEN_VARIABLE, Paging, short, warn_of_held_back
from heedful.feedback.conflict import Conflict
from heedful.feedback.export_lineage import EXPORTED, write_thin_record
from heedful.feedback.wire import (
    PAGE,
    BatchSpec,
    BatchStatus,
    ItemRow,
    Judge,
    JudgmentRow,
    NewItem,
    NewJudgment,
    NotFoundError,
    SnapshotRow,
    Status,
    WorkRow,
    json_of,
    packed,
    read,
)
from heedful.files import atomic_write

T = TypeVar("T")
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
AGAIN = (429, 500, 502, 503, 504)
SECONDS = 60.0


class HttpClient(Paging):
    """A `FeedbackClient` on a studio.

    Connection errors and answers of 5xx and 429 are tried again, with growing waits: everything that writes carries
    a key, so that a second try writes nothing twice.

    Args:
        url: of the studio, as in https://studio.example.org.
        token: of the programme, made on its settings page.
        allow_insecure: speak without TLS to a studio that is not on this machine.
        transport: of httpx2, for tests.

    Raises:
        HeedfulError: no token, no URL, or no TLS.
    """

    def __init__(
        self, url: str, token: str, *, allow_insecure: bool = False, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.url = _checked(url, allow_insecure)
        if not token.isascii() or not token.isprintable() or not token.strip():
            mend = f"Make one on the programme's settings page, and set {TOKEN_VARIABLE}."
            raise HeedfulError("a studio is asked with a token.", where="token", mend=mend)
        headers = {"Authorization": f"Bearer {token.strip()}", "Accept": "application/json, application/jsonl"}
        self._http = httpx2.Client(
            base_url=f"{self.url}/api/", headers=headers, timeout=SECONDS, transport=transport, follow_redirects=False
        )

    def __repr__(self) -> str:
        return f"HttpClient({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self, programme: str) -> Status:
        """See FeedbackClient."""
        return read(Status, self._ask("GET", _path(programme)))

    def batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        return read(BatchStatus, self._ask("GET", _path(programme, "batches", batch)))

    def open_batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        return read(BatchStatus, self._ask("POST", _path(programme, "batches", batch, "open")))

    def pause_batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        return read(BatchStatus, self._ask("POST", _path(programme, "batches", batch, "pause")))

    def snapshot(self, programme: str, name: str, *, key: str = "", **filters: Any) -> SnapshotRow:
        """See FeedbackClient."""
        given = {what: list(value) for what, value in filters.items()}
        body = {"key": short(key), "name": name, **given}
        return read(SnapshotRow, self._ask("POST", _path(programme, "snapshots"), body=body))

    def export(self, programme: str, format: str, out: Path, **filters: Any) -> int:
        """See FeedbackClient."""
        names = {"batches": "batch", "rounds": "round", "raters": "rater"}
        query = {names.get(name, name): value for name, value in filters.items() if value}

        def fetch() -> tuple[int, int, str]:
            with self._stream("GET", _path(programme, "export"), {"format": format, **query}) as answer:
                held_back = int(answer.headers.get("Heedful-Held-Back", "0"))
                return _save(answer, Path(out)), held_back, answer.headers.get("Heedful-Held-Back-Items", "")

        rows, held_back, items = self._again(fetch)
        warn_of_held_back(held_back, items)
        if format in EXPORTED:
            write_thin_record(Path(out), programme, self.url, format, rows, str(filters.get("snapshot") or ""))
        return rows

    def withdrawn(self, programme: str) -> frozenset[str]:
        """See FeedbackClient."""
        return frozenset(self._ask("GET", _path(programme, "judgments", "withdrawn"))["judgments"])

    def work(self, programme: str, batch: str) -> WorkRow:
        """See FeedbackClient."""
        return read(WorkRow, self._ask("GET", _path(programme, "batches", batch, "work")))

    def _make_batch(self, programme: str, spec: BatchSpec, key: str) -> BatchStatus:
        given = {name: value for name, value in json_of(spec).items() if value is not None}
        return read(BatchStatus, self._ask("POST", _path(programme, "batches"), body={"key": key, **given}))

    def _push(self, programme: str, batch: str, items: list[NewItem], key: str) -> None:
        self._ask("POST", _path(programme, "batches", batch, "items"), body={"key": key, "items": json_of(items)})

    def _record(self, programme: str, judge: Judge, judgments: list[NewJudgment]) -> list[str]:
        rows = [{name: one for name, one in json_of(row).items() if one is not None} for row in judgments]
        body = {"judge": json_of(judge), "judgments": rows}
        return [
            str(key)
            for key in self._ask("POST", _path(programme, "judgments"), body=body, line="judgment")["judgments"]
        ]

    def _items_page(self, programme: str, batch: str, after: str) -> tuple[list[ItemRow], str]:
        page = self._ask("GET", _path(programme, "batches", batch, "items"), query={"cursor": after, "limit": PAGE})
        return [read(ItemRow, row) for row in page["items"]], str(page["next"])

    def _judgments_page(self, programme: str, wanted: dict[str, Any], after: str) -> tuple[list[JudgmentRow], str]:
        query = {name: json_of(value) for name, value in wanted.items() if value}
        page = self._ask("GET", _path(programme, "judgments"), query={**query, "cursor": after, "limit": PAGE})
        return [read(JudgmentRow, row) for row in page["judgments"]], str(page["next"])

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None, line: str = "item"
    ) -> Any:
        """The JSON of an answer.

        Raises:
            HeedfulError: the studio refused, could not be reached, or answers with no JSON.
        """

        def ask() -> Any:
            with self._stream(method, path, query or {}, body, line) as answer:
                try:
                    return answer.json()
                except ValueError as error:
                    raise HeedfulError(
                        "what answers there is no studio.", where=self.url, mend="Correct the address."
                    ) from error

        return self._again(ask)

    @contextmanager
    def _stream(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, line: str = "item"
    ) -> Iterator[httpx2.Response]:
        sent: dict[str, Any] = (
            {} if body is None else {"content": packed(body), "headers": {"Content-Type": "application/json"}}
        )
        with self._http.stream(method, path, params=query, **sent) as answer:
            if answer.status_code in AGAIN:
                raise _TryAgain(answer)
            if not answer.is_success:
                answer.read()
                raise self._refused(answer, line)
            if "json" not in answer.headers.get("content-type", ""):
                raise HeedfulError("what answers there is no studio.", where=self.url, mend="Correct the address.")
            if "jsonl" not in answer.headers["content-type"]:
                answer.read()
            yield answer

    def _again(self, act: Callable[[], T]) -> T:
        for left in range(TRIES - 1, -1, -1):
            try:
                return act()
            except (httpx2.TransportError, _TryAgain) as error:
                if not left:
                    what = str(error) or type(error).__name__
                    raise HeedfulError(
                        f"the studio cannot be reached ({what}).", where=self.url, mend="Look whether it runs."
                    ) from error
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (TRIES - 1 - left)) * random.uniform(0.5, 1)
                time.sleep(max(wait, error.wait if isinstance(error, _TryAgain) else 0))
        raise AssertionError

    def _refused(self, answer: httpx2.Response, line: str) -> HeedfulError:
        try:
            told = answer.json()
            detail, field, mend = str(told["detail"]), str(told.get("field") or ""), str(told.get("mend") or "")
            number = told.get("line")
        except (ValueError, TypeError, KeyError, AttributeError):
            detail, field, mend, number = f"it answered {answer.status_code}.", "", "", None
        where = f"{line} {number}, {field}" if number else field
        if answer.status_code == 401:
            return HeedfulError(detail, where=self.url, mend="Ask a lead of the programme for a new token.")
        if answer.status_code == 403:
            return HeedfulError(detail, where=self.url, mend="Ask a lead for a token that may do this.")
        if answer.status_code == 404:
            return NotFoundError(detail, where=where or self.url, mend=mend)
        if answer.status_code == 409:
            return Conflict(detail, where=where or self.url, mend=mend)
        return HeedfulError(detail, where=where or self.url, mend=mend)


class _TryAgain(Exception):  # noqa: N818 - it is caught here, and never seen
    """The studio is there and cannot answer now."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(f"it answered {answer.status_code}")
        told = answer.headers.get("retry-after", "")
        self.wait = min(float(told), LONGEST_WAIT * 2) if told.isdigit() else 0.0


def _checked(url: str, allow_insecure: bool) -> str:
    try:
        parsed = httpx2.URL(url.rstrip("/"))
    except (httpx2.InvalidURL, TypeError) as error:
        raise HeedfulError(f"{url!r} is no URL.", where="studio", mend="Write https://studio.example.org.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.userinfo:
        raise HeedfulError(
            f"{url!r} is no address of a studio.", where="studio", mend="Write https://studio.example.org."
        )
    if parsed.scheme != "https" and not _loopback(parsed.host) and not allow_insecure:
        raise HeedfulError(
            "without TLS anybody on the way can read the token.",
            where="studio",
            mend="Write https://, or allow it with allow_insecure where you trust the network.",
        )
    return str(parsed).rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _path(programme: str, *more: str) -> str:
    from urllib.parse import quote

    return "/".join(["programmes", *(quote(str(one), safe="") for one in (programme, *more))])


def _save(answer: httpx2.Response, out: Path) -> int:
    """Write an answer to a file that appears only once it is whole."""
    digest = hashlib.sha256()
    with atomic_write(out, "wb") as file:
        for piece in answer.iter_bytes():
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != answer.headers.get("Heedful-Sha256"):
            raise httpx2.ReadError("the export was cut off")
    return int(answer.headers["Heedful-Rows"])
