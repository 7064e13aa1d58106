"""Every format: recognised by itself, converted to the literal records, refused with line and mend when malformed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from heedful.data.formats import BY_NAME, detect, format_named
from heedful.data.load import DataSpec, load_demonstrations, load_labelled, load_preferences, load_prompts
from heedful.data.records import Conversation, Demonstration, Labelled, Message, Origin, Preference, Prompt
from heedful.errors import HeedfulError

HERE = Origin("x.jsonl", 1)
HI = (Message("user", "hi"),)
TURNS = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "how are you?"))
HI_LIST = [{"role": "user", "content": "hi"}]
TURNS_LIST = [{"role": turn.role, "content": turn.content} for turn in TURNS]
HH = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how are you?\n\nAssistant:"


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pair(prompt: Conversation = HI, a: str = "good", b: str = "bad", **more: Any) -> Preference:
    return Preference(prompt, a, b, origin=HERE, **more)


def rated(text: str, *ratings: object) -> dict[str, Any]:
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    annotations = {aspect: {"Rating": rating} for aspect, rating in zip(aspects, ratings, strict=False)}
    return {"response": text, "annotations": annotations, "overall_score": 1.0}


ARENA = {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 0}
H4 = {"prompt": "hi", "prompt_id": "7", "messages": HI_LIST + said("good")}
H4 |= {"chosen": HI_LIST + said("good"), "rejected": HI_LIST + said("bad")}

CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "heedful",
        {"prompt": TURNS_LIST, "a": "x", "b": "y", "probability": 0.25, "votes": 4, "margin": 1.5, "weight": 0.5},
        [pair(TURNS, "x", "y", probability=0.25, votes=4, margin=1.5, weight=0.5)],
    ),
    ("heedful", {"prompt": "hi", "a": "good", "b": "bad"}, [pair()]),
    ("heedful", {"prompt": "hi", "a": "good", "b": "bad", "strength": -1.5}, [pair(strength=-1.5)]),
    (
        "heedful",
        {"prompt": "hi", "a": "good", "b": "bad", "made": {"by": "x", "n": 4}},
        [pair(made=(("by", "x"), ("n", 4)))],
    ),
    (
        "ranking",
        {"prompt": "hi", "completions": ["x", said("y"), "z"], "ranks": [2, 1.0, "2"], "weight": 0.5, "item": "7"},
        [
            pair(a="y", b="x", weight=0.5 / 3),
            pair(a="x", b="z", probability=0.5, weight=0.5 / 3),
            pair(a="y", b="z", weight=0.5 / 3),
        ],
    ),
    (
        "helpsteer-preference",
        {"prompt": "hi", "response_1": "good", "response_2": "bad", "preference_strength": -2, "split": "train"},
        [pair(strength=2.0)],
    ),
    (
        "helpsteer-preference",
        {"prompt": "hi", "response_1": "bad", "response_2": "good", "preference_strength": 1},
        [pair(strength=1.0)],
    ),
    (
        "helpsteer-preference",
        {"prompt": "hi", "response_1": "x", "response_2": "y", "preference_strength": 0},
        [pair(a="x", b="y", probability=0.5, strength=0.0)],
    ),
    ("hh", {"chosen": HH + " good", "rejected": HH + " bad"}, [pair(TURNS)]),
    ("trl-preference", {"prompt": "hi", "chosen": "good", "rejected": "bad"}, [pair()]),
    ("trl-preference", {"prompt": HI_LIST, "chosen": said("good"), "rejected": said("bad")}, [pair()]),
    ("trl-preference", {"prompt": HI_LIST, "chosen": HI_LIST + said("good"), "rejected": said("bad")}, [pair()]),
    ("trl-preference", {"prompt": HH, "chosen": " good", "rejected": " bad"}, [pair(TURNS)]),
    ("trl-preference", {"prompt": "hi", "chosen": "good", "rejected": "bad", "margin": 0.5}, [pair(margin=0.5)]),
    (
        "trl-preference",
        {
            "prompt": HI_LIST,
            "chosen": said("hello") + TURNS_LIST[2:] + said("good"),
            "rejected": said("hello") + TURNS_LIST[2:] + said("bad"),
        },
        [pair(TURNS)],
    ),
    ("trl-implicit", {"chosen": TURNS_LIST + said("good"), "rejected": TURNS_LIST + said("bad")}, [pair(TURNS)]),
    (
        "trl-implicit",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        [pair((Message("user", "The sky is"),), " blue.", " green.")],
    ),
    (
        "trl-implicit",
        {"chosen": "The sky is blue.", "rejected": "The sky is green.", "question": "sky"},
        [pair((Message("user", "The sky is"),), " blue.", " green.")],
    ),
    ("ultrafeedback-binarized", H4 | {"score_chosen": 8.0, "score_rejected": 7.5}, [pair()]),
    ("ultrafeedback-binarized", H4 | {"score_chosen": 8.0, "score_rejected": 8.0}, [pair(probability=0.5)]),
    (
        "argilla",
        {"prompt": "hi", "chosen": HI_LIST + said("good"), "rejected": HI_LIST + said("bad")}
        | {"chosen-rating": 4.75, "rejected-rating": 4.5, "chosen-model": "m"},
        [pair()],
    ),
    (
        "arena",
        {"prompt": '["hi"]', "response_a": '["bad"]', "response_b": '["good"]'} | ARENA | {"winner_model_b": 1},
        [pair()],
    ),
    (
        "arena",
        {"prompt": '["hi"]', "response_a": '["x"]', "response_b": '["y"]'} | ARENA | {"winner_tie": 1},
        [pair(a="x", b="y", probability=0.5)],
    ),
    (
        "arena",
        {"prompt": ["hi", "how are you?"], "response_a": ["hello", "good"], "response_b": ["hello", "bad"]}
        | ARENA
        | {"winner_model_a": "1"},
        [pair(TURNS)],
    ),
    (
        "arena-conversations",
        {"conversation_a": HI_LIST + said("bad"), "conversation_b": HI_LIST + said("good"), "winner": "model_b"},
        [pair()],
    ),
    (
        "arena-conversations",
        {"conversation_a": HI_LIST + said("x"), "conversation_b": HI_LIST + said("y"), "winner": "tie (bothbad)"},
        [pair(a="x", b="y", probability=0.5)],
    ),
    (
        "alpaca-eval",
        {"instruction": "hi", "output_1": "bad", "output_2": "good", "preference": 1.75},
        [pair(probability=0.75)],
    ),
    (
        "alpaca-eval",
        {"instruction": "hi", "output_1": "x", "output_2": "y", "preference": 0},
        [pair(a="x", b="y", probability=0.5)],
    ),
    (
        "ultrafeedback",
        {"instruction": "hi", "completions": [rated("x", "3", "4"), rated("y", "5", "N/A"), rated("z", 4, 3)]},
        [
            pair(a="y", b="x", weight=1 / 3),
            pair(a="x", b="z", probability=0.5, weight=1 / 3),
            pair(a="y", b="z", weight=1 / 3),
        ],
    ),
    ("trl-unpaired", {"prompt": "hi", "completion": "good", "label": True}, [Labelled(HI, "good", True, HERE)]),
    ("trl-unpaired", {"prompt": HI_LIST, "completion": said("b"), "label": "0"}, [Labelled(HI, "b", False, HERE)]),
    ("trl-completion", {"prompt": "hi", "completion": "good"}, [Demonstration(HI, "good", HERE)]),
    ("trl-completion", {"prompt": TURNS_LIST, "completion": said("x")}, [Demonstration(TURNS, "x", HERE)]),
    ("messages", {"messages": TURNS_LIST + said("x"), "tools": None}, [Demonstration(TURNS, "x", HERE)]),
    ("messages", {"messages": TURNS_LIST}, [Prompt(TURNS, HERE)]),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "good"}]},
        [Demonstration(HI, "good", HERE)],
    ),
    (
        "alpaca",
        {"instruction": "add", "input": "1 2", "output": "3"},
        [Demonstration((Message("user", "add\n\n1 2"),), "3", HERE)],
    ),
    ("openrlhf", {"input": "hi", "output": "good"}, [Demonstration(HI, "good", HERE)]),
    ("question-answer", {"question": "hi", "answer": "good"}, [Demonstration(HI, "good", HERE)]),
    ("prompt", {"prompt": TURNS_LIST, "data_source": "gsm8k", "reward_model": {}}, [Prompt(TURNS, HERE)]),
    ("prompt", {"prompt": HH}, [Prompt(TURNS, HERE)]),
    ("openrlhf-prompt", {"input": "hi", "datasource": "d"}, [Prompt(HI, HERE)]),
    ("instruction", {"instruction": "hi"}, [Prompt(HI, HERE)]),
]


@pytest.mark.parametrize(("name", "row", "records"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_recognised_and_converted(name: str, row: dict[str, Any], records: list[Any]) -> None:
    found = detect([(HERE, row)])
    assert found.format.name == name
    assert "x.jsonl" in found.sentence
    assert repr(name) in found.sentence
    found.format.check_keys(row, HERE)
    assert found.format.convert(row, HERE) == records


def test_every_format_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(BY_NAME)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": 7}, "'prompt' must be text or a list of messages, not int", ""),
    ({"prompt": None}, "'prompt' must be text or a list of messages, not null", ""),
    ({"messages": "hi"}, "'messages' must be a list in JSON, not str", ""),
    ({"messages": []}, "'messages' has no messages", ""),
    ({"messages": ["hi"]}, "'messages[0]' must be an object", ""),
    ({"messages": [{"role": "user", "contents": "x"}]}, "messages[0] has no 'content'. It has 'contents'", ""),
    ({"messages": [{"role": "usr", "content": "x"}]}, "unknown role 'usr'. Did you mean 'user'", "Known: system"),
    ({"messages": [{"role": "user", "content": 3}]}, "'messages[0].content' must be text, not int", ""),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "must be text (images", ""),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "unknown key 'tool_calls'", "role and"),
    ({"messages": [*HI_LIST, *HI_LIST]}, "out of order: messages[1] is 'user' and comes after 'user'", "assistant"),
    ({"messages": [*said("x"), *HI_LIST]}, "roles out of order: messages[0] is 'assistant' and comes first", "system"),
    ({"messages": [*HI_LIST, {"role": "system", "content": "x"}]}, "messages[1] is 'system'", "assistant"),
    ({"prompt": HI_LIST + said("x"), "completion": "y"}, "'prompt' ends with 'assistant'", "user's message"),
    ({"prompt": "hi", "completion": ["x"]}, "'completion[0]' must be an object", ""),
    ({"prompt": "hi", "completion": "x", "label": "maybe"}, "'label' must be true or false, not str", ""),
    ({"prompt": "hi", "chosen": "x", "rejected": "y", "margin": "big"}, "'margin' must be a number, not str", ""),
    ({"prompt": "hi", "chosen": "x", "rejected": "y", "margni": 1}, "'margni' is not known. Did you mean 'margin'", ""),
    ({"prompt": "hi", "a": "x", "b": "y", "votez": 3}, "'votez' is not known. Did you mean 'votes'", "heedful"),
    ({"prompt": "hi", "a": "x", "b": "y", "probability": 1.5}, "'probability' is 1.5", "between 0 and 1"),
    ({"prompt": "hi", "a": "x", "b": "y", "probability": float("nan")}, "must be a finite number", ""),
    ({"prompt": "hi", "a": "x", "b": "y", "votes": 0}, "'votes' is 0", "counts judgments"),
    ({"prompt": "hi", "a": "x", "b": "y", "weight": 0}, "'weight' is 0.0", "above 0"),
    ({"prompt": "hi", "a": "x", "b": "y", "strength": 3.5}, "'strength' is 3.5", "between -3 and 3"),
    ({"prompt": "hi", "a": "x", "b": "y", "made": "by hand"}, "'made' must be an object of names and values", ""),
    ({"prompt": "hi", "a": "x", "b": "y", "made": {"by": ["x"]}}, "'made.by' must be a text or a finite number", ""),
    ({"prompt": "hi", "completions": ["x"], "ranks": [1]}, "1 completions make no ranking", "two or more"),
    ({"prompt": "hi", "completions": ["x", "y"], "ranks": [1]}, "2 completions, but 1 ranks", "one for each"),
    ({"prompt": "hi", "completions": ["x", "y"], "ranks": [1, None]}, "'ranks[1]' must be a finite number", ""),
    ({"prompt": "hi", "completions": ["x", 2], "ranks": [1, 2]}, "'completions[1]' must be text, not int", ""),
    ({"prompt": "hi", "completions": ["x", []], "ranks": [1, 2]}, "'completions[1]' has no messages", ""),
    ({"prompt": "hi", "completions": ["x", HI_LIST], "ranks": [1, 2]}, "completions[1] is no single answer", ""),
    ({"prompt": "hi", "completions": ["x", "y"], "ranks": [1, 2], "weight": -1}, "'weight' is -1.0", "above 0"),
    ({"prompt": "hi", "completions": ["x", "y"], "ranks": [1, 2], "attributes": [1]}, "'attributes' must be", ""),
    ({"prompt": "hi", "response_1": "x", "response_2": "y", "preference_strength": "much"}, "must be a number", ""),
    ({"instruction": "i", "output_1": "x", "output_2": "y", "preference": 3}, "'preference' is 3.0", "between 1"),
    ({"prompt": '["a"]', "response_a": '["x"]', "response_b": "[]"} | ARENA | {"winner_tie": 1}, "1 prompts, but", ""),
    ({"prompt": '["a"]', "response_a": '["x"]', "response_b": '["y"]'} | ARENA, "exactly one of winner_model_a", ""),
    ({"prompt": "[", "response_a": "[]", "response_b": "[]"} | ARENA | {"winner_tie": 1}, "a list in JSON", ""),
    ({"conversation_a": HI_LIST, "conversation_b": HI_LIST, "winner": "me"}, "'winner' is 'me'", "model_a"),
    ({"instruction": "i", "completions": [{"text": "x"}]}, "'completions[0]' must be an object with a 'response'", ""),
]  # fmt: skip


@pytest.mark.parametrize(("row", "what", "mend"), BAD, ids=[case[1][:40] for case in BAD])
def test_malformed_rows_are_errors_with_their_line(tmp_path: Path, row: dict[str, Any], what: str, mend: str) -> None:
    """Whatever --on-bad-row says: a malformed row is never skipped."""
    good = next(case[1] for case in CASES if set(case[1]) >= set(detect([(HERE, row)]).format.needs))
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    load = {"prompts": load_prompts, "preferences": load_preferences, "labelled": load_labelled}.get(
        detect([(HERE, row)]).format.kind, load_demonstrations
    )
    with pytest.raises(HeedfulError) as caught:
        load(DataSpec(str(path), format=detect([(HERE, row)]).format.name, on_bad_row="skip"))
    assert what in caught.value.what
    assert caught.value.where == f"{path}:2"
    assert mend in caught.value.mend
    assert caught.value.mend


def test_a_row_that_lacks_a_column_names_the_likely_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": "hi", "chosen": "x", "rejected": "y"}, {"prompt": "hi", "chosen": "x", "rejcted": "y"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(HeedfulError) as caught:
        load_preferences(DataSpec(str(path)))
    assert caught.value.what == "the column 'rejected' is missing; the row has 'prompt', 'chosen', 'rejcted'."
    assert caught.value.where == f"{path}:2"
    assert caught.value.mend == "Rename 'rejcted' to 'rejected'."


@pytest.mark.parametrize(
    ("row", "what", "mend"),
    [
        (
            {"prmpt": "hi", "chosn": "x", "rejected": "y"},
            "no known format has the columns",
            "rename 'prmpt' to 'prompt'",
        ),
        ({"foo": 1}, "no known format has the columns 'foo'", "docs/data-formats.md"),
        ({}, "no known format has the columns no columns", "docs/data-formats.md"),
        ({"text": "a document"}, "plain documents, which are for pretraining", "docs/data-formats.md"),
        ({"prompt": "p", "completions": ["x"], "labels": [True]}, "stepwise", "docs/data-formats.md"),
    ],
)
def test_unknown_columns(row: dict[str, Any], what: str, mend: str) -> None:
    with pytest.raises(HeedfulError) as caught:
        detect([(HERE, row)])
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(HeedfulError, match=r"no format 'ultrafedback'. Did you mean 'ultrafeedback'"):
        format_named("ultrafedback")


def test_detection_can_be_overridden(tmp_path: Path) -> None:
    """A row with `messages` beside prompt and chosen is a preference by itself, a conversation when told so."""
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(H4 | {"score_chosen": 2, "score_rejected": 1}))
    assert load_demonstrations(DataSpec(str(path))).format == "ultrafeedback-binarized"
    told = load_demonstrations(DataSpec(str(path), format="messages"))
    assert told.format == "messages"
    assert "as told" in told.sentence
    assert told.records == [Demonstration(HI, "good", Origin(str(path), 1))]
    with pytest.raises(HeedfulError, match="the column 'instruction' is missing"):
        load_demonstrations(DataSpec(str(path), format="alpaca"))


def test_the_page_shows_every_format_and_its_examples_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
    shown = set()
    for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            row = json.loads(line)
            found = detect([(HERE, row)]).format
            found.check_keys(row, HERE)
            assert found.convert(row, HERE)
            assert f"`{found.name}`" in page
            shown.add(found.name)
    assert shown == set(BY_NAME)
