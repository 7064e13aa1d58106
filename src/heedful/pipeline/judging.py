"""Cases judged by one model or a panel of them: the records, the labels, and how far to trust both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from heedful.core.crowd import judgments, length_difference
from heedful.core.judge_correction import Correction, cross_fitted
from heedful.core.label_worth import pooled, prediction_powered
from heedful.core.rater_aware import RaterAware, rater_aware
from heedful.data.records import Preference, Ranking, prompt_key
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.evaluation.judges import JudgeCard, ScoredPair, features, judge_card, overlap_of
from heedful.feedback.ai.asks import Asker, BudgetSpentError
from heedful.feedback.ai.judging import Opinion, judge, values_of
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.principled import PrincipledWay
from heedful.feedback.ai.ways import Look, Way
from heedful.feedback.client import FeedbackClient
from heedful.feedback.payloads import stored
from heedful.feedback.wire import Judge, NewJudgment, Provenance
from heedful.files import atomic_write, sha256_file, sha256_json, write_json
from heedful.pipeline.judge_cases import PeopleSaid, family_of, own_family

TRAIN = "train"
CHUNK = 100
"""Cases recorded in the store together."""
Tell = Callable[[int, int], None]
"""(cases done, of how many) -> shown to whoever waits."""


@dataclass(frozen=True)
class Panelist:
    """One judge: its name as a rater, who answers for it, and how it is asked."""

    name: str
    asker: Asker
    way: Way
    family: str = ""
    """Part of the names of policies of its own family; by default the first word of its name."""

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", family_of(self.name))


@dataclass
class Judged:
    """What a panel said: by judge, the opinion of each case that it came to, by the case's number."""

    cases: Sequence[Case]
    opinions: dict[str, dict[int, Opinion]] = field(default_factory=dict)
    stopped: BudgetSpentError | None = None
    """The budget's end, where it came before the last case."""

    def troubles(self, name: str) -> dict[str, int]:
        """How many of a judge's looks came to nothing, by why."""
        found: dict[str, int] = {}
        for opinion in self.opinions[name].values():
            for trouble in opinion.troubles:
                found[trouble] = found.get(trouble, 0) + 1
        return dict(sorted(found.items()))


def judge_all(
    panel: Sequence[Panelist], cases: Sequence[Case], *, tell: Tell, keep: Callable[[Panelist, int, Opinion], None]
) -> Judged:
    """Have every judge judge every case.

    Args:
        panel: the judges, one after another.
        cases: what to judge.
        tell: hears how far it is.
        keep: is given each opinion as it comes.

    Raises:
        HeedfulError: a judge can answer nothing at all.
    """
    found = Judged(cases)
    done, total = 0, len(panel) * len(cases)
    for one in panel:
        mine = found.opinions[one.name] = {}
        try:
            for number, opinion in judge(one.asker, one.way, cases):
                mine[number] = opinion
                keep(one, number, opinion)
                done += 1
                tell(done, total)
        except BudgetSpentError as error:
            found.stopped = error
    return found


def provenance_of(one: Panelist, look: Look) -> Provenance:
    """How a look came about, as the store keeps it. What no database keeps of a text becomes U+FFFD."""
    replies = [
        {"text": reply.text.encode("utf-8", "replace").decode().replace("\0", "\ufffd"), "finish": str(reply.finish)}
        for reply in look.replies
    ]
    return Provenance(
        model=next((reply.model for reply in look.replies if reply.model), one.name)[:300],
        temperature=one.way.manner.temperature,
        cost=look.cost,
        prompt_tokens=sum(reply.usage.prompt_tokens for reply in look.replies),
        completion_tokens=sum(reply.usage.completion_tokens for reply in look.replies),
        replies=replies,
    )


class StoreWriter:
    """Records opinions in a studio's store as they come. The same opinion again is the same judgment."""

    def __init__(self, client: FeedbackClient, programme: str, cases: Sequence[Case]) -> None:
        self._client, self._programme, self._cases = client, programme, cases
        self._waiting: dict[str, list[NewJudgment]] = {}
        self.written = 0

    def keep(self, one: Panelist, number: int, opinion: Opinion) -> None:
        """Take an opinion."""
        case = self._cases[number]
        rows = self._waiting.setdefault(one.name, [])
        template = one.way.template(case).version
        for look in opinion.looks:
            if look.payload is None:
                continue
            order = ",".join(map(str, look.order))
            key = sha256_json([one.name, template, case.item, order, one.way.manner.draw])[:60]
            shown = look.order if one.way.placed(case) else ()
            how = provenance_of(one, look)
            rows.append(NewJudgment(case.item, stored(look.payload), key, shown, template, order, look.rationale, how))
        if len(rows) >= CHUNK:
            self.flush(one.name)

    def flush(self, name: str) -> None:
        """Write what waits."""
        rows = self._waiting.pop(name, [])
        if rows:
            self.written += len(self._client.record(self._programme, Judge(name, "ai"), rows))

    def close(self) -> None:
        """Write everything that waits."""
        for name in list(self._waiting):
            self.flush(name)


