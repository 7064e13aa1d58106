"""What the tests of dialogues share: an endpoint of a programme, a rater's dialogue with it, a turn that goes on."""

from __future__ import annotations

from typing import Any

from fake_endpoint import Endpoint
from feedback_factories import account, batch, item, rater
from heedful.feedback import assignment as work
from heedful.feedback import dialogue, dialogue_asking, endpoints
from heedful.feedback.dialogue_items import choose
from heedful.feedback.models import Assignment, Dialogue, Item, PolicyEndpoint, Programme


def endpoint(of: Programme, fake: Endpoint, **over: Any) -> PolicyEndpoint:
    given = {"sampling": {"temperature": 0.7, "seed": 5}, **over}
    return endpoints.create_endpoint(of, "shop", fake.url, "shop-7b", actor=account(), **given)


def start(of: Programme, **over: Any) -> Assignment:
    """A rater's assignment of a dialogue, shown."""
    own = rater(of)
    messages = over.pop(
        "messages", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ask about a parcel."}]
    )
    item(batch(of, **over), completions=0, kind="dialogue", messages=messages)
    found = work.next_assignment(own)
    assert found is not None
    work.show(found)
    return found


def talking(of: Programme, fake: Endpoint, **over: Any) -> Dialogue:
    endpoint(of, fake, **over)
    return dialogue.begin(start(of))


def turn(of: Dialogue, text: str = "Hello?", strength: int = 2) -> Item:
    made = dialogue.say(of, text, key=text)
    assert dialogue_asking.fill(made)
    return choose(made, 1 if strength > 0 else 0, strength)
