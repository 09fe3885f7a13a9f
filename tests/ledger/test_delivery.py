"""The claim: marked and written down before anything leaves, and settled once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from relay.ledger import attempts as ledger_attempts
from relay.ledger import followups
from relay.ledger.database import Database
from relay.ledger.holds import pauses
from relay.ledger.holds.allowances import Cap
from relay.ledger.schema import allowances, attempts, halts, notifications, suppressions
from relay.rules.model import Ending, Notice, Pause, case_digest
from relay.rules.statuses import (
    ALERT,
    ALIVE,
    ANSWER,
    AWAY,
    LAB_FAILED,
    MESSAGE,
    RESENT,
    STATUSES,
    WAITS_FOR_LAB,
    WAITS_FOR_ORDER,
    WAITS_FOR_PERSON,
)
from tests.rows import (
    at_once,
    case,
    change,
    claimed,
    close_case,
    notice,
    only,
    open_cases,
    planned,
    rows,
    suppress,
    time_passes,
)

LEASE = timedelta(seconds=ledger_attempts.LEASE_SECONDS + 1)
ACCEPTED = Ending("accepted", "sent", provider_id="SM1")
WORDS = {"text": "Your kit …"}


def addressed(count: int) -> list[str]:
    """So many addresses."""
    return [f"+4477009001{number:02}" for number in range(count)]


def test_workers_claim_each_message_once(ledger_url: str, db: Database) -> None:
    """Workers that claim at once share the messages out: one attempt for each message."""
    planned(db, *(notice(address=address) for address in addressed(24)))
    workers = [Database(ledger_url, patience=20) for _ in range(8)]
    batches = at_once(lambda n: ledger_attempts.claim(workers[n], "sms", 4), 8)
    for worker in workers:
        worker.close()
    claims = [*(one for batch in batches for one in batch), *ledger_attempts.claim(db, "sms", 100)]
    assert sorted(one.address for one in claims) == addressed(24)
    assert {row["notification_id"] for row in rows(db, attempts)} == {one.id for one in claims}
    assert len(rows(db, attempts)) == 24


def test_the_urgent_message_is_claimed_first(db: Database) -> None:
    """In a backlog results go first, and of equals what has waited longest."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    planned(
        db,
        notice(rule="new", address="+447700900001"),
        notice(rule="old", address="+447700900002", due_at=long_ago),
        notice(rule="results", address="+447700900003", urgency=2),
    )
    assert [one.rule for one in ledger_attempts.claim(db, "sms", 2)] == ["results", "old"]
    assert [one.rule for one in ledger_attempts.claim(db, "sms", 2)] == ["new"]


def test_what_is_claimed_at_once_is_in_that_order_too(db: Database) -> None:
    """Within a worker's share the urgent go first, and of equals what has waited longest."""
    now = datetime.now(UTC)
    for minutes, urgency in ((1, 0), (3, 0), (2, 0), (1, 2), (5, 2)):
        due = now - timedelta(minutes=minutes)
        planned(db, notice(rule=f"{urgency} {minutes}", urgency=urgency, due_at=due))
    claims = ledger_attempts.claim(db, "sms", 10)
    assert [one.rule for one in claims] == ["2 5", "2 1", "0 3", "0 2", "0 1"]


def test_what_waits_for_the_lab_is_claimed_by_those_who_may_ask_it(db: Database) -> None:
    """Two lanes share a channel: a slow lab keeps up none of what need not ask it. What waits for
    an order is for neither; what is claimed waits for nothing.
    """
    planned(
        db,
        notice(rule="asks", waits_for=WAITS_FOR_LAB),
        notice(rule="order", waits_for=WAITS_FOR_ORDER),
        notice(rule="plain"),
    )
    (plain,) = ledger_attempts.claim(db, "sms", 10)
    (asks,) = ledger_attempts.claim(db, "sms", 10, may_ask=True)
    assert [(one.rule, one.may_ask) for one in (plain, asks)] == [("plain", False), ("asks", True)]
    assert only(db, notifications, id=asks.id)["waits_for"] is None
    assert not plain.is_probe


def test_while_the_lab_is_away_one_message_may_find_out(db: Database) -> None:
    """At its time, and one alone; what need not ask the lab goes out as ever."""
    asks = {"waits_for": WAITS_FOR_LAB}
    planned(db, *(notice(rule=f"{n}", **(asks if n < 2 else {})) for n in range(4)))
    with db.write() as connection:
        event_id = rows(db, notifications)[0]["event_id"]
        pauses.pause(connection, pauses.LAB, event_id, Pause(pauses.AWAY, "No answer."))
    assert ledger_attempts.claim(db, "sms", 10, may_ask=True) == []
    assert len(ledger_attempts.claim(db, "sms", 10)) == 2
    time_passes(db, timedelta(seconds=pauses.PROBES[0] + 1))
    assert len(ledger_attempts.claim(db, "sms", 10, may_ask=True)) == 1


