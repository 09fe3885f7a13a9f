"""config.toml besides its rules in plain English: every key of it is told, no address in full."""

from __future__ import annotations

import pytest

from relay.config import plain_english
from relay.config.loader import parse
from relay.config.schema import ClinicSchema, CostsSchema, DeliverySchema, DeskSchema, StaffSchema
from relay.config.settings import Settings

PLAIN = '[clinic]\nname = "Clinic"\nphone = "020 7946 0000"\n'
PLAIN += "[delivery]\n[desk]\n[costs]\n[staff.desk]\n"
# Table and key, what is written, and the sentence that tells it.
TOLD = {
    ("clinic", "name"): ('"Other"', "the clinic's name as Other and its phone as 020 7946 0000."),
    ("clinic", "short_name"): ('"Cl"', "Texts, the head of emails and the desk call it Cl."),
    ("clinic", "logo"): (
        '"https://a.example/l.png"',
        "Emails and the desk show the logo at https://a.example/l.png.",
    ),
    ("clinic", "accent"): ('"#0a6259"', "Emails and the desk have the colour #0a6259."),
    ("clinic", "phone"): (
        '"020 7946 0001"',
        "the clinic's name as Clinic and its phone as 020 7946 0001.",
    ),
    ("clinic", "portal"): ('"https://a.example"', "read their results at https://a.example."),
    ("clinic", "timezone"): ('"Europe/Paris"', "Times are in the time zone Europe/Paris."),
    ("clinic", "extra"): ('{ hours = "9 to 5" }', "Templates can use your own values: hours."),
    ("delivery", "sms_from"): ('"CLINIC"', "Texts come from CLINIC."),
    ("delivery", "email_from"): ('"a@example.org"', "Emails come from a@example.org."),
    ("delivery", "email_reply_to"): (
        '"jane@example.org"',
        "Answers to emails go to j•••@example.org.",
    ),
    ("delivery", "sms_countries"): ('["GB", "IE"]', "Texts go to UK and IE mobiles."),
    ("delivery", "send_window"): ('"always"', "messages go out at any hour."),
    ("delivery", "bank_holidays"): (
        '["GB-ENG", 2026-12-24]',
        "Bank holidays: those of GB-ENG, 24 Dec 2026.",
    ),
    ("delivery", "max_sms_segments"): ("3", "`check` warns about texts of more than 3 segments."),
    ("delivery", "daily_sms_limit"): (
        "1500",
        "At most 1,500 texts go out in a day; any more wait for the next. "
        "Relay keeps the last 300 of these for results, retests and alerts.",
    ),
    ("delivery", "sms_per_second"): ("10", "At most 10 texts go out in a second."),
    ("delivery", "email_per_second"): ("0.5", "At most 0.5 emails go out in a second."),
    ("delivery", "alerts"): ('"other"', "Relay alerts the staff of other."),
    ("delivery", "lab_patience"): (
        '"5d"',
        "for what an event needs for 5 days, then alerts staff.",
    ),
    ("delivery", "retention"): (
        '"60d"',
        "After 60 days Relay blanks contact details and message texts, also at Twilio.",
    ),
    ("delivery", "history"): (
        '"800d"',
        "After 800 days it deletes the rest of what it knows of a finished kit.",
    ),
    ("delivery", "dedupe_window"): (
        '"7d"',
        "A repeat of an event within 7 days counts as a duplicate.",
    ),
    ("delivery", "allow"): (
        '["jane@example.org"]',
        "only these addresses get messages: j•••@example.org.",
    ),
    ("desk", "reveal_reason"): ("true", "The desk asks for a reason before it shows names"),
    ("desk", "second_person"): ("true", "a second person has to approve it."),
    ("desk", "security_contact"): (
        '"holes@example.org"',
        "Reports of security problems go to holes@example.org.",
    ),
    ("desk", "looks_per_hour"): ("50", "looks at people's data more than 50 times in an hour."),
    ("costs", "sms"): ("0.04", "A segment of a text costs £0.04."),
    ("costs", "email"): ("0.0008", "An email costs £0.0008."),
    ("costs", "currency"): ('"euros"\nemail = 2', "An email costs 2.00 euros."),
    ("staff.desk", "email"): ('["kate@example.org"]', "The staff of desk: k•••@example.org."),
    ("staff.desk", "sms"): ('["07700 900001"]', "The staff of desk: +44•••••••001."),
}


def said(text: str) -> str:
    return " ".join(plain_english.clinic_sentences(parse(text, Settings())))


@pytest.mark.parametrize("at", TOLD, ids=".".join)
def test_each_key_is_told(at: tuple[str, str]) -> None:
    """A key that is set shows in the words, and only then; an address never in full."""
    (table, key), (written, words) = at, TOLD[at]
    kept = [line for line in PLAIN.split("\n") if not line.startswith(f"{key} ")]
    text = "\n".join(kept).replace(f"[{table}]", f"[{table}]\n{key} = {written}")
    if key == "alerts":
        text += "\n[staff.other]\n"
    assert words in said(text)
    assert words not in said(PLAIN)
    assert "jane" not in said(text)
    assert "kate" not in said(text)


def test_no_key_is_forgotten() -> None:
    """A new key of these tables has its words here."""
    tables = {
        "clinic": ClinicSchema,
        "delivery": DeliverySchema,
        "desk": DeskSchema,
        "costs": CostsSchema,
        "staff.desk": StaffSchema,
    }
    assert set(TOLD) == {(name, key) for name, one in tables.items() for key in one().fields}


def test_a_clinic_without_staff_is_told() -> None:
    """Nobody hears of what needs a person: that is said."""
    assert "There are no staff groups" in said(PLAIN.replace("[staff.desk]", ""))
