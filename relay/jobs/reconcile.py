"""Asks providers about unknown attempts, and about messages whose receipts never came."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from relay import fault_injection
from relay.channels import Channels
from relay.config.loader import Config
from relay.ledger import receipts, unknown_attempts
from relay.ledger.attempts import LOOKS, await_delivery
from relay.ledger.database import Database
from relay.ledger.receipts import Overdue
from relay.ledger.unknown_attempts import UnknownAttempt
from relay.logs import get_logger
from relay.messages.templates import Message
from relay.rules import alerts
from relay.rules.schedule import utc_now

log = get_logger("relay.reconcile")

ASK_AGAIN_SECONDS = 120.0  # if the provider could not be asked
ASKED_FOR = timedelta(hours=6)  # after this a person must find out


class Reconciler:
    """Finds out whether unknown attempts went out, and how messages ended."""

    def __init__(self, config: Config, db: Database, channels: Channels):
        self._config = config
        self._db = db
        self._channels = channels

    def due(self, limit: int) -> list[UnknownAttempt | Overdue]:
        """Lease up to `limit` unknown attempts and messages whose receipt is overdue: nobody else
        gets them for a while.
        """
        unknown = unknown_attempts.lease_unknown(self._db, limit)
        asked, left = self._channels.asked(), limit - len(unknown)
        return [*unknown, *(receipts.lease_overdue(self._db, asked, left) if left else ())]

    def reconcile(self, item: UnknownAttempt | Overdue) -> None:
        """Ask its provider for the outcome of a message."""
        if isinstance(item, Overdue):
            self.ask(item)
        else:
            self.find(item)

    def ask(self, overdue: Overdue) -> None:
        """Ask for an overdue receipt; give it up if the provider has none either."""
        found = self._channels.look(overdue.channel, overdue.provider_id)
        if found.failed:
            log.warning("receipt not asked for", id=overdue.id, reason=found.failed)
        elif found.receipt:
            receipt = replace(found.receipt, attempt_id=overdue.attempt_id)
            receipts.record(self._db, overdue.channel, [receipt])
            log.info("receipt asked for", id=overdue.id, state=receipt.state)
        else:
            self._db.transact(receipts.give_up_asked, overdue.id)
            log.warning("receipt not known", id=overdue.id)

    def find(self, unknown: UnknownAttempt) -> None:
        """Find out whether an attempt went out; if that is impossible, do as the rule says."""
        message = Message(unknown.channel, unknown.address, **(unknown.content or {"text": ""}))
        with self._db.read() as connection:
            taken = unknown_attempts.taken_ids(connection, unknown)
        found = self._channels.find(message, unknown.started_at, taken)
        fault_injection.crash_point("lookup.before-commit")
        if found.failed:
            self.ask_again(unknown, found.failed)
        elif found.provider_id:
            awaits = self._channels.awaits_receipt(message)
            with self._db.write() as connection:
                is_ours = unknown_attempts.adopt(
                    connection, unknown, found.provider_id, awaits_receipt=awaits
                )
                rule = self._config.by_name.get(unknown.rule)
                if is_ours and rule and rule.fallback_after:
                    seconds = rule.fallback_after.total_seconds()
                    await_delivery(connection, unknown.id, seconds)
                if not is_ours:
                    unknown_attempts.look_later(connection, unknown, 0.0, counts=False)
            if is_ours and found.receipt:
                receipt = replace(found.receipt, attempt_id=unknown.attempt_id)
                receipts.record(self._db, unknown.channel, [receipt])
            log.info("message found", id=unknown.id, attempt=unknown.attempt_id)
        else:
            self.act_on_not_found(unknown)

    def ask_again(self, unknown: UnknownAttempt, why: str) -> None:
        """Ask the provider again later, since it did not answer; after some hours, ask a person."""
        log.warning("message not looked for", id=unknown.id, reason=why)
        if utc_now() - unknown.started_at > ASKED_FOR:
            hours = ASKED_FOR.total_seconds() / 3600
            reason = f"{why} Relay has tried for {hours:.0f} hours."
            self.leave_to_a_person(unknown, reason, fault=f"{unknown.channel} {why}")
            return
        look_later = unknown_attempts.look_later
        self._db.transact(look_later, unknown, ASK_AGAIN_SECONDS, counts=False)

    def act_on_not_found(self, unknown: UnknownAttempt) -> None:
        """Look again later; after the last look send it again, or open a case, as its rule says."""
        delays = LOOKS[unknown.channel]
        if unknown.looks < len(delays):
            wait = delays[unknown.looks] - delays[unknown.looks - 1]
            self._db.transact(unknown_attempts.look_later, unknown, wait)
            return
        rule = self._config.by_name.get(unknown.rule)
        if rule is None or rule.on_unknown == "resend":
            reason = "The provider has no record of it, so Relay is sending it again."
            self._db.transact(unknown_attempts.give_up_unknown, unknown, reason, None)
            log.warning("message not found, sent again", id=unknown.id, attempt=unknown.attempt_id)
            return
        reason = "The provider has no record of it. It waits for a person, as its rule says."
        self.leave_to_a_person(unknown, reason)

    def leave_to_a_person(self, unknown: UnknownAttempt, reason: str, fault: str = "") -> None:
        """Stop looking for it and open a case, or one for all of a `fault`: a person must say
        whether it went out.
        """
        case = alerts.case(
            "unknown",
            fault or unknown.id,
            unknown.subject,
            reason,
            policy=self._config.policy,
            now=utc_now(),
            event_id=unknown.event_id,
            notification_id=unknown.id,
        )
        case = replace(case, is_fault=bool(fault))
        self._db.transact(unknown_attempts.give_up_unknown, unknown, reason, case)
        log.warning("message held", id=unknown.id, attempt=unknown.attempt_id, reason=reason)
