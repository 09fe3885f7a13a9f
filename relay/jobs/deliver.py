"""Delivers a message: composes it, hands it to its channel, and commits the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from relay import fault_injection
from relay.channels import Channels
from relay.channels.base import Outcome
from relay.config.loader import Config
from relay.errors import LabAway, LabError, LedgerUnavailable, RenderError
from relay.http_client import TooLate, within
from relay.jobs.backoff import EVENT_DELAYS, SEND_DELAYS, delay, is_hopeless
from relay.jobs.circuit_breaker import CircuitBreaker
from relay.jobs.compose import Composer, NotSent, ask_lab_ending, waiting_ending
from relay.ledger import attempts
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.holds import halts, pauses
from relay.logs import get_logger
from relay.messages.templates import Message
from relay.rules import alerts
from relay.rules.model import Ending, Pause
from relay.rules.schedule import utc_now
from relay.rules.statuses import LAB_FAILED, REFUSED, WAITS_FOR_ACCOUNT, WAITS_FOR_RESUME

log = get_logger("relay.jobs")

FINISH_DELAYS = (0.2, 0.5, 1, 2, 5, 10, 20)


class Deliverer:
    """Sends claimed messages, each at most once."""

    def __init__(
        self,
        config: Config,
        db: Database,
        channels: Channels,
        composer: Composer,
        breaker: CircuitBreaker,
    ):
        self._config = config
        self._db = db
        self._channels = channels
        self._composer = composer
        self._breaker = breaker

    def deliver(self, claim: Claim) -> None:
        """Compose a claimed message, hand it to its channel, and commit the outcome."""
        fault_injection.crash_point("message.claimed")
        ending = self._attempt(claim)
        fault_injection.crash_point("message.after-send")
        patiently(lambda: attempts.finish(self._db, claim, ending))
        fault_injection.crash_point("message.after-commit")
        log.info(
            "message " + ending.status,
            id=claim.id,
            attempt=claim.attempt_id,
            channel=claim.channel,
            reason=ending.reason,
        )

    def _attempt(self, claim: Claim) -> Ending:
        try:
            message = self._composed(claim)
            # Counted from before the lease is renewed: a worker that froze so long sends nothing.
            with within(fault_injection.hastened(attempts.LEASE_SECONDS)):
                self._begin(claim, message)
                outcome = self._send(message, claim)
        except NotSent as error:
            return error.ending
        except RenderError as error:
            return Ending("rejected", "technical-failure", str(error))
        except LabError as error:
            failures = 1
            if not isinstance(error, LabAway):  # else failures do not count
                with self._db.read() as connection:
                    failures += attempts.lab_failures(connection, claim)
            patience = self._config.delivery.lab_patience
            return lab_failed_ending(error, patience, failures, claim)
        except LedgerUnavailable as error:
            return refused_ending(claim, Outcome("rejected", f"Before it was sent, {error}."))
        except Exception:
            log.exception("message broke", id=claim.id)
            return Ending("rejected", "technical-failure", "Relay failed before sending this.")
        awaits = self._channels.awaits_receipt(message)
        already_refused = claim.is_probe and outcome.is_unlisted and self._is_refused(claim.channel)
        pause = self._breaker.after(
            claim.channel, outcome, claim.address, already_refused=already_refused
        )
        rule = self._config.by_name.get(claim.rule)
        ending = handed_over_ending(claim, outcome, awaits_receipt=awaits, pause=pause)
        return with_fallback(ending, rule.fallback_after) if rule else ending

    def _composed(self, claim: Claim) -> Message:
        """A claim's words, if it is still right to send them. Raises NotSent."""
        message = self._composer.message(claim)
        if self._channels.lacks_account(message):
            raise NotSent(self._without_account(claim.channel))
        return message

    def _begin(self, claim: Claim, message: Message) -> None:
        """Keep a claim's words in the ledger. Raises NotSent if the claim has lapsed, or somebody
        has stopped all messages like it.
        """
        if not attempts.begin(self._db, claim, message.content, self._config.edition):
            with self._db.read() as connection:
                halt = halts.stop_covering(connection, claim.channel, claim.rule)
            stopped = halt and waiting_ending(halt.said, WAITS_FOR_RESUME)
            raise NotSent(stopped or lapsed_ending())
        fault_injection.crash_point("message.before-send")

    def _is_refused(self, channel: str) -> bool:
        """Whether a channel is paused because its provider refuses our account."""
        with self._db.read() as connection:
            paused = pauses.paused(connection)
        return any(row["channel"] == channel and row["cause"] == REFUSED for row in paused)

    def _without_account(self, channel: str) -> Ending:
        reason = f"Delivery is live, and no account for sending {channel} is set."
        policy, now = self._config.policy, utc_now()
        case = alerts.case("account", channel, channel, reason, policy=policy, now=now)
        return waiting_ending(reason, WAITS_FOR_ACCOUNT, case)

    def _send(self, message: Message, claim: Claim) -> Outcome:
        try:
            return self._channels.send(message, claim.attempt_id)
        except TooLate as error:
            raise NotSent(lapsed_ending()) from error
        except Exception:  # whatever the error, the provider may have the message
            log.exception("send broke", id=claim.id, attempt=claim.attempt_id)
            return Outcome("unknown", "Relay failed while sending this.")


