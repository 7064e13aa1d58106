"""What a reward pays for each change, in units of its own spread, beside gold, length alone and chance.

With r the reward's effect of one change, g gold's, both in their own points, and bars for means over contrasts:

- spread s: the standard deviation of the reward over ordinary answers to one prompt (over all of them where no
  prompt has two), so that an effect of 1 is as much as one answer commonly differs from another;
- effect: mean(r) / s;
- bias, where gold is known: (mean(r) - b mean(g)) / s, b being the slope of the reward on gold over the ordinary
  answers, their length held equal (a regression on both). A reward that is gold with any scale and noise has none;
- beyond length: the same less what the added words alone would earn, at the price per word that padding earns.

All of it is computed anew on resampled clusters, spread, slope and price included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from heedful.core.statistics import Interval
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.probes.contrast import KINDS, Base, Contrast, terms_of

Floats = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Sequence[Conversation], Sequence[str]], Any]
"""A reward: prompts and completions to as many scores."""

Found = Literal["favours", "punishes", "length", "none", "undecided"]

MARGIN = 0.1
"""An effect below a tenth of the spread is called none, however surely it is not nought; so is a bias below a tenth of
gold's own effect, since the slope that takes gold to the reward's scale is never known better."""

FEWEST_CLUSTERS = 5
"""A kind that fewer prompts allow is not measured."""

WITHIN = 1.5
"""Length is accounted for only where a change adds or takes at most this many times the words of padding."""

BLOCK = 500
LENGTH_ONLY, RANDOM = "length only", "random"


@dataclass(frozen=True)
class Effect:
    """What one kind of change is worth to a reward; all effects in spreads.

    Attributes:
        kind: a name of `contrast.KINDS`.
        contrasts, clusters: how many, and of how many prompts (or topics).
        words: the words that the change adds, on average.
        reward: the effect on the reward. gold, bias: see above; None where gold is not known.
        beyond_length: None for padding itself, and where the change adds far more words than padding does.
        sure: the interval of `headline` that the verdict goes by, wide enough for all kinds to hold at once: the
            bootstrap's standard error times Student's quantile at Bonferroni's level, of as many degrees of freedom as
            there are clusters, less one.
        phrases: wordings of the change, and how many of them have the headline's sign.
        baselines: the headline of rewards that know nothing of the answer: its length alone (left out where all
            ordinary answers to a prompt are equally long), and chance.
        found: favours or punishes; "length" where its added words explain it; "none" where the whole interval is
            below the margin; "undecided".
    """

    kind: str
    contrasts: int
    clusters: int
    words: float
    reward: Interval
    gold: Interval | None
    bias: Interval | None
    beyond_length: Interval | None
    sure: Interval
    phrases: tuple[int, int]
    found: Found
    baselines: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def headline(self) -> Interval:
        """The bias where gold is known, else the effect."""
        return self.bias if self.bias is not None else self.reward

    @property
    def verdict(self) -> str:
        """The finding in words."""
        thing = KINDS[self.kind].favours if self.kind in KINDS else self.kind
        than = ", more than gold does" if self.bias is not None else ""
        size = (
            "strongly" if abs(self.headline.mean) >= 0.8 else "clearly" if abs(self.headline.mean) >= 0.3 else "a bit"
        )
        if self.found in ("favours", "punishes"):
            return f"{self.found} {thing} {size}{than}"
        if self.found == "length":
            return f"{thing}: an effect, but no more than its length earns"
        if self.found == "none":
            return f"{thing}: no effect worth speaking of"
        bound = max(abs(self.sure.low), abs(self.sure.high))
        return f"{thing}: no effect shown, at most {bound:.2f} either way"


@dataclass(frozen=True)
class Probing:
    """A reward under every probe.

    Attributes:
        spread: of the reward, in its own points. within: of answers to one prompt, not of all answers.
        slope: reward points per gold point over ordinary answers; None without gold.
        answers: ordinary answers behind them.
        effects: one a kind. too_few: kinds that too few prompts allow, with how many.
        level: of the shown intervals; the verdicts' are of 1 - (1 - level) / kinds.
    """

    spread: float
    within: bool
    slope: float | None
    answers: int
    level: float
    effects: tuple[Effect, ...]
    too_few: Mapping[str, int]

    def effect(self, kind: str) -> Effect:
        """The effect of a kind.

        Raises:
            KeyError: it was not measured.
        """
        for effect in self.effects:
            if effect.kind == kind:
                return effect
        raise KeyError(kind)


@dataclass(frozen=True)
class _Sums:
    """Sums per cluster [C], from which every figure follows: of ordinary answers, and of each kind's contrasts."""

    kinds: tuple[str, ...]
    base: Floats  # [C, 7]: products rr, gg, rg, ww, rw, gw of deviations, and degrees of freedom
    made: Floats  # [C, 4 * kinds]: number, reward, gold and words of each kind

    def totals(self, counts: Floats) -> tuple[Floats, Floats]:
        """[S, 7] and [S, 4, kinds]: the sums where cluster c was drawn `counts[s, c]` times."""
        total = counts @ np.hstack([self.base, self.made])
        return total[:, :7], total[:, 7:].reshape(len(counts), 4, len(self.kinds))


