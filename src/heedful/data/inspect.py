"""What `heedful inspect` shows: the data as training would see it, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from heedful.data.chat import Rendered, chat_format, render_completion, render_prompt
from heedful.data.formats import Kind
from heedful.data.load import DataSpec, Loaded, fit, load
from heedful.data.records import Demonstration, Labelled, Preference, Record, prompt_key
from heedful.data.splits import near_duplicates
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

_PROMPT, _SPECIAL = "dim", "bold magenta"
_LEARNT = ("black on green", "black on bright_green")


@dataclass(frozen=True)
class Inspection:
    """What was found in a data source; `as_dict()` is what `--json` prints.

    `lengths` counts tokens (words where there is no tokenizer) of prompts, answers and both together;
    `truncated` counts answers that the window cuts; `duplicates` counts whole records seen before, rows with
    a prompt seen before, and prompts nearly like another.
    """

    source: str
    sentence: str
    kind: str
    records: int
    unit: str
    findings: dict[str, Any]
    lengths: dict[str, dict[str, float]]
    truncated: int
    duplicates: dict[str, int]
    preferences: dict[str, float]
    notes: list[str]
    examples: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON value."""
        return dict(self.__dict__)


def inspect_data(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    kind: Kind | Literal["auto"] = "auto",
    max_length: int = 1024,
    examples: int = 2,
    console: Console | None = None,
) -> Inspection:
    """Read a data source as training would, and show what it would see.

    Args:
        tokenizer: one that `prepare_tokenizer` has settled; without one, lengths are in words and no
            tokens are shown.
        kind: which records to read; "auto" takes what the format holds.
        max_length: the window in tokens.
        examples: how many records to show token by token.
        console: where to print; None prints nothing.

    Raises:
        HeedfulError: as the loaders.
    """
    loaded = load(spec, kind)
    records: list[Record] = list(loaded.records)
    if tokenizer is not None:
        records = fit(records, tokenizer, max_length, spec.on_bad_row, loaded.findings)
        if not records:
            raise HeedfulError(
                f"no usable rows ({loaded.findings.summary()}).",
                where=spec.path,
                mend="Raise --records.max-length, or cut long rows with --records.on-bad-row truncate.",
            )
    lengths, truncated = _lengths(records, tokenizer, max_length)
    shown = [] if tokenizer is None else [_example(r, tokenizer, max_length) for r in records[:examples]]
    inspection = Inspection(
        source=spec.path,
        sentence=loaded.sentence,
        kind=type(records[0]).__name__.lower(),
        records=len(records),
        unit="words" if tokenizer is None else "tokens",
        findings=loaded.findings.as_dict(),
        lengths={name: _summary(values) for name, values in lengths.items() if values},
        truncated=truncated,
        duplicates=_duplicates(records),
        preferences=_preferences(records),
        notes=[] if tokenizer is None else chat_format(tokenizer).notes(),
        examples=shown,
    )
    if console is not None:
        _show(inspection, loaded, console)
    return inspection


def _answers(record: Record) -> tuple[str, ...]:
    if isinstance(record, Preference):
        return record.a, record.b
    return (record.completion,) if isinstance(record, Demonstration | Labelled) else ()


def _lengths(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase | None, window: int
) -> tuple[dict[str, list[int]], int]:
    lengths: dict[str, list[int]] = {"prompt": [], "answer": [], "together": []}
    truncated = 0
    for record in records:
        if tokenizer is None:
            prompt = sum(len(turn.content.split()) for turn in record.prompt)
            answers = [len(text.split()) for text in _answers(record)]
        else:
            prompt = len(render_prompt(tokenizer, record.prompt))
            sides = [render_completion(tokenizer, record.prompt, text, max_length=window) for text in _answers(record)]
            answers = [sum(side.mask) for side in sides]
            truncated += sum(side.truncated for side in sides)
        lengths["prompt"].append(prompt)
        lengths["answer"] += answers
        lengths["together"] += [prompt + answer for answer in answers]
    return lengths, truncated


def _summary(values: Sequence[int]) -> dict[str, float]:
    median, high = np.percentile(values, [50, 95])
    return {
        "least": float(min(values)),
        "median": float(median),
        "mean": float(np.mean(values)),
        "95%": float(high),
        "most": float(max(values)),
    }


def _duplicates(records: Sequence[Record]) -> dict[str, int]:
    whole = {(prompt_key(record.prompt), _answers(record)) for record in records}
    prompts = {prompt_key(record.prompt) for record in records}
    groups = near_duplicates([record.prompt for record in records])
    return {
        "records": len(records) - len(whole),
        "prompts": len(records) - len(prompts),
        "near_prompts": len(prompts) - len(set(groups)),
    }


