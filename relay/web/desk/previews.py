"""The desk's previews: a rule's messages as their readers see them, and tests sent to oneself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Response, abort, flash, redirect, request, url_for

from relay.config import plain_english
from relay.errors import RenderError
from relay.ledger import audit
from relay.ledger.views import queries
from relay.rules.channels import CHANNELS
from relay.rules.model import Rule
from relay.staff import test_send
from relay.staff.previews import shown
from relay.staff.roles import ACT, LOOK
from relay.web.desk.layout import SCHEMES, actor, blueprint, framed, page, requires, templates
from relay.web.services import services

SAMPLE, REAL = "sample", "real"
_MAIL = next(name for name, row in CHANNELS.items() if "html" in row.parts)
_HOUR, _TESTS = timedelta(hours=1), 20  # tests that may be sent within it


@blueprint.get("/rule")
@requires(LOOK)
def rule() -> str:
    """One rule's messages."""
    return _preview(_rule(request.args))


@blueprint.post("/rule")
@requires(ACT)
def send_test() -> Any:
    """Send one message, marked as a test, to an address typed in the form, and note who did."""
    chosen, to = _rule(request.form), request.form.get("address", "").strip()[:320]
    if not to:
        return _preview(chosen, to, "Write a UK mobile number or an email address."), 400
    with services().db.read() as connection:
        sent = audit.audited(connection, test_send.SEND_TEST, _HOUR)
    if sent >= _TESTS:
        said = f"{_TESTS} tests have gone out within an hour. Wait a while."
        return _preview(chosen, to, said), 429
    try:
        tried = test_send.send(services().config, services().db, actor(), _worded(chosen), to)
    except (test_send.NotTried, RenderError) as error:
        said = str(error)
        return _preview(chosen, to, f"Not sent: {said[:1].lower()}{said[1:]}"), 400
    mode = services().settings.delivery
    flash(
        "Sent, marked as a test. The audit trail records it."
        if tried.is_live
        else f"The test was made but not sent: delivery is {mode}."
    )
    return redirect(
        url_for("desk.rule", name=chosen.name, template=request.form.get("template") or None)
    )


@blueprint.get("/rule/email")
@requires(LOOK)
def email() -> Response:
    """The email's HTML by itself, for a frame, with a policy that allows its own styles."""
    scheme, channel = request.args.get("scheme", SCHEMES[0]), request.args.get("channel", _MAIL)
    if channel not in CHANNELS or "html" not in CHANNELS[channel].parts:
        abort(404)
    chosen = _rule(request.args)
    found = shown(services().config, templates(), _worded(chosen), channel, _real(chosen))
    if found.message is None or scheme not in SCHEMES:
        abort(404)
    return framed(scheme, found.message.html)


def _rule(given: Mapping[str, str]) -> Rule:
    return services().config.by_name.get(given.get("name", "")) or abort(404)


def _worded(chosen: Rule) -> Rule:
    """The rule in the language of the template that was asked for; by default its own."""
    wanted, variants = request.values.get("template"), templates().variants(chosen)
    return next((one for one in variants if one.template == wanted), chosen)


def _preview(chosen: Rule, to: str = "", wrong: str = "") -> str:
    config, real, worded = services().config, _real(chosen), _worded(chosen)
    ways = chosen.ways
    return page(
        "rule.html",
        rule=chosen,
        sentences=plain_english.rule_sentences(chosen, config.policy),
        shown=[shown(config, templates(), worded, one, real) for one in ways],
        languages=[one.template for one in templates().variants(chosen)] if chosen.language else [],
        language="" if worded == chosen else worded.template,
        data=_wanted(),
        real=real,
        schemes=SCHEMES,
        to=to,
        wrong=wrong,
        config=config,
        delivery=services().settings.delivery,
    )


def _wanted() -> str:
    return REAL if request.args.get("data") == REAL else SAMPLE


def _real(chosen: Rule) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Data and facts of the latest event for the rule, if the page asks for real ones."""
    if _wanted() != REAL:
        return None
    with services().db.read() as connection:
        return queries.latest_of(connection, chosen.event)
