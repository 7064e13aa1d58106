"""`heedful completion SHELL`: a script by which the TAB key completes commands, flags and their choices.

The script holds no list. At each TAB it asks `heedful completion words ...`, which loads only the command that is being
typed, so that it is never older than the installed version.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from heedful.cli.command import parse, print_json, settings_of
from heedful.training.settings import all_keys

ASK = "words"

SCRIPTS = {
    "bash": """\
_heedful() {
    local current="${COMP_WORDS[COMP_CWORD]}"
    [ "$current" = "=" ] && current=""
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(heedful completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$current"))
}
complete -o default -F _heedful heedful
""",
    "zsh": """\
#compdef heedful
_heedful() {
    local -a found
    found=(${(f)"$(heedful completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -- $found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _heedful heedful
""",
    "fish": """\
function __heedful
    set -l words (commandline -opc) (commandline -ct)
    heedful completion words $words[2..] 2>/dev/null
end
complete -c heedful -a '(__heedful)'
""",
}


@dataclass(frozen=True)
class CompletionConfig:
    """A script for your shell. For good: add the line to its start-up file.

    bash: eval "$(heedful completion bash)" in ~/.bashrc. zsh: the same with zsh, in ~/.zshrc. fish: heedful completion
    fish > ~/.config/fish/completions/heedful.fish.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which shell."""


def completion(arguments: list[str]) -> int:
    """Print the script, or answer it."""
    if arguments[:1] == [ASK]:
        print("\n".join(completed(arguments[1:])))
        return 0
    call = parse(CompletionConfig, "completion", arguments)
    script = SCRIPTS[call.settings.shell]
    if call.json:
        print_json({"script": script})
    else:
        print(script, end="")
    return 0


def completed(words: Sequence[str]) -> list[str]:
    """What the last of the words behind `heedful` may become; nothing where files are meant."""
    from heedful.cli.main import COMMANDS, load

    *before, current = [word for word in words if word != "="] if words else [""]
    if len(words) > 1 and words[-1] == "=":  # bash splits --flag=value at the sign
        before, current = [*before, current], ""
    if not before:
        return _starting(current, [*COMMANDS, "--help", "--version"])
    name, *rest = before
    if name not in COMMANDS:
        return []
    command = load(COMMANDS[name])
    inner = _inner(name)
    if not rest and inner and not current.startswith("-"):
        return _starting(current, inner)
    cls = settings_of(command, rest if rest and rest[0] in inner else [])
    if cls is None:
        return _starting(current, ["--help"])
    flags = dict(_flags(cls))
    flag, equals, value = current.partition("=")
    if equals and flag.startswith("--"):
        return [f"{flag}={word}" for word in _starting(value, _choices(flags.get(flag[2:])))]
    if rest and rest[-1].startswith("--") and not current.startswith("-"):
        return _starting(current, _choices(flags.get(rest[-1][2:])))
    if current.startswith("-"):
        return _starting(current, [*(f"--{flag}" for flag in flags), "--config", "--json", "--help"])
    return _starting(current, _positional(cls))


def _inner(name: str) -> list[str]:
    """The words that may stand first behind a command of several."""
    if name == "plan":
        from heedful.cli.stages import STAGES

        return list(STAGES)
    if name == "synthesise":
        from heedful.cli.synthesise import METHODS

        return list(METHODS)
    if name == "studio":
        from heedful.cli.studio import OTHERS

        return list(OTHERS)
    return []


def _flags(cls: type) -> Iterator[tuple[str, Any]]:
    """Flags as `--help` shows them, and the short form of those whose last word stands in one block; their types."""
    keys = [key for key in all_keys(cls) if not dataclasses.is_dataclass(_type(cls, key))]
    leaves = [key.rpartition(".")[2] for key in keys]
    for key, leaf in zip(keys, leaves, strict=True):
        if "." in key or not _is_positional(cls, key):
            yield key.replace("_", "-"), _type(cls, key)
            if "." in key and leaves.count(leaf) == 1:
                yield leaf.replace("_", "-"), _type(cls, key)


def _type(cls: type, key: str) -> Any:
    first, _, rest = key.partition(".")
    hint = typing.get_type_hints(cls)[first]
    return _type(hint, rest) if rest else hint


def _is_positional(cls: type, key: str) -> bool:
    return hasattr(typing.get_type_hints(cls, include_extras=True)[key], "__metadata__")


def _positional(cls: type) -> list[str]:
    """Choices of the first setting that stands without a flag."""
    for field in dataclasses.fields(cls):
        if _is_positional(cls, field.name):
            return _choices(_type(cls, field.name))
    return []


def _choices(hint: Any) -> list[str]:
    """The words of a `Literal`, also one that is optional or repeated."""
    if typing.get_origin(hint) is Literal:
        return [str(one) for one in typing.get_args(hint)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        return [word for one in typing.get_args(hint) for word in _choices(one)]
    return []


def _starting(current: str, known: Sequence[str]) -> list[str]:
    return [word for word in dict.fromkeys(known) if word.startswith(current)]
