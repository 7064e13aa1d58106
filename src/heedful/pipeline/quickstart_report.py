"""The quickstart's results, put into the words and figures of its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.data.load import DataSpec, load_preferences
from heedful.files import read_manifest
from heedful.pipeline.embedded import Embedded, gold_judge
from heedful.pipeline.embedded_evaluation import SPLIT_NAMES, Standing
from heedful.pipeline.label_report import labels_of
from heedful.pipeline.refusal_report import training_curves
from heedful.pipeline.report_data import (
    Curve,
    Explanation,
    Figure,
    FindingRow,
    Goal,
    Labels,
    ReportData,
    SampleAnswer,
    SampleRow,
    StageRow,
    say_win_rate,
    write,
)
from heedful.pipeline.report_series import read_metrics, series
from heedful.pipeline.run_folder import code_version
from heedful.pipeline.stages.common import peak_memory
from heedful.pipeline.watch_words import checks_in_words, read_refusals
from heedful.training.folders import ALARMS

if TYPE_CHECKING:
    from heedful.pipeline.quickstart import Results

STAGES = {
    "pretrain": ("base", "Base model"),
    "sft": ("rounds/1/sft", "SFT"),
    "reward": ("rounds/1/reward", "Reward model"),
    "ppo": ("rounds/1/ppo", "PPO"),
    "dpo": ("rounds/1/dpo", "DPO"),
}
SAMPLES_SHOWN = 4


def assemble(work: Embedded, results: Results, *, fast: bool) -> ReportData:
    """Everything on the report's page."""
    standing = {(s.method, s.split): s for s in results.standings}
    ppo = standing["PPO", "phrasing"]
    assert ppo.comparison is not None
    rate = ppo.comparison.verdict.win_rate
    shorter = " This is the fast loop: smaller than the one the documentation quotes." if fast else ""
    headline = say_win_rate("PPO", "the SFT model", rate.rate, where="unseen phrasings")
    return ReportData(
        title="From a base model to answers that raters prefer",
        subtitle=f"heedful quickstart on the embedded world, seed {work.seed}.{shorter}",
        headline=f"{headline} {said_of_truth(standing)}",
        figures=large_figures(standing, results),
        methods=tuple(s.row() for s in ordered(results.standings)),
        interval_note=f"95%, bootstrap over topics ({rate.clusters} of unseen phrasings); ties count half",
        explanations=watched(work),
        curves=tuple(curves(work)),
        samples=tuple(samples(work, results)),
        sample_note="The first answers to prompts drawn at random by the seed; none was picked by hand. "
        "Gold is the world's exact score, proxy the reward model's.",
        labels=panel_labels(work),
        findings=tuple(findings(work)),
        stages=tuple(stage_rows(work)),
        lineage={
            "heedful": code_version(),
            "python": sys.version.split()[0],
            "seed": str(work.seed),
            "judgments": f"{work.settings.pairs:,} pairs, {work.settings.votes} simulated raters each",
            "command": f"heedful quickstart --seed {work.seed}" + (" --fast" if fast else ""),
            "wall time of this call": f"{results.seconds:.0f} s",
            "peak memory of the process": write(peak_memory(), "bytes"),
        },
    )


def panel_labels(work: Embedded) -> Labels | None:
    """How far the simulated panel agreed on the comparisons that the reward model and DPO learnt from."""
    spec = DataSpec(str(work.round / "comparisons" / "preferences.jsonl"), "heedful")
    return labels_of(load_preferences(spec).records, "simulated raters", seed=work.seed)


def said_of_truth(standing: Mapping[tuple[str, str], Standing]) -> str:
    """What happened to correctness, on what was judged and on what never was, in plain words."""
    parts = []
    for split in ("phrasing", "fact"):
        before, after = standing["SFT", split].correct.mean, standing["PPO", split].correct.mean
        parts.append(f"{before:.0%} to {after:.0%} on {SPLIT_NAMES[split]}")
    return f"Right answers went from {' and from '.join(parts)}."


def ordered(standings: Sequence[Standing]) -> list[Standing]:
    """Unseen phrasings first: they are what the headline is about."""
    order = {"phrasing": 0, "fact": 1, "train": 2}
    return sorted(standings, key=lambda standing: order[standing.split])


def large_figures(standing: Mapping[tuple[str, str], Standing], results: Results) -> tuple[Figure, ...]:
    """The figures at the top of the page."""
    found = []
    for method, split, goal in (
        ("PPO", "phrasing", Goal(0.8)),
        ("PPO", "fact", Goal(0.55)),
        ("DPO", "phrasing", None),
    ):
        comparison = standing[method, split].comparison
        assert comparison is not None
        label = f"{method} preferred to SFT, {SPLIT_NAMES[split]}"
        found.append(Figure(label, comparison.verdict.win_rate.rate, "percent", goal=goal, chance=0.5))
    accuracy = results.accuracy["SFT samples, unseen phrasings"]
    found.append(
        Figure("Reward model names the better answer", accuracy.accuracy, "percent", goal=Goal(0.82), chance=0.5)
    )
    found.append(Figure("KL of PPO to SFT", standing["PPO", "phrasing"].divergence.kl, "number", "nats per answer"))
    return tuple(found)


def metrics(work: Embedded, stage: str) -> list[dict[str, float]]:
    """A stage's log."""
    return read_metrics(work.out / STAGES[stage][0])


