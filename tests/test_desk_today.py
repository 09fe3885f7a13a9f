"""The desk's first page: the day's figures, what needs a person, the month's chart."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.config.loader import load
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger import attempts
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.holds import pauses
from relay.ledger.schema import days, events, notifications, quarantine
from relay.ledger.views import daily_counts
from relay.ledger.views import status as views_status
from relay.ledger.views.daily_counts import KEPT, Count, Day
from relay.ledger.worklist import cases
from relay.rules import model
from relay.rules.model import Ending
from relay.rules.planner import unmet
from relay.rules.statuses import STATUSES
from relay.web.desk import auth, chart
from tests.conftest import ROOT
from tests.desk import kit, leaks
from tests.rows import beat, case, change, claimed, leased, notice, only, planned, rows, time_passes
from tests.test_desk import desk, inside, is_out, log_in

__all__ = ["desk", "inside"]  # fixtures

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def figures(page: str) -> dict[str, str]:
    """The figures of the page, by their names."""
    return dict(re.findall(r"<dt>([^<]+)</dt><dd>(?:<a [^>]+>)?([\d,]+)<", page))


def now_(db: Database) -> Day:
    return [*daily_counts.last_days(LONDON, datetime.now(UTC))][-1]


def gone(db: Database, provider_id: str, subject: str, **fields: Any) -> str:
    """The id of a text of two segments that was tried just now, and taken."""
    claim = claimed(db, subject=subject, **fields)
    attempts.begin(db, claim, {"text": "x" * 161, "subject": "", "html": ""})
    kept = provider_id.startswith("dry-run")
    attempts.finish(db, claim, Ending("accepted", "sent", provider_id=provider_id, is_kept=kept))
    return claim.id


def test_it_counts_what_went_out_today(inside: Any, db: Database) -> None:
    """Events in; messages out, whenever they were planned, what became of them, and what the texts
    cost; what waits, since whenever.
    """
    yesterday = now_(db).begins - timedelta(hours=1)
    reminder = gone(db, "SM1", "o-1")
    change(db, notifications, {"id": reminder}, created_at=yesterday, status="delivered")
    bounced = gone(db, "E1", "o-2", channel="email")
    change(db, notifications, {"id": bounced}, status="permanent-failure")
    long_ago = gone(db, "SM2", "o-3")
    change(db, notifications, {"id": long_ago}, sent_at=yesterday)
    in_vain = claimed(db, subject="o-6")
    attempts.finish(db, in_vain, Ending("rejected", "permanent-failure", "No such number."))
    change(db, notifications, {"id": in_vain.id}, created_at=yesterday)
    unheard = notice(subject="o-4", address="", status="validation-failed")
    late = notice(subject="o-5", due_at=yesterday)
    _, waits = planned(db, unheard, late)
    change(db, notifications, {"id": waits}, created_at=yesterday)
    change(db, events, {"status": "received"}, status="unrouted")
    leased(db, order_id="o-9")
    page = inside.get("/activity").text
    assert figures(page) == {
        **{"Events in": "6", "Messages out": "2", "Delivered": "1", "Failed": "3"},
        **{"SMS segments": "2", "Waiting now": "1"},
    }
    assert "1 not processed yet" in page
    assert '1 text</span>, <span class="whole">1 email</span>' in page
    assert leaks(page) == []


def test_what_was_kept_here_is_not_told_as_sent(inside: Any, db: Database) -> None:
    """In dry-run nothing goes out and nothing is paid for: the figures, the chart and the list say
    how much was kept here only.
    """
    gone(db, "dry-run-1", "o-1")
    gone(db, "SM1", "o-2")
    page = inside.get("/activity").text
    assert figures(page)["Messages out"] == "1"
    assert figures(page)["SMS segments"] == "2"
    assert "1 more kept here, not sent" in page
    assert "1 sent, no receipt yet, 1 kept here, not sent." in page
    assert page.count(">Kept here, not sent</span>") == 1


def test_a_days_segments_are_those_of_its_words(db: Database) -> None:
    """A text's segments are kept as its words are, before it is sent; an email has none."""
    for channel, segments in (("sms", 2), ("email", 0)):
        claim = claimed(db, channel=channel, subject=channel)
        assert attempts.begin(db, claim, {"text": "x" * 161, "subject": "", "html": ""})
        assert only(db, notifications, id=claim.id)["segments"] == segments


