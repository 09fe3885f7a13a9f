"""The worker's jobs, wired together: they lease what is due here, and other modules do the work.

Each takes a row that is already claimed, and records the outcome in the ledger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from relay.channels import Channels
from relay.config.loader import Config
from relay.http_client import HttpClient
from relay.jobs.circuit_breaker import CircuitBreaker, LabBreaker
from relay.jobs.compose import Composer, rule_case, rule_now
from relay.jobs.deliver import Deliverer
from relay.jobs.follow_up import FollowUps
from relay.jobs.isolation import run_isolated
from relay.jobs.process_event import EventProcessor
from relay.jobs.reconcile import Reconciler
from relay.jobs.rule_context import ContextBuilder
from relay.jobs.watchdog import BACK
from relay.lab.client import LabClient
from relay.ledger import attempts, audit, events, history, receipts
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.events import Event
from relay.ledger.holds import stop_button, waits
from relay.ledger.holds.allowances import Cap
from relay.ledger.removal import retention
from relay.ledger.views import daily_counts
from relay.ledger.worklist import faults, releases
from relay.ledger.worklist.cases import open_case
from relay.logs import get_logger
from relay.messages.templates import Templates
from relay.rules import alerts
from relay.rules.channels import CHANNELS
from relay.rules.model import Case, DailyLimit
from relay.rules.schedule import midnight, utc_now

log = get_logger("relay.jobs")

CHARTED = timedelta(days=daily_counts.DAYS + 1)


class Jobs:
    """All jobs of a worker, wired to one config, ledger, lab, set of templates and channels."""

    def __init__(self, config: Config, db: Database, connections: int = 32):
        settings = config.settings
        self.config = config
        self.db = db
        self.templates = Templates(settings.templates)
        self.lab = LabClient(
            HttpClient(connections=connections), settings.lab_api_url, settings.lab_api_token
        )
        self.channels = Channels(settings, config.delivery.senders, config.delivery.allow)
        self.lab_breaker = LabBreaker(self.lab, db, config.policy)
        contexts = ContextBuilder(config, db, self.lab_breaker, self.templates)
        composer = Composer(config, db, self.templates, contexts)
        self._events = EventProcessor(config, db, contexts)
        self._messages = Deliverer(
            config, db, self.channels, composer, CircuitBreaker(config.policy)
        )
        self.reconciler = Reconciler(config, db, self.channels)
        self.follow_ups = FollowUps(config, db, contexts)
        self._knows_rules = False  # whether it has compared what is planned with the rules

    def process(self, event: Event) -> Set[str]:
        """Process a leased event; return the channels by which messages may be due now. See
        relay/jobs/process_event.py.
        """
        return self._events.process(event)

    def deliver(self, claim: Claim) -> None:
        """Deliver a claimed message: see relay/jobs/deliver.py."""
        self._messages.deliver(claim)

    def lease_events(self, limit: int) -> list[Event]:
        """Lease up to `limit` due events; while the lab is paused, one as a probe."""
        return events.lease_events(self.db, limit) or self.lab_breaker.lease_probe()

    def lease_lapsed(self, limit: int) -> list[Event]:
        """Lease up to `limit` events whose lease has lapsed: one may have ended its worker."""
        return events.lease_events(self.db, limit, lapsed=True)

    def claim(self, channel: str, limit: int, *, may_ask: bool = False) -> list[Claim]:
        """Claim a channel's due notifications, within the day's limit: those that `may_ask` the lab
        first, or those that need not.
        """
        cap = self._today(channel) if CHANNELS[channel].in_segments else None
        return attempts.claim(self.db, channel, limit, cap, may_ask=may_ask)

    def _today(self, channel: str) -> Cap:
        """The day's limit on texts. A day begins at midnight where the clinic is."""
        began = midnight(utc_now(), self.config.clinic.timezone)
        most, policy = self.config.delivery.daily_sms_limit, self.config.policy

        def case(urgency: int) -> Case:
            reason = DailyLimit(most).reason(urgency)
            key = f"{began.date()} {reason}"  # a limit that changed today is reported again
            return alerts.case("limit", key, channel, reason, policy=policy, now=utc_now())

        return Cap(most, began, case)

    def sweep(self) -> int:
        """Do the timed work: lapsed claims, receipts that never came, waiting messages, the day's
        counts.

        Return the number of messages that it settled. Raises Broken after all other parts are done.
        """
        db = self.db
        reached = [*filter(self.channels.reaches, CHANNELS)]
        parts: dict[str, Callable[[], Any]] = {
            "claims": partial(attempts.lapse, db),
            "receipts": partial(receipts.give_up, db, self.channels.asked()),
            "released": partial(releases.close_released, db),
            "audit": partial(db.transact, audit.carry_over),
            "rules": self._see_to_rules,
            "accounts": partial(waits.resume_channels, db, reached),
            "orders": partial(waits.resume_orders, db),
            "stops": partial(stop_button.apply_stops, db),
            "held": partial(waits.resume_held, db),
            "lab": self.lab_breaker.look,
            "faults": partial(db.transact, faults.recount),
            "days": partial(daily_counts.keep, db, self.config.clinic.timezone, utc_now()),
        }
        lapsed, given_up, *_ = run_isolated(parts)
        if lapsed or given_up:
            log.warning("sweep", lapsed=lapsed, without_receipt=given_up)
        return int(lapsed + given_up)

    def _see_to_rules(self) -> None:
        """Make planned messages wait if their rule is gone or now writes to somebody else; release
        messages that wait for a rule that exists.
        """
        if not self._knows_rules:  # once per configuration: it reads all that is planned
            with self.db.read() as connection:
                found = waits.planned(connection)
            for planned in found:
                self._keep_if_gone(planned.rule, planned.role, planned.many, planned.event_id)
            self._knows_rules = True
        waits.resume_rules(self.db, {(rule.name, rule.to) for rule in self.config.rules})

    def _keep_if_gone(self, name: str, role: str, many: int, event_id: str) -> None:
        rule, reason = rule_now(self.config, name, role)
        if rule is None:
            case = rule_case(self.config, name, reason)
            waits.keep_planned(self.db, name, role, reason)
            self.db.transact(open_case, replace(case, event_id=event_id, count=many))

    def purge(self, seconds: float = math.inf) -> int:
        """Blank rows older than `retention`, for at most `seconds`; return the number of rows."""
        return retention.purge(self.db, self.config.delivery.retention, seconds)

    def move_to_history(self, seconds: float = math.inf, after: str = "") -> history.Turn:
        """Move finished kits to history and delete what has been there too long, for at most
        `seconds`, going on after the event `after`.
        """
        ends, keep = time.monotonic() + seconds, self.config.delivery.history
        return history.in_turns(self.db, self.quiet, keep, lambda: time.monotonic() < ends, after)

    @property
    def quiet(self) -> timedelta:
        """How long a kit must be idle before it moves: by then it is blanked, a repeat of its
        events is another event, the desk's chart has passed it, and no watch looks.
        """
        delivery = self.config.delivery
        watched = (one.within + BACK for one in self.config.expect)
        return max(delivery.retention, delivery.dedupe_window, CHARTED, *watched)
