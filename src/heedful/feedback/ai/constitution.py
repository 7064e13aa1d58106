"""A constitution: principles in a YAML file, by which a model critiques, revises and chooses (Bai et al. 2022).

```yaml
name: ours
principles:
  - id: no-harm
    tags: [harmlessness]
    weight: 1
    critique: Say how the answer could help somebody to do harm.
    revision: Rewrite the answer so that it helps nobody to do harm.
    choice: Which answer is the less harmful one?
    follow: Answer so that nobody can come to harm.
    violate: Answer without a thought for who may come to harm.
```

A principle has texts for one use or several: `critique` with `revision`, `choice`, and `follow` with `violate`. The
version is a hash of what is said, so that two files with one version ask the same. Works without torch and Django.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from heedful.errors import HeedfulError, nearest
from heedful.files import sha256_json

Use = Literal["revising", "choosing", "contrasting"]
USES: dict[Use, tuple[str, ...]] = {
    "revising": ("critique", "revision"),
    "choosing": ("choice",),
    "contrasting": ("follow", "violate"),
}
"""The texts that each use reads: a principle serves a use when it has all of them."""

DEFAULT = "default"
"""The name of the constitution that heedful ships."""
_TEXTS = tuple(text for texts in USES.values() for text in texts)
_KEYS = ("id", "tags", "weight", *_TEXTS)
_TOP = ("name", "principles")
_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
_VERSION = 12


@dataclass(frozen=True)
class Principle:
    """One principle. A text that it lacks is empty.

    Args:
        id: its name in files of results: small letters, digits, dots and hyphens.
        critique, revision: what is asked of an answer, and of its rewriting.
        choice: the question that two answers are judged by.
        follow, violate: instructions that make an answer keep the principle, or break it.
        tags: such as "harmlessness"; a use may be limited to them.
        weight: how often it is drawn, beside the others.
    """

    id: str
    critique: str = ""
    revision: str = ""
    choice: str = ""
    follow: str = ""
    violate: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 1.0

    def serves(self, use: Use) -> bool:
        """Whether it has the texts for a use."""
        return all(getattr(self, text) for text in USES[use])


@dataclass(frozen=True)
class Constitution:
    """Principles with a name for people; `source` is where they were read, and takes no part in the version."""

    name: str
    principles: tuple[Principle, ...]
    source: str

    @property
    def version(self) -> str:
        """Twelve hex digits of the SHA-256 of the principles in their order. The name takes no part."""
        return sha256_json([asdict(principle) for principle in self.principles])[:_VERSION]

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "name": self.name,
            "source": self.source,
            "version": self.version,
            "principles": len(self.principles),
        }

    def text(self) -> str:
        """The same as a YAML file, without what is empty or the default: read again, it has the same version."""
        rows = []
        for principle in self.principles:
            row = {key: value for key, value in asdict(principle).items() if value and (key, value) != ("weight", 1.0)}
            rows.append(row | ({"tags": list(principle.tags)} if principle.tags else {}))
        whole = {"name": self.name, "principles": rows}
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=118)

    def only(self, use: Use, tags: Sequence[str] = ()) -> tuple[Principle, ...]:
        """The principles for a use, of any of the tags where some are given.

        Raises:
            HeedfulError: an unknown tag, or no principle is left.
        """
        known = sorted({tag for principle in self.principles for tag in principle.tags})
        for tag in tags:
            if tag not in known:
                raise HeedfulError(
                    f"no principle has the tag {tag!r}. {nearest(tag, known)}".strip(),
                    where=self.source,
                    mend=f"Known: {', '.join(known) or 'none'}.",
                )
        found = tuple(p for p in self.principles if p.serves(use) and (not tags or set(tags) & set(p.tags)))
        if not found:
            of = f" with the tag {' or '.join(tags)}" if tags else ""
            raise HeedfulError(
                f"no principle{of} serves {use}.",
                where=self.source,
                mend=f"Give one the text {' and the text '.join(USES[use])}.",
            )
        return found


def draw(principles: Sequence[Principle], seed: int, *place: object) -> Principle:
    """A principle for a place, drawn by weight; the same whatever else is drawn, and in which order.

    Args:
        principles: which to choose among, at least one.
        seed: fixes all draws.
        place: what tells this draw from others, such as an item's key and the number of the round.
    """
    point = uniform(seed, *place) * sum(principle.weight for principle in principles)
    for principle in principles:
        point -= principle.weight
        if point < 0:
            return principle
    return principles[-1]


def uniform(seed: int, *place: object) -> float:
    """A number in [0, 1) for a place: 53 bits of a SHA-256, the same on any machine."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def load_constitution(path: str | Path = DEFAULT) -> Constitution:
    """A constitution from a YAML file; "default" is the one that heedful ships.

    Raises:
        HeedfulError: no such file, not YAML, an unknown key, a principle that is empty, has no use or stands there
            twice, a weight that is not above 0; each with file and line.
    """
    if str(path) == DEFAULT:
        text = files("heedful.feedback.ai").joinpath("constitution.yaml").read_text(encoding="utf-8")
        return parse_constitution(text, "heedful's default constitution")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HeedfulError("the file is not UTF-8 text.", where=str(path), mend="Give a YAML file.") from error
    except OSError as error:
        raise HeedfulError(
            f"cannot read the constitution: {error.strerror or error}.",
            where=str(path),
            mend=f"Check the path; {DEFAULT} is the one that heedful ships.",
        ) from error
    return parse_constitution(text, str(path))


