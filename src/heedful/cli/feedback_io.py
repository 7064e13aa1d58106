"""`heedful import` and `heedful export`: files into the studio's store, and what people judged out of it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heedful.cli.command import parse, print_json, print_result
from heedful.errors import HeedfulError, nearest

if TYPE_CHECKING:
    from heedful.feedback.import_plan import Plan
    from heedful.feedback.models import Programme

Task = Literal["auto", "pairwise", "ranking", "attributes", "demonstration", "edit", "dialogue"]
JUDGMENTS = ("judgments_as", "judgments_by")
SHOWN = 30
"""Problems that a dry run prints."""


@dataclass(frozen=True)
class StoreOptions:
    """Where the store is: a database, or a studio that is asked with a token."""

    database: str | None = None
    """Address of a database; by default DATABASE_URL, or feedback.db in the working folder."""
    studio: str | None = None
    """Address of a studio, https://…; the programme's token is read from HEEDFUL_TOKEN."""
    allow_insecure: bool = False
    """Speak to a studio that is not on this machine without TLS."""

    def __post_init__(self) -> None:
        if self.database and self.studio:
            raise HeedfulError("give a database or a studio, not both.", where="studio", mend="Leave one away.")


@dataclass(frozen=True)
class ImportConfig:
    """Items to be judged, out of a CSV, TSV, JSONL, JSON or Parquet file (each also with .gz).

    The format is recognised: columns of a table, TRL, HH-RLHF, UltraFeedback, Argilla, Label Studio, arena, messages.
    --map says otherwise: --map prompt=question a=answer1 b=answer2. Raters see nothing before the batch is opened. A
    raw export is restored as a programme, with its ids.
    """

    file: tyro.conf.Positional[Path]
    """The file."""
    programme: str
    """The programme's short name, as in its address; of a raw export, the one that it gets."""
    name: str = ""
    """Of the batch; by default the file's name."""
    task: Task = "auto"
    """What raters are asked; auto takes what the number of answers suggests."""
    map: tuple[str, ...] = ()
    """Columns as NAME=COLUMN: prompt, a to i, completions, policy, language, category, expertise, priority, raters."""
    purpose: Literal["train", "check", "gold", "qualification", "calibration"] = "train"
    """Only judgments for training ever enter a training export."""
    round: int = 1
    """Of the loop."""
    quota: int = 1
    """Judgments wanted for each item."""
    quota_cap: int | None = None
    """The most, where raters disagree; by default the quota."""
    priority: int = 0
    """Higher comes first."""
    again: bool = False
    """Take the very same file a second time."""
    judgments_as: str = ""
    """Name of a rater: what the file says of its answers becomes their judgments. Empty: it is kept aside."""
    judgments_by: Literal["person", "ai", "end_user"] | None = None
    """What kind of rater that is, with judgments-as: exports tell them apart."""
    dry_run: bool = False
    """Say what the file holds, and every problem with its line and field; write nothing."""
    open: bool = False
    """Hand the items out at once."""
    admin: str = ""
    """User name of the restored programme's admin, of a raw export."""
    store: StoreOptions = StoreOptions()


@dataclass(frozen=True)
class ExportConfig:
    """What people judged, as JSON lines. Only judgments for training enter a training format.

    Ties of trl-preference stand in a file beside, NAME-ties.jsonl. Raters are pseudonyms, other ones in each export.
    """

    out: tyro.conf.Positional[Path]
    """The file to write: .jsonl or .jsonl.gz."""
    programme: str
    """The programme's short name, as in its address."""
    format: Literal["trl-preference", "heedful", "ranking", "unpaired", "sft", "prompt-only", "raw"] = "trl-preference"
    """heedful: for `heedful reward` and `dpo`, with ties and votes. ranking: whole rankings, a row a rater. raw: the
    whole programme, to be imported again."""
    batches: tuple[str, ...] = ()
    """Only these, by name or id."""
    rounds: tuple[int, ...] = ()
    """Only these rounds."""
    raters: tuple[Literal["person", "ai", "simulated", "end_user"], ...] = ()
    """Only these kinds of raters."""
    snapshot: str = ""
    """Exactly this snapshot's judgments, by its id or name."""
    adjudicated: bool = False
    """Verdicts in place of the votes."""
    include_surplus: bool = False
    """Judgments that came when their place was taken, too."""
    margin: Literal["none", "strength", "scaled"] = "none"
    """How a strength s of -3 to 3 becomes a margin: not at all, |s|, or |s|/3."""
    attribute: str = ""
    """Compare scored answers by this attribute of the rubric, or by the mean of all: mean."""
    best: bool = False
    """Of sft: the preferred answers of comparisons too."""
    consensus: Literal["share", "majority", "weighted", "dawid-skene", "mace", "rater-aware"] = "share"
    """How votes become a preference's probability: their share, the majority's 1 or 0, or a model of the raters, which
    the programme's gold anchors. docs/consensus.md says which to choose."""
    store: StoreOptions = StoreOptions()


