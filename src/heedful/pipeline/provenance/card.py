"""The model card of a checkpoint, in Hugging Face's format, out of its lineage and of the checks that there are.

It says nothing that depends on when or where it was written: a run that is done again has the same card. Imports no
torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from heedful.errors import HeedfulError
from heedful.files import atomic_write, read_manifest
from heedful.pipeline.lineage import trace
from heedful.pipeline.provenance.records import Artifact, Check, Lineage
from heedful.pipeline.rounds.contents import CARD, CARD_MARK, is_card
from heedful.pipeline.rounds.recipe import RECIPE
from heedful.training.folders import ALARMS, whole_lines

FEW = 100
"""Judgments of a check below which its interval is said to be wide."""
METHODS = {"sft", "ppo", "rloo", "grpo", "reinforce", "raft", "online-dpo", "dpo"}


@dataclass(frozen=True)
class Card:
    """A model card: the front matter's values, and the text below it."""

    data: Mapping[str, Any]
    text: str

    def __str__(self) -> str:
        head = yaml.safe_dump(dict(self.data), sort_keys=False, allow_unicode=True)
        return f"---\n{head}---\n\n{CARD_MARK}\n\n{self.text}"


def card_of(place: Path, *, license: str | None = None, verify: bool = True) -> Card:
    """The card of a checkpoint's folder.

    Args:
        place: the folder; of a programme, its last kept policy's.
        license: of the model, as the hub names licences; left out where none is given, since nothing here knows it.
        verify: hold every file of the lineage against its hash.

    Raises:
        HeedfulError: there is nothing there, or it is no model's folder.
    """
    found = trace(place, verify=verify)
    root = Path(found.folder) / found.root
    if not (root / "config.json").exists():
        raise HeedfulError(
            "a model card is of a model, and there is none in this folder.", where=str(root), mend="Name a checkpoint."
        )
    own = found.named[found.root]
    text = "\n\n".join(part for part in _parts(found, own, root) if part)
    return Card(_front_matter(found, own, license), text + "\n")


def write_card(place: Path, card: Card, *, overwrite: bool = False) -> Path:
    """Write a card as README.md of a checkpoint's folder; gives its path.

    Raises:
        HeedfulError: a card stands there that heedful did not write, or that is a part of the checkpoint.
    """
    path = place / CARD
    if CARD in (read_manifest(place) or {}).get("files", {}):
        raise HeedfulError(
            f"{CARD} is one of the checkpoint's own files.", where=str(place), mend="Name another file: --out FILE."
        )
    if path.exists() and not is_card(path) and not overwrite:
        raise HeedfulError(
            "there is a model card that heedful did not write.",
            where=str(path),
            mend="Give --overwrite, or --out FILE.",
        )
    with atomic_write(path) as file:
        file.write(str(card))
    return path


def _front_matter(found: Lineage, own: Artifact, license: str | None) -> dict[str, Any]:
    base = hub_model(found)
    datasets = hub_datasets(found)
    tags = ["heedful"]
    tags += [own.kind] if own.kind in METHODS else []
    tags += ["rlhf"] if found.by_kind.get("human") else []
    tags += ["rlaif"] if found.by_kind.get("ai") else []
    reward = own.kind in ("reward", "average")
    data: dict[str, Any] = {"library_name": "transformers"}
    data["pipeline_tag"] = "text-classification" if reward else "text-generation"
    data |= {"license": license} if license else {}
    data |= {"base_model": base} if base else {}
    data |= {"datasets": datasets} if datasets else {}
    data["tags"] = [*tags, "reward-model"] if reward else tags
    return data


def hub_model(found: Lineage) -> str | None:
    """The base model's id on the hub; None for one of a folder of one's own."""
    return next(iter(_on_hub(found, ("base", "model", "start"))), None)


def hub_datasets(found: Lineage) -> list[str]:
    """Ids of data sets on the hub that the model was made from."""
    return sorted(_on_hub(found, ("data", "demonstrations", "ptx")))


def _on_hub(found: Lineage, roles: Sequence[str]) -> list[str]:
    read = {link.name for one in found.artifacts for link in one.made_from if link.role in roles}
    return [one.name for one in found.artifacts if one.kind == "hub" and one.name in read]


# --- the text ---


