"""A message that reached nobody: its rule's fallback goes, or a person of the clinic is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.ledger import attempts, followups, receipts
from relay.ledger.database import Database
from relay.ledger.schema import notifications
from relay.ledger.worklist import cases
from relay.rules.model import Ending
from tests.jobs.conftest import (
    DESK,
    EMAIL,
    KIT,
    ORDER,
    PERSON,
    PHONE,
    RULES,
    STAFF,
    TO,
    Clinic,
    suppress,
)
from tests.rows import (
    at_once,
    case,
    claimed,
    close_case,
    notice,
    only,
    open_cases,
    replay_event,
    replay_notification,
    rows,
    time_passes,
)
from tests.standins import Reply, twilio_error

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
THEN = datetime(2026, 11, 26, 9, tzinfo=UTC)  # by a provider's clock
NO_MOBILE, OPTED_OUT, NO_REGION = (twilio_error(400, code) for code in (21614, 21610, 21408))
REFUSED = Reply(400, {"errors": [{"message": "No."}]})  # SendGrid's, for good
BUSY = twilio_error(429, 20429)
FIRST, SECOND = "+447700900101", "+447700900102"
NURSES = (
    STAFF
    + f"""
[staff.nurses]
email = ["nurses@example.org"]
sms = ["{FIRST}", "{SECOND}"]
"""
)
TO_NURSES = """
[rules.kit]
event = "order.shipped"
to = "nurses"
channels = ["sms"]
fallback = ["email"]
template = "kit"
"""
TO_BOTH = RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["sms", "email"]')


def refused(clinic: Clinic) -> None:
    """Twilio says that the number cannot be texted."""
    clinic.twilio.once(NO_MOBILE)
    clinic.work()


def opted_out(clinic: Clinic) -> None:
    """Twilio says that the person wants no texts."""
    clinic.twilio.once(OPTED_OUT)
    clinic.work()


def stopped(clinic: Clinic) -> None:
    """The person has opted out since it was planned."""
    suppress(clinic.db, "sms", PHONE)
    clinic.work()


def undelivered(clinic: Clinic) -> None:
    """Twilio took it, and tells later that it did not arrive."""
    clinic.work()
    clinic.tell("permanent-failure", "30005", channel="sms")
    clinic.work()


def numbers(clinic: Clinic, refuse: dict[str, Reply]) -> None:
    """Twilio answers so for these numbers, and takes what goes to others."""
    clinic.twilio.answers.append(lambda request: refuse.get(request.form.get("To", "")))


def unreached(clinic: Clinic) -> None:
    """A kit's results reach nobody: its rule has no other way."""
    clinic.twilio.once(NO_REGION)
    clinic.results()
    clinic.work()


@pytest.mark.parametrize(
    ("fail", "status"),
    [
        (refused, "permanent-failure"),
        (opted_out, "permanent-failure"),
        (stopped, "cancelled"),
        (undelivered, "permanent-failure"),
    ],
)
def test_what_failed_for_good_goes_another_way_once(
    clinic: Clinic, fail: Callable[[Clinic], None], status: str
) -> None:
    """Refused, opted out or undelivered: the fallback goes, once whatever comes (fault 34)."""
    clinic.configure(staff=STAFF)
    event_id = clinic.post()
    fail(clinic)
    assert clinic.statuses() == [("email", "sent"), ("sms", status)]
    replay_event(clinic.db, event_id)
    clinic.work()
    clinic.work(DAY)
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [TO]
    assert len(clinic.twilio.requests) == (status != "cancelled")
    assert (clinic.worklist(), clinic.told()) == ([], [])


def test_a_lost_worker_leaves_the_fallback_to_another(clinic: Clinic) -> None:
    """A worker that dies while it sees to a failure has lost nothing: after a minute it is done."""
    clinic.twilio.once(NO_MOBILE)
    clinic.post()
    jobs = clinic.jobs
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    (claim,) = jobs.claim("sms", 1)
    jobs.deliver(claim)
    assert len(jobs.follow_ups.due(10)) == 1  # and the worker is gone
    clinic.work(timedelta(seconds=30))
    assert clinic.sendgrid.accepted == []
    clinic.work(MINUTE)
    clinic.work(DAY)
    assert len(clinic.sendgrid.accepted) == 1


