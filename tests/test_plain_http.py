"""Outside development what comes by plain HTTP is refused: others may have read it on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.ledger.schema import events
from tests.conftest import SECRET, one_database
from tests.rows import rows
from tests.test_webhooks import SHIPPED

pytestmark = one_database
PROXIED = {"X-Forwarded-Proto": "http"}
POSTS = (
    "/webhooks/lab",
    f"/webhooks/lab/{SECRET}",
    "/callbacks/twilio/status",
    "/callbacks/twilio/inbound",
    "/callbacks/sendgrid",
    "/login",
    "/logout",
    "/journeys",
)
Ask = Callable[..., Any]


@pytest.fixture
def ask(settings: Settings, make_client: Callable[[Settings], Any]) -> Ask:
    """`ask("POST", "/login", "8.8.8.8", header="value")` of a production app."""
    client = make_client(replace(settings, development=False, metrics_token="m" * 12))

    def ask(method: str, path: str, source: str = "127.0.0.1", **headers: str) -> Any:
        client.environ_base["REMOTE_ADDR"] = source
        return client.open(path, method=method, headers=headers, data=SHIPPED)

    return ask


@pytest.mark.parametrize("path", [*POSTS, "/nowhere"])
@pytest.mark.parametrize("said", ["http", "HTTP", "https, http", "ws"])
def test_a_post_by_plain_http_is_refused(ask: Ask, db: Database, path: str, said: str) -> None:
    """With its secret or without: what was on the wire may not be acted upon. The nearest proxy is
    believed, and the secret of the path is not said again.
    """
    answer = ask("POST", path, **{"X-Forwarded-Proto": said})
    assert (answer.status_code, answer.json["status"]) == (403, "error")
    assert SECRET not in answer.text
    assert rows(db, events) == []


@pytest.mark.parametrize("path", ["/", "/login?next=/rules", "/journeys", "/static/desk.css"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_by_plain_http_leads_to_https(ask: Ask, method: str, path: str) -> None:
    """A browser is led to the same page over TLS, without a cookie."""
    answer = ask(method, path, **PROXIED, Host="relay.example")
    assert (answer.status_code, answer.location) == (308, f"https://relay.example{path}")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/webhooks/lab", f"/webhooks/lab/{SECRET}"])
def test_a_program_is_led_nowhere(ask: Ask, path: str) -> None:
    """A token that has been sent in the clear is refused: a redirect would hide that."""
    assert ask("GET", path, **PROXIED).status_code == 403


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("127.0.0.1", 200),
        ("::1", 200),
        ("", 200),  # a socket of this machine's
        ("10.1.2.3", 200),
        ("172.31.255.255", 200),
        ("192.168.0.9", 200),
        ("::ffff:10.1.2.3", 200),
        ("fdaa:0:1::3", 200),
        ("8.8.8.8", 403),
        ("203.0.113.9", 403),
        ("172.32.0.1", 403),
        ("::ffff:8.8.8.8", 403),
        ("2606:4700::1", 403),
        ("nonsense", 403),
    ],
)
def test_without_a_proxy_only_what_is_near_is_served(ask: Ask, source: str, status: int) -> None:
    """No header: it is served from this machine and from private networks, and refused from
    elsewhere, also where a proxy has forgotten to say how it was asked.
    """
    assert ask("POST", "/webhooks/lab", source).status_code == status
    assert ask("GET", "/login", source).status_code == status
    if source:
        behind = ask("POST", "/webhooks/lab", **{"X-Forwarded-For": source})
        assert behind.status_code == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize(("source", "headers"), [("8.8.8.8", {}), ("10.0.0.1", PROXIED)])
def test_the_platform_looks_as_it_likes(
    ask: Ask, path: str, source: str, headers: dict[str, str]
) -> None:
    """Whether the process serves and is ready is told to anybody, however it is asked."""
    assert ask("GET", path, source, **headers).status_code in (200, 503)


def test_over_tls_all_is_served(ask: Ask) -> None:
    """From anywhere, once the proxy says that it was asked by https."""
    by = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "8.8.8.8"}
    assert ask("POST", "/webhooks/lab", "8.8.4.4", **by).status_code == 200


def test_development_has_no_tls(settings: Settings, make_client: Callable[[Settings], Any]) -> None:
    """On a developer's machine everything works by plain HTTP, behind a proxy too."""
    client = make_client(settings)
    assert client.post("/webhooks/lab", data=SHIPPED, headers=PROXIED).status_code == 200
