"""From a checkpoint back to judgments, raters and rubrics; what has changed since is named, and so is where it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from heedful.cli.main import main
from heedful.errors import HeedfulError
from heedful.feedback.export_lineage import write_thin_record
from heedful.feedback.journal import append
from heedful.files import artifact, read_manifest, sha256_file, sha256_json, write_json
from heedful.models.folder_hash import folder_fingerprint
from heedful.pipeline.lineage import trace
from heedful.pipeline.provenance.affected import made_from_rater, made_from_withdrawn
from heedful.pipeline.provenance.card import card_of, write_card
from heedful.pipeline.rounds.contents import content
from heedful.pipeline.rounds.programme import foreseen
from rounds_programme import go, write_programme

IDS = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(4)]


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_programme(tmp_path_factory.mktemp("lineage") / "programme")
    go(folder)
    return folder


@pytest.fixture
def programme(two_rounds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_rounds, tmp_path / "programme"))


# --- of a programme ---


def test_a_policy_leads_back_to_every_stage_and_judgment(programme: Path) -> None:
    found = trace(programme)
    assert found.root == "rounds/2/policy"
    stages = {one.name for one in found.artifacts if one.name.startswith("rounds/")}
    assert stages == {"rounds/0/sft"} | {
        f"rounds/{number}/{name}"
        for number in (1, 2)
        for name in ("prompts", "sample", "judge", "consensus", "dataset", "reward", "policy")
    }
    assert {link.name for link in found.named["rounds/2/dataset"].made_from} == {
        "rounds/1/consensus",
        "rounds/2/consensus",
    }
    lines = [len((programme / f"rounds/{n}/judge/judgments.jsonl").read_text().splitlines()) for n in (1, 2)]
    assert found.by_kind == {"ai": sum(lines)}
    assert found.ai_share == 1.0
    assert [one.rater for one in found.raters] == ["rounds_programme:likes_yes"]
    assert found.judgments[0].id == "rounds/1/judge#1"
    assert len({one.id for one in found.judgments}) == sum(lines)
    assert found.changed == ()
    assert all(link.same is not False for one in found.artifacts for link in one.made_from)
    assert all(link.same for link in found.named["rounds/2/policy"].made_from)
    assert sorted(found.ends) == ["demonstrations.jsonl", "model", "prompts.jsonl"]
    checks = [(one.name, one.policy, one.promoted) for one in found.checks]
    assert checks == [("rounds/1/check", "rounds/1/policy", True), ("rounds/2/check", "rounds/2/policy", True)]
    assert trace(programme / "rounds/2/policy/model.safetensors").root == "rounds/2/policy"


def test_a_file_that_changed_since_is_named(programme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(programme / "rounds/1/judge/judgments.jsonl", "a") as file:
        file.write('\n{"of": "somebody else"}\n7\n')
    (programme / "rounds/1/sample/pairs.jsonl").unlink()
    with open(programme / "prompts.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "another one"}) + "\n")
    found = trace(programme)
    assert found.changed == (
        "prompts.jsonl",
        "rounds/1/judge/judgments.jsonl",
        "rounds/1/sample/pairs.jsonl",
    )
    assert found.named["rounds/1/judge"].state == "changed"
    links = {link.name: link.same for link in found.named["rounds/1/prompts"].made_from}
    assert links == {"demonstrations.jsonl": True, "prompts.jsonl": False}
    assert main(["lineage", str(programme)]) == 1
    said = capsys.readouterr().out
    assert "CHANGED or gone: rounds/1/judge/judgments.jsonl" in said
    with pytest.raises(HeedfulError, match="this is no judgment"):  # what is not verified has to be readable
        trace(programme, verify=False)


def test_an_input_that_was_made_anew_since_is_told_from_the_one_that_was_read(programme: Path) -> None:
    place = programme / "rounds/1/reward"
    manifest = read_manifest(place) or {}
    (place / "config.json").write_text("{}")
    manifest["files"]["config.json"] = sha256_file(place / "config.json")
    write_json(place / "manifest.json", manifest)
    found = trace(programme / "rounds/1/policy")
    assert found.changed == ()
    assert {link.role: link.same for link in found.named["rounds/1/policy"].made_from}["reward"] is False


def test_a_moved_programme_has_the_same_lineage(programme: Path, tmp_path: Path) -> None:
    before, card = trace(programme), str(card_of(programme))
    moved = programme.rename(tmp_path / "elsewhere")
    after = trace(moved)
    assert str(card_of(moved)) == card
    assert [one.name for one in after.artifacts] == [one.name for one in before.artifacts]
    assert after.changed == ()


def test_the_terminal_has_the_counts_first_and_a_file_of_all_judgments(
    programme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "judgments.jsonl"
    assert main(["lineage", str(programme), "--judgments", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.index("judgments") < said.index("The chain ends at") < said.index("├── ")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert f"{len(rows)} ai" in said
    assert rows[0] == {
        "id": "rounds/1/judge#1", "kind": "ai", "rater": "rounds_programme:likes_yes", "guideline": 0,
        "given_in": "rounds/1/judge", "programme": "", "withdrawn": False,
    }  # fmt: skip
    assert main(["lineage", str(programme / "rounds/1/dataset"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["root"] == "rounds/1/dataset"
    assert told["judgments"] == {"ai": sum(one["given_in"] == "rounds/1/judge" for one in rows)}


def test_what_is_not_there_or_has_not_ended_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lineage", str(tmp_path / "nothing")]) == 2
    assert "there is nothing here" in capsys.readouterr().err
    (tmp_path / "rounds").mkdir()
    (tmp_path / "heedful.yaml").write_text("name: x\n")
    with pytest.raises(HeedfulError, match="no round of this programme has ended"):
        trace(tmp_path)
    (tmp_path / "loose").mkdir()
    found = trace(tmp_path / "loose")
    assert found.ends == {"loose": "this folder has no manifest, so nothing says what it was made from"}


# --- of single runs ---


def model(folder: Path, kind: str, **manifest: Any) -> Path:
    """A folder that looks like a model's, whatever is in it."""
    with artifact(folder, {"kind": kind, **manifest}) as temporary:
        (temporary / "config.json").write_text(json.dumps({"of": folder.name}))
        (temporary / "model.safetensors").write_bytes(folder.name.encode() * 9)
    return folder


