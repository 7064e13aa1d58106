"""One runner for every stage: what it is made from decides whether it is made again. Imports no torch.

A stage's key is the hash of its settings, of the content of its inputs, and of its version. Its result stands in
rounds/K/NAME with that key in its manifest, and counts as done for as long as the key is the same. It is made in
NAME.part beside it and takes its place when whole, so that whatever goes wrong, the last good result still stands.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import MANIFEST, explain, put_back, put_in_place, read_manifest, seal, sha256_json, write_json
from heedful.pipeline.rounds.contents import content, digest, verify
from heedful.pipeline.rounds.meter import METER, Meter, energy_wh
from heedful.pipeline.rounds.parts import Found, Kept, Made, Outside, Source, Standing, Step, WaitingError, Work
from heedful.pipeline.rounds.recipe import Programme
from heedful.pipeline.rounds.withdrawals import Withdrawals, joined
from heedful.pipeline.run_folder import code_version
from heedful.training.progress import Display

STAMP, WAITING, HASHES = ".stamp.json", ".waiting.json", ".hashes.json"
DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
KINDS = ("human", "ai", "simulated")
"""Kinds of judges that every count names; others (end_user, demonstration) stand there where a recipe takes them."""


class Engine:
    """Knows what of a programme is done, and makes what is not.

    Args:
        programme: its folder and recipe.
        display: shows progress.
        again: let stages be made again that hold people's judgments, which asks people again.
        unlearn: make again what decided rounds trained on judgments that were withdrawn since.
    """

    def __init__(self, programme: Programme, display: Display, *, again: bool = False, unlearn: bool = False) -> None:
        self.programme, self.display, self.again, self.unlearn = programme, display, again, unlearn
        self.withdrawals = Withdrawals(programme, display)
        self._outside: dict[str, str] = {}
        self._hashes: dict[str, str] = _read_json(programme.folder / HASHES) or {}
        self._kept_hashes = len(self._hashes)
        self._verified: set[Path] = set()

    # --- what is ---

    def standing(self, step: Step, anew: Collection[Source] = (), cleaned: Collection[Source] = ()) -> Standing:
        """Whether a step is done.

        Args:
            anew: results of steps before it that are to be made.
            cleaned: those among them that are made only since judgments were withdrawn.
        """
        after: dict[str, str] = {}
        inputs: dict[str, Found] = {}
        for role, source in step.stage.inputs(step.recipe, step.number).items():
            made = Made(source.number, "decide") if isinstance(source, Kept) else source
            if made in anew or (isinstance(source, Kept) and self._settled(source) in anew):
                after[role] = str(source)
            else:
                inputs[role] = self._find(role, source)
        place = self.programme.place(step.number, step.stage.name)
        manifest = read_manifest(place) or {}
        record = manifest.get("record")
        key = None if after else self._key(step, {role: one.digest for role, one in inputs.items()})
        if record is None:
            return Standing(step, False, ("not made yet",), after, key, inputs)
        human = record["own_judgments"].get("human", 0)
        gone = self.withdrawals.of(step.recipe, place, manifest)
        differs = () if record["key"] == key else tuple(self._differs(step, inputs, record))
        if gone:
            differs = (*differs, f"{sum(gone.values())} of its judgments were withdrawn")
        lacking = (gone or record["key"] != key) and self._but_for_withdrawn(step, inputs, after, record, cleaned)
        done = not lacking and record["key"] == key
        if lacking and self._stands(step):
            done, differs, after = True, (), {}
        return Standing(step, done, differs, after, key, inputs, True, human, gone, lacking)

    def _but_for_withdrawn(
        self,
        step: Step,
        inputs: Mapping[str, Found],
        after: Mapping[str, str],
        record: Mapping[str, Any],
        cleaned: Collection[Source],
    ) -> bool:
        """Whether a result was made just so, before judgments were withdrawn from it or from what it was made from."""
        was = {role: one["sha256"] for role, one in record["inputs"].items()}
        clean = {str(one) for one in cleaned}
        for role, one in inputs.items():
            if was.get(role) not in (one.digest, *one.former):
                return False
        if any(role not in was or name not in clean for role, name in after.items()):
            return False
        return bool(was.keys() == {*inputs, *after} and self._key(step, was) == record["key"])

    def _stands(self, step: Step) -> bool:
        """Whether a result is left as it is though judgments were withdrawn from what it was made from."""
        decided = (self.programme.place(step.number, "decide") / MANIFEST).exists()
        return not self.unlearn and not step.stage.records and (decided or step.number == 0)

    def _key(self, step: Step, digests: Mapping[str, str]) -> str:
        return sha256_json(
            {
                "stage": step.stage.name,
                "version": step.stage.version,
                "settings": step.stage.settings(step.recipe, step.number),
                "inputs": dict(digests),
            }
        )

    def _differs(self, step: Step, inputs: Mapping[str, Found], record: Mapping[str, Any]) -> Iterator[str]:
        now, before = step.stage.settings(step.recipe, step.number), record["settings"]
        for name in sorted({*now, *before}):
            if _plain(now.get(name)) != before.get(name):
                yield f"{name}: {before.get(name)} before, {now.get(name)} now"
        for role in sorted({*inputs, *record["inputs"]}):
            old = record["inputs"].get(role)
            if role not in inputs:
                if role not in step.stage.inputs(step.recipe, step.number):
                    yield f"{role} is read no more"
            elif old is None:
                yield f"{role} is new"
            elif old["sha256"] != inputs[role].digest:
                yield f"the content of {role} has changed"
        if record["version"] != step.stage.version:
            yield f"its code has changed (version {record['version']} before, {step.stage.version} now)"

    def _settled(self, source: Source) -> Made | Outside | None:
        """What an input is: a stage's result, or something outside; None where that is not decided yet."""
        if not isinstance(source, Kept):
            return source
        decided = read_manifest(self.programme.place(source.number, "decide"))
        if decided is None:
            return None
        kept = decided["kept"]
        return Outside(kept) if isinstance(kept, str) else Made(*kept)

    def _find(self, role: str, source: Source) -> Found:
        settled = self._settled(source)
        if isinstance(settled, Outside):
            path = self.programme.path(settled.name)
            if path not in self._outside:
                self._outside[path] = content(path, self._hashes)
            return Found(path, self._outside[path])
        place = self.programme.place(settled.number, settled.stage) if settled else None
        manifest = read_manifest(place) if place else None
        if place is None or manifest is None:
            raise HeedfulError(f"{source} is not there.", where=role, mend="Run heedful round again.")
        files = settled.files if isinstance(settled, Made) else ()
        former = tuple(digest(one, files) for one in manifest["record"].get("replaces", ()))
        return Found(str(place), digest(manifest, files), files, former)

    # --- what is done about it ---

    def carry_out(self, step: Step) -> bool:
        """Make a step unless it is done; whether it was made.

        Raises:
            HeedfulError: a result on disk is not what was written there, or the stage cannot be made.
        """
        place = self.programme.place(step.number, step.stage.name)
        put_back(place)
        self._keep_hashes()
        part = place.with_name(f"{place.name}.part")
        found = self.standing(step)
        if found.done:
            self._verify(place)
            shutil.rmtree(part, ignore_errors=True)  # begun under settings that were put back
            return False
        for one in found.inputs.values():
            if (Path(one.path) / MANIFEST).exists() and self.programme.folder / "rounds" in Path(one.path).parents:
                self._verify(Path(one.path))
        assert found.key is not None
        if found.human and not self.again and not found.but_for_withdrawn:
            raise asked_again(found)
        sealed = read_manifest(part) or {}
        whole = sealed.get("record", {}).get("key") == found.key
        if not whole or self.withdrawals.of(step.recipe, part, sealed):
            try:
                self._make(step, found, part)
            except WaitingError as waiting:
                write_json(part / WAITING, {"since": (waiting_for(part) or {}).get("since", now()), **waiting.told})
                raise
            except Exception as error:
                if not on_disk(error):
                    raise
                raise explain(OSError(getattr(error, "errno", None) or errno.ENOSPC, str(error)), part) from error
        for name in (STAMP, WAITING, METER):
            (part / name).unlink(missing_ok=True)
        put_in_place(part, place)
        self._verified.add(place)
        return True

    def _verify(self, place: Path) -> None:
        """Once in a call; see `contents.verify`."""
        if place not in self._verified:
            verify(place)
            self._verified.add(place)

    def _keep_hashes(self) -> None:
        """What was read of large files from outside, for the next look."""
        if len(self._hashes) > self._kept_hashes:
            write_json(self.programme.folder / HASHES, self._hashes)
            self._kept_hashes = len(self._hashes)

    def _make(self, step: Step, found: Standing, part: Path) -> None:
        begun = self._begin(part, found)
        module, function = step.stage.make.split(":")
        self.display.say(f"{step.name}: {'; '.join(found.why)}" if found.there else step.name)
        with Meter(part) as meter:
            make = getattr(import_module(f"heedful.pipeline.rounds.{module}"), function)
            entries = make(Work(self.programme, step, part, found.inputs, self.display))
        metered, told = meter.now, entries.pop("cost", {})
        if "files" not in entries:  # a trainer has sealed its own
            (part / MANIFEST).unlink(missing_ok=True)
            seal(part, {"kind": step.stage.name, **entries})
        manifest = read_manifest(part) or {}
        manifest["files"] = {name: one for name, one in manifest["files"].items() if not name.startswith(".")}
        manifest["record"] = self._record(step, found, entries, begun["started"]) | self._replaced(step, found)
        watts = step.recipe.cost.watts_per_core
        cost = {**asdict(metered), "watts_per_core": watts, "energy_wh": energy_wh(metered, watts), **told}
        manifest["record"] |= {"seconds": manifest.get("seconds", metered.wall_seconds), "cost": cost}
        write_json(part / MANIFEST, manifest)

    def _record(self, step: Step, found: Standing, entries: Mapping[str, Any], started: str) -> dict[str, Any]:
        """What a manifest tells of a stage: what it was made from, and by whose judgments."""
        own = entries.get("judgments", {})
        judged = _judged(found.inputs.values()) | ({step.name: own} if own else {})
        return {
            "key": found.key,
            "round": step.number,
            "stage": step.stage.name,
            "version": step.stage.version,
            "settings": _plain(step.stage.settings(step.recipe, step.number)),
            "inputs": {
                role: {
                    "from": _relative(one.path, self.programme.folder),
                    "sha256": one.digest,
                    "files": list(one.files),
                }
                for role, one in found.inputs.items()
            },
            "own_judgments": own,
            "judged_in": judged,
            "judgments": _summed(judged),
            "started": started,
            "ended": now(),
            "code": {"heedful": code_version()},
        }

    def _replaced(self, step: Step, found: Standing) -> dict[str, Any]:
        """Of a record of judgments some of which were withdrawn: whose, and the files that it held before.

        With each of the former contents stands what was withdrawn since: what something made from it rests on.
        """
        if not step.stage.records:
            return {}
        folders = [Path(one.path) for one in found.inputs.values() if Path(one.path).is_dir()]
        gone = joined(*((read_manifest(one) or {}).get("record", {}).get("withdrawn", {}) for one in folders))
        if not found.but_for_withdrawn:
            return {"withdrawn": gone} if gone else {}
        before = read_manifest(self.programme.place(step.number, step.stage.name)) or {}
        record = before["record"]
        known = record.get("withdrawn", {})
        if found.withdrawn:
            gone = joined(known, found.withdrawn)
        since = dict(Counter(gone) - Counter(known))
        former = [{"files": before["files"], "withdrawn": since}]
        former += [{**one, "withdrawn": joined(one["withdrawn"], since)} for one in record.get("replaces", ())]
        return {"withdrawn": gone, "replaces": former}

    def _begin(self, part: Path, found: Standing) -> dict[str, Any]:
        """Go on with what was begun under the same key in the same place, or begin anew."""
        stamp = {"key": found.key, "root": str(self.programme.folder)}
        begun = _read_json(part / STAMP) or {}
        if {name: begun.get(name) for name in stamp} == stamp:
            return begun
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        begun = {**stamp, "started": now(), "watts_per_core": found.step.recipe.cost.watts_per_core}
        write_json(part / STAMP, begun)
        return begun


