"""The steps before a clinic goes live: a list that ticks itself off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from relay.channels import Channels
from relay.config.loader import Config, placeholders
from relay.ledger import audit, people, workers
from relay.ledger.database import Database
from relay.ledger.views import status
from relay.rules.channels import CHANNELS
from relay.staff.reach import check_lab
from relay.staff.test_send import SEND_TEST

_LATELY = timedelta(days=30)


@dataclass(frozen=True)
class Step:
    """A step before going live: what is `missing`, if anything, and what to do."""

    name: str
    title: str
    missing: str = ""
    remedy: str = ""


def steps(config: Config, db: Database) -> Iterator[Step]:
    """Yield each step, in the order that a clinic takes them. Asks the lab and the providers."""
    yield _clinic(config)
    yield from _in_ledger(db)
    yield _lab(config)
    used = {one for rule in config.rules for one in rule.ways}
    for channel in (one for one in CHANNELS if one in used):
        yield from _channel(config, db, channel)
    yield _alerts(config)
    yield _people(db)
    is_live = config.settings.delivery == "live"
    missing = "" if is_live else f"RELAY_DELIVERY is {config.settings.delivery}."
    remedy = "Set RELAY_DELIVERY=live once all else is done; allow-list first, for yourself."
    yield Step("delivery", "Delivery is live", missing, remedy)


def _clinic(config: Config) -> Step:
    live = replace(config, settings=replace(config.settings, delivery="live"))
    keys = [problem.key for problem in placeholders(live)]
    missing = f"config.toml still has the example's {', '.join(keys)}." if keys else ""
    return Step("clinic", "The clinic is yours", missing, "Write your own values.")


def _in_ledger(db: Database) -> Iterator[Step]:
    with db.read() as connection:
        alive, has_posted = workers.workers_alive(connection), status.has_posted(connection)
    missing = "" if alive else "No worker has been seen within the last minutes."
    remedy = "Start one: python -m relay.worker, or scale the worker process up."
    yield Step("worker", "A worker runs", missing, remedy)
    missing = "" if has_posted else "The lab has posted nothing yet."
    remedy = (
        "Give the lab the address /webhooks/lab and the secret; `flask relay simulate` tries it."
    )
    yield Step("webhook", "The lab's webhook has been seen", missing, remedy)


def _lab(config: Config) -> Step:
    wrong = next(check_lab(config.settings), None)
    missing = wrong.message if wrong else ""
    if wrong and wrong.where == "environment":
        missing = f"{wrong.key} {missing}"
    return Step("lab", "The lab's API answers", missing, wrong.remedy if wrong else "")


def _channel(config: Config, db: Database, channel: str) -> Iterator[Step]:
    row, settings = CHANNELS[channel], config.settings
    name = row.provider.name
    account = ", ".join(row.provider.account)
    missing, remedy = f"{account} is not set.", f"Copy it from {name}."
    if settings.accounts[channel]:
        # Asked even if delivery is not live yet: this account will be used.
        sends = replace(settings, delivery="live")
        asked = Channels(sends, config.delivery.senders, config.delivery.allow).account_faults(
            channel
        )
        found = next(iter(asked or ()), None)
        missing, remedy = (found.wrong, found.remedy) if found else ("", "")
    yield Step(f"{channel}-account", f"{name} sends for you", missing, remedy)
    with db.read() as connection:
        has_receipts = status.has_receipts(connection, channel)
        tests = audit.audited(connection, SEND_TEST, _LATELY, channel)
    missing = "" if tests else "None was sent within 30 days."
    remedy = "Run `flask relay send-test RULE`, or press the button on a rule's page."
    yield Step(f"{channel}-test", f"A test {row.word} was sent to yourself", missing, remedy)
    missing = "" if has_receipts else f"{name} has not reported on any {row.word} yet."
    remedy = f"Set {row.provider.receipts}, and send a test." if row.provider.receipts else ""
    yield Step(f"{channel}-receipts", f"{name}'s receipts arrive", missing, remedy)


def _alerts(config: Config) -> Step:
    group = config.policy.staff.get(config.policy.alerts)
    reached = group and any(map(group.on, CHANNELS))
    missing = "" if reached else "Nobody is alerted when something needs a person."
    remedy = "Name a staff group in [delivery] alerts."
    return Step("alerts", "Somebody is alerted", missing, remedy)


def _people(db: Database) -> Step:
    with db.read() as connection:
        active = sum(one["disabled_at"] is None for one in people.everyone(connection))
    missing = "" if active > 1 else f"{active or 'No'} account has a name."
    remedy = "Add two people at least: `flask relay user add EMAIL --role manager`."
    return Step("people", "A second person has an account", missing, remedy)