def test_it_says_what_needs_a_person(inside: Any, db: Database) -> None:
    """Cases by kind, paused channels, a dead worker and quarantine, each with the way there."""
    kit(db)
    event = only(db, events)["id"]
    assert "No worker is running" in inside.get("/").text
    beat(db, "worker-1")
    assert "Nothing needs a person now." in inside.get("/").text
    with db.write() as connection:
        for key in ("k-1", "k-2"):
            cases.open_case(connection, case("unreached", key, event))
        pauses.pause(connection, "sms", event, model.Pause("refused", "Twilio refuses us."))
        pauses.pause(connection, pauses.LAB, "", model.Pause("away", "The lab did not answer."))
        moment = datetime.now(UTC)
        body = {"body": b"{", "error": "", "fields": {}, "first_at": moment, "last_at": moment}
        connection.execute(quarantine.insert().values(id="qrt_1", digest="1", **body))
        done = {"digest": "2", "event_id": event}
        connection.execute(quarantine.insert().values(id="qrt_2", **done, **body))
    page = inside.get("/").text
    needs = page.partition('class="needs"')[2].partition("</ul>")[0]
    assert '<strong class="who">2 kits</strong>' in needs
    assert "Somebody could not be reached" in needs
    assert re.search(r">\d need you.</span></h1>", page)
    assert "Texts are paused: Twilio refuses us." in needs
    assert re.search("Relay has waited for the lab since .*: The lab did not answer.", needs)
    refused = "post from the lab was refused</span> <a href=./worklist/refused.>Refused posts<"
    assert re.search(f'>1</strong><span class="what">{refused}', needs)


def test_a_broken_config_needs_a_person(inside: Any, config_file: Path) -> None:
    """A mistake in config.toml is told at once, and leads to the rules."""
    config_file.write_text(config_file.read_text("utf-8") + "\n[rules.x]\n", "utf-8")
    inside.application.extensions["relay"].reloader.look()
    assert re.search(
        r'config\.toml or a template has a mistake.*href="/rules"', inside.get("/").text
    )


def test_what_waits_for_long_needs_a_person(inside: Any, db: Database) -> None:
    """While the lab is away, or messages should have gone out long ago, all is not well: Today and
    System say how much waits, since when and why, by the time that Prometheus' rules go by.
    """
    for number in range(2):
        event = leased(db, order_id=f"o-{number}")
        with db.write() as connection:
            ledger_events.put_back(
                connection, event.id, 60.0, "The lab's API did not answer (503)."
            )
    planned(db, notice(subject="o-7"))
    beat(db, "worker-1")
    pages = ("/", "/system")
    assert all("since" not in inside.get(path).text for path in pages)
    time_passes(db, timedelta(hours=18))
    beat(db, "worker-1")
    leased(db, order_id="o-9")
    since = (datetime.now(UTC) - timedelta(hours=18)).astimezone(LONDON)
    for path in pages:
        page = inside.get(path).text.replace("&#39;", "'")
        assert "all is well" not in page
        assert "Relay has everything it needs." not in page
        assert re.search(
            f"2</strong> <span>events from the lab have waited since {since:%-d %b, %H}:..: "
            r"The lab's API did not answer \(503\)\.<",
            page,
        )
        assert re.search(f"1</strong> <span>text has been overdue since {since:%-d %b, }", page)
    seconds = int(views_status.LATE.total_seconds())
    rules = (ROOT / "ops" / "alerts.yml").read_text("utf-8")
    assert f"relay_oldest_unsent_seconds > {seconds}\n" in rules


