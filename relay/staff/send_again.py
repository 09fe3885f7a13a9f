"""Sends a message again when a person asks for it, as another message that repeats it.

Mostly for messages that went to a wrong number: the rule as it is now makes the repeat, and Relay
asks the lab for the address just before it goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from relay import fault_injection
from relay.config.loader import Config
from relay.ledger import journeys, replay
from relay.ledger.audit import NO_NOTE, RESEND, UNDO_RESEND, Act, NotDone, keep
from relay.ledger.database import Connection
from relay.rules import resend
from relay.rules.model import Step
from relay.rules.resend import FailedMessage
from relay.rules.staleness import why_stale
from relay.rules.statuses import ANSWER

UNDO_SECONDS = 10.0  # in which the person who pressed a button on the desk may undo it
NO_CONFIG = "config.toml has a mistake, so its rule cannot be read: run `flask relay check`."


def seconds_to_undo() -> float:
    """How long an act on the desk waits before it takes effect."""
    return fault_injection.hastened(UNDO_SECONDS)


def send_again(
    connection: Connection,
    config: Config,
    message_id: str,
    *,
    by: str,
    note: str,
    wait: float = 0.0,
) -> str:
    """Have a new message repeat one after `wait` seconds; return its id. Raises NotDone."""
    if not note:
        raise NotDone(NO_NOTE)
    replay.lock(connection, message_id)
    it = replay.failed_messages(connection, [message_id]).get(message_id)
    if it is None:
        raise NotDone("There is no such message: `flask relay list` shows the ids of all.")
    rule = config.by_name.get(it.rule)
    why = resend.why_not_repeated(it, why_old(connection, config, it))
    if why or not rule:
        raise NotDone(f"You cannot send it again. {why}")
    reason = f"Sent again by {by}."
    notice = resend.repeat(it, rule, config.policy, datetime.now(UTC), reason, wait)
    return replay.add_repeat(connection, it, notice, Act(by, RESEND, detail=note))


def take_back(connection: Connection, repeat_id: str, *, by: str) -> None:
    """Cancel a message that repeats another, while it waits; record who did. Raises NotDone."""
    replay.lock(connection, repeat_id)
    if not replay.cancel_repeat(connection, repeat_id, f"Taken back by {by}."):
        raise NotDone("It is too late for that: it has gone out, or is about to.")
    keep(connection, Act(by, UNDO_RESEND, repeat_id))


def objections(connection: Connection, config: Config, ids: Sequence[str]) -> dict[str, str]:
    """Why each of these messages cannot be sent again, by its id; empty if it can."""
    found = replay.failed_messages(connection, ids)
    return {
        id_: resend.why_not_repeated(it, why_old(connection, config, it))
        for id_, it in found.items()
    }


def why_old(connection: Connection, config: Config | None, it: FailedMessage) -> str:
    """Why a message would no longer be written, as far as Relay knows without asking the lab."""
    if it.kind == ANSWER:
        return ""
    if config is None:
        return NO_CONFIG
    rule, moment = config.by_name.get(it.rule), datetime.now(UTC)
    if rule is None:
        return "Its rule is no longer in config.toml."
    if not rule.enabled:
        return "Its rule is switched off (enabled = false)."
    known = journeys.steps_of_kit(connection, it.event_name, it.subject)
    return why_stale(
        rule, Step(it.event_name, it.round, it.event_received_at), known, moment, moment
    )
