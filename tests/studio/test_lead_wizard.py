"""The wizard: from a file to an open batch, and what keeps one from it."""

from __future__ import annotations

import gzip
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from lead_world import World, login, world

from heedful.feedback.models import Batch, Item, ItemCompletion, Prompt, Slot

pytestmark = pytest.mark.django_db
GOOD = (
    "prompt,answer_a,answer_b,model_a,model_b\nWhat is 2+2?,4,5,run-1,run-2\nName a fruit.,Apple,Carrot,run-1,run-2\n"
)


@pytest.fixture
def fresh() -> World:
    made = world(items=0, raters=1)
    made.batch.delete()
    return made


def drop(client: Client, of: World, name: str, content: bytes | str):  # type: ignore[no-untyped-def]
    data = content.encode() if isinstance(content, str) else content
    return client.post(of.at("wizard/file/"), {"file": SimpleUploadedFile(name, data)})


def columns(client: Client, of: World, **chosen: str):  # type: ignore[no-untyped-def]
    """Send the columns as they are proposed, but for those that are given."""
    form = client.get(of.at("wizard/columns/")).context["form"]
    given = {name: form[name].value() or "" for name in form.fields} | chosen
    return client.post(of.at("wizard/columns/"), given)


def through(client: Client, of: World, *, task: str = "pairwise", markdown: str = "", **task_more: str) -> None:
    """Every step from the file to the last."""
    assert columns(client, of).status_code == 302
    named = {"task": task, "batch_name": "Arithmetic", "purpose": "train", **task_more}
    assert client.post(of.at("wizard/task/"), named).status_code == 302
    rubric = client.get(of.at("wizard/rubric/")).context["form"]["markdown"].value()
    assert client.post(of.at("wizard/rubric/"), {"markdown": markdown or rubric}).status_code == 302
    assert client.post(of.at("wizard/preview/")).status_code == 302
    assert client.post(of.at("wizard/expect/"), {"quota": "2", "quota_cap": "3"}).status_code == 302


def test_a_file_becomes_an_open_batch(fresh: World) -> None:
    client = login(fresh.manager)
    assert drop(client, fresh, "sums.csv", GOOD).url == fresh.at("wizard/columns/")
    through(client, fresh)
    assert not Batch.objects.filter(programme=fresh.programme).exists()
    answer = client.post(fresh.at("wizard/open/"), follow=True)
    assert answer.redirect_chain == [(fresh.at(), 302)]
    batch = Batch.objects.get(programme=fresh.programme)
    assert (batch.name, batch.state, batch.quota, batch.quota_cap) == ("Arithmetic", "open", 2, 3)
    item = batch.items.order_by("position").first()
    assert [(e.completion.text, e.completion.policy) for e in item.entries.all()] == [("4", "run-1"), ("5", "run-2")]
    assert Slot.objects.filter(batch=batch, state="free").count() == 4
    assert client.get(fresh.at("wizard/"), follow=True).redirect_chain[-1][0].endswith("/file/")


def test_two_clicks_open_one_batch(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh)
    twin = Client()
    twin.cookies = client.cookies
    client.post(fresh.at("wizard/open/"))
    assert twin.post(fresh.at("wizard/open/")).status_code == 302
    assert Batch.objects.filter(programme=fresh.programme).count() == 1


def test_nothing_is_written_before_the_end_and_nothing_half(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.errors import HeedfulError
    from heedful.feedback import content

    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh, markdown="# Another rubric")

    def refuse(*_: object, **__: object) -> None:
        raise HeedfulError("the disk is full.")

    monkeypatch.setattr(content, "create_batch", refuse)
    answer = client.post(fresh.at("wizard/open/"), follow=True)
    assert "The disk is full." in answer.content.decode()
    assert fresh.programme.guidelines.count() == 1
    assert not Batch.objects.filter(programme=fresh.programme).exists()
    monkeypatch.undo()
    client.post(fresh.at("wizard/open/"))
    assert fresh.programme.guidelines.count() == 2
    assert Batch.objects.get(programme=fresh.programme).guideline.version == 2


