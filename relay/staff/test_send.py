"""Sends a rule's message as a test, before anybody else gets one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from relay.channels import Channels
from relay.config import check
from relay.config.loader import Config
from relay.errors import RelayError
from relay.ledger import audit
from relay.ledger.database import Database
from relay.ledger.holds import halts, suppressions
from relay.messages.templates import Message, Templates
from relay.privacy import masks
from relay.rules import stops
from relay.rules.channels import CHANNELS, channel_of, sharing
from relay.rules.model import Rule

MARK = "[TEST] "
SEND_TEST = "send-test"  # the audit trail's name for it
REMEDY = (
    "Use another address. If it is yours, text START or lift the stop under Suppressions first."
)


class NotTried(RelayError):
    """Nothing was sent. `key` names the argument at fault, if it was one."""

    def __init__(self, reason: str, key: str = ""):
        super().__init__(reason)
        self.key = key


@dataclass(frozen=True)
class Tried:
    """The message, and whether it was sent: dry-run delivery keeps it here."""

    message: Message
    is_live: bool
    provider_id: str | None


def send(config: Config, db: Database, actor: str, rule: Rule, to: str) -> Tried:
    """Send one real message with example data, marked as a test; not to a stopped address. Record
    who sent it, and to whom, as a mark.

    Raises NotTried, RenderError, LedgerUnavailable.
    """
    usual = channel_of(to)
    judged = CHANNELS[usual].address.judge_in(config.policy.countries, to)
    if judged.reason:
        raise NotTried(judged.reason, "--to")
    channel = next((one for one in rule.ways if one in sharing(usual)), "")
    if not channel:
        raise NotTried(f"the rule does not send {usual}.", rule.name)
    loaded = Templates(config.settings.templates)
    made = check.example(config, loaded, rule, channel, address=judged.address, mark=MARK)
    providers = Channels(config.settings, config.delivery.senders, config.delivery.allow)
    target = masks.target(config.settings.secret_key, usual, judged.address)
    with db.write() as connection:  # before the send: nobody sends unnoticed
        if halt := halts.stop_covering(connection, channel, rule.name):
            raise NotTried(halt.said)
        if source := suppressions.source_of(connection, channel, judged.address):
            raise NotTried(f"{stops.reason(source, channel)} {REMEDY}", "--to")
        audit.write_audit(connection, actor, SEND_TEST, target, f"{channel}: {rule.name}")
    outcome = providers.send(made, uuid.uuid4().hex)
    if outcome.result != "accepted":
        raise NotTried(outcome.reason, channel)
    return Tried(made, providers.is_live(made), outcome.provider_id)
