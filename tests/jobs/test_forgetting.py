"""One person is erased, everywhere; the others' messages still go out."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.channels import Channels
from relay.config.settings import Settings
from relay.errors import Refused
from relay.jobs import erase as jobs_erase
from relay.lab.facts import Facts
from relay.ledger import attempts as ledger_attempts
from relay.ledger import audit
from relay.ledger import events as ledger_events
from relay.ledger.attempts import Claim
from relay.ledger.database import Database, now
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures
from relay.ledger.schema import (
    attempts,
    editions,
    events,
    journeys,
    notifications,
    quarantine,
)
from relay.ledger.schema import audit as audit_table
from relay.ledger.schema import cases as cases_table
from relay.ledger.worklist import cases
from relay.rules import addresses
from relay.rules.channels import channel_of
from relay.rules.model import Ending, Plan
from tests.conftest import drain
from tests.dump import dump, found
from tests.jobs.conftest import HEAD, RULES, STAFF, Clinic
from tests.rows import (
    MONTH,
    POLICY,
    case,
    change,
    close_case,
    empty,
    incoming,
    keep_refused,
    leased,
    notice,
    only,
    open_cases,
    replay_event,
    rows,
    suppress,
    time_passes,
)
from tests.standins import Reply, twilio_error

PHONE, EMAIL = "+447700900123", "canary.bird@example.com"
CANARY = {"first_name": "Canarina", "last_name": "Kanarek", "email": EMAIL}
CANARIES = ("Canarina", "Kanarek", "canary.bird", "7700900123")
TOM = {"first_name": "Tom", "last_name": "Jones", "email": "tom@example.com"}
JANE = {"first_name": "Jane", "last_name": "Doe", "email": "jane@example.org"}
MORE = """
[rules.reminder]
event = "order.shipped"
to = "customer"
channels = ["email"]
template = "kit"
after = "10d"
even_if_late = true
[rules.later]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
after = "10d"
[rules.desk]
event = "lab_results.complete"
to = "desk"
channels = ["email"]
template = "desk"
after = "9d"
"""
DESK = {
    "subject.txt": "A kit",
    "email.txt": "{{ patient.last_name or 'x' }}",
    "email.html": "<p>{{ patient.first_name or 'x' }}</p>",
}


@pytest.fixture
def town(clinic: Clinic) -> Clinic:
    """A clinic with the canary, who ordered for herself and for Tom; and with Jane.

    Everybody was told something, and will be told more in ten days.
    """
    clinic.configure(RULES + MORE, HEAD, STAFF)
    for name, text in DESK.items():
        path = clinic.settings.templates / "desk" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    hers = {**CANARY, "phone_number": "07700 900 123", "id": "c-1"}
    kits = [{"id": "kit-canary"}, {"id": "kit-tom"}]
    clinic.lab.change(
        "order",
        "o-1",
        id="o-1",
        tracking_number="R1",
        customer=hers,
        address={"name": "Canarina Kanarek"},
        test_registrations=kits,
    )
    clinic.lab.change("customer", "c-1", **hers)
    jane = {**JANE, "phone_number": "07700900002"}
    clinic.lab.change("order", "o-2", id="o-2", tracking_number="R2", customer=jane)
    for id_, person, phone in (("kit-canary", CANARY, PHONE), ("kit-tom", TOM, "07700900003")):
        clinic.lab.change(
            "test_registration",
            id_,
            id=id_,
            trf_code=f"T-{id_}",
            parent_id=None,
            foreign_id=person["email"],
            mobile_phone_number=phone,
            **person,
        )
    for order in ("o-1", "o-2"):
        clinic.post(order_id=order)
    clinic.work()
    for kit in ("kit-canary", "kit-tom"):
        clinic.results(kit)
    clinic.work()
    return clinic


def forget(clinic: Clinic, address: str = PHONE) -> Mapping[str, Any]:
    """Erase whoever goes by an address; what it came to."""
    return erase(clinic.db, clinic.jobs.channels, address)


def erase(db: Database, channels: Channels, address: str) -> Mapping[str, Any]:
    """The same of any ledger."""
    channel = channel_of(address)
    id_ = erasures.ask(db, channel, address, target=channel, actor="cli", note="").id
    asked = erasures.take(db, id_)
    assert asked
    jobs_erase.forget(db, channels, POLICY, asked)
    with db.read() as connection:
        found_ = erasures.find(connection, id_)
    assert found_
    return dict(found_["outcome"])


def deleted(town: Clinic) -> list[str]:
    """The texts that Twilio was asked to delete, by their addresses."""
    return [request.path for request in town.twilio.requests if request.method == "DELETE"]


def scatter(db: Database) -> None:
    """Put the canary where people and the lab may put her besides."""
    for body in (
        b"Canarina Kanarek wrote",
        b'{"tel": "+44 7700 900123"}',
        b"\xff canary.bird@example.com",
        '{"name": "Canarina Kanarek"}'.encode("utf-16"),
        '{"name": "Canarina Kanarek"}'.encode("utf-16-be"),
        '{"tel": "07700 900123"}'.encode("utf-32"),
        gzip.compress(b'{"email": "canary.bird@example.com"}'),
        zlib.compress(b'{"name": "Canarina Kanarek"}')[2:-4],
    ):
        keep_refused(db, body, Refused(400, "Not JSON."))
    keep_refused(db, b"{", Refused(400, "Not JSON."))
    ledger_events.record_webhook(db, incoming("Canarina.Kanarek", tel="07700-900123"), MONTH)
    event_id = rows(db, events)[0]["id"]
    with db.write() as connection:
        cases.open_case(connection, case("held", "k-9", event_id))
    opened = next(row for row in open_cases(db) if row["kind"] == "held")
    close_case(db, opened["id"], "admin", "Rang Ms Kanarek, Canarina, on 07700 900123.")
    with db.write() as connection:
        audit.write_audit(connection, "admin", "note", EMAIL, f"wrote to {EMAIL}")
        audit.write_audit(connection, "admin", "resend", "msg_1", "Mrs Kanarek's phone was off.")
    change(db, notifications, {"id": rows(db, notifications)[0]["id"]}, reason=f"To {EMAIL}.")
    change(db, attempts, {}, detail=f"{PHONE} is wrong.")
    change(db, journeys, {"subject": "kit-tom"}, original_subject=EMAIL)


@pytest.mark.parametrize("address", [PHONE, EMAIL])
def test_nothing_of_her_is_left(town: Clinic, address: str) -> None:
    """By her number or her email: no row of any table has her, and that is what is reported."""
    scatter(town.db)
    assert len(found(dump(town.db), *CANARIES)) > 15
    assert len(rows(town.db, quarantine)) == 9
    done = forget(town, address)
    assert found(dump(town.db), *CANARIES) == []
    assert (done["left"], done["refused"]) == ({}, [])
    assert done["counts"]["messages that wait"] == 2
    assert len(rows(town.db, quarantine)) == 1
    assert forget(town, address) == {"counts": {}, "left": {}, "refused": []}


def test_an_edition_is_the_clinics_own(town: Clinic) -> None:
    """config.toml may have the same number, as the clinic's own: no erasure reads or mends that."""
    edition = {"number": 1, "digest": "d", "author": "admin", "note": "", "source": "files"}
    edition |= {"made_at": now(), "content": f'phone = "{PHONE}"'.encode()}
    with town.db.write() as connection:
        connection.execute(editions.insert().values(**edition))
    assert forget(town, PHONE)["left"] == {}
    assert only(town.db, editions)["content"] == edition["content"]


