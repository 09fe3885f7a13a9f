"""Sent, and no answer that could be read: looked for, and only then sent again or held."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.ledger import attempts as ledger_attempts
from relay.ledger import receipts
from relay.ledger.schema import attempts, notifications
from relay.rules.model import Ending
from relay.rules.receipts import Receipt
from tests.jobs.conftest import DESK, EMAIL, KIT, PHONE, RULES, STAFF, Clinic, suppress
from tests.rows import change, only, replay_event, replay_notification, rows
from tests.standins import Reply, twilio_error, twilio_list

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LOST = {
    "hang-up": Reply(hang_up=True),
    "5xx": Reply(500, {"message": "Oops."}),
    "garbage": Reply(201, b"<html>"),
    "empty 201": Reply(201, b""),
}
HOLD = RULES.replace('template = "kit"', 'template = "kit"\non_unknown = "hold"')
MAILED = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["email"]
template = "kit"
"""

lost = pytest.mark.parametrize("reply", LOST.values(), ids=LOST)


def not_taken(clinic: Clinic, replies: int = 1) -> None:
    """The provider answers the next sends with nothing to be read, and has not taken them."""
    left = [Reply(503)] * replies
    clinic.twilio.answers.append(
        lambda request: left.pop() if left and request.method == "POST" else None
    )


def list_answers(clinic: Clinic, reply: Reply) -> Callable[[], None]:
    """The provider's list answers with this, until what is returned is called."""
    answers = clinic.twilio.answers
    answers.append(lambda request: reply if request.method == "GET" else None)
    return answers.clear


@lost
def test_what_was_accepted_is_found_and_not_sent_again(clinic: Clinic, reply: Reply) -> None:
    """Accepted, the answer lost: found after 2 minutes, adopted with its id, sent once (33)."""
    clinic.twilio.lost.append(reply)
    clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    assert (row["status"], row["provider_id"], clinic.twilio.looks) == ("unknown", None, 0)
    clinic.work(MINUTE)
    assert clinic.twilio.looks == 0
    clinic.work(2 * MINUTE)
    (row,) = clinic.messages()
    assert (row["status"], row["reason"], row["provider_id"]) == ("sent", "", f"SM{1:032x}")
    clinic.work(DAY)
    assert (len(clinic.twilio.accepted), clinic.twilio.looks) == (1, 1)
    assert clinic.sendgrid.requests == []


def test_what_is_found_to_have_failed_goes_another_way(clinic: Clinic) -> None:
    """Found, and Twilio says that the number is dead: without a callback too the email goes out."""
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    dead = {"status": "undelivered", "error_code": 30005}
    found = json.loads(twilio_list(clinic.twilio.requests[0], clinic.twilio.accepted).content())
    list_answers(clinic, Reply(200, {**found, "messages": [{**found["messages"][0], **dead}]}))
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("email", "sent"), ("sms", "permanent-failure")]
    assert clinic.messages(channel="sms")[0]["reason"] == "The phone number is not in use."


@lost
def test_what_was_not_accepted_is_sent_once_more(clinic: Clinic, reply: Reply) -> None:
    """Not in the provider's list after 2 minutes nor after 10: then it is sent again, once."""
    clinic.twilio.once(reply)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    assert (clinic.statuses(), clinic.twilio.looks) == ([("sms", "unknown")], 1)
    clinic.work(6 * MINUTE)
    assert (clinic.statuses(), clinic.twilio.looks) == ([("sms", "unknown")], 1)
    assert clinic.twilio.accepted == []
    clinic.work(3 * MINUTE)
    assert (clinic.statuses(), clinic.twilio.looks) == ([("sms", "sent")], 2)
    clinic.work(DAY)
    assert len(clinic.twilio.accepted) == 1
    outcomes = sorted(row["outcome"] for row in rows(clinic.db, attempts))
    assert outcomes == ["accepted", "unknown"]


def test_the_second_try_is_looked_for_like_the_first(clinic: Clinic) -> None:
    """Unknown again and accepted this time: found, and not sent a third time."""
    not_taken(clinic)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.work(9 * MINUTE)
    assert clinic.statuses() == [("sms", "unknown")]
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    clinic.work(DAY)
    assert len(clinic.twilio.accepted) == 1


