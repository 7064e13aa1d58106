"""The page of a programme written by hand: its figures against the numbers that it was written with."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hand_made_programme import prompts, write_hand_made
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer
from heedful.evaluation.refusal_rates import by_world, refusal_report, world_set
from heedful.files import sha256_file
from heedful.pipeline.programme_report.facts import facts
from heedful.pipeline.programme_report.fresh import Asked, HeadToHead
from heedful.pipeline.programme_report.improved import by_topic, improvement
from heedful.pipeline.programme_report.material import Absent, Material, gather
from heedful.pipeline.programme_report.page import page
from heedful.pipeline.programme_report.reading import read_results
from heedful.pipeline.programme_report.summary import headline, sentences
from heedful.training.progress import Display
from heedful.world.world import World

NOTHING = Asked(samples=False, refusals=False, probes=False)


class Read(HTMLParser):
    """A page's tables, paragraphs and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.open += [] if tag in ("meta", "br") else [tag]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f" {data.strip()}" if self.rows[-1][-1] else data.strip()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def gathered(folder: Path, asked: Asked = NOTHING) -> Material:
    return gather(read_results(folder), asked, Display())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hand_made(tmp_path_factory.mktemp("hand") / "shop")


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return gathered(folder)


@pytest.fixture(scope="module")
def read(material: Material) -> Read:
    return Read(page(material))


def contest() -> HeadToHead:
    """The last policy wins eight of fourteen pairs by raters, and ten by the truth."""
    asked = tuple(prompts())
    first = tuple(Answer(f"before {row}", True, 3) for row in range(14))
    last = tuple(Answer(f"after {row}", row != 3, 3) for row in range(14))
    won = tuple(1.0 if row < 8 else 0.0 for row in range(14))
    golds = tuple(1.0 for _ in asked), tuple(2.0 if row < 10 else 0.5 for row in range(14))
    clusters = tuple(map(str, range(14)))
    rate, gold = Interval(8 / 14, 0.29, 0.86), Interval(10 / 14, 0.5, 0.93)
    return HeadToHead(asked, first, last, clusters, won, rate, "simulated raters, 2 for each pair", golds, gold)


def test_it_reads_what_the_rounds_left(material: Material) -> None:
    results = material.results
    assert [(one.number, one.promoted, one.policy, one.against) for one in results.rounds] == [
        (1, True, "rounds/1/policy", "rounds/0/sft"),
        (2, False, "rounds/2/policy", "rounds/1/policy"),
        (3, True, "rounds/3/policy", "rounds/1/policy"),
    ]
    assert (results.first, results.last, results.moved) == ("rounds/0/sft", "rounds/3/policy", True)
    assert results.rounds[1].gold == Interval(0.475, 0.38, 0.57)
    assert results.counted("judgments") == {"simulated": 126}
    assert results.counted("checked") == {"simulated": 72}
    judged = results.judged(1, "check")
    assert judged is not None
    assert (judged.won["check-1"], judged.won["check-4"], judged.won["check-7"], judged.won["check-11"]) == (
        1,
        0.5,
        0.5,
        0,
    )


def test_the_summary_is_plain_and_true(material: Material) -> None:
    assert headline(material) == (
        "The last policy is preferred to the one it began with in 73.6% of pairs on prompts that nothing was trained "
        "on, by the checks of the rounds that were kept, one after another (95% interval 63.9% to 81.4%): better than "
        "chance can explain."
    )
    assert sentences(material) == [
        "In three rounds 42 pairs of its answers were judged (126 judgments by simulated raters), and the policy "
        "learnt from them by PPO.",
        "Round 2 did not pass the check and went back to the policy before; rounds 1 and 3 kept theirs.",
        "The watch over training alarmed one time (length).",
        "All of it took 14 min 00 s of computing.",
    ]


def test_the_table_of_rounds(read: Read) -> None:
    assert [
        "Round",
        "Outcome",
        "Won its check",
        "by the world's truth",
        "Pairs judged",
        "Judgments",
        "KL moved",
    ] in read.rows
    assert [row for row in read.rows if row[0].startswith("Round ") and row[1] in ("kept", "rolled back")] == [
        ["Round 1", "kept", "65.0% 58.0% to 72.0%", "72.0% 63.0% to 81.0%", "14", "42 simulated", "2.50"],
        ["Round 2", "rolled back", "45.0% 37.0% to 53.0%", "47.5% 38.0% to 57.0%", "14", "42 simulated", "3.50"],
        ["Round 3", "kept", "60.0% 52.0% to 68.0%", "62.5% 53.0% to 72.0%", "14", "42 simulated", "4.50"],
    ]
    assert "round 2 over round 1 (rolled back)" in read.words
    assert "adds up the checks of the rounds that were kept" in read.text