def test_a_surname_that_others_have_is_not_hers_alone(town: Clinic) -> None:
    """A note with a surname alone is hers where nobody else has it, or where it is about her kit; a
    word that is no name stays.
    """
    told = {"first_name": "Tom", "last_name": "Kanarek"}
    event = leased(town.db, order_id="o-9")
    with town.db.write() as connection:
        facts = Facts(order={"id": "o-9"}, customer=told)
        ledger_events.plan_and_mark_processed(connection, event, facts, lambda _kit: Plan(()))
        hers = rows(town.db, events)[0]["id"]
        cases.open_case(connection, case("held", "k-1", hers))
        audit.write_audit(connection, "admin", "resend", "msg_1", "Rang Mr Kanarek.")
        audit.write_audit(connection, "admin", "resend", "msg_2", "It is no kanarek.")
    close_case(town.db, open_cases(town.db)[0]["id"], "admin", "Rang Kanarek.")
    forget(town)
    assert only(town.db, audit_table, target="msg_1")["detail"] == "Rang Mr Kanarek."
    assert only(town.db, audit_table, target="msg_2")["detail"] == "It is no kanarek."
    assert [row["note"] for row in rows(town.db, cases_table)] == ["Erased."]


def test_the_others_are_told_all_the_same(town: Clinic) -> None:
    """Her messages that wait are cancelled for good; Jane's, Tom's and the desk's still go out,
    though the canary ordered Tom's kit.
    """
    forget(town)
    before, texts = len(town.messages(status="sent")), len(town.twilio.accepted)
    town.work(timedelta(days=10, minutes=1))
    sent = town.messages(status="sent")
    told = sorted((row["rule"], row["address"]) for row in sent if row["address"])
    assert ("later", "+447700900003") in told
    assert ("reminder", "jane@example.org") in told
    assert len(sent) == before + 4  # and two to the desk
    hers = [row for row in town.messages() if row["address"] == "" and row["status"] == "cancelled"]
    assert {row["rule"] for row in hers} == {"reminder", "later"}
    assert {row["reason"] for row in hers} == {"The person's data was erased."}
    assert PHONE not in {request.form["To"] for request in town.twilio.accepted[texts:]}


