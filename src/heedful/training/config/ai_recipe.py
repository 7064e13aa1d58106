"""The AI judge of a recipe: a function that scores answers, or models that are asked. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from heedful.errors import HeedfulError
from heedful.training.config.asking import AskingOptions, BudgetOptions, EndpointOptions, LoadingOptions
from heedful.training.config.checks import require, share

IN_PROCESS = "hf:"
_AT_URL = re.compile(r"[^@]+@https?://.+")


@dataclass(frozen=True)
class AIRecipe:
    """The AI judge: a reward model, a function of your own, or models that are asked as `heedful judge` asks them."""

    judge: str | tuple[str, ...] | None = None
    """MODEL@URL of any OpenAI-compatible server, hf:FOLDER for a model in process, or several of these, a panel;
    MODEL alone where endpoint.url is given. Else a reward model's folder or module:function(prompts, completions) ->
    scores: the higher score wins the pair."""
    way: Literal["logprob", "verdict", "attributes", "critique"] = "logprob"
    """How a model judges: by the probability of the letters A and B, by a verdict with a rationale, by points for each
    attribute of store.attributes (or UltraFeedback's four), or by a critique and a score (docs/ai-feedback.md)."""
    constitution: str | None = None
    """With way logprob: a YAML file of principles, or default. Each pair is judged by one that is drawn for it, in
    place of a rubric."""
    tags: tuple[str, ...] = ()
    """Of a constitution: draw only from principles with one of these tags."""
    thoughts: bool = False
    """Of a constitution: the judge reasons before it chooses, and its labels are clamped to 40 to 60%."""
    orders: Literal["both", "one"] = "both"
    """Show each pair in both orders, or in one that is drawn: half the cost, and its position bias stays in."""
    missing: float = 0.0
    """Share of a judge's questions that may go without any reply (a server that stumbles) before the round stops."""
    asking: AskingOptions = AskingOptions()
    endpoint: EndpointOptions = EndpointOptions()
    budget: BudgetOptions = BudgetOptions()
    loading: LoadingOptions = LoadingOptions()

    def __post_init__(self) -> None:
        share("ai.", missing=self.missing)
        for name in self.judges:
            require(bool(name.strip()), "an empty name.", "ai.judge")
        require(len(set(self.judges)) == len(self.judges), "a judge stands there twice.", "ai.judge")
        asked = [self.is_asked(name) for name in self.judges]
        if any(asked) or len(asked) > 1:
            wrong = next((name for name, ok in zip(self.judges, asked, strict=True) if not ok), None)
            if wrong is not None:
                raise HeedfulError(
                    f"{wrong!r} is no model that can be asked, and only such are a panel.",
                    where="ai.judge",
                    mend="Write MODEL@URL or hf:FOLDER; or name one reward model or function alone.",
                )
        if not any(asked):
            self._refuse_idle()
        self._check_constitution()

    @property
    def judges(self) -> tuple[str, ...]:
        """Who judges, by name."""
        if self.judge is None:
            return ()
        return (self.judge,) if isinstance(self.judge, str) else self.judge

    @property
    def asked(self) -> bool:
        """Whether the judges are models that are asked, and not something that scores answers."""
        return any(self.is_asked(name) for name in self.judges)

    def is_asked(self, name: str) -> bool:
        """Whether a judge's name means a model that is asked."""
        return name.startswith(IN_PROCESS) or bool(_AT_URL.fullmatch(name)) or self.endpoint.url is not None

    def _refuse_idle(self) -> None:
        """Settings of how models are asked say nothing where none is."""
        for field in dataclasses.fields(self):
            if field.name != "judge" and getattr(self, field.name) != field.default:
                who = "nobody is named" if self.judge is None else f"{self.judge!r} is not asked, it scores answers"
                raise HeedfulError(
                    f"this tells how a model is asked, and {who}.",
                    where=f"ai.{field.name}",
                    mend="Name a model: MODEL@URL or hf:FOLDER in ai.judge; or take the setting out.",
                )

    def _check_constitution(self) -> None:
        if self.constitution is None:
            for name in ("tags", "thoughts"):
                require(not getattr(self, name), "it tells of a constitution's principles.", f"ai.{name}")
            return
        require(self.way == "logprob", "a principle's label is the letters' log-probability.", "ai.way")
        require(self.asking.rubric is None, "principles stand in a rubric's place.", "ai.asking.rubric")
        require(len(self.judges) == 1, "a constitution's labels are one judge's.", "ai.judge")
