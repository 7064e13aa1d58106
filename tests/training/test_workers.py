"""Shares of a batch: every row is one worker's, and all workers have as much to do."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.training import joining
from heedful.training.config.launch import LaunchConfig
from heedful.training.joining import device_of_worker, launched
from heedful.training.workers import Workers, by_place, current, working

SIZES = st.lists(st.integers(1, 500), max_size=40)


@given(SIZES, st.integers(1, 7))
def test_every_row_is_dealt_to_one_worker(sizes: list[int], count: int) -> None:
    shares = [Workers(rank, count).dealt(sizes) for rank in range(count)]
    assert sorted(row for share in shares for row in share) == list(range(len(sizes)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share) for share in shares)


def test_rows_are_dealt_by_size() -> None:
    sizes = [100, 1, 90, 2, 80, 3, 70, 4]
    loads = [sum(sizes[row] for row in Workers(rank, 2).dealt(sizes)) for rank in range(2)]
    assert loads == [175, 175]


@given(st.integers(0, 50), st.integers(1, 7))
def test_blocks_stand_in_a_row(rows: int, count: int) -> None:
    blocks = [Workers(rank, count).block(rows) for rank in range(count)]
    assert [row for block in blocks for row in block] == list(range(rows))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_columns_go_where_they_belong() -> None:
    first, second = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0]])
    assert by_place([([0, 2], first), ([], None), ([1], second)], 3).tolist() == [[0.0, 1.0, 2.0]]


def test_one_worker_does_nothing() -> None:
    alone = current()
    assert (alone.rank, alone.count, alone.leads) == (0, 1, True)
    figures = {"loss": 1.0}
    assert alone.summed(figures) is figures
    weight = torch.nn.Parameter(torch.ones(2))
    alone.sum_gradients([weight])
    assert weight.grad is None
    assert list(alone.in_step([[1], [0]], spare=[])) == [([1], 1.0), ([0], 1.0)]
    with working(Workers(1, 2)) as other:
        assert current() is other
    assert current() is alone


def test_workers_without_a_launcher_are_refused() -> None:
    with pytest.raises(HeedfulError, match=r"launch\.workers: 3 workers, and nothing that starts them"):
        LaunchConfig(workers=3)
    with pytest.raises(HeedfulError, match=r"launch\.patience"):
        LaunchConfig(patience=0)


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("placement", {"launcher": "torchrun", "placement": "spread"}),
        ("on", {"on": "fast"}),
        ("scorers", {"launcher": "torchrun", "workers": 2, "scorers": 1}),
        ("scorers", {"launcher": "ray", "workers": 2, "scorers": 3}),
        ("scorers_on", {"launcher": "ray", "scorers_on": "judging"}),
    ],
)
def test_what_nobody_would_place_is_refused(where: str, given: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError, match=rf"launch\.{where}: "):
        LaunchConfig(**given)


def test_an_error_is_said_though_the_way_to_the_store_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut:
        def set_timeout(self, timeout: Any) -> None: ...

        def add(self, key: str, value: int) -> int:
            time.sleep(3600)
            return 1

    monkeypatch.setattr(joining.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(joining.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(joining.distributed.distributed_c10d, "_get_default_store", Cut)
    monkeypatch.setattr(joining, "ANSWER", 0.1)
    began = time.monotonic()
    assert joining.first_to_say(joining.LostWorkerError("another worker has ended."))
    assert time.monotonic() - began < 30


def test_each_worker_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launched()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device_of_worker("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of_worker("auto") == "cuda:1"
    with pytest.raises(HeedfulError, match="each worker has a GPU of its own"):
        device_of_worker("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(HeedfulError, match=r"2 workers on this machine, and 1 GPU"):
        device_of_worker("cuda")
