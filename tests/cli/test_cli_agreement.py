"""heedful agreement: a store with planted habits, on the screen, as JSON, as a page, through the API."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agreement_store import crowded
from feedback_factories import batch, item, programme, rater
from feedback_stores import url_of_default
from heedful.cli.agreement import population
from heedful.cli.main import main
from heedful.errors import HeedfulError
from heedful.feedback import client, submission
from heedful.feedback.models import Programme, RaterKind

pytestmark = pytest.mark.django_db


def run(of: Programme, *words: str | Path) -> int:
    return main(["agreement", "--programme", of.slug, *map(str, words), "--database", url_of_default()])


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    of = crowded()
    assert run(of, "--json", "--samples", "200", "--population", "age.young=0.2", "age.old=0.8") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["judgments"], said["items"], said["raters"]) == (60 * 5 + 6 * 3 + 6 * 3, 72, 15)
    assert [row["of"] for row in said["kinds"]] == [
        "comparisons, a tie an answer of its own",
        "comparisons, ties left out",
        "comparisons, by strength",
        "rankings, pair by pair",
    ]
    assert [row["of"] for row in said["attributes"]] == ["helpful", "honest"]
    assert said["attributes"][1]["alpha"]["mean"] is None  # all gave three points
    assert [row["part"] for row in said["sources"]] == ["person", "people with machines"]
    assert {row["part"] for row in said["batches"]} == {"first", "second"}
    assert len(said["time"]) == 12
    assert said["time"][0]["part"] == "2026-05-04"
    ceiling = said["ceiling"]
    assert ceiling["widest"]["low"] < ceiling["ceiling"]["low"] == ceiling["agreement"]["mean"]
    assert ceiling["ceiling"]["low"] < ceiling["ceiling"]["high"] < ceiling["widest"]["high"]
    assert {one["agreement"] for one in said["anchors"]} == {0.726, 0.773, 0.63, 0.657, 0.622}
    assert said["cards"][0]["weight"] == "act"
    assert {one["about"] for one in said["cards"][0]["findings"]} == {"gold", "others"}
    assert said["cards"][0]["gold"]["of"] == 8
    assert {card["gold"]["of"] for card in said["cards"][1:] if card["gold"]} == {7}  # the upheld contest is out
    age, place = said["groups"]
    assert (age["question"], age["raters"]) == ("age", {"old": 8, "young": 6})
    longer = next(one for one in age["topics"] if one["topic"] == "the longer answer")
    assert longer["adjusted_p"] < 0.05
    assert longer["difference"]["high"] < 0  # the old like it less
    moved = next(one for one in age["reweighted"] if one["topic"] == "the longer answer")
    assert moved["population"] < moved["labels"] - 0.05
    assert (place["raters"], place["shares"], place["topics"]) == ({}, None, [])
    assert "town" not in json.dumps(said)


def test_the_terminal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    of = crowded()
    for columns in ("80", "180"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(of, "--samples", "200") == 0
        said = re.sub(r"\s+", " ", capsys.readouterr().out)
        for part in (
            "336 judgments of 72 items by 15 raters.",
            "Talk to 1 of 15 raters now",
            "Talk to them now: do they mix up the answers",
            "AlpacaFarm, always the longer",
            "62%",
            "No reward model can agree with single labels more often than",
            "Groups differ: say in the data card",
            "Groups of fewer than five raters are left out.",
            "Everybody gave the same points",
            "judge-7b",
        ):
            if columns == "80" or not part.startswith(("Talk to them", "Everybody")):  # a wide table breaks sentences
                assert part in said, (columns, part)
        assert "person-" not in said  # accounts' names
    assert run(of, "--samples", "200", "--names", "--json") == 0
    names = {card["rater"] for card in json.loads(capsys.readouterr().out)["cards"]}
    assert "judge-7b" in names
    assert sum(name.startswith("person-") for name in names) == 14


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[key] or "" for key in ("href", "src") if key in given]


def test_the_page_is_whole_in_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = crowded()
    item_batch = batch(of, name="<script>alert(1)</script>", quota=2)
    one = item(item_batch)
    for number in range(2):
        who = rater(of, kind=RaterKind.SIMULATED, name=f"<b>{number}\x1b[31m")
        submission.record(one, who, {"strength": 1}, key=str(number))
    path = tmp_path / "page.html"
    words = ("--samples", "200", "--html")
    assert run(of, *words, path) == 0
    out = capsys.readouterr().out
    assert f"The page is {path}." in out.replace("\n", "")
    assert "\x1b" not in out
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") >= 9
    assert "prefers-color-scheme: dark" in text
    assert "Content-Security-Policy" in text
    for part in ("Talk to 1 of 17 raters now", "AlpacaFarm, always the longer answer", "Nothing stands out: carry on."):
        assert part in text
    again = tmp_path / "again.html"
    assert run(of, *words, again) == 0  # the same seed, the same bytes
    assert again.read_bytes() == path.read_bytes()


def rounded(value: Any) -> Any:
    """With every number to twelve digits, however deep."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 12))


