"""Models that judge rounds: asked once and no more, in both orders, and never guessed at."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heedful.cli.main import main
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import BudgetSpentError
from heedful.feedback.ai.ledger import Ledger
from heedful.files import read_manifest
from heedful.pipeline.costs import programme_costs
from heedful.pipeline.rounds import data
from heedful.pipeline.rounds.ai_judges import ready_to_ask
from heedful.pipeline.rounds.engine import Engine
from heedful.pipeline.rounds.programme import foreseen
from heedful.pipeline.rounds.recipe import read_programme
from heedful.pipeline.rounds.rows import Pair, Said, read_pairs, read_rows, read_said
from heedful.pipeline.rounds.stages import steps
from heedful.training.progress import Display
from rounds_programme import go, write_programme, write_recipe
from scripted_server import Act, Say, ScriptedServer, is_probe, scripted

FILES = ("judgments.jsonl", "ai.jsonl", "preferences.jsonl", "decision.json")


def shorter(given: dict[str, Any], before: int) -> Say | Act:
    """Likes the shorter answer by odds of three to one, and whatever stands first by a little."""
    if is_probe(given):
        return Say("A")
    text = given["messages"][-1]["content"]
    a, b = (text.split(f"=== answer {letter} ")[1].split("===\n", 1)[1].split("\n===")[0] for letter in "AB")
    if len(a) == len(b):
        return Say("A", {"A": -0.6931, "B": -0.6931})
    likely, other = -0.2877, -1.3863
    return Say("A", {"A": likely, "B": other} if len(a) < len(b) else {"A": other, "B": likely})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted(shorter) as running:
        yield running


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    with scripted(shorter) as running:
        yield running


def asked_by(server: ScriptedServer, **ai: Any) -> dict[str, Any]:
    """What a recipe says of a judge at a server."""
    endpoint = {"attempts": 2, "backoff": 0.0, "concurrency": 4, **ai.pop("endpoint", {})}
    asking = {"ties": False, **ai.pop("asking", {})}
    return {"ai": {"judge": f"judge-1@{server.url}", "endpoint": endpoint, "asking": asking, **ai}, "rounds": 1}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A programme whose pairs are sampled, with nobody there to judge them."""
    folder = write_programme(tmp_path_factory.mktemp("ai") / "programme", rounds=1)
    write_recipe(folder, rounds=1, ai={"judge": "no_such_module:score"})
    with pytest.raises(HeedfulError, match="cannot import"):
        go(folder)
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "programme"))


def judge(folder: Path) -> None:
    """Carry out the stage that has pairs judged, and nothing else."""
    programme = read_programme(folder)
    display = Display(Console(file=io.StringIO()))
    (step,) = (one for one in steps(programme, 1) if one.name == "1/judge")
    ready_to_ask(programme, [step], display)
    Engine(programme, display).carry_out(step)


def results(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.name in FILES}