def test_going_back_keeps_what_was_entered(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh, markdown="# Mine")
    pages = {name: client.get(fresh.at(f"wizard/{name}/")) for name in ("file", "columns", "task", "rubric", "expect")}
    assert "sums.csv" in pages["file"].content.decode()
    assert pages["task"].context["form"]["batch_name"].value() == "Arithmetic"
    assert pages["rubric"].context["form"]["markdown"].value() == "# Mine"
    assert [pages["expect"].context["form"][name].value() for name in ("quota", "quota_cap")] == [2, 3]
    # another file asks for everything behind it again
    assert drop(client, fresh, "other.csv", GOOD).status_code == 302
    assert client.get(fresh.at("wizard/invite/")).url == fresh.at("wizard/columns/")


def test_no_step_is_skipped(fresh: World) -> None:
    client = login(fresh.manager)
    for name in ("columns", "task", "rubric", "preview", "expect", "invite"):
        assert client.get(fresh.at(f"wizard/{name}/")).url == fresh.at("wizard/file/")
    assert client.get(fresh.at("wizard/nonsense/")).status_code == 404
    assert client.post(fresh.at("wizard/open/")).url == fresh.at("wizard/")


def test_one_browsers_wizard_is_not_anothers(fresh: World) -> None:
    drop(login(fresh.manager), fresh, "sums.csv", GOOD)
    assert login(fresh.admin).get(fresh.at("wizard/columns/")).url == fresh.at("wizard/file/")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "empty"),
        ("notes.docx", b"PK\x03\x04", "not known"),
        ("broken.jsonl", b'{"prompt": "Hi"\nnot json', "Nothing in it can be read"),
        ("wide.csv", "prompt,a\nHello,1\n".encode("utf-16"), "UTF-16"),
        ("cut.csv.gz", gzip.compress(b"prompt,a,b\n", mtime=0)[:-6], "damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_beside_the_field(
    fresh: World, name: str, content: bytes, words: str
) -> None:
    answer = drop(login(fresh.manager), fresh, name, content)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert answer.context["form"].errors["file"]


def test_every_problem_is_listed_with_line_and_field(fresh: World) -> None:
    rows = [
        {"prompt": "Fine?", "a": "yes", "b": "no"},
        {"prompt": "", "a": "x", "b": "y"},
        {"prompt": "Hi", "a": "x\0"},
    ]
    client = login(fresh.manager)
    drop(client, fresh, "bad.jsonl", "\n".join(json.dumps(row) for row in rows))
    page = client.get(fresh.at("wizard/columns/"))
    problems = [(p.line, p.field) for p in page.context["plan"].problems]
    assert (2, "prompt") in problems
    assert {line for line, _field in problems} == {2, 3}
    text = page.content.decode()
    assert "<td>prompt</td>" in text
    assert columns(client, fresh).status_code == 422
    assert columns(client, fresh, act="on").status_code == 302
    answer = client.post(fresh.at("wizard/task/"), {"task": "pairwise", "batch_name": "x", "purpose": "train"})
    assert answer.status_code == 422
    assert not Item.objects.filter(programme=fresh.programme).exists()


def test_columns_are_mapped_by_hand(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "odd.csv", "q,left,right,who\nWhat is 2+2?,4,5,base\n")
    page = client.get(fresh.at("wizard/columns/"))
    assert page.context["form"].errors == {}
    twice = columns(client, fresh, column_0="prompt", column_1="a", column_2="a")
    assert "Answer A already" in twice.content.decode()
    gap = columns(client, fresh, column_0="prompt", column_1="a", column_2="c")
    assert gap.status_code == 422
    seen = columns(client, fresh, column_0="prompt", column_1="b", column_2="a", column_3="policy", act="look")
    assert seen.status_code == 200
    draft = seen.context["plan"].preview[0]
    assert [(one.text, one.policy) for one in draft.answers] == [("5", "base"), ("4", "base")]


def test_the_same_file_twice_is_asked_about(fresh: World) -> None:
    client = login(fresh.manager)
    for _ in range(2):
        drop(client, fresh, "sums.csv", GOOD)
        columns(client, fresh)
        if _:
            named = {"task": "pairwise", "batch_name": "Again", "purpose": "train"}
            answer = client.post(fresh.at("wizard/task/"), named)
            assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["again"])
            through(client, fresh, again="on")
        else:
            through(client, fresh)
        client.post(fresh.at("wizard/open/"))
    assert Batch.objects.filter(programme=fresh.programme).count() == 2


