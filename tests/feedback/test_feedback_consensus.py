"""The consensus of exported preferences: raters weighed by what they say, anchored by the store's gold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feedback_factories import account, batch, item, programme, rater
from feedback_programmes import agents, lines, mixed, say
from heedful.core.consensus import METHODS
from heedful.data.load import DataSpec, load_preferences
from heedful.data.records import Message, Preference
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, gold, snapshots, submission
from heedful.feedback.export_consensus import Anchor, _Columns, settle, truths
from heedful.feedback.export_select import judged, selection
from heedful.feedback.export_votes import Judged, Text, Vote
from heedful.feedback.exports import export
from heedful.feedback.models import AuditEvent, Item, Membership, Programme, Purpose, Rater, RaterKind, Role
from heedful.feedback.pseudonyms import Pseudonyms


def asked(key: str, votes: dict[str, int], order: tuple[int, ...] = ()) -> Judged:
    """A comparison with each rater's strength for b."""
    given = tuple(
        Vote(who, "person", ({"strength": strength},), (order,) if order else ()) for who, strength in votes.items()
    )
    answers = (Text(f"{key} one"), Text(f"{key} the other"))
    return Judged(key, "pairwise", [{"role": "user", "content": key}], answers, given)


def crowd(items: int = 40) -> list[Judged]:
    """Three who agree but for a slip of one in seven, and one who says the opposite."""
    random = np.random.default_rng(0)
    found = []
    for i in range(items):
        side = 1 if random.random() < 0.5 else -1
        votes = {f"good {r}": (side if random.random() > 1 / 7 else -side) for r in range(3)} | {"contrary": -side}
        found.append(asked(f"i{i}", votes))
    return found


@pytest.mark.parametrize("method", ["dawid-skene", "rater-aware"])  # MACE knows who guesses, not who contradicts
def test_a_contrarian_is_not_followed(method: str) -> None:
    # one of the good against another of them and the contrarian, who is worth a vote for the other side
    doubtful = asked("doubt", {"good 0": 1, "good 1": -1, "contrary": -1})
    found = settle([*crowd(), doubtful], [], method)
    assert found.pairs["doubt", 0, 1].probability < 0.5
    assert found.method == method


def test_what_a_gold_key_says() -> None:
    def side(*ranges: list[int]) -> float | None:
        return truths("pairwise", [{"strength": one} for one in ranges], 2).get((0, 1))

    assert [side([-3, -1]), side([1, 3]), side([0, 0]), side([-3, 0]), side([-1, -1], [2, 3])] == [1, -1, 0, None, None]
    assert truths("ranking", [{"best": [1]}], 3) == {(0, 1): -1.0, (1, 2): 1.0}
    assert truths("ranking", [{"best": [0, 1]}], 3) == {}
    assert truths("ranking", [{"above": [[2, 0]]}], 3) == {(0, 2): -1.0}
    assert truths("ranking", [{"best": [0]}, {"best": [1]}], 3) == {}
    assert truths("attributes", [{"scores": {}}], 2) == {}


def test_gold_tells_who_is_careful_where_each_pair_is_judged_once() -> None:
    items = [asked(f"i{i}", {"careful" if i % 2 else "careless": -2 if i % 3 else 2}) for i in range(20)]
    anchors = []
    for i in range(20):
        side = 1 if i % 2 else -1
        votes = {"careful": side, "careless": side if i % 4 < 2 else -side, "stranger": 1}
        anchors.append(Anchor(asked(f"g{i}", votes), [{"strength": [1, 3] if side > 0 else [-3, -1]}]))
    for method in ("weighted", "rater-aware"):
        found = settle(items, anchors, method)
        assert found.gold == 40  # the stranger exports nothing
        if method == "rater-aware":
            careless, careful = (found.pairs[key, 0, 1].probability for key in ("i2", "i1"))
            assert careful > careless + 0.02
        assert set(found.pairs) == {(f"i{i}", 0, 1) for i in range(20)}
    assert settle(items, [], "rater-aware").caveats[0].startswith("No pair was judged by two raters")
    assert settle(items, anchors, "rater-aware").pairs["i1", 0, 1].posterior is not None


