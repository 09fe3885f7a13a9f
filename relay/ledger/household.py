"""Relay's own tables: who did what, which workers are alive, what each day came to, which channels
are paused, how far watches have looked, who is to be erased. `schema` has the rest.
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.ledger.columns import metadata, number, some, text, time

audit = sa.Table(
    "audit",
    metadata,
    text("id", 40, primary_key=True),
    time("at", nullable=False),
    text("actor", 100),
    text("action", 40),
    text("target", 255),
    text("detail", 500, server_default=""),
)
sa.Index("ix_audit_action", audit.c.action, audit.c.at)
sa.Index("ix_audit_target", audit.c.target, audit.c.at)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    text("name", 100, primary_key=True),
    time("seen_at", nullable=False),
    time("swept_at"),  # its last sweep
)

# What the messages of a day have come to: the desk's chart does not count a month of them.
days = sa.Table(
    "days",
    metadata,
    text("day", 10, primary_key=True),  # as the clinic's calendar has it: 2026-11-26
    sa.Column("counts", sa.JSON, nullable=False),  # as counting.Tally has them
    time("counted_at", nullable=False),
)

# A channel whose provider refuses us, is away, or asked us to wait: nothing goes out but a probe.
pauses = sa.Table(
    "pauses",
    metadata,
    text("channel", 20, primary_key=True),
    text("cause", 20),  # refused, away, busy
    text("reason", 500),
    number("probes"),
    time("since", nullable=False),
    time("until", nullable=False),
)

# How far each [expect.…] of config.toml has looked for steps that are missing.
watches = sa.Table(
    "watches",
    metadata,
    text("name", 100, primary_key=True),
    time("looked_to", nullable=False),
    time("next_at", nullable=False),  # and when it looks again, unless another worker does
)

# People to be erased, and what came of it. Whom it is about is blank once it is done: `address`,
# `target`, `note` and `known`.
erasures = sa.Table(
    "erasures",
    metadata,
    text("id", 40, primary_key=True),
    text("channel", 20),
    text("address", 255),
    text("target", 255),  # what the audit trail calls the address
    text("actor", 100),
    text("note", 500),
    text("state", 20),  # waiting, running, done
    number("tries"),  # workers that have taken it: the last one's is the lease
    time("asked_at", nullable=False),
    time("next_at", nullable=False),  # when a worker takes it, or goes on for one that has gone
    time("done_at"),
    sa.Column("known", sa.JSON(none_as_null=True)),  # what cannot be found out any more on the way
    sa.Column("outcome", sa.JSON(none_as_null=True)),  # counts, what is left, what was refused
    text("searched", 40, server_default=""),  # the table that is being searched, and how far
    number("rows_read"),
)
some("ix_erasures_open", erasures.c.address, where=erasures.c.address != "", unique=True)
