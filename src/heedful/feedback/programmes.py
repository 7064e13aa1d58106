"""Programmes, their rubrics, and who takes part in them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.text import slugify

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, statements
from heedful.feedback.models import (
    Account,
    Consent,
    Draft,
    Guideline,
    Invitation,
    Membership,
    Programme,
    Rater,
    RaterKind,
    Role,
)
from heedful.feedback.rubric import STARTER, STARTER_ATTRIBUTES, attributes_of
from heedful.feedback.rules import Rules, rules_of
from heedful.feedback.texts import clean
from heedful.feedback.tokens import hash_of, revoke_tokens_of

RATING = frozenset({Role.RATER, Role.ADJUDICATOR})
"""Roles whose holders judge."""


def create_programme(
    name: str,
    *,
    account: Account,
    slug: str = "",
    markdown: str = STARTER,
    attributes: Sequence[Mapping[str, Any]] = STARTER_ATTRIBUTES,
) -> Programme:
    """A new programme: the account becomes its admin, guideline version 1 is a rubric, by default a starter.

    Args:
        name: shown to everybody in it.
        account: of its first admin.
        slug: its place in addresses; by default made from the name.
        markdown: the rubric.
        attributes: of the attributes task.

    Raises:
        HeedfulError: the name or the rubric is empty, the slug is taken or holds more than letters, digits and hyphens,
            or an attribute is none.
    """
    clean(markdown, "markdown", empty=False)
    checked = attributes_of(attributes)
    name = clean(name, "name", longest=200, empty=False).strip()
    wanted = slug or slugify(name)[:70].strip("-") or "programme"
    if slugify(wanted) != wanted or len(wanted) > 80:
        raise HeedfulError(
            "{slug!r} does not fit into an address.", where="slug", mend="Use a-z, 0-9 and hyphens.", slug=slug
        )
    with transaction.atomic():
        made = _with_free_slug(name, wanted, exact=bool(slug))
        Guideline.objects.create(programme=made, version=1, markdown=markdown, attributes=checked, author=account)
        Membership.objects.create(programme=made, account=account, role=Role.ADMIN)
        events.record("programme.created", programme=made, actor=account)
    return made


def begin_programme(
    slug: str, name: str, markdown: str = "", attributes: Sequence[Mapping[str, Any]] = ()
) -> Programme | None:
    """The programme that a recipe names, made with its guideline unless it is there; None where it was there.

    It belongs to the studio's first admin, or, before there is one, to an account that nobody can log in to.

    Args:
        slug: its place in addresses.
        name: shown to everybody in it.
        markdown: the rubric; empty: a starter.
        attributes: of the attributes task; none: the starter's.

    Raises:
        HeedfulError: as `create_programme`.
    """
    if Programme.objects.filter(slug=slug).exists():
        return None
    owner = Account.objects.filter(is_superuser=True).first() or keeper("recipe-owner", "The recipe")
    return create_programme(
        name, account=owner, slug=slug, markdown=markdown or STARTER, attributes=attributes or STARTER_ATTRIBUTES
    )


def keeper(username: str, display_name: str) -> Account:
    """An account without a password, that owns a programme until somebody is admin."""
    made, new = Account.objects.get_or_create(username=username, defaults={"display_name": display_name})
    if new:
        made.set_unusable_password()
        made.is_active = False
        made.save()
    return made


def _with_free_slug(name: str, wanted: str, *, exact: bool) -> Programme:
    for number in range(1, 1000):
        try:
            with transaction.atomic():
                return Programme.objects.create(name=name, slug=wanted if number == 1 else f"{wanted}-{number}")
        except IntegrityError:
            if exact:
                break
    raise HeedfulError("{wanted!r} is taken.", where="slug", mend="Choose another.", wanted=wanted)


def publish_guideline(
    programme: Programme,
    markdown: str,
    *,
    author: Account | None,
    attributes: Sequence[Mapping[str, Any]] | None = None,
    translations: Mapping[str, str] | None = None,
    summary: str = "",
) -> Guideline:
    """The next version of a programme's rubric. Published versions never change.

    Args:
        programme: whose rubric.
        markdown: the rubric.
        author: who publishes it.
        attributes: of the attributes task; by default those of the version before.
        translations: language tag to Markdown; by default none, since the text has changed.
        summary: what is new, in a line.

    Raises:
        HeedfulError: the rubric is empty, or an attribute lacks a name, repeats one or has odd points.
    """
    clean(markdown, "markdown", empty=False)
    clean(summary, "summary", longest=200)
    texts = {clean(tag, "translations", longest=12): clean(text, f"translations.{tag}", empty=False)
             for tag, text in (translations or {}).items()}  # fmt: skip
    checked = None if attributes is None else attributes_of(attributes)
    for _ in range(20):
        last = Guideline.objects.filter(programme=programme).order_by("-version").first()
        try:
            with transaction.atomic():
                made = Guideline.objects.create(
                    programme=programme,
                    version=last.version + 1 if last else 1,
                    markdown=markdown,
                    translations=texts,
                    attributes=checked if checked is not None else list(last.attributes) if last else [],
                    summary=summary,
                    author=author,
                )
                digest = events.digest_of([markdown, texts, made.attributes])
                events.record("guideline.published", programme=programme, actor=author, digest=digest, guideline=made)
                return made
        except IntegrityError:
            continue  # somebody published at the same time: theirs has the number, ours gets the next
    raise HeedfulError("others publish at the same time.", where="guideline", mend="Try again.")


@lru_cache(maxsize=64)
def guideline_of(key: Any) -> Guideline:
    """A published version by its id. It never changes (the database refuses it), so each process reads it once."""
    return Guideline.objects.get(pk=key)


def newest_guideline(programme: Programme) -> Guideline:
    """The version in force.

    Raises:
        HeedfulError: the programme has none.
    """
    found = Guideline.objects.filter(programme=programme).order_by("-version").first()
    if found is None:
        raise HeedfulError("the programme has no guideline.", where=programme.slug, mend="Publish one.")
    return found


def update_rules(programme: Programme, rules: Rules, *, actor: Account | None) -> None:
    """Change how a programme shares out work."""
    stored = rules.stored()
    with transaction.atomic():
        Programme.objects.filter(pk=programme.pk).update(settings=stored)
        events.record("rules.changed", programme=programme, actor=actor, digest=events.digest_of(stored))
    programme.settings = stored


PLACE = """
SELECT {p}, {r}, m.role FROM feedback_programme p
LEFT JOIN feedback_rater r ON r.programme_id = p.id AND r.account_id = %s
LEFT JOIN feedback_membership m ON m.programme_id = p.id AND m.account_id = %s AND m.ended IS NULL
WHERE p.slug = %s
"""


def place_of(account: Account, slug: str) -> tuple[Programme | None, frozenset[Role], Rater | None]:
    """A programme by its slug, what an account may do in it, and its rater record there; None for what is not there."""
    found = statements.rows(PLACE, [account.pk, account.pk, slug], p=Programme, r=Rater)
    if not found:
        return None, frozenset(), None
    programme, rater, _ = found[0]
    if rater is not None:
        rater.programme = programme
    return programme, _roles(account, [role for _, _, role in found if role is not None]), rater


def roles_of(account: Account, programme: Programme) -> frozenset[Role]:
    """What an account may do in a programme; an admin has every role."""
    rows = Membership.objects.filter(account=account, programme=programme, ended=None)
    return _roles(account, rows.values_list("role", flat=True))


def _roles(account: Account, held: Iterable[str]) -> frozenset[Role]:
    if not account.is_active or account.erased:
        return frozenset()
    roles = frozenset(Role(role) for role in held)
    return frozenset(Role) if Role.ADMIN in roles else roles


def add_member(programme: Programme, account: Account, role: str, *, actor: Account | None) -> Membership:
    """Give an account a role; one that had ended begins again.

    Raises:
        HeedfulError: there is no such role.
    """
    if role not in Role.values:
        raise HeedfulError(
            "{role!r} is no role.", where="role", mend="Give one of {known}.", role=role, known=", ".join(Role.values)
        )
    with transaction.atomic():
        found, made = Membership.objects.get_or_create(programme=programme, account=account, role=role)
        again = Membership.objects.filter(pk=found.pk, ended__isnull=False).update(ended=None)
        if made or again:
            events.record("membership.began", programme=programme, actor=actor, membership=found, account=account,
                          role=Role(role))  # fmt: skip
        if role in RATING:
            _own_rater(account, programme)
    found.refresh_from_db()
    return found


def end_membership(programme: Programme, account: Account, role: str, *, actor: Account | None) -> None:
    """Take a role away. What the account did stays; tokens that they made as an admin end with it.

    Raises:
        HeedfulError: the account does not have the role, or is the last admin.
    """
    with transaction.atomic():
        # One order for all who end memberships here, so that two admins cannot end each other at once.
        Programme.objects.select_for_update(no_key=True).get(pk=programme.pk)
        held = Membership.objects.filter(programme=programme, role=role, ended=None)
        if role == Role.ADMIN and not held.exclude(account=account).exists():
            raise HeedfulError("a programme keeps one admin.", where="role", mend="Make somebody else an admin first.")
        if not held.filter(account=account).update(ended=clock.now()):
            raise HeedfulError("the account is no {role} here.", where="role", role=role)
        events.record("membership.ended", programme=programme, actor=actor, account=account, role=Role(role))
        if role == Role.ADMIN and not account.is_superuser:
            revoke_tokens_of(account, programme, actor=actor)


def invite(
    programme: Programme, role: str, *, actor: Account | None, uses: int = 1, days: int = 14
) -> tuple[Invitation, str]:
    """An invitation and its token, which is kept nowhere: show it now.

    Raises:
        HeedfulError: no such role, or uses or days out of range.
    """
    if role not in Role.values:
        raise HeedfulError(
            "{role!r} is no role.", where="role", mend="Give one of {known}.", role=role, known=", ".join(Role.values)
        )
    for field, value, most in (("uses", uses, 1000), ("days", days, 365)):
        if not 1 <= value <= most:
            raise HeedfulError("{value} is not in 1 to {most}.", where=field, value=value, most=most)
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        made = Invitation.objects.create(
            programme=programme,
            role=role,
            token_hash=hash_of(token),
            uses_left=uses,
            expires=clock.now() + timedelta(days=days),
        )
        events.record("invitation.made", programme=programme, actor=actor, invitation=made, role=Role(role), uses=uses)
    return made, token


def find_invitation(token: str) -> Invitation | None:
    """The invitation that a link's token opens, if it still holds. Looking changes nothing."""
    rows = Invitation.objects.select_related("programme").filter(
        token_hash=hash_of(token), revoked=None, uses_left__gte=1, expires__gt=clock.now()
    )
    return rows.first()


