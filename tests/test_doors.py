"""The doors of programs, /webhooks and /callbacks: however an address is written, nothing is lost.

What others ran into with slashes is in docs/reports.md; the next report is one line of a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.ledger.schema import suppressions
from relay.web.callbacks import MAIL_SIGNATURE, MAIL_TIMESTAMP
from tests import conftest
from tests.channels.test_sendgrid_receipts import AT, event, public, sign
from tests.conftest import one_database
from tests.rows import rows
from tests.test_callbacks import HERE, INBOUND, MAIL, STATUS, TOKEN, call
from tests.test_webhooks import SHIPPED

pytestmark = one_database
SECRET = "a-path//secret/12"

# An address of the lab's → what may be written for it.
LAB = (
    "/webhooks/lab/",
    "/webhooks/lab//",
    "//webhooks/lab",
    "/webhooks//lab",
    "/webhooks/lab?",
    "/webhooks/lab/?",
    "/webhooks/lab/?source=lab",
)
IN_PATH = (
    f"/webhooks/lab/{SECRET}",
    f"/webhooks/lab/{SECRET}/",
    f"/webhooks/lab/{SECRET}//",
    f"/webhooks/lab//{SECRET}",
    f"/webhooks//lab/{SECRET}",
    f"//webhooks/lab/{SECRET}?",
)
CALLBACKS = ("{}/", "{}//", "/{}", "{}?", "{}/?attempt=att_1")
# What is no door → what the log shows of it.
NOWHERE = {
    "/webhooks": "/webhooks",
    "/webhooks/": "/webhooks",
    "/webhooks/labs": "/webhooks/…",
    "/webhooks/s3cret": "/webhooks/…",
    "/webhooks/Lab/s3cret": "/webhooks/…/…",
    "/webhooks/lab%20": "/webhooks/…",
    "/callbacks/twilio": "/callbacks/twilio",
    "/callbacks/twilio/inbound/s3cret": "/callbacks/twilio/inbound/…",
    "//callbacks/sendgrid/s3cret?s3cret=s3cret": "/callbacks/sendgrid/…",
}


@pytest.fixture
def open_doors(settings: Settings, make_client: Callable[[Settings], Any]) -> Callable[[], Any]:
    """Makes a web app that the lab, Twilio and SendGrid post to; it logs to the test's stdout."""
    keys = {"twilio_auth_token": TOKEN, "sendgrid_webhook_public_key": public()}
    by = replace(settings, webhook_secrets=(conftest.SECRET, SECRET), log_level="INFO", **keys)
    return lambda: make_client(by)


def on_the_wire(path: str) -> dict[str, dict[str, str]]:
    """What a server makes of an address: the test's client would put two slashes right."""
    bare, _, query = path.partition("?")
    return {
        "environ_overrides": {"PATH_INFO": unquote(bare), "RAW_URI": path, "QUERY_STRING": query}
    }


@pytest.mark.parametrize("path", [*LAB, *IN_PATH])
def test_a_slash_more_or_less_is_nothing_to_the_lab(
    path: str, open_doors: Callable[[], Any]
) -> None:
    """A webhook is taken however many slashes are in its address, and at once: a redirect would
    turn the post into a GET, and repeat the path's secret."""
    client = open_doors()
    if path in IN_PATH:
        del client.environ_base["HTTP_AUTHORIZATION"]
    response = client.post(data=SHIPPED, **on_the_wire(path))
    assert (response.status_code, response.json["status"]) == (200, "accepted")
    assert "Location" not in response.headers


@pytest.mark.parametrize("written", CALLBACKS)
def test_a_slash_more_or_less_is_nothing_to_the_providers(
    written: str, open_doors: Callable[[], Any], db: Database
) -> None:
    """Receipts and STOP are heard at the address as it was written at the provider, over which
    Twilio signs."""
    client = open_doors()
    for path in (written.format(STATUS), written.format(INBOUND)):
        stop = {"From": "+447700900001", "Body": "STOP", "OptOutType": "STOP", "MessageSid": "SM1"}
        assert (
            call(client, "/", stop, signed=HERE + path, **on_the_wire(path)).status_code == 200
        ), path
        assert (
            call(client, "/", stop, signed=HERE + path + "x", **on_the_wire(path)).status_code
            == 403
        )
    assert [row["address"] for row in rows(db, suppressions)] == ["+447700900001"]
    body = json.dumps([event(attempt="att_1")]).encode()
    headers = {MAIL_SIGNATURE: sign(body), MAIL_TIMESTAMP: str(AT)}
    assert (
        client.post(data=body, headers=headers, **on_the_wire(written.format(MAIL))).status_code
        == 200
    )


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_what_is_not_found_leaves_a_trace(
    path: str, method: str, capsys: pytest.CaptureFixture[str], open_doors: Callable[[], Any]
) -> None:
    """A mistyped address is in the log, as far as its words are ours: others may be a secret."""
    client = open_doors()
    response = client.open(method=method, data=SHIPPED, **on_the_wire(path))
    assert response.status_code == 404
    assert response.json["error"]
    said = capsys.readouterr().out
    [line] = [json.loads(line) for line in said.splitlines()]
    assert (line["event"], line["path"], line["status"]) == ("no such door", NOWHERE[path], 404)
    assert line["method"] == method
    assert "s3cret" not in said + response.text


@pytest.mark.parametrize("path", ["/webhooks/lab", f"/webhooks/lab/{SECRET}", STATUS])
def test_another_method_leaves_a_trace(
    path: str, capsys: pytest.CaptureFixture[str], open_doors: Callable[[], Any]
) -> None:
    """A GET where a POST belongs is what a followed redirect makes of it: it is in the log."""
    client = open_doors()
    assert client.get(path).status_code == 405
    said = capsys.readouterr().out
    assert '"no such door"' in said
    assert SECRET not in said


def test_a_wrong_secret_leaves_a_trace(
    capsys: pytest.CaptureFixture[str], open_doors: Callable[[], Any]
) -> None:
    """A lab that shows the wrong secret is seen in the log, its secret is not."""
    client = open_doors()
    del client.environ_base["HTTP_AUTHORIZATION"]
    assert client.post("/webhooks/lab/wrong-s3cret", data=SHIPPED).status_code == 401
    said = capsys.readouterr().out
    assert "webhook without its secret" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("path", ["/nowhere", "/favicon.ico"])
def test_what_strangers_look_for_elsewhere_is_no_news(
    path: str, capsys: pytest.CaptureFixture[str], open_doors: Callable[[], Any]
) -> None:
    """The log is not filled with what robots ask of every host."""
    client = open_doors()
    assert client.get(path).status_code == 404
    assert capsys.readouterr().out == ""
