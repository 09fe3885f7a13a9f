"""Commands about config.toml, the templates, and what going live needs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.errors import Problem, Refused

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.messages.templates import Message
    from relay.rules.model import Rule

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="Check this file instead of config.toml."
)
@click.option("--offline", is_flag=True, help="Judge the files alone: no secret, no server.")
def check(config: Path | None, offline: bool) -> None:
    """Check config, templates, environment and connections.

    Prints every problem with its line. Exits with 1 if any of them is an error.
    """
    from relay.cli import connections
    from relay.config import check as checks
    from relay.staff import reach

    found, problems = context.judged(config, to_serve=not offline)
    loaded, in_files = checks.files(found, datetime.now(UTC).date(), offline=offline)
    if offline:
        problems = in_files
    elif problems:  # no token goes to a wrong address
        problems += in_files
    else:
        problems = [*checks.missed_later(found), *in_files, *connections.check(found, loaded)]
    context.show_all(problems)
    rules = sum(rule.enabled for rule in loaded.rules)
    click.secho(f"{found.config} is right: {rules} rules are on.", fg="green")
    if not offline:
        click.echo(reach.in_use(loaded))


@click.command()
@click.argument("rule")
@click.option("--event", type=_file, help="A file with a webhook's JSON body, to use as the event.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per message.")
def preview(rule: str, event: Path | None, as_json: bool) -> None:
    """Show the SMS and email of a RULE as they would be sent.

    They have the lab's example data, or that of `--event`.
    """
    from relay.messages.templates import Templates
    from relay.rules.addresses import AT_HOME

    config = context.load(context.settings())
    found = find_rule(config, rule)
    abroad = config.policy.countries - AT_HOME
    for one in Templates(config.settings.templates).variants(found):
        language = one.template.removeprefix(found.template).strip("/")
        for channel in one.ways:
            message = example_message(config, one, channel, event)
            said = {"channel": channel, **({"language": language} if language else {})}
            if as_json:
                click.echo(json.dumps({**said, **message.content, **sms_size(message, abroad)}))
            else:
                print_message(message, language, abroad)


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
                fields = {"name": step.name, "done": not step.missing, "title": step.title}
                click.echo(json.dumps({**fields, "missing": step.missing, "remedy": step.remedy}))
            elif step.missing:
                tick = click.style("[ ]", fg="yellow")
                click.echo(f"{tick} {step.title}: {step.missing} {step.remedy}".rstrip())
            else:
                click.echo(f"{click.style('[x]', fg='green')} {step.title}")
    if missing:
        raise SystemExit(1)


@click.command("send-test")
@click.argument("rule")
@click.option(
    "--to", help="A UK mobile number or an email address. Without it, Relay asks or reads stdin."
)
def send_test(rule: str, to: str | None) -> None:
    """Send one real message of a RULE, marked as a test.

    It has the lab's example data.
    """
    from relay.staff import test_send

    with context.opened() as (config, db):
        chosen, address = find_rule(config, rule), context.address(to)
        tried = test_send.send(config, db, "cli", chosen, address)
    if not tried.is_live:
        mode = config.settings.delivery
        said = f"Not sent: RELAY_DELIVERY is {mode}. This would have gone out:"
        click.secho(said, fg="yellow")
        print_message(tried.message)
        return
    click.secho(f"Sent. The provider's id for it is {tried.provider_id}.", fg="green")


def find_rule(config: Config, name: str) -> Rule:
    """Return the rule of that name, or stop the command and suggest a known one."""
    context.known(name, config.by_name, "rule")
    return config.by_name[name]


def example_message(config: Config, rule: Rule, channel: str, event: Path | None) -> Message:
    """Render a rule's message for the event in a file or a sample, or stop the command."""
    from relay.config import check
    from relay.lab import events
    from relay.messages.templates import Templates

    loaded = Templates(config.settings.templates)
    if event is None:
        return check.example(config, loaded, rule, channel)
    try:
        incoming = events.parse(event.read_bytes())
    except Refused as error:
        context.stop(Problem(f"{error} {error.fields or ''}".strip(), str(event)))
    if incoming.name != rule.event:
        said = f"this event is {incoming.name}, but the rule is for {rule.event}."
        context.stop(Problem(said, str(event)))
    return check.example(config, loaded, rule, channel, data=incoming.data)


def sms_size(message: Message, abroad: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return segments, alphabet, units and price class of an SMS; {} for other channels."""
    if (size := message.size) is None:
        return {}
    return {
        "segments": size.segments,
        "alphabet": size.alphabet,
        "units": size.units,
        "price_class": f"UK mobile, {size.segments} segment{'s' * (size.segments != 1)}"
        + (f"; another price for {', '.join(sorted(abroad))}" if abroad else ""),
    }


def print_message(
    message: Message, language: str = "", abroad: frozenset[str] = frozenset()
) -> None:
    """Print a message: channel, address, subject, text, and the size of an SMS or HTML."""
    click.secho(" ".join(filter(None, (message.channel.upper(), language))), bold=True)
    shown = {
        "to": message.address,
        "from": message.sender,
        "answers to": message.html and message.reply_to,
        "subject": message.subject,
    }
    for name, value in shown.items():
        if value:
            click.echo(f"{name}: {value}")
    click.echo(f"\n{message.text}\n")
    if size := sms_size(message, abroad):
        click.secho(
            f"{size['price_class']} ({size['alphabet']}, {size['units']} characters)\n", dim=True
        )
    if message.html:
        click.secho(f"and the same as HTML, {len(message.html.encode()) / 1024:.1f} KB\n", dim=True)
