"""Settings from YAML: what is accepted, what is refused and with which words, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.training.config.online import PPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.settings import all_keys, from_mapping, load_yaml_config, to_yaml


@dataclass(frozen=True)
class Rate:
    peak: float = 1e-3
    shape: Literal["flat", "cosine"] = "flat"
    warmup: int = 0


@dataclass(frozen=True)
class Sample:
    name: str
    out: Path = Path("here")
    note: str | None = None
    limit: int | None = None
    words: tuple[str, ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    shuffle: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    rate: Rate = Rate(peak=0.5)

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise HeedfulError("that name is taken.", where="name", mend="Choose another.")


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, cls: type = Sample) -> HeedfulError:
    with pytest.raises(HeedfulError) as caught:
        load_yaml_config(cls, written(folder, text))
    return caught.value


def test_values_nested_blocks_and_defaults_of_the_outer_class(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name: a\nwords: [x, y]\nbetas: [0, 1]\nrate: {shape: cosine, warmup: 1e2}\nshuffle: no\nlimit: 7\n",
    )
    config = load_yaml_config(Sample, path)
    assert config == Sample(
        "a",
        words=("x", "y"),
        betas=(0.0, 1.0),
        shuffle=False,
        limit=7,
        rate=Rate(peak=0.5, shape="cosine", warmup=100),
    )
    assert isinstance(config.rate.warmup, int)
    assert isinstance(config.betas[0], float)


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    assert load_yaml_config(Sample, written(tmp_path, "name: a\nrate: {peak: 3e-6}")).rate.peak == 3e-6


def test_hyphens_do_for_underscores_as_in_flags() -> None:
    assert from_mapping(SFTConfig, {"model": "m", "data": "d", "out": "o", "batch-size": 3}, "here").batch_size == 3


def test_overrides_win_and_complete_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "rate: {peak: 1, warmup: 3}\n")
    config = load_yaml_config(Sample, path, {"name": "b", "rate.peak": 2.0})
    assert (config.name, config.rate) == ("b", Rate(peak=2.0, warmup=3))


def test_an_empty_file_gives_the_defaults_and_names_what_is_required(tmp_path: Path) -> None:
    error = refused(tmp_path, "# nothing\n")
    assert "'name'" in error.what
    assert error.where.endswith("settings.yaml")


@pytest.mark.parametrize(
    ("text", "line", "what", "mend"),
    [
        ("name: a\nnot: b\n", 2, "unknown key 'not'", "Did you mean 'note'?"),
        ("name: a\nrate:\n  peek: 1\n", 3, "unknown key 'rate.peek'", "Did you mean 'rate.peak'?"),
        ("name: a\nwarmup: 1\n", 2, "unknown key 'warmup'", "Did you mean 'rate.warmup'?"),
        ("name: a\nrate.peak: 1\n", 2, "unknown key 'rate.peak'", "as a block, not with dots"),
        ("name: a\nzzzzzz: 1\n", 2, "unknown key 'zzzzzz'", "Known here: name, out,"),
        ("name: 3\n", 1, "'name' must be text, and is the number 3", "quotes"),
        ("name: a\nrate: 3\n", 2, "'rate' must be a block of keys, and is the number 3", ""),
        (
            "name: a\nrate:\n  warmup: 1.5\n",
            3,
            "'rate.warmup' must be a whole number, and is the number 1.5",
            "",
        ),
        ("name: a\nrate:\n  peak: fast\n", 3, "'rate.peak' must be a number, and is the text 'fast'", ""),
        ("name: a\nrate: {peak: true}\n", 2, "'rate.peak' must be a number, and is true", ""),
        ("name: a\nrate: {shape: cosin}\n", 2, "must be one of flat, cosine", "Did you mean 'cosine'?"),
        ("name: a\nshuffle: 1\n", 2, "'shuffle' must be true or false", ""),
        ("name: a\nwords: x\n", 2, "'words' must be a list", "[a, b]"),
        ("name: a\nwords:\n  - x\n  - 3\n", 2, "'words.1' must be text", "quotes"),
        ("name: a\nbetas: [1]\n", 2, "'betas' must be a list of 2", ""),
        ("name: a\nlimit: many\n", 2, "'limit' must be a whole number or nothing (null)", ""),
        ("name: a\nrate:\n  peak: 1\n  peak: 2\n", 4, "'rate.peak' stands here twice", "Delete one"),
        ("name: a\n  out: b\n", 2, "not YAML", ""),
        ("- a\n- b\n", None, "the settings are a list", "--help"),
    ],
)
def test_a_mistake_names_its_line_its_key_and_the_mend(
    tmp_path: Path, text: str, line: int | None, what: str, mend: str
) -> None:
    error = refused(tmp_path, text)
    assert what in error.what
    assert mend in error.mend
    assert error.where.endswith(f"settings.yaml:{line}" if line else "settings.yaml")


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="No such file") as caught:
        load_yaml_config(Sample, tmp_path / "absent.yaml")
    assert "absent.yaml" in caught.value.where
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(HeedfulError, match="not UTF-8"):
        load_yaml_config(Sample, tmp_path / "binary.yaml")


def test_what_the_class_itself_refuses_stays_its_own_message(tmp_path: Path) -> None:
    assert refused(tmp_path, "name: forbidden\n").mend == "Choose another."


texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False)
samples = st.builds(
    Sample,
    name=(texts | st.sampled_from(["1e5", "no", "null", "3", "~", "1_000", "0x1f", "2024-01-01", "- a", ""])).filter(
        lambda name: name != "forbidden"
    ),
    out=st.sampled_from(["a", "a b/c", "1e5", "no"]).map(Path),
    note=st.none() | texts,
    limit=st.none() | st.integers(),
    words=st.lists(texts, max_size=3).map(tuple),
    betas=st.tuples(numbers, numbers),
    shuffle=st.booleans(),
    extra=st.dictionaries(texts, st.integers() | st.booleans() | texts | st.lists(numbers), max_size=3),
    rate=st.builds(Rate, peak=numbers, shape=st.sampled_from(["flat", "cosine"]), warmup=st.integers()),
)


@settings(max_examples=60)
@given(samples)
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, config: Sample) -> None:
    path = written(tmp_path_factory.getbasetemp(), to_yaml(config))
    assert load_yaml_config(Sample, path) == config


@pytest.mark.parametrize(
    "config",
    [
        SFTConfig("m", "d", Path("o")),
        RewardConfig("m", "d", Path("o")),
        PPOConfig("m", "r", "d", Path("o")),
        DPOConfig("m", "d", Path("o")),
    ],
)
def test_every_stage_s_config_reads_back_equal(tmp_path: Path, config: object) -> None:
    assert load_yaml_config(type(config), written(tmp_path, to_yaml(config))) == config


def test_all_keys_are_dotted_and_hold_the_blocks() -> None:
    assert all_keys(Sample)[:2] == ["name", "out"]
    assert all_keys(Sample)[-4:] == ["rate", "rate.peak", "rate.shape", "rate.warmup"]
