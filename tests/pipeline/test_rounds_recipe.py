"""The recipe: what it refuses and where, what init writes, and the schema that editors read."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from heedful.errors import HeedfulError
from heedful.pipeline.rounds.recipe import read_programme, recipe_schema, settings_of
from heedful.pipeline.rounds.stages import FIRST, METHODS, STAGES
from heedful.pipeline.rounds.starting import start_programme
from heedful.training.config.programme import METHODS as NAMES
from heedful.training.config.programme import STAGE_BLOCKS, Recipe
from heedful.training.config.reward import RewardConfig
from heedful.training.schema import field_docs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    start_programme(tmp_path / "shop", model=None, prompts=None, demonstrations=None)
    return tmp_path / "shop"


def edited(folder: Path, old: str, new: str) -> Path:
    path = folder / "heedful.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


def line_of(folder: Path, part: str) -> int:
    lines = (folder / "heedful.yaml").read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  pairs: 1300", "  paris: 1300", "unknown key 'sample.paris'. Did you mean 'sample.pairs'?"),
        ("optimise: ppo ", "optimise: pop ", "'learn.optimise' must be one of ppo, rloo"),
        ("  steps: 40", "  stepps: 40", "unknown key 'ppo.stepps'. Did you mean 'ppo.steps'?"),
        ("  steps: 40", "  model: x", "'ppo.model' is set by the round itself"),
        ("  simulated: 1.0", "  simulated: 0.7", "add up to 0.7, not 1"),
        ("  use: true", "  use: false", "no base model"),
        ("  check: 0.15", "  check: 0.6", "no prompt would be left to train on"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(folder: Path, old: str, new: str, said: str) -> None:
    edited(folder, old, new)
    with pytest.raises(HeedfulError) as found:
        read_programme(folder)
    assert said in str(found.value)
    assert re.search(r"heedful\.yaml", found.value.where)
    if "unknown" in said or "must be one of" in said or "by the round" in said:
        assert found.value.where.endswith(f"heedful.yaml:{line_of(folder, new.strip())}")


def test_changes_hold_from_their_round_on_and_are_checked_where_they_stand(folder: Path) -> None:
    text = "changes:\n  2:\n    ppo: {steps: 7}\n  3:\n    learn: {optimise: dpo}\n    ppo: {kl: {coefficient: 0.5}}\n"
    path = folder / "heedful.yaml"
    path.write_text(path.read_text() + text)
    programme = read_programme(folder)
    recipes = [programme.recipe(number) for number in (1, 2, 3, 4)]
    assert [one.ppo.steps for one in recipes] == [40, 7, 7, 7]
    assert [one.learn.optimise for one in recipes] == ["ppo", "ppo", "dpo", "dpo"]
    assert [one.ppo.kl.coefficient for one in recipes] == [0.1, 0.1, 0.5, 0.5]
    edited(folder, "{steps: 7}", "{stepps: 7}")
    with pytest.raises(HeedfulError, match=r"unknown key 'changes.2.ppo.stepps'") as found:
        read_programme(folder)
    assert found.value.where.endswith(f":{line_of(folder, 'stepps')}")


def test_where_there_is_no_recipe_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="heedful init"):
        read_programme(tmp_path)


def test_init_writes_a_recipe_of_either_kind_and_never_over_one(tmp_path: Path) -> None:
    start_programme(tmp_path / "a", model="Qwen/Qwen2.5-0.5B", prompts="asked: here.jsonl", demonstrations=None)
    recipe = read_programme(tmp_path / "a").base
    assert (recipe.model, recipe.prompts.data, recipe.demonstrations) == (
        "Qwen/Qwen2.5-0.5B",
        "asked: here.jsonl",
        None,
    )
    assert recipe.judge.people == 1.0
    assert recipe.store.programme == "a"
    first = (tmp_path / "a" / "heedful.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=heedful.schema.json"
    assert json.loads((tmp_path / "a" / "heedful.schema.json").read_text()) == recipe_schema()
    with pytest.raises(HeedfulError, match="already"):
        start_programme(tmp_path / "a", model=None, prompts=None, demonstrations=None)
    with pytest.raises(HeedfulError, match="model and prompts"):
        start_programme(tmp_path / "b", model="x", prompts=None, demonstrations=None)
    assert not (tmp_path / "b").exists()


def problems(schema: dict[str, Any], value: Any, root: dict[str, Any], path: str = "") -> list[str]:
    """What a validator of the schema's own few words finds wrong."""
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        tried = [problems(one, value, root, path) for one in schema["anyOf"]]
        return [] if [] in tried else [f"{path}: none of the choices"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: not in {schema['enum']}"]
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kinds |= {"integer": int, "number": (int, float)}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{path}: no {schema['type']}"]
    wrong = []
    for key, inner in value.items() if isinstance(value, dict) else ():
        own = schema.get("properties", {}).get(str(key))
        for pattern, some in schema.get("patternProperties", {}).items():
            own = some if re.search(pattern, str(key)) else own
        if own is None and schema.get("additionalProperties") is False:
            wrong.append(f"{path}.{key}: unknown")
        wrong += problems(own, inner, root, f"{path}.{key}") if own else []
    for inner in value if isinstance(value, list) else ():
        wrong += problems(schema.get("items", {}), inner, root, path)
    return wrong


@pytest.mark.parametrize("own", [True, False])
def test_the_schema_accepts_what_init_writes_and_refuses_what_reading_refuses(own: bool, tmp_path: Path) -> None:
    name = "model.x" if own else None
    start_programme(tmp_path, model=name, prompts=name, demonstrations=None)
    schema, recipe = recipe_schema(), yaml.safe_load((tmp_path / "heedful.yaml").read_text())
    recipe["changes"] = {2: {"ppo": {"steps": 3}}}
    assert problems(schema, recipe, schema) == []
    recipe["changes"] = {2: {"ppo": {"stepps": 3}}}
    recipe["ppo"]["seed"] = 1
    recipe["learn"]["optimise"] = "pop"
    recipe["sample"]["pairs"] = "many"
    found = problems(schema, recipe, schema)
    assert [one.partition(":")[0] for one in found] == [
        ".sample.pairs",
        ".learn.optimise",
        ".ppo.seed",
        ".changes.2.ppo.stepps",
    ]


def test_the_schema_says_what_the_settings_say() -> None:
    rows = recipe_schema()["definitions"]["settings"]["properties"]
    assert rows["sample"]["properties"]["pairs"]["default"] == 500
    assert rows["ppo"]["properties"]["kl"]["properties"]["coefficient"]["default"] == 0.05
    assert "β" in rows["ppo"]["properties"]["kl"]["properties"]["coefficient"]["description"]
    assert field_docs(RewardConfig)["batch_size"] == "Pairs or rankings in one optimiser step."


def test_every_method_stands_in_the_table_and_has_a_block() -> None:
    assert set(METHODS) == set(typing.get_args(NAMES))
    assert set(METHODS) < set(STAGE_BLOCKS)
    assert len({one.name for one in STAGES}) == len(STAGES)
    assert {one.make for one in FIRST if one.name == "sft"} == {one.make for one in STAGES if one.name == "sft"}


def test_settings_that_change_no_result_are_no_part_of_it() -> None:
    names = settings_of(Recipe.__dataclass_fields__["rloo"].default_factory())  # type: ignore[misc]
    assert "kl.coefficient" in names
    assert "steps" in names
    for left_out in ("run.checkpoint_every", "memory.micro_batch_tokens", "out", "model", "seed", "loading.device"):
        assert left_out not in names
