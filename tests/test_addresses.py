"""Which numbers and addresses can be written to, and how they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rules import addresses, channels
from tests.conftest import ROOT

NOTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.text()))


@pytest.mark.parametrize(
    "written",
    [
        "07911 123456",
        "+447911123456",
        "+44 7911 123 456",
        "0044 7911 123456",
        "447911123456",
        "(07911) 123-456",
        " 07911123456 ",
        "+44 (0)7911 123456",
        "07911\u00a0123456",
    ],
)
def test_mobile_is_written_as_e164(written: str) -> None:
    """However a UK mobile is written down, it is used as +44… and so told once."""
    assert addresses.phone(written) == addresses.Address("+447911123456")


@pytest.mark.parametrize("number", ["+447700900000", "07700 900 999"])
def test_drama_numbers_are_taken(number: str) -> None:
    """Ofcom's numbers for drama, which the lab's examples use, are mobiles like any other."""
    found = addresses.phone(number)
    assert found.address.startswith("+447700900")
    assert not found.reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("020 7946 0018", "landline"),
        ("0161 496 0018", "landline"),
        ("0909 879 0123", "premium-rate"),
        ("0800 123 4567", "freephone"),
        ("0844 123 4567", "premium-rate"),
        ("070 1234 5678", "personal (070)"),
        ("07640 123456", "pager"),
        ("0345 123 4567", "not a mobile"),
        ("+1 202 555 0143", "foreign"),
        ("+33 6 12 34 56 78", "foreign"),
        ("+353 85 123 4567", "foreign"),
        ("07911 12345", "is not valid"),
        ("07911 1234567", "is not valid"),
        ("07911 123456 ext. 7", "extension"),
        ("07700 900123 x12", "extension"),
        ("not a number", "is not valid"),
        ("999", "is not valid"),
        ("07911123456; 07911123457", "extension"),
        ("9" * 5000, "is not valid"),
    ],
)
def test_number_that_cannot_be_texted_has_a_plain_reason(number: str, reason: str) -> None:
    """A number that no text can or should go to is refused, in words that say which it is."""
    found = addresses.phone(number)
    assert found.address == ""
    assert reason in found.reason
    assert number not in found.reason


@pytest.mark.parametrize(
    ("number", "countries", "said"),
    [
        ("+353 85 123 4567", "GB IE", "+353851234567"),
        ("0033 6 12 34 56 78", "GB IE", "foreign; Relay texts UK and IE mobiles only"),
        ("+353 1 234 5678", "GB IE", "landline"),
        ("+1 242 357 1234", "US", "foreign"),  # the Bahamas have America's code, and not its price
        ("07911 123456", "IE", "foreign; Relay texts IE mobiles only"),
        ("07781 123456", "GB", "+447781123456"),
        ("+33 6 12 34 56 78", "", "+33612345678"),  # looked up, not texted
    ],
)
def test_other_countries_are_texted_where_they_are_named(
    number: str, countries: str, said: str
) -> None:
    """Only mobiles of the countries that config.toml names are used."""
    found = addresses.phone(number, frozenset(countries.split()))
    assert said in (found.address or found.reason)
    assert bool(found.address) is said.startswith("+")


@pytest.mark.parametrize("number", ["07781 123456", "07797 123456", "07624 123456"])
def test_crown_dependencies_are_mobiles(number: str) -> None:
    """Guernsey, Jersey and the Isle of Man are +44 and can be texted."""
    assert addresses.phone(number).address.startswith("+447")


@pytest.mark.parametrize("value", [None, "", "  ", "\u200b", True, 7.5, ["+447911123456"], {}])
@pytest.mark.parametrize("channel", channels.CHANNEL_NAMES)
def test_nothing_written_down_is_said_so(channel: str, value: Any) -> None:
    """A missing address, or one of another shape, is told as missing."""
    found = channels.CHANNELS[channel].address.judge(value)
    assert found.address == ""
    assert found.reason.startswith("The lab has no ")


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("jane@example.com", "jane@example.com"),
        (" Jane.Smith+kit@Example.COM ", "Jane.Smith+kit@example.com"),
        ("o'brien@sub.example.co.uk", "o'brien@sub.example.co.uk"),
    ],
)
def test_email_keeps_its_name_and_its_domain_in_lower_case(written: str, used: str) -> None:
    """A domain is written in one way; what stands before the @ is its owner's business."""
    assert addresses.email(written) == addresses.Address(used)


