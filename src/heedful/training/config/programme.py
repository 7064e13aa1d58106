"""The recipe of a programme, heedful.yaml: one file that says what every round does. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from heedful.training.config.ai_recipe import AIRecipe
from heedful.training.config.checks import at_least, require, share
from heedful.training.config.online import GRPOConfig, PPOConfig, RAFTConfig, ReinforceConfig, RLOOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig

BY_ROUND = "(set by the round)"
GIVEN = ("model", "data", "out", "seed", "reward", "start")
"""Settings of a stage's block that a round sets itself; a recipe that has one is refused."""
STAGE_BLOCKS = ("sft", "reward", "ppo", "rloo", "grpo", "reinforce", "raft", "online_dpo", "dpo")
"""The blocks of a recipe that are settings of a command."""
WORLD_KINDS = Literal["fact", "sum", "support", "howto", "code", "harmful", "unknown", "chat", "poem"]
"""Kinds of the embedded world's questions."""
METHODS = Literal["ppo", "rloo", "grpo", "reinforce", "raft", "online_dpo", "dpo"]


@dataclass(frozen=True)
class WorldRecipe:
    """The embedded world as the programme's subject: its base model, prompts, demonstrations, raters and truth."""

    use: bool = False
    """Take them; else `model` and `prompts.data` name your own."""
    seed: int = 0
    """Of the world: its facts held out, its common errors."""
    documents: int = 32_000
    """Documents of web text that the base model is pretrained on, unless `model` names one."""
    demonstrations: int = 500
    """Demonstrations that the first policy imitates, unless `demonstrations` names a file."""
    kinds: tuple[WORLD_KINDS, ...] = ()
    """Ask only questions of these kinds, in prompts and demonstrations; none named: of all."""

    def __post_init__(self) -> None:
        at_least(0, "world.", seed=self.seed)
        at_least(1, "world.", documents=self.documents, demonstrations=self.demonstrations)


@dataclass(frozen=True)
class PromptsRecipe:
    """The prompts, and how they are kept apart: a group of near-duplicates has one use, in every round."""

    data: str | None = None
    """A file of prompts, or a hub dataset id."""
    split: str | None = None
    """Split of a hub dataset."""
    limit: int | None = None
    """Read at most this many."""
    system: str | None = None
    """A text file that is put before every prompt (and demonstration) that has no system message, as that."""
    reward: float = 0.4
    """Share of the groups whose answers are judged, for the reward model."""
    check: float = 0.1
    """Share of the groups that nothing is trained on: they decide whether a round made it better."""

    def __post_init__(self) -> None:
        share("prompts.", reward=self.reward, check=self.check)
        require(self.limit is None or self.limit > 0, f"{self.limit} prompts are none.", "prompts.limit")
        require(self.reward > 0, "no prompt would be judged.", "prompts.reward")
        require(self.check > 0, "no prompt would be left for checks.", "prompts.check")
        require(self.reward + self.check < 1, "no prompt would be left to train on.", "prompts.reward")


@dataclass(frozen=True)
class SampleRecipe:
    """The pairs of answers that are judged."""

    pairs: int = 500
    """Pairs in a round; every prompt of its share is used as evenly as can be."""
    temperatures: tuple[float, ...] = (1.0,)
    """Each answer is drawn at one of these."""
    older: int = 0
    """How many policies before the last one answer too, for diversity; 0: the last policy alone."""
    older_share: float = 0.25
    """Share of the pairs whose second answer is an older policy's."""
    max_new_tokens: int = 256
    """The longest answer, in tokens."""

    def __post_init__(self) -> None:
        at_least(1, "sample.", pairs=self.pairs, max_new_tokens=self.max_new_tokens)
        at_least(0, "sample.", older=self.older)
        share("sample.", older_share=self.older_share)
        require(bool(self.temperatures), "name one temperature or more.", "sample.temperatures")
        require(min(self.temperatures, default=1) > 0, "temperatures lie above 0.", "sample.temperatures")


