"""Logging in by an organisation's own accounts, against a real OpenID Connect provider."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests

from relay.config.settings import Settings
from relay.ledger import people
from relay.ledger.audit import Act
from relay.ledger.database import Database
from relay.ledger.schema import sessions, users
from tests.conftest import one_database
from tests.rows import change, only, rows
from tests.test_desk import is_out

pytestmark = [
    pytest.mark.long,  # npm brings the provider
    pytest.mark.skipif(not shutil.which("npm"), reason="needs Node.js and npm"),
]
HERE = "http://desk.test"
BACK = f"{HERE}/login/organisation/back"
JANE, BY = "jane@example.org", Act("cli", "user add", "jane@example.org")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The provider's address."""
    folder = tmp_path_factory.mktemp("provider")
    (folder / "package.json").write_text('{"private": true}')
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "oidc-provider@8"]
    subprocess.run(install, cwd=folder, check=True)
    script = Path(__file__).with_name("oidc_provider.mjs")
    with subprocess.Popen(
        ["node", script, folder, BACK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def desk(issuer: str, make_client: Callable[[Settings], Any], settings: Settings) -> Any:
    """A browser at a desk that knows the organisation."""
    known = {"oidc_issuer": issuer, "oidc_client_id": "relay"}
    client = make_client(replace(settings, **known, oidc_client_secret="a-secret-of-the-desk"))
    client.environ_base.pop("HTTP_AUTHORIZATION", None)
    return client


def logged_in(desk: Any, name: str, next_: str = "") -> Any:
    """The desk's answer once somebody has logged in at the provider and come back."""
    left = desk.get("/login/organisation", query_string={"next": next_}, base_url=HERE)
    assert left.status_code == 302
    browser = requests.Session()
    page = browser.get(left.location)
    for form in ({"prompt": "login", "login": name, "password": "any"}, {"prompt": "consent"}):
        to = unescape(re.findall(r'action="([^"]+)"', page.text)[0])
        page = browser.post(to, data=form, allow_redirects=False)
        while page.is_redirect and not page.headers["Location"].startswith(BACK):
            page = browser.get(
                requests.compat.urljoin(page.url, page.headers["Location"]), allow_redirects=False
            )
    return desk.get(page.headers["Location"].removeprefix(HERE), base_url=HERE)


def add(db: Database, login: str = JANE) -> None:
    """An account for somebody."""
    with db.write() as connection:
        people.add(connection, login, "desk", "token", BY)


@one_database
def test_an_account_of_the_organisation_lets_in(desk: Any, db: Database) -> None:
    """Whoever has an account here too is in, without a password of ours, where they were going."""
    add(db)
    answer = logged_in(desk, JANE, "/rules")
    assert (answer.status_code, answer.location) == (302, "/rules")
    assert desk.get("/rules", base_url=HERE).status_code == 200
    assert only(db, sessions)["person"] == JANE
    assert only(db, users)["oidc_subject"] == f"sub of {JANE}"


@one_database
@pytest.mark.parametrize("name", ["john@example.org", "unverified@example.org"])
def test_who_is_only_known_there_is_not_let_in(name: str, desk: Any, db: Database) -> None:
    """The organisation says who somebody is; who may see the desk is decided here."""
    add(db)
    if name.startswith("unverified"):
        add(db, name)
    assert logged_in(desk, name).location == "/login"
    assert is_out(desk)
    assert rows(db, sessions) == []
    assert "Your organisation" in desk.get("/login", base_url=HERE).text


@one_database
def test_an_account_stays_with_who_used_it_first(desk: Any, db: Database) -> None:
    """Somebody who is given a leaver's address there does not get their account here; and nobody
    gets a disabled one.
    """
    add(db)
    change(db, users, {}, oidc_subject="sub of somebody before")
    assert logged_in(desk, JANE).location == "/login"
    change(db, users, {}, oidc_subject="")
    with db.write() as connection:
        people.disable(connection, JANE, BY)
    assert logged_in(desk, JANE).location == "/login"
    assert rows(db, sessions) == []


@one_database
def test_an_organisation_that_is_away_is_told(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """The login says so, and the password goes on working."""
    known = {"oidc_issuer": "http://127.0.0.1:9", "oidc_client_id": "relay"}
    client = make_client(replace(settings, **known, oidc_client_secret="a-secret-of-the-desk"))
    assert client.get("/login/organisation").location == "/login"
    assert "cannot be reached" in client.get("/login").text