@pytest.mark.parametrize(
    ("kind", "kept"), [(MESSAGE, None), (RESENT, None), (ALERT, WORDS), (ANSWER, WORDS)]
)
def test_a_claim_blanks_the_words_of_an_attempt_that_came_to_nothing(
    db: Database, kind: str, kept: dict[str, str] | None
) -> None:
    """Each attempt has words of its own; an alert and an answer are sent as they were written."""
    (id_,) = planned(db, notice(key="k", kind=kind))
    change(db, notifications, {"id": id_}, content=WORDS)
    assert [one.content for one in ledger_attempts.claim(db, "sms", 10)] == [WORDS]
    assert only(db, notifications)["content"] == kept


def test_without_a_cap_nothing_is_counted(db: Database) -> None:
    """A channel that has no limit leaves no trace of one."""
    claimed(db)
    assert rows(db, allowances) == []


def test_only_what_is_due_is_claimed(db: Database) -> None:
    """A message with a later due time waits for it by the database's clock."""
    due = datetime.now(UTC) + timedelta(hours=1)
    planned(db, notice(status="scheduled", due_at=due))
    assert ledger_attempts.claim(db, "sms", 10) == []
    time_passes(db, timedelta(hours=1, seconds=1))
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1


@pytest.mark.parametrize("status", [s for s in STATUSES if s not in ("created", "scheduled")])
def test_only_what_waits_is_claimed(db: Database, status: str) -> None:
    """What was sent, failed, was cancelled or may have gone out is never claimed."""
    planned(db, notice(status=status))
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert rows(db, attempts) == []


def test_a_channel_claims_its_own(db: Database) -> None:
    """Emails are none of the SMS lane's business."""
    planned(db, notice(channel="email", address="a@example.org"))
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert [one.channel for one in ledger_attempts.claim(db, "email", 10)] == ["email"]


def test_the_attempt_is_committed_before_anything_is_sent(db: Database) -> None:
    """A claim leaves a row that says what is being sent, by whom it may be found, and till when."""
    claim = claimed(db)
    row, attempt = only(db, notifications), only(db, attempts)
    assert (row["status"], row["attempts"], claim.tries) == ("sending", 1, 1)
    assert timedelta() < row["lease_until"] - attempt["started_at"] <= LEASE
    assert (attempt["id"], attempt["outcome"]) == (claim.attempt_id, "started")
    assert (attempt["notification_id"], attempt["channel"]) == (claim.id, "sms")


def test_a_claim_carries_what_its_message_needs(db: Database) -> None:
    """The event and its facts come with the claim, so nothing is read in between."""
    claim = claimed(db)
    assert (claim.event_name, claim.event_data) == ("order.shipped", {"order_id": "o-1"})
    assert claim.facts.order == {"id": "o-1"}
    assert (claim.rule, claim.template, claim.role) == ("kit-shipped", "kit_shipped", "customer")
    assert claim.facts_at.tzinfo is not None
    assert claim.stopped_by is None


@pytest.mark.parametrize(
    ("channel", "address", "is_out"),
    [
        ("sms", "+447700900001", True),
        ("email", "+447700900001", False),
        ("sms", "+447700900002", False),
    ],
)
def test_the_claim_says_who_has_opted_out(
    db: Database, channel: str, address: str, is_out: bool
) -> None:
    """An opt-out that came while a message was queued is seen in the claim, on its channel only."""
    planned(db, notice())
    with db.write() as connection:
        connection.execute(
            suppressions.insert().values(
                channel=channel, address=address, source="test", created_at=datetime.now(UTC)
            )
        )
    assert [bool(one.stopped_by) for one in ledger_attempts.claim(db, "sms", 10)] == [is_out]


