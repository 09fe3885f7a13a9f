"""Whatever a stranger sends, every answer is JSON with a status of the contract: never a 500."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from relay.config.settings import Settings
from relay.lab import samples
from relay.lab.events import EVENTS
from relay.ledger.database import Database
from relay.ledger.schema import events, quarantine
from tests.test_webhooks import rows

EXPECTED = {200, 400, 401, 403, 404, 405, 413, 422}
ONE_APP = examples(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NASTY = [
    "",
    " ",
    "/",
    "..",
    "../../etc/passwd",
    "%2e%2e",
    "a\\b",
    "a?b#c",
    "x" * 10_000,
    "'; DROP TABLE events; --",
    '" OR 1=1',
    "${jndi:ldap://x}",
    "{{7*7}}",
    "<b>x</b>",
    "a\r\nBcc: x@example.org",
    "\u202egnp.exe",
    "😀" * 300,
    "\ufeff",
    "\x7f",
    "Z̸o̸ë̸",
    "https://a@evil.example:1/api/order/1",
    "http:\\\\evil.example",
    "//evil.example",
    "-0",
    "1e309",
    "NaN",
    "true",
    "null",
    "0" * 300,
    "9999-12-31T23:59:59-23:59",
]
BODIES = {
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"event":' * 7_000,
    "deep data": b'{"event": "x", "data": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "long number": b'{"event": "x", "data": {"a": ' + b"9" * 5_000 + b"}}",
    "NaN": b'{"event": "x", "data": {"a": NaN}}',
    "duplicate keys": b'{"event": "x", "data": {}, "data": {}}',
    "NUL": b'{"event": "x", "data": {"a": "\\u0000"}}',
    "NUL in the name": b'{"event": "\\u0000", "data": {}}',
    "lone surrogate": b'{"event": "x", "data": {"\\ud800": 1}}',
    "lone surrogate in the name": b'{"event": "\\udfff", "data": {}}',
    "bad UTF-8": b'{"event": "\xc3\x28", "data": {}}',
    "UTF-16": '{"event": "x", "data": {}}'.encode("utf-16"),
    "gzip": gzip.compress(b'{"event": "x", "data": {}}'),
    "array": b"[]",
    "scalar": b"7",
    "null": b"null",
    "nothing": b"",
    "all bytes": bytes(range(256)),
    "form": b"event=order.shipped&data=%7B%7D",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="event"\r\n\r\nx\r\n--x--',
    "XML": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
}


def well_answered(response: Any) -> Any:
    """An answer that the contract knows."""
    assert response.status_code in EXPECTED, response.text
    assert response.mimetype == "application/json"
    assert response.json["status"]
    assert "Traceback" not in response.text
    return response


@pytest.mark.parametrize("case", BODIES)
def test_bad_body_is_400_and_kept(case: str, client: Any, db: Database) -> None:
    """Each body of the list of bad input is 400, and its bytes are in quarantine."""
    response = well_answered(client.post("/webhooks/lab", data=BODIES[case]))
    assert response.status_code == 400
    assert [row.body for row in rows(db, quarantine)] == [BODIES[case]]
    assert rows(db, events) == []


def test_byte_order_mark_is_passed_over(client: Any) -> None:
    """A mark before the JSON is no reason to lose an event."""
    body = b"\xef\xbb\xbf" + json.dumps(samples.webhook("order.shipped")).encode()
    assert client.post("/webhooks/lab", data=body).json["status"] == "accepted"


@pytest.mark.parametrize("name", EVENTS)
def test_nasty_values_are_kept_to_the_letter_or_refused(
    name: str, client: Any, db: Database
) -> None:
    """In each field of each event a nasty text is 422, or stands in the ledger as it was sent."""
    good = samples.webhook(name)["data"]
    taken = {}
    for field in (*good, "note"):
        for value in NASTY:
            data = {**good, "n": f"{field}{value}", field: value}
            body = json.dumps({"event": name, "data": data}).encode()
            response = well_answered(client.post("/webhooks/lab", data=body))
            assert response.status_code in (200, 422)
            if response.json["status"] == "accepted":
                taken[response.json["id"]] = data
    assert {row.id: row.data for row in rows(db, events) if row.source == "lab"} == {
        id_: {k: v.strip() if k in EVENTS[name].identity else v for k, v in data.items()}
        for id_, data in taken.items()
    }


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from([*EVENTS, "invoice.paid"]) | st.text() | _json
_fields = sorted({field for kind in EVENTS.values() for field in kind.data_fields})
_data = st.dictionaries(st.sampled_from(_fields) | st.text(), _json, max_size=5) | _json
_bodies = (
    st.binary(max_size=200)
    | _json.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda e, d: json.dumps({"event": e, "data": d}).encode(), _names, _data)
)


@ONE_APP
@given(body=_bodies)
def test_any_body_is_answered(client: Any, body: bytes) -> None:
    """Any bytes, any JSON, any event are answered with a status of the contract."""
    response = well_answered(client.post("/webhooks/lab", data=body))
    assert response.status_code in (200, 400, 422)
    again = client.post("/webhooks/lab", data=body)
    assert again.status_code == response.status_code
    if response.status_code == 200:
        assert again.json == {"status": "duplicate", "id": response.json["id"]}


_header_names = st.sampled_from(
    [
        "Authorization",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Accept",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "Host",
        "Cookie",
        "Range",
        "Expect",
        "Origin",
        "Referer",
        "If-None-Match",
    ]
)
_header_text = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
_schemes = st.sampled_from(["Basic", "Bearer", "Digest", "bAsIc"])
_headers = st.dictionaries(
    _header_names, _header_text | st.builds("{} {}".format, _schemes, _header_text), max_size=5
)


@pytest.fixture
def behind_proxy(make_client: Callable[[Settings], Any], settings: Settings) -> Any:
    """The app as it runs in production: it believes what the platform's proxy adds."""
    return make_client(replace(settings, development=False))


