"""What heedful depends on is what its code imports, and each has its reason, licence and newest release in the map."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def dependencies() -> dict[str, list[str]]:
    """What pyproject.toml asks for by the extra or group, heedful's own extras left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = {"": project["project"]["dependencies"], "build": project["build-system"]["requires"]}
    lists |= project["project"]["optional-dependencies"] | project["dependency-groups"]
    asked = {group: [re.split(r"[<>=~!; ]", line)[0] for line in lines] for group, lines in lists.items()}
    return {group: [name for name in names if not name.startswith("heedful")] for group, names in asked.items()}


def test_each_dependency_has_its_reason_licence_and_newest_release() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Dependencies\n")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    rows = [row if len(row) == 6 else ["", *row] for row in rows if row[-1] != "newest release" and "---" not in row]
    psycopg = {"psycopg[binary]": "psycopg"}
    asked = [(group, psycopg.get(name, name)) for group, names in dependencies().items() for name in names]
    assert sorted((row[0], row[1]) for row in rows) == sorted(asked)
    for row in rows:
        assert len(row) == 6, row
        assert all(row[2:]), f"{row[1]} lacks a reason, a licence or a release"
        assert re.fullmatch(r"[\w.]+, 20\d\d-\d\d-\d\d", row[5]), row


def test_what_the_code_imports_is_asked_for_by_name() -> None:
    plain = {name.partition("[")[0].lower().replace("_", "-") for names in dependencies().values() for name in names}
    owners = packages_distributions()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for module in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"heedful"}:
                owned = {owner.lower().replace("_", "-") for owner in owners.get(module, [module.replace("_", "-")])}
                assert owned & plain, f"{path} imports {module}, which pyproject.toml does not ask for"
