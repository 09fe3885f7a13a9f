"""What of the lab's answers proves that an event has happened, though nobody told of it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.lab.events import EVENTS, proof
from relay.lab.facts import Facts


@pytest.mark.parametrize(
    ("event", "known", "expected"),
    [
        ("order.shipped", {"shipping_status": "shipped"}, {}),
        ("order.shipped", {"shipping_status": "returned"}, None),
        ("order.delivered", {"shipping_status": "delivered"}, {}),
        ("order.delivered", {"shipping_status": "out_for_delivery"}, None),
        ("test_registration.complete", {"completed_at": "2026-06-01"}, {}),
        ("test_registration.complete", {"status": "awaiting_patient"}, None),
        ("test_registration.complete", {"status": "success"}, {}),
        ("test_registration.lml_lab_id_created", {"lab_id": "123-456"}, {"lab_id": "123-456"}),
        ("test_registration.lml_lab_id_created", {}, None),
        ("lab_results.complete", {"status": "success"}, {}),
        ("lab_results.complete", {"status": "partial_result", "results_ready": True}, None),
        ("lab_results.complete", {"status": "closed", "results_ready": True}, {}),
        ("lab_results.complete", {"status": "pending"}, None),
        ("test_registration.sample_received", {"status": "success"}, None),
        ("test_registration.retest", {"status": "fail", "parent_id": "r-1"}, None),
    ],
)
def test_what_proves_an_event(event: str, known: dict[str, Any], expected: Any) -> None:
    """Only what the lab says outright proves it; without facts nothing does."""
    assert proof(event, Facts(**{EVENTS[event].resource: known})) == expected
    assert proof(event, Facts()) is None


def test_what_the_api_cannot_show_has_no_proof() -> None:
    """The lab tells neither when a sample came nor which registration a retest repeats."""
    unknowable = {name for name, kind in EVENTS.items() if kind.proof is None}
    assert unknowable == {"test_registration.sample_received", "test_registration.retest"}
