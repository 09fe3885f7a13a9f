"""Emails that bounce after they were delivered, and bounces that do not say of which email."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from relay.ledger import attempts as ledger_attempts
from relay.ledger import followups, receipts
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.schema import attempts, notifications, suppressions
from relay.ledger.schema import receipts as kept
from relay.rules.model import Ending
from relay.rules.receipts import Receipt
from relay.rules.statuses import FAILED
from tests.rows import change, claimed, notice, only, planned, resent, rows, time_passes, unknown

JANE = "jane@example.org"
NO_MAILBOX = "The email bounced: there is no such mailbox, or it is closed."
BUSY = "The person's mail server would not take the email for now."
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WORDS = {"subject": "Your kit", "text": "Your kit …"}
# SendGrid's words → state, reason, why the address is suppressed.
SAID = {
    "processed": ("sent", "", ""),
    "delivered": ("delivered", "", ""),
    "bounce": ("permanent-failure", NO_MAILBOX, "bounce"),
    "dropped": ("permanent-failure", "SendGrid dropped the email.", ""),
    "blocked": ("temporary-failure", BUSY, ""),
}


def at(minutes: float = 0.0) -> datetime:
    """So many minutes from now, by SendGrid's clock."""
    return datetime.now(UTC).replace(microsecond=0) + minutes * MINUTE


def told(word: str, moment: datetime | None, **whose: str) -> Receipt:
    """What SendGrid says of an attempt, of an id of its own, or of an address."""
    state, reason, suppress = SAID[word]
    how = {"reason": reason, "suppress": suppress, "happened_at": moment}
    return Receipt(state, word, **how, **whose)


def hear(db: Database, *told_: Receipt) -> int:
    """Keep what SendGrid has told; how much of it was news."""
    return len(receipts.record(db, "email", told_))


def sent(db: Database, subject: str = "o-1", **fields: Any) -> Claim:
    """An email that SendGrid has taken just now."""
    claim = claimed(db, channel="email", subject=subject, **{"address": JANE, **fields})
    return taken(db, claim)


def taken(db: Database, claim: Claim) -> Claim:
    """An email that was claimed, once SendGrid has it."""
    assert ledger_attempts.begin(db, claim, WORDS)
    ending = Ending("accepted", "sent", provider_id=f"sg-{claim.attempt_id}", awaits_receipt=True)
    assert ledger_attempts.finish(db, claim, ending)
    return claim


def delivered(db: Database, subject: str = "o-1", **fields: Any) -> Claim:
    """An email that was delivered just now."""
    claim = sent(db, subject, **fields)
    assert hear(db, told("delivered", at(), attempt_id=claim.attempt_id))
    return claim


def status(db: Database, claim: Claim) -> str:
    """How a message stands."""
    return str(only(db, notifications, id=claim.id)["status"])


def stopped(db: Database) -> list[tuple[str, str, str]]:
    """What addresses get nothing more, and why."""
    return [(row["channel"], row["address"], row["source"]) for row in rows(db, suppressions)]


@pytest.mark.parametrize("word", ["bounce", "dropped", "blocked"])
def test_what_bounces_after_it_was_delivered_is_seen_to(db: Database, word: str) -> None:
    """The mail server took it and sent it back later: the message has failed, says why, and is
    followed up, once. Only a bounce says something of the address.
    """
    state, reason, why = SAID[word]
    claim = delivered(db)
    bounce = told(word, at(5), attempt_id=claim.attempt_id)
    assert hear(db, bounce, bounce) == 1
    row = only(db, notifications, id=claim.id)
    assert (row["status"], row["reason"], row["delivered_at"]) == (state, reason, None)
    assert stopped(db) == [("email", JANE, why)] * bool(why)
    (item,) = followups.lease_follow_ups(db, 10)
    assert (item.id, item.status, item.unconfirmed) == (claim.id, state, False)
    with db.write() as connection:
        assert followups.finish_follow_up(connection, item, (), None, None) == ""
    assert hear(db, bounce) == 0
    assert hear(db, told(word, at(6), attempt_id=claim.attempt_id)) == 1
    assert followups.lease_follow_ups(db, 10) == []
    assert status(db, claim) == state


@pytest.mark.parametrize("bounced", [-5, 0], ids=["earlier", "in the same second"])
def test_what_was_delivered_after_a_bounce_stays(db: Database, bounced: int) -> None:
    """Only a later bounce undoes it, by SendGrid's clock; when it is heard does not matter."""
    moment = at()
    for number, words in enumerate(permutations(["delivered", "bounce"])):
        claim = sent(db, f"o-{number}", address=f"jane{number}@example.org")
        for word in words:
            then = moment + bounced * MINUTE if word == "bounce" else moment
            assert hear(db, told(word, then, attempt_id=claim.attempt_id)) == 1
        assert status(db, claim) == "delivered"
    assert followups.lease_follow_ups(db, 10) == []


