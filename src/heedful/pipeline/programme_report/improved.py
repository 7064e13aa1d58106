"""What improved: each round over the one before, the last policy over the first, by topic, and in answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from heedful.core.statistics import Interval
from heedful.data.records import Conversation
from heedful.evaluation.winrate import rate_interval
from heedful.pipeline.programme_report.fresh import HeadToHead
from heedful.pipeline.programme_report.material import Absent, Material
from heedful.pipeline.programme_report.reading import KINDS, Round, named
from heedful.pipeline.programme_report.topics import OTHER, clusters_of, topics_of
from heedful.pipeline.report_data import Forest, ForestRow, ReportData, SampleAnswer, SampleRow, bounds, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import curves, data_table, samples
from heedful.pipeline.report_svg import range_bar
from heedful.pipeline.rounds.rows import NEW

GOLD = "by the world's truth"
HALF, LEAST_OF_TOPIC, SHOWN = 0.5, 5, 8


def mood(rate: Interval) -> str:
    """Whether a win rate is clear of one half, and on which side."""
    return "good" if rate.low > HALF else "bad" if rate.high < HALF else "even"


def plots(name: str, *forests: Forest) -> Safe:
    """Forest plots in a section."""
    return curves(ReportData("", "", "", forests=forests), f"{name}-")


# --- head to head ---


def improvement(material: Material) -> Safe:
    """Every round against the policy before it, and the last policy against the first."""
    results = material.results
    if not results.rounds:
        return element("p", results.under_way or "No round has ended yet; heedful round carries the programme on.")
    rows = [_against_before(one) for one in results.rounds]
    if results.moved and material.headline is not None:
        marks = {} if material.gold is None else {GOLD: material.gold.mean}
        rate, _ = material.headline
        rows.append(ForestRow(f"{named(str(results.last))} over the first policy", rate, mood(rate), marks))
    plot = Forest("Head to head", "share of pairs that the newer policy wins", tuple(rows), line=HALF, kind="percent")
    told = [element("p", sentence) for sentence in _reading(material)]
    return element("div", plots("improved", plot), _rounds(material), told)


def _against_before(one: Round) -> ForestRow:
    marks = {} if one.gold is None else {GOLD: one.gold.mean}
    outcome = "" if one.promoted else " (rolled back)"
    return ForestRow(f"round {one.number} over {named(one.against)}{outcome}", one.rate, mood(one.rate), marks)


def _reading(material: Material) -> list[str]:
    """How these figures came about, and what they cannot say."""
    recipe = material.results.recipe
    bound = (
        "the lower end of its win rate's 95% interval" if recipe.check.bound == "low" else "the mean of its win rate"
    )
    judges = " and ".join(KINDS[kind] for kind in material.results.counted("checked")) or "its judges"
    found = [
        "In each round's check the new policy and the one before it answer the same prompts, on which nothing is "
        f"trained, and {judges} say whose answer is better, without knowing which is which. Ties count half. A policy "
        f"is kept if {bound} lies above {write(recipe.check.above, 'percent')}. Intervals are 95%, from resampling "
        "prompts.",
    ]
    if isinstance(material.contest, HeadToHead) and material.contest.rate is not None:
        found.append(
            f"The last policy against the first: both answered {len(material.contest.prompts):,} check prompts anew "
            f"for this report, judged by {material.contest.judge}. Which policies were kept was decided on some of "
            "these prompts, by other answers, which may flatter the last one a little."
        )
    elif material.headline is not None and len(material.results.kept) > 1:
        found.append(
            "The last policy was not judged against the first: this figure adds up the checks of the rounds that were "
            "kept, as odds. They were kept because they won these very checks, which flatters the sum. heedful compare "
            "has people or models judge the two."
        )
    return found


def _rounds(material: Material) -> Safe:
    """What happened in each round."""
    results = material.results
    gold = any(one.gold is not None for one in results.rounds)
    heads = ["Round", "Outcome", "Won its check", *([GOLD] if gold else []), "Pairs judged", "Judgments", "KL moved"]
    body = []
    for one in results.rounds:
        policy = results.manifests.get((one.number, "policy"), {}).get("figures", {})
        kl = policy.get("kl")
        word, tone = ("kept", "good") if one.promoted else ("rolled back", "bad")
        body.append(
            element(
                "tr",
                element("th", f"Round {one.number}", scope="row"),
                element("td", element("span", word, class_=f"verdict {tone}")),
                element("td", rate_cell(one.rate)),
                element("td", rate_cell(one.gold)) if gold and one.gold is not None else None,
                element("td", "–") if gold and one.gold is None else None,
                element("td", write(one.learnt, "count"), class_="n"),
                element("td", by_kind(one.judgments), class_="n"),
                element("td", "–" if kl is None else write(kl, "number"), class_="n"),
            )
        )
    first = len(heads) - 3
    caption = "KL moved: how far the round's training took the policy from where it began, in nats per answer."
    return data_table("Round by round", caption, heads, body, numbers=(first, first + 1, first + 2))


def rate_cell(rate: Interval, tone: str | None = None) -> Safe:
    """A share with its bar and bounds; coloured by which side of one half it lies on unless a tone is given."""
    return element(
        "div",
        element("span", write(rate.mean, "percent")),
        range_bar(rate, chance=HALF, mood=tone),
        element("span", bounds(rate, "percent"), class_="bounds"),
        class_="rate",
    )


def by_kind(counts: Mapping[str, int]) -> str:
    """Judgments by kind of rater: "240 simulated"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "none"