def test_a_rule_that_never_applies_needs_a_person(
    inside: Any, db: Database, settings: Settings
) -> None:
    """A rule to patients whose `when` was not true for the last ten of its events may have a word
    in it that the lab never says. Nine may be chance, one that told somebody ends it, and what was
    recorded of another condition does not count.
    """
    rule = load(settings).by_name.get("results-ready")
    assert rule
    said = "results-ready sent nothing for the last 10 events: its `when` was not true"
    never = {"rule": rule.name, "reason": unmet(rule.when), "is_final": False}

    def results(number: int, *decisions: dict[str, Any]) -> None:
        event = leased(db, order_id=f"o-{number:02}")
        values = {"status": "processed", "decisions": list(decisions)}
        change(db, events, {"id": event.id}, name="lab_results.complete", **values)

    for number in range(9):
        results(number, never)
    assert said not in inside.get("/").text
    results(9, {**never, "reason": "Its condition is not met: order.carrier == 'dhl'."})
    assert said not in inside.get("/").text
    for number in range(10, 20):
        results(number, never)
    assert said in inside.get("/").text
    results(20)
    assert said not in inside.get("/").text


def test_a_channel_without_an_account_needs_a_person(
    make_client: Callable[[Settings], Any], settings: Settings, live: Settings
) -> None:
    """Live, with nobody to hand texts to: they would be kept here, and nobody be told."""
    half = replace(live, twilio_auth_token="")
    for by, said in ((half, True), (live, False), (settings, False)):
        browser = make_client(by)
        log_in(browser)
        page = browser.get("/").text
        assert ("Texts are kept here, not sent: delivery is live" in page) is said
        assert "Emails go to nobody" not in page


def test_every_status_has_its_colour() -> None:
    """Each message is in the chart once, but for those that were not to be told."""
    drawn = [status for statuses in chart.OUTCOMES.values() for status in statuses]
    assert sorted(drawn) == sorted({*STATUSES, KEPT} - {"cancelled"})


def test_bars_pile_up_to_their_number() -> None:
    """A day's bars stand on one another by one scale; the rarest outcome is still to be seen."""
    day = date(2026, 11, 26)
    texts, emails = chart.panels(
        {
            day: [
                Count("sms", "delivered", 900, 900, 0),
                Count("sms", "temporary-failure", 1, 1, 0),
                Count("email", "sent", 90, 90, 0),
            ]
        }
    )
    assert (texts.top, emails.top) == (1000, 1000)
    assert texts.columns[0].bars == {"delivered": (10.0, 90.0), "failed": (8.0, 2.0)}
    assert emails.columns[0].bars == {"sent": (91.0, 9.0)}
    assert texts.said == "Texts of the last 1 days: 900 delivered, 1 failed."
    assert chart.panels({day: []})[0].columns[0].bars == {}


def test_a_day_is_the_clinics() -> None:
    """Days begin at the clinic's midnight, also those of 23 and 25 hours."""
    found = {one.day: one for one in daily_counts.last_days(LONDON, NOW, 250)}
    hours = {day: (one.ends - one.begins) / timedelta(hours=1) for day, one in found.items()}
    assert [(str(day), long) for day, long in hours.items() if long != 24] == [
        ("2026-03-29", 23),
        ("2026-10-25", 25),
    ][1 - (date(2026, 3, 29) in found) :]
    assert found[date(2026, 7, 1)].begins == datetime(2026, 6, 30, 23, tzinfo=UTC)
    assert max(found) == date(2026, 11, 26)


