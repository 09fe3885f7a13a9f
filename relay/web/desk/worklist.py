"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay.ledger import cases, holds, journeys, replay
from relay.ledger.audit import NotDone
from relay.ledger.cases import Do
from relay.rules import planner, retries
from relay.rules.alerts import ALERTS, happened, words
from relay.rules.retries import FailedMessage
from relay.rules.staleness import Step, overtaken
from relay.web.context import Services, services
from relay.web.desk.layout import NO_NOTE, actor, blueprint, my_act, page, written_note
from relay.web.desk.system import ACTS as SAID

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
    retries.MESSAGE: "Relay is sending it again.",
    retries.EVENT: "Relay is processing its event again, with what the lab says now.",
}


@blueprint.get("/worklist")
@login_required  # type: ignore[untyped-decorator]
def worklist() -> str:
    """The open cases, of all kinds or of one, and those that were closed last."""
    db, kind = services().db, request.args.get("kind", "")
    if kind and kind not in ALERTS:
        abort(404)
    found, kinds = cases.open_cases(db, kind, AT_ONCE), cases.open_kinds(db)
    return page(
        "worklist.html",
        cases=[*_shown(found)],
        closed=cases.closed_cases(db),
        kind=kind,
        kinds={name: many for name, many in kinds.items() if name in ALERTS},
        many=kinds.get(kind, 0) if kind else sum(kinds.values()),
        words=ALERTS,
        said=SAID,
    )


@blueprint.post("/worklist/<case_id>")
@login_required  # type: ignore[untyped-decorator]
def see_to(case_id: str) -> Any:
    """Do what was chosen about a case and close it, or open it again. Pressed twice it is done
    once.
    """
    app = services()
    case, act = cases.get_case(app.db, case_id), request.form.get("act", CLOSE)
    if case is None or act not in (*_acts(case["kind"]), OPEN):
        abort(404)
    try:
        flash(_open_again(app, case) if act == OPEN else _see_to(app, case, act))
    except NotDone as error:
        flash(str(error))
    return redirect(url_for("desk.worklist", kind=request.args.get("kind") or None))


def _see_to(app: Services, case: Case, act: str) -> str:
    """The message about an act. Raises NotDone."""
    note = written_note()
    if case["closed_at"] is not None:
        return cases.CLOSED_ALREADY
    if act == CLOSE and not note:
        return NO_NOTE
    do = _DOING[act](app, case, note)
    said = cases.see_to(app.db, case["id"], my_act(cases.CASE_ACT + act, case["id"]), note, do)
    app.waker.wake()
    return said


def _open_again(app: Services, case: Case) -> str:
    cases.reopen(app.db, case["id"], my_act(cases.CASE_ACT + OPEN, case["id"]))
    return "It is back on the worklist."


def _shown(found: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Cases as the page shows them: without a button of which it is known that it does nothing."""
    failed = [case["notification_id"] for case in found if RESEND in ACTS.get(case["kind"], {})]
    standings = replay.failed_messages(services().db, [*filter(None, failed)])
    for case in found:
        acts, why_not, said = _acts(case["kind"]), "", words(case["kind"])
        if RESEND in acts and (it := standings.get(case["notification_id"])):
            why_not = retries.decide(it, _why_old(services(), it)).why
        if why_not:
            del acts[RESEND]
        yield {
            **case,
            "words": said,
            "happened": happened(case["kind"], case["subject"]),
            "acts": acts,
            "why_not": why_not,
            "is_about_a_kit": said.is_about_a_kit,
        }


def _acts(kind: str) -> dict[str, str]:
    return {**ACTS.get(kind, {}), **({} if kind in STAYS else {CLOSE: "Close"})}


def _why_old(app: Services, it: FailedMessage) -> str:
    """Why a message would not be written any more, as far as that is known without the lab."""
    rule, moment = app.config.rule(it.rule), datetime.now(UTC)
    if rule is None:
        return "Its rule is no longer in config.toml."
    if not rule.enabled:
        return "Its rule is switched off (enabled = false)."
    known = journeys.steps_of_kit(app.db, it.event_name, it.subject)
    return overtaken(
        rule, Step(it.event_name, it.round, it.event_received_at), known, moment, moment
    )


def _resend(app: Services, case: Case, note: str) -> Do:
    id_ = str(case["notification_id"])
    it = replay.failed_messages(app.db, [id_]).get(id_)
    old = _why_old(app, it) if it else ""
    return lambda connection: _AGAIN[replay.try_again(connection, id_, old)]


def _release(app: Services, case: Case, note: str) -> Do:
    """Let it go now, or when the window of its rule opens."""
    policy, moment, id_ = app.config.policy, datetime.now(UTC), case["notification_id"]
    rule = app.config.rule(holds.rule_of(app.db, id_))
    due_at, by = planner.opening(rule, policy, moment) if rule else moment, actor()
    return _told(
        lambda connection: holds.release(connection, id_, due_at, by),
        "Released: it goes out at once, or when the send window opens.",
        "It is no longer waiting; the case closes by itself.",
    )


def _stop(app: Services, case: Case, note: str) -> Do:
    id_, by = case["notification_id"], actor()
    return _told(
        lambda connection: holds.stop(connection, id_, by, note),
        "Stopped: anything that had not gone out will not be sent.",
        "It is no longer waiting; the case closes by itself.",
    )


def _replay(app: Services, case: Case, note: str) -> Do:
    return _told(
        lambda connection: replay.process_again(connection, case["event_id"]),
        "Relay is processing it again.",
        "It is already being processed.",
    )


def _decide(*, send: bool, said: str) -> Callable[[Services, Case, str], Do]:
    """A person's decision about a message that may or may not have gone out."""
    otherwise = "Relay has since found out what became of it, or is checking now."

    def do(app: Services, case: Case, note: str) -> Do:
        id_ = case["notification_id"]
        decide = partial(replay.decide_unknown, notification_id=id_, send=send)
        return _told(decide, said, otherwise)

    return do


def _told(do: Callable[[Any], bool], said: str, otherwise: str) -> Do:
    """An act that can come too late, with its message either way."""

    def done(connection: Any) -> str:
        if not do(connection):
            raise NotDone(f"It is too late for that. {otherwise}")
        return said

    return done


_DOING: dict[str, Callable[[Services, Case, str], Do]] = {
    CLOSE: lambda app, case, note: lambda connection: "Closed.",
    RESEND: _resend,
    "replay": _replay,
    "send": _decide(send=True, said="Relay is sending it again."),
    "believe": _decide(send=False, said="It now counts as sent."),
    "release": _release,
    "stop": _stop,
}
