"""POST /webhooks/lab: each row of the contract's table, answered and stored to the letter."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
import sqlalchemy as sa

from relay.config.settings import Settings
from relay.lab import samples
from relay.ledger.database import Database, ago
from relay.ledger.schema import events, quarantine
from tests.conftest import one_database

LARGEST = 64 * 1024
SHIPPED = json.dumps(samples.webhook("order.shipped")).encode()
UNKNOWN = b'{"event": "invoice.paid", "data": {"id": 7}}'
NOT_AN_EVENT = b'{"event": "order.shipped"}'
BAD_DATA = b'{"event": "order.shipped", "data": {"order_id": "", "url": 7}}'


def post(client: Any, body: bytes, **how: Any) -> Any:
    """The answer to a webhook; it is JSON whatever it says."""
    response = client.post("/webhooks/lab", data=body, **how)
    assert response.mimetype == "application/json"
    return response


def rows(db: Database, table: sa.Table) -> list[Any]:
    """All that a table holds, oldest first."""
    with db.read() as connection:
        return list(connection.execute(table.select().order_by(table.c.id)))


@pytest.fixture
def stored(db: Database) -> Callable[[], list[Any]]:
    """The ledger's events, as the lab posted them."""
    return lambda: [row for row in rows(db, events) if row.source == "lab"]


@pytest.fixture
def refused(db: Database) -> Callable[[], list[Any]]:
    """The bodies in quarantine."""
    return lambda: rows(db, quarantine)


@pytest.mark.parametrize("body", samples.webhooks(), ids=lambda body: body["event"])
def test_known_event_is_accepted(body: dict[str, Any], client: Any, stored: Any) -> None:
    """A known event is answered with exactly 200, `accepted` and the id of its row."""
    response = post(client, json.dumps(body).encode())
    [row] = stored()
    assert (response.status_code, response.json) == (200, {"status": "accepted", "id": row.id})
    assert (row.name, row.data, row.status) == (body["event"], body["data"], "received")


def test_same_event_again_is_counted_on_the_first(client: Any, stored: Any) -> None:
    """Each further post of an event is 200, `duplicate` and the first one's id."""
    first = post(client, SHIPPED).json["id"]
    again = json.dumps(samples.webhook("order.shipped"), indent=2).encode()
    for body in (SHIPPED, again):
        response = post(client, body)
        assert (response.status_code, response.json) == (200, {"status": "duplicate", "id": first})
    [row] = stored()
    assert (row.id, row.duplicates) == (first, 2)


def test_ten_identical_posts_at_once_make_one_row(
    make_client: Callable[[Settings], Any], settings: Settings, stored: Any
) -> None:
    """Ten identical posts at once get ten 200s with one id between them."""
    client = make_client(settings)
    start, answers = threading.Barrier(10), []

    def go() -> None:
        other = client.application.test_client()
        start.wait()
        answers.append(other.post("/webhooks/lab", data=SHIPPED, headers=authorised(client)))

    threads = [threading.Thread(target=go) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [row] = stored()
    assert {(answer.status_code, answer.json["id"]) for answer in answers} == {(200, row.id)}
    assert sorted(answer.json["status"] for answer in answers) == ["accepted", *["duplicate"] * 9]
    assert row.duplicates == 9


def authorised(client: Any) -> dict[str, str]:
    """The headers with which a client shows the secret."""
    return {"Authorization": client.environ_base["HTTP_AUTHORIZATION"]}


def test_unknown_event_is_kept_unrouted(client: Any, stored: Any) -> None:
    """An event without a schema is 200, `unrouted`, and kept so that it can be replayed."""
    response = post(client, UNKNOWN)
    [row] = stored()
    assert (response.status_code, response.json) == (200, {"status": "unrouted", "id": row.id})
    assert (row.name, row.data, row.status) == ("invoice.paid", {"id": 7}, "unrouted")
    again = post(client, UNKNOWN)
    assert (again.status_code, again.json) == (200, {"status": "duplicate", "id": row.id})


def test_same_event_after_the_window_is_another(client: Any, db: Database, stored: Any) -> None:
    """Within dedupe_window (30 days) it is the same event; after it, a new one, counted anew."""
    first = post(client, SHIPPED).json["id"]
    _age(db, timedelta(days=29, hours=23))
    assert post(client, SHIPPED).json == {"status": "duplicate", "id": first}
    _age(db, timedelta(days=30, minutes=1))
    second = post(client, SHIPPED).json
    assert second["status"] == "accepted"
    assert post(client, SHIPPED).json == {"status": "duplicate", "id": second["id"]}
    assert {row.id: row.duplicates for row in stored()} == {first: 1, second["id"]: 1}


def _age(db: Database, by: timedelta) -> None:
    with db.write() as connection:
        connection.execute(events.update().values(received_at=ago(by)))


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        (b"", 400, set()),
        (b"hello", 400, set()),
        (b"[]", 400, set()),
        (b'{"event": "order.shipped", "event": "x", "data": {}}', 400, set()),
        (b'{"event": "order.shipped", "data": {"order_id": "\\u0000"}}', 400, set()),
        (b'{"event": "order.shipped", "data": {"order_id": "\xff"}}', 400, set()),
        (NOT_AN_EVENT, 400, {"data"}),
        (b'{"event": 7, "data": []}', 400, {"event", "data"}),
        (BAD_DATA, 422, {"data.order_id"}),
        (b'{"event": "lab_results.complete", "data": {}}', 422, {"data.testregistration_id"}),
    ],
)
def test_refused_body_is_answered_and_quarantined(
    body: bytes, status: int, fields: set[str], client: Any, stored: Any, refused: Any
) -> None:
    """A bad body is 400, bad data 422, with every bad path; its raw bytes are in quarantine."""
    response = post(client, body)
    assert response.status_code == status
    assert set(response.json) == {"status", "error", "fields"}
    assert response.json["status"] == "rejected"
    assert response.json["error"]
    assert set(response.json["fields"]) == fields
    assert all(isinstance(why, list) and why for why in response.json["fields"].values())
    [row] = refused()
    assert (row.body, row.posts, row.event_id) == (body, 1, None)
    assert (row.error, row.fields) == (response.json["error"], response.json["fields"])
    assert stored() == []