@dataclass(frozen=True)
class JudgesRecipe:
    """Who judges: shares of the pairs, which add up to 1. Which pair goes to whom follows from its text."""

    people: float = 0.0
    """Share for raters in the studio; the round waits for them."""
    ai: float = 0.0
    """Share for the AI judge that `ai.judge` names; of a check, `check.ai.judge` where that names one."""
    simulated: float = 0.0
    """Share for the embedded world's raters."""
    votes: int = 3
    """Raters for each pair, of people and simulated ones; each AI judge says its own once."""
    panel: str = "unbiased"
    """Which simulated raters: unbiased, position, length, confidence or groups (docs/world.md)."""

    def __post_init__(self) -> None:
        share("judge.", people=self.people, ai=self.ai, simulated=self.simulated)
        at_least(1, "judge.", votes=self.votes)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pairs by kind of judge, those without any left out."""
        given = {"people": self.people, "ai": self.ai, "simulated": self.simulated}
        return {kind: part for kind, part in given.items() if part > 0}


@dataclass(frozen=True)
class CheckRecipe:
    """Fresh judgments of the new policy against the last: whether it is kept."""

    pairs: int = 100
    """Most check prompts, one pair each."""
    judge: JudgesRecipe = JudgesRecipe()
    ai: AIRecipe = AIRecipe()
    """The AI judge of checks, a block of its own like `ai`: nothing of that one holds in it. Without a judge in it the
    one of `ai` judges checks too."""
    bound: Literal["low", "mean"] = "low"
    """What of the win rate must be above `above`: the lower end of its 95% interval, or its mean."""
    above: float = 0.5
    """The win rate over the last policy that promotes the new one; else it is rolled back."""

    def __post_init__(self) -> None:
        at_least(10, "check.", pairs=self.pairs)
        share("check.", above=self.above)


@dataclass(frozen=True)
class StoreRecipe:
    """Where people judge."""

    programme: str | None = None
    """The studio's programme, by its short name."""
    studio: str | None = None
    """Address of the studio (token in HEEDFUL_TOKEN); else the database."""
    database: str | None = None
    """Address of the database; else feedback.db in this folder."""
    guideline: str | None = None
    """A Markdown file: what raters go by. heedful studio makes the programme with it, and AI judges read it too unless
    they have a rubric or a constitution of their own."""
    attributes: str | None = None
    """A YAML list of attributes, as the studio's rubrics have them: name, question, low, high, points. For scores in
    the studio, and for ai.way attributes."""

    def __post_init__(self) -> None:
        require(not (self.studio and self.database), "give a database or a studio, not both.", "store.studio")


@dataclass(frozen=True)
class FieldRecipe:
    """What end users of an application did with its answers (docs/in-the-field.md), out of `store.programme`."""

    use: Literal["none", "pairs", "unpaired"] = "none"
    """pairs: kept regenerations, and edits, join the dataset. unpaired: thumbs too, every pair taken apart; for losses
    on single answers, as learn.optimise dpo with dpo.loss kto."""
    edits: Literal["pairs", "demonstrations"] = "pairs"
    """pairs: the edited text over the original. demonstrations: the SFT model of the round imitates it, whatever `use`
    says. Never both: a prompt has one use."""
    weight: float = 0.5
    """Of a pair beside one that raters judged."""
    share: float = 0.5
    """The most that they may be of the dataset; beyond, some are drawn."""

    def __post_init__(self) -> None:
        require(0 < self.weight <= 1, f"a weight of {self.weight} is not in 0 to 1.", "field.weight")
        require(0 < self.share < 1, f"a share of {self.share} is not between 0 and 1.", "field.share")

    @property
    def taken(self) -> bool:
        """Whether anything is."""
        return self.use != "none" or self.edits == "demonstrations"


