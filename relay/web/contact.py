"""/.well-known/security.txt: where to report a security hole.

https://www.rfc-editor.org/rfc/rfc9116
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response

from relay.config.loader import Config
from relay.rules.addresses import EMAIL, any_number
from relay.rules.channels import channels_to, named_mailbox
from relay.web.services import services

blueprint = Blueprint("contact", __name__)
PAGE = "/.well-known/security.txt"
_LASTS = timedelta(days=180)  # RFC 9116 wants less than a year


@blueprint.get(PAGE)
def security_txt() -> Response:
    """Whom to write to, as config.toml says now."""
    app = services()
    ends = (datetime.now(UTC) + _LASTS).strftime("%Y-%m-%dT00:00:00Z")
    lines = [f"Contact: {contact(app.config)}", f"Expires: {ends}", "Preferred-Languages: en"]
    if address := app.settings.public_url:
        lines.append(f"Canonical: {address}{PAGE}")
    return Response("\n".join((*lines, "")), mimetype="text/plain")


def contact(config: Config) -> str:
    """[desk] security_contact as a URI; else the clinic's email sender, or its phone number."""
    sender = named_mailbox(config.delivery.senders[channels_to(EMAIL)[0]])[1]
    address = config.desk.security_contact or sender
    return f"mailto:{address}" if address else f"tel:{any_number(config.clinic.phone)}"
