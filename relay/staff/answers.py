"""Answers a person's text: in a member of staff's own words, once, as a message of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.config.loader import Config
from relay.lab.facts import Facts, persons_in
from relay.ledger import notifications
from relay.ledger.audit import NotDone
from relay.ledger.database import Connection
from relay.ledger.worklist import replies
from relay.ledger.worklist.replies import Reply
from relay.messages import disclosure, sms_segments
from relay.privacy.person import Person, without_address
from relay.rules import stops
from relay.rules.addresses import ANYWHERE
from relay.rules.channels import CHANNELS
from relay.rules.model import ALERT_PREFIX, ALERT_URGENCY, Notice
from relay.rules.statuses import ANSWER

LONGEST = 1600  # characters that Twilio accepts
GONE = "Relay no longer knows who wrote it: erased, or older than the retention time."
NO_WORDS = "Write the answer first."
SHOWN = "a locked screen shows it."


@dataclass(frozen=True)
class Draft:
    """An answer as it would be sent, with the cautions about it."""

    words: str
    size: sms_segments.Size
    cautions: tuple[str, ...]
    opens_at: datetime | None  # when the window opens; None if it is open


def why_not(reply: Reply | None) -> str:
    """Why nobody can answer a text; empty if somebody can."""
    if reply is None or not reply.address:
        return GONE
    if reply.stopped_by:
        return stops.reason(reply.stopped_by, reply.channel)
    return CHANNELS[reply.channel].address.judge_in(ANYWHERE, reply.address).reason


def draft(config: Config, words: str, facts: Facts | None = None) -> Draft:
    """Judge the words of an answer. `facts` are those of the kit that the text is about."""
    plain, moment = sms_segments.plain(words)[:LONGEST], datetime.now(UTC)
    size, policy = sms_segments.size(plain), config.policy
    cautions = tuple(_cautions(plain, size, config.delivery.max_sms_segments, facts or Facts()))
    opening = policy.send_window.next_open(moment, policy.zone, policy.bank_holidays)
    return Draft(plain, size, cautions, opening if opening > moment else None)


def _cautions(words: str, size: sms_segments.Size, most: int, facts: Facts) -> Iterator[str]:
    if size.segments > most:
        yield f"It takes {size.segments} segments, and you pay for each."
    if size.culprits:
        yield f"{size.culprits} is not in the SMS alphabet: only 70 characters fit in a segment."
    for word, _ in disclosure.clinical(words):
        yield f'It says "{word}": {SHOWN}'
    if Person(without_address("anybody")).known_as(*persons_in(facts)).is_in(words):
        yield f"It has a full name, or an address: {SHOWN}"


def send(
    connection: Connection,
    config: Config,
    case: Mapping[str, Any],
    words: str,
    *,
    at_once: bool = False,
) -> str:
    """Plan the answer to a text, in the window or `at_once`; return its id. Raises NotDone."""
    reply = replies.of_cases(connection, [case["id"]]).get(case["id"])
    if why := why_not(reply):
        raise NotDone(f"You cannot answer it by text. {why}")
    if reply is None or not (made := draft(config, words)).words:
        raise NotDone(NO_WORDS)
    last = replies.last_message_to(connection, reply.channel, reply.address)
    later = None if at_once else made.opens_at
    notice = Notice(
        rule=ALERT_PREFIX + ANSWER,  # by this name the previous release sends it as it is written
        template="",
        subject=case["subject"],
        round=last.round if last else 0,
        role=last.role if last else "patient",
        channel=reply.channel,
        address=reply.address,
        status="scheduled" if later else "created",
        reason="",
        due_at=later or datetime.now(UTC),
        urgency=ALERT_URGENCY - (not at_once),
        content={"text": made.words},
        key=case["id"],
        kind=ANSWER,
    )
    planned = notifications.insert_notices(connection, case["event_id"], [notice])
    if not planned:
        raise NotDone("It has been answered already.")
    return planned[0]
