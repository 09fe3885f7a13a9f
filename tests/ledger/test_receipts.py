"""What providers tell after a send: kept once, in any order, and state moves forward only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from relay.errors import LedgerUnavailable
from relay.ledger import attempts as ledger_attempts
from relay.ledger import followups, receipts, unknown_attempts
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.holds import pauses
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.schema import attempts, notifications, suppressions
from relay.ledger.schema import receipts as kept
from relay.ledger.worklist import cases
from relay.rules.model import Ending, Pause
from relay.rules.receipts import Receipt
from relay.rules.statuses import OURS, UNCONFIRMED
from tests.rows import (
    at_once,
    case,
    change,
    claimed,
    looked,
    notice,
    only,
    open_cases,
    planned,
    resent,
    rows,
    time_passes,
    unknown,
)

WORDS = {"text": "Your kit …"}
ACCEPTED = Ending("accepted", "sent", provider_id="SM1", awaits_receipt=True)
THREE_DAYS = timedelta(hours=72, seconds=1)
THEN = datetime(2026, 11, 26, 9, tzinfo=UTC)  # by the provider's clock
# The provider's word, and its error code → the state it stands for.
STATES = {
    "queued": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "undelivered 30003": "temporary-failure",
    "undelivered 30005": "permanent-failure",
    "failed 30007": "permanent-failure",
}
STORIES = (
    "queued, sent",
    "queued, sent, delivered",
    "queued, sent, undelivered 30005",
    "queued, sent, undelivered 30003",
    "queued, failed 30007",
    "sent, undelivered 30003, delivered",
    "undelivered 30003, undelivered 30005",
    "sent, delivered, delivered",
    "undelivered 30005, undelivered 30005",
    "undelivered 30005, failed 30007",
)


def told(word: str, claim: Claim | None = None, **fields: Any) -> Receipt:
    """A receipt as a channel's parser gives it, by the attempt's id where a claim is given."""
    code = word.partition(" ")[2]
    how: dict[str, Any] = {
        "attempt_id": claim.attempt_id if claim else "",
        "provider_id": "SM1",
        "code": code,
        "reason": f"Twilio says {code}." if code else "",
    }
    return Receipt(STATES[word], word.partition(" ")[0], **{**how, **fields})


def record(db: Database, *receipts_: Receipt) -> int:
    """Keep texts' receipts; how many were news."""
    return len(receipts.record(db, "sms", receipts_))


def begun(db: Database, **fields: Any) -> Claim:
    """A notification that is being sent at this moment."""
    claim = claimed(db, **fields)
    assert ledger_attempts.begin(db, claim, WORDS)
    return claim


def accepted(db: Database, **fields: Any) -> Claim:
    """A notification that its provider accepted, and will tell of."""
    claim = begun(db, **fields)
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    return claim


def outcome(db: Database, claim: Claim) -> dict[str, Any]:
    """What became of a notification and its attempt, but for the times of it."""
    row = only(db, notifications, id=claim.id)
    attempt = only(db, attempts, id=claim.attempt_id)
    told_ = rows(db, kept, attempt_id=claim.attempt_id)
    times = ("sent_at", "delivered_at", "receipt_by", "follow_up_at", "lease_until")
    return {
        **{name: row[name] for name in ("status", "reason", "provider_id", "tries")},
        **{name: row[name] is not None for name in times},
        **{f"attempt's {name}": attempt[name] for name in ("outcome", "provider_id", "look_at")},
        "code": attempt["code"] if row["status"] != "delivered" else "",  # only for follow-ups
        "receipts": sorted((one["word"], one["code"], one["state"]) for one in told_),
    }


def after(db: Database, steps: Iterable[Callable[[Claim], object]]) -> dict[str, Any]:
    """What becomes of a message to which these things happen in this order."""
    claim = begun(db, subject=f"o-{len(rows(db, notifications))}")
    for step in steps:
        step(claim)
    return outcome(db, claim)


def together(steps: list[Callable[[], object]]) -> None:
    """Do all of this at the same moment."""
    at_once(lambda number: steps[number](), len(steps))


@pytest.mark.parametrize("story", STORIES)
def test_every_order_leads_to_the_same_end(db: Database, story: str) -> None:
    """Receipts and our own commit in every order leave the state that their true order leaves."""

    def finish(claim: Claim) -> object:
        return ledger_attempts.finish(db, claim, ACCEPTED)

    def tell(word: str) -> Callable[[Claim], object]:
        return lambda claim: record(db, told(word, claim))

    steps = [finish, *map(tell, story.split(", "))]
    expected = after(db, steps)
    assert expected["status"] == STATES[story.rpartition(", ")[2]]
    for order in set(permutations(steps)):
        assert after(db, order) == expected


