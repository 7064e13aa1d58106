"""The reference of the Python API: each public name with its signature and docstring, read without importing it."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import heedful
from command_pages import MADE
from heedful.cli.stages import STAGES

INTRODUCTION = """The public names are those of `heedful` itself. Each is imported when it is first used, so that
`import heedful` needs neither torch nor time. What is below other modules may change from one version to the next."""

NAMES = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*):")
"""What an entry of a docstring's list is about: one argument or error, or several."""


def page() -> str:
    """The page as text."""
    parts = [MADE, "# Python API", INTRODUCTION]
    for name in sorted(heedful.__all__, key=str.casefold):
        parts += [f"## heedful.{name}", *described(definitions(heedful._HOME[name], name))]
    return "\n\n".join(parts) + "\n"


def definitions(module: str, name: str) -> list[ast.stmt]:
    """The statements that make a name, in the source of its module: the last one, overloads before it."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return [node for node in body if name in _made_by(node)]


def _made_by(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def described(made: list[ast.stmt]) -> list[str]:
    """Signatures and docstring; the settings of a stage are on its command's page."""
    *overloads, found = made
    if not isinstance(found, ast.FunctionDef | ast.ClassDef):
        return [f"```python\n{ast.unparse(found)}\n```"]
    heads = [signature(one) if isinstance(one, ast.FunctionDef) else class_head(found) for one in overloads or [found]]
    head = "\n".join(heads)
    parts = [f"```python\n{head}\n```", *prose(inspect.cleandoc(ast.get_docstring(found) or ""))]
    for stage, settings in STAGES.items():
        if settings.__name__ == found.name:
            parts.append(f"Its fields are the settings of [`heedful {stage}`](commands/{stage}.md).")
    return parts


def prose(documentation: str) -> list[str]:
    """A docstring: its paragraphs as they are, and what it says of arguments and errors as lists."""
    first, *sections = re.split(r"^(Args|Attributes|Returns|Yields|Raises):$", documentation, flags=re.MULTILINE)
    found = [first.strip()]
    for kind, text in zip(sections[::2], sections[1::2], strict=True):
        entries = re.split(r"\n(?! )", inspect.cleandoc(text))
        flat = [" ".join(entry.split()) for entry in entries]
        found.append(f"**{kind}**")
        if kind in ("Returns", "Yields"):
            found.append(" ".join(flat))
        else:
            found.append("\n".join(f"- {re.sub(NAMES, _named, entry, count=1)}" for entry in flat))
    return found


def _named(names: re.Match[str]) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names[1].split(",")) + ":"


def class_head(found: ast.ClassDef) -> str:
    """A class with its bases."""
    bases = ", ".join(ast.unparse(base) for base in found.bases)
    return f"class {found.name}({bases}): ..." if bases else f"class {found.name}: ..."


def signature(found: ast.FunctionDef) -> str:
    """A function's head, an argument a line where it is long."""
    returns = f" -> {ast.unparse(found.returns)}" if found.returns else ""
    arguments = ast.unparse(found.args)
    line = f"def {found.name}({arguments}){returns}: ..."
    if len(line) <= 100:
        return line
    bare = ast.parse(f"def f({arguments}): ...").body[0]
    assert isinstance(bare, ast.FunctionDef)
    return f"def {found.name}(\n    {one_a_line(bare.args)},\n){returns}: ..."


def one_a_line(arguments: ast.arguments) -> str:
    """Arguments below each other."""
    plain, defaults = [*arguments.posonlyargs, *arguments.args], arguments.defaults
    values: list[ast.expr | None] = [*[None] * (len(plain) - len(defaults)), *defaults]
    shown = [_argument(a, v) for a, v in zip(plain, values, strict=True)]
    if arguments.vararg:
        shown.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [_argument(a, v) for a, v in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        shown.append(f"**{ast.unparse(arguments.kwarg)}")
    return ",\n    ".join(shown)


def _argument(argument: ast.arg, value: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(value)}" if value is not None else "")
