"""What was made from a rater's judgments, or from any that were erased: every artifact below a folder, by name.

Imports no torch and no Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.feedback.export_lineage import ENDING
from heedful.feedback.journal import JOURNAL
from heedful.files import MANIFEST
from heedful.pipeline.lineage import Tracer
from heedful.pipeline.provenance.beside import JUDGE, own_manifest
from heedful.pipeline.provenance.records import Artifact, Lineage
from heedful.pipeline.provenance.tombstones import erased_judgments, journals_near

PASSED_OVER = ("checkpoints", "kept")
"""Folders of a run that are gone once it ends."""


@dataclass(frozen=True)
class Affected:
    """An artifact that rests on somebody's judgments.

    Attributes:
        name: its path from the folder that was searched.
        kind: sft, reward, dataset, export and so on.
        judgments: how many of them it lists itself, or was made from before they were taken out of what it was made
            from; 0 where it rests on them by way of others.
        by_way_of: the artifacts, among those named here, that it was made from.
        snapshots: of the store, that list them: each an id and its programme.
    """

    name: str
    kind: str
    judgments: int
    by_way_of: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()


def made_from_rater(under: Path, rater: str) -> tuple[Affected, ...]:
    """Every artifact below a folder that rests on judgments of a rater, named by pseudonym."""
    found = everything_below(under)
    direct: dict[str, int] = {}
    for one in found.judgments:
        if one.rater == rater:
            direct[one.given_in] = direct.get(one.given_in, 0) + 1
    for artifact in found.artifacts:
        for row in artifact.facts.get("raters", ()):
            if row["rater"] == rater:
                direct[artifact.name] = direct.get(artifact.name, 0) + int(row["judgments"])
    for gone in found.withdrawn:
        if rater in gone.raters:
            direct[gone.name] = max(direct.get(gone.name, 0), gone.raters[rater])
    return tuple(_closed(found, direct))


def made_from_withdrawn(under: Path, journals: Iterable[Path] = ()) -> tuple[Affected, ...]:
    """Every artifact below a folder that rests on judgments which were erased since.

    Args:
        journals: journals of erasures, besides those below the folder and in the one above it.

    Raises:
        HeedfulError: a journal is damaged, with the line.
    """
    found = everything_below(under, journals)
    direct: dict[str, int] = {}
    for one in found.withdrawn:
        direct[one.name] = max(direct.get(one.name, 0), one.judgments)
    return tuple(_closed(found, direct))


def everything_below(under: Path, journals: Iterable[Path] = ()) -> Lineage:
    """One lineage of all artifacts below a folder: what has a manifest, exports, folders of `heedful judge`."""
    under = under.resolve()
    tracer = Tracer(under, verify=False)
    for place in sorted(_places(under)):
        tracer.visit(place)
    known = [*journals_near(under), *sorted(under.rglob(JOURNAL)), *journals]
    return tracer.lineage(str(under), erased_judgments(known))


def _places(under: Path) -> Iterator[Path]:
    for pattern in (MANIFEST, JUDGE, f"*{ENDING}"):
        for path in under.rglob(pattern):
            parts = path.relative_to(under).parts[:-1]
            if any(part.startswith(".") or part.endswith(".part") or part in PASSED_OVER for part in parts):
                continue
            file = path.with_name(path.name.removesuffix(ENDING))
            if path.name == JUDGE or (path.name == MANIFEST and _ours(path.parent)):
                yield path.parent
            elif path.name != MANIFEST and file.exists():
                yield file


def _ours(folder: Path) -> bool:
    """Whether the manifest there is one of heedful's, and can be read."""
    try:
        return own_manifest(folder) is not None
    except HeedfulError:
        return False


def _closed(found: Lineage, direct: dict[str, int]) -> Iterator[Affected]:
    """The artifacts that rest on those directly touched, and they themselves, the nearest first."""
    named = found.named
    touched: dict[str, None] = dict.fromkeys(name for name in direct if name in named)
    users: dict[str, list[Artifact]] = {}
    for artifact in found.artifacts:
        for link in artifact.made_from:
            users.setdefault(link.name, []).append(artifact)
    for name in touched_in_turn(touched, users):
        own = named[name]
        by_way = tuple(dict.fromkeys(link.name for link in own.made_from if link.name in touched))
        listed = tuple(f"{one.id} of {one.programme}" for one in found.snapshots if one.given_in == name)
        yield Affected(name, own.kind, direct.get(name, 0), by_way, listed if name in direct else ())


def touched_in_turn(touched: dict[str, None], users: dict[str, list[Artifact]]) -> list[str]:
    """Everything that was made from some artifacts, in the order in which it is reached; joins it to `touched`."""
    waiting = list(touched)
    for name in waiting:
        for artifact in users.get(name, ()):
            if artifact.name not in touched:
                touched[artifact.name] = None
                waiting.append(artifact.name)
    return waiting
