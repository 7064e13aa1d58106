"""The worked recipes: what init writes can be carried out, shows raters its guideline, and says what it lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from architectures import WORDS
from heedful.cli.main import main
from heedful.data.load import DataSpec, load_prompts
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.feedback.ai.constitution import load_constitution
from heedful.feedback.ai.guidelines import read_attributes, read_guideline
from heedful.files import read_manifest
from heedful.pipeline.applications.catalogue import APPLICATIONS
from heedful.pipeline.merging import merge
from heedful.pipeline.rounds import needs
from heedful.pipeline.rounds.recipe import read_programme
from heedful.pipeline.rounds.rows import read_rows
from heedful.pipeline.rounds.starting import start_application
from heedful.pipeline.world_code import passed
from rounds_programme import SMALL, go
from scripted_server import Act, Say, ScriptedServer, is_probe, scripted
from stage_runs import write_model

NAMES = sorted(APPLICATIONS)


def agreeable(given: dict[str, Any], before: int) -> Say | Act:
    """A judge that answers in whatever form it is asked for, and likes the longer answer."""
    schema = given.get("response_format", {}).get("json_schema", {}).get("schema")
    if is_probe(given):
        return Say('{"letter": "A"}' if schema else "A")
    text = given["messages"][-1]["content"]
    a, b = (text.split(f"=== answer {letter} ")[1].split("===\n", 1)[1].split("\n===")[0] for letter in "AB")
    if schema is None:
        return Say("A", {"A": -0.3, "B": -1.35} if len(a) > len(b) else {"A": -1.35, "B": -0.3})
    if "verdict" in schema["properties"]:
        return Say(json.dumps({"rationale": "longer", "verdict": "A" if len(a) > len(b) else "B", "strength": 2}))
    scores = {"A": 1 + 3 * (len(a) > len(b)), "B": 1 + 3 * (len(b) > len(a))}
    return Say(json.dumps({letter: {"rationale": "length", "score": score} for letter, score in scores.items()}))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted(agreeable) as running:
        yield running


def patch(folder: Path, **over: Any) -> None:
    """Change settings of a recipe that was written."""
    path = folder / "heedful.yaml"
    path.write_text(yaml.safe_dump(merge(yaml.safe_load(path.read_text()), over), sort_keys=False))


def small(folder: Path) -> dict[str, Any]:
    """What makes a recipe fit for a model of a few thousand weights and one short round."""
    recipe = read_programme(folder).base
    block: dict[str, Any] = {"records": {"max_length": 64, "held_out": 0.0}, "steps": 1, "watch": {"mode": "off"}}
    block["rollout"] = {"prompts_per_step": 2, "max_new_tokens": 4}
    block["watch"]["refusals"] = {"requests": None}
    block |= SMALL
    return {
        "rounds": 1,
        "sample": {"pairs": 8, "max_new_tokens": 4},
        "check": {"pairs": 10},
        "prompts": {"check": 0.4, "reward": 0.3},
        "reward": {"epochs": 1, "batch_size": 8, "records": {"max_length": 64}, **SMALL},
        recipe.learn.optimise: block,
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_init_writes_is_whole_and_says_what_it_uses(name: str, tmp_path: Path) -> None:
    own = APPLICATIONS[name]
    written = start_application(tmp_path / "a", name)
    text = written[0].read_text()
    assert not re.search(r"\{[a-z_]+\}", text)
    for said in (own.model, own.dataset, f"--application {name} --embedded"):
        assert said in text
    recipe = read_programme(tmp_path / "a").base
    assert recipe.model == own.model
    assert recipe.ai.asked == own.asks
    assert (recipe.judge.people > 0, recipe.check.judge.people) == (True, 1.0)
    assert len(read_guideline(tmp_path / "a" / str(recipe.store.guideline)).split()) > 80
    assert len(read_attributes(tmp_path / "a" / str(recipe.store.attributes))) in (2, 3)
    assert all((tmp_path / "a" / file).exists() for file in own.brings)
    with pytest.raises(HeedfulError, match="already"):
        start_application(tmp_path / "a", name)


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_variant_is_whole_and_names_nothing_of_a_network(name: str, tmp_path: Path) -> None:
    from heedful.pipeline.rounds.data import LEAST_CHECKS, shares_of, world_prompts
    from heedful.pipeline.rounds.uses import uses_of

    start_application(tmp_path, name, embedded=True)
    recipe = read_programme(tmp_path).base
    assert (recipe.model, recipe.prompts.data, recipe.judge.simulated, recipe.ai.judges) == (None, None, 1.0, ())
    uses = uses_of(world_prompts(recipe), shares_of(recipe), recipe.seed)
    assert uses.count("check") >= LEAST_CHECKS
    assert min(uses.count("reward"), uses.count("train")) > 10
    with pytest.raises(HeedfulError, match="has its own model"):
        start_application(tmp_path / "b", name, embedded=True, model="x")
    assert not (tmp_path / "b").exists()


def needs_sandbox(name: str, request: pytest.FixtureRequest) -> None:
    """Where an application runs programs, there must be a sandbox for them."""
    if name == "code":
        request.getfixturevalue("jailed")


@pytest.mark.parametrize("name", NAMES)
def test_a_round_of_each_recipe_with_a_tiny_model(
    name: str, tmp_path: Path, server: ScriptedServer, request: pytest.FixtureRequest
) -> None:
    needs_sandbox(name, request)
    folder = tmp_path / "programme"
    write_model(folder / "model")
    hub = APPLICATIONS[name].prompts[0] == f"data: {APPLICATIONS[name].dataset}"
    if hub:
        rows = [f"{WORDS[i % 40]} {WORDS[(7 * i + 3) % 40]} {WORDS[(11 * i + 5) % 38]}" for i in range(60)]
        (folder / "own.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in rows))
    judge = f"judge-1@{server.url}"
    start_application(folder, name, model="model", prompts="own.jsonl" if hub else None, judge=judge)
    everybody = {"judge": {"people": 0.0, "ai": 1.0}, "check": {"judge": {"people": 0.0, "ai": 1.0}}}
    ai = (
        {}
        if APPLICATIONS[name].asks
        else {"ai": {"judge": judge, "way": "attributes" if name == "code" else "verdict"}}
    )
    patch(folder, **merge(small(folder), {**everybody, **ai}))
    if name == "service":
        (folder / "policy.md").write_text("tell the good\n")
    made = go(folder)["made"]
    assert made[-1] == "1/decide"
    policy = read_manifest(folder / "rounds/1/policy") or {}
    told = server.judged()
    pairs = sum(1 for _ in read_rows(folder / "rounds/1/sample/pairs.jsonl"))
    asked = {"chat": 4, "service": 2, "writing": 2, "code": 6}[name]  # both orders, times the attributes
    assert (read_manifest(folder / "rounds/1/judge") or {})["record"]["cost"]["judge"]["requests"] == asked * pairs
    if name == "service":
        prompts = list(read_rows(folder / "rounds/1/prompts/train.jsonl"))
        assert all(row["prompt"][0] == {"role": "system", "content": "tell the good"} for row in prompts)
        assert all("[system]\ntell the good\n" in one["messages"][1]["content"] for one in told)
        assert {"facts", "escalation"} <= {one.id for one in load_constitution(folder / "constitution.yaml").principles}
    else:
        guideline = read_guideline(folder / "guideline.md").strip().splitlines()[0]
        assert all(guideline in one["messages"][0]["content"] for one in told)
    if name == "code":
        assert policy["reward"].startswith("sum:")
        assert policy["reward"].endswith(f",2*unit-tests:{folder / 'problems.jsonl'}")
        assert "solved" in next(iter(read_rows(folder / "rounds/1/policy/metrics.jsonl")))
    else:
        assert policy["reward"] == str(folder / "rounds/1/reward")


@pytest.mark.parametrize(
    "name", ["code", *(pytest.param(one, marks=pytest.mark.slow) for one in NAMES if one != "code")]
)
def test_a_round_of_each_embedded_variant(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    needs_sandbox(name, request)
    folder = tmp_path / "programme"
    start_application(folder, name, embedded=True)
    patch(
        folder,
        **merge(
            small(folder),
            {
                "world": {"documents": 40, "demonstrations": 8},
                "prompts": {"check": 0.3, "reward": 0.4},
                "sft": {"epochs": 1, "batch_size": 8, **SMALL},
            },
        ),
    )
    found = go(folder)
    assert found["made"][:3] == ["0/base", "0/demonstrations", "0/sft"]
    assert "gold_win_rate" in found["rounds"][0]
    kinds = set(APPLICATIONS[name].kinds)
    from heedful.world.world import World

    world = World(0)
    asked = [row["prompt"][0]["content"] for row in read_rows(folder / "rounds/1/prompts/check.jsonl")]
    assert not kinds or {world.topic_of((Message("user", one),)).kind for one in asked} <= kinds


@pytest.mark.usefixtures("jailed")
def test_every_problem_has_tests_and_every_question_stands_once() -> None:
    from importlib.resources import files

    from heedful.models.unit_tests import load_unit_tests

    root = files("heedful.pipeline.applications")
    problems = load_unit_tests(f"unit-tests:{root / 'code' / 'problems.jsonl'}").problems
    assert len(problems) == 48
    assert min(len(one.cases) for one in problems.values()) >= 2
    questions = [one.prompt for one in load_prompts(DataSpec(str(root / "service" / "prompts.jsonl"))).records]
    assert len(set(questions)) == 72


@pytest.mark.usefixtures("jailed")
def test_the_worlds_programs_are_run_against_what_was_asked_for() -> None:
    asked = [
        (Message("user", text),)
        for text in ("write code to add a and b .", "please code a function to raise a and b .")
    ]
    right = ["sure ! def add ( a , b ) : return a + b .", "def raise ( a , b ) : return a ** b ."]
    wrong = ["def add ( a , b ) : return a - b .", "def add ( a , b ) : return a ** b ."]
    assert passed([*asked, *asked], [*right, *wrong]) == [1.0, 1.0, 0.0, 0.0]
    half = "def multiply ( a , b ) : return a ** b ."
    assert passed([(Message("user", "show me code that can multiply a and b ."),)], [half]) == [0.0]
    assert passed(asked[:1], ["let add ( a , b ) = a + b ."]) == [0.0]
    assert passed([(Message("user", "what is the capital of france ?"),)], [right[0]]) == [0.0]


@pytest.mark.usefixtures("jailed")
def test_a_prompt_without_tests_is_told_before_anything_is_made(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    start_application(tmp_path, "code", model="model")
    with open(tmp_path / "problems.jsonl", "a") as file:
        file.write('{"prompt": "Write nothing.", "tests": ["assert f() == 1"]}\n')
    (tmp_path / "more.jsonl").write_text('{"prompt": "Write something else."}\n')
    patch(tmp_path, prompts={"data": "more.jsonl"})
    with pytest.raises(HeedfulError, match=r"1 prompts have no tests, the first of them 'Write something else\.'"):
        go(tmp_path)
    assert not (tmp_path / "rounds").exists()


def test_without_a_network_init_and_round_say_so_and_name_the_embedded_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    def nobody(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(HfApi, "repo_info", nobody)
    assert main(["init", str(tmp_path / "a"), "--application", "writing"]) == 0
    said = capsys.readouterr().out
    assert "It trains Qwen/Qwen2.5-0.5B-Instruct on prompts of euclaise/writingprompts." in said
    assert "the hub cannot be reached: ConnectionError" in said
    assert "--application writing --embedded" in said
    assert main(["round", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert "the model Qwen/Qwen2.5-0.5B-Instruct is not to be had: the hub cannot be reached" in said
    assert "--embedded" in said
    assert not (tmp_path / "a" / "rounds").exists()
    assert main(["init", str(tmp_path / "b"), "--application", "code", "--embedded"]) == 0
    assert "cannot be reached" not in capsys.readouterr().out
    assert needs.missing_from_hub(tmp_path, "nowhere.gguf", "gone.jsonl") == [
        "the model nowhere.gguf (there is no such file or folder)",
        "the dataset gone.jsonl (there is no such file or folder)",
    ]


def test_init_refuses_what_goes_with_no_application(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "a"), "--embedded"]) == 2
    assert "Name one: --application" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