@dataclass(frozen=True)
class _Figures:
    """Figures of resamples: [S] or [S, kinds]."""

    spread: Floats
    slope: Floats
    reward: Floats
    gold: Floats
    bias: Floats
    beyond: Floats


def probe(
    reward: Scorer,
    base: Base,
    contrasts: Sequence[Contrast],
    *,
    gold: Scorer | None = None,
    level: float = 0.95,
    margin: float = MARGIN,
    samples: int = 2_000,
    seed: int = 0,
) -> Probing:
    """Measure what a reward pays for each kind of change.

    Args:
        reward: any reward; it sees every different prompt with answer once.
        base: ordinary answers, which give the unit.
        contrasts: as `natural.contrasts` or `world.contrasts` make them.
        gold: the truth, where it is known.
        level: of the intervals. margin: effects below it are none, in spreads, and biases below it times gold's effect.
        samples: bootstrap resamples of clusters. seed: theirs.

    Raises:
        HeedfulError: no ordinary answers in two clusters, a reward (or gold) that scores them all alike, scores that
            do not fit, or no kind with enough prompts.
    """
    kept, too_few = _enough(contrasts)
    scores = _scores(reward, base, kept, "the reward")
    truth = _scores(gold, base, kept, "gold") if gold is not None else None
    if len(set(base.clusters)) < 2:
        raise HeedfulError("probes need ordinary answers to two prompts at least.", mend="Give more data.")
    design = _design(base, kept)
    for name, answers in (("the reward", scores[0]), ("gold", truth[0] if truth is not None else None)):
        if answers is not None and not np.abs(design.deviations(answers)).max() > 0:
            raise HeedfulError(
                f"{name} scores all ordinary answers alike: there is no spread to measure effects by.",
                mend="Give answers that differ, or look at what the reward returns.",
            )
    effects, whole = _effects(design, kept, scores, truth, level, margin, samples, seed)
    baselines = {}
    for name, function in ((LENGTH_ONLY, length_only), (RANDOM, random_reward)):
        known = _scores(function, base, kept, name)
        if np.abs(design.deviations(known[0])).max() > 0:
            baselines[name] = _effects(design, kept, known, truth, level, margin, samples, seed)[0]
    return Probing(
        spread=float(whole.spread[0]),
        within=design.within,
        slope=float(whole.slope[0]) if gold is not None else None,
        answers=len(base.texts),
        level=level,
        effects=tuple(
            replace(effect, baselines={name: made[i].headline for name, made in baselines.items()})
            for i, effect in enumerate(effects)
        ),
        too_few=too_few,
    )


