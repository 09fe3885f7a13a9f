"""The desk's stop button: what is stopped, which messages that has caught, and which had left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import flash, redirect, request, url_for

from relay.ledger.database import Connection
from relay.ledger.holds import stop_button
from relay.ledger.holds.halts import ALL, CHANNEL, RULE, Halt, in_words
from relay.ledger.views import stopped
from relay.rules.channels import CHANNELS
from relay.rules.model import ALERT_PREFIX
from relay.rules.statuses import ALERT, MESSAGE
from relay.staff.explain import is_kept, named
from relay.staff.roles import ACT, LOOK
from relay.web.desk.layout import actor, alert_words, blueprint, page, requires, written_note
from relay.web.desk.suppressions import NO_REASON
from relay.web.services import services

SHOWN = 20  # latest messages of each sort
TYPED = "all"  # a person must write this for an act about all messages
NOT_TYPED = f"This is about all messages: write “{TYPED}” to confirm it."
NOT_A_RULE = "Choose a rule: only of one are the messages of the last hour cancelled in one act."


@blueprint.get("/stop")
@requires(LOOK)
def stop() -> str:
    """The stops that stand, and what can be stopped."""
    return _page()


@blueprint.post("/stop")
@requires(ACT)
def press_stop() -> Any:
    """Stop, resume or cancel. A second press changes nothing."""
    what, act = request.form.get("what", ""), request.form.get("act", "")
    is_known = act in _ACTS and (act != "stop" or what in _choices())
    wrong = "" if is_known else "Choose what is to be stopped."
    if act == "stop":
        wrong = wrong or ("" if written_note() else NO_REASON)
        if request.form.get("cancel") and not what.startswith(RULE):
            wrong = wrong or NOT_A_RULE
    if what == ALL and request.form.get("typed", "").strip().lower() != TYPED:
        wrong = wrong or NOT_TYPED
    if wrong:
        return _page(wrong), 400
    flash(_ACTS[act](what))
    services().waker.wake()
    return redirect(url_for("desk.stop"), 303)


def _stop(what: str) -> str:
    db, by, note = services().db, actor(), written_note()
    is_new = stop_button.stop(db, what, by, note)
    said = f"{in_words(what)} {'are stopped' if is_new else 'were already stopped'}."
    if not request.form.get("cancel"):
        return said
    cancelled = stop_button.cancel_latest(db, what.partition(" ")[2], by, note)
    return f"{said} {cancelled:,} of the last hour {'is' if cancelled == 1 else 'are'} cancelled."


def _resume(what: str, *, drop: bool = False) -> str:
    dropped = stop_button.resume(services().db, what, actor(), drop=drop)
    if dropped is None:
        return f"{in_words(what)} are not stopped any more."
    note = f" {dropped:,} that waited {'is' if dropped == 1 else 'are'} cancelled." if drop else ""
    return f"{in_words(what)} go out again.{note}"


_ACTS: Mapping[str, Callable[[str], str]] = {
    "stop": _stop,
    "resume": _resume,
    "drop": partial(_resume, drop=True),
}


def _choices() -> Mapping[str, str]:
    """All that can be stopped → its words."""
    names = [ALL, *(f"{CHANNEL} {name}" for name in CHANNELS)]
    names += (f"{RULE} {rule.name}" for rule in services().config.rules)
    return {name: in_words(name) for name in names}


def _page(wrong: str = "") -> str:
    with services().db.read() as connection:
        found = [_shown(connection, *one) for one in stopped.counted(connection)]
    return page(
        "stop.html",
        found=found,
        choices=_choices(),
        chosen=request.values.get("what", ""),
        note=request.form.get("note", ""),
        wrong=wrong,
        typed=TYPED,
        all=ALL,
        named=partial(named, title=alert_words().title),
        is_kept=is_kept,
    )


def _shown(connection: Connection, halt: Halt, many: int) -> Mapping[str, Any]:
    left = stopped.left(connection, halt, SHOWN)
    caught = stopped.caught(connection, halt, SHOWN)
    ways = [
        (_titled(rule), channel, *(part.counts.get((rule, channel), 0) for part in (left, caught)))
        for rule, channel in sorted({*left.counts, *caught.counts})
    ]
    return {"halt": halt, "many": many, "left": left, "caught": caught, "ways": ways}


def _titled(rule: str) -> str:
    kind = ALERT if rule.startswith(ALERT_PREFIX) else MESSAGE
    return named({"rule": rule, "kind": kind}, alert_words().title)