@ONE_APP
@given(headers=_headers)
def test_any_headers_are_answered(behind_proxy: Any, headers: dict[str, str]) -> None:
    """No header, however odd, breaks the app or lets anybody in."""
    body = json.dumps(samples.webhook("order.shipped")).encode()
    odd = {"Authorization": "", **headers}
    response = well_answered(behind_proxy.post("/webhooks/lab", data=body, headers=odd))
    assert response.status_code in (400, 401, 403)  # plain HTTP: 403


_segments = ["", ".", "..", "%2e", "%00", "%ff", "webhooks", "lab", "static", "x", " ", ";", "é"]
_paths = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.lists(
    st.sampled_from(_segments), max_size=6
).map("/".join)


@ONE_APP
@given(
    path=_paths,
    method=st.sampled_from(["POST", "GET", "PUT", "DELETE", "PATCH", "BREW"]),
    under=st.sampled_from(["/webhooks/lab/", "/webhooks/", "/", "/static/", "/callbacks/"]),
)
def test_any_path_is_answered(client: Any, path: str, method: str, under: str) -> None:
    """Any path and method is an error in JSON, but for the desk's way to its login."""
    on_the_wire = (under + path).encode().decode("latin-1")
    environ = {"PATH_INFO": on_the_wire, "REQUEST_METHOD": method}
    response = client.open(environ_overrides=environ)
    if response.location:
        assert response.location.startswith("/login")
    else:
        assert well_answered(response).status_code in (400, 401, 404, 405)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999", " 7", "٣"])
def test_odd_content_length_is_answered(length: str, client: Any) -> None:
    """A length that is no length, or a lie, is an error and not a crash."""
    response = client.post(
        "/webhooks/lab", data=b"{}", environ_overrides={"CONTENT_LENGTH": length}
    )
    assert well_answered(response).status_code in (400, 413)