@pytest.mark.parametrize("story", STORIES)
def test_receipts_at_once_lead_to_the_same_end(db: Database, story: str) -> None:
    """Callbacks that come at the same moment as our own commit are all heard, none by halves."""
    words = story.split(", ")
    claim = accepted(db)
    record(db, *(told(word, claim) for word in words))
    expected = outcome(db, claim)
    for number in range(3):
        claim = begun(db, subject=f"at-once-{number}")
        steps = [
            partial(ledger_attempts.finish, db, claim, ACCEPTED),
            *(partial(record, db, told(word, claim)) for word in words),
        ]
        together(steps)
        assert outcome(db, claim) == expected


def test_two_batches_about_the_same_messages_are_both_heard(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider posts a batch of many messages twice, the second time in another order, at the
    same moment: each receipt is heard once, and neither batch waits for the other for ever.
    """
    monkeypatch.setattr(receipts, "AT_ONCE", 4)
    claims = [accepted(db, subject=f"o-{number}") for number in range(10)]
    batch = [told("delivered", claim, provider_id="") for claim in claims]
    news = at_once(lambda number: record(db, *batch[:: 1 - 2 * number]), 2)
    assert sum(news) == 10
    assert {row["status"] for row in rows(db, notifications)} == {"delivered"}


def test_a_batch_that_fails_half_way_is_heard_when_it_comes_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed by then is no news the second time; the rest is heard then."""
    monkeypatch.setattr(receipts, "AT_ONCE", 2)
    claims = [accepted(db, subject=f"o-{number}") for number in range(5)]
    batch = [told("delivered", claim, provider_id="") for claim in claims]
    follow, turns = receipts.follow, iter([True, False])

    def fails(*given: Any) -> None:
        if not next(turns, True):
            raise LedgerUnavailable("it is away")
        follow(*given)

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "follow", fails)
        with pytest.raises(LedgerUnavailable):
            record(db, *batch)
    assert len(rows(db, kept)) == 2
    assert record(db, *batch) == 3
    assert {row["status"] for row in rows(db, notifications)} == {"delivered"}


def test_a_batch_may_say_the_same_twice(db: Database) -> None:
    """Each thing is heard once, also where one batch has it twice; what was not known before is
    known from the first that names the attempt.
    """
    claim = begun(db)
    batch = (told("sent", claim), told("sent", claim), told("delivered"))
    assert record(db, *batch) == 2
    assert only(db, notifications)["status"] == "delivered"


def test_a_receipt_before_our_own_commit_adopts_the_attempt(db: Database) -> None:
    """The provider may tell of a message before we have written that it took it (fault 36)."""
    claim = begun(db)
    assert record(db, told("sent", claim)) == 1
    row, attempt = only(db, notifications), only(db, attempts)
    assert (row["status"], row["provider_id"], row["lease_until"]) == ("sent", "SM1", None)
    assert (attempt["outcome"], attempt["provider_id"]) == ("accepted", "SM1")
    assert not ledger_attempts.finish(db, claim, ACCEPTED)
    assert only(db, notifications) == row


def test_a_receipt_without_the_providers_id_leaves_it_open(db: Database) -> None:
    """It names our attempt alone: nobody can ask the provider by an id that is none."""
    claim = begun(db)
    record(db, told("sent", claim, provider_id=""))
    assert (outcome(db, claim)["provider_id"], only(db, attempts)["provider_id"]) == (None, None)


@pytest.mark.parametrize("late", [ACCEPTED, Ending("unknown", "unknown", "Twilio did not answer.")])
def test_the_workers_own_answer_after_a_receipt_changes_nothing(db: Database, late: Ending) -> None:
    """Once a receipt has told, what the worker thinks of its send is no news."""
    claim = begun(db)
    record(db, told("sent", claim), told("delivered", claim))
    before = outcome(db, claim)
    assert not ledger_attempts.finish(db, claim, late)
    time_passes(db, timedelta(hours=1))
    assert ledger_attempts.lapse(db) == 0
    assert outcome(db, claim) == before
    assert before["status"] == "delivered"


def test_a_message_that_a_receipt_adopted_is_given_up_too(db: Database) -> None:
    """Adopted by "sent", and nothing after that: after 72 hours it is a temporary-failure."""
    claim = begun(db)
    record(db, told("sent", claim))
    time_passes(db, THREE_DAYS)
    assert receipts.give_up(db) == 1
    assert outcome(db, claim)["status"] == "temporary-failure"


