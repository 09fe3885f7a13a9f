"""docs/openapi.json: our routes for other people's programs, from the schemas that check them."""

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
from relay.lab.events import EVENTS, LONGEST_ID, LONGEST_NAME, Moment, OpaqueId
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


def one_of(*known: str) -> fields.String:
    """A required text that is one of these words."""
    return fields.String(required=True, validate=validate.OneOf(known))


class Taken(_Answer):
    """The event is in the ledger. Posting it again does no harm."""

    status = one_of("accepted", "duplicate", "unrouted")
    id = fields.String(
        required=True,
        validate=validate.Regexp(r"^evt_[0-9a-f]{28}$"),
        metadata={"description": "The event's id. For a duplicate, the first event's id."},
    )


class Rejected(_Answer):
    """The body is not valid. Its bytes are kept in quarantine for a person to look at."""

    status = one_of("rejected")
    error = fields.String(required=True)
    fields_ = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        data_key="fields",
        metadata={"description": "What is wrong, by the path of each bad field."},
    )


class Failed(_Answer):
    """The request failed, and `error` says why. Nothing was stored."""

    status = one_of("error", "unavailable")
    error = fields.String(required=True)


class Well(_Answer):
    """All is well."""

    status = one_of("ok")


class Ready(_Answer):
    """What Relay needs, and what of it is down."""

    status = one_of("ready", "not ready")
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
    NumMedia = fields.String()


OPENAPI = "3.1.0"
Json = dict[str, Any]

JSON, XML = "application/json", "text/xml"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_LOGIN = {"WWW-Authenticate": {"schema": {"type": "string"}}}


def json_response(description: str, schema: type[Schema], headers: Json | None = None) -> Json:
    """A response in JSON by a schema."""
    made: Json = {"description": description, "content": {JSON: {"schema": schema}}}
    return {**made, **({"headers": headers} if headers else {})}


_UNSIGNED = json_response("The signature is missing or wrong; or it came by plain HTTP.", Failed)
_PLAIN = json_response("It came by plain HTTP. Only development takes that.", Failed)
_AWAY = json_response(
    f"The ledger is out of reach. Try again in {RETRY_AFTER_SECONDS} s.", Failed, _RETRY
)


def too_large(largest: int, other: str = "") -> Json:
    """The response to a body of more bytes than `largest`."""
    kib = largest // 1024
    size = f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"
    return json_response(f"The body is over {size}{other}. Nothing was stored.", Failed)


