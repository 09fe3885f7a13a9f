"""Names as they are searched, and whose name an event's facts tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from relay.lab.facts import NAMES, Facts
from relay.lab.plain_text import fold

MOST_WORDS = 6  # of a name that is searched: each may be the one that a surname begins with
LONGEST = 200
TITLES = frozenset({"dr", "miss", "mr", "mrs", "ms", "mx", "prof"})


def full_name(facts: Facts) -> str:
    """First name and surname of whom an event is about: the patient, or else the customer."""
    return " ".join(first_known_names(facts))


def search_key(facts: Facts) -> str | None:
    """The same to be searched by: surname first, without accents, capitals and marks."""
    return fold(" ".join(reversed(first_known_names(facts))))[:LONGEST] or None


def readings(written: str) -> list[str]:
    """What the search key of a written name may begin with: the surname may be any of its words."""
    words = fold(re.sub(r"[.,]", " ", written)).split()[:MOST_WORDS]
    words = [word for word in words if word not in TITLES] or words
    turned = (words[turn:] + words[:turn] for turn in range(len(words)))
    return list(dict.fromkeys(" ".join(one) for one in turned))


def first_known_names(facts: Facts) -> tuple[str, ...]:
    """Return the first and last name of the first person in the facts who has either."""
    names = (tuple(filter(None, name_of(person))) for person in persons_in(facts))
    return next(filter(None, names), ())


def name_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return a record's first and last name, trimmed; each is empty when unknown."""
    first, last = (str(record.get(field) or "").strip() for field in NAMES)
    return first, last


def persons_in(facts: Facts) -> Iterator[Mapping[str, Any]]:
    """Yield each person in the facts: registration, patient, customer, order's customer."""
    order = facts.order or {}
    for person in (facts.registration, facts.patient, facts.customer, order.get("customer")):
        if person:
            yield person