def test_counts_and_reasons_stay(town: Clinic) -> None:
    """What happened to how many can still be counted, and nothing is sent twice."""
    before = [(row["id"], row["rule"], row["attempts"]) for row in town.messages()]
    sent = len(town.twilio.accepted)
    forget(town)
    assert [(row["id"], row["rule"], row["attempts"]) for row in town.messages()] == before
    for row in rows(town.db, events):
        replay_event(town.db, row["id"])
    town.work()
    assert len(town.twilio.accepted) == sent


def test_an_opt_out_outlives_its_person(town: Clinic) -> None:
    """Its address is the one thing that stays, or she would be texted again."""
    suppress(town.db, "sms", PHONE, "STOP")
    done = forget(town)
    assert (done["left"], done["refused"]) == ({}, [])
    assert found(dump(town.db, but=frozenset({"suppressions"})), *CANARIES) == []
    with town.db.read() as connection:
        assert suppressions.suppressed(connection, PHONE)[0]["source"] == "STOP"


def claimed(town: Clinic) -> Claim:
    """One more text to her, which a worker has claimed."""
    jobs = town.jobs
    town.lab.change(
        "order", "o-3", id="o-3", tracking_number="R3", customer={**CANARY, "phone_number": PHONE}
    )
    town.post(order_id="o-3")
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    (claim,) = jobs.claim("sms", 1)
    return claim


def test_what_is_in_flight_is_not_sent_after_it(town: Clinic) -> None:
    """A text that a worker has claimed does not go out, and its attempt is looked for no more."""
    claim = claimed(town)
    sent = len(town.twilio.accepted)
    forget(town)
    town.jobs.deliver(claim)
    assert len(town.twilio.accepted) == sent
    assert found(dump(town.db), *CANARIES) == []
    assert "may have arrived" in only(town.db, notifications, id=claim.id)["reason"]


