"""What the lab's API may answer instead of facts, and where its token may go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

import pytest

from relay.errors import LabError, NotReady
from relay.http_client import HttpClient
from relay.lab.client import LabClient
from relay.lab.events import EVENTS
from relay.lab.facts import RESOURCES
from tests.standins import LabStandIn, RawServer, Reply, StandIn
from tests.test_lab import ID, ORDER, REGISTRATION, gather

REPLIES: dict[str, Reply] = {
    "401": Reply(401, {"message": "Token is not valid."}),
    "403": Reply(403),
    "500": Reply(500),
    "502": Reply(502, b"<html>"),
    "hang-up": Reply(hang_up=True),
    "not JSON": Reply(200, b"<html>Maintenance</html>"),
    "not UTF-8": Reply(200, b'{"id": "\xff"}'),
    "nothing": Reply(200, b""),
    "a list": Reply(200, [1]),
    "null": Reply(200, b"null"),
    "a text": Reply(200, b'"id"'),
    "nested": Reply(200, b"[" * 100_000),
    "204": Reply(204),
    "201": Reply(201, {"id": ID}),
}


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    """A host that is not the lab's."""
    with StandIn() as standin:
        standin.always(Reply(200, {"id": ID}))
        yield standin


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("event", [ORDER, REGISTRATION])
def test_what_is_no_fact_is_an_error_to_try_again(
    lab: LabStandIn, event: str, reply: Reply
) -> None:
    """Whatever the lab answers instead is a LabError that is tried again; no other id is tried."""
    lab.always(reply)
    kind = EVENTS[event]
    part = "order" if event == ORDER else "test_registration"
    data = {kind.id_field: ID, "url": f"{lab.url}/api/{part}/other"}
    with pytest.raises(LabError) as caught:
        gather(lab, event, **data)
    assert (caught.value.missing, caught.value.retry_after) == (False, None)
    assert len(lab.requests) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_an_id_that_the_lab_does_not_know_is_missing(lab: LabStandIn, status: int) -> None:
    """404 and 410 say that there is no such id."""
    lab.always(Reply(status))
    with pytest.raises(LabError) as caught:
        gather(lab)
    assert caught.value.missing


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("in an hour", 3600),
        ("soon", None),
    ],
    ids=["seconds", "date", "garbage"],
)
def test_the_lab_may_name_its_delay(
    lab: LabStandIn, status: int, value: str, seconds: float | None
) -> None:
    """Retry-After counts where the lab is busy, in seconds or as a date."""
    if value == "in an hour":
        value = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    lab.always(Reply(status, headers={"Retry-After": value}))
    with pytest.raises(LabError) as caught:
        gather(lab)
    assert caught.value.retry_after == (seconds and pytest.approx(seconds, abs=60))


REDIRECTS = [301, 302, 303, 307, 308]
# Where the lab's API may lead on at its own address: {lab} is that, {path} what was asked for.
ONWARD = {
    "a slash behind it": "{lab}{path}/",
    "no host": "{path}/",
    "relative": "./" + ID + "/",
    "in capitals": "{LAB}{path}/",
    "a new version": "{lab}/api/v2{path}",
    "a query": "{path}/?format=json",
    "a fragment": "{path}/#top",
}
# Where it must not lead: {other} is another host of the same machine, at another port.
AWAY = {
    "another host": "{other}{path}/",
    "another port": "http://127.0.0.1:1{path}/",
    "another scheme": "https://{bare}{path}/",
    "no scheme": "//{other_bare}{path}/",
    "a name and a password": "http://user:pass@{bare}{path}/",
    "our host as the name": "http://{bare}@{other_bare}{path}/",
    "a backslash": "http://{bare}\\@{other_bare}{path}/",
    "backslashes": "\\\\{other_bare}{path}/",
    "a subdomain": "http://127.0.0.1.example{path}/",
    "a file": "file:///etc/hostname",
    "no port": "http://{bare}x{path}/",
    "bad IPv6": "http://[::1{path}/",
}


