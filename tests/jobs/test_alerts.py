"""Alerts to staff: written by templates/alerts when they go out, and never stopped by a mistake.

The whole texts are kept as files. After a change that is meant,
`RELAY_UPDATE_EXPECTED=1 pytest tests/jobs/test_alerts.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from relay.config.loader import load
from relay.lab import samples
from relay.ledger.schema import notifications
from relay.ledger.worklist import cases
from relay.messages import sms_segments
from relay.messages.alerts import AlertTemplates, CaseNames
from relay.messages.templates import Message, Templates
from relay.rules import alerts
from relay.rules.alerts import COUNTED, KINDS
from relay.rules.channels import ALERT_CHANNELS
from tests.conftest import ROOT
from tests.jobs.conftest import DESK, KIT, STAFF, Clinic
from tests.rows import change, close_case, only, open_cases
from tests.test_templates import CONFIG

EXPECTED = ROOT / "tests" / "expected" / "alerts"
CASE_ID = "cas_019ac9f4e80e4a61b2c3d4e5f6a7"
LINK = f"https://relay.example/case/{CASE_ID}"
# A case of each kind as Relay opens it: what it is about, and its reason.
OPENED = {
    "reply": (KIT, "Somebody may be unwell: read it now."),
    "unreached": (KIT, "The Twilio account may not text this country."),
    "unconfirmed": (KIT, "No receipt came within 72 hours."),
    "broken": (KIT, "kit_shipped/sms.txt: order.tracking_number is empty."),
    "held": (KIT, "The lab's API did not answer (503). It was tried 12 times."),
    "paused": ("sms", "Twilio refuses our account (20003)."),
    "lab": (
        "the lab",
        "The lab's API refuses our token (401). Ask the lab for a token that works, set "
        "LAB_API_TOKEN to it and restart Relay.",
    ),
    "limit": ("sms", "daily_sms_limit is 500, with 100 kept for results, retests and alerts."),
    "config": ("config.toml", "There are mistakes at line 12, 40."),
    "release": (
        KIT,
        "It is for the patient. If nobody stops it, it goes out on Monday 01 June at 09:00.",
    ),
    "missing": (
        KIT,
        "order.shipped came on 20 May 2026, and no order.delivered since. "
        "The lab's API does not show it either.",
    ),
    "mismatch": (
        KIT,
        "The registration and the patient's own record at the lab differ in: first name.",
    ),
    "erasure": ("era_019ac9f4e80e4a61b2c3d4e5f6a7", "2 rows of notifications still have it."),
    "rule": ("kit-shipped", "Its rule, kit-shipped, is no longer in config.toml."),
    "account": ("sms", "Delivery is live, and no account for sending sms is set."),
    "refused": ("order.shipped", "data.order_id: It is blank."),
    "looks": (
        "the desk",
        "jane@example.org has looked at people's data more than 200 times within an hour.",
    ),
    "unknown": ("digest retests 2026-06-01 09:00", "Twilio did not answer."),
}
WORDS = AlertTemplates(Templates(ROOT / "templates"), CONFIG.clinic.record())


class Page(HTMLParser):
    """The text and the links of an email's HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep where links lead."""
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def flat(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def written(kind: str, channel: str, link: str = LINK) -> Message:
    """An alert about a case as Relay opens it; of late kits there are two more."""
    subject, reason = OPENED[kind]
    case = CaseNames(
        CASE_ID,
        kind,
        subject,
        reason,
        others=2 if kind == "missing" else 0,
        link=link,
        is_digest=subject.startswith("digest "),
        is_urgent=kind == "reply",
    )
    return WORDS.message(case, channel, "", "lab-desk")


@pytest.mark.parametrize("kind", KINDS)
def test_an_alert_says_how_much_it_is_about(kind: str) -> None:
    """Twelve messages or events that one fault holds up are one alert, which says that number."""
    for count, words in ((1, ""), (12, f"12 {COUNTED[kind]}"), (1200, f"1,200 {COUNTED[kind]}")):
        case = CaseNames(CASE_ID, kind, *OPENED[kind], link=LINK, count=count)
        text = WORDS.message(case, "sms", "", "lab-desk").text
        mail = WORDS.message(case, "email", "", "lab-desk")
        for told in (text, flat(mail.text), flat(Page(mail.html or "").text)):
            assert (words in told) if words else not re.search(r"1 (messages|events|kits)", told)


@pytest.fixture
def staffed(clinic: Clinic) -> Clinic:
    """A clinic whose staff are mailed, and whose desk has an address."""
    clinic.settings = replace(clinic.settings, public_url="https://relay.example")
    clinic.configure(staff=STAFF)
    return clinic


def open_case(clinic: Clinic, kind: str = "held") -> dict[str, Any]:
    """A case with its alert, about an event that came in; the alert as it waits."""
    clinic.post()
    subject, reason = OPENED[kind]
    policy, now = load(clinic.settings).policy, datetime.now(UTC)
    about = alerts.case(kind, subject, subject, reason, policy=policy, now=now)
    with clinic.db.write() as connection:
        assert cases.open_for_all(connection, about)
    return only(clinic.db, notifications, rule=f"relay:{kind}")


def sent(clinic: Clinic) -> tuple[str, str, str]:
    """CaseNames, text and HTML of the one email that went to staff."""
    jobs = clinic.jobs
    for claim in jobs.claim("email", 10):
        jobs.deliver(claim)
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [{"email": DESK}]
    text, html = (part["value"] for part in mail.json["content"])
    return mail.json["subject"], text, html


def edit(clinic: Clinic, file: str, text: str) -> Path:
    """Write one of the alerts' files anew."""
    path = clinic.settings.templates / "alerts" / file
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_alert_says_exactly_this(kind: str) -> None:
    """What staff read of each kind of case, on each channel, is as it stands in tests/expected."""
    email = written(kind, "email")
    told = {
        "sms.txt": written(kind, "sms").text,
        "email.subject.txt": email.subject,
        "email.txt": email.text,
    }
    if kind == "held":  # of one, since the others' differ in the words alone
        told["email.html"] = email.html
    folder = EXPECTED / kind
    if os.environ.get("RELAY_UPDATE_EXPECTED"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in told.items():
            (folder / name).write_text(text + "\n", "utf-8")
    expected = {path.name: path.read_text("utf-8").removesuffix("\n") for path in folder.iterdir()}
    assert told == expected


@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_of_an_email_say_the_same(kind: str) -> None:
    """HTML and text have the same words and the same link, and nothing else to press."""
    email = written(kind, "email")
    page, words = Page(email.html), WORDS.words(CaseNames(CASE_ID, kind, *OPENED[kind]))
    for said in (words.title, words.to_do, OPENED[kind][1], LINK):
        assert said in flat(email.text)
        assert said in flat(page.text)
    assert {link for link in page.links if not link.startswith("tel:")} == {LINK}


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_one_segment_and_hides_nothing(kind: str) -> None:
    """On a locked screen there is the kind of case and where to look: no kit, and one segment."""
    text = written(kind, "sms").text
    assert KIT not in text
    assert OPENED[kind][1] not in text
    assert sms_segments.size(text).segments == 1


def test_without_an_address_of_the_desk_there_is_no_link() -> None:
    """Where PUBLIC_URL is not set the alert says where to look in words."""
    for channel in ALERT_CHANNELS:
        made = written("held", channel, link="")
        assert "admin desk" in made.text
        assert "http" not in made.text


def test_a_hostile_id_stays_an_id() -> None:
    """Whatever the lab calls a kit, no markup and no template comes of it."""
    id_ = "<b>{{ 7*7 }}</b>"
    made = WORDS.message(CaseNames(CASE_ID, "held", id_, "<i>"), "email", "", "lab-desk")
    assert f"kit {id_}" in made.text
    assert f"kit {id_}" in Page(made.html).text
    assert "<b>" not in made.html
    assert "<i>" not in made.html


def test_an_alert_leads_to_its_very_case(staffed: Clinic) -> None:
    """The link in an alert is the address of the case that it is about."""
    alert = open_case(staffed)
    (case,) = open_cases(staffed.db)
    assert alert["case_id"] == case["id"]
    _, text, html = sent(staffed)
    link = f"https://relay.example/case/{case['id']}"
    assert link in text
    assert link in Page(html).links


def test_an_edit_holds_for_alerts_that_wait(staffed: Clinic) -> None:
    """Words that are changed after a case was opened are those that go out."""
    open_case(staffed)
    edit(
        staffed,
        "words/held.txt",
        "{% block title %}Ring the lab{% endblock %}"
        "{% block happened %}It sent {{ case.subject }}.{% endblock %}"
        "{% block to_do %}Ask for {{ case.about }}.{% endblock %}",
    )
    subject, text, _ = sent(staffed)
    assert subject == "Ring the lab"
    assert f"It sent {KIT}." in text
    assert f"Ask for kit {KIT}." in text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("words/held.txt", "{% block title %}A{% endblock %}{{ custmer.name }}"),
        ("words/held.txt", "{% block title %}A{% block happened %}"),
        ("words/held.txt", ""),
        ("email.html", "{{ case.nothing }}"),
        ("email.txt", "{% extends 'none.txt' %}"),
        ("subject.txt", "{{ 1 / 0 }}"),
        ("words/held.txt", None),
        ("email.html", None),
    ],
)
def test_a_broken_template_stops_no_alert(staffed: Clinic, file: str, text: str | None) -> None:
    """An alert that nobody hears is the worst: it goes out in plain words, with reason and link."""
    open_case(staffed)
    path = edit(staffed, file, text or "")
    if text is None:
        path.unlink()
    (case,) = open_cases(staffed.db)
    subject, text, html = sent(staffed)
    assert subject == "Something needs a person (held)"
    for words in (flat(text), Page(html).text):
        for said in (KIT, OPENED["held"][1], f"https://relay.example/case/{case['id']}"):
            assert said in words
    assert staffed.told() == [("held", DESK, "sent")]


