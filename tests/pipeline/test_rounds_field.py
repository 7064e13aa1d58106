"""A round learns from use: pairs, thumbs and edits of end users, and from what raters wrote in the studio."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from feedback_factories import batch, item, rater
from feedback_factories import programme as new_programme
from heedful.cli.main import main
from heedful.data.records import Message, Preference
from heedful.errors import HeedfulError
from heedful.feedback import field
from heedful.feedback.erasure import erase_rater, journal_of
from heedful.feedback.journal import entries
from heedful.feedback.models import Judgment, Programme, Snapshot, TaskKind
from heedful.feedback.recording import record
from heedful.feedback.wire import FieldFeedback
from heedful.files import read_manifest
from heedful.pipeline.lineage import trace
from heedful.pipeline.provenance.affected import made_from_rater, made_from_withdrawn
from heedful.pipeline.rounds.field import require_single, within_share
from heedful.pipeline.rounds.programme import foreseen, status
from heedful.pipeline.rounds.recipe import read_programme
from heedful.pipeline.rounds.rows import read_rows, read_said
from heedful.pipeline.rounds.stages import steps
from rounds_programme import go, write_programme, write_recipe

pytestmark = pytest.mark.on_sqlite
KEY = b"k" * 32
KTO = {
    "rounds": 1,
    "learn": {"optimise": "dpo", "start": "sft"},
    "dpo": {
        "loss": "kto",
        "batch_size": 8,
        "records": {"max_length": 64, "held_out": 0.0},
        "memory": {"micro_batch_tokens": 256},
        "run": {"checkpoint_every": 1, "sample_every": 0, "tensorboard": False},
    },
}


@pytest.fixture
def of(transactional_db: None) -> Programme:
    return new_programme()


def store(of: Programme) -> dict[str, Any]:
    return {"programme": of.slug, "database": f"sqlite:///{connection.settings_dict['NAME']}"}


def use(of: Programme, prompts: list[str], kind: str) -> None:
    """One event of a user of their own for each prompt."""
    more: dict[str, Any] = {
        "thumb": {"up": True},
        "regeneration": {"new": "yes yes", "kept": True},
        "edit": {"edited": "yes indeed"},
    }[kind]
    events = [
        FieldFeedback(
            f"{kind} {prompt}", kind, f"user of {prompt}", True, "tiny-1", [{"role": "user", "content": prompt}], "no",
            **more,
        )
        for prompt in prompts
    ]  # fmt: skip
    assert {one.status for one in field.take_in(of, events, key=KEY)} == {"kept"}


def uses(folder: Path) -> dict[str, str]:
    rows = read_rows(folder / "rounds/1/prompts/uses.jsonl")
    return {row["prompt"][0]["content"]: row["use"] for row in rows}


def asked(path: Path) -> list[str]:
    return [row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][0]["content"] for row in read_rows(path)]


def test_thumbs_reach_a_loss_on_single_answers_and_prompts_keep_their_one_use(of: Programme, tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p", **KTO, store=store(of), field={"use": "unpaired", "share": 0.9})
    known = asked(folder / "prompts.jsonl")
    new = [f"harbour lamp {word} velvet {word}" for word in ("alpha", "beta", "gamma")]
    use(of, new, "thumb")
    use(of, known, "thumb")  # what the programme asks itself: some of it trains, some checks
    use(of, ["quartz ribbon delta copper"], "regeneration")
    made = go(folder)["made"]
    assert made[:4] == ["0/sft", "1/field", "1/prompts", "1/sample"]
    assert "1/reward" not in made
    by = uses(folder)
    judged = {prompt for prompt, own in by.items() if own == "reward"}
    assert {*new, "quartz ribbon delta copper"} <= judged
    rows = list(read_rows(folder / "rounds/1/dataset/labelled.jsonl"))
    used = [row for row in rows if row["completion"] in ("no", "yes yes")]
    # Of the programme's own prompts only those that are judged anyway may be learnt from here.
    prompts = [row["prompt"][0]["content"] for row in used]
    assert set(prompts) == {*new, "quartz ribbon delta copper"} | ({*known} & judged)
    assert {by[prompt] for prompt in prompts} == {"reward"}
    assert set(known) - judged
    labels = {(row["completion"], row["label"]) for row in used if row["prompt"][0]["content"].startswith("quartz")}
    assert labels == {("no", False), ("yes yes", True)}
    record_of = (read_manifest(folder / "rounds/1/policy") or {})["record"]
    assert record_of["judgments"] == {"human": 0, "ai": 16, "simulated": 0, "end_user": len(known) + 4}
    manifest = read_manifest(folder / "rounds/1/field") or {}
    assert manifest["figures"] == {"thumb": len(known) + 3, "regeneration": 1, "edit": 0}
    snapshot = Snapshot.objects.get()
    assert manifest["store"]["snapshot"] == {
        "id": str(snapshot.pk), "sha256": snapshot.sha256, "judgments": len(known) + 4,
    }  # fmt: skip
    assert (read_manifest(folder / "rounds/1/policy") or {})["data"]["records"] == len(rows)
    assert all(one.done for one in foreseen(folder))
    assert go(folder)["made"] == []


def test_pairs_join_the_reward_models_dataset_at_their_weight_and_share(of: Programme, tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p", rounds=1, store=store(of), field={"use": "pairs", "share": 0.25})
    new = [f"harbour lamp {word} velvet {word}" for word in ("alpha", "beta", "gamma", "delta", "omega", "sigma")]
    use(of, new, "regeneration")
    use(of, ["quartz ribbon delta copper"], "edit")
    use(of, ["a thumb of no use here"], "thumb")
    with pytest.raises(HeedfulError, match="stop here"):
        go_until(folder, "1/reward")
    rows = list(read_rows(folder / "rounds/1/dataset/preferences.jsonl"))
    used = [row for row in rows if row.get("made")]
    assert len(used) == (len(rows) - len(used)) // 3  # a quarter of all, of 16 judged pairs or fewer
    assert len(used) < 7
    assert {row["weight"] for row in used} == {0.5}
    assert {(row["a"], row["b"], row["probability"]) for row in used} <= {
        ("yes yes", "no", 1.0),
        ("yes indeed", "no", 1.0),
    }
    assert {row["made"]["by"] for row in used} == {"end_user"}
    figures = (read_manifest(folder / "rounds/1/dataset") or {})["figures"]
    assert (figures["from_use"], figures["left_out"]) == (len(used), 7 - len(used))
    assert not (folder / "rounds/1/dataset/labelled.jsonl").exists()


def go_until(folder: Path, step: str) -> None:
    """Carry a programme on to a step, and no further."""
    from heedful.pipeline.rounds import engine

    carry_out = engine.Engine.carry_out

    def until(self: Any, one: Any) -> bool:
        if one.name == step:
            raise HeedfulError("stop here.")
        return carry_out(self, one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Engine, "carry_out", until)
        go(folder)


def test_what_raters_wrote_and_users_edited_refreshes_the_sft_model(of: Programme, tmp_path: Path) -> None:
    taken = {"learn": {"start": "sft", "written": True}, "field": {"edits": "demonstrations"}}
    folder = write_programme(tmp_path / "p", rounds=1, store=store(of), **taken)
    known = asked(folder / "prompts.jsonl")
    who = rater(of)
    for number, text in enumerate([known[40], known[41], "a prompt of the studio alone"]):
        one = item(batch(of), kind=TaskKind.DEMONSTRATION, completions=0, text=text)
        record(one, who, {}, key=f"{number}", text=f"yes {number}")
    use(of, ["quartz ribbon delta copper"], "edit")
    with pytest.raises(HeedfulError, match="stop here"):
        go_until(folder, "1/reward")
    by = uses(folder)
    for prompt in (known[40], known[41], "a prompt of the studio alone", "quartz ribbon delta copper"):
        assert by[prompt] == "train"  # what is imitated is neither judged nor checked with
    manifest = read_manifest(folder / "rounds/1/sft") or {}
    assert manifest["data"]["records"] == 10 + 3 + 1
    assert manifest["record"]["judgments"] | {"ai": 0} == {
        "human": 0, "ai": 0, "simulated": 0, "demonstration": 3, "end_user": 1,
    }  # fmt: skip
    lineage = trace(folder / "rounds/1/sft")
    assert lineage.by_kind == {"ai": 16, "demonstration": 3, "end_user": 1}
    assert lineage.people == 1
    erase_rater(who)
    why = {one.step.name: one.why for one in foreseen(folder) if not one.done}
    assert why["1/written"] == ("3 of its judgments were withdrawn",)


def test_an_end_users_withdrawal_names_what_was_made_of_theirs_and_unlearning_makes_it_anew(
    of: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal_of("default").unlink(missing_ok=True)
    folder = write_programme(tmp_path / "p", rounds=1, store=store(of), field={"use": "pairs", "share": 0.9})
    use(of, ["harbour lamp alpha velvet", "harbour lamp beta velvet"], "regeneration")
    use(of, ["quartz ribbon delta copper"], "edit")
    use(of, ["a thumb of no use here"], "thumb")
    go(folder)
    taken = read_said(folder / "rounds/1/field/judgments.jsonl")
    assert {one.kind for one in taken} == {"end_user"}
    stored = {str(one.pk): one.kind for one in Judgment.objects.all()}
    assert sorted(stored[one.judgment] for one in taken) == ["edit", "pairwise", "pairwise"]
    before = trace(folder / "rounds/1/policy")
    assert before.by_kind["end_user"] == 3
    assert made_from_withdrawn(folder) == ()
    user = "user of harbour lamp alpha velvet"
    assert field.withdraw(of, user, key=KEY).known
    shutil.copy(journal_of("default"), folder / "erasures.jsonl")
    named = {one.name: one for one in made_from_withdrawn(folder)}
    snapshot = Snapshot.objects.get()
    assert named["rounds/1/field"].judgments == 1
    assert named["rounds/1/field"].snapshots == (f"{snapshot.pk} of {of.slug}",)
    rest = ("prompts", "dataset", "reward", "policy", "check", "decide")
    assert {f"rounds/1/{name}" for name in ("field", *rest)} <= set(named)
    assert main(["lineage", str(folder), "--withdrawn"]) == 0
    assert f"snapshot {snapshot.pk} of {of.slug}" in " ".join(capsys.readouterr().out.split())
    (gone,) = [one.rater for one in taken if one.judgment in {*journalled(folder)}]
    assert {one.name for one in made_from_rater(folder, gone)} == set(named)

    why = {one.step.name: one.why for one in foreseen(folder) if not one.done}
    assert why["1/field"] == ("1 of its judgments were withdrawn",)
    found = go(folder)  # the record and the dataset lose it, what was decided stands and is named
    assert found["made"] == ["1/field", "1/dataset"]
    assert "alpha" not in (folder / "rounds/1/field/pairs.jsonl").read_text()
    assert "alpha" not in (folder / "rounds/1/dataset/preferences.jsonl").read_text()
    assert found["withdrawn"] == ["rounds/1/prompts", "rounds/1/reward"]
    assert "rounds/1/policy" in {one.name for one in made_from_withdrawn(folder)}
    (told,) = [one for one in trace(folder / "rounds/1/policy").withdrawn if one.name == "rounds/1/reward"]
    assert told.raters == {gone: 1}
    assert status(folder)["withdrawn"] == found["withdrawn"]

    found = go(folder, unlearn=True)
    assert found["withdrawn"] == []
    assert {"1/prompts", "1/reward"} <= set(found["made"])
    assert "1/sample" not in found["made"]  # the programme's own prompts are what they were
    assert made_from_withdrawn(folder) == ()
    texts = [path for path in (folder / "rounds").rglob("*.jsonl") if "alpha velvet" in path.read_text()]
    assert texts == []
    assert go(folder)["made"] == []


def journalled(folder: Path) -> list[str]:
    """Ids of the judgments that the journal in a programme's folder names."""
    return [str(key) for kind, key in entries(folder / "erasures.jsonl") if kind == "judgment"]


