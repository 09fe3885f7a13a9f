"""`flask relay forget`: one person is erased, and that is proved."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from relay.cli import opened
from relay.cli.suppression_commands import KINDS, read
from relay.errors import Problem


@click.command()
@click.argument("address", required=False)
@click.option("--yes", is_flag=True, help="Do not ask. Only a terminal is asked.")
@click.option("--suppress", is_flag=True, help="Send nothing more to the address either.")
def forget(address: str | None, yes: bool, suppress: bool) -> None:
    """Erase the person behind ADDRESS everywhere: a UK mobile number or an email address.

    Left out, or "-", the address is asked for on a terminal, else read from stdin.

    Messages that wait are cancelled. Afterwards every table is searched for what was erased; where
    anything is left, or a provider did not erase its part, the command ends with 1. Once it has
    begun, a worker finishes it even if the command does not.
    """
    from relay.channels import Channels
    from relay.jobs import erase
    from relay.ledger import erasures
    from relay.privacy import masks

    channel, written = read(address)
    found = opened.settings()
    config = opened.load(found)
    target = masks.target(found.secret_key, channel, written)
    with opened.ledger(found) as db:
        shown = Progress()
        counts = erase.look(db, written, shown)
        shown.end()
        click.echo(f"To be erased: {erase.told(counts)}.")
        click.echo(f"{erase.STAYS}\n{erase.OUT_OF_REACH}")
        if not yes and sys.stdin.isatty():
            click.confirm("Erase it? There is no way back.", abort=True)
        by = {"target": target, "actor": "cli", "note": ""}
        id_, stopped = erasures.ask(db, channel, written, **by, stop=suppress)
        if suppress:
            click.echo(f"{KINDS[channel]} {'are stopped' if stopped else 'were stopped already'}.")
        if asked := erasures.take(db, id_):
            channels = Channels(found, {}, config.delivery.allow)
            erase.forget(db, channels, config.policy, asked, shown)
            shown.end()
        _tell(erasures.find(db, id_) or {})


def _tell(done: Mapping[str, Any]) -> None:
    """What came of it, in words; ends with 1 where it is not whole."""
    from relay.jobs import erase

    outcome = done["outcome"]
    if outcome is None:
        opened.stop(
            Problem("another process erases the person.", remedy="Run the command again later.")
        )
    click.secho(f"Erased: {erase.told(outcome['counts'])}.", fg="green")
    for problem in outcome["refused"]:
        opened.show(Problem(problem, remedy="Erase it there by hand."))
    for table, number in outcome["left"].items():
        remedy = "Run the command again when the workers are idle."
        opened.show(Problem(f"{number} rows still have it.", key=table, remedy=remedy))
    if outcome["left"] or outcome["refused"]:
        raise SystemExit(1)
    click.secho("Every table was searched again: nothing is left.", fg="green")


class Progress:
    """How far the search is, on a terminal."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._is_shown = sys.stderr.isatty()

    def __call__(self, table: str, rows: int) -> None:
        """So many more rows of a table were read."""
        self._read[table] += rows
        if self._is_shown:
            said = f"Searching {table}: {self._read[table]:,} rows"
            click.echo(f"\r{said:<60}", err=True, nl=False)

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            click.echo(f"\r{'':<60}\r", err=True, nl=False)
        self._read.clear()
