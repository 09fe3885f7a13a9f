"""Names and texts as the world writes them: what is left out, who is greeted, what is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.lab import facts, plain_text
from relay.lab.facts import Facts, clean_text, resource
from relay.messages import sms_segments
from relay.privacy import masks
from relay.privacy.person import Person, key, without_address
from relay.rules.expressions import recipient
from relay.rules.schedule import Digest, Window, bank_holiday, duration

# A first name, and whether somebody is greeted by it. A report is one line.
NAMES = {
    "Jane": True,
    "Mary Ann": True,
    "Zoë O’Brien-Li": True,
    "St.John": True,
    "J.R.": True,
    "D'Arcy (Bob)": True,
    "Ann & Bob": True,
    "李": True,
    "عمر": True,
    "می\u200cخواهم": True,
    "Maria del Carmen Guadalupe de los Angeles": True,
    "Claim at bit.ly/x9": False,
    "www.example.org": False,
    "Jane example.org": False,
    "https://example.org": False,
    "Call 07700900123": False,
    "jane@example.org": False,
    "<b>Jane</b>": False,
    "{{ 7*7 }}": False,
    "%FIRST_NAME%": False,
    "[First name]": False,
    "URGENT!": False,
    "Jane2": False,
    "x" * 61: False,
    "Jane " * 40: False,
    "NULL": False,
    "undefined": False,
    "TBC": False,
    "-": False,
    "😀": False,
}
# What is written in a text, and what is sent. Letters stay as they are.
SENT = {
    "It’s “here” – now…": 'It\'s "here" - now...',
    "Renée O’Brien": "Renée O'Brien",
    "Rene\u0301e": "Renée",
    "Łukasz": "Łukasz",
    "Hawai\u02bbi": "Hawai\u02bbi",  # a letter, though it looks like a quote
    "20\u00a0mg\u2009a\u202fday": "20 mg a day",
    "Your\u200b kit\u00ad is\ufeff here": "Your kit is here",
    "one\r\ntwo\u2028three": "one\ntwo\nthree",
    "07700\u2011900\u2011123": "07700-900-123",
    "ﬁt": "ﬁt",
    "👩\u200d👧 ❤\ufe0f": "👩\u200d👧 ❤\ufe0f",
    "€5 {a} [b]": "€5 {a} [b]",
    "«a» ‹b› 5′ 6″ • c": '"a" <b> 5\' 6" - c',
}
ODD = st.text(
    st.sampled_from("aeJ é\u0301\u200b\u200d\ufe0f\u00a0\u202e\n\x92\u212a\u115f😀李’…\ud800.-/@0")
)
ANY = st.one_of(ODD, st.text())


@pytest.mark.parametrize("name", NAMES)
def test_who_has_a_name_is_greeted_by_it(name: str) -> None:
    """What is no name counts as empty in templates; it is kept, and staff learn why."""
    person = resource({"first_name": name, "last_name": "Smith"}, "customer")
    facts = Facts(customer=person)
    kept = clean_text(name)
    assert (person or {})["first_name"] == kept
    assert bool(recipient("customer", facts).first_name) is NAMES[name]
    assert bool(facts.namespace()["customer"].first_name) is NAMES[name]
    assert str(recipient("customer", facts).last_name) == "Smith"
    notes = list(facts.notes())
    assert len(notes) == (not NAMES[name])
    assert not any(str(kept) in note for note in notes if kept != "-")


@pytest.mark.parametrize(
    ("written", "is_said"),
    [
        ("RM123456789GB", True),
        ("St.John's Rd./Flat 3", True),
        ("jane@example.org", True),
        ("https://evil.example", False),
        ("WWW.evil.example", False),
        ("Win at bit.ly/x", False),
    ],
)
def test_a_link_is_said_to_nobody_in_the_clinics_name(written: str, is_said: bool) -> None:
    """Whoever orders a kit fills in references and addresses: what phones would make a link of
    counts as empty in templates, but for the links that are the lab's own.
    """
    order = resource({"tracking_number": written, "address": {"line1": written}}, "order")
    kit = resource({"download_url": "https://lab.example/report.pdf"}, "registration")
    facts = Facts(order=order, registration=kit)
    seen = facts.namespace()
    assert bool(seen["order"].tracking_number) is is_said
    assert bool(seen["order"].address.line1) is is_said
    assert seen["registration"].download_url == "https://lab.example/report.pdf"
    told = "The order's tracking number has a link in it, so messages leave it out."
    assert [*facts.notes()] == ([] if is_said else [told])


@pytest.mark.parametrize("written", SENT)
def test_a_text_is_sent_in_plain_characters(written: str) -> None:
    """Typographic characters go as their plain twins, what nobody sees goes; letters stay."""
    assert sms_segments.plain(written) == SENT[written]


def test_every_twin_is_cheap() -> None:
    """A twin is in the SMS alphabet, and no letter has one."""
    for char, twin in sms_segments.TWINS.items():
        assert set(twin) <= sms_segments.BASIC | sms_segments.EXTENDED
        assert not chr(char).isalpha()


@given(text=ANY)
def test_made_plain_twice_a_text_is_the_same(text: str) -> None:
    """Nothing raises, whatever it is given, and a second time changes nothing."""
    for make in (clean_text, plain_text.seen, plain_text.plain, plain_text.trimmed):
        once = make(text) or ""
        assert (make(once) or "") == once
    once = sms_segments.plain(text)
    assert sms_segments.plain(once) == once
    assert plain_text.mailbox(plain_text.mailbox(text)) is not None
    assert sms_segments.size(once).segments <= max(1, sms_segments.size(text).segments * 4)
    given_letters = [*filter(str.isalpha, text.translate(plain_text.WINDOWS))]
    assert len([*filter(str.isalpha, once)]) <= len(given_letters)


@given(
    ANY,
    st.text(".。．｡ @", max_size=4),
    st.integers(0, 2),
)
def test_an_address_has_one_key(text: str, end: str, times: int) -> None:
    """Erasure finds an address by its key: made of a key, it is the same."""
    once = key(f"{'mailto:' * times}{text}@{text}{end}")
    assert key(once) == once


@given(text=ANY, value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY))
def test_no_judge_of_names_raises(text: str, value: Any) -> None:
    """Names, keys and masks are made of anything, and made of themselves stay as they are."""
    assert str(plain_text.written(plain_text.written(value))) == str(plain_text.written(value))
    assert isinstance(plain_text.why_no_name(text), str)
    assert plain_text.fold(plain_text.fold(text)) == plain_text.fold(text)
    assert isinstance(masks.name(text), str)
    assert len(facts.readings(text)) <= facts.MOST_WORDS
    somebody = Person(without_address(text), frozenset({key(text)} - {""}), frozenset({(text, "")}))
    somebody.is_in(text)
    list(somebody.hints())


@given(text=st.one_of(st.text(st.sampled_from("0123456789:-hdmsMonFriever daily,.")), st.text()))
@pytest.mark.parametrize("judge", [duration, Window.parse, Digest.parse, bank_holiday])
def test_a_judge_of_times_says_what_is_wrong(judge: Any, text: str) -> None:
    """A time is read, or refused in words; twice it is the same."""
    found = []
    for _ in range(2):
        try:
            found.append(judge(text))
        except ValueError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert found[0] or found[0] == timedelta()