def test_the_preview_is_what_a_rater_sees_and_names_no_policy(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh, markdown="# Be *kind*")
    page = client.get(fresh.at("wizard/preview/") + "?n=2").content.decode()
    assert "Carrot" in page
    assert "<em>kind</em>" in page
    assert "data-preview inert" in page
    assert "run-1" not in page
    assert client.get(fresh.at("wizard/preview/") + "?n=99").context["number"] == 1
    assert not Prompt.objects.filter(programme=fresh.programme).exists()


def test_attributes_are_edited_and_needed(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "one.csv", "prompt,answer\nWhat is 2+2?,4\n")
    columns(client, fresh)
    assert (
        client.post(
            fresh.at("wizard/task/"), {"task": "attributes", "batch_name": "Scores", "purpose": "train"}
        ).status_code
        == 302
    )
    head = {"markdown": "# Score", "attribute-TOTAL_FORMS": "1", "attribute-INITIAL_FORMS": "0"}
    assert client.post(fresh.at("wizard/rubric/"), head).status_code == 422
    row = {"name": "clear", "title": "Clear", "question": "Is it clear?", "low": "no", "high": "yes", "points": "4"}
    sent = head | {f"attribute-0-{key}": value for key, value in row.items()}
    assert client.post(fresh.at("wizard/rubric/"), sent).status_code == 302
    assert "Is it clear?" in client.get(fresh.at("wizard/preview/")).content.decode()
    client.post(fresh.at("wizard/preview/"))
    client.post(fresh.at("wizard/expect/"), {"quota": "1", "quota_cap": "1"})
    client.post(fresh.at("wizard/open/"))
    batch = Batch.objects.get(programme=fresh.programme)
    assert [one["name"] for one in batch.guideline.attributes] == ["clear"]
    assert ItemCompletion.objects.filter(item__batch=batch).count() == 1


def test_the_estimate_follows_the_figures_and_refuses_a_cap_below_the_quota(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh)
    answer = client.post(fresh.at("wizard/estimate/"), {"quota": "3", "quota_cap": "5"})
    assert answer.context["estimate"].judgments == 6
    assert answer.context["estimate"].most == 10
    wrong = client.post(fresh.at("wizard/expect/"), {"quota": "3", "quota_cap": "2"})
    assert list(wrong.context["form"].errors) == ["quota_cap"]


def test_a_link_is_made_on_the_way_and_shown_once(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh)
    answer = client.post(fresh.at("wizard/invite/"), {"role": "rater", "uses": "5", "days": "14"})
    link = answer.context["shown"].link
    assert "/invitation/" in link
    assert link in answer.content.decode()
    assert answer.content.decode().count("<svg") == 1
    assert link not in client.get(fresh.at("wizard/invite/")).content.decode()


def test_a_dialogue_needs_an_endpoint_and_a_test_its_keys(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "prompts.csv", "prompt\nTell me of your day.\n")
    columns(client, fresh)
    named = {"task": "dialogue", "batch_name": "Talks", "purpose": "train"}
    answer = client.post(fresh.at("wizard/task/"), named)
    assert "Dialogues need a policy endpoint" in answer.content.decode()
    drop(client, fresh, "sums.csv", GOOD)
    through(client, fresh, purpose="qualification")
    assert "Each rater is given each of the 2 items once" in client.get(fresh.at("wizard/expect/")).content.decode()
    done = client.post(fresh.at("wizard/open/"), follow=True)
    assert "which answers are right" in done.content.decode()
    assert len(done.context["rows"]) == 2


def test_leaving_forgets_the_file(fresh: World) -> None:
    client = login(fresh.manager)
    drop(client, fresh, "sums.csv", GOOD)
    assert "sums.csv" in client.get(fresh.at("import/")).content.decode()
    client.post(fresh.at("wizard/leave/"))
    assert "sums.csv" not in client.get(fresh.at("import/")).content.decode()


def test_a_whole_programme_is_restored_beside(fresh: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from heedful.feedback.exports import export

    export(fresh.programme, "raw", tmp_path / "all.jsonl")
    client = login(fresh.admin)
    drop(client, fresh, "all.jsonl", (tmp_path / "all.jsonl").read_bytes())
    page = client.get(fresh.at("wizard/file/")).content.decode()
    assert "whole programme" in page
    answer = client.post(fresh.at("wizard/restore/"), follow=True)  # its ids are here already
    assert "here already" in answer.content.decode() or "already" in answer.content.decode()
    assert login(fresh.manager).post(fresh.at("wizard/restore/")).status_code == 404