def of(folder: Path) -> dict[str, str]:
    return {"name": str(folder), "fingerprint": folder_fingerprint(folder)}


def export(folder: Path) -> Path:
    """A file that was exported from a store, with its record."""
    folder.mkdir(exist_ok=True)
    path = folder / "preferences.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    record = {
        "kind": "export", "file": path.name, "sha256": sha256_file(path), "format": "trl-preference", "rows": 1,
        "consensus": "share", "programme": "shop", "snapshot": {"id": "s-1", "sha256": "ab", "judgments": 4},
        "guidelines": [{"version": 2, "sha256": "cd"}],
        "raters": [{"rater": "p-1", "kind": "human", "judgments": 2}, {"rater": "p-2", "kind": "human", "judgments": 1},
                   {"rater": "gpt", "kind": "ai", "judgments": 1}],
        "judgments": [[IDS[0], "human", 1], [IDS[1], "human", 2], [IDS[2], "human", 2], [IDS[3], "ai", 2]],
    }  # fmt: skip
    write_json(path.with_name("preferences.jsonl.lineage.json"), record)
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reward model on an exported file, a policy on it from the hub, all named from the working folder."""
    monkeypatch.chdir(tmp_path)
    data = export(tmp_path / "data")
    described = {"source": "data/preferences.jsonl", "sha256": sha256_file(data), "records": 1}
    hub = {"name": "someone/base-1b", "fingerprint": ""}
    reward = model(tmp_path / "reward", "reward", parents={"model": hub}, data=described)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "p"}\n')
    given = {"source": "prompts.jsonl", "sha256": sha256_file(prompts), "records": 1}
    model(tmp_path / "ppo", "ppo", parents={"model": hub, "reward": of(reward)}, data=given)
    return tmp_path


def test_a_single_run_leads_back_to_the_raters_of_the_export(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # names of the working folder are found from the run's own
    found = trace(runs / "ppo")
    assert [one.name for one in found.artifacts] == [
        "ppo", "someone/base-1b", "reward", "data/preferences.jsonl", "prompts.jsonl"
    ]  # fmt: skip
    assert {link.role: (link.name, link.same) for link in found.named["ppo"].made_from} == {
        "model": ("someone/base-1b", None), "reward": ("reward", True), "data": ("prompts.jsonl", True)
    }  # fmt: skip
    assert found.by_kind == {"ai": 1, "human": 3}
    assert found.ai_share == 0.25
    assert (found.people, [one.judgments for one in found.raters]) == (2, [2, 1, 1])
    assert [(one.programme, one.version, one.judgments) for one in found.guidelines] == [("shop", 1, 1), ("shop", 2, 3)]
    assert [(one.id, one.judgments) for one in found.snapshots] == [("s-1", 4)]
    assert [one.name for one in found.judges] == ["gpt"]
    assert found.ends == {"prompts.jsonl": "this file has no manifest, so nothing says what it was made from"}


def test_changed_and_vanished_files_of_single_runs_are_named(runs: Path) -> None:
    (runs / "data/preferences.jsonl").write_text("{}\n")
    (runs / "prompts.jsonl").unlink()
    (runs / "reward/model.safetensors").write_bytes(b"other")
    found = trace(runs / "ppo")
    assert sorted(found.changed) == ["data/preferences.jsonl", "prompts.jsonl", "reward/model.safetensors"]
    assert {link.role: link.same for link in found.named["ppo"].made_from}["reward"] is False
    assert found.by_kind == {}  # the record beside speaks of another file
    assert "says nothing of it" in found.ends["data/preferences.jsonl"]
    assert found.named["prompts.jsonl"].state == "gone"


def test_labels_of_heedful_judge_lead_to_the_judge_and_its_constitution(tmp_path: Path) -> None:
    place = tmp_path / "judged"
    place.mkdir()
    looks = [
        {"rater": {"kind": "ai", "name": "m"}, "payload": {"strength": 1}},
        {"rater": {"name": "m"}, "payload": None},
    ]
    (place / "judgments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in looks))
    (place / "preferences.jsonl").write_text("{}\n")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("{}\n")
    files = {"judgments": "judgments.jsonl", "preferences": "preferences.jsonl"}
    about = {
        "files": files, "sha256": {name: sha256_file(place / name) for name in files.values()},
        "read": {"data": {"source": str(pairs), "sha256": sha256_file(pairs)}}, "constitution": "mild (abc123)",
        "judges": [{"name": "m", "template": "pair-1"}],
    }  # fmt: skip
    write_json(place / "judge.json", about)
    described = {"source": str(place / "preferences.jsonl"), "sha256": sha256_file(place / "preferences.jsonl")}
    model(tmp_path / "reward", "reward", parents={}, data=described)
    found = trace(tmp_path / "reward")
    assert [(one.name, one.kind, one.state) for one in found.artifacts] == [
        ("reward", "reward", "whole"), ("judged", "judge", "whole"), ("pairs.jsonl", "file", "whole")
    ]  # fmt: skip
    assert found.named["reward"].made_from[0].same is True
    assert [(one.name, one.template, one.constitution, one.judgments) for one in found.judges] == [
        ("m", "pair-1", "mild (abc123)", 1)
    ]
    assert found.constitutions == ("mild (abc123)",)
    assert found.by_kind == {"ai": 1}
    (place / "judgments.jsonl").write_text("")
    assert trace(tmp_path / "reward").changed == ("judged/judgments.jsonl",)


def test_a_file_from_a_studio_elsewhere_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("{}\n")
    write_thin_record(path, "shop", "https://studio.example.org", "heedful", 1, "s-9")
    found = trace(path)
    assert (found.named["p.jsonl"].kind, found.named["p.jsonl"].state) == ("export", "whole")
    assert found.ends == {"p.jsonl": "the judgments stand in the studio https://studio.example.org"}
    assert [one.id for one in found.snapshots] == ["s-9"]


# --- the other way round ---


def test_what_was_made_from_a_raters_judgments_is_found(runs: Path) -> None:
    (runs / "web").mkdir()
    (runs / "web/manifest.json").write_text('{"name": "of another tool", "files": ["a"]}')
    (runs / "manifest.json").write_text("no JSON")
    found = {one.name: (one.judgments, one.by_way_of) for one in made_from_rater(runs, "p-1")}
    assert found == {
        "data/preferences.jsonl": (2, ()),
        "reward": (0, ("data/preferences.jsonl",)),
        "ppo": (0, ("reward",)),
    }
    assert made_from_rater(runs, "p-9") == ()
    assert made_from_withdrawn(runs) == ()
    from uuid import UUID

    append(runs / "erasures.jsonl", [("judgment", UUID(IDS[1])), ("rater", UUID(IDS[0]))])
    found = {one.name: (one.judgments, one.by_way_of) for one in made_from_withdrawn(runs)}
    assert found["data/preferences.jsonl"] == (1, ())
    assert set(found) == {"data/preferences.jsonl", "reward", "ppo"}
    assert [(one.name, one.judgments) for one in trace(runs / "ppo").withdrawn] == [("data/preferences.jsonl", 1)]


# --- cards ---


def test_a_card_says_whose_judgments_and_which_rubric_and_loads_in_hugging_face(runs: Path) -> None:
    record = {
        "policy": str(runs / "ppo"), "baseline": "runs/sft", "judge": "gold", "prompts": 50,
        "verdicts": {"gold": {"win_rate": {"rate": {"mean": 0.7, "low": 0.6, "high": 0.8}}}},
    }  # fmt: skip
    write_json(runs / "evaluation.json", record)
    (runs / "ppo/alarms.jsonl").write_text(json.dumps({"step": 3, "sign": "length", "tier": "warn"}) + "\n")
    card = card_of(runs / "ppo", license="apache-2.0")
    path = write_card(runs / "ppo", card)
    read = ModelCard.load(path)
    assert read.data.base_model == "someone/base-1b"
    assert read.data.license == "apache-2.0"
    assert read.data.library_name == "transformers"
    assert read.data.tags == ["heedful", "ppo", "rlhf", "rlaif"]
    assert read.data.datasets is None
    text = read.text
    assert "2 people judged" in text
    assert "version 1 of shop (1 judgments), version 2 of shop (3 judgments)" in text
    assert "| ai | 1 | 25.0% |" in text
    assert "| over sft (`evaluation.json`) | 70.0% | 60.0% to 80.0% | 50 | gold |" in text
    assert "the watch raised length (warn) 1 time" in text
    assert "No fresh judgments have checked it" in text
    assert str(runs) not in str(card)
    assert ModelCard.load(write_card(runs / "reward", card_of(runs / "reward"))).data.license is None


def test_each_round_writes_a_card_that_changes_nothing(programme: Path) -> None:
    for number in (1, 2):
        read = ModelCard.load(programme / f"rounds/{number}/policy/README.md")
        assert read.data.tags == ["heedful", "rloo", "rlaif"]
        assert f"# tiny, round {number}: rloo" in read.text
        assert "| 100.0% |" in read.text
        assert f"rounds/{number}/policy over the policy before it (kept)" in read.text
    place = programme / "rounds/2/policy"
    text, before = (place / "README.md").read_text(), content(str(place))
    (place / "README.md").unlink()
    assert content(str(place)) == before
    assert go(programme)["made"] == []
    assert (place / "README.md").read_text() == text  # the same again: nothing in it tells of a time or a place
    (place / "README.md").write_text("# My own words\n")
    assert content(str(place)) != before  # of a folder that another programme begins with
    assert go(programme)["made"] == []
    assert (place / "README.md").read_text() == "# My own words\n"
    assert all(one.done for one in foreseen(programme))
    with pytest.raises(HeedfulError, match="heedful did not write"):
        write_card(place, card_of(place))
    write_card(place, card_of(place), overwrite=True)
    assert (place / "README.md").read_text() == text


def test_names_are_no_markup_of_a_card(programme: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(programme, tmp_path / "copy"))
    recipe = copy / "heedful.yaml"
    name = "shop | [free](javascript:alert(1))\n\n## Checks\n\n<script>alert(1)</script> `x`"
    given = yaml.safe_load(recipe.read_text()) | {"name": name}
    recipe.write_text(yaml.safe_dump(given))
    text = str(card_of(copy))
    assert text.count("## Checks") == 2  # once in the title's line, where it is a text
    assert [line for line in text.splitlines() if line.startswith("## Checks")] == ["## Checks"]
    for forged in ("<script", "](javascript", "`x`"):
        assert forged not in text
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"


def test_the_card_command_writes_shows_and_refuses(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(runs / "ppo"), "--show"]) == 0
    assert capsys.readouterr().out.startswith("---\nlibrary_name: transformers\n")
    assert not (runs / "ppo/README.md").exists()
    assert main(["card", str(runs / "ppo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["base_model"] == "someone/base-1b"
    assert (runs / "ppo/README.md").exists()
    assert main(["card", str(runs / "data")]) == 2
    assert "there is none in this folder" in capsys.readouterr().err


def test_hashes_of_a_models_folder_are_those_of_training(runs: Path) -> None:
    from heedful.models.fingerprint import model_fingerprint

    assert folder_fingerprint(runs / "reward") == model_fingerprint(runs / "reward")
    names = ("config.json", "model.safetensors")
    assert folder_fingerprint(runs / "reward") == sha256_json(
        {name: sha256_file(runs / "reward" / name) for name in names}
    )