@pytest.mark.parametrize("word", ["sent", "delivered", "undelivered 30005"])
def test_a_receipt_settles_an_unknown_attempt(db: Database, word: str) -> None:
    """What nobody knew of has gone out, since the provider tells of it: nobody looks for it."""
    claim = unknown(db)
    record(db, told(word, claim))
    found = outcome(db, claim)
    assert (found["status"], found["attempt's outcome"]) == (STATES[word], "accepted")
    time_passes(db, timedelta(hours=1))
    assert rows(db, attempts, look_at=None) == rows(db, attempts)


def test_receipts_are_matched_by_attempt_or_by_the_providers_id(db: Database) -> None:
    """A callback names our attempt; an event that does not is matched by the provider's own id."""
    first, second = accepted(db), begun(db, subject="o-2")
    ledger_attempts.finish(db, second, Ending("accepted", "sent", provider_id="SM2"))
    assert record(db, told("delivered", first, provider_id="")) == 1
    assert record(db, told("delivered", provider_id="SM2")) == 1
    assert [row["status"] for row in rows(db, notifications)] == ["delivered", "delivered"]


def test_a_known_message_is_matched_whatever_stands_for_its_attempt(db: Database) -> None:
    """SendGrid's own field may have won over ours: its id of the message finds it all the same."""
    accepted(db)
    assert record(db, told("delivered", attempt_id="5", provider_id="SM1")) == 1
    assert only(db, notifications)["status"] == "delivered"


@pytest.mark.parametrize(
    "ids",
    [
        {"attempt_id": "f" * 32, "provider_id": ""},
        {"provider_id": "SM2"},
        {"provider_id": ""},
    ],
    ids=["attempt", "provider id", "nothing"],
)
def test_what_names_no_attempt_of_ours_is_passed_over(db: Database, ids: dict[str, str]) -> None:
    """Another system may use the same account: its receipts change nothing and are no error."""
    accepted(db)
    unknown(db, subject="o-2")  # an attempt without a provider's id
    change(db, attempts, {"id": accepted(db, subject="o-3").attempt_id}, provider_id="")
    before = rows(db, notifications)
    assert record(db, told("delivered", **ids)) == 0
    assert rows(db, notifications) == before
    assert rows(db, kept) == []


def test_an_unknown_id_does_not_keep_others_from_being_heard(db: Database) -> None:
    """One strange receipt in a batch costs only itself."""
    claim = accepted(db)
    stranger = told("delivered", attempt_id="f" * 32, provider_id="SM404")
    assert record(db, stranger, told("sent", claim), stranger, told("delivered", claim)) == 2
    assert only(db, notifications)["status"] == "delivered"


def test_another_channels_receipt_is_none_of_ours(db: Database) -> None:
    """An email's event does not settle a text."""
    claim = accepted(db)
    assert receipts.record(db, "email", [told("delivered", claim)]) == []
    assert only(db, notifications)["status"] == "sent"


def test_a_receipt_is_kept_once(db: Database) -> None:
    """Providers tell things more than once: a duplicate is no news. Another moment is."""
    claim = accepted(db)
    one = told("undelivered 30003", claim)
    assert record(db, one, one) == 1
    assert record(db, one) == 0
    assert record(db, told("undelivered 30003", claim, happened_at=THEN)) == 1
    assert [row["code"] for row in rows(db, kept)] == ["30003", "30003"]


def test_what_a_receipt_says_at_length_is_cut(db: Database) -> None:
    """However much the provider says, the receipt is kept."""
    claim = accepted(db)
    record(db, Receipt("sent", "w" * 60, claim.attempt_id, code="c" * 60, reason="r" * 600))
    row = only(db, kept)
    assert (row["word"], row["code"], row["reason"]) == ("w" * 40, "c" * 40, "r" * 500)
    assert row["id"].startswith("rcp_")


def test_a_receipt_is_told_from_others_alike_in_every_release(db: Database) -> None:
    """What is told before a deploy and once more after it is no news."""
    claim = accepted(db)
    record(db, told("failed 30007", claim), told("failed 30007", claim, happened_at=THEN))
    moments = ("", "1795683600")
    parts = [json.dumps([claim.attempt_id, "failed", "30007", moment]) for moment in moments]
    digests = {hashlib.sha256(one.encode()).hexdigest() for one in parts}
    assert {row["digest"] for row in rows(db, kept)} == digests


def test_a_receipt_is_kept_once_among_callbacks_at_once(db: Database) -> None:
    """The same callback ten times at the same moment is one receipt."""
    claim = begun(db)
    assert sum(at_once(lambda _n: record(db, told("delivered", claim)), 6)) == 1
    assert len(rows(db, kept)) == 1
    assert outcome(db, claim)["status"] == "delivered"


def test_what_says_nothing_of_the_message_is_kept_and_moves_nothing(db: Database) -> None:
    """A receipt without a state, as an unsubscribe, leaves the message as it is."""
    claim = accepted(db)
    before = only(db, notifications)
    assert record(db, Receipt("", "unsubscribe", claim.attempt_id, suppress="unsubscribe")) == 1
    assert only(db, notifications) == before
    assert only(db, kept)["word"] == "unsubscribe"