def test_every_order_of_a_batch_leads_to_the_same_end(db: Database) -> None:
    """SendGrid's batches have no order: what counts is when each thing happened."""
    story = [("processed", at()), ("delivered", at(1)), ("bounce", at(9))]
    for number, batch in enumerate(permutations(story)):
        claim = sent(db, f"o-{number}", address=f"jane{number}@example.org")
        assert hear(db, *(told(*one, attempt_id=claim.attempt_id) for one in batch)) == 3
        row = only(db, notifications, id=claim.id)
        assert (row["status"], row["reason"]) == ("permanent-failure", NO_MAILBOX)
        assert (row["delivered_at"], row["receipt_by"]) == (None, None)
        assert row["follow_up_at"]


def test_a_delivery_that_the_release_before_has_kept_is_undone_too(db: Database) -> None:
    """It has kept when it heard of it, and not when that was."""
    claim = delivered(db)
    change(db, kept, {"attempt_id": claim.attempt_id}, happened_at=None)
    assert hear(db, told("bounce", at(-5), attempt_id=claim.attempt_id)) == 1
    assert status(db, claim) == "delivered"
    assert hear(db, told("bounce", at(5), attempt_id=claim.attempt_id)) == 1
    assert status(db, claim) == "permanent-failure"


def test_a_bounce_that_the_release_before_has_kept_is_no_news(db: Database) -> None:
    """SendGrid tells it again, and meanwhile this release has taken over: it is the same one."""
    claim = delivered(db)
    bounce = told("bounce", at(5), attempt_id=claim.attempt_id)
    assert hear(db, bounce) == 1
    change(db, kept, {"word": "bounce"}, happened_at=None)
    assert hear(db, bounce) == 0


def test_a_blanked_message_is_not_seen_to(db: Database) -> None:
    """Nobody knows any more whom it was for; that it has bounced is true all the same."""
    claim = delivered(db)
    change(db, notifications, {}, address="", content=None)
    assert hear(db, told("bounce", at(5), attempt_id=claim.attempt_id)) == 1
    assert status(db, claim) == "permanent-failure"
    assert followups.lease_follow_ups(db, 10) == []
    assert stopped(db) == []


def test_what_was_given_up_and_then_delivered_may_bounce(db: Database) -> None:
    """No receipt for 72 hours, then it was delivered after all, then it came back: it is seen to as
    what has surely not arrived.
    """
    claim = sent(db)
    time_passes(db, timedelta(hours=73))
    assert receipts.give_up(db) == 1
    assert hear(db, told("delivered", at(), attempt_id=claim.attempt_id)) == 1
    assert hear(db, told("bounce", at(5), attempt_id=claim.attempt_id)) == 1
    (item,) = followups.lease_follow_ups(db, 10)
    assert (item.status, item.reason, item.unconfirmed) == ("permanent-failure", NO_MAILBOX, False)


@pytest.mark.parametrize("first", ["delivered", "bounce"])
def test_an_email_that_went_out_twice_waits_for_the_second(db: Database, first: str) -> None:
    """The first copy was delivered and bounced, and nothing is known of the second yet: its own
    receipt decides, or that there is none for 72 hours.
    """
    one, two = resent(db, channel="email", address=JANE)
    other = delivered(db, "o-2", address="ann@example.org")
    taken(db, two)
    story = [("delivered", at(1)), ("bounce", at(5))]
    if first == "bounce":
        story.reverse()
    for word, moment in story:
        assert hear(db, told(word, moment, attempt_id=one.attempt_id)) == 1
    row = only(db, notifications, id=one.id)
    assert (row["status"], row["delivered_at"], row["follow_up_at"]) == ("sent", None, None)
    assert status(db, other) == "delivered"
    time_passes(db, timedelta(hours=73))
    assert receipts.give_up(db) == 1
    assert hear(db, told("delivered", at(6), attempt_id=two.attempt_id)) == 1
    assert status(db, one) == "delivered"


