"""The worker's jobs, wired together: what is due is leased here, and done by the modules beside.

Each takes a row that is claimed already, and leaves the ledger saying what came of it.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta

from relay.channels import Channels
from relay.config.loader import Config
from relay.http_client import HttpClient
from relay.jobs.circuit_breaker import CircuitBreaker
from relay.jobs.compose import Composer
from relay.jobs.deliver import Deliverer
from relay.jobs.follow_up import FollowUps
from relay.jobs.lab_breaker import LabBreaker
from relay.jobs.process_event import EventProcessor
from relay.jobs.reconcile import Reconciler
from relay.jobs.rule_context import ContextBuilder
from relay.jobs.watchdog import BACK
from relay.lab.client import LabClient
from relay.ledger import attempts, audit, events, history, receipts, releases, waits
from relay.ledger.allowances import Cap
from relay.ledger.attempts import Claim
from relay.ledger.database import Connection, Database
from relay.ledger.events import Event
from relay.ledger.removal import retention
from relay.ledger.views import daily_counts
from relay.logs import get_logger
from relay.messages.templates import Templates
from relay.rules import alerts
from relay.rules.channels import CHANNELS
from relay.rules.daily_limit import DailyLimit
from relay.rules.model import Case
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
            db,
            config.policy,
            self.channels,
            composer,
            CircuitBreaker(config.policy),
            config.delivery.lab_patience,
        )
        self.reconciler = Reconciler(config, db, self.channels)
        self.follow_ups = FollowUps(config, db, contexts)

    def process(self, event: Event) -> None:
        """Process a leased event: see relay/jobs/process_event.py."""
        self._events.process(event)

    def deliver(self, claim: Claim) -> None:
        """Deliver a claimed message: see relay/jobs/deliver.py."""
        self._messages.deliver(claim)

    def lease_events(self, limit: int) -> list[Event]:
        """Lease up to `limit` events that are due; one, as a probe, while the lab is paused."""
        return events.lease_events(self.db, limit) or self.lab_breaker.lease_probe()

    def claim(self, channel: str, limit: int) -> list[Claim]:
        """Notifications of a channel that are due, within the day's limit."""
        cap = self._today(channel) if CHANNELS[channel].in_segments else None
        return attempts.claim(self.db, channel, limit, cap)

    def _today(self, channel: str) -> Cap:
        """The day's limit on texts. A day begins at midnight where the clinic is."""
        began = midnight(utc_now(), self.config.clinic.timezone)
        most, policy = self.config.delivery.daily_sms_limit, self.config.policy

        def case(urgency: int) -> Case:
            reason = DailyLimit(most).reason(urgency)
            key = f"{began.date()} {reason}"  # a limit that was changed today is told again
            return alerts.case("limit", key, channel, reason, policy=policy, now=utc_now())

        return Cap(most, began, case)

    def sweep(self) -> int:
        """Do the clock's work: lapsed claims, receipts that never came, waiting messages, the day's
        counts.

        The number of messages that it settled.
        """
        lapsed = attempts.lapse(self.db)
        with self.db.write() as connection:
            given_up = receipts.give_up(connection, self.channels.asked())
        releases.close_released(self.db)
        with self.db.write() as connection:
            audit.carry_over(connection)
            self._resume(connection)
        daily_counts.keep(self.db, self.config.clinic.timezone, utc_now())
        if lapsed or given_up:
            log.warning("sweep", lapsed=lapsed, without_receipt=given_up)
        return lapsed + given_up

    def _resume(self, connection: Connection) -> None:
        """Let messages go on whose rule or account is there again, whose order never came, or that
        ask the lab again; and tell staff how the lab is.
        """
        waits.resume_rules(connection, {(rule.name, rule.to) for rule in self.config.rules})
        waits.resume_channels(connection, [*filter(self.channels.reaches, CHANNELS)])
        waits.resume_orders(connection)
        self.lab_breaker.look(connection)

    def purge(self, seconds: float = math.inf) -> int:
        """Blank what is older than `retention`, for so many seconds at most; how many rows that
        was.
        """
        return retention.purge(self.db, self.config.delivery.retention, seconds)

    def move_to_history(self, seconds: float = math.inf, after: str = "") -> history.Turn:
        """Move finished kits to history and delete what has been there for too long, for so many
        seconds at most, going on behind the event `after`.
        """
        ends, keep = time.monotonic() + seconds, self.config.delivery.history
        return history.in_turns(self.db, self.quiet, keep, lambda: time.monotonic() < ends, after)

    @property
    def quiet(self) -> timedelta:
        """For how long nothing may have happened to a kit that goes: until then it is blanked, a
        repeat of its events is another event, the desk's chart has passed it, and no watch looks.
        """
        delivery = self.config.delivery
        watched = (one.within + BACK for one in self.config.expect)
        return max(delivery.retention, delivery.dedupe_window, CHARTED, *watched)