@pytest.mark.parametrize("word", ["undelivered 30003", "undelivered 30005", "failed 30007"])
def test_delivered_stays(db: Database, word: str) -> None:
    """A late "undelivered" never undoes "delivered", and nobody has to see to it."""
    claim = accepted(db)
    record(db, told("delivered", claim))
    before = only(db, notifications)
    assert record(db, told(word, claim)) == 1
    assert only(db, notifications) == before
    assert followups.lease_follow_ups(db, 10) == []


@pytest.mark.parametrize("word", ["undelivered 30003", "undelivered 30005"])
def test_a_failure_is_followed_up_once(db: Database, word: str) -> None:
    """A message that did not arrive has to be seen to; telling it again is no second time."""
    claim = accepted(db)
    record(db, told(word, claim))
    (item,) = followups.lease_follow_ups(db, 10)
    assert (item.id, item.status, item.code) == (claim.id, STATES[word], word[-5:])
    with db.write() as connection:
        followups.finish_follow_up(connection, item, (), None, None)
    record(db, told(word, claim, happened_at=THEN), told("failed 30007", claim))
    assert followups.lease_follow_ups(db, 10) == []


def test_a_failure_ends_the_waiting_for_a_receipt(db: Database) -> None:
    """What has failed is not given up a second time after 72 hours."""
    claim = accepted(db)
    record(db, told("undelivered 30005", claim))
    time_passes(db, THREE_DAYS)
    assert receipts.give_up(db) == 0
    assert only(db, notifications)["reason"] == "Twilio says 30005."


def test_without_a_receipt_it_is_given_up(db: Database) -> None:
    """72 hours without a receipt make it a temporary-failure that is followed up; not before."""
    claim = accepted(db)
    time_passes(db, timedelta(hours=71, minutes=59))
    assert receipts.give_up(db) == 0
    time_passes(db, timedelta(minutes=2))
    assert receipts.give_up(db) == 1
    assert receipts.give_up(db) == 0
    row = only(db, notifications)
    assert row["status"] == "temporary-failure"
    assert row["reason"] == "No receipt came within 72 hours."
    (item,) = followups.lease_follow_ups(db, 10)
    assert (item.id, item.code) == (claim.id, UNCONFIRMED)


def test_a_receipt_that_does_not_come_is_asked_for_by_one_worker(db: Database) -> None:
    """After 72 hours, by the provider's id of the attempt that it took; another worker asks only
    once some minutes are over.
    """
    other = accepted(db, subject="o-2")
    change(db, notifications, {"id": other.id}, status="delivered")
    _, second = resent(db)
    assert ledger_attempts.begin(db, second, WORDS)
    assert ledger_attempts.finish(db, second, ACCEPTED)
    time_passes(db, THREE_DAYS - timedelta(minutes=1))
    assert receipts.lease_overdue(db, ["sms"], 10) == []
    time_passes(db, timedelta(minutes=1))
    event_id = only(db, notifications, id=second.id)["event_id"]
    asked = receipts.Overdue(second.id, event_id, second.attempt_id, "sms", "SM1")
    assert receipts.lease_overdue(db, ["sms"], 10) == [asked]
    time_passes(db, timedelta(minutes=9))
    assert receipts.lease_overdue(db, ["sms"], 10) == []
    time_passes(db, timedelta(minutes=2))
    assert receipts.lease_overdue(db, ["sms"], 10) == [asked]