def test_each_distinct_refused_body_is_kept_once(client: Any, refused: Any) -> None:
    """The lab's retries of a refused body are counted on one row; a byte more is another body."""
    for body in (BAD_DATA, NOT_AN_EVENT, BAD_DATA, BAD_DATA + b" ", BAD_DATA):
        post(client, body)
    kept = {row.body: row.posts for row in refused()}
    assert kept == {BAD_DATA: 3, NOT_AN_EVENT: 1, BAD_DATA + b" ": 1}
    assert {row.digest for row in refused()} == {hashlib.sha256(b).hexdigest() for b in kept}


def padded(size: int) -> bytes:
    """A valid event of exactly so many bytes."""
    empty = json.dumps({"event": "order.shipped", "data": {"order_id": "1", "note": ""}})
    return empty.replace('""', f'"{"x" * (size - len(empty))}"').encode()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size", "status"), [(LARGEST, 200), (LARGEST + 1, 413), (LARGEST + 2, 413), (10**6, 413)]
)
@one_database
def test_body_of_64_kib_is_taken_and_no_more(
    size: int, status: int, chunked: bool, client: Any, stored: Any, refused: Any
) -> None:
    """A body of exactly 64 KiB is taken; a byte more is 413, chunked or not, and not stored."""
    body = padded(size)
    assert len(body) == size
    how = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(size)}
    response = client.post(
        "/webhooks/lab",
        input_stream=BytesIO(body),
        environ_overrides={"wsgi.input_terminated": chunked, **how},
    )
    assert response.status_code == status
    assert response.mimetype == "application/json"
    assert len(stored()) == (status == 200)
    assert refused() == []
    if status == 413:
        assert response.json["error"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "text/plain",
        "image/png",
        "nonsense",
        "",
    ],
)
@one_database
def test_json_is_json_whatever_its_content_type(content_type: str, client: Any) -> None:
    """A JSON body counts as JSON whatever the header says of it."""
    response = post(client, SHIPPED, content_type=content_type)
    assert (response.status_code, response.json["status"]) == (200, "accepted")


@pytest.mark.parametrize("content_type", ["application/json", "application/gzip"])
@one_database
def test_compressed_body_is_not_inflated(content_type: str, client: Any, refused: Any) -> None:
    """A gzip body is not JSON: 400, and kept as it came."""
    body = gzip.compress(SHIPPED, mtime=0)
    response = post(client, body, content_type=content_type, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400
    assert [row.body for row in refused()] == [body]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@one_database
def test_only_post_is_taken(method: str, client: Any) -> None:
    """Another method is 405, in JSON, and says which are allowed."""
    response = client.open("/webhooks/lab", method=method)
    assert response.status_code == 405
    assert response.json["error"]
    assert "POST" in response.headers["Allow"]