def written(where: str, lab: LabStandIn, elsewhere: StandIn, path: str) -> str:
    """A Location as the lab writes it."""
    bare, other_bare = (one.url.removeprefix("http://") for one in (lab, elsewhere))
    return where.format(
        lab=lab.url,
        LAB=lab.url.upper(),
        bare=bare,
        other=elsewhere.url,
        other_bare=other_bare,
        path=path,
    )


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("where", ONWARD.values(), ids=ONWARD)
def test_a_redirect_at_the_labs_own_address_is_followed(
    lab: LabStandIn, elsewhere: StandIn, where: str, status: int
) -> None:
    """What answers 301 with a slash, as web frameworks do, is asked there, with the token."""
    path = f"/api/test_registration/{ID}"
    to = written(where, lab, elsewhere, path)
    lab.answers.append(
        lambda request: (
            Reply(status, headers={"Location": to})
            if request.path == path
            else Reply(200, {"id": ID, "first_name": "Jane"})
        )
    )
    assert (gather(lab).registration or {})["first_name"] == "Jane"
    assert len(lab.requests) == 2
    assert lab.requests[1].headers["Authorization"] == f"Bearer {lab.token}"


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("where", AWAY.values(), ids=AWAY)
def test_a_redirect_leads_nowhere_else(
    lab: LabStandIn, elsewhere: StandIn, where: str, status: int
) -> None:
    """A redirect to any other origin is an error that says what to do; neither the request nor the
    token goes there."""
    to = written(where, lab, elsewhere, f"/api/test_registration/{ID}")
    lab.always(Reply(status, headers={"Location": to}))
    with pytest.raises(LabError, match=r"redirect.*LAB_API_URL") as caught:
        gather(lab)
    assert "user:pass" not in str(caught.value)
    assert ID not in str(caught.value)
    assert elsewhere.requests == []
    assert len(lab.requests) == 1


def test_a_redirect_to_another_origin_names_it(lab: LabStandIn) -> None:
    """The error says what to write for LAB_API_URL, if that is the lab's."""
    lab.always(Reply(308, headers={"Location": f"https://eu.api.example/api/order/{ID}"}))
    with pytest.raises(LabError, match=r"LAB_API_URL=https://eu\.api\.example,"):
        gather(lab)


@pytest.mark.parametrize("location", [None, "", "{path}", "{path}/more"])
def test_a_circle_of_redirects_ends(lab: LabStandIn, location: str | None) -> None:
    """A redirect to itself, to ever longer paths or to nowhere is an error after a few calls."""

    def circle(request: Any) -> Reply:
        to = {} if location is None else {"Location": location.format(path=request.path)}
        return Reply(301, headers=to)

    lab.answers.append(circle)
    with pytest.raises(LabError, match="redirect"):
        gather(lab)
    assert len(lab.requests) <= 4


