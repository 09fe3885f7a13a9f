"""The worklist's refused posts: what is wrong with each, and what a person can do about it.

A body may hold anything: the page shows one only if somebody asks, and Relay records who does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.errors import Refused
from relay.lab import events
from relay.ledger.audit import NO_NOTE
from relay.ledger.worklist import quarantine as ledger_quarantine
from relay.staff.roles import ACT, LOOK
from relay.web.desk.layout import SHOWN, blueprint, my_act, note_look, page, requires, written_note
from relay.web.services import services

REVEAL, AGAIN, ASIDE, BACK = "reveal", "again", "aside", "back"
# The result of another try, by the status that the lab would have had in its answer.
_TAKEN = {
    "accepted": "Relay has now accepted it and will process it.",
    "duplicate": "The lab has since posted the same event correctly. There is nothing more to do.",
    "unrouted": "Relay has now accepted it, but does not know this event: see Unknown events.",
}
_SETTLED = "Somebody has already dealt with that post."


@blueprint.get("/worklist/refused")
@requires(LOOK)
def quarantine() -> str:
    """The posts that were refused, the latest first."""
    return _posts()


@blueprint.post("/worklist/refused/<post_id>")
@requires(ACT)
def see_to_post(post_id: str) -> Any:
    """Show a post, try it again, put it aside or take it back. A second press changes nothing."""
    act = request.form.get("act")
    with services().db.read() as connection:
        row = ledger_quarantine.get(connection, post_id)
    if row is None or act not in (REVEAL, AGAIN, ASIDE, BACK):
        abort(404)
    if act == BACK:
        flash(_take_back(post_id))
    elif row["event_id"] or row["closed_at"]:
        flash(_SETTLED)
    elif act == REVEAL:
        return reveal(post_id)
    else:
        flash(_try_again(post_id) if act == AGAIN else _put_aside(post_id))
    return redirect(url_for("desk.quarantine"))


@blueprint.post("/worklist/refused")
@requires(ACT)
def see_to_posts() -> Any:
    """Put aside all posts that the page was made with. A second press changes nothing."""
    note = written_note()
    try:
        until = datetime.fromisoformat(request.form.get("until", ""))
        if until.tzinfo is None:
            raise ValueError
        until = until.astimezone(UTC)
    except (ValueError, OverflowError):
        abort(404)
    flash(_put_all_aside(until, note) if note else NO_NOTE)
    return redirect(url_for("desk.quarantine"))


def _posts(revealed: str = "", body: str = "") -> str:
    with services().db.read() as connection:
        posts, aside = ledger_quarantine.latest(connection), ledger_quarantine.aside(connection)
    return page("quarantine.html", posts=posts, aside=aside, revealed=revealed, body=body)


def reveal(post_id: str) -> str:
    """The page of refused posts with one body shown. When opened again it is hidden again."""
    with services().db.read() as connection:
        body = ledger_quarantine.body(connection, post_id) or b""
    note_look(REVEAL, post_id, "a refused post")
    flash(SHOWN)
    return _posts(post_id, legible(body))


def _try_again(post_id: str) -> str:
    app = services()
    with app.db.read() as connection:
        body = ledger_quarantine.body(connection, post_id)
    if body is None:
        return _SETTLED
    try:
        incoming = events.parse(body)
    except Refused as refused:
        return f"Relay still refuses it: {refused} {' '.join(sorted(refused.fields))}".rstrip()
    window, act = app.config.delivery.dedupe_window, my_act("post again", post_id)
    with app.db.write() as connection:
        taken = ledger_quarantine.release(connection, post_id, incoming, window, act)
    app.waker.wake()
    return _TAKEN[taken.status]


def _put_aside(post_id: str) -> str:
    note = written_note()
    if not note:
        return NO_NOTE
    act = my_act("post aside", post_id)
    with services().db.write() as connection:
        done = ledger_quarantine.put_aside(connection, post_id, act, note)
    return "Put aside. Your note is kept with it." if done else _SETTLED


def _put_all_aside(until: datetime, note: str) -> str:
    act = my_act("posts aside")
    with services().db.write() as connection:
        done = ledger_quarantine.put_all_aside(connection, until, act, note)
    if not done:
        return _SETTLED
    return f"{done:,} put aside. Your note is kept with each."


def _take_back(post_id: str) -> str:
    act = my_act("post back", post_id)
    with services().db.write() as connection:
        done = ledger_quarantine.take_back(connection, post_id, act)
    return "It is back on the worklist." if done else "It is no longer put aside."


def legible(body: bytes) -> str:
    """A body as text: bytes that cannot be read or printed are shown as codes."""
    text = body.decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
