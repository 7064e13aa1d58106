"""What a step needs at least: operations of its products and attention; bytes of its weights and of AdamW's state."""

from __future__ import annotations

import random

from work import LENGTHS, LONGEST_ANSWER, SHAPES, Work


def layer_weights(work: Work) -> int:
    """Weights in the matrix products of all layers."""
    shape = SHAPES[work.size]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    halved = work.family == "qwen2" and work.size in ("2.5m", "30m")
    share = shape["num_key_value_heads"] / shape["num_attention_heads"] / (2 if halved else 1)
    return round(shape["num_hidden_layers"] * (width * width * (2 + 2 * share) + 3 * width * inner))


def head_weights(work: Work) -> int:
    """Weights of the head, which are the embedding's."""
    return SHAPES[work.size]["hidden_size"] * SHAPES[work.size]["vocab_size"]


def trained_weights(work: Work) -> int:
    """Weights that AdamW moves in a step, adapters and norms left out."""
    if work.lora or work.kind == "generate":
        return 0
    return (layer_weights(work) + head_weights(work)) * (2 if work.kind == "ppo" else 1)


def mean_lengths(work: Work) -> tuple[float, float, float]:
    """Of one row, in the mean: tokens of the prompt, of the answer, and the square of both together."""
    draw, (of_prompts, of_answers) = random.Random(0), LENGTHS[work.lengths]
    rows = [(draw.randint(*of_prompts), draw.randint(*of_answers)) for _ in range(20_000)]
    count = len(rows)
    return (
        sum(p for p, _ in rows) / count,
        sum(a for _, a in rows) / count,
        sum((p + a) ** 2 for p, a in rows) / count,
    )


def tokens_of_step(work: Work) -> float:
    """Tokens of a step in the mean: prompts with answers, each row counted once; answers alone to generate."""
    prompt, answer, _ = mean_lengths(work)
    rows = work.rows * (2 if work.kind in ("dpo", "reward") else 1)
    return rows * (answer if work.kind == "generate" else prompt + answer)


def floor_seconds(work: Work, rates: dict[str, float]) -> float:
    """The shortest time of a step at given rates: products ("train", "decode", operations a second), bytes ("traffic").

    Sampling, and all the rest, each take the longer of their operations and their bytes. Sampling reads all weights
    once a token; AdamW reads a weight, its gradient and two moments, and writes three of them, all in float32.

    A forward pass is two operations a weight and token, and a backward pass four. Attention sees half of the square of
    a row's length. The head runs at answers alone. Log-probabilities of samples are the sampler's own, a prompt is read
    once for all of its answers, values of a shared trunk are read off the sampler's states, and each token is sampled
    by one pass.
    """
    prompt, answer, square = mean_lengths(work)
    width, layers = SHAPES[work.size]["hidden_size"], SHAPES[work.size]["num_hidden_layers"]
    samples = work.samples if work.kind in ("rloo", "grpo") else 1
    rows = work.rows * (2 if work.kind in ("dpo", "reward") else 1)
    shared = 2 if work.kind in ("dpo", "reward") else samples
    tokens = rows * (prompt / shared + answer)
    trunk = 2 * tokens * layer_weights(work) + 4 * rows * square / 2 * width * layers
    head = 2 * rows * answer * head_weights(work)
    numbers = layer_weights(work) + head_weights(work)
    read = LONGEST_ANSWER * numbers * (2 if work.precision == "bfloat16" else 4)
    generation = max((trunk + head) / rates["decode"], read / rates["traffic"])
    passes = {
        "sft": 3 * (trunk + head),
        "reward": 3 * trunk,
        "dpo": (3 if work.cached_reference else 4) * (trunk + head),
        "ppo": (1 + 3 * work.epochs) * (trunk + head) + (2 + 3 * work.epochs) * trunk,
        "ppo_shared": (1 + 3 * work.epochs) * (trunk + head) + trunk,
        "rloo": (1 + 3 * work.epochs) * (trunk + head) + trunk,
        "grpo": (1 + 3 * work.epochs) * (trunk + head) + trunk,
        "generate": 0.0,
    }[work.kind]
    learning = max(passes / rates["train"], 7 * 4 * trained_weights(work) / rates["traffic"])
    return learning + (generation if work.online or work.kind == "generate" else 0.0)
