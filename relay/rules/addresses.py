"""Judges phone numbers and email addresses: the form to send to, or why Relay cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, validate

from relay.lab import facts

HOME = "GB"
HOME_CODE = 44
# Ofcom keeps these for drama and examples: the library calls them invalid, the lab uses them.
# https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama
_DRAMA = re.compile(r"\+447700900\d{3}")
_LONGEST_EMAIL = 254
_PHONE = re.compile(r"\+?[\d\s().-]{7,}")
AT_HAND = 32  # judged a moment ago: each event and rule of a kit asks about the same few
_check_email = validate.Email()


@dataclass(frozen=True)
class Address:
    """An address to use, or the reason why there is none. Exactly one of them is empty."""

    address: str = ""
    reason: str = ""


def phone(number: object) -> Address:
    """A UK mobile number in E.164, or the reason why Relay cannot text it."""
    if not isinstance(number, str) or not number.strip():
        return Address(reason="The lab has no phone number for this person.")
    return parse_uk_mobile(number)


@lru_cache(AT_HAND)
def parse_uk_mobile(number: str) -> Address:
    """Return the number as +44…, or the reason why Relay cannot text it."""
    import phonenumbers as lib  # its metadata takes 0.1 s to load

    try:
        parsed = lib.parse(number, HOME)
    except lib.NumberParseException:
        return Address(reason="The phone number is not valid.")
    written = lib.format_number(parsed, lib.PhoneNumberFormat.E164)
    refusal = number_refusal(parsed, is_drama=bool(_DRAMA.fullmatch(written)))
    return Address(reason=refusal) if refusal else Address(written)


def number_refusal(parsed: Any, *, is_drama: bool) -> str:
    """Why Relay cannot text a number; empty when it can."""
    import phonenumbers as lib
    from phonenumbers import PhoneNumberType as Type

    if parsed.country_code != HOME_CODE:
        return "The phone number is foreign; Relay texts UK mobiles only."
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
    """An email address, its domain in lower case, or the reason why Relay cannot write to it."""
    if not isinstance(address, str) or not address.strip():
        return Address(reason="The lab has no email address for this person.")
    return parse_mailbox(address.strip())


@lru_cache(AT_HAND)
def parse_mailbox(text: str) -> Address:
    """Return the email address with its domain in lower case, or why it cannot be used."""
    try:
        _check_email(text)
    except ValidationError:
        return Address(reason="The email address is not valid.")
    if len(text) > _LONGEST_EMAIL or not text.isascii():
        return Address(
            reason="The email address is too long or has characters that Relay cannot use."
        )
    local, _, domain = text.rpartition("@")
    return Address(f"{local}@{domain.lower()}")


@dataclass(frozen=True)
class AddressKind:
    """A kind of address, which several channels may write to: a phone number has texts and more."""

    judge: Callable[[object], Address]
    field: str  # of a person, where the lab has it
    name: str  # with its article: a phone number
    noun: str  # after "this", where the channel's word stands beside it: this number
    several: str  # as config.toml lists them: UK mobile numbers
    example: str
    remedy: str  # how to write one, for a mistake in config.toml
    is_written: Callable[[str], bool]  # whether a text looks like one


PHONE = AddressKind(
    judge=phone,
    field=facts.PHONE,
    name="a phone number",
    noun="number",
    several="UK mobile numbers",
    example="+447700900100",
    remedy='Write a UK mobile, as in "+447700900100".',
    is_written=lambda text: bool(_PHONE.fullmatch(text)),
)
EMAIL = AddressKind(
    judge=email,
    field=facts.EMAIL,
    name="an email address",
    noun="address",
    several="Email addresses",
    example="lab-desk@example.org",
    remedy='Write one as in "desk@example.org".',
    is_written=lambda text: "@" in text,
)
