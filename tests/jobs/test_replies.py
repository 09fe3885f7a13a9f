"""Texts from people: each that is no keyword is a case, and can be answered, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from twilio.request_validator import RequestValidator

from relay.channels import Channels
from relay.config.settings import Settings
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.removal import retention
from relay.ledger.schema import audit, cases, events, inbound_texts, suppressions
from relay.staff import case_acts
from relay.web.callbacks import SIGNATURE
from tests.conftest import one_database
from tests.desk import press
from tests.dump import dump, found
from tests.jobs.conftest import DESK, EMAIL, HEAD, KIT, ORDER, PHONE, RULES, STAFF, Clinic
from tests.jobs.test_forgetting import erase
from tests.rows import close_case, open_cases, rows, suppress, time_passes
from tests.rows import only as only_row
from tests.test_desk import log_in

INBOUND = "/callbacks/twilio/inbound"
WORDS = "Where is my kit? Jane from number 12"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MAIL = {"subject.txt": "Ready", "email.txt": "Ready", "email.html": "<p>Ready</p>"}
BY_EMAIL = """
[rules.by-email]
event = "lab_results.complete"
to = "patient"
channels = ["email"]
template = "results"
[rules.desk]
event = "lab_results.complete"
to = "desk"
channels = ["email"]
template = "results"
"""


class Patient:
    """Somebody with a phone, whom the clinic has texted about a kit."""

    def __init__(self, clinic: Clinic, web: Any):
        self.clinic, self.web, self.texts = clinic, web, 0
        self.db = clinic.db

    def text(self, words: str, number: str = PHONE, **more: str) -> str:
        """They text the clinic; what they are answered at once, or empty."""
        self.texts += 1
        form = {"MessageSid": f"SM-in-{self.texts}", "From": number, "Body": words, **more}
        signature = RequestValidator("twilio-token").compute_signature(
            f"http://localhost{INBOUND}", form
        )
        answer = self.web.post(INBOUND, data=form, headers={SIGNATURE: signature})
        assert (answer.status_code, answer.mimetype) == (200, "text/xml")
        begins, _, rest = str(answer.text).partition("<Message>")
        assert begins == ("<Response>" if rest else "<Response/>")
        return rest.removesuffix("</Message></Response>")

    def stops(self) -> list[str]:
        """Why the clinic sends nothing more to the number."""
        return [row["source"] for row in rows(self.db, suppressions, address=PHONE)]


@pytest.fixture
def patient(clinic: Clinic, make_client: Callable[[Settings], Any]) -> Patient:
    """A customer whose kit was shipped, and who was told so by a text."""
    clinic.configure(staff=STAFF)
    for name, text in MAIL.items():
        (clinic.settings.templates / "results" / name).write_text(text, "utf-8")
    clinic.post()
    clinic.work()
    assert len(clinic.twilio.accepted) == 1
    return Patient(clinic, make_client(clinic.settings))


def deleted(patient: Patient) -> list[str]:
    """The ids of the texts that Twilio was asked to delete."""
    asked = [one.path for one in patient.clinic.twilio.requests if one.method == "DELETE"]
    return [path.rpartition("/")[2].removesuffix(".json") for path in asked]


def the_case(patient: Patient) -> dict[str, Any]:
    """The one open case."""
    (case,) = open_cases(patient.db)
    return dict(case)


def test_a_text_is_a_case_about_the_kit(patient: Patient) -> None:
    """About the kit of the newest message to that number; staff are told, in no words of the
    person's: these stand in the one row that is kept for them.
    """
    assert patient.text(WORDS) == ""
    case = the_case(patient)
    assert (case["kind"], case["subject"], case["count"]) == ("reply", ORDER, 1)
    assert case["event_id"] == only_row(patient.db, events)["id"]
    patient.clinic.work()
    assert patient.clinic.told() == [("reply", DESK, "sent")]
    said = str([request.json for request in patient.clinic.sendgrid.accepted])
    assert ORDER in said
    for secret in (PHONE, "Jane", "number 12", "Where is"):
        assert secret not in said
    everything = dump(patient.db, frozenset({"inbound_texts"}))
    assert found(everything, "number 12", "Where is") == []
    kept = only_row(patient.db, inbound_texts)
    assert (kept["words"], kept["address"], kept["case_id"]) == (WORDS, PHONE, case["id"])


@one_database
def test_a_stop_from_another_country_counts_where_that_is_texted(
    clinic: Clinic, make_client: Callable[[Settings], Any]
) -> None:
    """Whoever may be texted may say that they want no more."""
    clinic.configure(head=HEAD + 'sms_countries = ["GB", "IE"]\n')
    web = Patient(clinic, make_client(clinic.settings))
    for number in ("+353851234567", "+33612345678"):
        web.text("STOP", number)
    assert [row["address"] for row in rows(clinic.db, suppressions)] == ["+353851234567"]


def test_a_text_that_twilio_posts_again_is_no_second_case(patient: Patient) -> None:
    """Twilio asks again where it has got no answer: the case is there already, closed or open."""
    for _ in range(3):
        patient.text(WORDS, MessageSid="SM-1")
    close_case(patient.db, the_case(patient)["id"], "admin")
    patient.text(WORDS, MessageSid="SM-1")
    assert open_cases(patient.db) == []
    for _ in range(2):  # one without an id may be another
        patient.text(WORDS, MessageSid="")
    assert len(open_cases(patient.db)) == 2


@pytest.mark.parametrize("number", ["+447700900555", "+15005550006", "+442079460000", "EE"])
def test_a_text_about_no_kit_is_a_case_all_the_same(patient: Patient, number: str) -> None:
    """From a number that Relay has never written to, or could not: the case is in no kit's page."""
    patient.text("please stop texting me, I am unwell", number)
    case = the_case(patient)
    assert (case["kind"], case["subject"], case["is_urgent"]) == ("reply", "no kit", True)
    assert case["event_id"] != only_row(patient.db, events, name="order.shipped")["id"]
    patient.clinic.work()
    (mail,) = patient.clinic.sendgrid.accepted
    assert "no kit that Relay knows" in str(mail.json)
    can_be_texted = number == "+447700900555"
    assert len(rows(patient.db, suppressions)) == can_be_texted