# Answers with 200 that are not what was asked for.
UNREADABLE: dict[str, Any] = {
    "a message": {"message": "Server Error"},
    "an error": {"error": {"code": 500, "message": "Server Error"}},
    "nothing in it": {},
    "wrapped, empty": {"data": {}},
    "wrapped, null": {"data": None},
    "wrapped": {"data": [{"id": ID}]},
    "a list of texts": ["Server Error"],
    "a list of null": [None],
    "a list of nothings": [{}],
    "null": None,
    "a text": "Server Error",
    "a number": 7,
    "false": False,
    "a page": Reply(200, b"<html>Maintenance</html>"),
    "cut short": Reply(200, b'{"id": "'),
}
# Each fetch that an event may make: the event, the path, and what it is an answer to.
PERSON, OTHER = "b2c3d4e5", "f8a9b0c1"
FETCHES = {
    "an order": (ORDER, f"/api/order/{ID}"),
    "a registration": (REGISTRATION, f"/api/test_registration/{ID}"),
    "an order's only registration": (ORDER, f"/api/test_registration/{OTHER}"),
    "an order's customer": (ORDER, f"/api/customer/{PERSON}"),
    "a registration's patient": (REGISTRATION, f"/api/patient/{PERSON}"),
    "a registration's order": (REGISTRATION, f"/api/order/{OTHER}"),
    "a retest": ("test_registration.retest", f"/api/test_registration/{OTHER}"),
    "results": ("lab_results.complete", f"/api/test_registration/{ID}/lab_results"),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(("event", "path"), FETCHES.values(), ids=FETCHES)
def test_no_answer_but_the_one_asked_for_is_believed(
    lab: LabStandIn, event: str, path: str, body: Any
) -> None:
    """Whichever call it is, the first or a further one: 200 with anything else is an error to try
    again, never a person without an address or results that are there."""
    person = {"id": PERSON, "first_name": None, "email": None}
    lab.change("order", ID, customer=person, customer_id=PERSON, test_registrations=[{"id": OTHER}])
    nobody = {"first_name": None, "email": None, "mobile_phone_number": None}
    lab.change("test_registration", ID, patient_id=PERSON, status="success", **nobody)
    lab.resources[path] = body if isinstance(body, Reply) else Reply(200, json.dumps(body).encode())
    data = {EVENTS[event].id_field: ID, "retest_testregistration_id": OTHER}
    with pytest.raises(LabError) as caught:
        gather(lab, event, frozenset(RESOURCES), OTHER, **data)
    assert not caught.value.missing
    assert not isinstance(caught.value, NotReady)
    assert path in [asked.rstrip("/") for asked in lab.paths]


@pytest.mark.parametrize(
    "rows", [[{"id": "1"}], [{"name": "A", "value": None}], {"0": {"id": "1"}, "2": {"id": "3"}}]
)
def test_results_that_are_there_are_believed(lab: LabStandIn, rows: Any) -> None:
    """Results are a list of objects; of one with gaps PHP makes an object."""
    lab.change("test_registration", ID, status="success")
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = Reply(200, rows)
    assert gather(lab, "lab_results.complete").registration is not None


def _huge(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
    while True:
        connection.sendall(b" " * 65536)


def _dripping(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("serve", [_huge, _dripping])
def test_an_answer_without_end_is_given_up(serve: Callable[[socket.socket], None]) -> None:
    """A huge or dripping answer is an error to try again: the worker goes on."""
    with RawServer(serve) as server, pytest.raises(LabError):
        LabClient(HttpClient(deadline=0.5), server.url, "t").gather(
            EVENTS[ORDER], {"order_id": ID}, frozenset()
        )


def known_as(lab: LabStandIn, id_: str) -> None:
    """Only this registration exists."""
    lab.answers.append(
        lambda request: Reply(404) if request.path != f"/api/test_registration/{id_}" else None
    )
    lab.change("test_registration", id_, id=ID, mobile_phone_number="+447700900001")


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("/api/test_registration/other", "other"),
        ("/api/test_registration/other/", "other"),
        ("/api/test_registration/other/lab_results/", "other"),
        ("/api/test_registration/other?page=1", "other"),
        ("/api/test_registration/LML%20AB", "LML%20AB"),
    ],
)
def test_the_id_in_the_url_is_tried_after_404(lab: LabStandIn, path: str, id_: str) -> None:
    """Where the event's own id gives 404, the one inside `url` is tried, on the configured host."""
    known_as(lab, id_)
    facts = gather(lab, testregistration_id="1234-5678", url=lab.url + path)
    assert (facts.registration or {})["id"] == ID
    assert lab.paths == ["/api/test_registration/1234-5678", f"/api/test_registration/{id_}"]


PATH = "/api/test_registration/other"
# What `url` may hold that must not lead anywhere: {lab} and {other} are the hosts with their ports.
ASTRAY: dict[str, Any] = {
    "foreign host": "http://{other}" + PATH,
    "userinfo": "http://user:pass@{lab}" + PATH,
    "host as userinfo": "http://{lab}@{other}" + PATH,
    "other port": "http://127.0.0.1:1" + PATH,
    "other scheme": "https://{lab}" + PATH,
    "no scheme": "//{lab}" + PATH,
    "backslash": "http://{lab}\\@{other}" + PATH,
    "backslashes": "http://{lab}\\api\\test_registration\\other",
    "dots": "http://{lab}/api/test_registration/..",
    "encoded dots": "http://{lab}/api/test_registration/%2e%2e",
    "dots in between": "http://{lab}/api/order/.." + PATH.removeprefix("/api"),
    "another resource": "http://{lab}/api/order/other",
    "another path": "http://{lab}/admin" + PATH,
    "the same id": "http://{lab}/api/test_registration/1234-5678",
    "no id": "http://{lab}/api/test_registration/",
    "bad IPv6": "http://[::1" + PATH,
    "nothing": None,
    "not a text": {"href": "http://{lab}" + PATH},
}


@pytest.mark.parametrize("url", ASTRAY.values(), ids=ASTRAY)
def test_a_url_leads_nowhere_else(lab: LabStandIn, elsewhere: StandIn, url: Any) -> None:
    """`url` is never followed: after 404 no call is made but for an id at the configured host."""
    known_as(lab, "other")
    hosts = (lab.url.removeprefix("http://"), elsewhere.url.removeprefix("http://"))
    if isinstance(url, str):
        url = url.replace("{lab}", hosts[0]).replace("{other}", hosts[1])
    with pytest.raises(LabError) as caught:
        gather(lab, testregistration_id="1234-5678", url=url)
    assert caught.value.missing
    assert lab.paths == ["/api/test_registration/1234-5678"]
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "id_",
    [
        "a b",
        "a'b",
        'a"b',
        "%2e%2e",
        "%2e%2e%2fadmin",
        "'; DROP TABLE events; --",
        "a/b",
        "../../admin",
        "a?b=c",
        "a#b",
        "a;b",
        "a&b=c",
        "é",
        "🧪",
        "a\r\nX-Injected: 1",
    ],
)
@pytest.mark.parametrize("event", [ORDER, REGISTRATION])
def test_an_id_is_one_segment_of_the_path(lab: LabStandIn, event: str, id_: str) -> None:
    """Whatever an id holds, it is one encoded segment: the lab reads just this id."""
    kind = EVENTS[event]
    with suppress(LabError):  # of the odd ones the stand-in's answer is not believed
        gather(lab, event, **{kind.id_field: id_})
    first = lab.paths[0]
    assert unquote(first.rsplit("/", 1)[1]) == id_
    assert first.count("/") == 3
    assert not set(first) & set("?#;& '\"\r\n")
    assert "X-Injected" not in lab.requests[0].headers