def length_only(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
    """The reward that counts words."""
    return [float(len(text.split())) for text in texts]


def random_reward(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
    """The reward that is a fixed random number for each prompt with answer, uniform from 0 to 1."""
    keys = [
        "\n".join([*(message.content for message in prompt), text]) for prompt, text in zip(prompts, texts, strict=True)
    ]
    return [int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48 for key in keys]


def _enough(contrasts: Sequence[Contrast]) -> tuple[list[Contrast], dict[str, int]]:
    clusters: dict[str, set[str]] = {}
    for contrast in contrasts:
        clusters.setdefault(contrast.kind, set()).add(contrast.cluster)
    few = {kind: len(found) for kind, found in clusters.items() if len(found) < FEWEST_CLUSTERS}
    kept = [contrast for contrast in contrasts if contrast.kind not in few]
    if not kept:
        raise HeedfulError(
            f"no probe can be made of at least {FEWEST_CLUSTERS} prompts.",
            mend="Give more prompts with answers, or name other kinds.",
        )
    return kept, few


def _scores(scorer: Scorer, base: Base, contrasts: Sequence[Contrast], name: str) -> tuple[Floats, Floats]:
    """[n] scores of ordinary answers, [contrasts] signed sums."""
    terms = terms_of(contrasts)
    places: dict[tuple[Conversation, str], int] = {}
    wanted = [*zip(base.prompts, base.texts, strict=True), *((term.prompt, term.text) for term in terms)]
    rows = [places.setdefault(row, len(places)) for row in wanted]
    given = scorer([prompt for prompt, _ in places], [text for _, text in places])
    scores = np.asarray(given.tolist() if hasattr(given, "tolist") else list(given), dtype=np.float64)
    if scores.shape != (len(places),) or not np.isfinite(scores).all():
        raise HeedfulError(
            f"{name} gave scores of shape {list(scores.shape)} for {len(places)} answers, or some that are not finite.",
            mend="A reward returns one finite number for each completion.",
        )
    found = scores[rows]
    signed: Floats = found[len(base.texts) :] * np.array([term.sign for term in terms])
    owner = np.repeat(np.arange(len(contrasts)), [len(contrast.terms) for contrast in contrasts])
    sums: Floats = np.bincount(owner, weights=signed, minlength=len(contrasts)).astype(np.float64)
    return found[: len(base.texts)], sums


@dataclass(frozen=True)
class _Design:
    """What every reward of one probing shares: who belongs to which cluster, prompt and kind.

    Attributes:
        kinds: in the order of `KINDS`. clusters: how many.
        of, place: the cluster of each ordinary answer, and the place of each contrast in a [clusters, kinds] table.
        group: [n] the prompt of each answer; one number for all where no prompt has two answers (not `within`).
        longer: [n] words of ordinary answers less the mean of their group. added: [contrasts] words added.
    """

    kinds: tuple[str, ...]
    clusters: int
    of: NDArray[np.int64]
    place: NDArray[np.int64]
    group: NDArray[np.int64]
    within: bool
    longer: Floats
    added: Floats

    def deviations(self, scores: Floats) -> Floats:
        """[n] scores of ordinary answers less the mean of their group."""
        return _deviations(scores, self.group)

    def sums(self, scores: tuple[Floats, Floats], truth: tuple[Floats, Floats] | None) -> _Sums:
        """The sums per cluster of one reward."""
        r, w = self.deviations(scores[0]), self.longer
        g = self.deviations(truth[0]) if truth is not None else np.zeros_like(r)
        degrees = (1 - 1 / np.bincount(self.group))[self.group]
        of_gold = truth[1] if truth is not None else np.zeros_like(self.added)
        products = (r * r, g * g, r * g, w * w, r * w, g * w, degrees)
        made = (np.ones_like(self.added), scores[1], of_gold, self.added)
        per_kind = [
            np.bincount(self.place, weights=x, minlength=self.clusters * len(self.kinds)).reshape(self.clusters, -1)
            for x in made
        ]
        per_cluster = [np.bincount(self.of, weights=x, minlength=self.clusters) for x in products]
        return _Sums(self.kinds, np.stack(per_cluster, 1), np.hstack(per_kind))


def _deviations(values: Floats, group: NDArray[np.int64]) -> Floats:
    return values - (np.bincount(group, weights=values) / np.bincount(group))[group]


def _design(base: Base, contrasts: Sequence[Contrast]) -> _Design:
    names = sorted({*base.clusters, *(contrast.cluster for contrast in contrasts)})
    number = {name: i for i, name in enumerate(names)}
    known = {kind: i for i, kind in enumerate(KINDS)}
    kinds = tuple(sorted({c.kind for c in contrasts}, key=lambda kind: (known.get(kind, len(known)), kind)))
    column = {kind: i for i, kind in enumerate(kinds)}
    keys = {prompt: prompt_key(prompt) for prompt in dict.fromkeys(base.prompts)}
    group = np.unique([keys[prompt] for prompt in base.prompts], return_inverse=True)[1]
    within = bool(np.bincount(group).max() > 1)
    group = group if within else np.zeros_like(group)
    return _Design(
        kinds=kinds,
        clusters=len(names),
        of=np.array([number[cluster] for cluster in base.clusters]),
        place=np.array([number[c.cluster] * len(kinds) + column[c.kind] for c in contrasts]),
        group=group,
        within=within,
        longer=_deviations(np.array(length_only(base.prompts, base.texts)), group),
        added=np.array([c.words for c in contrasts]),
    )


def _figures(sums: _Sums, counts: Floats) -> _Figures:
    """The figures of resamples in which cluster c was drawn `counts[s, c]` times."""
    with np.errstate(divide="ignore", invalid="ignore"):
        base, made = sums.totals(counts)
        rr, gg, rg, ww, rw, gw, degrees = base.T
        spread, gold_spread = (np.sqrt(square / degrees)[:, None] for square in (rr, gg))
        slope = _slope(rg, gg, ww, rw, gw)[:, None]
        r, g, words = (made[:, i] / made[:, 0] for i in (1, 2, 3))
        excess = r - slope * g
        beyond = np.full_like(excess, np.nan)
        if "length" in sums.kinds:
            at = sums.kinds.index("length")
            beyond = excess - (excess[:, at] / words[:, at])[:, None] * words
        return _Figures(spread[:, 0], slope[:, 0], r / spread, g / gold_spread, excess / spread, beyond / spread)


def _slope(rg: Floats, gg: Floats, ww: Floats, rw: Floats, gw: Floats) -> Floats:
    """The slope on gold beside length; on gold alone where all lengths are equal; 0 without gold."""
    determinant = gg * ww - gw**2
    both = (rg * ww - rw * gw) / determinant
    return np.nan_to_num(np.where(determinant > 1e-12 * gg * ww, both, rg / gg))


def _resampled(sums: _Sums, samples: int, seed: int) -> _Figures:
    clusters = len(sums.base)
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, samples, BLOCK):
        size = min(BLOCK, samples - start)
        counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
        parts.append(_figures(sums, counts))
    return _Figures(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Figures.__dataclass_fields__))


