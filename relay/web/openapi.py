"""docs/openapi.json: our routes for other people's programs, from the schemas that check them.

Nothing that serves imports this: apispec is there for development only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import INCLUDE, RAISE, Schema, fields, validate

from relay import __version__
from relay.config.settings import LAB_API
from relay.lab import samples
from relay.lab.events import EVENTS, LONGEST_ID, LONGEST_NAME, OpaqueId
from relay.web.callbacks import (
    LARGEST_BATCH,
    LARGEST_FORM,
    MAIL_SIGNATURE,
    MAIL_TIMESTAMP,
    SIGNATURE,
)
from relay.web.desk.system import PARTS
from relay.web.forms import MOST_FIELDS
from relay.web.forms import URLENCODED as FORM
from relay.web.responses import RETRY_AFTER_SECONDS
from relay.web.webhooks import LARGEST_BODY


class _Answer(Schema):
    class Meta:
        unknown = RAISE


def _words(*known: str) -> fields.String:
    return fields.String(required=True, validate=validate.OneOf(known))


class Taken(_Answer):
    """The event is in the ledger. Posting it again is harmless."""

    status = _words("accepted", "duplicate", "unrouted")
    id = fields.String(
        required=True,
        validate=validate.Regexp(r"^evt_[0-9a-f]{28}$"),
        metadata={"description": "Of the event; a duplicate is told the first one's."},
    )


class Rejected(_Answer):
    """The body cannot be taken; its bytes are kept for a person to look at."""

    status = _words("rejected")
    error = fields.String(required=True)
    fields_ = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        data_key="fields",
        metadata={"description": "What is wrong, by the path of each bad field."},
    )


class Failed(_Answer):
    """What is wrong with a request, in words; nothing was stored."""

    status = _words("error", "unavailable")
    error = fields.String(required=True)


class Well(_Answer):
    """All is well."""

    status = _words("ok")


class Ready(_Answer):
    """What Relay needs, and what of it is down."""

    status = _words("ready", "not ready")
    down = fields.List(fields.String(validate=validate.OneOf(PARTS)), required=True)
    reasons = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class _Form(Schema):
    class Meta:
        unknown = INCLUDE


class TwilioStatus(_Form):
    """https://www.twilio.com/docs/messaging/guides/track-outbound-message-status"""

    MessageSid = fields.String()
    MessageStatus = fields.String()
    ErrorCode = fields.String()


class TwilioInbound(_Form):
    """https://www.twilio.com/docs/messaging/guides/webhook-request"""

    MessageSid = fields.String()
    From = fields.String()
    Body = fields.String()
    OptOutType = fields.String()


OPENAPI = "3.1.0"
Json = dict[str, Any]

JSON, XML = "application/json", "text/xml"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_LOGIN = {"WWW-Authenticate": {"schema": {"type": "string"}}}


def _json(description: str, schema: type[Schema], headers: Json | None = None) -> Json:
    made: Json = {"description": description, "content": {JSON: {"schema": schema}}}
    return {**made, **({"headers": headers} if headers else {})}


_UNSIGNED = _json("It is not signed, or not rightly.", Failed)
_AWAY = _json(f"The ledger is away. Again in {RETRY_AFTER_SECONDS} s.", Failed, _RETRY)


def _too_large(largest: int, other: str = "") -> Json:
    return _json(f"It is over {largest // 1024} KiB{other}. Nothing was stored.", Failed)


