"""The programme of the recipe that stands in the studio's folder: made with the recipe's guideline, once."""

from __future__ import annotations

from pathlib import Path

from heedful.errors import HeedfulError
from heedful.feedback.ai.guidelines import read_attributes, read_guideline
from heedful.feedback.programmes import begin_programme
from heedful.studio.config import StudioConfig
from heedful.training.config.programme import StoreRecipe
from heedful.training.settings import build, draft, read_yaml

RECIPE = "heedful.yaml"


def begin_own(config: StudioConfig) -> str:
    """Make the programme that the folder's recipe names in this store, unless it is there; a line to print, or none.

    What is wrong with the recipe is said, and stops nobody from being served.
    """
    path = config.folder / RECIPE
    if not path.exists():
        return ""
    try:
        mapping, source = read_yaml(path)
        store: StoreRecipe = build(draft(StoreRecipe, mapping.get("store") or {}, source, ("store",)), source)
        if store.programme is None or store.studio is not None or store.database not in (None, config.address):
            return ""
        markdown = read_guideline(_beside(config, store.guideline)) if store.guideline else ""
        attributes = read_attributes(_beside(config, store.attributes)) if store.attributes else ()
        made = begin_programme(store.programme, str(mapping.get("name") or store.programme), markdown, attributes)
    except HeedfulError as error:
        return f"The programme of {path} is not made: {error}"
    return "" if made is None else f"Begun: the programme {made.slug!r} of {path}, with its guideline."


def _beside(config: StudioConfig, name: str) -> Path:
    """A file that the recipe names from its own folder."""
    return config.folder / name
