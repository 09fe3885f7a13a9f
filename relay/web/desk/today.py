"""The desk's first page: how the day goes, what needs a person, the last month, what came last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from flask import url_for

from relay.ledger.views import daily_counts, queries, status
from relay.ledger.views.daily_counts import Count
from relay.rules.channels import CHANNELS
from relay.staff.explain import is_kept, named
from relay.staff.roles import LOOK
from relay.web.desk import chart, layout
from relay.web.desk.attention import needs
from relay.web.desk.chart import Totals
from relay.web.desk.layout import alert_words, blueprint, page, requires, waiting
from relay.web.services import services

LATEST = 25
# The figures that are told by channel, of the messages that were tried today.
FIGURES: Mapping[str, Callable[[Totals], int]] = {
    "out": lambda told: told.out,
    "delivered": lambda told: told.outcomes["delivered"],
    "failed": lambda told: told.outcomes["failed"],
}


@blueprint.get("/")
@requires(LOOK)
def today() -> str:
    """All of it at a glance."""
    app, now = services(), datetime.now(UTC)
    *past, day = daily_counts.last_days(app.config.clinic.timezone, now)
    on_worklist = waiting()
    with app.db.read() as connection:
        kept = daily_counts.kept(connection, past)
        tally = daily_counts.today(connection, day, now)
        events, messages = queries.latest(connection, LATEST)
        waits = status.waiting(connection)
        needed = [*needs(connection, on_worklist)]
    month = {one.day: kept[one.day].messages if one.day in kept else [] for one in past}
    panels = chart.panels({**month, day.day: tally.messages})
    return page(
        "today.html",
        needs=needed,
        came=tally.events,
        tried=chart.totals(tally.tried),
        figures=by_channel(tally.tried),
        waits=waits,
        panels=panels,
        rows=[*zip(*(panel.columns for panel in panels), strict=True)][::-1],
        chart=chart,
        channels=CHANNELS,
        outcomes=chart.shown(panels),
        events=events,
        messages=messages,
        named=partial(named, title=alert_words().title),
        is_kept=is_kept,
        delivery=app.settings.delivery,
        now=tally.counted_at,
        again=f"{url_for('desk.today')}?{layout.AGAIN}=1",
    )


def by_channel(tried: Sequence[Count]) -> Mapping[str, Mapping[str, int]]:
    """Each figure by channel."""
    told = {
        channel: chart.totals(one for one in tried if one.channel == channel)
        for channel in CHANNELS
    }
    return {
        name: {channel: figure(of) for channel, of in told.items()}
        for name, figure in FIGURES.items()
    }
