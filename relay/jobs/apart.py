"""The clock's work in parts: one that breaks is logged, and stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from relay.errors import LedgerUnavailable, RelayError
from relay.logs import get_logger

log = get_logger("relay.jobs")
T = TypeVar("T")


class Broken(RelayError):
    """Parts of the work broke. The log says why."""


def each(parts: Mapping[str, Callable[[], T]]) -> list[T]:
    """What each part gives, in order. Raises Broken once all have had their turn."""
    done, broken = [], []
    for name, part in parts.items():
        try:
            done.append(part())
        except Broken as error:
            broken.append(str(error))
        except LedgerUnavailable as error:
            log.warning("sweep failed", part=name, reason=str(error))
            broken.append(name)
        except Exception:
            log.exception("sweep broke", part=name)
            broken.append(name)
    if broken:
        raise Broken(", ".join(broken))
    return done
