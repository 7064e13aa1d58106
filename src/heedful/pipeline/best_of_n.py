"""A run of best-of-n: sample, score, keep the best, and leave a folder with files, figures and a report.

```
runs/best/
  heedful.yaml     the resolved settings
  best.jsonl       the best answer to each prompt: what `heedful sft` and TRL read
  pairs.jsonl      the best against the worst: preferences as TRL writes them
  samples.jsonl    every answer with its scores
  report.html      the curve
  manifest.json    written last: lineage, figures, seconds, memory
```
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heedful.data.records import Conversation, as_messages, prompt_key
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer, Generate
from heedful.evaluation.selection import GOLD, PROXY, Kept, Outcome, Pool, examine, keep
from heedful.evaluation.winrate import Floats
from heedful.files import atomic_write, read_manifest, sha256_file, sha256_json
from heedful.models.fingerprint import model_fingerprint, source_fingerprint
from heedful.models.rewards import CheckedReward, Reward, load_reward
from heedful.pipeline.best_of_n_report import meaning, report_data
from heedful.pipeline.report import write_report
from heedful.pipeline.report_data import StageRow
from heedful.pipeline.run_folder import begin, clear, finish, holds, lineage, locked
from heedful.pipeline.stages.common import peak_memory
from heedful.training.folders import SAMPLES
from heedful.training.progress import Display

NAME = "best-of-n"
BEST, PAIRS, REPORT = "best.jsonl", "pairs.jsonl", "report.html"
SCORED = 256
"""Prompts whose answers are scored between two updates of the progress bar."""


@dataclass(frozen=True)
class Judge:
    """A reward and the setting that names it."""

    spec: str
    reward: Reward


@dataclass(frozen=True)
class Asked:
    """What a run answers: its prompts, each once, where they come from, and the policy that answers."""

    policy: str
    revision: str | None
    source: str
    prompts: tuple[Conversation, ...]
    seed: int


@contextmanager
def held(out: Path, config: Any, display: Display) -> Iterator[dict[str, Any] | None]:
    """Hold the result's folder; yields the manifest of a run that is finished already, else None.

    What ends the block before its result is finished, an interrupt included, leaves no trace of it in the folder; what
    a killed process left there is cleared away by the next.

    Raises:
        HeedfulError: the folder holds another run, other settings or things of another kind, or is being written.
    """
    made_here = not out.exists()
    try:
        with locked(out):
            if read_manifest(out) is None and holds(out, NAME):
                _clear(out)
            done = begin(out, NAME, config)
            if done is not None:
                display.say(f"{NAME}: {out} is finished already; delete it, or choose another --out, to run again.")
            try:
                yield done
            finally:
                if read_manifest(out) is None:
                    _clear(out)
    finally:
        if made_here and out.exists() and {item.name for item in out.iterdir()} <= {".lock"}:
            shutil.rmtree(out)


def _clear(out: Path) -> None:
    clear(out)
    for name in (BEST, PAIRS, REPORT):
        (out / name).unlink(missing_ok=True)


def load_judges(reward: str, gold: str | None, **settings: Any) -> dict[str, Judge]:
    """The reward that chooses as `proxy`, and the one that did not, where there is one, as `gold`.

    Args:
        reward, gold: as `load_reward` takes them.
        settings: for reward models, as there.

    Raises:
        HeedfulError: no such reward, or the two are the same.
    """
    if gold is not None and _same(reward, gold):
        raise HeedfulError(
            "it is the reward that chooses, which cannot check its own choice.",
            where=f"gold {gold}",
            mend="Name a judge that did not choose, or leave --gold out.",
        )
    named = {PROXY: reward} | ({} if gold is None else {GOLD: gold})
    return {name: Judge(spec, load_reward(spec, **settings)) for name, spec in named.items()}


def _same(reward: str, gold: str) -> bool:
    if reward == gold:
        return True
    a, b = Path(reward), Path(gold)
    return a.is_dir() and b.is_dir() and (a.resolve() == b.resolve() or model_fingerprint(a) == model_fingerprint(b))


def each_once(prompts: Sequence[Conversation], display: Display) -> tuple[Conversation, ...]:
    """The prompts without those that stand there before.

    Raises:
        HeedfulError: fewer than two that differ in more than case and punctuation: there is no interval over one.
    """
    found = tuple(dict.fromkeys(prompts))
    if len(found) < len(prompts):
        display.say(f"{len(prompts) - len(found)} of {len(prompts)} prompts are repeats; each is answered once.")
    if len({prompt_key(prompt) for prompt in found}) < 2:
        raise HeedfulError(
            "one prompt alone says nothing about the spread between prompts.",
            mend="Give two different prompts or more; a hundred or more make an interval worth reading.",
        )
    return found


def run_best_of_n(
    asked: Asked, config: Any, judges: Mapping[str, Judge], generate: Generate, display: Display
) -> dict[str, Any]:
    """Answer, score, choose, and write the folder, which `held` holds; returns its manifest.

    Args:
        config: the settings; `config.out` is the folder.
        judges: as `load_judges` gives them.
        generate: prompts -> N answers each.

    Raises:
        HeedfulError: a score that is no finite number, or the folder cannot be written.
    """
    made_from = {"policy": {"name": asked.policy, "revision": asked.revision}}
    made_from["policy"]["fingerprint"] = source_fingerprint(asked.policy, revision=asked.revision)
    made_from |= {
        "reward" if name == PROXY else name: {"name": judge.spec, "fingerprint": source_fingerprint(judge.spec)}
        for name, judge in judges.items()
    }
    started = time.monotonic()
    answers = tuple(tuple(drawn) for drawn in generate(asked.prompts))
    seconds = time.monotonic() - started
    tokens = sum(answer.tokens for drawn in answers for answer in drawn)
    rate = {"tokens": float(tokens), "tokens a second": tokens / max(seconds, 1e-9)}
    rows = [StageRow("Sampling", seconds, peak_memory(), rate, {"policy": made_from["policy"]["fingerprint"] or ""})]
    scores: dict[str, Floats] = {}
    for name, judge in judges.items():
        began = time.monotonic()
        scores[name] = score(judge, asked.prompts, answers, display, f"score by {name}")
        hashes = {name: str(made_from["reward" if name == PROXY else name]["fingerprint"] or "")}
        rows.append(StageRow(f"Scoring by {name}", time.monotonic() - began, peak_memory(), {}, hashes))
    pool = Pool(asked.prompts, answers, scores)
    outcome, kept = examine(pool, seed=asked.seed), keep(pool)
    data = {"source": asked.source, "sha256": _hash_of(asked), "records": len(asked.prompts)}
    manifest = lineage(NAME, config, made_from, data)
    manifest |= {"figures": figures_of(pool, outcome, kept), "meaning": meaning(pool, outcome)}
    manifest["seconds"] = time.monotonic() - started
    manifest["seconds_of"] = {row.name.lower(): row.seconds for row in rows}
    manifest["peak_memory_bytes"] = peak_memory()

    def save(folder: Path) -> None:
        write_pool(folder, pool, kept)
        write_report(folder / REPORT, report_data(pool, outcome, kept, rows, manifest))

    return finish(Path(config.out), save, manifest)


def _hash_of(asked: Asked) -> str:
    """Of a file its own hash; else that of the prompts."""
    path = Path(asked.source).expanduser()
    return sha256_file(path) if path.is_file() else sha256_json([as_messages(prompt) for prompt in asked.prompts])


def score(
    judge: Judge,
    prompts: Sequence[Conversation],
    answers: Sequence[Sequence[Answer]],
    display: Display,
    title: str,
) -> Floats:
    """[P, N] what a judge says of every answer.

    Raises:
        HeedfulError: something else than one finite number for each, with the prompt where that is known.
    """
    many = len(answers[0])
    found = []
    with display.task(title, len(prompts)) as bar:
        for start in range(0, len(prompts), SCORED):
            rows = slice(start, start + SCORED)
            asked = [prompt for prompt in prompts[rows] for _ in range(many)]
            texts = [answer.text for drawn in answers[rows] for answer in drawn]
            found.append(_scores(judge, asked, texts).reshape(-1, many))
            bar.update(start + len(found[-1]), {})
    return np.concatenate(found)


def _scores(judge: Judge, prompts: Sequence[Conversation], texts: Sequence[str]) -> Floats:
    reward = judge.reward
    if isinstance(reward, CheckedReward):  # so that the error can name the prompt
        given = reward.function(prompts, texts)
        bad = _first_not_finite(given, len(texts))
        if bad is not None:
            raise HeedfulError(
                f"the reward gave {bad[1]} for the answer {texts[bad[0]][:80]!r} "
                f"to the prompt {prompts[bad[0]][-1].content[:80]!r}.",
                where=judge.spec,
                mend="It must return one finite number for each completion, in the order given.",
            )
        reward = CheckedReward(judge.spec, lambda prompts, texts: given)
    return torch.as_tensor(reward(prompts, texts)).double().cpu().numpy()


def _first_not_finite(given: Any, count: int) -> tuple[int, float] | None:
    """(place, value) of the first score that is not finite; None where there is none, or `given` is no such scores."""
    try:
        scores = torch.as_tensor(given, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        return None
    if scores.shape != (count,) or bool(torch.isfinite(scores).all()):
        return None
    place = int((~torch.isfinite(scores)).nonzero()[0, 0])
    return place, float(scores[place])


def figures_of(pool: Pool, outcome: Outcome, kept: Kept) -> dict[str, Any]:
    """What the manifest says of a run: the curve of each judge, the gains, gold's turn, and what was kept."""
    curves = {
        name: [{"n": point.n, "kl_bound": point.kl_bound, **asdict(point.value)} for point in points]
        for name, points in outcome.curves.items()
    }
    return {
        "prompts": len(pool.prompts),
        "samples": pool.samples,
        "curves": curves,
        "words": list(outcome.words),
        "gains": {name: asdict(gain) for name, gain in outcome.gains.items()},
        "turns": [asdict(found) for found in outcome.turns],
        "best": len(kept.best),
        "pairs": len(kept.pairs),
        "left_out": {"empty_best": kept.empty, "alike": kept.alike, "unusable_pairs": kept.unusable},
        "cut_best": kept.cut,
    }


def write_pool(folder: Path, pool: Pool, kept: Kept) -> None:
    """Write `best.jsonl`, `pairs.jsonl` and `samples.jsonl`; the same pool gives the same bytes."""
    everything = [(p, k) for p in range(len(pool.prompts)) for k in range(pool.samples)]
    for name, picked in ((BEST, kept.best), (SAMPLES, everything)):
        with atomic_write(folder / name) as file:
            file.writelines(json.dumps(_row(pool, p, k), ensure_ascii=False) + "\n" for p, k in picked)
    write_records(folder / PAIRS, kept.pairs, format="trl")


def _row(pool: Pool, p: int, k: int) -> dict[str, Any]:
    """One answer in the prompt-completion form that `heedful sft` and TRL read, with its scores."""
    answer = pool.answers[p][k]
    return {
        "prompt": as_messages(pool.prompts[p]),
        "completion": [{"role": "assistant", "content": answer.text}],
        "sample": k,
        "finished": answer.finished,
        "tokens": answer.tokens,
        **{name: float(table[p, k]) for name, table in pool.scores.items()},
    }
