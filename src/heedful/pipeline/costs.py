"""What a programme cost: people's hours and pay, judges' requests and tokens, the machine's time and energy.

Every stage's manifest says what it took (`rounds/meter.py` measures it); here it is summed by stage, round and
programme, and set against what each round won. Imports no torch and no Django.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.ledger import LEDGER, Charge, charged_in
from heedful.files import read_manifest
from heedful.pipeline.rounds.engine import begun_in
from heedful.pipeline.rounds.meter import energy_wh, metered_in
from heedful.pipeline.rounds.stages import FIRST, STAGES

LEDGERS = "*.sqlite"
PART = ".part"


@dataclass(frozen=True)
class Spent:
    """What something took. Sums add up field by field; money by its currency."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_joules: float = 0.0
    """Measured by the driver; 0 where there is no GPU."""
    energy_wh: float = 0.0
    """Estimated, in watt-hours: (cpu_seconds x watts of a busy core + gpu_joules) / 3600."""
    rater_hours: float = 0.0
    """People's active time."""
    rater_judgments: int = 0
    """People's judgments that hold."""
    rater_money: Mapping[str, float] = field(default_factory=dict)
    """People's pay at the programme's rates, by currency."""
    judge_requests: int = 0
    """Requests to AI judges, by their ledgers."""
    judge_tokens: int = 0
    """Of prompts and answers."""
    judge_money: float = 0.0
    """At the prices that were stated when they were asked."""

    def __add__(self, other: Spent) -> Spent:
        money = dict(self.rater_money)
        for currency, value in other.rater_money.items():
            money[currency] = money.get(currency, 0.0) + value
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "rater_money"}
        return Spent(**sums, rater_money=money)

    def shared_by(self, points: float) -> dict[str, Any]:
        """What one of so many points cost, by the names of this record; what is 0 is left out."""
        found: dict[str, Any] = {
            f.name: value / points for f in fields(self) if f.name != "rater_money" and (value := getattr(self, f.name))
        }
        if any(self.rater_money.values()):
            found["rater_money"] = {currency: value / points for currency, value in self.rater_money.items() if value}
        return found


@dataclass(frozen=True)
class StageCost:
    """What a stage of a round took."""

    number: int
    """Its round."""
    stage: str
    spent: Spent
    done: bool = True
    """False: it is half made, and this is what it took so far."""
    measured: bool = True
    """False: it was made before costs were written down, so that only its seconds are known."""
    attempts: int = 1
    """How often it was begun or gone on with."""


@dataclass(frozen=True)
class Gain:
    """What a round won: how often its policy's answers were preferred to those of the policy before it."""

    by: str
    """Who judged: human, ai or simulated, or several joined by " and "; gold: the embedded world's truth."""
    mean: float
    low: float
    high: float
    """The win rate with its 95% interval."""

    @property
    def points(self) -> float:
        """Percentage points of the win rate above one half, which two equal policies have."""
        return 100 * (self.mean - 0.5)


@dataclass(frozen=True)
class RoundCost:
    """What a round took, and what it won."""

    number: int
    stages: tuple[StageCost, ...]
    gains: tuple[Gain, ...] = ()
    promoted: bool | None = None
    """Whether its policy was kept; None while that is not decided."""

    @property
    def spent(self) -> Spent:
        """By all its stages."""
        return sum((one.spent for one in self.stages), Spent())

    def per_point(self, gain: Gain, rate: float | None = None) -> dict[str, Any] | None:
        """What one point of a gain cost; None where nothing was won.

        Args:
            rate: a win rate in place of the gain's mean: an end of its interval, for the bounds of the cost.
        """
        points = gain.points if rate is None else 100 * (rate - 0.5)
        return self.spent.shared_by(points) if points > 0 else None


@dataclass(frozen=True)
class LedgerCost:
    """What AI judges took by one ledger below the programme's folder: of all runs with it."""

    path: str
    spent: Spent
    in_use: bool = False
    """A run has it open just now, so that what it took cannot be read and is not counted."""


@dataclass(frozen=True)
class ProgrammeCosts:
    """What a programme took so far.

    Attributes:
        folder: the programme's.
        rounds: what came before the first round is round 0.
        ledgers: of AI judges that were asked beside the rounds; of the rounds' own one, what no stage tells.
        watts_per_core: that the energy of the stages was reckoned with; several where the setting was changed.
    """

    folder: str
    rounds: tuple[RoundCost, ...]
    ledgers: tuple[LedgerCost, ...]
    watts_per_core: tuple[float, ...]

    @property
    def total(self) -> Spent:
        """Of all rounds and ledgers."""
        by_rounds = sum((one.spent for one in self.rounds), Spent())
        return sum((one.spent for one in self.ledgers), by_rounds)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Stages that were made before costs were written down, as ROUND/STAGE."""
        return tuple(f"{one.number}/{one.stage}" for each in self.rounds for one in each.stages if not one.measured)

    def won(self, by: str) -> float:
        """Points that the kept rounds won, added up: each over the policy before it. `by` as in `Gain`."""
        kept = [one for each in self.rounds if each.promoted for one in each.gains if one.by == by]
        return sum(one.points for one in kept)

    @property
    def judged_by(self) -> tuple[str, ...]:
        """Who has judged rounds, as `Gain.by` says it."""
        return tuple(dict.fromkeys(one.by for each in self.rounds for one in each.gains))

    def per_point(self, by: str) -> dict[str, Any] | None:
        """What one point of the kept rounds' gains cost, with all that was spent; None where nothing was won."""
        points = self.won(by)
        return self.total.shared_by(points) if points > 0 else None


