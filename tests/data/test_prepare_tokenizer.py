"""Settling template and pad token: what works, and what is refused with its mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizer_families import CHATML, LLAMA3, QWEN3, _llama_like, gpt2, llama3, qwen, qwen_base, words

from heedful.data.chat import chat_format, prepare_tokenizer, render_completion, render_prompt
from heedful.data.records import Message
from heedful.errors import HeedfulError

QUESTION = (Message("user", "hi"),)
TEXT_END = "{% for m in messages %}{{ m.content + ('### End' if m.role == 'assistant' else '') }}{% endfor %}"


def test_no_template_names_the_mend() -> None:
    with pytest.raises(HeedfulError, match=r"no chat template.*--loading.template plain"):
        prepare_tokenizer(gpt2())


def test_unknown_template_names_the_nearest() -> None:
    with pytest.raises(HeedfulError, match=r"no chat template 'chatmll'.*Did you mean 'chatml'"):
        prepare_tokenizer(gpt2(), template="chatmll")


def test_chatml_needs_its_tokens() -> None:
    with pytest.raises(HeedfulError, match=r"needs the tokens <\|im_start\|>, <\|im_end\|>.*plain"):
        prepare_tokenizer(gpt2(), template="chatml")
    tokenizer = prepare_tokenizer(qwen(template=QWEN3), template="chatml")
    rendered = render_completion(tokenizer, QUESTION, "yes")
    assert tokenizer.decode(rendered.tokens) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>"


def test_template_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(
        "{% for m in messages %}{{ '[' + m.role + '] ' + m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    tokenizer = prepare_tokenizer(gpt2(), template=str(file))
    assert tokenizer.decode(render_prompt(tokenizer, QUESTION)) == "[user] hi[assistant]"
    rendered = render_completion(tokenizer, QUESTION, "yes")
    assert tokenizer.decode(rendered.tokens) == "[user] hi[assistant] yes<|endoftext|>"
    assert tokenizer.decode(rendered.tokens[rendered.prompt_length :]) == " yes<|endoftext|>"


def test_plain_writes_bos_where_the_tokenizer_would() -> None:
    tokenizer = prepare_tokenizer(_llama_like(None, "first"), template="plain")
    tokens = render_prompt(tokenizer, QUESTION)
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert tokens[0] == tokenizer.bos_token_id
    assert prepare_tokenizer(gpt2(), template="plain").bos_token_id not in render_prompt(gpt2_plain(), QUESTION)


def gpt2_plain():  # type: ignore[no-untyped-def]
    return prepare_tokenizer(gpt2(), template="plain")


def test_missing_pad_is_refused_and_a_spare_token_named() -> None:
    tokenizer = llama3()
    tokenizer.pad_token = None
    with pytest.raises(HeedfulError, match=r"no pad token.*--loading.pad-token '<\|pad\|>' \(in the vocabulary"):
        prepare_tokenizer(tokenizer)
    tokenizer = prepare_tokenizer(tokenizer, pad_token="<|pad|>")
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.convert_ids_to_tokens(tokenizer.pad_token_id) == "<|pad|>"


def test_a_pad_token_that_is_new_is_added() -> None:
    tokenizer = gpt2()
    before = len(tokenizer)
    prepare_tokenizer(tokenizer, template="plain", pad_token="<filler>")
    assert len(tokenizer) == before + 1
    assert tokenizer.pad_token_id == before


def test_pad_that_ends_a_turn_is_refused() -> None:
    tokenizer = gpt2()
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(HeedfulError, match=r"'<\|endoftext\|>' also ends an answer.*--loading.pad-token '<pad>'"):
        prepare_tokenizer(tokenizer, template="plain")


def test_pad_that_is_the_unknown_word_is_refused() -> None:
    tokenizer = words()
    tokenizer.pad_token = "<unk>"
    with pytest.raises(HeedfulError, match="stands for unknown words"):
        prepare_tokenizer(tokenizer)


def test_pad_equal_to_eos_is_fine_when_turns_end_otherwise() -> None:
    """As in Qwen's base models; EOS then becomes the token that ends a turn."""
    tokenizer = qwen_base()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    prepare_tokenizer(tokenizer)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_the_date_is_pinned_and_said() -> None:
    tokenizer = prepare_tokenizer(llama3())
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(render_prompt(tokenizer, QUESTION))
    assert any("26 Jul 2024" in note for note in chat_format(tokenizer).notes())
    assert any("enable_thinking" in note for note in chat_format(prepare_tokenizer(qwen(QWEN3))).notes())
    assert not any("pinned" in note for note in chat_format(prepare_tokenizer(qwen())).notes())


def test_preparing_twice_changes_nothing_more() -> None:
    for tokenizer in (qwen(QWEN3), llama3(), gpt2()):
        template = "auto" if tokenizer.chat_template else "plain"
        once = prepare_tokenizer(tokenizer, template=template).chat_template
        assert prepare_tokenizer(tokenizer).chat_template == once


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            TEXT_END,
            "closes an answer with the text '### End'",
        ),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "drops the assistant's answer"),
        (CHATML.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}"), "its generation prompt ends with"),
        ("{{ bos_token }}" + LLAMA3, "writes the BOS token twice"),
        (
            "{% for m in messages %}{{ '#' ~ loop.index if m.role == 'assistant' else '' }}{{ m.content }}{% endfor %}",
            "later answers begin with '#4', first ones with '#2'",
        ),
        ("{% for m in messages %}{{ m.content }", "refuses a conversation"),
    ],
)
def test_templates_that_cannot_be_trained_with(template: str, said: str) -> None:
    tokenizer = llama3() if "bos_token" in template else qwen()
    tokenizer.chat_template = template
    with pytest.raises(HeedfulError) as caught:
        prepare_tokenizer(tokenizer)
    assert said in caught.value.what
    assert caught.value.mend


def test_a_template_without_end_of_turn_ends_with_eos() -> None:
    tokenizer = gpt2()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    tokenizer = prepare_tokenizer(tokenizer)
    rendered = render_completion(tokenizer, QUESTION, "yes")
    assert tokenizer.decode(rendered.tokens) == "user: hi\nassistant: yes<|endoftext|>"
    assert tokenizer.decode(rendered.tokens[rendered.prompt_length :]) == "yes<|endoftext|>"