def test_what_a_number_had_last_is_meant(patient: Patient) -> None:
    """Of two kits, the one about which the last text went out; that there is another name at the
    number is said.
    """
    patient.clinic.lab.change("test_registration", KIT, first_name="Tom")
    patient.clinic.results()
    patient.clinic.work()
    patient.text("ok")
    case = the_case(patient)
    assert case["subject"] == KIT
    assert "2 people" in case["reason"]
    assert "Tom" not in case["reason"]


def test_pictures_and_empty_texts_are_cases(patient: Patient) -> None:
    """Whatever a person sends, somebody looks at it."""
    patient.text("", NumMedia="2")
    assert "no words" in the_case(patient)["reason"]
    assert "picture" in the_case(patient)["reason"]


@pytest.mark.parametrize("body", ["STOP", "start", "Help", "STOPALL", "Unsubscribe"])
def test_a_keyword_is_no_case(patient: Patient, body: str) -> None:
    """Twilio has answered it, so we do not."""
    assert patient.text(body) == ""
    assert open_cases(patient.db) == []


def test_yes_is_an_answer_unless_it_is_a_start(patient: Patient) -> None:
    """To somebody whom nothing stops YES is no START, whatever Twilio makes of it."""
    patient.text("STOP")
    patient.text("Yes", MessageSid="SM-yes")
    assert (patient.stops(), open_cases(patient.db)) == ([], [])
    patient.text("Yes", MessageSid="SM-yes")
    assert open_cases(patient.db) == []
    patient.text("Yes.")
    assert the_case(patient)["kind"] == "reply"


def test_a_stop_in_plain_words_stops_and_is_confirmed_once(patient: Patient) -> None:
    """Twilio does not hear it, so Relay does: nothing more goes to the number, the person is told
    so, once, and a person may see that it was read rightly. START takes it back.
    """
    said = patient.text("Please stop texting me!", MessageSid="SM-1")
    assert said.startswith("Example Clinic: you will get no more texts from us.")
    assert patient.stops() == ["STOP (in their own words)"]
    assert "Relay has stopped them" in the_case(patient)["reason"]
    assert patient.text("Please stop texting me!", MessageSid="SM-1") == ""
    assert patient.text("I said stop") == ""
    patient.clinic.results()
    patient.clinic.work()
    (text,) = patient.clinic.messages(rule="results")
    assert (text["status"], text["reason"]) == (
        "cancelled",
        "The person has opted out of texts.",
    )
    patient.text("START")
    assert patient.stops() == []


