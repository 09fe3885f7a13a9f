"""The kinds of address, and how Relay judges one: the form to send to, or why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from relay.lab import plain_text

HOME = "GB"
HOME_CODE = 44  # of Guernsey, Jersey and the Isle of Man, too
AT_HOME = frozenset({HOME})
ANYWHERE: frozenset[str] = frozenset()  # for numbers that are looked up and not texted
# Ofcom reserves these for drama and examples: the library calls them invalid, the lab uses them.
# https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama
_DRAMA = re.compile(r"\+447700900\d{3}")
# What people write before a number, as in "Mobile: 07…", "tel:+44…" or "(UK) 07…" ...
_BEFORE = re.compile(
    r"\A\W*(?:(?:telephone|tel|phone|ph|mobile|mob|cell|number|num|no|sms|text|uk|gb|m|t)"
    r"(?![^\W\d_])[^\w+(]*)+",
    re.IGNORECASE,
)
# ... and after it: an extension, or an extension mark without one. The library reads other letters
# as the keys of a telephone: "07… MUM" would be some stranger's number.
_NO_EXTENSION = re.compile(r"\W*\b(?:x|ext(?:n|ension)?)\W*$", re.IGNORECASE)
_EXTENSION = re.compile(r"(?:x|ext(?:n|ension)?)\W*\d{1,7}\W*$", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
LONGEST = 320  # characters of an address: parsing time may grow with the square of it
AT_HAND = 32  # addresses judged recently: each event and rule of a kit asks about the same few


@dataclass(frozen=True)
class Address:
    """An address to use, or the reason why there is none. Exactly one of them is empty."""

    address: str = ""
    reason: str = ""


def phone(number: object, texted: frozenset[str] = AT_HOME) -> Address:
    """A mobile number of a country that is `texted`, in E.164, or why Relay cannot text it."""
    written = plain_text.written(number)
    if not isinstance(written, str) or not (plain := plain_text.plain(written)):
        return Address(reason="The lab has no phone number for this person.")
    return parse_mobile(plain, texted)


def bare_number(text: str) -> str:
    """A phone number without the words that people put around it; empty if other letters remain."""
    if len(plain := plain_text.plain(text)) > LONGEST:
        return ""
    bare = _NO_EXTENSION.sub("", _BEFORE.sub("", plain))
    return "" if _LETTER.search(_EXTENSION.sub("", bare)) else bare


def parse_number(text: str) -> Any:
    """The library's reading of a text: any country's number, valid or not; None if it has none.

    A text with letters among its digits is not a number.
    """
    import phonenumbers as lib  # loading its metadata takes 0.1 s

    try:
        return lib.parse(bare_number(text), HOME)
    except lib.NumberParseException:
        return None


@lru_cache(AT_HAND)
def parse_mobile(number: str, texted: frozenset[str]) -> Address:
    """Return the number as +44…, or the reason why Relay cannot text it."""
    import phonenumbers as lib

    if _LETTER.search(number) and not bare_number(number):
        return Address(reason="The phone number is not valid: it has letters in it.")
    if (parsed := parse_number(number)) is None:
        return Address(reason="The phone number is not valid.")
    written = lib.format_number(parsed, lib.PhoneNumberFormat.E164)
    refusal = number_refusal(parsed, texted, is_drama=bool(_DRAMA.fullmatch(written)))
    return Address(reason=refusal) if refusal else Address(written)


def countries(*codes: str) -> frozenset[str]:
    """Countries by their ISO codes, as in 'IE'. Raises ValueError."""
    import phonenumbers as lib

    for code in codes or ("",):
        if code not in lib.SUPPORTED_REGIONS:
            raise ValueError(f'there is no country "{code}"; write its code, as in "GB" or "IE"')
    return frozenset(codes)


def in_words(texted: frozenset[str]) -> str:
    """The names of the texted countries: UK, or UK and IE."""
    return " and ".join(sorted(("UK" if one == HOME else one for one in texted), reverse=True))


def number_refusal(parsed: Any, texted: frozenset[str], *, is_drama: bool) -> str:
    """Why Relay cannot text a number; empty when it can."""
    import phonenumbers as lib
    from phonenumbers import PhoneNumberType as Type

    is_home = parsed.country_code == HOME_CODE
    if texted and (HOME if is_home else lib.region_code_for_number(parsed)) not in texted:
        return f"The phone number is foreign; Relay texts {in_words(texted)} mobiles only."
    if parsed.extension:
        return "The phone number has an extension, so Relay cannot text it."
    if is_drama:
        return ""
    if not lib.is_valid_number(parsed):
        return "The phone number is not valid."
    kind = lib.number_type(parsed)
    if kind in (Type.MOBILE, Type.FIXED_LINE_OR_MOBILE):
        return ""
    reasons = {
        Type.FIXED_LINE: "a landline, which cannot get text messages",
        Type.PREMIUM_RATE: "a premium-rate number",
        Type.TOLL_FREE: "a freephone number, which cannot get text messages",
        Type.PERSONAL_NUMBER: "a personal (070) number, billed as premium rate",
        Type.PAGER: "a pager",
    }
    return f"The phone number is {reasons.get(kind, 'not a mobile')}."


def email(address: object) -> Address:
    """An email address, its domain in ASCII and small letters, or the reason why Relay cannot write
    to it.
    """
    if not isinstance(address, str) or not (plain := plain_text.plain(address)):
        return Address(reason="The lab has no email address for this person.")
    return parse_mailbox(plain)


@lru_cache(AT_HAND)
def parse_mailbox(text: str) -> Address:
    """Return the email address as it is sent, or why it cannot be used. Does not ask the DNS."""
    from email_validator import EmailNotValidError, validate_email

    bare = plain_text.mailbox(text)
    if not bare.rpartition("@")[0].isascii():
        reason = "it has characters that Relay cannot use before the @"
        return Address(reason=f"The email address is not valid: {reason}.")
    try:  # test_environment: accept .test, like .example, which it always accepts
        validate_email(
            bare, allow_smtputf8=False, check_deliverability=False, test_environment=True
        )
    except EmailNotValidError:
        return Address(reason="The email address is not valid.")
    return Address(bare)


def normalised(address: str) -> str:
    """The part that two spellings of one address share. Relay sends to the address as written."""
    return address.lower()


def any_number(text: str) -> str:
    """A phone number of any country and kind in E.164, even one that Relay does not text; empty if
    it is not one.
    """
    import phonenumbers as lib

    parsed = parse_number(text)
    return lib.format_number(parsed, lib.PhoneNumberFormat.E164) if parsed else ""


def any_mailbox(text: str) -> str:
    """An email address, even one that Relay does not write to; empty if it is not one."""
    bare = plain_text.mailbox(text)
    local, _, domain = bare.rpartition("@")
    return bare if local and domain and " " not in bare else ""


@dataclass(frozen=True)
class AddressKind:
    """A kind of address, which several channels may use: a phone number receives texts and more."""

    judge: Callable[[object], Address]
    known: Callable[[str], str]  # the ledger's form of it, whether Relay writes to it or not
    name: str  # with its article: a phone number
    noun: str  # after "this", next to the channel's word: this number
    several: str  # as config.toml lists them: UK mobile numbers
    example: str
    remedy: str  # how to write one, for a mistake in config.toml
    is_written: Callable[[str], bool]  # whether a text looks like one
    judge_of: Callable[[object, frozenset[str]], Address] | None = None  # where countries differ
    # In a receptionist's words: it takes nothing just now, it never will, the lab has none to use.
    away: str = "Nothing could be delivered there"
    dead: str = "Address does not work"
    absent: str = "No address at the lab"

    def judge_in(self, countries: frozenset[str], written: object) -> Address:
        """Like `judge`, but for these countries instead of the UK."""
        return self.judge_of(written, countries) if self.judge_of else self.judge(written)


_WRITTEN = re.compile(r"\+?[\d\s().-]{7,}")
PHONE = AddressKind(
    judge=phone,
    judge_of=phone,
    known=any_number,
    name="a phone number",
    noun="number",
    several="UK mobile numbers",
    example="+447700900100",
    remedy='Write a UK mobile, as in "+447700900100".',
    is_written=lambda text: bool(_WRITTEN.fullmatch(bare_number(text))),
    away="Phone off or out of reach",
    dead="Number does not work",
    absent="No mobile number at the lab",
)
EMAIL = AddressKind(
    judge=email,
    known=any_mailbox,
    name="an email address",
    noun="address",
    several="Email addresses",
    example="lab-desk@example.org",
    remedy='Write one as in "desk@example.org".',
    is_written=lambda text: "@" in text,
    away="Mailbox does not take it",
    dead="Address does not work",
    absent="No email address at the lab",
)
