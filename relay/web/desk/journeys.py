"""The desk's journeys: find a kit, and see everything that happened to it. Personal data is masked
until somebody asks for it, and Relay records who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.lab.events import EVENTS, STAGES
from relay.lab.facts import PERSONS, Facts, full_name, readings, search_key
from relay.ledger import audit, replay
from relay.ledger.audit import NotDone
from relay.ledger.database import Connection
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.views import queries, status, trail
from relay.ledger.views.status import Blockers
from relay.ledger.views.trail import Trail
from relay.privacy import masks
from relay.rules.addresses import ANYWHERE, AddressKind
from relay.rules.channels import CHANNELS, begun, channels_to, kind_of, sharing
from relay.rules.statuses import FAILED, GONE, HELD, MESSAGE, RECEIVED, RESENT, WAITING
from relay.staff import send_again, words
from relay.staff.explain import (
    NOT_ALL,
    Clock,
    Line,
    clock,
    is_kept,
    named,
    tell_case,
    tell_decisions,
    tell_event,
    tell_message,
    tell_unprocessed,
)
from relay.staff.looks import OPENED, REVEAL, SEARCH
from relay.staff.roles import ACT, LOOK
from relay.web.desk import suppressions
from relay.web.desk.causes import ShownDraft, waiting_drafts
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
from relay.web.desk.suppressions import NO_REASON
from relay.web.services import services

Row = Mapping[str, Any]
_LONGEST = 255
UNPROCESSED = (RECEIVED, HELD)
_KINDS = {name: row.label for name, row in CHANNELS.items()}


@blueprint.get("/journeys")
@requires(LOOK)
def journeys() -> str:
    """Ask what to look for."""
    return page("journeys.html")


@blueprint.post("/journeys")
@requires(LOOK)
def search() -> Any:
    """The results. A POST, since logs keep the names and numbers that are in an address."""
    wanted = request.form.get("q", "").strip()[:_LONGEST]
    wanted = wanted.replace("\0", "")
    if not wanted:
        return redirect(url_for("desk.journeys"))
    kind = kind_of(wanted)
    with services().db.read() as connection:
        if known := trail.find(connection, wanted):
            return redirect(url_for("desk.journey", kit=_kit(known)))
        if kind:
            found, more, reason = by_address(connection, kind, wanted)
        else:
            found, more, reason = _by_name(connection, wanted)
    way = channels_to(kind)[0] if kind else "name"
    meant = kind.judge_in(ANYWHERE, wanted).address if kind else wanted
    target = masks.target(services().settings.secret_key, way, meant)
    note_look(SEARCH, target, f"{len(found)} found", (one.subject for one in found))
    shown = [
        {**vars(one), "who": masks.name(one.person), "title": words.step(one.event)}
        for one in found
    ]
    return page(
        "journeys.html", q=wanted, found=shown, more=more, reason=reason, as_address=bool(kind)
    )


def _by_name(connection: Connection, wanted: str) -> tuple[list[queries.Found], bool, str]:
    ways = readings(wanted)
    found, more = queries.find_by_name(connection, ways) if ways else ([], False)
    return found, more, ""


def by_address(
    connection: Connection, kind: AddressKind, wanted: str
) -> tuple[list[queries.Found], bool, str]:
    """Kits by an address; whether there may be more; why there can be none. The text may have been
    meant as an id, although it looks like an address.
    """
    judged = kind.judge_in(ANYWHERE, wanted)
    if judged.reason:
        return [], False, f"There is no such id; and as {kind.name}: {judged.reason}"
    found, more = queries.find_by_address(connection, channels_to(kind)[0], judged.address)
    return found, more, ""


@blueprint.get("/journey")
@requires(LOOK)
def journey() -> str:
    """One kit as a timeline, with personal data masked."""
    found = trails(request.args.get("kit", ""))
    others = _others(found)
    note_look(OPENED, _kit(found), "masked", (one.subject for one in others))
    return _timeline(found, frozenset(), others)


@blueprint.post("/journey")
@requires(ACT)
def reveal() -> str:
    """The kit's page unmasked: names and all messages to people, or only one message.

    The page keeps nothing: when opened again it is masked again.
    """
    found, only = trails(request.form.get("kit", "")), request.form.get("message", "")
    kit = _kit(found)
    messages = [row for one in found for row in one.messages]
    shown = {row["id"] for row in messages if (row["id"] == only if only else is_personal(row))}
    if only and not shown:
        abort(404)
    others = _others(found)
    if (reason := reason_for()) is None:
        return _timeline(found, frozenset(), others)
    about = f"kit {kit}" if only else f"{len(shown)} messages and the names"
    note_look(REVEAL, only or kit, about + reason, (one.subject for one in others))
    flash(SHOWN)
    return _timeline(found, frozenset(shown), others, names=not only)


@blueprint.post("/journey/again")
@requires(ACT)
def send_message_again() -> Any:
    """Repeat a message by a new one, to the address that the lab has now; or take the new one back
    while it waits.
    """
    app, id_, act = services(), request.form.get("message", ""), request.form.get("act")
    kit, by, note = _kit(trails(id_)), actor(), written_note()
    try:
        with app.db.write() as connection:
            if act == UNDO:
                send_again.take_back(connection, id_, by=by)
                flashed = ("Taken back: it does not go out.", "message")
            else:
                wait = send_again.seconds_to_undo()
                made = send_again.send_again(
                    connection, app.config, id_, by=by, note=note, wait=wait
                )
                said = "Relay is sending it again, by a message of its own: see below."
                flashed = (said, f"{UNDO} {made}")
        app.waker.wake()
        flash(*flashed)
    except NotDone as error:
        flash(str(error))
    return redirect(url_for("desk.journey", kit=kit))


@blueprint.post("/journey/stop")
@requires(ACT)
def stop_address() -> Any:
    """Stop messages to a message's address, without showing the address."""
    found = trails(id_ := request.form.get("message", ""))
    rows = (row for one in found for row in one.messages if row["id"] == id_ and row["address"])
    row, note = next(rows, None) or abort(404), written_note()
    channel = sharing(row["channel"])[0]
    flash(suppressions.stop(channel, row["address"], note) if note else NO_REASON)
    return redirect(url_for("desk.journey", kit=_kit(found)))