def test_the_order_shown_is_removed() -> None:
    random = np.random.default_rng(1)
    items = []
    for i in range(120):
        order = (0, 1) if random.random() < 0.5 else (1, 0)
        first = -1 if order == (0, 1) else 1
        # two who mostly take what they see first, one who does not look at the order
        votes = {f"hasty {r}": first if random.random() < 0.8 else -first for r in range(2)}
        items.append(asked(f"i{i}", votes | {"calm": -1 if i % 2 else 1}, order))
    found = settle(items, [], "rater-aware")
    gap = [found.pairs[one.item, 0, 1].probability - 0.5 for one in items]
    shown = [1 if one.votes[0].orders[0] == (0, 1) else -1 for one in items]
    votes = [-np.mean([np.sign(v.payloads[0]["strength"]) for v in one.votes]) for one in items]
    assert abs(np.corrcoef(gap, shown)[0, 1]) < 0.35 < np.corrcoef(votes, shown)[0, 1]


def test_a_ranking_counts_as_its_choices() -> None:
    vote = Vote("r", "person", ({"ranks": [1, 2, 3, 4]},))
    ranked = Judged("r", "ranking", [], tuple(Text(f"answer {i}") for i in range(4)), (vote,))
    columns = _Columns()
    columns.add(ranked, "")
    assert sum(columns.weight) == pytest.approx(3)  # of four answers three choices
    both_orders = Vote("ai", "ai", ({"strength": 1}, {"strength": -1}), ((0, 1), (1, 0)))
    columns = _Columns()
    columns.add(Judged("x", "pairwise", [], (Text("one"), Text("other")), (both_orders,)), "")
    assert (columns.weight, columns.vote, columns.order) == ([0.5, 0.5], [-1, 1], [1, -1])
    found = settle([ranked, *crowd(8)], [], "dawid-skene")
    assert {key[1:] for key in found.pairs if key[0] == "r"} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert all(found.pairs["r", i, j].probability > 0.5 for _, i, j in found.pairs if _ == "r")


def test_nothing_that_can_be_weighed() -> None:
    same = Judged("x", "pairwise", [], (Text("equal"), Text("equal ")), (Vote("r", "person", ({"strength": 1},)),))
    assert settle([same], [], "mace").pairs == {}


def _store() -> tuple[Programme, list[Rater], list[Item]]:
    """Three raters, the third of whom is contrary; comparisons by all of them, one of two against one."""
    of = programme()
    who = agents(of, 3)
    train = batch(of, quota=3, name="judged")
    items = [item(train, text=f"q{i}", answers=[f"a{i} is short", f"b{i}"]) for i in range(12)]
    for i, one in enumerate(items):
        for r, rater_ in enumerate(who):
            say(one, rater_, {"strength": (1 if i % 2 else -1) * (1 if r < 2 else -1)})
    return of, who, items