@dataclass(frozen=True)
class LearnRecipe:
    """What a round does with its judgments."""

    optimise: METHODS = "ppo"
    """The method that trains the policy; its settings are the block of that name."""
    plus: str | None = None
    """Rewards that are added to the reward model's, each with its weight: 2*unit-tests:problems.jsonl,0.5*other/model;
    as `sum:` takes them wherever a reward is named."""
    start: Literal["sft", "last"] = "sft"
    """Where the policy starts and is held to: sft, the refreshed SFT model; last, the last policy that was kept."""
    consensus: str = "share"
    """How many votes become one: share, majority, weighted, dawid-skene, mace, rater-aware (docs/consensus.md)."""
    decay: float = 1.0
    """Weight of a judgment of the round before, of two rounds before its square; 1: all count alike."""
    warm: bool = False
    """The reward model goes on from the last round's; else it starts fresh from the base model."""
    refresh: int = 0
    """Further pairs in a round, on prompts that train, whose preferred answers join the demonstrations."""
    refresh_above: float = 0.75
    """The consensus that an answer needs for that."""
    written: bool = False
    """What raters wrote in `store.programme` (demonstrations, corrected answers) joins the demonstrations."""

    def __post_init__(self) -> None:
        share("learn.", decay=self.decay, refresh_above=self.refresh_above)
        at_least(0, "learn.", refresh=self.refresh)
        require(self.decay > 0, "a decay of 0 forgets all rounds but one; the least is above 0.", "learn.decay")
        require(self.refresh_above > 0.5, "an answer that half the raters prefer is no better.", "learn.refresh_above")


@dataclass(frozen=True)
class CostRecipe:
    """What the machine's work is reckoned at; no result depends on it."""

    watts_per_core: float = 12.0
    """What a busy core draws, for the estimate of energy. 12 W is what Green Algorithms (Lannelongue et al. 2021) takes
    for an unknown processor; your own is its rated power (TDP) over its cores."""

    def __post_init__(self) -> None:
        require(self.watts_per_core >= 0, "power is not below 0.", "cost.watts_per_core")


def _block(cls: Any) -> Any:
    """A stage's settings with what a round gives it left open."""
    names = [name for name in ("model", "data", "reward") if name in cls.__dataclass_fields__]
    return cls(**dict.fromkeys(names, BY_ROUND), out=Path(BY_ROUND))


