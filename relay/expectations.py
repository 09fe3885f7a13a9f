"""Steps that a clinic expects of a kit: [expect.…] of config.toml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from relay.fields import OneOf, Parsed, lasting, told
from relay.lab.events import EVENTS, ORDER, STAGES

SHORTEST = timedelta(hours=1)


@dataclass(frozen=True)
class Expectation:
    """`event` is expected `within` so long after `after`, or the group `to` hears of it."""

    name: str
    after: str
    event: str
    within: timedelta
    to: str


def grace(text: str) -> timedelta:
    """A time after which a step is missing; clocks may differ, and events take a while."""
    found = lasting(text)
    if found < SHORTEST:
        raise ValueError('it must be an hour or more, as in "10d"')
    return found


class ExpectSchema(Schema):
    """An [expect.…] table."""

    after = OneOf(
        EVENTS, required=True, metadata=told("The step that a kit has come to.", "order.delivered")
    )
    event = OneOf(
        EVENTS,
        required=True,
        metadata=told("The step that is to come behind it.", "lab_results.complete"),
    )
    within = Parsed(
        grace, required=True, metadata=told("How long after it the step may take.", "10d")
    )
    to = fields.String(
        required=True, metadata=told("The staff group that hears when it has not come.", "lab-desk")
    )

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        first, then = EVENTS[data["after"]], EVENTS[data["event"]]
        backwards = first.resource != ORDER and then.resource == ORDER
        if first.stage and then.stage:
            backwards = STAGES.index(then.stage) <= STAGES.index(first.stage)
        if backwards or first == then:
            raise ValidationError(f"{then.name} does not come behind {first.name}.", "event")