@pytest.mark.parametrize("id_", [".", "..", "../admin", "a?b", 7, True])
@pytest.mark.parametrize("person", ["patient", "customer"])
def test_an_id_that_the_lab_gave_is_one_segment_too(lab: LabStandIn, person: str, id_: Any) -> None:
    """An odd id of a person never leads to another path of the lab's API, nor to a crash."""
    lab.change("test_registration", ID, patient_id=id_)
    lab.change("order", ID, customer_id=id_, customer=None)
    with suppress(LabError):
        gather(lab, REGISTRATION if person == "patient" else ORDER)
    asked = [unquote(path.removeprefix(f"/api/{person}/")) for path in lab.paths[1:]]
    assert asked == ([] if id_ in (".", "..") else [str(id_)])


def test_without_a_token_none_is_sent(lab: LabStandIn) -> None:
    """Where no token is set the lab is asked without one, and its 401 is an error like others."""
    with pytest.raises(LabError, match="token"):
        LabClient(HttpClient(), lab.url, "").gather(EVENTS[ORDER], {"order_id": ID}, frozenset())
    assert "Authorization" not in lab.requests[0].headers


@pytest.mark.parametrize(
    ("asked", "record", "is_believed"),
    [
        ("LML-AB1234", {"id": ID, "trf_code": "LML-AB1234"}, True),
        ("lml-ab1234", {"id": ID, "trf_code": "LML-AB1234"}, True),
        ("AB1234", {"id": ID, "trf_code": "LML-AB1234"}, True),
        ("AB1234", {"id": ID, "short_code": "AB1234"}, True),
        ("REF-7", {"id": ID, "foreign_id": "REF-7"}, True),
        (ID, {"id": ID.upper()}, True),
        (ID, {"id": "another", "trf_code": "LML-ZZ9999"}, False),
        ("LML-AB1234", {"id": ID, "trf_code": "LML-AB1235"}, False),
        (ID, {"first_name": "Jane"}, False),
    ],
)
def test_an_answer_is_believed_only_if_it_names_what_was_asked(
    lab: LabStandIn, asked: str, record: dict[str, Any], is_believed: bool
) -> None:
    """A mixed-up cache that gives B's record for A makes nobody hear of A's results: it is an error
    to try again, and no name of B leads to A."""
    lab.resources[f"/api/test_registration/{asked}"] = record
    if is_believed:
        assert gather(lab, REGISTRATION, testregistration_id=asked).registration is not None
    else:
        with pytest.raises(LabError, match="another record"):
            gather(lab, REGISTRATION, testregistration_id=asked)


