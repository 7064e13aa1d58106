"""Small tokenizers of the families that people train, each with a chat template of its family's shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

CORPUS = [
    "what is the capital of france? the capital of france is paris.",
    "please tell me how to bake bread.  sure: mix flour, water, salt and yeast, then wait.\n\nbake it.",
    "Hello there! Question, answer, reply, first: yes, no. The sky is blue (not green); 1, 2, 3.",
    "Mix [INST] [/INST] <<SYS>> <</SYS>> <|user|> <|end_of_turn|> B T",
    "user assistant system model Human: Assistant: \n\nHuman: hi\n\nAssistant: hello\n",
    "Ça va? été, naïve café — “quoted” … 日本語 ☃",
] * 3

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN3 = (
    "{%- set ns = namespace(last=0) %}{%- for message in messages %}"
    "{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- if message.role == 'assistant' %}"
    "{%- set content = message.content %}{%- set thoughts = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{%- if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
ALWAYS_THINKS = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content + '<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}\n"
)
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}'
    "{%- endif %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{{- 'Today Date: ' + date_string + '\\n\\n' }}"
    "{{- system }}{{- '<|eot_id|>' }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
TULU = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% if not loop.last %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% else %}{{ '<|assistant|>\\n' + message['content'] + eos_token }}{% endif %}"
    "{% else %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}"
)


@functools.cache
def _byte_level(special: tuple[str, ...], vocabulary: int = 400) -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend.to_str()


@functools.cache
def _sentencepiece(special: tuple[str, ...], prepend: str) -> str:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)
    backend.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme=prepend, split=False)])
    trainer = trainers.UnigramTrainer(
        vocab_size=320,
        special_tokens=["<unk>", *special],
        unk_token="<unk>",
        initial_alphabet=sorted(set("".join(CORPUS)) - {" "}),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend.to_str()


def _fast(source: str, template: str | None, *, adds_bos: bool = False, **tokens: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(source)
    if adds_bos:
        bos = tokens["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)
    made.chat_template = template
    return made


def gpt2() -> PreTrainedTokenizerFast:
    """Byte-level BPE without a template; BOS and EOS are one token."""
    source = _byte_level(("<|endoftext|>", "<pad>"))
    return _fast(source, None, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<pad>")


def qwen(template: str = CHATML) -> PreTrainedTokenizerFast:
    source = _byte_level(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    made = _fast(source, template, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return made


def qwen_base() -> PreTrainedTokenizerFast:
    """As the base models of the family: pad and EOS are one token, the turn ends with another."""
    made = qwen()
    made.eos_token = "<|endoftext|>"
    return made


def llama3() -> PreTrainedTokenizerFast:
    special = (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|pad|>",
    )
    return _fast(
        _byte_level(special),
        LLAMA3,
        adds_bos=True,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|pad|>",
    )


def gemma() -> PreTrainedTokenizerFast:
    source = _sentencepiece(("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "never")
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _fast(source, GEMMA, adds_bos=True, **tokens)


def _llama_like(template: str | None, prepend: str, special: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    source = _sentencepiece(("<s>", "</s>", "<pad>", *special), prepend)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _fast(source, template, adds_bos=True, **tokens)


def phi3() -> PreTrainedTokenizerFast:
    made = _llama_like(PHI3, "first")
    names = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    made.add_special_tokens(
        {"additional_special_tokens": [AddedToken(name, rstrip=True, special=True) for name in names]}
    )
    return made


def tulu() -> PreTrainedTokenizerFast:
    """GPT-NeoX's and OLMo's family: byte-level BPE, `<|user|>` headers in plain text, EOS ends a turn."""
    source = _byte_level(("<|endoftext|>", "<|padding|>"))
    return _fast(source, TULU, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|padding|>")


def words() -> PreTrainedTokenizerFast:
    vocabulary = ["<pad>", "<bos>", "<eos>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>"]
    vocabulary += sorted(set(" ".join(CORPUS).lower().split()) | {"question", "reply", "first", "heedfulprobe"})
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>"]})
    made.chat_template = template
    return made


FAMILIES: dict[str, tuple[Callable[[], Any], str]] = {
    "gpt2-plain": (gpt2, "plain"),
    "gpt2-raw": (gpt2, "raw"),
    "qwen": (qwen, "auto"),
    "qwen-base": (qwen_base, "auto"),
    "qwen3": (lambda: qwen(QWEN3), "auto"),
    "thinker": (lambda: qwen(ALWAYS_THINKS), "auto"),
    "llama3": (llama3, "auto"),
    "gemma": (gemma, "auto"),
    "llama2": (lambda: _llama_like(LLAMA2, "first"), "auto"),
    "llama2-legacy": (lambda: _llama_like(LLAMA2, "always"), "auto"),
    "llama-base-plain": (lambda: _llama_like(None, "first"), "plain"),
    "llama-base-raw": (lambda: _llama_like(None, "first"), "raw"),
    "mistral": (lambda: _llama_like(MISTRAL, "always", ("[INST]", "[/INST]")), "auto"),
    "zephyr": (lambda: _llama_like(ZEPHYR, "first"), "auto"),
    "phi3": (phi3, "auto"),
    "tulu": (tulu, "auto"),
    "words": (words, "auto"),
    "byt5-plain": (ByT5Tokenizer, "plain"),
}
