"""The desk's previews: a rule's messages as their reader sees them, and one sent to oneself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from flask import Response, abort, flash, redirect, request, url_for
from marshmallow import ValidationError

from relay.config import check, plain_english
from relay.config.loader import Config
from relay.errors import RenderError
from relay.http_client import origin
from relay.lab.facts import Facts
from relay.ledger import audit
from relay.ledger.views import queries
from relay.messages import sms_segments
from relay.messages.templates import Message, Templates
from relay.privacy import masks
from relay.rules.channels import CHANNELS, Channel
from relay.rules.model import Rule
from relay.staff import test_send
from relay.staff.roles import ACT, LOOK
from relay.web.desk.layout import actor, blueprint, page, requires, templates
from relay.web.services import services

SAMPLE, REAL = "sample", "real"
SCHEMES = ("light", "dark")
# A mail as it was made, and nothing that it might bring along: no script, no form, no picture but
# the clinic's own.
_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_MAIL = next(name for name, row in CHANNELS.items() if "html" in row.parts)
_HOUR, _TESTS = timedelta(hours=1), 20  # that may be sent in it


class Shown(NamedTuple):
    """A message on a channel, or why Relay cannot make it."""

    channel: str
    message: Message | None
    size: sms_segments.Size | None = None
    wrong: str = ""

    @property
    def row(self) -> Channel:
        """The channel's row."""
        return CHANNELS[self.channel]


@blueprint.get("/rule")
@requires(LOOK)
def rule() -> str:
    """One rule's messages."""
    return _preview(_rule(request.args))


@blueprint.post("/rule")
@requires(ACT)
def send_test() -> Any:
    """Send one message to an address that is typed, marked as a test, and note who did."""
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
    """The email's HTML on its own, for a frame: with a policy that lets it show its own look."""
    scheme, channel = request.args.get("scheme", SCHEMES[0]), request.args.get("channel", _MAIL)
    if channel not in CHANNELS or "html" not in CHANNELS[channel].parts:
        abort(404)
    chosen = _rule(request.args)
    shown = _shown(_worded(chosen), channel, _real(chosen))
    if shown.message is None or scheme not in SCHEMES:
        abort(404)
    return framed(scheme, shown.message.html)


def framed(scheme: str, html: str) -> Response:
    """An email's HTML for a frame of the desk's."""
    response = Response(_in(scheme, html), content_type="text/html; charset=utf-8")
    logo = services().config.clinic.logo
    pictures = f"; img-src {origin(logo)}" if logo else ""
    response.headers["Content-Security-Policy"] = _POLICY + pictures
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


def examples(config: Config, loaded: Templates, rule: Rule) -> Iterator[Shown]:
    """A rule's messages about the lab's example."""
    for channel in (*rule.channels, *rule.fallback):
        try:
            made = check.example(config, loaded, rule, channel)
        except RenderError as error:
            yield Shown(channel, None, wrong=str(error))
        else:
            yield Shown(channel, made, size_of(made))


def _rule(given: Mapping[str, str]) -> Rule:
    return services().config.rule(given.get("name", "")) or abort(404)


def _worded(chosen: Rule) -> Rule:
    """The rule in the language whose template was asked for; else in the one that it chooses."""
    wanted, variants = request.values.get("template"), templates().variants(chosen)
    return next((one for one in variants if one.template == wanted), chosen)


def _preview(chosen: Rule, to: str = "", wrong: str = "") -> str:
    policy, real, worded = services().config.policy, _real(chosen), _worded(chosen)
    return page(
        "rule.html",
        rule=chosen,
        sentences=plain_english.rule_sentences(chosen, policy),
        shown=[_shown(worded, one, real) for one in (*chosen.channels, *chosen.fallback)],
        languages=[one.template for one in templates().variants(chosen)] if chosen.language else [],
        language="" if worded == chosen else worded.template,
        data=_wanted(),
        real=real,
        schemes=SCHEMES,
        to=to,
        wrong=wrong,
        config=services().config,
        delivery=services().settings.delivery,
    )


def _wanted() -> str:
    return REAL if request.args.get("data") == REAL else SAMPLE


def _real(chosen: Rule) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Data and facts of the latest event that the rule is about, where these are wanted."""
    if _wanted() != REAL:
        return None
    with services().db.read() as connection:
        return queries.latest_of(connection, chosen.event)


def _shown(
    chosen: Rule, channel: str, real: tuple[Mapping[str, Any], Mapping[str, Any]] | None
) -> Shown:
    """A message with example data, or with a real kit's of which all that is personal is masked.

    Its segments are those of the real words: a mask's dots are not in the SMS alphabet.
    """
    config = services().config
    try:
        if real is None:
            made = whole = test_send.message(config, chosen, channel)
        else:
            data, facts = real
            whole = test_send.message(
                config, chosen, channel, data=data, facts=Facts.from_json(facts)
            )
            masked = Facts.from_json(masks.fields(facts))
            made = test_send.message(config, chosen, channel, data=masks.fields(data), facts=masked)
    except RenderError as error:
        return Shown(channel, None, wrong=str(error))
    except ValidationError:
        return Shown(channel, None, wrong="masked, the event's data are none that the lab sends.")
    return Shown(channel, made, size_of(whole))


def size_of(made: Message) -> sms_segments.Size | None:
    """How many segments it takes, where it is billed so."""
    return sms_segments.size(made.text) if CHANNELS[made.channel].in_segments else None


def _in(scheme: str, html: str) -> str:
    """The mail as a program in light or in dark shows it, whatever the browser is in."""
    other = next(one for one in SCHEMES if one != scheme)
    html = re.sub(rf"\(prefers-color-scheme:\s*{scheme}\)", "all", html)
    html = re.sub(rf"\(prefers-color-scheme:\s*{other}\)", "not all", html)
    return html.replace('content="light dark"', f'content="{scheme}"')
