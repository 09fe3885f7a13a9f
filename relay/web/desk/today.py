"""The desk's first page: the day in a sentence, and what needs a person, worst first."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import url_for

from relay.ledger.views import daily_counts, status
from relay.ledger.worklist import cases
from relay.staff.roles import LOOK
from relay.web.desk import chart, layout
from relay.web.desk.attention import held_up
from relay.web.desk.causes import as_shown, by_cause
from relay.web.desk.layout import blueprint, page, requires, waiting
from relay.web.services import services

MOST = 12  # causes to show, found among the first CASES open cases
CASES = 60


@blueprint.get("/")
@requires(LOOK)
def today() -> str:
    """The day's answer; figures, charts and lists are on Activity."""
    app, now = services(), datetime.now(UTC)
    *_, day = daily_counts.last_days(app.config.clinic.timezone, now, 1)
    on_worklist = waiting()
    with app.db.read() as connection:
        tally = daily_counts.today(connection, day, now)
        kinds = cases.open_kinds(connection)
        stuck = [*held_up(connection, kinds)]
        causes = by_cause(as_shown(connection, cases.open_cases(connection, limit=CASES)))
        is_new = not status.has_posted(connection)
    return page(
        "today.html",
        stuck=stuck,
        causes=causes[:MOST],
        is_all=sum(len(one.cases) for one in causes[:MOST]) == on_worklist["cases"],
        tried=chart.totals(tally.tried),
        came=sum(tally.events.values()),
        is_new=is_new,
        delivery=app.settings.delivery,
        now=now,
        again=f"{url_for('desk.today')}?{layout.AGAIN}=1",
    )
