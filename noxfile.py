"""The tests on every supported Python: `nox -s tests-3.12`, or all that are there. `make test` needs no nox.

pip install nox && nox --list
"""

from __future__ import annotations

import nox

PYTHONS = ("3.11", "3.12", "3.13")
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The quick tests with everything installed."""
    pyproject = nox.project.load_toml("pyproject.toml")
    session.install("-e", ".[train,postgres,serve]", *nox.project.dependency_groups(pyproject, "dev"))
    session.run("pytest", "-m", "not slow and not oracle and not soak", *session.posargs)


@nox.session(python=PYTHONS)
def base(session: nox.Session) -> None:
    """The wheel without torch: what it holds, the commands, the studio, a typed client."""
    session.run(".ci/packaging", "base", external=True, env={"PYTHON": str(session.virtualenv.bin + "/python")})


@nox.session(python=PYTHONS)
def extras(session: nox.Session) -> None:
    """The wheel with each extra, or those that are named behind --."""
    wanted = session.posargs or ["train", "postgres", "serve", "qlora", "wandb", "lm-eval", "ray", "vllm"]
    session.run(".ci/packaging", *wanted, external=True, env={"PYTHON": str(session.virtualenv.bin + "/python")})


def asked_for(*extras: str) -> list[str]:
    """What pyproject.toml asks for with some extras, or all, without heedful itself and the tools to work on it."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    optional = project["optional-dependencies"]
    lists = [project["dependencies"], *(optional[extra] for extra in extras or optional)]
    return [line for lines in lists for line in lines if not line.startswith("heedful")]


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what is installed with every extra, or those that are named behind --.

    What cannot be looked up fails too. Extras that pin others' versions are audited by themselves.
    """
    session.install("pip-audit", *asked_for(*session.posargs))
    session.run("pip-audit", "--strict")


@nox.session(python="3.11")
def upkeep(session: nox.Session) -> None:
    """Licence and newest release of each dependency, for the tables of docs/architecture.md."""
    groups = nox.project.load_toml("pyproject.toml")
    tools = [line for group in ("dev", "docs") for line in nox.project.dependency_groups(groups, group)]
    session.install("pypi-simple", "hatchling", *asked_for(*session.posargs), *tools)
    session.run("python", ".ci/upkeep.py")


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """ruff and mypy."""
    session.install("ruff>=0.11", "mypy>=1.15", "types-PyYAML", "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
