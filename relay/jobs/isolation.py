"""Runs work in parts: a part that breaks is logged, and does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from relay.errors import LedgerUnavailable, RelayError
from relay.logs import get_logger

log = get_logger("relay.jobs")
T = TypeVar("T")


class Broken(RelayError):
    """Parts of the work broke, as the log says. Its cause is the first error."""


def run_isolated(parts: Mapping[str, Callable[[], T]]) -> list[T]:
    """Run each part; return the results in order. Raises Broken once all have had their turn."""
    done: list[T] = []
    broken: dict[str, BaseException] = {}
    for name, part in parts.items():
        try:
            done.append(part())
        except Broken as error:
            broken[name] = error.__cause__ or error
        except LedgerUnavailable as error:
            log.warning("sweep failed", part=name, reason=str(error))
            broken[name] = error
        except Exception as error:
            log.exception("sweep broke", part=name)
            broken[name] = error
    for first in broken.values():
        raise Broken(f"These parts broke: {', '.join(broken)}.") from first
    return done
