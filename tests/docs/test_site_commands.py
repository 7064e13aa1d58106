"""The commands and examples of the start pages and of "coming from" do what their pages say they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import command_read
from doc_pages import blocks, commands
from heedful.cli.command import parse
from heedful.cli.plan import ASSUMED, planned
from heedful.cli.stages import STAGES
from heedful.feedback.import_plan import drafts, plan
from heedful.feedback.import_source import Source
from heedful.models.rewards import names_code

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    *sorted((DOCS / "start").glob("*.md")),
    *sorted((DOCS / "coming-from").glob("*.md")),
    *(DOCS / "guides").glob("*.md"),
]


def parsed(words: list[str]) -> Any:
    """A command's settings, checked as the command checks them."""
    name, *rest = words
    if name == "plan":
        return parse(planned(STAGES[rest[0]]), "plan", rest[1:], assumed=ASSUMED).settings
    under = rest[0] if rest and rest[0] in command_read.UNDER.get(name, ()) else ""
    way = command_read.usage(name, under)
    assert way is not None
    return parse(way.settings, name, rest[1:] if under else rest).settings


ALL = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), ALL, ids=[f"{p.stem}-{n}-{w[0]}" for n, (p, w) in enumerate(ALL)])
def test_each_command_is_accepted(
    page: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--config" in words:  # of a run that is not here
        place = words.index("--config")
        config = tmp_path / words[place + 1]
        config.parent.mkdir(parents=True)
        config.write_text("model: m\nreward: r\ndata: d\nout: o\n")
    parsed(words)


def test_trl_s_task_is_the_same_from_the_shell_and_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "coming-from" / "trl.md"
    made: list[Any] = []
    monkeypatch.setattr("heedful.api.training.run_stage", lambda _, config, __: made.append(config) or {})
    (code,) = blocks(page, "python")
    exec(compile(code, str(page), "exec"), {})
    from_shell, with_a_function = [parsed(words) for words in commands(page)]
    assert made == [from_shell]
    assert names_code(with_a_function.reward)
    assert (from_shell.beta, from_shell.batch_size, from_shell.optimiser.learning_rate) == (0.1, 64, 1e-6)


def test_openrlhf_s_task_is_the_one_that_its_flags_say() -> None:
    (config,) = [parsed(words) for words in commands(DOCS / "coming-from" / "openrlhf.md")]
    assert config.rollout.prompts_per_step / config.update.minibatches == 128  # their train_batch_size
    assert config.records.max_length == 1024 + 1024
    assert (config.kl.coefficient, config.critic_learning_rate, config.optimiser.learning_rate) == (0.01, 9e-6, 1e-6)


@pytest.mark.parametrize(
    ("name", "number", "known", "task"),
    [
        ("argilla", 0, "argilla-records", "pairwise"),
        ("label-studio", 0, "columns", "pairwise"),
        ("label-studio", 1, "label-studio", "pairwise"),
    ],
)
def test_the_records_of_the_page_are_recognised(name: str, number: int, known: str, task: str) -> None:
    row = json.loads(blocks(DOCS / "coming-from" / f"{name}.md", "json")[number])
    made = plan(Source("rows.jsonl", data=json.dumps(row).encode() + b"\n"))
    assert made.problems == ()
    assert (made.format, made.task, made.items) == (known, task, 1)
    (draft,) = drafts(made)
    assert [answer.text for answer in draft.answers] == ["Hello!", "What?"]
