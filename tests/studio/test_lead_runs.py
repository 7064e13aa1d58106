"""Training runs in the studio: read from disk while they grow, by whom they concern, whatever state they are in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.urls import reverse
from lead_world import World, judged, login, world
from run_world import asks, begun, check, row, watched, write, write_check

from feedback_factories import open_batch, programme
from heedful.feedback.models import Purpose, Role
from heedful.studio.lead import runs as pages
from heedful.studio.runs import curves
from heedful.studio.runs.disk import Runs, key_of
from heedful.studio.runs.tail import Tail

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """Where the studio looks for runs."""
    settings.HEEDFUL_RUNS = str(tmp_path)
    pages._runs.cache_clear()
    yield tmp_path
    pages._runs.cache_clear()


@pytest.fixture
def of() -> World:
    return world(items=0, raters=2)


def at(of: World, name: str, run: str = "", **query: str) -> str:
    found = reverse(name, args=[of.slug, key_of(run)] if run else [of.slug])
    return found + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")


def read(of: World, name: str, run: str = "", who: Any = None, **query: str) -> str:
    answer = login(who or of.manager).get(at(of, name, run, **query))
    assert answer.status_code in (200, 204), answer.status_code
    return answer.content.decode()


def test_the_list_says_where_each_run_stands(of: World, root: Path) -> None:
    watched(root / "rounds" / "1" / "policy", of.slug)
    done = begun(root / "old", f"people:{of.slug}")
    (done / "manifest.json").write_text(json.dumps({"kind": "ppo", "watch": {"rolled_back_to": 0}, "stopped": "twice"}))
    quiet = begun(root / "quiet", f"people:{of.slug}")
    for path in quiet.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    asks(begun(root / "waiting", f"people:{of.slug}"), of.slug, "no-batch-of-ours")
    rows = {one.run.name: one for one in login(of.manager).get(at(of, "runs")).context["rows"]}
    states = {name: one.standing.name for name, one in rows.items()}
    assert states == {
        "rounds/1/policy": "running", "old": "rolled_back", "quiet": "silent", "waiting": "asking",
    }  # fmt: skip
    one = rows["rounds/1/policy"]
    assert (one.step, one.steps, one.reward, one.kl, one.alarms, one.gravest) == (30, 40, "3", "1.5", 2, "act")
    assert "rounds/1/policy" in read(of, "runs_part")


def test_one_run_shows_curves_checks_alarms_events_and_samples(of: World, root: Path) -> None:
    watched(root / "policy", of.slug)
    page = login(of.manager).get(at(of, "run", "policy"))
    look = page.context["look"]
    assert [one.name for one in look.curves] == ["reward", "kl", "entropy", "length"]
    assert (look.curves[0].first, look.curves[0].now, look.curves[0].high) == ("0.1", "3", "3")
    marks = {one.name: len(one.picture.marks) for one in look.curves}
    assert marks == {"reward": 1, "kl": 1, "entropy": 0, "length": 1}  # the check's alarm, and that of length
    assert [(one.step, one.start.verdict, one.judgments) for one in look.checks] == [
        (20, "worse", 60),
        (10, "better", 60),
    ]
    assert look.judgments == 120
    assert [one.sign for one in look.alarms] == ["gold", "length"]
    assert [words for _step, words, _reason in page.context["happened"]] == [
        "β is now 0.06", "these weights are kept as the best so far",
    ]  # fmt: skip
    beside = page.context["beside"]
    assert [(one.prompt, one.start.text) for one in beside] == [
        ("How do I boil an egg?", "Six minutes."), ("Who was first?", "I do not know."),
    ]  # fmt: skip
    assert beside[1].ours.text == "The very first of all was the first."
    text = page.content.decode()
    assert "Hello &lt;b&gt;you&lt;/b&gt;!" in text
    assert "22% <span" in text


def test_a_run_that_learns_from_a_file_is_not_said_to_be_watched(of: World, root: Path) -> None:
    for name, stage in (("imitating", "sft"), ("climbing", "ppo")):
        folder = begun(root / name, f"people:{of.slug}")
        settings = (folder / "heedful.yaml").read_text(encoding="utf-8")
        (folder / "heedful.yaml").write_text(settings.replace("# heedful ppo", f"# heedful {stage}"), encoding="utf-8")
    assert 'id="alarms"' in read(of, "run", "climbing")
    assert 'id="alarms"' not in read(of, "run", "imitating")


def test_only_those_see_a_run_whom_it_concerns(of: World, root: Path) -> None:
    watched(root / "mine", of.slug)
    other = programme()
    begun(root / "theirs", f"people:{other.slug}")
    begun(root / "nobodys", None)
    client = login(of.manager)
    assert [one.run.name for one in client.get(at(of, "runs")).context["rows"]] == ["mine"]
    for name in ("theirs", "nobodys"):
        assert client.get(at(of, "run", name)).status_code == 404
        assert "not there" in read(of, "run_part", name)
        assert read(of, "run_samples", name) == ""
    of.admin.is_superuser = True
    of.admin.save()
    assert login(of.admin).get(at(of, "run", "nobodys")).status_code == 200
    other.archived = other.created
    other.save()
    assert client.get(at(of, "run", "nobodys")).status_code == 200  # the only programme that there is
    rater = of.raters[0].account
    for who in (rater, of.adjudicator):
        for name, run in (
            ("runs", ""),
            ("runs_part", ""),
            ("run", "mine"),
            ("run_part", "mine"),
            ("run_samples", "mine"),
        ):
            assert login(who).get(at(of, name, run)).status_code == 403
    assert login(None).get(at(of, "runs")).status_code == 302


def test_whatever_lies_there_is_no_error(of: World, root: Path) -> None:
    folder = watched(root / "policy", of.slug)
    for name in ("metrics.jsonl", "alarms.jsonl", "events.jsonl", "samples.jsonl"):
        write(
            folder / name, ["\n", "[1, 2]\n", '{"step": "x"}\n', '{"step": null, "event": 3}\n', "\x00\n", '{"step": 4']
        )
    for name, text in (
        ("check-00000030.json", '{"check": {"step": 30'),
        ("check-00000031.json", '{"check": {"step": 31, "kl": "much"}, "replies": 7}'),
        ("check-x.json", "{}"),
        ("asking.json", '{"programme": 1}'),
        ("prompts.json", '[[], 3, [{"role": "user"}]]'),
    ):
        (folder / "watch" / name).write_text(text)
    (folder / "manifest.json").write_text("{")
    for name in ("run", "run_part", "run_samples"):
        read(of, name, "policy")
    assert "policy" in read(of, "runs")
    (folder / "heedful.yaml").write_text("# heedful ppo\n{: [")
    of.admin.is_superuser = True
    of.admin.save()
    for name in ("run", "run_part", "run_samples"):
        read(of, name, "policy", who=of.admin)
    shutil.rmtree(folder)
    assert "not there" in read(of, "run_part", "policy")
    assert login(of.manager).get(at(of, "run", "policy")).status_code == 404
    assert "No run yet" in read(of, "runs")


def test_a_part_comes_only_when_there_is_something_new(of: World, root: Path) -> None:
    folder = watched(root / "policy", of.slug)
    client = login(of.manager)
    page = client.get(at(of, "run", "policy"))
    refresh, samples = page.context["refresh"], page.context["samples_address"]
    assert client.get(refresh).status_code == 204
    assert client.get(samples).status_code == 204
    write(folder / "metrics.jsonl", [row(31)])
    part = client.get(refresh)
    assert part.context["look"].step == 31
    assert client.get(part.context["refresh"]).status_code == 204
    assert client.get(samples).status_code == 204
    write_check(folder, 31, check(31, (0.5, 0.3, 0.7), "undecided"), ["a", "b"])
    assert client.get(part.context["refresh"]).status_code == 200
    assert client.get(samples).context["sampled"] == 31
    (folder / "manifest.json").write_text('{"kind": "ppo"}')
    last = client.get(part.context["refresh"])
    assert "hx-trigger" not in last.content.decode()  # nothing more will come


def rated(of: World, root: Path, quota: int = 1) -> tuple[Path, Any]:
    """A run that asks for two pairs."""
    folder = watched(root / "policy", of.slug)
    batch = open_batch(of.programme, items=2, quota=quota, purpose=Purpose.CHECK)
    write_check(folder, 30, None, ["x", "y"])
    asks(folder, of.slug, str(batch.pk))
    return folder, batch


def test_the_queue_says_how_many_pairs_wait_and_for_whom(of: World, root: Path) -> None:
    _folder, batch = rated(of, root)
    page = login(of.manager).get(at(of, "run", "policy"))
    needed = page.context["needed"]
    assert (needed.pairs, needed.filled, needed.places, needed.batch) == (2, 0, 2, str(batch.pk))
    assert (needed.fresh_only, needed.fresh, needed.least) == (False, 2, 3)
    assert needed.names == ("Rater 0", "Rater 1")
    assert not needed.you
    assert page.context["look"].pending == 30
    text = page.content.decode()
    assert "2 fresh pairs wait to be judged." in text
    assert reverse("batch", args=[of.slug, batch.pk]) in text
    judged(of)
    from lead_world import judge

    for who in of.raters:
        judge(who, of=batch)
    assert "fresh pairs wait" not in read(of, "run", "policy")


def test_who_may_judge_them_gets_the_way_there_and_no_samples_until_it_is_decided(root: Path) -> None:
    of = world(items=1, raters=4, quota=1)
    from lead_world import judge

    judge(of.raters[0])  # one of four gave a training judgment
    folder, batch = rated(of, root)
    lead = of.raters[0].account
    assert lead is not None
    from heedful.feedback.programmes import add_member

    add_member(of.programme, lead, Role.MANAGER, actor=None)
    page = login(lead).get(at(of, "run", "policy"))
    needed = page.context["needed"]
    assert (needed.fresh_only, needed.fresh, needed.names) == (True, 3, ("Rater 1", "Rater 2", "Rater 3"))
    assert not needed.you
    assert page.context["beside"]
    fresh = of.raters[1].account
    assert fresh is not None
    add_member(of.programme, fresh, Role.MANAGER, actor=None)
    page = login(fresh).get(at(of, "run", "policy"))
    assert page.context["needed"].you
    assert reverse("rate", args=[of.slug]) in page.content.decode()
    assert page.context["hidden"]
    assert not page.context["beside"]
    assert "Six minutes." not in page.content.decode()
    batch.state = "paused"
    batch.save()
    assert "not handed out" in read(of, "run", "policy")
    asks(folder, of.slug, "elsewhere")
    assert "another studio" in read(of, "run", "policy")


def test_a_growing_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path, lambda one: one["step"])
    assert tail.look() == []
    write(path, [row(step) for step in range(1, 1001)])
    assert tail.look() == list(range(1, 1001))
    size = path.stat().st_size
    assert tail.read_bytes == size
    with open(path, "a") as file:
        file.write('{"step": 10')
    assert tail.look()[-1] == 1000
    with open(path, "a") as file:
        file.write("01}\nno json\n" + row(1002))
    assert tail.look()[-3:] == [1000, 1001, 1002]
    assert tail.read_bytes == path.stat().st_size
    other = tmp_path / "other"
    write(other, [row(1), row(2)])
    os.replace(other, path)  # as a run does that goes on after a kill
    assert tail.look() == [1, 2]
    path.write_text("")
    assert tail.look() == []
    path.unlink()
    assert tail.look() == []


def test_runs_are_found_where_they_may_be_and_links_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    begun(root / "a" / "b" / "c", None)
    begun(root / "a" / "b" / "c" / "inside", None)
    begun(root / ".hidden" / "run", None)
    begun(root / "1" / "2" / "3" / "4" / "5" / "6", None)
    begun(tmp_path / "outside", None)
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "recipe").mkdir()
    (root / "recipe" / "heedful.yaml").write_text("base: gpt2\n")
    assert [run.name for run in Runs(root).all()] == ["a/b/c"]
    assert Runs(root).named(key_of("../outside")) is None


def test_curves_keep_their_ends_and_their_ticks_lie_inside() -> None:
    points = [(step, float(step)) for step in range(1, 10_001)]
    some = curves.fewer(points)
    assert len(some) <= curves.POINTS + 1
    assert some[-1] == (10_000, 10_000.0)
    assert [step for step, _ in some] == sorted({step for step, _ in some})
    flat = curves.line([(1, 2.0), (2, 2.0)])
    assert flat.last == (curves.RIGHT, (curves.TOP + curves.BOTTOM) / 2)
    picture = curves.line([(5, -1.0), (15, 3.0)], marks=[4, 10])
    assert picture.path == f"M{curves.LEFT}.0 {curves.BOTTOM}.0L{curves.RIGHT}.0 {curves.TOP}.0"
    assert picture.marks == ((curves.LEFT + curves.RIGHT) / 2,)
    assert [tick.label for tick in picture.ticks] == ["-1", "0", "1", "2", "3"]
    assert all(curves.TOP <= tick.place <= curves.BOTTOM for tick in picture.ticks)
    assert curves.line([(3, 1.0)]).last is not None
    assert [curves.words(value) for value in (0.0, 0.12345, 123.4, 12_345.0, 0.00012)] == [
        "0", "0.123", "123", "1.2e+04", "1.2e-04",
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "title"), [("vi", "Lượt huấn luyện"), ("zh-hans", "训练运行")])
def test_they_speak_the_language(language: str, title: str, of: World, root: Path) -> None:
    rated(of, root)
    of.manager.language = language
    of.manager.save()
    page = read(of, "runs") + read(of, "run", "policy")
    assert title in page
    for english in ("Fresh checks", "People needed", "waits for people", "Entropy</strong>", "What stepped in"):
        assert english not in page, english


def test_the_folder_is_searched_where_no_other_is_named(tmp_path: Path, settings: Any) -> None:
    if hasattr(django_settings, "HEEDFUL_RUNS"):
        del settings.HEEDFUL_RUNS
    settings.HEEDFUL_FOLDER = str(tmp_path)
    pages._runs.cache_clear()
    assert pages.runs_here().root == tmp_path.resolve()
