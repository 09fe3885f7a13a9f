"""What the ledger's tables are made of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.ledger.database import UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text(name: str, length: int, **kw: Any) -> sa.Column[str]:
    """A text of at most `length` characters."""
    return sa.Column(name, sa.String(length), **{"nullable": False, **kw})


def time(name: str, **kw: Any) -> sa.Column[Any]:
    """A moment, in UTC."""
    return sa.Column(name, UtcDateTime(), **kw)


def number(name: str, default: int = 0) -> sa.Column[int]:
    """A whole number that is there from the start."""
    return sa.Column(name, sa.Integer, nullable=False, server_default=str(default))


def some(name: str, *columns: Any, where: sa.ColumnElement[bool], unique: bool = False) -> sa.Index:
    """An index over the few rows that a hot statement looks at."""
    return sa.Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def folded(name: str, length: int) -> sa.Column[str]:
    """A text that may be missing and is searched by how it begins, byte by byte."""
    plain = sa.String(length)
    return sa.Column(name, plain.with_variant(sa.String(length, collation="C"), "postgresql"))