def test_a_failure_is_one_workers_to_see_to(db: Database) -> None:
    """Several workers that look at once share the failures: none is two workers'."""
    for number in range(4):
        ending = Ending("rejected", "permanent-failure", "No mobile.")
        attempts.finish(db, claimed(db, subject=f"o-{number}"), ending)
    leased = [
        item.id
        for batch in at_once(lambda _: followups.lease_follow_ups(db, 3), 4)
        for item in batch
    ]
    leased += [item.id for item in followups.lease_follow_ups(db, 10)]
    assert sorted(leased) == sorted(row["id"] for row in rows(db, notifications))


def test_two_failures_at_once_are_one_fallback_and_no_case(db: Database) -> None:
    """Two of a rule's messages that fail at the same moment: one fallback, and nobody is told
    that somebody was not reached while it is on its way.
    """
    for number in range(8):
        subject = f"o-{number}"
        for address in (FIRST, SECOND):
            ending = Ending("rejected", "permanent-failure", "No mobile.")
            attempts.finish(db, claimed(db, subject=subject, address=address), ending)
        items = followups.lease_follow_ups(db, 10)
        email = notice(subject=subject, channel="email", address=EMAIL, is_fallback=True)
        alarm = case("unreached", items[0].obligation, items[0].event_id)

        def see_to(which: int, items: Any = items, email: Any = email, alarm: Any = alarm) -> str:
            with db.write() as connection:
                return followups.finish_follow_up(connection, items[which], [email], alarm, None)

        done = at_once(see_to, 2)
        assert "fallback" in done
        assert set(done) <= {"fallback", "waiting"}
        assert len(rows(db, notifications, subject=subject, channel="email")) == 1
    assert open_cases(db) == []


@pytest.mark.parametrize(
    "other",
    [Reply(hang_up=True), BUSY, None],
    ids=["unknown", "tried again", "sent"],
)
def test_no_fallback_while_another_message_may_arrive(clinic: Clinic, other: Reply | None) -> None:
    """Of a group's two phones one fails: while the other may be reached no fallback goes."""
    clinic.configure(TO_NURSES, staff=NURSES)
    numbers(clinic, {FIRST: NO_MOBILE, **({SECOND: other} if other else {})})
    clinic.post()
    clinic.work()
    clinic.work(timedelta(seconds=1))
    assert (clinic.sendgrid.accepted, clinic.worklist()) == ([], [])


def test_the_last_message_that_fails_brings_the_fallback(clinic: Clinic) -> None:
    """Once none of a group's phones can be reached any more, the fallback goes, once."""
    clinic.configure(TO_NURSES, staff=NURSES)
    numbers(clinic, {FIRST: NO_MOBILE})
    clinic.post()
    clinic.work()
    clinic.tell("permanent-failure", "30005", address=SECOND)
    clinic.work()
    clinic.work(DAY)
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [{"email": "nurses@example.org"}]
    assert clinic.worklist() == []


def test_one_of_two_channels_is_enough(clinic: Clinic) -> None:
    """Text and email: nobody is unreached while one of them may arrive, and once when none did."""
    clinic.configure(TO_BOTH, staff=STAFF)
    clinic.twilio.once(NO_MOBILE)
    clinic.post()
    clinic.work()
    assert (clinic.worklist(), clinic.told()) == ([], [])
    clinic.tell("permanent-failure", "bounce", rule="kit", channel="email")
    clinic.work()
    clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["unreached"], [("unreached", DESK, "sent")])


def test_a_fallback_that_fails_too_is_one_case(clinic: Clinic) -> None:
    """Neither the text nor the email reached anybody: one case, one alert."""
    clinic.configure(staff=STAFF)
    clinic.twilio.once(NO_MOBILE)
    clinic.sendgrid.once(REFUSED)
    clinic.post()
    clinic.work()
    clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["unreached"], [("unreached", DESK, "sent")])


