"""A round with people in it, end to end: init, the round waits, the studio serves, a person judges, the round goes on.

Every command is a process of its own, as a person would start it; the person is Chromium.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from architectures import WORDS
from heedful.cli.main import main
from heedful.files import read_manifest
from heedful.pipeline.merging import merge
from heedful.pipeline.rounds.programme import status
from heedful.pipeline.rounds.rows import read_said
from rating_browser import TASK, expect
from rounds_programme import SMALL
from served_studio import command, environment, run, studio
from stage_runs import write_model

pytestmark = pytest.mark.browser

SHORT: dict[str, Any] = {
    "rounds": 1,
    "prompts": {"reward": 0.3, "check": 0.4},
    "sample": {"pairs": 3, "max_new_tokens": 6},
    "judge": {"votes": 1},
    "check": {"pairs": 10, "judge": {"people": 1.0, "votes": 1}, "bound": "mean", "above": 0.0},
    "learn": {"consensus": "share"},
    "reward": {"epochs": 1, "batch_size": 8, "records": {"max_length": 64}, **SMALL},
    "ppo": {
        "steps": 1,
        "rollout": {"prompts_per_step": 4, "max_new_tokens": 6},
        "records": {"max_length": 64, "held_out": 0.0},
        "watch": {"mode": "off"},
        **SMALL,
    },
}
PASSWORD = "a long enough secret"
WAITING = 3
"""The exit code of a round that waits for people."""


def begin(folder: Path) -> None:
    """`heedful init` with the recipe for writing, on a model of random weights, cut short."""
    write_model(folder / "model")
    rows = [f"{WORDS[i % 40]} {WORDS[(7 * i + 3) % 40]} {WORDS[(11 * i + 5) % 38]}" for i in range(60)]
    (folder / "own.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in rows))
    words = ("--application", "writing", "--model", "model", "--prompts", "own.jsonl")
    assert main(["init", str(folder), *words]) == 0
    recipe = folder / "heedful.yaml"
    recipe.write_text(yaml.safe_dump(merge(yaml.safe_load(recipe.read_text()), SHORT), sort_keys=False))


def enter(page: Any, name: str, button: str) -> None:
    """Make an account on the page that a link opened."""
    page.get_by_label("Name to log in with").fill(name)
    for box in page.locator("input[type=password]").all():
        box.fill(PASSWORD)
    page.get_by_role("button", name=button).click()


def invitation(page: Any, slug: str) -> str:
    """A link for a rater, made by the admin."""
    page.wait_for_url("**/programmes/")
    page.goto(page.url.removesuffix("programmes/") + f"p/{slug}/invitations/")
    page.get_by_role("button", name="Make a link").click()
    return str(page.locator("#link").input_value())


def judge_until(page: Any, done: Callable[[], bool]) -> int:
    """Judge whatever comes, the first answer always the better, until somebody else says that it is enough."""
    judged = 0
    while not done():
        page.wait_for_selector(f"{TASK}, [data-none]")
        form = page.locator(TASK)
        if form.count() == 0:
            page.wait_for_timeout(500)
            page.reload()
            continue
        action = form.get_attribute("action")
        page.get_by_role("radio", name="A is much better").check()
        page.get_by_role("button", name="Send").click()
        expect(page.locator(f"{TASK}[action='{action}']")).to_have_count(0)
        judged += 1
        if judged == 1: page.screenshot(path="/tmp/recipes/judge.png", full_page=True)
    return judged


def test_people_judge_in_the_browser_and_the_round_goes_on_to_its_end(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tales"
    begin(folder)
    first = run("round", str(folder))
    assert first.returncode == WAITING, first.stderr
    assert "Waiting for judgments by people in 'round 1: train' of tales: 0 of" in first.stdout
    assert "The store is begun, with the programme 'tales'" in first.stderr
    waiting = status(folder)["waiting"]
    assert (waiting["filled"], waiting["seconds"] >= 0) == (0, True)
    with studio(folder) as (_, printed):
        link = re.search(r"^(http\S+/first/\S+/)$", printed, re.MULTILINE)
        assert link, printed
        admin = browser.new_context().new_page()
        admin.goto(link[1])
        enter(admin, "lead", "Make it")
        offered = invitation(admin, "tales"); admin.goto(admin.url.replace("invitations/","guidelines/")); admin.screenshot(path="/tmp/recipes/guide.png", full_page=True); admin.goto(admin.url.replace("guidelines/","rate/")); admin.screenshot(path="/tmp/recipes/adminrate.png")
        rater = browser.new_context().new_page()
        rater.goto(offered)
        enter(rater, "rater", "Take part")
        rater.wait_for_selector(TASK)
        going = subprocess.Popen(
            command("round", str(folder), "--wait", "--every", "0.5"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        try:
            judged = judge_until(rater, lambda: going.poll() is not None)
            said = going.communicate()[0]
        finally:
            if going.poll() is None:
                going.kill()
        assert going.returncode == 0, said
    assert "kept: rounds/1/policy" in said
    ended = status(folder)
    assert {row["state"] for row in ended["steps"]} == {"done"}
    assert ended["waiting"] is None
    assert_chain(folder, judged)
    # The programme's report (`heedful report FOLDER`) joins here: make it, open it in `browser`, look for the win rate.


def assert_chain(folder: Path, judged: int) -> None:
    """From the policy that was kept back to each judgment, by whom and by which guideline."""
    decided = (read_manifest(folder / "rounds/1/decide") or {})["record"]
    said = [one for name in ("judge", "check") for one in read_said(folder / f"rounds/1/{name}/judgments.jsonl")]
    assert decided["judgments"] == {"human": judged, "ai": 0, "simulated": 0}
    assert len(said) == judged >= 3
    assert set(decided["judged_in"]) == {"1/judge", "1/check"}
    assert {(one.kind, one.guideline) for one in said} == {("human", 1)}
    assert len({one.rater for one in said}) == 1
    assert len({one.judgment for one in said}) == judged
    policy = (read_manifest(folder / "rounds/1/policy") or {})["record"]
    assert set(policy["judged_in"]) == {"1/judge"}