def webhook(summary: str, **more: Any) -> Json:
    """A path that takes webhooks of the lab, with each response to one."""
    answers = {
        "200": json_response(
            "Stored. `accepted`: a new event. `duplicate`: posted before, within `dedupe_window`. "
            "`unrouted`: Relay does not know its name.",
            Taken,
        ),
        "400": json_response("Not JSON, or not an event. The body is in quarantine.", Rejected),
        "401": json_response("The secret is missing or wrong. Nothing was stored.", Failed, _LOGIN),
        "403": _PLAIN,
        "413": too_large(LARGEST_BODY),
        "422": json_response(
            "A known event whose `data` is not valid: `fields` names what is wrong. "
            "The body is in quarantine.",
            Rejected,
        ),
        "503": _AWAY,
    }
    body = {"required": True, "content": {JSON: {"schema": {"$ref": schema_reference("Webhook")}}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": answers, **more}}


def callback(summary: str, takes: Json, headers: Mapping[str, str], **answers: Any) -> Json:
    """A provider's call: what it carries, by which headers it is known, and our answers to it."""
    known = [
        {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
        for name, said in headers.items()
    ]
    made: Json = {"200": json_response("Taken.", Well), "403": _UNSIGNED, "503": _AWAY, **answers}
    body = {"requestBody": {"content": takes}, "parameters": known}
    return {"post": {"summary": summary, "security": [], **body, "responses": made}}


def paths() -> dict[str, Json]:
    """Every path that other programs call, with its operations."""
    twilio = {SIGNATURE: "Twilio's HMAC over the public URL and all fields."}
    sendgrid = {MAIL_SIGNATURE: "SendGrid's ECDSA over time and body.", MAIL_TIMESTAMP: "Its time."}
    secret = {"name": "secret", "in": "path", "required": True, "schema": {"type": "string"}}
    attempt = {
        "name": "attempt",
        "in": "query",
        "description": "Which of our sends it is about.",
        "schema": {"type": "string"},
    }
    status = callback("Twilio reports on a text", {FORM: {"schema": TwilioStatus}}, twilio)
    status["post"]["parameters"].append(attempt)
    inbound = callback("A person has sent a text", {FORM: {"schema": TwilioInbound}}, twilio)
    said = {
        "description": "Taken. Relay replies only to confirm a STOP that Twilio does not.",
        "content": {XML: {}},
    }
    inbound["post"]["responses"]["200"] = said
    for twilios in (status, inbound):
        many = f", or has more than {MOST_FIELDS} fields"
        twilios["post"]["responses"]["413"] = too_large(LARGEST_FORM, many)
    batch = {JSON: {"schema": {"type": "array", "items": {"type": "object"}}}}
    events = callback("SendGrid reports on emails", batch, sendgrid)
    events["post"]["responses"] |= {
        "400": json_response("Not a JSON list.", Failed),
        "413": too_large(LARGEST_BATCH),
    }
    in_path = webhook(
        "The lab reports an event, with the secret in the path", parameters=[secret], security=[]
    )
    in_path["post"]["responses"]["404"] = json_response(
        "The secret in the path has a line break.", Failed
    )
    return {
        "/webhooks/lab": webhook("The lab reports an event"),
        "/webhooks/lab/{secret}": in_path,
        "/callbacks/twilio/status": status,
        "/callbacks/twilio/inbound": inbound,
        "/callbacks/sendgrid": events,
        **monitoring_paths(),
    }


def monitoring_paths() -> dict[str, Json]:
    """The paths that the platform and the monitoring read."""
    ready = {
        "200": json_response("Everything that Relay needs is up.", Ready),
        "503": json_response("Something is down: `down` names it.", Ready),
    }
    metrics = {
        "200": {"description": "Prometheus' text format.", "content": {TEXT: {}}},
        "401": json_response(
            "The request does not show METRICS_TOKEN, or there is none (outside development).",
            Failed,
            _LOGIN,
        ),
        "403": _PLAIN,
    }
    asked: dict[str, tuple[str, list[Json], Json]] = {
        "/healthz": ("Whether the process serves", [], {"200": json_response("It serves.", Well)}),
        "/readyz": ("Whether Relay has all that it needs", [], ready),
        "/.well-known/security.txt": (
            "The address for reports of security problems (RFC 9116)",
            [],
            {
                "200": {
                    "description": "A contact, and when this ends.",
                    "content": {"text/plain": {}},
                },
                "308": {"description": "Asked by plain HTTP: the same by https."},
            },
        ),
        "/metrics": ("Metrics for Prometheus", [{"bearer": []}, {}], metrics),
    }
    return {
        path: {"get": {"summary": summary, "security": security, "responses": answers}}
        for path, (summary, security, answers) in asked.items()
    }


def schema_reference(component: str) -> str:
    """The reference by which OpenAPI names a schema of ours."""
    return f"#/components/schemas/{component}"


def event_schema(name: Json, data: Json, **more: Any) -> Json:
    """The schema of a posted event, from those of its name and its data."""
    keys = {"event": name, "data": data}
    return {"type": "object", "required": ["event", "data"], "properties": keys, **more}


def describe_events(spec: APISpec) -> None:
    """Each row of EVENTS, and what is stored though Relay does not know it."""
    for kind in EVENTS.values():
        named = type(kind.schema).__name__
        if named not in spec.components.schemas:
            spec.components.schema(named, schema=kind.schema)
        body = event_schema({"const": kind.name}, {"$ref": schema_reference(named)})
        spec.components.schema(kind.name, {**body, "examples": [samples.webhook(kind.name)]})
    other = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    unknown = event_schema({**other, "not": {"enum": list(EVENTS)}}, {"type": "object"})
    said = "Any other event: stored as `unrouted` until this or a later version knows it."
    spec.components.schema("unknown", {**unknown, "description": said})
    spec.components.schema(
        "Webhook", {"anyOf": [{"$ref": schema_reference(n)} for n in (*EVENTS, "unknown")]}
    )


class _Converter(OpenAPIConverter):
    """Says besides what an id of the lab's may be, which its field checks by itself."""

    def field2property(self, field: fields.Field[Any]) -> Json:
        fits = {"minLength": 1, "maxLength": LONGEST_ID, "pattern": r"^[^/\\?#]+$"}
        made: Json = super().field2property(field)
        if isinstance(field, Moment):
            return {**made, "format": "date-time"}
        return {**made, **fits} if isinstance(field, OpaqueId) else made


class _Described(MarshmallowPlugin):
    Converter = _Converter


def description() -> Json:
    """All of it, as OpenAPI."""
    plugin = _Described(schema_name_resolver=schema_name)
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
    describe_events(spec)
    for path, operations in paths().items():
        spec.path(path, operations=operations)
    return spec.to_dict()


def schema_name(schema: Any) -> str:
    """The name of a schema in the document: that of its class."""
    made = schema if isinstance(schema, type) else type(schema)
    return str(made.__name__)
