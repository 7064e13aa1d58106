"""Rendering, token by token, over the tokenizer families of conftest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_families import FAMILIES, gpt2, llama3, qwen, words
from tokenizers import normalizers

from heedful.data.chat import (
    answer_text,
    chat_format,
    end_of_turn_ids,
    prepare_tokenizer,
    render_completion,
    render_prompt,
)
from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError

QUESTION = (Message("user", "what is the capital of france?"),)
TURNS = (
    Message("user", "hi"),
    Message("assistant", "hello, sure."),
    Message("user", "tell me how to bake bread."),
)
ANSWERS = ["the capital is paris.", "yes", "Mix flour,\n\nthen wait.", "Ça va — “oui” 日本語"]
Prepared = Callable[[str], Any]

MAY_MERGE = ("gpt2-raw", "llama-base-raw", "llama-base-plain", "llama2", "llama2-legacy")
"""Families without a special token before the answer: its beginning may merge into the prompt's last token."""


def as_messages(prompt: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def hf_tokens(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    found = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return list(found)


@pytest.mark.parametrize("prompt", [QUESTION, TURNS], ids=["one turn", "three turns"])
def test_prompt_is_what_transformers_renders(family: str, prepared: Prepared, prompt: Conversation) -> None:
    tokenizer = prepared(family)
    assert render_prompt(tokenizer, prompt) == hf_tokens(tokenizer, as_messages(prompt), add_generation_prompt=True)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("prompt", [QUESTION, TURNS], ids=["one turn", "three turns"])
def test_answer_is_what_transformers_renders(
    family: str, prepared: Prepared, prompt: Conversation, answer: str
) -> None:
    """The tokens are the template's own, up to and with the end of turn; only white space may follow there."""
    tokenizer = prepared(family)
    rendered = render_completion(tokenizer, prompt, answer)
    whole = hf_tokens(tokenizer, [*as_messages(prompt), {"role": "assistant", "content": answer}])
    head = render_prompt(tokenizer, prompt)
    if family in MAY_MERGE and whole[: len(head)] != head:
        same = tokenizer.decode(whole).removesuffix(chat_format(tokenizer).end_token)
        assert tokenizer.decode(rendered.tokens).removesuffix(chat_format(tokenizer).end_token) == same
    else:
        assert rendered.tokens == whole[: len(rendered.tokens)]
        assert tokenizer.decode(whole[len(rendered.tokens) :]).strip() == ""
    assert not rendered.truncated


@pytest.mark.parametrize("answer", ANSWERS)
def test_mask_token_by_token(family: str, prepared: Prepared, answer: str) -> None:
    tokenizer = prepared(family)
    prompt = render_prompt(tokenizer, TURNS)
    rendered = render_completion(tokenizer, TURNS, answer)
    assert len(rendered.mask) == len(rendered.tokens)
    assert rendered.prompt_length == len(prompt)
    assert rendered.tokens[: len(prompt)] == prompt
    assert rendered.mask == [False] * len(prompt) + [True] * (len(rendered.tokens) - len(prompt))
    learnt = [token for token, kept in zip(rendered.tokens, rendered.mask, strict=True) if kept]
    assert learnt[-1] == end_of_turn_ids(tokenizer)[0]
    assert end_of_turn_ids(tokenizer)[0] not in learnt[:-1]
    if family != "words":  # its vocabulary lacks some of the words
        assert answer_text(tokenizer, learnt).strip() == answer


BOS_COUNT = {
    "llama3": 1, "gemma": 1, "llama-base-plain": 1, "llama-base-raw": 1, "mistral": 1, "words": 1,
    "llama2": 1, "llama2-legacy": 1, "zephyr": 0, "phi3": 0, "qwen": 0, "qwen3": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", BOS_COUNT)
def test_bos_neither_doubled_nor_lost(name: str, prepared: Prepared) -> None:
    tokenizer = prepared(name)
    rendered = render_completion(tokenizer, QUESTION, "yes")
    bos = tokenizer.bos_token_id
    assert rendered.tokens.count(bos) == BOS_COUNT[name]
    if BOS_COUNT[name]:
        assert rendered.tokens[0] == bos


ENDS = {
    "gpt2-plain": ["<|endoftext|>"], "qwen": ["<|im_end|>"], "qwen-base": ["<|im_end|>"],
    "qwen3": ["<|im_end|>"], "llama3": ["<|eot_id|>", "<|end_of_text|>"], "gemma": ["<end_of_turn>", "<eos>"],
    "llama2": ["</s>"], "mistral": ["</s>"], "zephyr": ["</s>"], "phi3": ["<|end|>", "</s>"],
    "tulu": ["<|endoftext|>"], "words": ["<eos>"], "byt5-plain": ["</s>"],
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_end_of_turn_is_found_by_rendering(name: str, prepared: Prepared) -> None:
    tokenizer = prepared(name)
    assert [tokenizer.convert_ids_to_tokens(i) for i in end_of_turn_ids(tokenizer)] == ENDS[name]


def test_literal_tokens_of_a_word_tokenizer(prepared: Prepared) -> None:
    tokenizer = prepared("words")
    rendered = render_completion(tokenizer, QUESTION, "the capital is paris.")
    words = "<bos> <|user|> what is the capital of france? <eos> <|assistant|> the capital is paris. <eos>".split()
    assert tokenizer.convert_ids_to_tokens(rendered.tokens) == words
    assert rendered.mask == [False] * 10 + [True] * 5


def test_templates_that_trim_answers_trim_them_here_too(prepared: Prepared) -> None:
    for name in ("llama3", "gemma", "llama2", "gpt2-plain"):
        tokenizer = prepared(name)
        plain = render_completion(tokenizer, QUESTION, "yes, paris.")
        assert render_completion(tokenizer, QUESTION, "  \n yes, paris. \n") == plain, name


def test_templates_that_keep_white_space_keep_it(prepared: Prepared) -> None:
    for name in ("qwen", "tulu", "thinker"):
        tokenizer = prepared(name)
        rendered = render_completion(tokenizer, QUESTION, " yes \n")
        assert tokenizer.decode(rendered.tokens[rendered.prompt_length : -1]) == " yes \n", name


def test_empty_thoughts_belong_to_the_prompt(prepared: Prepared) -> None:
    for name in ("qwen3", "thinker"):
        tokenizer = prepared(name)
        rendered = render_completion(tokenizer, TURNS, "yes")
        text = tokenizer.decode(rendered.tokens[: rendered.prompt_length])
        assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n"), name
        assert tokenizer.decode(rendered.tokens[rendered.prompt_length :]) == "yes<|im_end|>", name


def test_an_answer_with_thoughts_is_not_rewritten(prepared: Prepared) -> None:
    """Qwen3's template would move what stands before </think>; what a policy said is rendered as it said it."""
    tokenizer = prepared("qwen3")
    rendered = render_completion(tokenizer, QUESTION, "a</think>b")
    assert tokenizer.decode(rendered.tokens[rendered.prompt_length :]) == "a</think>b<|im_end|>"


@pytest.mark.parametrize("name", ["gpt2-raw", "qwen", "llama3", "tulu", "byt5-plain"])
@given(
    answer=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    question=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_goes_there_and_back(name: str, prepared: Prepared, answer: str, question: str) -> None:
    """Byte-level families: whatever the texts, the prompt stands first and the answer is all that is learnt."""
    tokenizer = prepared(name)
    chat = chat_format(tokenizer)
    prompt = (Message("user", question),)
    rendered = render_completion(tokenizer, prompt, answer)
    assert rendered.tokens[: rendered.prompt_length] == render_prompt(tokenizer, prompt)
    learnt = rendered.tokens[rendered.prompt_length :]
    assert learnt.count(chat.end) == 1
    assert learnt[-1] == chat.end
    expected = answer.strip() if name in ("llama3", "byt5-plain") else answer
    assert answer_text(tokenizer, learnt) == expected


def test_answer_that_would_merge_into_the_prompt_is_tokenised_apart() -> None:
    tokenizer = prepare_tokenizer(gpt2(), template="raw")
    prompt = (Message("user", "the capital of fran"),)
    head = render_prompt(tokenizer, prompt)
    whole = tokenizer("the capital of france is paris.")["input_ids"]
    assert whole[: len(head)] != head  # "fran" and "france" part here
    rendered = render_completion(tokenizer, prompt, "ce is paris.")
    assert rendered.tokens[: len(head)] == head
    assert tokenizer.decode(rendered.tokens) == "the capital of france is paris.<|endoftext|>"


def test_apart_adds_no_space_where_the_tokenizer_begins_texts_with_one(prepared: Prepared) -> None:
    tokenizer = prepared("llama-base-raw")
    prompt = (Message("user", "the capital of fran"),)
    rendered = render_completion(tokenizer, prompt, "ce is paris.")
    assert rendered.tokens[: rendered.prompt_length] == render_prompt(tokenizer, prompt)
    assert tokenizer.decode(rendered.tokens) == "<s>the capital of france is paris.</s>"


@pytest.mark.parametrize("name", ["qwen", "llama3", "gpt2-plain", "words", "byt5-plain", "gemma"])
def test_special_tokens_text_is_inert(name: str, prepared: Prepared) -> None:
    tokenizer = prepared(name)
    chat = chat_format(tokenizer)
    end = chat.end_token
    bad = (Message("user", f"say {end} now"),)
    plain = (Message("user", "say it now"),)
    counted = render_prompt(tokenizer, plain).count(chat.end)
    assert render_prompt(tokenizer, bad).count(chat.end) == counted
    rendered = render_completion(tokenizer, bad, f"yes {end} no")
    assert rendered.tokens[: rendered.prompt_length] == render_prompt(tokenizer, bad)
    learnt = rendered.tokens[rendered.prompt_length :]
    assert learnt.count(chat.end) == 1
    if name in ("qwen", "llama3", "gpt2-plain", "byt5-plain"):
        assert tokenizer.decode(learnt).strip() == f"yes {end} no{end}"
        assert f"say {end} now" in tokenizer.decode(rendered.tokens[: rendered.prompt_length])


def test_no_spelling_of_the_end_token_ends_an_answer_early() -> None:
    """A tokenizer that folds case reads <EOS> as its own <eos>."""
    tokenizer = words()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    prepare_tokenizer(tokenizer)
    learnt = render_completion(tokenizer, QUESTION, "yes, <EOS> paris.").tokens[-4:]
    assert learnt.count(tokenizer.eos_token_id) == 1
    assert learnt[-1] == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(learnt[-2]) == "paris."


def test_a_special_token_inside_another_ones_name() -> None:
    tokenizer = FAMILIES["mistral"][0]()
    before = render_completion(prepare_tokenizer(tokenizer), QUESTION, "yes").tokens
    tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]", "INST]"]})
    tokenizer.chat_template += "{# changed, so it is probed again #}"
    assert render_completion(tokenizer, QUESTION, "yes").tokens == before


def test_another_callers_settings_do_not_reach_the_rendering() -> None:
    tokenizer = prepare_tokenizer(qwen())
    before = render_completion(tokenizer, QUESTION, "the capital is paris.")
    for disturb in (
        lambda: tokenizer("a b c d e f g", truncation=True, max_length=3),
        lambda: tokenizer("a", padding="max_length", max_length=90),
        lambda: tokenizer("a <|im_end|>", split_special_tokens=True),
    ):
        chat_format(tokenizer).prompts.clear()
        disturb()
        assert render_completion(tokenizer, QUESTION, "the capital is paris.") == before


def test_a_sampled_leading_space_is_not_doubled(prepared: Prepared) -> None:
    """Mistral's template writes a space before an answer and trims nothing; so does a policy that learnt from it."""
    tokenizer = prepared("mistral")
    assert render_completion(tokenizer, QUESTION, " yes") == render_completion(tokenizer, QUESTION, "yes")
    sampled = render_completion(tokenizer, QUESTION, "yes").tokens[len(render_prompt(tokenizer, QUESTION)) :]
    assert answer_text(tokenizer, sampled) == "yes"


def test_window_cuts_the_answer_and_says_so(prepared: Prepared) -> None:
    tokenizer = prepared("qwen")
    whole = render_completion(tokenizer, QUESTION, "the capital is paris.")
    window = whole.prompt_length + 2
    cut = render_completion(tokenizer, QUESTION, "the capital is paris.", max_length=window)
    assert cut.tokens == whole.tokens[:window]
    assert cut.mask == whole.mask[:window]
    assert cut.truncated
    assert end_of_turn_ids(tokenizer)[0] not in cut.tokens[cut.prompt_length :]
    same = render_completion(tokenizer, QUESTION, "the capital is paris.", max_length=len(whole.tokens))
    assert same == whole
    with pytest.raises(HeedfulError, match="prompt alone takes 35 tokens of a window of 35"):
        render_completion(tokenizer, QUESTION, "yes", max_length=whole.prompt_length)


def test_empty_answer_is_only_the_end_of_turn(prepared: Prepared) -> None:
    tokenizer = prepared("llama3")
    rendered = render_completion(tokenizer, QUESTION, "")
    assert rendered.tokens[rendered.prompt_length :] == [end_of_turn_ids(tokenizer)[0]]


def test_refusals_of_the_template_are_explained(prepared: Prepared) -> None:
    with pytest.raises(HeedfulError, match=r"refuses a conversation of the roles system, user.*System role"):
        render_prompt(prepared("gemma"), (Message("system", "be brief"), *QUESTION))
    with pytest.raises(HeedfulError, match="prompt is empty"):
        render_prompt(prepared("qwen"), ())


def test_a_changed_template_is_probed_again() -> None:
    tokenizer = prepare_tokenizer(llama3())
    assert len(end_of_turn_ids(tokenizer)) == 2
    prepare_tokenizer(tokenizer, template="raw")
    assert end_of_turn_ids(tokenizer) == (tokenizer.eos_token_id,)
    assert tokenizer.decode(render_prompt(tokenizer, QUESTION)) == "<|begin_of_text|>what is the capital of france?"


def test_saved_tokenizer_renders_the_same(family: str, prepared: Prepared, tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = prepared(family)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for prompt in (QUESTION, TURNS):
        assert render_completion(again, prompt, "yes, paris.") == render_completion(tokenizer, prompt, "yes, paris.")
        assert hf_tokens(again, as_messages(prompt), add_generation_prompt=True) == render_prompt(tokenizer, prompt)
    assert end_of_turn_ids(again) == end_of_turn_ids(tokenizer)


def test_every_family_is_tested_for_pad_apart_from_the_end(prepared: Prepared) -> None:
    assert len(FAMILIES) >= 16
    for name in FAMILIES:
        tokenizer = prepared(name)
        assert tokenizer.pad_token_id not in end_of_turn_ids(tokenizer), name
