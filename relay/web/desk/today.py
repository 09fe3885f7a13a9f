"""The desk's first page: the latest events and messages."""

from __future__ import annotations

from flask_login import login_required

from relay.ledger import reading
from relay.web.desk.frame import blueprint, page
from relay.web.here import here


@blueprint.get("/")
@login_required  # type: ignore[untyped-decorator]
def today() -> str:
    """The latest events and messages."""
    app = here()
    events, messages = reading.latest(app.db)
    return page("today.html", events=events, messages=messages, delivery=app.settings.delivery)