@pytest.mark.parametrize("outcome", ["started", "unknown"])
def test_what_may_be_out_is_waited_for(db: Database, outcome: str) -> None:
    """The first copy bounces while the second is handed over, or nobody knows whether it was: that
    one may arrive.
    """
    one, two = resent(db, channel="email", address=JANE)
    assert ledger_attempts.begin(db, two, WORDS)
    if outcome == "unknown":
        assert ledger_attempts.finish(db, two, Ending("unknown", "unknown", "No answer."))
    assert hear(db, told("delivered", at(1), attempt_id=one.attempt_id)) == 1
    assert hear(db, told("bounce", at(5), attempt_id=one.attempt_id)) == 1
    assert (status(db, one), followups.lease_follow_ups(db, 10)) == ("sent", [])


def test_what_is_sent_again_after_a_bounce_is_not_undone_by_it(db: Database) -> None:
    """Staff had the mailbox put right and sent it once more: the old bounce, told again, is old."""
    claim = delivered(db)
    assert hear(db, told("bounce", at(5), attempt_id=claim.attempt_id)) == 1
    with db.write() as connection:
        assert ledger_suppressions.unsuppress(connection, "email", JANE) == "bounce"
    change(db, notifications, {}, status="created", follow_up_at=None)
    (again,) = ledger_attempts.claim(db, "email", 10)
    taken(db, again)
    assert hear(db, told("bounce", at(6), attempt_id=claim.attempt_id)) == 1
    assert status(db, claim) == "sent"
    assert hear(db, told("delivered", at(7), attempt_id=again.attempt_id)) == 1
    assert hear(db, told("bounce", at(8), attempt_id=claim.attempt_id)) == 1
    assert status(db, claim) == "delivered"


# A bounce that names no message


@pytest.mark.parametrize("make", [sent, delivered], ids=["sent", "delivered"])
@pytest.mark.parametrize("word", ["bounce", "blocked"])
def test_a_bounce_without_an_id_is_of_the_last_message(
    db: Database, make: Callable[[Database], Claim], word: str
) -> None:
    """Mail servers that bounce later do not say what: the last email to that address has failed,
    told of as delivered or not, and the address gets nothing more.
    """
    state, reason, why = SAID[word]
    claim = make(db)
    bounce = told(word, at(5), address=JANE)
    assert hear(db, bounce, bounce) == 1
    row = only(db, notifications, id=claim.id)
    assert (row["status"], row["reason"]) == (state, reason)
    assert stopped(db) == [("email", JANE, why)] * bool(why)
    assert [item.id for item in followups.lease_follow_ups(db, 10)] == [claim.id]


def test_of_two_messages_it_is_the_newer(db: Database) -> None:
    """What went out before it stays: nobody says that it bounced."""
    older = delivered(db, "o-1")
    time_passes(db, DAY)
    newer, other = delivered(db, "o-2"), delivered(db, "o-3", address="ann@example.org")
    assert hear(db, told("bounce", at(5), address=JANE)) == 1
    found = [status(db, claim) for claim in (older, newer, other)]
    assert found == ["delivered", "permanent-failure", "delivered"]


def an_hour_ago(db: Database, subject: str) -> Claim:
    """An email that went out an hour ago and was delivered a minute later."""
    claim = sent(db, subject)
    change(db, notifications, {"id": claim.id}, sent_at=at(-60))
    assert hear(db, told("delivered", at(-59), attempt_id=claim.attempt_id))
    return claim


def test_what_went_out_after_the_bounce_is_not_the_one(db: Database) -> None:
    """SendGrid may tell of it late, when another message has gone out."""
    older = an_hour_ago(db, "o-1")
    newer = delivered(db, "o-2")
    assert hear(db, told("bounce", at(-30), address=JANE)) == 1
    assert [status(db, claim) for claim in (older, newer)] == ["permanent-failure", "delivered"]


def test_the_providers_clock_may_be_slow(db: Database) -> None:
    """A bounce of half a minute before a message went out may be that message's."""
    older, newer = an_hour_ago(db, "o-1"), sent(db, "o-2")
    assert hear(db, told("bounce", at(-0.5), address=JANE)) == 1
    assert [status(db, claim) for claim in (older, newer)] == ["delivered", "permanent-failure"]


def test_of_two_tries_it_is_the_one_that_went_out(db: Database) -> None:
    """Sent, then to be sent once more, which SendGrid refused: what came back is the first."""
    first = sent(db)
    change(db, notifications, {}, status="created")
    (second,) = ledger_attempts.claim(db, "email", 10)
    refused = Ending("rejected", "permanent-failure", "SendGrid refused the message (400).")
    assert ledger_attempts.finish(db, second, refused)
    assert hear(db, told("bounce", at(5), address=JANE)) == 1
    assert only(db, kept)["attempt_id"] == first.attempt_id


