"""Charts: pictures without script or style, each with its table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from lead_world import World, judge, judged, login, world

from feedback_factories import item
from heedful.studio.lead.charts_data import NAMES, figures
from heedful.studio.lead.charts_svg import SIZES, THEMES, Chart, draw


def test_a_picture_is_text_and_marks_without_script_or_style() -> None:
    labels = ["<b>Mon</b>", "星期二", "Wed"]
    chart = Chart("line", labels, [1, None, 3], "судження", [0, None, 2], [2, None, 4], aim=2)
    root = ElementTree.fromstring(draw(chart))
    tags = {node.tag.rsplit("}", 1)[1] for node in root.iter()}
    assert tags <= {"svg", "g", "defs", "path", "rect", "text", "tspan", "use", "clipPath"}
    assert not any("style" in node.attrib or any(name.startswith("on") for name in node.attrib) for node in root.iter())
    words = {node.text for node in root.iter() if node.text and node.text.strip()}
    assert {"<b>Mon</b>", "星期二", "судження"} <= words


def test_the_same_figures_give_the_same_picture_and_each_theme_and_size_its_own() -> None:
    chart = Chart("bars", ["a", "b"], [1, 2], "judgments")
    drawn = {(theme, size): draw(chart, theme, size) for theme in THEMES for size in SIZES}
    assert len(set(drawn.values())) == len(drawn)
    assert draw(chart) == drawn["light", "wide"]


def test_rows_lie_beneath_each_other_with_their_names_and_an_interval_without_a_middle_is_drawn() -> None:
    names = ["InstructGPT, raters who made the training data", "b", "c"]
    values, low, high = [70.0, None, 50.0], [68.0, 60.0, None], [72.0, 80.0, None]
    chart = Chart("rows", names, values, "%", low, high, top=100)
    longer = Chart("rows", names * 3, values * 3, "%", low * 3, high * 3, top=100)
    assert longer.pixels[1] > chart.pixels[1]
    for size in SIZES:
        root = ElementTree.fromstring(draw(chart, size=size))
        words = " ".join(node.text.strip() for node in root.iter() if node.text and node.text.strip())
        assert "InstructGPT" in words
        assert " b " in words


@pytest.mark.parametrize("kind", ["bars", "line", "points", "rows"])
@pytest.mark.parametrize("values", [[0.0], [None], [1.0] * 90, [100.0, 0.0]])
def test_odd_figures_are_drawn(kind: str, values: list[float | None]) -> None:
    assert draw(Chart(kind, [str(i) for i in range(len(values))], values, "x", top=100)).startswith(b"<?xml")  # type: ignore[arg-type]


@pytest.fixture
def full() -> World:
    of = judged(world())
    item(of.batch)
    judge(of.raters[0], 1)
    return of


@pytest.mark.django_db
def test_tables_say_what_the_pictures_do(full: World) -> None:
    found = {one.name: one for one in figures(full.programme, 7)}
    assert tuple(found) == NAMES
    judgments = found["judgments"]
    assert judgments.chart is not None
    assert (judgments.chart.values[-1], judgments.rows[0][1]) == (7, "7")
    assert found["seconds"].rows[0][1] == "30"
    assert found["agreement"].rows[0][1:2] == ("0%",)  # the two always disagree
    assert found["gold"].chart is None
    assert found["position"].rows[0][0] == "First batch"


@pytest.mark.django_db
def test_pictures_are_served_and_told_when_they_are_the_same(full: World) -> None:
    client = login(full.manager)
    page = client.get(full.at("charts/")).content.decode()
    addresses = re.findall(r'src="([^"]+\.svg[^"]+)"', page)
    assert len(addresses) == 4
    assert page.count("<table") == 4
    for address in addresses:
        got = client.get(address.replace("&amp;", "&"))
        assert (got.status_code, got["Content-Type"]) == (200, "image/svg+xml")
        assert "unsafe" not in got["Content-Security-Policy"]
        again = client.get(address.replace("&amp;", "&"), headers={"if-none-match": got["ETag"]})
        assert again.status_code == 304
    judge(full.raters[1], 1)
    part = client.get(full.at("charts/now/")).content.decode()
    assert "<html" not in part
    assert not set(re.findall(r'data-digest="(\w+)"', page)) >= set(re.findall(r'data-digest="(\w+)"', part))


@pytest.mark.django_db
def test_what_is_no_picture_is_not_there(full: World) -> None:
    client = login(full.manager)
    for path in (
        "charts/nonsense.svg",
        "charts/gold.svg",
        "charts/judgments.svg?theme=pink",
        "charts/judgments.svg?size=x",
    ):
        assert client.get(full.at(path)).status_code == 404, path
    assert client.get(full.at("charts/"), {"days": "1e9"}).context["days"] == 30
