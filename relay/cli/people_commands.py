"""Commands about people: `suppress` and `unsuppress` an address, `forget` a person."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.errors import Problem

if TYPE_CHECKING:
    from relay.ledger.database import Database


@click.command()
@click.argument("address", required=False)
def suppress(address: str | None) -> None:
    """Send nothing more to an address.

    ADDRESS is a UK mobile number or an email address. Leave it out, or write "-": Relay then asks
    for it on a terminal, or else reads stdin.
    """
    from relay.ledger.audit import Act
    from relay.ledger.holds import suppressions
    from relay.privacy import masks

    channel, written = read(address)
    found = context.settings()
    act = Act("cli", "suppress", masks.target(found.secret_key, channel, written))
    with context.ledger(found) as db:
        with db.write() as connection:
            added = suppressions.suppress(connection, channel, written, suppressions.STAFF, act)
        if not added:
            click.secho(f"{messages(channel)} were already stopped{since(db, channel, written)}.")
            return
    click.secho(f"{messages(channel)} are stopped.", fg="green")


@click.command()
@click.argument("address", required=False)
def unsuppress(address: str | None) -> None:
    """Let an address get messages again, no matter who stopped them.

    ADDRESS is a UK mobile number or an email address. Leave it out, or write "-": Relay then asks
    for it on a terminal, or else reads stdin.
    """
    from relay.ledger.audit import Act
    from relay.ledger.holds import suppressions
    from relay.privacy import masks
    from relay.rules.channels import sharing, stop_lists

    channel, written = read(address)
    found = context.settings()
    act = Act("cli", "unsuppress", masks.target(found.secret_key, channel, written))
    with context.ledger(found) as db:
        before = since(db, channel, written)
        with db.write() as connection:
            source = suppressions.unsuppress(connection, channel, written, act=act)
        if not source:
            click.secho(f"{messages(channel)} were not stopped.", fg="yellow")
            return
    click.secho(f"{messages(channel)} go out again. They were stopped{before}.", fg="green")
    for provider in stop_lists(sharing(channel)) if source != suppressions.STAFF else ():
        said, remedy = f"{provider.name} keeps a list of its own.", provider.stops_remedy
        context.show(Problem(said, remedy=remedy, warning=True))


def read(address: str | None) -> tuple[str, str]:
    """An address's channel, and the address as the ledger writes it."""
    from relay.rules.addresses import ANYWHERE, PHONE
    from relay.rules.channels import CHANNELS, channel_of

    written = context.address(address)
    channel = channel_of(written)
    kind = CHANNELS[channel].address
    judged = kind.judge_in(ANYWHERE, written)
    if judged.reason:
        remedy = "Write it as in jane@example.org."
        if kind == PHONE:
            remedy = "Write a UK mobile as in 07700 900123 or +447700900123, or an email address."
        context.stop(Problem(judged.reason, remedy=remedy))
    return channel, judged.address


def messages(channel: str) -> str:
    """A channel's messages in words, as in: Texts to this number."""
    from relay.rules.channels import CHANNELS, words_of

    return f"{words_of(channel)} to this {CHANNELS[channel].address.noun}"


def since(db: Database, channel: str, address: str) -> str:
    """Words for who suppressed an address, and since when; empty if nobody has."""
    from relay.ledger.holds import suppressions
    from relay.rules.channels import sharing

    with db.read() as connection:
        found = suppressions.suppressed(connection, address)
    for row in found:
        if row["channel"] in sharing(channel):
            when = row["created_at"].astimezone().strftime("%Y-%m-%d %H:%M")
            return f" by {row['source']} since {when}"
    return ""


@click.command()
@click.argument("person", required=False)
@click.option(
    "--yes", is_flag=True, help="Do not ask for confirmation (Relay asks only on a terminal)."
)
@click.option("--suppress", is_flag=True, help="Send nothing more to the address either.")
def forget(person: str | None, yes: bool, suppress: bool) -> None:
    """Erase PERSON everywhere: by an address, an id or a name.

    An address may be any phone number or email address, also one that Relay does not write to. An
    id may be an order's, a kit's, an event's or a message's. A name is a first name and a surname.
    Leave PERSON out, or write "-": Relay then asks on a terminal, or else reads stdin.

    Relay cancels waiting messages. Afterwards it searches every table for what it erased. If
    anything is left, or a provider did not erase its part, the command exits with 1. Once the
    erasure has begun, a worker finishes it even if the command does not.
    """
    from relay.channels import Channels
    from relay.jobs import erase
    from relay.ledger.removal import erasures
    from relay.privacy import masks
    from relay.staff.whom import whom

    written = context.address(person, "phone number, email address, id or name")
    with context.opened() as (config, db):
        with db.read() as connection:
            meant = whom(connection, written)
        channel, address = meant.channel, meant.address
        if suppress and not channel:
            remedy = "Leave out --suppress, or write the address."
            context.stop(Problem("by an id or a name no address is stopped.", remedy=remedy))
        target = masks.target(config.settings.secret_key, channel or "person", address)
        shown = Progress()
        counts = erase.look(db, meant.person, shown)
        shown.end()
        click.echo(f"To be erased: {erase.counts_in_words(counts)}.")
        click.echo(f"{erase.STAYS}\n{erase.OUT_OF_REACH}")
        if not yes and sys.stdin.isatty():
            click.confirm("Erase it? This cannot be undone.", abort=True)
        known = None if channel else erase.beginning(meant.person)
        by = {"target": target, "actor": "cli", "note": ""}
        id_, stopped = erasures.ask(db, channel, address, **by, known=known, stop=suppress)
        if suppress:
            state = "are stopped" if stopped else "were already stopped"
            click.echo(f"{messages(channel)} {state}.")
        if asked := erasures.take(db, id_):
            channels = Channels(config.settings, {}, config.delivery.allow)
            erase.forget(db, channels, config.policy, asked, shown)
            shown.end()
        with db.read() as connection:
            done = erasures.find(connection, id_)
        tell(done or {})


def tell(done: Mapping[str, Any]) -> None:
    """Print the result of an erasure. Exits with 1 if it is not complete."""
    from relay.jobs import erase

    outcome = done["outcome"]
    if outcome is None:
        said = "another process is erasing this person."
        context.stop(Problem(said, remedy="Run the command again later."))
    click.secho(f"Erased: {erase.counts_in_words(outcome['counts'])}.", fg="green")
    for problem in outcome["refused"]:
        context.show(Problem(problem, remedy="Erase it there by hand."))
    for table, number in outcome["left"].items():
        remedy = "Run the command again when the workers are idle."
        context.show(Problem(f"{number} rows still have it.", key=table, remedy=remedy))
    if outcome["left"] or outcome["refused"]:
        raise SystemExit(1)
    click.secho("Relay searched every table again: nothing is left.", fg="green")


class Progress:
    """Shows the progress of the search on a terminal."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._is_shown = sys.stderr.isatty()

    def __call__(self, table: str, rows: int) -> None:
        """Count so many more rows of a table as read, and show the total."""
        self._read[table] += rows
        if self._is_shown:
            said = f"Searching {table}: {self._read[table]:,} rows"
            click.echo(f"\r{said:<60}", err=True, nl=False)

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            click.echo(f"\r{'':<60}\r", err=True, nl=False)
        self._read.clear()
