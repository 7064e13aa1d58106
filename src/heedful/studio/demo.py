"""The demo: a programme of the embedded world's questions, so that every kind of task can be tried at once."""

from __future__ import annotations

from heedful.data.records import Conversation, as_messages
from heedful.feedback import content, gold, programmes, submission
from heedful.feedback.models import Account, Batch, Programme, RaterKind, Role
from heedful.feedback.wire import NewCompletion, NewItem
from heedful.world.language import Dice, reply
from heedful.world.raters import judge, panel
from heedful.world.topics import Topic
from heedful.world.web import AUTHORS
from heedful.world.world import World

SLUG = "demo"
SEED = 7
ITEMS = 24
SIMULATED = 3
"""Simulated raters, who have judged the first half of the comparisons."""
PEOPLE = (("lead", Role.MANAGER), ("rater 1", Role.RATER), ("rater 2", Role.RATER), ("rater 3", Role.RATER))


def fill() -> Programme:
    """Make the demo programme, unless it is there."""
    found = Programme.objects.filter(slug=SLUG).first()
    if found is not None:
        return found
    owner = Account.objects.filter(is_superuser=True).first() or programmes.keeper("demo-owner", "Demo")
    made = programmes.create_programme("Demo: a small assistant", account=owner, slug=SLUG)
    world = World(SEED)
    _comparisons(made, world, owner)
    _others(made, world)
    return made


def invitations() -> list[tuple[str, str]]:
    """(who, path) of a fresh link for each person of the demo."""
    from django.urls import reverse

    made = Programme.objects.get(slug=SLUG)
    links = []
    for who, role in PEOPLE:
        _, token = programmes.invite(made, str(role), actor=None)
        links.append((who, reverse("invitation", args=[token])))
    return links


def _answers(world: World, prompt: Conversation, count: int, dice: Dice) -> list[str]:
    """Different answers in different manners, some right, some wrong."""
    topic: Topic = world.topic_of(prompt)
    others = tuple(world.topic_of(other.prompt) for other in world.prompts("train")[:40])
    found: list[str] = []
    while len(found) < count:
        author = AUTHORS[len(found) % len(AUTHORS)]
        text = " ".join(reply(dice, topic, others, author, dice.chance(author.right)))
        if text not in found:
            found.append(text)
    return found


def _item(kind: str, prompt: Conversation, answers: list[str]) -> NewItem:
    completions = [NewCompletion(text, policy=f"author {i % len(AUTHORS)}") for i, text in enumerate(answers)]
    messages = as_messages(prompt)
    return NewItem(messages, completions, kind)


def _comparisons(programme: Programme, world: World, owner: Account) -> None:
    """Pairs, the first half judged by simulated raters; one of the rest is gold."""
    dice = Dice([SEED, 1])
    prompts = [one.prompt for one in world.prompts("train")[:: max(1, len(world.prompts("train")) // ITEMS)]][:ITEMS]
    pairs: list[tuple[Conversation, str, str]] = []
    for prompt in prompts:
        a, b = _answers(world, prompt, 2, dice)
        pairs.append((prompt, a, b))
    batch = content.create_batch(programme, "Comparisons", quota=SIMULATED, quota_cap=SIMULATED + 1)
    content.add_items(batch, [_item("pairwise", prompt, [a, b]) for prompt, a, b in pairs])
    content.open_batch(batch)
    raters = [programmes.agent(programme, str(RaterKind.SIMULATED), f"simulated {i + 1}") for i in range(SIMULATED)]
    done = list(zip(batch.items.order_by("position"), pairs, strict=True))
    judged = done[: ITEMS // 2]
    for_a, who, _ = judge(world, [pair for _, pair in judged], panel(), votes=SIMULATED, seed=SEED)
    for row, (item, _) in enumerate(judged):
        for column, rater in enumerate(raters):
            strength = -(1 + who[row, column] % 3) if for_a[row, column] else 1 + who[row, column] % 3
            submission.record(item, rater, {"strength": int(strength)}, key=f"demo-{row}-{column}")
    gaps = [world.gold(prompt, b) - world.gold(prompt, a) for _, (prompt, a, b) in done[ITEMS // 2 :]]
    clearest = max(range(len(gaps)), key=lambda row: abs(gaps[row]))
    item = done[ITEMS // 2 + clearest][0]
    better = [1, 3] if gaps[clearest] > 0 else [-3, -1]
    gold.promote(item, [{"strength": better}], "One answer is plainly better by the rubric.", actor=owner)


def _others(programme: Programme, world: World) -> None:
    """A few items of each other kind that needs no model."""
    dice = Dice([SEED, 2])
    prompts = [one.prompt for one in world.prompts("phrasing")]
    kinds = (
        ("ranking", "Rankings", 4),
        ("attributes", "Attributes", 2),
        ("edit", "Corrections", 1),
        ("demonstration", "Demonstrations", 0),
    )
    for number, (kind, name, count) in enumerate(kinds):
        batch: Batch = content.create_batch(programme, name, priority=-1 - number)
        chosen = prompts[number * 7 : number * 7 + 4]
        content.add_items(batch, [_item(kind, prompt, _answers(world, prompt, count, dice)) for prompt in chosen])
        content.open_batch(batch)