def programme_costs(folder: Path | str) -> ProgrammeCosts:
    """What the rounds of a programme took, as their manifests say it; what is half made counts as far as it is.

    Raises:
        HeedfulError: there are no rounds here.
    """
    folder = Path(folder)
    places = sorted(
        (one for one in (folder / "rounds").glob("*") if one.name.isdecimal()), key=lambda one: int(one.name)
    )
    if not places:
        raise HeedfulError(
            "there are no rounds here.",
            where=str(folder),
            mend="Name a programme's folder that heedful round worked on.",
        )
    rounds = tuple(_round(place) for place in places)
    told = sum((one.spent for one in rounds), Spent())
    ledgers = tuple(_beside(one, told) if one.path == LEDGER else one for one in _ledgers(folder))
    watts = {cost["watts_per_core"] for place in places for _, _, cost in _stages(place) if "watts_per_core" in cost}
    return ProgrammeCosts(str(folder), rounds, ledgers, tuple(sorted(watts)))


def _stages(place: Path) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """The finished stages of a round in the order of the table: name, record, cost."""
    order = {stage.name: at for at, stage in enumerate(FIRST if place.name == "0" else STAGES)}
    names = sorted((one.name for one in place.iterdir() if one.name in order), key=order.__getitem__)
    for name in names:
        record = (read_manifest(place / name) or {}).get("record")
        if record is not None:
            yield name, record, record.get("cost", {})


def _round(place: Path) -> RoundCost:
    number = int(place.name)
    stages = [_stage_cost(number, name, record, cost) for name, record, cost in _stages(place)]
    for part in sorted(place.glob(f"*{PART}")):
        metered = metered_in(part)
        if metered.attempts and read_manifest(part) is None:
            energy = energy_wh(metered, begun_in(part).get("watts_per_core", 0.0))
            spent = Spent(metered.wall_seconds, metered.cpu_seconds, metered.gpu_joules or 0.0, energy)
            stages.append(StageCost(number, part.name.removesuffix(PART), spent, False, True, metered.attempts))
    check, decided = read_manifest(place / "check"), read_manifest(place / "decide")
    gains = tuple(_gains(check)) if check is not None else ()
    return RoundCost(number, tuple(stages), gains, None if decided is None else bool(decided["promoted"]))


def _stage_cost(number: int, name: str, record: Mapping[str, Any], cost: Mapping[str, Any]) -> StageCost:
    if not cost:
        return StageCost(number, name, Spent(wall_seconds=record["seconds"]), measured=False)
    raters, judge = cost.get("raters", {}), cost.get("judge", {})
    spent = Spent(
        cost["wall_seconds"],
        cost["cpu_seconds"],
        cost["gpu_joules"] or 0.0,
        cost["energy_wh"],
        raters.get("hours", 0.0),
        raters.get("judgments", 0),
        raters.get("money", {}),
        judge.get("requests", 0),
        judge.get("tokens", 0),
        judge.get("money", 0.0),
    )
    return StageCost(number, name, spent, attempts=cost["attempts"])


def _gains(check: Mapping[str, Any]) -> Iterator[Gain]:
    figures = check["figures"]
    asked = [kind for kind, count in check["record"]["own_judgments"].items() if count]
    for name, by in (("win_rate", " and ".join(asked) or "nobody"), ("gold_win_rate", "gold")):
        if name in figures:
            yield Gain(by, *(figures[name][key] for key in ("mean", "low", "high")))


def _ledgers(folder: Path) -> Iterator[LedgerCost]:
    for path in sorted(folder.rglob(LEDGERS)):
        name = str(path.relative_to(folder))
        try:
            charge = charged_in(path)
        except HeedfulError:
            yield LedgerCost(name, Spent(), in_use=True)
            continue
        if charge is not None:
            yield LedgerCost(name, of_charge(charge))


def _beside(ledger: LedgerCost, told: Spent) -> LedgerCost:
    """Of the rounds' own ledger what no stage's manifest tells: requests that failed, stages that were made anew."""
    spent = ledger.spent
    left = Spent(
        judge_requests=max(0, spent.judge_requests - told.judge_requests),
        judge_tokens=max(0, spent.judge_tokens - told.judge_tokens),
        judge_money=max(0.0, spent.judge_money - told.judge_money),
    )
    return replace(ledger, spent=left)


def of_charge(charge: Charge) -> Spent:
    """What a ledger's charge is here."""
    return Spent(judge_requests=charge.requests, judge_tokens=charge.tokens, judge_money=charge.cost)
