"""Letters: what a person writes once to all who had a rule's message on a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.ledger.schema import audit, letters
from relay.staff import letters as letters_of
from tests.conftest import one_database
from tests.desk import press
from tests.jobs.conftest import PERSON, PHONE, RULES, Clinic, suppress
from tests.rows import rows
from tests.test_desk import log_in

TODAY = f"{datetime.now(UTC):%F}"
WORDS = "Our text of today had a wrong link. We are sorry: use https://portal.example instead."
KIT = {"rule": "kit", "day": TODAY}


@pytest.fixture
def desk(clinic: Clinic, make_client: Callable[[Settings], Any]) -> Any:
    """A desk beside four people's texts and emails: two have one phone, one has stopped texts."""
    clinic.configure(RULES.replace('["sms"]\nfallback = ["email"]', '["sms", "email"]'))
    clinic.orders(2)
    for number, phone in ((7, "+447700900101"), (8, PHONE)):
        customer = {**PERSON, "phone_number": phone}
        clinic.lab.change("order", f"o-{number}", tracking_number="RM1", customer=customer)
        clinic.post(order_id=f"o-{number}")
    clinic.work()
    suppress(clinic.db, "sms", PHONE)
    client = make_client(replace(clinic.settings, templates=clinic.settings.templates))
    del client.environ_base["HTTP_AUTHORIZATION"]
    log_in(client)
    return client


def written(desk: Any, words: str = WORDS, **more: str) -> str:
    """The page after a letter was written."""
    answer = press(desk, "/letters", act="write", words=words, **KIT, **more)
    return unescape(desk.get(answer.location).text if answer.status_code == 302 else answer.text)


def seen_to(desk: Any, clinic: Clinic, act: str) -> str:
    """The page after an act on the letter that waits."""
    letter = rows(clinic.db, letters)[-1]["id"]
    answer = press(desk, "/letters", act=act, letter=letter)
    return unescape(desk.get(answer.location).text if answer.status_code == 302 else answer.text)


def test_a_letter_goes_to_each_once(desk: Any, clinic: Clinic) -> None:
    """Whoever had the message gets it once, though by two ways, for two kits or with another's
    phone; who has stopped texts, by email. It is on the kit's record, and on the trail who did it.
    """
    page = desk.get(f"/letters?rule=kit&day={TODAY}").text
    assert "<strong>3 people</strong>: 2 texts and 1 email." in page
    assert letters_of.NO_SUBJECT in written(desk)
    assert "goes to 2 texts and 1 email" in written(desk, subject="Sorry")
    before = len(clinic.twilio.accepted)
    clinic.work()
    assert len(clinic.twilio.accepted) == before
    assert "On its way to 3 people" in seen_to(desk, clinic, "send")
    clinic.work()
    sent = [one.form for one in clinic.twilio.accepted[before:]]
    assert {(one["To"], one["Body"]) for one in sent} == {
        ("+447700900100", WORDS),
        ("+447700900101", WORDS),
    }
    assert len(sent) == 2
    assert clinic.sendgrid.accepted[-1].json["subject"] == "Sorry"
    assert (
        press(desk, "/letters", act="send", letter=rows(clinic.db, letters)[0]["id"]).status_code
        == 404
    )
    message = clinic.messages(rule="relay:letter")[0]
    page = unescape(desk.get(f"/journey?kit={message['subject']}").text)
    assert "letter to many" in page
    acts = [row["action"] for row in rows(clinic.db, audit) if row["action"].startswith("letter")]
    assert acts == ["letter write", "letter send"]


@one_database
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("Your HIV test is done.", 'It says "HIV"'),
        ("Dear {{ patient.first_name }}", "no name is filled in"),
        (" ", "Write the answer first."),
    ],
)
def test_what_nobody_may_read_is_not_kept(desk: Any, clinic: Clinic, words: str, why: str) -> None:
    """No test, no result, no name to be filled in; what was written stays in the form."""
    page = written(desk, words, subject="Sorry")
    assert why in page
    assert words in page
    assert rows(clinic.db, letters) == []


@one_database
def test_a_letter_is_taken_back_or_sent_by_another(desk: Any, clinic: Clinic) -> None:
    """Before it is sent it can be thrown away; where the clinic wants two people, who has written
    it does not send it.
    """
    written(desk, subject="Sorry")
    assert "Nobody gets it" in seen_to(desk, clinic, "drop")
    text = clinic.settings.config.read_text("utf-8")
    clinic.settings.config.write_text(f"{text}[desk]\nsecond_person = true\n", "utf-8")
    desk.application.extensions["relay"].reloader.look()
    assert "Somebody else sends it" in written(desk, subject="Sorry")
    assert "you have written it" in seen_to(desk, clinic, "send")
    clinic.work(timedelta(hours=1))
    assert clinic.messages(rule="relay:letter") == []
