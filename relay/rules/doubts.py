"""Doubts about whom a patient's message goes to: it may be the wrong person. Pure.

Relay holds nothing because of a doubt: most are a family with one phone, or a new number, and late
news does harm too. It asks a person, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relay.lab.facts import BORN, NAMES, Facts, differences_in_words
from relay.rules import alerts
from relay.rules.addresses import normalised
from relay.rules.channels import CHANNELS
from relay.rules.model import Case, Notice, Policy
from relay.rules.statuses import MISMATCH

FAMILY = 3  # patients at one address that raise a doubt: two are a couple, or a parent and a child
_WHO = frozenset((*NAMES, BORN))  # fields that say who somebody is, not how to reach them


@dataclass(frozen=True)
class Known:
    """The ledger's facts about the patient's addresses, before this event's messages."""

    people: Mapping[str, int]  # by address: the patients with messages there, including this one
    last: Mapping[str, str]  # by channel: the address that this patient's last message went to


def cases(
    facts: Facts, known: Known, notices: Sequence[Notice], policy: Policy, now: datetime
) -> Iterator[Case]:
    """Yield a case for each doubt about the patient to whom all of these notices go."""
    by_channel = {one.channel: one for one in notices}
    for subject in {one.subject for one in by_channel.values()}:
        for key, reason in _doubts(facts, known, by_channel, subject):
            yield alerts.case(MISMATCH, key, subject, reason, policy=policy, now=now)


def _doubts(
    facts: Facts, known: Known, by_channel: Mapping[str, Notice], kit: str
) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) for each doubt: nobody is asked twice about the same key."""
    if _WHO.intersection(facts.differs):
        yield f"record {kit}", differences_in_words(facts.differs)
    ways = {one.address: CHANNELS[channel].address.noun for channel, one in by_channel.items()}
    many, address = max((known.people.get(address, 1), address) for address in ways)
    if many >= FAMILY:  # the next doubt comes at twice as many
        said = f"{many} patients of different names have this {ways[address]}."
        yield f"{many.bit_length()} at {address}", said
    last = {channel: known.last.get(channel, "") for channel in by_channel}
    if new := [
        way
        for way in by_channel
        if last[way] and normalised(last[way]) != normalised(by_channel[way].address)
    ]:
        nouns = " and ".join(CHANNELS[way].address.noun for way in new)
        yield f"changed {kit}", f"The last message to this patient went to another {nouns}."
