"""The desk's first page: how the day goes, what needs a person, the last month, what came last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from flask import url_for
from flask_login import login_required

from relay.ledger import cases, counting, pausing, reading, upkeep
from relay.web.desk import chart, sessions
from relay.web.desk.frame import blueprint, page, waiting
from relay.web.here import here

LATEST = 25
# The kinds of case, as they are counted: one, several.
KINDS = {
    "unreached": ("person was not reached", "people were not reached"),
    "held": ("event from the lab is held", "events from the lab are held"),
    "release": ("message waits for your release", "messages wait for your release"),
    "missing": ("kit has not come as far as it should", "kits have not come as far as they should"),
    "unknown": ("message may or may not have gone out", "messages may or may not have gone out"),
    "broken": ("message could not be written", "messages could not be written"),
    "erasure": ("erasure has left something", "erasures have left something"),
    "limit": ("day's limit on texts was reached", "days' limits on texts were reached"),
}
# These are told by what is so now, not by their case.
NOW = ("paused", "config")
WAYS = {"sms": "Texts are", "email": "Emails are"}
REFUSED = ("post from the lab was refused", "posts from the lab were refused")
UNKNOWN = (
    "kind of event has come that Relay does not know",
    "kinds of events have come that Relay does not know",
)


class Need(NamedTuple):
    """Something that needs a person: how many, what, and where it is seen to."""

    many: int | None
    said: str
    link: str
    to: str


@blueprint.get("/")
@login_required  # type: ignore[untyped-decorator]
def today() -> str:
    """All of it at a glance."""
    app, now = here(), datetime.now(UTC)
    *past, day = counting.last_days(app.config.clinic.timezone, now)
    kept, tally = counting.kept(app.db, past), counting.today(app.db, day, now)
    month = {one.day: kept[one.day].messages if one.day in kept else [] for one in past}
    month[day.day] = of_today = tally.messages
    panels = chart.panels(month)
    events, messages = reading.latest(app.db, LATEST)
    return page(
        "today.html",
        needs=[*_needs()],
        came=tally.events,
        told=chart.totals(of_today),
        by_channel={c: chart.totals(x for x in of_today if x.channel == c) for c in chart.CHANNELS},
        panels=panels,
        rows=[*zip(*(panel.columns for panel in panels), strict=True)][::-1],
        chart=chart,
        events=events,
        messages=messages,
        delivery=app.settings.delivery,
        now=tally.counted_at,
        again=f"{url_for('desk.today')}?{sessions.AGAIN}=1",
    )


def _needs() -> Iterator[Need]:
    db, worklist = here().db, (url_for("desk.worklist"), "Worklist")
    found = cases.open_kinds(db)
    if here().living.wrong or "config" in found:  # config.toml we know; templates the worker tries
        said = "config.toml or a template is wrong. Relay goes on by the last good one."
        yield Need(None, said, url_for("desk.rules"), "Rules")
    for row in pausing.paused(db):
        said = f"{WAYS[row['channel']]} paused: {row['reason']}"
        yield Need(None, said, url_for("desk.system"), "System")
    if not upkeep.workers_alive(db):
        yield Need(None, "No worker is alive: nothing goes out.", url_for("desk.system"), "System")
    for kind, words in KINDS.items():
        if many := found.get(kind, 0):
            yield Need(many, words[many > 1], *worklist)
    if many := waiting()["refused"]:
        yield Need(many, REFUSED[many > 1], url_for("desk.quarantine"), "Refused posts")
    if many := waiting()["unknown"]:
        yield Need(many, UNKNOWN[many > 1], url_for("desk.unknown_events"), "Unknown events")
