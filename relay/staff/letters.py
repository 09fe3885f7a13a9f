"""Writes once to all who had a message: in staff's own words, sent by somebody who may."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from html import escape

from relay.config.loader import Config
from relay.ledger import letters, notifications
from relay.ledger.audit import Act, NotDone
from relay.ledger.database import Connection
from relay.ledger.letters import SEND, Letter, Reader
from relay.ledger.views.daily_counts import day_of
from relay.messages import disclosure
from relay.rules.channels import CHANNELS
from relay.rules.model import ALERT_PREFIX, LETTER, Notice
from relay.rules.statuses import ANSWER
from relay.staff import answers

MOST = 2000  # people
LONGEST = answers.LONGEST
URGENCY = 1  # below that of any event's message
NO_SUBJECT = "Some of them get it by email: write a subject."
ANOTHER = "Somebody else has to send it: you have written it."


def readers(
    connection: Connection, config: Config, rule: str, written: str, edition: int | None
) -> Mapping[str, Reader]:
    """The people to whom a letter would go. Raises NotDone."""
    if config.by_name.get(rule) is None:
        raise NotDone("Choose the rule whose messages they had.")
    try:
        day = day_of(date.fromisoformat(written), config.clinic.timezone)
    except (ValueError, OverflowError) as error:
        raise NotDone("Choose the day on which the messages went out.") from error
    found = letters.readers(connection, rule, day, edition)
    if len(found) > MOST:
        raise NotDone(f"These are {len(found):,} people, and a letter goes to {MOST:,} at most.")
    return found


def has_subject(to: Mapping[str, Reader]) -> bool:
    """Whether anybody gets the letter by a channel that has a subject."""
    return any("subject" in CHANNELS[one.channel].parts for one in to.values())


def judged(config: Config, subject: str, words: str, to: Mapping[str, Reader]) -> answers.Draft:
    """A letter as it would be sent, and the cautions about it. Raises NotDone."""
    made = answers.draft(config, words)
    if not made.words:
        raise NotDone(answers.NO_WORDS)
    if has_subject(to) and not subject:
        raise NotDone(NO_SUBJECT)
    for word, _ in disclosure.clinical(f"{subject} {made.words}"):
        raise NotDone(f'It says "{word}", which a locked screen would show. Write it without.')
    if any(sign in f"{subject} {made.words}" for sign in ("{{", "{%")):
        raise NotDone("A letter is sent as it is written: no name is filled in. Take out the {.")
    return made


def send(connection: Connection, config: Config, letter: Letter, by: str) -> int:
    """Plan a letter to each reader, in the clinic's window; return how many. Raises NotDone."""
    if config.desk.second_person and by == letter.author:
        raise NotDone(ANOTHER)
    to = readers(connection, config, letter.rule, letter.day, letter.edition)
    made = judged(config, letter.subject, letter.words, to)
    letters.close(connection, letter, Act(by, SEND, letter.id, f"{len(to)} people"))
    html = "".join(f"<p>{escape(line)}</p>" for line in made.words.splitlines() if line)
    parts = {"text": made.words, "subject": letter.subject, "html": html}
    for key, one in to.items():
        notice = Notice(
            rule=ALERT_PREFIX + LETTER,
            template=letter.id,
            subject=one.subject,
            round=one.round,
            role=one.role,
            channel=one.channel,
            address=one.address,
            status="scheduled" if made.opens_at else "created",
            reason="",
            due_at=made.opens_at or datetime.now(UTC),
            urgency=URGENCY,
            content={part: parts[part] for part in CHANNELS[one.channel].parts},
            key=f"{letter.id} {key}",
            kind=ANSWER,
        )
        notifications.insert_notices(connection, one.event_id, [notice])
    return len(to)
