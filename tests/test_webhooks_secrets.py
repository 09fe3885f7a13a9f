"""POST /webhooks/lab: who is let in, and that the others leave nothing behind."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.ledger.schema import events, quarantine
from tests.conftest import one_database
from tests.test_webhooks import BAD_DATA, SHIPPED, rows

pytestmark = one_database  # who is let in is settled before the ledger is asked
SECRETS = ("old-secret", "new-secret", "a=b", "ends-in==", "p:w", "café", "it's/a b%41", "x//y?z#")


def basic(user: str, password: str) -> str:
    """An HTTP Basic header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def on_the_wire(text: str) -> str:
    """What WSGI makes of a header's UTF-8 bytes."""
    return text.encode().decode("latin-1")


@pytest.fixture
def lab_post(make_client: Callable[[Settings], Any], settings: Settings) -> Callable[..., Any]:
    """Posts a webhook to an app with several secrets; shows none unless it is given."""
    client = make_client(replace(settings, webhook_secrets=SECRETS))
    del client.environ_base["HTTP_AUTHORIZATION"]

    def post(header: str | None = None, path: str = "/webhooks/lab", body: bytes = SHIPPED) -> Any:
        headers = {} if header is None else {"Authorization": header}
        return client.post(path, data=body, headers=headers)

    return post


@pytest.mark.parametrize("secret", SECRETS)
def test_basic_password_lets_any_user_in(secret: str, lab_post: Any) -> None:
    """Each of the secrets is taken as a Basic password, whoever the user is."""
    for user in ("lab", "", "Zoë", "old-secret"):
        assert lab_post(basic(user, secret)).status_code == 200


@pytest.mark.parametrize("secret", SECRETS)
def test_bearer_token_lets_in(secret: str, lab_post: Any) -> None:
    """Each of the secrets is taken as a bearer token, whatever characters it is made of."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert lab_post(on_the_wire(f"{scheme} {secret}")).status_code == 200


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_in_the_path_lets_in(secret: str, lab_post: Any) -> None:
    """Each of the secrets is taken in the path."""
    assert lab_post(path=f"/webhooks/lab/{quote(secret, safe='')}").status_code == 200


WRONG = {
    "none": None,
    "blank": "",
    "wrong bearer": "Bearer wrong",
    "wrong Basic": basic("lab", "wrong"),
    "secret as the user": basic("old-secret", ""),
    "beginning of it": "Bearer old-secre",
    "more than it": "Bearer old-secret2",
    "another case": "Bearer OLD-SECRET",
    "both at once": "Bearer old-secret,new-secret",
    "no scheme": "old-secret",
    "scheme only": "Bearer",
    "blank bearer": "Bearer ",
    "Basic only": "Basic",
    "Basic of nothing": "Basic Og==",
    "not base64": "Basic !!!",
    "base64 cut short": "Basic b2xkLXNlY3JldA=",
    "Basic without a colon": "Basic " + base64.b64encode(b"old-secret").decode(),
    "Basic that is not UTF-8": "Basic " + base64.b64encode(b"lab:\xff\xfe").decode(),
    "Basic beyond ASCII": "Basic \xff\xfe",
    "bytes beyond ASCII": "Bearer \xff\xfe",
    "non-ASCII": on_the_wire("Bearer sécret"),
    "non-ASCII scheme": on_the_wire("Bëarer old-secret"),
    "digest": 'Digest username="lab", realm="relay", nonce="x", uri="/", response="x"',
    "digest with a password": 'Digest password="old-secret"',
    "parameters": 'Bearer token="old-secret"',
    "broken charset": "Digest password*=utf-8''%ff%ed%a0%80",
    "long": "Bearer " + "x" * 10_000,
}


@pytest.mark.parametrize("case", WRONG)
def test_without_the_secret_nothing_is_taken(case: str, lab_post: Any, db: Database) -> None:
    """No, a wrong or a malformed secret is 401 in JSON, and nothing is stored, good body or bad."""
    for body in (SHIPPED, BAD_DATA, b"x" * 100_000):
        response = lab_post(WRONG[case], body=body)
        assert response.status_code == 401
        assert response.json["error"]
        assert response.headers["WWW-Authenticate"].startswith("Basic")
    assert rows(db, events) == rows(db, quarantine) == []


@pytest.mark.parametrize(
    "secret",
    ["wrong", "caf%C3%A8", "%FF%FE", "old-secret%00", "a/b/c", "x" * 5_000],
)
def test_wrong_secret_in_the_path_is_401(secret: str, lab_post: Any, db: Database) -> None:
    """A wrong secret in the path is 401, and nothing is stored."""
    response = lab_post(path=f"/webhooks/lab/{secret}")
    assert (response.status_code, response.json["status"]) == (401, "error")
    assert rows(db, events) == []


def test_wrong_secret_in_the_path_is_not_mended_by_a_header(lab_post: Any) -> None:
    """Whoever uses the path form shows the secret there."""
    assert lab_post("Bearer old-secret", path="/webhooks/lab/wrong").status_code == 401


@pytest.mark.parametrize("path", ["/webhooks/lab/old-secret/x", "/webhooks/old-secret"])
def test_secret_is_never_sent_back(path: str, lab_post: Any) -> None:
    """A wrong address is an error in JSON: no redirect, and so no secret, in the answer."""
    response = lab_post(path=path)
    assert response.status_code in (401, 404)
    assert response.json["error"]
    assert "old-secret" not in f"{response.text} {response.headers}"


def test_rotated_out_secret_is_refused(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """A secret lets in for as long as it stands in the list, and no longer."""
    for secrets, status in ((("a", "b"), 200), (("b",), 401)):
        client = make_client(replace(settings, webhook_secrets=secrets))
        client.environ_base["HTTP_AUTHORIZATION"] = "Bearer a"
        assert client.post("/webhooks/lab", data=SHIPPED).status_code == status


def test_outside_development_an_unset_secret_lets_nobody_in(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """Should an app run in production without a secret, it takes nothing from anybody."""
    client = make_client(replace(settings, webhook_secrets=(), development=False))
    for header in ("", "Bearer ", "Basic Og==", "Bearer x"):
        client.environ_base["HTTP_AUTHORIZATION"] = header
        assert client.post("/webhooks/lab", data=SHIPPED).status_code == 401