@dataclass(frozen=True)
class Scored:
    """One judge's pairs, and where they stand: the case's number and the two answers."""

    pairs: list[ScoredPair]
    places: list[tuple[int, int, int]]


def scored(one: Panelist, judged: Judged, people: PeopleSaid, gold: PeopleSaid) -> Scored:
    """What a judge said of every pair of answers of every case that it judged in all orders."""
    found = Scored([], [])
    for number, opinion in sorted(judged.opinions[one.name].items()):
        if opinion.values is None:
            continue
        case = judged.cases[number]
        placed = one.way.placed(case)
        for i, j in combinations(range(len(case.completions)), 2):
            a, b = case.completions[i], case.completions[j]
            score = opinion.logit if opinion.logit is not None else opinion.values[i] - opinion.values[j]
            firsts = tuple(_for_first(opinion, i, j)) if placed else ()
            truth = gold.of(case.prompt, a, b)
            found.pairs.append(
                ScoredPair(
                    prompt_key(case.prompt),
                    a,
                    b,
                    score,
                    firsts,
                    people.summed(case.prompt, a, b),
                    own_family(case, i, j, one.family),
                    truth[0][1] if truth else None,
                )
            )
            found.places.append((number, i, j))
    return found


def _for_first(opinion: Opinion, i: int, j: int) -> Iterator[float]:
    """Of each look: what it said for whichever of two answers came first."""
    for look in opinion.looks:
        row = values_of(look.payload)
        said = look.logit if look.logit is not None else row[i] - row[j]
        yield said if look.order.index(i) < look.order.index(j) else -said


def panel_consensus(panel: Sequence[Panelist], judged: Judged, people: PeopleSaid, gold: PeopleSaid) -> RaterAware:
    """Judges, and people where it is known who they are, as one crowd of raters (`core.rater_aware`).

    Each look is a vote; the looks of one judge at one pair count as one judgment together. Reliability, position,
    length and ties are each rater's own, so a judge that tells little weighs little.

    Raises:
        HeedfulError: nothing was judged.
    """
    rows: list[tuple[str, str, float, float, float, float]] = []
    truth: dict[str, float] = {}
    for number, case in enumerate(judged.cases):
        for i, j in combinations(range(len(case.completions)), 2):
            item, a, b = f"{number} {i} {j}", case.completions[i], case.completions[j]
            longer = float(len(a) - len(b))
            for one in panel:
                opinion = judged.opinions[one.name].get(number)
                looks = [look for look in opinion.looks if look.payload is not None] if opinion else []
                for look in looks:
                    values = values_of(look.payload)
                    order = 1.0 if look.order.index(i) < look.order.index(j) else -1.0
                    side = float(np.sign(values[i] - values[j]))
                    rows.append((item, one.name, side, order if one.way.placed(case) else 0.0, longer, 1 / len(looks)))
            for who, vote in people.of(case.prompt, a, b):
                if who:
                    rows.append((item, f"person {who}", float(np.sign(vote - 0.5)), 0.0, longer, 1.0))
            for _, side in gold.of(case.prompt, a, b):
                truth[item] = float(np.sign(side - 0.5))
    if not rows:
        raise HeedfulError("no judge came to any judgment.", where="judge", mend="Look at judgments.jsonl for why.")
    items, raters, votes, orders, gaps, weights = (list(column) for column in zip(*rows, strict=True))
    length = length_difference(gaps, np.zeros(len(gaps)))
    return rater_aware(judgments(items, raters, votes, order=orders, length=length, weight=weights, gold=truth))


@dataclass(frozen=True)
class Labels:
    """Records for training, and in words how they came about."""

    records: list[Preference] | list[Ranking]
    how: str
    left_out: int
    """Cases that were not judged in every order by every judge, or are not for training."""


