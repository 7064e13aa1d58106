"""Chat templates by name, and what is pinned in a template that leaves something open.

A template is Jinja text in the dialect of Hugging Face's `apply_chat_template`. What heedful settles is
written into the tokenizer's own template, so that the saved model renders the same way everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import HeedfulError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATES: dict[str, str] = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "plain": (
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] | trim }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ '\\n\\nAssistant: ' + message['content'] | trim + eos_token }}"
        "{% elif message['role'] == 'system' %}{{ '\\n\\nSystem: ' + message['content'] | trim }}"
        "{% else %}{{ '\\n\\nTool: ' + message['content'] | trim }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
    ),
    "raw": (
        "{% for message in messages %}"
        "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% endfor %}"
    ),
}
"""Named templates: `chatml` (needs `<|im_start|>` and `<|im_end|>` in the vocabulary), `plain` (the
`Human:`/`Assistant:` turns of HH-RLHF; needs only an end-of-sequence token) and `raw` (texts end to end)."""

NEEDED_TOKENS = {"chatml": ("<|im_start|>", "<|im_end|>"), "plain": (), "raw": ()}

_PINS = (
    # Reasoning models: without thoughts in the data, an answer begins after the (empty) thoughts.
    (("enable_thinking",), "{%- set enable_thinking = false %}"),
    # Llama 3.1 and 3.2 print today's date otherwise, and a resumed run would render other tokens.
    (("date_string", "strftime_now"), '{%- set date_string = "26 Jul 2024" %}'),
)


def template_text(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The Jinja text that `template` names: "auto" (the tokenizer's own), a key of CHAT_TEMPLATES, or a file.

    Named templates begin with the BOS token where the tokenizer puts one in front of plain text.

    Raises:
        HeedfulError: the tokenizer has no template, the name is unknown, the file cannot be read, or the
            vocabulary lacks a token that the named template needs.
    """
    if template == "auto":
        return _own_template(tokenizer)
    if template in CHAT_TEMPLATES:
        return _named_template(tokenizer, template)
    path = Path(template)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HeedfulError(
                f"cannot read the template ({error}).", where=template, mend="Check the file."
            ) from error
    hint = nearest(template, ["auto", *CHAT_TEMPLATES])
    raise HeedfulError(
        f"there is no chat template {template!r}, and no file of that name. {hint}".strip(),
        mend=f"Choose auto, {', '.join(CHAT_TEMPLATES)}, or a Jinja file.",
    )


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return tokenizer.get_chat_template()
    except (ValueError, AttributeError) as error:
        raise HeedfulError(
            "the tokenizer has no chat template.",
            where=str(tokenizer.name_or_path or "tokenizer"),
            mend="Choose one: --loading.template plain (needs no special tokens), or a Jinja file.",
        ) from error


def _named_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in NEEDED_TOKENS[name] if token not in vocabulary]
    if missing:
        raise HeedfulError(
            f"the template {name!r} needs the tokens {', '.join(missing)}, which the vocabulary lacks.",
            where=str(tokenizer.name_or_path or "tokenizer"),
            mend="Choose --loading.template plain, which needs only an end-of-sequence token.",
        )
    if tokenizer.eos_token is None:
        raise HeedfulError(
            f"the template {name!r} closes answers with the EOS token, and the tokenizer has none.",
            where=str(tokenizer.name_or_path or "tokenizer"),
            mend="Set eos_token in its tokenizer_config.json.",
        )
    text = CHAT_TEMPLATES[name]
    return "{{ bos_token }}" + text if adds_bos(tokenizer) else text


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its BOS token in front of plain text."""
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and list(ids)[:1] == [tokenizer.bos_token_id]


def pinned(text: str) -> str:
    """A template with its open variables settled: thinking off, and a fixed date."""
    head = "".join(pin for names, pin in _PINS if all(name in text for name in names) and not text.startswith(pin))
    return text if head and text.startswith(head) else head + text


def with_opening(text: str, opening: str) -> str:
    """A template whose generation prompt ends with `opening`: what it puts before every answer anyway."""
    return text.removesuffix("\n") + "{% if add_generation_prompt %}{{ " + json.dumps(opening) + " }}{% endif %}"
