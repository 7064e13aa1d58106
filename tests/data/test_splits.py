"""Splits: nothing straddles, nothing moves, and the share is met on average."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.records import Demonstration, Message, Prompt, prompt_key
from heedful.data.splits import near_duplicates, split
from heedful.errors import HeedfulError


def prompt(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def sentence(numbers: random.Random, length: int = 12) -> str:
    return " ".join(f"w{numbers.randrange(5000)}" for _ in range(length))


MANY = [prompt(sentence(random.Random(seed))) for seed in range(500)]


def test_share_on_average() -> None:
    shares = [len(split(MANY, 0.1, seed)[1]) / len(MANY) for seed in range(10)]
    assert abs(sum(shares) / len(shares) - 0.1) < 4 * (0.1 * 0.9 / 5_000) ** 0.5


def test_order_and_company_do_not_matter() -> None:
    held = set(map(id, split(MANY, 0.1, 3)[1]))
    shuffled = random.Random(0).sample(MANY, len(MANY))
    assert set(map(id, split(shuffled, 0.1, 3)[1])) == held
    half = MANY[:250]
    assert set(map(id, split(half, 0.1, 3)[1])) == held & set(map(id, half))


def test_a_larger_share_keeps_what_was_held_out() -> None:
    small, large = (set(map(id, split(MANY, share, 0)[1])) for share in (0.05, 0.2))
    assert small < large


def test_seeds_differ() -> None:
    assert split(MANY, 0.2, 0)[1] != split(MANY, 0.2, 1)[1]


@given(
    st.lists(
        st.sampled_from(["what is it", "What is IT?", " what  is it!", "how so", "who", "where to go now"]), min_size=2
    ),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_one_prompt_stands_on_one_side(texts: list[str], fraction: float, seed: int) -> None:
    records = [Demonstration((Message("user", text),), str(index)) for index, text in enumerate(texts)]
    keys = {prompt_key(record.prompt) for record in records}
    if len(keys) < 2:
        with pytest.raises(HeedfulError, match="cannot be parted"):
            split(records, fraction, seed)
        return
    train, held = split(records, fraction, seed)
    assert sorted(r.completion for r in [*train, *held]) == sorted(r.completion for r in records)
    assert train
    assert held
    assert not {prompt_key(r.prompt) for r in train} & {prompt_key(r.prompt) for r in held}
    assert [r for r in records if r in train] == train


def test_near_duplicates_never_straddle() -> None:
    """One word of thirty changed leaves 25 of 31 three-word sequences in common: a share of 0.806."""
    numbers = random.Random(1)
    records = []
    for index in range(300):
        words = sentence(numbers, 30).split()
        other = [*words[:15], "changed", *words[16:]]
        records += [
            Demonstration((Message("user", " ".join(words)),), str(index)),
            Demonstration((Message("user", " ".join(other)),), str(index)),
        ]
    groups = near_duplicates([record.prompt for record in records])
    assert sum(a == b for a, b in zip(groups[::2], groups[1::2], strict=True)) >= 299  # each missed at 2 in 10,000
    assert len(set(groups)) <= 301
    train, held = split(records, 0.3, 0)
    assert len({r.completion for r in train} & {r.completion for r in held}) <= 1


def test_half_alike_prompts_stay_apart() -> None:
    groups = near_duplicates(
        [
            (Message("user", "please tell me what the capital of france is"),),
            (Message("user", "please tell me what the capital of spain is"),),
            (Message("user", "Please tell me: what the capital of Spain is?"),),
            (Message("user", "hello"),),
            (Message("user", "hallo"),),
        ]
    )
    assert groups[1] == groups[2]
    assert len(set(groups)) == 4


def test_brute_force_agrees() -> None:
    """MinHash with exact checks finds the same groups as comparing every pair (chains included)."""
    numbers = random.Random(7)
    texts = []
    for _ in range(40):
        words = sentence(numbers, 40).split()
        for _ in range(3):
            texts.append(" ".join(words))
            words[numbers.randrange(40)] = f"n{numbers.randrange(10**6)}"

    def pieces(text: str) -> set[tuple[str, ...]]:
        words = ["user", *text.split()]
        words[0] = "user:"
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    sets = [pieces(text) for text in texts]
    expected = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8:
                old, new = expected[i], expected[j]
                expected = [new if group == old else group for group in expected]
    found = near_duplicates([(Message("user", text),) for text in texts])
    pairs = [(i, j) for i in range(len(texts)) for j in range(i)]
    assert [found[i] == found[j] for i, j in pairs] == [expected[i] == expected[j] for i, j in pairs]
    assert len(set(found)) == len(set(expected)) < len(texts)


def test_a_chain_of_near_duplicates_is_one_group_in_any_order() -> None:
    """Neighbours are alike by more than 0.8, all others by less: the one in the middle must be met by both."""
    texts = [" ".join(f"word{n}" for n in range(start, start + 26)) for start in range(5)]
    for order in permutations(range(5)):
        groups = near_duplicates([(Message("user", texts[place]),) for place in order])
        assert len(set(groups)) == 1, order
    apart = near_duplicates([(Message("user", texts[place]),) for place in (0, 2, 4)])
    assert len(set(apart)) == 3


def test_a_dialogue_and_its_continuation_are_together() -> None:
    start = (Message("user", "how do i bake bread at home"),)
    longer = (*start, Message("assistant", "with flour"), Message("user", "and what else do i need for it"))
    other = (Message("user", "and what else do i need for it"),)
    groups = near_duplicates([longer, other, start])
    assert groups[0] == groups[2] != groups[1]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_shares_out_of_range(fraction: float) -> None:
    with pytest.raises(HeedfulError, match="held-out share"):
        split(MANY[:10], fraction, 0)


def test_nothing_held_out() -> None:
    assert split(MANY[:3], 0.0, 0) == (MANY[:3], [])