def test_what_is_begun_has_its_words_and_its_time_to_itself(db: Database) -> None:
    """Its lease counts anew, and nothing that is claimed beside it is touched."""
    planned(db, notice(), notice(rule="other"))
    first, other = ledger_attempts.claim(db, "sms", 10)
    soon = datetime.now(UTC) + timedelta(seconds=5)
    change(db, notifications, {}, lease_until=soon)
    before = only(db, notifications, id=other.id), only(db, attempts, id=other.attempt_id)
    assert ledger_attempts.begin(db, first, WORDS)
    assert only(db, notifications, id=first.id)["lease_until"] > soon + LEASE / 2
    assert only(db, attempts, id=first.attempt_id)["begun_at"]
    after = only(db, notifications, id=other.id), only(db, attempts, id=other.attempt_id)
    assert after == before


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (suppressions, {"channel": "sms", "address": "+447700900001", "source": "STOP"}),
        (halts, {"what": "rule kit-shipped", "actor": "jane", "reason": "A wrong link."}),
    ],
    ids=["by the person", "by staff"],
)
def test_what_is_stopped_after_its_claim_is_not_begun(
    db: Database, table: sa.Table, row: dict[str, str]
) -> None:
    """A stop counts until the last moment, and leaves no words that were not sent."""
    claim = claimed(db)
    moment = {"created_at" if table is suppressions else "since": datetime.now(UTC)}
    with db.write() as connection:
        connection.execute(table.insert().values(**row, **moment))
    before = only(db, notifications)
    assert not ledger_attempts.begin(db, claim, WORDS)
    assert only(db, notifications) == before


def test_a_claimed_message_goes_to_the_address_that_is_found(db: Database) -> None:
    """It alone, and while it is claimed; who has stopped that address is told."""
    planned(db, notice(), notice(rule="other"))
    first, other = ledger_attempts.claim(db, "sms", 10)
    for address in ("+447700900001", "+447700900002"):
        suppress(db, "sms", address, "STOP")
    with db.write() as connection:
        assert ledger_attempts.redirect(connection, first, "+447700900002") == "STOP"
        assert ledger_attempts.redirect(connection, first, "+447700900003") is None
    change(db, notifications, {"id": first.id}, status="sent")
    with db.write() as connection:
        ledger_attempts.redirect(connection, first, "+447700900004")
    found = {row["id"]: row["address"] for row in rows(db, notifications)}
    assert found == {first.id: "+447700900003", other.id: "+447700900001"}


def test_an_accepted_message_is_sent(db: Database) -> None:
    """What the provider accepted is sent, with the provider's id, its words and the time."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, WORDS)
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    row, attempt = only(db, notifications), only(db, attempts)
    assert (row["status"], row["provider_id"], row["lease_until"]) == ("sent", "SM1", None)
    assert row["content"] == {"text": "Your kit …"}
    assert row["sent_at"] is not None
    assert (row["receipt_by"], row["follow_up_at"]) == (None, None)
    assert (attempt["outcome"], attempt["provider_id"]) == ("accepted", "SM1")
    assert attempt["finished_at"] >= attempt["started_at"]


@pytest.mark.parametrize(
    ("channel", "address", "segments"),
    [("sms", "+447700900001", 2), ("email", "a@example.org", 0)],
)
def test_the_segments_of_what_is_sent_are_kept(
    db: Database, channel: str, address: str, segments: int
) -> None:
    """A text is paid for by segments, an email is not."""
    claim = claimed(db, channel=channel, address=address)
    assert ledger_attempts.begin(db, claim, {"text": "a" * 161}, edition=7)
    row = only(db, notifications)
    assert (row["segments"], row["edition"]) == (segments, 7)


@pytest.mark.parametrize("status", STATUSES)
def test_an_accepted_message_is_sent_unless_it_has_an_end(db: Database, status: str) -> None:
    """Whatever it waits for it need not; what was found out about it since stays."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, WORDS)
    change(db, notifications, {}, status=status)
    ledger_attempts.finish(db, claim, replace(ACCEPTED, is_kept=True))
    row = only(db, notifications)
    waits = status in ("sending", "unknown", "created", "scheduled")
    assert (row["status"], row["is_kept"]) == ("sent" if waits else status, waits)
    assert only(db, attempts)["outcome"] == "accepted"


def test_an_ending_is_of_its_own_attempt_alone(db: Database) -> None:
    """Neither the tries before it nor other messages on their way are touched, and it keeps what
    the provider said.
    """
    first = claimed(db)
    refused = Ending("rejected", "created", "Twilio is busy.", code="20429", retry_in=0.0)
    assert ledger_attempts.finish(db, first, refused)
    other = claimed_of(db, notice(subject="o-2", rule="other"))
    (second,) = [one for one in other if one.id == first.id]
    assert ledger_attempts.begin(db, second, WORDS)
    said = replace(ACCEPTED, reason="Kept.", code="0", awaits_receipt=True)
    assert ledger_attempts.finish(db, second, said)
    found = {
        row["id"]: (row["outcome"], row["code"], row["detail"], row["provider_id"])
        for row in rows(db, attempts)
    }
    assert found.pop(first.attempt_id) == ("rejected", "20429", "Twilio is busy.", None)
    assert found.pop(second.attempt_id) == ("accepted", "0", "Kept.", "SM1")
    assert [*found.values()] == [("started", "", "", None)]
    assert only(db, notifications, id=first.id)["reason"] == "Kept."
    statuses = {row["id"]: row["status"] for row in rows(db, notifications)}
    assert statuses.pop(first.id) == "sent"
    assert [*statuses.values()] == ["sending"]


