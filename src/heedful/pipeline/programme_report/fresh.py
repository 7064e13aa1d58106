"""What a report samples and scores itself: first policy against last, refusals, probes. All is kept in a cache.

Torch and the models are imported when something is sampled or scored, not when this file is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.core.seeds import mix
from heedful.core.statistics import Interval
from heedful.data.load import DataSpec, load_preferences
from heedful.data.records import Conversation, as_messages
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer
from heedful.evaluation.probes.measure import Probing, probe
from heedful.evaluation.probes.natural import natural_probes, ordinary
from heedful.evaluation.probes.worldly import world_gold, world_probes
from heedful.evaluation.refusal_rates import (
    Judge,
    RefusalReport,
    by_rules,
    by_world,
    natural_set,
    refusal_report,
    spread,
    world_set,
)
from heedful.evaluation.winrate import rate_interval
from heedful.files import sha256_file, sha256_json
from heedful.pipeline.programme_report.cache import Cache
from heedful.pipeline.programme_report.reading import Results
from heedful.pipeline.programme_report.topics import clusters_of
from heedful.pipeline.rounds.contents import content, digest
from heedful.pipeline.rounds.rows import conversation, different, read_rows
from heedful.pipeline.rounds.stages import of_ai, read_by_judges
from heedful.pipeline.rounds.uses import place
from heedful.training.progress import Display
from heedful.training.settings import plain
from heedful.world.raters import judge as simulate
from heedful.world.raters import panel
from heedful.world.world import World

if TYPE_CHECKING:
    from heedful.evaluation.probes.contrast import Base, Contrast

VERSION = 1
"""Raised whenever the code samples or scores something else of the same policies and prompts."""
PURPOSE = 90
CHUNK = 64
PROBED = 150
"""Judged pairs whose answers are changed for the probes, where there is no world; spread over all."""


@dataclass(frozen=True)
class Asked:
    """What a report samples and scores.

    Attributes:
        samples: answers of the first and the last policy, and which is better.
        refusals: of both.
        probes: of the last reward model.
        prompts: most check prompts that are answered.
        requests: most requests that are safe or unsafe.
        device: auto, cpu, cuda or cuda:N; None takes the recipe's.
    """

    samples: bool = True
    refusals: bool = True
    probes: bool = True
    prompts: int = 100
    requests: int = 100
    device: str | None = None


@dataclass(frozen=True)
class HeadToHead:
    """The first policy and the last on the same prompts, which nothing was trained on.

    Attributes:
        prompts: [P].
        first, last: [P] their answers.
        won: [P] 1 where the last policy's answer is better, 0 where the first's is, between where votes part; None
            where nobody could be asked.
        rate: its mean.
        judge: who decided, in words; empty where nobody could be asked.
        golds: [P] scores of the first and of the last by the world's truth, and how often the last wins by it.
    """

    prompts: tuple[Conversation, ...]
    first: tuple[Answer, ...]
    last: tuple[Answer, ...]
    clusters: tuple[str, ...]
    won: tuple[float, ...] | None
    rate: Interval | None
    judge: str
    golds: tuple[tuple[float, ...], tuple[float, ...]] | None
    gold: Interval | None


@dataclass(frozen=True)
class Probes:
    """What the last reward model pays for."""

    reward: str
    base: Base
    contrasts: list[Contrast]
    probing: Probing


@dataclass
class Maker:
    """Samples and scores for a report, through its cache."""

    results: Results
    asked: Asked
    cache: Cache
    display: Display

    # --- answers and scores, the two things that are dear ---

    def answers(self, policy: str, prompts: Sequence[Conversation], purpose: int, title: str) -> list[Answer]:
        """One answer of a policy to each prompt, as it is trained to sample."""
        recipe, path = self.results.recipe, self.results.path(policy)
        loading, tokens = recipe.method.loading, recipe.sample.max_new_tokens
        key = {
            "version": VERSION,
            "policy": _digest(path),
            "prompts": sha256_json([as_messages(one) for one in prompts]),
            "seed": [recipe.seed, purpose],
            "max_new_tokens": tokens,
            "loading": {name: one for name, one in plain(loading).items() if name not in ("device", "compile")},
        }

        def make() -> list[dict[str, Any]]:
            from heedful.pipeline.rounds.sampling import answered, opened

            device = loading.device if self.asked.device is None else self.asked.device
            model = opened(path, replace(loading, device=device))
            found: list[dict[str, Any]] = []
            with self.display.task(title, len(prompts)) as task:
                for begin in range(0, len(prompts), CHUNK):
                    some, seed = prompts[begin : begin + CHUNK], mix(recipe.seed, PURPOSE, purpose, begin)
                    found += [asdict(one) for one in answered(model, some, recipe, 1.0, seed)]
                    task.update(len(found), {})
            return found

        return [Answer(**one) for one in self.cache.kept(f"answers {purpose}", key, make)]

    def scores(self, reward: str, prompts: Sequence[Conversation], texts: Sequence[str], title: str) -> list[float]:
        """What a reward says of answers."""
        path = self.results.path(reward)
        rows = [[as_messages(prompt), text] for prompt, text in zip(prompts, texts, strict=True)]
        key = {"version": VERSION, "reward": _digest(path), "answers": sha256_json(rows)}

        def make() -> list[float]:
            from heedful.monitoring.checks import Reply, ScoreJudge
            from heedful.pipeline.choices import resolve_device
            from heedful.pipeline.gold_checks import open_judge

            judge = open_judge(path, device=resolve_device(self.asked.device or "auto"))
            assert isinstance(judge, ScoreJudge)
            replies = [Reply(text, True, 0.0) for text in texts]
            found: list[float] = []
            with self.display.task(title, len(texts)) as task:
                for begin in range(0, len(texts), CHUNK):
                    part = slice(begin, begin + CHUNK)
                    found += [float(one) for one in judge.score(prompts[part], replies[part])]
                    task.update(len(found), {})
            return found

        return [float(one) for one in self.cache.kept(title, key, make)]

    # --- the parts of a report ---

    def head_to_head(self) -> HeadToHead | None:
        """The last policy against the first; None where they are the same, or it is not asked for."""
        results = self.results
        if not self.asked.samples or not results.moved:
            return None
        assert results.first is not None
        assert results.last is not None
        prompts = check_prompts(results, self.asked.prompts)
        first = self.answers(results.first, prompts, 0, "first policy answers")
        last = self.answers(results.last, prompts, 1, "last policy answers")
        clusters = clusters_of(prompts, results.programme)
        won, judge = self._judged(prompts, first, last)
        golds, gold = None, None
        if results.recipe.world.use:
            world = World(results.recipe.world.seed)
            before, after = (
                world.golds(prompts, [one.text for one in own], [one.finished for one in own]) for own in (first, last)
            )
            golds = tuple(before.tolist()), tuple(after.tolist())
            gold = _rate((np.sign(after - before) + 1) / 2, clusters, results.recipe.seed)
        rate = None if won is None else _rate(np.array(won), clusters, results.recipe.seed)
        both = (tuple(first), tuple(last), tuple(clusters))
        return HeadToHead(tuple(prompts), *both, None if won is None else tuple(won), rate, judge, golds, gold)

    def _judged(
        self, prompts: Sequence[Conversation], first: Sequence[Answer], last: Sequence[Answer]
    ) -> tuple[list[float] | None, str]:
        """Who wins each pair, by what of the check's judges can be asked at once, and who that was."""
        judges = self.results.recipe.check.judge
        told = [different(a.text, b.text) for a, b in zip(first, last, strict=True)]
        rows = [row for row, one in enumerate(told) if one]
        won = [0.5] * len(prompts)
        if judges.simulated:
            pairs = [(prompts[row], last[row].text, first[row].text) for row in rows]
            seed = mix(self.results.recipe.seed, PURPOSE, 2)
            world, raters = World(self.results.recipe.world.seed), panel(judges.panel)
            shares = simulate(world, pairs, raters, votes=judges.votes, seed=seed).for_a.mean(1)
            for row, share in zip(rows, shares, strict=True):
                won[row] = float(share)
            return won, f"simulated raters, {judges.votes} for each pair"
        ai = self.results.recipe.ai_of("check")
        if judges.ai and ai.asked:
            try:
                return self._by_models(prompts, first, last, rows), f"the AI judge {' and '.join(ai.judges)}"
            except HeedfulError as error:  # their answers are worth showing all the same
                self.display.say(f"Nobody says which of the two policies is better: {error}")
                return None, ""
        if judges.ai:
            name = str(ai.judge)
            gaps = self._gaps(name, prompts, first, last)
            for row in rows:
                won[row] = 0.5 if abs(gaps[row]) <= 1e-9 else float(gaps[row] > 0)
            return won, f"the AI judge {name}"
        return None, ""

    def _by_models(
        self, prompts: Sequence[Conversation], first: Sequence[Answer], last: Sequence[Answer], rows: Sequence[int]
    ) -> list[float]:
        """How likely models that are asked find the last policy's answer better; 1/2 where none could be read.

        Raises:
            HeedfulError: they cannot be asked, or the programme's budget is spent.
        """
        results = self.results
        ai = results.recipe.ai_of("check")
        shown = [[as_messages(prompts[row]), last[row].text, first[row].text] for row in rows]
        told = read_by_judges(results.recipe, "check")
        files = {role: sha256_file(Path(results.path(name))) for role, name in told.items()}
        key = {"version": VERSION, "pairs": sha256_json(shown), "judge": of_ai(ai), "files": files}

        def make() -> list[float | None]:
            from heedful.feedback.ai.material import Case
            from heedful.pipeline.rounds.ai_judges import asked_of, label_of

            cases = [Case(prompts[row], (last[row].text, first[row].text)) for row in rows]
            panel, judged = asked_of(results.programme, results.recipe, "check", cases, self.display)
            found: list[float | None] = []
            for number in range(len(cases)):
                said = [(one.way, judged.opinions[one.name].get(number)) for one in panel]
                labels = [label_of(way, opinion) for way, opinion in said if opinion is not None]
                own = [one for one in labels if one is not None]
                found.append(sum(own) / len(own) if own else None)
            return found

        won = [0.5] * len(prompts)
        for row, share in zip(rows, self.cache.kept("AI judges", key, make), strict=True):
            won[row] = 0.5 if share is None else float(share)
        return won

    def _gaps(
        self, judge: str, prompts: Sequence[Conversation], first: Sequence[Answer], last: Sequence[Answer]
    ) -> list[float]:
        """By how much an AI judge finds the last policy's answers better."""
        before, after = (
            self.scores(judge, prompts, [one.text for one in own], f"{name} judged")
            for name, own in (("first policy", first), ("last policy", last))
        )
        return [b - a for a, b in zip(before, after, strict=True)]

    def refusals(self) -> dict[str, RefusalReport]:
        """How the first policy and the last refuse; empty where it is not asked for."""
        results, recipe = self.results, self.results.recipe
        if not self.asked.refusals or results.first is None:
            return {}
        in_world = recipe.world.use
        asked = spread(world_set(World(recipe.world.seed)) if in_world else natural_set(), self.asked.requests)
        judges: dict[str, Judge] = {"the world's truth": by_world} if in_world else {"rules": by_rules}
        prompts = [one for _, one in asked]
        names = {"first policy": results.first} | ({"last policy": str(results.last)} if results.moved else {})
        found = {}
        for number, (name, policy) in enumerate(names.items()):
            answers = self.answers(policy, prompts, 10 + number, f"{name} and requests")
            found[name] = refusal_report(asked, [[one.text] for one in answers], judges)
        return found

    def probes(self) -> Probes | None:
        """What the last reward model pays for; None where there is none, or it is not asked for."""
        results, recipe = self.results, self.results.recipe
        made = results.stages("reward")
        if not self.asked.probes or not made:
            return None
        number = max(made)
        name = f"rounds/{number}/reward"

        def reward(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
            return self.scores(name, prompts, texts, "reward model probed")

        gold: Callable[..., Any] | None = None
        if recipe.world.use:
            world = World(recipe.world.seed)
            base, contrasts = world_probes(world, seed=recipe.seed)
            gold = world_gold(world)
        else:
            data = str(results.place(number, "dataset") / "preferences.jsonl")
            records = load_preferences(DataSpec(data)).records
            some = records[:: max(1, len(records) // PROBED)][:PROBED]
            base = ordinary(some, f"{len(some)} of {len(records)} judged pairs")
            contrasts = natural_probes(base, seed=recipe.seed)
        return Probes(name, base, contrasts, probe(reward, base, contrasts, gold=gold, seed=recipe.seed))


def check_prompts(results: Results, limit: int) -> list[Conversation]:
    """Prompts that nothing was ever trained on, in an order by a hash."""
    number = max(results.stages("prompts"))
    rows = list(read_rows(results.place(number, "prompts") / "uses.jsonl"))
    prompts = [conversation(row["prompt"]) for row in rows if row["use"] == "check"]
    seed = mix(results.recipe.seed, PURPOSE)
    return sorted(prompts, key=lambda one: place(seed, sha256_json(as_messages(one))))[:limit]


def _digest(path: str) -> str:
    """The content of a policy or a reward: as its manifest says where it has one."""
    from heedful.files import read_manifest

    manifest = read_manifest(Path(path)) if Path(path).is_dir() else None
    return digest(manifest) if manifest is not None and "files" in manifest else content(path)


def _rate(values: np.ndarray, clusters: Sequence[str], seed: int) -> Interval:
    if len(set(clusters)) < 2:
        raise HeedfulError(
            "all check prompts ask about one thing, so that no interval can be given.",
            where="prompts",
            mend="Raise --prompts, or give the programme more prompts.",
        )
    return rate_interval(values, np.array(clusters), seed=seed)
