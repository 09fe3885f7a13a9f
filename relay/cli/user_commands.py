"""Commands about the people who use the desk: their accounts, and who looked at whom."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.cli.context import Since
from relay.errors import Problem
from relay.staff.roles import ROLES, WORDS

if TYPE_CHECKING:
    from relay.config.settings import Settings

_ROLE = click.Choice([*ROLES])
_ROLES = "A " + "; a ".join(f"{role} {words}" for role, words in WORDS.items()) + "."


@click.group(help=f"Add, change and disable the accounts of people who use the desk. {_ROLES}")
def user() -> None:
    """The group of the commands below."""


@user.command()
@click.argument("login", metavar="EMAIL")
@click.option("--role", type=_ROLE, required=True, help="What they may do.")
def add(login: str, role: str) -> None:
    """Add an account, and print the link by which its owner chooses a password."""
    from relay.rules.addresses import EMAIL

    if (judged := EMAIL.judge(login)).reason or len(login) > 100:
        said = judged.reason or "That address is too long."
        context.stop(Problem(said, remedy="Write it as in jane@example.org."))
    token = secrets.token_urlsafe(24)
    found = _change("add", login, role, token)
    click.secho(f"Added {login.lower()} as {role}.", fg="green")
    _invite(found, token)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_(as_json: bool) -> None:
    """List the accounts."""
    from relay.ledger import people

    with context.ledger(context.settings()) as db, db.read() as connection:
        rows = people.everyone(connection)
    if not rows and not as_json:
        click.echo("There is only the first account, whose password is ADMIN_PASSWORD.")
    for row in rows:
        state = "disabled" if row["disabled_at"] else "active"
        if state == "active" and not (row["password_hash"] or row["oidc_subject"]):
            state = "invited"
        if as_json:
            made = row["created_at"].isoformat()
            fields = dict(email=row["login"], role=row["role"], state=state, created_at=made)
            click.echo(json.dumps(fields))
        else:
            click.echo(f"{row['login']:<40} {row['role']:<8} {state}")


@user.command()
@click.argument("login", metavar="EMAIL")
@click.argument("role", type=_ROLE)
def role(login: str, role: str) -> None:
    """Give an account another role. It counts from their next click on."""
    _change("role", login, role)
    click.secho(f"{login.lower()} is {role} from now on.", fg="green")


@user.command()
@click.argument("login", metavar="EMAIL")
def disable(login: str) -> None:
    """Disable an account and end its sessions. `user reset` undoes it."""
    _change("disable", login)
    click.secho(f"{login.lower()} is disabled, and logged out everywhere.", fg="green")


@user.command()
@click.argument("login", metavar="EMAIL")
def reset(login: str) -> None:
    """Take an account's password and second factor away, and print a new link for its owner."""
    token = secrets.token_urlsafe(24)
    found = _change("reset", login, "", token)
    click.secho(f"{login.lower()} is logged out everywhere, and invited anew.", fg="green")
    _invite(found, token)


def _change(what: str, login: str, role: str = "", token: str = "") -> Settings:
    from relay.ledger import people
    from relay.ledger.audit import Act

    found, act = context.settings(), Act("cli", f"user {what}", login.strip().lower())
    given = tuple(filter(None, (role, token)))
    doing: dict[str, Any] = {
        "add": people.add,
        "role": people.set_role,
        "disable": people.disable,
        "reset": people.reset,
    }
    with context.ledger(found) as db, context.doing(login), db.write() as connection:
        doing[what](connection, login, *given, act)
    return found


def _invite(found: Settings, token: str) -> None:
    click.echo("Give them this link. It works once, for seven days:")
    click.echo(f"{found.public_url or '<where the desk is>'}/join/{token}")


@click.command()
@click.argument("whom", metavar="ADDRESS-OR-KIT", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for a spreadsheet.")
@click.option("--all", "everything", is_flag=True, help="The whole trail, not one person's.")
@click.option("--since", type=Since(), default="365d", show_default=True, help="With --all.")
def access(
    whom: str | None, as_json: bool, as_csv: bool, everything: bool, since: datetime
) -> None:
    """Say who has looked at a person or a kit, or acted on them, and when.

    Leave ADDRESS-OR-KIT out, or write "-": Relay then asks for it on a terminal, or else reads
    stdin. The trail records this look too.
    """
    from relay.ledger import audit
    from relay.privacy import masks
    from relay.staff import access as who
    from relay.staff.looks import ACCESS

    found = context.settings()
    written = "" if everything else context.address(whom, "number, email address or kit").strip()
    with context.ledger(found) as db:
        with db.read() as connection:
            if everything:
                rows: list[Mapping[str, Any]] | None = [*audit.all_lines(connection, since)]
            else:
                rows = who.of(connection, found, written)
        if rows is None:
            remedy = "Write a phone number or an email address, or any name of a kit."
            context.stop(Problem("Relay knows no such person or kit.", remedy=remedy))
        target = masks.target(found.secret_key, "person", written) if written else "all"
        with db.write() as connection:
            audit.write_audit(connection, "cli", ACCESS, target, f"{len(rows)} lines")
    if as_csv:
        click.echo(who.csv_line(who.FIELDS), nl=False)
    for row in rows:
        if as_json:
            click.echo(json.dumps(who.for_programs(row)))
        elif as_csv:
            click.echo(who.csv_line(who.for_programs(row).values()), nl=False)
        else:
            words = audit.ACT_WORDS.get(row["action"], row["action"])
            at = row["at"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
            click.echo(f"{at}  {row['actor']}: {words}. {row['target']} {row['detail']}".rstrip())
    if not rows and not (as_json or as_csv):
        click.echo("Nobody has looked at it or done anything about it.")