def _parts(found: Lineage, own: Artifact, root: Path) -> Iterator[str]:
    yield f"# {_title(found, own)}"
    yield _summary(found, own)
    yield "## Whose judgments\n\n" + _judgments(found)
    yield "## Checks\n\n" + _checks(found, own, root)
    yield "## Limits that were found\n\n" + "\n".join(f"- {one}" for one in limits(found, own, root))
    yield "## Made from\n\n" + _made_from(found)
    yield (
        "## How to read this card\n\nIt was generated by `heedful card` from the manifests of the runs. "
        f"`heedful lineage` on the folder that this model was trained in shows the chain of {len(found.artifacts)} "
        "artifacts, holds every file against its hash, and lists every judgment by its id."
    )


def _title(found: Lineage, own: Artifact) -> str:
    if "round" in own.facts:
        return f"{_plain(_programme(Path(found.folder)))}, round {own.facts['round']}: {own.kind}"
    return _plain(Path(own.name).name)


def _programme(folder: Path) -> str:
    """A programme's name, as its recipe says it: the same wherever its folder stands."""
    given = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")) if (folder / RECIPE).exists() else None
    return str((given or {}).get("name") or folder.name)


def _summary(found: Lineage, own: Artifact) -> str:
    base = hub_model(found)
    world = any(one.kind == "pretrain" for one in found.artifacts)
    start = f"`{base}`" if base else "the embedded world's base model" if world else "a base model that is on no hub"
    what = "A reward model" if own.kind in ("reward", "average") else "A language model"
    rounds = sorted({one.facts["round"] for one in found.artifacts if one.facts.get("stage") == "judge"})
    told = f" in {len(rounds)} rounds of feedback" if len(rounds) > 1 else " in one round of feedback" if rounds else ""
    return f"{what} trained with heedful by {own.kind}{told}, from {start}."


def _judgments(found: Lineage) -> str:
    kinds = found.by_kind
    if not kinds:
        return "No judgments: nothing in its lineage was judged by anybody."
    total = sum(kinds.values())
    rows = ["| judgments by | count | share |\n|---|---|---|"]
    rows += [f"| {kind} | {count} | {count / total:.1%} |" for kind, count in kinds.items()]
    said = ["\n".join(rows)]
    if found.people:
        twice = sum(one.kind == "export" for one in found.artifacts) > 1
        more = " One who judged in two exports counts twice." if twice else ""
        said.append(f"{_count(found.people, 'person', 'people')} judged.{more}")
    elif not kinds.get("human"):
        said.append("No people judged.")
    users = len({one.rater for one in found.raters if one.kind == "end_user"})
    if users:
        said.append(f"{_count(users, 'end user', 'end users')} of an application thumbed, chose or edited its answers.")
    if found.guidelines:
        versions = [
            f"version {one.version} of {_plain(one.programme)} ({one.judgments} judgments)" for one in found.guidelines
        ]
        said.append(f"Guidelines followed: {', '.join(versions)}.")
    judges = sorted({f"`{_plain(one.name)}`" + (f" ({one.template})" if one.template else "") for one in found.judges})
    if judges:
        said.append(f"AI judges: {', '.join(judges)}.")
    if found.constitutions:
        said.append(f"Constitutions: {', '.join(map(_plain, found.constitutions))}.")
    if found.snapshots:
        listed = [f"`{one.id}` (sha256 `{one.sha256[:16]}`, {one.judgments} judgments)" for one in found.snapshots]
        said.append(f"Snapshots of the store: {', '.join(listed)}.")
    return "\n\n".join(said)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _checks(found: Lineage, own: Artifact, root: Path) -> str:
    rows = [_check_row(one) for one in sorted(found.checks, key=lambda check: (len(check.name), check.name))]
    rows += [_evaluation_row(*one) for one in evaluations(root)]
    figures = own.facts.get("figures", {})
    if "held_out_accuracy" in figures:
        rows.append(f"| held-out pairs ordered as judged | {figures['held_out_accuracy']:.1%} | | | |")
    if not rows:
        return "None: nobody compared its answers with those of another model."
    head = "| what | result | 95% interval | pairs | judged by |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _check_row(one: Check) -> str:
    mean, low, high = one.win_rate
    asked = ", ".join(f"{count} {kind}" for kind, count in one.judgments.items())
    verdict = {True: "kept", False: "rolled back", None: "not decided"}[one.promoted]
    what = f"{one.policy} over the policy before it ({verdict})"
    row = f"| {what} | {mean:.1%} | {low:.1%} to {high:.1%} | {one.pairs} | {asked} |"
    if one.gold is not None:
        mean, low, high = one.gold
        what = "the same, by the embedded world's truth"
        row += f"\n| {what} | {mean:.1%} | {low:.1%} to {high:.1%} | {one.pairs} | gold |"
    return row


