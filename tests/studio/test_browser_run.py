"""A training run that is watched live in Chromium while its own process goes: people judge its fresh pairs there, and
it stops, or goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
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
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
TESTS = Path(__file__).resolve().parents[1]
GOING = 240_000
"""Milliseconds for what another process does, which loads torch first, on a machine whose cores are shared."""
PAIRS = 10


def proxy(prompts: Any, completions: list[str]) -> list[float]:
    """A reward that pays for words, whatever they are."""
    return [float(len(text.split())) for text in completions]


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


@pytest.fixture
def start(made: Path, root: Path, live_server: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """start(of, steps, meanwhile) -> `heedful ppo` in a process of its own, which asks the live studio's raters."""
    from heedful.training.settings import to_yaml

    going: list[subprocess.Popen[str]] = []

    def begin(of: World, steps: int, meanwhile: str) -> subprocess.Popen[str]:
        gold = {"judge": f"people:{of.slug}", "studio": live_server.url, "meanwhile": meanwhile, "votes": 3}
        gold |= {"prompts": str(made / "inputs" / "prompts.jsonl"), "pairs": PAIRS, "block": PAIRS}
        watch = {"mode": "act", "gold": {**gold, "every_steps": 4, "every_kl": 100.0}, "signs": ["length"]}
        given = config(
            "ppo", made / "inputs", made / "policy", made / "policy", root / "rounds" / "1" / "policy",
            watch=watch, steps=steps, optimiser={"learning_rate": 3e-2}, kl={"adaptive": False, "coefficient": 0.0},
            score={"normalise": "none", "missing_eos_penalty": 0.0},
            run={"checkpoint_every": 2, "sample_every": 2, "tensorboard": False},
        )  # fmt: skip
        file = tmp_path / "ppo.yaml"
        text = to_yaml(given).replace(f"reward: {made / 'policy'}", "reward: test_browser_run:proxy")
        file.write_text(text, encoding="utf-8")
        _, token = tokens.create_token(of.programme, "run", list(tokens.SCOPES), author=of.admin)
        paths = [str(TESTS.parent / "src"), str(TESTS), str(TESTS / "studio")]
        more = {"PYTHONPATH": os.pathsep.join(paths), "HEEDFUL_TOKEN": token, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "heedful.cli.main", "ppo", "--config", str(file)]
        log = open(tmp_path / "log", "w", encoding="utf-8")  # noqa: SIM115
        going.append(subprocess.Popen(command, env=os.environ | more, stdout=log, stderr=subprocess.STDOUT, text=True))
        log.close()
        return going[-1]

    yield begin
    for process in going:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def answers_of_the_start(root: Path) -> set[str]:
    return {one.text for one in Runs(root).all()[0].answers(0)}


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


def open_run(page: Any, of: World) -> None:
    """From the list to the run, once it is there."""
    page.goto(of.at("runs/"))
    page.get_by_role("link", name="rounds/1/policy").click(timeout=GOING)
    page.wait_for_selector("#run")


def ended(process: Any, tmp_path: Path) -> None:
    """The process has ended well."""
    assert process.wait(timeout=GOING / 1000) == 0, (tmp_path / "log").read_text()


def test_people_say_that_it_got_worse_and_it_stops(
    visit: Callable[..., Any], axe: Callable[..., None], start: Callable[..., Any], root: Path, tmp_path: Path
) -> None:
    of = world(items=0, raters=3)
    of.batch.delete()
    process = start(of, 40, "wait")
    page = visit(of.manager)
    open_run(page, of)
    rater = visit(of.raters[0].account)
    for step in (4, 8):
        page.wait_for_selector(f"[data-needed='{PAIRS}']", timeout=GOING)
        assert page.get_attribute("#run", "data-state") == "asking"
        assert page.get_by_text(f"{PAIRS} fresh pairs wait to be judged.").is_visible()
        assert page.get_by_text("Only raters who gave none of the training judgments").is_visible()
        assert page.get_by_text("The run waits until they are judged.").is_visible()
        assert {one.get_attribute("data-curve") for one in page.query_selector_all("[data-curve]")} >= {
            "reward", "kl", "entropy", "length",
        }  # fmt: skip
        if step == 4:
            axe(page)
        rater.goto(of.at("rate/"))
        judge_in_the_browser(rater, of.raters[0], root, likes_start=True)
        others_judge(of, root, likes_start=True)
        row = page.locator(f"[data-check='{step}']")
        row.wait_for(timeout=GOING)
        assert "worse" in row.inner_text()
    page.wait_for_selector("#run[data-state=rolled_back]", timeout=GOING)
    ended(process, tmp_path)
    assert page.get_by_text("stopped, and back to the starting policy").is_visible()
    assert page.locator("[data-alarm=gold]").count() == 2
    assert page.get_by_text("judgments spent: 60").is_visible()
    page.wait_for_selector("#samples[data-sampled='8']")
    page.get_by_text("Show answers of step 8 beside those of the start").click()
    said = page.locator(".beside .said").all_inner_texts()
    assert len(said) == 16
    assert set(said[::2]) <= {one.strip() or "—" for one in answers_of_the_start(root)}
    axe(page)
    manifest = read_manifest(root / "rounds" / "1" / "policy")
    assert manifest is not None
    assert "second time in a row" in manifest["stopped"]
    assert manifest["watch"]["gold"]["checks"][0]["panel"] == {"raters": 3, "trained": 0, "fresh_only": True}


def test_it_trains_on_while_people_judge_and_they_say_that_it_got_better(
    visit: Callable[..., Any], axe: Callable[..., None], start: Callable[..., Any], root: Path, tmp_path: Path
) -> None:
    of = world(items=0, raters=3)
    of.batch.delete()
    process = start(of, 6, "train")
    page = visit(of.manager, phone=True, color_scheme="dark")
    open_run(page, of)
    page.wait_for_selector(f"[data-needed='{PAIRS}']", timeout=GOING)
    page.wait_for_selector("#run[data-step='5']", timeout=GOING)  # it is past the step whose answers are judged
    assert page.get_by_text("The run trains on meanwhile.").is_visible()
    assert page.get_by_text("answers of step 4", exact=True).is_visible()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    rater = visit(of.raters[0].account, of.at("rate/"), phone=True)
    judge_in_the_browser(rater, of.raters[0], root, likes_start=False)
    others_judge(of, root, likes_start=False)
    page.wait_for_selector("#run[data-state=finished]", timeout=GOING)
    ended(process, tmp_path)
    assert "better" in page.locator("[data-check='4']").inner_text()
    assert page.get_by_text("the best so far: the weights of step 4").is_visible()
    manifest = read_manifest(root / "rounds" / "1" / "policy")
    assert manifest is not None
    assert (manifest["steps"], manifest["watch"]["gold"]["best_step"]) == (6, 4)