def test_a_message_that_is_claimed_later_is_another(db: Database) -> None:
    """What is claimed since, of another message, keeps no ending from its own."""
    first = claimed(db)
    claimed_of(db, notice(rule="other"))
    assert ledger_attempts.finish(db, first, Ending("rejected", "permanent-failure", "No."))
    assert only(db, notifications, id=first.id)["status"] == "permanent-failure"


def test_what_a_provider_says_at_length_is_cut(db: Database) -> None:
    """However much it says, what has become of the message is written down."""
    claim = claimed(db)
    ending = Ending("rejected", "permanent-failure", "r" * 600, code="c" * 60)
    assert ledger_attempts.finish(db, claim, ending)
    row, attempt = only(db, notifications), only(db, attempts)
    assert (row["reason"], attempt["detail"]) == ("r" * 500, "r" * 500)
    assert attempt["code"] == "c" * 40


def test_the_labs_failures_are_counted_for_each_message(db: Database) -> None:
    """What else an attempt ended by does not count, nor what happened to another message."""
    planned(db, notice(), notice(rule="other"))
    for codes in ((LAB_FAILED, LAB_FAILED), (LAB_FAILED, LAB_FAILED), ("20429", LAB_FAILED)):
        for claim, code in zip(by_rule(db), codes, strict=True):
            again = Ending("rejected", "created", "Later.", code=code, retry_in=0.0)
            assert ledger_attempts.finish(db, claim, again)
    with db.read() as connection:
        found = [ledger_attempts.lab_failures(connection, claim) for claim in by_rule(db)]
    assert found == [2, 3]


def by_rule(db: Database) -> list[ledger_attempts.Claim]:
    """All that is due, by its rule's name."""
    return sorted(ledger_attempts.claim(db, "sms", 10), key=lambda claim: claim.rule)


def claimed_of(db: Database, *others: Notice) -> list[ledger_attempts.Claim]:
    """All that is due, with these."""
    planned(db, *others)
    return ledger_attempts.claim(db, "sms", 10)


@pytest.mark.parametrize("kind", [MESSAGE, RESENT])
def test_what_has_to_arrive_in_time_is_followed_up_if_it_has_not(db: Database, kind: str) -> None:
    """An accepted message whose rule has a fallback for that is looked at again, not before."""
    claim = claimed(db, key="k", kind=kind)
    assert ledger_attempts.begin(db, claim, WORDS)
    assert ledger_attempts.finish(db, claim, replace(ACCEPTED, fallback_in=3600.0))
    assert followups.lease_follow_ups(db, 10) == []
    time_passes(db, timedelta(seconds=3601))
    assert [one.id for one in followups.lease_follow_ups(db, 10)] == [claim.id]


@pytest.mark.parametrize(
    ("left_alone", "fields"),
    [
        ({}, {"is_fallback": True}),
        ({}, {"kind": ALERT}),
        ({"is_kept": True}, {}),
        ({"status": "delivered"}, {}),
        ({"follow_up_at": datetime(2026, 11, 26, 9, tzinfo=UTC)}, {}),
        ({}, None),
    ],
    ids=["fallback", "alert", "kept", "delivered", "followed up", "another"],
)
def test_only_what_is_out_and_may_fall_back_has_to_arrive_in_time(
    db: Database, left_alone: dict[str, Any], fields: dict[str, Any] | None
) -> None:
    """A fallback has none of its own, nor has an alert; what is kept here is sent to nobody; what
    has arrived, or has a time to be followed up, keeps that.
    """
    claim = claimed(db)
    (id_,) = planned(db, notice(rule="other", **(fields or {})))
    change(db, notifications, {"id": id_}, **{"status": "sent", **left_alone})
    before = only(db, notifications, id=id_)
    with db.write() as connection:
        ledger_attempts.await_delivery(connection, id_ if fields is not None else claim.id, 60.0)
    assert only(db, notifications, id=id_) == before


@pytest.mark.parametrize("reached_nobody", [True, False])
def test_what_is_cancelled_is_followed_up_where_nobody_is_told(
    db: Database, reached_nobody: bool
) -> None:
    """Its address gets nothing more, say: the person still has to be told another way."""
    ending = Ending("rejected", "cancelled", "Opted out.", reached_nobody=reached_nobody)
    assert ledger_attempts.finish(db, claimed(db), ending)
    assert len(followups.lease_follow_ups(db, 10)) == reached_nobody


