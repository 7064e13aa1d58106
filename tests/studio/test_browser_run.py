"""A training run that is watched live in Chromium while its own process goes: people judge its fresh pairs there, and
it stops, or goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from lead_world import World, judge, world

from heedful.feedback import assignment, tokens
from heedful.feedback.models import Rater
from heedful.files import read_manifest
from heedful.studio.lead import runs as pages
from heedful.studio.runs.disk import Runs
from rating_browser import TASK, another
from stage_runs import config, write_inputs, write_model

pytest.importorskip("torch")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.timeout(900)]
TESTS = Path(__file__).resolve().parents[1]
GOING = 400.0
"""Seconds for what another process does, which loads torch first, on a machine whose cores are shared."""
PAIRS = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, and a policy of random weights."""
    folder = tmp_path_factory.mktemp("made")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    return folder


@pytest.fixture
def root(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the studio looks for runs."""
    settings.HEEDFUL_RUNS = str(tmp_path / "runs")
    for name in ("SECONDS", "LIST_SECONDS"):
        monkeypatch.setattr(pages, name, 1)
    pages._runs.cache_clear()
    yield tmp_path / "runs"
    pages._runs.cache_clear()


@dataclass
class Going:
    """`heedful ppo` in a process of its own, and where it says what it does."""

    process: subprocess.Popen[str]
    log: Path

    def until(self, page: Any, selector: str) -> None:
        """Wait for what the page shows once the run has come so far, for as long as the run lives."""
        started = time.monotonic()
        while page.query_selector(selector) is None:
            lives = self.process.poll() in (None, 0) and time.monotonic() - started < GOING
            assert lives, f"{selector}: {self.log.read_text()[-3000:]}"
            page.wait_for_timeout(100)

    def ended(self) -> None:
        """It has ended well."""
        assert self.process.wait(timeout=GOING) == 0, self.log.read_text()[-3000:]


@pytest.fixture
def start(made: Path, root: Path, live_server: Any, tmp_path: Path) -> Iterator[Callable[..., Going]]:
    """start(of, steps, meanwhile, every) -> a run that asks the live studio's raters."""
    from heedful.training.settings import to_yaml

    going: list[Going] = []

    def begin(of: World, steps: int, meanwhile: str, every: int) -> Going:
        gold = {"judge": f"people:{of.slug}", "studio": live_server.url, "meanwhile": meanwhile, "votes": 3}
        gold |= {"prompts": str(made / "inputs" / "prompts.jsonl"), "pairs": PAIRS, "block": PAIRS}
        watch = {"mode": "act", "gold": {**gold, "every_steps": every, "every_kl": 100.0}, "signs": ["length"]}
        given = config(
            "ppo", made / "inputs", made / "policy", made / "policy", root / "rounds" / "1" / "policy",
            watch=watch, steps=steps, optimiser={"learning_rate": 3e-2}, kl={"adaptive": False, "coefficient": 0.0},
            score={"normalise": "none", "missing_eos_penalty": 0.0},
            run={"checkpoint_every": 2, "sample_every": 2, "tensorboard": False},
        )  # fmt: skip
        given = replace(given, reward="run_reward:proxy")
        file, log = tmp_path / "ppo.yaml", tmp_path / "log"
        file.write_text(to_yaml(given), encoding="utf-8")
        _, token = tokens.create_token(of.programme, "run", list(tokens.SCOPES), author=of.admin)
        paths = [str(TESTS.parent / "src"), str(TESTS / "studio")]
        more = {"PYTHONPATH": os.pathsep.join(paths), "HEEDFUL_TOKEN": token, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "heedful.cli.main", "ppo", "--config", str(file)]
        with open(log, "w", encoding="utf-8") as out:
            process = subprocess.Popen(command, env=os.environ | more, stdout=out, stderr=subprocess.STDOUT, text=True)
        going.append(Going(process, log))
        return going[-1]

    yield begin
    for one in going:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def answers_of_the_start(root: Path) -> set[str]:
    """Those of its first check, and the others that later checks meet in turn."""
    kept = json.loads((Runs(root).all()[0].folder / "watch" / "check-00000000.json").read_text(encoding="utf-8"))
    return {one["text"] for replies in (kept["replies"], *kept.get("opponents", [])) for one in replies}


def judge_in_the_browser(page: Any, who: Rater, root: Path, *, likes_start: bool) -> None:
    """Somebody judges whatever lies before them, by the keyboard."""
    start = answers_of_the_start(root)
    for _ in range(PAIRS):
        page.wait_for_selector(TASK)
        held = assignment.current_assignment(who)
        assert held is not None
        texts = {entry.index: entry.completion.text for entry in held.item.entries.select_related("completion")}
        first_is_start = texts[held.order[0]] in start
        address = page.get_attribute(TASK, "action")
        page.keyboard.press("1" if first_is_start == likes_start else "7")
        page.keyboard.press("Enter")
        another(page, address)
    page.wait_for_selector("[data-none]")


def others_judge(of: World, root: Path, *, likes_start: bool) -> None:
    """The other raters say the same, pair by pair."""
    start = answers_of_the_start(root)
    for who in of.raters[1:]:
        while (held := assignment.next_assignment(who)) is not None:
            texts = {entry.index: entry.completion.text for entry in held.item.entries.select_related("completion")}
            judge(who, -2 if (texts[0] in start) == likes_start else 2)


def open_run(page: Any, of: World, run: Going) -> None:
    """From the list to the run, once it is there."""
    page.goto(of.at("runs/"))
    link = "a:text-is('rounds/1/policy')"
    run.until(page, link)
    page.goto(page.get_attribute(link, "href"))  # a click may meet a list that is just being put in its place
    run.until(page, "#run")


def test_people_say_that_it_got_worse_and_it_stops(
    visit: Callable[..., Any], axe: Callable[..., None], start: Callable[..., Going], root: Path
) -> None:
    of = world(items=0, raters=3)
    of.batch.delete()
    run = start(of, 40, "wait", every=4)
    page = visit(of.manager)
    open_run(page, of, run)
    rater = visit(of.raters[0].account)
    over, checked = "#run[data-state=rolled_back]", []
    run.until(page, f"[data-needed='{PAIRS}']")
    assert page.get_attribute("#run", "data-state") == "asking"
    assert page.get_by_text(f"{PAIRS} fresh pairs wait to be judged.").is_visible()
    assert page.get_by_text("Only raters who gave none of the training judgments").is_visible()
    assert page.get_by_text("The run waits until they are judged.").is_visible()
    curves = {one.get_attribute("data-curve") for one in page.query_selector_all("[data-curve]")}
    assert curves >= {"reward", "kl", "entropy", "length"}
    axe(page)
    while page.query_selector(over) is None:
        step = page.locator("[data-pending]").get_attribute("data-pending")
        checked.append(step)
        rater.goto(of.at("rate/"))
        judge_in_the_browser(rater, of.raters[0], root, likes_start=True)
        others_judge(of, root, likes_start=True)
        run.until(page, f"[data-check='{step}']")
        assert "worse" in page.locator(f"[data-check='{step}']").inner_text()
        run.until(page, f"[data-needed='{PAIRS}'], {over}")
    run.ended()
    assert page.get_by_text("stopped, and back to the starting policy").is_visible()
    assert len(checked) >= 2
    assert page.locator("[data-alarm=gold]").count() == len(checked)
    assert page.get_by_text(f"judgments spent: {3 * PAIRS * len(checked)}").is_visible()
    page.wait_for_selector(f"#samples[data-sampled='{checked[-1]}']")
    page.get_by_text(f"Show answers of step {checked[-1]} beside those of the start").click()
    said = page.locator(".beside .said").all_inner_texts()
    assert len(said) == 16
    assert set(said[::2]) <= {one.strip() or "—" for one in answers_of_the_start(root)}
    axe(page)
    manifest = read_manifest(root / "rounds" / "1" / "policy")
    assert manifest is not None
    assert "stop, and back to the starting policy" in manifest["stopped"]
    assert manifest["watch"]["gold"]["checks"][0]["panel"] == {"raters": 3, "trained": 0, "fresh_only": True}


@pytest.mark.slow  # test_watch_meanwhile holds that it trains on, the test above that pages follow a live run
def test_it_trains_on_while_people_judge_and_they_say_that_it_got_better(
    visit: Callable[..., Any], axe: Callable[..., None], start: Callable[..., Going], root: Path
) -> None:
    of = world(items=0, raters=3)
    of.batch.delete()
    run = start(of, 5, "train", every=3)
    page = visit(of.manager, phone=True, color_scheme="dark")
    open_run(page, of, run)
    run.until(page, f"[data-needed='{PAIRS}']")
    run.until(page, "#run[data-step='4']")  # it is past the step whose answers are judged
    assert page.get_by_text("The run trains on meanwhile.").is_visible()
    assert page.get_by_text("answers of step 3", exact=True).is_visible()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    rater = visit(of.raters[0].account, of.at("rate/"), phone=True)
    judge_in_the_browser(rater, of.raters[0], root, likes_start=False)
    others_judge(of, root, likes_start=False)
    run.until(page, "#run[data-state=finished]")
    run.ended()
    assert "better" in page.locator("[data-check='3']").inner_text()
    assert page.get_by_text("the best so far: the weights of step 3").is_visible()
    manifest = read_manifest(root / "rounds" / "1" / "policy")
    assert manifest is not None
    assert (manifest["steps"], manifest["watch"]["gold"]["best_step"]) == (5, 3)
