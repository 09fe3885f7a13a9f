"""What of the lab's own answers proves that an event has happened, though it was not told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relay.facts import Facts

# What the event's `data` has besides the id, or None where these facts do not prove it.
Proof = Callable[[Facts], Mapping[str, Any] | None]


def _shipping(*statuses: str) -> Proof:
    return lambda facts: {} if (facts.order or {}).get("shipping_status") in statuses else None


def _registered(facts: Facts) -> Mapping[str, Any] | None:
    known = facts.registration or {}
    is_past_it = known.get("status") in ("success", "partial_result")
    return {} if known.get("completed_at") or is_past_it else None


def _numbered(facts: Facts) -> Mapping[str, Any] | None:
    lab_id = (facts.registration or {}).get("lab_id")
    return {"lab_id": str(lab_id)} if lab_id else None


def _complete(facts: Facts) -> Mapping[str, Any] | None:
    """Whoever gathers facts about results has asked whether there are any; these are all."""
    known = facts.registration or {}
    status, ready = known.get("status"), known.get("results_ready") is True
    return {} if status == "success" or (ready and status != "partial_result") else None


# An event that is missing here cannot be known from the API: the lab does not tell when a sample
# came (`sample_received_at`), nor which registration repeats another. It is never made up for.
PROOFS: dict[str, Proof] = {
    "order.shipped": _shipping("shipped", "out_for_delivery"),
    "order.delivered": _shipping("delivered"),
    "test_registration.complete": _registered,
    "test_registration.lml_lab_id_created": _numbered,
    "lab_results.complete": _complete,
}


def proof(event: str, facts: Facts) -> Mapping[str, Any] | None:
    """What an event's `data` has besides the id; None where the lab's facts do not prove it."""
    found = PROOFS.get(event)
    return found(facts) if found else None
