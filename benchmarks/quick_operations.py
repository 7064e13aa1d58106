"""What the quick operations on a CPU save, each beside what PyTorch and transformers have, in one run.

    python benchmarks/quick_operations.py

In bfloat16 unless a line says otherwise; one thread, 16 rows of 84 tokens. A figure is the least of the repeats, in
milliseconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.models.llama import modeling_llama as llama

from heedful.models import cpu, kernels
from heedful.models.attention import _Attention, _one_token

ROWS, TOKENS = 16, 84
STOCK = llama.apply_rotary_pos_emb


def least(run: Callable[[], object], repeats: int = 15) -> float:
    """Milliseconds."""
    for _ in range(3):
        run()
    found = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - start)
    return 1e3 * found


def show(name: str, stock: Callable[[], object], ours: Callable[[], object]) -> None:
    """One line: stock, ours, and how many times as fast."""
    before, after = least(stock), least(ours)
    print(f"{name:<56} {before:8.2f} {after:8.2f} {before / after:6.1f}")


def drawn(*shape: int, learns: bool = True) -> Tensor:
    """Random bfloat16 numbers."""
    return torch.randn(*shape).bfloat16().requires_grad_(learns)


def attention(heads: int, size: int, tokens: int) -> None:
    """Forward and backward."""
    rows = max(1, ROWS * TOKENS // tokens)
    q, k, v, g = (drawn(rows, tokens, heads, size, learns=n < 3) for n in range(4))
    q, k, v, g = (x.transpose(1, 2) for x in (q, k, v, g))
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    show(
        f"attention, {tokens} tokens, {heads} heads of {size}",
        lambda: scaled_dot_product_attention(q, k, v, is_causal=True).backward(g),
        lambda: _Attention.apply(q, k, v, None, size**-0.5).backward(g),
    )


def one_token(heads: int, groups: int, size: int, keys: int, dtype: torch.dtype) -> None:
    """A sampled token's attention: heads may share keys and values, which lie in a buffer with room ahead."""
    q = torch.randn(37, heads, 1, size).to(dtype)
    k, v = (torch.randn(37, groups, keys + 20, size).to(dtype)[:, :, :keys] for _ in range(2))
    seen = torch.ones(37, 1, 1, keys, dtype=torch.bool)
    each = heads // groups
    show(
        f"{str(dtype)[6:]}, a token on {keys} keys, {heads} heads on {groups} of {size}",
        lambda: scaled_dot_product_attention(q, repeat_kv(k, each), repeat_kv(v, each), seen),
        lambda: _one_token(q, k, v, seen, size**-0.5),
    )


def norm(width: int) -> None:
    """Forward and backward."""
    stock = llama.LlamaRMSNorm(width).bfloat16()
    quick = copy.deepcopy(stock)
    kernels.install(quick)
    states, gradient = drawn(ROWS, TOKENS, width), drawn(ROWS, TOKENS, width, learns=False)
    show(f"norm, width {width}", lambda: stock(states).backward(gradient), lambda: quick(states).backward(gradient))


def rotation(heads: int, size: int) -> None:
    """Forward and backward, of queries and keys."""
    q, k = (drawn(ROWS, TOKENS, heads, size).detach().transpose(1, 2).requires_grad_() for _ in range(2))
    cos, sin = (drawn(1, TOKENS, size, learns=False) for _ in range(2))
    gradients = [drawn(ROWS, TOKENS, heads, size, learns=False).transpose(1, 2)] * 2
    quick = kernels._quick_rotation(STOCK)

    def run(rotate: kernels.Rotate) -> None:
        torch.autograd.backward(list(rotate(q, k, cos, sin)), gradients)

    show(f"rotation, {heads} heads of {size}", lambda: run(STOCK), lambda: run(quick))


def packed(width: int, out: int, rows: int) -> None:
    """One product without gradients, over weights enough that they do not all stay in the cache."""
    weights = [drawn(out, width, learns=False) for _ in range(16)]
    laid_out = [torch.ops.mkldnn._reorder_linear_weight(weight, None) for weight in weights]
    states = drawn(rows, width, learns=False)
    with torch.no_grad():
        show(
            f"16 products of {rows} rows, {width} by {out}",
            lambda: [linear(states, weight) for weight in weights],
            lambda: [kernels._multiply(weight, None, states) for weight in laid_out],
        )


def shapes() -> None:
    """A product of a shape that has not been seen, and of one that has."""
    weight = drawn(512, 192, learns=False)
    new, known = [], []
    for rows in range(1301, 1320):
        states = drawn(rows, 192, learns=False)
        for times in (new, known):
            start = time.perf_counter()
            linear(states, weight)
            times.append(time.perf_counter() - start)
    before, after = 1e3 * min(new), 1e3 * min(known)
    print(f"{'a product of a new shape, and of a known one':<56} {before:8.2f} {after:8.2f} {before / after:6.1f}")


def main() -> None:
    """Print the table."""
    cpu.prepare()
    torch.set_num_threads(1)
    print(f"{'':<56} {'stock':>8} {'ours':>8} {'gain':>6}")
    for keys in (60, 300):
        for heads, groups, size in ((6, 6, 32), (6, 3, 32), (14, 2, 64), (32, 8, 128)):
            for dtype in (torch.float32, torch.bfloat16):
                one_token(heads, groups, size, keys, dtype)
    for tokens in (32, 64, 128, 256, 512, 1024):
        attention(6, 32, tokens)
    attention(8, 64, 64)
    norm(192)
    norm(512)
    rotation(6, 32)
    rotation(8, 64)
    packed(192, 512, 64)
    packed(512, 1408, 64)
    packed(512, 8192, 64)
    shapes()


if __name__ == "__main__":
    main()
