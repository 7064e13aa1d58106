"""`heedful report`: a programme, several side by side, or a training run, as one page that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, stdout_for_results
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.pipeline.programme_report.fresh import Asked
    from heedful.pipeline.programme_report.material import Material
    from heedful.pipeline.programme_report.reading import Results

NOTES = """What has to be sampled or scored (answers of the first policy and the last, refusals, probes of the reward
model) is
made once and kept in report/cache of the programme's folder, which may be deleted. rounds/ is only read."""


@dataclass(frozen=True)
class ReportConfig:
    """What a programme's rounds brought, as one self-contained HTML page: report/index.html in its folder.

    Of a training run's folder the page is written beside it. --compare sets programmes side by side.
    """

    folder: tyro.conf.Positional[Path] = Path()
    """The programme's folder, or that of a training run."""
    compare: tuple[Path, ...] = ()
    """Programmes to set side by side, two or more, instead of one folder."""
    out: Path | None = None
    """File of the page; by default report/index.html in the programme's folder, comparison.html here with --compare."""
    samples: bool = True
    """Have the first policy and the last answer the check prompts, and judge the two."""
    refusals: bool = True
    """Have both answer safe and unsafe requests."""
    probes: bool = True
    """Probe the last reward model: what does it pay for?"""
    prompts: int = 100
    """Most check prompts that are answered."""
    requests: int = 100
    """Most safe and unsafe requests together that are answered."""
    device: str | None = None
    """auto, cpu, cuda or cuda:N; by default the recipe's."""

    def __post_init__(self) -> None:
        for name in ("prompts", "requests"):
            if getattr(self, name) < 10:
                raise HeedfulError(f"it is {getattr(self, name)}.", where=name, mend="Give 10 or more.")
        if len(self.compare) == 1:
            raise HeedfulError("one programme alone is no comparison.", where="compare", mend="Name two or more.")
        if self.compare and self.folder != Path():
            raise HeedfulError(
                f"{self.folder} stands outside of --compare.", where="folder", mend="Name it after --compare too."
            )


def report(arguments: list[str]) -> int:
    """Parse the settings, gather, write the page, say where it is."""
    call = parse(ReportConfig, "report", arguments, notes=NOTES)
    config = call.settings
    with stdout_for_results():
        found = _compared(config) if config.compare else _of_folder(config)
    print_json(found) if call.json else _show(found)
    return 0


def _of_folder(config: ReportConfig) -> dict[str, Any]:
    from heedful.pipeline.programme_report.run_page import is_run

    folder = config.folder
    if is_run(folder):
        return _of_run(config)
    _refuse_strangers(folder)
    from heedful.pipeline.programme_report.page import PAGE, write_page

    material = _gathered(_read(folder), config)
    path = config.out or folder / PAGE
    write_page(path, material)
    return {"page": path, **_told(material)}


def _refuse_strangers(folder: Path) -> None:
    """Name what to do with a folder that is neither a programme's nor a run's.

    Raises:
        HeedfulError: it is not.
    """
    if (folder / "heedful.yaml").exists():
        return
    own = folder / "report" / "index.html"
    raise HeedfulError(
        "this is the folder of no programme (heedful.yaml) and of no training run (metrics.jsonl).",
        where=str(folder.resolve()),
        mend=f"Its own report is {own}."
        if own.exists()
        else "Name one: heedful report FOLDER. heedful init begins a programme.",
    )


def _of_run(config: ReportConfig) -> dict[str, Any]:
    from heedful.files import atomic_write
    from heedful.pipeline.programme_report.run_page import place_of, run_page

    path, text = config.out or place_of(config.folder), run_page(config.folder)
    with atomic_write(path) as file:
        file.write(text)
    return {"page": path, "run": config.folder}


def _compared(config: ReportConfig) -> dict[str, Any]:
    from heedful.pipeline.programme_report.compare import cautions, names_of, write_comparison
    from heedful.pipeline.programme_report.run_page import is_run

    results = []
    for folder in config.compare:
        _refuse_strangers(folder)
        if is_run(folder):
            raise HeedfulError(
                "this is a training run's folder.",
                where=str(folder),
                mend="--compare takes programmes; heedful compare sets policies against each other.",
            )
        results.append(_read(folder))
    programmes = dict(zip(names_of(results), [_gathered(one, config) for one in results], strict=True))
    path = config.out or Path("comparison.html")
    write_comparison(path, programmes)
    told = {name: _told(one) for name, one in programmes.items()}
    return {"page": path, "programmes": told, "cautions": cautions(programmes)}


def _read(folder: Path) -> Results:
    from heedful.pipeline.programme_report.reading import read_results

    return read_results(folder)


def _gathered(results: Results, config: ReportConfig) -> Material:
    from heedful.pipeline.programme_report.material import gather
    from heedful.training.progress import Display

    return gather(results, _asked(config), Display())


def _asked(config: ReportConfig) -> Asked:
    from heedful.pipeline.programme_report.fresh import Asked

    return Asked(config.samples, config.refusals, config.probes, config.prompts, config.requests, config.device)


def _told(material: Material) -> dict[str, Any]:
    from heedful.pipeline.programme_report.facts import facts
    from heedful.pipeline.programme_report.material import Absent
    from heedful.pipeline.programme_report.summary import headline, sentences

    parts = {"samples": material.contest, "refusals": material.refusals, "probes": material.probes}
    return {
        "summary": [headline(material), *sentences(material)],
        "figures": {fact.name: fact.value for fact in facts(material)},
        "made": material.made,
        "from_cache": material.found,
        "without": {name: one.why for name, one in parts.items() if isinstance(one, Absent)},
    }


def _show(found: dict[str, Any]) -> None:
    for name, one in found.get("programmes", {"": found}).items():
        told = " ".join(one.get("summary", ()))
        if told:
            print(f"{name}: {told}" if name else told)
        for part, why in one.get("without", {}).items():
            print(f"Without {part}: {why}")
        if one.get("from_cache"):
            print(f"From the cache: {', '.join(one['from_cache'])}.")
    for sentence in found.get("cautions", ()):
        print(sentence)
    print(found["page"])