def test_who_has_nothing_to_ask_about_writes_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks every few seconds: it locks nobody out by that."""
    accepted(db)
    with monkeypatch.context() as patch:
        patch.setattr(db, "write", lambda: pytest.fail("it writes"))
        assert receipts.lease_overdue(db, ["sms"], 10) == []


def test_as_many_are_asked_for_as_a_worker_can_ask_the_oldest_first(db: Database) -> None:
    """The others wait for the next."""
    claims = [accepted(db, subject=f"o-{number}") for number in range(3)]
    for hours, claim in enumerate(claims):
        change(db, attempts, {"id": claim.attempt_id}, provider_id=f"SM{hours}")
        late = datetime.now(UTC) - timedelta(hours=hours + 1)
        change(db, notifications, {"id": claim.id}, provider_id=f"SM{hours}", receipt_by=late)
    asked = [receipts.lease_overdue(db, ["sms"], 2) for _ in range(3)]
    assert [{one.provider_id for one in batch} for batch in asked] == [
        {"SM1", "SM2"},
        {"SM0"},
        set(),
    ]


@pytest.mark.parametrize(
    ("channels", "fields"),
    [
        ((), {"status": "sent"}),
        (("email",), {"status": "sent"}),
        (("sms",), {"provider_id": None}),
        (("sms",), {"status": "delivered"}),
    ],
    ids=["nobody to ask", "another channel", "no id", "known by now"],
)
def test_only_who_can_know_is_asked(
    db: Database, channels: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """A provider that can be asked, by an id of its own, of what is not known yet."""
    accepted(db)
    change(db, notifications, {}, **fields)
    time_passes(db, THREE_DAYS)
    before = only(db, notifications)
    assert receipts.lease_overdue(db, channels, 10) == []
    assert only(db, notifications) == before


@pytest.mark.parametrize("fields", [{"provider_id": None}, {"channel": "email"}])
def test_who_cannot_know_is_left_alone_beside_who_can(db: Database, fields: dict[str, Any]) -> None:
    """A lease of one message that can be asked about touches none that cannot be."""
    asked, other = accepted(db), accepted(db, subject="o-2")
    change(db, notifications, {"id": other.id}, **fields)
    time_passes(db, THREE_DAYS)
    before = only(db, notifications, id=other.id)
    assert [one.id for one in receipts.lease_overdue(db, ["sms"], 10)] == [asked.id]
    assert only(db, notifications, id=other.id) == before


def test_whoever_can_be_asked_has_a_day_to_be_asked(db: Database) -> None:
    """What its provider is asked about is given up a day later than what nobody can be asked of."""
    accepted(db)
    time_passes(db, THREE_DAYS)
    assert receipts.give_up(db, ["sms"]) == 0
    time_passes(db, timedelta(hours=23, minutes=59))
    assert receipts.give_up(db, ["sms"]) == 0
    time_passes(db, timedelta(minutes=2))
    assert receipts.give_up(db, ["sms"]) == 1


def test_what_its_provider_knows_nothing_of_is_given_up(db: Database) -> None:
    """It is followed up as what nobody has confirmed; no other message is touched, nor an attempt
    that was refused, nor what has arrived while the provider was asked.
    """
    refused = claimed(db)
    busy = Ending("rejected", "created", "Busy.", code="20429", retry_in=0.0)
    assert ledger_attempts.finish(db, refused, busy)
    (mine,) = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.begin(db, mine, WORDS)
    assert ledger_attempts.finish(db, mine, ACCEPTED)
    other, there = accepted(db, subject="o-2"), accepted(db, subject="o-3")
    record(db, told("delivered", there, provider_id=""))
    before = [only(db, notifications, id=one.id) for one in (other, there)]
    with db.write() as connection:
        for one in (mine, there):
            receipts.give_up_asked(connection, one.id)
    row = only(db, notifications, id=mine.id)
    reason = "No receipt came within 72 hours, and its provider was asked and knows no more."
    assert (row["status"], row["reason"]) == ("temporary-failure", reason)
    assert row["receipt_by"] is None
    assert [item.id for item in followups.lease_follow_ups(db, 10)] == [mine.id]
    assert [only(db, notifications, id=one.id) for one in (other, there)] == before
    codes = {row["id"]: row["code"] for row in rows(db, attempts) if row["code"]}
    assert codes == {refused.attempt_id: "20429", mine.attempt_id: UNCONFIRMED}


def test_what_has_arrived_waits_for_nothing(db: Database) -> None:
    """Whatever was to become of it, and of it alone."""
    claim, other = accepted(db), accepted(db, subject="o-2")
    at = datetime.now(UTC) + timedelta(hours=1)
    waits = {"reason": "It waits.", "waits_for": "lab", "lease_until": at, "follow_up_at": at}
    change(db, notifications, {}, **waits)
    before = only(db, notifications, id=other.id)
    record(db, told("delivered", claim, provider_id=""))
    row = only(db, notifications, id=claim.id)
    assert {**row, "delivered_at": None} == {
        **{**row, "status": "delivered", "reason": "", "delivered_at": None, "receipt_by": None},
        **{name: None for name in waits if name != "reason"},
    }
    assert timedelta() <= row["delivered_at"] - row["sent_at"] < timedelta(minutes=1)
    assert only(db, notifications, id=other.id) == before


def test_only_a_fallback_that_waits_is_called_off(db: Database) -> None:
    """Not one that has gone out, nor another person's message, nor another rule's fallback."""
    claim = accepted(db)
    there = {
        "goes": notice(address="+447700900002", is_fallback=True),
        "sent": notice(address="+447700900003", is_fallback=True, status="sent"),
        "first": notice(address="+447700900004"),
        "rule": notice(rule="other", is_fallback=True),
    }
    ids = dict(zip(planned(db, *there.values()), there, strict=True))
    record(db, told("delivered", claim))
    found = {ids[row["id"]]: row for row in rows(db, notifications) if row["id"] in ids}
    reason = "It is no longer needed: the first message arrived after all."
    assert (found["goes"]["status"], found["goes"]["reason"]) == ("cancelled", reason)
    others = {name: row["status"] for name, row in found.items() if name != "goes"}
    assert others == {"sent": "sent", "first": "created", "rule": "created"}


def test_a_delivered_that_comes_after_that_still_counts(db: Database) -> None:
    """What was given up after 72 hours and has arrived after all is delivered (fault 38)."""
    claim = accepted(db)
    time_passes(db, THREE_DAYS)
    receipts.give_up(db)
    record(db, told("delivered", claim))
    row = only(db, notifications)
    assert (row["status"], row["reason"], row["follow_up_at"]) == ("delivered", "", None)


@pytest.mark.parametrize("word", ["queued", "sent"])
def test_only_an_end_is_a_receipt_in_that_sense(db: Database, word: str) -> None:
    """A message that is told to be on its way, and no more, is given up just the same."""
    claim = accepted(db)
    time_passes(db, timedelta(hours=71, minutes=59))
    record(db, told(word, claim))
    time_passes(db, timedelta(minutes=2))
    assert receipts.give_up(db) == 1


def test_where_no_receipt_is_expected_none_is_missed(db: Database) -> None:
    """Where the provider cannot tell us anything, `sent` is the end."""
    ledger_attempts.finish(db, begun(db), Ending("accepted", "sent", provider_id="SM1"))
    time_passes(db, timedelta(days=30))
    assert receipts.give_up(db) == 0
    assert only(db, notifications)["status"] == "sent"


def test_delivered_closes_the_case_and_cancels_the_fallback(db: Database) -> None:
    """Once it has arrived after all, nobody needs to ring, and no second message goes."""
    claim = accepted(db)
    record(db, told("undelivered 30003", claim))
    email = notice(channel="email", address="jane@example.org", is_fallback=True)
    (item,) = followups.lease_follow_ups(db, 10)
    with db.write() as connection:
        assert followups.finish_follow_up(connection, item, [email], None, None) == "fallback"
    with db.write() as connection:
        cases.open_case(connection, case(key=claim.obligation, event_id=claim.event_id))
        cases.open_case(connection, case(key="another", event_id=claim.event_id))
    record(db, told("delivered", claim))
    (still_open,) = open_cases(db)
    (closed,) = [row for row in rows(db, cases.cases) if row["closed_at"]]
    assert (closed["closed_by"], closed["note"]) == ("relay", "It arrived after all.")
    assert still_open["id"] != closed["id"]
    assert only(db, notifications, channel="email")["status"] == "cancelled"
    assert only(db, notifications, channel="email")["reason"]
    assert ledger_attempts.claim(db, "email", 10) == []


def test_a_fallback_that_was_delivered_keeps_the_others_going(db: Database) -> None:
    """Each address of a staff group gets its own: one that arrived does not cancel the next."""
    first = claimed(db, is_fallback=True)
    planned(db, notice(address="+447700900002", is_fallback=True))
    ledger_attempts.finish(db, first, ACCEPTED)
    record(db, told("delivered", first))
    assert [one.address for one in ledger_attempts.claim(db, "sms", 10)] == ["+447700900002"]


@pytest.mark.parametrize("status", ["technical-failure", "validation-failed", "cancelled"])
def test_what_arrived_counts_whatever_became_of_it_since(db: Database, status: str) -> None:
    """An attempt thought lost has arrived, though sending it again came to nothing."""
    first, second = resent(db)
    ledger_attempts.finish(db, second, Ending("rejected", status, "It cannot be sent now."))
    record(db, told("delivered", first))
    assert only(db, notifications)["status"] == "delivered"
    assert followups.lease_follow_ups(db, 10) == []


@pytest.mark.parametrize("status", ["technical-failure", "validation-failed", "cancelled"])
def test_a_failure_is_none_of_what_has_ended_since(db: Database, status: str) -> None:
    """It is heard, and the message keeps its end."""
    claim = accepted(db)
    change(db, notifications, {}, status=status)
    assert record(db, told("undelivered 30005", claim)) == 1
    assert only(db, notifications)["status"] == status


def test_an_opt_out_is_kept_with_its_source(db: Database) -> None:
    """A bounce or a STOP suppresses the address on its channel; the first source is kept."""
    claim = accepted(db)
    bounced = told("undelivered 30005", claim, suppress="provider, 30005")
    record(db, bounced, told("failed 30007", claim, suppress="provider, 30007"))
    row = only(db, suppressions)
    assert (row["channel"], row["address"]) == ("sms", claim.address)
    assert row["source"] == "provider, 30005"
    planned(db, notice(subject="o-2"))
    (stopped,) = ledger_attempts.claim(db, "sms", 10)
    assert stopped.stopped_by == "provider, 30005"
    with db.write() as connection:
        assert ledger_suppressions.unsuppress(connection, "sms", claim.address, source="STOP") == ""
    with db.write() as connection:
        assert ledger_suppressions.unsuppress(connection, "sms", claim.address) == "provider, 30005"


def test_the_address_that_a_receipt_names_is_stopped(db: Database) -> None:
    """A provider that says which address it refuses is believed, whatever the message's was."""
    claim = accepted(db)
    record(db, told("failed 30007", claim, address="+447700900999", suppress="provider, 30007"))
    assert [row["address"] for row in rows(db, suppressions)] == ["+447700900999"]


