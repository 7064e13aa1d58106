"""The figures of "RLHF in pictures": their arithmetic, and that the scripts make every picture that pages show."""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

import pictures
import pictures_read as read
import screenshots
from heedful.errors import HeedfulError

DOCS = Path(__file__).resolve().parents[2] / "docs"
MADE_AS = {"speed.png": "peers.png", "speed-float32.png": "peers.png"}
"""Pictures that their study calls otherwise."""


def test_best_of_n_is_the_mean_over_every_choice_of_n() -> None:
    generator = np.random.default_rng(1)
    proxy, gold = generator.normal(size=(3, 7)), generator.normal(size=(3, 7))
    for n in (1, 2, 4, 7):
        chosen = [
            gold[row, max(picked, key=lambda k, row=row: proxy[row, k])]
            for row, picked in product(range(3), combinations(range(7), n))
        ]
        assert read.best_of(proxy, gold, n) == pytest.approx(np.mean(chosen))


def test_best_of_n_s_kl_is_that_of_its_distribution() -> None:
    assert read.kl_of_best(1) == 0
    assert read.kl_of_best(2) == pytest.approx(np.log(2) - 0.5)
    # n u^(n-1) on [0, 1] against the uniform one, summed on a fine grid
    u = (np.arange(200_000) + 0.5) / 200_000
    density = 8 * u**7
    assert read.kl_of_best(8) == pytest.approx((density * np.log(density)).mean(), abs=1e-4)


def test_tilting_is_the_best_that_its_price_allows() -> None:
    proxy = np.array([[0.0, 1.0, 2.0]])
    mean, kl = read.tilted(proxy, proxy, 0.7)
    reached = mean - 0.7 * kl
    assert reached == pytest.approx(0.7 * np.log(np.exp(proxy / 0.7).mean()))  # the known value of the optimum
    grid = np.linspace(0.01, 0.98, 98)
    for first, second in product(grid, grid):
        if first + second < 0.999:
            weight = np.array([first, second, 1 - first - second])
            assert weight @ proxy[0] - 0.7 * (weight * np.log(3 * weight)).sum() <= reached + 1e-9


def test_tilting_ends_at_no_move_and_at_the_best_answer() -> None:
    proxy, gold = np.array([[0.0, 1.0, 3.0, 2.0]]), np.array([[5.0, 1.0, -4.0, 2.0]])
    mean, kl = read.tilted(proxy, gold, 1e6)
    assert (mean, kl) == (pytest.approx(1.0, abs=1e-4), pytest.approx(0.0, abs=1e-9))
    mean, kl = read.tilted(proxy, gold, 1e-3)
    assert (mean, kl) == (pytest.approx(-4.0), pytest.approx(np.log(4)))


def test_what_is_no_quickstart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="no finished quickstart"):
        read.Quickstart(tmp_path)
    with pytest.raises(HeedfulError, match="no finished quickstart"):
        screenshots.take(tmp_path, tmp_path)


def test_every_picture_of_the_docs_is_shown_and_has_a_maker() -> None:
    text = "\n".join(page.read_text("utf-8") for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"])
    shown = {Path(target).name for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)}
    files = {path.name for path in DOCS.rglob("*.png")}
    assert files == shown
    taken = {f"{shot.name}.png" for shot in screenshots.SHOTS} | {"report.png"}
    code = "\n".join(p.read_text("utf-8") for f in ("benchmarks", "docs/site") for p in (DOCS.parent / f).glob("*.py"))
    for name in files - taken:
        made_as = MADE_AS.get(name, name)
        assert f'"{made_as}"' in code or f'"{Path(made_as).stem}":' in code, f"which command makes {name}?"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
def test_the_scripts_make_their_pictures_of_a_short_quickstart(tmp_path: Path) -> None:
    from heedful.cli.main import main

    run = tmp_path / "run"
    assert main(["quickstart", "--fast", "--out", str(run)]) == 0
    pictures.draw(run, run, tmp_path / "drawn")
    screenshots.take(run, tmp_path / "taken")
    drawn = {path.name for path in (tmp_path / "drawn").glob("*.png")}
    assert drawn == {path.name for path in (DOCS / "explain").glob("*.png")}
    assert {path.stem for path in (tmp_path / "taken").glob("*.png")} == {s.name for s in screenshots.SHOTS} | {
        "report"
    }
