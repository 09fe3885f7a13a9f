"""Relay's own tables: who did what, and which workers are alive. `schema` has the rest."""

from __future__ import annotations

import sqlalchemy as sa

from relay.ledger.columns import metadata, text, time

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
