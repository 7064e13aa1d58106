"""The docs site builds without a warning and without the network, and its pages ask nothing of other hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    words = ["-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-c", str(SITE), "-d", str(out / "trees")]
    return subprocess.run(
        [sys.executable, *words, str(source), str(out / "html")], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built once."""
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stderr
    return out / "html"


def small_site(folder: Path, first: str = "# First\n\nSee [the second](second.md#here).\n") -> Path:
    """Two pages and a picture."""
    folder.mkdir()
    (folder / "nav.yaml").write_text("- Pages: [first, second]\n")
    (folder / "index.md").write_text("# Front\n\nSee [the first](first.md).\n")
    (folder / "first.md").write_text(first)
    (folder / "second.md").write_text("# Second\n\n## Here\n\n![A dot](dot.svg)\n")
    (folder / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>')
    return folder


def test_a_site_without_a_fault_is_built(tmp_path: Path) -> None:
    done = build(small_site(tmp_path / "docs"), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert 'href="second.html#here"' in (tmp_path / "out" / "html" / "first.html").read_text()


FAULTS = {
    "a broken link": ("# First\n\nSee [nothing](nowhere.md).\n", "nowhere.md"),
    "a broken anchor": ("# First\n\nSee [nothing](second.md#nowhere).\n", "nowhere"),
    "a missing image": ("# First\n\n![Nothing](nowhere.png)\n", "nowhere.png"),
}


def test_each_fault_is_named_and_fails_the_build(tmp_path: Path) -> None:
    docs = small_site(tmp_path / "docs")
    for number, (first, _) in enumerate(FAULTS.values()):
        (docs / f"fault{number}.md").write_text(first)
    (docs / "nav.yaml").write_text(f"- Pages: [first, second, {', '.join(f'fault{n}' for n in range(len(FAULTS)))}]\n")
    (docs / "orphan.md").write_text("# Nobody leads here\n")
    done = build(docs, tmp_path / "out")
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    for number, (fault, (_, named)) in enumerate(FAULTS.items()):
        assert any(f"fault{number}.md" in line and named in line for line in lines), fault
    assert any("orphan.md" in line and "toctree" in line for line in lines)


def test_every_page_of_the_docs_is_built(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    missing = [page for page in sources if not (site / page.with_suffix(".html")).exists()]
    assert not missing


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    tag = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"((?:https?:)?//[^\"]*)\"")
    for page in site.rglob("*.html"):
        assert tag.findall(page.read_text(encoding="utf-8")) == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import\s+['\"]?(?:https?:)?//", sheet.read_text("utf-8"))


def test_the_search_knows_words_names_and_titles(site: Path) -> None:
    script = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("Search.setIndex(").rstrip(")"))
    pages = {index["docnames"][one] for one in listed(index["terms"].get("kl_budget"))}
    assert {"explain/reading-a-run", "reference/metrics"} <= pages
    assert "Coming from TRL" in index["titles"]
    assert (site / "search.html").exists()


def listed(found: int | list[int] | None) -> list[int]:
    """The index has one page as a number, several as a list."""
    return found if isinstance(found, list) else [] if found is None else [found]
