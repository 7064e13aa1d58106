"""Small random models of eight architectures and a small chat tokenizer: what every stage must go through.

Tests of any package import this module (`tests/` is on the path). Nothing here is downloaded.
"""

from __future__ import annotations

from typing import Any

VOCABULARY = 64
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>")
WORDS = (
    "the a red blue green sky sea sun cat dog bird is are was not yes no please thank you hello what why "
    "how where who tell me about it big small good bad very fine day night can will do and or but one two"
).split()
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] "
    "+ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_architectures(vocab_size: int = VOCABULARY) -> dict[str, dict[str, Any]]:
    """Configuration arguments by name, `model_type` included; each a model of some ten thousand weights.

    Between them: grouped and plain attention, tied and untied embeddings, a sliding window shorter than a
    usual test sequence (Mistral, Gemma 3), a head bias (Phi), a logit soft-cap (Gemma 3), learned positions
    (GPT-2), fused query-key-value weights (GPT-NeoX, GPT-2), Conv1D layers (GPT-2), norms after (OLMo 2).
    """
    ids = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    common = ids | {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    }
    grouped = common | {"num_key_value_heads": 2}
    return {
        "llama": grouped | {"model_type": "llama"},
        "qwen3": grouped | {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True},
        "gemma3": grouped
        | {
            "model_type": "gemma3_text",
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
            "final_logit_softcapping": 3.0,
            "tie_word_embeddings": True,
        },
        "mistral": grouped | {"model_type": "mistral", "sliding_window": 6, "head_dim": 8},
        "phi": common | {"model_type": "phi", "partial_rotary_factor": 0.5},
        "gpt2": ids
        | {
            "model_type": "gpt2",
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 48,
            "n_positions": 128,
            "initializer_range": 0.2,
        },
        "gpt_neox": common | {"model_type": "gpt_neox", "rotary_pct": 0.5, "tie_word_embeddings": False},
        "olmo2": grouped | {"model_type": "olmo2"},
    }


def tiny_tokenizer() -> Any:
    """A WordLevel `PreTrainedTokenizerFast` with a chat template; `<pad>` 0, `<bos>` 1, `<eos>` 2 all differ.

    Texts are lower-case words of `WORDS` between spaces; `<eos>` ends every turn. It has fewer tokens than
    `VOCABULARY`, so a model of that size has rows that no token uses.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
