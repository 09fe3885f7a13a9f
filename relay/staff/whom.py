"""Finds the person whom staff mean to erase: by any kind of address, by an id, or by a name.

Staff may ask for anything that may be in the ledger, not only addresses that Relay would write to:
a landline, a foreign number, a person without any address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.errors import RelayError
from relay.lab import plain_text
from relay.lab.facts import PERSONS, Facts, persons_in, readings
from relay.ledger.database import Connection
from relay.ledger.views import queries, trail
from relay.privacy.person import Person, Record, key, people, without_address
from relay.rules.addresses import EMAIL, PHONE
from relay.rules.channels import CHANNELS, channels_to, kind_of

LONGEST = 200  # of a request: the ledger keeps 255 characters


class NobodyMeant(RelayError):
    """The text leads to nobody, or to several people; `remedy` says what to write."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class Meant:
    """The person who is meant. `channel` stands for an address; it is empty for an id or a name."""

    address: str
    channel: str
    person: Person


def whom(connection: Connection, written: str) -> Meant:
    """Find the one person to whom a text leads. Raises NobodyMeant."""
    asked = plain_text.plain(written, LONGEST)
    kind = kind_of(asked)
    found = [] if kind == EMAIL else trail.find(connection, asked)
    if found:
        event = found[0].event
        roles = {row["role"] for one in found for row in one.messages if row["id"] == asked}
        kit = trail.find(connection, str(event["subject"] or event["id"])) or found
        records = [about(one, roles & {*PERSONS}) for one in kit]
        return only(people(records, without_address(asked)), "That is about several people.")
    for each in (kind, PHONE):
        if each and key(address := each.known(asked)):
            return Meant(address, channels_to(each)[0], Person(key(address)))
    ways = readings(asked)
    kits = trail.trails(connection, queries.events_by_name(connection, ways), "")
    named = people((about(one, set()) for one in kits), without_address(asked))
    called = [one for one in named if one.is_called(ways)]
    return only(called, "Several people have that name.")


def about(one: trail.Trail, roles: set[str]) -> Iterator[Record]:
    """Yield an event's people and the addresses used for them; only those of `roles`, if any."""
    facts = Facts.from_json(one.event["facts"])
    if not roles:
        yield from persons_in(facts)
    for role in roles or PERSONS:
        person = getattr(facts, role) or {}
        yield person
        for row in one.messages:
            if row["role"] == role:
                yield {**person, CHANNELS[row["channel"]].field: row["address"]}


def only(found: Sequence[Person], several: str) -> Meant:
    """The one person that was found. Raises NobodyMeant."""
    if not found:
        remedy = "Write an address, an id of an order, kit or message, or a first name and surname."
        raise NobodyMeant("Relay knows nobody by that.", remedy)
    if len(found) > 1:
        raise NobodyMeant(several, "Write one's address, or the id of a message to them.")
    return Meant(found[0].address, "", found[0])