def import_file(arguments: list[str]) -> int:
    """`heedful import`."""
    call = parse(ImportConfig, "import", arguments)
    given = call.settings
    from heedful.feedback.import_columns import parse_mapping

    mapping = parse_mapping(given.map)
    result = _import_to_studio(given, mapping) if given.store.studio else _import_to_database(given, mapping)
    made, done = result
    if call.json:
        print_json(made.as_dict() | done)
    else:
        _show(made, done, given)
    return 2 if made.problem_count else 0


def _import_to_database(given: ImportConfig, mapping: dict[str, str]) -> tuple[Plan, dict[str, Any]]:
    open_database(given.store.database)
    from heedful.feedback import content, imports

    if _is_raw(given):
        made = imports.plan(given.file)
        return made, {} if given.dry_run else _restore(given, made)
    if given.admin:
        raise HeedfulError("only a raw export makes a programme.", where="admin", mend="Leave it away.")
    programme = programme_named(given.programme)
    made = imports.plan(given.file, mapping, None if given.task == "auto" else given.task, programme=programme)
    author = imports.Author(given.judgments_as, given.judgments_by or "") if _with_judgments(given) else None
    shown = imports.look(made)[0] if author is not None and not made.problem_count else made
    if given.dry_run:
        return shown, {}
    _require_clean(shown)
    batch = imports.stage(
        programme,
        made,
        name=given.name or given.file.name,
        purpose=given.purpose,
        round=given.round,
        quota=given.quota,
        quota_cap=given.quota_cap,
        priority=given.priority,
        again=given.again,
        judgments=author,
    )
    if given.open:
        content.open_batch(batch)
    return shown, {"batch": str(batch.pk), "name": batch.name, "state": str(batch.state)}


def _with_judgments(given: ImportConfig) -> bool:
    """Whether the file's verdicts become judgments.

    Raises:
        HeedfulError: it is said by what kind of rater, but not of whom.
    """
    if given.judgments_by and not given.judgments_as:
        raise HeedfulError("whose judgments are they?", where="judgments-by", mend="Name them: --judgments-as NAME.")
    return bool(given.judgments_as)


def _is_raw(given: ImportConfig) -> bool:
    """Whether the file is a raw export, of which there is nothing to choose.

    Raises:
        HeedfulError: it is one, and something is chosen.
    """
    from heedful.feedback.import_plan import is_raw

    if not is_raw(given.file):
        return False
    for name in ("map", "task", "purpose", "round", "quota", "quota_cap", "priority", "again", "open", *JUDGMENTS):
        if getattr(given, name) != getattr(ImportConfig, name):
            raise HeedfulError(
                f"{name} says nothing of a raw export, which is restored as it was.",
                where=name.replace("_", "-"),
                mend="Leave it away.",
            )
    return True


def _restore(given: ImportConfig, made: Plan) -> dict[str, Any]:
    from heedful.feedback import imports
    from heedful.feedback.models import Account

    _require_clean(made)
    admin = None
    if given.admin:
        admin = Account.objects.filter(username=given.admin, erased=None).first()
        if admin is None:
            raise HeedfulError(f"there is no account {given.admin!r}.", where="admin", mend="Make it in the studio.")
    programme = imports.restore(made, slug=given.programme, name=given.name, admin=admin)
    return {"programme": programme.slug, "id": str(programme.pk)}


def _import_to_studio(given: ImportConfig, mapping: dict[str, str]) -> tuple[Plan, dict[str, Any]]:
    from heedful.feedback.client import connect
    from heedful.feedback.import_plan import RAW, drafts, placed, plan
    from heedful.feedback.wire import BatchSpec, NewCompletion, NewItem

    if _with_judgments(given):
        raise HeedfulError(
            "verdicts of a file become judgments at a database.",
            where="judgments-as",
            mend="Give --database, or record them with the client: docs/studio-api.md.",
        )
    made = plan(given.file, mapping, None if given.task == "auto" else given.task)
    if given.dry_run:
        return made, {}
    if made.format == RAW:
        raise HeedfulError("a raw export is restored at a database.", where="studio", mend="Give --database.")
    _require_clean(made)
    found = list(drafts(made))
    items = (
        NewItem(
            messages=draft.messages,
            completions=[NewCompletion(one.text, one.policy, source=one.source) for one in draft.answers],
            kind=made.task,
            language=draft.language,
            expertise=draft.expertise,
            categories=list(draft.categories),
            named_raters=list(draft.raters),
            priority=draft.priority,
            source={"file": made.source.name, "line": draft.line, "columns": draft.source},
        )
        for draft in found
    )
    name = given.name or given.file.name
    spec = BatchSpec(name, given.purpose, given.round, given.quota, given.quota_cap, given.priority)
    client = connect(studio=given.store.studio, allow_insecure=given.store.allow_insecure)
    try:
        # The key makes a second run of the same command go on where the first was cut off.
        batch = client.push_items(given.programme, spec, items, key="" if given.again else f"{made.sha256[:40]}-{name}")
        if given.open:
            batch = client.open_batch(given.programme, batch.id)
    except HeedfulError as error:
        raise placed(error, made, [draft.line for draft in found]) from error
    return made, {"batch": batch.id, "name": batch.name, "state": batch.state}