def curves(work: Embedded) -> list[Curve]:
    """The curves of every stage."""
    base, sft, reward = metrics(work, "pretrain"), metrics(work, "sft"), metrics(work, "reward")
    ppo, dpo = metrics(work, "ppo"), metrics(work, "dpo")
    refusals = read_refusals(work.out / STAGES["ppo"][0])
    step = "optimiser step"
    batch = "rollout batch"
    smooth = max(1, len(base) // 100)
    return [
        Curve(
            "PPO", "Proxy and gold", batch, "points",
            {"proxy (normalised score)": series(ppo, "step", "score"), "gold (the truth)": series(ppo, "step", "gold")},
            "Gold is measured on fresh answers to training prompts; training never sees it.",
        ),
        Curve(
            "PPO", "Gold against KL", "KL to the SFT model, nats per answer", "gold points",
            {"gold (the truth)": series(ppo, "kl", "gold")},
        ),
        Curve("PPO", "KL to the SFT model", batch, "nats per answer", {"KL": series(ppo, "step", "kl")}),
        Curve("PPO", "Entropy", batch, "nats per token", {"entropy": series(ppo, "step", "entropy")}),
        Curve("PPO", "Length", batch, "tokens", {"mean length": series(ppo, "step", "length")}),
        Curve(
            "PPO", "Explained variance of the critic", batch, "share",
            {"explained variance": series(ppo, "step", "explained_variance")},
        ),
        Curve(
            "Reward model", "Accuracy on its training batches", step, "share",
            {"accuracy against majority votes": series(reward, "step", "accuracy", max(1, len(reward) // 40))},
        ),
        Curve(
            "Reward model", "Loss", step, "nats per pair",
            {"Bradley–Terry loss": series(reward, "step", "loss", max(1, len(reward) // 40))},
        ),
        Curve("DPO", "Margin of implicit rewards", step, "β × nats", {"margin": series(dpo, "step", "margin")}),
        Curve(
            "DPO", "Log-probability of the answers", step, "nats per answer",
            {
                "preferred": series(dpo, "step", "chosen_logprob"),
                "the other": series(dpo, "step", "rejected_logprob"),
            },
            "DPO raises the difference; that both may fall is known and expected.",
        ),
        Curve("Base and SFT", "Pretraining loss", step, "nats per token",
            {"loss": series(base, "step", "loss", smooth)},
        ),
        Curve("Base and SFT", "SFT loss", step, "nats per token", {"loss": series(sft, "step", "loss")}),
        *(training_curves(refusals, "Refusals while PPO goes") if refusals else ()),
    ]  # fmt: skip


def samples(work: Embedded, results: Results) -> list[SampleRow]:
    """Before and after, on a few random prompts of each unseen kind."""
    judge = gold_judge(work.world)
    rng = np.random.default_rng(work.seed)
    rows = []
    for split in ("phrasing", "fact"):
        prompts = results.examined["SFT", split].prompts
        for index in sorted(rng.choice(len(prompts), SAMPLES_SHOWN, replace=False).tolist()):
            answers = []
            for method in ("SFT", "PPO", "DPO"):
                answer = results.examined[method, split].sampled.answers[index][0]
                gold = judge([prompts[index]], [answer])[0]
                proxy = float(results.reward([prompts[index]], [answer.text])[0])
                answers.append(SampleAnswer(method, answer.text, {"gold": gold, "proxy": proxy}, answer.finished))
            rows.append(SampleRow(prompts[index], SPLIT_NAMES[split], tuple(answers)))
    return rows


def findings(work: Embedded) -> list[FindingRow]:
    """What was odd in the files that the stages read."""
    rows = []
    for stage in ("sft", "reward", "ppo"):
        manifest = read_manifest(work.out / STAGES[stage][0]) or {}
        described = manifest.get("data", {}).get("findings", {})
        for kind, found in described.get("kinds", {}).items():
            rows.append(
                FindingRow(
                    STAGES[stage][1], kind, found["count"], ", ".join(found["actions"]), tuple(found["lines"][:8])
                )
            )
    return rows


def watched(work: Embedded) -> tuple[Explanation, ...]:
    """What the watch saw while PPO went, in its own words; nothing where it was off."""
    folder = work.out / STAGES["ppo"][0]
    watch = (read_manifest(folder) or {}).get("watch")
    if watch is None:
        return ()
    path = folder / ALARMS
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    said = tuple(f"Step {row['step']}, {row['sign']} ({row['tier']}): {row['sentence']}" for row in rows)
    said = said or ("No sign of reward hacking alarmed.",)
    return (Explanation("What the watch saw while PPO went", (*said, *checks_in_words(watch))),)


def stage_rows(work: Embedded) -> list[StageRow]:
    """What each stage cost, and what it made."""
    rows = []
    shown = ("loss", "held_out_loss", "held_out_accuracy", "reward", "kl", "margin")
    for folder, title in STAGES.values():
        manifest: dict[str, Any] = read_manifest(Path(work.out / folder)) or {}
        figures = {k.replace("_", " "): v for k, v in manifest.get("figures", {}).items() if k in shown}
        weights = manifest.get("files", {}).get("model.safetensors", "")
        rows.append(StageRow(title, manifest["seconds"], manifest["peak_memory_bytes"], figures, {"weights": weights}))
    return rows
