"""Redis and PostgreSQL that cannot be used: what is said names the fault and what to write instead,
in check, at the start, on /readyz and in the log; never a traceback, a password or an address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from relay import queue
from relay.config.settings import Settings, database_url, judge
from relay.errors import LedgerUnavailable
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.database import why_not as why_no_ledger
from tests.cli.conftest import Run, environ, relay
from tests.conftest import DATABASES, one_database
from tests.servers import answers, redis_with
from tests.test_http_client_tls import tls
from tests.test_queue import until
from tests.test_queue_tls import self_signed
from tests.test_settings import LIVE
from tools.bench.servers import free_port

__all__ = ["environ", "relay", "self_signed", "tls"]  # fixtures
PG, REDIS = "DATABASE_URL", "REDIS_URL"
PASSWORD, PORT = "has a character in its password", "has a port that is not a number"
SECRET = "hunter2"

# An address, and what is said of it before anything is connected to; empty where it can be read.
ADDRESSES: dict[str, tuple[str, str, str]] = {
    "# in Redis' password": (REDIS, "redis://:hunter2#x@host:6379/0", PASSWORD),
    "/ in Redis' password": (REDIS, "rediss://:hunter2/x@host:6379/0", PASSWORD),
    "? in Redis' password": (REDIS, "redis://u:hunter2?x@host", PASSWORD),
    "/ behind digits": (REDIS, "redis://u:12/hunter2@host", PASSWORD),
    "@ in Redis' password, which is read": (REDIS, "redis://:hunter2@x@host:6379/0", ""),
    "in percent": (REDIS, "redis://:hunter2%23%2F%40@host:6379/0", ""),
    "Redis' port in words": (REDIS, "redis://:hunter2@host:port/0", PORT),
    "a variable that was not put in": (REDIS, "redis://host:${PORT}/0", PORT),
    "Redis' port is empty": (REDIS, "redis://host:/0", PORT),
    "Redis' port in other digits": (REDIS, "redis://host:٦٣٧٩/0", PORT),
    "Redis without a port": (REDIS, "redis://host/0", ""),
    "Redis by IPv6": (REDIS, "redis://[::1]:6379/0", ""),
    "Redis by a socket": (REDIS, "unix:///run/redis@1.sock", ""),
    "@ in PostgreSQL's password": (PG, "postgres://u:hunter2@x@host:5432/d", PASSWORD),
    "@ and / in it": (PG, "postgres://u:hunter2@x/y@host/d", PASSWORD),
    "# / ? in it, which are read": (PG, "postgres://u:hunter2#/?x@host:5432/d", ""),
    "PostgreSQL's port in words": (PG, "postgres://u:hunter2@host:port/d", PORT),
    "two ports": (PG, "postgres://u:hunter2@host:5432:5432/d", PORT),
    "@ behind the ?": (PG, "postgres://u:hunter2@host/d?application_name=a@b", ""),
    "PostgreSQL by a socket": (PG, "postgres://u:hunter2@/d?host=/run/postgresql", ""),
    "PostgreSQL by IPv6": (PG, "postgres://u:hunter2@[::1]:5432/d", ""),
}


@pytest.mark.parametrize(("name", "url", "said"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_that_is_misread_stops_the_start(name: str, url: str, said: str) -> None:
    """It is said which variable it is, what is wrong and what to write; the rest can be opened."""
    settings, problems = judge({**LIVE, name: url})
    told = " ".join(map(str, problems))
    assert told.startswith(f"environment: {name}: {said}" if said else "")
    assert bool(told) == bool(said)
    assert SECRET not in told
    if said:
        assert ("%40 for @" if said == PASSWORD else "host:5432") in told
    elif name == PG:
        Database(settings.database_url).close()
    else:
        queue.connect(settings, timeout=1).close()


# What PostgreSQL or the way to it says, and what is made of it.
SAYS: dict[str, str] = {
    'FATAL:  password authentication failed for user "u"': "refuses the user or the password",
    "fe_sendauth: no password supplied": "wants a password",
    'FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", no encryption': "sslmode",
    'FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", SSL encryption': "pg_hba",
    "server does not support SSL, but SSL was required": "does not speak TLS",
    "SSL error: certificate verify failed": "sslrootcert",
    'FATAL:  database "d" does not exist': "not know the database",
    'FATAL:  role "u" does not exist': "not know the user",
    "FATAL:  sorry, too many clients already": "no connection left",
    "FATAL:  remaining connection slots are reserved for roles": "no connection left",
    'invalid connection option "pgbouncer"': "pgbouncer=true",
    'invalid sslmode value: "required"': "?sslmode=require",
    "could not translate host name": "no host of that name",
    "connection timeout expired": "does not answer in time",
}


@pytest.mark.parametrize("said", SAYS)
def test_what_postgresql_says_is_put_into_words(said: str) -> None:
    """Each of its refusals is told by what it means, and what to write."""
    error = ConnectionError(f"connection to server at 203.0.113.7 failed: {said}")
    assert SAYS[said] in why_no_ledger(error)


# An address at which there is no ledger, and what is said.
LEDGERS: dict[str, tuple[str, str]] = {
    "for Prisma": ("postgres://u:hunter2@127.0.0.1:1/d?pgbouncer=true", "pgbouncer=true"),
    "a schema": ("postgres://u:hunter2@127.0.0.1:1/d?schema=public", "Remove it"),
    "sslmode=required": ("postgres://u:hunter2@127.0.0.1:1/d?sslmode=required", "sslmode=require"),
    "nobody there": ("postgres://u:hunter2@127.0.0.1:1/d", "nothing answers at the host and port"),
    "no such host": ("postgres://u:hunter2@nowhere.invalid/d", "no host of that name"),
}


@pytest.mark.parametrize(("url", "said"), LEDGERS.values(), ids=LEDGERS)
@one_database
def test_a_ledger_that_cannot_be_used_says_why(
    url: str, said: str, relay: Run, settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """`check` and /readyz say which fault it is, and not that tables are of another version."""
    result = relay("check", DATABASE_URL=url)
    assert result.exit_code == 1
    told = next(line for line in result.stderr.splitlines() if PG in line)
    readyz = make_client(replace(settings, database_url=database_url(url))).get("/readyz")
    assert readyz.status_code == 503
    for one in (told, readyz.text):
        assert said in one
        assert SECRET not in one
        assert "upgrade" not in one


@pytest.mark.skipif("postgresql" not in DATABASES, reason="it needs a PostgreSQL server")
def test_a_database_that_is_not_there_says_so(postgresql: str) -> None:
    """A name that the server does not know is told as that."""
    db = Database(f"{postgresql.rpartition('/')[0]}/nowhere")
    with pytest.raises(LedgerUnavailable, match="not know the database"):
        migrate.is_migrated(db)
    db.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[int]:
    """The port of a real Redis that has a password."""
    port, password = free_port(), "right-password"
    with redis_with(tmp_path, "--port", str(port), "--requirepass", password):
        until(lambda: answers(redis_py.Redis(port=port, password=password)))
        yield port


def refused(relay: Run, url: str, **more: str) -> str:
    """What `check` says of a Redis."""
    result = relay("check", REDIS_URL=url, **more)
    assert result.exit_code == 1
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    return next(line for line in result.stderr.splitlines() if REDIS in line)


@one_database
def test_a_redis_with_a_password_says_so(relay: Run, guarded: int) -> None:
    """A wrong password, none, and TLS where there is none, are told apart."""
    assert "refuses the" in refused(relay, f"redis://:hunter2@127.0.0.1:{guarded}/0")
    assert "refuses the user" in refused(relay, f"redis://u:hunter2@127.0.0.1:{guarded}/0")
    assert "wants a password" in refused(relay, f"redis://127.0.0.1:{guarded}/0")
    assert "redis:// for rediss://" in refused(relay, f"rediss://:hunter2@127.0.0.1:{guarded}/0")
    right = f"redis://:right-password@127.0.0.1:{guarded}"
    assert "no database of that number" in refused(relay, f"{right}/99")
    assert "nothing answers" in refused(relay, "redis://:hunter2@127.0.0.1:1/0")
    assert "no host of that name" in refused(relay, "redis://:hunter2@nowhere.invalid/0")
    assert relay("check", REDIS_URL=right).exit_code == 0


@one_database
def test_a_self_signed_redis_says_so(
    relay: Run, self_signed: str, settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """Heroku's chain: `check` and /readyz name the variable that takes it."""
    assert "REDIS_TLS_VERIFY=false" in refused(relay, self_signed)
    readyz = make_client(replace(settings, redis_url=self_signed)).get("/readyz")
    assert "REDIS_TLS_VERIFY=false" in readyz.json["reasons"]["redis"]
    plain = self_signed.replace("rediss://", "redis://")
    assert "rediss:// for redis://" in refused(relay, plain)