@pytest.mark.parametrize("body", ["STOP STOP", "opt out", "Arrêt"])
def test_what_twilio_does_not_take_for_stop_is_confirmed(patient: Patient, body: str) -> None:
    """It is a keyword to us, and no case; Twilio hears one bare word only."""
    assert patient.text(body, OptOutType="STOP") == ""
    patient.text("START")
    assert "no more texts" in patient.text(body)
    assert (patient.stops(), open_cases(patient.db)) == (["STOP"], [])


@one_database
@pytest.mark.parametrize(("delivery", "allow"), [("dry-run", ""), ("allow-list", "someone@x.org")])
def test_nothing_is_confirmed_where_nothing_goes_out(
    patient: Patient, make_client: Callable[[Settings], Any], delivery: str, allow: str
) -> None:
    """In dry-run, and off the allow list, a STOP is kept, and nobody is texted."""
    patient.clinic.configure(head=HEAD + f'allow = ["{allow or EMAIL}"]\n', staff=STAFF)
    patient.web = make_client(replace(patient.clinic.settings, delivery=delivery))
    assert patient.text("please stop") == ""
    assert len(patient.stops()) == 1


def test_who_sounds_unwell_comes_first_and_at_once(patient: Patient) -> None:
    """Before all else on the worklist, and with an alert of its own, though one of the kind has
    just gone out.
    """
    patient.text(WORDS)
    patient.text("ok thanks")
    patient.clinic.work()
    patient.text("where is it?")
    assert [status for *_, status in patient.clinic.told()] == ["sent", "scheduled"]
    patient.text("I feel very unwell, please call me")
    first, *_ = open_cases(patient.db)
    assert first["is_urgent"]
    assert "unwell" in first["reason"]
    patient.clinic.work()
    told = patient.clinic.told()
    assert [status for *_, status in told] == ["sent", "scheduled", "sent"]


def test_a_wrong_number_stops_it_and_holds_the_kit(patient: Patient) -> None:
    """It may be another's altogether: no text goes to it, and what is about the kit waits, by email
    too, until a person has closed the case. Staff's messages go.
    """
    patient.clinic.configure(RULES + BY_EMAIL, staff=STAFF)
    patient.clinic.results()
    patient.clinic.work()
    patient.text("WRONG NUMBER, I am not Jane")
    assert patient.stops() == ["wrong number"]
    case = the_case(patient)
    assert (case["subject"], case["holds"]) == (KIT, True)
    patient.clinic.work(DAY)
    before = len(patient.clinic.sendgrid.accepted)
    patient.clinic.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id="r-2"
    )
    patient.clinic.configure(
        RULES + BY_EMAIL.replace("lab_results.complete", "test_registration.retest"), staff=STAFF
    )
    patient.clinic.work()
    by_email = patient.clinic.messages(rule="by-email", status="scheduled")
    assert [row["waits_for"] for row in by_email] == ["person"]
    assert "wrong" in by_email[0]["reason"]
    assert len(patient.clinic.sendgrid.accepted) == before + 1  # staff's
    close_case(patient.db, case["id"], "admin")
    patient.clinic.work()
    assert patient.clinic.messages(rule="by-email", status="scheduled") == []


def test_another_kit_does_not_wait(patient: Patient) -> None:
    """Who writes that a number is wrong says so of the one kit."""
    patient.text("wrong number")
    assert the_case(patient)["holds"]
    patient.clinic.lab.change(
        "order",
        "o-2",
        tracking_number="RM2",
        customer={"email": None, "phone_number": "07700900777"},
    )
    patient.clinic.post(order_id="o-2")
    patient.clinic.work()
    assert [row["status"] for row in patient.clinic.messages(subject="o-2")] == ["sent"]


# On the desk.


@pytest.fixture
def inside(patient: Patient) -> Any:
    """A browser that is logged in, and a text on the worklist."""
    patient.text(WORDS)
    log_in(patient.web)
    return patient.web