def patiently(commit: Callable[[], object]) -> None:
    """Commit, and try again while the ledger is away: a lost outcome cannot be found out again."""
    for seconds in FINISH_DELAYS:
        try:
            commit()
            return
        except LedgerUnavailable:
            time.sleep(seconds)
    commit()


def lapsed_ending() -> Ending:
    """The ending of a message that this claim may no longer send, and has not sent."""
    reason = "Relay was too slow to send it, or its address was stopped meanwhile."
    return Ending("rejected", "created", reason, retry_in=0.0)


def with_fallback(ending: Ending, patience: timedelta) -> Ending:
    """The ending of a message that must arrive within `patience`, if its rule says so."""
    is_out = ending.outcome == "accepted"
    return replace(ending, fallback_in=patience.total_seconds()) if is_out else ending


def handed_over_ending(
    claim: Claim, outcome: Outcome, *, awaits_receipt: bool, pause: Pause | None
) -> Ending:
    """The ending of a message that was handed over, according to the provider's answer."""
    if outcome.result == "rejected":
        if pause and pause.cause == REFUSED:  # it is kept, whatever else was refused with it
            outcome = replace(outcome, permanent=False, operator=True)
        return replace(refused_ending(claim, outcome), pause=pause, answered=bool(outcome.code))
    accepted = outcome.result == "accepted"
    return Ending(
        outcome.result,
        "sent" if accepted else "unknown",
        outcome.reason,
        provider_id=outcome.provider_id,
        code=outcome.code,
        awaits_receipt=accepted and awaits_receipt,
        is_kept=outcome.is_kept,
        pause=pause,
        answered=accepted,
    )


def lab_failed_ending(error: LabError, patience: timedelta, failures: int, claim: Claim) -> Ending:
    """The ending of a message that waits until Relay asks the lab again, after this many `failures`
    of the lab, including this one.

    They use none of its tries. If they concern its own kit alone, Relay gives it up once they have
    lasted for `patience`, as with an event.
    """
    reason = f"{error} Relay has to ask the lab again before this goes out."
    waiting = replace(ask_lab_ending(), reason=reason, code=LAB_FAILED)
    if isinstance(error, LabAway):
        return waiting
    if not error.failed:
        return refused_ending(claim, Outcome("rejected", reason))
    if is_hopeless(failures, patience):
        reason = f"{reason} Relay tried {failures} times."
        return Ending("rejected", "temporary-failure", reason)
    return replace(waiting, retry_in=delay(EVENT_DELAYS, failures, None))


def refused_ending(claim: Claim, outcome: Outcome) -> Ending:
    """The ending of a message that certainly did not go out: a failure, or another try later."""
    if outcome.permanent:
        return Ending(
            "rejected",
            "permanent-failure",
            outcome.reason,
            code=outcome.code,
            suppress=outcome.suppress,
        )
    if outcome.operator:  # not this message's fault: it is kept for as long as it takes
        return Ending(
            "rejected",
            "created",
            outcome.reason,
            code=outcome.code,
            retry_in=fault_injection.hastened(SEND_DELAYS[0]),
            is_a_try=False,
        )
    if claim.tries > len(SEND_DELAYS):
        reason = f"{outcome.reason} Relay tried {claim.tries} times."
        return Ending("rejected", "temporary-failure", reason, code=outcome.code)
    wait = delay(SEND_DELAYS, claim.tries, outcome.retry_after)
    return Ending("rejected", "created", outcome.reason, code=outcome.code, retry_in=wait)
