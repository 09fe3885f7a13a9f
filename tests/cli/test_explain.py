"""`flask relay explain`: what became of an event, a message or a kit, in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.lab import samples
from relay.ledger import attempts as ledger_attempts
from relay.ledger import receipts
from relay.ledger.database import Database
from relay.ledger.schema import aliases, attempts, events, journeys, notifications, quarantine
from relay.ledger.worklist import cases
from relay.rules import model
from relay.rules.model import Case, Ending
from relay.rules.receipts import Receipt
from relay.rules.statuses import FAILED, STATUSES
from relay.staff.words import STANDS
from tests.cli.conftest import Run
from tests.rows import change, claimed, close_case, only, open_cases, rows
from tests.standins import LabStandIn


@pytest.fixture
def shipped(post: Callable[..., str], work: Callable[..., int]) -> str:
    """A shipped order whose customer has been told, and that was posted twice."""
    id_ = post("order.shipped")
    assert post("order.shipped") == id_
    work()
    return id_


def explained(relay: Run, id_: str) -> str:
    """What is printed about an id."""
    result = relay("explain", id_)
    assert (result.exit_code, result.stderr) == (0, "")
    return str(result.stdout)


def test_an_events_story_is_told(relay: Run, shipped: str, db: Database) -> None:
    """When it came, how often, what it is about, what each rule made of it, and each attempt."""
    told = explained(relay, shipped)
    for words in (
        f"the lab posted order.shipped ({shipped}).",
        "It was posted again 1 time, which changed nothing.",
        f"It is about {only(db, events)['subject']}.",
        "It was processed at",
        "Rule kit-shipped: text to the customer (msg_",
        "Rule kit-shipped: email to the customer (msg_",
        "an attempt was not sent but kept here as dry-run",
        "It was made and kept here, not sent.",
    ):
        assert words in told


def test_it_names_nobody(relay: Run, shipped: str, db: Database) -> None:
    """No name, number, address or word of a message can be read over a shoulder."""
    told = explained(relay, shipped)
    found = rows(db, notifications)
    assert found
    for row in found:
        assert row["address"] not in told
        assert row["content"]["text"] not in told
    assert only(db, events)["facts"]["customer"]["first_name"] not in told


def test_a_message_is_told_alone(relay: Run, shipped: str, db: Database) -> None:
    """By a message's id, an attempt's or the provider's, only that message is told."""
    text = only(db, notifications, channel="sms")
    attempt = only(db, attempts, notification_id=text["id"])
    for id_ in (text["id"], attempt["id"], attempt["provider_id"]):
        told = explained(relay, id_)
        assert text["id"] in told
        assert "email to" not in told


def test_receipts_and_cases_are_told(relay: Run, shipped: str, db: Database) -> None:
    """What the provider said, and what staff made of it."""
    text = only(db, notifications, channel="sms")
    attempt = only(db, attempts, notification_id=text["id"])
    failed = Receipt("permanent-failure", "undelivered", attempt["id"], reason="Not in use.")
    receipts.record(db, "sms", [failed])
    with db.write() as connection:
        about = Case("unreached", "k", "o-1", "Nobody was reached.", shipped, text["id"])
        cases.open_case(connection, about)
    told = explained(relay, shipped)
    assert 'the provider said "undelivered". Not in use.' in told
    assert "It cannot arrive (permanent-failure). Not in use." in told
    assert "on the worklist: Somebody could not be reached. Nobody was reached." in told
    assert "It is still open." in told
    close_case(db, open_cases(db)[0]["id"], "admin", "Called her.")
    assert "closed by admin. Called her." in explained(relay, shipped)


def test_it_says_where_a_held_message_can_be_read(relay: Run, shipped: str, db: Database) -> None:
    """While a person is asked, the case's page has the words; once they have decided it is not
    named.
    """
    with db.write() as connection:
        cases.open_case(connection, Case("release", "k", "o-1", "It is for her.", shipped))
    (case,) = open_cases(db)
    where = f"The desk shows the message as it would be sent now: /case/{case['id']}"
    assert where in explained(relay, shipped)
    close_case(db, case["id"], "admin", "Released.")
    assert where not in explained(relay, shipped)


def test_a_kit_is_told_by_any_of_its_names(
    relay: Run, post: Callable[..., str], work: Callable[..., int], db: Database
) -> None:
    """All events of a kit, oldest first, by its order's id, its registration's, or its TRF code."""
    order = "11111111-1111-4111-8111-111111111111"
    post("order.shipped", order_id=order)
    work()
    kit = next(row["subject"] for row in rows(db, journeys) if row["order_subject"] == order)
    names = [row["alias"] for row in rows(db, aliases) if row["subject"] == kit]
    trf = next(name for name in names if name.startswith("LML-"))
    post("lab_results.complete", testregistration_id=kit)
    work()
    for name in (order, kit, trf):
        told = explained(relay, name)
        assert told.index("order.shipped") < told.index("lab_results.complete")


