"""The desk's erasure of one person: what their address tells of them, the act, what came of it.

A worker erases: that every table is searched takes longer than a page may. The address is in no
link and no log: only in what is posted.
"""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay.jobs import erase
from relay.ledger import erasures, workers
from relay.ledger.views import queries
from relay.privacy.person import Person, key
from relay.web.desk import sessions
from relay.web.desk.frame import actor, blueprint, page, written_note
from relay.web.desk.suppressions import NO_REASON, posted, stopped_words, target
from relay.web.here import here


@blueprint.post("/erasure")
@login_required  # type: ignore[untyped-decorator]
def erasure() -> Any:
    """Ask first, and have it erased where that is what was pressed.

    Pressed twice, both lead to the same page.
    """
    channel, address, refused = posted()
    if refused:
        return refused
    note, is_pressed = written_note(), request.form.get("act") == "erase"
    if is_pressed and note:
        return _asked(channel, address, note, stop=bool(request.form.get("stop")))
    wrong = NO_REASON if is_pressed else ""
    return _shown(channel, address, wrong), 400 if wrong else 200


@blueprint.get("/erasure/<id_>")
@login_required  # type: ignore[untyped-decorator]
def erased(id_: str) -> str:
    """How an erasure stands, and at last what came of it."""
    found = erasures.find(here().db, id_) or abort(404)
    is_done = found["state"] == erasures.DONE
    return page(
        "erased.html",
        it=found,
        is_done=is_done,
        counts=erase.phrases(found["outcome"]["counts"]) if is_done else [],
        alive=is_done or workers.workers_alive(here().db),
        again="" if is_done else f"{url_for('desk.erased', id_=id_)}?{sessions.AGAIN}=1",
    )


def _shown(channel: str, address: str, wrong: str) -> str:
    counts = queries.count_by_address(here().db, channel, address)
    return page(
        "erasure.html",
        written=address,
        counts=erase.phrases(counts),
        wrong=wrong,
        stays=erase.STAYS,
        beyond=erase.OUT_OF_REACH,
    )


def _asked(channel: str, address: str, note: str, *, stop: bool) -> Any:
    app = here()
    id_, stopped = erasures.ask(
        app.db,
        channel,
        address,
        target=target(channel, address),
        actor=actor(),
        note="" if Person(key(address)).is_in(note) else note,
        stop=stop,
    )
    if stop:
        flash(stopped_words(channel, added=stopped))
    app.waker.wake()
    return redirect(url_for("desk.erased", id_=id_), 303)