def test_the_words_are_shown_on_record_only(inside: Any, patient: Patient) -> None:
    """Masked on every page until somebody presses, and that is in the audit trail."""
    case = the_case(patient)
    for page in ("/", "/worklist", f"/case/{case['id']}", f"/journey?kit={ORDER}"):
        shown = inside.get(page).text
        assert [one for one in ("number 12", "Where is", PHONE) if one in shown] == [], page
    page = press(inside, f"/case/{case['id']}").text
    assert WORDS in page
    assert PHONE in page
    (look,) = rows(patient.db, audit, action="reveal")
    assert (look["target"], look["actor"]) == (case["id"], "admin")
    assert "number 12" not in inside.get(f"/case/{case['id']}").text


def answer(inside: Any, case_id: str, words: str, act: str = "send", **form: str) -> str:
    """The page after an answer was written and a button pressed."""
    answered = press(inside, f"/case/{case_id}/answer", words=words, act=act, **form)
    if answered.status_code == 302:
        answered = inside.get(answered.location)
    assert answered.status_code == 200
    return str(answered.text)


def test_an_answer_goes_out_once(inside: Any, patient: Patient) -> None:
    """A text of its own, to the number that had written, in staff's words; the case is closed."""
    case = the_case(patient)
    for _ in range(2):
        page = answer(inside, case["id"], "Example Clinic: it is in the post.")
    assert "already closed" in page
    patient.clinic.work()
    *_, sent = patient.clinic.twilio.accepted
    assert (sent.form["To"], sent.form["Body"]) == (PHONE, "Example Clinic: it is in the post.")
    assert len(patient.clinic.twilio.accepted) == 2
    (made,) = patient.clinic.messages(kind="answer")
    assert (made["status"], made["role"], made["subject"]) == ("sent", "customer", ORDER)
    assert only_row(patient.db, cases)["note"] == f"Answered by {made['id']}."
    (act,) = rows(patient.db, audit, action="case send")
    assert (act["actor"], act["target"]) == ("admin", case["id"])
    page = inside.get(f"/journey?kit={ORDER}").text
    assert "answer to a text" in page
    assert "in the post" not in page


def test_an_answer_is_looked_at_first(inside: Any, patient: Patient) -> None:
    """Its segments are counted, and what a locked screen should not show is said: it is sent once
    somebody has seen that and is sure. What they have had shown stays on the page.
    """
    case = the_case(patient)
    page = press(inside, f"/case/{case['id']}").text
    permit = page.partition('name="permit" value="')[2].partition('"')[0]
    page = answer(inside, case["id"], "Your HIV kit, Jane Smith", permit=permit)
    for told in ("1 segment:", "says &#34;HIV&#34;", "a full name", WORDS):
        assert told in page
    assert "number 12" not in answer(inside, case["id"], "It is in the post.", act="check")
    patient.clinic.work()
    assert patient.clinic.messages(kind="answer") == []
    answer(inside, case["id"], "Your HIV kit", sure="on")
    assert len(patient.clinic.messages(kind="answer")) == 1


def test_an_answer_keeps_to_the_window_unless_it_goes_at_once(
    patient: Patient, make_client: Callable[[Settings], Any]
) -> None:
    """Nobody is woken by it, but for whoever has to be."""
    here = datetime.now(ZoneInfo("Europe/London"))
    opens = (here.hour + 3) % 22
    window = f'send_window = "{opens:02}:00-{opens + 1:02}:00"'
    patient.clinic.configure(head=HEAD.replace('send_window = "always"', window), staff=STAFF)
    inside = patient.web = make_client(patient.clinic.settings)
    log_in(inside)
    for _ in range(2):
        patient.text("ok")
    first, second = (case["id"] for case in open_cases(patient.db))
    assert "it goes out when the send window opens" in answer(inside, first, "Hello", act="check")
    answer(inside, first, "In the morning")
    answer(inside, second, "Now", at_once="on")
    patient.clinic.work()
    stands = {
        row["content"]["text"]: row["status"] for row in patient.clinic.messages(kind="answer")
    }
    assert stands == {"In the morning": "scheduled", "Now": "sent"}


