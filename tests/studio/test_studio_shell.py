"""The shell: the first admin, invitations, logging in, languages, headers, and who may open what."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import Client
from django.urls import get_resolver, reverse
from django.urls.resolvers import URLPattern, URLResolver

from feedback_factories import account, item, open_batch, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import clock, programmes
from heedful.feedback.models import Account, Consent, GroupAnswer, Invitation, Membership, Rater, Role
from heedful.studio import accounts
from heedful.studio.setup import secret_key
from heedful.studio.setup import settings as studio_settings

PASSWORD = "an unlikely phrase 7"
NEW = {"username": "ann", "display_name": "Ann", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.HEEDFUL_FOLDER = str(tmp_path)
    return tmp_path


# --- the first admin ---


@pytest.mark.django_db
def test_the_first_link_makes_one_admin_once(folder: Path, client: Client) -> None:
    link = accounts.first_admin_link()
    assert link is not None
    kept = folder / accounts.FIRST
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert link.split("/")[2] not in kept.read_text()
    assert client.get(link).status_code == 200
    assert not Account.objects.exists(), "looking at a link makes nobody"
    assert client.post(link, NEW).status_code == 302
    assert Account.objects.get().is_superuser
    assert Client().get(link).status_code == 404
    assert Client().post(link, NEW | {"username": "eve"}).status_code == 404
    assert accounts.first_admin_link() is None


@pytest.mark.django_db(transaction=True)
def test_a_first_link_that_is_posted_twice_at_once_makes_one_admin(folder: Path) -> None:
    link = accounts.first_admin_link()
    assert link is not None
    barrier, answers = threading.Barrier(2), []
    seen = accounts.AccountForm.is_valid

    def valid(form: Any) -> bool:
        found = seen(form)
        barrier.wait(10)  # both have found that the link holds
        return found

    def post(number: int) -> None:
        try:
            answers.append(Client().post(link, NEW | {"username": f"first-{number}"}).status_code)
        finally:
            connections.close_all()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts.AccountForm, "is_valid", valid)
        both = [threading.Thread(target=post, args=(number,)) for number in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert answers == [302, 302]
    assert Account.objects.filter(is_superuser=True).count() == Account.objects.count() == 1


@pytest.mark.django_db
def test_only_the_newest_first_link_holds(folder: Path, client: Client) -> None:
    older, newer = accounts.first_admin_link(), accounts.first_admin_link()
    assert client.get(older).status_code == 404
    assert client.get(newer).status_code == 200
    assert client.get("/first/guess/").status_code == 404


def test_the_secret_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = secret_key(tmp_path)
    assert len(made) > 60
    assert secret_key(tmp_path) == made
    path = tmp_path / "secret-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret-key"]
    path.chmod(0o644)
    with pytest.raises(HeedfulError, match="others can read"):
        secret_key(tmp_path)


# --- invitations ---


@pytest.mark.django_db
def test_an_invitation_that_is_looked_at_is_not_used_up(client: Client) -> None:
    of = programme()
    _, token = programmes.invite(of, Role.RATER, actor=None)
    link = reverse("invitation", args=[token])
    for _ in range(3):
        assert client.get(link).status_code == 200
        assert client.head(link).status_code == 200
    assert Invitation.objects.get().uses_left == 1
    assert client.post(link, NEW).status_code == 302
    made = Account.objects.get(username="ann")
    assert Membership.objects.get(account=made).role == Role.RATER
    assert made.check_password(PASSWORD)
    other = Client().get(link)
    assert other.status_code == 404
    assert "no longer holds" in other.content.decode()


@pytest.mark.django_db
def test_somebody_with_an_account_joins_by_one_click(client: Client) -> None:
    of, mine = programme(), account()
    _, token = programmes.invite(of, Role.MANAGER, actor=None)
    client.force_login(mine)
    assert client.post(reverse("invitation", args=[token])).status_code == 302
    assert programmes.roles_of(mine, of) == {Role.MANAGER}


@pytest.mark.django_db
def test_a_weak_password_makes_no_account_and_uses_nothing_up(client: Client) -> None:
    _, token = programmes.invite(programme(), Role.RATER, actor=None)
    answer = client.post(reverse("invitation", args=[token]), NEW | {"password1": "short", "password2": "short"})
    assert answer.status_code == 200
    assert "at least 10 characters" in answer.content.decode()
    assert not Account.objects.filter(username="ann").exists()
    assert Invitation.objects.get().uses_left == 1


# --- logging in ---


@pytest.mark.django_db
def test_logging_out_ends_the_session(client: Client) -> None:
    made = account("bo")
    made.set_password(PASSWORD)
    made.save()
    assert client.post("/login/", {"username": "bo", "password": PASSWORD}).status_code == 302
    stolen = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert client.get("/password/").status_code == 200
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").status_code == 302
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = stolen
    assert thief.get("/password/").status_code == 302


@pytest.mark.django_db
def test_wrong_passwords_close_the_login_for_that_account_and_address_alone(client: Client) -> None:
    for name in ("cy", "di"):
        made = account(name)
        made.set_password(PASSWORD)
        made.save()
    wrong = [client.post("/login/", {"username": "cy", "password": "no"}).status_code for _ in range(9)]
    assert wrong[-1] == 429
    assert client.post("/login/", {"username": "cy", "password": PASSWORD}).status_code == 429
    assert client.post("/login/", {"username": "di", "password": PASSWORD}).status_code == 302
    elsewhere = Client(REMOTE_ADDR="192.0.2.9")
    assert elsewhere.post("/login/", {"username": "cy", "password": PASSWORD}).status_code == 302


@pytest.mark.django_db
def test_one_address_cannot_try_many_accounts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)  # else the tries may fall into two windows
    tries = [
        client.post("/login/", {"username": f"u{i}", "password": "no"}) for i in range(accounts.LOGIN_TRIES[0] + 1)
    ]
    assert tries[-1].status_code == 429
    assert int(tries[-1]["Retry-After"]) > 0
    assert tries[0].status_code == 200


@pytest.mark.django_db
def test_a_login_leads_nowhere_else(client: Client) -> None:
    made = account("ed")
    made.set_password(PASSWORD)
    made.save()
    given = {"username": "ed", "password": PASSWORD, "next": "https://elsewhere.example/"}
    assert client.post("/login/", given)["Location"] == "/"


# --- languages ---


@pytest.mark.django_db
def test_the_language_is_chosen_and_kept(client: Client) -> None:
    made = account()
    client.force_login(made)
    answer = client.post("/language/", {"language": "vi", "next": "/password/"})
    assert answer["Location"] == "/password/"
    made.refresh_from_db()
    assert made.language == "vi"
    page = client.get("/password/")
    assert page["Content-Language"] == "vi"
    assert '<html lang="vi"' in page.content.decode()
    assert client.post("/language/", {"language": "xx"}).status_code == 404
    for evil in ("https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)"):
        assert client.post("/language/", {"language": "en", "next": evil})["Location"] == "/"


# --- consent ---


@pytest.mark.django_db
def test_consent_keeps_agreement_and_what_one_tells_of_oneself(client: Client) -> None:
    questions = [{"name": "age", "question": "How old are you?", "answers": ["under 30", "30 or more"]}]
    of = programme(consent_text="Your answers train a model.", group_questions=questions)
    mine = rater(of)
    made = item(open_batch(of, 0))
    made.prompt.categories = ["violence"]
    made.prompt.save()
    client.force_login(mine.account)
    link = reverse("consent", args=[of.slug])
    page = client.get(link).content.decode()
    assert "Your answers train a model." in page
    assert "prefer not to say" in page
    assert client.post(link, {"group-age": "under 30"}).status_code == 200, "agreement is asked for"
    assert not Consent.objects.exists()
    assert not GroupAnswer.objects.exists()
    assert client.post(link, {"agree": "on", "group-age": "", "excluded": ["violence"]}).status_code == 302
    assert Consent.objects.get().rater == mine
    assert GroupAnswer.objects.get().answer == ""
    mine.refresh_from_db()
    assert mine.excluded_categories == ["violence"]
    assert client.post(link, {"agree": "on", "group-age": "ninety"}).status_code == 200, "not one of the answers"


# --- every page ---


def routes() -> list[tuple[str, Any]]:
    """(pattern, view) of every address in the URL configuration, the API's apart."""
    found = []

    def walk(patterns: list[Any], prefix: str) -> None:
        for one in patterns:
            if isinstance(one, URLResolver):
                walk(one.url_patterns, prefix + str(one.pattern))
            elif isinstance(one, URLPattern) and not prefix.startswith("api/"):
                found.append((prefix + str(one.pattern), one.callback))

    walk(get_resolver().url_patterns, "")
    return found


