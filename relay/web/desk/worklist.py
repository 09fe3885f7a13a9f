"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay.ledger import cases, journeys, releases, replay, waits
from relay.ledger.audit import NotDone
from relay.ledger.database import Connection
from relay.messages.alerts import CaseNames
from relay.rules import planner, resend
from relay.rules.alerts import KINDS, is_about_a_kit
from relay.rules.resend import FailedMessage
from relay.rules.staleness import Step, overtaken
from relay.web.desk.layout import ACT_WORDS as SAID
from relay.web.desk.layout import NO_NOTE, actor, alert_words, blueprint, my_act, page, written_note
from relay.web.services import services

AT_ONCE = 25
CLOSE, OPEN, RESEND = cases.CLOSE, cases.OPEN, "resend"
STAYS = ("release",)  # closed, it could not be stopped any more: one or the other has to be chosen
# What can be done about each kind of case, besides closing it; the words on the button.
ACTS: dict[str, dict[str, str]] = {
    "unreached": {RESEND: "Try again"},
    "held": {"replay": "Process it again"},
    "release": {"stop": "Do not send", "release": "Release now"},
    "broken": {RESEND: "Send it again"},
    "unknown": {"send": "Send it again", "believe": "It did arrive"},
}
Case = Mapping[str, Any]
_AGAIN = {
    resend.MESSAGE: "Relay is sending it again.",
    resend.EVENT: "Relay is processing its event again, with what the lab says now.",
}
_TOO_LATE = "It is too late for that."
_WAITS_NO_MORE = f"{_TOO_LATE} It is no longer waiting; the case closes by itself."
_KNOWN_BY_NOW = f"{_TOO_LATE} Relay has since found out what became of it, or is checking now."


@blueprint.get("/worklist")
@login_required  # type: ignore[untyped-decorator]
def worklist() -> str:
    """The open cases, of all kinds or of one, and those that were closed last."""
    kind = request.args.get("kind", "")
    if kind and kind not in KINDS:
        abort(404)
    with services().db.read() as connection:
        shown = [*_shown(connection, cases.open_cases(connection, kind, AT_ONCE))]
        kinds, closed = cases.open_kinds(connection), cases.closed_cases(connection)
    return page(
        "worklist.html",
        cases=shown,
        closed=closed,
        kind=kind,
        kinds={name: kinds.get(name, 0) for name in KINDS if name in kinds or name == kind},
        many=kinds.get(kind, 0) if kind else sum(kinds.values()),
        title=alert_words().title,
        said=SAID,
    )


@blueprint.get("/case/<case_id>")
@login_required  # type: ignore[untyped-decorator]
def one_case(case_id: str) -> str:
    """One case, open or closed: where an alert's link leads."""
    with services().db.read() as connection:
        case = cases.get_case(connection, case_id)
        if case is None:
            abort(404)
        is_open = case["closed_at"] is None
        shown = [*_shown(connection, [case])] if is_open else []
        closed = [] if is_open else cases.closed_cases(connection, case_id=case_id)
    return page(
        "worklist.html",
        only=case,
        cases=shown,
        closed=closed,
        title=alert_words().title,
        said=SAID,
    )


@blueprint.post("/worklist/<case_id>")
@login_required  # type: ignore[untyped-decorator]
def see_to(case_id: str) -> Any:
    """Do what was chosen about a case and close it, or open it again. Pressed twice it is done
    once.
    """
    act = request.form.get("act", CLOSE)
    with services().db.read() as connection:
        case = cases.get_case(connection, case_id)
    if case is None or act not in (*_acts(case["kind"]), OPEN):
        abort(404)
    try:
        flash(_open_again(case) if act == OPEN else _see_to(case, act))
    except NotDone as error:
        flash(str(error))
    return redirect(url_for("desk.worklist", kind=request.args.get("kind") or None))


def _see_to(case: Case, act: str) -> str:
    """Do what was chosen about a case and close it; what to say of it. Raises NotDone."""
    app, note = services(), written_note()
    if case["closed_at"] is not None:
        return cases.CLOSED_ALREADY
    if act == CLOSE and not note:
        return NO_NOTE
    mine = my_act(cases.CASE_ACT + act, case["id"])
    with app.db.write() as connection:
        said = _DOING[act](connection, case, note)
        cases.see_to(connection, case["id"], mine, note)
    app.waker.wake()
    return said


