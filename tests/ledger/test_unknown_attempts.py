"""Attempts of which nobody knows whether they went out: looked for, then adopted or given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from relay.ledger import attempts as ledger_attempts
from relay.ledger import receipts, unknown_attempts
from relay.ledger.attempts import LOOKS, Claim
from relay.ledger.database import Database
from relay.ledger.schema import attempts, notifications
from relay.ledger.schema import cases as ledger_cases
from relay.ledger.unknown_attempts import UnknownAttempt
from relay.ledger.worklist import cases
from relay.rules.model import Ending, case_digest
from relay.rules.receipts import Receipt
from tests.rows import (
    at_once,
    case,
    claimed,
    looked,
    notice,
    only,
    open_cases,
    resent,
    rows,
    time_passes,
    unknown,
)

REASON = "The provider has no record of it, so Relay is sending it again."
MINUTE = timedelta(minutes=1)
LEASE = timedelta(seconds=unknown_attempts.LEASE_SECONDS + 1)
MAIL = {"channel": "email", "address": "jane@example.org"}


def adopt(db: Database, look: UnknownAttempt, provider_id: str = "SM1") -> bool:
    """It was found at the provider."""
    with db.write() as connection:
        return unknown_attempts.adopt(connection, look, provider_id, awaits_receipt=True)


def rejected(db: Database, claim: Claim, status: str = "created") -> bool:
    """The provider's late answer to a claim: it has not taken it."""
    retry = 0.0 if status == "created" else None
    return ledger_attempts.finish(db, claim, Ending("rejected", status, "Busy.", retry_in=retry))


@pytest.mark.parametrize(
    ("fields", "first"), [({}, 2 * MINUTE), (MAIL, 15 * MINUTE)], ids=["sms", "email"]
)
def test_an_unknown_attempt_is_looked_for_when_it_is_time(
    db: Database, fields: dict[str, str], first: timedelta
) -> None:
    """A text is looked for after 2 minutes, an email after 15; not before."""
    claim = unknown(db, **fields)
    time_passes(db, first - timedelta(seconds=5))
    assert unknown_attempts.lease_unknown(db, 10) == []
    time_passes(db, timedelta(seconds=6))
    (look,) = unknown_attempts.lease_unknown(db, 10)
    assert (look.id, look.attempt_id, look.looks) == (claim.id, claim.attempt_id, 1)


def test_a_look_knows_what_it_looks_for(db: Database) -> None:
    """It carries the address, the words and the moment of the send, as the provider lists them."""
    claim = unknown(db)
    look = looked(db)
    assert (look.channel, look.address) == ("sms", claim.address)
    assert look.content == {"text": "Your kit …"}
    assert look.started_at == only(db, attempts)["started_at"]
    assert (look.rule, look.subject, look.event_id) == (claim.rule, claim.subject, claim.event_id)


def test_a_lost_workers_attempt_is_looked_for(db: Database) -> None:
    """A worker that was killed while it sent leaves an attempt that is looked for as any other."""
    ledger_attempts.begin(db, claimed(db), {"text": "Your kit …"})
    time_passes(db, timedelta(seconds=ledger_attempts.LEASE_SECONDS + 1))
    ledger_attempts.lapse(db)
    assert unknown_attempts.lease_unknown(db, 10) == []
    assert looked(db).content == {"text": "Your kit …"}


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_only_what_is_unknown_is_looked_for(db: Database, outcome: str) -> None:
    """What the provider has answered needs no looking for."""
    ledger_attempts.finish(db, claimed(db), Ending(outcome, "sent"))
    time_passes(db, timedelta(days=1))
    assert unknown_attempts.lease_unknown(db, 10) == []


def test_a_look_is_nobody_elses(ledger_url: str, db: Database) -> None:
    """Of workers that look at once each attempt is one's alone, until its lease is over."""
    claims = [unknown(db, subject=f"o-{number}") for number in range(6)]
    time_passes(db, 3 * MINUTE)
    workers = [Database(ledger_url, patience=20) for _ in range(4)]
    leased = [
        look
        for batch in at_once(lambda n: unknown_attempts.lease_unknown(workers[n], 4), 4)
        for look in batch
    ]
    leased += unknown_attempts.lease_unknown(db, 10)
    assert sorted(look.id for look in leased) == sorted(claim.id for claim in claims)
    assert unknown_attempts.lease_unknown(db, 10) == []
    time_passes(db, LEASE)
    assert len(unknown_attempts.lease_unknown(db, 10)) == 6
    for worker in workers:
        worker.close()


def test_a_look_that_came_to_nothing_is_not_counted(db: Database) -> None:
    """A worker that died while it looked has not looked: the message is not given up sooner."""
    unknown(db)
    assert looked(db).looks == 1
    assert looked(db, unknown_attempts.LEASE_SECONDS).looks == 1


