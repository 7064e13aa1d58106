"""Splits, texts and tokenizer: what is held out stays out, and everything can be said and read back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.world.facts import TABLES
from heedful.world.lexicon import lexicon
from heedful.world.tokenizer import SPECIAL, build_tokenizer, learnt, vocabulary
from heedful.world.topics import MISCONCEPTION_WEIGHTS
from heedful.world.web import DEMONSTRATOR_SHARES, POST_SHARES
from heedful.world.world import World

WORLDS = [0, 1, 7, 100]


@pytest.mark.parametrize("seed", WORLDS)
def test_held_out_prompts_are_held_out(seed: int) -> None:
    world = World(seed)
    train, phrasing, fact = (world.prompts(split) for split in ("train", "phrasing", "fact"))
    judged = {p.topic for p in train}
    assert not {p.frame for p in train} & {p.frame for p in phrasing}
    assert {p.topic for p in phrasing} <= judged
    assert not {p.topic for p in fact} & judged
    assert {p.frame for p in fact} <= {p.frame for p in train}
    texts = [p.prompt[0].content for split in (train, phrasing, fact) for p in split]
    assert len(texts) == len(set(texts))
    assert len(phrasing) >= 200
    assert len({p.topic for p in phrasing}) >= 40
    assert len(fact) >= 200
    assert len({p.topic for p in fact}) >= 25
    assert {p.kind for p in fact} == {"fact", "sum", "support"}
    assert len({p.kind for p in train}) == 9


def test_an_error_belongs_to_one_fact_and_is_never_true() -> None:
    truths = {row.value for table in TABLES for row in table.rows.values()}
    errors = [error for table in TABLES for row in table.rows.values() for error in row.errors]
    assert len(errors) == len(set(errors))
    assert not truths & set(errors)


@pytest.mark.parametrize("seed", WORLDS)
def test_every_held_out_value_is_right_for_a_judged_fact(seed: int) -> None:
    world = World(seed)
    judged = {p.topic for p in world.prompts("train")}
    values = {(topic.group, topic.value) for topic in world.topics if topic.name in judged}
    for topic in world.topics:
        if topic.value:
            assert topic.name in judged or (topic.group, topic.value) in values


def test_seeds_differ_and_repeat() -> None:
    assert World(0).prompts("fact") == World(0).prompts("fact")
    assert World(0).prompts("fact") != World(1).prompts("fact")
    assert World(0).pretraining_documents(50, 3) == World(0).pretraining_documents(50, 3)
    assert World(0).pretraining_documents(50, 3) != World(0).pretraining_documents(50, 4)
    assert World(0).demonstrations(20, 3) == World(0).demonstrations(20, 3)
    assert World(0).fingerprint() == World(0).fingerprint() != World(1).fingerprint()


def test_the_yardstick_is_frozen(world: World) -> None:
    """Changed only with an entry in docs/log.md, and fresh seeds for every figure."""
    assert world.fingerprint() == "26c57a543f7583062521bdae6e93ef6b97367a6d1bde655c2881e69de84145d7"


def test_an_unknown_split_names_the_nearest(world: World) -> None:
    with pytest.raises(HeedfulError, match="phrasing"):
        world.prompts("phrasings")  # type: ignore[arg-type]


def test_shares_are_shares() -> None:
    for shares in (POST_SHARES, DEMONSTRATOR_SHARES, MISCONCEPTION_WEIGHTS):
        assert sum(shares) == pytest.approx(1.0)


def test_demonstrations_are_imperfect_and_only_of_training_prompts(world: World) -> None:
    found = world.demonstrations(500, 0)
    train = {p.prompt: p.topic for p in world.prompts("train")}
    assert all(d.prompt in train for d in found)
    counts = Counter(train[d.prompt] for d in found)
    assert max(counts.values()) - min(counts.values()) <= 1
    right = np.mean([world.correct(d.prompt, d.completion) for d in found])
    assert 0.78 < right < 0.92
    lengths = [len(d.completion.split()) for d in found]
    assert min(lengths) < 8
    assert max(lengths) > 40
    assert np.std(world.golds([d.prompt for d in found], [d.completion for d in found])) > 1.5


def test_the_web_says_each_truth_more_often_than_any_error(world: World) -> None:
    answers: dict[str, Counter[str]] = {topic.name: Counter() for topic in world.topics}
    owners = {
        " ".join(said): (topic.name, label)
        for topic in world.topics
        if topic.kind in ("fact", "sum", "support")
        for label, replies in [("right", topic.right), *((str(n), w) for n, w in enumerate(topic.wrong))]
        for said in replies
    }
    asked: set[str] = set()
    for text in world.pretraining_documents(20_000, 1):
        question, _, rest = text.removeprefix("<bos><user> ").partition(" <end><assistant> ")
        asked.add(question)
        for _sentence, (name, label) in ((s, owners[s]) for s in rest.split(" <end>")[:1] if s in owners):
            answers[name][label] += 1
    for topic in world.topics:
        if topic.kind in ("fact", "sum", "support"):
            counts = answers[topic.name]
            errors = [counts[str(n)] for n in range(len(topic.wrong))]
            assert counts["right"] > 1.2 * max(errors), (topic.name, counts)
            assert min(errors) > 0
    for split in ("train", "phrasing", "fact"):
        assert {p.prompt[0].content for p in world.prompts(split)} <= asked  # type: ignore[arg-type]


def test_scoring_is_quick(world: World) -> None:
    found = world.demonstrations(8000, 1)
    world.golds([d.prompt for d in found[:10]], [d.completion for d in found[:10]])
    start = time.process_time()
    scores = world.golds([d.prompt for d in found], [d.completion for d in found])
    assert len(scores) == 8000
    assert time.process_time() - start < 3.0


def test_every_text_goes_there_and_back(world: World) -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) == len(vocabulary()) <= 640
    texts = [*lexicon(), *(q.text for topic in world.topics for q in topic.questions)]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text
    named = [tokenizer.convert_ids_to_tokens(i) for i in range(len(SPECIAL))]
    assert tuple(named) == SPECIAL
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}) == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(vocabulary()[len(SPECIAL) :]), min_size=1, max_size=40).map(" ".join))
def test_any_words_go_there_and_back(text: str) -> None:
    tokenizer = world_tokenizer()
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def world_tokenizer(cache: list = []):  # type: ignore[no-untyped-def, type-arg]  # noqa: B006
    if not cache:
        cache.append(build_tokenizer())
    return cache[0]


def test_a_document_is_tokenized_as_the_chat_template_renders(world: World) -> None:
    tokenizer = build_tokenizer()
    for document in world.pretraining_documents(50, 2):
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        question, _, rest = document.removeprefix("<bos><user> ").partition(" <end><assistant> ")
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ids[: len(prompt)] == prompt
        mask = learnt(ids, tokenizer)
        assert mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))
        assert len(ids) - len(prompt) == len(rest.split())


def test_the_world_needs_no_torch() -> None:
    code = (
        "import sys; from heedful.world.world import World; from heedful.world import raters;"
        "w = World(); p = w.prompts('train')[0].prompt; w.gold(p, 'x'); w.demonstrations(3, 0);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
