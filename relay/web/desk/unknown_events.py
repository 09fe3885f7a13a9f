"""The worklist's unknown events: names that the lab has posted and Relay does not know."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.lab.events import EVENTS
from relay.ledger import replay
from relay.ledger.audit import NO_NOTE
from relay.ledger.worklist import unknown_events as ledger_unknown
from relay.staff.roles import ACT, LOOK
from relay.web.desk.layout import actor, blueprint, my_act, page, requires, written_note
from relay.web.services import services

AT_ONCE = 200  # events that one press processes in a page's time
ACKNOWLEDGE, PROCESS = "acknowledge", "process"


@blueprint.get("/worklist/unknown")
@requires(LOOK)
def unknown_events() -> str:
    """Each unknown name once: how often it came, and since when."""
    with services().db.read() as connection:
        names, acknowledged = (
            ledger_unknown.names(connection),
            ledger_unknown.acknowledged(connection),
        )
    return page(
        "unknown_events.html",
        names=names,
        acknowledged=acknowledged,
        known=EVENTS,
        many=ledger_unknown.MANY,
    )


@blueprint.post("/worklist/unknown")
@requires(ACT)
def see_to_event() -> Any:
    """Acknowledge a name, or have its events processed if Relay now knows it.

    A second press changes nothing.
    """
    name, act = request.form.get("name", "").replace("\0", ""), request.form.get("act")
    if act == ACKNOWLEDGE:
        flash(_acknowledge(name))
    elif act == PROCESS and name in EVENTS:
        flash(_process(name))
    else:
        abort(404)
    return redirect(url_for("desk.unknown_events"))


def _acknowledge(name: str) -> str:
    note = written_note()
    if not note:
        return NO_NOTE
    by = actor()
    with services().db.write() as connection:
        done = ledger_unknown.acknowledge(connection, name, by, note)
    if not done:
        return "Somebody has already acknowledged or processed that."
    return "Acknowledged. Relay keeps events of that name and no longer lists them here."


def _process(name: str) -> str:
    app, act = services(), my_act("process events", name)
    with app.db.write() as connection:
        ids = ledger_unknown.ids(connection, name, AT_ONCE)
        done = replay.replay_events(connection, ids, act)
    if not done:
        return "Those have already been processed."
    app.waker.wake()
    more = " There are more: press the button again." if done == AT_ONCE else ""
    return f"{done} {'are' if done > 1 else 'is'} being processed.{more}"
