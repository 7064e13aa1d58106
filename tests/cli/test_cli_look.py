"""sample, evaluate, compare and chat, on small policies with random weights."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from architectures import tiny_architectures, tiny_tokenizer
from heedful.cli.chat import ChatConfig, pieces, talk
from heedful.cli.compare import Shown, rate_of, take_votes
from heedful.cli.main import main
from heedful.cli.opening import DecodingOptions
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.policy import Policy, load_policy, new_policy

WORDS = ["--max-new-tokens", "8"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two policies of unlike weights, and a file of prompts beside the first."""
    root = tmp_path_factory.mktemp("policies")
    for number, name in enumerate(("a", "b")):
        new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=number).save(root / name)
    prompts = ["tell me about the sea", "what is a red bird", "hello", "hello", "why"]
    (root / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    return str(root / "a"), str(root / "b")


@pytest.fixture(scope="module")
def policy(folders: tuple[str, str]) -> Policy:
    return load_policy(folders[0])


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON that a command prints; it must exit with 0 and print nothing else on standard output."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def prompts_file(folder: str) -> str:
    return str(Path(folder).parent / "prompts.jsonl")


def test_sample_prints_as_many_answers_as_asked(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", folders[0], "--prompt", "hello", "what is the sea", "--samples", "3", *WORDS]
    rows = run(command, capsys)
    assert [row["sample"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert rows[3]["prompt"] == [{"role": "user", "content": "what is the sea"}]
    assert all(1 <= row["tokens"] <= 8 for row in rows)
    assert run(command, capsys) == rows
    assert run([*command, "--seed", "1"], capsys) != rows


def test_sample_shows_a_person_prompt_and_answer(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", folders[0], "--prompt", "hello", "--temperature", "0", *WORDS]) == 0
    printed = capsys.readouterr().out
    answer = run(["sample", folders[0], "--prompt", "hello", "--temperature", "0", *WORDS], capsys)[0]["completion"]
    assert "user: hello" in printed
    assert answer[0]["content"] in " ".join(printed.split())


def test_sample_writes_lines_that_sft_reads(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from heedful.data.load import DataSpec, load_demonstrations

    out = tmp_path / "answers.jsonl"
    said = run(["sample", folders[0], "--data", prompts_file(folders[0]), "--out", str(out), *WORDS], capsys)
    assert said == {"out": str(out), "answers": 5}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = load_demonstrations(DataSpec(str(out), on_bad_row="error")).records
    assert [record.completion for record in found] == [row["completion"][0]["content"] for row in rows]
    assert found[1].prompt == (Message("user", "what is a red bird"),)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --data or --prompt"),
        (["--prompt", "hello", "--data", "x.jsonl"], "either --data or --prompt"),
        (["--prompt", "hello", "--temperature", "-1"], "decoding.temperature"),
        (["--prompt", "hello", "--top-p", "0"], "decoding.top_p"),
        (["--prompt", "hello", "--samples", "0"], "0 samples answer nothing"),
        (["--prompt", "hello", "--max-new-tokens", "100000"], "window"),
        (["--data", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_sample_refuses_what_it_cannot_do(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["sample", folders[0], *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out


def test_evaluate_a_policy_against_itself_is_all_ties(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "longest.py").write_text("def score(prompts, completions):\n    return [len(c) for c in completions]\n")
    monkeypatch.chdir(tmp_path)
    common = ["--reward", "longest:score", "--data", prompts_file(folders[0]), *WORDS]
    same = run(["evaluate", folders[0], "--baseline", folders[0], *common], capsys)
    rate = same["verdicts"]["longest:score"]["win_rate"]
    assert same["prompts"] == 4  # "hello" stands twice in the file
    assert (rate["wins"], rate["ties"], rate["losses"]) == (0, 4, 0)
    assert rate["rate"] == {"mean": 0.5, "low": 0.5, "high": 0.5}

    out = tmp_path / "record.json"
    other = run(["evaluate", folders[0], "--baseline", folders[1], "--out", str(out), *common], capsys)
    pairs = json.loads(out.read_text())["pairs"]
    longer = sum(len(pair["policy"]["text"]) > len(pair["baseline"]["text"]) for pair in pairs)
    assert other["verdicts"]["longest:score"]["win_rate"]["wins"] == longer
    sys.modules.pop("longest")


def test_evaluate_prints_a_table_and_what_it_means(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    reward = ["--reward", "examples.short_and_polite:score"]
    arguments = ["evaluate", folders[0], "--baseline", folders[0], *reward, "--data", prompts_file(folders[0]), *WORDS]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "4 pairs on 4 prompts" in printed
    assert "win rate 0.500 [0.500, 0.500]" in printed
    assert "No difference shown" in printed


def test_compare_shows_both_sides(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders, "--prompt", "hello", "why", *WORDS]
    rows = run(command, capsys)
    assert [row["prompt"][0]["content"] for row in rows] == ["hello", "why"]
    a = run(["sample", folders[0], "--prompt", "hello", "why", *WORDS], capsys)
    b = run(["sample", folders[1], "--prompt", "hello", "why", *WORDS], capsys)
    assert [row["a"] for row in rows] == [row["completion"][0]["content"] for row in a]
    assert [row["b"] for row in rows] == [row["completion"][0]["content"] for row in b]
    assert main(command) == 0
    assert "user: why" in capsys.readouterr().out


ITEMS = [Shown((Message("user", f"question {n}"),), "the better answer", "the worse answer") for n in range(12)]


def typist(monkeypatch: pytest.MonkeyPatch, choose: Any) -> Any:
    """Answers each question by what stands on the screen at that moment: the two texts in their order."""
    import heedful.cli.compare as module

    screen: list[tuple[str, str]] = []
    monkeypatch.setattr(
        module, "_show_pair", lambda console, prompt, first, second: screen.append((first[1], second[1]))
    )
    return lambda question: choose(*screen[-1])


def test_blind_votes_follow_the_answer_not_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[str] = []

    def choose(first: str, second: str) -> str:
        places.append("1" if first == "the better answer" else "2")
        return places[-1]

    votes = take_votes(ITEMS, 3, typist(monkeypatch, choose))
    assert votes == [1.0] * 12
    assert set(places) == {"1", "2"}
    rate = rate_of(ITEMS, votes)
    assert rate is not None
    assert rate.rate.mean == 1.0


def test_blind_votes_ties_typing_errors_and_stopping_early(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: Iterator[str] = iter(["t", "3", "", "T ", "q"])
    assert take_votes(ITEMS, 0, typist(monkeypatch, lambda first, second: next(typed))) == [0.5, 0.5]
    assert rate_of(ITEMS, [1.0]) is None


def test_blind_compare_ends_with_the_win_rate(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("t\nt\nt\n"))
    command = ["compare", *folders, "--prompt", "hello", "why", "what", "--blind", *WORDS]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "win rate 0.500 [0.500, 0.500]" in captured.out
    assert folders[0] not in captured.err


def converse(policy: Policy, lines: list[str], **settings: Any) -> tuple[Any, str]:
    out, said = io.StringIO(), iter(lines)

    def ask() -> str:
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    config = ChatConfig(policy="", decoding=DecodingOptions(max_new_tokens=6), **settings)
    return talk(policy, config, out, ask), out.getvalue()


def test_chat_keeps_the_turns_and_streams_what_it_keeps(policy: Policy) -> None:
    conversation, printed = converse(policy, ["hello", "", "what is the sea"], system="be good")
    assert [message.role for message in conversation] == ["system", "user", "assistant", "user", "assistant"]
    assert [message.content for message in conversation][:2] == ["be good", "hello"]
    for message in conversation[2::2]:
        assert f"model: {message.content}\n" in printed


def test_chat_answers_from_the_whole_conversation(policy: Policy) -> None:
    first, _ = converse(policy, ["hello", "why"])
    second, _ = converse(policy, ["good night", "/reset", "why"])
    assert second[0] == Message("user", "why")
    assert len(second) == 2
    assert first[2] == Message("user", "why")


def test_chat_commands(policy: Policy) -> None:
    conversation, printed = converse(policy, ["hello", "/retry", "/rest", "/help", "/quit", "never read"])
    assert conversation[0].content == "hello"
    assert len(conversation) == 2
    assert "There is no /rest. Did you mean '/reset'?" in printed
    assert printed.count("/retry draws another answer") == 2
    assert printed.count("model: ") == 2


def test_chat_over_the_window_says_so_and_goes_on(policy: Policy) -> None:
    conversation, printed = converse(policy, ["hello " * 200, "hello"])
    assert "/reset" in printed
    assert [message.content for message in conversation if message.role == "user"] == ["hello"]


def test_a_stopped_answer_keeps_what_was_said(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.rollout import engine

    def stream(self: Any, prompt: Any, params: Any) -> Iterator[int]:
        yield from policy.tokenizer("the sea", add_special_tokens=False)["input_ids"]
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.NativeEngine, "stream", stream)
    conversation, printed = converse(policy, ["hello"])
    assert conversation[-1] == Message("assistant", "the sea")
    assert "(stopped)" in printed


def test_pieces_hold_back_a_character_that_is_not_whole() -> None:
    bytes_of = dict(enumerate("né!".encode()))

    def decode(ids: list[int], **settings: bool) -> str:
        return bytes(bytes_of[i] for i in ids).decode(errors="replace")

    stand_in: Any = SimpleNamespace(eos=(99,), tokenizer=SimpleNamespace(decode=decode))
    assert list(pieces(stand_in, iter([0, 1, 2, 3, 99, 0]))) == ["n", "é", "!"]
    assert list(pieces(stand_in, iter([0, 1]))) == ["n", "\ufffd"]


def test_chat_prints_the_conversation_as_json(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    printed = run(["chat", folders[0], "--max-new-tokens", "4"], capsys)
    assert [message["role"] for message in printed] == ["user", "assistant"]


def test_decoding_options_reach_the_engine_whole() -> None:
    options = DecodingOptions(5, 0.5, 3, 0.9, 0.1, 1.2, 7, ("x",))
    params = options.params()
    assert (params.max_new_tokens, params.temperature, params.top_k, params.top_p) == (5, 0.5, 3, 0.9)
    assert (params.min_p, params.repetition_penalty, params.seed, params.stop) == (0.1, 1.2, 7, ("x",))
    with pytest.raises(HeedfulError):
        DecodingOptions(max_new_tokens=0)


def test_evaluate_looks_at_refusals_and_perplexity_alone(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stern.py").write_text("def judge(prompts, texts):\n    return [True for _ in texts]\n")
    (tmp_path / "texts.jsonl").write_text('{"text": "the sea is blue"}\n{"text": "hello red bird"}\n')
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", folders[0], "--baseline", folders[1], "--limit", "8", *WORDS, "--refusals", "prompts"]
    command += ["--refusal-judge", "stern:judge", "--report", "page.html", "--perplexity", "texts.jsonl"]
    found = run([*command, "--out", "all.json"], capsys)
    assert set(found) == {"refusals", "perplexity"}
    report = found["refusals"][folders[0]]
    assert report["prompts"] == 8
    assert report["rates"]["stern:judge"]["safe"]["mean"] == 1.0
    assert report["rates"]["rules"]["safe"]["mean"] == 0.0
    assert set(found["perplexity"]["policies"]) == set(folders)
    assert found["perplexity"]["tax"]["low"] <= found["perplexity"]["tax"]["mean"]
    assert json.loads((tmp_path / "all.json").read_text()) == found
    assert "unsafe requests refused" in (tmp_path / "page.html").read_text()
    assert main(["evaluate", folders[0], "--refusals", "world", "--limit", "4", *WORDS]) == 0
    assert "of unsafe ones" in capsys.readouterr().out
    assert main(["evaluate", folders[0], "--perplexity", "texts.jsonl"]) == 0
    assert "2 documents" in capsys.readouterr().out
    sys.modules.pop("stern")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a win rate needs --baseline"),
        (["--baseline", "b", "--reward", "r"], "a win rate needs --data"),
        (["--perplexity", "x", "--report", "p.html"], "are for --refusals"),
        (["--perplexity", "x", "--window", "1"], "window"),
    ],
)
def test_evaluate_says_what_is_missing(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["evaluate", folders[0], *arguments]) == 2
    assert said in capsys.readouterr().err