def test_what_is_sent_again_is_still_asked_of_its_rule(clinic: Clinic) -> None:
    """Before the second try the facts are what they are by then: a returned kit is no news."""
    not_taken(clinic)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    suppress(clinic.db, "sms", PHONE)
    clinic.work(9 * MINUTE)
    assert clinic.statuses() == [("email", "sent"), ("sms", "cancelled")]
    assert clinic.twilio.accepted == []


def test_a_rule_may_have_a_person_decide(clinic: Clinic) -> None:
    """on_unknown = "hold": not found, it is not sent again; one case, and staff are told once."""
    clinic.configure(HOLD, staff=STAFF)
    not_taken(clinic)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    assert (clinic.worklist(), clinic.told()) == ([], [])
    clinic.work(9 * MINUTE)
    for _ in range(2):
        clinic.work(DAY)
    assert (clinic.worklist(), clinic.told()) == (["unknown"], [("unknown", DESK, "sent")])
    (row,) = clinic.messages(rule="kit")
    assert row["status"] == "unknown"
    assert (
        row["reason"]
        == "The provider has no record of it. It waits for a person, as its rule says."
    )
    assert clinic.twilio.accepted == []


def test_a_worker_that_wakes_up_late_closes_its_case(clinic: Clinic) -> None:
    """A worker was frozen in its send, a person was asked meanwhile: its answer closes the case."""
    clinic.configure(HOLD, staff=STAFF)
    clinic.post()
    _, claim = clinic.claimed()
    assert ledger_attempts.begin(clinic.db, claim, {"text": "Kit RM1 for Jane"})
    for _ in range(3):
        clinic.work(10 * MINUTE)
    assert clinic.worklist() == ["unknown"]
    ending = Ending("accepted", "sent", provider_id="SM77")
    assert ledger_attempts.finish(clinic.db, claim, ending)
    assert (clinic.worklist(), clinic.messages(rule="kit")[0]["status"]) == ([], "sent")


def test_a_rule_that_holds_adopts_what_is_found(clinic: Clinic) -> None:
    """A person decides only about what was not found."""
    clinic.configure(HOLD, staff=STAFF)
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    assert clinic.worklist() == []


