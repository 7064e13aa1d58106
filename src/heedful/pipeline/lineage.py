"""From a checkpoint back to everything that it was made from, every hash on the way held against the file.

A stage of a programme says what it read in its manifest's `record`; a run of a single command in `parents` and `data`;
a file of data by the record beside it. Where nothing says it, the chain ends, and the lineage tells why. Imports no
torch and no Django.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import MANIFEST, read_manifest, sha256_file
from heedful.models.folder_hash import folder_fingerprint
from heedful.pipeline.provenance.beside import (
    JUDGE,
    judged_folder,
    made_folder,
    own_manifest,
    read_object,
    record_of_export,
)
from heedful.pipeline.provenance.records import (
    Artifact,
    Check,
    JudgeRef,
    Judgment,
    Link,
    SnapshotRef,
    State,
    Withdrawn,
)
from heedful.pipeline.provenance.records import (
    Lineage as Lineage,
)
from heedful.pipeline.provenance.tombstones import erased_judgments, journals_near
from heedful.pipeline.rounds.contents import content, digest
from heedful.pipeline.rounds.recipe import RECIPE

WORLD, JUDGMENTS = "embedded world", "judgments.jsonl"
FACTS = ("figures", "steps", "seconds", "peak_memory_bytes", "stopped", "loss", "spent")
"""What a manifest tells that belongs to its artifact alone."""
JUDGED = ("how", "labels", "cases", "spent", "code", "programme")
"""What `heedful judge` tells of its folder."""
EXPORTED = ("programme", "studio", "format", "rows", "consensus", "guidelines", "raters")
"""What the record beside an export tells of it."""
NO_MANIFEST = "this {what} has no manifest, so nothing says what it was made from"


def trace(path: Path | str, *, verify: bool = True, journals: Iterable[Path] = ()) -> Lineage:
    """The lineage of a checkpoint, a dataset, or any other artifact; of a programme's folder, its last kept policy's.

    Args:
        path: a folder or a file.
        verify: hold every file against its manifest. Without, only that it is there.
        journals: journals of erasures, besides the one in the folder of the programme or of a store beside.

    Raises:
        HeedfulError: there is nothing there, or a manifest or journal cannot be read.
    """
    root = asked_for(Path(path))
    base = base_of(root)
    tracer = Tracer(base, verify)
    name = tracer.visit(root)
    erased = erased_judgments([*journals_near(base), *journals])
    return tracer.lineage(name, erased)


def asked_for(path: Path) -> Path:
    """The artifact that a path means: a file of one means the folder, a programme's folder its last kept policy.

    Raises:
        HeedfulError: there is nothing there.
    """
    path = path.resolve()
    if not path.exists():
        raise HeedfulError("there is nothing here.", where=str(path), mend="Name a checkpoint's folder, or a file.")
    if path.is_file():
        return (path.parent if path.name == MANIFEST else made_folder(path)) or path
    if read_manifest(path) is None and (path / RECIPE).exists() and (path / "rounds").is_dir():
        return _last_kept(path)
    return path


def _last_kept(programme: Path) -> Path:
    rounds = [one for one in (programme / "rounds").iterdir() if one.name.isdecimal()]
    for place in sorted(rounds, key=lambda one: -int(one.name)):
        decided = read_manifest(place / "decide")
        if decided is not None:
            kept = decided["kept"]
            found = programme / kept if isinstance(kept, str) else programme / "rounds" / str(kept[0]) / kept[1]
            if found.exists():
                return found
            raise HeedfulError(
                f"the policy that was kept is the base model {kept}, which is no folder here.",
                where=str(programme),
                mend="Name one of the folders in rounds/, as rounds/1/policy.",
            )
    raise HeedfulError(
        "no round of this programme has ended, so there is no policy that was kept.",
        where=str(programme),
        mend="Name one of the folders in rounds/, as rounds/0/sft.",
    )


def base_of(root: Path) -> Path:
    """The folder from which an artifact's lineage names things: the programme's; of a single run the working folder
    where it lies below that, else the one that it stands in."""
    programme, here = programme_of(root), Path.cwd()
    if programme is not None:
        return programme
    return here if root.is_relative_to(here) and here != Path(here.anchor) else root.parent


def programme_of(place: Path) -> Path | None:
    """The programme whose stage's result stands here; None where it is none's."""
    manifest = read_manifest(place) if place.is_dir() else None
    inside = manifest is not None and "record" in manifest and place.parent.parent.name == "rounds"
    return place.parents[2] if inside else None


class Tracer:
    """Goes from artifact to artifact and notes each once.

    Args:
        base: names are paths from here, for what lies below.
        verify: hold every file against its manifest.
    """

    def __init__(self, base: Path, verify: bool) -> None:
        self.base, self.verify = base, verify
        self.artifacts: dict[str, Artifact | None] = {}
        self.judgments: list[Judgment] = []
        self.counted: Counter[str] = Counter()
        self.snapshots: list[SnapshotRef] = []
        self.judges: list[JudgeRef] = []
        self.checks: list[Check] = []
        self.withdrawn: list[Withdrawn] = []

    def lineage(self, root: str, erased: frozenset[str]) -> Lineage:
        """All that was found."""
        places: dict[str, list[Judgment]] = {}
        for one in self.judgments:
            if one.id in erased:
                places.setdefault(one.given_in, []).append(one)
        found = [
            Withdrawn(place, len(some), _by_rater(some), tuple(one.id for one in some))
            for place, some in places.items()
        ]
        return Lineage(
            str(self.base),
            root,
            tuple(one for one in self.artifacts.values() if one is not None),
            tuple(self.judgments),
            dict(self.counted),
            tuple(self.snapshots),
            tuple(self.judges),
            tuple(self.checks),
            (*found, *self.withdrawn),
        )

    def name(self, path: Path) -> str:
        """How the lineage names a path."""
        return str(path.relative_to(self.base)) if path.is_relative_to(self.base) else str(path)

    def visit(self, path: Path, sha256: str = "") -> str:
        """Note a file or folder with all behind it; gives its name.

        Args:
            sha256: the content that whoever was made from it says it had; empty where that is not known.
        """
        if path.is_file():
            folder = made_folder(path) or judged_folder(path)
            if folder is not None:
                return self.visit(folder)
        name = self.name(path)
        if name not in self.artifacts:
            self.artifacts[name] = None  # its place in the order, before what it was made from
            self.artifacts[name] = self._file(name, path, sha256) if path.is_file() else self._folder(name, path)
        return name

    # --- folders ---

    def _folder(self, name: str, place: Path) -> Artifact:
        manifest = own_manifest(place)
        if manifest is None:
            if (place / JUDGE).exists():
                return self._judged(name, place)
            kind = "model" if (place / "config.json").exists() else "folder"
            return Artifact(name, kind, "unproven", ends=NO_MANIFEST.format(what="folder"))
        changed = tuple(self._changed(place, manifest))
        facts = {key: manifest[key] for key in FACTS if key in manifest}
        if "record" in manifest:
            links, more = self._stage(name, place, manifest, JUDGMENTS in changed)
        else:
            links, more = self._run(place, manifest)
        kind, complete = str(manifest["kind"]), more.pop("complete", False)
        missing = "" if links or complete else "its manifest names nothing that it was made from"
        state: State = "changed" if changed else "whole"
        return Artifact(name, kind, state, changed, digest(manifest), tuple(links), facts | more, missing)

    def _changed(self, place: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
        for file, wanted in manifest.get("files", {}).items():
            path = place / file
            if not path.exists() or (self.verify and sha256_file(path) != wanted):
                yield file

    def _stage(
        self, name: str, place: Path, manifest: Mapping[str, Any], damaged: bool
    ) -> tuple[list[Link], dict[str, Any]]:
        """A stage of a programme's round; `damaged` says that its judgments are not what was written."""
        record, programme = manifest["record"], place.parents[2]
        links = []
        for role, given in record["inputs"].items():
            near = (programme / given["from"], Path.cwd() / given["from"])  # an absolute path stays what it is
            source = next((one for one in near if one.exists()), near[0])
            links.append(self._input(name, role, source, given, programme))
        if (place / JUDGMENTS).exists():
            self._said(name, place, manifest, damaged)
        if record["stage"] == "policy":
            self.checks += _checks(self, place)
        facts = {key: record[key] for key in ("round", "stage", "started", "ended", "settings")}
        facts |= {"code": {**record["code"], **manifest.get("code", {})}, "key": record["key"], "complete": True}
        facts |= {"own_judgments": record["own_judgments"]} if record["own_judgments"] else {}
        gone = record.get("withdrawn", {})
        return links, facts | ({"withdrawn": gone} if gone else {})

    def _input(self, name: str, role: str, source: Path, given: Mapping[str, Any], programme: Path) -> Link:
        """What a stage read: whether it is still that, and if not, whether judgments were withdrawn from it since."""
        if not source.exists():
            return Link(role, self._elsewhere(str(given["from"])), None)
        manifest = read_manifest(source) if source.is_dir() else None
        if manifest is not None and "record" in manifest and programme_of(source) == programme:
            files = given.get("files")
            now = digest(manifest, files or ())
            same = now == given["sha256"] if files is not None or now == given["sha256"] else None
            for former in manifest["record"].get("replaces", ()):
                if not same and digest(former, files or ()) == given["sha256"]:
                    gone = former["withdrawn"]
                    self.withdrawn.append(Withdrawn(name, sum(gone.values()), gone))
        else:
            same = content(str(source)) == given["sha256"] if self.verify else None
        return Link(role, self.visit(source, given["sha256"] if source.is_file() else ""), same)

    def _said(self, name: str, place: Path, manifest: Mapping[str, Any], damaged: bool) -> None:
        """The judgments of a round, one by one."""
        store = manifest.get("store", {})
        programme = str(store.get("programme", ""))
        asked: Counter[str] = Counter()
        for number, row in enumerate(_rows(place / JUDGMENTS, damaged, "kind", "rater"), 1):
            key = row.get("judgment") or f"{name}#{number}"
            where = programme if row.get("judgment") else ""
            guideline = int(row.get("guideline", 0))
            self.judgments.append(Judgment(key, row["kind"], row["rater"], guideline, name, where))
            asked[row["rater"]] += row["kind"] == "ai"
        snapshot = store.get("snapshot")
        if snapshot is not None:
            self.snapshots.append(
                SnapshotRef(programme, snapshot["id"], snapshot["sha256"], snapshot["judgments"], name)
            )
        self.judges += [JudgeRef(who, judgments=count, given_in=name) for who, count in asked.items() if count]

    def _run(self, place: Path, manifest: Mapping[str, Any]) -> tuple[list[Link], dict[str, Any]]:
        """A run of a single command, or any other artifact with a manifest."""
        links = [self._parent(role, place, given) for role, given in manifest.get("parents", {}).items()]
        for role, given in manifest.items():
            if isinstance(given, Mapping) and "source" in given and "sha256" in given:
                links.append(self._data(role, place, given))
        facts = {key: manifest[key] for key in ("code", "config_sha256") if key in manifest}
        constitution = manifest.get("constitution")
        if isinstance(constitution, Mapping):
            facts["constitution"] = f"{constitution.get('name', '')} ({constitution.get('version', '')})"
        counts = manifest.get("judgments")
        if isinstance(counts, Mapping):
            self.counted.update({kind: int(count) for kind, count in counts.items()})
            facts["own_judgments"] = dict(counts)
        return links, facts

    def _parent(self, role: str, place: Path, given: Mapping[str, Any]) -> Link:
        """A model that a run was made from, by its name and fingerprint."""
        name, wanted = str(given["name"]), str(given.get("fingerprint") or "")
        for found in _candidates(name, place):
            same = self._same_model(found, wanted)
            return Link(role, self.visit(found, wanted if found.is_file() else ""), same)
        return Link(role, self._elsewhere(name))

    def _same_model(self, found: Path, wanted: str) -> bool | None:
        if not wanted or not self.verify:
            return None
        if found.is_file():
            return sha256_file(found) == wanted
        try:
            return folder_fingerprint(found) == wanted
        except HeedfulError:
            return False

    def _data(self, role: str, place: Path, given: Mapping[str, Any]) -> Link:
        """A file that a run read: of several that bear its name, the one with its content."""
        source, wanted = str(given["source"]), str(given["sha256"])
        found = list(_candidates(source, place))
        right = [path for path in found if path.is_file() and sha256_file(path) == wanted]
        if right or found:
            path = (right or found)[0]
            return Link(role, self.visit(path, wanted), bool(right) if path.is_file() else None)
        return Link(role, self._elsewhere(source, wanted))

    def _judged(self, name: str, place: Path) -> Artifact:
        """A folder of `heedful judge`."""
        about = read_object(place / JUDGE) or {}
        hashes = about.get("sha256", {})
        changed = tuple(
            file
            for file, wanted in hashes.items()
            if not (place / file).exists() or (self.verify and sha256_file(place / file) != wanted)
        )
        asked: Counter[str] = Counter()
        if (place / JUDGMENTS).exists():
            for number, row in enumerate(_rows(place / JUDGMENTS, JUDGMENTS in changed, "rater"), 1):
                if row.get("payload") is not None:
                    who = str(row["rater"]["name"])
                    asked[who] += 1
                    self.judgments.append(Judgment(f"{name}#{number}", "ai", who, 0, name))
        constitution = str(about.get("constitution") or "")
        self.judges += [
            JudgeRef(str(one["name"]), str(one.get("template", "")), constitution, asked[str(one["name"])], name)
            for one in about.get("judges", ())
        ]
        links = [self._data(role, place, given) for role, given in about.get("read", {}).items()]
        facts = {key: about[key] for key in JUDGED if key in about}
        state: State = "changed" if changed else "whole" if hashes else "unproven"
        items = str(about.get("programme") or "")
        ends = "" if links or items else "it does not say which file or programme was judged"
        return Artifact(name, "judge", state, changed, "", tuple(links), facts, ends)

    # --- files, and what is not here ---

    def _file(self, name: str, path: Path, wanted: str) -> Artifact:
        now = sha256_file(path) if self.verify or not wanted else wanted
        record = record_of_export(path)
        if record is None:
            state: State = "unproven" if not wanted else "whole" if now == wanted else "changed"
            changed = ("",) if state == "changed" else ()
            return Artifact(name, "file", state, changed, now, ends=NO_MANIFEST.format(what="file"))
        if now != record["sha256"]:
            ends = "it is not the file that was exported, so the record beside it says nothing of it"
            return Artifact(name, "export", "changed", ("",), now, ends=ends)
        programme, snapshot = record["programme"], record.get("snapshot")
        for key, kind, version in record.get("judgments", ()):
            self.judgments.append(Judgment(key, kind, "", version, name, programme))
        if snapshot is not None:
            self.snapshots.append(
                SnapshotRef(programme, snapshot["id"], snapshot.get("sha256", ""), snapshot.get("judgments", 0), name)
            )
        self.judges += [
            JudgeRef(row["rater"], judgments=row["judgments"], given_in=name)
            for row in record.get("raters", ())
            if row["kind"] == "ai"
        ]
        facts = {key: record[key] for key in EXPORTED if record.get(key)}
        ends = "" if "judgments" in record else f"the judgments stand in the studio {record.get('studio', '')}"
        return Artifact(name, "export", "whole", (), now, facts=facts, ends=ends)

    def _elsewhere(self, name: str, sha256: str = "") -> str:
        """Something that is no path here: a model or data set on the hub, a function, or a file that is gone."""
        if name not in self.artifacts:
            kind, state, ends = _kind_elsewhere(name)
            changed = ("",) if state == "gone" else ()
            self.artifacts[name] = Artifact(name, kind, state, changed, sha256, ends=ends)
        return name


