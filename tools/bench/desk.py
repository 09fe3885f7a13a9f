"""The desk on a full ledger: how long its pages take, and how PostgreSQL goes about each query."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice, repeat
from typing import Any

import sqlalchemy as sa
from flask import url_for

from relay.config.settings import Settings, database_url
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.views import daily_counts
from relay.web import create_app
from tools.bench import desk_pages
from tools.bench.desk_pages import PASSWORD, Given, Kit
from tools.bench.measure import Bench, Figures, fill_tables, fresh_ledger, say
from tools.bench.servers import ROOT

CHUNK = 100_000
TIMES = 5
_LARGE = (
    "events",
    "notifications",
    "attempts",
    "receipts",
    "journeys",
    "aliases",
    "audit",
    "quarantine",
    "cases",
    "suppressions",
)
_SCAN = re.compile(rf"Seq Scan on ({'|'.join(_LARGE)})\b")
# Two events a kit, each told by SMS and by email; a month of it. 400 names, as in a town: half of
# the kits are of twenty names. Of a day's messages one of 200 failed. Staff's box gets a hundredth.
_AT, _MARK = "now() - (:all - n) * interval '30 days' / :all", "left(md5(n::text), 16)"
_ID = f"lpad(to_hex((extract(epoch FROM {_AT}) * 1000)::bigint), 12, '0') || {_MARK}"
_SUBJECT = "md5('kit' || n / 2)::uuid::text"
_WHO = "(CASE WHEN n / 2 % 2 = 0 THEN n / 2 % 20 ELSE n / 2 % 400 END)"
_FILLING = (
    f"""
INSERT INTO events (id, name, identity, data, status, received_at, subject, facts, person,
  decisions, processed_at)
SELECT 'evt_' || {_ID}, CASE n % 2 WHEN 0 THEN 'order.shipped' ELSE 'order.delivered' END,
  md5('identity' || n), json_build_object('order_id', {_SUBJECT}), 'processed', {_AT}, {_SUBJECT},
  json_build_object('order', json_build_object('id', {_SUBJECT}), 'customer',
    json_build_object('first_name', 'Jane', 'last_name', 'Name' || {_WHO})),
  'name' || {_WHO} || ' jane', '[]'::json, {_AT}
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n""",
    *(
        f"""
INSERT INTO notifications (id, event_id, rule, template, subject, role, channel, address, identity,
  family, status, reason, due_at, created_at, sent_at, delivered_at, provider_id, attempts, content,
  segments)
SELECT 'msg_' || {_ID.replace("n::text", f"'{channel}' || n")}, 'evt_' || {_ID}, 'kit-shipped',
  'kit_shipped', {_SUBJECT}, CASE n % 100 WHEN 7 THEN 'desk' ELSE 'customer' END, '{channel}',
  {address}, md5('{channel}' || n), md5('family' || n),
  CASE WHEN n % 200 = 0 THEN 'permanent-failure' ELSE 'delivered' END, '', {_AT}, {_AT}, {_AT},
  CASE WHEN n % 200 = 0 THEN NULL ELSE {_AT} END, '{provider}' || md5('{channel}' || n), 1,
  json_build_object('text', 'Hello Jane, your kit is on its way.'), 1
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"""
        for channel, provider, address in (
            ("sms", "SM", "'+4474' || lpad((n / 2)::text, 8, '0')"),
            (
                "email",
                "",
                "CASE n % 100 WHEN 7 THEN 'desk@example.org' ELSE 'jane' || n / 2 ||"
                " '@example.org' END",
            ),
        )
    ),
    *(
        f"""
INSERT INTO attempts (id, notification_id, channel, outcome, provider_id, started_at, finished_at)
SELECT md5('attempt{channel}' || n), 'msg_' || {_ID.replace("n::text", f"'{channel}' || n")},
  '{channel}', 'accepted', '{channel}' || md5('{channel}' || n), {_AT}, {_AT}
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"""
        for channel in ("sms", "email")
    ),
    """
INSERT INTO receipts (id, digest, attempt_id, word, state, received_at)
SELECT 'rcp_' || n, md5('receipt' || n), md5('attemptsms' || n), 'delivered', 'delivered', now()
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n""",
    f"""
INSERT INTO journeys (subject, resource, round, created_at)
SELECT {_SUBJECT}, 'order', 0, {_AT}
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n WHERE n % 2 = 0""",
    f"""
