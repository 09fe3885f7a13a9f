"""The stop button: nothing of what is stopped is handed over, nothing is lost, and it goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.jobs.compose import waiting_ending
from relay.ledger import attempts
from relay.ledger.holds import stop_button
from relay.ledger.schema import attempts as tried
from relay.ledger.schema import audit, events, halts
from tests.jobs.conftest import DESK, HEAD, KIT, RULES, STAFF, Clinic
from tests.jobs.test_digests import DIGEST, NIGHT, desk, digest
from tests.rows import only, replay_event, replay_notification, rows
from tests.standins import Reply

__all__ = ["desk"]  # a fixture

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WHY = "The portal's link is wrong."
BOTH = RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["sms", "email"]')
STOPS = {
    "all": ("All messages", {("sms", "kit"), ("email", "kit"), ("sms", "results")}),
    "channel sms": ("All texts", {("sms", "kit"), ("sms", "results")}),
    "rule kit": ("Messages of the rule kit", {("sms", "kit"), ("email", "kit")}),
}


def stop(clinic: Clinic, what: str = "all") -> None:
    """Somebody stops it."""
    assert stop_button.stop(clinic.db, what, "admin", WHY)


def resume(clinic: Clinic, what: str = "all", *, drop: bool = False) -> int | None:
    """Somebody lets it go on."""
    return stop_button.resume(clinic.db, what, "boss", drop=drop)


def acts(clinic: Clinic) -> list[tuple[str, str, str, str]]:
    """What the audit trail has."""
    found = rows(clinic.db, audit)
    return [(row["actor"], row["action"], row["target"], row["detail"]) for row in found]


@pytest.mark.parametrize("what", STOPS)
@pytest.mark.parametrize("is_planned", [True, False], ids=["planned", "not planned"])
def test_what_is_stopped_waits_and_says_why(clinic: Clinic, what: str, is_planned: bool) -> None:
    """Of all messages, a channel's or a rule's none goes out, be it planned before the stop or
    during it: it waits, and says who has stopped it and why. All others go out. Events are taken
    all the same. Once it is resumed each goes out, once.
    """
    said, stopped = STOPS[what]
    clinic.configure(BOTH.replace('template = "kit"', 'template = "kit"\nafter = "1h"'))
    clinic.post()
    clinic.results()
    if is_planned:
        for event in clinic.jobs.lease_events(9):
            clinic.jobs.process(event)
    stop(clinic, what)
    clinic.work()
    clinic.work(HOUR)
    waiting = clinic.messages(status="scheduled")
    assert {(row["channel"], row["rule"]) for row in waiting} == stopped
    assert {row["reason"] for row in waiting} == {f"{said} are stopped, by admin: {WHY}"}
    assert len(clinic.messages(status="sent")) == 3 - len(stopped)
    assert {row["status"] for row in rows(clinic.db, events)} == {"processed"}
    assert resume(clinic, what) == 0
    clinic.work()
    clinic.work(HOUR)
    assert {(row["status"], row["reason"]) for row in clinic.messages()} == {("sent", "")}
    assert (len(clinic.twilio.accepted), len(clinic.sendgrid.accepted)) == (2, 1)
    assert rows(clinic.db, halts) == []
    assert acts(clinic) == [("admin", "stop", what, WHY), ("boss", "resume", what, "")]


@pytest.mark.parametrize("what", ["all", "channel sms", "rule kit"])
def test_what_is_claimed_is_not_handed_over(clinic: Clinic, what: str) -> None:
    """A worker has claimed it when it is stopped: it is not sent, uses up no try and nothing of the
    day's limit, and waits as the others do.
    """
    clinic.configure(head=HEAD + "daily_sms_limit = 1\n")
    clinic.post()
    jobs, claim = clinic.claimed()
    stop(clinic, what)
    jobs.deliver(claim)
    (row,) = clinic.messages()
    assert clinic.twilio.accepted == []
    assert (row["status"], row["tries"], row["content"]) == ("scheduled", 0, None)
    assert row["reason"].endswith(f"are stopped, by admin: {WHY}")
    assert jobs.claim("sms", 9) == jobs.claim("sms", 9, may_ask=True) == []
    resume(clinic, what)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1


def test_the_sweep_sees_to_what_a_worker_has_put_back(clinic: Clinic) -> None:
    """One was told of a stop that is over by the time at which it puts its message back; another
    puts one back to be tried again, and knows of no stop. Neither waits in vain, or is claimed.
    """
    clinic.post()
    jobs, claim = clinic.claimed()
    attempts.finish(clinic.db, claim, waiting_ending("It was stopped.", "stop"))
    assert jobs.claim("sms", 1) == []
    clinic.work()
    assert clinic.statuses() == [("sms", "sent")]
    clinic.results()
    jobs, claim = clinic.claimed()
    stop(clinic)
    attempts.finish(clinic.db, claim, attempts.NOT_BEGUN)
    jobs.sweep()
    assert jobs.claim("sms", 1) == []
    (row,) = clinic.messages(rule="results")
    assert (row["status"], row["reason"]) == (
        "scheduled",
        f"All messages are stopped, by admin: {WHY}",
    )


def test_a_rules_stop_holds_its_fallback(clinic: Clinic) -> None:
    """A text that had gone out fails: its receipt is heard, and the fallback waits."""
    clinic.post()
    clinic.work()
    stop(clinic, "rule kit")
    clinic.tell("permanent-failure", "30006", channel="sms")
    clinic.work()
    assert clinic.statuses() == [("email", "scheduled"), ("sms", "permanent-failure")]
    assert clinic.messages(channel="email")[0]["reason"].endswith(WHY)
    resume(clinic, "rule kit")
    clinic.work()
    assert len(clinic.sendgrid.accepted) == 1


def test_an_unknown_message_is_looked_for_meanwhile(clinic: Clinic) -> None:
    """Looking at the provider hands nothing over: what is not found there is to go again, and
    waits.
    """
    clinic.twilio.once(Reply(500))
    clinic.post()
    clinic.work()
    stop(clinic)
    for after in (2, 8):
        clinic.work(after * MINUTE + MINUTE)
    assert clinic.statuses() == [("sms", "scheduled")]
    resume(clinic)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1


def test_a_digest_waits_and_goes_on_gathering(desk: Clinic) -> None:
    """It is past its time, takes what comes meanwhile, and tells all of it once it is resumed."""
    desk.orders(1)
    desk.work()
    stop(desk, "rule desk")
    desk.work(NIGHT)
    assert digest(desk)["reason"].endswith(WHY)
    resume(desk, "rule desk")
    desk.work()
    (mail,) = desk.sendgrid.accepted
    assert mail.json["subject"] == "1 kits"


def test_a_stop_of_all_holds_alerts(clinic: Clinic) -> None:
    """Staff are not written to either: the case stands on the worklist, and its alert waits."""
    clinic.configure(staff=STAFF)
    stop(clinic)
    clinic.lab.change("test_registration", KIT, mobile_phone_number="none")
    clinic.results()
    clinic.work()
    assert clinic.worklist() == ["unreached"]
    assert clinic.told() == [("unreached", DESK, "scheduled")]
    resume(clinic)
    clinic.work()
    assert clinic.told() == [("unreached", DESK, "sent")]


def test_it_goes_on_in_its_window_the_urgent_first(clinic: Clinic) -> None:
    """What is for later keeps its time, and of what is due results come before kits."""
    clinic.configure(
        RULES + RULES.split("[rules.results]")[0].replace("kit]", 'later]\nafter="2d"')
    )
    stop(clinic)
    clinic.post()
    clinic.results()
    clinic.work(DAY)
    resume(clinic)
    jobs = clinic.jobs
    assert [claim.rule for _ in range(3) for claim in jobs.claim("sms", 1)] == ["results", "kit"]
    (later,) = clinic.messages(rule="later")
    assert (later["status"], later["reason"]) == ("scheduled", "")


def test_what_is_dropped_stays_so(clinic: Clinic) -> None:
    """It is cancelled, and says by whom; no replay of its event, nor its repeated post, brings it
    back. Only a replay of that very message does.
    """
    clinic.configure(BOTH)
    stop(clinic)
    clinic.post()
    clinic.work()
    assert resume(clinic, drop=True) == 2
    assert acts(clinic)[-1] == ("boss", "resume", "all", "2 cancelled")
    for row in clinic.messages():
        assert (row["status"], row["stopped_by"]) == ("cancelled", "boss")
        assert row["reason"] == f"Cancelled by boss, who resumed what admin had stopped: {WHY}"
    (event,) = rows(clinic.db, events)
    replay_event(clinic.db, event["id"])
    clinic.work()
    clinic.post()
    clinic.work(HOUR)
    assert clinic.statuses() == [("email", "cancelled"), ("sms", "cancelled")]
    assert replay_notification(clinic.db, clinic.messages(channel="sms")[0]["id"])
    clinic.work()
    assert clinic.statuses() == [("email", "cancelled"), ("sms", "sent")]


def test_a_digest_that_is_dropped_takes_its_items_along(desk: Clinic) -> None:
    """What it would have told is told by no later one, though the events are replayed."""
    desk.orders(2)
    desk.work()
    stop(desk, "rule desk")
    assert resume(desk, "rule desk", drop=True) == 1
    for row in rows(desk.db, events):
        replay_event(desk.db, row["id"])
    desk.work()
    desk.work(NIGHT)
    assert desk.sendgrid.accepted == []
    desk.configure(DIGEST, staff=STAFF)
    assert replay_notification(desk.db, digest(desk)["id"])
    desk.work()
    assert [mail.json["subject"] for mail in desk.sendgrid.accepted] == ["2 kits"]


def test_two_stops_end_one_by_one(clinic: Clinic) -> None:
    """What a second stop holds too waits for the end of that, says so, and is not dropped with the
    first.
    """
    clinic.configure(BOTH)
    stop(clinic)
    stop_button.stop(clinic.db, "channel sms", "nurse", "Twilio garbles them.")
    assert not stop_button.stop(clinic.db, "all", "other", "Again.")
    clinic.post()
    clinic.work()
    assert resume(clinic, drop=True) == 1
    clinic.work()
    assert clinic.statuses() == [("email", "cancelled"), ("sms", "scheduled")]
    (text,) = clinic.messages(channel="sms")
    assert text["reason"] == "All texts are stopped, by nurse: Twilio garbles them."
    assert resume(clinic) is None
    resume(clinic, "channel sms")
    clinic.work()
    assert len(clinic.twilio.accepted) == 1


def test_a_rules_latest_messages_are_cancelled_in_one_act(clinic: Clinic) -> None:
    """Those of the last hour that have not left, also what a stop has caught; not what was planned
    before, what has left, or what is of other rules.
    """
    later = RULES.replace('template = "kit"', 'template = "kit"\nafter = "3d"')
    for order, rules, after in (("o-1", later, 2 * HOUR), ("o-2", RULES, MINUTE)):
        clinic.configure(rules)
        clinic.post(order_id=order)
        clinic.work()
        clinic.work(after)
    clinic.configure(later)
    clinic.post(order_id="o-3")
    stop(clinic)
    clinic.post(order_id="o-4")
    clinic.results()
    clinic.work()
    assert stop_button.cancel_latest(clinic.db, "kit", "boss", WHY) == 2
    assert acts(clinic)[-1] == ("boss", "cancel latest", "rule kit", f"2: {WHY}")
    found = [(row["subject"], row["status"]) for row in clinic.messages(rule="kit")]
    assert sorted(found) == [
        ("o-1", "scheduled"),
        ("o-2", "sent"),
        ("o-3", "cancelled"),
        ("o-4", "cancelled"),
    ]
    assert [row["status"] for row in clinic.messages(rule="results")] == ["scheduled"]


def test_what_a_worker_has_claimed_is_cancelled_unless_it_is_handed_over(clinic: Clinic) -> None:
    """Of two that are claimed, one is with the provider by now, and ends as that says."""
    clinic.orders(2)
    jobs = clinic.jobs
    for event in jobs.lease_events(2):
        jobs.process(event)
    begun, claimed = jobs.claim("sms", 2)
    assert attempts.begin(clinic.db, begun, {"text": "Words."})
    assert stop_button.cancel_latest(clinic.db, "kit", "boss", WHY) == 1
    jobs.deliver(claimed)
    assert clinic.twilio.accepted == []
    assert only(clinic.db, tried, id=claimed.attempt_id)["outcome"] == "rejected"
    found = {row["id"]: row["status"] for row in clinic.messages()}
    assert found == {begun.id: "sending", claimed.id: "cancelled"}
