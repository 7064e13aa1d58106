"""People as the judge of fresh checks: pairs go to raters through the studio, and the run waits for what they say.

A run that was killed while it waited asks nobody twice (`pipeline.blind_pairs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import BatchStatus
from heedful.monitoring.checks import Reply, Vote
from heedful.pipeline.blind_pairs import Pair, ask, judgments_of


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
        """The votes on each pair, as `monitoring.checks.Judge`; a tie of nobody where both texts are the same.

        Raises:
            HeedfulError: nobody judged for as long as `patience`, or the store refuses.
        """
        pairs = [Pair(p, own.text, other.text) for p, own, other in zip(prompts, ours, theirs, strict=True)]
        asked = ask(self.client, self.programme, pairs, name="fresh check", votes=self.votes)
        if asked is not None:
            self._wait(asked.batch)
        given = judgments_of(self.client, self.programme, pairs, asked)
        found = [
            [Vote(0.5)] if pair.ours == pair.theirs else [Vote(one.won, one.rater) for one in own]
            for pair, own in zip(pairs, given, strict=True)
        ]
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
        new = raters - self._said - {""}
        if not new:
            return
        self._said |= new
        trained = {one.rater for one in self.client.judgments(self.programme)}
        both = len(new & trained)
        if both:
            self.say(f"watch: {both} of {len(new)} raters of this check also gave training judgments")
