"""heedful import and heedful export: the store's services, behind flags, exit codes and one clear message."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import account, batch, item, programme, rater
from feedback_stores import forget, url_of_default
from heedful.cli import feedback_io
from heedful.cli.main import main
from heedful.feedback import client, snapshots, submission
from heedful.feedback.models import Batch, Item, Judgment, Membership, Programme, RaterKind

pytestmark = pytest.mark.django_db
GOOD = [
    {"q": "What is 1?", "first": "one", "second": "two", "lang": "en"},
    {"q": "And 2?", "first": "two", "second": "one"},
]
MAP = ["--map", "prompt=q", "a=first", "b=second"]


def run(*words: str | Path) -> int:
    return main([*map(str, words), "--database", url_of_default()])


@pytest.fixture
def of() -> Programme:
    return programme()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    return path


def judged(of: Programme) -> None:
    who = rater(of, kind=RaterKind.SIMULATED)
    made = batch(of, name="judged")
    for number, strength in enumerate((-2, 0, 3)):
        one = item(made, text=f"q{number}", answers=[f"a{number}", f"b{number}"])
        submission.record(one, who, {"strength": strength}, key=f"k{number}")


def test_a_file_is_staged_and_opened(of: Programme, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", rows, "--programme", of.slug, *MAP, "--name", "first", "--quota", "2", "--round", "3"]
    assert run(*words, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    made = Batch.objects.get()
    assert said["batch"] == str(made.pk)
    assert (said["items"], said["task"], said["problems"]) == (2, "pairwise", 0)
    assert said["map"] == {"prompt": "q", "a": "first", "b": "second", "language": "lang"}
    assert (made.name, made.state, made.quota, made.round) == ("first", "staged", 2, 3)
    assert run(*words) == 2
    assert "already, as the batch 'first'" in capsys.readouterr().err
    assert run("import", rows, "--programme", of.slug, *MAP, "--again", "--open") == 0
    assert "Batch 'rows.jsonl' is open" in capsys.readouterr().out
    assert sorted(Batch.objects.values_list("state", flat=True)) == ["open", "staged"]


def test_a_dry_run_lists_every_problem_and_writes_nothing(
    of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,a,b,language\nhi,1,2,en\n,1,2,en\nhi,1,,en\nhi,1\nhi,1,2,\x1b[31mred\n")
    assert run("import", path, "--programme", of.slug, "--dry-run") == 2
    printed = capsys.readouterr().out
    for part in ("4 problems", "line 3, prompt", "line 4, b", "line 5:", "line 6, language"):
        assert part in printed
    assert "\x1b[31mred" not in printed
    assert run("import", path, "--programme", of.slug, "--dry-run", "--json") == 2
    assert json.loads(capsys.readouterr().out)["problems"] == 4
    assert run("import", path, "--programme", of.slug) == 2
    said = capsys.readouterr()
    assert f"error: {path}:3: prompt: there is no prompt." in said.err
    assert "one of 4 problems" in said.err
    assert "--dry-run" in said.err
    assert not said.out
    path.write_bytes(b"prompt,a,b\nhi,1,2\n")
    assert run("import", path, "--programme", of.slug, "--dry-run") == 0
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--map", "a"], "map: 'a' maps nothing."),
        (["--map", "a=frist"], "map a: there is no column 'frist'. Did you mean 'first'?"),
        (["--map", "prompt=q", "a=first", "--task", "ranking"], ":1: first: 1 completions, and the task ranking"),
        ([*MAP, "--quota", "0"], "quota: 0 is no whole number"),
        ([*MAP, "--programme", "nowhere"], "programme: there is no programme 'nowhere'."),
    ],
)
def test_mistakes_are_one_message(
    of: Programme, rows: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", rows, "--programme", of.slug, *words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not Item.objects.exists()


def test_exports_in_each_format(of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged(of)
    out = tmp_path / "pairs.jsonl.gz"
    assert run("export", out, "--programme", of.slug, "--margin", "scaled", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["ties"], said["judgments"]) == (2, 1, 3)
    assert said["ties_out"] == str(tmp_path / "pairs-ties.jsonl.gz")
    assert (
        run("export", tmp_path / "h.jsonl", "--programme", of.slug, "--format", "heedful", "--batches", "judged") == 0
    )
    assert re.search(r"rows +3 ", capsys.readouterr().out)
    weighed = ["--format", "heedful", "--consensus", "rater-aware", "--json"]
    assert run("export", tmp_path / "w.jsonl", "--programme", of.slug, *weighed) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["consensus"], said["anchors"], said["rows"]) == ("rater-aware", 0, 3)
    assert said["notes"][0].startswith("No pair was judged by two raters")
    assert '"consensus": "rater-aware"' in (tmp_path / "w.jsonl").read_text()
    made = snapshots.create_snapshot(of, "first")
    for name in ("first", str(made.pk)):
        path = tmp_path / f"{name}.jsonl"
        assert run("export", path, "--programme", of.slug, "--format", "heedful", "--snapshot", name) == 0
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / f"{made.pk}.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "sft", "--margin", "strength"], "margin: margin says nothing in the format 'sft'."),
        (["--format", "sft", "--consensus", "mace"], "consensus: consensus says nothing in the format 'sft'."),
        (["--snapshot", "frist"], "snapshot: there is no snapshot 'frist'. Did you mean 'first'?"),
        (["--batches", "judgd"], "Did you mean 'judged'?"),
        (["--rounds", "7"], "there is nothing to export."),
    ],
)
def test_an_export_that_cannot_be_is_one_message(
    of: Programme, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(of)
    snapshots.create_snapshot(of, "first")
    assert run("export", tmp_path / "out.jsonl", "--programme", of.slug, *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_raw_export_is_restored(of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged(of)
    raw = tmp_path / "raw.jsonl"
    assert run("export", raw, "--programme", of.slug, "--format", "raw") == 0
    assert run("import", raw, "--programme", "again") == 2
    said = capsys.readouterr().err
    assert f"this programme is here already, as '{of.slug}'" in said
    assert "--database ADDRESS" in said
    assert run("import", raw, "--programme", "again", "--dry-run") == 2
    assert "line 1, programme.id: this programme is here already" in capsys.readouterr().out
    for words in (["--quota", "2"], ["--map", "a=b"], ["--open"], ["--judgments-as", "x", "--judgments-by", "ai"]):
        assert run("import", raw, "--programme", "again", *words) == 2
        assert "says nothing of a raw export" in capsys.readouterr().err
    forget(of)
    assert run("import", raw, "--programme", "again", "--dry-run") == 0
    capsys.readouterr()
    assert run("import", raw, "--programme", "again", "--admin", "nobody") == 2
    assert "there is no account 'nobody'" in capsys.readouterr().err
    who = account()
    assert run("import", raw, "--programme", "again", "--admin", who.username) == 0
    assert "Programme 'again' is restored." in capsys.readouterr().out
    again = Programme.objects.get(slug="again")
    assert again.pk == of.pk
    assert Membership.objects.get(programme=again).account == who


def test_verdicts_of_a_file_become_judgments_of_whom_one_names(
    of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rated.jsonl"
    rows = [{"prompt": "p", "chosen": "x", "rejected": "y", "chosen-rating": n, "rejected-rating": 3} for n in (3, 5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["import", path, "--programme", of.slug]
    assert run(*words, "--dry-run") == 0
    assert "is kept aside" in capsys.readouterr().out
    asked = [*words, "--judgments-as", "GPT-4"]
    assert run(*asked) == 2
    assert "judgments_by: say who gave the verdicts: person, ai, end_user." in capsys.readouterr().err
    assert run(*words, "--judgments-by", "ai") == 2
    assert "whose judgments are they?" in capsys.readouterr().err
    asked += ["--judgments-by", "ai"]
    assert run(*asked, "--dry-run") == 0
    assert "2 verdicts of the file become judgments." in capsys.readouterr().out
    assert not Judgment.objects.exists()
    assert main([*map(str, asked), "--studio", "https://studio.example.org"]) == 2
    assert "become judgments at a database" in capsys.readouterr().err
    assert run(*asked) == 0
    said = Judgment.objects.filter(rater__name="GPT-4", rater__kind="ai").order_by("item__position")
    assert [one.payload["strength"] for one in said] == [0, -2]
    path.write_text(json.dumps(rows[0] | {"chosen-rating": "fine"}) + "\n")
    assert run(*asked, "--dry-run") == 2
    assert "line 1, chosen-rating: it is no number." in capsys.readouterr().out
    assert run(*asked) == 2
    assert f"{path}:1: chosen-rating: it is no number." in capsys.readouterr().err
    assert Batch.objects.count() == 1


def test_a_studio_is_asked_through_the_client(
    of: Programme, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.feedback.local import LocalClient

    asked: list[dict[str, Any]] = []

    def connect(**given: Any) -> LocalClient:
        asked.append(given)
        return LocalClient(url_of_default())

    monkeypatch.setattr(client, "connect", connect)
    where = ["--studio", "https://studio.example.org"]
    words = ["import", str(rows), "--programme", of.slug, *MAP, "--name", "far", *where, "--json"]
    assert main([*words, "--open"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["state"], first["items"]) == ("open", 2)
    assert main(words) == 0  # a second run adds nothing
    assert json.loads(capsys.readouterr().out)["batch"] == first["batch"]
    assert Item.objects.count() == 2
    judged(of)
    out = tmp_path / "out.jsonl"
    assert main(["export", str(out), "--programme", of.slug, "--format", "heedful", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3
    assert asked[0] == {"studio": where[1], "allow_insecure": False}
    bad = [{**GOOD[0], "expertise": "x"}, {**GOOD[1], "raters": "nobody"}]
    rows.write_text("".join(json.dumps(row) + "\n" for row in bad))
    assert main(words) == 2
    assert "rows.jsonl:2, named_raters[0]" in capsys.readouterr().err
    assert main(["export", str(out), "--programme", of.slug, *where, "--database", url_of_default()]) == 2
    assert "a database or a studio, not both" in capsys.readouterr().err


def test_without_a_store_it_says_so_and_makes_none(rows: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    for words, said in (
        (["import", str(rows), "--programme", "x"], "there is no database here."),
        (["export", "out.jsonl", "--programme", "x"], "there is no database here."),
        (["export", "out.jsonl", "--programme", "x", "--database", "mysql://x"], "no database that heedful knows"),
        (["import", str(rows), "--programme", "x", *MAP, "--studio", "https://studio.example.org"], "HEEDFUL_TOKEN"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "heedful.cli.main", *words],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=environment | {"HEEDFUL_TOKEN": ""},
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feedback.db").touch()
    code = (
        "import sys; from heedful.cli.main import main; "
        "code = main(['export', 'out.jsonl', '--programme', 'x']); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 2
    assert "its tables are not those of this version" in done.stderr


def test_what_a_dry_run_prints_is_bounded(of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    kinds = itertools.cycle([{"prompt": "", "a": "1", "b": "2"}, {"prompt": "p", "a": "", "b": "2"}])
    path.write_text("".join(json.dumps(next(kinds)) + "\n" for _ in range(500)))
    assert run("import", path, "--programme", of.slug, "--dry-run") == 2
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) < feedback_io.SHOWN + 15
    assert "  250 × prompt: there is no prompt." in printed
