"""Workers on several machines are told an interface that leads from one to the other."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from heedful.training.interfaces import CHOSEN, choose_interface, interface_to

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="interfaces are looked up on Linux alone")


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN, "")  # put back afterwards, whatever a test leaves
    monkeypatch.delenv(CHOSEN)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def test_the_interface_that_leads_to_the_leader_is_chosen() -> None:
    choose_interface()
    assert os.environ[CHOSEN] == "lo"


def test_workers_of_one_machine_and_a_choice_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    choose_interface()
    assert CHOSEN not in os.environ
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv(CHOSEN, "ib0")
    choose_interface()
    assert os.environ[CHOSEN] == "ib0"


def test_a_leader_that_no_way_leads_to_names_no_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interface_to("") is None

    def no_such(address: str, *more: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket.socket, "connect", lambda own, address: no_such(address))
    monkeypatch.setenv("MASTER_ADDR", "nowhere.invalid")
    choose_interface()
    assert CHOSEN not in os.environ
