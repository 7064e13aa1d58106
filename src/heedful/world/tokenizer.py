"""The world's words and their tokenizer: one token a word, so that every text goes there and back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from heedful.world.lexicon import lexicon
from heedful.world.topics import build_topics
from heedful.world.web import READER_NO, READER_YES, VERDICT_NO, VERDICT_YES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN_WORD, BEGIN, USER, ASSISTANT, END = "<pad>", "<unk>", "<bos>", "<user>", "<assistant>", "<end>"
SPECIAL = (PAD, UNKNOWN_WORD, BEGIN, USER, ASSISTANT, END)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<{{ message['role'] }}>{{ message['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the world in alphabetical order, after the special tokens."""
    words: set[str] = set()
    for sentence in (*lexicon(), *READER_YES, *READER_NO, *VERDICT_YES, *VERDICT_NO):
        words.update(sentence.split())
    for topic in build_topics(0):
        for question in topic.questions:
            words.update(question.text.split())
    return (*SPECIAL, *sorted(words))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with the chat template; `<end>` ends a turn and is the end-of-sequence token.

    `decode(encode(text))` is `text` for lower-case words of the vocabulary joined by single spaces.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(vocabulary())}
    inner = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN_WORD))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        unk_token=UNKNOWN_WORD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def learnt(tokens: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> list[bool]:
    """Which tokens of a pretraining document are learnt: those after the question.

    What comes before the first `<assistant>`, itself included, is read and not predicted: which question
    comes next is pure chance in this world, and learning to guess it only costs.

    Args:
        tokens: [T] ids of one document.
        tokenizer: the world's.

    Raises:
        ValueError: if the document has no answer.
    """
    assistant = tokenizer.get_vocab()[ASSISTANT]
    start = list(tokens).index(assistant) + 1
    return [place >= start for place in range(len(tokens))]
