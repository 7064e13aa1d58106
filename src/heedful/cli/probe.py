"""`heedful probe`: what a reward pays for, by pairs in which one thing alone differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json, shown, stdout_for_results
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError, nearest
from heedful.evaluation.probes.contrast import KINDS
from heedful.training.config.asking import BudgetOptions, EndpointOptions, LoadingOptions

if TYPE_CHECKING:
    from heedful.data.records import Conversation
    from heedful.evaluation.probes.contrast import Base, Contrast
    from heedful.evaluation.probes.measure import Probing, Scorer
    from heedful.evaluation.reward_bench import RewardBench
    from heedful.training.progress import Display

CHUNK = 256
"""Answers scored between two updates of the progress bar."""

REWRITE_TOKENS = 1024
"""The longest answer of a rewriter that is a model."""


@dataclass(frozen=True)
class ProbeConfig:
    """What a reward pays for: each probe changes one thing in an answer and measures what that is worth.

    On your own answers (--data) the changes are made by fixed rules; in the embedded world (--world) the truth is
    known, and what counts is the reward's effect less gold's. Effects are in units of the reward's own spread, beside
    those of a reward that only counts words and of one that is chance. --rewardbench scores a file in that benchmark's
    format.
    """

    reward: tyro.conf.Positional[str]
    """The reward, as in `heedful ppo --reward`: a model, several of them with a rule, or module:function."""
    data: str | None = None
    """Prompts with answers, best two or more to each: preferences or demonstrations."""
    world: int | None = None
    """Probe in the embedded world of this seed."""
    rewardbench: str | None = None
    """A file in RewardBench's format: prompt, chosen, rejected, subset."""
    gold: str | None = None
    """What is truly good, in the reward's forms, where something knows it for --data."""
    kinds: tuple[str, ...] = ()
    """Only these probes; all where none is named."""
    rewriter: str | None = None
    """An AI that makes the changes too: MODEL@URL, hf:FOLDER, or module:function from prompts to texts; `language`
    needs it."""
    rewrites: int = 50
    """Answers that the rewriter is given, for each probe."""
    ledger: Path = Path("ledger.sqlite")
    """Where the replies of a rewriter are kept, so that none is paid for twice."""
    out: Path | None = None
    """Folder for probe.json and report.html."""
    seed: int = 0
    """Of wordings, places and resampling."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    records: PromptOptions = PromptOptions()

    @property
    def loading(self) -> LoadingOptions:
        """How a rewriter of this process is opened."""
        return LoadingOptions(device=self.device)

    def __post_init__(self) -> None:
        if self.data is not None and self.world is not None:
            raise HeedfulError("give --data or --world, not both.", mend="Run the command once for each.")
        if self.data is None and self.world is None and self.rewardbench is None:
            raise HeedfulError("there is nothing to probe with.", mend="Give --data, --world 0 or --rewardbench.")
        if self.data is None and (self.gold is not None or self.rewriter is not None):
            raise HeedfulError("--gold and --rewriter are for --data.", mend="Leave them away: the world has its own.")
        if self.rewrites < 1:
            raise HeedfulError(f"it is {self.rewrites}.", where="rewrites", mend="Give 1 or more.")
        for kind in self.kinds:
            if kind not in KINDS:
                raise HeedfulError(
                    f"no probe {kind!r}. {nearest(kind, list(KINDS))}".strip(),
                    where="kinds",
                    mend=f"Known: {', '.join(KINDS)}.",
                )


def probe(arguments: list[str]) -> int:
    """Parse the settings, probe, write the report, print the table."""
    call = parse(ProbeConfig, "probe", arguments)
    config = call.settings
    with stdout_for_results():
        result, probing, bench = measured(config)
    if config.out is not None:
        from heedful.files import write_json

        write_json(config.out / "probe.json", result)
    if call.json:
        print_json(result)
        return 0
    if probing is not None:
        _show(config, probing)
    if bench is not None:
        _show_bench(bench)
    return 0


def measured(
    config: ProbeConfig, display: Display | None = None
) -> tuple[dict[str, Any], Probing | None, RewardBench | None]:
    """What the probes and the benchmark found: as JSON, and each as it is, where it was asked for."""
    from heedful.models.rewards import load_reward
    from heedful.pipeline.choices import resolve_device
    from heedful.training.progress import Display

    display = display or Display()
    items = None
    if config.rewardbench is not None:
        from heedful.evaluation.reward_bench import read_items

        items = read_items(config.rewardbench, split=config.records.split)[: config.records.limit]
    material = _material(config, display) if config.data is not None or config.world is not None else None
    device = resolve_device(config.device)
    reward = _with_bar(load_reward(config.reward, device=device), display, "score")
    result: dict[str, Any] = {"reward": config.reward}
    probing, bench = None, None
    if material is not None:
        base, contrasts, gold, lineage = material
        if config.gold is not None:
            gold = _with_bar(load_reward(config.gold, device=device), display, "gold")
        probing = _probed(config, reward, base, contrasts, gold, lineage)
        result["probes"] = as_dict(probing)
        result["lineage"] = lineage
    if items is not None:
        from heedful.evaluation.reward_bench import reward_bench

        bench = reward_bench(reward, items, seed=config.seed)
        result["rewardbench"] = asdict(bench)
    return result, probing, bench


def _probed(
    config: ProbeConfig,
    reward: Scorer,
    base: Base,
    contrasts: Sequence[Contrast],
    gold: Scorer | None,
    lineage: dict[str, str],
) -> Probing:
    from heedful.evaluation.probes.measure import probe as measure

    probing = measure(reward, base, contrasts, gold=gold, seed=config.seed)
    if config.out is not None:
        from heedful.pipeline.probe_report import report_data
        from heedful.pipeline.report import write_report

        write_report(config.out / "report.html", report_data(config.reward, base, contrasts, probing, lineage))
    return probing


def _material(config: ProbeConfig, display: Display) -> tuple[Base, list[Contrast], Scorer | None, dict[str, str]]:
    """Ordinary answers, contrasts, gold where the world gives it, and what to say of their origin."""
    if config.world is not None:
        from heedful.evaluation.probes.worldly import world_gold, world_probes
        from heedful.world.world import World

        world = World(config.world)
        base, contrasts = world_probes(world, seed=config.seed, kinds=config.kinds)
        return base, contrasts, world_gold(world), {"world": f"seed {config.world}, {world.fingerprint()[:12]}"}
    from heedful.evaluation.probes.natural import natural_probes, ordinary

    assert config.data is not None
    records, sha256 = _records(config, display)
    base = ordinary(records, config.data)
    contrasts = natural_probes(base, seed=config.seed, kinds=config.kinds)
    lineage = {"data": f"{config.data}, SHA-256 {sha256[:12]}"}
    if config.rewriter is not None:
        made, unusable = _rewritten(config, base, display)
        contrasts = [*contrasts, *made]
        lineage["rewriter"] = f"{config.rewriter}: {len(made)} texts used, {unusable} empty or unchanged"
        display.say(f"{len(made)} rewritten answers, {unusable} unusable ones left out.")
    return base, contrasts, None, lineage


def _records(config: ProbeConfig, display: Display) -> tuple[list[Any], str]:
    from heedful.data.load import DataSpec, kind_of, load_demonstrations, load_preferences
    from heedful.pipeline.stages.common import report_findings, require_records

    assert config.data is not None
    options = config.records
    spec = DataSpec(config.data, options.format, options.split, options.on_bad_row, options.limit)
    loaded: Any = load_preferences(spec) if kind_of(spec) == "preferences" else load_demonstrations(spec)
    report_findings(loaded, display)
    require_records(loaded.records, loaded)
    return loaded.records, loaded.sha256


def _rewritten(config: ProbeConfig, base: Base, display: Display) -> tuple[list[Contrast], int]:
    from heedful.evaluation.probes.natural import REWRITES, rewritten
    from heedful.models.callables import import_function

    assert config.rewriter is not None
    kinds = [kind for kind in REWRITES if not config.kinds or kind in config.kinds]
    if is_model(config.rewriter):
        return rewritten(base, lambda asked: _asked(config, asked, display), kinds, limit=config.rewrites)
    try:
        return rewritten(base, import_function(config.rewriter), kinds, limit=config.rewrites)
    except ValueError as error:
        raise HeedfulError(f"{error}.", where=config.rewriter, mend="It returns one text for each prompt.") from error


def is_model(rewriter: str) -> bool:
    """Whether a name means a model, as `heedful judge` takes judges, and no module:function."""
    return "@" in rewriter or rewriter.startswith("hf:") or ":" not in rewriter


def _asked(config: ProbeConfig, prompts: Sequence[str], display: Display) -> list[str]:
    """A model's replies to prompts; none where it gave no reply.

    Raises:
        HeedfulError: it cannot be reached, gave no reply at all, or the budget is spent.
    """
    from heedful.cli.asker import opened_asker
    from heedful.feedback.ai.asks import Reply, ask_of

    assert config.rewriter is not None
    asks = [ask_of([("user", prompt)], REWRITE_TOKENS) for prompt in prompts]
    texts, why = [""] * len(asks), ""
    with (
        opened_asker(config.rewriter, config, config.ledger, display) as asker,
        display.task("rewriter", len(asks)) as bar,
    ):
        for done, (number, said) in enumerate(asker.ask(asks), 1):
            if isinstance(said, Reply):
                texts[number] = said.text
            else:
                why = f"{said.reason}: {said.detail}"
            bar.update(done, {})
    if why and not any(texts):
        raise HeedfulError(
            f"the rewriter gave no reply at all ({why}).", where=config.rewriter, mend="Check that it runs."
        )
    return texts


def _with_bar(reward: Scorer, display: Display, title: str) -> Scorer:
    """The same reward, asked in parts with a progress bar."""

    def scored(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
        found: list[float] = []
        with display.task(title, len(texts)) as bar:
            for start in range(0, len(texts), CHUNK):
                found += [float(x) for x in reward(prompts[start : start + CHUNK], texts[start : start + CHUNK])]
                bar.update(len(found), {})
        return found

    return scored


def as_dict(probing: Probing) -> dict[str, Any]:
    found = asdict(probing)
    for row, effect in zip(found["effects"], probing.effects, strict=True):
        row["verdict"] = effect.verdict
    return found


def _show(config: ProbeConfig, probing: Probing) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from heedful.pipeline.probe_report import headline

    known = probing.slope is not None
    title = f"{config.reward}: {'bias' if known else 'effect'} in spreads of the reward [95%]"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    columns = ["probe", "bias" if known else "effect", *(["gold"] if known else []), "words", "random", "verdict"]
    for name in columns:
        table.add_column(name, justify="left" if name in ("probe", "verdict") else "right", no_wrap=name != "verdict")
    for effect in probing.effects:
        gold = [] if effect.gold is None else [f"{effect.gold.mean:+.2f}"]
        alone = [effect.baselines.get(name) for name in ("length only", "random")]
        cells = [effect.kind, _interval(effect.headline), *gold]
        cells += ["none" if interval is None else f"{interval.mean:+.2f}" for interval in alone]
        table.add_row(*cells, Text(_SHORT[effect.found], _COLOURS[effect.found]))
    console = Console()
    console.print(table)
    for kind, clusters in probing.too_few.items():
        console.print(Text(f"{kind} is left out: {clusters} prompts are too few.", "yellow"), soft_wrap=True)
    console.print(Text("words: the same of a reward that counts words; random: of one that is chance.", "dim"))
    console.print(Text(headline(probing), style="bold"), soft_wrap=True)
    if config.out is not None:
        console.print(Text(f"{config.out / 'report.html'}"), soft_wrap=True)


_SHORT = {
    "favours": "favours",
    "punishes": "punishes",
    "length": "length",
    "none": "none",
    "undecided": "not shown",
}
_COLOURS: dict[str, str] = {"favours": "red", "punishes": "red", "length": "yellow", "none": "green", "undecided": ""}


def _interval(value: Any) -> str:
    return f"{value.mean:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"


def _show_bench(bench: RewardBench) -> None:
    from heedful.pipeline.probe_report import bench_lines

    for line in bench_lines(bench):
        print(line)
    if bench.ties is not None:
        parts = {name: value for name, value in asdict(bench.ties).items() if name != "score"}
        print("ties: " + ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in parts.items()))
