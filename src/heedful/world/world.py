"""The embedded world: one object with its prompts, its texts, its tokenizer and its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from heedful.data.records import Conversation, Demonstration
from heedful.errors import HeedfulError, nearest
from heedful.files import sha256_json
from heedful.world import gold as yardstick
from heedful.world.gold import Attributes
from heedful.world.language import Dice
from heedful.world.lexicon import lexicon
from heedful.world.raters import PANELS
from heedful.world.splits import SPLITS, Split, Splits, WorldPrompt, make_splits
from heedful.world.topics import Topic, build_topics
from heedful.world.web import AUTHORS, DEMONSTRATOR_RIGHT, DEMONSTRATOR_SHARES, demonstration, document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class World:
    """The embedded assistant world.

    The facts are fixed. The seed draws the web's common errors and which facts and wordings are held
    out, so that different seeds are different examinations of one subject.

    Args:
        seed: of the world, not of any text; texts have seeds of their own.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.topics: tuple[Topic, ...] = build_topics(seed)
        self._splits: Splits = make_splits(self.topics, seed)
        self._by_name = {topic.name: topic for topic in self.topics}
        self._by_question = {q.text: topic for topic in self.topics for q in topic.questions}

    def prompts(self, split: Split) -> list[WorldPrompt]:
        """The prompts of "train", "phrasing" or "fact", in a fixed order. See `splits`."""
        found = getattr(self._splits, split) if split in SPLITS else None
        if found is None:
            raise HeedfulError(f"the world has no split {split!r}.", mend=nearest(split, list(SPLITS)))
        return list(found)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The world's tokenizer (needs `transformers`)."""
        from heedful.world.tokenizer import build_tokenizer

        return build_tokenizer()

    def topic_of(self, prompt: Conversation) -> Topic:
        """What a prompt asks about.

        Raises:
            HeedfulError: if its last message is not a question of this world.
        """
        text = prompt[-1].content if prompt else ""
        topic = self._by_question.get(text)
        if topic is None:
            raise HeedfulError(
                f"{text!r} is not a question of the embedded world.",
                mend="The gold score exists for World.prompts(...) only. " + nearest(text, list(self._by_question)),
            )
        return topic

    def attributes(self, prompt: Conversation, text: str, finished: bool = True) -> Attributes:
        """What a reply is, exactly; any text has attributes."""
        return yardstick.attributes(self.topic_of(prompt), text, finished)

    def gold(self, prompt: Conversation, text: str, finished: bool = True) -> float:
        """How good a reply is, in gold points."""
        return yardstick.score(self.attributes(prompt, text, finished))

    def correct(self, prompt: Conversation, text: str) -> bool:
        """Whether a reply does what was asked rightly, manners left aside."""
        return self.attributes(prompt, text).correct

    def golds(
        self, prompts: Sequence[Conversation], texts: Sequence[str], finished: Sequence[bool] | None = None
    ) -> np.ndarray:
        """[n] float64 gold scores of n replies; `finished` is all true when not given."""
        ended = [True] * len(texts) if finished is None else finished
        rows = zip(prompts, texts, ended, strict=True)
        return np.array([self.gold(prompt, text, bool(end)) for prompt, text, end in rows], dtype=np.float64)

    def pretraining_documents(self, n: int, seed: int) -> list[str]:
        """n documents of the web: questions with replies, right and wrong, and verdicts on them.

        The special tokens are part of the text: tokenize with `add_special_tokens=False`, and learn the
        tokens that `tokenizer.learnt` names.
        """
        dice = Dice([self.seed, 3, seed])
        return [document(dice, self.topics) for _ in range(n)]

    def demonstrations(self, n: int, seed: int) -> list[Demonstration]:
        """n imperfect human demonstrations on training prompts, as evenly spread over topics as can be."""
        dice = Dice([self.seed, 4, seed])
        by_topic: dict[str, list[WorldPrompt]] = {}
        for prompt in self._splits.train:
            by_topic.setdefault(prompt.topic, []).append(prompt)
        names = list(by_topic)
        order: list[str] = []
        rng = np.random.default_rng([self.seed, 5, seed])
        while len(order) < n:
            order += [names[i] for i in rng.permutation(len(names))]
        found = []
        for name in order[:n]:
            prompt = dice.any(by_topic[name])
            found.append(Demonstration(prompt.prompt, demonstration(dice, self._by_name[name], self.topics)))
        return found

    def fingerprint(self) -> str:
        """Hex digest of the yardstick: gold weights, prompts by split, legal sentences, raters, demonstrators.

        Two runs with one fingerprint were measured by one yardstick.
        """
        splits = {name: [[p.prompt[0].content, p.topic] for p in self.prompts(name)] for name in SPLITS}
        answers = [[topic.name, topic.right, topic.wrong, topic.extras] for topic in self.topics]
        demonstrators = [asdict(author) for author in AUTHORS]
        return sha256_json(
            {
                "gold": asdict(yardstick.GOLD),
                "splits": splits,
                "answers": answers,
                "sentences": {text: asdict(meaning) for text, meaning in lexicon().items()},
                "raters": {name: [asdict(rater) for rater in raters] for name, raters in PANELS.items()},
                "demonstrators": [demonstrators, DEMONSTRATOR_SHARES, DEMONSTRATOR_RIGHT],
            }
        )
