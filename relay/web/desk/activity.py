"""The desk's record of all messages and events: the day in figures, the month, and every line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from urllib.parse import urlencode

from flask import Response, abort, request, url_for

from relay.ledger.views import activity, daily_counts, status
from relay.ledger.views.activity import Wanted
from relay.ledger.views.daily_counts import Count
from relay.rules.channels import CHANNELS
from relay.rules.statuses import EVENT_STATUSES, STATUSES
from relay.staff import access
from relay.staff.explain import is_kept, named
from relay.staff.roles import LOOK
from relay.web.desk import chart, layout
from relay.web.desk.chart import Totals
from relay.web.desk.layout import alert_words, blueprint, page, requires
from relay.web.services import services

LATEST, FILE = 50, 10_000  # most lines on a page, and in a file
# The filters in the page's address, by what it lists: none of them is personal data.
FILTERS = {
    "messages": ("status", "rule", "channel", "day", "kit", "alerts"),
    "events": ("status", "name", "day", "kit"),
}
FIND = {"messages": activity.messages, "events": activity.posted}
STANDS = {"messages": STATUSES, "events": EVENT_STATUSES}
# The figures for each channel, of the messages that were tried today.
FIGURES: Mapping[str, Callable[[Totals], int]] = {
    "out": lambda totals: totals.out,
    "delivered": lambda totals: totals.outcomes["delivered"],
    "failed": lambda totals: totals.outcomes["failed"],
}


@blueprint.get("/activity")
@requires(LOOK)
def activity_page() -> str:
    """The figures of the day and the month, and a page of messages or of events."""
    app, now, asked = services(), datetime.now(UTC), _asked_for()
    *past, day = daily_counts.last_days(app.config.clinic.timezone, now)
    what = asked.pop("what")
    again = urlencode({**asked, "what": what, layout.AGAIN: 1})
    with app.db.read() as connection:
        kept = daily_counts.kept(connection, past)
        tally = daily_counts.today(connection, day, now)
        waits = status.waiting(connection)
        rows, older = FIND[what](connection, _wanted(asked), LATEST)
    month = {one.day: kept[one.day].messages if one.day in kept else [] for one in past}
    panels = chart.panels({**month, day.day: tally.messages})
    return page(
        "activity.html",
        what=what,
        given=asked,
        newest={name: value for name, value in asked.items() if name != "before"},
        statuses=STANDS[what],
        listed=rows,
        older=older,
        came=tally.events,
        tried=chart.totals(tally.tried),
        figures=by_channel(tally.tried),
        waits=waits,
        panels=panels,
        rows=[*zip(*(panel.columns for panel in panels), strict=True)][::-1],
        chart=chart,
        channels=CHANNELS,
        rules=[rule.name for rule in app.config.rules],
        outcomes=chart.shown(panels),
        named=partial(named, title=alert_words().title),
        is_kept=is_kept,
        today=day.day,
        again=f"{url_for('desk.activity_page')}?{again}",
    )


@blueprint.get("/activity.csv")
@requires(LOOK)
def activity_file() -> Response:
    """Messages or events as a file, short enough to open: ids and statuses, nothing personal."""
    asked = _asked_for()
    what = asked.pop("what")
    with services().db.read() as connection:
        rows, _ = FIND[what](connection, _wanted(asked), FILE)
    lines = [rows[0], *((row[name] or "" for name in rows[0]) for row in rows)] if rows else []
    kind = {"Content-Disposition": f"attachment; filename=relay-{what}.csv"}
    return Response(map(access.csv_line, lines), mimetype="text/csv", headers=kind)


def _asked_for() -> dict[str, str]:
    """The request: what to list, each filter, and the id before which the list goes on."""
    what = request.args.get("what", "messages")
    known = (*FILTERS.get(what, abort(404) if what not in FILTERS else ()), "before")
    asked = {name: request.args[name].strip()[:255] for name in known if request.args.get(name)}
    return {"what": what, **asked}


def _wanted(asked: Mapping[str, str]) -> Wanted:
    apart = ("day", "before", "alerts")
    equal = {name: value for name, value in asked.items() if name not in apart}
    day = None
    if "day" in asked:
        try:
            day = daily_counts.day_of(
                date.fromisoformat(asked["day"]), services().config.clinic.timezone
            )
        except (ValueError, OverflowError):
            abort(404)
    return Wanted(equal, day, asked.get("before", ""), "alerts" in asked)


def by_channel(tried: Sequence[Count]) -> Mapping[str, Mapping[str, int]]:
    """Figure → channel → count, of the messages that were tried."""
    totals = {
        channel: chart.totals(one for one in tried if one.channel == channel)
        for channel in CHANNELS
    }
    return {
        name: {channel: figure(of) for channel, of in totals.items()}
        for name, figure in FIGURES.items()
    }
