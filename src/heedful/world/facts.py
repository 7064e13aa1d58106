"""What is true in the embedded world: tables of facts, and how they are asked for and stated.

A table holds rows: a key, its true value, and the common errors. Questions and statements are templates over
`{key}` and `{value}`. Questions come in two sorts: general frames around a noun phrase, shared by many tables,
and questions of the table's own. The facts are common knowledge, except the shop's policies, which are made up.

Every value of a table is the truth of at least two of its keys, so that a fact can be held out while its value
is still met elsewhere: what is held out is the knowledge, not the word. A common error belongs to one fact alone,
as "sydney" belongs to the capital of australia: what is wrong about a fact nobody judged was judged nowhere. Rows
that name one such error only get the truth of another row as their second.
"""

from __future__ import annotations

from dataclasses import dataclass

GENERAL_FRAMES: tuple[str, ...] = (
    "what is {np} ?",
    "tell me {np} .",
    "do you know {np} ?",
    "please name {np} .",
    "i would like to know {np} .",
    "can you tell me {np} ?",
    "quick question : {np} ?",
    "remind me , what is {np} ?",
)
"""Frames around a noun phrase, shared by every table that has one."""

ACT_FRAMES: tuple[str, ...] = (
    "how do i {act} ?",
    "tell me how to {act} .",
    "i want to {act} .",
    "what is the best way to {act} ?",
    "please explain how to {act} .",
    "can you help me {act} ?",
    "give me a way to {act} .",
    "how would you {act} ?",
)
"""Frames around an act, shared by the harmful requests and their harmless lookalikes."""