@pytest.mark.parametrize(
    "written",
    [
        "jane",
        "jane@",
        "@example.com",
        "jane@example",
        "jane smith@example.com",
        "jane@example.com, tom@example.com",
        "jane@example.com;tom@example.com",
        "Jane <jane@example.com>",
        "jane@@example.com",
        "jane@exa mple.com",
        "jane@.com",
        "jane@example.com\r\nBcc: all@example.com",
        "jane@example.com\nBcc: all@example.com",
        "jane\r\n@example.com",
        '"jane\r\nBcc: all@example.com"@example.com',
        "jäne@example.com",
        "a" * 250 + "@example.com",
        f"jane@{'a' * 5000}.com",
    ],
)
def test_email_that_cannot_be_written_to_is_refused(written: str) -> None:
    """A malformed address, two of them, or one with a header inside is refused."""
    found = addresses.email(written)
    assert found.address == ""
    assert found.reason.startswith("The email address is ")


@pytest.mark.parametrize("channel", channels.CHANNEL_NAMES)
@given(value=st.one_of(NOTHING, st.text(), st.emails(), st.from_regex(r"\+?[0-9 ()-]{0,20}")))
def test_anything_gives_an_address_or_a_reason(channel: str, value: Any) -> None:
    """Whatever the lab holds, there is an address to use or a reason why not, never both."""
    found = channels.CHANNELS[channel].address.judge(value)
    assert bool(found.address) is not bool(found.reason)
    assert found.address.isascii()
    assert found.address.isprintable()
    assert " " not in found.address
    if found.address:  # judged again it stays, so one person is one address
        assert channels.CHANNELS[channel].address.judge(found.address) == found


# What the world writes for a number, and what it is. A report is one line, here or below.
NUMBERS: dict[Any, str] = {
    "tel:+447700900123": "+447700900123",
    "tel:07700900123": "+447700900123",
    "Tel. 07700 900123": "+447700900123",
    "Mobile: 07700 900123": "+447700900123",
    "Mobile no. 07700 900123": "+447700900123",
    "(UK) 07700 900123": "+447700900123",
    "m 07700 900123": "+447700900123",
    "07700 900123 x": "+447700900123",
    "07700 900123 ext.": "+447700900123",
    "\u202a+44 7700 900123\u202c": "+447700900123",  # as an iPhone's contacts are copied
    "\ufeff07700\u2011900\u2011123\u200b": "+447700900123",
    "07700\t900123\r\n": "+447700900123",
    "０７７００ ９００１２３": "+447700900123",
    7700900123: "+447700900123",  # PHP wrote a number
    7700900124.0: "+447700900124",
    447700900123: "+447700900123",
    # A letter among the digits: the library would read it as a telephone's key.
    "07400 TBC TBC": "",
    "07400 NOT SET": "",
    "07400 123 MUM": "",
    "07400 12345A": "",
    "O7700 900123": "",
    "07700 9oo123": "",
    "07700 900123 WRONG NUMBER": "",
    "07700 900123 or 07700 900124": "",
    "not 07700 900123": "",
    "07700 900123 (Axel)": "",
    "Mum: 07700 900123": "",
    "4.47E+11": "",
    "07700 xxx xxx": "",
    "０７７００ TBC TBC": "",
}
MAILBOXES = {
    "nils@bücher.example": "nils@xn--bcher-kva.example",
    "nils@xn--bcher-kva.example": "nils@xn--bcher-kva.example",
    "Nils@BÜCHER.example": "Nils@xn--bcher-kva.example",
    "nils@例え.テスト": "nils@xn--r8jz45g.xn--zckzah",
    "jane\u200b@example.org": "jane@example.org",
    "jane@exam\u00adple.org\ufeff": "jane@example.org",
    "\u202ajane@example.org\u202c": "jane@example.org",
    "jane@example.org.": "jane@example.org",
    "jane@example.org\r\n": "jane@example.org",
    "mailto:jane@example.org": "jane@example.org",
    "MAILTO:Jane%2Bkit@example.org?subject=Kit": "Jane+kit@example.org",
    "jane@mail.test": "jane@mail.test",
    "jane@clinic.example": "jane@clinic.example",
    "jane@example.org..": "",
    "jane@exa\u0000mple.org, tom@example.org": "",
    "jané@example.org": "",
    "jane@host.local": "",
    "jane@localhost": "",
    "mailto:": "",
    "mailto:mailto:jane@example.org": "",
    "jane＠example.org": "",
    f"jane@{'ü' * 300}.example": "",
}


