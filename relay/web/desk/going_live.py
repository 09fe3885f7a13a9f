"""What is left to do before a clinic goes live: Relay itself checks each line."""

from __future__ import annotations

from relay.staff import ready
from relay.staff.roles import MANAGE
from relay.web.desk.layout import blueprint, page, requires
from relay.web.services import services

# What each RELAY_DELIVERY means, in the order in which a clinic uses them.
DELIVERIES = {
    "dry-run": "Messages are made and kept here. Nobody gets any.",
    "allow-list": "Only the addresses in [delivery] allow get messages: your own, to try it.",
    "live": "Patients and staff get them.",
}


@blueprint.get("/going-live")
@requires(MANAGE)
def going_live() -> str:
    """The list of steps. It asks the lab and the providers, so it may take some seconds."""
    app = services()
    steps = [*ready.steps(app.config, app.db)]
    return page(
        "going_live.html",
        steps=steps,
        left=sum(bool(step.missing) for step in steps),
        deliveries=DELIVERIES,
        delivery=app.settings.delivery,
    )
