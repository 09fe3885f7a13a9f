"""`flask relay edition …`: config.toml and the templates as numbered editions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.errors import Problem

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.ledger.database import Database
    from relay.rules.edition import Content, Edition

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_NOTE = "Why, for the record. No names or numbers, please."


@click.group()
def edition() -> None:
    """Show, compare, publish and take back editions of config.toml and the templates.

    The newest edition is what runs. Every process takes it within 30 seconds, as a whole.
    """


@edition.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_(as_json: bool) -> None:
    """List the editions, the newest first: that is the one in use."""
    from relay.ledger import editions

    with context.ledger(context.settings()) as db, db.read() as connection:
        found = editions.listed(connection)
    for one in found:
        if as_json:
            click.echo(json.dumps(as_values(one, found[0].number)))
        else:
            runs = "in use" if one is found[0] else ""
            when = one.made_at.astimezone().strftime("%Y-%m-%d %H:%M")
            line = f"{one.number:>5}  {when}  {one.source:<6} {one.author:<28} {runs:<7} {one.note}"
            click.echo(line.rstrip())
    if not found and not as_json:
        click.echo("There is none yet: `flask relay upgrade` keeps the files as the first.")


def as_values(one: Edition, newest: int) -> Mapping[str, Any]:
    """An edition's values for JSON."""
    return {
        "number": one.number,
        "hash": one.digest,
        "parent": one.number - 1 or None,
        "author": one.author,
        "note": one.note,
        "source": one.source,
        "made_at": one.made_at.isoformat(),
        "in_use": one.number == newest,
    }


@edition.command()
@click.argument("number", type=int)
def show(number: int) -> None:
    """Show who made an edition, when and why, its files, and what it changed."""
    from relay.ledger import editions
    from relay.rules.edition import as_bytes
    from relay.staff.editions import in_words

    found = context.settings()
    with context.ledger(found) as db:
        files = contents(found, db, str(number))
        before = contents(found, db, str(number - 1)) if number > 1 else None
        with db.read() as connection:
            about = next(one for one in editions.listed(connection) if one.number == number)
    when = about.made_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    click.secho(f"Edition {number}, by {about.author} at {when}: {about.note}", bold=True)
    click.echo(f"{about.digest}\n")
    for name, text in sorted(files.items()):
        click.echo(f"{len(as_bytes(text)):>8,} bytes  {name}")
    click.echo()
    for line in in_words(before, files, found) if before else ():
        click.echo(line)


@edition.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
def diff(before: str, after: str) -> None:
    """Show what edition B changes of edition A: in plain English, then line by line.

    "files" stands for the files as they are here.
    """
    found = context.settings()
    with context.ledger(found) as db:
        old, new = contents(found, db, before), contents(found, db, after)
    print_difference(old, new, found)


@edition.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
def check(folder: Path) -> None:
    """Judge DIR/config.toml and DIR/templates as an edition. Needs no ledger."""
    from relay.staff import judging

    found = context.settings()
    context.show_all(judging.within_limits(read(found, folder), found))
    click.secho(f"{folder} is right.", fg="green")


@edition.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--note", required=True, help=_NOTE)
def publish(folder: Path, note: str) -> None:
    """Make DIR/config.toml and DIR/templates the edition in use."""
    found = context.settings()
    with context.ledger(found) as db:
        make_newest(db, found, read(found, folder), note)


@edition.command()
@click.argument("number", type=int)
@click.option("--note", required=True, help=_NOTE)
def revert(number: int, note: str) -> None:
    """Make an edition the one in use again, as a new edition."""
    found = context.settings()
    with context.ledger(found) as db:
        files = contents(found, db, str(number))
        make_newest(db, found, files, f"Back to edition {number}. {note}" if note.strip() else "")


@edition.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--edition", "number", type=int, help="This one instead of the newest.")
@click.option("--force", is_flag=True, help="Write over what is in DIR.")
def export(folder: Path, number: int | None, force: bool) -> None:
    """Write an edition into DIR: config.toml, templates/ and a mark of which it is."""
    from relay.config import edition_files
    from relay.ledger import editions

    if folder.is_dir() and any(folder.iterdir()) and not force:
        context.stop(Problem("the folder is not empty.", str(folder), remedy="Or give --force."))
    found = context.settings()
    with context.ledger(found) as db:
        if number is None:
            with db.read() as connection:
                newest = editions.newest(connection)
            number = newest.number if newest else 0
        files = contents(found, db, str(number))
    edition_files.export(files, number, folder)
    click.secho(f"Edition {number} is in {folder}: {len(files)} files.", fg="green")


def make_newest(db: Database, found: Settings, files: Content, note: str) -> None:
    """Publish files and print what that changes, or stop the command and say why not."""
    from relay.ledger import editions as ledger_editions
    from relay.staff import editions, judging

    editions.first(db, found)
    with db.read() as connection:
        newest = ledger_editions.newest(connection)
    before = contents(found, db, str(newest.number)) if newest else {}
    wrong = judging.within_limits(files, found)
    with context.doing():
        number = editions.publish(db, files, newest, "cli", note, wrong)
    print_difference(before, files, found)
    click.secho(f"\nEdition {number} is published: in use within 30 seconds.", fg="green")


def read(found: Settings, folder: Path) -> Content:
    """The files of a folder. Raises ConfigError."""
    from relay.config import edition_files

    return edition_files.read(edition_files.settings_in(found, folder))


def contents(found: Settings, db: Database, name: str) -> Content:
    """The files of an edition by its number, or of this machine ("files"); or stop the command."""
    from relay.staff import editions

    with context.doing(), db.read() as connection:
        return editions.named(connection, found, name)


def print_difference(before: Content, after: Content, found: Settings) -> None:
    """Print the differences, with removed lines in red and new lines in green."""
    from relay.staff.editions import difference

    for line in difference(before, after, found):
        click.secho(line, fg={"-": "red", "+": "green"}.get(line[:1]))
