"""Which messages other steps of a kit make old: relay/rules/staleness.py with plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.lab.events import EVENTS, RETEST
from relay.rules.model import Step
from relay.rules.staleness import later, why_stale
from tests.test_rules import rule

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHIPPED, DELIVERED, RECEIVED = (
    "order.shipped",
    "order.delivered",
    "test_registration.sample_received",
)
RESULTS = "lab_results.complete"
STEPS = st.builds(
    Step,
    name=st.sampled_from(sorted(EVENTS)),
    round=st.integers(0, 2),
    received_at=st.integers(-3, 0).map(lambda hours: NOW + hours * HOUR),
)


def step(name: str, ago: timedelta = timedelta(), round_: int = 0) -> Step:
    """A step that came so long ago."""
    return Step(name, round_, NOW - ago)


def why(told: Step, *known: Step, due: datetime = NOW, **keys: object) -> str:
    """Why a message about `told` is old."""
    return why_stale(rule(**keys), told, known, due, NOW)


def test_a_later_step_that_came_before_makes_it_old() -> None:
    """Delivered, then shipped: shipped is not told, and the reason names what came."""
    assert "order.delivered has come" in why(step(SHIPPED), step(DELIVERED, HOUR))


def test_steps_of_one_minute_in_their_order_are_all_news() -> None:
    """Shipped and delivered in one burst are both told."""
    second = timedelta(seconds=1)
    assert why(step(SHIPPED, 2 * second), step(DELIVERED, second)) == ""
    assert why(step(SHIPPED, second), step(DELIVERED, 2 * second)) != ""


def test_news_is_a_minute_old_at_most() -> None:
    """A minute after it came a step is news still; then the next one makes it old."""
    minute, next_one = timedelta(minutes=1), step(DELIVERED, timedelta(seconds=1))
    assert why(step(SHIPPED, minute), next_one) == ""
    assert why(step(SHIPPED, minute + timedelta(milliseconds=1)), next_one) != ""


def test_of_two_steps_of_the_same_moment_the_later_is_told() -> None:
    """What came at the very same time did not come in order."""
    assert "order.delivered has come" in why(step(SHIPPED), step(DELIVERED))
    assert why(step(DELIVERED), step(SHIPPED)) == ""


@pytest.mark.parametrize("turn", [1, -1])
def test_the_reason_is_the_newest_round_and_in_it_the_last_step(turn: int) -> None:
    """Of several steps that each make it old the reason names the furthest, however they came."""
    known = [step(RESULTS, HOUR), step(DELIVERED, HOUR), step(RECEIVED, HOUR)][::turn]
    assert "lab_results.complete has come" in why(step(SHIPPED), *known)
    anew = [step(RESULTS, HOUR), step(SHIPPED, HOUR, 1)][::turn]
    assert why(step(SHIPPED), *anew) == "A retest has begun since then."


@pytest.mark.parametrize("due", [NOW + HOUR, NOW])
def test_what_waits_is_overtaken(due: datetime) -> None:
    """What is to wait, or has waited for more than a minute, is old once a later step is known."""
    ago = timedelta(seconds=2) if due > NOW else HOUR
    assert why(step(SHIPPED, ago), step(DELIVERED), due=due) != ""


def test_even_if_late_is_told_all_the_same() -> None:
    """A rule may want to be told late."""
    assert why(step(SHIPPED), step(DELIVERED, HOUR), even_if_late=True) == ""


def test_unless_takes_the_place_of_the_steps() -> None:
    """A reminder to send the sample is true until the sample has come, whatever comes between."""
    keys = {"after": DAY, "unless": (RECEIVED, RESULTS)}
    due = NOW + DAY
    assert why(step(DELIVERED), step("test_registration.complete"), due=due, **keys) == ""
    assert "sample_received has come" in why(step(DELIVERED), step(RECEIVED), due=due, **keys)
    assert why(step(DELIVERED), step(RECEIVED, DAY), due=due, even_if_late=True, **keys) != ""


def test_what_a_retest_asks_for_again_meets_no_unless() -> None:
    """A sample that an order's retest repeats is not there; that its kit has come far is no less
    true.
    """
    repeated = Step(RECEIVED, 0, NOW, is_repeated=True)
    assert why(step(DELIVERED), repeated, due=NOW + DAY, unless=(RECEIVED,)) == ""
    assert "sample_received has come" in why(step(DELIVERED), repeated)


def test_a_retest_makes_the_round_before_old() -> None:
    """What waits of the old round, results too, is not told once there is a retest."""
    retest = step(RETEST, round_=1)
    assert why(step(RESULTS, timedelta(seconds=1)), retest) == "A retest has begun since then."
    assert why(step(RECEIVED, HOUR), retest) == "A retest has begun since then."
    assert why(step(SHIPPED), step(RETEST, HOUR, 1)) == "A retest has begun since then."
    reminder = {"due": NOW + DAY, "unless": (RECEIVED,)}
    assert why(step(DELIVERED), retest, **reminder) == "A retest has begun since then."
    assert why(step(SHIPPED, timedelta(seconds=1)), retest) == ""  # in their order, in one burst
    assert why(step(RESULTS), step(RETEST, HOUR, 1)) == ""  # of the rest: the lab has confirmed it


def test_the_round_before_makes_nothing_old() -> None:
    """The first round's results do not cancel the retest's sample."""
    assert why(step(RECEIVED, HOUR, 1), step(RESULTS, round_=0)) == ""


def test_what_is_no_step_overtakes_nothing() -> None:
    """A lab id has no place among the steps."""
    assert later("test_registration.lml_lab_id_created") == ()
    assert why(step(SHIPPED, HOUR), step("test_registration.lml_lab_id_created")) == ""


@given(
    told=STEPS,
    known=st.lists(STEPS, max_size=6),
    waits=st.booleans(),
    late=st.booleans(),
    unless=st.sets(st.sampled_from(sorted(EVENTS))).map(tuple),
)
def test_nothing_old_is_told_whatever_came(
    told: Step, known: list[Step], waits: bool, late: bool, unless: tuple[str, ...]
) -> None:
    """Whatever the history and its order: the same answer; never told after its `unless`, nor when
    it waits and a later step of its round is known; nothing but what has come makes it old.
    """
    due = NOW + HOUR if waits else NOW
    keys = {"even_if_late": late, "unless": unless}
    found = why(told, *known, due=due, **keys)
    assert bool(found) == bool(why(told, *reversed(known), due=due, **keys))
    here = [one for one in known if one.round >= told.round]
    if any(one.name in unless for one in here):
        assert found
    elif late or not here:
        assert not found
    elif waits and not unless and any(one.name in later(told.name) for one in here):
        assert found


@pytest.mark.parametrize("name", sorted(set(EVENTS) - {RETEST}))
@pytest.mark.parametrize("ago", [timedelta(), DAY])
def test_any_step_of_the_new_kit_overtakes_the_request_for_it(name: str, ago: timedelta) -> None:
    """Who has the new kit on its way is not asked for a sample, in whatever order that is learned;
    staff, who see to the retest, hear of it all the same."""
    asked, new = step(RETEST, HOUR, 1), step(name, ago, 1)
    assert f"{name} has come" in why(asked, new)
    assert why(asked, new, to="desk") == ""
    assert why(asked, step(name, ago, 0)) == ""
    assert why(asked, new, even_if_late=True) == ""


def test_a_request_for_a_new_kit_is_not_overtaken_by_itself() -> None:
    """The retest's own event is known when the message about it goes out."""
    asked = step(RETEST, HOUR, 1)
    assert why(asked, asked) == ""


def test_a_request_with_unless_goes_by_that_alone() -> None:
    """A reminder of the new kit is true while it is on its way, and until its sample has come."""
    asked, keys = step(RETEST, HOUR, 1), {"unless": (RECEIVED,)}
    assert why(asked, step(SHIPPED, round_=1), **keys) == ""
    assert "sample_received has come" in why(asked, step(RECEIVED, round_=1), **keys)


@pytest.mark.parametrize("to", ["patient", "desk"])
def test_the_next_retest_makes_the_request_for_this_one_old(to: str) -> None:
    """Whatever has come of the next new kit, nobody is asked for this one, nor sees to it."""
    asked = step(RETEST, HOUR, 1)
    assert why(asked, step(SHIPPED, round_=2), to=to) == "A retest has begun since then."
