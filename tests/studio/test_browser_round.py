"""A round with people in it, end to end: init, the round waits, the studio serves, a person judges, the round goes on.

Every command is a process of its own, as a person would start it; the person is Chromium.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from architectures import WORDS
from heedful.cli.main import main
from heedful.files import read_manifest
from heedful.pipeline.costs import programme_costs
from heedful.pipeline.merging import merge
from heedful.pipeline.rounds.programme import status
from heedful.pipeline.rounds.rows import read_said
from rating_browser import TASK, expect
from rounds_programme import SMALL
from served_studio import command, environment, studio
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
            page.wait_for_timeout(1000)
            page.reload()
            continue
        action = form.get_attribute("action")
        page.get_by_role("radio", name="A is much better").check()
        page.get_by_role("button", name="Send").click()
        expect(page.locator(f"{TASK}[action='{action}']")).to_have_count(0)
        judged += 1
    return judged


@pytest.fixture
def going(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`heedful round --wait` on a programme that was just begun; what it says goes into said.txt."""
    begin(tmp_path / "tales")
    words = command("round", str(tmp_path / "tales"), "--wait", "--every", "0.5")
    with (
        open(tmp_path / "said.txt", "w") as said,
        subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, text=True, env=environment()) as process,
    ):
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.timeout(900)  # processes that load torch, on a machine that may be busy
def test_people_judge_in_the_browser_and_the_round_goes_on_to_its_end(
    browser: Any, going: subprocess.Popen[str], tmp_path: Path
) -> None:
    folder = tmp_path / "tales"
    while (waiting := status(folder)["waiting"]) is None:
        assert going.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.5)
    assert waiting["for"] == "judgments by people in 'round 1: train' of tales"
    assert (waiting["filled"], waiting["seconds"] >= 0) == (0, True)
    with studio(folder) as (_, printed):
        link = re.search(r"^(http\S+/first/\S+/)$", printed, re.MULTILINE)
        assert link, printed
        admin = browser.new_context().new_page()
        admin.goto(link[1])
        enter(admin, "lead", "Make it")
        offered = invitation(admin, "tales")
        rater = browser.new_context().new_page()
        rater.goto(offered)
        enter(rater, "rater", "Take part")
        rater.wait_for_selector(TASK)
        assert rater.get_by_role("heading", name="How to judge: writing in our style").is_visible()
        judged = judge_until(rater, lambda: going.poll() is not None)
    said = (tmp_path / "said.txt").read_text()
    assert going.returncode == 0, said
    assert "The store is begun, with the programme 'tales'" in said
    assert "kept: rounds/1/policy" in said
    ended = status(folder)
    assert {row["state"] for row in ended["steps"]} == {"done"}
    assert ended["waiting"] is None
    assert_chain(folder, judged)
    assert_report(folder, browser, judged)


def assert_report(folder: Path, browser: Any, judged: int) -> None:
    """The programme's page, for somebody who was not there: how often the policy won, who judged, what it cost."""
    subprocess.run(command("report", str(folder), "--no-refusals"), env=environment(), check=True)
    page = browser.new_context(offline=True).new_page()
    page.goto((folder / "report/index.html").as_uri())
    text = page.locator("body").inner_text()
    won = (read_manifest(folder / "rounds/1/check") or {})["figures"]["win_rate"]["mean"]
    assert f"{won:.1%}" in text
    trained_on = len(list(read_said(folder / "rounds/1/judge/judgments.jsonl")))
    assert f"{trained_on} judgments by people" in text
    spent = programme_costs(folder).total
    assert spent.rater_judgments == judged
    assert 0 < spent.rater_hours < 1


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