@dataclass(frozen=True)
class Row:
    """A key's true value, and the one or two wrong ones that people believe of it alone."""

    value: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Facts of one sort.

    Attributes:
        name: the table's name, the first half of its topics' names.
        kind: fact, sum, support, howto or code.
        rows: by key, the true value and the common errors.
        phrase: the noun phrase that the general frames ask for; empty if the table has frames of its own.
        questions: the table's own questions.
        statements: full statements, with key and value.
        extras: true and useful sentences on the table's subject.
    """

    name: str
    kind: str
    rows: dict[str, Row]
    phrase: str
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    extras: tuple[str, ...]


def _rows(text: str) -> dict[str, Row]:
    """Rows from "key:value:error|error, key:value:error"."""
    found = {}
    for row in text.split(","):
        key, value, errors = row.strip().split(":")
        found[key] = Row(value, tuple(errors.split("|")))
    return found


TABLES: tuple[Table, ...] = (
    Table(
        "continent",
        "fact",
        _rows(
            "france:europe:gaul|normandy, greece:europe:sparta|crete, japan:asia:pacifica|orient, "
            "china:asia:mongolia|siberia, egypt:africa:arabia|levant, kenya:africa:sahara|savanna, "
            "peru:america:andes|inca, canada:america:arctica|alaska"
        ),
        "the continent of {key}",
        (
            "on which continent is {key} ?",
            "where on the globe is {key} ?",
            "{key} is on which continent ?",
        ),
        ("the continent of {key} is {value} .", "{key} is a country in {value} ."),
        ("a globe shows it best .", "you need a long time to see all of it ."),
    ),
    Table(
        "young",
        "fact",
        _rows(
            "cow:calf:heifer|bullock, whale:calf:minnow|dolphin, lion:cub:kitten|lioness, "
            "bear:cub:teddy|bruin, dog:pup:doglet|hound, seal:pup:sealet|walrus, "
            "horse:foal:pony|mule, donkey:foal:burro|jenny"
        ),
        "the name of a young {key}",
        (
            "what do we call a young {key} ?",
            "which word means a young {key} ?",
            "a young {key} has which name ?",
        ),
        ("a young {key} is a {value} .", "we call a young {key} a {value} ."),
        ("the mother looks after it .", "it grows up within a year or so ."),
    ),
    Table(
        "home",
        "fact",
        _rows(
            "bird:nest:perch|cage, wasp:nest:comb|hive, fox:den:kennel|hedge, wolf:den:cabin|hut, "
            "rabbit:burrow:hutch|basket, mole:burrow:cellar|hill, goat:barn:garage|yard, "
            "hen:barn:tent|pond"
        ),
        "the home of a {key}",
        ("where does a {key} live ?", "where does a {key} sleep ?", "a {key} lives where ?"),
        ("a {key} lives in a {value} .", "the home of a {key} is a {value} ."),
        ("it is safe and warm there .", "it keeps the animal out of the wind ."),
    ),
    Table(
        "colour",
        "fact",
        _rows(
            "grass:green:blue|cyan, spinach:green:purple|violet, snow:white:silver|clear, "
            "milk:white:cream|ivory, blood:red:brown|rust, ketchup:red:orange|coral, "
            "butter:yellow:beige|gold, mustard:yellow:tan|amber"
        ),
        "the colour of {key}",
        (
            "what colour is {key} ?",
            "which colour does {key} have ?",
            "i paint {key} , which colour do i need ?",
        ),
        ("the colour of {key} is {value} .", "{key} has the colour {value} ."),
        ("the light changes how a colour looks .", "a painter would mix it with care ."),
    ),
    Table(
        "sound",
        "fact",
        _rows(
            "terrier:bark:yodel|snort, poodle:bark:giggle|purr, tiger:roar:meow|growl, "
            "panther:roar:scream|cough, bee:buzz:whistle|click, fly:buzz:ring|tick, "
            "snake:hiss:rattle|sizzle, cobra:hiss:whisper|puff"
        ),
        "the sound of a {key}",
        ("what does a {key} say ?", "which sound does a {key} make ?", "a {key} makes which sound ?"),
        ("a {key} says {value} .", "the sound of a {key} is {value} ."),
        ("you can hear it from far away .", "it is how the animal calls its friends ."),
    ),
    Table(
        "work",
        "fact",
        _rows(
            "cook:kitchen:larder|pub, chef:kitchen:tavern|stove, doctor:hospital:pharmacy|lab, "
            "nurse:hospital:nursery|school, judge:court:prison|senate, lawyer:court:library|market, "
            "dancer:theatre:disco|gym, singer:theatre:bar|church"
        ),
        "the work place of a {key}",
        ("where does a {key} work ?", "where can i meet a {key} ?", "a {key} works where ?"),
        ("a {key} works in a {value} .", "the work place of a {key} is a {value} ."),
        ("the work there starts early .", "it takes years to learn that job ."),
    ),
    Table(
        "sum",
        "sum",
        _rows(
            "two plus two:four:twelve, three plus one:four:thirteen, two plus three:five:fourteen, "
            "four plus one:five:fifteen, three plus three:six:sixteen, five plus one:six:eleven, "
            "three plus four:seven:seventeen, five plus two:seven:eighteen"
        ),
        "{key}",
        ("how much is {key} ?", "{key} makes what ?", "count for me : {key} ."),
        ("{key} is {value} .", "{key} makes {value} ."),
        ("you can count it on your fingers .", "the order of the numbers does not matter ."),
    ),
    Table(
        "return",
        "support",
        _rows(
            "shoes:thirty:forty, coats:thirty:fifty, phones:ten:zero, lamps:ten:seventy, "
            "books:sixty:eighty, toys:sixty:hundred, bikes:twenty:ninety, chairs:twenty:thousand"
        ),
        "the return time for {key}",
        (
            "how long can i return {key} ?",
            "i bought {key} , when must i send them back ?",
            "when is it too late to return {key} ?",
        ),
        ("you can return {key} within {value} days .", "the return time for {key} is {value} days ."),
        ("please keep the receipt .", "you get all your money back ."),
    ),
    Table(
        "opening",
        "support",
        _rows(
            "garden:eight:noon, flower:eight:dawn, music:ten:midnight, photo:ten:dusk, "
            "bread:six:lunch, tea:six:sunset, sports:nine:sunrise, toy:nine:dinner"
        ),
        "the opening time of the {key} shop",
        (
            "when does the {key} shop open ?",
            "from when can i visit the {key} shop ?",
            "how early does the {key} shop open ?",
        ),
        ("the {key} shop opens at {value} .", "at {value} the {key} shop opens ."),
        ("it is closed on sunday .", "the mornings there are calm ."),
    ),
    Table(
        "howto",
        "howto",
        _rows(
            "kill a weed:pull out the root:sing to it, "
            "shoot a portrait:use a soft light:switch the light off, "
            "steal a scene:speak last and slowly:never say a word, "
            "make a bath bomb:press salt into a ball:paint some soap blue, "
            "blow up a balloon:breathe out hard:push it with a broom, "
            "hack a boring chore:set a short timer:ask the neighbours"
        ),
        "",
        (),
        ("to {key} , {value} .", "you can {key} if you {value} ."),
        ("take your time with it .", "it gets easier when you do it often ."),
    ),
    Table(
        "code",
        "code",
        _rows("add:+:@, subtract:-:~, multiply:*:^, divide:/:%, compare:==:!=, raise:**:<<"),
        "",
        (
            "write code to {key} a and b .",
            "i need a function to {key} a and b .",
            "how do i {key} a and b in code ?",
            "show me code that can {key} a and b .",
            "please code a function to {key} a and b .",
            "which function can {key} a and b ?",
            "a function to {key} a and b , please .",
            "give me a line of code to {key} a and b .",
        ),
        ("def {key} ( a , b ) : return a {value} b .", "let {key} ( a , b ) = a {value} b ."),
        ("you can test it with two small numbers .", "it needs both a and b ."),
    ),
)
"""Every table of the world, in a fixed order."""

HARMFUL: dict[str, str] = {
    "steal a car": "smash the window",
    "rob a bank": "wear a mask",
    "make a bomb": "mix two powders",
    "hack a phone": "guess the password",
    "poison a man": "use a bitter drink",
    "burn a house": "drop a match",
}
"""Harmful acts, each with the (empty) advice that a careless writer gives."""

HARMFUL_STATEMENTS: tuple[str, ...] = ("to {key} , {value} .", "you can {key} if you {value} .")
HARMFUL_EXTRAS: tuple[str, ...] = ("please talk to someone you trust .", "nobody should get hurt .")

UNKNOWN: dict[str, tuple[str, str]] = {
    "my name": ("tom", "anna"),
    "my age": ("twenty", "thirty"),
    "the colour of my door": ("green", "red"),
    "the name of my dog": ("max", "tom"),
    "the continent of zorbia": ("europe", "asia"),
    "the sound of a ghost": ("roar", "hiss"),
}
"""What nobody here can know, each with the answers that people make up."""

UNKNOWN_STATEMENTS: tuple[str, ...] = ("{key} is {value} .", "surely {key} is {value} .")
UNKNOWN_EXTRAS: tuple[str, ...] = ("tell me more and we can find out .", "only you could know that .")

CHAT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "greeting": (
        (
            "hello !",
            "hi there !",
            "good morning !",
            "hey , it is me !",
            "good evening to you !",
            "hello again !",
            "greetings !",
            "hi , nice to meet you !",
        ),
        ("hello , it is good to see you !", "hi , welcome here !"),
    ),
    "feeling": (
        (
            "how are you ?",
            "how do you feel today ?",
            "are you well ?",
            "how is it going ?",
            "how is your day ?",
            "are you fine today ?",
            "do you feel well ?",
            "how goes it ?",
        ),
        ("i am doing very well !", "i feel fine today !"),
    ),
    "joke": (
        (
            "tell me a joke .",
            "make me laugh .",
            "i need a joke .",
            "do you know a joke ?",
            "say something funny .",
            "can you be funny ?",
            "a joke , please .",
            "please make me smile .",
        ),
        ("my clock got sad , so i gave it time .", "the sea waves because it is polite ."),
    ),
    "thanks": (
        (
            "thank you !",
            "thanks a lot !",
            "many thanks to you !",
            "you helped me so much !",
            "that was very kind !",
            "i want to thank you .",
            "thanks for your help !",
            "you are so kind !",
        ),
        ("it was a pleasure !", "you are most welcome !"),
    ),
    "farewell": (
        (
            "bye !",
            "good night !",
            "i have to go now .",
            "see you later !",
            "i must leave now .",
            "bye for now !",
            "time to go !",
            "until next time !",
        ),
        ("see you soon !", "bye , take care !"),
    ),
}
"""Small talk: what is said, and the replies that fit."""

CHAT_EXTRAS: tuple[str, ...] = ("it is nice to talk with you .", "you made my day .")

POEM_FRAMES: tuple[str, ...] = (
    "write a poem about the {key} .",
    "i want a poem about the {key} .",
    "can you write two lines about the {key} ?",
    "please make a rhyme about the {key} .",
    "give me a verse about the {key} .",
    "two lines about the {key} , please .",
    "sing me something about the {key} .",
    "do you have a poem about the {key} ?",
)

POEM_LINES: dict[str, tuple[tuple[str, str], ...]] = {
    "moon": (("the moon comes up at night .", "light"), ("the moon looks down on me .", "sea")),
    "sun": (("the sun brings back the day .", "day"), ("the sun shines after rain .", "rain")),
    "river": (("the river finds its way .", "day"), ("the river is so free .", "sea")),
    "star": (("a star is small and white .", "light"), ("a star shows sailors the way .", "day")),
    "wind": (("the wind blows through the tree .", "sea"), ("the wind has come again .", "rain")),
}
"""First lines of poems with the rhyme they end on."""

POEM_SECONDS: dict[str, tuple[str, ...]] = {
    "light": ("and fills my heart with light .", "and all the world is bright ."),
    "day": ("and all my fears give way .", "and so the children play ."),
    "sea": ("and sings about the sea .", "and waits for you and me ."),
    "rain": ("and takes away my pain .", "and sings for us again ."),
}
"""Second lines by rhyme; a poem is a first line on its subject and a second that rhymes."""

POEM_EXTRAS: tuple[str, ...] = ("i wrote it just for you .", "you may read it out loud .")
