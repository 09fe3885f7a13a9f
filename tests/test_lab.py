"""The lab's API: which calls an event makes, and the facts that come of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import LabError, NotReady
from relay.http_client import HttpClient
from relay.lab import samples
from relay.lab.client import LabClient
from relay.lab.events import EVENTS
from relay.lab.facts import RESOURCES, SHAPES, Facts
from tests.standins import LabStandIn, Reply, Request

ID = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"
ALL = frozenset(RESOURCES)
ORDER, REGISTRATION = "order.shipped", "test_registration.complete"
RESULTS, RETEST = "lab_results.complete", "test_registration.retest"
NEW = "4f0c2a10-9d4b-4a53-9b57-9f6f0b7f3f55"


def gather(
    lab: LabStandIn,
    event: str = REGISTRATION,
    wanted: frozenset[str] = frozenset(),
    known_order: str | None = None,
    **data: Any,
) -> Facts:
    """An event's facts."""
    kind = EVENTS[event]
    if kind.name == RETEST and not data:
        data = {kind.id_field: ID, "retest_testregistration_id": NEW}
        lab.resources.setdefault(f"/api/test_registration/{NEW}", {"id": NEW, "parent_id": ID})
    return LabClient(HttpClient(deadline=5), lab.url, lab.token).gather(
        kind, data or {kind.id_field: ID}, wanted, lambda _id: known_order
    )


def person(**fields: Any) -> dict[str, Any]:
    """A person as facts have them."""
    names = ("id", "first_name", "last_name", "email", "phone_number", "foreign_id")
    return {**dict.fromkeys(names), **fields}


@pytest.mark.parametrize(
    ("event", "wanted", "calls"),
    [
        *((name, frozenset(), ["order"]) for name in ("order.shipped", "order.delivered")),
        ("order.shipped", frozenset({"order", "customer"}), ["order"]),
        ("order.shipped", ALL, ["order", "test_registration", "patient"]),
        *(
            (name, wanted, ["test_registration", "patient"])
            for name in EVENTS
            if name.startswith("test_registration.") and name != RETEST
            for wanted in (frozenset({"patient"}), ALL)
        ),
        (RETEST, ALL, ["test_registration", "patient", "test_registration"]),
        (RESULTS, frozenset({"patient"}), ["lab_results", "test_registration", "patient"]),
    ],
)
def test_an_event_asks_for_what_it_needs(
    lab: LabStandIn, event: str, wanted: frozenset[str], calls: list[str]
) -> None:
    """Each event fetches its own resource and what rules name of others: nothing twice."""
    gather(lab, event, wanted)
    paths = [path.strip("/").split("/") for path in lab.paths]
    assert [parts[3] if len(parts) == 4 else parts[1] for parts in paths] == calls
    assert all(parts[0] == "api" for parts in paths)


def test_every_call_is_an_authorised_get(lab: LabStandIn) -> None:
    """The token goes with each call, as a bearer token."""
    gather(lab, RESULTS, ALL, known_order="o-1")
    assert {request.method for request in lab.requests} == {"GET"}
    assert {request.headers["Authorization"] for request in lab.requests} == {"Bearer lab-token"}


def test_a_registration_comes_with_its_order_when_a_rule_names_it(lab: LabStandIn) -> None:
    """The order that the ledger knows is fetched only where a rule speaks of it or its customer."""
    assert gather(lab, wanted=frozenset({"patient"}), known_order="o-1").order is None
    lab.change("order", "o-1", order_number="42", customer={"first_name": "Amir"}, customer_id=None)
    facts = gather(lab, wanted=frozenset({"customer"}), known_order="o-1")
    assert (facts.order or {})["order_number"] == "42"
    assert facts.customer == person(first_name="Amir")


def test_the_phone_comes_from_the_patient(lab: LabStandIn) -> None:
    """A registration without a mobile number gets its patient's; its own details come first."""
    lab.change("test_registration", ID, patient_id="p-1", first_name="Jane", email=None)
    lab.resources["/api/patient/p-1"] = {
        **{"id": "p-1", "first_name": "Janet", "last_name": "Doe", "email": "jane@example.com"},
        "phone_number": "+447700900001",
    }
    patient = gather(lab).patient or {}
    assert (patient["first_name"], patient["email"]) == ("Jane", "jane@example.com")
    assert patient["phone_number"] == "+447700900001"


def test_a_registration_with_all_details_asks_for_nobody(lab: LabStandIn) -> None:
    """Where the registration has the mobile number itself, the patient is not fetched."""
    lab.change("test_registration", ID, mobile_phone_number="+447700900001")
    assert (gather(lab).patient or {})["phone_number"] == "+447700900001"
    assert lab.paths == [f"/api/test_registration/{ID}"]


