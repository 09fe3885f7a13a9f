"""People with names: invited, logged in with a second factor, let do what their role lets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyotp
import pytest

from relay.config.settings import Settings
from relay.ledger import people
from relay.ledger.database import Database
from relay.ledger.schema import audit, login_failures, sessions, users
from relay.staff.roles import ROLES
from relay.web.desk import auth
from tests.conftest import one_database
from tests.desk import PHONE, kit, press
from tests.rows import change, only, rows
from tests.test_desk import desk, inside, is_out, log_in, token

__all__ = ["desk", "inside"]  # fixtures

JANE, CHOSEN = "jane@example.org", "correct horse battery"


@pytest.fixture
def browser(make_client: Callable[[Settings], Any], settings: Settings) -> Callable[[], Any]:
    """Another browser, each time: nobody is logged in."""

    def open_() -> Any:
        client = make_client(settings)
        client.environ_base.pop("HTTP_AUTHORIZATION", None)
        return client

    return open_


def invited(inside: Any, role: str = "desk", login: str = JANE) -> str:
    """The path of the link that a manager is shown for somebody."""
    page = press(inside, "/people", act="add", login=login, role=role).text
    found = re.search(r"http://localhost(/join/[\w-]+)", page)
    assert found
    return found[1]


def joined(client: Any, path: str, password: str = CHOSEN) -> tuple[str, list[str]]:
    """Take an account up; the secret of its authenticator, and the recovery codes."""
    page = client.get(path).text
    secret = re.findall(r"<code>(\w{32})</code>", page)[0]
    code = pyotp.TOTP(secret).now()
    form = {"csrf_token": token(page), "password": password, "code": code}
    answer = client.post(path, data=form)
    assert answer.status_code == 200
    return secret, re.findall(r"\b[0-9a-f]{10}\b", answer.text)


def logged_in(client: Any, code: str, login: str = JANE, password: str = CHOSEN) -> Any:
    """The answer to a code, after the password."""
    form = {"csrf_token": token(client.get("/login").text), "login": login, "password": password}
    answer = client.post("/login", data=form)
    if answer.status_code != 302:
        return answer
    form = {"csrf_token": token(client.get(answer.location).text), "code": code}
    return client.post(answer.location, data=form)


def as_role(inside: Any, browser: Callable[[], Any], role: str) -> Any:
    """A browser in which somebody with a role is logged in."""
    client = browser()
    joined(client, invited(inside, role))
    return client


def test_somebody_is_invited_and_logs_in_with_a_code(
    inside: Any, browser: Callable[[], Any], db: Database
) -> None:
    """The link lets its owner choose a password and set a second factor up, once; from then on
    both are asked for, and the trail has the person.
    """
    path, theirs = invited(inside), browser()
    secret, codes = joined(theirs, path)
    assert len(codes) == 8
    assert not is_out(theirs)
    assert theirs.get(path).status_code == 404
    kept = only(db, users)
    assert CHOSEN not in f"{kept}"
    assert not any(code in f"{kept}" for code in codes)
    kit(db)
    press(theirs, "/journey", kit="o-1")
    assert only(db, audit, action="reveal")["actor"] == JANE
    other = browser()
    assert logged_in(other, "000000").status_code == 401
    assert is_out(other)
    assert logged_in(other, pyotp.TOTP(secret).now()).status_code == 302
    assert not is_out(other)


def test_a_code_is_used_once(inside: Any, browser: Callable[[], Any], db: Database) -> None:
    """Who reads a code over somebody's shoulder comes too late; so with a recovery code."""
    secret, codes = joined(browser(), invited(inside))
    code = pyotp.TOTP(secret).now()
    assert logged_in(browser(), code).status_code == 302
    assert logged_in(browser(), code).status_code == 401
    assert logged_in(browser(), codes[0].upper()).status_code == 302
    assert logged_in(browser(), codes[0]).status_code == 401
    assert len(only(db, users)["recovery"]) == 7


@pytest.mark.parametrize(
    ("login", "password"),
    [(JANE, "wrong password"), (JANE, "letmein"), ("nobody@example.org", CHOSEN), (JANE, "")],
)
def test_a_wrong_login_opens_nothing(
    login: str, password: str, inside: Any, browser: Callable[[], Any]
) -> None:
    """Neither another's password nor an address without an account, and both are told the same."""
    joined(browser(), invited(inside))
    client = browser()
    answer = logged_in(client, "000000", login, password)
    assert answer.status_code in (200, 401)
    assert is_out(client)
    assert client.get("/login/code").location == "/login"


def test_a_code_needs_the_password_first(browser: Callable[[], Any]) -> None:
    """The page that asks for the code is only there after the password, for five minutes."""
    assert browser().get("/login/code").location == "/login"


