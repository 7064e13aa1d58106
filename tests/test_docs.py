"""The documentation tells the truth: links lead somewhere, commands and flags in it exist."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest
import yaml

from doc_pages import blocks, commands
from heedful.cli.accuracy import AccuracyConfig
from heedful.cli.agreement import AgreementConfig
from heedful.cli.average import AverageConfig
from heedful.cli.best_of_n import BestOfNConfig
from heedful.cli.card import CardConfig
from heedful.cli.chat import ChatConfig
from heedful.cli.command import full_flags
from heedful.cli.compare import CompareConfig
from heedful.cli.completion import CompletionConfig
from heedful.cli.cost import CostConfig
from heedful.cli.deidentify import DeidentifyConfig
from heedful.cli.env import EnvConfig
from heedful.cli.evaluate import EvaluateConfig
from heedful.cli.feedback_io import ExportConfig, ImportConfig
from heedful.cli.init import InitConfig
from heedful.cli.inspect import InspectConfig
from heedful.cli.judge import JudgeConfig
from heedful.cli.lineage import LineageConfig
from heedful.cli.main import COMMANDS
from heedful.cli.plan import planned
from heedful.cli.probe import ProbeConfig
from heedful.cli.report import ReportConfig
from heedful.cli.revise import ReviseConfig
from heedful.cli.round import RoundConfig
from heedful.cli.sample import SampleConfig
from heedful.cli.score import ScoreConfig
from heedful.cli.serve import ServeConfig
from heedful.cli.studio import BackupConfig, MigrateConfig, PrioritiseConfig, RestoreConfig, UpdateConfig
from heedful.cli.synthesise import METHODS, DegradeConfig
from heedful.studio.config import StudioConfig
from heedful.training.config.online import GRPOConfig, PPOConfig, RAFTConfig, ReinforceConfig, RLOOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.settings import all_keys, from_mapping

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

CONFIGS: dict[str, type] = {
    "accuracy": AccuracyConfig,
    "agreement": AgreementConfig,
    "average": AverageConfig,
    "best-of-n": BestOfNConfig,
    "card": CardConfig,
    "chat": ChatConfig,
    "compare": CompareConfig,
    "deidentify": DeidentifyConfig,
    "completion": CompletionConfig,
    "dpo": DPOConfig,
    "env": EnvConfig,
    "evaluate": EvaluateConfig,
    "cost": CostConfig,
    "export": ExportConfig,
    "grpo": GRPOConfig,
    "import": ImportConfig,
    "init": InitConfig,
    "inspect": InspectConfig,
    "judge": JudgeConfig,
    "lineage": LineageConfig,
    "online-dpo": OnlineDPOConfig,
    "ppo": PPOConfig,
    "probe": ProbeConfig,
    "quickstart": QuickstartConfig,
    "raft": RAFTConfig,
    "reinforce": ReinforceConfig,
    "revise": ReviseConfig,
    "reward": RewardConfig,
    "rloo": RLOOConfig,
    "report": ReportConfig,
    "round": RoundConfig,
    "sample": SampleConfig,
    "score": ScoreConfig,
    "serve": ServeConfig,
    "sft": SFTConfig,
    "studio": StudioConfig,
    "synthesise": DegradeConfig,
}
CONFIGS["plan"] = SFTConfig
"""Of the stage that it names first: `config_of`."""
STUDIO: dict[str, type] = {
    "backup": BackupConfig,
    "migrate": UpdateConfig,
    "migrate-db": MigrateConfig,
    "prioritise": PrioritiseConfig,
    "restore": RestoreConfig,
}


def config_of(name: str, words: list[str]) -> type:
    """The settings of a command, of the stage that it plans, or of what `heedful studio` does besides serving."""
    if name == "plan" and words:
        return planned(CONFIGS[words[0]])
    if name == "synthesise" and words:
        return METHODS[words[0]][0]
    return STUDIO.get(words[0], CONFIGS[name]) if name == "studio" and words else CONFIGS[name]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_flags_exist(page: Path) -> None:
    for name, *words in commands(page):
        if name.startswith("-"):
            continue
        assert name in COMMANDS, f"{page.name}: heedful {name}"
        config = config_of(name, words)
        known = {"help", "json", "config", *(key.replace("_", "-") for key in all_keys(config))}
        for word in full_flags(config, words):
            if word.startswith("--"):
                flag = word[2:].partition("=")[0]
                bare = re.sub(r"(^|\.)no-", r"\1", flag)
                assert flag in known or bare in known, f"{page.name}: heedful {name} {word}"


def required(cls: type) -> set[str]:
    """Flags that a command does not go without (positional settings carry a tyro annotation and are no flags)."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        "--" + f.name.replace("_", "-")
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and not hasattr(hints[f.name], "__metadata__")
    }


def test_the_pages_commands_are_complete_and_every_command_is_shown() -> None:
    page = ROOT / "docs" / "command-line.md"
    text = page.read_text(encoding="utf-8")
    assert set(CONFIGS) == set(COMMANDS)
    for name in COMMANDS:
        assert f"| `{name}` |" in text
    for name, *words in commands(page):
        if name in CONFIGS and name != "plan" and "--help" not in words and "--config" not in words:
            assert required(config_of(name, words)) <= set(words), f"heedful {name} {words}"


def test_the_settings_file_of_the_page_is_accepted() -> None:
    found = [yaml.safe_load(block) for block in blocks(ROOT / "docs" / "command-line.md", "yaml")]
    assert len(found) == 1
    found[0]["optimiser"]["learning_rate"] = float(found[0]["optimiser"]["learning_rate"])
    config = from_mapping(PPOConfig, found[0], "docs/command-line.md")
    assert (config.kl.coefficient, config.optimiser.learning_rate) == (0.02, 1e-6)


def test_python_in_the_pages_compiles_and_names_what_exists() -> None:
    import heedful

    seen = 0
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, str(page), "exec")
            for name in re.findall(r"\bheedful\.(\w+)\(", block):
                assert name in heedful.__all__, f"{page.name}: heedful.{name}"
                seen += 1
    assert seen


def test_the_map_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder in (ROOT / "src" / "heedful").iterdir():
        if (folder / "__init__.py").exists():
            assert re.search(rf"^(.*\| +)?{folder.name}\b", text, re.MULTILINE), folder.name


def test_nothing_names_a_folder_of_one_machine() -> None:
    kinds = ("*.py", "*.md", "*.toml", "*.yaml", "*.yml", "Makefile", "run")
    folders = ("src", "tests", "docs", "examples", ".ci")
    files = [path for folder in folders for kind in kinds for path in (ROOT / folder).rglob(kind)]
    files += [path for kind in kinds for path in ROOT.glob(kind)]
    assert len(files) > 50
    machine = re.compile(r"(?<![\w.])/(?:work|root|home)/")
    for path in files:
        if path != Path(__file__):
            assert not machine.search(path.read_text(encoding="utf-8")), path