def accept_invitation(token: str, account: Account) -> Membership:
    """Become a member by a link. Somebody who has the role already uses nothing up.

    Raises:
        HeedfulError: the link is used up, revoked, too old or wrong.
    """
    with transaction.atomic():
        found = find_invitation(token)
        if found is None:
            raise _stale()
        mine = Membership.objects.filter(programme=found.programme, account=account, role=found.role, ended=None)
        if mine.exists():
            return mine.get()
        if not Invitation.objects.filter(pk=found.pk, uses_left__gte=1, revoked=None).update(
            uses_left=F("uses_left") - 1
        ):
            raise _stale()
        events.record("invitation.accepted", programme=found.programme, actor=account, invitation=found)
        return add_member(found.programme, account, found.role, actor=account)


def _stale() -> HeedfulError:
    return HeedfulError("this invitation no longer holds.", where="invitation", mend="Ask the manager for a new link.")


def rater_of(account: Account, programme: Programme) -> Rater | None:
    """The account's rater record, made on first need; None for who does not judge here."""
    if not roles_of(account, programme) & RATING:
        return None
    return _own_rater(account, programme)


def _own_rater(account: Account, programme: Programme) -> Rater:
    found = Rater.objects.filter(programme=programme, account=account).first()
    return (
        found
        or Rater.objects.get_or_create(programme=programme, account=account, defaults={"kind": RaterKind.PERSON})[0]
    )


