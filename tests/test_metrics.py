"""/metrics: what a monitoring system reads, and the dashboard and alerts that go by it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.config.settings import Settings
from relay.errors import Refused
from relay.ledger import events
from relay.ledger.audit import Act
from relay.ledger.database import Database
from relay.ledger.holds import stop_button
from relay.ledger.schema import events as stored
from relay.ledger.views import daily_counts
from relay.ledger.worklist import quarantine
from relay.web.metrics import METRICS
from tests.conftest import ROOT
from tests.jobs.conftest import HEAD, RULES, STAFF, Clinic, clinic
from tests.rows import MONTH, incoming, keep_refused, rows, time_passes
from tests.standins import twilio_error

__all__ = ["clinic"]  # a fixture

OPS = ROOT / "ops"
Read = dict[tuple[str, tuple[str, ...]], float]


def scrape(client: Any, **headers: str) -> Read:
    """What is told, by name and the labels' values."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_has_happened_is_told(
    clinic: Clinic, make_client: Callable[[Settings], Any], db: Database
) -> None:
    """Events, messages, sends, segments, how long it took, and what waits; nobody's details."""
    clinic.configure(RULES, HEAD, STAFF)
    clinic.orders(2)
    clinic.work()
    clinic.twilio.always(twilio_error(401, 20003))
    clinic.results()
    clinic.work()
    events.record_webhook(db, incoming("kit.lost", kit_id="7"), MONTH)
    ids = [keep_refused(db, body, Refused(400, "Not JSON.")) for body in (b"{", b"[")]
    act = Act("admin", "post aside")
    with db.write() as connection:
        assert quarantine.put_aside(connection, ids[0], act, "The lab tests.")
    client = make_client(clinic.settings)
    told = scrape(client)
    assert told["relay_up", ()] == 1
    assert told["relay_events", ("order.shipped", "processed")] == 2
    assert told["relay_events", ("other", "unrouted")] == 1
    assert told["relay_messages", ("sms", "sent")] == 2
    assert told["relay_attempts", ("sms", "accepted")] == 2
    assert told["relay_attempts", ("sms", "rejected")] >= 1
    assert told["relay_sms_segments", ()] == 2
    assert told["relay_channel_paused", ("sms",)] == 1
    assert told["relay_channel_paused", ("email",)] == told["relay_channel_paused", ("lab",)] == 0
    assert told["relay_cases_open", ()] == 1
    assert told["relay_quarantined", ()] == 1
    assert 0 <= told["relay_webhook_to_provider_seconds", ("0.5",)] < 60
    assert 0 <= told["relay_provider_seconds", ("sms", "0.99")] < 60
    assert told["relay_workers", ()] == 0
    text = client.get("/metrics").text
    assert not [word for word in ("+4477", "example.org", "Jane", "RM1", "evt_") if word in text]
    time_passes(db, timedelta(hours=2))
    later = scrape(client)
    assert ("relay_attempts", ("sms", "accepted")) not in later
    assert later["relay_sms_segments", ()] == 0
    assert later["relay_messages_waiting", ("sms",)] == 1
    assert later["relay_oldest_unsent_seconds", ()] > 3600


def test_what_is_stopped_is_told_apart(
    clinic: Clinic, make_client: Callable[[Settings], Any], db: Database
) -> None:
    """A stop is seen though nothing waits for its end yet; what does is late by somebody's will."""
    client = make_client(clinic.settings)
    assert stop_button.stop(db, "rule kit", "admin", "Why.")
    told = scrape(client)
    assert [told["relay_stops", (of,)] for of in ("all", "channel", "rule")] == [0, 0, 1]
    assert told["relay_messages_stopped", ()] == 0
    clinic.orders(2)
    clinic.work()
    time_passes(db, timedelta(hours=2))
    told = scrape(client)
    assert told["relay_messages_stopped", ()] == 2
    assert told["relay_messages_waiting", ("sms",)] == told["relay_oldest_unsent_seconds", ()] == 0


def test_totals_count_up(
    clinic: Clinic, make_client: Callable[[Settings], Any], db: Database
) -> None:
    """Counters for rate(): kept in the ledger, they outlive restarts, count what several workers do
    once, and never become less. They are those of the clock's last look, half a minute ago at most.
    """
    half_a_minute, expected = timedelta(seconds=30), Read()
    for more in range(3):
        clinic.orders(more + 1)
        clinic.work(half_a_minute)
        clinic.work(half_a_minute)
        told = scrape(make_client(clinic.settings))
        total = {key: many for key, many in told.items() if key[0].endswith("_total")}
        assert all(total[key] >= many for key, many in expected.items())
        expected = total
    assert expected["relay_events_received_total", ()] == len(rows(db, stored))
    assert expected["relay_messages_planned_total", ("sms",)] == 3
    assert expected["relay_attempts_ended_total", ("sms", "accepted")] == 3
    clinic.twilio.always(twilio_error(400, 21614))
    clinic.results()
    clinic.work(half_a_minute)
    clinic.work(half_a_minute)
    told = scrape(make_client(clinic.settings))
    assert told["relay_attempts_ended_total", ("sms", "rejected")] == 1
    assert told["relay_attempts_ended_total", ("sms", "accepted")] == 3