def test_a_studio_is_asked_through_the_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.feedback.local import LocalClient

    of = crowded()
    assert run(of, "--json", "--samples", "200") == 0
    near = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(client, "connect", lambda **given: LocalClient(url_of_default()))
    words = ["agreement", "--programme", of.slug, "--studio", "https://studio.example.org", "--samples", "200"]
    assert main([*words, "--json"]) == 0
    far = json.loads(capsys.readouterr().out)
    for name in ("judgments", "items", "kinds", "attributes", "sources", "rankings", "ceiling", "batches"):
        # Raters' pseudonyms, and so the order of sums, are others: the last bit may be too.
        assert rounded(far[name]) == rounded(near[name]), name
    assert far["groups"] is None
    assert "not told through a studio's API" in far["notes"][0]
    by_name = {card["rater"]: card["others"] for card in near["cards"]}
    people = {card["rater"]: card["others"] for card in far["cards"]}
    shared = set(by_name) & set(people)
    assert len(shared) == 14  # the same pseudonyms; the AI judge is one too
    assert all(people[name] == by_name[name] for name in shared)
    assert main([*words, "--population", "age.old=1"]) == 2
    assert "tells no groups" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--population", "age=0.3"], "'age=0.3' is no share of a group."),
        (["--population", "age.young=lots"], "is no share of a group."),
        (["--population", "shoes.large=1"], "nobody answered a question 'shoes'; answered: none."),
        (["--samples", "10"], "samples: fewer than 100 resamples"),
        (["--studio", "https://studio.example.org"], "give a database or a studio, not both."),
        (["--programme", "nowhere"], "there is no programme 'nowhere'."),
    ],
)
def test_mistakes_are_one_message(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = programme()
    submission.record(item(batch(of)), rater(of, kind=RaterKind.SIMULATED), {"strength": 1}, key="1")
    path = tmp_path / "page.html"
    assert run(of, *words, "--html", path) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
    assert not path.exists()


def test_a_programme_without_judgments_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(programme()) == 2
    assert "nobody has compared, ranked or scored anything yet." in capsys.readouterr().err


def test_one_rater_alone_agrees_with_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    of = programme()
    who = rater(of, kind=RaterKind.SIMULATED)
    for number in range(3):
        submission.record(item(batch(of)), who, {"strength": 1}, key=str(number))
    assert run(of, "--samples", "200") == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Nothing was judged by two raters, so nobody knows how far they agree: raise the quota to 2." in said
    assert "Nobody has enough shared items or gold to be compared" in said
    assert "Have items judged by two raters" in said


def test_populations() -> None:
    found = population(("age.young=0.3", "age.old.er=0.7", "place.a=b=2"))
    assert found == {"age": {"young": 0.3, "old.er": 0.7}, "place": {"a=b": 2.0}}
    for wrong in ("age.young", "age.=1", ".young=1", "age.young=0", "age.young=-1", "age.young=inf", "age.young=nan"):
        with pytest.raises(HeedfulError, match="no share of a group"):
            population((wrong,))


def test_help_names_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agreement", "--help"]) == 0
    said: Any = capsys.readouterr().out
    for flag in ("--programme", "--html", "--names", "--population", "--store.database", "--json"):
        assert flag in said
