"""Functions of the user's own that a setting names as `module:function`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError, nearest

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def names_function(spec: str) -> bool:
    """Whether a setting reads as `module:function`, and is no path that exists."""
    return bool(_CALLABLE.fullmatch(spec)) and not Path(spec).exists()


def import_function(spec: str) -> Callable[..., Any]:
    """The function that `module:function` names; the module is looked for in the current folder too.

    Raises:
        HeedfulError: there is no such module or function.
    """
    module_name, _, function_name = spec.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise HeedfulError(
            f"cannot import the module {module_name!r}: {error}.",
            where=spec,
            mend="Run the command in the module's folder, or install it.",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    for part in function_name.split("."):
        if not hasattr(found, part):
            raise HeedfulError(
                f"{module_name} has no {part!r}.",
                where=spec,
                mend=nearest(part, dir(found)) or "Check the name.",
            )
        found = getattr(found, part)
    if not callable(found):
        raise HeedfulError(f"{function_name!r} is no function.", where=spec, mend="Name a function.")
    return found
