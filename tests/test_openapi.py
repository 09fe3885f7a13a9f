"""docs/openapi.json: in step with the code, and true of every answer that the real app gives."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from schemathesis.specs.openapi import checks
from werkzeug.test import Client

from relay.config.settings import Settings
from relay.lab import samples
from relay.lab.events import EVENTS
from relay.ledger.database import Database
from tests.channels.test_sendgrid_receipts import public
from tests.conftest import ROOT, SECRET
from tests.knocking import TOKEN, WEBHOOK, Known
from tests.rows import beat
from tests.test_webhooks import BAD_DATA
from tools.docs.openapi import description

Make = Callable[[Settings], Any]
FILE = ROOT / "docs" / "openapi.json"
UPDATED = os.environ.get("RELAY_UPDATE_EXPECTED") == "1"
OURS = description() if UPDATED else json.loads(FILE.read_text("utf-8"))
API = schemathesis.openapi.from_dict(OURS)
ROUTES = [(path, method.upper()) for path, one in OURS["paths"].items() for method in one]
IN_PATH = "/webhooks/lab/{secret}"
STATUS, INBOUND, MAIL = (
    f"/callbacks/{name}" for name in ("twilio/status", "twilio/inbound", "sendgrid")
)
# What no schema can say is left to tests of its own: I-JSON's limits, names that can be printed.
TRUE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
FEW, MANY = 10, 150


@pytest.fixture
def by(settings: Settings, tmp_path: Path, sqlite_template: Path) -> Settings:
    """Settings of an app on a real SQLite, to which providers may call back."""
    shutil.copy(sqlite_template, tmp_path / "api.db")
    return replace(
        settings,
        database_url=f"sqlite:///{tmp_path / 'api.db'}",
        twilio_auth_token=TOKEN,
        sendgrid_webhook_public_key=public(),
        metrics_token=SECRET,
    )


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """The app makes its own: these tests run on SQLite only."""
    return f"sqlite:///{tmp_path / 'unused.db'}"


@pytest.fixture
def app(by: Settings, make_client: Make) -> Any:
    """The app itself."""
    return make_client(by).application


def test_the_file_is_in_step() -> None:
    """The description is what the code gives. RELAY_UPDATE_EXPECTED=1 writes it."""
    text = json.dumps(description(), indent=2, ensure_ascii=False) + "\n"
    if UPDATED:
        FILE.write_text(text, "utf-8")
    assert FILE.read_text("utf-8") == text


def test_every_public_route_is_described(app: Any) -> None:
    """What is served without a login is described, and nothing else is."""
    served = {
        (rule.rule.replace("<path:secret>", "{secret}"), method)
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static" and not rule.endpoint.startswith("desk.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert served == set(ROUTES)


def test_each_event_is_described_by_its_schema() -> None:
    """An event's own example fits, and an id that the lab never gives does not."""
    shapes = OURS["components"]["schemas"]
    for name, kind in EVENTS.items():
        assert shapes[name]["examples"] == [samples.webhook(name)]
        data = shapes[shapes[name]["properties"]["data"]["$ref"].rpartition("/")[2]]
        assert set(data["properties"]) == set(kind.data_fields)
        assert set(data["required"]) == {
            key for key, field in kind.schema.fields.items() if field.required
        }


def ask(app: Any, path: str, method: str, many: int) -> None:
    """Whatever fits the description, and what does not, is answered as it says."""
    API.app = app
    operation = API[path][method]

    @examples(
        max_examples=many,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy() | negative(operation))
    def knock(case: Any) -> None:
        case.call_and_validate(checks=TRUE)

    knock()


def negative(operation: Any) -> Any:
    """Requests that are wrong somewhere, where they can be."""
    mode = schemathesis.GenerationMode.NEGATIVE
    can_be = "requestBody" in operation.definition.raw
    return operation.as_strategy(generation_mode=mode) if can_be else operation.as_strategy()


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_answer_is_as_described(app: Any, path: str, method: str) -> None:
    """Nobody, and whoever shows a secret or signs, gets the answers that the description has."""
    ask(app, path, method, FEW)
    ask(Known(app), path, method, FEW)


@pytest.mark.long
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_answer_is_as_described_at_length(app: Any, path: str, method: str) -> None:
    """The same with many more requests."""
    ask(app, path, method, MANY)
    ask(Known(app), path, method, MANY)


GOOD = json.dumps(samples.webhook("order.shipped")).encode()
FORM = "application/x-www-form-urlencoded"
LARGE, LARGER = b"x" * 70_000, b" " * (4 * 1024 * 1024 + 1)
IN_THE_CLEAR = {"HTTP_X_FORWARDED_PROTO": "http"}
# Path, status → how it comes about: by whom, with which body, and with a ledger or without.
KNOCKS: dict[tuple[str, int], tuple[str, bytes]] = {
    **{
        (path, status): (who, body)
        for path in (WEBHOOK, IN_PATH)
        for status, (who, body) in {
            200: ("known", GOOD),
            400: ("known", b"{"),
            401: ("stranger", GOOD),
            403: ("overheard", GOOD),
            413: ("known", LARGE),
            422: ("known", BAD_DATA),
            503: ("away", GOOD),
        }.items()
    },
    **{
        (path, status): (who, body)
        for path in (STATUS, INBOUND)
        for status, (who, body) in {
            200: ("known", b"MessageStatus=sent"),
            403: ("stranger", b""),
            413: ("known", LARGE),
            503: ("away", b"MessageStatus=sent&MessageSid=SM1&From=%2B447700900001&Body=STOP"),
        }.items()
    },
    (IN_PATH, 404): ("lost", GOOD),
    (MAIL, 200): ("known", b"[]"),
    (MAIL, 400): ("known", b"{}"),
    (MAIL, 403): ("stranger", b"[]"),
    (MAIL, 413): ("known", LARGER),
    (MAIL, 503): (
        "away",
        b'[{"event": "delivered", "relay_attempt": "att_1"}]',
    ),
    ("/healthz", 200): ("stranger", b""),
    ("/readyz", 200): ("well", b""),
    ("/readyz", 503): ("away", b""),
    ("/.well-known/security.txt", 200): ("stranger", b""),
    ("/.well-known/security.txt", 308): ("overheard", b""),
    ("/metrics", 200): ("known", b""),
    ("/metrics", 401): ("stranger", b""),
    ("/metrics", 403): ("overheard", b""),
}


def test_each_described_answer_is_given(by: Settings, make_client: Make, app: Any) -> None:
    """No answer is described that cannot come, and each that comes is as described."""
    away = make_client(replace(by, database_url=f"{by.database_url}.empty")).application
    db = Database(by.database_url)
    live = make_client(replace(by, development=False)).application
    doors = {"known": Known(app), "stranger": app, "away": Known(away), "well": app, "lost": app}
    doors["overheard"] = lambda environ, start: live({**environ, **IN_THE_CLEAR}, start)
    described = {(p, int(s)) for p, m in ROUTES for s in OURS["paths"][p][m.lower()]["responses"]}
    assert set(KNOCKS) == described
    for (path, status), (who, body) in KNOCKS.items():
        if who == "well":
            beat(db, "worker")
        method = next(m for p, m in ROUTES if p == path)
        kind = FORM if "twilio" in path else "application/json"
        to = path.replace("{secret}", "x%0Ax" if who == "lost" else "wrong")
        answer = Client(doors[who]).open(to, method=method, data=body, content_type=kind)
        assert (path, answer.status_code) == (path, status)
        API[path][method].validate_response(answer)
    db.close()