def test_without_any_address_staff_are_told_once(clinic: Clinic) -> None:
    """Who can be neither texted nor mailed is told by the clinic: one case, one alert."""
    clinic.configure(staff=STAFF)
    clinic.lab.change("order", ORDER, customer={"first_name": "Jane"}, customer_id=None)
    clinic.post()
    clinic.work()
    clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["unreached"], [("unreached", DESK, "sent")])


def test_an_alert_names_the_kit_and_nothing_else(clinic: Clinic) -> None:
    """Staff are told which kit and where to look: no name, no address, nothing of tests."""
    clinic.settings = replace(clinic.settings, public_url="https://relay.example")
    clinic.configure(staff=STAFF)
    unreached(clinic)
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [{"email": DESK}]
    assert mail.json["subject"] == "Somebody could not be reached"
    text, html = (part["value"] for part in mail.json["content"])
    for words in (text, html):
        assert KIT in words
        assert "https://relay.example" in words
    said = json.dumps([mail.json["subject"], text, html]).lower()
    secret = (*PERSON.values(), PHONE, PHONE.removeprefix("+44"), "result", "test", "lml-")
    assert [word for word in secret if word.lower() in said] == []


def test_a_case_stays_until_somebody_closes_it(clinic: Clinic) -> None:
    """It is on the worklist for as long as it takes; who closed it, and why, is kept."""
    clinic.configure(staff=STAFF)
    unreached(clinic)
    for _ in range(3):
        clinic.work(DAY)
    (open_,) = open_cases(clinic.db)
    assert open_["reason"] == "The Twilio account may not text this country."
    assert close_case(clinic.db, open_["id"], "anna", "I rang her.")
    assert not close_case(clinic.db, open_["id"], "ben", "So did I.")
    clinic.work(DAY)
    closed = only(clinic.db, cases.cases)
    assert (closed["closed_by"], closed["note"]) == ("anna", "I rang her.")
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_it_is_told_again_when_it_happens_again(clinic: Clinic) -> None:
    """While the case is open, another failure is no news; after it was closed it is."""
    clinic.configure(staff=STAFF)
    unreached(clinic)
    (row,) = clinic.messages(rule="results")
    for closes, told in ((False, 1), (True, 2)):
        if closes:
            close_case(clinic.db, open_cases(clinic.db)[0]["id"], "anna")
        clinic.twilio.once(NO_REGION)
        assert replay_notification(clinic.db, row["id"])
        clinic.work(MINUTE)
        assert (clinic.worklist(), len(clinic.told())) == (["unreached"], told)
    clinic.work(15 * MINUTE)  # since the first alert
    assert len(clinic.sendgrid.accepted) == 2


def test_what_arrives_after_all_closes_the_case(clinic: Clinic) -> None:
    """Sent again by a person, and delivered: nobody has to ring any more."""
    clinic.configure(staff=STAFF)
    unreached(clinic)
    replay_notification(clinic.db, clinic.messages(rule="results")[0]["id"])
    clinic.work()
    assert clinic.worklist() == ["unreached"]
    clinic.tell("delivered", rule="results")
    assert clinic.worklist() == []


def test_a_message_that_cannot_be_written_is_told_though_the_fallback_goes(clinic: Clinic) -> None:
    """A template of ours that fails is staff's to mend, even where the person has an email."""
    clinic.configure(staff=STAFF)
    (clinic.settings.templates / "kit/sms.txt").write_text("Kit {{ order.carrier }}", "utf-8")
    clinic.lab.change("order", ORDER, carrier=None)
    clinic.post()
    clinic.work()
    clinic.work(DAY)
    statuses = [(row["channel"], row["status"]) for row in clinic.messages(rule="kit")]
    assert statuses == [("sms", "technical-failure"), ("email", "sent")]
    assert (clinic.worklist(), clinic.told()) == (["broken"], [("broken", DESK, "sent")])