@blueprint.post("/journey/ask")
@requires(ACT)
def ask_the_lab() -> Any:
    """Try an event at once that waits for the lab or is held."""
    app, id_ = services(), request.form.get("event", "")
    found = trails(id_)
    if not any(one.event["id"] == id_ and one.event["status"] in UNPROCESSED for one in found):
        abort(404)
    with app.db.write() as connection:
        done = replay.try_now(connection, id_) or replay.replay_event(connection, id_)
        audit.keep(connection, my_act("replay", id_) if done else None)
    app.waker.wake()
    flash("Relay is asking the lab." if done else "Relay has just tried it. Wait a minute.")
    return redirect(url_for("desk.journey", kit=_kit(found)))


def is_personal(row: Row) -> bool:
    """Whether a message is to a person. Staff's may name other kits too: reveal them one by one."""
    return row["role"] in PERSONS


def trails(written: str) -> Sequence[Trail]:
    """The whole journey of the kit that an id leads to: its own, an event's or a message's."""
    wanted = written.replace("\0", "")[:_LONGEST]
    with services().db.read() as connection:
        return trail.find_kit(connection, wanted) or abort(404)


def _kit(found: Sequence[Trail]) -> str:
    """The kit of the events found; the first event's id if no kit is known yet."""
    subjects = filter(None, (one.event["subject"] for one in found))
    return str(next(subjects, found[0].event["id"]))


def _others(found: Sequence[Trail]) -> list[queries.Found]:
    """The other kits of the person whom the last event with a name is about."""
    all_facts = (Facts.from_json(one.event["facts"]) for one in reversed(found))
    facts = next(filter(search_key, all_facts), Facts())
    subjects = {one.event["subject"] for one in found} - {None}
    with services().db.read() as connection:
        return queries.other_kits(connection, facts, subjects)


