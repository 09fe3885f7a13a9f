"""Which order, registrations and retests are one kit, in whatever order they are learned."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from relay.lab.events import EVENTS, ORDER, REGISTRATION
from relay.lab.events import RETEST as RETESTED
from relay.lab.facts import Facts
from relay.ledger import journeys
from relay.ledger.database import Database
from relay.ledger.journeys import Place
from tests.rows import at_once

UUID, TRF, FOREIGN = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df", "LML-AB1234", "1234-5678"
RETEST, RETEST_TRF = "0b7c6c1e-43c5-4c2c-9f0e-6c8f6a3f1f10", "LML-RE7E57"
SECOND = "5d1f33f0-07b1-4c7c-9a0c-77a5a55c2f8d"
ORIGINAL = {"id": UUID, "trf_code": TRF, "foreign_id": FOREIGN}


def learn(db: Database, written: str, **registration: Any) -> Place:
    """The place of a registration's event."""
    data = {"testregistration_id": written}
    return place(db, "test_registration.complete", data, Facts(registration=registration or None))


def learn_order(db: Database, written: str, order: dict[str, Any]) -> Place:
    """The place of an order's event."""
    return place(db, "order.shipped", {"order_id": written}, Facts(order=order))


def learn_retest(db: Database, original: str, retest: str, **fetched: Any) -> Place:
    """The place of a retest's event, which fetches the original."""
    data = {"testregistration_id": original, "retest_testregistration_id": retest}
    return place(db, RETESTED, data, Facts(registration=fetched or None))


def learn_retest_of(db: Database, original: dict[str, Any], retest: str) -> Place:
    """The same, of a registration that the lab's API tells all about."""
    return learn_retest(db, original["id"], retest, **original)


def place(db: Database, name: str, data: dict[str, Any], facts: Facts) -> Place:
    """Where an event belongs."""
    with db.write() as connection:
        return journeys.place(connection, EVENTS[name], data, facts)


@pytest.mark.parametrize("order", list(permutations((UUID, TRF, FOREIGN))), ids=str)
def test_three_names_are_one_subject(db: Database, order: tuple[str, ...]) -> None:
    """UUID, TRF code and foreign id name one subject, whichever of them comes first."""
    assert {learn(db, name, **ORIGINAL) for name in order} == {Place(UUID, 0)}
    for name in (UUID, TRF, FOREIGN):
        with db.read() as connection:
            assert journeys.resolve(connection, REGISTRATION, name) == UUID


def test_names_are_known_before_an_event_uses_them(db: Database) -> None:
    """Once fetched, a registration is found under every name that the lab's API gave it."""
    with db.read() as connection:
        assert journeys.resolve(connection, REGISTRATION, TRF) is None
    learn(db, UUID, **ORIGINAL)
    with db.read() as connection:
        assert journeys.resolve(connection, REGISTRATION, TRF) == UUID
        assert journeys.resolve(connection, ORDER, TRF) is None


def test_a_registration_without_an_id_goes_by_what_the_event_calls_it(db: Database) -> None:
    """Any field may be null: the event's own id then is the subject."""
    assert learn(db, "x-1", id=None, trf_code=None) == Place("x-1", 0)
    assert learn_order(db, "o-1", {"id": None}) == Place("o-1", 0)


def test_people_with_the_same_foreign_id_keep_their_own_subjects(db: Database) -> None:
    """The API's UUID decides: a name that two registrations share joins nobody's kits."""
    assert learn(db, UUID, id=UUID, foreign_id="family-1").subject == UUID
    assert learn(db, SECOND, id=SECOND, foreign_id="family-1") == Place(SECOND, 0)


@pytest.mark.parametrize("registration_first", [True, False])
def test_an_order_leads_to_its_registrations(db: Database, registration_first: bool) -> None:
    """A registration's order is known once the order was fetched, before or after it."""
    order = {"id": "o-uuid", "test_registrations": [{"id": UUID, "trf_code": TRF}, {"id": None}]}
    if registration_first:
        learn(db, UUID, **ORIGINAL)
        with db.read() as connection:
            assert journeys.order_of(connection, UUID) is None
    assert learn_order(db, "o-1", order) == Place("o-uuid", 0)
    learn(db, UUID, **ORIGINAL)
    with db.read() as connection:
        assert journeys.order_of(connection, UUID) == "o-uuid"
        assert journeys.resolve(connection, ORDER, "o-1") == "o-uuid"
        assert journeys.resolve(connection, REGISTRATION, TRF) == UUID


def test_an_unknown_registration_has_no_order(db: Database) -> None:
    """Nothing is made up about a registration that nobody has spoken of."""
    with db.read() as connection:
        assert journeys.order_of(connection, UUID) is None


@pytest.mark.parametrize("event_first", [True, False])
def test_a_retest_is_linked_by_its_event_or_by_its_parent(db: Database, event_first: bool) -> None:
    """A retest is round 1 of its original, whether its event or its parent_id tells first."""
    steps = [
        lambda: learn_retest_of(db, ORIGINAL, RETEST),
        lambda: learn(db, RETEST, id=RETEST, trf_code=RETEST_TRF, parent_id=UUID),
    ]
    for step in steps if event_first else reversed(steps):
        assert step() == Place(UUID, 1)
    assert learn(db, RETEST_TRF, id=RETEST, trf_code=RETEST_TRF) == Place(UUID, 1)
    assert learn(db, UUID, **ORIGINAL) == Place(UUID, 0)


