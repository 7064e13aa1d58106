"""People as the judge of fresh checks: pairs go to raters through the studio, and the run waits for what they say.

Pairs are pushed for the purpose `check`, so that none of their judgments ever enters training. A push has a key made of
its texts: a run that was killed while it waited asks nobody twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import BatchSpec, BatchStatus, NewCompletion, NewItem
from heedful.files import sha256_json
from heedful.monitoring.checks import Reply, Vote

CHECK = "check"
SAME = ""
"""The rater of a pair whose answers do not differ: nobody, since it is a tie that nobody need be asked about."""


class PeopleJudge:
    """Has raters of a programme decide pairs: the studio shows two answers in an order of its own, and no names.

    Args:
        client: reaches the store.
        programme: its slug.
        votes: judgments for each pair.
        patience: seconds without a new judgment after which the waiting ends.
        say: is told what goes on.
        every: seconds between two looks.
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
        every: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.programme, self.votes = client, programme, votes
        self.patience, self.say, self.every, self.sleep = patience, say, every, sleep
        self._said: set[str] = set()

    def __call__(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> list[list[Vote]]:
        """The votes on each pair, as `monitoring.checks.Judge`.

        Raises:
            HeedfulError: nobody judged for as long as `patience`, or the store refuses.
        """
        found: list[list[Vote]] = [[] for _ in prompts]
        differing = []
        for row, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            if own.text == other.text:
                found[row] = [Vote(0.5, SAME)]
            else:
                differing.append(row)
        if not differing:
            return found
        items = [_item(prompts[row], ours[row].text, theirs[row].text) for row in differing]
        key = sha256_json([[item.messages, [one.text for one in item.completions]] for item in items])
        spec = BatchSpec(f"fresh check {key[:8]}", purpose=CHECK, quota=self.votes)
        batch = self.client.push_items(self.programme, spec, items, key=f"check-{key}-{self.votes}")
        if batch.state == "staged":
            batch = self.client.open_batch(self.programme, batch.id)
        self._wait(batch)
        places = {
            item.id: row for item, row in zip(self.client.items(self.programme, batch.id), differing, strict=True)
        }
        for judgment in self.client.judgments(self.programme, batch=batch.id, purpose=CHECK):
            row = places[judgment.item]
            strength = int(judgment.payload["strength"])
            first = 0.5 if strength == 0 else float(strength < 0)
            won = first if _ours_first(ours[row].text, theirs[row].text) else 1 - first
            found[row].append(Vote(won, judgment.rater))
        self._say_who({vote.rater for votes in found for vote in votes})
        return found

    def _wait(self, batch: BatchStatus) -> None:
        """Until every place of a batch is filled or its item is parked."""
        waited, filled = 0.0, -1
        while batch.done + batch.parked < batch.items:
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
            self.sleep(self.every)
            waited += self.every
            batch = self.client.batch(self.programme, batch.id)

    def _say_who(self, raters: set[str]) -> None:
        """Say it once of each rater who judged a check and training pairs too: such checks are not quite fresh."""
        new = raters - self._said - {SAME}
        if not new:
            return
        self._said |= new
        trained = {one.rater for one in self.client.judgments(self.programme)}
        both = len(new & trained)
        if both:
            self.say(f"watch: {both} of {len(new)} raters of this check also gave training judgments")


def _ours_first(ours: str, theirs: str) -> bool:
    """Which answer is the item's first: a coin of the two texts, the same after a kill."""
    return int(sha256_json([ours, theirs])[:2], 16) % 2 == 0


def _item(prompt: Conversation, ours: str, theirs: str) -> NewItem:
    """A pair as an item; who wrote which is told to nobody, since a policy's name is kept beside its text."""
    texts = (ours, theirs) if _ours_first(ours, theirs) else (theirs, ours)
    messages = [{"role": message.role, "content": message.content} for message in prompt]
    return NewItem(messages, [NewCompletion(text) for text in texts], "pairwise")
