"""The worked recipes of `heedful init --application`: what each needs, and the files that it writes. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from heedful.errors import HeedfulError, nearest

JUDGE = "qwen2.5:7b-instruct@http://127.0.0.1:11434/v1"
"""The AI judge that recipes name until another is chosen: a model that Ollama serves on this machine."""
OWN, PROBLEMS = "prompts.jsonl", "problems.jsonl"


@dataclass(frozen=True)
class Application:
    """A worked recipe.

    Attributes:
        model: the hub's model that is trained.
        dataset: the hub's dataset of prompts, or of more of them than the recipe brings.
        prompts: lines of the recipe that say where prompts come from; a file that the recipe brings, or the dataset.
        files: what is written beside the recipe, the same for both variants.
        brings: what the recipe on a model of the hub has besides.
        kinds: of the embedded world's questions; none: all.
        asks: whether an AI judge has a share from the start.
        plus: the embedded variant's `learn.plus`.
    """

    model: str
    dataset: str
    prompts: tuple[str, ...]
    files: tuple[str, ...] = ("guideline.md", "attributes.yaml")
    brings: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    asks: bool = False
    plus: str = ""


SMALL = "Qwen/Qwen2.5-0.5B-Instruct"
APPLICATIONS: Mapping[str, Application] = {
    "chat": Application(
        SMALL, "Anthropic/hh-rlhf", ("data: Anthropic/hh-rlhf", "split: train", "limit: 5000"), asks=True
    ),
    "service": Application(
        SMALL,
        "bitext/Bitext-customer-support-llm-chatbot-training-dataset",
        (f"data: {OWN}",),
        brings=(OWN, "policy.md", "constitution.yaml"),
        kinds=("support", "unknown", "chat"),
        asks=True,
    ),
    "writing": Application(
        SMALL,
        "euclaise/writingprompts",
        ("data: euclaise/writingprompts", "split: train", "limit: 5000"),
        kinds=("poem", "chat", "howto"),
    ),
    "code": Application(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        "google-research-datasets/mbpp",
        (f"data: {PROBLEMS}",),
        brings=(PROBLEMS,),
        kinds=("code", "sum", "howto"),
        plus="2*heedful.pipeline.world_code:passed",
    ),
}
"""By the name that `--application` takes."""


def application_named(name: str) -> Application:
    """A worked recipe.

    Raises:
        HeedfulError: there is none of that name.
    """
    if name not in APPLICATIONS:
        raise HeedfulError(
            f"there is no application {name!r}.",
            where="application",
            mend=nearest(name, list(APPLICATIONS)) or f"Choose one of {', '.join(APPLICATIONS)}.",
        )
    return APPLICATIONS[name]


def recipe_of(
    name: str, values: Mapping[str, str], *, model: str | None, prompts: str | None, judge: str | None
) -> str:
    """The recipe on a model of the hub, or of one's own.

    Args:
        name: of the application.
        values: what else stands in the template's places.
        model: in place of the hub's.
        prompts: a file or hub dataset in place of the recipe's prompts; of code, with unit tests.
        judge: the AI judge.

    Raises:
        HeedfulError: there is no such application.
    """
    own = application_named(name)
    lines = own.prompts if prompts is None else (f"data: {json.dumps(prompts)}",)
    found = {
        **values,
        "model": json.dumps(model or own.model),
        "model_id": model or own.model,
        "dataset_id": own.dataset,
        "judge": json.dumps(judge or JUDGE),
    }
    text = _read(name, "heedful.yaml").replace("\n{prompts}\n", "\n" + "".join(f"  {one}\n" for one in lines))
    found["plus"] = json.dumps(f"2*unit-tests:{prompts or PROBLEMS}")
    for key, value in found.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def embedded_recipe_of(name: str, values: Mapping[str, str]) -> str:
    """The recipe on the embedded world, which needs no network and no people.

    Raises:
        HeedfulError: there is no such application.
    """
    own = application_named(name)
    text = files("heedful.pipeline.rounds").joinpath("world.yaml").read_text("utf-8")
    kinds = f"  kinds: [{', '.join(own.kinds)}]   # of its questions, those nearest to this application\n"
    plus = f"  plus: {own.plus}   # the share of tests that pass, in the sandbox, counted double\n"
    store = (
        "store:                   # where people judge, once judge.people or check.judge.people is above 0\n"
        "  programme: {programme}   # heedful studio --folder . makes it, with the guideline\n"
        "  guideline: guideline.md\n  attributes: attributes.yaml\n"
    )
    refusals = "  watch: {refusals: {requests: world, every_steps: 15}}   # lookalikes and harmful requests refused\n"
    text = _put(text, "name: {name}\n", before=f"# {HEADS[name]}\n")
    text = _put(text, "  use: true\n", after=kinds if own.kinds else "")
    text = _put(text, "  optimise: ppo", before=plus if own.plus else "")
    text = _put(
        text,
        "  run: {checkpoint_every: 10, sample_every: 10, evaluate_every: 0}\n",
        after="" if own.kinds else refusals,
    )
    begin, end = text.index("# store:"), text.index("learn:\n")
    text = text[:begin] + store + "\n" + text[end:]
    if own.kinds:  # fewer questions than the whole world has
        text = text.replace("  check: 0.15 ", "  check: 0.3  ")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


HEADS = {
    "chat": "Application: a chat assistant, helpful and harmless (docs/applications.md), on the embedded world.",
    "service": "Application: customer service (docs/applications.md), on the embedded world's shop.",
    "writing": "Application: creative writing (docs/applications.md), on the embedded world's poems.",
    "code": "Application: code with unit tests (docs/applications.md), on the embedded world's little programs.",
}


def _put(text: str, mark: str, *, before: str = "", after: str = "") -> str:
    """A text with something put beside a mark that it has once."""
    if text.count(mark) != 1:
        raise ValueError(f"the template has {mark!r} {text.count(mark)} times")
    return text.replace(mark, before + mark + after)


def beside(name: str, *, embedded: bool) -> dict[str, str]:
    """The files that stand beside the recipe, by name."""
    own = application_named(name)
    return {file: _read(name, file) for file in (*own.files, *(() if embedded else own.brings))}


def _read(name: str, file: str) -> str:
    return files("heedful.pipeline.applications").joinpath(name, file).read_text("utf-8")
