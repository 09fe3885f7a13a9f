"""What receipts add up to, whatever their order."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rules.receipts import STATES, StoredReceipt, verdict

SENT = StoredReceipt("sent", "a1")
DELIVERED = StoredReceipt("delivered", "a1")
GONE = StoredReceipt("permanent-failure", "a1", "30005", "The phone number is not in use.")
OFF = StoredReceipt("temporary-failure", "a1", "30003", "The phone is off.")

TOLD = st.lists(
    st.builds(
        StoredReceipt,
        st.sampled_from(STATES),
        st.sampled_from(["a1", "a2"]),
        st.sampled_from(["", "30003", "30005"]),
        st.sampled_from(["", "The phone is off."]),
    ),
    max_size=8,
)


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


@given(told=TOLD, data=st.data())
def test_order_and_repetition_change_nothing(
    told: list[StoredReceipt], data: st.DataObject
) -> None:
    """Any permutation of receipts, with any of them told again, adds up to the same."""
    again = data.draw(st.lists(st.sampled_from(told), max_size=8)) if told else []
    mixed = data.draw(st.permutations(told + again))
    assert verdict(mixed, "a1") == verdict(told, "a1")


@given(told=TOLD, more=TOLD)
def test_one_more_receipt_leads_forward_only(
    told: list[StoredReceipt], more: list[StoredReceipt]
) -> None:
    """Whatever is told besides, the verdict never falls behind what it was."""
    before, after = verdict(told, "a1"), verdict(told + more, "a1")
    if before:
        assert after
        assert STATES.index(after.state) >= STATES.index(before.state)