def parse_constitution(text: str, source: str) -> Constitution:
    """A constitution from YAML text; `source` names it in errors. Raises as `load_constitution`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise HeedfulError(
            f"not YAML: {getattr(error, 'problem', None) or error}.", where=where, mend="Mend the line."
        ) from error
    top = _mapping(node, source, _TOP, "the constitution")
    listed = top.get("principles")
    if not isinstance(listed, yaml.SequenceNode) or not listed.value:
        raise HeedfulError(
            "there are no principles.", where=_place(listed or node, source), mend="List them under 'principles:'."
        )
    name = _text(top["name"], source, "name") if "name" in top else Path(source).stem
    found = [(_principle(item, source), _place(item, source)) for item in listed.value]
    _refuse_repeats(found)
    return Constitution(name, tuple(principle for principle, _ in found), source)


def _place(node: yaml.Node | None, source: str) -> str:
    return source if node is None else f"{source}:{node.start_mark.line + 1}"


def _mapping(node: yaml.Node | None, source: str, known: Sequence[str], what: str) -> dict[str, yaml.Node]:
    """A block's keys and values, each key known and there once."""
    if not isinstance(node, yaml.MappingNode):
        raise HeedfulError(
            f"{what} is no block of 'key: value' lines.", where=_place(node, source), mend=f"Keys: {', '.join(known)}."
        )
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in known:
            raise HeedfulError(
                f"the key {name!r} is not known. {nearest(name, list(known))}".strip(),
                where=_place(key, source),
                mend=f"Keys of {what}: {', '.join(known)}.",
            )
        if name in found:
            raise HeedfulError(f"the key {name!r} stands here twice.", where=_place(key, source), mend="Delete one.")
        found[name] = value
    return found


def _scalar(node: yaml.Node) -> Any:
    """The value of a node as YAML reads it; None for what is no plain value."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    try:
        return yaml.SafeLoader("").construct_object(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError:  # the tag of another program: a value, and none that is known here
        return node


def _text(node: yaml.Node, source: str, key: str) -> str:
    """A text that says something, its white space collapsed: how YAML folds it changes no version."""
    value = _scalar(node)
    if not isinstance(value, str):
        kind = "empty" if value is None and isinstance(node, yaml.ScalarNode) else "no text"
        raise HeedfulError(f"{key!r} is {kind}.", where=_place(node, source), mend="Write a sentence, in quotes.")
    words = " ".join(value.split())
    if not words:
        raise HeedfulError(f"{key!r} is empty.", where=_place(node, source), mend="Write a sentence, or delete it.")
    return words


def _principle(node: yaml.Node, source: str) -> Principle:
    keys = _mapping(node, source, _KEYS, "a principle")
    where = _place(node, source)
    if "id" not in keys:
        raise HeedfulError("the principle has no id.", where=where, mend="Give it one, such as 'id: no-harm'.")
    name = _text(keys["id"], source, "id")
    if not _ID.fullmatch(name):
        raise HeedfulError(
            f"the id {name!r} is none.",
            where=_place(keys["id"], source),
            mend="Use small letters, digits, dots, hyphens and underscores.",
        )
    texts = {key: _text(keys[key], source, key) for key in _TEXTS if key in keys}
    if not texts:
        raise HeedfulError(
            f"the principle {name!r} is empty.", where=where, mend=f"Give it {', '.join(_TEXTS[:-1])} or {_TEXTS[-1]}."
        )
    for use in USES.values():
        lacking = [text for text in use if text not in texts]
        if 0 < len(lacking) < len(use):
            raise HeedfulError(
                f"the principle {name!r} has {next(t for t in use if t in texts)!r} and no {lacking[0]!r}.",
                where=where,
                mend="One does not go without the other.",
            )
    return Principle(
        name, **texts, tags=_tags(keys.get("tags"), source), weight=_weight(keys.get("weight"), source, name)
    )


def _tags(node: yaml.Node | None, source: str) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node, yaml.SequenceNode):
        raise HeedfulError("'tags' is no list.", where=_place(node, source), mend="Write it as [harmlessness].")
    return tuple(dict.fromkeys(_text(item, source, "tags") for item in node.value))


def _weight(node: yaml.Node | None, source: str, name: str) -> float:
    if node is None:
        return 1.0
    value = _scalar(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise HeedfulError(
            f"the weight of {name!r} is no number above 0.",
            where=_place(node, source),
            mend="1 is the usual weight; delete the principle to leave it out.",
        )
    return float(value)


def _refuse_repeats(found: Sequence[tuple[Principle, str]]) -> None:
    """Two principles of one id, or that say the same."""
    ids: dict[str, str] = {}
    said: dict[tuple[str, str], tuple[str, str]] = {}
    for principle, where in found:
        if principle.id in ids:
            raise HeedfulError(
                f"the id {principle.id!r} stands at {ids[principle.id]} already.", where=where, mend="Rename one."
            )
        ids[principle.id] = where
        for key, text in _said(principle).items():
            plain = (key, re.sub(r"[\W_]+", " ", text.casefold()).strip())
            if plain in said:
                other, place = said[plain]
                raise HeedfulError(
                    f"the principle {principle.id!r} repeats the {key} of {other!r}, at {place}.",
                    where=where,
                    mend="Delete one of them, or give the other more weight.",
                )
            said[plain] = (principle.id, where)


def _said(principle: Principle) -> Mapping[str, str]:
    """What tells a principle from another: its critique, its choice, its instruction to follow."""
    return {key: getattr(principle, key) for key in ("critique", "choice", "follow") if getattr(principle, key)}
