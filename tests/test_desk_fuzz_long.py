"""Every route of the desk, asked nonsense by a stranger and by each role, for as long as
RELAY_FUZZ_MINUTES says (two, unless told).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from relay.ledger.database import Database
from relay.ledger.schema import cases, erasures, events, notifications, quarantine
from relay.staff.roles import ROLES
from relay.web.desk import auth
from tests.conftest import ROOT, SECRET, one_database
from tests.desk import EMAIL, PHONE, kit
from tests.test_desk import desk, inside, is_out, token
from tests.test_desk_people import NEEDS, browser, invited, joined
from tests.test_fuzz_long import AT_RANDOM, MINUTES
from tests.test_webhooks_fuzz import NASTY
from tools.shots import cases as scene

__all__ = ["browser", "desk", "inside"]  # fixtures

ANSWERS = {200, 302, 400, 401, 403, 404, 405, 413, 429}
PAGES = "".join(path.read_text("utf-8") for path in (ROOT / "relay/web/pages").glob("*.html"))
DESK = "".join(path.read_text("utf-8") for path in (ROOT / "relay/web/desk").glob("*.py"))
# What the pages' forms send and what the code looks for, and what they send there.
FIELDS = sorted(
    {*re.findall(r'name="(\w+)"', PAGES), *re.findall(r'(?:args|form).get\("(\w+)', DESK)}
)
VALUES = sorted(
    {*re.findall(r'value="([\w-]+)"', PAGES), *re.findall(r'act == "(\w+)"', DESK), *ROLES}
)
ODD = ("[rules.x]\nwhen = 'a'\n", "x" * 5000, "=cmd|' /C calc'!A0", "../../etc/passwd", "0")


def known(db: Database) -> list[str]:
    """Ids that are there, and addresses and names that lead somewhere."""
    with db.read() as connection:
        tables = (cases, erasures, events, notifications, quarantine)
        ids = [
            id_ for table in tables for id_ in connection.execute(sa.select(table.c.id)).scalars()
        ]
    return [*ids, "o-1", PHONE, EMAIL, "Smith", "kit-shipped", "results-ready", "sms", "email"]


@pytest.mark.long
@one_database
def test_every_page_stands_a_long_fuzz(
    inside: Any, browser: Callable[[], Any], db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger and each role get an answer that is meant, never a 500 and never what they may not
    have, whatever they ask for and send, with the token of a form or without.
    """
    monkeypatch.setattr(auth, "FLOOD", 10**9)  # how fast this machine is says nothing of it
    app = inside.application
    kit(db)
    scene.post_all(app, SECRET)
    scene.open_all(db)
    left = ("desk.logout", "health.readyz")  # the other is 503 without a worker, as it should
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in left]
    doors: dict[str, Any] = {}
    tokens: dict[str, str] = {}
    told: Counter[tuple[str, int]] = Counter()
    ids = known(db)
    _value = st.sampled_from([*VALUES, *ids, *ODD, *NASTY]) | st.text(max_size=60)
    _fields = st.dictionaries(st.sampled_from(FIELDS), _value, max_size=6)

    def come_in(role: str) -> None:
        """A browser, logged in anew where it was put out: a manager may have ended it."""
        if role in doors and (role == "stranger" or not is_out(doors[role])):
            return
        doors[role] = browser()
        if role in ROLES:
            joined(doors[role], invited(inside, role, f"{role}-{time.monotonic_ns()}@example.org"))
        tokens[role] = token(doors[role].get("/journeys" if role in ROLES else "/login").text)

    @AT_RANDOM
    @given(
        role=st.sampled_from(["stranger", *ROLES]),
        rule=st.sampled_from(rules),
        part=_value,
        fields=_fields,
        query=_fields,
        method=st.sampled_from([*[""] * 10, "GET", "POST", "HEAD", "PUT", "BREW"]),
        has_token=st.sampled_from([True, True, True, False]),
        is_again=st.booleans(),
    )
    def knock(
        role: str, rule: Any, part: str, fields: Any, query: Any, method: str, **how: bool
    ) -> None:
        path = re.sub(r"<[^>]*>", lambda _: quote(part, safe=""), rule.rule)
        form = {**fields, **({"csrf_token": tokens[role]} if how["has_token"] else {})}
        method = method or ("POST" if "POST" in rule.methods else "GET")
        asked: dict[str, Any] = {
            "query_string": {**query, **({"again": "1"} if how["is_again"] else {})}
        }
        if method == "POST":
            asked["data"] = form
        answer = doors[role].open(path, method=method, **asked)
        told[role, answer.status_code] += 1
        assert answer.status_code in ANSWERS, (role, method, path, asked, answer.text[:500])
        assert "Traceback" not in answer.text
        if (needs := NEEDS.get((rule.endpoint, method))) and needs not in ROLES.get(role, ()):
            assert answer.status_code != 200, (role, method, path)
        answer.close()

    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        for role in ("stranger", *ROLES):
            come_in(role)
        knock()
    print(f"{sum(told.values())} requests in {MINUTES:g} min:", sorted(told.items()))
    assert {role for role, status in told if status == 200} == {"stranger", *ROLES}
