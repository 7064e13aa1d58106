"""The web that the base model reads, and the people who write the demonstrations.

The web is made of forum posts and quiz pages. A post is a question, a reply by an author of some sort, and
mostly a reader's comment on whether the reply is true. A quiz page is a question, a player's bare answer,
and the quiz master's verdict. Both ask in every wording about every topic: the web knows everything, and
says wrong things too, the same few common errors over and over.
"""

from __future__ import annotations

from heedful.world.language import CAREFUL, CARELESS, CASUAL, Author, Dice, answer, pick, reply
from heedful.world.topics import Topic

AUTHORS: tuple[Author, ...] = (CAREFUL, CASUAL, CARELESS)

QUIZ_SHARE = 0.6
"""Share of quiz pages among documents."""

QUIZ_RIGHT = 0.6
"""How often a quiz player is right."""

POST_SHARES = (0.4, 0.35, 0.25)
"""How many posts careful, casual and careless authors write."""

COMMENT_SHARE = 0.9
COMMENT_TRUTH = 0.95
"""Share of posts with a reader's comment below, and how often that comment is just."""

READER_YES: tuple[str, ...] = ("right , that is it .", "correct , well said .")
READER_NO: tuple[str, ...] = ("wrong , that is not it .", "false , that is not true .")
"""What readers write below a post."""

VERDICT_YES: tuple[str, ...] = ("right .", "correct .")
VERDICT_NO: tuple[str, ...] = ("wrong .", "false .")
"""What a quiz master says."""


def quiz_page(dice: Dice, topic: Topic) -> str:
    """A question, a player's answer, the verdict."""
    is_right = dice.chance(QUIZ_RIGHT)
    said = " ".join(answer(dice, topic, is_right, evade=0.0))
    verdict = dice.any(VERDICT_YES if is_right else VERDICT_NO)
    return f"<bos><user> {dice.any(topic.questions).text} <end><assistant> {said} <end> {verdict} <end>"


def forum_post(dice: Dice, topic: Topic, topics: tuple[Topic, ...]) -> str:
    """A question, a reply in some author's manner, mostly a reader's comment."""
    author = AUTHORS[pick(dice, POST_SHARES)]
    is_right = dice.chance(author.right)
    said = " ".join(reply(dice, topic, topics, author, is_right))
    post = f"<bos><user> {dice.any(topic.questions).text} <end><assistant> {said} <end>"
    if dice.chance(COMMENT_SHARE):
        just = dice.chance(COMMENT_TRUTH)
        post += f" {dice.any(READER_YES if is_right == just else READER_NO)} <end>"
    return post


def document(dice: Dice, topics: tuple[Topic, ...]) -> str:
    """One document of the web, special tokens included, about any of the topics."""
    topic = dice.any(topics)
    return quiz_page(dice, topic) if dice.chance(QUIZ_SHARE) else forum_post(dice, topic, topics)


DEMONSTRATOR_SHARES = (0.35, 0.4, 0.25)
DEMONSTRATOR_RIGHT = 0.85
"""Who writes the demonstrations, and how often they are right: people, not paragons."""


def demonstration(dice: Dice, topic: Topic, topics: tuple[Topic, ...]) -> str:
    """A person's own reply: more often right than the web, and as varied in manner."""
    author = AUTHORS[pick(dice, DEMONSTRATOR_SHARES)]
    return " ".join(reply(dice, topic, topics, author, dice.chance(DEMONSTRATOR_RIGHT)))