ROUTES = routes()


def address(pattern: str, slug: str) -> str:
    """An address of a pattern, with ids that exist nowhere."""
    import re

    def value(match: re.Match[str]) -> str:
        kind, _, name = match.group(1).rpartition(":")
        if name == "slug":
            return slug
        return {"uuid": "00000000-0000-7000-8000-000000000000", "int": "1"}.get(kind, "nothing")

    return "/" + re.sub(r"<([^>]+)>", value, pattern)


def test_every_route_says_who_may_open_it() -> None:
    assert len(ROUTES) > 10
    for pattern, view in ROUTES:
        assert getattr(view, "needs", None), f"{pattern} carries none of requires, signed_in, anyone"


@pytest.mark.django_db
def test_every_page_says_how_a_browser_shall_treat_it() -> None:
    of = programme()
    for pattern, _ in ROUTES:
        headers = Client().get(address(pattern, of.slug)).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"], pattern
        assert "unsafe" not in headers["Content-Security-Policy"], pattern
        assert headers["X-Content-Type-Options"] == "nosniff", pattern
        assert headers["X-Frame-Options"] == "DENY", pattern
        assert "no-store" in headers["Cache-Control"], pattern


@pytest.mark.django_db
def test_a_page_lets_in_whom_it_should_and_nobody_else() -> None:
    """Every route of the URL configuration with every role, a stranger and nobody."""
    of = programme()
    open_batch(of, 2)
    stranger = Client()
    stranger.force_login(account())
    within = {}
    for role in Role:
        member = account()
        Membership.objects.create(programme=of, account=member, role=role)
        within[role] = (member, Client())
    before = Rater.objects.count()
    wrong = []
    for pattern, view in ROUTES:
        path = address(pattern, of.slug)
        method = "post" if Client().get(path).status_code == 405 else "get"  # one that only takes what is sent
        if view.needs == "anyone":
            continue
        if getattr(Client(), method)(path).status_code != 302:
            wrong.append(f"{pattern}: nobody is not sent to the login")
        if view.needs == "account":
            continue
        if getattr(stranger, method)(path).status_code != 404 or stranger.post(path).status_code not in (404, 405):
            wrong.append(f"{pattern}: a stranger learns that the programme is there")
        for role, (member, client) in within.items():
            client.force_login(member)  # a page may have ended the session, as a withdrawal does
            status = getattr(client, method)(path).status_code
            allowed = role in view.needs or role == Role.ADMIN
            if (status == 403) == allowed or status >= 500:
                wrong.append(f"{pattern}: {role} gets {status}")
        if method == "get" and Rater.objects.count() != before:
            wrong.append(f"{pattern}: looking made a rater")
        before = Rater.objects.count()
    assert not wrong, "\n".join(wrong)


@pytest.mark.django_db
def test_nothing_unsafe_goes_without_a_token() -> None:
    of = programme()
    checked = Client(enforce_csrf_checks=True)
    admin = account()
    admin.is_superuser = True
    admin.save()
    checked.force_login(admin)
    for pattern, _ in ROUTES:
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(checked, method)(address(pattern, of.slug))
            assert answer.status_code in (403, 405), f"{method} {pattern}: {answer.status_code}"


def test_a_public_address_asks_for_encryption() -> None:
    found = studio_settings(None, "https://studio.example.org/", False)
    assert found["ALLOWED_HOSTS"][0] == "studio.example.org"
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://studio.example.org"]
    assert found["SESSION_COOKIE_SECURE"]
    assert found["CSRF_COOKIE_SECURE"]
    assert found["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    plain = studio_settings(None, "", False)
    assert "SECURE_PROXY_SSL_HEADER" not in plain


@pytest.mark.django_db
def test_a_foreign_host_is_refused(client: Client) -> None:
    assert client.get("/login/", headers={"host": "evil.example"}).status_code == 400
