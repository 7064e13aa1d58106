"""Configurations of published models, written out, with the parameters that they are published with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192}
_QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 32_768}
_QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 40_960}


def _shape(kind: dict[str, Any], vocabulary: int, hidden: int, inner: int, layers: int, heads: int, groups: int,
           tied: bool, head_dim: int | None = None) -> dict[str, Any]:  # fmt: skip
    shape = kind | {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "tie_word_embeddings": tied,
    }
    return shape if head_dim is None else shape | {"head_dim": head_dim}


SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "Qwen2.5-0.5B": (_shape(_QWEN2, 151_936, 896, 4864, 24, 14, 2, True), 494_032_768),
    "Qwen3-0.6B": (_shape(_QWEN3, 151_936, 1024, 3072, 28, 16, 8, True, 128), 596_049_920),
    "Llama-3.2-1B": (_shape(_LLAMA, 128_256, 2048, 8192, 16, 32, 8, True), 1_235_814_400),
    "Qwen2.5-1.5B": (_shape(_QWEN2, 151_936, 1536, 8960, 28, 12, 2, True), 1_543_714_304),
    "Qwen2.5-3B": (_shape(_QWEN2, 151_936, 2048, 11_008, 36, 16, 2, True), 3_085_938_688),
    "Llama-3.2-3B": (_shape(_LLAMA, 128_256, 3072, 8192, 28, 24, 8, True), 3_212_749_824),
    "Llama-2-7B": (_shape(_LLAMA, 32_000, 4096, 11_008, 32, 32, 32, False), 6_738_415_616),
    "Qwen2.5-7B": (_shape(_QWEN2, 152_064, 3584, 18_944, 28, 28, 4, False), 7_615_616_512),
    "Llama-3.1-8B": (_shape(_LLAMA, 128_256, 4096, 14_336, 32, 32, 8, False), 8_030_261_248),
    "Qwen3-8B": (_shape(_QWEN3, 151_936, 4096, 12_288, 36, 32, 8, False, 128), 8_190_735_360),
    "Llama-2-13B": (_shape(_LLAMA, 32_000, 5120, 13_824, 40, 40, 40, False), 13_015_864_320),
    "Qwen2.5-14B": (_shape(_QWEN2, 152_064, 5120, 13_824, 48, 40, 8, False), 14_770_033_664),
    "Qwen2.5-32B": (_shape(_QWEN2, 152_064, 5120, 27_648, 64, 40, 8, False), 32_763_876_352),
    "Llama-3.1-70B": (_shape(_LLAMA, 128_256, 8192, 28_672, 80, 64, 8, False), 70_553_706_496),
    "Qwen2.5-72B": (_shape(_QWEN2, 152_064, 8192, 29_568, 80, 64, 8, False), 72_706_203_648),
}
"""By name: the configuration, and the parameters that its model card or index of weights states."""


def write_shape(folder: Path, name: str, **over: Any) -> Path:
    """A folder that holds a model's configuration alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[name][0] | over))
    return folder