def test_a_clinic_without_alert_templates_hears_too(staffed: Clinic) -> None:
    """With a folder of templates from before there were any, alerts go out in plain words."""
    for path in (staffed.settings.templates / "alerts").rglob("*.*"):
        path.unlink()
    staffed.configure(staff='\n[staff.desk]\nsms = ["+447700900101"]\n')
    open_case(staffed)
    (case,) = open_cases(staffed.db)
    jobs = staffed.jobs
    (claim,) = jobs.claim("sms", 10)
    jobs.deliver(claim)
    (text,) = staffed.twilio.accepted
    link = f"https://relay.example/case/{case['id']}"
    assert text.form["Body"] == f"Relay: Something needs a person (held). {link}"


def test_an_alert_of_the_release_before_goes_out_as_it_is(staffed: Clinic) -> None:
    """It has its words ready, and names no case: those words go out, and go out once."""
    ready = {"subject": "An event is held", "text": "About o-1.", "html": "<p>About o-1.</p>"}
    alert = open_case(staffed)
    change(staffed.db, notifications, {"id": alert["id"]}, case_id=None, content=ready)
    assert sent(staffed) == ("An event is held", "About o-1.", "<p>About o-1.</p>")
    staffed.work()
    assert staffed.told() == [("held", DESK, "sent")]


