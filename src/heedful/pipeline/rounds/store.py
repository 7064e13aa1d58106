"""The store that people judge in: opened, or begun where a programme has asked nobody yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.feedback.ai.guidelines import read_attributes, read_guideline
from heedful.feedback.client import FeedbackClient, connect
from heedful.feedback.setup import DATABASE, database, setup
from heedful.files import read_manifest
from heedful.pipeline.rounds.recipe import Programme
from heedful.training.config.programme import Recipe
from heedful.training.progress import Display

BATCH = ".batch.json"
"""In a half-made stage's folder: the id of the batch that people judge."""


def open_store(recipe: Recipe, programme: Programme, display: Display) -> FeedbackClient:
    """The store of a programme. The folder's own is begun where nobody has been asked yet, with the recipe's guideline.

    Raises:
        HeedfulError: the database is not there, and there was one; or the guideline cannot be read.
    """
    if recipe.store.studio:
        return connect(studio=recipe.store.studio)
    given = recipe.store.database or os.environ.get("DATABASE_URL")
    address = given or str(programme.folder / DATABASE)
    chosen = database(address)
    if not given and not has_asked(programme):
        with readable(recipe):
            _begin(recipe, programme, address, display)
    elif chosen["ENGINE"].endswith("sqlite3") and not Path(chosen["NAME"]).exists():
        raise HeedfulError(
            "the store is not there, so that nobody can be asked.",
            where=chosen["NAME"],
            mend="Put it back from a backup (heedful studio restore), or begin one: heedful studio --folder "
            f"{programme.folder}. What finished rounds read of it is kept in {programme.folder / 'rounds'}.",
        )
    return connect(database=address)


def has_asked(programme: Programme) -> bool:
    """Whether people were asked for anything before, so that a store that is not there is one that has gone."""
    rounds = programme.folder / "rounds"
    if any(rounds.glob(f"*/*/{BATCH}")):
        return True
    manifests = (read_manifest(place) for place in rounds.glob("*/*") if place.is_dir())
    return any("store" in (manifest or {}) for manifest in manifests)


def _begin(recipe: Recipe, programme: Programme, address: str, display: Display) -> None:
    """See to it that the folder's database, readable for nobody else, is there with the programme in it."""
    own = recipe.store
    markdown = read_guideline(Path(programme.path(own.guideline))) if own.guideline else ""
    attributes = read_attributes(Path(programme.path(own.attributes))) if own.attributes else ()
    os.close(os.open(programme.folder / DATABASE, os.O_WRONLY | os.O_CREAT, 0o600))
    setup(address)
    from django.core.management import call_command

    from heedful.feedback.programmes import begin_programme

    call_command("migrate", verbosity=0, interactive=False)
    if begin_programme(str(own.programme), recipe.name, markdown, attributes) is not None:
        display.say(
            f"The store is begun, with the programme {own.programme!r}. People judge in the studio: "
            f"heedful studio --folder {programme.folder}"
        )


@contextmanager
def readable(recipe: Recipe) -> Iterator[None]:
    """Explain a database that is no store.

    Raises:
        HeedfulError: instead of the database's own error.
    """
    from django.db.utils import DatabaseError

    try:
        yield
    except DatabaseError as error:
        raise HeedfulError(
            f"the store cannot be read: {error}.",
            where=recipe.store.database or DATABASE,
            mend="Put it back from a backup: heedful studio restore. Finished rounds are kept and need no store.",
        ) from error