def _webhook(summary: str, **more: Any) -> Json:
    answers = {
        "200": _json("It is stored: it need not be posted again.", Taken),
        "400": _json("It is not JSON, or not an event.", Rejected),
        "401": _json("No secret, or a wrong one. Nothing was stored.", Failed, _LOGIN),
        "413": _too_large(LARGEST_BODY),
        "422": _json("A known event whose data cannot be taken.", Rejected),
        "503": _AWAY,
    }
    body = {"required": True, "content": {JSON: {"schema": {"$ref": _ref("Webhook")}}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": answers, **more}}


def _callback(summary: str, takes: Json, headers: Mapping[str, str], **answers: Any) -> Json:
    """A provider's call: what it carries, by which headers it is known, and our answers to it."""
    known = [
        {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
        for name, said in headers.items()
    ]
    made: Json = {"200": _json("It is taken.", Well), "403": _UNSIGNED, "503": _AWAY, **answers}
    body = {"requestBody": {"content": takes}, "parameters": known}
    return {"post": {"summary": summary, "security": [], **body, "responses": made}}


def _paths() -> dict[str, Json]:
    twilio = {SIGNATURE: "Twilio's HMAC over the public URL and all fields."}
    sendgrid = {MAIL_SIGNATURE: "SendGrid's ECDSA over time and body.", MAIL_TIMESTAMP: "Its time."}
    secret = {"name": "secret", "in": "path", "required": True, "schema": {"type": "string"}}
    attempt = {
        "name": "attempt",
        "in": "query",
        "description": "Which of our sends it is about.",
        "schema": {"type": "string"},
    }
    status = _callback("What became of a text", {FORM: {"schema": TwilioStatus}}, twilio)
    status["post"]["parameters"].append(attempt)
    inbound = _callback("A text from a person", {FORM: {"schema": TwilioInbound}}, twilio)
    said = {"description": "It is taken; Relay says nothing.", "content": {XML: {}}}
    inbound["post"]["responses"]["200"] = said
    for twilios in (status, inbound):
        many = f", or has over {MOST_FIELDS} fields"
        twilios["post"]["responses"]["413"] = _too_large(LARGEST_FORM, many)
    batch = {JSON: {"schema": {"type": "array", "items": {"type": "object"}}}}
    events = _callback("What became of emails", batch, sendgrid)
    events["post"]["responses"] |= {
        "400": _json("It is no list in JSON.", Failed),
        "413": _too_large(LARGEST_BATCH),
    }
    in_path = _webhook("The same, with the secret in the path", parameters=[secret], security=[])
    in_path["post"]["responses"]["404"] = _json("No secret begins with a slash.", Failed)
    return {
        "/webhooks/lab": _webhook("The lab tells what has happened"),
        "/webhooks/lab/{secret}": in_path,
        "/callbacks/twilio/status": status,
        "/callbacks/twilio/inbound": inbound,
        "/callbacks/sendgrid": events,
        **_asked(),
    }


def _asked() -> dict[str, Json]:
    """What the platform and the monitoring ask."""
    ready = {
        "200": _json("All that Relay needs is there.", Ready),
        "503": _json("Something is down.", Ready),
    }
    metrics = {
        "200": {"description": "Prometheus' format.", "content": {TEXT: {}}},
        "401": _json("METRICS_TOKEN is set, and was not shown.", Failed, _LOGIN),
    }
    asked: dict[str, tuple[str, list[Json], Json]] = {
        "/healthz": ("Whether the process serves", [], {"200": _json("It does.", Well)}),
        "/readyz": ("Whether all that it needs is there", [], ready),
        "/metrics": ("What Prometheus reads", [{"bearer": []}, {}], metrics),
    }
    return {
        path: {"get": {"summary": summary, "security": security, "responses": answers}}
        for path, (summary, security, answers) in asked.items()
    }


def _ref(component: str) -> str:
    return f"#/components/schemas/{component}"


def _event(name: Json, data: Json, **more: Any) -> Json:
    keys = {"event": name, "data": data}
    return {"type": "object", "required": ["event", "data"], "properties": keys, **more}


def _describe_events(spec: APISpec) -> None:
    """Each row of EVENTS, and what is stored though Relay does not know it."""
    for kind in EVENTS.values():
        named = type(kind.schema).__name__
        if named not in spec.components.schemas:
            spec.components.schema(named, schema=kind.schema)
        body = _event({"const": kind.name}, {"$ref": _ref(named)})
        spec.components.schema(kind.name, {**body, "examples": [samples.webhook(kind.name)]})
    other = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    unknown = _event({**other, "not": {"enum": list(EVENTS)}}, {"type": "object"})
    said = "Any other event: stored, and `unrouted` until this or a later version knows it."
    spec.components.schema("unknown", {**unknown, "description": said})
    spec.components.schema("Webhook", {"anyOf": [{"$ref": _ref(n)} for n in (*EVENTS, "unknown")]})


class _Converter(OpenAPIConverter):
    """Says besides what an id of the lab's may be, which its field checks by itself."""

    def field2property(self, field: fields.Field[Any]) -> Json:
        fits = {"minLength": 1, "maxLength": LONGEST_ID, "pattern": r"^[^/\\?#]+$"}
        made: Json = super().field2property(field)
        return {**made, **fits} if isinstance(field, OpaqueId) else made


class _Described(MarshmallowPlugin):
    Converter = _Converter


def description() -> Json:
    """All of it, as OpenAPI."""
    plugin = _Described(schema_name_resolver=_name)
    spec = APISpec(
        title="Relay",
        version=__version__,
        openapi_version=OPENAPI,
        plugins=[plugin],
        info={"description": f"Takes the webhooks of a lab ({LAB_API}); answers are always JSON."},
        security=[{"basic": []}, {"bearer": []}],
    )
    for scheme in ("basic", "bearer"):
        spec.components.security_scheme(scheme, {"type": "http", "scheme": scheme})
    _describe_events(spec)
    for path, operations in _paths().items():
        spec.path(path, operations=operations)
    return spec.to_dict()


def _name(schema: Any) -> str:
    made = schema if isinstance(schema, type) else type(schema)
    return str(made.__name__)
