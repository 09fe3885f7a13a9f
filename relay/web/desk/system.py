"""The desk's system page: what works, what waits, which versions run; and the audit trail."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import request
from flask_login import login_required

from relay import __version__
from relay.ledger import audit as ledger_audit
from relay.ledger import cases, migrate
from relay.ledger import pauses as ledger_pauses
from relay.ledger.allowances import spent
from relay.ledger.database import Connection
from relay.ledger.schema import REVISION
from relay.ledger.views import status
from relay.rules.channels import CHANNELS
from relay.rules.schedule import midnight
from relay.web import health
from relay.web.desk.attention import held_up
from relay.web.desk.layout import ACT_WORDS, blueprint, page
from relay.web.services import services

# What /readyz asks, and what it means that it works.
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
@login_required  # type: ignore[untyped-decorator]
def system() -> str:
    """The state of each part, of the queue, providers and workers."""
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


@blueprint.get("/audit")
@login_required  # type: ignore[untyped-decorator]
def audit() -> str:
    """The latest lines of the audit trail, or those before a given one."""
    before = request.args.get("before", "").replace("\0", "")[:40]
    with services().db.read() as connection:
        rows = ledger_audit.audit_before(connection, before, AT_ONCE + 1)
    older = rows[AT_ONCE - 1]["id"] if len(rows) > AT_ONCE else ""
    return page("audit.html", rows=rows[:AT_ONCE], older=older, before=before, acts=ACT_WORDS)