INSERT INTO aliases (resource, alias, subject) SELECT 'order', 'TRF-' || n / 2, {_SUBJECT}
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n WHERE n % 2 = 0""",
)
# What needs somebody, as much as a page shows and more, and what was settled long ago.
_BESIDES = (
    """
INSERT INTO cases (id, digest, kind, subject, event_id, notification_id, reason, opened_at)
SELECT 'cas_' || n, md5('case' || n), 'unreached', subject, event_id, id, 'Nobody answers.', due_at
FROM (SELECT *, row_number() OVER () n FROM notifications
      WHERE status = 'permanent-failure' LIMIT 500) failed""",
    """
INSERT INTO cases (id, digest, kind, subject, event_id, reason, opened_at, closed_at, closed_by)
SELECT 'cas_past' || n, md5('past' || n), 'held', 'kit' || n, (SELECT max(id) FROM events),
  'The lab does not know it.', now() - interval '9 days', now() - interval '8 days', 'admin'
FROM generate_series(1, 20000) n""",
    """
INSERT INTO suppressions (channel, address, source, created_at)
SELECT 'sms', '+4478' || lpad(n::text, 8, '0'), 'stop', now() - n * interval '1 minute'
FROM generate_series(1, 20000) n""",
    """
INSERT INTO audit (id, at, actor, action, target)
SELECT 'aud_' || lpad(n::text, 12, '0'), now() - (100000 - n) * interval '1 minute', 'admin',
  'reveal', 'kit'
FROM generate_series(1, 100000) n""",
    """
INSERT INTO quarantine (id, digest, body, error, fields, first_at, last_at)
SELECT 'qua_' || n, md5('body' || n), '{}', 'It is no JSON.', '{}', now() - n * interval '1 second',
  now() - n * interval '1 second'
FROM generate_series(1, 5000) n""",
    """
INSERT INTO quarantine (id, digest, body, error, fields, first_at, last_at, closed_at, closed_by)
SELECT 'qua_past' || n, md5('past' || n), '{}', 'It is no JSON.', '{}', now() - interval '9 days',
  now() - interval '9 days', now() - interval '8 days', 'admin'
FROM generate_series(1, 20000) n""",
    """
INSERT INTO events (id, name, identity, data, status, received_at)
SELECT 'evt_unrouted' || n, CASE n % 3 WHEN 0 THEN 'order.shipped' ELSE 'unknown.' || n % 50 END,
  md5('unrouted' || n), json_build_object('order_id', 'a'), 'unrouted', now()
FROM generate_series(1, 5000) n""",
    """
INSERT INTO events (id, name, identity, data, status, received_at)
SELECT 'evt_held', 'order.shipped', md5('held'), json_build_object('order_id', 'a'), 'held', now()
""",
    """
INSERT INTO erasures (id, channel, address, target, actor, note, state, asked_at, next_at, done_at,
  outcome)
SELECT * FROM (VALUES
  ('era_waiting', 'sms', '+447999999999', 'sms', 'admin', '', 'waiting', now(), now(), NULL, NULL),
  ('era_done', 'sms', '', '', 'admin', '', 'done', now(), now(), now(),
    json_build_object('counts', json_build_object('events', 2)))) asked""",
    """
INSERT INTO notifications (id, event_id, rule, template, subject, role, channel, address, identity,
  family, status, due_at, created_at)
SELECT 'msg_later' || n, (SELECT max(id) FROM events), 'reminder', 'kit_delivered', 'later',
  'customer', 'sms', '+4477' || n, md5('later' || n), md5('later' || n), 'scheduled',
  now() + interval '1 day', now()