def test_the_same_bounce_is_not_one_of_the_next_message(db: Database) -> None:
    """Staff lift the stop and write again: the old bounce, told once more, undoes neither."""
    an_hour_ago(db, "o-1")
    bounce = told("bounce", at(-30), address=JANE)
    assert hear(db, bounce) == 1
    with db.write() as connection:
        assert ledger_suppressions.unsuppress(connection, "email", JANE) == "bounce"
    again = delivered(db, "o-2")
    assert hear(db, bounce) == 0
    assert (status(db, again), stopped(db)) == ("delivered", [])


def _a_week_ago(db: Database) -> None:
    delivered(db)
    time_passes(db, timedelta(days=7, minutes=1))


def _blanked(db: Database) -> None:
    delivered(db)
    change(db, notifications, {}, address="", content=None)


def _kept_here(db: Database) -> None:
    claim = claimed(db, channel="email", address=JANE)
    assert ledger_attempts.begin(db, claim, WORDS)
    ending = Ending("accepted", "sent", provider_id=f"dry-run-{claim.attempt_id}", is_kept=True)
    assert ledger_attempts.finish(db, claim, ending)


def _waits(db: Database) -> None:
    planned(db, notice(channel="email", address=JANE))


def _unknown(db: Database) -> None:
    unknown(db, channel="email", address=JANE)


def _in_other_letters(db: Database) -> None:
    delivered(db, address="JANE@example.org")


def _by_text(db: Database) -> None:
    taken(db, claimed(db, address=JANE))


def _nothing(db: Database) -> None:
    pass


@pytest.mark.parametrize(
    "before",
    [_a_week_ago, _blanked, _kept_here, _waits, _unknown, _in_other_letters, _by_text, _nothing],
)
def test_where_it_can_be_of_no_message_it_is_of_the_address(
    db: Database, before: Callable[[Database], None]
) -> None:
    """A bounce without an id stops its address; what went out more than 7 days ago, has not gone
    out, or was kept here in dry-run cannot have bounced now.
    """
    before(db)
    there = rows(db, notifications)
    assert hear(db, told("bounce", at(5), address=JANE)) == 0
    assert stopped(db) == [("email", JANE, "bounce")]
    assert (rows(db, notifications), rows(db, kept, word="bounce")) == (there, [])
    assert hear(db, told("blocked", at(5), address="ann@example.org")) == 0
    assert len(stopped(db)) == 1


@pytest.mark.parametrize(
    "receipt",
    [
        told("bounce", at(5), address=JANE, attempt_id="f" * 32),
        told("bounce", at(5), address=JANE, provider_id="sg-another"),
        Receipt("", "group_resubscribe", "", address=JANE, lifts="unsubscribe"),
    ],
    ids=["attempt", "provider id", "taken back"],
)
def test_what_names_another_message_is_not_of_the_last(db: Database, receipt: Receipt) -> None:
    """Another system wrote to the same person, by the same account; nor is it of a message that
    somebody takes messages again.
    """
    claim = delivered(db)
    assert hear(db, receipt) == 0
    assert status(db, claim) == "delivered"


def test_what_names_nothing_is_of_no_message(db: Database) -> None:
    """Not of one whose address is blanked either."""
    claim = delivered(db)
    change(db, notifications, {}, address="", content=None)
    assert hear(db, told("bounce", at(5))) == 0
    assert (status(db, claim), stopped(db)) == ("delivered", [])


def test_a_bounce_that_does_not_say_when_is_of_the_last_message(db: Database) -> None:
    """Of several, the newest."""
    older, newer = an_hour_ago(db, "o-1"), sent(db, "o-2")
    assert hear(db, told("bounce", None, address=JANE)) == 1
    assert [status(db, claim) for claim in (older, newer)] == ["delivered", "permanent-failure"]


def test_the_stop_ends_what_waits(db: Database) -> None:
    """What is to go to the same address by then is not sent: its rule finds another way."""
    delivered(db)
    planned(db, notice(channel="email", address=JANE, subject="o-9"))
    assert hear(db, told("bounce", at(5), address=JANE)) == 1
    assert [one.stopped_by for one in ledger_attempts.claim(db, "email", 10)] == ["bounce"]


def test_receipts_keep_when_they_happened(db: Database) -> None:
    """By the provider's clock, beside when Relay heard of it."""
    claim, moment = sent(db), at(-30)
    assert hear(db, told("processed", moment, attempt_id=claim.attempt_id)) == 1
    row = only(db, kept)
    assert row["happened_at"] == moment
    assert row["received_at"] > moment
    assert only(db, attempts)["outcome"] == "accepted"
    assert row["state"] not in FAILED
