"""Checks that Relay can reach the ledger, Redis and the lab, and that they are set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay import queue
from relay.config.loader import Config
from relay.config.settings import Settings, is_loopback_host
from relay.errors import LedgerUnavailable, Problem
from relay.ledger import migrate, people
from relay.ledger.database import Database
from relay.ledger.views import stopped
from relay.staff.reach import check_lab, check_providers


def check(settings: Settings, config: Config | None = None) -> list[Problem]:
    """The problems with the connections, including the providers' if a config is given."""
    return [
        *check_ledger(settings),
        *check_redis(settings),
        *check_lab(settings),
        *(check_providers(config) if config else ()),
    ]


def check_ledger(settings: Settings) -> Iterator[Problem]:
    """The ledger's problems: out of reach, out of date, unencrypted; and each stop that stands."""
    db = Database(settings.database_url)
    try:
        if not migrate.is_migrated(db):
            message = "the tables do not match this version."
            yield Problem(message, "ledger", remedy="Run `flask relay upgrade`.", warning=True)
            return
        with db.read() as connection:
            found, accounts = stopped.counted(connection), people.everyone(connection)
        if is_in_the_clear(db):
            said = (
                "patients' data crosses a network without TLS, for all who are on the way to read."
            )
            remedy = "Write ?sslmode=require behind DATABASE_URL."
            yield Problem(said, "ledger", key="DATABASE_URL", remedy=remedy, warning=True)
        for halt, many in found:
            said = f"{many:,} wait since {halt.since:%Y-%m-%d %H:%M} UTC. {halt.said}"
            remedy = "`flask relay resume` lets them go on."
            yield Problem(said, "stopped", remedy=remedy, warning=True)
        is_shared = all(one["disabled_at"] for one in accounts)
        if is_shared and settings.desk_ready and not settings.development:
            said = "everybody on the desk shares ADMIN_PASSWORD: the audit trail cannot tell who."
            remedy = "Run `flask relay user add EMAIL --role manager`, and so on."
            yield Problem(said, "desk", remedy=remedy, warning=True)
    except LedgerUnavailable as error:
        yield Problem(f"{error}.", "ledger", key="DATABASE_URL")
    finally:
        db.close()


def is_in_the_clear(db: Database) -> bool:
    """Whether the ledger's data crosses a network without TLS."""
    host = db.url.host or ""
    if db.is_sqlite or not host or host.startswith("/") or is_loopback_host(host):
        return False
    with db.read() as connection:
        session: Any = connection.connection.driver_connection
        return not session.pgconn.ssl_in_use


def check_redis(settings: Settings) -> Iterator[Problem]:
    """Yield a problem if Redis cannot be reached or may discard wake-ups."""
    if not settings.redis_url:
        return
    from redis.exceptions import RedisError

    try:
        connection = queue.connect(settings, timeout=2)
        policy = connection.info("memory").get("maxmemory_policy", "noeviction")
    except (RedisError, OSError, ValueError) as error:
        why = f"Relay cannot reach Redis: {queue.why_not(error)}."
        yield Problem(why, "environment", key="REDIS_URL")
        return
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}: Redis may discard wake-ups."
        yield Problem(message, "redis", remedy='Set it to "noeviction".', warning=True)