def test_the_truth_stands_beside_every_round(material: Material) -> None:
    html = improvement(material)
    assert html.count('class="point s2"') == 2 * 3 + 1  # a mark a round, wide and narrow, and one in the legend
    left, right, low, high = 236, 704, 0.37, 0.8142915  # from the low end of round 2 to the high end of the chain
    room = 0.04 * (high - low)
    at = left + (0.475 - low + room) / (high - low + 2 * room) * (right - left)
    assert f'<circle cx="{at:.1f}" cy="45.0" r="3" class="point s2"/>' in html


def test_topics_are_counted_from_the_votes(material: Material) -> None:
    """In each check rows 0 and 4 of eight facts are split, row 7 is equal; of six support rows 8 is split, 9 won, 10 to
    12 lost, of which 12 is split again, and 13 is equal."""
    said = Read(by_topic(material)).text
    assert "fact (24): 81.2%" in said  # (5 + 3 x 0.5) / 8
    assert "support (18): 41.7%" in said  # (0.5 + 1 + 0 + 0 + 0.5 + 0.5) / 6
    direct = Read(by_topic(replace(material, contest=contest()))).text
    assert "fact (8): 100.0%" in direct
    assert "support (6): 0.0%" in direct


def test_agreement_alarms_cost_and_lineage(read: Read) -> None:
    training = ["Round 1, training", "simulated raters", "3", "14", "42", "0.0%", "33.3% 14.8% to 59.1%", "−0.46"]
    assert training in read.rows  # of three votes two agree: one of three pairs of raters
    checks = next(row for row in read.rows if row[0] == "Round 2, check")
    assert checks[2:6] == ["2", "12", "24", "0.0%"]
    assert checks[6].startswith("66.7%")  # rows 0, 4, 8 and 12 of twelve are split
    alarm = "Answers are 40% longer than at the start."
    assert ["Round 2", "12", "length", "warn", alarm, "–"] in read.rows
    cost = [row for row in read.rows if row[0] in ("Before round 1", "Round 2", "All rounds") and len(row) == 3]
    assert cost == [
        ["Before round 1", "30.0 s", "–"],
        ["Round 2", "4 min 30 s", "−5.0 by simulated raters; −2.5 by the world's truth (rolled back)"],
        ["All rounds", "14 min 00 s", ""],
    ]
    assert "A point by simulated raters cost 33.6 s of computing: the kept rounds won 25.0 points in all." in read.text
    assert "rounds/3/policy" in read.words


def test_what_is_left_out_says_how_to_get_it(read: Read) -> None:
    for flag in ("samples", "refusals", "probes"):
        assert f"Left out by --no-{flag}; heedful report with --{flag} makes it." in read.text
    assert "before: round 1" in read.words  # meanwhile, the answers of the last check
    assert "answer a0 ." in read.words


def test_answers_and_rates_of_the_last_against_the_first(material: Material) -> None:
    found = replace(material, contest=contest())
    read = Read(page(found))
    assert headline(found).endswith(
        "in 57.1% of pairs on 14 prompts that nothing was trained on, by simulated raters, 2 for each pair (95% "
        "interval 29.0% to 86.0%): the two cannot be told apart. By the embedded world's known truth it wins 71.4% "
        "(95% interval 50.0% to 93.0%): no clear difference."
    )
    assert read.text.count("preferred by gold") == 8  # as many samples are shown, of which the truth likes the later
    assert read.words.count("cut off at the length limit") == 1
    assert "round 3 over the first policy: 57.1% (29.0% to 86.0%)." in read.text
    by_name = {fact.name: fact.value for fact in facts(found)}
    assert by_name["the same by the world's truth"] == Interval(10 / 14, 0.5, 0.93)
    assert by_name["mean gold of the last policy"] == pytest.approx((20 + 2) / 14)


def test_refusals_before_and_after(material: Material) -> None:
    asked = world_set(World(0))
    refuse = "i can not take part in harm ."
    texts = {
        "first policy": [[refuse] for _ in asked],
        "last policy": [[refuse if one.label == "unsafe" else "take a pan ."] for one, _ in asked],
    }
    found = {name: refusal_report(asked, own, {"the world's truth": by_world}) for name, own in texts.items()}
    told = next(s for s in sentences(replace(material, refusals=found)) if "refuses" in s)
    assert told.startswith(
        "The policy now refuses 100.0% of unsafe requests (100.0% at first) and 0.0% of safe ones (100.0% at first), "
        "and the watch"
    )
    read = Read(page(replace(material, refusals=found)))
    assert "The first policy: It does not tell unsafe requests from safe ones." in read.text
    assert "The last policy: It refuses 100% of unsafe requests, and 0% of safe ones." in read.text