def _open_again(case: Case) -> str:
    mine = my_act(cases.CASE_ACT + OPEN, case["id"])
    with services().db.write() as connection:
        cases.reopen(connection, case["id"], mine)
    return "It is back on the worklist."


def _shown(connection: Connection, found: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Cases as the page shows them: without a button of which it is known that it does nothing."""
    failed = [case["notification_id"] for case in found if RESEND in ACTS.get(case["kind"], {})]
    standings = replay.failed_messages(connection, [*filter(None, failed)])
    for case in found:
        acts, why_not = _acts(case["kind"]), ""
        subject = CaseNames(
            case["id"],
            case["kind"],
            case["subject"],
            case["reason"],
            is_digest=case["is_digest"],
        )
        if RESEND in acts and (it := standings.get(case["notification_id"])):
            why_not = resend.decide(it, why_old(connection, it)).why
        if why_not:
            del acts[RESEND]
        yield {
            **case,
            "words": alert_words().words(subject),
            "acts": acts,
            "why_not": why_not,
            "is_about_a_kit": is_about_a_kit(case["kind"]),
        }


def _acts(kind: str) -> dict[str, str]:
    return {**ACTS.get(kind, {}), **({} if kind in STAYS else {CLOSE: "Close"})}


def why_old(connection: Connection, it: FailedMessage) -> str:
    """Why a message would not be written any more, as far as that is known without the lab."""
    rule, moment = services().config.rule(it.rule), datetime.now(UTC)
    if rule is None:
        return "Its rule is no longer in config.toml."
    if not rule.enabled:
        return "Its rule is switched off (enabled = false)."
    known = journeys.steps_of_kit(connection, it.event_name, it.subject)
    return overtaken(
        rule, Step(it.event_name, it.round, it.event_received_at), known, moment, moment
    )


# The acts: each in the transaction that closes its case. They say what was done, or raise NotDone.


def _close(connection: Connection, case: Case, note: str) -> str:
    if case["kind"] == "rule":
        gone = waits.cancel(connection, case["subject"], f"Cancelled by {actor()}. {note}")
        return f"Closed. {gone} waiting message{'s are' if gone != 1 else ' is'} cancelled."
    return "Closed."


def _resend(connection: Connection, case: Case, note: str) -> str:
    id_ = str(case["notification_id"])
    it = replay.failed_messages(connection, [id_]).get(id_)
    old = why_old(connection, it) if it else ""
    return _AGAIN[replay.try_again(connection, id_, old)]


def _release(connection: Connection, case: Case, note: str) -> str:
    """Let it go now, or when the window of its rule opens."""
    config, moment, id_ = services().config, datetime.now(UTC), case["notification_id"]
    rule = config.rule(releases.rule_of(connection, id_))
    due_at = planner.opening(rule, config.policy, moment) if rule else moment
    if not releases.release(connection, id_, due_at, actor()):
        raise NotDone(_WAITS_NO_MORE)
    return "Released: it goes out at once, or when the send window opens."


def _stop(connection: Connection, case: Case, note: str) -> str:
    if not releases.stop(connection, case["notification_id"], actor(), note):
        raise NotDone(_WAITS_NO_MORE)
    return "Stopped: anything that had not gone out will not be sent."


def _replay(connection: Connection, case: Case, note: str) -> str:
    if not replay.process_again(connection, case["event_id"]):
        raise NotDone(f"{_TOO_LATE} It is already being processed.")
    return "Relay is processing it again."


def send_unknown(connection: Connection, case: Case, note: str) -> str:
    """Nobody knows whether it went out: a person has it sent once more."""
    if not replay.decide_unknown(connection, case["notification_id"], send=True):
        raise NotDone(_KNOWN_BY_NOW)
    return "Relay is sending it again."


def believe_unknown(connection: Connection, case: Case, note: str) -> str:
    """Nobody knows whether it went out: a person says that it did."""
    if not replay.decide_unknown(connection, case["notification_id"], send=False):
        raise NotDone(_KNOWN_BY_NOW)
    return "It now counts as sent."


_DOING: dict[str, Callable[[Connection, Case, str], str]] = {
    CLOSE: _close,
    RESEND: _resend,
    "replay": _replay,
    "send": send_unknown,
    "believe": believe_unknown,
    "release": _release,
    "stop": _stop,
}
