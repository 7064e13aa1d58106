"""Memory, traffic and time of many devices, against figures reckoned by hand."""

from __future__ import annotations

import pytest

from heedful.core.scaling import (
    Device,
    Weights,
    Work,
    all_reduced,
    decoding,
    gather_buffers,
    gathered,
    scatter_buffers,
    seconds,
    shares,
    wire,
)

DEVICE = Device(flops=100.0, bandwidth=10.0, link=4.0, network=1.0, per_host=8, efficiency=0.5, launch=0.1)
MODEL = Weights(total=1000, trained=1000, block=100, root=200)


@pytest.mark.parametrize(
    ("work", "expected"),
    [(Work(flops=100), 2.0), (Work(bytes=30), 3.0), (Work(operations=40), 4.0), (Work(100, 30, 40), 4.0)],
)
def test_what_takes_longest_bounds_a_pass(work: Work, expected: float) -> None:
    assert seconds(DEVICE, work) == pytest.approx(expected)


def test_a_ring_that_leaves_the_host_is_as_slow_as_the_network() -> None:
    assert wire(DEVICE, 8) == 4.0
    assert wire(DEVICE, 9) == 1.0


def test_a_sum_goes_round_twice_and_a_gathering_once() -> None:
    assert all_reduced(800, 4) == 1200
    assert gathered(800, 4) == 600
    assert all_reduced(800, 1) == gathered(800, 1) == 0


def test_a_share_is_the_root_and_an_nth_of_the_layers() -> None:
    assert MODEL.own(8) == 200 + 100
    assert MODEL.own(1) == 1000


def test_two_layers_are_whole_at_a_time() -> None:
    assert gather_buffers(MODEL, 2) == 400
    assert scatter_buffers(MODEL, 2) == 600


def test_every_sampled_token_reads_all_weights() -> None:
    work = decoding(weights=10.0, cache=5.0, flops=2.0, operations=3.0, steps=4)
    assert (work.flops, work.bytes, work.operations) == (8, 60, 12)


def test_the_fullest_device_has_the_rest() -> None:
    assert [shares(items, 4) for items in (8, 9, 1)] == [2, 3, 1]
