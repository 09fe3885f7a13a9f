"""Writes a waiting message as it would be written now, for the person who decides about it.

It uses the ledger's facts: it does not ask the lab, and keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from marshmallow import ValidationError

from relay.config.loader import Config
from relay.errors import RenderError
from relay.jobs.compose import render, rule_now
from relay.lab.facts import PERSONS, Facts
from relay.ledger import journeys
from relay.ledger.database import Connection
from relay.ledger.worklist.releases import Held
from relay.messages.templates import Message, Templates
from relay.privacy import masks
from relay.rules import planner, stops
from relay.rules.expressions import RuleContext
from relay.rules.model import Rule
from relay.rules.schedule import utc_now

NOT_KEPT = "Relay no longer keeps what the lab said about this kit."
LACKS = (
    "Relay has not kept all that the lab said. It asks for that before this goes out, and then the "
    "words may differ."
)


@dataclass(frozen=True)
class Draft:
    """A message as it would be written now, in full and with personal data masked; or why Relay
    cannot write it.

    `objection` says why it would still not go out, `caution` why it may read differently.
    """

    whole: Message | None = None
    masked: Message | None = None
    wrong: str = ""
    objection: str = ""
    caution: str = ""


def write(connection: Connection, config: Config, templates: Templates, held: Held) -> Draft:
    """A waiting message, by its rule, its template and the lab's facts as Relay has them."""
    rule, reason = rule_now(config, held.rule, held.role)
    if rule is None:
        return Draft(wrong=reason)
    if held.channel not in rule.ways:
        return Draft(wrong=f"Its rule no longer uses {held.channel}.")
    if held.facts == Facts():
        return Draft(wrong=NOT_KEPT)
    if rule.to in PERSONS and not getattr(held.facts, rule.to):
        return Draft(wrong=f"Relay does not know yet who the {rule.to} of this kit is.")
    known = journeys.steps_of_kit(connection, held.event_name, held.subject)
    context = held.context(config.clinic.record(), known)
    caution = lacking(templates, rule, held)
    try:
        objection = objection_to(rule, config, held, context)
        whole = render(templates, rule, held, context)
    except RenderError as error:
        return Draft(wrong=str(error), caution=caution)
    masked = render_masked(config, templates, rule, held)
    return Draft(whole, masked, objection=objection, caution=caution)


def lacking(templates: Templates, rule: Rule, held: Held) -> str:
    """A caution that Relay will ask the lab for facts that it has not kept; empty if it has all."""
    for one in templates.variants(rule):
        if any(templates.faults(one.template, (held.channel,), held.event_name)):
            return ""  # it cannot be rendered: the error says what is wrong with it
        if held.facts.lacks(templates.fields(one.template, (held.channel,))):
            return LACKS
    return ""


def objection_to(rule: Rule, config: Config, held: Held, context: RuleContext) -> str:
    """Why a message would not go out if released now; empty if it would. Raises RenderError."""
    if held.stopped_by:
        return stops.reason(held.stopped_by, held.channel)
    return planner.last_objection(rule, context, utc_now())


def render_masked(config: Config, templates: Templates, rule: Rule, held: Held) -> Message | None:
    """The words with all personal data masked; None if they cannot be written so."""
    hidden = replace(
        held,
        address=masks.address(held.address),
        event_data=masks.fields(held.event_data),
        facts=Facts.from_json(masks.fields(held.facts.to_json())),
    )
    try:
        context = hidden.context(config.clinic.record())
        return render(templates, rule, hidden, context)
    except (RenderError, ValidationError):  # a mask is not a date
        return None
