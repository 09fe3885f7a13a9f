"""Which steps count for a kit and for an order: relay/rules/staleness.py with plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.lab.events import ORDER, REGISTRATION, RESULTS, RETEST
from relay.rules.model import Step
from relay.rules.staleness import KitEvent, Kits, Registration

SHIPPED, DELIVERED = "order.shipped", "order.delivered"
REGISTERED, RECEIVED = "test_registration.complete", "test_registration.sample_received"
JANE = Registration("jane", "jane", 0, "o1")
JOHN = Registration("john", "john", 0, "o1")
ANEW = Registration("anew", "jane", 1, "o2")  # Jane's retest, shipped as an order of its own


def at(hour: int) -> datetime:
    """An hour of the first day."""
    return datetime(2026, 6, 1, tzinfo=UTC) + timedelta(hours=hour)


def came(name: str, subject: str, hour: int, round_: int = 0) -> KitEvent:
    """An event that came at an hour."""
    return KitEvent(name, subject, round_, at(hour))


def step(name: str, hour: int, round_: int = 0, *, is_repeated: bool = False) -> Step:
    """A step that counts from an hour on."""
    return Step(name, round_, at(hour), is_repeated)


def test_a_kit_has_its_own_steps_and_its_orders_in_the_order_they_came() -> None:
    """What was shipped counts for each kit in it, and what came of one kit for no other."""
    events = [
        came(RECEIVED, "jane", 3),
        came(SHIPPED, "o1", 1),
        came(REGISTERED, "jane", 2),
        came(REGISTERED, "john", 2),
        came(DELIVERED, "o2", 1),
    ]
    steps = Kits([JANE, JOHN, JANE], events).steps(REGISTRATION, "jane")
    assert steps == (step(SHIPPED, 1), step(REGISTERED, 2), step(RECEIVED, 3))


def test_steps_of_one_moment_are_by_their_names_and_rounds() -> None:
    """The same history is the same to everybody, in whatever order it is read."""
    events = [came(RETEST, "jane", 1, 1), came(RECEIVED, "jane", 1, 1), came(RECEIVED, "jane", 1)]
    wanted = (step(RETEST, 1, 1), step(RECEIVED, 1), step(RECEIVED, 1, 1))
    for read in (events, events[::-1]):
        assert Kits([JANE], read).steps(REGISTRATION, "jane") == wanted


def test_the_order_of_a_retest_counts_for_its_round() -> None:
    """A retest is shipped anew: that is a step of its round, not of the first kit's."""
    events = [came(SHIPPED, "o1", 1), came(RETEST, "jane", 2, 1), came(SHIPPED, "o2", 3)]
    steps = Kits([ANEW, JANE], events).steps(REGISTRATION, "jane")
    assert steps == (step(SHIPPED, 1), step(RETEST, 2, 1), step(SHIPPED, 3, 1))


def test_a_kit_whose_order_is_not_known_has_nobodys_steps() -> None:
    """Nothing leads from an order to a kit that the lab has not linked with it."""
    alone = Registration("jane", "jane", 0, None)
    events = [came(SHIPPED, "o1", 1), came(SHIPPED, "", 1), came(RECEIVED, "jane", 2)]
    assert Kits([alone], events).steps(ORDER, "") == (step(SHIPPED, 1),)
    assert Kits([alone], events[::2]).steps(REGISTRATION, "jane") == (step(RECEIVED, 2),)


def test_an_order_and_a_kit_of_the_same_id_are_two() -> None:
    """An event says by its name what it is about."""
    events = [came(SHIPPED, "same", 1), came(RECEIVED, "same", 2)]
    assert Kits([], events).steps(ORDER, "same") == (step(SHIPPED, 1),)
    assert Kits([], events).steps(REGISTRATION, "same") == (step(RECEIVED, 2),)


def test_a_step_of_an_order_has_come_when_it_has_for_each_kit() -> None:
    """Of two samples the first calls nothing off; the later one's arrival counts, and of a step
    that came twice the first time.
    """
    events = [came(SHIPPED, "o1", 1), came(RECEIVED, "jane", 2), came(RECEIVED, "jane", 4)]
    assert Kits([JANE, JOHN], events).steps(ORDER, "o1") == (step(SHIPPED, 1),)
    assert Kits([JANE], events).steps(ORDER, "o1") == (step(SHIPPED, 1), step(RECEIVED, 2))
    both = [*events, came(RECEIVED, "john", 3)]
    assert Kits([JANE, JOHN], both).steps(ORDER, "o1") == (step(SHIPPED, 1), step(RECEIVED, 3))


def test_of_a_kit_that_is_tested_anew_the_newest_round_counts() -> None:
    """The old sample is not the new one; what came before is marked as asked for again."""
    events = [came(RECEIVED, "jane", 2), came(RESULTS, "jane", 3), came(RETEST, "jane", 4, 1)]
    assert Kits([JANE, ANEW], events).steps(ORDER, "o1") == (
        step(RECEIVED, 2, is_repeated=True),
        step(RESULTS, 3, is_repeated=True),
        step(REGISTERED, 4, is_repeated=True),  # not posted: it has to have been
        step(RETEST, 4),
    )
    again = [*events, came(RECEIVED, "jane", 6, 1)]
    assert step(RECEIVED, 6) in Kits([JANE, ANEW], again).steps(ORDER, "o1")
    assert Kits([JANE, ANEW], again).steps(ORDER, "o2") == (step(RETEST, 4), step(RECEIVED, 6))


def test_a_retest_tells_that_the_first_sample_had_come() -> None:
    """Who is asked for another sample has sent one, whether or not the lab posted it; results it
    may never have had.
    """
    steps = Kits([JANE, ANEW], [came(RETEST, "jane", 4, 1)]).steps(ORDER, "o1")
    assert set(steps) == {
        step(RETEST, 4),
        step(REGISTERED, 4, is_repeated=True),
        step(RECEIVED, 4, is_repeated=True),
    }
