"""The desk's letters: a text to all who had a rule's message on a day; kept, then sent once."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, request, url_for

from relay.ledger import letters as ledger_letters
from relay.ledger.audit import NotDone
from relay.ledger.letters import Letter
from relay.messages import sms_segments
from relay.rules.channels import CHANNELS
from relay.staff import letters
from relay.staff.roles import ACT
from relay.web.desk.layout import actor, blueprint, my_act, page, requires
from relay.web.services import services


@blueprint.get("/letters")
@requires(ACT)
def letters_page() -> str:
    """The letters that wait, and for a rule and a day how many people one would go to."""
    return _page(request.args)


@blueprint.post("/letters")
@requires(ACT)
def see_to_letters() -> Any:
    """Keep a letter, send one that waits, or throw it away."""
    app, act = services(), request.form.get("act")
    try:
        with app.db.write() as connection:
            if act == "write":
                rule, day, edition = _wanted(request.form)
                to = letters.readers(connection, app.config, rule, day, edition)
                subject = request.form.get("subject", "").strip()[:200]
                made = letters.judged(app.config, subject, request.form.get("words", ""), to)
                what = {"rule": rule, "day": day, "edition": edition, "subject": subject}
                ledger_letters.write(connection, actor(), **what, words=made.words)
                flash("Kept. Nothing goes out before somebody sends it, below.")
            elif act == "send":
                many = letters.send(connection, app.config, _letter(connection), actor())
                flash(f"On its way to {many:,} people, within the hours for messages.")
            elif act == "drop":
                letter = _letter(connection)
                ledger_letters.close(connection, letter, my_act(ledger_letters.DROP, letter.id))
                flash("Thrown away. Nobody gets it.")
            else:
                abort(404)
    except NotDone as error:
        flash(str(error))
        return _page(request.form)
    return redirect(url_for("desk.letters_page"))


def _page(given: Any) -> str:
    app, (rule, day, edition) = services(), _wanted(given)
    to, why = None, ""
    with app.db.read() as connection:
        unsent = [
            (one, _people(connection, one), sms_segments.size(one.words))
            for one in ledger_letters.listed(connection)
        ]
        try:
            to = letters.readers(connection, app.config, rule, day, edition) if rule else None
        except NotDone as error:
            why = str(error)
    return page(
        "letters.html",
        unsent=unsent,
        rules=[one.name for one in app.config.rules],
        rule=rule,
        day=day,
        edition=edition,
        people=None if to is None else len(to),
        by_channel=_by_channel(to or {}),
        by_email=letters.has_subject(to or {}),
        words=given.get("words", ""),
        subject=given.get("subject", ""),
        why=why,
        longest=letters.LONGEST,
        second=app.config.desk.second_person,
        mine=actor(),
    )


def _letter(connection: Any) -> Letter:
    wanted = request.form.get("letter")
    found = (one for one in ledger_letters.listed(connection) if one.id == wanted)
    return next(found, None) or abort(404)


def _people(connection: Any, letter: Letter) -> str:
    try:
        given = (letter.rule, letter.day, letter.edition)
        to = letters.readers(connection, services().config, *given)
    except NotDone as error:
        return str(error)
    return _by_channel(to) or "nobody"


def _by_channel(to: Any) -> str:
    """A number of messages in words: 31 texts and 2 emails."""
    ways = [one.channel for one in to.values()]
    return " and ".join(CHANNELS[way].many(ways.count(way)) for way in CHANNELS if way in ways)


def _wanted(given: Any) -> tuple[str, str, int | None]:
    """The rule, the day and the edition whose messages the form means."""
    edition = given.get("edition", "")
    number = int(edition) if edition.isdecimal() else None
    return given.get("rule", ""), given.get("day", ""), number
