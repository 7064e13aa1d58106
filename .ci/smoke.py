"""What .ci/packaging asks of an installed heedful, in an empty folder; and of the wheel itself. Plain Python, no tests.

python .ci/smoke.py contents heedful.whl heedful.tar.gz
python .ci/smoke.py EXTRA
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tarfile
import threading
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

NEEDED = (
    "heedful/py.typed",
    "heedful/pipeline/quickstart.yaml",
    "heedful/pipeline/report.css",
    "heedful/evaluation/refusal_prompts.jsonl",
    "heedful/studio/locale/vi/LC_MESSAGES/django.mo",
    "heedful/studio/locale/zh_Hans/LC_MESSAGES/django.mo",
    "heedful/feedback/migrations/0001_initial.py",
)
FOLDERS = {"heedful/studio/templates/": ".html", "heedful/studio/static/": ".js", "heedful/": ".yaml"}
FOREIGN = (".pyc", ".safetensors", ".bin", ".pt", ".db", ".log", ".po~")
BIN = Path(sys.executable).parent

CLIENT = """
from collections.abc import Sequence
import heedful

def score(prompts: object, completions: Sequence[str]) -> list[float]:
    return [0.0 for _ in completions]

run: heedful.Run = heedful.grpo("model", [{"prompt": "hello"}], reward=score, out="run", steps=1)
figure: float = run.figures["reward"]
values: list[float] = heedful.score(run, ["hello"], ["hi"])
agreed = heedful.agreement([{"item": 1, "rater": "a", "value": "x"}], level="ordinal")
alpha: float = agreed.alpha.mean
duel: str = heedful.compare({"a": run, "b": "folder"}, ["hello"], reward=score).duels[0].a
"""
WRONG = """
import heedful

heedful.sft("model")  # no data, no out
heedful.sft("model", [], out=3)
"""


def contents(wheel: str, sdist: str) -> None:
    """The wheel holds the package and what it reads, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in NEEDED:
        assert name in names, f"the wheel lacks {name}"
    for folder, suffix in FOLDERS.items():
        assert any(name.startswith(folder) and name.endswith(suffix) for name in names), f"no {suffix} in {folder}"
    for name in names:
        top = PurePosixPath(name).parts[0]
        assert top == "heedful" or top.endswith(".dist-info"), f"the wheel holds {name}"
        assert not name.endswith(FOREIGN), f"the wheel holds {name}"
        assert not {"tests", "__pycache__", ".heedful-cache"} & set(PurePosixPath(name).parts), (
            f"the wheel holds {name}"
        )
    with tarfile.open(sdist) as archive:
        kept = {PurePosixPath(name).parts[1] for name in archive.getnames() if "/" in name}
    assert {"src", "tests", "docs", "LICENSE", "pyproject.toml"} <= kept
    assert not {".venv", "runs", ".git", ".mypy_cache"} & kept, kept
    size = Path(wheel).stat().st_size
    print(f"{Path(wheel).name}: {len(names)} files, {size / 2**20:.1f} MiB; sdist holds {', '.join(sorted(kept))}")


def heedful(*words: str, code: int = 0) -> str:
    """Run the command; its output, both streams."""
    done = subprocess.run([str(BIN / "heedful"), *words], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == code, f"heedful {' '.join(words)}: {done.returncode}\n{text}"
    assert "Traceback" not in text, text
    return text


def base(*, torch: bool = False) -> None:
    """What works without torch, on every install."""
    import heedful as package

    assert "torch" not in sys.modules
    assert package.agreement([{"item": i, "rater": r, "value": "x"} for i in (1, 2) for r in "ab"]).raw.mean == 1.0
    rows = [{"prompt": f"what is {i}", "chosen": f"it is {i}", "rejected": "no"} for i in range(12)]
    assert len(package.load_preferences(rows).records) == 12
    assert heedful("--version").startswith("heedful ")
    assert "quickstart" in heedful("--help")
    assert "--learning-rate" in heedful("completion", "words", "sft", "--learning")
    found = json.loads(heedful("env", "--json"))
    assert (found["torch"] is not None) == torch, found
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "12" in heedful("inspect", "rows.jsonl")
    if not torch:
        told = heedful("sft", "--model", "m", "--data", "rows.jsonl", "--out", "run", code=2)
        assert "heedful[train]" in told.replace("\n", ""), told
        assert not Path("run").exists()
    studio()


def studio() -> None:
    """`heedful studio --demo` serves its pages and their files."""
    words = [str(BIN / "heedful"), "studio", "--demo", "--port", "0", "--folder", "studio"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    guard = threading.Timer(120, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        lines: list[str] = []
        address = ""
        while not address:
            line = process.stdout.readline()
            assert line, f"the studio ended: {''.join(lines)}"
            lines.append(line)
            address = next((word.rstrip(".,") for word in line.split() if word.startswith("http://")), "")
        address = "/".join(address.split("/")[:3])
        threading.Thread(target=process.stdout.read, daemon=True).start()
        page = fetched(address)
        assert "<html" in page
        style = next(part.split('"')[0] for part in page.split('href="') if ".css" in part.split('"')[0])
        assert "{" in fetched(style if style.startswith("http") else address + style)
    finally:
        guard.cancel()
        process.terminate()
        process.wait(30)


def fetched(address: str) -> str:
    """A page, asked for until the server is up."""
    for attempt in range(120):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            if attempt == 119:
                raise
            threading.Event().wait(0.5)
    raise AssertionError


def typed() -> None:
    """A typed client of the installed wheel passes mypy, and a mistaken one does not."""
    Path("client.py").write_text(CLIENT)
    Path("wrong.py").write_text(WRONG)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-incremental"]
    done = subprocess.run([*mypy, "client.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    done = subprocess.run([*mypy, "wrong.py"], capture_output=True, text=True, check=False)
    assert done.stdout.count("error:") >= 2, done.stdout


def train() -> None:
    """A model from nothing trains, answers and is scored."""
    import heedful as package

    Path("new.yaml").write_text(
        "architecture: {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1,"
        " num_attention_heads: 2}\nvocabulary: 512\n"
    )
    quick = {"epochs": 1, "batch_size": 4, "quiet": True, "max_length": 64}
    run = package.sft("new.yaml", "rows.jsonl", out="sft", **quick)
    package.reward_model(run, "rows.jsonl", out="reward", **quick)
    assert len(package.score("reward", ["what"] * 2, ["it is", "no"])) == 2
    assert package.sample(run, ["what is 3"], max_new_tokens=4, quiet=True)[0]["tokens"] <= 4
    heedful("plan", "ppo", "--model", "sft", "--reward", "reward")


def main(extra: str) -> None:
    """The smoke test of an extra."""
    base(torch=extra not in ("base", "postgres"))
    if extra == "base":
        typed()
    elif extra == "postgres":
        importlib.import_module("psycopg")
    else:
        train()
        modules = {"serve": "fastapi", "qlora": "bitsandbytes", "wandb": "wandb", "lm-eval": "lm_eval", "ray": "ray"}
        modules["vllm"] = "vllm.distributed.weight_transfer"
        if extra in modules:
            importlib.import_module(modules[extra])
    print(f"{extra}: works, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    if sys.argv[1] == "contents":
        contents(*sys.argv[2:])
    else:
        main(sys.argv[1])