def agent(programme: Programme, kind: str, name: str) -> Rater:
    """The rater record of an AI judge, a simulated rater or an end user, made on first need.

    Raises:
        HeedfulError: a person is asked for (they have accounts), or the name is empty.
    """
    if kind not in RaterKind.values or kind == RaterKind.PERSON:
        raise HeedfulError("{kind!r} is no kind of rater without an account.", where="kind", kind=kind)
    clean(name, "name", longest=120, empty=False)
    return Rater.objects.get_or_create(programme=programme, account=None, kind=kind, name=name)[0]


def _consent_asked(rater: Rater) -> str:
    """Hash of the consent text as it stands; empty where the programme asks for none."""
    text = rules_of(rater.programme.settings).consent_text
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def give_consent(rater: Rater) -> Consent | None:
    """A rater agrees to the consent text as it stands; None where the programme asks for none."""
    digest = _consent_asked(rater)
    if not digest:
        return None
    with transaction.atomic():
        held = Consent.objects.filter(rater=rater, text_sha256=digest, withdrawn=None).first()
        if held:
            return held
        made = Consent.objects.create(rater=rater, text_sha256=digest)
        events.record("consent.given", programme=rater.programme_id, actor=rater, digest=digest, consent=made)
    return made


def withdraw_consent(rater: Rater) -> int:
    """A rater no longer agrees: no more work is given, and nothing is kept of what they have before them.

    What they submitted before stays: taking it back is theirs to do, one by one or all of it
    (`erasure.withdraw_judgments`), and erasing is an admin's.

    Returns:
        how many consents ended.
    """
    with transaction.atomic():
        ended = Consent.objects.filter(rater=rater, withdrawn=None).update(withdrawn=clock.now())
        Draft.objects.filter(assignment__rater=rater).delete()
        if ended:
            events.record("consent.withdrawn", programme=rater.programme_id, actor=rater)
    return ended


def has_withdrawn(rater: Any) -> bool:
    """Whether the rater with this id took their consent back, and has not agreed again."""
    ends = list(Consent.objects.filter(rater=rater).values_list("withdrawn", flat=True))
    return bool(ends) and None not in ends


def has_consented(rater: Rater) -> bool:
    """Whether a rater agreed to the consent text as it stands; true where the programme asks for none."""
    digest = _consent_asked(rater)
    return not digest or Consent.objects.filter(rater=rater, text_sha256=digest, withdrawn=None).exists()