def test_a_model_judges_a_whole_round_in_both_orders_at_its_cost_once(folder: Path, server: ScriptedServer) -> None:
    budget = {"money": 1e6, "price_prompt": 1000.0, "price_completion": 2000.0}
    write_recipe(folder, **asked_by(server, budget=budget))
    assert go(folder)["made"][-1] == "1/decide"
    pairs = {pair.id: pair for pair in read_pairs(folder / "rounds/1/sample/pairs.jsonl")}
    said = read_said(folder / "rounds/1/judge/judgments.jsonl")
    assert {one.pair for one in said} == set(pairs)
    for one in said:
        lengths = [len(pairs[one.pair].a), len(pairs[one.pair].b)]
        wanted = 0.0 if lengths[0] == lengths[1] else 0.5 if lengths[0] < lengths[1] else -0.5
        assert one.vote == pytest.approx(wanted, abs=1e-3)
        assert (one.kind, one.rater) == ("ai", f"judge-1@{server.url}")
    shares = {row["probability"] for row in read_rows(folder / "rounds/1/consensus/preferences.jsonl")}
    assert {round(one, 2) for one in shares} <= {0.25, 0.5, 0.75}
    assert len(shares) > 1
    looks = list(read_rows(folder / "rounds/1/judge/ai.jsonl"))
    assert sorted(tuple(row["order"]) for row in looks if row["pair"] == said[0].pair) == [(0, 1), (1, 0)]
    manifest = read_manifest(folder / "rounds/1/judge") or {}
    (told,) = manifest["ai"]
    assert (told["judged"], told["troubles"], len(told["templates"])) == (len(pairs), {}, 1)
    cost = manifest["record"]["cost"]["judge"]
    assert cost["requests"] == len(looks) == 2 * len(pairs)
    assert cost["completion_tokens"] == cost["requests"]
    assert cost["tokens"] == cost["prompt_tokens"] + cost["completion_tokens"]
    assert cost["money"] == pytest.approx((cost["prompt_tokens"] * 1000 + cost["completion_tokens"] * 2000) / 1e6)
    assert "cost" not in manifest
    assert (read_manifest(folder / "rounds/1/check") or {})["record"]["cost"]["judge"]["requests"] > 0
    spent = programme_costs(folder)  # in all, what the server answered: the first look at it is told by no stage
    assert spent.total.judge_requests == len(server.asked)
    assert [(one.path, one.spent.judge_requests) for one in spent.ledgers] == [("ledger.sqlite", 1)]
    assert set(server.paid.values()) == {1}
    before, paid = results(folder), dict(server.paid)  # a stage that is made again pays nothing again
    for name in ("judge", "check"):
        shutil.rmtree(folder / "rounds/1" / name)
    assert go(folder)["made"] == ["1/judge", "1/check"]
    assert results(folder) == before
    assert server.paid == paid