# --- by topic ---


def by_topic(material: Material) -> Safe:
    """Win rates by what prompts are about."""
    results, contest = material.results, material.contest
    golds = None
    if isinstance(contest, HeadToHead) and contest.won is not None:
        prompts, won = list(contest.prompts), list(contest.won)
        what = f"{named(str(results.last))} over the first policy"
        if contest.golds is not None:
            golds = list((np.sign(np.subtract(contest.golds[1], contest.golds[0])) + 1) / 2)
    else:
        prompts, won = checked(material)
        what = "the checks of all rounds, new policy over the one before it"
    if not prompts:
        return element("p", "No round has ended yet, so that nothing is judged by topic.")
    topics = topics_of(prompts, results.programme)
    if not topics.names:
        return element("p", topics.how)
    names = pooled(topics.names)
    clusters = clusters_of(prompts, results.programme)
    rows, alone = [], []
    for name, count in sorted(Counter(names).items(), key=lambda row: (row[0] == OTHER, -row[1], row[0])):
        own = [row for row, one in enumerate(names) if one == name]
        rate = _rate([won[row] for row in own], [clusters[row] for row in own], results.recipe.seed)
        if rate is None:
            alone.append(f"{name} ({count})")
            continue
        marks = {} if golds is None else {GOLD: float(np.mean([golds[row] for row in own]))}
        rows.append(ForestRow(f"{name} ({count})", rate, mood(rate), marks))
    left = f"All prompts of {', '.join(alone)} ask about one thing, so that no interval can be given." if alone else ""
    if not rows:
        return element("p", f"{topics.how} {left}")
    plot = Forest("By topic", f"share of pairs won: {what}", tuple(rows), line=HALF, kind="percent")
    note = (
        f"{topics.how} Prompts in brackets; topics of fewer than {LEAST_OF_TOPIC} are together under “{OTHER}”. {left} "
        "These are many looks at few prompts: one interval in twenty leaves out the truth."
    )
    return element("div", plots("topics", plot), element("p", note, class_="muted"))


def checked(material: Material) -> tuple[list[Conversation], list[float]]:
    """The prompts of all checks, and the share of votes that the new policy's answer got."""
    prompts: list[Conversation] = []
    won: list[float] = []
    for one in material.results.rounds:
        judged = material.results.judged(one.number, "check")
        for pair in judged.pairs if judged is not None else ():
            share = judged.won[pair.id] if judged is not None else None
            if share is not None:
                prompts.append(pair.prompt)
                won.append(share)
    return prompts, won


def pooled(names: Sequence[str]) -> list[str]:
    """The topics, those of few prompts together."""
    counts = Counter(names)
    return [name if counts[name] >= LEAST_OF_TOPIC else OTHER for name in names]


def _rate(won: Sequence[float], clusters: Sequence[str], seed: int) -> Interval | None:
    if len(set(clusters)) < 2:
        return None
    return rate_interval(np.array(won), np.array(clusters), seed=seed)


# --- answers ---


def before_and_after(material: Material) -> Safe:
    """Answers of the first policy and of the last to the same prompts."""
    contest = material.contest
    if isinstance(contest, HeadToHead):
        rows = list(_samples(contest, named(str(material.results.last))))
        note = (
            f"The first {len(rows)} prompts, in an order by a hash, to which the two answer differently; none was "
            "picked by hand."
        )
    else:
        rows = list(_samples_of_check(material))
        note = f"{contest.why} Meanwhile, answers of the last round's check."
        if not rows:
            return element("p", contest.why)
    return samples(ReportData("", "", "", samples=tuple(rows), sample_note=note))


def _samples(contest: HeadToHead, last: str) -> list[SampleRow]:
    found = []
    for row, prompt in enumerate(contest.prompts):
        before, after = contest.first[row], contest.last[row]
        if before.text.strip() == after.text.strip():
            continue
        scores: list[dict[str, float]] = [{}, {}]
        for side in range(2):
            if contest.golds is not None:
                scores[side]["gold"] = contest.golds[side][row]
            if contest.won is not None:
                scores[side]["share of votes"] = contest.won[row] if side else 1 - contest.won[row]
        answers = (
            SampleAnswer("before: the first policy", before.text, scores[0], before.finished),
            SampleAnswer(f"after: {last}", after.text, scores[1], after.finished),
        )
        found.append(SampleRow(prompt, "", answers))
        if len(found) == SHOWN:
            break
    return found


def _samples_of_check(material: Material) -> list[SampleRow]:
    results = material.results
    if not results.rounds:
        return []
    one = results.rounds[-1]
    judged = results.judged(one.number, "check")
    if judged is None:
        return []
    found = []
    for pair in judged.pairs[:SHOWN]:
        texts = (pair.b, pair.a) if pair.policy_a == NEW else (pair.a, pair.b)
        share = judged.won[pair.id]
        votes = ({}, {}) if share is None else ({"share of votes": 1 - share}, {"share of votes": share})
        titles = (f"before: {named(one.against)}", f"after: round {one.number}")
        answers = tuple(SampleAnswer(*row) for row in zip(titles, texts, votes, strict=True))
        found.append(SampleRow(pair.prompt, "", answers))
    return found


def absent(part: Absent) -> Safe:
    """Why a section has nothing to show, and how to get it."""
    return element("p", part.why, class_="muted")
