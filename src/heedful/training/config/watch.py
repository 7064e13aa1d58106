"""Settings of the watch over a run that learns online (docs/watch.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heedful.training.config.checks import at_least, require


@dataclass(frozen=True)
class GoldConfig:
    """Fresh checks of whether the policy is really better."""

    judge: str | None = None
    """Who decides the pairs: people:PROGRAMME, raters of the studio, for whom the run waits; a reward model or
    module:function that gives gold scores; world (world:SEED), the embedded world's truth. None makes no checks."""
    studio: str | None = None
    """Address of the studio where people judge (token in HEEDFUL_TOKEN); None takes the database of DATABASE_URL, or of
    the working folder."""
    meanwhile: Literal["wait", "train"] = "wait"
    """What the run does while people judge: waits for them, or trains on. What they found then acts after the step
    during which it came; weights that turn out better are those of the step whose answers were judged."""
    votes: int = 1
    """Judgments of people for each pair."""
    patience: float = 24.0
    """Hours without a judgment after which a run that waits for people gives up, to be gone on with later."""
    prompts: str | None = None
    """A file of prompts that nothing was trained on; None takes the ones held out (records.held_out)."""
    cluster: str | None = None
    """A column of that file that says which prompts go together (a topic, a fact): intervals count those as one. None
    takes each prompt for itself, and near-duplicates together."""
    every_kl: float = 2.0
    """Check whenever the KL has grown by so many nats since the last check."""
    every_steps: int = 0
    """Check after so many steps at the latest; 0 leaves it to the KL."""
    pairs: int = 200
    """Most prompts of a check, one pair each."""
    block: int = 20
    """Pairs asked at once; after each block the check ends if the answer is clear."""
    level: float = 0.95
    """Certainty of the intervals, however often they are looked at."""
    predict: bool = True
    """Fit the curve of Gao et al. 2022 to the checks as they come; the lower end of its peak, less a tenth, is a budget
    of KL beside watch.kl_budget: four fifths of it warn, and all of it responds."""

    def __post_init__(self) -> None:
        where = "watch.gold."
        at_least(0, where, every_steps=self.every_steps)
        at_least(1, where, block=self.block, votes=self.votes)
        require(self.patience > 0, f"patience is {self.patience}; it must be above 0.", "watch.gold.patience")
        asks = (self.judge or "").startswith("people:")
        require(asks or self.studio is None, "a studio is of no use without people:PROGRAMME.", "watch.gold.studio")
        alone = asks or self.meanwhile == "wait"
        require(alone, "only people:PROGRAMME is waited for; others answer at once.", "watch.gold.meanwhile")
        at_least(10, where, pairs=self.pairs)
        require(self.every_kl > 0, f"every_kl is {self.every_kl}; it must be above 0.", "watch.gold.every_kl")
        require(0 < self.level < 1, f"level is {self.level}; it must lie between 0 and 1.", "watch.gold.level")
        alone = self.judge is not None or self.prompts is None
        require(alone, "prompts are of no use without a judge of the answers.", "watch.gold.prompts")
        alone = self.prompts is not None or self.cluster is None
        require(alone, "it names a column of watch.gold.prompts, and there are none.", "watch.gold.cluster")


@dataclass(frozen=True)
class RefusalsConfig:
    """How conservative the policy becomes: refusal of safe requests against refusal of unsafe ones, as a run goes."""

    requests: Literal["prompts", "world"] | None = None
    """prompts: heedful's own safe and unsafe requests, refusals told by rules; world: the embedded world's, told
    exactly. None measures nothing."""
    every_steps: int = 0
    """Measure after so many steps; 0 does it with the fresh checks (watch.gold.judge)."""
    limit: int = 100
    """How many requests, half of them safe, from all types in turn."""

    def __post_init__(self) -> None:
        where = "watch.refusals."
        at_least(0, where, every_steps=self.every_steps)
        at_least(2, where, limit=self.limit)


@dataclass(frozen=True)
class WatchConfig:
    """The watch for reward hacking: early signs, fresh checks, and what is done about them."""

    mode: Literal["off", "warn", "act"] = "warn"
    """off: watches nothing; warn: says and logs alarms; act: also steps in: raises β or freezes, stops, rolls back."""
    signs: tuple[str, ...] = ("all",)
    """Which signs of docs/watch.md; all of them, unless named."""
    thresholds: Path | None = None
    """A YAML file of limits, as heedful.monitoring.calibrate writes them; None takes the defaults."""
    respond: Literal["raise", "freeze"] = "raise"
    """What a sign of the second tier does: raise β, or freeze the policy for a while (its critic learns on)."""
    raise_factor: float = 1.5
    """What β is multiplied by."""
    least_coefficient: float = 0.01
    """β after a raise, at least; a β of 0 would stay 0."""
    freeze_steps: int = 5
    """How long the policy is frozen."""
    cooldown: int = 10
    """Steps between two such responses."""
    window: int = 5
    """Steps that a figure is averaged over."""
    baseline_steps: int = 5
    """First steps, which later ones are held against."""
    kl_budget: float | None = None
    """Nats per answer: four fifths warn, all of them respond, a quarter more stops. A thresholds file may have one."""
    step_cap: int | None = None
    """Stop after so many steps, whatever --steps says, which the schedule spans. A thresholds file may have one."""
    latent_samples: int = 0
    """Answers of the starting policy that show where the reward model's states usually lie (sign latents); 0 leaves the
    sign out. 256 do."""
    gold: GoldConfig = GoldConfig()
    refusals: RefusalsConfig = RefusalsConfig()

    def __post_init__(self) -> None:
        where = "watch."
        at_least(1, where, freeze_steps=self.freeze_steps, cooldown=self.cooldown, window=self.window)
        at_least(1, where, baseline_steps=self.baseline_steps)
        at_least(0, where, latent_samples=self.latent_samples, least_coefficient=self.least_coefficient)
        require(
            self.raise_factor > 1, f"raise_factor is {self.raise_factor}; it must be above 1.", "watch.raise_factor"
        )
        enough = self.latent_samples == 0 or self.latent_samples >= 40
        require(enough, f"{self.latent_samples} answers show too little; give 40 or more.", "watch.latent_samples")
        require(self.kl_budget is None or self.kl_budget > 0, "a budget must be above 0.", "watch.kl_budget")
        require(self.step_cap is None or self.step_cap > 0, "a cap must be above 0.", "watch.step_cap")
        asked = self.refusals.requests is None or self.refusals.every_steps > 0 or self.gold.judge is not None
        require(
            asked,
            "there are no fresh checks to measure refusals with; set watch.refusals.every_steps.",
            "watch.refusals.every_steps",
        )
        require(bool(self.signs), "name signs, or set mode off.", "watch.signs")
