"""Every public route, asked nonsense for as long as RELAY_FUZZ_MINUTES says (two, unless told)."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from werkzeug.test import Client

from relay.config.settings import Settings
from relay.lab import samples
from relay.web.desk import auth as logins
from tests.channels.test_sendgrid_receipts import event, public
from tests.channels.test_twilio_receipts import form
from tests.conftest import SECRET
from tests.knocking import TOKEN, WEBHOOK, Known
from tests.test_desk import log_in, token
from tests.test_webhooks_fuzz import BODIES, NASTY

MINUTES = float(os.environ.get("RELAY_FUZZ_MINUTES", "2"))
AT_RANDOM = examples(
    max_examples=300,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
STATUS, INBOUND, MAIL = (
    f"/callbacks/{name}" for name in ("twilio/status", "twilio/inbound", "sendgrid")
)
LOGIN = "/login"
ROUTES = {
    WEBHOOK: "POST",
    f"{WEBHOOK}/x": "POST",
    STATUS: "POST",
    INBOUND: "POST",
    MAIL: "POST",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
    LOGIN: "POST",
}
ANSWERS = {200, 302, 400, 401, 403, 404, 405, 413, 422, 429, 503}

_word = st.sampled_from([*NASTY, *form(), "STOP", "START", "delivered", "failed"]) | st.text()
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _word,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_word, inner, max_size=5),
    max_leaves=20,
)
_good = st.sampled_from([*samples.webhooks(), [event(name) for name in ("delivered", "bounce")]])


def _changed(value: Any, key: str, other: Any) -> Any:
    """Something right with one thing wrong in it."""
    made = json.loads(json.dumps(value))
    inside = made[0] if isinstance(made, list) else made["data"]
    inside[key] = other
    return made


def _torn(body: bytes, at: int, by: bytes) -> bytes:
    place = at % (len(body) + 1)
    return body[:place] + by + body[place + len(by) :]


def _form(fields: dict[str, str]) -> bytes:
    pairs = [
        (k.encode("utf-8", "replace"), v.encode("utf-8", "replace")) for k, v in fields.items()
    ]
    return b"&".join(
        quote_from_bytes(k).encode() + b"=" + quote_from_bytes(v).encode() for k, v in pairs
    )


_dumped = (_json | _good | st.builds(_changed, _good, _word, _json)).map(
    lambda value: json.dumps(value).encode()
)
_forms = st.dictionaries(st.sampled_from([*form(), "Body", "From", "OptOutType"]) | _word, _word)
_bodies = (
    st.sampled_from(list(BODIES.values()))
    | st.binary(max_size=400)
    | _dumped
    | _forms.map(_form)
    | st.builds(_torn, _dumped, st.integers(0, 2000), st.binary(min_size=1, max_size=4))
)
_types = st.sampled_from([FORM, JSON, "multipart/form-data; boundary=x", "text/plain", "", "é/;"])
_queries = st.sampled_from(["", "attempt=att_1", "attempt=%00", "a=%FF&attempt"]) | _forms.map(
    lambda fields: _form(fields).decode()
)
_header = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=80)
_headers = st.dictionaries(
    st.sampled_from(["Accept", "Cookie", "X-Forwarded-For", "Range", "Content-Encoding", "Origin"]),
    _header,
)


def _guess(door: Client, body: bytes) -> bytes:
    """The login's form with a wrong password, and whatever else after it."""
    csrf = token(door.get(LOGIN).text)
    return _form({"csrf_token": csrf, "password": f"wrong {body[:50]!r}"}) + b"&" + body


@pytest.mark.long
def test_every_route_stands_a_long_fuzz(
    settings: Settings,
    make_client: Callable[[Settings], Any],
    tmp_path: Path,
    sqlite_template: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strangers and those who sign get an answer that is meant, never a 500, and at the end the
    next event is taken, and whoever has the password let in, as if nothing had been."""
    monkeypatch.setattr(logins, "FLOOD", 10**9)  # how fast this machine is says nothing of it
    shutil.copy(sqlite_template, tmp_path / "fuzz.db")
    by = replace(
        settings,
        database_url=f"sqlite:///{tmp_path / 'fuzz.db'}",
        twilio_auth_token=TOKEN,
        sendgrid_webhook_public_key=public(),
        metrics_token=SECRET,
        log_level="ERROR",
    )
    app = make_client(by).application
    doors = [Client(app), Client(Known(app))]
    told: Counter[tuple[str, int]] = Counter()

    @AT_RANDOM
    @given(
        door=st.sampled_from(doors),
        path=st.sampled_from(list(ROUTES)),
        method=st.sampled_from([*[""] * 20, "POST", "GET", "PUT", "DELETE", "BREW"]),
        body=_bodies,
        kind=_types,
        query=_queries,
        headers=_headers,
        source=st.ip_addresses().map(str) | _header,
    )
    def knock(
        door: Client,
        path: str,
        method: str,
        body: bytes,
        kind: str,
        query: str,
        headers: Any,
        source: str,
    ) -> None:
        asked: dict[str, Any] = {"query_string": query, "content_type": kind, "headers": headers}
        if path == LOGIN and door is doors[1]:  # they have the page open, and guess
            body, asked = _guess(door, body), {"content_type": FORM}
        asked["environ_base"] = {"REMOTE_ADDR": source}
        answer = door.open(path, method=method or ROUTES[path], data=body, **asked)
        answer.close()
        told[path, answer.status_code] += 1
        assert answer.status_code in ANSWERS, answer.text
        assert "Traceback" not in answer.text

    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        knock()
    print(f"{sum(told.values())} requests in {MINUTES:g} min:", sorted(told.items()))
    assert {200, 400, 401, 403} <= {status for _, status in told}
    assert {400, 401} <= {status for path, status in told if path == LOGIN}
    staff = app.test_client()
    staff.environ_base["REMOTE_ADDR"] = "where nobody has guessed"
    assert log_in(staff).status_code == 302
    good = json.dumps({"event": "order.shipped", "data": {"order_id": "after-all-that"}})
    taken = doors[1].post(WEBHOOK, data=good)
    assert (taken.status_code, taken.json["status"]) == (200, "accepted")
