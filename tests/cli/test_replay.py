"""`flask relay replay`: again, but never twice to the same person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.lab.events import EVENTS
from relay.ledger import events as ledger_events
from relay.ledger.audit import Act
from relay.ledger.database import Database, now
from relay.ledger.schema import attempts, events, notifications
from relay.ledger.worklist import quarantine
from tests.cli.conftest import Rows, Run
from tests.rows import rows as ledger_rows
from tests.standins import LabStandIn, ProviderStandIn, Reply, twilio_error

Post = Callable[..., str]
Work = Callable[..., int]


@contextmanager
def unknown_event(name: str) -> Iterator[None]:
    """A Relay of before the lab had this event."""
    known = dict(EVENTS)
    del EVENTS[name]
    try:
        yield
    finally:
        EVENTS.clear()
        EVENTS.update(known)  # in their order


def status(db: Database, event_id: str) -> str:
    """An event's status."""
    found = ledger_rows(db, events, id=event_id)
    return str(found[0]["status"]) if found else "missing"


def to(request: Any) -> str:
    """Whom a text went to."""
    return str(request.form["To"])


def test_an_event_is_processed_again_and_nobody_is_told_twice(
    relay: Run, post: Post, work: Work, live: Settings, twilio: ProviderStandIn, db: Database
) -> None:
    """A processed event can be replayed; what was sent for it is not sent again."""
    id_ = post("order.shipped")
    work(live)
    result = relay("replay", id_)
    assert (result.exit_code, result.stdout) == (0, "1 of 1 will be processed again.\n")
    assert status(db, id_) == "received"
    work(live)
    assert status(db, id_) == "processed"
    assert len(twilio.accepted) == 1


def test_a_failed_message_is_sent_again_once(
    relay: Run, post: Post, work: Work, live: Settings, twilio: ProviderStandIn, rows: Rows
) -> None:
    """A message that the provider refused goes out once after a replay, and not after a second."""
    twilio.once(twilio_error(400, 21612))
    post("order.shipped")
    work(live)
    (failed,) = (row["id"] for row in rows() if row["status"] == "permanent-failure")
    assert relay("replay", failed).exit_code == 0
    work(live)
    assert len(twilio.accepted) == 1
    again = relay("replay", failed)
    assert (again.exit_code, again.stdout) == (1, "0 of 1 will be processed again.\n")
    work(live)
    assert len(twilio.accepted) == 1


def test_all_that_failed(
    relay: Run, post: Post, work: Work, live: Settings, twilio: ProviderStandIn, rows: Rows
) -> None:
    """`--failed` takes what failed, but not where a fallback has reached the person since."""
    twilio.once(twilio_error(400, 21612), twilio_error(400, 30007))
    post("order.shipped")
    post("test_registration.sample_received")
    work(live)
    assert [row["status"] for row in rows()].count("permanent-failure") == 2
    result = relay("replay", "--failed")
    assert (result.exit_code, result.stdout) == (0, "1 of 1 will be processed again.\n")
    work(live)
    assert len(twilio.accepted) == 1
    statuses = {(row["rule"], row["channel"]): row["status"] for row in rows()}
    assert statuses.pop(("sample-received", "sms")) == "permanent-failure"
    assert set(statuses.values()) == {"sent"}


def test_a_held_event(
    relay: Run, post: Post, work: Work, db: Database, lab: LabStandIn, rows: Rows
) -> None:
    """`--failed` takes held events too: they had failed at the lab's API for days."""
    id_ = post("order.shipped")
    with db.write() as connection:
        ledger_events.hold(connection, id_, "The lab's API did not answer.")
    assert relay("replay", "--failed").exit_code == 0
    work()
    assert status(db, id_) == "processed"
    assert len(rows()) == 2


@pytest.mark.parametrize("by_id", [True, False])
def test_an_unrouted_event(
    relay: Run, post: Post, work: Work, db: Database, rows: Rows, by_id: bool
) -> None:
    """An event that was unknown when it came is processed once its name is known; until then the
    command says why not.
    """
    with unknown_event("order.shipped"):
        id_ = post("order.shipped")
        assert status(db, id_) == "unrouted"
        refused = relay("replay", id_)
        assert refused.exit_code == 1
        said = f"{id_}: Relay does not know the event order.shipped yet."
        assert said in refused.stderr
        assert relay("replay", "--unrouted").stdout == "0 of 0 will be processed again.\n"
    assert relay("replay", id_ if by_id else "--unrouted").exit_code == 0
    work()
    assert status(db, id_) == "processed"
    assert [row["event_id"] for row in rows()] == [id_, id_]