def test_a_receipt_that_is_faster_than_we_takes_no_fallback_away(db: Database) -> None:
    """What the provider has told of by then still has its time to arrive."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, WORDS)
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    assert only(db, notifications)["follow_up_at"] is None
    assert not ledger_attempts.finish(db, claim, replace(ACCEPTED, fallback_in=3600.0))
    assert only(db, notifications)["follow_up_at"] is not None


def test_what_has_to_be_put_right_first_is_waited_for(db: Database) -> None:
    """Nobody claims the message meanwhile, and its case is about its event. Who comes too late to
    say so changes nothing.
    """
    waits = Ending("rejected", "scheduled", retry_in=0.0, is_a_try=False)
    waits = replace(waits, waits_for=WAITS_FOR_PERSON, case=case("account"), case_id="case_1")
    claim = claimed(db)
    assert ledger_attempts.finish(db, claim, replace(waits, waits_for="", case=None))
    assert not ledger_attempts.finish(db, claim, waits)
    other, again = claimed_of(db, notice(rule="other", urgency=2))
    assert ledger_attempts.finish(db, other, replace(waits, case=None))
    assert open_cases(db) == []
    assert ledger_attempts.finish(db, again, waits)
    for row in rows(db, notifications):
        assert (row["waits_for"], row["case_id"]) == (WAITS_FOR_PERSON, "case_1")
    assert [one["event_id"] for one in open_cases(db)] == [claim.event_id]
    assert ledger_attempts.claim(db, "sms", 10) == []


def test_what_an_ending_says_of_its_channel_pauses_it(db: Database) -> None:
    """The case is about its event. Who comes too late to say so pauses nothing."""
    claim = claimed(db)
    refused = Ending("rejected", "created", "No.", retry_in=0.0)
    paused = replace(refused, pause=Pause(pauses.REFUSED, "No.", case=case("paused")))
    assert ledger_attempts.finish(db, claim, refused)
    assert not ledger_attempts.finish(db, claim, paused)
    (again,) = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.finish(db, again, paused)
    assert [row["channel"] for row in rows(db, pauses.pauses)] == ["sms"]
    assert [one["event_id"] for one in open_cases(db)] == [claim.event_id]


def test_where_nothing_is_due_no_trial_is_used_up(db: Database) -> None:
    """The next message that is due finds out at once."""
    claim = claimed(db)
    with db.write() as connection:
        pauses.pause(connection, "sms", claim.event_id, Pause(pauses.AWAY, "No answer."))
    time_passes(db, timedelta(seconds=pauses.PROBES[0] + 1))
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert [one.is_probe for one in claimed_of(db, notice(rule="other"))] == [True]


JUDGED = replace(ACCEPTED, answered=True)


@pytest.mark.parametrize(
    ("ending", "is_probe", "ended"),
    [
        (JUDGED, True, {pauses.AWAY, pauses.DROPPED}),
        (replace(JUDGED, awaits_receipt=True), True, {pauses.AWAY}),
        (Ending("rejected", "permanent-failure", answered=True), True, {pauses.AWAY}),
        (ACCEPTED, True, set()),
        (JUDGED, False, set()),
    ],
    ids=["accepted for good", "accepted", "refused", "not judged", "no trial"],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["", "late"])
@pytest.mark.parametrize("cause", [pauses.AWAY, pauses.DROPPED])
def test_what_a_trial_message_is_told_of_the_channel(
    db: Database, cause: str, is_late: bool, ending: Ending, is_probe: bool, ended: set[str]
) -> None:
    """The provider's own word on it ends a pause, also where a receipt has told of it before us;
    that messages are dropped is over only once one has arrived, or no receipt is to come.
    """
    claim = replace(claimed(db), is_probe=is_probe)
    assert ledger_attempts.begin(db, claim, WORDS)
    with db.write() as connection:
        pauses.pause(connection, "sms", claim.event_id, Pause(cause, "It does not work."))
    if is_late:
        assert ledger_attempts.finish(db, replace(claim, is_probe=False), ACCEPTED)
    ledger_attempts.finish(db, claim, ending)
    assert (rows(db, pauses.pauses) == []) == (cause in ended)


@pytest.mark.parametrize(
    ("is_probe", "is_begun", "is_late", "given_back"),
    [(1, 0, 0, True), (1, 1, 0, False), (1, 0, 1, False), (0, 0, 0, False)],
    ids=["not handed over", "begun", "late", "no trial"],
)
def test_a_trial_message_that_was_not_handed_over_costs_no_turn(
    db: Database, is_probe: int, is_begun: int, is_late: int, given_back: bool
) -> None:
    """Another is it at once, whatever is begun beside it; who comes too late to say so gives no
    second turn back.
    """
    planned(db, notice(rule="beside", urgency=2), notice())
    beside, claim = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.begin(db, claim if is_begun else beside, WORDS)
    with db.write() as connection:
        pauses.pause(connection, "sms", claim.event_id, Pause(pauses.AWAY, "No answer."))
    change(db, pauses.pauses, {}, probes=3)
    needless = Ending("rejected", "cancelled", "It is not wanted any more.")
    if is_late:
        assert ledger_attempts.finish(db, claim, needless)
    ledger_attempts.finish(db, replace(claim, is_probe=bool(is_probe)), needless)
    assert only(db, pauses.pauses)["probes"] == (2 if given_back else 3)


def test_a_trial_message_that_was_accepted_ends_the_pause(db: Database) -> None:
    """While a channel is paused one message finds out; what it was told is told to all."""
    claim = claimed(db)
    with db.write() as connection:
        pauses.pause(connection, "sms", claim.event_id, Pause(AWAY, "No answer."))
    planned(db, notice(subject="o-2"))
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert ledger_attempts.begin(db, claim, WORDS)
    ending = replace(ACCEPTED, awaits_receipt=True, answered=True)
    assert ledger_attempts.finish(db, replace(claim, is_probe=True), ending)
    assert [one.is_probe for one in ledger_attempts.claim(db, "sms", 10)] == [False]


def test_a_transient_refusal_comes_back_later(db: Database) -> None:
    """A message that surely did not go out is claimed again after its delay, not before."""
    claim = claimed(db)
    ledger_attempts.finish(db, claim, Ending("rejected", "created", "Twilio is busy.", retry_in=60))
    row = only(db, notifications)
    assert (row["status"], row["sent_at"], row["reason"]) == ("created", None, "Twilio is busy.")
    assert ledger_attempts.claim(db, "sms", 10) == []
    time_passes(db, timedelta(seconds=61))
    (again,) = ledger_attempts.claim(db, "sms", 10)
    assert again.tries == 2
    assert again.attempt_id != claim.attempt_id
    assert sorted(row["outcome"] for row in rows(db, attempts)) == ["rejected", "started"]


def test_an_unknown_outcome_is_never_claimed(db: Database) -> None:
    """What may have been sent is not sent again blindly, however long it takes."""
    claim = claimed(db)
    ledger_attempts.finish(db, claim, Ending("unknown", "unknown", "Twilio did not answer."))
    time_passes(db, timedelta(days=3))
    ledger_attempts.lapse(db)
    assert only(db, notifications)["status"] == "unknown"
    assert ledger_attempts.claim(db, "sms", 10) == []


@pytest.mark.parametrize("first", [ACCEPTED, Ending("rejected", "permanent-failure", "Invalid.")])
def test_an_attempt_is_settled_once(db: Database, first: Ending) -> None:
    """Whoever settles an attempt first has settled it."""
    claim = claimed(db)
    assert ledger_attempts.finish(db, claim, first)
    before = (only(db, notifications), only(db, attempts))
    for late in (Ending("unknown", "unknown", "late"), replace(ACCEPTED, provider_id="SM2")):
        assert not ledger_attempts.finish(db, claim, late)
    assert (only(db, notifications), only(db, attempts)) == before


def test_a_lost_workers_claim_becomes_unknown(db: Database) -> None:
    """After its lease a claim that was begun is unknown, and says why; not before."""
    ledger_attempts.begin(db, claimed(db), WORDS)
    assert ledger_attempts.lapse(db) == 0
    time_passes(db, LEASE)
    assert ledger_attempts.lapse(db) == 1
    row = only(db, notifications)
    assert (row["status"], only(db, attempts)["outcome"]) == ("unknown", "unknown")
    assert row["reason"].endswith("it may or may not have gone out.")
    assert ledger_attempts.lapse(db) == 0
    assert ledger_attempts.claim(db, "sms", 10) == []


@pytest.mark.parametrize("status", [one for one in STATUSES if one != "sending"])
def test_only_what_is_being_sent_lapses(db: Database, status: str) -> None:
    """Of what has got another status meanwhile, the attempt is left to its worker."""
    claimed(db)
    change(db, notifications, {}, status=status)
    time_passes(db, LEASE)
    assert ledger_attempts.lapse(db) == 0
    assert only(db, attempts)["outcome"] == "started"


def test_a_lost_claim_that_was_not_begun_is_sent_by_another(db: Database) -> None:
    """A worker that died before it had its words sent nothing: the message is claimed again."""
    first = claimed(db)
    time_passes(db, LEASE)
    assert ledger_attempts.lapse(db) == 1
    assert only(db, attempts)["outcome"] == "rejected"
    assert only(db, notifications)["reason"] == "The worker stopped before sending this."
    (second,) = ledger_attempts.claim(db, "sms", 10)
    before = only(db, notifications)
    assert not ledger_attempts.begin(db, first, WORDS)
    assert only(db, notifications) == before
    assert ledger_attempts.begin(db, second, WORDS)


def test_a_message_that_kills_its_worker_keeps_no_other_waiting(db: Database) -> None:
    """It goes to the end of what is as urgent: the next worker takes another first."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    planned(db, notice(rule="kills", due_at=long_ago), notice(rule="other"))
    assert [one.rule for one in ledger_attempts.claim(db, "sms", 1)] == ["kills"]
    time_passes(db, LEASE)
    assert ledger_attempts.lapse(db) == 1
    assert [one.rule for one in ledger_attempts.claim(db, "sms", 1)] == ["other"]