def _timeline(
    found: Sequence[Trail],
    shown: frozenset[str],
    others: Sequence[queries.Found],
    *,
    names: bool = False,
) -> str:
    config = services().config
    zone, most_texts = config.clinic.timezone, config.delivery.daily_sms_limit
    at = clock(zone)
    whole = [full_name(Facts.from_json(one.event["facts"])) for one in found]
    persons = [who if names else masks.name(who) for who in dict.fromkeys(filter(None, whole))]
    over = [row["id"] for one in found for row in one.messages if _is_over(row)]
    with services().db.read() as connection:
        blockers = status.blockers(connection, zone, most_texts)
        objections = send_again.objections(connection, config, over)
        unsent = [row["id"] for one in found for row in one.messages if _waits(row)]
        drafts = {one.held.id: one for one in waiting_drafts(connection, unsent, shown)}
        stopped = {
            (row["channel"], row["address"]): row
            for address in {row["address"] for one in found for row in one.messages} - {""}
            for row in ledger_suppressions.suppressed(connection, address)
        }
    steps = [_shown(one, at, blockers, shown, objections, drafts) for one in found]
    waits = tell_unprocessed(found, at, blockers)
    return page(
        "journey.html",
        track=[*_track(found)],
        others=others,
        kinds=_KINDS,
        kit=_kit(found),
        persons=persons,
        not_all=NOT_ALL,
        unprocessed=[
            {"title": words.step(one["name"]), "id": one["id"], "said": said} for one, said in waits
        ],
        steps=steps[::-1],
        revealed=names,
        stopped={
            row["id"]: stopped.get((sharing(row["channel"])[0], row["address"]))
            for one in found
            for row in one.messages
        },
        config=config,
    )


def _track(found: Sequence[Trail]) -> Iterator[Row]:
    """Yield a kit's steps: when each last came, and the messages to people about it."""
    stage_of = {name: kind.stage for name, kind in EVENTS.items()}
    for stage in STAGES:
        came = [one for one in found if stage_of.get(one.event["name"]) == stage]
        yield {
            "title": begun(stage),
            "at": came[-1].event["received_at"] if came else None,
            "messages": [
                {**row, "is_kept": is_kept(row)}
                for one in came[-1:]
                for row in one.messages
                if row["role"] in PERSONS
            ],
        }


def _waits(row: Row) -> bool:
    """Whether a rule's message is still to be written."""
    return row["kind"] in (MESSAGE, RESENT) and row["status"] in WAITING


def _is_over(row: Row) -> bool:
    """Whether a rule's message has gone out or failed: somebody may want it sent again."""
    return row["kind"] in (MESSAGE, RESENT) and row["status"] in (*GONE, *FAILED)


def _shown(
    one: Trail,
    at: Clock,
    blockers: Blockers,
    shown: frozenset[str],
    objections: Mapping[str, str],
    drafts: Mapping[str, ShownDraft],
) -> Row:
    """A step of the timeline."""
    said = [*tell_event(one.event, at, blockers)][1:]
    return {
        **one.event,
        "title": words.step(one.event["name"]),
        "lines": plain([*said, *tell_decisions(one)]),
        "messages": [
            {
                **_message(
                    row,
                    [*tell_message(row, at, blockers, alert_words().title)][1:],
                    row["id"] in shown,
                ),
                "not_again": objections.get(row["id"]),
                "draft": drafts.get(row["id"]),
            }
            for row in one.messages
        ],
        "cases": [
            {"id": case["id"], "lines": plain(tell_case(case, at, alert_words().title))}
            for case in one.cases
        ],
    }


def _message(row: Row, said: Sequence[Line], revealed: bool) -> Row:
    address = row["address"]
    asks_address = row["kind"] == RESENT and row["status"] in WAITING and row["role"] in PERSONS
    return {
        **row,
        "kind": _KINDS.get(row["channel"], row["channel"]),
        "title": named(row, alert_words().title),
        "is_kept": is_kept(row),
        "lines": plain(said),
        "address": address if revealed else masks.address(address),
        "content": (row["content"] or {}) if revealed else None,
        "asks_address": asks_address,
        "can_undo": row["kind"] == RESENT and row["status"] in WAITING,
        "hides": bool(row["content"] or (address and not asks_address)) and not revealed,
    }


def plain(lines: Iterable[Line]) -> list[Line]:
    """Lines with the least indent removed."""
    found = list(lines)
    least = min((indent for indent, _ in found), default=0)
    return [(indent - least, text) for indent, text in found]