def labels(
    panel: Sequence[Panelist],
    judged: Judged,
    cards: Mapping[str, tuple[Scored, JudgeCard]],
    crowd: RaterAware | None,
) -> Labels:
    """Preferences where every case is a pair, else rankings.

    Of one judge: its own probability, or the corrected one where people judged enough pairs; and where people judged
    the very pair, both together, the judge as many votes as it is surely worth (its interval's lower bound). Of a judge
    by a constitution: its own, clamped after thoughts. Of a panel: the crowd's probability.
    """
    if any(len(case.completions) > 2 for case in judged.cases):
        return _rankings(panel, judged)
    if crowd is not None:
        return _from_crowd(judged, crowd)
    one = panel[0]
    if isinstance(one.way, PrincipledWay):
        return _principled(one, one.way, judged)
    found, card = cards[one.name]
    how = f"judge {one.name}, {one.way.template(judged.cases[0]).version}"
    tag = f"judge {one.name}"
    opinions = judged.opinions[one.name]
    probability = [float(opinions[number].probability or 0.0) for number, _, _ in found.places]
    if card.correction is not None:
        probability = _corrected(found, card.names, card.correction)
        tag += ", corrected"
        how += f", corrected on {card.with_people} pairs that people judged"
    worth = 0.0
    if card.worth is not None and card.worth.labels.low > 0:
        worth = card.worth.labels.low  # what it is surely worth
    if worth > 0:
        votes = [pair.people.count for pair in found.pairs]
        means = [pair.people.mean for pair in found.pairs]
        probability = pooled(means, votes, probability, worth).tolist()
        tag += ", with people"
        how += f", as {worth:.2f} votes beside people's own"
    records = []
    for (number, _, _), value, pair in zip(found.places, probability, found.pairs, strict=True):
        case = judged.cases[number]
        if case.purpose != TRAIN:
            continue
        count = max(1, round(pair.people.count + (worth if worth > 0 else 1.0)))
        records.append(Preference(case.prompt, *_two(case), probability=value, votes=count, consensus=tag))
    return Labels(records, how, len(judged.cases) - len(records))


def _principled(one: Panelist, way: PrincipledWay, judged: Judged) -> Labels:
    """The judge's own labels, each saying which principle it was given by. People's judgments measure them only."""
    opinions = judged.opinions[one.name]
    made = [
        way.preference(case, opinions[number], one.name)
        for number, case in enumerate(judged.cases)
        if number in opinions
    ]
    records = [record for record in made if record is not None]
    how = f"judge {one.name} by principles of {way.constitution.name} ({way.constitution.version})"
    return Labels(records, how, len(judged.cases) - len(records))


def _two(case: Case) -> tuple[str, str]:
    first, second = case.completions
    return first, second


def _corrected(found: Scored, names: tuple[str, ...], correction: Correction) -> list[float]:
    """Corrected labels of all pairs; of those that people judged by a fit without their prompt."""
    table, have = features(found.pairs)
    table = table[:, [have.index(name) for name in names]]  # the card's, reckoned from the same pairs
    made = correction.probability([pair.score for pair in found.pairs], table)
    seen = [row for row, pair in enumerate(found.pairs) if pair.people.count > 0]
    made[seen] = cross_fitted(overlap_of([found.pairs[row] for row in seen], table[seen]))
    return [float(value) for value in made]


def _from_crowd(judged: Judged, crowd: RaterAware) -> Labels:
    place = {str(item): at for at, item in enumerate(crowd.consensus.item_ids.tolist())}
    posterior = crowd.consensus.posterior
    raters = crowd.consensus.raters
    records = []
    for number, case in enumerate(judged.cases):
        at = place.get(f"{number} 0 1")
        if at is None or case.purpose != TRAIN:
            continue
        records.append(
            Preference(
                case.prompt,
                *_two(case),
                probability=float(crowd.consensus.probability[at]),
                votes=int(raters[at]),
                consensus="rater-aware panel of judges",
                posterior=None if posterior is None else float(posterior[at]),
            )
        )
    return Labels(records, "rater-aware panel of judges", len(judged.cases) - len(records))


def _rankings(panel: Sequence[Panelist], judged: Judged) -> Labels:
    """Of one judge its mean ranks; of several the mean of theirs, each judge one voice."""
    records = []
    for number, case in enumerate(judged.cases):
        opinions = [judged.opinions[one.name].get(number) for one in panel]
        whole = [(opinion, opinion.ranks) for opinion in opinions if opinion is not None and opinion.ranks is not None]
        if len(whole) < len(panel) or case.purpose != TRAIN:
            continue
        mean = np.mean([ranks for _, ranks in whole], axis=0)
        ranks = tuple(float(1 + sum(other < own - 1e-9 for other in mean)) for own in mean)
        scores = whole[0][0].scores if len(whole) == 1 else {}
        records.append(Ranking(case.prompt, case.completions, ranks, tuple(scores.items())))
    how = "mean ranks of the panel" if len(panel) > 1 else f"judge {panel[0].name}"
    return Labels(records, how, len(judged.cases) - len(records))