@pytest.mark.parametrize("kind", ["order", "customer", "patient"])
def test_an_order_or_a_person_is_asked_for_by_id_alone(lab: LabStandIn, kind: str) -> None:
    """Another order, customer or patient than was asked for is not believed either."""
    lab.resources[f"/api/{kind}/{ID}"] = {"id": "another", "first_name": "Mallory"}
    lab.change("test_registration", ID, patient_id=ID, first_name=None)
    if kind == "customer":
        lab.change("order", ID, customer={"id": ID}, customer_id=ID)
    with pytest.raises(LabError, match="another record"):
        gather(lab, REGISTRATION if kind == "patient" else ORDER)


SHIPPED, DELIVERED = "order.shipped", "order.delivered"


@pytest.mark.parametrize(
    ("event", "status", "is_contradicted"),
    [
        (SHIPPED, "awaiting_shipping", True),
        (SHIPPED, "manifested", True),
        (SHIPPED, "manifest_failed", True),
        (SHIPPED, "returned", True),
        (SHIPPED, "shipped", False),
        (SHIPPED, "out_for_delivery", False),
        (SHIPPED, "delivered", False),
        (SHIPPED, None, False),
        (SHIPPED, "teleported", False),
        (DELIVERED, "shipped", True),
        (DELIVERED, "out_for_delivery", True),
        (DELIVERED, "delivery_failed", True),
        (DELIVERED, "returned", True),
        (DELIVERED, "delivered", False),
        (DELIVERED, None, False),
    ],
)
def test_a_shipping_status_must_fit(
    lab: LabStandIn, event: str, status: str | None, is_contradicted: bool
) -> None:
    """An order's event waits while the API contradicts it; an empty or unknown status does not."""
    lab.change("order", ID, shipping_status=status)
    if is_contradicted:
        with pytest.raises(NotReady, match=str(status)) as caught:
            gather(lab, event)
        assert caught.value.facts.order["id"] == ID
    else:
        assert gather(lab, event).order is not None


@pytest.mark.parametrize("body", [b"[]", b"null", b"{}", b"soon", b'"x"', b"7"])
def test_results_must_be_there(lab: LabStandIn, body: bytes) -> None:
    """Results that answer 200 with nothing in them, or with what is not JSON, are not announced."""
    lab.resources[f"/api/test_registration/{ID}/lab_results"] = Reply(200, body)
    with pytest.raises(LabError):
        gather(lab, "lab_results.complete")


@pytest.mark.parametrize(
    ("new", "is_linked"),
    [
        ({"id": "new", "parent_id": ID}, True),
        ({"id": "new", "parent_id": "LML-AB1234"}, True),
        ({"id": "new", "parent_id": "another"}, False),
        ({"id": "new", "parent_id": None}, False),
        (Reply(404), False),
    ],
)
def test_a_retest_must_exist_and_name_its_parent(
    lab: LabStandIn, new: Any, is_linked: bool
) -> None:
    """Nobody is asked for a new sample that the lab's API knows nothing of."""
    lab.change("test_registration", ID, trf_code="LML-AB1234")
    lab.resources["/api/test_registration/new"] = new
    data = {"testregistration_id": ID, "retest_testregistration_id": "new"}
    if is_linked:
        assert gather(lab, "test_registration.retest", **data).registration is not None
    else:
        with pytest.raises(LabError):
            gather(lab, "test_registration.retest", **data)