def test_looks_are_counted_when_the_provider_has_told(db: Database) -> None:
    """The second look comes after the first one's delay; one that failed is made anew."""
    unknown(db)
    first = looked(db)
    with db.write() as connection:
        unknown_attempts.look_later(connection, first, 120, counts=False)
    time_passes(db, MINUTE)
    assert unknown_attempts.lease_unknown(db, 10) == []
    again = looked(db, 60)
    assert again.looks == 1
    with db.write() as connection:
        unknown_attempts.look_later(connection, again, LOOKS["sms"][1] - LOOKS["sms"][0])
    time_passes(db, 7 * MINUTE)
    assert unknown_attempts.lease_unknown(db, 10) == []
    assert looked(db, 60).looks == 2


def test_the_ids_of_other_messages_are_taken(db: Database) -> None:
    """What is known of other messages to the address, this way, is not the one that is sought."""
    for number, (address, channel) in enumerate(
        (("+447700900001", "sms"), ("+447700900002", "sms"), ("jane@example.org", "email"))
    ):
        claim = claimed(db, subject=f"o-{number}", address=address, channel=channel)
        ending = Ending("accepted", "sent", provider_id=f"SM{number}")
        ledger_attempts.finish(db, claim, ending)
    unknown(db, subject="another")
    look = looked(db)
    with db.read() as connection:
        assert unknown_attempts.taken_ids(connection, look) == {"SM0"}


def test_what_is_found_is_adopted(db: Database) -> None:
    """It had gone out: it is sent, with the provider's id, and its receipt is waited for."""
    unknown(db)
    assert adopt(db, looked(db))
    row, attempt = only(db, notifications), only(db, attempts)
    assert (row["status"], row["reason"], row["provider_id"]) == ("sent", "", "SM1")
    assert row["receipt_by"] is not None
    assert (attempt["outcome"], attempt["provider_id"]) == ("accepted", "SM1")
    assert attempt["look_at"] is None
    assert ledger_attempts.claim(db, "sms", 10) == []


def test_nothing_is_adopted_twice(db: Database) -> None:
    """A provider's message is one attempt's: another with the same words is not the same."""
    unknown(db)
    look = looked(db)
    assert adopt(db, look)
    assert not adopt(db, look)
    unknown(db, subject="o-2")
    other = looked(db)
    assert not adopt(db, other)
    assert only(db, notifications, subject="o-2")["status"] == "unknown"
    assert adopt(db, other, "SM2")


def test_nothing_is_adopted_twice_at_once(db: Database) -> None:
    """Six looks that find the same message at the same moment: one of them gets it."""
    for number in range(6):
        unknown(db, subject=f"o-{number}")
    time_passes(db, 3 * MINUTE)
    looks = unknown_attempts.lease_unknown(db, 10)
    assert sum(at_once(lambda n: adopt(db, looks[n]), 6)) == 1
    statuses = sorted(row["status"] for row in rows(db, notifications))
    assert statuses == ["sent", *["unknown"] * 5]


@pytest.mark.parametrize("settled_by", ["worker", "receipt"])
def test_what_was_settled_meanwhile_is_left_alone(db: Database, settled_by: str) -> None:
    """While it was looked for, its own worker or a receipt has told: that counts."""
    claim = unknown(db)
    look = looked(db)
    if settled_by == "worker":
        ledger_attempts.finish(db, claim, Ending("accepted", "sent", provider_id="SM9"))
    else:
        told = Receipt("delivered", "delivered", claim.attempt_id, "SM9")
        receipts.record(db, "sms", [told])
    before = only(db, notifications)
    assert not adopt(db, look)
    with db.write() as connection:
        unknown_attempts.look_later(connection, look, 0.0)
    for asked in (None, case("unknown", look.id, look.event_id)):
        with db.write() as connection:
            assert not unknown_attempts.give_up_unknown(connection, look, REASON, asked)
    assert only(db, notifications) == before
    assert open_cases(db) == []
    assert unknown_attempts.lease_unknown(db, 10) == []


def test_what_is_not_found_is_sent_once_more(db: Database) -> None:
    """It is claimed again, once; the first attempt stays unknown, for a receipt that comes late."""
    first, second = resent(db)
    assert (second.id, second.attempt_id == first.attempt_id) == (first.id, False)
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert only(db, attempts, id=first.attempt_id)["outcome"] == "unknown"
    time_passes(db, timedelta(days=1))
    assert unknown_attempts.lease_unknown(db, 10) == []


def test_what_is_given_up_at_once_is_sent_once_more(db: Database) -> None:
    """Two looks at one attempt, the first one's lease being over, send it again once."""
    unknown(db)
    first = looked(db)
    second = looked(db, unknown_attempts.LEASE_SECONDS)

    def give_up(number: int) -> bool:
        with db.write() as connection:
            return unknown_attempts.give_up_unknown(
                connection, (first, second)[number], REASON, None
            )

    told = at_once(give_up, 2)
    assert sorted(told) == [False, True]
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1


