"""Fill a studio's database with a dialogue and two raters who are logged in: a program for `studio_process.store`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from studio_store import configure


def prepare(given: dict[str, Any]) -> dict[str, Any]:
    """The first rater holds the dialogue; the second could judge its turns.

    Args:
        given: `url` of the policy's endpoint.
    """
    from django.test import Client

    from feedback_factories import account, batch, item, programme, rater
    from heedful.feedback import assignment as work
    from heedful.feedback import endpoints

    of = programme(allow_private_addresses=True)
    endpoints.create_endpoint(of, "shop", given["url"], "first-model", actor=account())
    raters = [rater(of), rater(of)]
    item(batch(of), completions=0, kind="dialogue", messages=[{"role": "user", "content": "Ask about a parcel."}])
    found = work.next_assignment(raters[0])
    assert found is not None
    cookies = []
    for one in raters:
        browser = Client()
        browser.force_login(one.account, backend="django.contrib.auth.backends.ModelBackend")
        cookies.append(browser.cookies["heedful"].value)
    return {"slug": of.slug, "assignment": str(found.pk), "cookies": cookies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("prepare",))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--database", required=True)
    own = parser.parse_args()
    configure(own.folder, own.database)
    json.dump(prepare(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
