"""What a checkpoint was made from, as records: artifacts that lead to artifacts, down to judgments and raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["whole", "changed", "gone", "unproven"]
PEOPLE = ("human", "demonstration")
"""Kinds of judgments by people who judge; end users are another kind."""


@dataclass(frozen=True)
class Link:
    """One artifact was made from another."""

    role: str
    """As what: data, reward, start, round1."""
    name: str
    """Of the other artifact."""
    same: bool | None = None
    """Whether the other is still what this one was made from; None where no hash tells."""


@dataclass(frozen=True)
class Artifact:
    """A file, a folder or a model on the hub that something was made from.

    Attributes:
        name: its path, from the lineage's folder where it lies below that; or the hub id.
        kind: sft, reward, dataset, export, file, hub and so on.
        state: whole, every file is what its manifest says; changed; gone; unproven, no manifest says what it was.
        changed: files that are not what the manifest says, or are missing.
        sha256: of a file its content; of a folder that of its manifest's hashes; empty where it is not there.
        made_from: the artifacts it was made from.
        facts: what its manifest tells besides: round, stage, started, ended, code, records, counts.
        ends: why the chain ends here; empty where it goes on, or where nothing is missing.
    """

    name: str
    kind: str
    state: State
    changed: tuple[str, ...] = ()
    sha256: str = ""
    made_from: tuple[Link, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    ends: str = ""


@dataclass(frozen=True)
class Judgment:
    """One judgment that something rests on."""

    id: str
    """Its id in the store; of one that stands in no store, the artifact and its line there."""
    kind: str
    """human, ai or simulated; end_user; demonstration, of what a person wrote."""
    rater: str
    """A person's pseudonym, a model's or a simulated rater's name; empty where it is not said whose it is."""
    guideline: int
    """Version of the rubric; 0 for who follows none."""
    given_in: str
    """The artifact that lists it."""
    programme: str = ""
    """Of the store; empty where it stands in none."""


@dataclass(frozen=True)
class RaterCount:
    """A rater, and how many of the judgments are theirs."""

    kind: str
    rater: str
    judgments: int
    given_in: tuple[str, ...]


@dataclass(frozen=True)
class GuidelineCount:
    """A version of a programme's rubric, and how many judgments followed it."""

    programme: str
    version: int
    judgments: int


@dataclass(frozen=True)
class SnapshotRef:
    """A snapshot of the store."""

    programme: str
    id: str
    sha256: str
    judgments: int
    given_in: str


@dataclass(frozen=True)
class JudgeRef:
    """An AI judge: a model, its template, and the constitution that it went by, if any."""

    name: str
    template: str = ""
    constitution: str = ""
    """Name and version."""
    judgments: int = 0
    given_in: str = ""


@dataclass(frozen=True)
class Check:
    """Fresh judgments of a policy in the chain against the one before it."""

    name: str
    """The artifact, as rounds/2/check."""
    policy: str
    """The policy that was checked."""
    win_rate: tuple[float, float, float]
    """Mean, low and high end of the 95% interval."""
    gold: tuple[float, float, float] | None
    """The same by the embedded world's truth."""
    pairs: int
    judgments: Mapping[str, int]
    """Of the check, by kind of rater."""
    promoted: bool | None
    """Whether the policy was kept; None where that is not decided."""


@dataclass(frozen=True)
class Withdrawn:
    """Judgments that something was made from, and that their rater has had erased since."""

    name: str
    """The artifact that rests on them."""
    judgments: int
    raters: Mapping[str, int]
    """How many by pseudonym; empty where that is not known any more."""
    ids: tuple[str, ...] = ()
    """Theirs, as far as the artifact still lists them."""


@dataclass(frozen=True)
class Lineage:
    """From an artifact back to all that it was made from.

    Attributes:
        folder: names of artifacts are paths from here.
        root: name of the artifact that was asked about.
        artifacts: it first, each before what it was made from.
        judgments: every judgment that is listed one by one.
        counted: judgments that are known by their number alone, by kind of rater.
        checks: of the policies in the chain; their judgments are none of those above.
        withdrawn: artifacts in the chain that rest on judgments which were erased since.
    """

    folder: str
    root: str
    artifacts: tuple[Artifact, ...]
    judgments: tuple[Judgment, ...]
    counted: Mapping[str, int]
    snapshots: tuple[SnapshotRef, ...]
    judges: tuple[JudgeRef, ...]
    checks: tuple[Check, ...]
    withdrawn: tuple[Withdrawn, ...] = ()

    @property
    def named(self) -> dict[str, Artifact]:
        """The artifacts by name."""
        return {one.name: one for one in self.artifacts}

    @property
    def by_kind(self) -> dict[str, int]:
        """How many judgments by kind of rater, those without a list included."""
        found = Counter(one.kind for one in self.judgments)
        found.update(self.counted)
        return {kind: count for kind, count in sorted(found.items()) if count}

    @property
    def raters(self) -> tuple[RaterCount, ...]:
        """Who judged, the most judgments first."""
        counts: Counter[tuple[str, str]] = Counter()
        places: dict[tuple[str, str], dict[str, None]] = {}
        for one in self.judgments:
            if one.rater:
                counts[one.kind, one.rater] += 1
                places.setdefault((one.kind, one.rater), {})[one.given_in] = None
        found = [RaterCount(*key, count, tuple(places[key])) for key, count in counts.items()]
        found += [
            RaterCount(row["kind"], row["rater"], row["judgments"], (one.name,))
            for one in self.artifacts
            for row in one.facts.get("raters", ())
        ]
        return tuple(sorted(found, key=lambda one: (-one.judgments, one.kind, one.rater)))

    @property
    def people(self) -> int:
        """Different people among the raters. One who is in two exports under two pseudonyms counts twice."""
        return len({one.rater for one in self.raters if one.kind in PEOPLE})

    @property
    def guidelines(self) -> tuple[GuidelineCount, ...]:
        """Versions of rubrics that the judgments followed."""
        counts = Counter((one.programme, one.guideline) for one in self.judgments if one.guideline)
        return tuple(GuidelineCount(*key, count) for key, count in sorted(counts.items()))

    @property
    def constitutions(self) -> tuple[str, ...]:
        """Constitutions, by name and version."""
        named = [one.constitution for one in self.judges] + [
            str(one.facts.get("constitution", "")) for one in self.artifacts
        ]
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def changed(self) -> tuple[str, ...]:
        """Files that are not what they were, as paths from the folder."""
        return tuple(f"{one.name}/{file}" if file else one.name for one in self.artifacts for file in one.changed)

    @property
    def ends(self) -> dict[str, str]:
        """Artifacts at which the chain ends, and why."""
        return {one.name: one.ends for one in self.artifacts if one.ends}

    @property
    def ai_share(self) -> float | None:
        """Share of AI judgments; None where there are none at all."""
        total = sum(self.by_kind.values())
        return self.by_kind.get("ai", 0) / total if total else None
