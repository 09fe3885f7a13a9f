"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import current_user, login_required

from relay.alerts import ALERTS
from relay.ledger import cases, replaying, upkeep
from relay.ledger.database import Database
from relay.web.desk.frame import blueprint, page
from relay.web.here import here

CLOSE = "close"
# What can be done about each kind of case, besides closing it; the words on the button.
ACTS: dict[str, dict[str, str]] = {
    "unreached": {"resend": "Try again"},
    "held": {"replay": "Process it again"},
    "broken": {"resend": "Send it again"},
    "unknown": {"send": "Send it again", "believe": "It did arrive"},
}
_DONE: dict[str, tuple[Callable[[Database, dict[str, Any]], bool], str]] = {
    CLOSE: (lambda db, case: True, "Closed."),
    "replay": (
        lambda db, case: replaying.replay_event(db, case["event_id"]),
        "It is processed again.",
    ),
    "resend": (
        lambda db, case: replaying.replay_notification(db, case["notification_id"]),
        "It is sent again.",
    ),
    "send": (
        lambda db, case: replaying.decide_unknown(db, case["notification_id"], send=True),
        "It is sent again.",
    ),
    "believe": (
        lambda db, case: replaying.decide_unknown(db, case["notification_id"], send=False),
        "It counts as sent.",
    ),
}


@blueprint.get("/worklist")
@login_required  # type: ignore[untyped-decorator]
def worklist() -> str:
    """The open cases, the oldest first."""
    found = [
        {**case, "words": ALERTS[case["kind"]], "acts": _acts(case["kind"])}
        for case in cases.open_cases(here().db)
    ]
    return page("worklist.html", cases=found)


@blueprint.post("/worklist/<case_id>")
@login_required  # type: ignore[untyped-decorator]
def see_to(case_id: str) -> Any:
    """Do what was chosen about a case, and close it. Pressed twice it is done once."""
    app = here()
    case = cases.get_case(app.db, case_id)
    act = request.form.get("act", CLOSE)
    if case is None or act not in _acts(case["kind"]):
        abort(404)
    do, told = _DONE[act]
    if case["closed_at"] is not None:
        flash("That case was closed already.")
    elif not do(app.db, case):
        flash("That cannot be done any more: it has been settled meanwhile. Close the case.")
    else:
        who = str(current_user.get_id())
        cases.close_case(app.db, case_id, who, request.form.get("note", "").strip())
        upkeep.write_audit(app.db, who, f"case {act}", case_id)
        app.waker.wake()
        flash(told)
    return redirect(url_for("desk.worklist"))


def _acts(kind: str) -> dict[str, str]:
    return {**ACTS.get(kind, {}), CLOSE: "Close"}