@pytest.mark.parametrize("password", ["short", "x" * 11])
@one_database
def test_a_short_password_is_refused(password: str, inside: Any, browser: Any) -> None:
    """An account's password has at least twelve characters; the link still works."""
    path, theirs = invited(inside), browser()
    page = theirs.get(path).text
    form = {"csrf_token": token(page), "password": password, "code": "1"}
    answer = theirs.post(path, data=form)
    assert (answer.status_code, "too short" in answer.text) == (400, True)
    assert joined(theirs, path)


def test_whoever_is_disabled_is_out_at_once(
    inside: Any, browser: Callable[[], Any], db: Database
) -> None:
    """Their sessions end, their password and their link open nothing, until they are invited
    anew: then they choose anew too.
    """
    theirs = as_role(inside, browser, "manager")
    press(inside, "/people", act="disable", login=JANE)
    assert is_out(theirs)
    assert logged_in(browser(), "000000").status_code == 401
    assert "disabled" in inside.get("/people").text
    page = press(inside, "/people", act="reset", login=JANE).text
    assert logged_in(browser(), "000000").status_code == 401
    again = browser()
    assert joined(again, re.findall(r"http://localhost(/join/[\w-]+)", page)[0], "another secret!")
    assert not is_out(again)
    done = [row["action"] for row in rows(db, audit) if row["action"].startswith("user ")]
    assert done == ["user add", "user disable", "user reset"]


def test_another_role_counts_from_the_next_click(
    inside: Any, browser: Callable[[], Any], db: Database
) -> None:
    """A manager who has become a viewer may no longer reveal, though still logged in."""
    theirs = as_role(inside, browser, "manager")
    kit(db)
    assert press(theirs, "/journey", kit="o-1").status_code == 200
    press(inside, "/people", act="role", login=JANE, role="viewer")
    assert press(theirs, "/journey", kit="o-1").status_code == 403
    assert not is_out(theirs)


def test_a_manager_ends_a_session(inside: Any, browser: Callable[[], Any], db: Database) -> None:
    """Who is logged in is listed, and can be logged out from there."""
    theirs = as_role(inside, browser, "viewer")
    assert inside.get("/people").text.count("End this session") == 2
    press(inside, "/people", act="end", session=only(db, sessions, person=JANE)["id"])
    assert is_out(theirs)
    assert not is_out(inside)


@one_database
def test_what_makes_no_account_is_said(inside: Any) -> None:
    """No address, one that is there already, a role that there is not."""
    invited(inside)
    assert press(inside, "/people", act="add", login="jane", role="desk").status_code == 400
    again = press(inside, "/people", act="add", login=JANE.upper(), role="desk")
    assert "There is such an account already." in again.text
    assert press(inside, "/people", act="add", login=JANE, role="king").status_code == 404
    assert (
        press(inside, "/people", act="role", login="x@example.org", role="desk").status_code == 400
    )
    assert press(inside, "/people", act="dance").status_code == 404


def test_an_invitation_ends_after_a_week(inside: Any, browser: Any, db: Database) -> None:
    """A link that was never used opens nothing later, and says what to do."""
    path = invited(inside)
    assert browser().get(path).status_code == 200
    change(db, users, {}, invited_at=only(db, users)["created_at"] - people.INVITED)
    answer = browser().get(path)
    assert (answer.status_code, "Ask a manager" in answer.text) == (404, True)


