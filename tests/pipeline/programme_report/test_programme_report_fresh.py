"""A report of a tiny programme that was really trained: what it samples and scores, and that it does so once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from heedful.cli.main import main
from heedful.files import sha256_file
from heedful.pipeline.programme_report.cache import Cache
from heedful.pipeline.programme_report.fresh import Asked, HeadToHead, Maker, Probes, check_prompts
from heedful.pipeline.programme_report.material import Material, gather
from heedful.pipeline.programme_report.reading import read_results
from heedful.pipeline.rounds.rows import read_prompts
from heedful.training.progress import Display
from rounds_programme import go, likes_yes, write_programme

ASKED = Asked(prompts=20, requests=12)
MADE = {
    "answers 0", "answers 1", "answers 10", "answers 11", "first policy judged", "last policy judged",
    "reward model probed",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_programme(tmp_path_factory.mktemp("report") / "programme", rounds=1, check={"above": 0.0})
    go(made)
    return made


def rounds_of(folder: Path) -> dict[Path, str]:
    return {path: sha256_file(path) for path in sorted((folder / "rounds").rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(folder: Path) -> Material:
    before = rounds_of(folder)
    found = gather(read_results(folder), ASKED, Display())
    assert rounds_of(folder) == before
    return found


def test_the_last_policy_meets_the_first_on_prompts_of_checks(folder: Path, made: Material) -> None:
    contest = made.contest
    assert isinstance(contest, HeadToHead)
    assert len(contest.prompts) == 20
    trained = read_prompts(folder / "rounds/1/prompts/train.jsonl") + read_prompts(
        folder / "rounds/1/prompts/reward.jsonl"
    )
    assert not set(contest.prompts) & set(trained)
    scores = [likes_yes(contest.prompts, [one.text for one in own]) for own in (contest.first, contest.last)]
    assert contest.won is not None
    for before, after, a, b, won in zip(*scores, contest.first, contest.last, contest.won, strict=True):
        told = a.text.strip() and b.text.strip() and a.text.strip() != b.text.strip()
        assert won == (0.5 if not told or before == after else float(after > before))
    assert contest.rate is not None
    assert contest.rate.mean == pytest.approx(sum(contest.won) / 20)
    assert contest.judge == "the AI judge rounds_programme:likes_yes"
    assert contest.golds is None


def test_refusals_and_probes_are_of_both_policies_and_of_the_last_reward_model(made: Material) -> None:
    assert isinstance(made.refusals, dict)
    assert {name: one.prompts for name, one in made.refusals.items()} == {"first policy": 12, "last policy": 12}
    assert isinstance(made.probes, Probes)
    assert made.probes.reward == "rounds/1/reward"
    assert set(made.made) == MADE


def test_what_was_made_is_found_again_and_what_is_broken_made_anew(
    folder: Path, made: Material, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    again = gather(read_results(copy), ASKED, Display())
    assert (again.made, set(again.found)) == ([], MADE)
    assert again.contest == made.contest
    broken = next((copy / "report/cache").glob("answers-1-*.json"))
    broken.write_text("[")
    third = gather(read_results(copy), ASKED, Display())
    assert third.made == ["answers 1"]
    assert third.contest == made.contest
    shutil.rmtree(copy / "report")
    maker = Maker(read_results(copy), ASKED, Cache.of(copy), Display())
    assert maker.head_to_head() == made.contest


def test_other_prompts_or_another_policy_are_other_values(folder: Path, made: Material) -> None:
    results = read_results(folder)
    prompts = check_prompts(results, 10)
    assert prompts == check_prompts(results, 20)[:10]
    cache = Cache.of(folder)
    Maker(results, ASKED, cache, Display()).answers("rounds/1/policy", check_prompts(results, 20), 0, "x")
    assert cache.made == ["answers 0"]
    cache = Cache.of(folder)
    Maker(results, ASKED, cache, Display()).answers("rounds/0/sft", check_prompts(results, 20), 0, "x")
    assert cache.made == []


def test_the_command_writes_pages_of_programmes_and_runs(
    folder: Path, made: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rounds_of(folder)
    flags = ["--prompts", "20", "--requests", "12"]
    assert main(["report", str(folder), *flags]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("The last policy is preferred to the one it began with in")
    assert said[1].startswith("From the cache: answers 0, answers 1")
    assert said[2] == str(folder / "report/index.html")
    assert main(["report", str(folder), *flags, "--no-probes", "--json", "--out", str(tmp_path / "p.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["rounds ended"] == 1
    assert found["without"] == {"probes": "Left out by --no-probes; heedful report with --probes makes it."}
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    recipe = (other / "heedful.yaml").read_text()
    (other / "heedful.yaml").write_text(recipe.replace("learning_rate: 0.001", "learning_rate: 0.002"))
    out = tmp_path / "both.html"
    assert main(["report", "--compare", str(folder), str(other), "--out", str(out), *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["programmes"]) == ["programme", "other"]
    assert found["cautions"] == []
    assert "rloo.optimiser.learning_rate" in out.read_text()
    run = folder / "rounds/1/policy"
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report/round-1-policy.html")
    page = (folder / "report/round-1-policy.html").read_text()
    assert "RLOO: round 1 of programme" in page
    assert "KL to where it began" in page
    assert rounds_of(folder) == before
