"""The page of a programme: its result, and all that stands behind it, whole in one file."""

from __future__ import annotations

import sys
from pathlib import Path

from heedful.files import atomic_write
from heedful.pipeline.programme_report import beyond, improved, spent
from heedful.pipeline.programme_report.curves import programme_curves
from heedful.pipeline.programme_report.material import Absent, Material
from heedful.pipeline.programme_report.reading import KINDS, Results
from heedful.pipeline.programme_report.spent import energy
from heedful.pipeline.programme_report.summary import headline, sentences
from heedful.pipeline.programme_report.words import counted, listed
from heedful.pipeline.report import document
from heedful.pipeline.report_data import Figure, ReportData
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import curves, headline_figures
from heedful.pipeline.run_folder import code_version

PAGE = Path("report") / "index.html"
WORDS = (
    ("policy", "the model that answers; the first policy is the one before round 1"),
    (
        "round",
        "sample answers, have them judged, fit the reward model, train the policy on it, check it, keep or go back",
    ),
    (
        "check",
        "new answers of the new policy and the one before it, judged blind, on prompts that nothing is trained on",
    ),
    ("reward model", "learnt from the judgments; its score is the proxy that the policy is trained to raise"),
    ("gold", "what is truly better, where a known truth exists: in the embedded world alone"),
    ("KL", "how far training has taken the policy from where it began; a price on it keeps the policy near"),
    ("95% interval", "where the true figure lies in nineteen of twenty such reports"),
)


def write_page(path: Path, material: Material) -> None:
    """Write the page, atomically.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full.
    """
    with atomic_write(path) as file:
        file.write(page(material))


def page(material: Material) -> str:
    """The page. The same figures give the same bytes."""
    results = material.results
    return document(title(results), _header(material), _parts(material))


def title(results: Results) -> str:
    """The programme's name, and how far it is."""
    if not results.rounds:
        return f"{results.recipe.name}: before the first round has ended"
    return f"{results.recipe.name}: what {counted(len(results.rounds), 'round')} brought"


def _parts(material: Material) -> list[tuple[str, str, Safe]]:
    results = material.results
    drawn = programme_curves(results)
    nothing = element("p", "No stage has been trained yet, so that there is no curve.", class_="muted")
    told = "Each round has a reward model of its own, so that rewards of two rounds are on two scales."
    plots = element("div", element("p", told), curves(ReportData("", "", "", curves=drawn), "training-"))
    return [
        ("improved", "What improved", improved.improvement(material)),
        ("topics", "Win rates by topic", improved.by_topic(material)),
        ("samples", "Before and after", improved.before_and_after(material)),
        ("alarms", "Alarms while training", beyond.alarms(material)),
        ("refusals", "Refusals", beyond.refusals(material)),
        ("probes", "What the reward model pays for", beyond.probes(material)),
        ("agreement", "How far raters agree", beyond.agreement(material)),
        ("curves", "Training curves", plots if drawn else nothing),
        ("cost", "Cost", spent.costs(material)),
        ("lineage", "Lineage", spent.lineage(material)),
        ("words", "Words", element("dl", [_term(*row) for row in WORDS], class_="words")),
    ]


def _term(name: str, meaning: str) -> tuple[Safe, Safe]:
    return element("dt", name), element("dd", meaning)


def _header(material: Material) -> Safe:
    results = material.results
    return element(
        "header",
        element("p", "heedful programme report", class_="eyebrow"),
        element("h1", title(results)),
        element("p", subtitle(results), class_="subtitle"),
        element("p", headline(material), class_="headline"),
        element("p", " ".join(sentences(material)), class_="summary"),
        headline_figures(figures(material)),
    )


def subtitle(results: Results) -> str:
    """What was run, on what, by whom it was judged, and when."""
    recipe = results.recipe
    base = recipe.model if recipe.model is not None else "the embedded world's base model"
    kinds = [KINDS[kind] for kind in {**results.counted("judgments"), **results.counted("checked")}]
    by = f", judged by {' and '.join(kinds)}" if kinds else ""
    begun = min(str(one["record"]["started"]) for one in results.manifests.values())[:10]
    ended = max(str(one["record"]["ended"]) for one in results.manifests.values())[:10]
    when = begun if begun == ended else f"{begun} to {ended}"
    told = [f"{base}{by}.", f"Made {when}, seed {recipe.seed}, heedful {code_version()}, Python {_python()}."]
    if results.outdated:
        told.append(f"The recipe has changed since {listed(results.outdated)} was made (heedful round --dry-run).")
    if results.busy:
        told.append("A process was at work on it while this page was made.")
    return " ".join(told)


def _python() -> str:
    return sys.version.split()[0]


def figures(material: Material) -> tuple[Figure, ...]:
    """The large figures."""
    results, found = material.results, []
    if results.moved and material.headline is not None:
        rate, _ = material.headline
        found.append(Figure("Last policy preferred to the first", rate, "percent", chance=0.5))
    if material.gold is not None:
        found.append(Figure("The same by the world's truth", material.gold, "percent", chance=0.5))
    if results.rounds:
        of = f"of {len(results.rounds)} that ended"
        found.append(Figure("Rounds kept", float(len(results.kept)), "count", of))
    judgments = results.counted("judgments")
    if judgments and material.gold is None:  # four stand in a row
        by = " and ".join(KINDS[kind] for kind in judgments)
        found.append(Figure("Judgments learnt from", float(sum(judgments.values())), "count", f"by {by}"))
    if not isinstance(material.costs, Absent):
        seconds = material.costs.total.wall_seconds
        hours = seconds >= 2 * 3600
        told = energy(material.costs.total.energy_wh) if material.costs.total.energy_wh else "over all stages"
        found.append(
            Figure(f"{'Hours' if hours else 'Minutes'} of computing", seconds / (3600 if hours else 60), "tenths", told)
        )
    return tuple(found)
