"""Failpoints: where a test may kill a process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from relay import fault_injection
from relay.fault_injection import CRASH_POINTS

RELAY = Path(fault_injection.__file__).parent


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that would have been sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: sent.append(given))
    monkeypatch.setattr(fault_injection, "_armed", "")
    return sent


def test_nothing_happens_where_nothing_is_armed(kills: list[tuple[int, int]]) -> None:
    """As in every clinic."""
    for point in CRASH_POINTS:
        fault_injection.crash_point(point)
    assert kills == []


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_an_armed_point_kills_this_process(point: str, kills: list[tuple[int, int]]) -> None:
    """There, by a signal that nothing can catch, and nowhere else."""
    fault_injection.arm_crash_point(point)
    for other in CRASH_POINTS:
        if other != point:
            fault_injection.crash_point(other)
    assert kills == []
    fault_injection.crash_point(point)
    assert kills == [(os.getpid(), signal.SIGKILL)]


def test_a_point_is_disarmed_by_an_empty_name(kills: list[tuple[int, int]]) -> None:
    """Which is what the environment says when it says nothing."""
    fault_injection.arm_crash_point(CRASH_POINTS[0])
    fault_injection.arm_crash_point("")
    fault_injection.crash_point(CRASH_POINTS[0])
    assert kills == []


@pytest.mark.usefixtures("kills")
def test_an_unknown_point_is_refused() -> None:
    """It would be armed for ever and reached never."""
    with pytest.raises(ValueError, match="there is no failpoint"):
        fault_injection.arm_crash_point("message.sent")


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_each_point_is_reached_at_one_place(point: str) -> None:
    """A name in the table that no code reaches would be tested in vain."""
    sources = (path.read_text("utf-8") for path in RELAY.rglob("*.py"))
    assert sum(text.count(f'fault_injection.crash_point("{point}")') for text in sources) == 1