def test_a_message_that_cannot_be_written_at_all_reaches_nobody(clinic: Clinic) -> None:
    """Neither text nor email can be written: two faults, and time between their alerts."""
    clinic.configure(staff=STAFF)
    clinic.lab.change("order", ORDER, tracking_number=None)
    clinic.post()
    clinic.work()
    assert clinic.told() == [("broken", DESK, "sent"), ("broken", DESK, "scheduled")]
    clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["broken"] * 2, [("broken", DESK, "sent")] * 2)
    assert all("tracking_number" in row["reason"] for row in open_cases(clinic.db))


@pytest.mark.parametrize("fails", ["refused", "bounced"])
def test_an_alert_that_fails_is_not_told_by_an_alert(clinic: Clinic, fails: str) -> None:
    """Staff who cannot be written to are not written to about it: the case is what remains."""
    clinic.configure(staff=STAFF)
    if fails == "refused":
        clinic.sendgrid.always(REFUSED)
    unreached(clinic)
    if fails == "bounced":
        clinic.tell("permanent-failure", "bounce", rule="relay:unreached")
    for _ in range(2):
        clinic.work(DAY)
    assert clinic.worklist() == ["unreached"]
    assert clinic.told() == [("unreached", DESK, "permanent-failure")]
    assert len(clinic.sendgrid.requests) == 1


def test_a_phone_that_was_off_is_tried_once_more(clinic: Clinic) -> None:
    """30003: half an hour later it is sent again, and only when that fails too by email."""
    clinic.post()
    clinic.work()
    clinic.tell("temporary-failure", "30003", channel="sms")
    clinic.work()
    clinic.work(29 * MINUTE)
    assert (clinic.statuses(), len(clinic.twilio.accepted)) == ([("sms", "created")], 1)
    clinic.work(2 * MINUTE)
    assert (clinic.statuses(), len(clinic.twilio.accepted)) == ([("sms", "sent")], 2)
    clinic.tell("temporary-failure", "30003", channel="sms")
    clinic.work()
    clinic.work(DAY)
    assert clinic.statuses() == [("email", "sent"), ("sms", "temporary-failure")]
    assert (len(clinic.twilio.accepted), len(clinic.sendgrid.accepted)) == (2, 1)


def test_a_phone_that_was_off_and_came_back_is_not_texted_twice(clinic: Clinic) -> None:
    """What arrives before it is sent again is not sent again."""
    clinic.post()
    clinic.work()
    clinic.tell("temporary-failure", "30003", channel="sms")
    clinic.work()
    clinic.tell("delivered", channel="sms")
    clinic.work(HOUR)
    assert (clinic.statuses(), len(clinic.twilio.accepted)) == ([("sms", "delivered")], 1)


