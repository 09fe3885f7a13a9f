"""What our own answers and the providers' calls look like, for the description (openapi.py)."""

from __future__ import annotations

from marshmallow import INCLUDE, RAISE, Schema, fields, validate

from relay.web.desk.system import PARTS


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
