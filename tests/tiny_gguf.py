"""A language model of a few thousand weights in llama.cpp's format, written by the `gguf` package.

It answers a chat with one of the letters A, B and C, by what was asked, and closes every text of JSON at once. Run it
with the interpreter that has `gguf`; heedful's own needs it not:

    python tests/tiny_gguf.py model.gguf
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

WIDTH, HEADS, CONTEXT = 64, 2, 8192
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
BYTES = [f"<0x{number:02X}>" for number in range(256)]
CHARACTERS = ["▁", *(chr(code) for code in range(33, 127))]
TOKENS = [UNKNOWN, BEGIN, END, *BYTES, *CHARACTERS]
NORMAL, UNKNOWN_TYPE, CONTROL, BYTE = 1, 2, 3, 6
"""Types of tokens, as llama.cpp numbers them."""
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
AFTER_COLON, AFTER_LETTER, AFTER_OTHER = 0, 1, 2
"""Places of a token's vector that say which kind it is."""
LETTERS = ("A", "B", "C")
BLANK = ("▁", "<0x20>", "<0x0A>", "<0x09>", "<0x0D>")


def _weights() -> dict[str, Any]:
    import numpy as np

    draw = np.random.default_rng(7)

    def normal(*shape: int, spread: float) -> Any:
        return (draw.normal(size=shape) * spread).astype(np.float32)

    place = {token: number for number, token in enumerate(TOKENS)}
    embedding = normal(len(TOKENS), WIDTH, spread=0.3)
    embedding[:, : AFTER_OTHER + 1] = 0
    embedding[:, AFTER_OTHER] = 8
    for tokens, kind in (((":",), AFTER_COLON), (LETTERS, AFTER_LETTER)):
        for token in tokens:
            embedding[place[token], AFTER_OTHER], embedding[place[token], kind] = 0, 8
    head = normal(len(TOKENS), WIDTH, spread=0.05)
    head[:, : AFTER_OTHER + 1] = 0
    leaning = normal(WIDTH, spread=0.4)
    leaning[: AFTER_OTHER + 1] = 0
    for letter, often, lean in (("A", 1.0, 1), ("B", 1.0, -1), ("C", 0.8, 0)):
        head[place[letter], AFTER_COLON] = often
        head[place[letter]] += lean * leaning
    head[place[END], AFTER_LETTER], head[place['"'], AFTER_LETTER] = 1.2, 0.6
    head[place['"'], AFTER_OTHER] = 1.2
    for token in BLANK:
        head[place[token], : AFTER_OTHER + 1] = -1
    ones = np.ones(WIDTH, dtype=np.float32)
    square = (WIDTH, WIDTH)
    return {
        "token_embd.weight": embedding,
        "blk.0.attn_norm.weight": ones,
        "blk.0.attn_q.weight": normal(*square, spread=0.2),
        "blk.0.attn_k.weight": normal(*square, spread=0.2),
        "blk.0.attn_v.weight": normal(*square, spread=0.2),
        "blk.0.attn_output.weight": normal(*square, spread=0.1),
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": normal(*square, spread=0.05),
        "blk.0.ffn_up.weight": normal(*square, spread=0.05),
        "blk.0.ffn_down.weight": normal(*square, spread=0.05),
        "output_norm.weight": ones,
        "output.weight": head,
    }


def write(path: Path) -> None:
    """Write the model."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny judge")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    kinds = {UNKNOWN: UNKNOWN_TYPE, BEGIN: CONTROL, END: CONTROL} | dict.fromkeys(BYTES, BYTE)
    writer.add_token_types([kinds.get(token, NORMAL) for token in TOKENS])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in _weights().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
