"""Commands for things that need a person: `cases`, `case`, and `resend` a message."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.config.settings import Settings
    from relay.ledger.database import Database
    from relay.staff.case_acts import Offer

_NOTE = "What you did or why, for the record. No names or numbers, please."


@click.command("cases")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--kind", help="Only this kind of case, such as unreached or held.")
@click.option("--all", "with_closed", is_flag=True, help="Closed cases too, the latest first.")
def list_cases(as_json: bool, kind: str | None, with_closed: bool) -> None:
    """List the worklist: what needs a person, and what can be done about each case.

    What goes out by itself comes first, then the oldest. No names, no addresses.
    """
    from relay.ledger.worklist import cases
    from relay.rules.alerts import KINDS
    from relay.staff import case_acts

    if kind:
        context.known(kind, KINDS, "kind of case")
    found = context.settings()
    with context.ledger(found) as db, db.read() as connection:
        config = config_or_none(found, db)
        listed = cases.open_cases(connection, kind or "", None, with_closed=with_closed)
        rows = [*case_acts.offers(connection, config, listed)]
    if as_json:
        for case, offer in rows:
            fields = {**{name: case[name] for name in _FIELDS}, "acts": [*offer.acts]}
            click.echo(json.dumps(fields, default=datetime.isoformat))
    elif rows:
        click.echo(_LINE.format("OPENED", "ID", "KIND", "COUNT", "STATE", "ACTS"))
        for case, offer in rows:
            click.echo(case_lines(case, offer))
    else:
        click.secho("Nothing is on the worklist.", fg="green")


_LINE = "{:<20} {:<33} {:<10} {:>5}  {:<6}  {}"
_FIELDS = ("id", "kind", "subject", "reason", "count", "opened_at", "closed_at")


def case_lines(case: Mapping[str, Any], offer: Offer) -> str:
    """A case for people: a line of the table, and below it its subject and reason."""
    opened = case["opened_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    state = "closed" if case["closed_at"] else "open"
    cells = (opened, case["id"], case["kind"], case["count"], state, ", ".join(offer.acts))
    why_not = offer.why_not and f"Not to be sent again: {offer.why_not}"
    why = (case["subject"], case["reason"], why_not)
    return "\n".join((_LINE.format(*cells).rstrip(), f"  {'  '.join(filter(None, why))}"))


@click.command("case")
@click.argument("case_id", metavar="ID")
@click.argument("act")
@click.option("--note", help=f"{_NOTE} `close` needs one.")
@click.option("--at-once", is_flag=True, help="Send an answer outside the send window too.")
def act_on_case(case_id: str, act: str, note: str | None, at_once: bool) -> None:
    """Do ACT about the case ID, as the button on the desk does, and close the case.

    ACT is one that `flask relay cases` shows for it: close, release, stop, resend, replay, send or
    believe. To `send` the answer to a text, write it on standard input, since what a command is
    started with is logged.
    """
    from relay.ledger.worklist import cases
    from relay.rules.replies import REPLY
    from relay.staff import case_acts

    found = context.settings()
    with context.ledger(found) as db:
        config = config_or_none(found, db)
        with db.read() as connection:
            case = cases.get_case(connection, case_id)
        if case is None:
            remedy = "`flask relay cases` lists those that are open."
            context.stop(Problem("there is no such case.", key=case_id, remedy=remedy))
        needs_note = act == case_acts.CLOSE and case["closed_at"] is None
        written = written_note(note) if needs_note else (note or "").strip()
        is_answer = act == case_acts.SEND and case["kind"] == REPLY and not case["closed_at"]
        words = written_answer(config) if is_answer else ""
        with context.doing(case_id), db.write() as connection:
            said = case_acts.see_to(
                connection, config, case, act, by="cli", note=written, words=words, at_once=at_once
            )
    context.wake_worker(found)
    click.secho(said, fg="green")


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--note", help=f"{_NOTE} Relay asks for it on a terminal.")
def resend(message_id: str, note: str | None) -> None:
    """Send a message (msg_…) again, to the address that the lab has now, also if it was delivered.

    It is sent by a message of its own, which is made by its rule as it is now; its id is printed.
    If the message is out of date, or the person has opted out, nothing is sent. To send it a third
    time, resend the new message.
    """
    from relay.staff import send_again

    written = written_note(note)
    with context.opened() as (config, db), context.doing(message_id), db.write() as connection:
        made = send_again.send_again(connection, config, message_id, by="cli", note=written)
    context.wake_worker(config.settings)
    click.secho(f"{made} sends it again.", fg="green")


def is_terminal() -> bool:
    """Whether standard input is a terminal, so that Relay can ask questions."""
    return sys.stdin.isatty()


def written_note(note: str | None) -> str:
    """The note given, or else one typed on a terminal. Exits with 2 if there is none."""
    if note is None and is_terminal():
        note = str(click.prompt("Note, for the record (no names or numbers, please)", err=True))
    if not (written := (note or "").strip()):
        raise click.UsageError('Write why, for the record: --note "…".')
    return written[:500]


def written_answer(config: Config | None) -> str:
    """The answer to a text, from the terminal or standard input. Prints each caution about it as a
    warning.
    """
    from relay.staff import answers

    words = click.prompt("Answer", err=True) if is_terminal() else sys.stdin.read()
    for caution in answers.draft(config, words).cautions if config else ():
        context.show(Problem(caution, warning=True))
    return str(words)


def config_or_none(found: Settings, db: Database) -> Config | None:
    """The configuration; None, and a warning, if it has a mistake, since that is a case too."""
    try:
        return context.rules_in_use(found, db)
    except ConfigError:
        remedy = "Run `flask relay check`. Until then no message can be tried again."
        context.show(Problem("it has a mistake.", "config.toml", remedy=remedy, warning=True))
        return None
