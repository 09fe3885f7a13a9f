"""Texts from people: Relay obeys a keyword, and opens a case for anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from relay.channels.base import Inbound
from relay.lab.facts import Facts, name_of, persons_in
from relay.lab.plain_text import fold
from relay.ledger.database import Connection
from relay.ledger.holds import suppressions
from relay.ledger.views import queries
from relay.ledger.worklist import replies
from relay.rules import stops
from relay.rules.alerts import NO_KIT
from relay.rules.model import Policy
from relay.rules.replies import START, STOP, YES, Reading, case, read


@dataclass(frozen=True)
class Taken:
    """A text's outcome: a `word` for the log, its case, and whether it newly stopped texts."""

    word: str
    case_id: str = ""
    is_stopped: bool = False  # the person gets no more texts, and may not know


def take(connection: Connection, policy: Policy, channel: str, number: str, text: Inbound) -> Taken:
    """Obey a text or open a case, once. `number` is empty if Relay could not text it."""
    if text.keyword and not _is_answer(connection, number, text):
        return Taken(text.keyword, is_stopped=_obey(connection, channel, number, text))
    last = replies.last_message_to(connection, channel, number) if number else None
    said = read(text.words, _names(last.facts) if last else ())
    if not number:  # Relay never texts it, so has nothing to stop
        said = Reading(sounds_unwell=said.sounds_unwell)
    opened = replies.keep(
        connection,
        channel,
        text.id,
        number or text.sender,
        text.words,
        case(
            said,
            last.subject if last else NO_KIT,
            last.event_id if last else "",
            policy=policy,
            now=datetime.now(UTC),
            is_empty=not text.words.strip(),
            files=text.files,
            people=_people(connection, channel, number) if last else 1,
        ),
    )
    if not opened:
        return Taken("repeated")
    is_stopped = False
    if said.is_wrong_number or said.opts_out:
        source = stops.WRONG_NUMBER if said.is_wrong_number else stops.OWN_WORDS
        is_stopped = suppressions.suppress(connection, channel, number, source)
    return Taken(said.word, opened, is_stopped and said.opts_out)


def _is_answer(connection: Connection, number: str, text: Inbound) -> bool:
    """Whether YES is an answer and not a START: nothing has stopped texts to the person."""
    is_yes = text.keyword == START and text.words.strip(" .!").upper() == YES
    return is_yes and not (number and suppressions.suppressed(connection, number))


def _obey(connection: Connection, channel: str, number: str, text: Inbound) -> bool:
    """Obey a keyword; return whether it has newly stopped texts to a number."""
    if number and text.keyword == START:
        suppressions.opt_in(connection, channel, number, text.id)
    is_stop = bool(number) and text.keyword == STOP
    return is_stop and suppressions.opt_out(connection, channel, number, text.id)


def _people(connection: Connection, channel: str, number: str) -> int:
    """How many people have had messages at a number, or will get one."""
    found, _ = queries.find_by_address(connection, channel, number)
    return len({fold(one.person) for one in found if one.person})


def _names(facts: Facts) -> Iterator[str]:
    """The names of the people an event is about: first name, surname, and both together."""
    for person in persons_in(facts):
        both = name_of(person)
        yield from filter(None, (*both, " ".join(both)))
