"""`flask relay explain`: why an event, a kit or a message did or did not reach somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from relay.cli import opened
from relay.errors import Problem

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from relay.ledger.database import Database


@click.command()
@click.argument("id_", metavar="ID")
def explain(id_: str) -> None:
    """Tell step by step what became of ID: an event (evt_…), a message (msg_…), a refused body
    (qrt_…), an attempt, or a kit by its order, registration, TRF code or your own reference.
    """
    found = opened.settings()
    zone = opened.load(found).clinic.timezone
    with opened.ledger(found) as db:
        if not (_trails(db, id_, zone) or _refused(db, id_, zone)):
            remedy = "`flask relay list` shows the ids of messages and their events."
            opened.stop(Problem("the ledger has nothing by that name.", key=id_, remedy=remedy))


def _trails(db: Database, id_: str, zone: ZoneInfo) -> bool:
    from relay.explain import explain
    from relay.ledger import trail

    trails = trail.find(db, id_)
    for number, one in enumerate(trails):
        if number:
            click.echo()
        for indent, line in explain(one, zone):
            click.secho(f"{'  ' * indent}{line}", bold=not indent)
    return bool(trails)


def _refused(db: Database, id_: str, zone: ZoneInfo) -> bool:
    from relay.ledger import trail

    row = trail.refused(db, id_)
    if row is None:
        return False
    when = row["first_at"].astimezone(zone).strftime("%d %b %Y %H:%M:%S")
    click.secho(f"{when}: a post was refused ({id_}). {row['error']}", bold=True)
    for field, said in row["fields"].items():
        click.echo(f"  {field}: {' '.join(said)}")
    if row["posts"] > 1:
        click.echo(f"  It was posted {row['posts']} times.")
    became = (
        f"It has become {row['event_id']} since." if row["event_id"] else "It is kept as it is."
    )
    click.echo(f"  {became}")
    return True
