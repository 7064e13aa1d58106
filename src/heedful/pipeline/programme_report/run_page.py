"""The page of a single training run: its curves, alarms, answers on the way, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.files import read_manifest
from heedful.pipeline.programme_report.beyond import alarm_table
from heedful.pipeline.programme_report.curves import run_curves
from heedful.pipeline.refusal_report import training_curves
from heedful.pipeline.report import document
from heedful.pipeline.report_data import ReportData, SampleAnswer, SampleRow, StageRow, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import curves, samples, stages
from heedful.pipeline.run_folder import code_version
from heedful.pipeline.watch_words import checks_in_words, read_refusals
from heedful.training.folders import ALARMS, METRICS, SAMPLES, whole_lines

SHOWN = 6


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run, ended or not."""
    return (folder / METRICS).exists()


def place_of(folder: Path) -> Path:
    """Where the page of a run goes: beside the run's folder, whose content counts for what is made from it; of a
    programme's run into the programme's own report folder."""
    folder = folder.resolve()
    if _of_programme(folder):
        return folder.parent.parent.parent / "report" / f"round-{folder.parent.name}-{folder.name}.html"
    return folder.parent / f"{folder.name}-report.html"


def run_page(folder: Path) -> str:
    """The page of a run.

    Raises:
        HeedfulError: nothing was logged.
    """
    manifest = read_manifest(folder) or {}
    kind = str(manifest.get("kind") or _begun_as(folder))
    drawn = run_curves(kind, folder)
    if not drawn:
        raise HeedfulError(
            "this run has logged nothing to draw.",
            where=str(folder / METRICS),
            mend="Name a run that has made a step, or a programme's folder.",
        )
    title = f"{kind.replace('_', ' ').upper()}: {_called(folder.resolve())}"
    state = "" if manifest else " It has not ended: this is how far it is."
    header = element(
        "header",
        element("p", "heedful run report", class_="eyebrow"),
        element("h1", title),
        element("p", f"{folder}, heedful {code_version()}.{state}", class_="subtitle"),
        element("p", _headline(manifest), class_="headline"),
    )
    parts = [("curves", "Training curves", curves(ReportData("", "", "", curves=drawn)))]
    parts += [("alarms", "Alarms while training", _alarms(folder, manifest))] if _watched(folder, manifest) else []
    over = training_curves(refused) if (refused := read_refusals(folder)) else ()
    parts += [("refusals", "Refusals", curves(ReportData("", "", "", curves=over), "refusals-"))] if over else []
    shown = _samples(folder)
    if shown:
        note = f"The last {len(shown)} that the run wrote down; scores are the reward's."
        parts.append(("samples", "Answers", samples(ReportData("", "", "", samples=tuple(shown), sample_note=note))))
    if manifest:
        parts.append(("cost", "Cost and lineage", _cost(kind, manifest)))
    return document(title, header, parts)


def _of_programme(folder: Path) -> bool:
    """Whether a folder is a stage's in a programme's round."""
    return folder.parent.parent.name == "rounds" and folder.parent.name.isdigit()


def _called(folder: Path) -> str:
    if _of_programme(folder):
        return f"round {folder.parent.name} of {folder.parent.parent.parent.name}"
    return folder.name


def _begun_as(folder: Path) -> str:
    """The stage of a run that has not ended, by the first line of its settings."""
    path = folder / "heedful.yaml"
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else ""
    return first.removeprefix("# heedful ").strip() or "run"


def _headline(manifest: Mapping[str, Any]) -> str:
    figures = manifest.get("figures", {})
    names = ("held_out_accuracy", "held_out_loss", "accuracy", "reward", "kl", "margin", "loss")
    known = {name: figures[name] for name in names if isinstance(figures.get(name), float)}
    if not known:
        return "The run's figures are below."
    steps = f"After {manifest['steps']:,} steps" if "steps" in manifest else "At its end"
    told = ", ".join(f"{name.replace('_', ' ')} {write(value, 'number')}" for name, value in list(known.items())[:4])
    return f"{steps}: {told}."


def _watched(folder: Path, manifest: Mapping[str, Any]) -> bool:
    return "watch" in manifest or (folder / ALARMS).exists()


def _alarms(folder: Path, manifest: Mapping[str, Any]) -> Safe:
    rows = [("this run", row) for _, row in whole_lines(folder / ALARMS)]
    told = [element("p", sentence) for sentence in checks_in_words(manifest.get("watch") or {})]
    first = alarm_table(rows) if rows else element("p", "No sign of reward hacking alarmed.")
    return element("div", first, told)


def _samples(folder: Path) -> list[SampleRow]:
    found = []
    for _, row in whole_lines(folder / SAMPLES)[-SHOWN:]:
        scores = {"reward": float(row["reward"])} if isinstance(row.get("reward"), float) else {}
        answer = SampleAnswer(f"step {row['step']}", str(row["completion"]), scores)
        found.append(SampleRow((Message("user", str(row["prompt"])),), "", (answer,)))
    return found


def _cost(kind: str, manifest: Mapping[str, Any]) -> Safe:
    figures = {name.replace("_", " "): one for name, one in manifest.get("figures", {}).items() if _plain(one)}
    hashes = {role: str(one["fingerprint"]) for role, one in manifest.get("parents", {}).items()}
    if manifest.get("data", {}).get("sha256"):
        hashes["data"] = str(manifest["data"]["sha256"])
    seconds = float(manifest.get("seconds") or manifest.get("record", {}).get("seconds") or 0.0)
    row = StageRow(kind, seconds, manifest.get("peak_memory_bytes"), figures, hashes)
    lineage = {role: str(one["name"]) for role, one in manifest.get("parents", {}).items()}
    if manifest.get("data", {}).get("source"):
        lineage["data"] = str(manifest["data"]["source"])
    lineage |= {name: str(value) for name, value in manifest.get("code", {}).items()}
    return stages((row,), lineage)


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
