"""Whom an erasure is about, and what of the lab's facts is theirs. No ledger."""

from __future__ import annotations

from typing import Any

import pytest

from relay.lab.facts import Facts
from relay.privacy.person import Person, key

NUMBER, MAIL = "+447700900001", "zoe@example.org"
ZOE = {"first_name": "Zoë", "last_name": "O'Brien-Li", "email": MAIL}
WRITTEN = "(07700) 900-001"


def zoe(address: str = NUMBER) -> Person:
    """Zoë, with all that one record tells of her."""
    return Person(key(address)).learn(Facts(customer={**ZOE, "phone_number": WRITTEN}))


@pytest.mark.parametrize("address", [NUMBER, MAIL, "Zoe@Example.org", "07700 900 001"])
def test_one_address_leads_to_the_others(address: str) -> None:
    """By any of their addresses, however it is written, the others and the name are found."""
    person = zoe(address)
    assert {person.address, *person.others} == {"7700900001", MAIL}
    assert person.names == {("Zoë", "O'Brien-Li")}


@pytest.mark.parametrize(
    ("record", "theirs"),
    [
        ({"phone_number": WRITTEN, "first_name": "Tom"}, True),  # what goes by what was asked for
        ({"mobile_phone_number": "00447700900001"}, True),
        ({"email": "ZOE@example.org"}, True),
        ({**ZOE, "phone_number": "07700900009"}, True),
        ({"email": MAIL, "first_name": "Tom", "last_name": "Li"}, False),  # a family's mailbox
        ({"first_name": "zoe", "last_name": "obrien li"}, True),
        ({**ZOE, "email": "another.zoe@example.org"}, False),  # a namesake
        ({"first_name": "Zoë", "last_name": "Li"}, False),
        ({"email": MAIL, "first_name": "Zoë"}, True),
        ({}, False),
    ],
)
def test_whose_a_record_is(record: dict[str, Any], theirs: bool) -> None:
    """The address that was asked for is enough; another of theirs wants the name, or none."""
    assert zoe().owns(record) is theirs


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Rang +44 (0)7700 900 001 twice", True),
        ("tel%2B447700900001", True),
        ("1177009000011", False),
        ("wrote to zoe@EXAMPLE.org.", True),
        ("email=zoe%40example.org", True),
        ("mary.zoe@example.org", False),
        ("zoe@example.org.uk", False),
        ('{"a": "Zo\\u00eb", "b": "O\'Brien-Li"}', True),
        ("Ms OBRIEN LI, Zoe", True),
        ("Zoë rang", False),
    ],
)
def test_what_a_text_says(text: str, names: bool) -> None:
    """However a number or a name is written it is seen, and nobody else's is."""
    assert zoe().is_in(text) is names


def test_only_what_is_theirs_goes() -> None:
    """Of an order for two the other's details stay, and what the kit is; the address goes."""
    tom = {"first_name": "Tom", "last_name": "Li", "email": MAIL}
    facts = Facts(
        order={"id": "o-1", "customer": ZOE, "address": {"line_1": "1 High Street"}},
        customer=ZOE,
        patient=tom,
    )
    left = zoe().redacted(facts)
    assert left == Facts(order={"id": "o-1", "customer": {}}, customer={}, patient=tom)
    assert zoe().redacted(left) == left
    assert left.lacks(frozenset())  # so the lab is asked again before Tom is written to


def test_what_is_theirs_has_a_hint_in_it() -> None:
    """Whatever the search in the ledger goes by stands in each way of writing them down."""
    hints = list(zoe().hints())
    for text in ("7700900001", MAIL, "zo\\u00eb o'brien-li", "obrien li zoe"):
        assert any(hint in text for hint in hints), text