@pytest.mark.parametrize("written", NUMBERS)
def test_a_number_is_read_as_people_write_it(written: Any) -> None:
    """What people and programs write around a number goes; a letter among its digits does not."""
    assert addresses.phone(written).address == NUMBERS[written]


@pytest.mark.parametrize("written", MAILBOXES)
def test_a_mailbox_is_read_as_people_write_it(written: str) -> None:
    """What nobody sees goes, a domain is written as it is sent; the part before @ stays."""
    assert addresses.email(written).address == MAILBOXES[written]


CASES = json.loads((ROOT / "tests/data/addresses.json").read_text("utf-8"))


@pytest.mark.parametrize("written", CASES.get("valid_uk_mobile_phone_numbers", ()))
def test_what_notify_texts_relay_texts(written: str) -> None:
    """GOV.UK Notify's table of UK mobiles, each of them written another way."""
    assert addresses.phone(written) == addresses.Address("+447723456789")


@pytest.mark.parametrize(
    "written",
    [
        *CASES.get("valid_international_phone_numbers", ()),
        *CASES.get("valid_uk_landlines", ()),
        *CASES.get("invalid_uk_landlines", ()),
    ],
)
def test_what_is_no_uk_mobile_is_refused(written: str) -> None:
    """Notify's numbers of other countries and kinds: Relay texts UK mobiles only."""
    assert addresses.phone(written).reason


@pytest.mark.parametrize("written", CASES.get("valid_email_addresses", ()))
def test_what_notify_emails_relay_emails(written: str) -> None:
    """Notify's table of addresses that are right."""
    assert addresses.email(written).address.isascii()
    assert not addresses.email(written).reason


@pytest.mark.parametrize("written", CASES.get("invalid_email_addresses", ()))
def test_what_notify_does_not_email_is_refused(written: str) -> None:
    """Notify's table of addresses that are wrong."""
    assert addresses.email(written).reason


ODD = st.text(st.sampled_from("07@.+x:/ext-Mm\u200b\u200d\u00a0é\u0301．。ﬀ\u202e١ \n\x92<>,;%"))


@pytest.mark.parametrize("channel", channels.CHANNEL_NAMES)
@given(value=st.one_of(NOTHING, ODD, st.text(), st.emails().map("mailto:{}.".format)))
def test_judged_twice_an_address_is_the_same(channel: str, value: Any) -> None:
    """No judge raises; what one gives, in any letters, the next takes as it is."""
    kind = channels.CHANNELS[channel].address
    found = kind.judge(value)
    if found.address:
        assert kind.judge(found.address) == found
        assert kind.known(found.address) == found.address
        assert kind.is_written(found.address)
    if isinstance(value, str):
        assert kind.known(kind.known(value)) == kind.known(value)
        kind.is_written(value)


@pytest.mark.parametrize("written", ["@", "(", "x@", "07700 900 ", "mobile ", "07700900123 ext "])
def test_an_address_of_any_length_is_judged_at_once(written: str) -> None:
    """What the lab or an admin writes is judged in a moment, however long: it took a minute."""
    endless = written * 40_000
    assert addresses.phone(endless).reason
    assert addresses.email(endless).reason
    assert channels.channel_of(endless)