def test_a_digest_and_its_items_tell_of_each_other(
    relay: Run, post: Callable[..., str], work: Callable[..., int], db: Database, config_file: Path
) -> None:
    """An item says which digest tells it and what became of that; a digest says what it tells."""
    text = config_file.read_text("utf-8")
    rule = text.index("[rules.desk-retests]")
    on = text[rule:].replace("enabled = false", "enabled = true", 1)
    config_file.write_text(text[:rule] + on, "utf-8")
    id_ = post("test_registration.retest")
    work()
    (digest,) = rows(db, notifications, rule="desk-retests", status="scheduled")
    told = explained(relay, id_)
    assert "It was cancelled. It is part of the digest of " in told
    assert f"That digest ({digest['id']}) has not gone out yet." in told
    subject = only(db, events)["subject"]
    told = explained(relay, digest["id"])
    assert f"It includes test_registration.retest about {subject} ({id_})." in told


def test_what_waits_says_what_holds_it_up(relay: Run, db: Database) -> None:
    """A message that is due, while no worker is running and the provider refuses: both are told."""
    claim = claimed(db)
    refused = model.Pause("refused", "Twilio refuses our account (401).")
    put_back = Ending("rejected", "created", refused.reason, retry_in=-1.0, pause=refused)
    ledger_attempts.finish(db, claim, put_back)
    paused = r"texts have been paused since [^;]+, because Twilio refuses our account \(401\)\.\n"
    assert re.search(f"It is waiting: no worker is running; {paused}", explained(relay, claim.id))


def test_every_status_has_its_sentence() -> None:
    """How a message stands is a sentence, whatever its status; the four failures keep the word by
    which the docs tell what to do.
    """
    assert all(STANDS[status][1] for status in STATUSES)
    named = {status for status in STATUSES if status in STANDS[status][1]}
    assert set(FAILED) <= named <= {*FAILED, "sent", "cancelled"}


def test_why_nobody_was_told(
    relay: Run, post: Callable[..., str], work: Callable[..., int], db: Database
) -> None:
    """Where a rule told nobody, its reason stands there."""
    id_ = post("test_registration.lml_lab_id_created")
    work()
    assert "Rule desk-lab-id sent nothing. The rule is switched off" in explained(relay, id_)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("received", "Relay has not processed it yet. The lab is busy."),
        ("held", "It has been held since"),
        ("unrouted", "Relay does not know this event."),
    ],
)
def test_an_event_that_is_not_processed_says_so(
    status: str, says: str, relay: Run, post: Callable[..., str], db: Database
) -> None:
    """What waits, is held or is not known says what it waits for."""
    id_ = post("order.shipped")
    change(db, events, {}, status=status, reason="The lab is busy.")
    assert says in explained(relay, id_)


def test_a_refused_body_is_told(relay: Run, client: Any, db: Database) -> None:
    """A body in quarantine tells what was wrong with it."""
    client.post("/webhooks/lab", data='{"event": "order.shipped", "data": {}}')
    told = explained(relay, only(db, quarantine)["id"])
    assert "a post was refused" in told
    assert "data.order_id" in told


def test_what_nobody_knows_is_an_error(relay: Run, db: Database) -> None:
    """An id that nothing goes by ends with 1, and says where ids are found."""
    result = relay("explain", "evt_nothing")
    assert result.exit_code == 1
    assert "the ledger has no such id" in result.stderr


def test_a_mistake_in_the_files_hides_nothing(
    relay: Run, shipped: str, client: Any, db: Database, config_file: Path
) -> None:
    """While config.toml has a mistake, web and worker go on with the edition before it: a story is
    told by that, and a refused body is tried by it, with a warning. Where there is no edition the
    mistake is printed, with its line.
    """
    client.post("/webhooks/lab", data='{"event": "order.shipped", "data": {}}')
    right = config_file.read_text("utf-8")
    config_file.write_text(right.replace("[delivery]", "[delivry]"), "utf-8")
    refused = only(db, quarantine)["id"]
    change(db, quarantine, {}, body=b'{"event": "order.shipped", "data": {"order_id": "o-1"}}')
    for asked in (("explain", shipped), ("replay", refused)):
        result = relay(*asked)
        assert result.exit_code == 1
        assert "delivry" in result.stderr
    config_file.write_text(right, "utf-8")
    relay("upgrade")
    config_file.write_text(right.replace("[delivery]", "[delivry]"), "utf-8")
    told, again = relay("explain", shipped), relay("replay", refused)
    assert (told.exit_code, again.exit_code) == (0, 0)
    assert "It was processed at" in told.stdout
    for result in (told, again):
        assert "so edition 1 stays in use. Run `flask relay check`." in result.stderr


def test_a_name_that_is_none_is_noted(
    relay: Run, post: Callable[..., str], work: Callable[..., int], lab: LabStandIn, db: Database
) -> None:
    """Staff see that somebody was greeted neutrally, and why; not the words that lure."""
    lure = "Claim at bit.ly/x9"
    customer = {"first_name": lure, "email": "jane@example.org", "phone_number": "07700900001"}
    order = samples.webhook("order.shipped")["data"]["order_id"]
    lab.change("order", order, customer=customer)
    id_ = post("order.shipped")
    work()
    told = explained(relay, id_)
    assert "The customer's first name has a link in it, so messages leave it out." in told
    assert "bit.ly" not in told
    sent = [row["content"] for row in rows(db, notifications)]
    assert "bit.ly" not in str(sent)
    assert any("Hello there," in content.get("text", "") for content in sent)
