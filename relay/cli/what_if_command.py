"""`flask relay what-if`: compares what an edited config would have sent with what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.cli.context import Since
from relay.errors import Problem

if TYPE_CHECKING:
    from relay.staff.what_if import Line, WhatIf

SHOWN = 20
_ONCE_IN_USE = """\
Once this config is in use it sends nothing for past events unless somebody replays one: it applies
to the events that come from then on. Relay checks waiting messages again when they are due, and
cancels those that the new rules do not want."""
_KEEP_ITS_NAME = "If it is the same rule, keep its name: Relay uses it to remember who has what."
_COLOURS = {"added": "green", "dropped": "red", "changed": "yellow"}


@click.command("what-if")
@click.option(
    "--config", required=True, type=click.Path(path_type=Path), help="The edited config.toml."
)
@click.option(
    "--since",
    type=Since(),
    default="30d",
    show_default=True,
    help="Past events since then: 2h, 30d or a date.",
)
@click.option("--details", is_flag=True, help=f"List every difference, not only {SHOWN}.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print every difference, one JSON object per line."
)
def what_if(config: Path, since: datetime, details: bool, as_json: bool) -> None:
    """Compare what an edited config would send with what was sent.

    Shows which messages about past events it would have added, dropped or changed. Sends nothing,
    writes nothing and asks the lab nothing.
    """
    from relay.cli.comparison import compare
    from relay.staff import costs
    from relay.staff.what_if import forbidden, renamed

    found = context.settings()
    edited = context.load(replace(found, config=config))
    with context.ledger(found) as db:
        current = context.in_use(found, db)
        for new, gone in renamed(edited, current):
            said = (
                f"rule {new} is new and {gone} is gone: people who already have {gone}'s message "
                f"would get {new}'s too, for events still to come."
            )
            context.show(Problem(said, "what-if", remedy=_KEEP_ITS_NAME, warning=True))
        compared, events = compare(db, edited, current, since)
    lines = sorted(
        compared.found.lines,
        key=lambda line: (line.at, line.event_id, line.rule, line.channel, line.what),
    )
    if as_json:
        for line in lines:
            click.echo(json.dumps(line_record(line)))
        return
    start = since.astimezone(edited.clinic.timezone)
    click.echo(
        f"{events:,} events since {start:%d %b %Y %H:%M}, with {config} instead of what was:"
    )
    for row in table(compared):
        click.echo(row)
    differences(compared, lines, details)
    for name, many in forbidden(compared):
        click.echo(f"[never.{name}] would have stopped {many:,}.")
    click.echo(f"{costs.of_edit(compared, datetime.now(UTC))}\n\n{_ONCE_IN_USE}")


def line_record(line: Line) -> dict[str, Any]:
    """A difference for JSON, with the same names as `list --json` uses."""
    named = {"role": "to"}
    plain = {named.get(name, name): value for name, value in line._asdict().items()}
    return {**plain, "at": line.at.isoformat()}


def table(compared: WhatIf) -> Iterator[str]:
    """Yield a table's lines: the counts of each rule in the file's order, then of removed rules."""
    from relay.staff.what_if import COUNTS

    rules = {rule.name: rule for rule in (*compared.current.rules, *compared.edited.rules)}
    names = [rule.name for rule in compared.edited.rules if rule.enabled]
    names += sorted(set(compared.found.counts) - set(names))
    rows = [("rule", "event", *(count.replace("-", " ") for count in COUNTS))]
    for name in names:
        event = rules[name].event if name in rules else ""
        counts = compared.found.counts[name]
        rows.append((name, event, *(f"{counts[count]:,}" for count in COUNTS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        texts = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
        texts += [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        yield click.style("  ".join(texts).rstrip(), bold=not number)


def differences(compared: WhatIf, lines: list[Line], details: bool) -> None:
    """Print a line for each difference, and a note on those that the edit does not cause."""
    from relay.staff.what_if import EITHER_WAY

    wanted = [line for line in lines if details or line.what != EITHER_WAY]
    shown = wanted if details else examples(wanted)
    click.echo()
    for line in shown:
        click.echo(format_line(compared, line))
    if len(shown) < len(wanted):
        click.echo(f"… and {len(wanted) - len(shown):,} more: --details")
    if not wanted:
        click.echo("No message would be added, dropped or changed.")
    if anyway := sum(counts[EITHER_WAY] for counts in compared.found.counts.values()):
        click.echo(
            f"\n{anyway:,} differ either way: config.toml as it is would not send them as they went"
            " out either (an opt-out, a replay, a config.toml edited since). --details lists them."
        )


def examples(lines: list[Line]) -> list[Line]:
    """A few of the lines: the latest of each rule and kind of difference."""
    kinds: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        kinds.setdefault((line.rule, line.what), []).append(line)
    each = max(1, SHOWN // len(kinds)) if kinds else 0
    chosen = {id(line) for found in kinds.values() for line in found[-each:]}
    return [line for line in lines if id(line) in chosen][-SHOWN:]


def format_line(compared: WhatIf, line: Line) -> str:
    """Return a difference as a line of text, in the clinic's time zone."""
    at = line.at.astimezone(compared.edited.clinic.timezone)
    what = click.style(f"{line.what.replace('-', ' '):<14}", fg=_COLOURS.get(line.what))
    who = f"{line.rule} → {line.role} {line.channel}".rstrip()
    if line.messages > 1:
        who = f"{who} x {line.messages}"
    about = f"{line.subject} (retest {line.round})" if line.round else line.subject
    return f"{at:%Y-%m-%d %H:%M:%S}  {what} {line.event} {about}  {who}  {line.why}".rstrip()
