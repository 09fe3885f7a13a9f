"""Commands about the ledger: list, explain, replay, sweep, purge, upgrade."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from relay.cli import context
from relay.cli.context import Since
from relay.errors import LedgerUnavailable, Problem, Refused

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.config.settings import Settings
    from relay.ledger.database import Database

PATIENCE = 60.0  # seconds to wait for a worker that is sending some of the kept messages
_NOT_FAILED = "it did not fail, or may have gone out. For messages only kept here, use --kept."


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--status", help="Only this status, such as sent or permanent-failure.")
@click.option("--event", help="Only about this event, such as order.shipped.")
@click.option("--since", type=Since(), help="Only those since then: 2h, 30d or a date.")
def list_(as_json: bool, status: str | None, event: str | None, since: datetime | None) -> None:
    """List notifications, a line each, oldest first. No names, no addresses.

    Messages of kits that are in history are not listed: see `flask relay explain`.
    """
    from relay.errors import did_you_mean
    from relay.lab.events import EVENTS
    from relay.ledger.views.queries import Filter, notifications_where
    from relay.rules.statuses import STATUSES

    if event and event not in EVENTS:
        said = f'there is no event "{event}". {did_you_mean(event, EVENTS)}'
        raise click.BadParameter(said, param_hint="--event")
    if status:
        context.known(status, STATUSES, "status")
    found = context.settings()
    with context.ledger(found) as db, db.read() as connection:
        for row in notifications_where(connection, Filter(status, event, since)):
            said = json.dumps({**row}, default=datetime.isoformat) if as_json else in_a_line(row)
            click.echo(said)


def in_a_line(row: Mapping[str, Any]) -> str:
    """Return a notification as a line of text, its status green or red."""
    good = row["status"] in ("sent", "delivered", "created", "scheduled", "sending")
    status = click.style(f"{row['status']:<18}", fg="green" if good else "red")
    when = row["created_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    message = f"{row['event']:<36} {row['rule']:<24} {row['to']:<10} {row['channel']:<6}"
    return f"{when}  {row['id']}  {status} {message} {row['reason']}".rstrip()


@click.command()
@click.argument("ids", nargs=-1)
@click.option("--unrouted", is_flag=True, help="Events that Relay did not know when they came.")
@click.option("--quarantined", is_flag=True, help="Refused bodies that nobody has put aside.")
@click.option("--failed", is_flag=True, help="Failed messages and held events.")
@click.option("--kept", is_flag=True, help="Messages that dry-run delivery only kept here.")
@click.option(
    "--since", type=Since(), default="1d", show_default=True, help="With --kept: only those since."
)
@click.option("--yes", is_flag=True, help="With --kept: do not ask.")
def replay(
    ids: Sequence[str],
    unrouted: bool,
    quarantined: bool,
    failed: bool,
    kept: bool,
    since: datetime,
    yes: bool,
) -> None:
    """Process events or messages again. Relay never sends a message twice.

    IDS are events (evt_…), messages (msg_…) or refused bodies (qrt_…). `--kept` asks first,
    sends what is still true, and says how many went out; it needs RELAY_DELIVERY=live.
    """
    from relay.ledger import audit
    from relay.ledger import replay as ledger_replay
    from relay.ledger.worklist import quarantine
    from relay.rules.statuses import HELD, UNROUTED

    if kept and not (ids or unrouted or quarantined or failed):
        replay_kept(since, is_sure=yes)
        return
    if kept or not (ids or unrouted or quarantined or failed):
        known = "--unrouted, --quarantined, --failed"
        raise click.UsageError(f"Give ids, or one of {known}; or --kept alone.")
    found = context.settings()
    with context.ledger(found) as db:
        wanted = list(ids)
        with db.read() as connection:
            if unrouted:
                wanted += ledger_replay.ids_to_replay(connection, UNROUTED)
            if quarantined:
                wanted += quarantine.ids(connection)
            if failed:
                wanted += ledger_replay.ids_to_replay(connection, HELD)
                wanted += ledger_replay.failed_ids(connection)
        done = replay_all(db, found, wanted)
        with db.write() as connection:
            audit.write_audit(connection, "cli", "replay", "", f"{done} of {len(wanted)}")
        nowhere = [*going_nowhere(found, db, wanted)] if done else []
    context.wake_worker(found)
    click.secho(
        f"{done} of {len(wanted)} will be processed again.", fg="green" if done else "yellow"
    )
    for problem in nowhere:
        context.show(problem)
    if ids and done < len(wanted):
        raise SystemExit(1)


def going_nowhere(found: Settings, db: Database, wanted: Sequence[str]) -> Iterator[Problem]:
    """Yield the reasons why a replay may reach nobody."""
    from relay.config import check
    from relay.errors import ConfigError
    from relay.ledger import replay as ledger_replay
    from relay.ledger.holds import halts

    if found.delivery == "dry-run":
        said = "RELAY_DELIVERY is dry-run: Relay keeps the messages here and sends none."
        yield Problem(said, warning=True)
    with db.read() as connection:
        names, stops = ledger_replay.names_of(connection, wanted), halts.standing(connection)
    for halt in stops:
        yield Problem(halt.said, "stopped", remedy="See `flask relay resume`.", warning=True)
    try:
        config = context.rules_in_use(found, db)
    except ConfigError:
        return  # a worker still uses the last good one
    yield from (problem for problem in check.senders(config) if problem.warning)
    for name in sorted(names - {rule.event for rule in config.rules if rule.enabled}):
        yield Problem(f"no rule is on for {name}, so nobody gets a message.", warning=True)


def replay_all(db: Database, found: Settings, wanted: Sequence[str]) -> int:
    """Process each id again in its own transaction; return how many. Print why others cannot be."""
    done = 0
    with click.progressbar(wanted, label="Replaying", hidden=len(wanted) < 20) as bar:
        for id_ in bar:
            why = replay_one(db, found, id_)
            done += not why
            if why:
                context.show(Problem(why, key=id_, warning=True))
    return done


def replay_one(db: Database, found: Settings, id_: str) -> str:
    """Process an id again; return why not, or an empty string if it was done."""
    from relay.ledger import replay as ledger_replay

    kind = id_.partition("_")[0]
    if kind == "evt":
        with db.write() as connection:
            done = ledger_replay.replay_event(connection, id_)
        return "" if done else _why_not(db, id_, "there is no such event, or it already waits.")
    if kind == "msg":
        with db.write() as connection:
            done = ledger_replay.replay_notification(connection, id_)
        return "" if done else _why_not(db, id_, _NOT_FAILED)
    if kind == "qrt":
        return release_body(db, found, id_)
    return "ids begin with evt_, msg_ or qrt_."


def _why_not(db: Database, id_: str, else_: str) -> str:
    from relay.lab.events import EVENTS
    from relay.ledger import events, history

    with db.read() as connection:
        is_past = history.ids_with(connection, id_)
        event = events.get_event(connection, id_)
    if event and event.name not in EVENTS:
        return f"Relay does not know the event {event.name} yet."
    return "its kit is in history: nothing is left that could be sent." if is_past else else_


def release_body(db: Database, found: Settings, quarantine_id: str) -> str:
    """Record a refused body as an event, if Relay can now read it; return why not, or empty."""
    from relay.lab import events
    from relay.ledger.worklist import quarantine

    with db.read() as connection:
        body = quarantine.body(connection, quarantine_id)
    if body is None:
        return "it is not in quarantine."
    try:
        incoming = events.parse(body)
    except Refused as refused:
        return f"Relay still refuses it: {refused} {refused.fields or ''}".rstrip()
    window = context.last_good(found, db).delivery.dedupe_window
    with db.write() as connection:
        quarantine.release(connection, quarantine_id, incoming, window)
    return ""


def replay_kept(since: datetime, *, is_sure: bool) -> None:
    """Ask, send the kept messages that are still true, and print how many went out."""
    from relay.lab.facts import PERSONS
    from relay.ledger import audit
    from relay.ledger import replay as ledger_replay

    settings = context.settings()
    if settings.delivery != "live":
        said = f"RELAY_DELIVERY is {settings.delivery}: they would only be kept here again."
        context.stop(Problem(said, "environment", remedy="Set RELAY_DELIVERY=live first."))
    with context.ledger(settings) as db:
        config = context.in_use(settings, db)
        with db.read() as connection:
            found = ledger_replay.kept(connection, settings.accounts)
        chosen = [one for one in found if one.created_at >= since]
        if older := len(found) - len(chosen):
            said = f"{older:,} older than {since:%Y-%m-%d %H:%M} UTC stay as they are."
            context.show(Problem(said, remedy="--since takes them too.", warning=True))
        if not chosen:
            click.echo("Nothing else was only kept here.")
            return
        many = Counter((one.rule, one.channel) for one in chosen)
        for (rule, channel), number in sorted(many.items()):
            click.echo(f"  {rule:<24} {channel:<6} {number:>7,}")
        people = len(
            {(one.subject, one.role) if one.role in PERSONS else one.address for one in chosen}
        )
        asked = f"Messages: {len(chosen):,}, to people: {people:,}. Send them now?"
        if not is_sure:
            click.confirm(f"{asked} Relay asks the lab again, and leaves what is old.", abort=True)
        ids = [one.id for one in chosen]
        with db.write() as connection:
            taken = ledger_replay.release_kept(connection, ids)
            audit.write_audit(connection, "cli", "replay", "", f"kept: {taken}")
        click.echo(outcome_in_words(send_kept(config, db, ids)))


def send_kept(config: Config, db: Database, ids: Sequence[str]) -> Counter[str]:
    """Send due messages, here and by the running workers; return how many have each status."""
    from relay.jobs.tasks import Jobs
    from relay.ledger import replay as ledger_replay
    from relay.worker.pump import Pump

    pump = Pump(Jobs(config, db))
    ends = time.monotonic() + PATIENCE
    try:
        while True:
            pump.drain(PATIENCE)
            with db.read() as connection:
                found = ledger_replay.statuses(connection, ids)
            if not found["sending"] or time.monotonic() > ends:
                return found
            time.sleep(0.5)
    finally:
        pump.stop()


def outcome_in_words(found: Counter[str]) -> str:
    """The outcome of sending kept messages, in words."""
    out, wait = found["sent"] + found["delivered"], found["created"] + found["scheduled"]
    left = found.total() - out - wait
    said = [f"{out:,} went out."]
    if wait:
        said.append(f"{wait:,} wait: for their hour, for the lab, or for a stop to end.")
    if left:
        said.append(f"{left:,} did not: `flask relay list` says why.")
    return " ".join(said)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.option(
    "--as-sent", is_flag=True, help="Send nothing: mark all that is due as sent, whatever the hour."
)
def sweep(as_json: bool, as_sent: bool) -> None:
    """Do the clock's work once: due rows, lapsed claims, retention.

    This process sends what is due itself; it needs no worker. After a restore from a backup,
    whatever is due has already gone out: `--as-sent` marks it as sent, whatever its send window.
    """
    from relay.jobs.isolation import Broken, run_isolated
    from relay.jobs.tasks import Jobs
    from relay.ledger.holds import pauses
    from relay.worker.pump import Pump

    with context.opened() as (config, db):
        if as_sent:
            with db.write() as connection:
                pauses.resume_all(connection)
        jobs = Jobs(config.as_sent() if as_sent else config, db)
        pump = Pump(jobs)
        try:
            parts = {"lapsed": jobs.sweep, "purged": jobs.purge, "done": pump.drain}
            counts = dict(zip(parts, run_isolated(parts), strict=True))
        except Broken as error:
            if isinstance(error.__cause__, LedgerUnavailable):
                raise error.__cause__ from error
            context.stop(Problem(str(error), remedy="The log says why."))
        finally:
            pump.stop()
    click.echo(json.dumps(counts) if as_json else counts_in_words(counts))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the count as JSON.")
@click.option(
    "--history", "with_history", is_flag=True, help="Move finished kits to history, as at night."
)
def purge(as_json: bool, with_history: bool) -> None:
    """Blank contact details and message texts that are too old.

    They are too old after `retention` in config.toml. With `--history`, kits that are finished
    then leave the lists; `explain` still tells of them, for as long as `history` in config.toml.
    """
    from relay.jobs.tasks import Jobs
    from relay.ledger import audit

    with context.opened() as (config, db):
        jobs = Jobs(config, db)
        counts = {"purged": jobs.purge()}
        if with_history:
            counts["moved"] = jobs.move_to_history().moved
        with db.write() as connection:
            said = ", ".join(map(str, counts.values()))
            audit.write_audit(connection, "cli", "purge", "", said)
    click.echo(json.dumps(counts) if as_json else counts_in_words(counts))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Counts on one line, as in: processed 3, held 1."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


@click.command()
def upgrade() -> None:
    """Bring the ledger's tables to this version, and its files into use. Safe at every release.

    Where the files have changed since the last release they become the next edition. Where somebody
    has published another meanwhile, the release stops and says what to do.
    """
    from relay.ledger import migrate
    from relay.ledger.schema import REVISION

    settings = context.settings()
    with context.ledger(settings) as db:
        found = migrate.upgrade(db)
        if found == REVISION:
            click.secho(f"The ledger is at revision {REVISION}.", fg="green")
            bring_files(db, settings)
            return
    newer = f"The ledger is newer ({found}) than this version knows ({REVISION})"
    context.show(Problem(f"{newer}; nothing was changed.", warning=True))


def bring_files(db: Database, settings: Settings) -> None:
    """Make the files an edition, or stop the release if another was published meanwhile."""
    from relay.cli.edition_commands import contents, print_difference
    from relay.config.edition_files import CONFIG
    from relay.staff import editions

    came = editions.release(db, settings)
    if came.number:
        click.echo(f"The files are edition {came.number} from now on.")
    elif came.newest and came.wrong:
        context.show(Problem(f"this version cannot use edition {came.newest.number}:", "editions"))
        context.stop(*came.wrong)
    elif came.newest:
        number, files = came.newest.number, contents(settings, db, editions.AS_FILES)
        names = {"The files": files, f"Edition {number}": contents(settings, db, str(number))}
        base = contents(settings, db, str(came.base.number)) if came.base else {CONFIG: ""}
        for name, after in names.items():
            click.secho(f"{name} changed since the last release:", bold=True)
            print_difference(base, after, settings)
        said = f"the files and edition {number} have both changed since the last release."
        remedy = "Run `flask relay edition export DIR`, put your change into it, and release that."
        context.stop(Problem(said, "editions", remedy=remedy))
    elif came.wrong:
        said = "the files have mistakes, so they are no edition yet: run `flask relay check`."
        context.show(Problem(said, CONFIG, warning=True))


@click.command("explain")
@click.argument("id_", metavar="ID")
def explain_(id_: str) -> None:
    """Show step by step what became of an event, message or kit.

    ID is an event (evt_…), a message (msg_…), a refused body (qrt_…), an attempt, or a kit's order,
    order number, tracking number, registration, TRF code or your own reference.
    """
    from relay.ledger.views import status as views_status
    from relay.ledger.views import trail
    from relay.ledger.worklist import quarantine
    from relay.messages.alerts import AlertTemplates
    from relay.messages.templates import Templates
    from relay.staff.explain import explain_kit, explain_refused

    found = context.settings()
    with context.ledger(found) as db, db.read() as connection:
        config = context.last_good(found, db)
        zone = config.clinic.timezone
        templates = Templates(config.settings.templates)
        title = AlertTemplates(templates, config.clinic.record()).title
        standing = views_status.blockers(connection, zone, config.delivery.daily_sms_limit)
        records = [*explain_kit(trail.find(connection, id_), zone, standing, title)]
        if not records and (row := quarantine.get(connection, id_)):
            records.append(explain_refused(row, zone))
    if not records:
        remedy = "`flask relay list` shows the ids of messages and their events."
        context.stop(Problem("the ledger has no such id.", key=id_, remedy=remedy))
    for number, lines in enumerate(records):
        if number:
            click.echo()
        for indent, line in lines:
            click.secho(f"{'  ' * indent}{line}", bold=not indent)