def evaluations(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Records of `heedful evaluate --out` of this policy that stand beside its folder or in it: file name, record."""
    for path in sorted((*root.parent.glob("*.json"), *root.glob("*.json"))):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(found, dict) and {"policy", "baseline", "judge", "verdicts"} <= found.keys():
            policy = Path(str(found["policy"]))
            if policy.resolve() == root or root.as_posix().endswith(f"/{policy.as_posix()}"):
                yield path.name, found


def _evaluation_row(name: str, found: Mapping[str, Any]) -> str:
    rate, judge = found["verdicts"][found["judge"]]["win_rate"]["rate"], _plain(Path(str(found["judge"])).name)
    what = f"over {_plain(Path(str(found['baseline'])).name)} (`{_plain(name)}`)"
    return f"| {what} | {rate['mean']:.1%} | {rate['low']:.1%} to {rate['high']:.1%} | {found['prompts']} | {judge} |"


def limits(found: Lineage, own: Artifact, root: Path) -> list[str]:
    """What is known against a checkpoint, a sentence each."""
    said = []
    checks = [one for one in found.checks if one.policy == own.name]
    for one in checks:
        mean, low, _ = one.win_rate
        if low <= 0.5:
            said.append(
                f"It is not shown to be better than the policy before it: it won {mean:.1%} of its check, and the "
                "interval holds one half."
            )
        count = sum(one.judgments.values())
        if count < FEW:
            said.append(f"Its check rests on {count} judgments, so that the interval is wide.")
    if not checks and own.kind not in ("reward", "average"):
        said.append("No fresh judgments have checked it.")
    kinds = found.by_kind
    total = sum(kinds.values())
    if kinds.get("simulated"):
        said.append(
            f"{kinds['simulated'] / total:.0%} of its judgments are by simulated raters, which are no evidence of what "
            "people prefer."
        )
    if kinds.get("ai"):
        said.append(f"{kinds['ai'] / total:.0%} of its judgments are by AI judges, whose habits it has learnt too.")
    if 0 < found.people < 5:
        said.append(f"Its human judgments are by {_count(found.people, 'person', 'people')} alone.")
    said += _alarms(root)
    said += [
        f"{_count(one.judgments, 'judgment', 'judgments')} that {one.name} was made from were withdrawn since."
        for one in found.withdrawn
    ]
    said += [f"`{_shown(name)}` is not the file that it was made from." for name in found.changed]
    said += [f"The lineage ends at `{_shown(name)}`: {why}." for name, why in found.ends.items()]
    return said or ["None beyond what any model of its size has: no alarm, no change, no gap in the lineage."]


def _alarms(root: Path) -> list[str]:
    """Signs that the watch over its training raised, by how often."""
    counts: dict[tuple[str, str], int] = {}
    for _, row in whole_lines(root / ALARMS):
        key = (str(row["sign"]), str(row["tier"]))
        counts[key] = counts.get(key, 0) + 1
    return [
        f"While it was trained, the watch raised {sign} ({tier}) {_count(count, 'time', 'times')}."
        for (sign, tier), count in counts.items()
    ]


def _made_from(found: Lineage) -> str:
    rows = ["| artifact | kind | sha256 | state |\n|---|---|---|---|"]
    rows += [
        f"| {_shown(one.name)} | {one.kind} | {f'`{one.sha256[:16]}`' if one.sha256 else ''} | {one.state} |"
        for one in found.artifacts
    ]
    return "\n".join(rows)


def _shown(name: str) -> str:
    """An artifact's name without the way to it on this machine, as text of the card."""
    return _plain(Path(name).name if Path(name).is_absolute() else name)


_MARKUP = str.maketrans({"|": "&#124;", "<": "&lt;", ">": "&gt;", "`": "'", "[": "&#91;", "]": "&#93;"})


def _plain(name: str) -> str:
    """A name that somebody else chose, so that it is no markup: one line, without a table's bars, tags or links."""
    return " ".join(name.split()).translate(_MARKUP)