def test_what_was_handed_over_meanwhile_is_deleted_at_twilio_later(town: Clinic) -> None:
    """Twilio's id of it comes after the erasure, and then it goes as the others."""
    claim = claimed(town)
    assert ledger_attempts.begin(town.db, claim, {"text": "Hello Canarina."})
    forget(town)
    ledger_attempts.finish(town.db, claim, Ending("accepted", "sent", provider_id="SM99"))
    before = len(deleted(town))
    time_passes(town.db, timedelta(minutes=61))
    drain(town.jobs)
    assert [path.rpartition("/")[2] for path in deleted(town)[before:]] == ["SM99.json"]


def test_the_providers_erase_their_part(town: Clinic) -> None:
    """Twilio deletes each of her texts, SendGrid all of her address; nobody else's."""
    town.work(timedelta(days=10, minutes=1))
    forget(town)
    assert len(deleted(town)) == 3
    (job,) = [r for r in town.sendgrid.requests if r.path == "/v3/recipients/erasejob"]
    assert job.json == {"email_addresses": [EMAIL]}


def test_what_a_provider_keeps_is_said(town: Clinic) -> None:
    """A text that Twilio does not delete yet is named by its id, and the erasure is not called
    complete; one that is gone already is no fault.
    """
    town.work(timedelta(days=10, minutes=1))
    town.twilio.once(twilio_error(409, 20009), twilio_error(404, 20404))
    town.sendgrid.once(Reply(403, {}))
    done = forget(town)
    assert len(done["refused"]) == 2
    assert "(20009)" in done["refused"][0]
    assert found(dump(town.db), *CANARIES) == []


def test_a_text_is_deleted_at_twilio_when_retention_is_over(town: Clinic) -> None:
    """Hers and everybody's, once; what Twilio would not delete is asked for again in an hour."""
    town.work(timedelta(days=10, minutes=1))
    texts = len(town.twilio.accepted)
    town.twilio.once(twilio_error(409, 20009))
    time_passes(town.db, timedelta(days=91))
    for wait in (0, 61, 61):
        time_passes(town.db, timedelta(minutes=wait))
        jobs = town.jobs
        jobs.purge()
        drain(jobs)
    gone = deleted(town)
    assert texts == len(set(gone)) == len(gone) - 1
    assert {row["erase_at"] for row in rows(town.db, attempts)} == {None}
    # What the clinic itself calls the kit stays, which here is her address.
    assert found(dump(town.db, but=frozenset({"aliases"})), *CANARIES) == []


def test_after_retention_sendgrid_is_asked_all_the_same(town: Clinic) -> None:
    """Relay has nothing of her by then; SendGrid may."""
    town.work(timedelta(days=10, minutes=1))
    time_passes(town.db, timedelta(days=91))
    town.jobs.purge()
    assert forget(town, EMAIL)["counts"] == {"other rows": 1}  # the clinic's name for the kit
    (job,) = [r for r in town.sendgrid.requests if r.path == "/v3/recipients/erasejob"]
    assert job.json == {"email_addresses": [EMAIL]}


def test_where_nothing_is_sent_what_was_is_named(town: Clinic) -> None:
    """In dry-run no provider is asked; what it has of her from before is not called erased."""
    dry = replace(town.settings, delivery="dry-run")
    done = erase(town.db, Channels(dry, {}, frozenset()), PHONE)
    assert len(done["refused"]) == 1
    assert not deleted(town)
    time_passes(town.db, timedelta(minutes=61))
    drain(town.jobs)  # and once something is sent again its texts go
    assert len(deleted(town)) == 2


@pytest.mark.parametrize("left", ["email.txt", "email.html"])
def test_what_staff_were_told_of_her_goes_too(town: Clinic, left: str) -> None:
    """By her surname alone, or her first name; that they were told stays, and Tom's stays whole."""
    (town.settings.templates / "desk" / left).write_text("x", "utf-8")
    town.work(timedelta(days=10, minutes=1))
    before = [row["content"] for row in town.messages(rule="desk")]
    assert len(found(str(before), "Canarina", "Kanarek")) == 1
    forget(town)
    after = [(row["status"], row["content"]) for row in town.messages(rule="desk")]
    assert [status for status, _ in after] == ["sent", "sent"]
    assert [content for _, content in after if content] == [
        one for one in before if "Tom" in str(one) or "Jones" in str(one)
    ]
    assert found(dump(town.db), *CANARIES) == []


