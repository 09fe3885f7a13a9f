"""A desk that is served on this machine as in production, over TLS, with the lab's example events
and a month behind it.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from relay.config.loader import Config, load
from relay.config.settings import Settings
from relay.dev.demo import serving
from relay.dev.lab_simulator import create_simulator
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger import audit, migrate, receipts, workers
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures as ledger_erasures
from relay.ledger.schema import attempts, days, erasures, notifications
from relay.ledger.views import daily_counts
from relay.ledger.views.daily_counts import Count
from relay.rules.model import Case
from relay.rules.receipts import Receipt
from relay.rules.schedule import ALWAYS
from relay.web import create_app
from relay.worker.pump import Pump
from tools.shots import cases

ROOT = Path(__file__).parent.parent.parent
PASSWORD, SECRET = "development", "demo"
ERASED, ERASING = "era_2", "era_1"
KIT = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"  # of the lab's examples
LAB_TOKEN = "shots"
PAGES = {
    "today": "/",
    "activity": "/activity",
    "letters": "/letters",
    "editions": "/editions",
    "going-live": "/going-live",
    "journeys": "/journeys",
    "journey": f"/journey?kit={KIT}",
    "worklist": "/worklist",
    "refused": "/worklist/refused",
    "unknown": "/worklist/unknown",
    "rules": "/rules",
    "rule": "/rule?name=kit-shipped",
    "stop": "/stop",
    "suppressions": "/suppressions",
    "erasure": f"/erasure/{ERASED}",
    "system": "/system",
    "audit": "/audit",
    "people": "/people",
}


@contextmanager
def served() -> Iterator[str]:
    """The desk's address."""
    with (
        tempfile.TemporaryDirectory(prefix="relay-shots-") as name,
        serving(create_simulator(LAB_TOKEN)) as lab,
    ):
        settings = _settings(Path(name), lab)
        db = Database(settings.database_url)
        migrate.upgrade(db)
        app = create_app(settings)
        try:
            _fill(app, db, settings)
            with serving(app, tls="adhoc") as url:
                yield url
        finally:
            app.extensions["relay"].db.close()
            db.close()


def _settings(folder: Path, lab: str) -> Settings:
    config = folder / "config.toml"
    text = (ROOT / "config.toml").read_text("utf-8")
    config.write_text(f"{text}\n[desk]\nsecond_person = true\n\n[costs]\nsms = 0.04\n", "utf-8")
    return Settings(
        database_url=f"sqlite:///{folder}/relay.db",
        lab_api_url=lab,
        lab_api_token=LAB_TOKEN,
        webhook_secrets=(SECRET,),
        development=False,
        config=config,
        templates=ROOT / "templates",
        admin_password=PASSWORD,
        secret_key="shots",
    )


def _always_open(config: Config) -> Config:
    return replace(config, delivery=replace(config.delivery, send_window=ALWAYS))


def _fill(app: Flask, db: Database, settings: Settings) -> None:
    client = app.test_client()
    for body in samples.webhooks():
        client.post(f"/webhooks/lab/{SECRET}", data=json.dumps(body))
    cases.post_all(app, SECRET)
    pump = Pump(Jobs(_always_open(load(settings)), db))
    pump.drain()
    pump.stop()
    _deliver(db)
    with db.write() as connection:
        workers.beat(connection, "worker-1")
        workers.swept(connection, "worker-1")
        suppressions.suppress(connection, "sms", "+447700900123", suppressions.STOP)
        audit.write_audit(connection, "admin", "reveal", KIT, "5 messages and the names")
        audit.write_audit(connection, "cli", "replay", "", "3 of 3")
    cases.open_all(db)
    _erase(db)
    with db.write() as connection:
        zone, now = load(settings).clinic.timezone, datetime.now(UTC)
        for one in [*daily_counts.last_days(zone, now)][:-1]:
            row = {"day": one.day.isoformat(), "counts": [{}, _counts(one.day.toordinal())]}
            connection.execute(days.insert().values(**row, counted_at=now + timedelta(days=1)))


def _deliver(db: Database) -> None:
    """What was kept here counts as handed to its provider, which has told that it arrived: a scene
    sends nothing, and is to look like a clinic that does.
    """
    with db.write() as connection:
        for attempt in connection.execute(sa.select(attempts)).all():
            name = "SM" if attempt.channel == "sms" else ""
            theirs = f"{name}{attempt.id}"
            tried = attempts.update().where(attempts.c.id == attempt.id)
            connection.execute(tried.values(provider_id=theirs))
            told = notifications.update().where(notifications.c.id == attempt.notification_id)
            connection.execute(told.values(provider_id=theirs, is_kept=False))
    with db.read() as connection:
        sent = connection.execute(sa.select(attempts.c.id, attempts.c.channel)).all()
    for id_, channel in sent:
        receipts.record(db, channel, [Receipt("delivered", "delivered", id_)])


def _erase(db: Database) -> None:
    """A person who is erased, but for what Twilio has, and one who is being erased."""
    for number in ("+447700900124", "+447700900125"):
        ledger_erasures.ask(db, "sms", number, target="", actor="admin", note="Asked in writing.")
    one, other = ledger_erasures.lease(db, 2)
    with db.write() as connection:
        ledger_erasures.note(connection, one, searched="notifications", rows_read=1_240_000)
    kept = "Twilio did not delete SM0123456789abcdef (20009)."
    outcome = {
        "counts": {"events": 3, "messages": 6, "messages that wait": 1},
        "left": {},
        "refused": [kept],
    }
    case = Case(ledger_erasures.KIND, "", ERASED, kept)
    with db.write() as connection:
        ledger_erasures.finish(
            connection, other, outcome, "3 events, 6 messages, 1 message that waits.", case
        )
    with db.write() as connection:
        for asked, id_ in ((one, ERASING), (other, ERASED)):
            mine = erasures.update().where(erasures.c.id == asked.id)
            connection.execute(mine.values(id=id_))


def _counts(seed: int) -> list[Count]:
    """What a clinic's day may come to: less at weekends."""
    chance = random.Random(seed)
    many = chance.randint(25, 60) // (3 if seed % 7 in (0, 6) else 1)
    failed = chance.choice((0, 0, 1, 2, 4))
    unsure = chance.randint(0, 4)
    return [
        Count("sms", "delivered", many, many, many * 2),
        Count("sms", "sent", unsure, unsure, unsure),
        *([Count("sms", "permanent-failure", failed, failed, failed)] if failed else []),
        Count("email", "delivered", many + unsure, many + unsure, 0),
    ]