def test_only_the_lost_claim_lapses(db: Database) -> None:
    """What another worker has claimed meanwhile is its own."""
    lost = claimed(db)
    time_passes(db, LEASE)
    claimed_of(db, notice(rule="other"))
    assert ledger_attempts.lapse(db) == 1
    outcomes = {row["id"]: row["outcome"] for row in rows(db, attempts)}
    assert outcomes.pop(lost.attempt_id) == "rejected"
    assert [*outcomes.values()] == ["started"]


def test_a_message_that_no_worker_gets_ready_is_given_up(db: Database) -> None:
    """Its preparation outlives the lease, or kills its worker, each time: after so many tries it
    has failed, and is followed up as any that failed.
    """
    claimed(db)
    for tries in range(2, ledger_attempts.TRIES + 1):
        change(db, notifications, {}, lease_until=datetime.now(UTC) - LEASE)
        assert ledger_attempts.lapse(db) == 1
        (claim,) = ledger_attempts.claim(db, "sms", 1)
        assert claim.tries == tries
    change(db, notifications, {}, lease_until=datetime.now(UTC) - LEASE)
    assert ledger_attempts.lapse(db) == 1
    row = only(db, notifications)
    reason = "No worker could get this ready to be sent, though it was tried 30 times."
    assert (row["status"], row["reason"]) == ("technical-failure", reason)
    assert {row["outcome"] for row in rows(db, attempts)} == {"rejected"}
    assert len(followups.lease_follow_ups(db, 10)) == 1