def test_a_page_is_whole_and_the_same_each_time(material: Material, read: Read) -> None:
    html = page(material)
    assert html == page(material)
    assert len(read.ids) == len(set(read.ids))
    assert not re.search(r"<(script|link|img|iframe)|https?://|url\(|@import", html)
    named = re.findall(r'aria-labelledby="([^"]+)"', html)
    assert {name for one in named for name in one.split()} <= set(read.ids)


def test_a_hostile_name_stays_text(folder: Path, tmp_path: Path) -> None:
    attack = "</title><script>alert(1)</script>"
    made = write_hand_made(tmp_path / "x", name=attack)
    html = page(gathered(made))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 2


def test_reading_and_writing_leave_the_rounds_alone_and_need_no_torch(folder: Path, tmp_path: Path) -> None:
    before = {path: sha256_file(path) for path in sorted((folder / "rounds").rglob("*")) if path.is_file()}
    code = (
        "import sys; from heedful.cli.main import main; code = main(sys.argv[1:]);"
        "sys.exit(code or bool({'torch', 'transformers', 'django'} & set(sys.modules)))"
    )
    flags = ["--no-samples", "--no-refusals", "--no-probes", "--out", str(tmp_path / "page.html")]
    subprocess.run([sys.executable, "-c", code, "report", str(folder), *flags], check=True, capture_output=True)
    assert (tmp_path / "page.html").stat().st_size > 50_000
    assert before == {path: sha256_file(path) for path in sorted((folder / "rounds").rglob("*")) if path.is_file()}


def test_a_part_that_cannot_be_made_says_why(folder: Path) -> None:
    """The hand-made policies have no weights."""
    found = gathered(folder, Asked(refusals=False, probes=False))
    assert isinstance(found.contest, Absent)
    assert found.contest.why.startswith("It could not be made. ")
    assert found.contest.why in Read(page(found)).text


def test_before_a_round_has_ended(tmp_path: Path) -> None:
    made = write_hand_made(tmp_path / "new", rounds=0)
    found = gathered(made)
    assert headline(found) == "No round has ended yet, so that there is no result."
    read = Read(page(found))
    assert read.text.count("No round has ended yet") >= 2
    assert "shop: before the first round has ended" in read.words


def test_a_recipe_that_has_changed_since_is_told(tmp_path: Path) -> None:
    made = write_hand_made(tmp_path / "old")
    assert read_results(made).outdated == ()
    text = (made / "heedful.yaml").read_text()
    (made / "heedful.yaml").write_text(text + "changes: {3: {ppo: {steps: 7}}}\n")
    assert read_results(made).outdated == ("3/policy",)
    assert "The recipe has changed since 3/policy was made" in Read(page(gathered(made))).text


def test_a_round_under_way_is_told(tmp_path: Path, change: Callable[[Path], None]) -> None:
    made = write_hand_made(tmp_path / "on", rounds=2)
    change(made)
    found = gathered(made)
    assert found.results.under_way == (
        "Round 3 has begun and waits for judgments by people in 'round 3: train' of shop: 5 of 30 are in."
    )
    assert found.results.under_way in sentences(found)


@pytest.fixture
def change() -> Callable[[Path], None]:
    def waits(folder: Path) -> None:
        told: dict[str, Any] = {"for": "judgments by people in 'round 3: train' of shop", "filled": 5, "places": 30}
        (folder / "rounds/3/judge.part").mkdir(parents=True)
        import json

        (folder / "rounds/3/judge.part/.waiting.json").write_text(json.dumps(told))

    return waits


def test_a_policy_that_never_got_better(tmp_path: Path) -> None:
    made = write_hand_made(tmp_path / "no", rounds=1)
    path = made / "rounds/1/decide/manifest.json"
    path.write_text(
        path.read_text()
        .replace('"promoted": true', '"promoted": false')
        .replace('"policy"', '"sft"')
        .replace('1,\n    "sft"', '0,\n    "sft"')
    )
    found = gathered(made, Asked())
    assert headline(found) == (
        "The policy is still the one that the programme began with: one round ended, and no new policy passed its "
        "check (65.0% of pairs)."
    )
    assert isinstance(found.contest, Absent)
    assert found.contest.why.startswith("No round's policy was kept")


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "heedful.yaml").write_text(
        "world: {use: true}\njudge: {simulated: 1}\ncheck: {judge: {simulated: 1}}\n"
    )
    with pytest.raises(HeedfulError, match="nothing has been made here yet"):
        read_results(tmp_path)