def test_past_days_are_counted_once_an_hour_and_then_daily(db: Database) -> None:
    """Each day since the first has a row; while receipts still come it is counted every hour."""
    text, email = kit(db)
    created = NOW - timedelta(days=10)
    change(db, notifications, {"id": text}, created_at=created, status="scheduled", segments=2)
    change(db, notifications, {"id": email}, created_at=NOW)
    whole = 11  # days since the first message
    assert daily_counts.keep(db, LONDON, NOW) == whole
    assert daily_counts.keep(db, LONDON, NOW + timedelta(seconds=20)) == 0
    assert daily_counts.keep(db, LONDON, NOW + timedelta(minutes=59)) == 1  # today
    later = NOW + timedelta(minutes=61)
    change(db, notifications, {"id": text}, status="delivered", sent_at=later)
    assert daily_counts.keep(db, LONDON, later) == 5
    [day] = [one for one in daily_counts.last_days(LONDON, NOW) if one.day == date(2026, 11, 16)]
    with db.read() as connection:
        assert daily_counts.kept(connection, [day])[day.day].messages == [
            Count("sms", "scheduled", 1, 0, 0)
        ]
    assert daily_counts.keep(db, LONDON, NOW + timedelta(days=1, minutes=1)) == whole
    with db.read() as connection:
        assert daily_counts.kept(connection, [day])[day.day].messages == [
            Count("sms", "delivered", 1, 1, 2)
        ]
    assert len(rows(db, days)) == whole + 1


def test_a_busy_day_is_not_counted_at_each_look(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many messages the last sweep's count is shown, while it is fresh; of few, the truth."""
    text, _ = kit(db)
    day, now = now_(db), datetime.now(UTC)
    daily_counts.keep(db, LONDON, now)
    change(db, notifications, {"id": text}, status="delivered")
    with db.read() as connection:
        shown = {one.status for one in daily_counts.today(connection, day, now).messages}
    assert shown == {"delivered", "sent"}
    monkeypatch.setattr(daily_counts, "BUSY", 1)
    with db.read() as connection:
        assert {one.status for one in daily_counts.today(connection, day, now).messages} == {"sent"}
    late = now + daily_counts.JUST_NOW + timedelta(seconds=1)
    with db.read() as connection:
        assert {one.status for one in daily_counts.today(connection, day, late).messages} == {
            "delivered",
            "sent",
        }


def test_the_sweep_counts(
    db: Database, settings: Settings, make_jobs: Callable[[Settings], Jobs], inside: Any
) -> None:
    """The clock's work keeps the month; the page draws it, and has it as a table."""
    text, _ = kit(db)
    yesterday = now_(db).begins - timedelta(hours=1)
    change(db, notifications, {"id": text}, status="permanent-failure", created_at=yesterday)
    make_jobs(settings).sweep()
    page = inside.get("/activity").text
    assert page.count('<rect class="day"') == 2 * daily_counts.DAYS
    assert 'aria-label="Texts of the last 30 days: 1 failed."' in page
    row = re.search(rf"<tr><th scope=.row.>{yesterday.astimezone(LONDON):%a}.*?</tr>", page)
    assert row
    assert "Texts, failed </span>1<" in row[0]


def test_it_looks_again_by_itself(inside: Any) -> None:
    """A script of ours does it, and without one the browser; neither keeps a session open."""
    page = inside.get("/").text
    script, _ = re.findall(r'<script src="([^"]+)" defer></script>', page)
    with inside.get(script) as response:
        assert "innerHTML" not in response.text
    assert re.search(r'<noscript><meta http-equiv="refresh" content="\d+; url=/\?again=1">', page)
    with inside.session_transaction() as session:
        session["seen"] = time.time() - auth.IDLE.total_seconds() + 100
    assert inside.get("/?again=1").status_code == 200
    with inside.session_transaction() as session:
        session["seen"] -= 200
    assert is_out(inside)


@pytest.mark.parametrize(
    "path",
    ["/", "/rules", "/rule?name=kit-shipped", "/worklist/refused", "/worklist/unknown", "/audit"],
)
def test_no_page_is_seen_from_outside(path: str, desk: Any) -> None:
    """Each page asks for the login."""
    assert desk.get(path).location.startswith("/login")
