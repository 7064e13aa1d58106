"""`heedful serve`: a policy behind an OpenAI-compatible endpoint, on a server that others keep."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from heedful.cli.command import parse, print_json
from heedful.errors import HeedfulError

Engine = Literal["transformers", "vllm"]
NEEDS: dict[Engine, tuple[str, ...]] = {"transformers": ("transformers", "fastapi", "uvicorn"), "vllm": ("vllm",)}
MEND: dict[Engine, str] = {"transformers": "pip install 'heedful[serve]'", "vllm": "pip install vllm"}


@dataclass(frozen=True)
class ServeConfig:
    """Serve a policy to anything that speaks the OpenAI chat API, the studio's dialogues among them.

    The server is `transformers serve`, or vLLM. It takes this process's place: stop it with Ctrl-C.
    """

    policy: tyro.conf.Positional[str]
    """The policy: a folder or a hub id."""
    engine: Engine = "transformers"
    """transformers runs on any machine; vllm on a GPU, for many at a time."""
    host: str = "127.0.0.1"
    """The address that it listens on. Neither server asks for a password: any other opens it to whoever reaches it."""
    port: int = 8000
    """The port that it listens on."""
    device: str = "auto"
    """cpu, cuda:0, ...; for transformers."""


def serve(arguments: list[str]) -> int:
    """Parse the settings, see that all is there, and become the server."""
    call = parse(ServeConfig, "serve", arguments)
    name = served_name(call.settings)
    check(call.settings)
    address = f"http://{call.settings.host}:{call.settings.port}/v1"
    if call.json:
        print_json({"address": address, "model": name, "engine": call.settings.engine})
    else:
        print(f"Serving {name} at {address} (model name: {name}).", file=sys.stderr)
        print(
            f"Talk: POST {address}/chat/completions. In the studio: Machines, a policy, this address.", file=sys.stderr
        )
    sys.stdout.flush()
    words = command(call.settings, name)
    os.execv(words[0], words)


def served_name(config: ServeConfig) -> str:
    """The name that requests give for the model: a folder's full path, or the hub id.

    Raises:
        HeedfulError: the folder holds no finished policy.
    """
    folder = Path(config.policy)
    if not folder.exists():
        return config.policy
    if (folder / "adapter_config.json").exists():
        raise HeedfulError(
            "these are adapters, without the base that they stand on.",
            where=str(folder),
            mend="Merge them into it (peft's merge_and_unload) and serve that; folders of heedful are merged already.",
        )
    if not (folder / "config.json").exists():
        raise HeedfulError("no policy here.", where=str(folder), mend="Name the folder of a finished stage.")
    return str(folder.resolve())


def check(config: ServeConfig) -> None:
    """See that the engine is installed, a model of another place can be had, and the port is free.

    Raises:
        HeedfulError: one of them is not so.
    """
    for package in NEEDS[config.engine]:
        if importlib.util.find_spec(package) is None:
            raise HeedfulError(
                f"{config.engine} serves by {package}, which is not installed.", mend=MEND[config.engine]
            )
    if not Path(config.policy).exists():
        from heedful.models.storage import check_source, open_config

        check_source(config.policy)
        open_config(config.policy, None)
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((config.host, config.port))
        except OSError as error:
            raise HeedfulError(
                f"cannot listen: {error.strerror}.", where=f"{config.host}:{config.port}", mend="Choose another --port."
            ) from error


def command(config: ServeConfig, model: str) -> list[str]:
    """The words that start the server of a model, its program first."""
    where = ["--host", config.host, "--port", str(config.port)]
    if config.engine == "vllm":
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *where]
    start = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    return [sys.executable, "-c", start, "serve", model, *where, "--device", config.device]
