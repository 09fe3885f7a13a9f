"""Stops that people have made: of all messages, a channel's, or a rule's.

A send checks them last before the hand-over: see `attempts.begin`. Messages that wait for the end
of a stop say who made it and why, and no worker claims them. The button itself is `stop_button`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.schema import IS_WAITING, WAITS_FOR_THE_LAB, halts, notifications
from relay.rules.channels import CHANNELS
from relay.rules.statuses import WAITS_FOR_RESUME

NAMES = sa.select(halts.c.what)
ALL = "all"
CHANNEL, RULE = "channel", "rule"  # begin the other names of stops: "rule kit-shipped"
_table = notifications.c


@dataclass(frozen=True)
class Halt:
    """A stop in force: of what, by whom, why and since when."""

    what: str
    actor: str
    reason: str
    since: datetime

    @property
    def words(self) -> str:
        """The stopped messages, in words that begin a sentence."""
        return in_words(self.what)

    @property
    def said(self) -> str:
        """The reason of each message that waits for its end."""
        return f"{self.words} are stopped, by {self.actor}: {self.reason}"[:500]


def in_words(what: str) -> str:
    """A stop's name in words: all messages, all texts, or the messages of a rule."""
    kind, _, name = what.partition(" ")
    if kind == RULE:
        return f"Messages of the rule {name}"
    if name in CHANNELS:
        return f"All {CHANNELS[name].words}"
    return f"All messages by {name}" if name else "All messages"


def standing(connection: Connection) -> list[Halt]:
    """The stops in force, the widest first."""
    return [Halt(*row) for row in connection.execute(halts.select().order_by(halts.c.what))]


def stop_covering(connection: Connection, channel: str, rule: str) -> Halt | None:
    """The widest stop of a rule's messages by a channel; None if they go out."""
    mine = halts.select().where(_is_over(sa.literal(channel), sa.literal(rule)))
    row = connection.execute(mine.order_by(halts.c.what)).first()
    return Halt(*row) if row else None


def is_halted(message: Any = notifications) -> sa.ColumnElement[bool]:
    """A condition: a message is covered by a stop."""
    return sa.exists().where(_is_over(message.c.channel, message.c.rule))


def _is_over(channel: sa.ColumnElement[str], rule: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    named = [sa.literal(f"{CHANNEL} ") + channel, sa.literal(f"{RULE} ") + rule]
    return sa.or_(halts.c.what == ALL, *(halts.c.what == one for one in named))


def is_of(what: str) -> sa.ColumnElement[bool]:
    """A condition: a message is covered by the stop of this name."""
    kind, _, name = what.partition(" ")
    return sa.true() if kind == ALL else _table[kind] == name


GOES_ON = sa.or_(_table.waits_for.is_(None), _table.waits_for != WAITS_FOR_RESUME)
WAITS = sa.and_(_table.waits_for == WAITS_FOR_RESUME, IS_WAITING)
# A message that waits for something else keeps that reason, and is stopped once that is resolved.
_MAY_WAIT = sa.and_(IS_WAITING, sa.or_(_table.waits_for.is_(None), WAITS_FOR_THE_LAB))


def waiting(halt: Halt) -> sa.Select[Any]:
    """A query for the messages that should wait for the end of a stop, and do not yet."""
    return sa.select(_table.id).where(_MAY_WAIT, is_of(halt.what))


def hold(connection: Connection, ids: Sequence[str], halt: Halt) -> None:
    """Make those of these messages that a stop covers wait for its end."""
    held = notifications.update().where(_table.id.in_(ids), _MAY_WAIT, is_of(halt.what))
    connection.execute(
        held.values(status="scheduled", waits_for=WAITS_FOR_RESUME, reason=halt.said)
    )