def test_a_check_has_judges_of_its_own_where_it_names_them(
    folder: Path, server: ScriptedServer, other: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels by one model and checks by a panel asked otherwise; a report asks whoever checks, once."""
    panel = [f"judge-1@{one.url}" for one in (other, server)]
    own = asked_by(server)["ai"] | {"judge": panel, "orders": "one"}
    check = {"above": 0.0, "ai": own}
    write_recipe(folder, **asked_by(server), check=check)
    assert go(folder)["made"][-1] == "1/decide"
    judges = {
        stage: {one.rater for one in read_said(folder / f"rounds/1/{stage}/judgments.jsonl")}
        for stage in ("judge", "check")
    }
    assert judges == {"judge": {f"judge-1@{server.url}"}, "check": set(panel)}
    settings = {stage: (read_manifest(folder / "rounds/1" / stage) or {})["record"]["settings"] for stage in judges}
    assert settings["check"]["check.ai.judge"] == panel
    assert settings["check"]["check.ai.orders"] == "one"
    assert not [name for name in settings["check"] if name.startswith("ai.")]
    assert settings["judge"]["ai.orders"] == "both"
    paid = sum(other.paid.values())
    flags = ["--prompts", "12", "--no-refusals", "--no-probes", "--json"]
    assert main(["report", str(folder), *flags]) == 0
    assert f"the AI judge {panel[0]} and {panel[1]}" in capsys.readouterr().out
    assert sum(other.paid.values()) > paid
    paid = sum(other.paid.values())
    assert main(["report", str(folder), *flags]) == 0
    capsys.readouterr()
    assert sum(other.paid.values()) == paid
    # Another judge of checks leaves the labels, and what was learnt from them, as they are.
    write_recipe(folder, **asked_by(server), check={"above": 0.0, "ai": {**own, "judge": panel[:1]}})
    why = {one.step.name: one.why for one in foreseen(folder) if not one.done}
    assert list(why) == ["1/check", "1/decide"]
    assert why["1/check"] == (f"check.ai.judge: {panel} before, {panel[:1]} now",)


def test_the_smaller_of_two_budgets_holds_whoever_is_asked(folder: Path, server: ScriptedServer) -> None:
    own = asked_by(server)["ai"]
    recipe = asked_by(server, budget={"requests": 500})
    write_recipe(folder, **recipe, check={"ai": {**own, "budget": {"requests": 5}}})
    with pytest.raises(BudgetSpentError, match="5 requests"):
        judge(folder)
    assert len(server.asked) == 5


def test_a_mistake_in_the_checks_own_judge_is_named_where_it_stands(tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p", rounds=1)

    def said(**check: Any) -> str:
        write_recipe(folder, check=check)
        with pytest.raises(HeedfulError) as found:
            read_programme(folder)
        return str(found.value)

    found = said(ai={"orders": "one"})
    rows = (folder / "heedful.yaml").read_text().splitlines()
    assert f"heedful.yaml:{rows.index('    orders: one') + 1} (check.ai.orders)" in found
    assert "Name a model: MODEL@URL or hf:FOLDER in check.ai.judge" in found
    asked = {"judge": "m@http://127.0.0.1:1/v1", "orders": "one"}
    found = said(ai={**asked, "budget": {"money": 3.0}})
    assert "(check.ai.budget.money)" in found
    assert "check.ai.budget.price_prompt" in found
    idle = said(ai={"judge": asked["judge"]}, judge={"ai": 0.0, "people": 1.0})
    assert "(check.ai.judge): check.judge.ai gives this judge no share" in idle


def test_a_recipe_of_before_has_the_keys_that_it_had(folder: Path, server: ScriptedServer) -> None:
    """Checks that people paid for with their time are not made again for a block that nobody has written."""
    write_recipe(folder, **asked_by(server))
    settings = {
        one.stage.name: one.stage.settings(one.recipe, 1)
        for one in steps(read_programme(folder), 1)
        if one.stage.name in ("judge", "check")
    }
    named = {stage: sorted(name for name in own if "ai." in name) for stage, own in settings.items()}
    assert named["check"] == named["judge"]
    assert named["judge"] == [
        "ai.asking.max_tokens", "ai.asking.seed", "ai.asking.temperature", "ai.asking.ties", "ai.asking.top_logprobs",
        "ai.judge", "ai.orders", "ai.way",
    ]  # fmt: skip


def test_a_round_that_is_killed_at_its_judge_goes_on_where_it_was(folder: Path, server: ScriptedServer) -> None:
    """As after a kill: the folder of the half-made stage is gone, the ledger is not."""
    turns = 0

    def dies(given: dict[str, Any], before: int) -> Say | Act:
        nonlocal turns
        turns += 1
        return Act(401) if turns > 9 else shorter(given, before)

    write_recipe(folder, **asked_by(server, endpoint={"concurrency": 1}))
    server.script = dies
    with pytest.raises(HeedfulError, match="refused"):
        judge(folder)
    assert not (folder / "rounds/1/judge").exists()
    paid = dict(server.paid)
    shutil.rmtree(folder / "rounds/1/judge.part")
    server.script = shorter
    judge(folder)
    assert {key: server.paid[key] for key in paid} == paid
    assert set(server.paid.values()) == {1}
    ledger = Ledger(folder / "ledger.sqlite")
    assert ledger.outcomes()["refused key"] == 1
    ledger.close()


def test_what_cannot_be_read_is_recorded_and_is_no_vote(folder: Path, server: ScriptedServer) -> None:
    def moody(given: dict[str, Any], before: int) -> Say | Act:
        text = given["messages"][1]["content"] if len(given["messages"]) > 1 else ""
        mark = int(text.split("=== conversation ")[1][:4], 16) % 4 if text else 3
        said = {0: Say("", refusal="I would rather not."), 1: Say("I like both.")}
        return said.get(mark) or shorter(given, before)

    server.script = moody
    write_recipe(folder, **asked_by(server))
    judge(folder)
    looks = list(read_rows(folder / "rounds/1/judge/ai.jsonl"))
    (told,) = (read_manifest(folder / "rounds/1/judge") or {})["ai"]
    pairs = {row["pair"] for row in looks}
    mute = {row["pair"] for row in looks if row["trouble"]}
    assert set(told["troubles"]) == {"refused", "unreadable"}
    assert 0 < len(mute) < len(pairs)
    assert all(row["payload"] is None and row["detail"] and row["replies"] for row in looks if row["trouble"])
    assert {one.pair for one in read_said(folder / "rounds/1/judge/judgments.jsonl")} == pairs - mute
    assert told["judged"] == len(pairs - mute)


def test_a_question_without_a_reply_stops_the_round_unless_a_share_may_be_missing(
    folder: Path, server: ScriptedServer
) -> None:
    def stumbles(given: dict[str, Any], before: int) -> Say | Act:
        if is_probe(given):
            return Say("A")
        text = given["messages"][1]["content"]
        bad = int(text.split("=== conversation ")[1][:4], 16) % 5 == 0
        return Act(503) if bad else shorter(given, before)

    server.script = stumbles
    write_recipe(folder, **asked_by(server))
    with pytest.raises(HeedfulError, match=r"gave no reply to \d+ of \d+ questions .server error: 503"):
        judge(folder)
    paid = dict(server.paid)
    write_recipe(folder, **asked_by(server, missing=0.9))
    judge(folder)
    assert {key: server.paid[key] for key in paid} == paid
    (told,) = (read_manifest(folder / "rounds/1/judge") or {})["ai"]
    assert set(told["troubles"]) == {"server error"}


def test_a_budget_ends_the_round_and_a_larger_one_goes_on(folder: Path, server: ScriptedServer) -> None:
    write_recipe(folder, **asked_by(server, budget={"requests": 8}))
    with pytest.raises(BudgetSpentError, match="the budget of 8 requests is spent") as found:
        judge(folder)
    assert found.value.where == "ai.budget.requests"
    assert sum(server.paid.values()) == 8
    write_recipe(folder, **asked_by(server, budget={"requests": 800}))
    assert next(one.step.name for one in foreseen(folder) if not one.done) == "1/judge"
    judge(folder)
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("ai", "said"),
    [
        ({"judge": "judge-1@https://example.org/v1"}, r"no key is named for this server.*ai\.endpoint\.key_variable"),
        ({"judge": "judge-1@http://127.0.0.1:9/v1"}, "the AI judge cannot be reached"),
        ({"judge": "hf:no-such-folder"}, "cannot open the model's configuration|no-such-folder"),
        ({"constitution": "nowhere.yaml"}, "cannot read the constitution"),
        ({"asking": {"rubric": "nowhere.md"}}, "cannot read the rubric"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_told_before_anything_is_made(
    tmp_path: Path, server: ScriptedServer, ai: dict[str, Any], said: str
) -> None:
    folder = write_programme(tmp_path / "programme")
    write_recipe(folder, **asked_by(server, **ai))
    with pytest.raises(HeedfulError, match=said):
        go(folder)
    assert not (folder / "rounds").exists()


def test_no_log_probabilities_where_they_are_needed_is_told_before_anything_is_made(
    tmp_path: Path, server: ScriptedServer
) -> None:
    bare = {"choices": [{"message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}]}
    server.script = lambda *_: Act(body=json.dumps(bare).encode())
    folder = write_programme(tmp_path / "programme")
    write_recipe(folder, **asked_by(server))
    with pytest.raises(HeedfulError, match=r"gives no log-probabilities.*Use ai\.way verdict"):
        go(folder)
    assert not (folder / "rounds").exists()


def test_a_panel_by_verdicts_gives_each_judge_a_vote_and_a_rubric_is_what_they_go_by(
    folder: Path, server: ScriptedServer
) -> None:
    def verdict(given: dict[str, Any], before: int) -> Say | Act:
        if is_probe(given):
            return Say('{"letter": "A"}')
        a_first = given["model"] == "judge-1"
        text = given["messages"][-1]["content"]
        a, b = (text.split(f"=== answer {letter} ")[1].split("===\n", 1)[1].split("\n===")[0] for letter in "AB")
        better = "A" if (len(a), a) < (len(b), b) else "B"
        return Say(json.dumps({"rationale": "by length", "verdict": better, "strength": 3 if a_first else 1}))

    server.script, server.models = verdict, ["judge-1", "judge-2"]
    (folder / "guideline.md").write_text("# Ours\n\nThe short one wins.\n")
    names = [f"{name}@{server.url}" for name in server.models]
    write_recipe(folder, **asked_by(server, judge=names, way="verdict"), store={"guideline": "guideline.md"})
    judge(folder)
    said = read_said(folder / "rounds/1/judge/judgments.jsonl")
    assert {one.rater for one in said} == set(names)
    assert all("The short one wins." in one["messages"][0]["content"] for one in server.judged())
    by = {name: {one.pair: one.vote for one in said if one.rater == name} for name in names}
    assert by[names[0]] == by[names[1]]
    assert {abs(vote) for vote in by[names[0]].values()} == {1.0}
    (folder / "guideline.md").write_text("# Ours\n\nThe long one wins.\n")
    why = {one.step.name: one.why for one in foreseen(folder) if not one.done}
    assert why["1/judge"] == ("the content of rubric has changed",)


def test_a_constitution_draws_a_principle_for_each_pair(folder: Path, server: ScriptedServer) -> None:
    principles = [{"id": f"p{n}", "choice": f"Which answer is better by rule {n}?"} for n in range(3)]
    (folder / "policy.yaml").write_text(json.dumps({"name": "ours", "principles": principles}))
    write_recipe(folder, **asked_by(server, constitution="policy.yaml"))
    judge(folder)
    rules = {one["messages"][0]["content"].split("by rule ")[1][0] for one in server.judged()}
    assert rules == {"0", "1", "2"}


def test_a_model_in_process_judges_too(folder: Path, server: ScriptedServer) -> None:
    from stage_runs import write_model

    write_model(folder / "judge")
    recipe = asked_by(server)
    recipe["ai"] = {"judge": "hf:judge", "asking": {"ties": False, "max_tokens": 16}}
    write_recipe(folder, **recipe)
    with pytest.raises(HeedfulError, match=r"hf:judge could be read on none of \d+ pairs"):
        judge(folder)  # a model of random weights says no letter; it was asked, and nothing was guessed
    assert not server.judged()
    assert not (folder / "rounds/1/judge").exists()


def test_soft_labels_of_ai_judges_reach_the_consensus_and_votes_of_people_do_not_change() -> None:
    pair = Pair("1", (), "a", "b", "reward")
    by = {"x": 0.5, "y": 0.1}
    (made,) = data.settled([pair], [Said("1", "ai", name, vote) for name, vote in by.items()], "share")
    assert made is not None
    assert made.probability == pytest.approx(0.65)
    mixed = [Said("1", "ai", "x", 0.5), Said("1", "simulated", "y", -1.0)]
    (made,) = data.settled([pair], mixed, "share")
    assert made is not None
    assert made.probability == 0.5


@pytest.mark.parametrize(
    ("ai", "said"),
    [
        ({"judge": "rounds_programme:likes_yes", "way": "verdict"}, "is not asked, it scores answers"),
        ({"judge": ["a@http://127.0.0.1/v1", "runs/reward"]}, "is no model that can be asked"),
        ({"judge": "a@http://127.0.0.1/v1", "tags": ["x"]}, "a constitution's principles"),
        ({"judge": "a@http://127.0.0.1/v1", "constitution": "default", "way": "verdict"}, "letters' log-probability"),
        ({"judge": "a@http://127.0.0.1/v1", "missing": 1.5}, "must lie in 0 to 1"),
        ({"judge": "a@http://127.0.0.1/v1", "budget": {"money": 1}}, r"\(ai.budget.money\).*ai.budget.price_prompt"),
    ],
)
def test_settings_of_ai_judges_that_mean_nothing_are_refused(tmp_path: Path, ai: dict[str, Any], said: str) -> None:
    write_recipe(tmp_path, ai=ai)
    with pytest.raises(HeedfulError, match=said):
        read_programme(tmp_path)
