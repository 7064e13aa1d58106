"""The translations: whole, compiled, of every string that a template shows and of what the services say."""

from __future__ import annotations

import ast
import gettext
import json
import re
import runpy
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import translation
from lead_world import judge, login, world

import heedful.studio.setup
from feedback_factories import item
from heedful.errors import HeedfulError, Sentence, nearest
from heedful.feedback import gold
from heedful.feedback.models import GoldOutcome, ItemState, Purpose, RaterKind, Role, TaskKind
from heedful.feedback.payloads import parse
from heedful.studio.lead.event_words import EVENTS
from heedful.studio.said import say, tell
from rating_page import Page

STUDIO = Path(heedful.studio.setup.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = tuple(translation.to_locale(code) for code, _ in heedful.studio.setup.LANGUAGES if code != "en")
PLACES = re.compile(r"%\(\w+\)[sd]|\{\w+(?:![rs])?(?::[^{}]*)?\}|</?\w+[^>]*>")


def entries(language: str) -> list[tuple[str, str, str]]:
    """(msgid, plural, first msgstr) of a catalogue, its header left out."""
    text = (STUDIO / "locale" / language / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
    assert "fuzzy" not in text
    found = []
    for block in text.split("\n\n")[1:]:
        parts = {"msgid": "", "msgid_plural": "", "msgstr": ""}
        current = ""
        for line in block.splitlines():
            match = re.match(r'(msgid_plural|msgid|msgstr)(?:\[0\])? "(.*)"$', line)
            if match:
                current = match.group(1)
                parts[current] += match.group(2)
            elif line.startswith('"'):
                parts[current] += line[1:-1]
        if parts["msgid"]:
            found.append((parts["msgid"], parts["msgid_plural"], parts["msgstr"]))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_compiled(language: str) -> None:
    folder = STUDIO / "locale" / language / "LC_MESSAGES"
    with open(folder / "django.mo", "rb") as file:
        compiled = gettext.GNUTranslations(file)
    known = entries(language)
    assert len(known) > 1000
    for msgid, plural, msgstr in known:
        assert msgstr, msgid
        assert sorted(PLACES.findall(msgstr)) == sorted(PLACES.findall(plural or msgid)), msgid
        plain = msgid.encode().decode("unicode_escape").encode("latin-1").decode()
        wanted = msgstr.encode().decode("unicode_escape").encode("latin-1").decode()
        got = compiled.ngettext(plain, plural, 1) if plural else compiled.gettext(plain)
        assert got == wanted, f"{msgid}: run make messages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_of_a_template_is_in_the_catalogue(language: str) -> None:
    known = {msgid for msgid, _, _ in entries(language)}
    shown = set()
    for path in (STUDIO / "templates").rglob("*.html"):
        for match in re.finditer(r"""{% translate (?:"([^"]+)"|'([^']+)')""", path.read_text(encoding="utf-8")):
            shown.add((match.group(1) or match.group(2)).replace('"', '\\"'))
    assert len(shown) > 200
    assert not shown - known, "run make messages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_choice_of_the_store_is_in_the_catalogue(language: str) -> None:
    known = {msgid for msgid, _, _ in entries(language)}
    for choices in (Role, RaterKind, TaskKind, Purpose, ItemState):
        assert {str(label) for label in choices.labels} <= known, "run make messages"


def test_a_page_speaks_the_language() -> None:
    with translation.override("vi"):
        assert translation.gettext("Log in") != "Log in"
    with translation.override("zh-hans"):
        assert translation.gettext("Log in") != "Log in"


# --- what the services say ---


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_of_the_services_is_in_the_catalogue(language: str) -> None:
    known = {ast.literal_eval(f'"{msgid}"') for msgid, _, _ in entries(language)}
    listed = runpy.run_path(str(ROOT / ".ci" / "sentences.py"))
    said = {text for path in listed["files"]() for _line, text in listed["sentences"](path)}
    assert len(said) > 300
    assert "this item is no longer yours." in said
    missing = said - known
    assert not missing, "run make messages"


def test_an_f_string_that_no_catalogue_can_have_is_refused(tmp_path: Path) -> None:
    sentences = runpy.run_path(str(ROOT / ".ci" / "sentences.py"))["sentences"]
    bad = tmp_path / "bad.py"
    bad.write_text('raise HeedfulError("no.", mend=f"Give {one}.")')
    with pytest.raises(ValueError, match=r"bad\.py:1"):
        list(sentences(bad))


def test_every_kind_of_event_has_a_name() -> None:
    families = {kind.split(".")[0] for kind in EVENTS} - {"rules", "data"}
    recorded = set()
    for path in [*(ROOT / "src/heedful/feedback").glob("*.py"), *(ROOT / "src/heedful/studio").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = re.fullmatch(r"([a-z]+)\.(?!jsonl$|id$)[a-z_]+", node.value)
                if found and found[1] in families:
                    recorded.add(node.value)
    assert len(recorded) > 60
    missing = recorded - set(EVENTS)
    assert not missing


def test_a_sentence_is_its_english_text_and_is_said_in_another_language() -> None:
    made = Sentence("{port} is no port.", port=70000)
    assert made == "70000 is no port."
    assert json.dumps(made) == '"70000 is no port."'
    error = HeedfulError("unknown setting {name!r}.", mend=nearest("temprature", ["temperature"]), name="temprature")
    assert str(error) == "unknown setting 'temprature'. Did you mean 'temperature'?"
    assert tell(error) == "Unknown setting 'temprature'. Did you mean 'temperature'?"
    with translation.override("vi"):
        assert say(made) == "70000 không phải số cổng."
        assert tell(error) == "Không có cài đặt 'temprature'. Có phải ý bạn là 'temperature'?"
    with translation.override("zh-hans"):
        assert tell(error) == "未知设置 'temprature'。 你是不是想写 'temperature'？"
        assert say("") == ""
        assert say("no catalogue has this {thing}.") == "No catalogue has this {thing}."


def test_a_sentence_within_a_sentence_is_said_too() -> None:
    missing = Sentence("there is no batch {given!r}. {hint}", given="Frist", hint=nearest("Frist", ["First"]))
    assert missing == "there is no batch 'Frist'. Did you mean 'First'?"
    with translation.override("vi"):
        assert say(missing) == "Không có lô 'Frist'. Có phải ý bạn là 'First'?"
    without = Sentence("there is no batch {given!r}. {hint}", given="x", hint="")
    assert without == "there is no batch 'x'."


@pytest.mark.parametrize(
    ("language", "said"), [("vi", "7 không phải số nguyên từ -3 đến 3."), ("zh-hans", "7 不是 -3 到 3 之间的整数。")]
)
def test_a_payload_out_of_range_is_told_in_the_language(language: str, said: str) -> None:
    with translation.override(language), pytest.raises(HeedfulError) as caught:
        parse("pairwise", {"strength": 7}, completions=2)
    assert str(caught.value) == "strength: 7 is no whole number from -3 to 3."
    with translation.override(language):
        assert say(caught.value.what) == said


OPEN = [("vi", "Chỗ này còn thiếu."), ("zh-hans", "这里尚未完成。"), ("en", "This is still open.")]


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "said"), OPEN)
def test_a_rater_reads_a_services_error_in_their_language(language: str, said: str) -> None:
    of = world(items=1, raters=1)
    account = of.raters[0].account
    assert account is not None
    account.language = language
    account.save()
    page = Page(of.raters[0])
    refused = page.ask("rate_submit", page.next()["assignment"], fields={}, key="k", version=1)
    assert refused.status_code == 400
    assert refused.json()["error"] == said


WRONG = [
    ("vi", "'9999' không phải số nguyên từ -1000 đến 1000."),
    ("zh-hans", "'9999' 不是 -1000 到 1000 之间的整数。"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "said"), WRONG)
def test_a_lead_reads_what_is_wrong_with_a_file_in_their_language(language: str, said: str) -> None:
    of = world(items=0)
    of.admin.language = language
    of.admin.save()
    rows = SimpleUploadedFile("rows.csv", b"prompt,a,b,priority\nHow?,Six,Ten,9999\n")
    page = login(of.admin).post(of.at("wizard/file/"), {"file": rows}, follow=True)
    assert said in page.content.decode().replace("&#x27;", "'")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "said"),
    [("vi", "Chương trình phải có ít nhất một quản trị viên."), ("zh-hans", "项目至少要有一位管理员。")],
)
def test_a_lead_reads_a_refusal_in_their_language(language: str, said: str) -> None:
    of = world(items=0)
    of.admin.language = language
    of.admin.save()
    page = login(of.admin).post(of.at(f"members/{of.admin.pk}/"), {"role": "admin"}, follow=True)
    assert said in page.content.decode()


@pytest.mark.django_db
def test_a_pause_by_the_studio_and_the_trail_are_told_in_the_language() -> None:
    of = world(items=4, raters=1, quota=1, gold_window=4, gold_floor=0.75)
    who = of.raters[0]
    said = [judge(who) for _ in range(4)]
    for number, one in enumerate(said):
        key = gold.promote(item(of.batch), [{"strength": [1, 3]}], "B.", actor=of.admin)
        GoldOutcome.objects.create(gold_key=key, rater=who, judgment=one, passed=number < 2)
    assert gold.pause_if_drifted(who)
    of.admin.language = "vi"
    of.admin.save()
    page = login(of.admin).get(of.at(f"raters/{who.pk}/")).content.decode()
    assert "2 trong 4 câu trả lời gần nhất có đáp án biết trước là chấp nhận được." in page
    assert "đã tạm dừng người đánh giá" in login(of.admin).get(of.at("audit/")).content.decode()
    gold.resume(who, of.admin)
    assert gold.pause_reason(gold.pause(who, "Let us talk.", of.admin)) == "Let us talk."