def test_what_waits_to_be_sent_again_need_not_be_once_it_was_sent(db: Database) -> None:
    """A late answer of a lost attempt stops the next one."""
    claim = claimed(db)
    ledger_attempts.finish(db, claim, Ending("unknown", "unknown"))
    change(db, notifications, {}, status="created")
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    assert only(db, notifications)["status"] == "sent"
    assert ledger_attempts.claim(db, "sms", 10) == []


def test_a_worker_that_was_only_slow_is_heard(db: Database) -> None:
    """An answer that comes after the lease still settles the message that was thought lost."""
    claim = claimed(db)
    ledger_attempts.begin(db, claim, WORDS)
    time_passes(db, LEASE)
    ledger_attempts.lapse(db)
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    assert only(db, notifications)["status"] == "sent"
    assert only(db, attempts)["outcome"] == "accepted"


def test_sweeps_at_once_lapse_a_claim_once(db: Database) -> None:
    """Several clocks settle each lost claim once, and never one whose worker came back."""
    claim = claimed(db)
    ledger_attempts.begin(db, claim, WORDS)
    time_passes(db, LEASE)
    results = at_once(
        lambda n: ledger_attempts.lapse(db) if n else ledger_attempts.finish(db, claim, ACCEPTED)
    )
    assert results[0] == 1
    assert sum(results[1:]) in (0, 1)
    assert only(db, notifications)["status"] == "sent"


def test_an_opt_out_that_the_provider_tells_of_is_kept(db: Database) -> None:
    """Twilio's "opted out" suppresses the number for every later message, once."""
    ending = Ending(
        "rejected", "permanent-failure", "STOP", code="21610", suppress="STOP (Twilio 21610)"
    )
    ledger_attempts.finish(db, claimed(db), ending)
    row = only(db, suppressions)
    assert (row["channel"], row["address"]) == ("sms", "+447700900001")
    planned(db, notice(rule="other"))
    (claim,) = ledger_attempts.claim(db, "sms", 10)
    assert claim.stopped_by
    ledger_attempts.finish(db, claim, ending)
    assert len(rows(db, suppressions)) == 1