def test_quarantine_that_is_still_wrong_stays(relay: Run, client: Any, db: Database) -> None:
    """A body that cannot be taken now either is told with its bad fields, and stays."""
    body = '{"event": "order.shipped", "data": {}}'
    assert client.post("/webhooks/lab", data=body).status_code == 422
    for _ in range(2):
        result = relay("replay", "--quarantined")
        assert result.stdout == "0 of 1 will be processed again.\n"
        assert "still refuses" in result.stderr
        assert "data.order_id" in result.stderr


def test_quarantine_that_can_be_taken_now(
    relay: Run, client: Any, work: Work, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body refused by a schema that was too strict becomes an event, once."""
    kind = EVENTS["order.shipped"]
    strict = replace(kind, schema=EVENTS["test_registration.complete"].schema)
    with monkeypatch.context() as patched:
        patched.setitem(EVENTS, "order.shipped", strict)
        body = '{"event": "order.shipped", "data": {"order_id": "1234-5678"}}'
        assert client.post("/webhooks/lab", data=body).status_code == 422
    assert relay("replay", "--quarantined").stdout == "1 of 1 will be processed again.\n"
    work()
    told = [row for row in rows() if not row["rule"].startswith("relay:")]
    assert [row["status"] for row in told] == ["sent", "sent"]
    assert relay("replay", "--quarantined").stdout == "0 of 0 will be processed again.\n"
    assert client.post("/webhooks/lab", data=body).json["status"] == "duplicate"


def test_what_was_put_aside_is_left_alone(relay: Run, client: Any, db: Database) -> None:
    """`--quarantined` passes over it and `explain` says who did it; its own id still tries it."""
    client.post("/webhooks/lab", data='{"event": "order.shipped", "data": {}}')
    with db.read() as connection:
        [id_] = quarantine.ids(connection)
    with db.write() as connection:
        assert quarantine.put_aside(connection, id_, Act("admin", "post aside"), "The lab tests.")
    assert relay("replay", "--quarantined").stdout == "0 of 0 will be processed again.\n"
    assert "put aside by admin. The lab tests." in relay("explain", id_).stdout
    assert "still refuses" in relay("replay", id_).stderr


@pytest.mark.parametrize("wanted", ["evt_none", "msg_none", "qrt_none", "none", "order.shipped"])
def test_an_unknown_id_is_refused(relay: Run, wanted: str) -> None:
    """An id that names nothing is told by itself, with exit code 1."""
    result = relay("replay", wanted)
    assert result.exit_code == 1
    assert f"warning: {wanted}: " in result.stderr
    assert result.stdout == "0 of 1 will be processed again.\n"


def test_one_refusal_does_not_stop_the_others(relay: Run, post: Post, work: Work) -> None:
    """Of several ids those that can be replayed are; the exit code still tells of the other."""
    id_ = post("order.shipped")
    work()
    result = relay("replay", "evt_none", id_)
    assert (result.exit_code, result.stdout) == (1, "1 of 2 will be processed again.\n")


@pytest.mark.parametrize("reply", [Reply(500), Reply(hang_up=True), Reply(201, b"garbage")])
def test_what_may_have_gone_out_is_refused(
    relay: Run,
    post: Post,
    work: Work,
    live: Settings,
    twilio: ProviderStandIn,
    rows: Rows,
    reply: Reply,
) -> None:
    """A message that the provider may have taken is never sent again by a replay."""
    twilio.always(reply)
    id_ = post("order.shipped")
    work(live)
    (unsure,) = (row["id"] for row in rows() if row["status"] == "unknown")
    assert relay("replay", unsure).exit_code == 1
    relay("replay", id_)
    relay("replay", "--failed")
    work(live)
    assert len(twilio.requests) == 1


def test_a_failure_after_acceptance_is_refused(
    relay: Run, post: Post, work: Work, live: Settings, db: Database, twilio: ProviderStandIn
) -> None:
    """What failed after the provider had taken it (a receipt said so) is not sent again."""
    post("order.shipped")
    work(live)
    with db.write() as connection:
        connection.execute(notifications.update().values(status="temporary-failure"))
    result = relay("replay", "--failed")
    assert result.stdout == "0 of 0 will be processed again.\n"
    work(live)
    assert len(twilio.accepted) == 1


def test_nothing_named_is_a_usage_error(relay: Run) -> None:
    """Without ids and without an option nothing is replayed; exit code 2."""
    result = relay("replay")
    assert result.exit_code == 2
    for option in ("--unrouted", "--quarantined", "--failed"):
        assert option in result.stderr


def test_a_lost_redis_does_not_stop_it(relay: Run, post: Post, work: Work, db: Database) -> None:
    """The ledger is what counts: with Redis away the replay is made, with a warning."""
    id_ = post("order.shipped")
    work()
    result = relay("replay", id_, REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: redis: ")
    assert status(db, id_) == "received"


def test_every_attempt_is_kept(
    relay: Run, post: Post, work: Work, live: Settings, twilio: ProviderStandIn, db: Database
) -> None:
    """A replay adds an attempt; the failed one stays in the ledger."""
    twilio.once(twilio_error(400, 21612))
    id_ = post("order.shipped")
    work(live)
    relay("replay", "--failed")
    work(live)
    with db.read() as connection:
        query = attempts.select().where(attempts.c.channel == "sms")
        kept = connection.execute(query.order_by(attempts.c.started_at)).all()
        tries = connection.execute(events.select().where(events.c.id == id_)).one().status
    assert [row.outcome for row in kept] == ["rejected", "accepted"]
    assert tries == "processed"


def test_a_replay_that_tells_nobody_promises_nothing(
    relay: Run, post: Post, work: Work, live_environ: dict[str, str]
) -> None:
    """Where what comes of it goes nowhere it says so: delivery is dry-run, a stop stands, or no
    rule is on for the event. Where it goes out, nothing is added.
    """
    id_, other = post("order.shipped"), post("test_registration.lml_lab_id_created")
    work()
    assert "keeps the messages here and sends none" in relay("replay", id_).stderr
    work()
    assert relay("replay", id_, **live_environ).stderr == ""
    work()
    relay("stop", "--rule", "kit-shipped", "--reason", "Wrong words.")
    said = relay("replay", id_, other, **live_environ).stderr
    assert "warning: stopped: " in said
    assert (
        "no rule is on for test_registration.lml_lab_id_created, so nobody gets a message." in said
    )


def test_what_was_only_kept_here_is_sent_once_when_delivery_is_live(
    relay: Run,
    post: Post,
    work: Work,
    live: Settings,
    live_environ: dict[str, str],
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    rows: Rows,
    db: Database,
) -> None:
    """`--kept` asks, with how many messages and people; a "no" sends nothing, `--yes` asks nothing.
    Each goes out once, as the message that it is, and its event told nobody else meanwhile; what
    went out is not taken again.
    """
    id_ = post("order.shipped")
    work()
    assert relay("replay", "--kept").exit_code == 1  # they would only be kept here again
    asked = relay("replay", "--kept", typed="n\n", **live_environ)
    assert "Messages: 2, to people: 1. Send them now?" in asked.stdout
    assert (asked.exit_code, twilio.accepted) == (1, [])
    kept = {row["id"] for row in rows()}
    relay("replay", id_, **live_environ)
    work(live)
    assert (twilio.accepted, sendgrid.accepted) == ([], [])  # recorded as told

    twilio.once(twilio_error(400, 21612))
    done = relay("replay", "--kept", "--yes", **live_environ)
    said = "1 went out. 1 did not: `flask relay list` says why."
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, said)
    assert relay("replay", "--failed").stdout == "1 of 1 will be processed again.\n"
    work(live)  # nobody had taken it: so it goes like any other that failed
    assert (len(twilio.accepted), len(sendgrid.accepted)) == (1, 1)
    assert {row["id"] for row in rows()} == kept
    assert not any(row["provider_id"].startswith("dry-run") for row in rows())
    outcomes = sorted(row["outcome"] for row in ledger_rows(db, attempts))
    assert outcomes == ["accepted"] * 2 + ["rejected"] * 3
    assert "an attempt was not sent but kept here" in relay("explain", id_).stdout
    again = relay("replay", "--kept", "--yes", **live_environ)
    assert again.stdout == "Nothing else was only kept here.\n"
    relay("replay", id_, **live_environ)
    work(live)
    assert (len(twilio.accepted), len(sendgrid.accepted)) == (1, 1)


def test_what_was_kept_and_is_out_of_date_is_left(
    relay: Run,
    post: Post,
    work: Work,
    live_environ: dict[str, str],
    twilio: ProviderStandIn,
    rows: Rows,
    db: Database,
) -> None:
    """News that a later step overtook is not sent, and its reason says so; nor is what is older
    than `--since`.
    """
    post("order.shipped")
    work()
    with db.write() as connection:
        connection.execute(notifications.update().values(created_at=now(-3 * 86_400)))
        connection.execute(events.update().values(received_at=now(-3 * 86_400)))
    older = relay("replay", "--kept", "--yes", **live_environ)
    assert "2 older than" in older.stderr
    post("order.delivered")
    work()
    done = relay("replay", "--kept", "--yes", "--since", "5d", **live_environ)
    assert done.stdout.splitlines()[-1] == "1 went out. 2 did not: `flask relay list` says why."
    became = {(row["rule"], row["channel"]): row["status"] for row in rows()}
    assert became == {
        ("kit-shipped", "sms"): "cancelled",
        ("kit-shipped", "email"): "cancelled",
        ("kit-delivered", "sms"): "sent",
    }
    assert len(twilio.accepted) == 1