def test_a_round_without_use_says_so_and_goes_on(of: Programme, tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p", rounds=1, store=store(of), field={"use": "pairs"})
    with pytest.raises(HeedfulError, match="stop here"):
        go_until(folder, "1/reward")
    manifest = read_manifest(folder / "rounds/1/field") or {}
    assert (manifest["figures"], "store" in manifest) == ({"thumb": 0, "regeneration": 0, "edit": 0}, False)
    assert not any(row.get("made") for row in read_rows(folder / "rounds/1/dataset/preferences.jsonl"))


# --- what cannot be is refused, and said ---


def said(folder: Path, **over: Any) -> str:
    write_recipe(folder, **over)
    with pytest.raises(HeedfulError) as found:
        read_programme(folder)
    return str(found.value)


def test_a_recipe_that_cannot_use_what_it_asks_for_is_refused(tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p")
    store = {"programme": "shop"}
    assert "rloo asks a reward model" in said(folder, store=store, field={"use": "unpaired"})
    assert "set learn.decay to 1" in said(
        folder, store=store, field={"use": "unpaired"}, learn={"optimise": "dpo", "decay": 0.5}
    )
    assert "leave it out" in said(
        folder, store=store, field={"use": "unpaired", "weight": 0.7}, learn={"optimise": "dpo"}
    )
    assert "names no programme" in said(folder, field={"use": "pairs"})
    assert "names no programme" in said(folder, learn={"written": True, "start": "sft"})
    assert "reads no SFT model" in said(folder, store=store, field={"edits": "demonstrations"})
    assert "reads no SFT model" in said(folder, store=store, learn={"written": True})
    assert "not between 0 and 1" in said(folder, store=store, field={"use": "pairs", "share": 1.0})


def test_thumbs_for_a_loss_on_pairs_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_programme(
        tmp_path / "p", store={"programme": "shop"}, field={"use": "unpaired"}, learn={"optimise": "dpo"}
    )
    with pytest.raises(HeedfulError, match=r"thumbs are of one answer each, and sigmoid compares two.*kto"):
        require_single(read_programme(folder).recipe(1))


def test_a_recipe_without_use_has_the_stages_that_it_had(tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "p", rounds=1)
    programme = read_programme(folder)
    assert "1/field" not in [one.name for one in steps(programme, 1)]
    for step in steps(programme, 1):
        told = json.dumps(
            [step.stage.settings(step.recipe, step.number), list(step.stage.inputs(step.recipe, step.number))]
        )
        assert "field" not in told
    assert yaml.safe_load((folder / "heedful.yaml").read_text()).get("field") is None


def test_a_share_keeps_those_of_the_lowest_order() -> None:
    records = [Preference((Message("user", str(i)),), "a", "b") for i in range(5)]
    order = [0.5, 0.1, 0.9, 0.3, 0.7]
    kept = within_share(records, 6, 0.25, order)  # two of eight
    assert [one.prompt[0].content for one in kept] == ["1", "3"]
    assert within_share(records, 100, 0.5, order) == records
    assert within_share(records, 0, 0.9, order) == []
    assert within_share(records, 9, 0.1, order) == [records[1]]  # 1 of 10, and not 0 by a rounding error
