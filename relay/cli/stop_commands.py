"""The stop button: `stop` and `resume` all messages, a channel's or a rule's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.errors import ConfigError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.ledger.database import Database


def of_what(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which messages a command is about."""
    options = (
        click.option("--all", "is_all", is_flag=True, help="All messages, staff's alerts too."),
        click.option("--channel", help="A channel's messages: sms or email."),
        click.option("--rule", help="A rule's messages, with its fallbacks and digests."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@of_what
@click.option("--reason", required=True, help="Why, for the record. No names or numbers, please.")
@click.option(
    "--cancel",
    is_flag=True,
    help="Cancel the rule's messages of the last hour that have not left, for good.",
)
def stop(is_all: bool, channel: str | None, rule: str | None, reason: str, cancel: bool) -> None:
    """Stop sending at once, until somebody resumes it.

    Within two seconds nothing of it is handed over. What waits keeps waiting and says why; what the
    lab posts is taken all the same.
    """
    from relay.ledger.holds import stop_button
    from relay.ledger.views import stopped

    what = named(is_all, channel, rule)
    if not (written := reason.strip()):
        raise click.UsageError('Write why, for the record: --reason "…".')
    if cancel and not rule:
        raise click.UsageError("Only a rule's messages can be cancelled in one act: give --rule.")
    found = context.settings()
    with context.ledger(found) as db:
        if rule:
            check_rule(found, db, rule)
        is_new = stop_button.stop(db, what, "cli", written)
        cancelled = stop_button.cancel_latest(db, rule, "cli", written) if cancel and rule else 0
        with db.read() as connection:
            [(halt, many)] = [one for one in stopped.counted(connection) if one[0].what == what]
            left = stopped.left(connection, halt, 0).many
    said = f"It was stopped already. {halt.said}" if not is_new else f"{halt.words} are stopped."
    click.secho(said, fg="green" if is_new else "yellow")
    if cancel:
        click.echo(f"{cancelled:,} of the rule's last hour are cancelled.")
    click.echo(f"{many:,} wait. {left:,} had left in the hour before, or were just leaving.")


@click.command()
@of_what
@click.option("--drop", is_flag=True, help="Cancel for good what waits, however late it is due.")
def resume(is_all: bool, channel: str | None, rule: str | None, drop: bool) -> None:
    """Let what was stopped go on, the urgent first, each in its send window.

    What another stop holds as well keeps waiting. What is dropped does not come back by itself:
    `flask relay replay msg_…` brings back one message.
    """
    from relay.ledger.holds import halts, stop_button
    from relay.ledger.views import stopped

    what = named(is_all, channel, rule)
    found = context.settings()
    with context.ledger(found) as db:
        if drop and sys.stdin.isatty():
            click.confirm("Cancel all that waits? Nobody will get it.", abort=True)
        dropped = stop_button.resume(db, what, "cli", drop=drop)
        with db.read() as connection:
            others = stopped.counted(connection)
    context.wake_worker(found)
    words = halts.in_words(what)
    if dropped is None:
        click.secho(f"{words} were not stopped.", fg="yellow")
    else:
        note = f" {dropped:,} that waited are cancelled." if drop else ""
        click.secho(f"{words} go out again.{note}", fg="green")
    for halt, many in others:
        click.secho(f"{halt.said} ({many:,} wait)", fg="yellow")


def named(is_all: bool, channel: str | None, rule: str | None) -> str:
    """The ledger's name for what a command is about. Exits with 2 if that is not one thing."""
    from relay.ledger.holds.halts import ALL, CHANNEL, RULE
    from relay.rules.channels import CHANNELS

    if is_all + (channel is not None) + (rule is not None) != 1:
        raise click.UsageError("Give one of --all, --channel and --rule.")
    if channel is not None:
        context.known(channel, CHANNELS, "channel")
    return ALL if is_all else f"{CHANNEL} {channel}" if channel else f"{RULE} {rule}"


def check_rule(found: Settings, db: Database, rule: str) -> None:
    """Exit with 1 if there is no such rule; skipped if a mistake in config.toml hides the rules."""
    with suppress(ConfigError):
        known = [one.name for one in context.rules_in_use(found, db).rules]
        context.known(rule, known, "rule")