@pytest.mark.parametrize(("later", "left"), [(-1, ["unsubscribe"]), (1, [])])
def test_what_names_no_message_lifts_no_later_stop(
    db: Database, later: int, left: list[str]
) -> None:
    """Who takes messages again is heard of by address alone, perhaps a second time: by its own
    moment it lifts the stop of before, and never one of after.
    """
    with db.write() as connection:
        ledger_suppressions.suppress(connection, "sms", "+447700900999", "unsubscribe")
    at = datetime.now(UTC) + timedelta(minutes=later)
    lifted = Receipt("", "resubscribe", "", address="+447700900999", happened_at=at)
    record(db, replace(lifted, lifts="unsubscribe"))
    assert [row["source"] for row in rows(db, suppressions, channel="sms")] == left


@pytest.mark.parametrize(("stop", "left"), [("unsubscribe", 0), ("STOP", 1), ("staff", 1)])
def test_a_receipt_lifts_what_the_provider_had_stopped(db: Database, stop: str, left: int) -> None:
    """Who subscribes again has not taken back a STOP, nor what staff have decided."""
    claim = accepted(db)
    with db.write() as connection:
        ledger_suppressions.suppress(connection, "sms", claim.address, stop)
    record(db, Receipt("", "resubscribe", claim.attempt_id, lifts="unsubscribe"))
    assert len(rows(db, suppressions)) == left


