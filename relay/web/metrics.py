"""GET /metrics: figures from the ledger and Redis as of now, in Prometheus' text format."""

from __future__ import annotations

import hmac
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace

from flask import Blueprint, Response, request

from relay import queue
from relay.errors import LedgerUnavailable
from relay.lab.events import EVENTS
from relay.ledger import workers as ledger_workers
from relay.ledger.holds import halts
from relay.ledger.holds.pauses import LAB
from relay.ledger.views import daily_counts
from relay.ledger.views import status as views_status
from relay.ledger.views.daily_counts import Totals
from relay.ledger.views.status import Measured
from relay.rules.channels import CHANNELS
from relay.web import health
from relay.web.responses import answer
from relay.web.services import services

blueprint = Blueprint("metrics", __name__)

# Every metric → its help text. All are read from the ledger at each scrape, so that restarts and
# any number of processes change nothing. A name in _total is a counter, one with quantiles is a
# summary, and the others are gauges.
METRICS: dict[str, str] = {
    "relay_up": "1 while Relay can read the ledger, else 0.",
    "relay_events": "Events received in the last hour, by name and status.",
    "relay_events_received_total": "Events received.",
    "relay_events_waiting": "Events that are not processed yet.",
    "relay_messages": "Messages planned in the last hour, by channel and status.",
    "relay_messages_planned_total": "Messages planned, by channel.",
    "relay_messages_waiting": "Messages that are due and not sent yet, nor stopped, by channel.",
    "relay_messages_stopped": "Messages that wait until somebody resumes what was stopped.",
    "relay_stops": "Stops that stand, by what they are of: all messages, a channel, a rule.",
    "relay_oldest_unsent_seconds": "Seconds since the oldest of these became due.",
    "relay_attempts": "Attempts to send in the last hour, by channel and outcome.",
    "relay_attempts_ended_total": "Attempts to send, by channel and outcome.",
    "relay_provider_seconds": (
        "Seconds until the provider answered, in the last hour, by channel and quantile."
    ),
    "relay_webhook_to_provider_seconds": (
        "Seconds from webhook to provider, in the last hour, by quantile."
    ),
    "relay_sms_segments": "SMS segments that the provider accepted in the last hour.",
    "relay_channel_paused": "1 while the channel, or the lab, is paused, else 0.",
    "relay_cases_open": "Open cases on the worklist.",
    "relay_quarantined": "Posts refused in the last hour that nobody has seen to.",
    "relay_workers": "Workers seen in the last 90 seconds.",
    "relay_queue_depth": "Wake-ups waiting in Redis; -1 when Redis cannot be asked.",
    "relay_config_good": "1 while config.toml and the templates have no errors, else 0.",
}
TOTAL = "_total"
QUANTILES = (0.5, 0.95, 0.99)
Sample = tuple[str, Mapping[str, str], float]


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer Prometheus' scrape. Without METRICS_TOKEN only development answers."""
    if not _may_read():
        response = answer(401, status="error", error="METRICS_TOKEN is not set, or was not shown.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    return Response(exposition(collect()), content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_read() -> bool:
    settings = services().settings
    if not settings.metrics_token:
        return settings.development
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    return hmac.compare_digest(shown.encode(), settings.metrics_token.encode())


def exposition(samples: Iterator[Sample]) -> bytes:
    """Samples in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/"""
    from prometheus_client import Metric, generate_latest

    found: dict[str, Metric] = {}
    for name, labels, value in samples:
        if name not in found:
            kind = "summary" if "quantile" in labels else "gauge"
            kind = "counter" if name.endswith(TOTAL) else kind
            found[name] = Metric(name.removesuffix(TOTAL), METRICS[name], kind)
        found[name].add_sample(name, dict(labels), float(value))
    # Stands in for a registry, of which only this method would be called.
    return generate_latest(SimpleNamespace(collect=found.values))


def collect() -> Iterator[Sample]:
    """Yield every sample; without the ledger, only those that do not need it."""
    try:
        with services().db.read() as connection:
            measured = views_status.measure(connection)
            totals = daily_counts.totals(connection)
            workers = ledger_workers.workers_alive(connection)
    except LedgerUnavailable:
        yield "relay_up", {}, 0
    else:
        yield "relay_up", {}, 1
        yield "relay_workers", {}, workers
        yield from ledger_samples(measured)
        yield from total_samples(totals)
    yield "relay_queue_depth", {}, queue_depth()
    yield "relay_config_good", {}, not health.problems()


def ledger_samples(measured: Measured) -> Iterator[Sample]:
    """Yield the samples of what the ledger has measured."""
    counts: Counter[tuple[str, str]] = Counter()
    for (name, status), many in measured.events.items():
        counts[name if name in EVENTS else "other", status] += many  # keeps a label's values few
    for (name, status), many in sorted(counts.items()):
        yield "relay_events", {"event": name, "status": status}, many
    for (channel, status), many in sorted(measured.messages.items()):
        yield "relay_messages", {"channel": channel, "status": status}, many
    for (channel, outcome), many in sorted(measured.attempts.items()):
        yield "relay_attempts", {"channel": channel, "outcome": outcome}, many
    for channel in CHANNELS:
        yield "relay_messages_waiting", {"channel": channel}, measured.waiting.get(channel, 0)
        took = measured.took.get(channel, ())
        yield from quantile_samples("relay_provider_seconds", took, channel=channel)
    for channel in (*CHANNELS, LAB):
        yield "relay_channel_paused", {"channel": channel}, channel in measured.paused
    yield from quantile_samples("relay_webhook_to_provider_seconds", measured.reached)
    for of in (halts.ALL, halts.CHANNEL, halts.RULE):
        yield "relay_stops", {"of": of}, measured.stops[of]
    yield "relay_messages_stopped", {}, measured.stopped
    yield "relay_sms_segments", {}, measured.segments
    yield "relay_oldest_unsent_seconds", {}, measured.oldest
    yield "relay_events_waiting", {}, measured.events_waiting
    yield "relay_cases_open", {}, measured.cases
    yield "relay_quarantined", {}, measured.quarantined


def total_samples(totals: Totals) -> Iterator[Sample]:
    """Yield the samples of the counters."""
    yield "relay_events_received_total", {}, totals.events
    for channel, many in sorted(totals.messages.items()):
        yield "relay_messages_planned_total", {"channel": channel}, many
    for (channel, outcome), many in sorted(totals.attempts.items()):
        yield "relay_attempts_ended_total", {"channel": channel, "outcome": outcome}, many


def quantile_samples(name: str, seconds: Sequence[float], **labels: str) -> Iterator[Sample]:
    """Yield a sample for each of QUANTILES; none if nothing was measured."""
    if not seconds:
        return
    many = seconds if len(seconds) > 1 else [*seconds, *seconds]
    cuts = statistics.quantiles(many, n=100, method="inclusive")
    for quantile in QUANTILES:
        yield name, {**labels, "quantile": str(quantile)}, cuts[round(quantile * 100) - 1]


def queue_depth() -> float:
    """Count the wake-ups in Redis: 0 without a Redis, and -1 if it does not answer."""
    settings = services().settings
    if not settings.redis_url:
        return 0
    from redis.exceptions import RedisError

    try:
        with queue.connect(settings, timeout=1) as connection:
            return float(queue.rq_queue(connection).count)
    except (RedisError, OSError, ValueError):
        return -1
