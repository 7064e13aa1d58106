"""People as the judge of fresh checks: pairs go to raters through the studio, and the run waits for what they say, or
looks again later.

Pairs are pushed for the purpose `check`, so that none of their judgments ever enters training. A push has a key made of
its texts: a run that was killed while it waited asks nobody twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.core.sequential import LEAST_RATERS
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import Answer, BatchSpec, BatchStatus, NewCompletion, NewItem
from heedful.files import sha256_json, write_json
from heedful.monitoring.checks import NotYetJudged, Panel, Reply, Vote

CHECK = "check"
FIRST = 10
"""Priority of batches for checks: a run waits for them, and whoever judges training pairs first is fresh no longer."""
SAME = ""
"""The rater of a pair whose answers do not differ: nobody, since it is a tie that nobody need be asked about."""


@dataclass(frozen=True)
class LeftOpen:
    """What was still being asked when a run ended."""

    batch: str
    places: int
    """Judgments wanted."""
    filled: int
    """Judgments that came."""
    held: int
    """Pairs that somebody is at work on: they keep them, and what they say is kept."""


class PeopleJudge:
    """Has raters of a programme decide pairs: the studio shows two answers in an order of its own, and no names.

    Args:
        client: reaches the store.
        programme: its slug.
        votes: judgments for each pair.
        patience: seconds without a new judgment after which the waiting ends.
        say: is told what goes on.
        asking: file that says what is being asked, for the studio's page; None writes none.
        every: seconds between two looks, at most: while people are at work it looks again sooner.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: FeedbackClient,
        programme: str,
        *,
        votes: int,
        patience: float,
        say: Callable[[str], None],
        asking: Path | None = None,
        every: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.programme, self.votes = client, programme, votes
        self.patience, self.say, self.asking, self.every, self.sleep = patience, say, asking, every, sleep
        self._settled: dict[str, list[list[Vote]]] = {}
        self._open: BatchStatus | None = None
        self._key = ""
        self._raters: set[str] = set()
        self._trained: set[str] = set()
        self._fresh_only: list[bool] = []
        self._told: set[str] = set()
        self._givers: set[str] = set()
        self._said = ""

    def __call__(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> list[list[Vote]]:
        """The votes on each pair, as `monitoring.checks.Judge`; waits until they are in.

        Raises:
            HeedfulError: nobody judged for as long as `patience`, or the store refuses.
        """
        return self._decide(prompts, ours, theirs, wait=True)

    def glance(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> list[list[Vote]]:
        """The same for who does not wait: asks people, and says later what they said.

        Raises:
            NotYetJudged: not all of them have been judged.
            HeedfulError: the store refuses.
        """
        return self._decide(prompts, ours, theirs, wait=False)

    def take_panel(self) -> Panel:
        """Who judged since this was last asked."""
        panel = Panel(len(self._raters), len(self._trained), bool(self._fresh_only) and all(self._fresh_only))
        self._raters, self._trained, self._fresh_only = set(), set(), []
        self._settled.clear()
        self._note(None)
        return panel

    @property
    def asks(self) -> bool:
        """Whether it knows of something that people are being asked."""
        return self._open is not None

    def leave(self) -> LeftOpen | None:
        """Ask no more: what is open is handed to nobody else, and who is at work on a pair may finish it."""
        if self._open is None:
            return None
        batch = self.client.batch(self.programme, self._open.id)
        if batch.state == "open":
            batch = self.client.pause_batch(self.programme, batch.id)
        self._note(None)
        return LeftOpen(batch.name, batch.places, batch.filled, batch.held)

    def _decide(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply], *, wait: bool
    ) -> list[list[Vote]]:
        found: list[list[Vote]] = [[] for _ in prompts]
        differing = []
        for row, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            if own.text == other.text:
                found[row] = [Vote(0.5, SAME)]
            else:
                differing.append(row)
        if not differing:
            return found
        items = [pair_item(prompts[row], ours[row].text, theirs[row].text) for row in differing]
        first = [_ours_first(ours[row].text, theirs[row].text) for row in differing]
        key = sha256_json([_texts(item.messages, item.completions) for item in items])
        if key not in self._settled:
            self._settled[key] = self._ask(items, first, key, wait=wait)
        for row, votes in zip(differing, self._settled[key], strict=True):
            found[row] = list(votes)
        return found

    def _ask(self, items: Sequence[NewItem], first: Sequence[bool], key: str, *, wait: bool) -> list[list[Vote]]:
        """Have items judged; `first` says where our answer is the item's first."""
        if self._open is None or self._key != key:
            spec = BatchSpec(f"fresh check {key[:8]}", purpose=CHECK, quota=self.votes, priority=FIRST)
            batch = self.client.push_items(self.programme, spec, items, key=f"check-{key}-{self.votes}-{FIRST}")
            if batch.state in ("staged", "paused"):
                batch = self.client.open_batch(self.programme, batch.id)
            self._key = key
            self._say_fresh(batch)
        else:
            batch = self.client.batch(self.programme, self._open.id)
        self._note(batch)
        if wait:
            self._wait(batch)
        elif _waits(batch):
            raise NotYetJudged
        votes: list[list[Vote]] = [[] for _ in items]
        rows = {_texts(one.messages, one.completions): row for row, one in enumerate(items)}
        kept = self.client.items(self.programme, batch.id)  # without what a manager withdrew
        places = {item.id: rows[_texts(item.messages, item.completions)] for item in kept}
        for judgment in self.client.judgments(self.programme, batch=batch.id, purpose=CHECK):
            row = places[judgment.item]
            strength = int(judgment.payload["strength"])
            won = 0.5 if strength == 0 else float((strength < 0) == first[row])
            votes[row].append(Vote(won, judgment.rater))
        self._open = None
        self._say_who({vote.rater for some in votes for vote in some})
        return votes

    def _wait(self, batch: BatchStatus) -> None:
        """Until every place of a batch is filled or its item is parked."""
        waited, filled = 0.0, -1
        while _waits(batch):
            if batch.filled > filled:
                waited, filled = 0.0, batch.filled
                self.say(f"watch: waiting for people: {batch.filled} of {batch.places} judgments in {batch.name!r}")
            if waited >= self.patience:
                raise HeedfulError(
                    f"nobody has judged a pair of {batch.name!r} for {self.patience / 3600:.3g} hours; "
                    f"{batch.filled} of {batch.places} judgments are in.",
                    where=f"watch.gold.judge (people:{self.programme})",
                    mend="Run the same command again once they are judged: it goes on, and nobody is asked twice.",
                )
            pause = min(self.every, max(1.0, waited / 10), self.patience - waited)
            self.sleep(pause)
            waited += pause
            batch = self.client.batch(self.programme, batch.id)
            self._note(batch)

    def _note(self, batch: BatchStatus | None) -> None:
        """Write down what is being asked; nothing once it is answered."""
        before, self._open = self._open, batch
        if self.asking is None:
            return
        if batch is None:
            self.asking.unlink(missing_ok=True)
            return
        if batch == before:
            return
        told: dict[str, Any] = {"programme": self.programme, "batch": batch.id, "name": batch.name}
        write_json(self.asking, told | {"pairs": batch.items, "places": batch.places, "filled": batch.filled})

    def _say_fresh(self, batch: BatchStatus) -> None:
        """Say whom a check goes to, whenever that is news."""
        if batch.fresh_raters is None:
            return
        self._fresh_only.append(batch.fresh_only)
        if batch.fresh_only:
            said = f"this check goes to the {batch.fresh_raters} raters alone who gave no training judgments"
        elif batch.fresh_raters >= max(LEAST_RATERS, self.votes):
            said = f"anybody in {self.programme!r} may judge this check: its rules do not keep checks for fresh raters"
        else:
            least = max(LEAST_RATERS, self.votes)
            said = (
                f"anybody in {self.programme!r} may judge this check: {batch.fresh_raters} of its raters gave no "
                f"training judgments, and {least} are needed"
            )
        if said != self._said:
            self._said = said
            self.say(f"watch: {said}")

    def _say_who(self, raters: set[str]) -> None:
        """Say it once of each rater who judged a check and training pairs too: such checks are not quite fresh."""
        raters = raters - {SAME}
        new = raters - self._told
        if new:
            self._told |= new
            self._givers = {one.rater for one in self.client.judgments(self.programme)}
            both = len(new & self._givers)
            if both:
                self.say(f"watch: {both} of {len(new)} raters of this check also gave training judgments")
        self._raters |= raters
        self._trained |= raters & self._givers


def _waits(batch: BatchStatus) -> bool:
    """Whether a judgment is still wanted; none is of an item that was parked or withdrawn."""
    return batch.filled < batch.places


def _texts(messages: Sequence[Mapping[str, str]], completions: Sequence[NewCompletion | Answer]) -> str:
    """What an item shows, by which it is known again."""
    return sha256_json([[dict(one) for one in messages], [one.text for one in completions]])


def _ours_first(ours: str, theirs: str) -> bool:
    """Which answer is the item's first: a coin of the two texts, the same after a kill."""
    return int(sha256_json([ours, theirs])[:2], 16) % 2 == 0


def pair_item(prompt: Conversation, ours: str, theirs: str) -> NewItem:
    """A pair as an item; who wrote which is told to nobody, since a policy's name is kept beside its text."""
    texts = (ours, theirs) if _ours_first(ours, theirs) else (theirs, ours)
    messages = [{"role": message.role, "content": message.content} for message in prompt]
    return NewItem(messages, [NewCompletion(text) for text in texts], "pairwise")
