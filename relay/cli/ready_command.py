"""`flask relay ready`: what is still missing before going live."""

from __future__ import annotations

import json

import click

from relay.cli import context


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per step.")
def ready(as_json: bool) -> None:
    """List what going live needs, and what to do next about each thing that is missing.

    Asks the lab and the providers, and sends nothing. Exits with 1 while something is missing.
    """
    from relay.staff import ready as going_live

    found = context.settings()
    config = context.load(found)
    missing = 0
    with context.ledger(found) as db:
        for step in going_live.steps(config, db):
            missing += bool(step.missing)
            if as_json:
                told = {"name": step.name, "done": not step.missing, "title": step.title}
                click.echo(json.dumps({**told, "missing": step.missing, "remedy": step.remedy}))
            elif step.missing:
                tick = click.style("[ ]", fg="yellow")
                click.echo(f"{tick} {step.title}: {step.missing} {step.remedy}".rstrip())
            else:
                click.echo(f"{click.style('[x]', fg='green')} {step.title}")
    if missing:
        raise SystemExit(1)