def _by_rater(judgments: Iterable[Judgment]) -> dict[str, int]:
    return dict(Counter(one.rater for one in judgments if one.rater))


def _kind_elsewhere(name: str) -> tuple[str, State, str]:
    if name == WORLD:
        return "world", "whole", ""
    if ":" in name and not Path(name).is_absolute():
        return "function", "unproven", ""
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or Path(name).suffix in _FILES:
        return "file", "gone", "it is gone"
    return "hub", "unproven", ""


_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".yaml", ".yml", ".txt")


def _candidates(name: str, place: Path) -> Iterator[Path]:
    """Where a path in a run's settings may lead: from the working folder, or from a folder above the run."""
    given = Path(name)
    if given.is_absolute():
        yield from (one for one in (given,) if one.exists())
        return
    for folder in dict.fromkeys((Path.cwd(), *place.parents)):
        if (folder / given).exists():
            yield (folder / given).resolve()


def _rows(path: Path, damaged: bool, *needed: str) -> Iterator[dict[str, Any]]:
    """Rows of a file of JSON lines, which have the keys that are needed; of a damaged one, those that can be read.

    Raises:
        HeedfulError: a line of another one cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                if missing := [name for name in needed if name not in row]:
                    raise ValueError(f"{missing[0]} is missing")
            except (ValueError, TypeError) as error:
                if damaged:
                    continue
                raise HeedfulError(f"this is no judgment ({error}).", where=f"{path}:{number}") from error
            yield row


def _checks(tracer: Tracer, place: Path) -> Iterator[Check]:
    """The check of a round's policy, if it was of this very one."""
    folder = place.with_name("check")
    check, decided = read_manifest(folder), read_manifest(place.with_name("decide"))
    policy = read_manifest(place)
    if check is None or policy is None or check["record"]["inputs"]["policy"]["sha256"] != digest(policy):
        return
    figures = check["figures"]
    rate, gold = (
        None if name not in figures else tuple(float(figures[name][key]) for key in ("mean", "low", "high"))
        for name in ("win_rate", "gold_win_rate")
    )
    promoted = None if decided is None else bool(decided["promoted"])
    counts = {kind: count for kind, count in check["record"]["own_judgments"].items() if count}
    if rate is not None:
        yield Check(tracer.name(folder), tracer.name(place), rate, gold, int(figures["pairs"]), counts, promoted)  # type: ignore[arg-type]
