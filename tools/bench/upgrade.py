"""How long a deploy keeps the lab's posts waiting: an old ledger is migrated while they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from relay.config.settings import database_url
from relay.ledger import migrate
from relay.ledger.database import Database
from tools.bench.measure import Bench, Figures, fill_tables, say
from tools.bench.scale import CHUNK, FILLING

OLD = "0004"  # the schema of before the packages: the furthest that anybody upgrades from
# A kit in a thousand was retested, and its retest's messages are the original's from then on.
_RETESTS = """
UPDATE journeys SET resource = 'test_registration', round = 1,
  original_subject = md5('s' || (substr(subject, 1, 4) || 'original'))
WHERE subject IN (SELECT md5('s' || n::text)
  FROM generate_series(1, (SELECT count(*) FROM events), 1000) n)
"""
# As the web process of that version writes one.
_POST = """
INSERT INTO events (id, name, identity, data, status, received_at, next_at)
VALUES (%(id)s, 'order.shipped', %(id)s, '{"order_id": "1"}', 'processed', now(), now())
"""


def upgrade(bench: Bench, count: int) -> Figures:
    """The whole upgrade, and the longest that a post waited meanwhile."""
    with _old_ledger(bench.postgresql) as db:
        fill_tables(db, FILLING, count, CHUNK, [_RETESTS])
        with _posting(bench.postgresql) as waited:
            started = time.perf_counter()
            migrate.upgrade(db)
            took = time.perf_counter() - started
    say(f"{took:.1f} s in all; {len(waited):,} posts meanwhile, the slowest {max(waited):.2f} s")
    return {"events": count, "seconds": took, "slowest_seconds": max(waited)}


@contextmanager
def _old_ledger(url: str) -> Iterator[Database]:
    """An empty ledger of the old schema."""
    db = Database(database_url(url), patience=120)
    with db.engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    migrate.upgrade(db, OLD)
    yield db
    db.close()


@contextmanager
def _posting(url: str) -> Iterator[list[float]]:
    """A webhook after the other; how long each took to be written, in seconds."""
    waited: list[float] = []
    is_over = threading.Event()

    def post() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not is_over.wait(0.005):
                started = time.perf_counter()
                connection.execute(_POST, {"id": f"evt_{len(waited)}"})
                waited.append(time.perf_counter() - started)

    poster = threading.Thread(target=post)
    poster.start()
    try:
        yield waited
    finally:
        is_over.set()
        poster.join()