def test_a_known_browser_is_never_shut_out(
    inside: Any, browser: Callable[[], Any], db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While strangers guess without end, from its own address too, staff log in where they have
    logged in before; a new browser has to wait.
    """
    monkeypatch.setattr(auth, "FLOOD", 20)
    with db.write() as connection:
        for number in range(20):
            people.add_failure(connection, f"visitor-{number}")
    with inside.session_transaction() as session:
        session.clear()
    assert is_out(inside)
    assert log_in(browser()).status_code == 429
    assert log_in(inside).status_code == 302


def test_a_flood_does_not_fill_the_trail(
    desk: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the wrong passwords of a minute the trail keeps the first; all of them are counted."""
    monkeypatch.setattr(auth, "NOTED", 3)
    for number in range(6):
        log_in(desk, f"guess-{number}")
    assert len(rows(db, login_failures)) == 6
    assert len(rows(db, audit, action="login refused")) == 3


# What each role may ask for: one endpoint and method a line. A route that is not here fails.
EVERYBODY, LOOK, ACT, EDIT, MANAGE = None, "look", "act", "edit", "manage"
ROUTES = {
    ("login", "GET POST"): EVERYBODY,
    ("second_factor", "GET POST"): EVERYBODY,
    ("organisation", "GET"): EVERYBODY,
    ("organisation_back", "GET"): EVERYBODY,
    ("join", "GET POST"): EVERYBODY,
    ("accent", "GET"): EVERYBODY,
    ("today", "GET"): LOOK,
    ("activity_page", "GET"): LOOK,
    ("activity_file", "GET"): LOOK,
    ("letters_page", "GET"): ACT,
    ("see_to_letters", "POST"): ACT,
    ("going_live", "GET"): MANAGE,
    ("editions_page", "GET"): LOOK,
    ("edition", "GET"): LOOK,
    ("take_back", "POST"): EDIT,
    ("start_draft", "POST"): EDIT,
    ("draft", "GET"): EDIT,
    ("see_to_draft", "POST"): EDIT,
    ("draft_file", "GET"): EDIT,
    ("save_file", "POST"): EDIT,
    ("email_in_draft", "GET"): EDIT,
    ("draft_rule", "GET"): EDIT,
    ("save_rule", "POST"): EDIT,
    ("journeys", "GET"): LOOK,
    ("search", "POST"): LOOK,
    ("journey", "GET"): LOOK,
    ("worklist", "GET"): LOOK,
    ("one_case", "GET"): LOOK,
    ("quarantine", "GET"): LOOK,
    ("unknown_events", "GET"): LOOK,
    ("rules", "GET"): LOOK,
    ("rule", "GET"): LOOK,
    ("email", "GET"): LOOK,
    ("draft_email", "GET"): LOOK,
    ("suppressions", "GET"): LOOK,
    ("suppression", "POST"): LOOK,  # to stop or lift needs ACT
    ("system", "GET"): LOOK,
    ("logout", "POST"): LOOK,
    ("stop", "GET"): LOOK,
    ("press_stop", "POST"): ACT,
    ("answer", "POST"): ACT,
    ("reveal", "POST"): ACT,
    ("reveal_case", "POST"): ACT,
    ("send_message_again", "POST"): ACT,
    ("stop_address", "POST"): ACT,
    ("ask_the_lab", "POST"): ACT,
    ("see_to", "POST"): ACT,
    ("see_to_post", "POST"): ACT,
    ("see_to_posts", "POST"): ACT,
    ("see_to_event", "POST"): ACT,
    ("send_test", "POST"): ACT,
    ("erasure", "POST"): MANAGE,
    ("erased", "GET"): MANAGE,
    ("audit", "GET"): MANAGE,
    ("who_looked", "POST"): MANAGE,
    ("trail_file", "GET"): MANAGE,
    ("people", "GET"): MANAGE,
    ("change_people", "POST"): MANAGE,
}
NEEDS = {
    ("desk." + name, method): needs
    for (name, methods), needs in ROUTES.items()
    for method in methods.split()
}


@one_database
@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_role_gets_what_it_may_and_no_more(
    role: str | None, inside: Any, browser: Callable[[], Any]
) -> None:
    """Every route of the desk's, asked by a stranger and by each role: refused exactly where the
    role does not let them.
    """
    client = as_role(inside, browser, role) if role else browser()
    form = {"csrf_token": token(client.get("/journeys" if role else "/login").text)}
    asked = set()
    for rule in inside.application.url_map.iter_rules():
        for method in {"GET", "POST"} & (rule.methods or set()):
            if not rule.endpoint.startswith("desk.") or rule.endpoint == "desk.logout":
                continue
            asked.add((rule.endpoint, method))
            path = re.sub(r"<[^>]*>", "x-1", rule.rule.replace("<int:number>", "1"))
            answer = client.open(path, method=method, data=form if method == "POST" else None)
            needs = NEEDS[rule.endpoint, method]
            if role is None and needs:
                assert (answer.status_code, answer.location[:6]) == (302, "/login"), rule
            else:
                refused = needs is not None and needs not in ROLES[role or "viewer"]
                assert (answer.status_code == 403) == refused, rule
    assert asked | {("desk.logout", "POST")} == NEEDS.keys()


@one_database
@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_who_may_only_look_sees_no_button(role: str, inside: Any, browser: Any) -> None:
    """What a role may not press stands on none of its pages, and does nothing if pressed."""
    client = as_role(inside, browser, role)
    for path in ("/worklist", "/worklist/refused", "/suppressions", "/system", "/rules"):
        page = client.get(path).text
        assert 'href="/people"' not in page
        assert ("begin a draft" in page) == (role == "editor" and path == "/rules")
    assert press(client, "/suppressions", address=PHONE, act="add", note="x").status_code == 403
    assert "Erase this person" not in press(client, "/suppressions", address=PHONE).text