@pytest.mark.parametrize(
    ("receipt", "minutes", "ends"),
    [
        (Receipt("delivered", "delivered"), 1, True),
        (Receipt("permanent-failure", "undelivered", code="30005"), 1, True),
        (Receipt("temporary-failure", "failed", code=OURS), 1, False),
        (Receipt("sent", "sent"), 1, False),
        (Receipt("", "unsubscribe"), 1, False),
        (Receipt("delivered", "delivered"), -1, False),
    ],
    ids=["arrived", "the person's", "the account's", "on its way", "no word", "sent before"],
)
def test_what_has_arrived_shows_that_messages_are_dropped_no_more(
    db: Database, receipt: Receipt, minutes: int, ends: bool
) -> None:
    """So does what failed for the person's own sake, if it was sent since."""
    claim = accepted(db)
    with db.write() as connection:
        why = Pause(pauses.DROPPED, "The account is suspended.")
        pauses.pause(connection, "sms", claim.event_id, why)
    sent = datetime.now(UTC) + timedelta(minutes=minutes)
    change(db, attempts, {}, started_at=sent)
    record(db, replace(receipt, attempt_id=claim.attempt_id))
    assert (rows(db, pauses.pauses) == []) == ends


def test_an_address_that_was_blanked_is_not_suppressed(db: Database) -> None:
    """After retention has blanked the address, there is nothing to suppress."""
    claim = accepted(db)
    change(db, notifications, {}, address="")
    assert record(db, told("failed 30007", claim, suppress="provider, 30007")) == 1
    assert rows(db, suppressions) == []


def test_the_first_attempts_failure_is_not_the_seconds(db: Database) -> None:
    """A message that was sent again has not failed because the first attempt did."""
    first, second = resent(db)
    ledger_attempts.begin(db, second, WORDS)
    ledger_attempts.finish(db, second, Ending("accepted", "sent", provider_id="SM2"))
    record(db, told("undelivered 30005", first))
    assert only(db, notifications)["status"] == "sent"
    assert followups.lease_follow_ups(db, 10) == []
    record(db, told("undelivered 30003", second, provider_id="SM2"))
    assert only(db, notifications)["status"] == "temporary-failure"
    codes = {row["id"]: row["code"] for row in rows(db, attempts)}
    assert codes == {first.attempt_id: "", second.attempt_id: "30003"}


