"""The desk's system page: what works, what waits, which versions run; and the audit trail."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response, request

from relay import __version__
from relay.ledger import audit as ledger_audit
from relay.ledger import migrate
from relay.ledger.audit import ACT_WORDS
from relay.ledger.database import Connection
from relay.ledger.holds import pauses as ledger_pauses
from relay.ledger.holds.allowances import spent
from relay.ledger.schema import REVISION
from relay.ledger.views import status
from relay.ledger.worklist import cases
from relay.privacy import masks
from relay.rules.channels import CHANNELS
from relay.rules.schedule import midnight
from relay.staff import access
from relay.staff.looks import ACCESS
from relay.staff.roles import LOOK, MANAGE
from relay.web import health
from relay.web.desk.attention import held_up
from relay.web.desk.layout import blueprint, note_look, page, requires
from relay.web.services import services

# The parts that /readyz checks, and what it means that each works.
PARTS = {
    "ledger": ("Ledger", "The database can be read and written."),
    "migrations": ("Schema", "The tables match this version of Relay."),
    "redis": ("Redis", "Wake-ups reach workers at once."),
    "workers": ("Workers", "At least one worker is running."),
    "config": ("Configuration", "config.toml and the templates have no mistakes."),
}
MODES = {
    "dry-run": "Messages are kept here and not sent.",
    "allow-list": "Only addresses on the allow list get messages.",
    "live": "Everybody gets their messages.",
}


@blueprint.get("/system")
@requires(LOOK)
def system() -> str:
    """The state of each part, of the queue, the providers and the workers."""
    app = services()
    down = health.down()
    parts = [
        {"name": name, "said": down.get(part, works), "works": part not in down}
        for part, (name, works) in PARTS.items()
    ]
    with app.db.read() as connection:
        workers, queue = status.workers(connection), status.queue(connection)
        held = [*held_up(connection, cases.open_kinds(connection))]
        providers, database = _providers(connection), status.server(connection)
    return page(
        "system.html",
        parts=parts,
        held_up=held,
        queue=queue,
        workers=workers,
        swept=max((row["swept_at"] for row in workers if row["swept_at"]), default=None),
        delivery=(app.settings.delivery, MODES[app.settings.delivery]),
        providers=providers,
        versions=_versions(database),
    )


def _providers(connection: Connection) -> list[Mapping[str, Any]]:
    app = services()
    settings, delivery = app.settings, app.config.delivery
    pauses = {row["channel"]: row for row in ledger_pauses.paused(connection)}
    return [
        {
            "kind": row.title,
            "name": row.provider.name,
            "pause": pauses.get(channel),
            "ready": settings.accounts[channel],
            "rate": delivery.rates[channel],
            "receipts": settings.receipts[channel],
            "receipts_need": row.provider.receipts,
            "today": spent(connection, channel, _midnight()),
            "limit": delivery.daily_sms_limit if row.in_segments else None,
        }
        for channel, row in CHANNELS.items()
    ]


def _midnight() -> datetime:
    return midnight(datetime.now(UTC), services().config.clinic.timezone)


def _versions(database: str) -> Mapping[str, str]:
    revision = migrate.revision(services().db) or "none"
    return {
        "Relay": __version__,
        "Python": platform.python_version(),
        "Database": database,
        "Schema": f"{revision} (this version works with {REVISION})",
    }


AT_ONCE = 50
EVER = datetime(1970, 1, 1, tzinfo=UTC)


@blueprint.get("/audit")
@requires(MANAGE)
def audit() -> str:
    """The latest lines of the audit trail, or the lines before a given one."""
    before = request.args.get("before", "").replace("\0", "")[:40]
    with services().db.read() as connection:
        rows = ledger_audit.audit_before(connection, before, AT_ONCE + 1)
    older = rows[AT_ONCE - 1]["id"] if len(rows) > AT_ONCE else ""
    return page("audit.html", rows=rows[:AT_ONCE], older=older, before=before, acts=ACT_WORDS)


@blueprint.post("/audit")
@requires(MANAGE)
def who_looked() -> str:
    """Who has looked at one person or kit, or acted on them."""
    app, written = services(), request.form.get("about", "").strip().replace("\0", "")[:255]
    with app.db.read() as connection:
        rows = access.of(connection, app.settings, written)
    mark = masks.target(app.settings.secret_key, "person", written)
    note_look(ACCESS, mark, f"{len(rows or ())} lines")
    said = "Relay knows no such person or kit." if rows is None else f"{len(rows)} lines about it."
    return page("audit.html", rows=rows or [], older="", before="", acts=ACT_WORDS, about=said)


@blueprint.get("/audit.csv")
@requires(MANAGE)
def trail_file() -> Response:
    """The whole audit trail as CSV for a spreadsheet, line by line."""
    note_look(ACCESS, "audit.csv", "the whole trail")

    def lines() -> Iterator[str]:
        with app.db.read() as connection:
            yield access.csv_line(access.FIELDS)
            for row in ledger_audit.all_lines(connection, EVER):
                yield access.csv_line(access.for_programs(row).values())

    app = services()
    return Response(lines(), mimetype="text/csv")
