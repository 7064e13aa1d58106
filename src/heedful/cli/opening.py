"""What the commands that look at policies share: opening one, reading prompts, decoding settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError
from heedful.training.config.asking import LoadingOptions
from heedful.training.config.common import BadRow

if TYPE_CHECKING:
    from heedful.evaluation.compare import Answer
    from heedful.models.policy import Policy
    from heedful.rollout.types import DecodingParams
    from heedful.training.progress import Display

CHUNK = 256
"""Prompts answered between two updates of the progress bar."""


@dataclass(frozen=True)
class PromptOptions:
    """How the prompts' file is read."""

    format: str = "auto"
    """Format of the file; auto detects it and says what it found."""
    split: str | None = None
    """Split of a hub dataset."""
    on_bad_row: BadRow = "skip"
    """What to do with empty or over-long prompts and their kin: skip, error or truncate."""
    limit: int | None = None
    """Read at most this many."""


@dataclass(frozen=True)
class DecodingOptions:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """The longest answer."""
    temperature: float = 1.0
    """0 always takes the likeliest token; 1 is the policy's own distribution."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0 from all."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1, tokens seen before become less likely."""
    seed: int = 0
    """The same seed gives the same answers."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer."""

    def __post_init__(self) -> None:
        for name, ok, wanted in (
            ("max_new_tokens", self.max_new_tokens > 0, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or above"),
            ("top_k", self.top_k >= 0, "0 or above"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
        ):
            if not ok:
                raise HeedfulError(
                    f"it is {getattr(self, name)}, and must be {wanted}.",
                    where=f"decoding.{name}",
                    mend="Correct the value.",
                )

    def params(self) -> DecodingParams:
        """The same for the engine."""
        from heedful.rollout.types import DecodingParams

        return DecodingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
            stop=self.stop,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )


def open_policy(name: str, loading: LoadingOptions) -> Policy:
    """A policy from a folder or a hub id, ready to answer."""
    from heedful.models.policy import load_policy
    from heedful.pipeline.choices import resolve_device, resolve_precision

    policy = load_policy(
        name,
        template=loading.template,
        pad_token=loading.pad_token,
        device=resolve_device(loading.device),
        revision=loading.revision,
    )
    policy.precision = resolve_precision(loading.precision, policy.device)
    return policy


def read_prompts(
    data: str | None,
    texts: Sequence[str],
    options: PromptOptions,
    policies: Sequence[Policy],
    decoding: DecodingOptions,
    display: Display,
) -> list[Conversation]:
    """The prompts to answer: of a file, or given as texts. Each leaves every policy room for its answer.

    Raises:
        HeedfulError: neither a file nor texts, or both; nothing usable in the file.
    """
    if (data is None) == (not texts):
        raise HeedfulError(
            "give the prompts with either --data or --prompt.", mend="--prompt takes one text or several."
        )
    if data is None:
        return [(Message("user", text),) for text in texts]
    from heedful.data.load import DataSpec, fit, load_prompts
    from heedful.pipeline.stages.common import report_findings, require_records

    spec = DataSpec(data, options.format, options.split, options.on_bad_row, options.limit)
    loaded = load_prompts(spec)
    records = loaded.records
    for policy in policies:
        window = _window(policy)
        if window is not None:
            room = max(1, window - decoding.max_new_tokens)
            records = fit(records, policy.tokenizer, room, options.on_bad_row, loaded.findings)
    report_findings(loaded, display)
    require_records(records, loaded)
    return [record.prompt for record in records]


def _window(policy: Policy) -> int | None:
    config: Any = policy.model.config
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)


def answer_all(
    policy: Policy,
    prompts: Sequence[Conversation],
    params: DecodingParams,
    samples: int,
    display: Display,
    title: str,
) -> list[tuple[Answer, ...]]:
    """Answers of a policy, `samples` to each prompt, with a progress bar on standard error."""
    from heedful.evaluation.sampling import sample

    answers: list[tuple[Answer, ...]] = []
    with display.task(title, len(prompts)) as bar:
        for start in range(0, len(prompts), CHUNK):
            chunk = prompts[start : start + CHUNK]
            drawn = sample(policy, chunk, replace(params, seed=params.seed + start), samples_per_prompt=samples)
            answers.extend(drawn.answers)
            bar.update(len(answers), {})
    return answers