def test_a_count_that_is_late_is_not_kept(db: Database) -> None:
    """Of two workers that count a day at once the later one's count stays, whoever writes last."""
    zone, now_ = ZoneInfo("Europe/London"), datetime.now(UTC)
    assert daily_counts.keep(db, zone, now_)
    events.record_webhook(db, incoming(), MONTH)
    with db.read() as connection:
        before = daily_counts.totals(connection)
    slow = daily_counts.count

    def overtaken(*given: Any) -> daily_counts.Tally:
        counted = slow(*given)
        if daily_counts.count is not slow:
            daily_counts.count = slow
            events.record_webhook(db, incoming(order_id="o-2"), MONTH)
            assert daily_counts.keep(db, zone, now_ + timedelta(seconds=40)) == 1
        return counted

    daily_counts.count = overtaken
    daily_counts.keep(db, zone, now_ + timedelta(seconds=30))
    with db.read() as connection:
        after = daily_counts.totals(connection)
    assert (before.events, after.events) == (0, 2)


def test_the_format_is_as_promtool_wants_it(
    clinic: Clinic, make_client: Callable[[Settings], Any]
) -> None:
    """`promtool check metrics` has nothing to say; where it is not installed, at least what it has
    said before: quantiles belong to summaries, _total to counters, and each metric has help.
    """
    clinic.orders(1)
    clinic.work()
    clinic.work()
    text = make_client(clinic.settings).get("/metrics").text
    families = [*text_string_to_metric_families(text)]
    assert {family.type for family in families} == {"gauge", "counter", "summary"}
    for family in families:
        names = {sample.name for sample in family.samples}
        assert family.documentation
        assert (family.type == "counter") == all(name.endswith("_total") for name in names)
        quantiles = ["quantile" in sample.labels for sample in family.samples]
        assert all(quantiles) if family.type == "summary" else not any(quantiles)
    if promtool := shutil.which("promtool"):
        command = [promtool, "check", "metrics"]
        ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_a_token_is_asked_for_where_one_is_set(
    settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """With METRICS_TOKEN only who shows it reads; without, nobody does, but in development."""
    client = make_client(replace(settings, metrics_token="scraper"))
    for shown in ("", "Bearer wrong", "Bearer scrape\u00e9", "scrapers"):
        assert client.get("/metrics", headers={"Authorization": shown}).status_code == 401
    assert scrape(client, Authorization="Bearer scraper")["relay_up", ()] == 1
    assert scrape(make_client(settings), Authorization="")["relay_up", ()] == 1
    live = make_client(replace(settings, development=False))
    assert live.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401


def test_a_ledger_out_of_reach_is_told(
    settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """Then relay_up is 0, and nothing is made up of the rest."""
    away = replace(settings, database_url="postgresql+psycopg://x@127.0.0.1:1/x", redis_url="")
    told = scrape(make_client(away))
    assert told["relay_up", ()] == 0
    assert not [name for name, _ in told if name.startswith("relay_messages")]


def test_a_broken_template_is_told(
    settings: Settings, make_client: Callable[[Settings], Any], tmp_path: Path
) -> None:
    """Not only config.toml: what /readyz finds wrong with a template counts too."""
    assert scrape(make_client(settings))["relay_config_good", ()] == 1
    shutil.copytree(settings.templates, tmp_path / "broken")
    (tmp_path / "broken" / "kit_shipped" / "sms.txt").write_text("{{ nobody }}", "utf-8")
    broken = make_client(replace(settings, templates=tmp_path / "broken"))
    assert scrape(broken)["relay_config_good", ()] == 0


@pytest.mark.parametrize("file", ["alerts.yml", "grafana.json"])
def test_dashboard_and_alerts_name_what_there_is(file: str) -> None:
    """Each metric that they name exists, and each that exists is shown on the dashboard."""
    text = (OPS / file).read_text("utf-8")
    named = set(re.findall(r"relay_[a-z_]+", text))
    assert named
    assert named <= set(METRICS)
    if file == "grafana.json":
        assert json.loads(text)["panels"]
        assert named == set(METRICS)


def test_a_web_that_is_gone_is_an_alert_whatever_its_job_is_called() -> None:
    """No alert goes by a name that an admin chooses, and that nothing is told is told."""
    text = (OPS / "alerts.yml").read_text("utf-8")
    assert not re.findall(r"\b(?:job|instance)=", text)
    down = re.search(r"alert: RelayDown\n +expr: (.*)", text)
    assert down
    assert down[1] == "absent(relay_up) or relay_up == 0"


def test_the_example_for_prometheus_reads_our_route(
    settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """docs/monitoring.md's scrape_config asks the path there is, and shows the token."""
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    told = dict(re.findall(r"^ +(metrics_path|type|credentials): (\S+)$", text, re.MULTILINE))
    client = make_client(replace(settings, metrics_token=told["credentials"]))
    shown = f"{told['type']} {told['credentials']}"
    assert client.get(told["metrics_path"], headers={"Authorization": shown}).status_code == 200


def test_every_metric_and_alert_is_explained() -> None:
    """docs/monitoring.md explains each metric, docs/runbook.md says what to do about each alert."""
    metrics = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    alerts = re.findall(r"alert: (\w+)", (OPS / "alerts.yml").read_text("utf-8"))
    assert len(alerts) >= 8
    assert [name for name in METRICS if f"| `{name}` |" not in metrics] == []
    assert [name for name in alerts if f"| `{name}` |" not in runbook] == []