CHRIS = {"id": "c-1", "first_name": "Chris", "phone_number": "+447700900009"}
EMBEDDED = {"id": "c-1", "first_name": "Jane", "last_name": "Doe", "email": "jane@example.com"}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(
            {"customer": {**EMBEDDED, "phone_number": "+447700900001"}, "customer_id": "c-1"},
            person(**EMBEDDED, phone_number="+447700900001"),
            id="embedded",
        ),
        pytest.param(
            {"customer": EMBEDDED, "customer_id": None},
            person(**EMBEDDED, phone_number="+447700900009"),
            id="embedded, filled up",
        ),
        pytest.param(
            {"customer": None, "customer_id": "c-1"},
            person(**CHRIS),
            id="fetched",
        ),
        pytest.param({"customer": None, "customer_id": None}, person(), id="nobody"),
        pytest.param(
            {"customer": {"first_name": "Jane"}, "customer_id": "gone"},
            person(id="gone", first_name="Jane"),
            id="missing",
        ),
    ],
)
def test_the_customer_is_embedded_or_fetched(
    lab: LabStandIn, order: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Who ordered is taken from the order, filled up from their own record where that exists."""
    lab.change("order", ID, **order)
    lab.resources["/api/customer/gone"] = Reply(404)
    lab.resources["/api/customer/c-1"] = CHRIS
    assert gather(lab, ORDER).customer == expected


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("value", ["null", "missing"])
def test_any_field_may_be_empty(lab: LabStandIn, event: str, value: str) -> None:
    """Every field but the id that was asked for may be null or missing: there still are facts."""
    for kind in ("order", "test_registration", "patient", "customer"):
        example = samples.resources().get(kind, {"first_name": "Jane"})
        empty = dict.fromkeys(example) if value == "null" else {}
        lab.resources[f"/api/{kind}/{ID}"] = {**empty, "id": ID}
    facts = gather(lab, event, ALL, known_order=ID)
    own = facts.order if EVENTS[event].resource == "order" else facts.registration
    assert own is not None
    assert set(own.values()) == {None, ID}
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize("kind", ["order", "test_registration"])
@pytest.mark.parametrize("value", ["text", 7, True, [], ["x"], [None], [[]], {}, {"a": {"b": 1}}])
def test_any_field_may_be_of_another_shape(lab: LabStandIn, kind: str, value: Any) -> None:
    """A field of a shape that is not documented is nobody's crash, and no template's surprise."""
    example = samples.resources()[kind]
    for field in SHAPES["order" if kind == "order" else "registration"].keys() - {"id"}:
        lab.resources[f"/api/{kind}/{ID}"] = {**example, "id": ID, field: value}
        facts = gather(lab, ORDER if kind == "order" else REGISTRATION, ALL)
        json.dumps(facts.to_json())
        assert all(isinstance(row, dict) for row in (facts.order or {}).get("items") or ())


def test_an_order_of_several_kits_belongs_to_no_single_patient(lab: LabStandIn) -> None:
    """An order's registration is fetched where it has just one."""
    lab.change("order", ID, test_registrations=[{"id": "r-1"}, {"id": "r-2"}])
    facts = gather(lab, ORDER, ALL)
    assert (facts.registration, facts.patient) == (None, None)


def test_results_that_are_not_ready_are_not_announced(lab: LabStandIn) -> None:
    """204 for results means: try again later, there is nothing to say yet."""
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = Reply(204)
    with pytest.raises(NotReady):
        gather(lab, RESULTS)


@pytest.mark.parametrize("status", [404, 500])
def test_results_that_cannot_be_had_are_not_announced(lab: LabStandIn, status: int) -> None:
    """An error for results means no message yet."""
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = Reply(status)
    with pytest.raises(LabError):
        gather(lab, RESULTS)


def test_a_cancelled_test_is_not_asked_for_results(lab: LabStandIn) -> None:
    """Results of a cancelled registration are never announced, so nobody waits for them."""
    lab.change("test_registration", ID, status="cancelled")
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = Reply(204)
    assert (gather(lab, RESULTS).registration or {})["status"] == "cancelled"


def test_a_status_is_no_older_than_the_results(lab: LabStandIn) -> None:
    """Results come with the status "fail" while Relay asks for both: it never takes them together
    with the status that the test had before."""
    path = f"/api/test_registration/{ID}"
    lab.change("test_registration", ID, status="awaiting_patient")
    lab.resources[f"{path}/lab_results"] = Reply(204)

    def between(request: Request) -> None:
        """After the first question, whatever it was about, the lab is done with the test."""
        if len(lab.requests) == 2:
            lab.change("test_registration", ID, status="fail")
            lab.resources[f"{path}/lab_results"] = Reply(200, [{"id": "1"}])

    lab.answers.append(between)
    try:
        seen = (gather(lab, RESULTS).registration or {})["status"]
    except NotReady:
        seen = "fail"  # it is asked again
    assert seen == "fail"


def test_results_are_not_kept(lab: LabStandIn) -> None:
    """Whether there are results is all that is taken: no value of theirs is in the facts."""
    results = [{"name": "Thyroid stimulating hormone", "value": "70.125"}]
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = results
    lab.change("test_registration", ID, lab_results=results, comment="70.125")
    kept = json.dumps(gather(lab, RESULTS, ALL).to_json())
    assert "70.125" not in kept
    assert "Thyroid" not in kept
