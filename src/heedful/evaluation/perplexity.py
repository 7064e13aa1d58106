"""How well a policy still predicts text that it was never trained on: the tax that training on a reward may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedful.core.statistics import Interval
from heedful.data.read import read_rows
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.evaluation.winrate import resampled_counts

if TYPE_CHECKING:
    from heedful.models.policy import Policy

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Document:
    """A text to predict: after a prompt, or plain running text where there is none."""

    prompt: Conversation | None
    text: str


@dataclass(frozen=True)
class Predicted:
    """What each document cost a policy: [D] nats and tokens predicted, and bytes of its text.

    `skipped` counts tokens that the policy can never say (banned ones, such as padding), which are left out.
    """

    nats: Floats
    tokens: Floats
    bytes: Floats
    skipped: int


@dataclass(frozen=True)
class Perplexity:
    """Over all documents; intervals resample them. `perplexity` is exp(nats per token), comparable with the same
    tokenizer only; `bits_per_byte` with any."""

    perplexity: Interval
    bits_per_byte: Interval
    documents: int
    tokens: int
    skipped: int


def read_documents(path: str, *, split: str | None = None, limit: int | None = None) -> list[Document]:
    """Rows with a `text` column as running text; any other format by its demonstrations (prompt and answer).

    Raises:
        HeedfulError: no rows, a text that is none, or a format that holds no answers.
    """
    rows = read_rows(path, split=split)
    first = next(rows, None)
    if first is None:
        raise HeedfulError("there are no rows in it.", where=path, mend="Name another file.")
    if "text" not in first[1]:
        from heedful.data.load import DataSpec, load_demonstrations

        records = load_demonstrations(DataSpec(path, split=split, limit=limit)).records
        return [Document(record.prompt, record.completion) for record in records]
    found = []
    for origin, row in (first, *rows):
        text = row.get("text")
        if not isinstance(text, str):
            raise HeedfulError(f"'text' is {text!r}.", where=str(origin), mend="Every row needs a text.")
        if text.strip():
            found.append(Document(None, text))
        if limit is not None and len(found) == limit:
            break
    return found


def predict(policy: Policy, documents: Sequence[Document], *, window: int = 1024, batch: int = 8) -> Predicted:
    """Score every document. Running text is read in windows one behind another, each predicted from its own second
    token on; an answer after its prompt, up to its end of turn, cut at the window.

    Args:
        window: most tokens read at once; the model's own window where that is less.
        batch: rows a forward pass.

    Raises:
        HeedfulError: no documents, or one whose prompt fills the window.
    """
    import torch

    from heedful.models.modes import evaluating

    if not documents:
        raise HeedfulError("there is no text to predict.", mend="Name another file.")
    rows = _rows(policy, documents, _window(policy, window))
    banned = torch.tensor(policy.banned, dtype=torch.int64)
    nats, counts = np.zeros(len(documents)), np.zeros(len(documents))
    skipped = 0
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][1]))
    with evaluating(policy.model):
        for start in range(0, len(order), batch):
            own = [rows[i] for i in order[start : start + batch]]
            width = max(len(tokens) for _, tokens, _ in own)
            tokens = torch.full((len(own), width), policy.pad, dtype=torch.int64)
            attention = torch.zeros((len(own), width), dtype=torch.bool)
            mask = torch.zeros((len(own), width), dtype=torch.bool)
            for i, (_, ids, asked) in enumerate(own):
                tokens[i, : len(ids)], attention[i, : len(ids)] = torch.tensor(ids), True
                mask[i, : len(ids)] = torch.tensor(asked)
            sayable = mask & ~torch.isin(tokens, banned)
            skipped += int((mask & ~sayable).sum())
            device = policy.device
            logprobs, _ = policy.token_logprobs(tokens.to(device), attention.to(device), sayable.to(device))
            for i, (document, _, _) in enumerate(own):
                nats[document] -= float(logprobs[i].double().sum())
                counts[document] += float(sayable[i].sum())
    sizes = np.array([len(document.text.encode()) for document in documents], dtype=np.float64)
    return Predicted(nats, counts, sizes, skipped)


def perplexity(found: Predicted, *, samples: int = 2_000, seed: int = 0) -> Perplexity:
    """Perplexity and bits per byte of what was predicted.

    Raises:
        HeedfulError: no token could be predicted.
    """
    if not found.tokens.sum() > 0:
        raise HeedfulError("no token of these texts could be predicted.", mend="Give longer texts.")
    per_token = _ratio(found.nats, found.tokens, samples, seed)
    per_byte = _ratio(found.nats, found.bytes, samples, seed)
    return Perplexity(
        perplexity=Interval(*(math.exp(x) for x in (per_token.mean, per_token.low, per_token.high))),
        bits_per_byte=Interval(*(x / math.log(2) for x in (per_byte.mean, per_byte.low, per_byte.high))),
        documents=len(found.nats),
        tokens=int(found.tokens.sum()),
        skipped=found.skipped,
    )


def tax(policy: Predicted, baseline: Predicted, *, samples: int = 2_000, seed: int = 0) -> Interval:
    """By how many bits per byte the policy predicts the same documents worse than the baseline, document by document.

    Raises:
        ValueError: other documents.
    """
    if not np.array_equal(policy.bytes, baseline.bytes):
        raise ValueError("the two have predicted other documents")
    found = _ratio(policy.nats - baseline.nats, policy.bytes, samples, seed)
    return Interval(*(x / math.log(2) for x in (found.mean, found.low, found.high)))


def _ratio(above: Floats, below: Floats, samples: int, seed: int) -> Interval:
    """sum(above) / sum(below), with an interval that resamples documents (none about the mean for a single one)."""
    mean = float(above.sum() / below.sum())
    counts = resampled_counts(len(above), samples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile((counts @ above) / (counts @ below), [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def _window(policy: Policy, window: int) -> int:
    config = policy.model.config.get_text_config(decoder=True)
    return min(window, getattr(config, "max_position_embeddings", None) or window)


def _rows(policy: Policy, documents: Sequence[Document], window: int) -> list[tuple[int, list[int], list[bool]]]:
    """(document, tokens, which of them are predicted), a row a window."""
    from heedful.data.chat import render_completion

    rows = []
    for number, document in enumerate(documents):
        if document.prompt is not None:
            made = render_completion(policy.tokenizer, document.prompt, document.text, max_length=window)
            rows.append((number, made.tokens, made.mask))
            continue
        ids = list(policy.tokenizer(document.text)["input_ids"])
        for start in range(0, len(ids), window):
            part = ids[start : start + window]
            if len(part) > 1:
                rows.append((number, part, [False, *[True] * (len(part) - 1)]))
    return rows