def _effects(
    design: _Design,
    contrasts: Sequence[Contrast],
    scores: tuple[Floats, Floats],
    truth: tuple[Floats, Floats] | None,
    level: float,
    margin: float,
    samples: int,
    seed: int,
) -> tuple[list[Effect], _Figures]:
    sums = design.sums(scores, truth)
    whole = _figures(sums, np.ones((1, len(sums.base))))
    many = _resampled(sums, samples, seed)
    excess = scores[1] - (whole.slope[0] * truth[1] if truth is not None else 0)
    number, _, _, words = sums.made.reshape(-1, 4, len(sums.kinds)).transpose(1, 0, 2)
    effects = []
    for i, kind in enumerate(sums.kinds):

        def interval(name: str, i: int = i) -> Interval:
            low, high = np.nanquantile(getattr(many, name)[:, i], [(1 - level) / 2, (1 + level) / 2])
            return Interval(float(getattr(whole, name)[0, i]), float(low), float(high))

        def surely(name: str, i: int = i) -> Interval:
            mean, error = float(getattr(whole, name)[0, i]), float(np.nanstd(getattr(many, name)[:, i]))
            half = _times(int((number[:, i] > 0).sum()), 1 - (1 - level) / len(sums.kinds)) * error
            return Interval(mean, mean - half, mean + half)

        chosen = "bias" if truth is not None else "reward"
        near = _near(sums, i)
        sure = surely(chosen)
        gold = interval("gold") if truth is not None else None
        least = max(margin, margin * abs(gold.mean)) if gold is not None else margin
        found = _found(sure, surely("beyond") if near else None, least)
        effects.append(
            Effect(
                kind=kind,
                contrasts=int(number[:, i].sum()),
                clusters=int((number[:, i] > 0).sum()),
                words=float(words[:, i].sum() / number[:, i].sum()),
                reward=interval("reward"),
                gold=gold,
                bias=interval("bias") if truth is not None else None,
                beyond_length=interval("beyond") if near else None,
                sure=sure,
                phrases=_agreeing(contrasts, excess, kind, sure.mean),
                found=found,
            )
        )
    return effects, whole


def _times(clusters: int, level: float) -> float:
    """How many bootstrap standard errors an interval of this level reaches; the bootstrap's own are too small by
    sqrt(1 - 1 / clusters)."""
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, (1 + level) / 2) / np.sqrt(1 - 1 / clusters))


def _near(sums: _Sums, i: int) -> bool:
    """Whether the price of a word, known from padding, may be carried over to a kind."""
    if "length" not in sums.kinds or sums.kinds[i] == "length":
        return False
    number, _, _, total = sums.made.sum(0).reshape(4, -1)
    words = np.abs(total / number)
    return bool(0 < words[i] <= WITHIN * words[sums.kinds.index("length")])


def _found(sure: Interval, beyond: Interval | None, margin: float) -> Found:
    if sure.low > 0 or sure.high < 0:
        if abs(sure.mean) < margin:
            return "none"
        same = beyond is not None and (beyond.low > 0 or beyond.high < 0) and beyond.mean * sure.mean > 0
        if beyond is not None and not (same and abs(beyond.mean) >= margin):
            return "length"
        return "favours" if sure.mean > 0 else "punishes"
    return "none" if max(abs(sure.low), abs(sure.high)) < margin else "undecided"


def _agreeing(contrasts: Sequence[Contrast], excess: Floats, kind: str, sign: float) -> tuple[int, int]:
    by_phrase: dict[str, list[float]] = {}
    for contrast, value in zip(contrasts, excess, strict=True):
        if contrast.kind == kind:
            by_phrase.setdefault(contrast.phrase, []).append(float(value))
    return sum(int(np.mean(values) * sign > 0) for values in by_phrase.values()), len(by_phrase)