def win_rates(found: Scored, judged: Judged, card: JudgeCard) -> list[dict[str, Any]]:
    """Of every two policies whose answers met: how often one wins, by people with the judge's help and by people alone.

    Prediction-powered (`core.label_worth.prediction_powered`): the pairs that people judged take the judge's errors out
    of those that it judged alone. Only where both kinds come from two prompts or more.
    """
    if card.correction is None:
        return []
    value = _corrected(found, card.names, card.correction)
    rows: dict[tuple[str, str], list[tuple[ScoredPair, float, bool]]] = {}
    for (number, i, j), pair, own in zip(found.places, found.pairs, value, strict=True):
        names = judged.cases[number].policies
        if len(names) <= max(i, j) or not names[i] or not names[j] or names[i] == names[j]:
            continue
        turned = names[i] > names[j]
        key = (names[j], names[i]) if turned else (names[i], names[j])
        rows.setdefault(key, []).append((pair, 1 - own if turned else own, turned))
    made = []
    for (a, b), mine in sorted(rows.items()):
        voted = [row for row in mine if row[0].people.count > 0]
        alone = [row for row in mine if row[0].people.count == 0]
        if min(len({row[0].prompt for row in side}) for side in (voted, alone)) < 2:
            continue
        label = [1 - pair.people.mean if turned else pair.people.mean for pair, _, turned in voted]
        powered = prediction_powered(
            label,
            [own for _, own, _ in voted],
            [pair.prompt for pair, _, _ in voted],
            [own for _, own, _ in alone],
            [pair.prompt for pair, _, _ in alone],
        )
        made.append({"a": a, "b": b, "with_people": len(voted), "alone": len(alone), **vars(powered)})
    return made


def look_rows(one: Panelist, number: int, case: Case, opinion: Opinion) -> Iterator[dict[str, Any]]:
    """A judge's looks at a case as JSON: the judgment with the model, template, temperature, cost and raw replies."""
    for look in opinion.looks:
        yield {
            "case": number,
            "origin": str(case.origin),
            "item": case.item,
            "key": case.key,
            "rater": {"kind": "ai", "name": one.name},
            "way": type(one.way).__name__.removesuffix("Way").lower(),
            "template": one.way.template(case).version,
            "temperature": one.way.manner.temperature,
            "order": list(look.order),
            "payload": None if look.payload is None else stored(look.payload),
            "logit": look.logit,
            "rationale": look.rationale,
            "trouble": look.trouble,
            "detail": look.detail,
            "repairs": look.repairs,
            "cost": look.cost,
            "replies": [
                {
                    "text": reply.text,
                    "finish": reply.finish,
                    "model": reply.model,
                    "prompt_tokens": reply.usage.prompt_tokens,
                    "completion_tokens": reply.usage.completion_tokens,
                    "cost": reply.cost,
                    "logprobs": list(reply.logprobs[:1]),
                }
                for reply in look.replies
            ],
        }


def write_out(
    out: Path, panel: Sequence[Panelist], judged: Judged, made: Labels, about: Mapping[str, Any]
) -> dict[str, str]:
    """Write the folder: each look, the labels, and last what is known of it all. Gives the files' names.

    Raises:
        HeedfulError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "judgments.jsonl") as file:
        for one in panel:
            for number, opinion in sorted(judged.opinions[one.name].items()):
                for row in look_rows(one, number, judged.cases[number], opinion):
                    file.write(json.dumps(row, ensure_ascii=True) + "\n")
    files = {"judgments": "judgments.jsonl"}
    for kind in ("preferences", "rankings"):  # of an earlier run, which had others
        (out / f"{kind}.jsonl").unlink(missing_ok=True)
    if made.records:
        kind = "preferences" if isinstance(made.records[0], Preference) else "rankings"
        write_records(out / f"{kind}.jsonl", made.records)
        files[kind] = f"{kind}.jsonl"
    hashes = {name: sha256_file(out / name) for name in files.values()}
    write_json(out / "judge.json", dict(about) | {"files": files, "sha256": hashes})
    return files


def read_by(given: Mapping[str, str | None]) -> dict[str, dict[str, str]]:
    """The files that judging read, by role, each with the hash of its content; of a data set on the hub its name."""
    found = {}
    for role, name in given.items():
        if name is not None:
            content = sha256_file(Path(name)) if Path(name).is_file() else ""
            found[role] = {"source": name, "sha256": content}
    return found


def constitution_of(panel: Sequence[Panelist]) -> str:
    """The constitution that a panel goes by, with its version; empty for one that goes by a rubric."""
    ways = [one.way for one in panel if isinstance(one.way, PrincipledWay)]
    return f"{ways[0].constitution.name} ({ways[0].constitution.version})" if ways else ""


def cards_of(
    panel: Sequence[Panelist], judged: Judged, people: PeopleSaid, gold: PeopleSaid, *, seed: int = 0
) -> dict[str, tuple[Scored, JudgeCard]]:
    """A card for each judge that came to any judgment."""
    found = {}
    for one in panel:
        pairs = scored(one, judged, people, gold)
        if pairs.pairs:
            found[one.name] = (pairs, judge_card(pairs.pairs, one_order=not one.way.manner.both, seed=seed))
    return found