def test_a_case_about_her_is_closed(town: Clinic) -> None:
    """Nobody is asked any more to reach somebody whose address is gone."""
    row = next(r for r in town.messages() if r["address"] == PHONE)
    with town.db.write() as connection:
        opened = case("unreached", "k-1", row["event_id"])
        cases.open_case(
            connection, opened.__class__(**{**vars(opened), "notification_id": row["id"]})
        )
    forget(town)
    assert "unreached" not in town.worklist()


def test_a_late_receipt_brings_nobody_back(town: Clinic) -> None:
    """That her text did not arrive is kept; nobody is asked to reach her another way."""
    hers = next(row["id"] for row in town.messages(rule="results") if row["address"] == PHONE)
    forget(town)
    town.tell("permanent-failure", "30005", id=hers)
    town.work()
    assert only(town.db, notifications, id=hers)["status"] == "permanent-failure"
    assert town.worklist() == []


WAYS = {
    "whole": {**CANARY, "phone_number": PHONE},
    "by phone": {"phone_number": "(07700) 900-123", "first_name": "Canarina"},
    "by email": {**CANARY, "email": "Canary.Bird@EXAMPLE.com"},
    "nameless": {"email": EMAIL},
    "by name": {"first_name": "CANARINA", "last_name": "Kanarek"},
}
OTHERS: dict[str, dict[str, str]] = {
    "jane": {**JANE, "phone_number": "+447700900002"},
    "namesake": {**CANARY, "email": "other@example.net", "phone_number": "+447700900008"},
}
told = st.sampled_from([*WAYS, *OTHERS])
status = st.sampled_from(["created", "scheduled", "sending", "unknown", "sent", "cancelled"])
chapters = st.lists(st.tuples(told, told, status), min_size=1, max_size=6)


def _write(db: Database, number: int, who: str, tested: str, standing: str) -> None:
    """An order of one person with a kit of another, and a message to each of them."""
    people = WAYS | OTHERS
    facts = Facts(order={"id": f"o-{number}"}, customer=people[who], patient=people[tested])
    notices = []
    for role, name in (("customer", who), ("patient", tested)):
        person = people[name]
        judged = addresses.phone(person.get("phone_number"))
        notices.append(notice(subject=f"o-{number}", role=role, address=judged.address))
    event = leased(db, order_id=f"o-{number}")
    with db.write() as connection:
        ids = ledger_events.plan_and_mark_processed(
            connection, event, facts, lambda _kit: Plan(tuple(notices))
        )
    for id_ in ids:
        row = only(db, notifications, id=id_)
        words = {"text": f"Hello {row['address']}"} if standing != "created" else None
        change(db, notifications, {"id": id_}, status=standing, content=words)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chapters=chapters, by=st.sampled_from([PHONE, EMAIL]))
def test_whatever_was_written_nothing_is_left(
    db: Database, chapters: list[tuple[str, str, str]], by: str
) -> None:
    """Of any people in any roles, known by whatever part: what is hers goes, and no other's."""
    empty(db)
    for number, chapter in enumerate([("whole", "jane", "created"), *chapters]):
        _write(db, number, *chapter)
    theirs = {one["phone_number"]: name for name, one in OTHERS.items()}
    before = [row for row in rows(db, notifications) if row["address"] in theirs]
    kept = [row["facts"][role] for row in rows(db, events) for role in ("customer", "patient")]
    erase(db, DRY, by)
    text = dump(db)
    assert found(text, "7700900123", "canary.bird") == []
    after = [row["facts"][role] for row in rows(db, events) for role in ("customer", "patient")]
    wanted = [one if one in OTHERS.values() else {} for one in kept]
    assert after == wanted
    assert [row for row in rows(db, notifications) if row["address"]] == before


DRY = Channels(Settings(), {}, frozenset())