def _preferences(records: Sequence[Record]) -> dict[str, float]:
    """Ties, soft labels, and how often the preferred answer is the longer one (0.5: no length bias)."""
    pairs = [record for record in records if isinstance(record, Preference)]
    if not pairs:
        return {}
    decided = [pair for pair in pairs if pair.probability != 0.5 and len(pair.a) != len(pair.b)]
    longer = [(len(pair.a) > len(pair.b)) == (pair.probability > 0.5) for pair in decided]
    return {
        "ties": float(sum(pair.probability == 0.5 for pair in pairs)),
        "soft": float(sum(pair.probability not in (0.0, 0.5, 1.0) for pair in pairs)),
        "longer_preferred": sum(longer) / len(longer) if longer else 0.5,
    }


def _example(record: Record, tokenizer: PreTrainedTokenizerBase, window: int) -> dict[str, Any]:
    names = ("a (preferred)", "b") if isinstance(record, Preference) else ("answer",)
    if isinstance(record, Preference) and record.probability <= 0.5:
        names = ("a", "b") if record.probability == 0.5 else ("a", "b (preferred)")
    sides: list[tuple[str, Rendered]] = [
        (name, render_completion(tokenizer, record.prompt, text, max_length=window))
        for name, text in zip(names, _answers(record), strict=False)
    ]
    if not sides:
        tokens = render_prompt(tokenizer, record.prompt)
        sides = [("prompt", Rendered(tokens, [False] * len(tokens), False))]
    return {
        "origin": str(record.origin),
        "sides": [
            {
                "name": name,
                "tokens": side.tokens,
                "pieces": pieces(tokenizer, side.tokens),
                "special": _special(tokenizer, side.tokens),
                "mask": side.mask,
                "truncated": side.truncated,
            }
            for name, side in sides
        ],
    }


def _special(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[bool]:
    added = tokenizer.added_tokens_decoder
    return [token in added for token in tokens]


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """Each token as readable text of its own, its leading space kept.

    Where several tokens spell one character between them, the last of them shows it and the others nothing.
    """
    shown: list[str] = []
    waiting: list[int] = []
    for token in tokens:
        waiting.append(int(token))
        raw = str(tokenizer.convert_ids_to_tokens(int(token)))
        text = str(tokenizer.decode(waiting, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if "\ufffd" in text and len(waiting) < 4:
            shown.append("")
            continue
        if not text:
            text = raw
        elif raw.startswith("▁") and not text.startswith(" "):
            text = " " + text
        waiting = []
        shown.append(text)
    return shown


def token_text(side: dict[str, Any]) -> Text:
    """One rendered side: prompt dim, special tokens magenta, learnt tokens green (shades tell tokens apart).

    Where there is no colour, ⟨ ⟩ frame what is learnt.
    """
    from rich.text import Text

    text = Text()
    before = False
    rows = zip(side["pieces"], side["mask"], side["special"], strict=True)
    for index, (piece, learnt, special) in enumerate(rows):
        if learnt and not before:
            text.append("⟨", "green")
        before = learnt
        style = _LEARNT[index % 2] if learnt else _SPECIAL if special else _PROMPT
        text.append(piece.replace("\r", "␍").replace("\t", "→\t").replace("\n", "↵\n"), style)
    if before:
        text.append("⟩", "green")
    return text


def _show(inspection: Inspection, loaded: Loaded[Any], console: Console) -> None:
    console.print(inspection.sentence, markup=False, highlight=False)
    console.print(f"{inspection.records} records of the kind {inspection.kind!r}.", highlight=False)
    for note in inspection.notes:
        console.print(f"Chat format: {note}.", markup=False, highlight=False)
    console.print(loaded.findings.table() if len(loaded.findings) else "No findings: every row is usable.")
    console.print(_length_table(inspection))
    if inspection.unit == "tokens":
        console.print(f"Answers cut at the window: {inspection.truncated}.", highlight=False)
    counted = inspection.duplicates
    console.print(
        f"Duplicates: {counted['records']} whole records, {counted['prompts']} prompts seen before, "
        f"{counted['near_prompts']} prompts nearly like another.",
        highlight=False,
    )
    if inspection.preferences:
        found = inspection.preferences
        console.print(
            f"Preferences: {found['ties']:.0f} ties, {found['soft']:.0f} soft labels; "
            f"the longer answer is preferred in {found['longer_preferred']:.1%}.",
            highlight=False,
        )
    if inspection.examples:
        console.print("\nWhat training sees: prompt dim, ⟨learnt tokens⟩ green, special tokens magenta.")
    for example in inspection.examples:
        for side in example["sides"]:
            learnt = sum(side["mask"])
            cut = ", cut at the window" if side["truncated"] else ""
            title = f"{example['origin']} {side['name']}: {len(side['tokens'])} tokens, {learnt} learnt{cut}"
            console.rule(title, align="left", style="dim")
            console.print(token_text(side))


def _length_table(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(title=f"Lengths in {inspection.unit}", title_justify="left")
    table.add_column("")
    for name in ("least", "median", "mean", "95%", "most"):
        table.add_column(name, justify="right")
    for name, values in inspection.lengths.items():
        table.add_row(name, *(f"{value:.0f}" for value in values.values()))
    return table
