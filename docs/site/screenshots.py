"""Take the screenshots of docs/images again, from the real thing in Chromium: `make screenshots`.

usage: python docs/site/screenshots.py [runs/quickstart] [folder to write to]

Starts `heedful studio --demo` in an empty folder, makes accounts by the links that it prints, and goes where the
pictures are; the report and the run's page are those of a finished quickstart. Chromium is the one on the path, or
HEEDFUL_CHROMIUM. The other pictures of docs/images are drawn by their studies (benchmarks/), those of docs/explain by
docs/site/pictures.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError

OUT = Path(__file__).resolve().parent.parent / "images"
DESKTOP = {"width": 1280, "height": 860}
REPORT = {"width": 1200, "height": 1330}
PATIENCE = 180
"""Seconds for the studio to say where it is, and for a page to load, on a machine that does other things too."""
PASSWORD = "a long and harmless one"


@dataclass(frozen=True)
class Shot:
    """One picture of the studio: who looks, at which page, and what is pressed or opened before."""

    name: str
    who: str
    path: str
    press: str = ""
    ready: str = "main"
    """A selector that is there once the page shows what the picture is of."""


SHOTS = (
    Shot("studio", "rater 1", "/p/demo/rate/", press="2", ready="text=Which answer is better?"),
    Shot("studio-overview", "lead", "/p/demo/"),
    Shot("studio-trust", "lead", "/p/demo/trust/"),
    Shot("studio-run", "lead", "/p/demo/runs/"),
)
NAMES = {"lead": "lena", "rater 1": "rita"}


@contextmanager
def studio(folder: Path, runs: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The demo's address and its links, while it runs.

    Raises:
        HeedfulError: it does not start.
    """
    words = [sys.executable, "-m", "heedful.cli.main", "studio", "--demo", "--port", "0", "--runs", str(runs.resolve())]
    with open(folder / "log.txt", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _address(folder / "log.txt", process)
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _address(log: Path, process: subprocess.Popen[bytes]) -> tuple[str, dict[str, str]]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        said = log.read_text(encoding="utf-8")
        links = dict(re.findall(r"^  (lead|rater \d) +(http\S+)$", said, re.MULTILINE))
        found = re.search(r"The studio is at (http\S+?)/?$", said, re.MULTILINE)
        if found and "Ctrl-C" in said:
            return found[1], links
        time.sleep(0.2)
    raise HeedfulError("the studio does not start.", where=str(log), mend=log.read_text(encoding="utf-8")[-500:])


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser.

    Raises:
        HeedfulError: there is none.
    """
    from playwright.sync_api import sync_playwright

    path = os.environ.get("HEEDFUL_CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise HeedfulError("there is no Chromium.", mend="Install it, or name it: HEEDFUL_CHROMIUM=/path/to/chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def page_of(browser: Any, size: dict[str, int]) -> Any:
    """A page in a context of its own, in English and in light colours."""
    page = browser.new_context(viewport=size, locale="en-GB", color_scheme="light").new_page()
    page.set_default_timeout(PATIENCE * 1000)
    return page


def join(browser: Any, link: str, name: str) -> Any:
    """Follow an invitation and make the account; the page stays logged in."""
    page = page_of(browser, DESKTOP)
    page.goto(link)
    for field in page.locator("form.stack input:visible").all():
        kind = field.get_attribute("type")
        if kind == "checkbox":
            field.check()
        else:
            field.fill(PASSWORD if kind == "password" else name)
    page.locator("form.stack button.primary").click()
    page.wait_for_load_state("networkidle")
    return page


def shoot(page: Any, base: str, shot: Shot, out: Path) -> None:
    """Go there, wait until it is there, take it."""
    page.goto(base + shot.path)
    if shot.path.endswith("/runs/"):  # the run that learns online
        page.locator("main a", has_text="ppo").first.click()
    page.wait_for_selector(shot.ready)
    page.wait_for_load_state("networkidle")
    if shot.press:
        page.keyboard.press(shot.press)
    page.screenshot(path=out / f"{shot.name}.png")
    print(out / f"{shot.name}.png")


def take(run: Path, out: Path = OUT) -> None:
    """Take them all.

    Raises:
        HeedfulError: no finished quickstart there, no Chromium, or no studio.
    """
    report = run / "report" / "index.html"
    if not report.exists():
        raise HeedfulError("no finished quickstart is there.", where=str(run), mend="Run: heedful quickstart")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder), run) as (base, links), chromium() as browser:
        pages = {who: join(browser, links[who], name) for who, name in NAMES.items()}
        for shot in SHOTS:
            shoot(pages[shot.who], base, shot, out)
        page = page_of(browser, REPORT)
        page.goto(report.resolve().as_uri())
        page.screenshot(path=out / "report.png")
        print(out / "report.png")


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    take(given[0] if given else Path("runs/quickstart"), *given[1:2])