REFUSALS = {
    "401": twilio_error(401, 20003),
    "429": twilio_error(429, 20429),
    "500": Reply(500),
    "hang-up": Reply(hang_up=True),
    "garbage": Reply(200, b"<html>"),
    "no list": Reply(200, {"messages": None}),
    "not the list": Reply(200, [1]),
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS)
def test_a_list_that_cannot_be_had_settles_nothing(clinic: Clinic, reply: Reply) -> None:
    """A provider that does not show its list is asked again, however often: nothing is sent."""
    clinic.twilio.lost.append(Reply(hang_up=True))
    put_right = list_answers(clinic, reply)
    clinic.post()
    clinic.work()
    for number in range(1, 6):
        clinic.work(10 * MINUTE)
        assert (clinic.statuses(), clinic.twilio.looks) == ([("sms", "unknown")], number)
    put_right()
    clinic.work(10 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    assert len(clinic.twilio.accepted) == 1


def test_a_provider_that_cannot_be_asked_for_hours_is_a_case(clinic: Clinic) -> None:
    """After six hours without its list a person is to find out: nobody is silently forgotten."""
    clinic.configure(staff=STAFF)
    clinic.twilio.lost.append(Reply(hang_up=True))
    list_answers(clinic, twilio_error(401, 20003))
    clinic.post()
    clinic.work()
    clinic.work(5 * HOUR)
    assert clinic.worklist() == []
    clinic.work(2 * HOUR)
    assert clinic.worklist() == ["unknown"]
    reason = only(clinic.db, notifications, rule="kit")["reason"]
    assert reason.endswith("Relay has tried for 6 hours.")


@pytest.mark.parametrize(
    "change", [{"twilio_auth_token": ""}, {"delivery": "dry-run"}, {"delivery": "allow-list"}]
)
def test_a_lost_account_or_another_delivery_settles_nothing(
    clinic: Clinic, change: dict[str, str]
) -> None:
    """A text that Twilio may have is not sent again because Relay cannot ask, or sends nothing now:
    it is asked all the same, or once there is an account again.
    """
    before = clinic.settings
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    clinic.settings = replace(before, **change)
    for _ in range(3):
        clinic.work(10 * MINUTE)
    clinic.settings = before
    clinic.work(10 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    assert (len(clinic.twilio.accepted), clinic.messages()[0]["provider_id"]) == (1, f"SM{1:032x}")


def test_two_kits_with_the_same_words(clinic: Clinic) -> None:
    """One phone, the same words twice, both answers lost, one accepted: one is adopted, and the
    other is sent again. Two messages in the end, neither of them three times.
    """
    person = clinic.lab.resources[f"/api/test_registration/{KIT}"]
    clinic.lab.change("test_registration", "r-2", **{**person, "id": "r-2", "parent_id": None})
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.results(KIT)
    clinic.work()
    not_taken(clinic)
    clinic.results("r-2")
    clinic.work()
    assert clinic.statuses() == [("sms", "unknown"), ("sms", "unknown")]
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("sms", "sent"), ("sms", "unknown")]
    clinic.work(9 * MINUTE)
    clinic.work(DAY)
    assert clinic.statuses() == [("sms", "sent"), ("sms", "sent")]
    bodies = [request.form["Body"] for request in clinic.twilio.accepted]
    assert bodies == ["Your results are ready, Jane."] * 2
    ids = [row["provider_id"] for row in clinic.messages()]
    assert sorted(ids) == [f"SM{1:032x}", f"SM{2:032x}"]


def test_two_kits_with_the_same_words_that_were_both_accepted(clinic: Clinic) -> None:
    """Both accepted, both answers lost: each adopts one, and nothing is sent again."""
    clinic.twilio.lost += [Reply(hang_up=True), Reply(500)]
    person = clinic.lab.resources[f"/api/test_registration/{KIT}"]
    clinic.lab.change("test_registration", "r-2", **{**person, "id": "r-2", "parent_id": None})
    clinic.results(KIT)
    clinic.results("r-2")
    clinic.work()
    clinic.work(3 * MINUTE)
    clinic.work(DAY)
    assert clinic.statuses() == [("sms", "sent"), ("sms", "sent")]
    assert len(clinic.twilio.accepted) == 2
    assert len({row["provider_id"] for row in clinic.messages()}) == 2


def test_other_words_are_not_the_message(clinic: Clinic) -> None:
    """What else went to that phone, before or since, is not taken for the one that is sought."""
    clinic.results()
    clinic.work()
    not_taken(clinic)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    clinic.work(9 * MINUTE)
    assert clinic.statuses() == [("sms", "sent"), ("sms", "sent")]
    bodies = [request.form["Body"] for request in clinic.twilio.accepted]
    assert bodies == ["Your results are ready, Jane.", "Kit RM1 for Jane"]


def test_a_killed_workers_message_is_found(clinic: Clinic) -> None:
    """Killed after the provider accepted it (19): found, and not sent again."""
    clinic.post()
    jobs, claim = clinic.claimed()
    message = jobs._messages._composed(claim)
    jobs._messages._begin(claim, message)
    assert jobs.channels.send(message, claim.attempt_id).result == "accepted"
    clinic.work(2 * MINUTE)
    assert clinic.statuses() == [("sms", "unknown")]
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    assert len(clinic.twilio.accepted) == 1


def test_a_killed_workers_message_that_never_left_is_sent(clinic: Clinic) -> None:
    """Killed just before the send (18): not found, and sent, once."""
    clinic.post()
    _, claim = clinic.claimed()
    assert ledger_attempts.begin(clinic.db, claim, {"text": "Kit RM1 for Jane"})
    for after in (2 * MINUTE, 3 * MINUTE, 9 * MINUTE, DAY):
        clinic.work(after)
    assert clinic.statuses() == [("sms", "sent")]
    assert len(clinic.twilio.accepted) == 1


def test_a_killed_workers_alert_keeps_its_words(clinic: Clinic) -> None:
    """An alert has its words in the ledger alone: a worker that dies with it does not lose them."""
    clinic.configure(staff=STAFF)
    clinic.lab.change("order", "o-2", customer={"first_name": "Jane"}, customer_id=None)
    clinic.post(order_id="o-2")
    jobs = clinic.jobs
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    for item in jobs.follow_ups.due(10):
        jobs.follow_ups.follow_up(item)
    assert len(jobs.claim("email", 10)) == 1  # and the worker is gone
    for after in (2 * MINUTE, 20 * MINUTE, MINUTE):
        clinic.work(after)
    assert clinic.told() == [("unreached", DESK, "sent")]
    assert "reached nobody" in clinic.sendgrid.accepted[0].json["content"][0]["value"]
    assert len(clinic.sendgrid.accepted) == 1


def test_a_receipt_tells_before_it_is_looked_for(clinic: Clinic) -> None:
    """A callback that names the attempt settles it: nobody looks for it."""
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    told = Receipt("delivered", "delivered", clinic.attempt_of(), f"SM{1:032x}")
    receipts.record(clinic.db, "sms", [told])
    clinic.work(DAY)
    assert clinic.statuses() == [("sms", "delivered")]
    assert (len(clinic.twilio.accepted), clinic.twilio.looks) == (1, 0)


def test_an_email_that_an_event_tells_of_is_sent(clinic: Clinic) -> None:
    """SendGrid has no list: an event that names the attempt settles an email."""
    clinic.configure(MAILED)
    clinic.sendgrid.lost.append(Reply(500))
    clinic.post()
    clinic.work()
    assert clinic.statuses() == [("email", "unknown")]
    told = Receipt("sent", "processed", clinic.attempt_of(), "sg-1")
    receipts.record(clinic.db, "email", [told])
    clinic.work(DAY)
    assert clinic.statuses() == [("email", "sent")]
    assert len(clinic.sendgrid.accepted) == 1


def test_an_email_that_nothing_tells_of_is_sent_again(clinic: Clinic) -> None:
    """Without an event within 15 minutes it is sent once more."""
    clinic.configure(MAILED)
    clinic.sendgrid.once(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    clinic.work(14 * MINUTE)
    assert (clinic.statuses(), clinic.sendgrid.accepted) == ([("email", "unknown")], [])
    clinic.work(2 * MINUTE)
    clinic.work(DAY)
    assert clinic.statuses() == [("email", "sent")]
    assert len(clinic.sendgrid.accepted) == 1


def test_an_email_that_nothing_tells_of_is_held_where_the_rule_says_so(clinic: Clinic) -> None:
    """on_unknown = "hold": after 15 minutes a person decides."""
    clinic.configure(MAILED + 'on_unknown = "hold"\n', staff=STAFF)
    clinic.sendgrid.once(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    clinic.work(16 * MINUTE)
    clinic.work(DAY)
    assert clinic.worklist() == ["unknown"]
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["unknown"]
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [{"email": DESK}]


def test_replay_does_not_send_what_is_unknown(clinic: Clinic) -> None:
    """A person who replays the event sends nothing that may be out already."""
    clinic.twilio.lost.append(Reply(hang_up=True))
    event_id = clinic.post()
    clinic.work()
    replay_event(clinic.db, event_id)
    replay_notification(clinic.db, only(clinic.db, notifications)["id"])
    clinic.work(MINUTE)
    assert clinic.statuses() == [("sms", "unknown")]
    clinic.work(2 * MINUTE)
    assert clinic.statuses() == [("sms", "sent")]
    assert len(clinic.twilio.accepted) == 1


def test_a_rule_that_is_gone_sends_nothing_again(clinic: Clinic) -> None:
    """What its rule no longer stands for is not sent a second time: it waits for the rule."""
    not_taken(clinic)
    clinic.post()
    clinic.work()
    clinic.work(3 * MINUTE)
    clinic.configure("[rules.results" + RULES.partition("[rules.results")[2])
    clinic.work(9 * MINUTE)
    assert clinic.statuses() == [("sms", "scheduled")]
    assert clinic.twilio.accepted == []


def test_words_that_retention_has_blanked_are_not_found(clinic: Clinic) -> None:
    """Without its words nothing in the list is taken for it."""
    clinic.twilio.lost.append(Reply(hang_up=True))
    clinic.post()
    clinic.work()
    change(clinic.db, notifications, {}, content=None)
    clinic.work(3 * MINUTE)
    assert clinic.statuses() == [("sms", "unknown")]
    assert EMAIL not in str(clinic.messages())