@pytest.mark.django_db
def test_rows_say_their_consensus(tmp_path: Path) -> None:
    export(mixed(), "heedful", tmp_path / "share.jsonl")
    assert [row["consensus"] for row in lines(tmp_path / "share.jsonl")] == ["share"] * 5 + ["edit"]
    of, _, _ = _store()
    for method in METHODS:
        out = tmp_path / f"{method}.jsonl"
        report = export(of, "heedful", out, consensus=method)
        assert report.consensus == method
        rows = lines(out)
        assert {(row["consensus"], row["votes"]) for row in rows} == {(method, 3)}
        assert all(row["probability"] >= 0.5 for row in rows)
        assert all(("posterior" in row) == (method in ("dawid-skene", "mace", "rater-aware")) for row in rows)
        loaded = load_preferences(DataSpec(str(out))).records
        assert [(one.consensus, one.probability, one.posterior) for one in loaded] == [
            (method, row["probability"], row.get("posterior")) for row in rows
        ]
    export(of, "trl-preference", tmp_path / "aware.jsonl", consensus="rater-aware")
    beside = load_preferences(DataSpec(str(tmp_path / "aware.jsonl"))).records
    told = [(one.a, one.probability, one.votes, one.weight, one.consensus, one.posterior) for one in beside]
    export(of, "heedful", tmp_path / "own.jsonl", consensus="rater-aware")
    own = load_preferences(DataSpec(str(tmp_path / "own.jsonl"))).records
    assert told == [(one.a, one.probability, one.votes, one.weight, one.consensus, one.posterior) for one in own]
    assert {one.votes for one in beside} == {3}
    export(of, "trl-preference", tmp_path / "trl.jsonl", consensus="majority")
    first = lines(tmp_path / "trl.jsonl")[0]
    assert (first["consensus"], first["probability"], first["chosen"][0]["content"]) == ("majority", 1, "a0 is short")


@pytest.mark.django_db
def test_gold_of_the_store_anchors_and_is_not_exported(tmp_path: Path) -> None:
    of, who, _ = _store()
    special = batch(of, purpose=Purpose.GOLD)
    for i in range(12):
        one = item(special, text=f"gold {i}", answers=[f"right {i}", f"wrong {i}"])
        say(one, who[0], {"strength": 2})
        say(one, who[1], {"strength": 1})
        say(one, who[2], {"strength": -1})  # the one whom the others outvote is right
        gold.promote(one, [{"strength": [-3, -1]}], "it is", actor=account())
    report = export(of, "heedful", tmp_path / "out.jsonl", consensus="rater-aware")
    assert report.anchors == 36
    rows = lines(tmp_path / "out.jsonl")
    assert len(rows) == 12
    assert rows[0]["a"] == "b0"  # two said a0; gold shows that they are contrary
    assert not any("gold" in row["prompt"][0]["content"] for row in rows)
    assert export(of, "heedful", tmp_path / "s.jsonl").anchors == 0
    event = AuditEvent.objects.filter(kind="export.made").order_by("seq")[0]
    assert (event.ids["anchors"], event.ids["consensus"]) == (36, "rater-aware")
    people = export(of, "heedful", tmp_path / "p.jsonl", consensus="rater-aware", raters=["simulated"])
    assert people.anchors == 36


@pytest.mark.django_db
def test_a_snapshot_gives_the_same_bytes_whatever_gold_comes_later(tmp_path: Path) -> None:
    of, who, _ = _store()
    special = batch(of, purpose=Purpose.GOLD)
    first, later = (item(special, text=text, answers=[f"{text} x", f"{text} y"]) for text in ("before", "after"))
    for one in (first, later):
        gold.promote(one, [{"strength": [-3, -1]}], "it is", actor=account())
    judgment = submission.record(first, who[0], {"strength": -1}, key="first", order=(0, 1))
    snapshot = snapshots.create_snapshot(of, "then")
    before = export(of, "heedful", tmp_path / "before.jsonl", snapshot=snapshot, consensus="rater-aware")
    say(later, who[1], {"strength": 1})
    submission.correct(judgment, {"strength": 2}, key="corrected")
    after = export(of, "heedful", tmp_path / "after.jsonl", snapshot=snapshot, consensus="rater-aware")
    assert (before.anchors, after.anchors) == (1, 1)
    assert before.sha256 == after.sha256


