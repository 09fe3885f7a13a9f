"""Who has looked at a person or a kit, or acted on them: the audit trail's lines about them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relay.config.settings import Settings
from relay.ledger import audit
from relay.ledger.database import Connection
from relay.ledger.views import queries, trail
from relay.privacy import masks
from relay.rules.addresses import ANYWHERE
from relay.rules.channels import CHANNELS, channel_of, channels_to, kind_of, sharing

# The fields of a line of the trail, for programs.
FIELDS = ("at", "actor", "action", "target", "detail", "session", "source")


def for_programs(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the trail for programs."""
    return {**{name: row[name] for name in FIELDS}, "at": row["at"].isoformat()}


def csv_line(values: Iterable[Any]) -> str:
    """A line of CSV. A cell that a spreadsheet would take for a formula is written as text."""
    written, cells = io.StringIO(), map(str, values)
    safe = (f"'{cell}" if cell[:1] in tuple("=+-@\t\r") else cell for cell in cells)
    csv.writer(written).writerow(safe)
    return written.getvalue()


def of(connection: Connection, settings: Settings, written: str) -> list[Mapping[str, Any]] | None:
    """All lines about an address or a kit, the oldest first; None if neither is known."""
    targets = {*_targets(connection, settings, written)}
    return audit.about(connection, targets) if targets else None


def _targets(connection: Connection, settings: Settings, written: str) -> Iterator[str]:
    """Yield the trail's names for a person: marks of addresses, and ids of all that is theirs."""
    if found := trail.find_kit(connection, written):
        yield from _of_kits(settings, found)
    elif kind := kind_of(written):
        channel = channel_of(written)
        judged = CHANNELS[channel].address.judge_in(ANYWHERE, written)
        if judged.reason:
            return
        yield from _marks(settings, channel, judged.address)
        kits, _ = queries.find_by_address(connection, channels_to(kind)[0], judged.address)
        for kit in kits:
            yield from _of_kits(settings, trail.find_kit(connection, kit.subject) or ())


def _of_kits(settings: Settings, found: Sequence[trail.Trail]) -> Iterator[str]:
    for one in found:
        yield from filter(None, (one.event["id"], one.event["subject"]))
        yield from (case["id"] for case in one.cases)
        for row in one.messages:
            yield row["id"]
            if row["address"]:
                yield from _marks(settings, row["channel"], row["address"])


def _marks(settings: Settings, channel: str, address: str) -> Iterator[str]:
    """The trail's names for an address, by the current secret and the ones before it."""
    for secret in (settings.secret_key, *settings.former_secret_key):
        yield from (masks.target(secret, one, address) for one in (*sharing(channel), channel))