@pytest.mark.parametrize(
    ("outcome", "counted"), [("accepted", 1), ("unknown", 1), ("rejected", 0), (None, 1)]
)
def test_a_cap_counts_what_may_cost_something(
    db: Database, outcome: str | None, counted: int
) -> None:
    """The day's count has every attempt that a provider took or may have taken, and no other."""
    claim = claimed(db)
    if outcome:
        ledger_attempts.finish(db, claim, Ending(outcome, "sent"))
    planned(db, *(notice(subject=f"s{number}") for number in range(5)))
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert len(ledger_attempts.claim(db, "sms", 10, Cap(3, now - hour))) == 3 - counted
    assert ledger_attempts.claim(db, "sms", 10, Cap(3, now - hour)) == []
    assert len(ledger_attempts.claim(db, "sms", 10, Cap(3, now + hour))) == 2 + counted


def test_a_limit_that_is_passed_opens_one_case(db: Database) -> None:
    """About the most urgent of what has to wait, and its event; once since the limit counts."""
    cap = Cap(
        1, datetime.now(UTC) - timedelta(hours=1), lambda urgency: case("limit", f"{urgency}")
    )
    planned(db, notice())
    assert len(ledger_attempts.claim(db, "sms", 10, cap)) == 1
    assert ledger_attempts.claim(db, "sms", 10, cap) == []
    assert open_cases(db) == []
    planned(db, notice(rule="other"))
    (urgent,) = planned(db, notice(rule="urgent", urgency=1))
    for _ in range(2):
        assert ledger_attempts.claim(db, "sms", 10, cap) == []
        (one,) = open_cases(db)
        assert one["event_id"] == only(db, notifications, id=urgent)["event_id"]
        assert one["digest"] == case_digest("limit", "1")
    close_case(db, one["id"], "jane")
    assert ledger_attempts.claim(db, "sms", 10, cap) == []
    assert open_cases(db) == []
    assert len(ledger_attempts.claim(db, "sms", 10, replace(cap, most=9))) == 2


@pytest.mark.parametrize("status", STATUSES)
def test_a_fallback_comes_when_nothing_else_of_the_family_may_arrive(
    db: Database, status: str
) -> None:
    """A failed message is made up for once, and not while another message is on its way."""
    other = notice(channel="email", address="a@example.org")
    claim = claimed(db)
    planned(db, other)
    change(db, notifications, {"channel": "email"}, status=status)
    ledger_attempts.finish(db, claim, Ending("rejected", "permanent-failure", "No."))
    (item,) = followups.lease_follow_ups(db, 10)
    assert followups.lease_follow_ups(db, 10) == []
    fallback = replace(other, address="b@example.org", is_fallback=True)
    told = []
    for _ in range(2):
        with db.write() as connection:
            told.append(followups.finish_follow_up(connection, item, [fallback], None, None))
    assert told == ["waiting" if status in ALIVE else "fallback", ""]
    made = [row for row in rows(db, notifications) if row["is_fallback"]]
    assert len(made) == (status not in ALIVE)


def test_a_lease_is_renewed_unless_it_has_lapsed(db: Database) -> None:
    """A claim that lapsed meanwhile must not be sent any more."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, WORDS)
    time_passes(db, timedelta(minutes=5))
    ledger_attempts.lapse(db)
    assert not ledger_attempts.begin(db, claim, WORDS)


def test_waiting_is_not_a_try(db: Database) -> None:
    """A message that only waits for its window keeps all of its tries."""
    claim = claimed(db)
    ending = Ending("rejected", "scheduled", retry_in=60, is_a_try=False)
    ledger_attempts.finish(db, claim, ending)
    row = only(db, notifications)
    assert (row["status"], row["tries"], row["attempts"]) == ("scheduled", 0, 1)


def test_two_that_are_late_at_once_lead_to_one_fallback(db: Database) -> None:
    """Of a group's messages each may leave it to the other: never both."""
    first, second = notice(address="+447700900001"), notice(address="+447700900002")
    planned(db, first, second)
    late = datetime.now(UTC) - timedelta(minutes=1)
    change(db, notifications, {}, status="sent", follow_up_at=late)
    items = followups.lease_follow_ups(db, 10)
    instead = replace(first, channel="email", address="a@example.org", is_fallback=True)

    def finish(number: int) -> str:
        with db.write() as connection:
            return followups.finish_follow_up(
                connection, items[number], [instead], None, None, late="It is late."
            )

    assert sorted(at_once(finish, 2)) == ["fallback", "waiting"]
    assert [row["channel"] for row in rows(db, notifications) if row["is_fallback"]] == ["email"]