FROM generate_series(1, 20000) n""",
)


def desk(bench: Bench, count: int) -> Figures:
    """The slowest page's and the slowest act's median in ms with `count` events and twice as many
    messages, and how many queries read a large table from end to end.
    """
    with _filled(bench.postgresql, count) as db:
        settings = Settings(
            database_url=database_url(bench.postgresql),
            lab_api_url=bench.standins,
            development=True,
            config=ROOT / "config.toml",
            templates=ROOT / "templates",
            admin_password=PASSWORD,
            secret_key="bench",
            log_level="ERROR",
        )
        app = create_app(settings)
        here = app.extensions["relay"]
        started = time.perf_counter()
        daily_counts.keep(db, here.config.clinic.timezone, datetime.now(UTC))
        say(f"the month counted by the first sweep in {time.perf_counter() - started:.1f} s")
        sent: dict[str, Any] = {}
        sa.event.listen(
            here.db.engine,
            "before_cursor_execute",
            lambda _c, _cursor, statement, given, *_: sent.setdefault(statement, given),
        )
        looked, acted = _asked(app, db, number=count // 4)
        scans = _scans(db, sent)
        here.db.close()
    slowest = {"slowest_ms": max(looked.values()), "slowest_act_ms": max(acted.values())}
    return {"events": count, **slowest, "scans": len(scans)} | looked | acted


@contextmanager
def _filled(url: str, count: int) -> Iterator[Database]:
    """A ledger with so many events. One that BENCH_DATABASE_URL names may have them already."""
    with closing(Database(database_url(url), patience=120)) as db:
        migrate.upgrade(db)
        last = sa.text("SELECT count(*) FROM events WHERE identity = md5('identity' || :count)")
        with db.read() as connection:
            has_them = connection.execute(last, {"count": count}).scalar_one()
        if has_them:
            yield db
            return
    with fresh_ledger(url) as db:
        fill_tables(db, _FILLING, count, CHUNK, _BESIDES)
        yield db


def _asked(app: Any, db: Database, number: int) -> tuple[Figures, Figures]:
    """Each page's median in ms, and each act's; the searches look for the kit of that number."""
    with db.read() as connection:
        query = sa.text(
            "SELECT events.subject, events.id, notifications.id FROM events JOIN notifications"
            " ON event_id = events.id AND channel = 'sms'"
            " WHERE events.identity = md5('identity' || :kit)"
        )
        kit = Kit(number, *connection.execute(query, {"kit": 2 * number}).one())
    config, desk = app.extensions["relay"].config, _Desk(app)
    gets, looks = desk_pages.gets(kit, config), desk_pages.looks(kit)
    acts = desk_pages.acts(kit, datetime.now(UTC))
    desk_pages.check_whole(app.url_map, {"GET": [gets], "POST": [looks, acts]})
    desk.log_in()
    looked = {
        path: _median(path, repeat(partial(desk.browser.get, path, follow_redirects=True)))
        for endpoint, several in gets.items()
        for path in (desk.path(endpoint, given) for given in several)
    }
    looked |= {
        name: _median(name, desk.pressed(endpoint, repeat(form)))
        for endpoint, forms in looks.items()
        for name, form in forms.items()
    }
    acted: Figures = {}
    for endpoint, several_forms in acts.items():
        for name, each in several_forms.items():
            acted[name] = _median(name, desk.pressed(endpoint, each))
    return looked, acted


class _Desk:
    """A browser at the desk."""

    def __init__(self, app: Any):
        self.app, self.browser = app, app.test_client()

    def path(self, endpoint: str, given: Given) -> str:
        """Where a page is."""
        with self.app.test_request_context():
            return str(url_for(endpoint, **dict[str, Any](given)))

    def pressed(self, endpoint: str, forms: Iterable[Given]) -> Iterator[Callable[[], Any]]:
        """Forms ready to be sent, each with its token."""
        named = next(self.app.url_map.iter_rules(endpoint)).arguments
        for form in forms:
            if endpoint == "desk.logout":
                self.log_in()
            path = self.path(endpoint, {key: form[key] for key in named})
            token = {"csrf_token": _token(self.browser.get("/login").text)}
            rest = {key: value for key, value in form.items() if key not in named}
            yield partial(self.browser.post, path, data=token | rest, follow_redirects=True)

    def log_in(self) -> None:
        """Begin a session."""
        next(self.pressed("desk.login", [{"password": PASSWORD}]))()


def _median(name: str, asks: Iterator[Callable[[], Any]]) -> float:
    took = []
    for ask in islice(asks, TIMES):
        started = time.perf_counter()
        answer = ask()
        took.append((time.perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"{name}: {answer.status_code}")
    say(f"{statistics.median(took):7.1f} ms, at most {max(took):7.1f}  {name}")
    return round(statistics.median(took), 1)


def _scans(db: Database, sent: dict[str, Any]) -> list[str]:
    """The queries that read a large table from end to end."""
    found = []
    with db.read() as connection:
        for statement, given in sent.items():
            if not statement.startswith(("SELECT", "UPDATE", "WITH", "DELETE")):
                continue
            plan = [*connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars()]
            if _SCAN.search("\n".join(plan)):
                found.append(statement)
                say("\n    ".join(["reads a whole table:", " ".join(statement.split()), *plan]))
    say(f"{len(sent)} different statements, {len(found)} of which read a large table whole")
    return found


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    if not found:
        raise SystemExit("a page of the desk has no form")
    return found[1]
