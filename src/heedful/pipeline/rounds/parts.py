"""What a round is made of: stages with their inputs, and how a step of a programme stands. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.pipeline.rounds.recipe import Programme
from heedful.training.config.programme import Recipe
from heedful.training.progress import Display


class WaitingError(HeedfulError):
    """A stage cannot go on before people have done something; the same command goes on once they have.

    Args:
        told: `for`, a sentence's part, and figures of how far it is.
    """

    exit_code = 3

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(
            f"waiting for {told['for']}: {told['filled']} of {told['places']} are in.",
            mend="heedful round --wait holds until they are; the same command goes on then.",
        )
        self.told = dict(told)


@dataclass(frozen=True)
class Made:
    """The result of a stage, or those files of it that matter."""

    number: int
    stage: str
    files: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"rounds/{self.number}/{self.stage}"


@dataclass(frozen=True)
class Kept:
    """The policy that was kept after a round; which one that is, its `decide` says."""

    number: int

    def __str__(self) -> str:
        return f"the policy after round {self.number}"


@dataclass(frozen=True)
class Outside:
    """Something that the recipe names: a file, a folder or a hub id."""

    name: str

    def __str__(self) -> str:
        return self.name


Source = Made | Kept | Outside


@dataclass(frozen=True)
class Stage:
    """A row of the table of stages.

    Attributes:
        name: of its folder.
        make: `module:function` of `heedful.pipeline.rounds`; it is given a `Work`.
        settings: what of the recipe decides the result.
        inputs: what it reads, by role.
        needed: whether a round has it.
        version: raised whenever the code makes something else of the same settings and inputs.
        records: it sets down what raters said, and is made again when one of them was erased; what is made from it
            stands once its round is decided.
    """

    name: str
    make: str
    settings: Callable[[Recipe, int], dict[str, Any]]
    inputs: Callable[[Recipe, int], dict[str, Source]]
    needed: Callable[[Recipe, int], bool] = lambda recipe, number: True
    version: int = 1
    records: bool = False


@dataclass(frozen=True)
class Step:
    """A stage of a round."""

    number: int
    stage: Stage
    recipe: Recipe

    @property
    def name(self) -> str:
        """As `1/sft`."""
        return f"{self.number}/{self.stage.name}"


@dataclass(frozen=True)
class Found:
    """An input as it is now.

    Attributes:
        files: those that matter; none: all.
        former: what its content was before judgments were withdrawn from it.
    """

    path: str
    digest: str
    files: tuple[str, ...] = ()
    former: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What a stage's function is given."""

    programme: Programme
    step: Step
    out: Path
    inputs: Mapping[str, Found]
    display: Display

    @property
    def settings(self) -> dict[str, Any]:
        """What of the recipe decides the result."""
        return self.step.stage.settings(self.step.recipe, self.step.number)

    def input(self, role: str) -> Path:
        """Where an input stands."""
        return Path(self.inputs[role].path)

    def inputs_like(self, prefix: str) -> list[Path]:
        """The inputs `prefix1`, `prefix2`, ..., in that order."""
        found = [(int(role.removeprefix(prefix)), one) for role, one in self.inputs.items() if role.startswith(prefix)]
        return [Path(one.path) for _, one in sorted(found, key=lambda row: row[0])]


@dataclass(frozen=True)
class Standing:
    """How a step stands.

    Attributes:
        done: its result is there, of the settings and inputs as they are.
        differs: what of its settings and inputs is not as its result was made; or that there is none.
        after: by role, the steps that are made before it and give that input, of which one cannot know yet whether they
            come out as they were.
        key: None where an input is not known yet.
        human: judgments by people that its result holds.
        withdrawn: judgments of its own that were withdrawn since, by rater.
        but_for_withdrawn: its result is, or will be, as it should be but for judgments that were withdrawn since, here
            or from what it was made from. Where it is done all the same, its round was decided before.
    """

    step: Step
    done: bool
    differs: tuple[str, ...] = ()
    after: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    inputs: Mapping[str, Found] = field(default_factory=dict)
    there: bool = False
    human: int = 0
    withdrawn: Mapping[str, int] = field(default_factory=dict)
    but_for_withdrawn: bool = False

    @property
    def why(self) -> tuple[str, ...]:
        """Why it is to be made."""
        return (*self.differs, *(f"{role}: {name} is made first" for role, name in self.after.items()))
