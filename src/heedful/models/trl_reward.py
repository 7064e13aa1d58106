"""Reward functions as TRL calls them: by keyword, with completions as the data has them, and the data's columns.

    def correct(completions, answer, **kwargs):
        return [float(text.strip() == right) for text, right in zip(completions, answer)]

`trl=train.jsonl:rewards:correct` names it with the file whose columns it reads, by their prompts. What TRL has besides
and heedful has not at that moment (`completion_ids`, `trainer_state`, its loggers and environments) is not given.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedful.data.load import by_prompt
from heedful.data.records import Conversation, as_messages
from heedful.errors import HeedfulError
from heedful.models.callables import import_function

_SPEC = re.compile(r"trl=(.+?):([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)")
_NOT_HERE = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")


def names_trl_function(spec: str) -> bool:
    """Whether a setting names a reward function as TRL calls it."""
    return bool(_SPEC.fullmatch(spec))


def parts_of(spec: str) -> tuple[str, str]:
    """The file and the `module:function` that such a setting names."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise ValueError(f"{spec!r} names no function of TRL's kind")
    return found[1], found[2]


class TRLReward:
    """A `Reward` that asks a function as TRL does.

    `prompts` and `completions` are texts, or lists of messages where the data's own column `prompt` holds messages;
    each other column is a list, in the order of the completions. A column that the function has no argument for is left
    out, unless it takes any (`**kwargs`).

    Args:
        name: for messages.
        function: returns one number for each completion.
        rows: the data's row of each prompt.

    Raises:
        HeedfulError: the function is asynchronous, or needs what no column has.
    """

    def __init__(self, name: str, function: Callable[..., Any], rows: Mapping[Conversation, Mapping[str, Any]]) -> None:
        self.name, self.function, self.rows = name, function, rows
        columns = dict.fromkeys(key for row in rows.values() for key in row if key not in ("prompt", "completion"))
        self.columns = _taken(name, function, list(columns))
        wanted = inspect.signature(function).parameters
        self.takes_prompts = "prompts" in wanted or any(one.kind is one.VAR_KEYWORD for one in wanted.values())

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Any:
        """What the function gives, in the order of the completions.

        Raises:
            HeedfulError: a prompt that the data does not hold.
        """
        rows = [self._row(prompt) for prompt in prompts]
        in_turns = [not isinstance(row.get("prompt"), str) for row in rows]
        given: dict[str, Any] = {
            "completions": [
                [{"role": "assistant", "content": text}] if turns else text
                for text, turns in zip(completions, in_turns, strict=True)
            ]
        }
        if self.takes_prompts:
            given["prompts"] = [
                as_messages(prompt) if turns else row["prompt"]
                for prompt, row, turns in zip(prompts, rows, in_turns, strict=True)
            ]
        return self.function(**given, **{name: [row.get(name) for row in rows] for name in self.columns})

    def _row(self, prompt: Conversation) -> Mapping[str, Any]:
        found = self.rows.get(prompt)
        if found is None:
            raise HeedfulError(
                f"there is no row for the prompt {prompt[-1].content[:80]!r}.",
                where=self.name,
                mend="The file of columns must hold every prompt of the data, word for word.",
            )
        return found


def _taken(name: str, function: Callable[..., Any], columns: list[str]) -> list[str]:
    """The columns that the function is given."""
    if inspect.iscoroutinefunction(function):
        raise HeedfulError("asynchronous reward functions are not asked.", where=name, mend="Write it with plain def.")
    parameters = inspect.signature(function).parameters
    wanted = {key for key, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    needed = {key for key in wanted if parameters[key].default is inspect.Parameter.empty}
    missing = sorted(needed - {"prompts", "completions", *columns})
    if missing:
        absent = [key for key in missing if key in _NOT_HERE]
        raise HeedfulError(
            f"the function needs {', '.join(missing)}, and no column is called so."
            if not absent
            else f"the function needs {', '.join(absent)}, which heedful does not have when it asks a reward.",
            where=name,
            mend=f"The columns are: {', '.join(columns) or 'none'}." if not absent else "Give it a default.",
        )
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return columns
    return [column for column in columns if column in wanted]


def from_trl(function: Callable[..., Any], data: str, *, name: str = "") -> TRLReward:
    """A reward that asks a function as TRL does, with the columns of `data` by its prompts.

    Args:
        function: as TRL's trainers take it in `reward_funcs`.
        data: a file, a folder or a hub id with the prompts (`heedful.data.read.read_rows`).
        name: for messages; the function's own where it is empty.

    Raises:
        HeedfulError: the data cannot be read, a prompt has rows that differ, or the function needs what is not there.
    """
    found = by_prompt(data, lambda row, _: row, "columns")
    return TRLReward(name or getattr(function, "__name__", "the reward"), function, found)


def load_trl_reward(spec: str) -> TRLReward:
    """The reward that `trl=FILE:module:function` names.

    Raises:
        HeedfulError: as `from_trl`, or there is no such module or function.
    """
    data, function = parts_of(spec)
    return from_trl(import_function(function), data, name=spec)
