"""The words that the lab's API documents for a field: what a condition can hope to find there."""

from __future__ import annotations

from collections.abc import Mapping

from relay.lab.events import SHIPPING_STATUSES

STATUSES = (
    "awaiting_patient",
    "pending",
    "pending_authentication",
    "success",
    "partial_result",
    "fail",
    "processing_error",
    "cancelled",
    "closed",
)
# By the path that a condition reads. An empty field is possible everywhere.
VALUES: Mapping[tuple[str, ...], tuple[object, ...]] = {
    ("registration", "status"): STATUSES,
    ("registration", "results_ready"): (True, False),
    ("order", "shipping_status"): SHIPPING_STATUSES,
}
