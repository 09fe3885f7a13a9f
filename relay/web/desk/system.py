"""The desk's page about Relay itself: what works, what waits, who works, by which versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask_login import login_required

from relay import __version__
from relay.ledger import cases, migrate
from relay.ledger import pauses as ledger_pauses
from relay.ledger.schema import REVISION
from relay.ledger.views import status
from relay.rules.channels import CHANNELS
from relay.rules.schedule import midnight
from relay.web import health
from relay.web.desk.frame import blueprint, page
from relay.web.desk.needs import held_up
from relay.web.here import here

# What /readyz asks, and what it means that it works.
PARTS = {
    "ledger": ("Ledger", "The database takes and gives what it is asked for."),
    "migrations": ("Schema", "The database is as this version needs it."),
    "redis": ("Redis", "Workers are woken at once."),
    "workers": ("Workers", "At least one worker is alive."),
    "config": ("Configuration", "config.toml and the templates are right."),
}
PROVIDERS = {"sms": "Twilio", "email": "SendGrid"}
MODES = {
    "dry-run": "Messages are kept here and not sent.",
    "allow-list": "Only addresses on the allow list get messages.",
    "live": "Everybody gets their messages.",
}


@blueprint.get("/system")
@login_required  # type: ignore[untyped-decorator]
def system() -> str:
    """How Relay is."""
    app = here()
    down = health.down()
    parts = [
        {"name": name, "said": down.get(part, works), "works": part not in down}
        for part, (name, works) in PARTS.items()
    ]
    workers = status.workers(app.db)
    return page(
        "system.html",
        parts=parts,
        held_up=[*held_up(cases.open_kinds(app.db))],
        queue=status.queue(app.db),
        workers=workers,
        swept=max((row["swept_at"] for row in workers if row["swept_at"]), default=None),
        delivery=(app.settings.delivery, MODES[app.settings.delivery]),
        providers=_providers(),
        versions=_versions(),
    )


def _providers() -> list[Mapping[str, Any]]:
    app = here()
    settings, delivery = app.settings, app.config.delivery
    pauses = {row["channel"]: row for row in ledger_pauses.paused(app.db)}
    return [
        {
            **{"kind": CHANNELS[channel].title, "name": name, "pause": pauses.get(channel)},
            "ready": settings.accounts[channel],
            "rate": delivery.rates[channel],
            "receipts": settings.receipts[channel],
            "today": status.sent_since(app.db, channel, _midnight()),
            "limit": delivery.daily_sms_limit if channel == "sms" else None,
        }
        for channel, name in PROVIDERS.items()
    ]


def _midnight() -> datetime:
    return midnight(datetime.now(UTC), here().config.clinic.timezone)


def _versions() -> Mapping[str, str]:
    db = here().db
    return {
        "Relay": __version__,
        "Python": platform.python_version(),
        "Database": status.server(db),
        "Schema": f"{migrate.revision(db) or 'none'} (this version works with {REVISION})",
    }
