"""config.toml besides its rules in plain English: every key of it is told, no address in full."""

from __future__ import annotations

import pytest

from relay.config import plain_english
from relay.config.loader import parse
from relay.config.schema import ClinicSchema, DeliverySchema, StaffSchema
from relay.config.settings import Settings

PLAIN = '[clinic]\nname = "Clinic"\nphone = "020 7946 0000"\n[delivery]\n[staff.desk]\n'
# Table and key, what is written, and the sentence that tells it.
TOLD = {
    ("clinic", "name"): ('"Other"', "Messages speak for Other, 020 7946 0000."),
    ("clinic", "phone"): ('"020 7946 0001"', "Messages speak for Clinic, 020 7946 0001."),
    ("clinic", "portal"): ('"https://a.example"', "read their results at https://a.example."),
    ("clinic", "timezone"): ('"Europe/Paris"', "Times are by the clock of Europe/Paris."),
    ("clinic", "extra"): ('{ hours = "9 to 5" }', "Templates have words of your own: hours."),
    ("delivery", "sms_from"): ('"CLINIC"', "Texts come from CLINIC."),
    ("delivery", "email_from"): ('"a@example.org"', "Emails come from a@example.org."),
    ("delivery", "send_window"): ('"always"', "messages go out at any hour."),
    ("delivery", "bank_holidays"): ("[2026-12-25]", "Bank holidays: 25 Dec 2026."),
    ("delivery", "max_sms_segments"): ("3", "A text of more than 3 segments is warned of."),
    ("delivery", "daily_sms_limit"): ("1500", "At most 1,500 texts go out a day"),
    ("delivery", "sms_per_second"): ("10", "At most 10 texts go out a second."),
    ("delivery", "email_per_second"): ("0.5", "At most 0.5 emails go out a second."),
    ("delivery", "alerts"): ('"other"', "The staff of other hear when something needs a person."),
    ("delivery", "lab_patience"): ('"5d"', "The lab is asked for 5 days"),
    ("delivery", "retention"): (
        '"60d"',
        "After 60 days contact details and words are blanked, and texts deleted at Twilio.",
    ),
    ("delivery", "dedupe_window"): ('"7d"', "The same event within 7 days counts once."),
    ("delivery", "allow"): ('["jane@example.org"]', "only these get anything: j•••@example.org."),
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
    tables = {"clinic": ClinicSchema, "delivery": DeliverySchema, "staff.desk": StaffSchema}
    assert set(TOLD) == {(name, key) for name, one in tables.items() for key in one().fields}


def test_a_clinic_without_staff_is_told() -> None:
    """Nobody hears of what needs a person: that is said."""
    assert "There are no staff" in said(PLAIN.replace("[staff.desk]", ""))
