"""Whom staff mean to erase: by an address of any kind, by an id, or by a name.

What may stand in the ledger may be asked for, not only what Relay would write to: a landline, a
foreign number, somebody who has no address at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import RelayError
from relay.lab import plain_text
from relay.lab.facts import PERSONS, Facts
from relay.ledger.database import Connection
from relay.ledger.views import queries, trail
from relay.privacy.names import readings
from relay.privacy.person import Person, key, people, without_address
from relay.rules.addresses import EMAIL, PHONE
from relay.rules.channels import channels_to, kind_of

LONGEST = 200  # of what is asked for: the ledger keeps 255 characters


class NobodyMeant(RelayError):
    """Nobody goes by what was written, or several people do; `remedy` says what to write instead."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class Meant:
    """Who is meant. `channel` stands for an address, and is empty where an id or a name was given."""

    address: str
    channel: str
    person: Person


def whom(connection: Connection, written: str) -> Meant:
    """The one person that a text leads to. Raises NobodyMeant."""
    asked = plain_text.plain(written, LONGEST).replace("\0", "")
    kind = kind_of(asked)
    found = [] if kind == EMAIL else trail.find(connection, asked)
    if found:
        told = [about(one, asked) for one in found]
        return only(people(told, without_address(asked)), "That is about several people.")
    for each in (kind, PHONE):
        if each and key(address := each.known(asked)):
            return Meant(address, channels_to(each)[0], Person(key(address)))
    ways = readings(asked)
    named = people(queries.facts_by_name(connection, ways), without_address(asked))
    called = [one for one in named if one.is_called(ways)]
    return only(called, "Several people have that name.")


def about(one: trail.Trail, asked: str) -> Facts:
    """What the lab told of an event's people; where a message was asked for, of whom it is to."""
    facts = Facts.from_json(one.event["facts"])
    roles = {row["role"] for row in one.messages if row["id"] == asked} & {*PERSONS}
    return Facts(**{role: getattr(facts, role) for role in roles}) if roles else facts


def only(found: Sequence[Person], several: str) -> Meant:
    """The one person that was found. Raises NobodyMeant."""
    if not found:
        remedy = "Write an address, an id of an order, kit or message, or a first name and surname."
        raise NobodyMeant("Relay knows nobody by that.", remedy)
    if len(found) > 1:
        raise NobodyMeant(several, "Write one's address, or the id of a message to them.")
    return Meant(found[0].address, "", found[0])