def _require_clean(made: Plan) -> None:
    try:
        made.require_clean()
    except HeedfulError as error:
        raise HeedfulError(error.what, where=error.where, mend=f"{error.mend} See all with --dry-run.") from error


def _show(made: Plan, done: dict[str, Any], given: ImportConfig) -> None:
    from rich.console import Console

    console = Console()

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    if made.sentence:
        say(made.sentence)
    if made.mapping:
        print_result(
            f"{made.items} of {made.rows} rows are items of the task {made.task}",
            {target: column.encode("unicode_escape").decode() for target, column in made.mapping.items()},
        )
    else:
        say(f"{made.items} items in {made.rows} rows{f', task {made.task}' if made.task else ''}.")
    for note in made.notes:
        say(note)
    if made.problem_count:
        say(f"{made.problem_count} problems; nothing can be imported until they are mended:", "bold red")
        for problem in made.problems[:SHOWN]:
            say(f"  {problem}")
        if made.problem_count > SHOWN:
            say(f"  and {made.problem_count - SHOWN} more:")
            for kind, count in list(made.problem_kinds.items())[:SHOWN]:
                say(f"  {count} × {kind}")
    elif "batch" in done:
        opened = "" if done["state"] == "open" else " Raters see it once it is opened: in the studio, or with --open."
        say(f"Batch {done['name']!r} is {done['state']}.{opened}", "green")
    elif "programme" in done:
        member = "" if given.admin else " Nobody is a member yet: --admin names one."
        say(f"Programme {done['programme']!r} is restored.{member}", "green")


def export_file(arguments: list[str]) -> int:
    """`heedful export`."""
    call = parse(ExportConfig, "export", arguments)
    given = call.settings
    found = _export_from_studio(given) if given.store.studio else _export_from_database(given)
    if call.json:
        print_json(found)
    else:
        print_result(f"export: {given.out}", {k: v for k, v in found.items() if v and k != "out"})
    return 0


def _filters(given: ExportConfig) -> dict[str, Any]:
    names = ("batches", "rounds", "raters", "adjudicated", "include_surplus", "attribute", "best", "consensus")
    found = {name: list(v) if isinstance(v := getattr(given, name), tuple) else v for name in names}
    return {name: value for name, value in found.items() if value} | {"margin": given.margin}


def _export_from_database(given: ExportConfig) -> dict[str, Any]:
    open_database(given.store.database)
    from heedful.feedback.exports import export
    from heedful.feedback.snapshots import snapshot_named

    programme = programme_named(given.programme)
    snapshot = snapshot_named(programme, given.snapshot) if given.snapshot else None
    return export(programme, given.format, given.out, snapshot=snapshot, record=True, **_filters(given)).as_dict()


def _export_from_studio(given: ExportConfig) -> dict[str, Any]:
    from heedful.feedback.client import HeldBackWarning, connect

    client = connect(studio=given.store.studio, allow_insecure=given.store.allow_insecure)
    filters = _filters(given) | ({"snapshot": given.snapshot} if given.snapshot else {})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", HeldBackWarning)
        rows = client.export(given.programme, given.format, given.out, **filters)
    return {"format": given.format, "out": str(given.out), "rows": rows, "notes": [str(one.message) for one in told]}


def open_database(database: str | None) -> None:
    """Configure Django on a store that is there and fit for use."""
    from heedful.feedback import databases
    from heedful.feedback.setup import DATABASE, setup

    url = database or os.environ.get("DATABASE_URL") or DATABASE
    databases.require_file(url)
    setup(url)
    databases.require_current("default")


def programme_named(slug: str) -> Programme:
    from heedful.feedback.models import Programme

    found = Programme.objects.filter(slug=slug).first()
    if found is None:
        known = list(Programme.objects.order_by("slug").values_list("slug", flat=True))
        raise HeedfulError(
            f"there is no programme {slug!r}. {nearest(slug, known)}".strip(),
            where="programme",
            mend=f"Known: {', '.join(known[:20])}." if known else "Make one in the studio: heedful studio.",
        )
    return found
