"""The desk's audit trail: who did what, and when. Ids and marks only: nobody's own details."""

from __future__ import annotations

from flask import request
from flask_login import login_required

from relay.ledger import audit as ledger_audit
from relay.web.desk.frame import blueprint, page
from relay.web.here import here

AT_ONCE = 50
# What the trail's words mean. A word that is not here is told as it is.
ACTS = {
    "login": "Logged in",
    "login refused": "Wrong password",
    "logout": "Logged out",
    "reveal": "Looked at what is masked",
    "send-test": "Sent a test",
    "suppress": "Stopped an address",
    "unsuppress": "Lifted a stop",
    "forget asked": "Asked to have a person erased",
    "forget": "Had a person erased",
    "replay": "Had it processed again",
    "purge": "Blanked what is old",
    "case close": "Closed a case",
    "case open": "Opened a case again",
    "case resend": "Sent a message again",
    "case send": "Sent a message again",
    "case believe": "Said that a message did arrive",
    "case replay": "Had an event processed again",
    "case release": "Released a message",
    "case stop": "Stopped a message",
    "post again": "Had a refused post tried again",
    "post aside": "Put a refused post aside",
    "posts aside": "Put all refused posts aside",
    "post back": "Took a refused post back",
    "acknowledge event": "Acknowledged an unknown event",
    "process events": "Had unknown events processed",
}


@blueprint.get("/audit")
@login_required  # type: ignore[untyped-decorator]
def audit() -> str:
    """What was done last, or what was done before the line that is named."""
    before = request.args.get("before", "").replace("\0", "")[:40]
    rows = ledger_audit.audit_before(here().db, before, AT_ONCE + 1)
    older = rows[AT_ONCE - 1]["id"] if len(rows) > AT_ONCE else ""
    return page("audit.html", rows=rows[:AT_ONCE], older=older, before=before, acts=ACTS)
