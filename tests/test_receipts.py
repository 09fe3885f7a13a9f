"""What receipts add up to, whatever their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rules.receipts import STATES, StoredReceipt, verdict
from relay.rules.statuses import FAILED

SENT = StoredReceipt("sent", "a1")
DELIVERED = StoredReceipt("delivered", "a1")
GONE = StoredReceipt("permanent-failure", "a1", "30005", "The phone number is not in use.")
OFF = StoredReceipt("temporary-failure", "a1", "30003", "The phone is off.")

THEN = datetime(2026, 11, 26, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NO_MAILBOX = "The email bounced: there is no such mailbox, or it is closed."


def told_of(**fields: st.SearchStrategy[datetime | None]) -> st.SearchStrategy[list[StoredReceipt]]:
    """Receipts of two attempts in any number and order."""
    receipt = st.builds(
        StoredReceipt,
        st.sampled_from(STATES),
        st.sampled_from(["a1", "a2"]),
        st.sampled_from(["", "30003", "30005"]),
        st.sampled_from(["", "The phone is off."]),
        **fields,
    )
    return st.lists(receipt, max_size=8)


TEXTS = told_of()
EMAILS = told_of(happened_at=st.none() | st.integers(0, 4).map(lambda n: THEN + n * SECOND))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], None),
        ([SENT], SENT),
        ([SENT, OFF], OFF),
        ([SENT, OFF, GONE], GONE),
        ([SENT, DELIVERED], DELIVERED),
        ([SENT, OFF, DELIVERED], DELIVERED),
        ([SENT, GONE, DELIVERED], DELIVERED),
    ],
)
def test_the_furthest_counts(told: list[StoredReceipt], expected: StoredReceipt | None) -> None:
    """A failure may become final, and whatever was delivered stays so: in every order."""
    assert {verdict(order, "a1") for order in permutations(told)} == {expected}


@pytest.mark.parametrize("failure", [OFF, GONE])
def test_an_earlier_attempts_failure_does_not_count(failure: StoredReceipt) -> None:
    """What was sent again has not failed because the first attempt did."""
    assert verdict([failure], "a2") is None
    assert verdict([failure, StoredReceipt("sent", "a2")], "a2") == StoredReceipt("sent", "a2")


def test_an_earlier_attempt_may_have_arrived() -> None:
    """Whichever attempt was delivered, the person has the message."""
    assert (
        verdict([DELIVERED, StoredReceipt("permanent-failure", "a2", "30005")], "a2") == DELIVERED
    )


def email(state: str, seconds: int | None, attempt: str = "a1") -> StoredReceipt:
    """What SendGrid told of an email, and when that happened."""
    reason = NO_MAILBOX if state in FAILED else ""
    moment = None if seconds is None else THEN + seconds * SECOND
    return StoredReceipt(state, attempt, reason=reason, happened_at=moment)


@pytest.mark.parametrize(
    ("bounced", "stands"),
    [(8, "permanent-failure"), (7, "delivered"), (6, "delivered"), (None, "delivered")],
    ids=["later", "in the same second", "before", "nobody knows when"],
)
def test_an_email_that_bounces_after_it_was_delivered_has_not_arrived(
    bounced: int | None, stands: str
) -> None:
    """A mail server may take an email and send it back later: what it said last, by its own clock,
    counts, whichever of the two is heard first.
    """
    told = [email("sent", 6), email("delivered", 7), email("permanent-failure", bounced)]
    found = {verdict(order, "a1") for order in permutations(told)}
    assert [one.state for one in found if one] == [stands]


def test_what_was_blocked_after_it_was_delivered_has_not_arrived() -> None:
    """Nobody tries a blocked email again, so it counts as a bounce does; the state is its own."""
    told = [email("delivered", 7), email("temporary-failure", 8)]
    assert verdict(told, "a1") == told[1]


def test_an_email_that_arrives_after_a_bounce_has_arrived() -> None:
    """Delivered, blocked, delivered: what was said last."""
    told = [email("delivered", 7), email("temporary-failure", 8), email("delivered", 9)]
    assert {verdict(order, "a1") for order in permutations(told)} == {told[2]}


def test_a_bounce_is_of_its_own_attempt() -> None:
    """Of an email that went out twice one has arrived, though the other has bounced since."""
    other = email("permanent-failure", 8, "a2")
    arrived = email("delivered", 7)
    assert verdict([arrived, other], "a2") == arrived
    assert verdict([arrived, other, email("permanent-failure", 9)], "a2") == other


@pytest.mark.parametrize("told", [[], [email("sent", 9, "a2")]], ids=["nothing", "sent"])
def test_a_later_attempt_may_still_arrive(told: list[StoredReceipt]) -> None:
    """The first of two was delivered and bounced: the second's own receipts decide."""
    undone = [email("delivered", 7), email("permanent-failure", 8)]
    assert verdict([*undone, *told], "a2") == (told[0] if told else None)


@given(told=TEXTS | EMAILS, data=st.data())
def test_order_and_repetition_change_nothing(
    told: list[StoredReceipt], data: st.DataObject
) -> None:
    """Any permutation of receipts, with any of them told again, adds up to the same."""
    again = data.draw(st.lists(st.sampled_from(told), max_size=8)) if told else []
    mixed = data.draw(st.permutations(told + again))
    assert verdict(mixed, "a1") == verdict(told, "a1")


@given(told=TEXTS, more=TEXTS)
def test_one_more_receipt_leads_forward_only(
    told: list[StoredReceipt], more: list[StoredReceipt]
) -> None:
    """Whatever is told of a text besides, the verdict never falls behind what it was."""
    before, after = verdict(told, "a1"), verdict(told + more, "a1")
    if before:
        assert after
        assert STATES.index(after.state) >= STATES.index(before.state)