@pytest.mark.django_db
def test_a_verdict_stays_a_verdict(tmp_path: Path) -> None:
    of, _, items = _store()
    judge = account()
    Membership.objects.create(programme=of, account=judge, role=Role.ADJUDICATOR)
    order = adjudication.order_for(items[0], judge)
    shown = {"strength": 3 if order == [0, 1] else -3}
    opened = adjudication.judge_first(items[0], judge, shown, "verdict")
    adjudication.votes(opened)
    adjudication.decide(opened, shown, "b is right")
    export(of, "heedful", tmp_path / "out.jsonl", adjudicated=True, consensus="rater-aware")
    found = {row["prompt"][0]["content"]: row for row in lines(tmp_path / "out.jsonl")}
    assert (found["q0"]["a"], found["q0"]["probability"], found["q0"]["consensus"]) == ("b0", 1.0, "verdict")
    assert found["q1"]["consensus"] == "rater-aware"


@pytest.mark.django_db
def test_mistakes_are_named(tmp_path: Path) -> None:
    of, _, _ = _store()
    with pytest.raises(HeedfulError, match=r"no consensus .mase.\. Did you mean .mace."):
        export(of, "heedful", tmp_path / "out.jsonl", consensus="mase")
    with pytest.raises(HeedfulError, match="consensus says nothing in the format 'sft'"):
        export(of, "sft", tmp_path / "out.jsonl", consensus="mace")
    assert not list(tmp_path.iterdir())


@pytest.mark.django_db
def test_the_order_shown_reaches_the_votes() -> None:
    of = programme()
    who = rater(of, kind=RaterKind.AI)
    one = item(batch(of), text="q", answers=["x", "y"])
    say(one, who, {"strength": 1}, judge_template="t1", judge_order="1,0")
    (found,) = judged(selection(of), Pseudonyms())
    assert found.votes[0].orders == ((1, 0),)


def test_the_fields_are_written_and_read_back(tmp_path: Path) -> None:
    asked_ = (Message("user", "hi"),)
    record = Preference(asked_, "x", "y", probability=0.7, votes=3, consensus="rater-aware", posterior=0.9)
    write_records(tmp_path / "out.jsonl", [record, Preference(asked_, "x", "z")])
    loaded = load_preferences(DataSpec(str(tmp_path / "out.jsonl")))
    said = loaded.describe()  # a manifest's lineage
    assert (said["consensus"], said["votes"]) == ({"": 1, "rater-aware": 1}, {"1": 1, "3": 1})
    one, other = loaded.records
    assert (one.consensus, one.posterior, one.probability) == ("rater-aware", 0.9, 0.7)
    assert (other.consensus, other.posterior) == ("", None)
    bad = '{"prompt": "hi", "a": "x", "b": "y", "posterior": 1.5}\n'
    (tmp_path / "bad.jsonl").write_text(bad)
    with pytest.raises(HeedfulError, match=r"'posterior' is 1\.5"):
        load_preferences(DataSpec(str(tmp_path / "bad.jsonl")))


def test_trl_s_columns_carry_the_consensus_too(tmp_path: Path) -> None:
    """Written and read again, the preferred answer first; a foreign file's columns of these names are left alone."""
    asked_ = (Message("user", "hi"),)
    record = Preference(asked_, "x", "y", probability=0.3, votes=4, weight=0.5, consensus="mace", posterior=0.1)
    write_records(tmp_path / "trl.jsonl", [record], format="trl")
    (row,) = lines(tmp_path / "trl.jsonl")
    assert (row["chosen"][0]["content"], row["votes"], row["consensus"]) == ("y", 4, "mace")
    (read,) = load_preferences(DataSpec(str(tmp_path / "trl.jsonl"))).records
    assert (read.a, read.votes, read.weight, read.consensus) == ("y", 4, 0.5, "mace")
    assert (read.probability, read.posterior) == (pytest.approx(0.7), pytest.approx(0.9))
    foreign = '{"prompt": "hi", "chosen": "x", "rejected": "y", "votes": "many", "probability": 7}\n'
    (tmp_path / "foreign.jsonl").write_text(foreign)
    (plain,) = load_preferences(DataSpec(str(tmp_path / "foreign.jsonl"))).records
    assert (plain.probability, plain.votes, plain.consensus) == (1.0, 1, "")
