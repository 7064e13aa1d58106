"""The command line's entry: finds the command, loads only it, and turns errors into one clear message."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heedful.errors import HeedfulError, nearest

INTERRUPTED = 130
TRAIN_PACKAGES = frozenset(
    {
        "torch", "transformers", "tokenizers", "safetensors", "peft",
        "datasets", "tensorboard", "jinja2",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """One subcommand: where its function `(arguments) -> exit code` lives, and its line in the help."""

    target: str
    summary: str
    group: str
    resumes: bool = False


COMMANDS: dict[str, Command] = {
    "quickstart": Command(
        "heedful.cli.quickstart:quickstart",
        "The whole loop on the embedded world: no download, a few minutes.",
        "The whole loop",
        resumes=True,
    ),
    "init": Command("heedful.cli.init:init", "Begin a programme: a folder with a commented recipe.", "The whole loop"),
    "round": Command(
        "heedful.cli.round:round_command",
        "Carry a programme through its rounds; it goes on where it was stopped.",
        "The whole loop",
        resumes=True,
    ),
    "report": Command(
        "heedful.cli.report:report",
        "What a programme's rounds brought, as one page; several side by side.",
        "The whole loop",
    ),
    "lineage": Command(
        "heedful.cli.lineage:lineage",
        "What a checkpoint was made from, back to every judgment; what was made from a rater's.",
        "The whole loop",
    ),
    "card": Command(
        "heedful.cli.card:card", "A model card for a checkpoint, out of its lineage and checks.", "The whole loop"
    ),
    "cost": Command(
        "heedful.cli.cost:cost",
        "What a programme cost: people, judges, the machine, and per point won.",
        "The whole loop",
    ),
    "sft": Command(
        "heedful.cli.stages:sft",
        "Supervised fine-tuning: imitate demonstrations, or the chosen answers.",
        "Train",
        resumes=True,
    ),
    "reward": Command(
        "heedful.cli.stages:reward", "Fit a reward model to people's comparisons.", "Train", resumes=True
    ),
    "ppo": Command(
        "heedful.cli.stages:ppo",
        "Train the policy on a reward, held near its start by a KL penalty.",
        "Train",
        resumes=True,
    ),
    "rloo": Command(
        "heedful.cli.stages:rloo",
        "As ppo, without a critic: completions of a prompt against each other.",
        "Train",
        resumes=True,
    ),
    "grpo": Command(
        "heedful.cli.stages:grpo",
        "As rloo, by groups: GRPO, Dr. GRPO, DAPO or GSPO.",
        "Train",
        resumes=True,
    ),
    "reinforce": Command(
        "heedful.cli.stages:reinforce",
        "As ppo, without a critic: REINFORCE++, the batch as the baseline.",
        "Train",
        resumes=True,
    ),
    "dpo": Command(
        "heedful.cli.stages:dpo",
        "Train the policy on comparisons directly, without a reward model.",
        "Train",
        resumes=True,
    ),
    "raft": Command(
        "heedful.cli.stages:raft",
        "Imitate the best of the policy's own answers, again and again.",
        "Train",
        resumes=True,
    ),
    "online-dpo": Command(
        "heedful.cli.stages:online_dpo",
        "As dpo, on pairs of the policy's own answers, judged as they come.",
        "Train",
        resumes=True,
    ),
    "plan": Command("heedful.cli.plan:plan", "What a stage will need of memory, before it runs.", "Train"),
    "average": Command(
        "heedful.cli.average:average", "One reward model whose weights are the mean of several's.", "Train"
    ),
    "sample": Command("heedful.cli.sample:sample", "Answers to prompts, to a file or the screen.", "Look"),
    "score": Command("heedful.cli.score:score", "The reward of every answer in a file, beside it.", "Look"),
    "best-of-n": Command(
        "heedful.cli.best_of_n:best_of_n", "The best of many answers by a reward, and what choosing it brings.", "Look"
    ),
    "evaluate": Command(
        "heedful.cli.evaluate:evaluate", "Win rate over a baseline, refusals, held-out perplexity.", "Look"
    ),
    "accuracy": Command(
        "heedful.cli.accuracy:accuracy", "How well a reward orders pairs that were judged, and by how much.", "Look"
    ),
    "probe": Command("heedful.cli.probe:probe", "What a reward pays for: length, flattery, and their kin.", "Look"),
    "compare": Command(
        "heedful.cli.compare:compare", "Two policies or more, or files of answers, against each other.", "Look"
    ),
    "inspect": Command(
        "heedful.cli.inspect:inspect", "What a data file holds, and what training would see of it.", "Look"
    ),
    "deidentify": Command(
        "heedful.cli.deidentify:run", "A data file without addresses and numbers that name people.", "People"
    ),
    "studio": Command("heedful.cli.studio:studio", "People write, compare and rank answers in a browser.", "People"),
    "import": Command(
        "heedful.cli.feedback_io:import_file", "Items for people to judge, from a file into the studio.", "People"
    ),
    "export": Command(
        "heedful.cli.feedback_io:export_file", "What people judged, from the studio into a file.", "People"
    ),
    "judge": Command(
        "heedful.cli.judge:judge",
        "Models judge answers, and people's judgments say how far to trust them.",
        "People",
        resumes=True,
    ),
    "agreement": Command(
        "heedful.cli.agreement:agreement",
        "Who agrees, who is careful, what groups prefer: can the labels be trusted?",
        "People",
    ),
    "revise": Command(
        "heedful.cli.revise:revise",
        "Critique and revise answers by a constitution: demonstrations for sft.",
        "AI feedback",
        resumes=True,
    ),
    "synthesise": Command(
        "heedful.cli.synthesise:synthesise", "Comparisons from how answers came about; new prompts.", "AI feedback"
    ),
    "chat": Command("heedful.cli.chat:chat", "Talk with a policy.", "Look"),
    "serve": Command("heedful.cli.serve:serve", "A policy behind an OpenAI-compatible endpoint.", "Use"),
    "env": Command("heedful.cli.env:env", "Versions, devices and settings of this machine, for a bug report.", "Help"),
    "completion": Command(
        "heedful.cli.completion:completion", "Let the TAB key complete commands and flags: bash, zsh or fish.", "Help"
    ),
}

_AS_LOSSES = ("bco", "cpo", "ipo", "kto", "orpo", "simpo")
"""Methods with commands of their own elsewhere, which here are losses of `dpo`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 a mistake that can be mended, 130 interrupted.

    With HEEDFUL_DEBUG=1 in the environment, errors keep their traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    try:
        if name in ("-h", "--help", "help"):
            _print_help()
            return 0
        if name in ("-V", "--version"):
            print(f"heedful {_version()}")
            return 0
        if name not in COMMANDS:
            near = nearest(name, list(COMMANDS)) or "heedful --help lists the commands."
            raise HeedfulError(
                f"there is no command {name!r}.",
                mend=f"It is a loss: heedful dpo --loss {name}." if name in _AS_LOSSES else near,
            )
        return load(COMMANDS[name])(words[1:])
    except SystemExit as stop:  # tyro ends --help and a mistaken flag so
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":  # of several workers one says it
            _say_interrupted(name)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left: `heedful sample ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = explained(error)
        if known is None or os.environ.get("HEEDFUL_DEBUG") == "1":
            raise
        if _worth_saying(known):
            _print_error(known)
        return known.exit_code


def explained(error: Exception) -> HeedfulError | None:
    """The message for a person behind an exception, where there is one; None for a bug of ours."""
    if isinstance(error, HeedfulError):
        return error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in TRAIN_PACKAGES:
        return HeedfulError(
            f"this command needs {error.name}, which is not installed.",
            mend="Install it with: pip install 'heedful[train]'",
        )
    text = str(error)
    if (isinstance(error, OSError) and error.errno == 28) or "os error 28" in text:
        return HeedfulError(
            "the disk is full.",
            where=str(getattr(error, "filename", None) or ""),
            mend="Free some space and run the same command again; nothing was half-written.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return HeedfulError(f"{error.strerror}.", where=str(error.filename), mend="Check the path and its permissions.")
    if type(error).__name__ == "OutOfMemoryError":
        return HeedfulError(
            "the device has no memory left.",
            mend="Lower --memory.micro-batch-tokens or --rollout.max-batch (neither changes the result), "
            "or train adapters with --loading.lora-rank.",
        )
    return None


def _worth_saying(error: HeedfulError) -> bool:
    """Whether this process is to print an error; of several workers that meet the same one, one does."""
    joining = sys.modules.get("heedful.training.joining")
    return joining is None or bool(joining.first_to_say(error))


def load(command: Command) -> Callable[[list[str]], int]:
    """The function of a command, whose module is imported now."""
    module, function = command.target.split(":")
    return getattr(importlib.import_module(module), function)


def _version() -> str:
    from importlib.metadata import version

    return version("heedful")


def _print_help() -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text("heedful: language models that listen to people", style="bold"))
    console.print("\nusage: heedful COMMAND \\[OPTIONS]", highlight=False)
    width = max(map(len, COMMANDS))
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        console.print(Text(f"\n{group}", style="bold cyan"))
        table = Table.grid(padding=(0, 2))
        table.add_column(width=width, style="green")
        table.add_column()
        for name, command in COMMANDS.items():
            if command.group == group:
                table.add_row(name, Text(command.summary))
        console.print(Padding(table, (0, 0, 0, 2)))
    for note in (
        "\nheedful COMMAND --help shows a command's settings. Each is a flag, and a key of the YAML file "
        "that --config names; flags win. --json prints the result for a program to read.",
        "\nInterrupted training goes on from its last checkpoint when you run the same command again.",
    ):
        console.print(note, highlight=False)


def _print_error(error: HeedfulError) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text("error: ", style="bold red")
    if error.where:
        message.append(f"{error.where}: ", style="bold")
    message.append(error.what)
    if error.mend:
        message.append(f"\n       {error.mend}", style="green")
    Console(stderr=True).print(message, soft_wrap=True, highlight=False)


def _say_interrupted(name: str) -> None:
    resumes = name in COMMANDS and COMMANDS[name].resumes
    print(
        "\nInterrupted. Run the same command again: it goes on from the last checkpoint."
        if resumes
        else "\nInterrupted.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