def test_the_first_attempts_delivered_counts(db: Database) -> None:
    """Whichever attempt arrives, the message is delivered."""
    first, second = resent(db)
    ledger_attempts.begin(db, second, WORDS)
    record(db, told("delivered", first))
    assert only(db, notifications)["status"] == "delivered"
    ledger_attempts.finish(db, second, Ending("rejected", "permanent-failure", "No."))
    record(db, told("undelivered 30005", second, provider_id="SM2"))
    assert only(db, notifications)["status"] == "delivered"
    assert followups.lease_follow_ups(db, 10) == []


def test_the_first_attempts_delivered_stops_the_second(db: Database) -> None:
    """A message that has arrived meanwhile is not sent again."""
    first, second = resent(db)
    record(db, told("delivered", first))
    assert not ledger_attempts.begin(db, second, WORDS)
    ledger_attempts.finish(db, second, Ending("rejected", "created", "Too slow.", retry_in=0.0))
    assert only(db, notifications)["status"] == "delivered"
    assert ledger_attempts.claim(db, "sms", 10) == []


@pytest.mark.parametrize("word", ["delivered", "sent", "undelivered 30005"])
def test_a_receipt_settles_what_waits_to_be_sent_again(db: Database, word: str) -> None:
    """It has gone out after all: the second attempt, not begun yet, is not made."""
    first, second = resent(db)
    ending = Ending("rejected", "scheduled", "It waits.", retry_in=60, is_a_try=False)
    ledger_attempts.finish(db, second, ending)
    record(db, told(word, first))
    row = only(db, notifications)
    assert row["status"] == STATES[word]
    time_passes(db, timedelta(minutes=2))
    assert ledger_attempts.claim(db, "sms", 10) == []
    assert bool(followups.lease_follow_ups(db, 10)) == (word == "undelivered 30005")


def test_a_failure_counts_though_the_next_attempt_was_claimed(db: Database) -> None:
    """An attempt that has not begun does not go out any more: what is told of the one before it is
    followed up at once, and not after 72 hours.
    """
    first, second = resent(db)
    record(db, told("sent", first), told("undelivered 30005", first))
    assert not ledger_attempts.begin(db, second, WORDS)
    ledger_attempts.finish(db, second, Ending("rejected", "created", "Too slow.", retry_in=0.0))
    assert only(db, notifications)["status"] == "permanent-failure"
    assert len(followups.lease_follow_ups(db, 10)) == 1


def test_a_receipt_closes_the_case_of_a_message_that_was_held(db: Database) -> None:
    """Whether it went out is known now, so nobody has to find out."""
    claim = unknown(db)
    look = looked(db)
    doubt = case("unknown", claim.id, claim.event_id)
    reason = "It waits for a person, as its rule says."
    with db.write() as connection:
        assert unknown_attempts.give_up_unknown(connection, look, reason, doubt)
    assert len(open_cases(db)) == 1
    record(db, told("sent", claim))
    assert open_cases(db) == []
    assert only(db, notifications)["status"] == "sent"


def test_all_receipts_of_two_attempts_at_once(db: Database) -> None:
    """Both attempts' receipts and the second's commit at the same moment: delivered, once each."""
    for number in range(3):
        first, second = resent(db, subject=f"o-{number}")
        ledger_attempts.begin(db, second, WORDS)
        final = Ending("accepted", "sent", provider_id="SM2", awaits_receipt=True)
        callbacks = (
            told("sent", first, provider_id=""),
            told("undelivered 30005", first, provider_id=""),
            told("sent", second, provider_id="SM2"),
            told("undelivered 30003", second, provider_id="SM2"),
            told("delivered", second, provider_id="SM2"),
        )
        steps = [partial(ledger_attempts.finish, db, second, final)]
        together([*steps, *(partial(record, db, one) for one in callbacks)])
        row = only(db, notifications, id=first.id)
        assert (row["status"], row["reason"], row["follow_up_at"]) == ("delivered", "", None)
        mine = (first.attempt_id, second.attempt_id)
        assert len([one for one in rows(db, kept) if one["attempt_id"] in mine]) == 5


def test_a_fallback_is_not_made_after_it_has_arrived(db: Database) -> None:
    """A failure that was leased to be seen to, and then delivered, is seen to by nobody."""
    claim = accepted(db)
    record(db, told("undelivered 30003", claim))
    (item,) = followups.lease_follow_ups(db, 10)
    record(db, told("delivered", claim))
    email = notice(channel="email", address="jane@example.org", is_fallback=True)
    with db.write() as connection:
        unreached = case(event_id=claim.event_id)
        assert followups.finish_follow_up(connection, item, [email], unreached, None) == ""
    with db.write() as connection:
        followups.try_again(connection, item, 1800)
    assert only(db, notifications)["status"] == "delivered"
    assert open_cases(db) == []
    assert ledger_attempts.claim(db, "email", 10) == []