def test_a_retest_named_by_an_alias_first_keeps_its_round(db: Database) -> None:
    """A retest's event may name it by TRF code before its UUID is known: it stays one round."""
    assert learn_retest_of(db, ORIGINAL, RETEST_TRF) == Place(UUID, 1)
    assert learn(db, RETEST_TRF, id=RETEST, trf_code=RETEST_TRF) == Place(UUID, 1)
    assert learn_retest_of(db, ORIGINAL, RETEST_TRF) == Place(UUID, 1)
    assert learn_retest_of(db, ORIGINAL, RETEST) == Place(UUID, 1)


@pytest.mark.parametrize("parent", [TRF, FOREIGN])
@pytest.mark.parametrize("original_first", [True, False])
def test_a_parent_may_be_named_by_an_alias(db: Database, parent: str, original_first: bool) -> None:
    """A parent_id that is not the UUID still leads to the original's UUID once that is known."""
    if original_first:
        learn(db, UUID, **ORIGINAL)
    learn(db, RETEST, id=RETEST, parent_id=parent)
    learn(db, UUID, **ORIGINAL)
    assert learn(db, RETEST, id=RETEST, parent_id=parent) == Place(UUID, 1)


def test_each_retest_opens_a_round(db: Database) -> None:
    """A second retest of the same original is round 2; replaying the first opens no third."""
    assert learn_retest_of(db, ORIGINAL, RETEST) == Place(UUID, 1)
    assert learn_retest_of(db, ORIGINAL, SECOND) == Place(UUID, 2)
    assert learn_retest_of(db, ORIGINAL, RETEST) == Place(UUID, 1)


def test_retests_at_once_get_rounds_of_their_own(db: Database) -> None:
    """Retests that are learned at the same moment never share a round."""
    learn(db, UUID, **ORIGINAL)
    places = at_once(lambda n: learn_retest(db, UUID, f"retest-{n}"), 6)
    assert sorted(place.round for place in places) == [1, 2, 3, 4, 5, 6]


def test_one_retest_learned_at_once_is_one_round(db: Database) -> None:
    """The same retest, learned by several workers at the same moment, is one round."""
    learn(db, UUID, **ORIGINAL)
    assert set(at_once(lambda _: learn_retest(db, UUID, RETEST), 6)) == {Place(UUID, 1)}


@pytest.mark.parametrize("by_event", [True, False])
def test_a_retest_of_a_retest_belongs_to_the_first_original(db: Database, by_event: bool) -> None:
    """However long the chain is, there is one kit, and each retest is its next round."""
    first = {"id": RETEST, "parent_id": UUID}
    learn_retest_of(db, ORIGINAL, RETEST)
    if by_event:
        assert learn_retest_of(db, first, SECOND) == Place(UUID, 2)
    assert learn(db, SECOND, id=SECOND, parent_id=RETEST) == Place(UUID, 2)


def test_a_chain_learned_from_its_end_belongs_to_the_first_original(db: Database) -> None:
    """The retest of a retest may be learned before the retest's own original."""
    learn(db, SECOND, id=SECOND, parent_id=RETEST)
    learn(db, RETEST, id=RETEST, parent_id=UUID)
    places = [
        learn(db, RETEST, id=RETEST, parent_id=UUID),
        learn(db, SECOND, id=SECOND, parent_id=RETEST),
    ]
    assert [place.subject for place in places] == [UUID, UUID]
    assert places[0].round != places[1].round


def test_a_retest_comes_with_its_originals_order(db: Database) -> None:
    """A retest has no order of its own: its original's is meant."""
    learn_order(db, "o-1", {"id": "o-1", "test_registrations": [{"id": UUID}]})
    learn_retest_of(db, ORIGINAL, RETEST)
    with db.read() as connection:
        assert journeys.order_of(connection, RETEST) == "o-1"


def test_registrations_that_name_each_other_end_somewhere(db: Database) -> None:
    """Parents in a circle, or oneself as one's parent, lead to an original and an answer."""
    assert learn(db, SECOND, id=SECOND, parent_id=SECOND) == Place(SECOND, 0)
    assert learn(db, RETEST, id=RETEST, parent_id=UUID) == Place(UUID, 1)
    assert learn(db, UUID, id=UUID, parent_id=RETEST) == Place(UUID, 0)
    with db.read() as connection:
        assert journeys.order_of(connection, UUID) is None
        assert journeys.order_of(connection, RETEST) is None


def test_a_retest_that_is_the_original_by_another_name_opens_no_round(db: Database) -> None:
    """An event that calls one registration its own retest, by two names, changes nothing."""
    learn(db, UUID, **ORIGINAL)
    assert learn_retest_of(db, ORIGINAL, TRF) == Place(UUID, 0)
    with db.read() as connection:
        assert journeys.order_of(connection, UUID) is None