def test_what_nobody_tells_of_is_no_reason_for_a_second_message(clinic: Clinic) -> None:
    """Without a receipt in 72 hours it may have arrived: a person is told, the patient is not."""
    clinic.settings = replace(clinic.settings, public_url="https://relay.example")
    clinic.configure(staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.work(3 * DAY + MINUTE)
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["temporary-failure"]
    assert (clinic.worklist(), clinic.told()) == (["unconfirmed"], [("unconfirmed", DESK, "sent")])
    clinic.tell("delivered", rule="kit")
    clinic.work()
    assert clinic.worklist() == []


def test_it_is_not_told_another_way_though_a_second_try_was_refused(clinic: Clinic) -> None:
    """The same where the first of two attempts was adopted late, and the second came to nothing."""
    clinic.settings = replace(clinic.settings, public_url="https://relay.example")
    clinic.twilio.once(Reply(503))
    clinic.post()
    clinic.work()
    first = clinic.attempt_of()
    for after in (3 * MINUTE, 9 * MINUTE):
        time_passes(clinic.db, after)
        jobs = clinic.jobs
        for look in jobs.reconciler.due(10):
            jobs.reconciler.act_on_not_found(look)
    (second,) = clinic.jobs.claim("sms", 1)
    clinic.tell_of(first, "sent")
    refusal = Ending("rejected", "permanent-failure", "No mobile.", code="21614")
    attempts.finish(clinic.db, second, refusal)
    clinic.work(3 * DAY + MINUTE)
    assert clinic.statuses() == [("sms", "temporary-failure")]
    assert clinic.worklist() == ["unconfirmed"]


@pytest.mark.parametrize(
    ("named", "expected"), [("", "desk@example.org"), ('"nurses"', "nurses@example.org")]
)
def test_the_group_that_alerts_go_to(clinic: Clinic, named: str, expected: str) -> None:
    """`alerts` in [delivery] names it; else it is the first group. By email where there is one."""
    head = clinic.settings.config.read_text("utf-8").partition("[rules")[0]
    clinic.configure(head=head + (f"alerts = {named}\n" if named else ""), staff=NURSES)
    unreached(clinic)
    assert clinic.told() == [("unreached", expected, "sent")]


def test_each_of_the_group_is_told(clinic: Clinic) -> None:
    """A group without email is texted, each of its phones once, with nothing in it to hide."""
    clinic.configure(staff=f'\n[staff.desk]\nsms = ["{FIRST}", "{SECOND}"]\n')
    unreached(clinic)
    clinic.work(DAY)
    assert sorted(clinic.told()) == [("unreached", FIRST, "sent"), ("unreached", SECOND, "sent")]
    bodies = {request.form["Body"] for request in clinic.twilio.accepted}
    assert bodies == {"Relay: Somebody could not be reached. See the admin desk."}


def test_without_any_group_there_is_still_the_case(clinic: Clinic) -> None:
    """A clinic that names no staff finds it on the worklist."""
    unreached(clinic)
    clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["unreached"], [])
    assert clinic.sendgrid.requests == []


def test_a_rule_that_is_gone_has_no_other_way(clinic: Clinic) -> None:
    """What its rule does not stand for any more goes no other way: staff are told."""
    clinic.configure(staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.configure("[rules.results" + RULES.partition("[rules.results")[2], staff=STAFF)
    clinic.tell("permanent-failure", "30005", rule="kit")
    clinic.work()
    assert clinic.told() == [("unreached", DESK, "sent")]
    assert len(clinic.messages(rule="kit")) == 1


def test_a_rule_that_writes_to_others_by_now_tells_none_of_them(clinic: Clinic) -> None:
    """A message to the customer that failed is not made up for by an email to somebody else."""
    clinic.configure(staff=NURSES)
    clinic.post()
    clinic.work()
    clinic.configure(TO_NURSES, staff=NURSES)
    clinic.tell("permanent-failure", "30005", rule="kit")
    clinic.work()
    assert [row["role"] for row in clinic.messages(rule="kit")] == ["customer"]
    assert clinic.told() == [("unreached", DESK, "sent")]


def test_news_that_are_overtaken_have_no_fallback(clinic: Clinic) -> None:
    """Where the kit is has moved on, an earlier step's failed message is let be."""
    clinic.configure(staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work(HOUR)
    clinic.tell("permanent-failure", "30005", rule="kit")
    clinic.work()
    assert clinic.sendgrid.accepted == []
    (row,) = clinic.messages(rule="kit")
    assert row["reason"].endswith("The kit has moved on: order.delivered has come.")
    assert clinic.worklist() == []
    for state, code in (("sent", ""), ("permanent-failure", "30006")):  # told late, or again
        clinic.tell(state, code, rule="kit")
    assert clinic.messages(rule="kit") == [row]


def test_receipts_of_one_batch_are_seen_to_once(clinic: Clinic) -> None:
    """The same failure told three times at once is one fallback."""
    clinic.post()
    clinic.work()
    told = receipts.Receipt("permanent-failure", "failed", clinic.attempt_of(), code="30005")
    later = replace(told, happened_at=THEN)
    receipts.record(clinic.db, "sms", [told, told, later])
    clinic.work()
    receipts.record(clinic.db, "sms", [replace(told, happened_at=THEN + HOUR)])
    clinic.work()
    assert len(clinic.sendgrid.accepted) == 1
