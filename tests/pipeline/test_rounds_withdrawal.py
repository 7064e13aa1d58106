"""After an erasure: datasets lose the judgments, what was trained on them is named, and nobody is asked again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import programme as new_programme
from feedback_factories import rater
from heedful.cli.main import main
from heedful.errors import HeedfulError
from heedful.feedback.erasure import erase_rater, journal_of
from heedful.feedback.models import Batch, Judgment, Programme, Rater, Snapshot
from heedful.feedback.pulls import pseudonyms
from heedful.files import read_manifest, sha256_file
from heedful.pipeline.lineage import trace
from heedful.pipeline.provenance.affected import made_from_rater, made_from_withdrawn
from heedful.pipeline.rounds.programme import foreseen, status
from heedful.pipeline.rounds.rows import read_rows, read_said
from rounds_people import judge_all, recipe_of
from rounds_programme import go, write_programme, write_recipe

pytestmark = pytest.mark.on_sqlite
AI_CHECK = {"check": {"judge": {"people": 0.0, "ai": 1.0, "votes": 1}}}
TRAINED = ("reward", "policy", "check", "decide")


@pytest.fixture
def of(transactional_db: None) -> Programme:
    journal_of("default").unlink(missing_ok=True)
    return new_programme()


@pytest.fixture
def people(of: Programme) -> list[Rater]:
    return [rater(of), rater(of)]


def made(of: Programme, people: list[Rater], folder: Path, **over: Any) -> Path:
    """A programme that people have judged."""
    write_programme(folder, **{**recipe_of(of), **over})
    go(folder, wait=True, sleep=judge_all(of, people))
    return folder


def contents(folder: Path) -> dict[str, str]:
    found = [path for path in (folder / "rounds").rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): sha256_file(path) for path in found if path.name[0] != "."}


def pseudonym(of: Programme, who: Rater) -> str:
    return str(pseudonyms(str(of.pk)).of(who.pk))


def test_the_dataset_loses_the_judgments_and_what_was_decided_stands(
    of: Programme, people: list[Rater], tmp_path: Path
) -> None:
    folder = made(of, people, tmp_path / "programme")
    before, asked = contents(folder), Judgment.objects.count()
    said = read_said(folder / "rounds/1/judge/judgments.jsonl")
    gone = pseudonym(of, people[0])
    erase_rater(people[0])
    why = {one.step.name: one.why for one in foreseen(folder) if not one.done}
    assert why["1/judge"] == (f"{len(said) // 2} of its judgments were withdrawn",)
    assert list(why) == ["1/judge", "1/consensus", "1/dataset"]
    found = go(folder)
    assert found["made"] == ["1/judge", "1/consensus", "1/dataset"]
    assert found["withdrawn"] == ["rounds/1/reward", "rounds/1/check"]
    assert (Batch.objects.count(), Judgment.objects.count()) == (2, asked)  # nobody was asked anything
    left = read_said(folder / "rounds/1/judge/judgments.jsonl")
    assert left == [one for one in said if one.rater != gone]
    assert {row["votes"] for row in read_rows(folder / "rounds/1/dataset/preferences.jsonl")} == {1}
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} <= {
        f"rounds/1/{name}" for name in ("judge/judgments.jsonl", "consensus/preferences.jsonl",
                                        "dataset/preferences.jsonl", "policy/README.md")
    }  # fmt: skip
    manifest = read_manifest(folder / "rounds/1/judge") or {}
    assert manifest["record"]["withdrawn"] == {gone: len(said) // 2}
    newest = Snapshot.objects.order_by("pk").last()
    assert newest is not None
    assert manifest["store"]["snapshot"] == {"id": str(newest.pk), "sha256": newest.sha256, "judgments": len(left)}
    assert Snapshot.objects.count() == 2
    assert go(folder)["made"] == []
    assert status(folder)["withdrawn"] == ["rounds/1/reward", "rounds/1/check"]


def test_the_next_round_learns_from_what_stands(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    folder = made(of, people, tmp_path / "programme", **AI_CHECK)
    erase_rater(people[0])
    new = rater(of)
    found = go(folder, rounds=2, wait=True, sleep=judge_all(of, [people[1], new]))
    assert found["made"][:3] == ["1/judge", "1/consensus", "1/dataset"]
    assert {name.partition("/")[0] for name in found["made"][3:]} == {"2"}
    votes = [row["votes"] for row in read_rows(folder / "rounds/2/dataset/preferences.jsonl")]
    first = len(list(read_rows(folder / "rounds/1/consensus/preferences.jsonl")))
    assert votes == [1] * first + [2] * (len(votes) - first)
    record = (read_manifest(folder / "rounds/2/dataset") or {})["record"]
    assert record["withdrawn"] == {pseudonym(of, people[0]): first}
    assert "replaces" not in record


def test_a_round_that_is_under_way_is_made_again_before_it_goes_on(
    of: Programme, people: list[Rater], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heedful.pipeline.rounds import checking

    folder = write_programme(tmp_path / "programme", **{**recipe_of(of), **AI_CHECK})

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checking, "write_pairs", crash)
        with pytest.raises(KeyboardInterrupt):
            go(folder, wait=True, sleep=judge_all(of, people))
    erase_rater(people[1])
    found = go(folder)
    left = ("judge", "consensus", "dataset", "reward", "check", "decide")
    assert found["made"] == [f"1/{name}" for name in left]  # the other said the same: the reward model is the same
    assert found["withdrawn"] == []


def test_unlearning_makes_the_models_anew_and_asks_nobody_where_no_people_check(
    of: Programme, people: list[Rater], tmp_path: Path
) -> None:
    folder = write_programme(tmp_path / "programme", **{**recipe_of(of), **AI_CHECK})
    go(folder, wait=True, sleep=judge_all(of, people))
    asked = Judgment.objects.count()
    erase_rater(people[0])
    assert go(folder)["withdrawn"] == ["rounds/1/reward"]
    assert next(one.step.name for one in foreseen(folder, unlearn=True) if not one.done) == "1/reward"
    found = go(folder, unlearn=True)
    assert found["made"][0] == "1/reward"
    assert found["withdrawn"] == []
    assert Judgment.objects.count() == asked
    assert made_from_withdrawn(folder) == ()
    assert go(folder)["made"] == []


def test_what_was_unlearnt_rests_on_later_withdrawals_alone(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    third = rater(of)
    people = [*people, third]
    recipe = recipe_of(of)
    recipe["judge"] = {**recipe["judge"], "votes": 3}
    folder = write_programme(tmp_path / "programme", **{**recipe, **AI_CHECK})
    go(folder, wait=True, sleep=judge_all(of, people))
    count = Judgment.objects.filter(rater=third).count()
    names = [pseudonym(of, who) for who in people]
    erase_rater(people[0])
    go(folder)
    erase_rater(people[1])
    go(folder)
    assert [one.raters for one in trace(folder / "rounds/1/policy").withdrawn] == [{names[0]: count, names[1]: count}]
    go(folder, unlearn=True)
    assert trace(folder / "rounds/1/policy").withdrawn == ()
    former = (read_manifest(folder / "rounds/1/dataset") or {})["record"]["replaces"]
    assert [one["withdrawn"] for one in former] == [{names[1]: count}, {names[0]: count, names[1]: count}]


def test_unlearning_is_refused_before_anything_is_made_where_people_would_be_asked_anew(
    of: Programme, people: list[Rater], tmp_path: Path
) -> None:
    folder = made(of, people, tmp_path / "programme")
    before = contents(folder)
    erase_rater(people[0])
    with pytest.raises(HeedfulError, match="would be asked anew") as refused:
        go(folder, unlearn=True)
    assert refused.value.where == "rounds/1/check"
    assert contents(folder) == before


def test_where_nothing_is_left_to_learn_from_it_is_said(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    folder = made(of, people, tmp_path / "programme", **AI_CHECK)
    for who in people:
        erase_rater(who)
    with pytest.raises(HeedfulError, match="no judgment is left"):
        go(folder)
    assert read_said(folder / "rounds/1/judge/judgments.jsonl") == []
    assert read_manifest(folder / "rounds/1/dataset")


def test_a_store_that_is_gone_is_said_and_finished_rounds_stand(
    of: Programme, people: list[Rater], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(of, people, tmp_path / "programme")
    recipe = recipe_of(of)
    recipe["store"] = {**recipe["store"], "database": str(tmp_path / "gone.db")}
    write_recipe(folder, **recipe)
    assert status(folder)["done"] == 10
    assert "whether raters were erased" in capsys.readouterr().err.lower()


def test_artifacts_are_named_by_rater_and_by_what_was_withdrawn(
    of: Programme, people: list[Rater], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(of, people, tmp_path / "programme")
    gone = pseudonym(of, people[0])
    direct = {one.name: one.judgments for one in made_from_rater(folder, gone) if one.judgments}
    count = Judgment.objects.filter(rater=people[0], purpose="train").count()
    checked = Judgment.objects.filter(rater=people[0], purpose="check").count()
    assert direct == {"rounds/1/judge": count, "rounds/1/check": checked}
    every = {one.name for one in made_from_rater(folder, gone)}
    assert every == {f"rounds/1/{name}" for name in ("judge", "consensus", "dataset", *TRAINED)}
    assert made_from_withdrawn(folder) == ()

    erase_rater(people[0])
    shutil.copy(journal_of("default"), folder / "erasures.jsonl")
    assert {one.name for one in made_from_withdrawn(folder)} == every
    assert sum(one.judgments for one in trace(folder / "rounds/1/policy").withdrawn) == count
    go(folder)  # the records are clean now, and what was made from the old ones is still named
    left = {one.name: one.judgments for one in made_from_withdrawn(folder)}
    assert left == {"rounds/1/reward": count, "rounds/1/policy": 0, "rounds/1/check": checked, "rounds/1/decide": 0}
    assert made_from_rater(folder, gone) == made_from_withdrawn(folder)
    lineage = trace(folder / "rounds/1/policy")
    assert [(one.name, one.judgments, one.raters) for one in lineage.withdrawn] == [
        ("rounds/1/reward", count, {gone: count})
    ]
    card = (folder / "rounds/1/policy/README.md").read_text()
    assert f"{count} judgments that rounds/1/reward was made from were withdrawn since" in card

    assert main(["lineage", str(folder), "--withdrawn", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["made_from"]
    assert {row["name"]: row["judgments"] for row in told} == left
    assert main(["lineage", "--rater", gone, "--under", str(folder)]) == 0
    assert "rounds/1/policy" in capsys.readouterr().out
    assert main(["lineage", str(folder), "--rater", "nobody"]) == 0
    assert capsys.readouterr().out.startswith("Nothing below")
