"""`flask relay replay --kept`: sends what was only kept here, since delivery was dry-run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from relay.cli import context
from relay.errors import Problem

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.ledger.database import Database

PATIENCE = 60.0  # seconds for a worker that has taken some of them


def replay_kept(since: datetime, *, is_sure: bool) -> None:
    """Ask, send what is still true, and say how many went out."""
    from relay.lab.facts import PERSONS
    from relay.ledger import audit
    from relay.ledger import replay as ledger_replay

    settings = context.settings()
    if settings.delivery != "live":
        said = f"RELAY_DELIVERY is {settings.delivery}: they would only be kept here again."
        context.stop(Problem(said, "environment", remedy="Set RELAY_DELIVERY=live first."))
    with context.ledger(settings) as db:
        config = context.in_use(settings, db)
        with db.read() as connection:
            found = ledger_replay.kept(connection, settings.accounts)
        chosen = [one for one in found if one.created_at >= since]
        if older := len(found) - len(chosen):
            said = f"{older:,} older than {since:%Y-%m-%d %H:%M} UTC stay as they are."
            context.show(Problem(said, remedy="--since takes them too.", warning=True))
        if not chosen:
            click.echo("Nothing else was only kept here.")
            return
        many = Counter((one.rule, one.channel) for one in chosen)
        for (rule, channel), number in sorted(many.items()):
            click.echo(f"  {rule:<24} {channel:<6} {number:>7,}")
        people = len(
            {(one.subject, one.role) if one.role in PERSONS else one.address for one in chosen}
        )
        asked = f"Messages: {len(chosen):,}, to people: {people:,}. Send them now?"
        if not is_sure:
            click.confirm(f"{asked} Relay asks the lab again, and leaves what is old.", abort=True)
        ids = [one.id for one in chosen]
        with db.write() as connection:
            taken = ledger_replay.take_up_kept(connection, ids)
            audit.write_audit(connection, "cli", "replay", "", f"kept: {taken}")
        click.echo(outcome(send(config, db, ids)))


def send(config: Config, db: Database, ids: Sequence[str]) -> Counter[str]:
    """Send what is due, here and by the workers that run; how many messages have which status."""
    from relay.jobs.tasks import Jobs
    from relay.ledger import replay as ledger_replay
    from relay.worker.pump import Pump

    pump = Pump(Jobs(config, db))
    ends = time.monotonic() + PATIENCE
    try:
        while True:
            pump.drain(PATIENCE)
            with db.read() as connection:
                found = ledger_replay.statuses(connection, ids)
            if not found["sending"] or time.monotonic() > ends:
                return found
            time.sleep(0.5)
    finally:
        pump.stop()


def outcome(found: Counter[str]) -> str:
    """What became of them, in words."""
    out, wait = found["sent"] + found["delivered"], found["created"] + found["scheduled"]
    left = found.total() - out - wait
    said = [f"{out:,} went out."]
    if wait:
        said.append(f"{wait:,} wait: for their hour, for the lab, or for a stop to end.")
    if left:
        said.append(f"{left:,} did not: `flask relay list` says why.")
    return " ".join(said)