def test_no_answer_overrides_a_stop(inside: Any, patient: Patient) -> None:
    """Not before it is sent, and not while it waits: a person has to ring."""
    case = the_case(patient)
    patient.text("ok")
    other = open_cases(patient.db)[1]["id"]
    answer(inside, other, "We will see.")
    patient.text("STOP")
    assert (
        "You cannot answer it by text. The person has opted out"
        in inside.get(f"/case/{case['id']}").text
    )
    assert "opted out" in answer(inside, case["id"], "But please")
    patient.clinic.work()
    (made,) = patient.clinic.messages(kind="answer")
    assert made["status"] == "cancelled"
    assert len(patient.clinic.twilio.accepted) == 1
    patient.clinic.work()
    assert "unreached" in patient.clinic.worklist()


def test_an_answer_that_fails_is_a_case(inside: Any, patient: Patient) -> None:
    """Staff hear of it, and can try it again."""
    answer(inside, the_case(patient)["id"], "It is in the post.")
    patient.clinic.work()
    patient.clinic.tell("permanent-failure", "30005", kind="answer")
    patient.clinic.work()
    assert patient.clinic.worklist() == ["unreached"]
    with patient.db.write() as connection:
        case_acts.see_to(connection, None, the_case(patient), "resend", by="admin", note="")
    patient.clinic.work()
    assert len(patient.clinic.twilio.accepted) == 3


# And how it goes.


def test_a_text_is_kept_as_long_as_a_message(patient: Patient) -> None:
    """After `retention` neither its words nor its number are there, nor at Twilio; its case says
    what it was.
    """
    patient.text(WORDS, MessageSid="SM-1")
    patient.clinic.work()
    time_passes(patient.db, timedelta(days=91))
    retention.purge(patient.db, timedelta(days=90))
    assert only_row(patient.db, inbound_texts)["words"] == ""
    patient.clinic.work()
    assert "SM-1" in deleted(patient)
    retention.purge(patient.db, timedelta(days=90))
    assert rows(patient.db, inbound_texts) == []
    assert found(dump(patient.db), "number 12", PHONE) == []
    assert the_case(patient)["kind"] == "reply"
    log_in(patient.web)
    page = patient.web.get(f"/case/{the_case(patient)['id']}").text
    assert "no longer knows who wrote it" in page


@pytest.mark.parametrize("asked", [PHONE, EMAIL])
def test_a_text_is_erased_with_its_person(inside: Any, patient: Patient, asked: str) -> None:
    """By their number or by any other address of theirs: the text, and the answer to it."""
    answer(inside, the_case(patient)["id"], "Dear Jane, it is in the post.", sure="on")
    patient.text("Thank you, says my wife", MessageSid="SM-1")
    channels = Channels(patient.clinic.settings, {}, frozenset())
    erase(patient.db, channels, asked)
    assert found(dump(patient.db), "number 12", "my wife", "Dear Jane", PHONE) == []
    assert "SM-1" in deleted(patient)
    assert open_cases(patient.db) == []


def test_a_text_that_names_somebody_is_erased_with_them(patient: Patient) -> None:
    """Whoever has written it."""
    patient.text("Jane Smith is not at home", "+447700900555")
    erase(patient.db, Channels(patient.clinic.settings, {}, frozenset()), PHONE)
    assert found(dump(patient.db), "Jane", "at home") == []


def test_staff_can_stop_who_was_heard_wrongly(patient: Patient) -> None:
    """What was stopped by staff stays so, whatever a text says."""
    suppress(patient.db, "sms", PHONE, ledger_suppressions.STAFF)
    assert patient.text("please stop") == ""
    assert patient.stops() == ["staff"]


def test_the_log_says_what_it_was_and_no_word_of_it(
    patient: Patient, make_client: Callable[[Settings], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line: the reading, and the case."""
    patient.web = make_client(replace(patient.clinic.settings, log_level="DEBUG"))
    patient.text("I have chest pain, Jane")
    said = capsys.readouterr().out
    (line,) = [one for one in map(json.loads, said.splitlines()) if one["event"] == "text came in"]
    assert (line["word"], line["case"]) == ("unwell", the_case(patient)["id"])
    assert [one for one in ("chest", "Jane", PHONE) if one in said] == []
