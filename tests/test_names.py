"""Names as they are searched, and what is shown of them and of addresses."""

from __future__ import annotations

import pytest

from relay.lab.facts import Facts, full_name, readings, search_key
from relay.lab.plain_text import fold
from relay.privacy import masks

JANE = {"first_name": "Jane", "last_name": "Smith"}
TOM = {"first_name": "Tom", "last_name": None}


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("Zoë O'Brien-Li", "zoe obrien li"),
        ("O\u2019Neil", "oneil"),
        ("  ÅSE  ", "ase"),
        ("Straße", "strasse"),
        ("王 小明", "王 小明"),
        ("", ""),
        ("---", ""),
    ],
)
def test_a_name_is_folded(written: str, folded: str) -> None:
    """Accents, capitals, apostrophes and hyphens make no other name."""
    assert fold(written) == folded


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        (Facts(customer=JANE), "smith jane"),
        (Facts(registration=TOM, customer=JANE), "tom"),
        (Facts(order={"customer": JANE}), "smith jane"),
        (Facts(patient={"first_name": None, "last_name": ""}, customer=JANE), "smith jane"),
        (Facts(), None),
    ],
)
def test_whose_name_it_is(facts: Facts, key: str | None) -> None:
    """The patient's, or else the customer's; none where the lab tells none."""
    assert search_key(facts) == key
    assert full_name(Facts(customer=JANE)) == "Jane Smith"


def test_the_surname_may_be_any_word() -> None:
    """What is typed is read with each word as the surname, titles left out."""
    assert readings("Mrs Jane Smith") == ["jane smith", "smith jane"]
    assert readings("Dr") == ["dr"]
    assert len(readings("a b c d e f g h")) == 6


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("+447700900001", "+44•••••••001"),
        ("jane@example.org", "j•••@example.org"),
        ("@x.org", "•••@x.org"),
        ("12345", "•••••••"),
        ("", ""),
    ],
)
def test_an_address_is_masked(written: str, shown: str) -> None:
    """Enough to be recognised by who knows it, of any length the same."""
    assert masks.address(written) == shown
