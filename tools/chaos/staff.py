"""The clinic's staff: what they do about cases, what they replay, what they stop."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.config.loader import Config
from relay.errors import LedgerUnavailable
from relay.ledger import replay
from relay.ledger.audit import NotDone
from relay.ledger.database import Database
from relay.ledger.schema import events, notifications
from relay.ledger.worklist import cases, releases
from relay.staff import case_acts

NAME = "chaos-staff"
# What somebody does about a case of a kind, and how likely; nothing at all where it is no more.
HABITS: dict[str, dict[str, float]] = {
    "release": {"release": 0.3, "stop": 0.4},
    "held": {"replay": 0.4, "close": 0.1},
    "unreached": {"resend": 0.3, "close": 0.2},
    "unknown": {"send": 0.3, "believe": 0.3},
    "broken": {"resend": 0.5},
    "rule": {"close": 0.1},
}
REPLAYS = 0.5  # how likely an event is replayed at each look


@dataclass(frozen=True)
class Done:
    """An act of a person's that counts."""

    at: float
    act: str
    message: str  # the message that it is about, if any
    rule: str


class Staff(threading.Thread):
    """Looks at the worklist all the time."""

    def __init__(self, config: Config, seed: int):
        super().__init__(daemon=True)
        fault_injection.set_haste(config.settings.haste)  # what they do waits no longer either
        self._config = config
        self._db = Database(config.settings.database_url, patience=2, connections=1)
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._seen: set[str] = set()
        self.is_calm = False  # then only what is on the worklist is seen to
        self.done: list[Done] = []
        self.broken: list[str] = []

    def run(self) -> None:
        """Look, act, look again. What cannot be done, since the ledger is away, is left."""
        while not self._stopping.wait(self._random.uniform(0.1, 0.5)):
            for act in (self._see_to, *(() if self.is_calm else (self._replay, self._let_go))):
                try:
                    with self._db.write() as connection:
                        done = act(connection)
                    self.done += [done] if done else []
                except (LedgerUnavailable, NotDone):
                    continue
                except Exception as error:
                    self.broken.append(f"staff: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self.join()

    def close_rules(self) -> None:
        """Say of what still waits for a rule by its other name that it is not to be sent."""
        with self._db.write() as connection:
            for case in cases.open_cases(connection, "rule"):
                self.done.append(self._act(connection, case, cases.CLOSE))

    def _see_to(self, connection: Connection) -> Done | None:
        """Deal with one case that nobody has looked at yet."""
        new = [case for case in cases.open_cases(connection) if case["id"] not in self._seen]
        if not new:
            return None
        case = self._random.choice(new)
        self._seen.add(case["id"])
        drawn = self._random.random()
        for act, likely in HABITS.get(case["kind"], {}).items():
            drawn -= likely
            if drawn < 0:
                # At the end nobody tries again: each try may wait for an hour, and fail once more.
                is_over = self.is_calm and act == "resend"
                return self._act(connection, case, cases.CLOSE if is_over else act)
        return None

    def _act(self, connection: Connection, case: Mapping[str, Any], act: str) -> Done:
        message = str(case["notification_id"] or "")
        rule = releases.rule_of(connection, message) if message else str(case["subject"])
        case_acts.see_to(connection, self._config, case, act, by=NAME, note="Seen to.")
        return Done(time.time(), act, message, rule)

    def _replay(self, connection: Connection) -> None:
        """Process some event again, whatever came of it."""
        if self._random.random() < REPLAYS:
            query = sa.select(events.c.id).order_by(sa.func.random()).limit(1)
            if id_ := connection.execute(query).scalar():
                replay.replay_event(connection, str(id_))

    def _let_go(self, connection: Connection) -> Done | None:
        """Now and then somebody thinks better of a message that was stopped."""
        if self._random.random() > 0.02:
            return None
        table = notifications.c
        query = sa.select(table.id, table.rule).where(table.stopped_by.is_not(None)).limit(1)
        row = connection.execute(query).first()
        if row is None or not replay.replay_notification(connection, row.id):
            return None
        return Done(time.time(), "let go", row.id, row.rule)
