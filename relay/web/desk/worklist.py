"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay.ledger import cases
from relay.ledger.audit import NotDone
from relay.ledger.database import Connection
from relay.messages.alerts import CaseNames
from relay.rules.alerts import KINDS, counted, is_about_a_kit
from relay.staff import case_acts
from relay.web.desk.layout import ACT_WORDS as SAID
from relay.web.desk.layout import actor, alert_words, blueprint, my_act, page, written_note
from relay.web.services import services

AT_ONCE = 25
OPEN = cases.OPEN
Case = Mapping[str, Any]


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
    act = request.form.get("act", cases.CLOSE)
    with services().db.read() as connection:
        case = cases.get_case(connection, case_id)
    if case is None or act not in (*case_acts.acts_of(case["kind"]), OPEN):
        abort(404)
    try:
        flash(_open_again(case) if act == OPEN else _see_to(case, act))
    except NotDone as error:
        flash(str(error))
    return redirect(url_for("desk.worklist", kind=request.args.get("kind") or None))


def _see_to(case: Case, act: str) -> str:
    """Do what was chosen about a case and close it; what to say of it. Raises NotDone."""
    app = services()
    with app.db.write() as connection:
        said = case_acts.see_to(connection, app.config, case, act, by=actor(), note=written_note())
    app.waker.wake()
    return said


def _open_again(case: Case) -> str:
    mine = my_act(cases.CASE_ACT + OPEN, case["id"])
    with services().db.write() as connection:
        cases.reopen(connection, case["id"], mine)
    return "It is back on the worklist."


def _shown(connection: Connection, found: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Cases as the page shows them."""
    for case, offer in case_acts.offers(connection, services().config, found):
        subject = CaseNames(
            case["id"],
            case["kind"],
            case["subject"],
            case["reason"],
            count=case["count"],
            is_digest=case["is_digest"],
        )
        yield {
            **case,
            "words": alert_words().words(subject),
            "many": counted(case["kind"], case["count"]),
            "acts": offer.acts,
            "why_not": offer.why_not,
            "is_about_a_kit": is_about_a_kit(case["kind"]),
        }