def test_an_alert_can_be_sent_by_the_release_before(staffed: Clinic) -> None:
    """During a deploy an older worker may claim it, which sends the words that lie ready."""
    alert = open_case(staffed)
    assert set(alert["content"]) == {"subject", "text", "html"}
    assert OPENED["held"][1] in alert["content"]["text"]
    assert "https://relay.example/worklist" in alert["content"]["text"]


def test_a_closed_case_is_still_told(staffed: Clinic) -> None:
    """Closed before its alert goes out, it is found by the link all the same."""
    open_case(staffed)
    (case,) = open_cases(staffed.db)
    assert close_case(staffed.db, case["id"], "admin", "Done.")
    assert case["id"] in sent(staffed)[1]


def test_every_kind_has_an_example_here() -> None:
    """A new kind of case is shown in tests/expected too; nothing stands there that is no kind."""
    assert {*OPENED} == {*KINDS} == {path.name for path in EXPECTED.iterdir()}
    words = {path.stem for path in (ROOT / "templates" / "alerts" / "words").iterdir()}
    assert words == {*KINDS}


def test_nothing_of_a_person_can_be_named() -> None:
    """An alert's template knows the case and the clinic, and no patient."""
    shown = json.dumps([written(kind, way).content for kind in KINDS for way in ALERT_CHANNELS])
    person = samples.full().customer or {}
    for field in ("first_name", "last_name", "email", "phone_number"):
        assert str(person[field]) not in shown
