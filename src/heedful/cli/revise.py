"""`heedful revise`: answers critiqued and revised by a constitution's principles, as demonstrations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.asker import opened_asker, spending
from heedful.cli.command import parse, print_json, print_result, stdout_for_results
from heedful.cli.opening import PromptOptions
from heedful.errors import HeedfulError
from heedful.training.config.asking import BudgetOptions, EndpointOptions, LoadingOptions

if TYPE_CHECKING:
    from heedful.feedback.ai.constitution import Constitution
    from heedful.feedback.ai.revising import Revising


@dataclass(frozen=True)
class ReplyOptions:
    """How the model's replies are drawn."""

    temperature: float = 0.7
    """0 always takes the likeliest; copies of one answer then get the same critique."""
    critique_tokens: int = 400
    """The longest critique; one that is cut ends its chain."""
    answer_tokens: int = 1024
    """The longest answer and revision; one that is cut ends its chain."""
    seed: int = 0
    """Fixes the principles drawn, and is sent to the model."""


@dataclass(frozen=True)
class RunOptions:
    """What does not make it another run."""

    again: bool = False
    """Take a finished run up again, for chains that broke because no reply came. A reply that was refused or cut short
    is a reply, and stays."""


@dataclass(frozen=True)
class ReviseConfig:
    """Critique answers by a principle drawn from a constitution, have them revised, and do so again.

    The last revisions are demonstrations for `heedful sft`; the folder keeps every chain, and pairs of the last
    revision against the first answer for `heedful dpo`. A chain that gets no whole reply is kept as broken and
    demonstrates nothing. Interrupted or killed, the same command goes on and pays for no reply twice.
    """

    model: tyro.conf.Positional[str]
    """Who critiques and revises: MODEL (at --endpoint.url), MODEL@URL, or hf:FOLDER for a model in this process."""
    data: str
    """Prompts with answers (as `heedful sample` writes them), or prompts alone with --samples."""
    out: Path
    """Folder of the run."""
    constitution: str = "default"
    """YAML file of principles; default: heedful's own. docs/constitutional-ai.md tells the form."""
    tags: tuple[str, ...] = ()
    """Draw only from principles with one of these tags, such as harmlessness."""
    rounds: int = 4
    """Critiques and revisions of each answer; 4 in Bai et al. 2022."""
    samples: int = 0
    """Let the model itself first answer each prompt so often; 0: the data holds the answers."""
    replies: ReplyOptions = ReplyOptions()
    records: PromptOptions = PromptOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    loading: LoadingOptions = LoadingOptions()
    run: RunOptions = RunOptions()

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise HeedfulError(f"{self.rounds} rounds revise nothing.", where="rounds", mend="Give 1 or more.")
        if self.samples < 0:
            raise HeedfulError(f"{self.samples} answers are none.", where="samples", mend="Give 0 or more.")
        if self.samples > 1 and self.replies.temperature == 0:
            raise HeedfulError(
                "at a temperature of 0 all answers to a prompt are the same.",
                where="samples",
                mend="Give 1, or a temperature above 0.",
            )


@dataclass(frozen=True)
class _Identity:
    """The settings that make a run this one and no other: prices and pace may change while it goes on."""

    model: str
    url: str | None
    data: str
    constitution: str
    version: str
    tags: tuple[str, ...]
    rounds: int
    samples: int
    replies: ReplyOptions
    records: PromptOptions


def revise(arguments: list[str]) -> int:
    """Parse the settings, make the chains, tell what came of them."""
    call = parse(ReviseConfig, "revise", arguments)
    with stdout_for_results():
        manifest = revised(call.settings)
    out = call.settings.out
    if call.json:
        print_json({"out": out, **manifest})
    else:
        figures = dict(manifest["figures"])
        drawn = {
            name: f"drawn {one['drawn']} times, changed the answer {one['changed']} times"
            for name, one in figures.pop("principles").items()
        }
        figures |= {"spent": spending(manifest["spent"]), "seconds": manifest["seconds"]}
        print_result(f"revise: {out}", figures | {"principle": drawn})
    return 0


def revised(config: ReviseConfig) -> dict[str, Any]:
    """Write the folder; returns its manifest. What is wrong with settings or data is told before anything is asked."""
    from heedful.data.load import DataSpec, load_demonstrations, load_prompts
    from heedful.feedback.ai.constitution import load_constitution
    from heedful.feedback.ai.ledger import LEDGER
    from heedful.pipeline.revise import Work, held, items_of, run_revise
    from heedful.training.progress import Display

    display, read = Display(), config.records
    constitution = load_constitution(config.constitution)
    how = _how(config, constitution)
    spec = DataSpec(config.data, read.format, read.split, read.on_bad_row, read.limit)
    loaded = load_prompts(spec) if config.samples else load_demonstrations(spec)
    display.say(loaded.summary())
    with held(config.out, _identity(config, constitution), display, again=config.run.again) as done:
        if done is not None:
            return done
        with opened_asker(config.model, config, config.out / LEDGER, display) as asker:
            items = items_of(loaded.records, asker, how.revision, config.samples, display)
            work = Work(items, loaded.describe(), constitution)
            return run_revise(config.out, _identity(config, constitution), work, how, asker, display)


def _how(config: ReviseConfig, constitution: Constitution) -> Revising:
    from heedful.feedback.ai.answering import Sampling
    from heedful.feedback.ai.revising import Revising

    replies = config.replies
    return Revising(
        constitution.only("revising", config.tags),
        config.rounds,
        replies.seed,
        Sampling(replies.critique_tokens, replies.temperature, replies.seed),
        Sampling(replies.answer_tokens, replies.temperature, replies.seed),
    )


def _identity(config: ReviseConfig, constitution: Constitution) -> _Identity:
    names = [f.name for f in dataclasses.fields(_Identity) if f.name not in ("url", "version")]
    given = {name: getattr(config, name) for name in names}
    return _Identity(**given, url=config.endpoint.url, version=constitution.version)
