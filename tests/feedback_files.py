"""Files to import, in memory."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from heedful.feedback.import_source import Source


def jsonl(*rows: Any, name: str = "rows.jsonl") -> Source:
    return Source(name, data="".join(json.dumps(row) + "\n" for row in rows).encode())


def table(header: list[str], *rows: list[str], name: str = "rows.csv") -> Source:
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t" if name.endswith(".tsv") else ",")
    writer.writerows([header, *rows])
    return Source(name, data=out.getvalue().encode())
