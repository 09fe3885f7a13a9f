"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay import rules
from relay.alerts import ALERTS, happened
from relay.ledger import cases, releasing, replaying
from relay.web.desk.frame import actor, blueprint, note_act, page, written_note
from relay.web.here import Here, here

CLOSE = "close"
STAYS = ("release",)  # closed, it could not be stopped any more: one or the other has to be chosen
OF_NO_KIT = ("paused", "limit", "config", "erasure")
# What can be done about each kind of case, besides closing it; the words on the button.
ACTS: dict[str, dict[str, str]] = {
    "unreached": {"resend": "Try again"},
    "held": {"replay": "Process it again"},
    "release": {"stop": "Do not send", "release": "Release now"},
    "broken": {"resend": "Send it again"},
    "unknown": {"send": "Send it again", "believe": "It did arrive"},
}
Case = dict[str, Any]  # with `by` and `note`: who does it, and what they wrote


def _release(app: Here, case: Case) -> bool:
    """Let it go now, or when the window of its rule opens."""
    policy, moment = app.config.policy, datetime.now(UTC)
    rule = app.config.rule(releasing.rule_of(app.db, case["notification_id"]))
    due_at = rules.opening(rule, policy, moment) if rule else moment
    return releasing.release(app.db, case["notification_id"], due_at, case["by"])


_DONE: dict[str, tuple[Callable[[Here, Case], bool], str]] = {
    CLOSE: (lambda app, case: True, "Closed."),
    "replay": (
        lambda app, case: replaying.replay_event(app.db, case["event_id"]),
        "It is processed again.",
    ),
    "resend": (
        lambda app, case: replaying.replay_notification(app.db, case["notification_id"]),
        "It is sent again.",
    ),
    "send": (
        lambda app, case: replaying.decide_unknown(app.db, case["notification_id"], send=True),
        "It is sent again.",
    ),
    "believe": (
        lambda app, case: replaying.decide_unknown(app.db, case["notification_id"], send=False),
        "It counts as sent.",
    ),
    "release": (_release, "It goes out, at once or when the send window opens."),
    "stop": (
        lambda app, case: releasing.stop(app.db, case["notification_id"], case["by"], case["note"]),
        "Stopped: what had not gone out yet is not sent.",
    ),
}


@blueprint.get("/worklist")
@login_required  # type: ignore[untyped-decorator]
def worklist() -> str:
    """The open cases, the oldest first."""
    found = [
        {
            **case,
            "words": ALERTS[case["kind"]],
            "happened": happened(case["kind"], case["subject"]),
            "acts": _acts(case["kind"]),
            "is_about_a_kit": case["kind"] not in OF_NO_KIT,
        }
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
    who, note = actor(), written_note()
    if case["closed_at"] is not None:
        flash("That case was closed already.")
    elif not do(app, {**case, "by": who, "note": note}):
        remedy = "It closes by itself." if case["kind"] in STAYS else "Close the case."
        flash(f"That cannot be done any more: it has been settled meanwhile. {remedy}")
    else:
        cases.close_case(app.db, case_id, who, note)
        note_act(f"case {act}", case_id)
        app.waker.wake()
        flash(told)
    return redirect(url_for("desk.worklist"))


def _acts(kind: str) -> dict[str, str]:
    return ACTS[kind] if kind in STAYS else {**ACTS.get(kind, {}), CLOSE: "Close"}