@dataclass(frozen=True)
class Recipe:
    """A programme of RLHF: who judges what, and how the policy learns from it, round after round."""

    name: str = "programme"
    """For reports."""
    seed: int = 0
    """Fixes every draw that is not a person's."""
    rounds: int = 3
    """How many rounds `heedful round` brings the programme to."""
    model: str | None = None
    """The base model: a folder or a hub id."""
    demonstrations: str | None = None
    """A file of demonstrations, or a hub dataset id; none: the base model is the first policy, as instruct models
    are."""
    world: WorldRecipe = WorldRecipe()
    prompts: PromptsRecipe = PromptsRecipe()
    sample: SampleRecipe = SampleRecipe()
    judge: JudgesRecipe = JudgesRecipe()
    check: CheckRecipe = CheckRecipe()
    store: StoreRecipe = StoreRecipe()
    field: FieldRecipe = FieldRecipe()
    ai: AIRecipe = AIRecipe()
    learn: LearnRecipe = LearnRecipe()
    cost: CostRecipe = CostRecipe()
    sft: SFTConfig = dataclasses.field(default_factory=lambda: _block(SFTConfig))
    reward: RewardConfig = dataclasses.field(default_factory=lambda: _block(RewardConfig))
    ppo: PPOConfig = dataclasses.field(default_factory=lambda: _block(PPOConfig))
    rloo: RLOOConfig = dataclasses.field(default_factory=lambda: _block(RLOOConfig))
    grpo: GRPOConfig = dataclasses.field(default_factory=lambda: _block(GRPOConfig))
    reinforce: ReinforceConfig = dataclasses.field(default_factory=lambda: _block(ReinforceConfig))
    raft: RAFTConfig = dataclasses.field(default_factory=lambda: _block(RAFTConfig))
    online_dpo: OnlineDPOConfig = dataclasses.field(default_factory=lambda: _block(OnlineDPOConfig))
    dpo: DPOConfig = dataclasses.field(default_factory=lambda: _block(DPOConfig))
    changes: dict[int, Any] = dataclasses.field(default_factory=dict)
    """Settings from a round on, by its number, as blocks of this file: earlier rounds stay as they were."""

    def __post_init__(self) -> None:
        at_least(1, "", rounds=self.rounds)
        at_least(0, "", seed=self.seed)
        own = "world.use false needs one of your own."
        require(self.world.use or self.model is not None, f"no base model: {own}", "model")
        require(self.world.use or self.prompts.data is not None, f"no prompts: {own}", "prompts.data")
        idle = self.check.ai.judge is not None and self.check.judge.ai == 0
        require(not idle, "check.judge.ai gives this judge no share of the check.", "check.ai.judge")
        for place, judges in (("judge", self.judge), ("check.judge", self.check.judge)):
            self._check_judges(place, judges)
        dpo = self.learn.plus is None or self.learn.optimise != "dpo"
        require(dpo, "dpo reads preferences and asks no reward.", "learn.plus")
        self._check_refresh()
        self._check_field()

    def _check_refresh(self) -> None:
        """An SFT model of the round's own is of use only where the policy starts from it."""
        imitated = self.field.edits == "demonstrations"
        for given, place in (
            (self.learn.refresh > 0, "learn.refresh"),
            (self.learn.written, "learn.written"),
            (imitated, "field.edits"),
        ):
            refreshing = not given or self.learn.start == "sft"
            require(refreshing, "a policy that starts from the last one reads no SFT model.", place)

    def _check_field(self) -> None:
        for given, place in ((self.field.taken, "field"), (self.learn.written, "learn.written")):
            named = not given or self.store.programme is not None
            require(named, "store.programme names no programme of the studio.", place)
        if self.field.use == "unpaired":
            block = self.learn.optimise
            told = f"{block} asks a reward model, which compares two answers, and a thumb is of one. Take pairs, or dpo"
            require(block == "dpo", f"{told} with the loss kto.", "field.use")
            require(self.learn.decay == 1, "single answers have no weights; set learn.decay to 1.", "field.use")
            require(
                self.field.weight == FieldRecipe.weight, "single answers have no weights; leave it out.", "field.weight"
            )

    def _check_judges(self, place: str, judges: JudgesRecipe) -> None:
        total = sum(judges.shares.values())
        require(abs(total - 1) < 1e-9, f"the shares of people, ai and simulated add up to {total:g}, not 1.", place)
        simulated = judges.simulated == 0 or self.world.use
        require(simulated, "simulated raters know the embedded world alone; set world.use.", f"{place}.simulated")
        named = judges.ai == 0 or bool(self.ai_of(place.removesuffix(".judge")).judges)
        require(named, "ai.judge names no AI judge.", f"{place}.ai")
        named = judges.people == 0 or self.store.programme is not None
        require(named, "store.programme names no programme of the studio.", f"{place}.people")

    def ai_block(self, stage: str) -> str:
        """The block that says how AI judges of a stage, judge or check, are asked: ai or check.ai."""
        return "check.ai" if stage == "check" and self.check.ai.judge is not None else "ai"

    def ai_of(self, stage: str) -> AIRecipe:
        """The AI judge of a stage, judge or check."""
        return self.check.ai if self.ai_block(stage) == "check.ai" else self.ai

    @property
    def method(self) -> Any:
        """The settings of the method that trains the policy."""
        return getattr(self, self.learn.optimise)
