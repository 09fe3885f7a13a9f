"""Who gets nothing more: `suppress` and `unsuppress`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from relay.cli import opened
from relay.errors import Problem

if TYPE_CHECKING:
    from relay.ledger.database import Database

KINDS = {"sms": "Texts to this number", "email": "Emails to this address"}
# The providers keep lists of their own, which we do not touch: who keeps it, and what lifts it.
LISTS = {
    "sms": ("Twilio", "It texts a person who has sent STOP again only after their START."),
    "email": ("SendGrid", "Take the address off its suppressions too, or it drops the next email."),
}


@click.command()
@click.argument("address", required=False)
def suppress(address: str | None) -> None:
    """Send nothing more to ADDRESS: a UK mobile number or an email address.

    Left out, or "-", it is asked for on a terminal, else read from stdin.
    """
    from relay.ledger import suppressions
    from relay.ledger.audit import Act
    from relay.privacy import masks

    channel, written = read(address)
    found = opened.settings()
    act = Act("cli", "suppress", masks.target(found.secret_key, channel, written))
    with opened.ledger(found) as db:
        if not suppressions.suppress(db, channel, written, suppressions.STAFF, act):
            click.secho(f"{KINDS[channel]} were stopped already{_since(db, channel, written)}.")
            return
    click.secho(f"{KINDS[channel]} are stopped.", fg="green")


@click.command()
@click.argument("address", required=False)
def unsuppress(address: str | None) -> None:
    """Let ADDRESS get messages again, whoever had stopped them.

    Left out, or "-", it is asked for on a terminal, else read from stdin.
    """
    from relay.ledger import suppressions
    from relay.ledger.audit import Act
    from relay.privacy import masks

    channel, written = read(address)
    found = opened.settings()
    act = Act("cli", "unsuppress", masks.target(found.secret_key, channel, written))
    with opened.ledger(found) as db:
        before = _since(db, channel, written)
        source = suppressions.unsuppress(db, channel, written, act=act)
        if not source:
            click.secho(f"{KINDS[channel]} were not stopped.", fg="yellow")
            return
    click.secho(f"{KINDS[channel]} go out again. They were stopped{before}.", fg="green")
    if source != suppressions.STAFF:
        provider, remedy = LISTS[channel]
        opened.show(Problem(f"{provider} keeps a list of its own.", remedy=remedy, warning=True))


def read(address: str | None) -> tuple[str, str]:
    """The channel of an address, and the address as the ledger writes it."""
    from relay.rules.channels import CHECKS, channel_of

    written = opened.address(address)
    channel = channel_of(written)
    judged = CHECKS[channel](written)
    if judged.reason:
        remedy = "Write it as in jane@example.org."
        if channel == "sms":
            remedy = "Write a UK mobile as in 07700 900123 or +447700900123, or an email address."
        opened.stop(Problem(judged.reason, remedy=remedy))
    return channel, judged.address


def _since(db: Database, channel: str, address: str) -> str:
    """By whom an address was suppressed, and since when."""
    from relay.ledger import suppressions

    for row in suppressions.suppressed(db, address):
        if row["channel"] == channel:
            when = row["created_at"].astimezone().strftime("%Y-%m-%d %H:%M")
            return f" by {row['source']} since {when}"
    return ""