def test_what_is_not_found_is_held_with_a_case(db: Database) -> None:
    """Where the rule says so a person decides: it stays unknown, on the worklist, staff told."""
    unknown(db)
    look = looked(db)
    desk = {"channel": "email", "address": "desk@example.org", "kind": "alert"}
    alert = notice(rule="relay:unknown", template="", **desk)
    held = case("unknown", look.id, look.event_id, alert)
    with db.write() as connection:
        assert unknown_attempts.give_up_unknown(connection, look, "It waits for a person.", held)
    row = only(db, notifications, id=look.id)
    assert (row["status"], row["reason"]) == ("unknown", "It waits for a person.")
    assert [one["digest"] for one in open_cases(db)] == [case_digest("unknown", look.id)]
    assert [one.address for one in ledger_attempts.claim(db, "email", 10)] == ["desk@example.org"]
    time_passes(db, timedelta(days=1))
    assert unknown_attempts.lease_unknown(db, 10) == []
    assert ledger_attempts.claim(db, "sms", 10) == []


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        ("accepted", "sent", "It has gone out."),
        ("rejected", "created", "That try did not go out."),
        ("rejected", "permanent-failure", "That try did not go out."),
    ],
)
def test_nobody_has_to_find_out_what_its_worker_says(
    db: Database, outcome: str, status: str, said: str
) -> None:
    """Its own worker was only slow: once that says whether it was taken, its case is closed."""
    claim = unknown(db)
    look = looked(db)
    with db.write() as connection:
        held = case("unknown", look.id, look.event_id)
        assert unknown_attempts.give_up_unknown(connection, look, "It waits for a person.", held)
        cases.open_case(connection, case("unreached", look.id, look.event_id))
    assert ledger_attempts.finish(db, claim, Ending(outcome, status, provider_id="SM1"))
    assert [row["kind"] for row in open_cases(db)] == ["unreached"]
    assert only(db, ledger_cases, kind="unknown")["note"] == said


def test_a_person_finds_out_what_its_worker_does_not_know(db: Database) -> None:
    """A worker that got no answer either closes no case."""
    claim = unknown(db)
    look = looked(db)
    with db.write() as connection:
        held = case("unknown", look.id, look.event_id)
        assert unknown_attempts.give_up_unknown(connection, look, "It waits for a person.", held)
    assert ledger_attempts.finish(db, claim, Ending("unknown", "unknown"))
    assert [row["kind"] for row in open_cases(db)] == ["unknown"]


def test_a_person_still_finds_out_about_the_second_try(db: Database) -> None:
    """The first try's refusal says nothing about the second, whose case stays open."""
    first, second = resent(db)
    lost = Ending("unknown", "unknown", "Twilio did not answer.")
    ledger_attempts.begin(db, second, {"text": "Your kit …"})
    ledger_attempts.finish(db, second, lost)
    time_passes(db, 3 * MINUTE)
    looks = {look.attempt_id: look for look in unknown_attempts.lease_unknown(db, 10)}
    look = looks[second.attempt_id]
    with db.write() as connection:
        held = case("unknown", look.id, look.event_id)
        assert unknown_attempts.give_up_unknown(connection, look, "It waits for a person.", held)
    assert rejected(db, first)
    assert [row["kind"] for row in open_cases(db)] == ["unknown"]


def test_a_late_answer_of_the_first_attempt_does_not_move_the_second(db: Database) -> None:
    """What the first attempt's worker learns late is no word on the attempt that is in flight."""
    for number, status in enumerate(("created", "permanent-failure")):
        first, second = resent(db, subject=f"o-{number}")
        assert rejected(db, first, status)
        assert only(db, notifications, id=first.id)["status"] == "sending"
        assert ledger_attempts.claim(db, "sms", 10) == []
        assert ledger_attempts.begin(db, second, {"text": "Your kit …"})


def test_a_late_answer_of_the_first_attempt_sends_nothing_blindly(db: Database) -> None:
    """While the second attempt is unknown it is looked for, whatever becomes of the first."""
    first, second = resent(db)
    lost = Ending("unknown", "unknown", "Twilio did not answer.")
    ledger_attempts.begin(db, second, {"text": "Your kit …"})
    ledger_attempts.finish(db, second, lost)
    assert ledger_attempts.finish(db, first, replace(lost, reason="The first did not either."))
    assert only(db, notifications)["reason"] == "Twilio did not answer."
    time_passes(db, 3 * MINUTE)
    looks = {look.attempt_id: look for look in unknown_attempts.lease_unknown(db, 10)}
    assert second.attempt_id in looks
    with db.write() as connection:
        assert not unknown_attempts.give_up_unknown(
            connection, looks[first.attempt_id], REASON, None
        )
    assert rejected(db, first)
    assert only(db, notifications)["status"] == "unknown"
    assert ledger_attempts.claim(db, "sms", 10) == []


def test_an_attempt_that_went_out_after_all_settles_the_message(db: Database) -> None:
    """The first attempt's worker was only slow: what it sent is sent, and not once more."""
    first, second = resent(db)
    assert ledger_attempts.finish(db, first, Ending("accepted", "sent", provider_id="SM1"))
    assert not ledger_attempts.begin(db, second, {"text": "Your kit …"})
    assert rejected(db, second)
    row = only(db, notifications)
    assert (row["status"], row["provider_id"]) == ("sent", "SM1")
    assert ledger_attempts.claim(db, "sms", 10) == []