def on_disk(error: Exception) -> bool:
    """Whether the disk is full or may not be written: of the system's own errors, or of safetensors', by their text."""
    return (isinstance(error, OSError) and error.errno in DISK) or "os error 28" in str(error)


def asked_again(standing: Standing) -> HeedfulError:
    """The refusal to ask people again for what they have judged."""
    return HeedfulError(
        f"people gave {standing.human} judgments here, and would be asked anew ({'; '.join(standing.why)}).",
        where=f"rounds/{standing.step.name}",
        mend="Put the setting back, let it hold from a later round on (`changes` in the recipe), or give --again.",
    )


def waiting_for(part: Path) -> dict[str, Any] | None:
    """What a half-made stage waits for, and since when; None where it does not."""
    return _read_json(part / WAITING)


def begun_in(part: Path) -> dict[str, Any]:
    """What a half-made stage was begun with: its key, when, and the watts that its work is reckoned at."""
    return _read_json(part / STAMP) or {}


def _read_json(path: Path) -> dict[str, Any] | None:
    """A file of the engine's own; None where there is none, or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _judged(inputs: Any) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for one in inputs:
        manifest = read_manifest(Path(one.path)) if Path(one.path).is_dir() else None
        found |= (manifest or {}).get("record", {}).get("judged_in", {})
    return found


def _summed(judged: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    kinds = dict.fromkeys([*KINDS, *sorted({kind for own in judged.values() for kind in own})])
    return {kind: sum(own.get(kind, 0) for own in judged.values()) for kind in kinds}


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _relative(path: str, folder: Path) -> str:
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path
