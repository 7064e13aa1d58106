"""A package imports only from the lines below its own, and packages on one line never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

# From the bottom up (docs/architecture.md).
LINES = (
    ("errors",),
    ("files",),
    ("core", "sandbox"),
    ("data",),
    ("models", "feedback", "world"),
    ("rollout",),
    ("training", "evaluation", "monitoring"),
    ("pipeline", "studio"),
    ("cli",),
    ("api", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LINES) for name in names}


def imported(code: str, module: str) -> set[tuple[int, str]]:
    """(line, dotted module) of every heedful import in a file's code, wherever it stands in it.

    `module` is the file's own dotted name: relative imports are resolved against it.
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        found |= {(node.lineno, name) for name in names if name.split(".")[0] == "heedful"}
    return found


def violations(code: str, module: str) -> list[str]:
    """What a file imports against the order, one sentence each."""
    own = module.split(".")[1]
    wrong = []
    for line, name in sorted(imported(code, module)):
        other = name.partition(".")[2].partition(".")[0]  # empty for the public API, which nothing inside uses
        if other != own and LEVEL.get(other, len(LINES)) >= LEVEL[own]:
            wrong.append(f"{module}, line {line}: {own} imports {name}")
    return wrong


def modules(repository: Path) -> dict[str, Path]:
    source = repository / "src"
    return {
        ".".join(path.relative_to(source).with_suffix("").parts): path
        for path in sorted((source / "heedful").rglob("*.py"))
        if path != source / "heedful" / "__init__.py"  # the public API: imports lazily from everywhere
    }


def test_each_package_imports_from_below_only(repository: Path) -> None:
    wrong = [
        sentence
        for module, path in modules(repository).items()
        for sentence in violations(path.read_text(encoding="utf-8"), module)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_its_line(repository: Path) -> None:
    packages = {module.split(".")[1] for module in modules(repository)}
    assert packages <= set(LEVEL)
    assert {"core", "data", "models", "rollout", "training", "pipeline", "cli"} <= packages


def test_packages_hand_on_nothing(repository: Path) -> None:
    for module, path in modules(repository).items():
        if path.name == "__init__.py" and module != "heedful.feedback.models.__init__":  # where Django looks for models
            assert not path.read_text(encoding="utf-8").strip(), f"{module} must stay empty"


@pytest.mark.parametrize(
    ("module", "code", "wrong"),
    [
        ("heedful.core.losses", "from heedful.data.records import Prompt", 1),
        ("heedful.training.ppo", "import heedful.evaluation.winrate", 1),
        ("heedful.training.ppo", "def f():\n    from heedful.cli import main", 1),
        ("heedful.training.ppo", "from ..pipeline import stages", 1),
        ("heedful.training.ppo", "from heedful import load_policy", 1),
        ("heedful.models.policy", "from heedful import world", 1),
        ("heedful.training.ppo", "from . import config\nfrom heedful.core import kl\nimport torch", 0),
        ("heedful.errors", "from heedful.files import write_json", 1),
        ("heedful.cli.main", "from heedful.pipeline.stages import run_sft", 0),
    ],
)
def test_the_rule_itself_sees_what_it_should(module: str, code: str, wrong: int) -> None:
    assert len(violations(code, module)) == wrong
