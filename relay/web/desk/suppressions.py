"""The desk's opt-outs, and the erasure of one person.

A worker erases, since searching every table takes longer than a page may. The address is in no link
and no log: only in what is posted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_login import login_required

from relay.jobs import erase
from relay.ledger import audit, erasures, workers
from relay.ledger import suppressions as ledger_suppressions
from relay.ledger.views import queries
from relay.privacy import masks
from relay.privacy.person import Person, key
from relay.rules import channels
from relay.web.context import services
from relay.web.desk import auth
from relay.web.desk.layout import actor, blueprint, my_act, page, written_note
from relay.web.desk.system import ACTS

KINDS = {name: way.title for name, way in channels.CHANNELS.items()}
# The providers keep lists of their own, which Relay does not touch.
LISTS = {
    "sms": "Twilio keeps its own list: after STOP it texts this number only once it sends START.",
    "email": "SendGrid keeps its own list: remove the address from its suppressions too.",
}
ERASURES = {
    erasures.WAITING: ("waiting", "created"),
    erasures.RUNNING: ("under way", "sending"),
    erasures.DONE: ("erased", "delivered"),
}
NO_REASON = "Give a reason. Relay keeps it, with who did this and when."


@blueprint.get("/suppressions")
@login_required  # type: ignore[untyped-decorator]
def suppressions() -> str:
    """The latest, addresses masked."""
    latest = [
        {**row, "address": masks.address(row["address"]), "kind": KINDS[row["channel"]]}
        for row in ledger_suppressions.latest(services().db)
    ]
    return page(
        "suppressions.html", latest=latest, erasures=[*map(_told, erasures.latest(services().db))]
    )


def _told(erasure: Mapping[str, Any]) -> Mapping[str, Any]:
    """One of the last erasures, with its state in a word and the look of that."""
    outcome = erasure["outcome"] or {}
    is_whole = not (outcome.get("left") or outcome.get("refused"))
    stands, look = ERASURES[erasure["state"]] if is_whole else ("incomplete", "held")
    return {**erasure, "stands": stands, "look": look}


@blueprint.post("/suppressions")
@login_required  # type: ignore[untyped-decorator]
def suppression() -> Any:
    """Look an address up, and add or lift it. It is in no link and no log: only in what is posted.

    Pressed twice, the second says how it stands by now.
    """
    channel, address, refused = posted()
    if refused:
        return refused
    act, note = request.form.get("act", "find"), written_note()
    wrong = ""
    if act in _ACTS and not note:
        wrong = NO_REASON
    elif act in _ACTS:
        flash(_ACTS[act](channel, address, note))
    return _one(channel, address, wrong), 400 if wrong else 200


def posted() -> tuple[str, str, Any]:
    """The channel and the address that a form names, and the answer where it is none."""
    written = request.form.get("address", "").strip()[:320]
    channel = channels.channel_of(written)
    judged = channels.CHECKS[channel](written)
    if not judged.reason:
        return channel, judged.address, None
    wrong = judged.reason if written else "Write a UK mobile number or an email address."
    return channel, "", (page("suppression.html", written=written, wrong=wrong), 400)


def _one(channel: str, address: str, wrong: str) -> str:
    db = services().db
    found = [
        row for row in ledger_suppressions.suppressed(db, address) if row["channel"] == channel
    ]
    return page(
        "suppression.html",
        written=address,
        wrong=wrong,
        kind=KINDS[channel],
        found=found[0] if found else None,
        past=audit.audit_of(db, target(channel, address)),
        acts=ACTS,
        list_=LISTS[channel] if found and found[0]["source"] != ledger_suppressions.STAFF else "",
    )


def _add(channel: str, address: str, note: str) -> str:
    act = my_act("suppress", target(channel, address))
    added = ledger_suppressions.suppress(
        services().db, channel, address, ledger_suppressions.STAFF, act, note
    )
    return stopped_words(channel, added=added)


def stopped_words(channel: str, *, added: bool) -> str:
    """That an address was stopped, or had been."""
    return f"{KINDS[channel]} to this address {'are stopped' if added else 'were already stopped'}."


def _lift(channel: str, address: str, note: str) -> str:
    act = my_act("unsuppress", target(channel, address), note)
    if not ledger_suppressions.unsuppress(services().db, channel, address, act=act):
        return f"{KINDS[channel]} to this address are not stopped."
    return f"{KINDS[channel]} to this address go out again."


_ACTS = {"add": _add, "lift": _lift}


def target(channel: str, address: str) -> str:
    """What the audit trail calls an address: by it nobody finds the address, but the address it."""
    return masks.target(services().settings.secret_key, channel, address)


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
    found = erasures.find(services().db, id_) or abort(404)
    is_done = found["state"] == erasures.DONE
    return page(
        "erased.html",
        it=found,
        is_done=is_done,
        counts=erase.phrases(found["outcome"]["counts"]) if is_done else [],
        alive=is_done or workers.workers_alive(services().db),
        again="" if is_done else f"{url_for('desk.erased', id_=id_)}?{auth.AGAIN}=1",
    )


def _shown(channel: str, address: str, wrong: str) -> str:
    counts = queries.count_by_address(services().db, channel, address)
    return page(
        "erasure.html",
        written=address,
        counts=erase.phrases(counts),
        wrong=wrong,
        stays=erase.STAYS,
        beyond=erase.OUT_OF_REACH,
    )


def _asked(channel: str, address: str, note: str, *, stop: bool) -> Any:
    app = services()
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
