"""Fifty wrong ways to call heedful and what each is told: what, where, what to do. Nothing is half-written."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import heedful
from heedful.cli.main import main

ROW = {"prompt": "a", "chosen": "b", "rejected": "c"}


@dataclass(frozen=True)
class Way:
    """One mistake: words of a command or a call of Python, and parts of the message in their order."""

    how: str | Callable[[], Any]
    says: tuple[str, ...]

    def __str__(self) -> str:
        return self.how if isinstance(self.how, str) else self.says[0]


def way(how: str | Callable[[], Any], *says: str) -> Way:
    return Way(how, says)


DPO = "dpo --model model --out run"
SFT = "sft --data preferences.jsonl --out run"
PPO = "ppo --model model --data prompts.jsonl --out run"


def python(name: str, *given: Any, **settings: Any) -> Callable[[], Any]:
    """A call of the public API that is made when the test runs."""
    return lambda: getattr(heedful, name)(*given, **settings)


def no_numbers(prompts: Any, completions: Any) -> list[str]:
    return ["good" for _ in completions]


def as_in_trl(completions: Any, answer: Any = None, **more: Any) -> list[float]:
    return [1.0 for _ in completions]


def too_few(prompts: Any, completions: Any) -> list[float]:
    return [1.0]


WAYS = [
    # commands and flags
    way("sfft --model model", "no command 'sfft'", "Did you mean 'sft'?"),
    way("kto --model model", "no command 'kto'", "heedful dpo --loss kto"),
    way("sft --data preferences.jsonl --out run", "Missing from heedful sft", "--model", "hub id"),
    way(f"{SFT} --model model --epoch 2", "--epoch", "Perhaps you meant", "--epochs"),
    way(f"{SFT} --model model --epochs many", "--epochs", "'many'"),
    way(f"{SFT} --model model --epochs -1", "epochs", "-1.0 epochs train nothing"),
    way(f"{SFT} --model model --seed 1 --limit 0", "records.limit", "reads nothing"),
    way("ppo --model model --data prompts.jsonl --out run", "Missing", "--reward", "module:function"),
    way("plan ppp", "no stage 'ppp'", "Did you mean 'ppo'?"),
    way("synthesise degrad x.jsonl", "no method 'degrad'", "Did you mean 'degrade'?"),
    way("completion powershell", "powershell", "bash", "zsh", "fish"),
    # recipe files
    way("sft --config bad.yaml", "bad.yaml:2", "not YAML", "Mend the line"),
    way("sft --config key.yaml", "key.yaml:3", "'optimiser.learning_rat'", "Did you mean 'optimiser.learning_rate'?"),
    way("sft --config type.yaml", "type.yaml:1", "'epochs' must be a number", "the text 'many'"),
    way("sft --config twice.yaml", "twice.yaml:2", "'epochs' stands here twice", "Delete one"),
    way("sft --config none.yaml", "none.yaml", "No such file"),
    way("round prog", "heedful.yaml:1", "unknown key 'nonsense'"),
    way("round nothing", "no recipe here", "heedful init makes one"),
    way("init prog", "prog/heedful.yaml", "there is a recipe already", "Choose another folder"),
    # models
    way(f"{SFT} --model modle", "modle", "cannot open", "Did you mean 'model'?"),
    way(f"{SFT} --model ./modle", "./modle", "no such model folder", "Did you mean 'model'?"),
    way(f"{SFT} --model pickle", "pickle", "pytorch_model.bin", "refused", "safetensors"),
    way(f"{SFT} --model notempty", "notempty", "no config.json"),
    way(f"{SFT} --model preferences.jsonl", "preferences.jsonl", "a model is a folder"),
    way(f"{SFT} --model rm", "rm", "reward model", "Give the folder of a causal language model"),
    way(f"{SFT} --model lama.yaml", "'lama'", "Did you mean 'llama'?"),
    way(f"{SFT} --model bare.yaml", "bare.yaml", "either `vocabulary`", "exactly one"),
    way("serve modle", "modle", "Did you mean 'model'?"),
    # data files
    way(f"{DPO} --data preference.jsonl", "preference.jsonl", "no such file", "Did you mean 'preferences.jsonl'?"),
    way(f"{DPO} --data reject.jsonl", "reject.jsonl", "needs preferences", "rename 'reject' to 'rejected'"),
    way(
        f"{DPO} --data orca.jsonl", "orca.jsonl:1", "'question' looks like the prompt", "Rename 'question' to 'prompt'"
    ),
    way(f"{DPO} --data empty.jsonl", "empty.jsonl", "no rows at all"),
    way(f"{DPO} --data broken.jsonl", "broken.jsonl:2", "not valid JSON", "Correct the line"),
    way(f"{DPO} --data demonstrations.jsonl", "demonstrations.jsonl", "needs preferences", "docs/data-formats.md"),
    way(f"{DPO} --data same.jsonl", "same.jsonl", "3 equal answers", "lines 1, 2, 3", "heedful inspect"),
    way(f"{DPO} --data latin.jsonl", "latin.jsonl:1", "not UTF-8", "Save the file in UTF-8"),
    way(f"{DPO} --data table.xlsx", "table.xlsx", "'.xlsx'", ".jsonl"),
    way(f"{DPO} --data cut.jsonl.gz", "cut.jsonl.gz", "ends too early", "again"),
    way(f"{DPO} --data uneven.csv", "uneven.csv:2", "2 cells", "3 columns", "Quote"),
    way(f"{DPO} --data hole.jsonl", "hole.jsonl:2", "'rejected' is missing", "'prompt', 'chosen'"),
    way(f"{DPO} --data number.jsonl", "number.jsonl:1", "'prompt' must be text"),
    way(f"{DPO} --data preferences.jsonl --split train", "a single file has no splits", "--records.split train"),
    way(f"{DPO} --data preferences.jsonl --format trll", "no format 'trll'", "Known:"),
    # stages
    way("dpo --model model --data preferences.jsonl --out notempty", "notempty", "not empty", "another --out"),
    way(f"{DPO} --data preferences.jsonl --loss sigmiod", "loss", "'sigmiod'", "Did you mean 'sigmoid'?"),
    way(f"{DPO} --data preferences.jsonl --device gpu", "loading.device", "'gpu'", "cuda:N"),
    way(f"{DPO} --data preferences.jsonl --template chat", "'chat'", "Did you mean 'chatml'?"),
    way(f"{DPO} --data preferences.jsonl --max-length 1", "no usable record", "records.max_length"),
    way(f"{PPO} --reward model", "model", "not a reward model", "heedful reward"),
    way(f"{PPO} --reward mod:shrt", "mod:shrt", "no 'shrt'", "Did you mean 'short'?"),
    way(f"{PPO} --reward mod:trl", "mod:trl", "takes (completions, **kwargs)", "def score(prompts, completions)"),
    way(f"{PPO} --reward nomod:x", "nomod:x", "cannot import", "in the module's folder"),
    way(f"{PPO} --reward rm --max-length 100", "records.max_length", "leaves no room", "rollout.max_new_tokens"),
    # looking
    way("compare model", "policies", "Name two or more"),
    way("sample model", "--data or --prompt"),
    way("sample model --prompt hi --out a.csv", "a.csv", "JSON lines", ".jsonl.gz"),
    way("score rm --data preferences.jsonl --out s.parquet", "s.parquet", "JSON lines", ".jsonl.gz"),
    way("deidentify preferences.jsonl --out d.json.gz", "d.json.gz", "JSON lines", ".jsonl.gz"),
    way("probe rm --data preferences.jsonl --kinds lenght", "kinds", "'lenght'", "Did you mean 'length'?"),
    # people and judges
    way("judge preferences.jsonl", "nobody is to judge", "--judge"),
    way("judge preferences.jsonl --judge m --out j", "OPENAI_API_KEY holds no key", "export OPENAI_API_KEY"),
    way("judge preferences.jsonl --judge m@https://x.org/v1 --out j", "no key is named", "--endpoint.key-variable"),
    way("agreement --programme shop", "feedback.db", "no database here", "heedful studio"),
    # the studio's setup
    way("studio bakup", "no 'bakup'", "Did you mean 'backup'?"),
    way("studio --port 99999", "port", "99999 is no port", "65535"),
    way("studio --lan --public-url https://x.org", "public_url", "contradict", "leave --lan out"),
    way("studio --public-url http://x.org", "no https address", "https://studio.example.org"),
    way("studio --database mysql://x/y", "'mysql'", "postgresql://"),
    # Python
    way(python("sft", "model", [], out="run"), "data", "no rows at all"),
    way(python("sft", "model", [["a", "b"]], out="run"), "row 1 is a list", '"prompt"'),
    way(python("sft", "model", {"train": [ROW]}, out="run"), "of 'train'", "data['train']"),
    way(python("sft", "model", iter([ROW]), out="run"), "read only once", "list(rows)"),
    way(python("sft", "model", [ROW], out="run", learning_rat=1), "heedful.sft", "'learning_rat'", "learning_rate'?"),
    way(python("ppo", "model", [ROW], reward="rm", out="run", samples=1), "heedful.ppo", "unknown key 'samples'"),
    way(python("ppo", "model", [ROW], reward=3, out="run"), "this int is no reward", "function"),
    way(python("train", "dpoo", "model", [ROW], out="run"), "no method 'dpoo'", "Did you mean 'dpo'?"),
    way(python("train", "ppo", "model", [ROW], out="run"), "ppo learns from a reward", "Give a folder"),
    way(python("train", "dpo", "model", [ROW], reward="rm", out="run"), "dpo asks no reward", "Leave it away"),
    way(python("sft", 3, [ROW], out="run"), "a int is no model", "(model, tokenizer)"),
    way(python("sft", "model", [ROW], out="run", epochs=1, batch_size="x"), "'batch_size' must be a whole number"),
    way(python("score", no_numbers, ["a"], ["b"]), "gave ['good'], not numbers", "one finite number"),
    way(python("score", as_in_trl, ["a"], ["b"]), "takes (completions", "def score(prompts, completions)"),
    way(python("score", too_few, ["a"] * 2, ["b"] * 2), "shape [1] for 2 completions"),
    way(python("score", too_few, "a", ["b"]), "two lists of the same length"),
    way(python("compare", ["model", "rm"], ["a", "b"], reward=too_few), "policies come with names", '{"sft"'),
    way(python("sample", "model", ["a"], out="answers.jsonl"), "heedful.sample", "'out' is for the command"),
    way(python("sft", "model", [ROW], out="run", learning_rate=1, optimiser={"learning_rate": 2}), "given twice"),
    way(python("agreement", [{"item": 1, "value": "x"}]), "row 1 has no rater", '"rater"'),
    way(python("agreement", [{"item": 1, "rater": "a", "value": "x"}]), "Two raters or more"),
    way(python("load_preferences", [{"prompt": "a", "answer": "b"}]), "needs preferences", "docs/data-formats.md"),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the mistakes need."""
    from stage_runs import write_inputs, write_model

    folder = tmp_path_factory.mktemp("mistakes")
    write_inputs(folder)
    write_model(folder / "model")
    write_model(folder / "rm", kind="reward")
    row = json.dumps(ROW) + "\n"
    texts = {
        "empty.jsonl": "",
        "broken.jsonl": row + '{"prompt": "a", "chosen": \n',
        "same.jsonl": row.replace('"c"', '"b"') * 3,
        "reject.jsonl": row.replace("rejected", "reject"),
        "orca.jsonl": json.dumps({"system": "", "question": "Why?", "chosen": "The sun", "rejected": "The moon"})
        + "\n",
        "uneven.csv": "prompt,chosen,rejected\na,b\n",
        "hole.jsonl": row + '{"prompt": "a", "chosen": "b"}\n',
        "number.jsonl": row.replace('"a"', "3"),
        "bad.yaml": "epochs: [1\n",
        "key.yaml": "model: m\noptimiser:\n  learning_rat: 1\n",
        "type.yaml": "epochs: many\n",
        "twice.yaml": "epochs: 1\nepochs: 2\n",
        "lama.yaml": "architecture: {model_type: lama}\nvocabulary: 512\n",
        "bare.yaml": "architecture: {model_type: llama}\n",
        "mod.py": "def short(prompts, completions):\n    return [1.0 for _ in completions]\n"
        "def trl(completions, **kwargs):\n    return [1.0 for _ in completions]\n",
        "notempty/mine.txt": "mine",
        "prog/heedful.yaml": "nonsense: 1\n",
        "pickle/config.json": '{"model_type": "llama"}',
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "latin.jsonl").write_bytes(row.replace('"a"', '"café"').encode("latin-1"))
    (folder / "table.xlsx").write_bytes(b"PK")
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(row.encode() * 500)[:60])
    (folder / "pickle" / "pytorch_model.bin").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("mistake", WAYS, ids=str)
def test_a_mistake_is_told_what_where_and_what_to_do(
    mistake: Way, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(workplace)
    before = tree(workplace)
    if isinstance(mistake.how, str):
        assert main(mistake.how.split()) == 2
        text = capsys.readouterr().err
    else:
        with pytest.raises(heedful.HeedfulError) as told:
            mistake.how()
        text = str(told.value)
    text = " ".join(text.split())
    assert "Traceback" not in text
    at = 0
    for part in mistake.says:
        assert part in text[at:], f"{part!r} is missing, or not in its place: {text}"
        at = text.index(part, at) + len(part)
    assert tree(workplace) == before


def tree(folder: Path) -> set[str]:
    """All files below a folder. A judge's ledger and the studio's key, kept on purpose, and caches are left out."""
    found = {str(Path(place, name).relative_to(folder)) for place, _, names in os.walk(folder) for name in names}
    return {name for name in found if not name.startswith(("j/", "__pycache__", "secret-key"))}


def test_there_are_fifty_of_them() -> None:
    assert len({str(one) + "".join(one.says) for one in WAYS}) == len(WAYS) >= 50
