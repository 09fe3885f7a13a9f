"""The desk's opt-outs, and the erasure of one person.

A worker erases, since searching every table takes longer than a page may. The address is only in
posted forms, never in a link or a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.jobs import erase
from relay.ledger import audit, workers
from relay.ledger.audit import ACT_WORDS
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.removal import erasures
from relay.ledger.views import queries
from relay.privacy import masks
from relay.rules.addresses import ANYWHERE
from relay.rules.channels import CHANNELS, channel_of, sharing, stop_lists, words_of
from relay.staff.looks import LOOKED_UP
from relay.staff.roles import ACT, LOOK, MANAGE
from relay.staff.whom import Meant, NobodyMeant, whom
from relay.web.desk import layout
from relay.web.desk.layout import (
    actor,
    allow_only,
    blueprint,
    my_act,
    note_look,
    page,
    requires,
    written_note,
)
from relay.web.services import services

ERASURES = {
    erasures.WAITING: ("waiting", "created"),
    erasures.RUNNING: ("under way", "sending"),
    erasures.DONE: ("erased", "delivered"),
}
NO_REASON = "Give a reason. Relay keeps it, with who did this and when."


@blueprint.get("/suppressions")
@requires(LOOK)
def suppressions() -> str:
    """The latest opt-outs and erasures, addresses masked."""
    with services().db.read() as connection:
        stopped = ledger_suppressions.latest(connection)
        asked = erasures.latest(connection)
    latest = [
        {**row, "address": masks.address(row["address"]), "kind": CHANNELS[row["channel"]].title}
        for row in stopped
    ]
    return page("suppressions.html", latest=latest, erasures=[*map(summary, asked)])


def summary(erasure: Mapping[str, Any]) -> Mapping[str, Any]:
    """An erasure, with its state in a word and how to show it."""
    outcome = erasure["outcome"] or {}
    is_whole = not (outcome.get("left") or outcome.get("refused"))
    stands, look = ERASURES[erasure["state"]] if is_whole else ("incomplete", "held")
    return {**erasure, "stands": stands, "look": look}


@blueprint.post("/suppressions")
@requires(LOOK)
def suppression() -> Any:
    """Look an address up, and stop it or lift its stop. Only the posted form ever has the address.

    After a second press the answer says how it stands.
    """
    channel, address, refused = posted()
    if refused:
        return refused
    act, note = request.form.get("act", "find"), written_note()
    wrong = ""
    if act in _ACTS:
        allow_only(ACT)
    else:
        note_look(LOOKED_UP, target(channel, address), "suppressions")
    if act in _ACTS and not note:
        wrong = NO_REASON
    elif act in _ACTS:
        flash(_ACTS[act](channel, address, note))
    return _one(channel, address, wrong), 400 if wrong else 200


def posted() -> tuple[str, str, Any]:
    """The channel and address in a form, and the answer to give if it is not an address."""
    written = request.form.get("address", "").strip()[:320]
    channel = channel_of(written)
    judged = CHANNELS[channel].address.judge_in(ANYWHERE, written)
    if not judged.reason:
        return channel, judged.address, None
    wrong = judged.reason if written else "Write a UK mobile number or an email address."
    return channel, "", (page("suppression.html", written=written, wrong=wrong), 400)


def _one(channel: str, address: str, wrong: str) -> str:
    with services().db.read() as connection:
        stopped = ledger_suppressions.suppressed(connection, address)
        past = audit.audit_of(connection, target(channel, address))
    found = [row for row in stopped if row["channel"] in sharing(channel)]
    return page(
        "suppression.html",
        written=address,
        wrong=wrong,
        kind=words_of(channel),
        found=found[0] if found else None,
        past=past,
        acts=ACT_WORDS,
        lists=stop_lists(
            row["channel"] for row in found if row["source"] != ledger_suppressions.STAFF
        ),
    )


def stop(channel: str, address: str, note: str) -> str:
    """Stop messages to an address, and record who did; return what to say about it."""
    act = my_act("suppress", target(channel, address))
    with services().db.write() as connection:
        added = ledger_suppressions.suppress(
            connection, channel, address, ledger_suppressions.STAFF, act, note
        )
    return stopped_words(channel, added=added)


def stopped_words(channel: str, *, added: bool) -> str:
    """A sentence: an address was stopped, or had been already."""
    return (
        f"{words_of(channel)} to this address {'are stopped' if added else 'were already stopped'}."
    )


def _lift(channel: str, address: str, note: str) -> str:
    act = my_act("unsuppress", target(channel, address), note)
    with services().db.write() as connection:
        lifted = ledger_suppressions.unsuppress(connection, channel, address, act=act)
    if not lifted:
        return f"{words_of(channel)} to this address are not stopped."
    return f"{words_of(channel)} to this address go out again."


_ACTS = {"add": stop, "lift": _lift}


def target(channel: str, address: str) -> str:
    """The audit trail's name for an address: made from the address, which it does not reveal."""
    return masks.target(services().settings.secret_key, channel, address)


@blueprint.post("/erasure")
@requires(MANAGE)
def erasure() -> Any:
    """Show what would be erased, or have it erased if that button was pressed.

    A second press leads to the same page.
    """
    written = request.form.get("address", "").strip()[:320]
    try:
        with services().db.read() as connection:
            meant = whom(connection, written)
    except NobodyMeant as error:
        return page("suppression.html", written=written, wrong=f"{error} {error.remedy}"), 400
    note, is_pressed = written_note(), request.form.get("act") == "erase"
    if not is_pressed:
        note_look(LOOKED_UP, target(meant.channel or "person", meant.address), "erasure")
    if is_pressed and note:
        return _asked(meant, note, stop=bool(request.form.get("stop") and meant.channel))
    wrong = NO_REASON if is_pressed else ""
    return _shown(written, meant, wrong), 400 if wrong else 200


@blueprint.get("/erasure/<id_>")
@requires(MANAGE)
def erased(id_: str) -> str:
    """The progress of an erasure, and its result once it is done."""
    with services().db.read() as connection:
        found = erasures.find(connection, id_) or abort(404)
        alive = workers.workers_alive(connection)
    is_done = found["state"] == erasures.DONE
    return page(
        "erased.html",
        it=found,
        is_done=is_done,
        counts=erase.phrases(found["outcome"]["counts"]) if is_done else [],
        alive=is_done or alive,
        again="" if is_done else f"{url_for('desk.erased', id_=id_)}?{layout.AGAIN}=1",
    )


def _shown(written: str, meant: Meant, wrong: str) -> str:
    channel, address = meant.channel, meant.address
    with services().db.read() as connection:
        counts = queries.count_by_address(connection, channel, address) if channel else {}
    return page(
        "erasure.html",
        written=address if channel else written,
        by_address=bool(channel),
        names=sorted(masks.name(" ".join(name)) for name in meant.person.names),
        counts=erase.phrases(counts),
        wrong=wrong,
        stays=erase.STAYS,
        beyond=erase.OUT_OF_REACH,
    )


def _asked(meant: Meant, note: str, *, stop: bool) -> Any:
    app, channel, address = services(), meant.channel, meant.address
    id_, stopped = erasures.ask(
        app.db,
        channel,
        address,
        target=target(channel or "person", address),
        actor=actor(),
        note="" if meant.person.is_in(note) else note,
        known=None if channel else erase.beginning(meant.person),
        stop=stop,
    )
    if stop:
        flash(stopped_words(channel, added=stopped))
    app.waker.wake()
    return redirect(url_for("desk.erased", id_=id_), 303)
