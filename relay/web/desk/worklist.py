"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.ledger import replay
from relay.ledger.audit import ACT_WORDS as SAID
from relay.ledger.audit import NotDone
from relay.ledger.views import queries
from relay.ledger.worklist import cases, faults, replies
from relay.rules import alerts
from relay.rules.alerts import KINDS
from relay.rules.replies import REPLY
from relay.staff import answers, case_acts
from relay.staff.looks import REVEAL
from relay.staff.roles import ACT, LOOK
from relay.staff.send_again import seconds_to_undo
from relay.web.desk.causes import as_shown, by_cause, drafts_of, is_permitted
from relay.web.desk.layout import (
    SHOWN,
    UNDO,
    actor,
    alert_words,
    blueprint,
    my_act,
    note_look,
    page,
    reason_for,
    requires,
    written_note,
)
from relay.web.services import services

AT_ONCE = 100  # cases to look through, and for one press
CARDS = 12  # on a page: some three screens
OPEN = cases.OPEN
UNDONE = (cases.CLOSE, cases.RESEND)  # acts that can be undone, the second for some seconds
Case = Mapping[str, Any]


@blueprint.get("/worklist")
@requires(LOOK)
def worklist() -> str:
    """The open cases, of all kinds or of one, and the last to be closed."""
    kind, start = request.args.get("kind", ""), max(0, request.args.get("from", 0, int))
    if kind and kind not in KINDS:
        abort(404)
    with services().db.read() as connection:
        shown = [*as_shown(connection, cases.open_cases(connection, kind, AT_ONCE))]
        kinds, closed = cases.open_kinds(connection), cases.closed_cases(connection)
    causes = by_cause(shown)
    start = min(start, max(0, len(causes) - 1) // CARDS * CARDS)  # there may now be fewer
    return page(
        "worklist.html",
        causes=causes[start : start + CARDS],
        before=max(0, start - CARDS) if start else None,
        after=start + CARDS if causes[start + CARDS :] else None,
        closed=closed,
        kind=kind,
        start=start or None,
        shown=len(shown),
        kinds={name: kinds.get(name, 0) for name in KINDS if name in kinds or name == kind},
        many=kinds.get(kind, 0) if kind else sum(kinds.values()),
        title=alert_words().title,
        said=SAID,
        config=services().config,
    )


@blueprint.get("/case/<case_id>")
@requires(LOOK)
def one_case(case_id: str) -> str:
    """One case, open or closed, to which an alert's link leads. Messages that wait are masked."""
    return _one(case_id)


@blueprint.post("/case/<case_id>")
@requires(ACT)
def reveal_case(case_id: str) -> str:
    """A case with its text, or the messages that wait for it, unmasked; who looked is on record.

    The page keeps nothing: when opened again it is masked again.
    """
    with services().db.read() as connection:
        case = cases.get_case(connection, case_id)
        found = [one.held.id for one in drafts_of(connection, case)] if case else []
        found += [case_id] if replies.of_cases(connection, [case_id]) else []
    if case is None or not found:
        abort(404)
    if (reason := reason_for()) is None:
        return _one(case_id)
    for one in found:
        note_look(REVEAL, one, f"{alerts.about(case['subject'])}{reason}")
    flash(SHOWN)
    return _one(case_id, found)


@blueprint.post("/case/<case_id>/answer")
@requires(ACT)
def answer(case_id: str) -> Any:
    """Show the answer to a text before it is sent, or send it and close the case. If there are
    cautions, a person must have seen them.
    """
    app, form = services(), request.form
    with app.db.read() as connection:
        case = cases.get_case(connection, case_id)
        ids = [case["event_id"]] if case else []
        facts = next(iter(queries.facts_of(connection, ids).values()), None)
    if case is None or case["kind"] != REPLY:
        abort(404)
    draft = answers.draft(app.config, form.get("words", ""), facts)
    at_once, is_sure = "at_once" in form, not draft.cautions or "sure" in form
    if form.get("act") != case_acts.SEND or not is_sure:
        revealed = [case_id] if is_permitted(form.get("permit", ""), case_id) else []
        return _one(case_id, revealed, draft=draft, at_once=at_once)
    try:
        flash(_see_to(case, case_acts.SEND, words=draft.words, at_once=at_once))
    except NotDone as error:
        flash(str(error))
        return redirect(url_for("desk.one_case", case_id=case_id))
    return redirect(url_for("desk.worklist"))


def _one(case_id: str, revealed: Sequence[str] = (), **answer: Any) -> str:
    with services().db.read() as connection:
        case = cases.get_case(connection, case_id)
        if case is None:
            abort(404)
        is_open = case["closed_at"] is None
        shown = [*as_shown(connection, [case], revealed)] if is_open else []
        closed = [] if is_open else cases.closed_cases(connection, case_id=case_id)
    return page(
        "worklist.html",
        only=case,
        causes=by_cause(shown),
        closed=closed,
        title=alert_words().title,
        said=SAID,
        config=services().config,
        **answer,
    )


@blueprint.post("/worklist/<case_id>")
@requires(ACT)
def see_to(case_id: str) -> Any:
    """Do the chosen act about a case and those with the same cause, and close them; or open them
    again. A second press changes nothing.
    """
    act, done, not_done = request.form.get("act", cases.CLOSE), {}, []
    for id_ in [*dict.fromkeys([case_id, *request.form.get("case", "").split()])][:AT_ONCE]:
        with services().db.read() as connection:
            case = cases.get_case(connection, id_)
        if case is None or act not in (*case_acts.acts_of(case["kind"]), OPEN):
            abort(404)
        try:
            done[id_] = _open_again(case) if act == OPEN else _see_to(case, act)
        except NotDone as error:
            not_done.append(str(error))
    many = len(done) + len(not_done)
    said = [*dict.fromkeys([*done.values(), *not_done])]
    undo = f"{UNDO} {' '.join(done)}" if act in UNDONE and done else "message"
    flash(f"{len(done)} of {many} done. {' '.join(said)}" if many > 1 else said[0], undo)
    if request.args.get("back"):
        return redirect(url_for("desk.today"))
    here: dict[str, Any] = {name: request.args.get(name) or None for name in ("kind", "from")}
    return redirect(url_for("desk.worklist", **here, _anchor=request.form.get("next") or None))


def _see_to(case: Case, act: str, **words: Any) -> str:
    """Do the chosen act about a case and close it; return what to say. Raises NotDone."""
    app = services()
    with app.db.write() as connection:
        said = case_acts.see_to(
            *(connection, app.config, case, act),
            by=actor(),
            note=written_note(),
            wait=seconds_to_undo(),
            **words,
        )
    app.waker.wake()
    return said


def _open_again(case: Case) -> str:
    mine = my_act(cases.CASE_ACT + OPEN, case["id"])
    with services().db.write() as connection:
        went = replay.cancel_retries(connection, faults.concerned(case))
        cases.reopen(connection, case["id"], mine, cases.RESEND if went else cases.CLOSE)
    return "It is back on the worklist."
