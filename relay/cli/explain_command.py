"""`flask relay explain`: why an event, a kit or a message did or did not reach somebody."""

from __future__ import annotations

import click

from relay.cli import opened
from relay.errors import Problem


@click.command("explain")
@click.argument("id_", metavar="ID")
def explain_(id_: str) -> None:
    """Tell step by step what became of ID: an event (evt_…), a message (msg_…), a refused body
    (qrt_…), an attempt, or a kit by its order, registration, TRF code or your own reference.
    """
    from relay.ledger import quarantine
    from relay.ledger.views import status, trail
    from relay.staff.explain import explain, explain_refused

    found = opened.settings()
    config = opened.load(found)
    zone = config.clinic.timezone
    with opened.ledger(found) as db:
        standing = status.blockers(db, zone, config.delivery.daily_sms_limit)
        told = [explain(one, zone, standing) for one in trail.find(db, id_)]
        if not told and (row := quarantine.get(db, id_)):
            told.append(explain_refused(row, zone))
    if not told:
        remedy = "`flask relay list` shows the ids of messages and their events."
        opened.stop(Problem("the ledger has nothing by that name.", key=id_, remedy=remedy))
    for number, lines in enumerate(told):
        if number:
            click.echo()
        for indent, line in lines:
            click.secho(f"{'  ' * indent}{line}", bold=not indent)
