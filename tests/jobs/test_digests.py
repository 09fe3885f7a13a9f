"""Staff digests: one message with all that has gathered, each item told once, none lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.ledger.schema import events
from tests.jobs.conftest import KIT, STAFF, Clinic
from tests.jobs.test_alerts import flat
from tests.rows import replay_event, rows
from tests.standins import Reply

NIGHT = timedelta(hours=14)  # longer than from an event to the digest's time
DAYS = timedelta(days=2)  # the clock stands still: after one digest the next is a day further on
SOON = datetime.now(ZoneInfo("Europe/London")) + timedelta(hours=12)
TWO = STAFF.replace('"]', '", "second@example.org"]')
RULE = """
[rules.desk]
event = "order.shipped"
to = "desk"
channels = ["email"]
template = "{template}"
when = "order.shipping_status != 'returned'"
"""
DIGEST = RULE.format(template="batch") + f'digest = "daily {SOON:%H:%M}"\n'
SINGLE = RULE.format(template="kit")
TEMPLATES = {
    "subject.txt": "{{ count }} kits",
    "email.txt": "{% for item in items %}[{{ item.event.order_id }}]{% endfor %}",
    "email.html": "<html><body>{% for item in items %}<p>{{ item.order.id }}</p>{% endfor %}",
}


@pytest.fixture
def desk(clinic: Clinic) -> Clinic:
    """A clinic whose desk gets a digest of what was shipped, in twelve hours and then daily."""
    folder = clinic.settings.templates / "batch"
    folder.mkdir()
    for name, text in TEMPLATES.items():
        (folder / name).write_text(text, "utf-8")
    clinic.configure(DIGEST, staff=STAFF)
    return clinic


def told(clinic: Clinic) -> list[tuple[str, str]]:
    """To whom each digest or message went, and its text, in order."""
    sent = clinic.messages(status="sent", rule="desk")
    return sorted((row["address"].partition("@")[0], row["content"]["text"]) for row in sent)


def item(clinic: Clinic, order: str) -> dict[str, Any]:
    """The row of what came about an order or a registration first."""
    event = next(row["id"] for row in rows(clinic.db, events) if order in row["data"].values())
    planned = clinic.messages(event_id=event, rule="desk")
    (row,) = (row for row in planned if row["digest"] != row["identity"])
    return row


def digest(clinic: Clinic) -> dict[str, Any]:
    """The one digest there is."""
    (row,) = (row for row in clinic.messages() if row["digest"] == row["identity"])
    return row


def replay_all(clinic: Clinic) -> None:
    """Every event is processed again."""
    for event in {row["event_id"] for row in clinic.messages()}:
        replay_event(clinic.db, event)
    clinic.work()


def test_one_message_an_address_tells_all_of_it_once(desk: Clinic) -> None:
    """All items in one email to each address; replayed, they are not told again; then silence."""
    desk.configure(DIGEST, staff=TWO)
    desk.orders(3)
    desk.work()
    replay_all(desk)
    assert desk.statuses() == [("email", "cancelled")] * 6 + [("email", "scheduled")] * 2
    said = f"It is part of the digest of {SOON:%a %d %b, %H:%M}."
    assert {row["reason"] for row in desk.messages(status="cancelled")} == {said}
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-0][o-1][o-2]"), ("second", "[o-0][o-1][o-2]")]
    replay_all(desk)
    desk.work(DAYS)
    assert len(desk.sendgrid.accepted) == 2
    assert len(desk.messages()) == 8


def test_what_comes_after_it_went_is_in_the_next(desk: Clinic) -> None:
    """What is processed once the digest has gone is told the next time, alone."""
    desk.orders(1)
    desk.work()
    desk.work(NIGHT)
    desk.post(order_id="late")
    desk.work()
    desk.work(DAYS)
    assert told(desk) == [("desk", "[late]"), ("desk", "[o-0]")]


def test_what_is_not_true_any_more_is_left_out(desk: Clinic) -> None:
    """The lab is asked again, and the kit's other steps are looked at: each says why it is out."""
    desk.orders(3)
    desk.work()
    desk.lab.change("order", "o-0", shipping_status="returned")
    desk.post("order.delivered", order_id="o-1")
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-2]")]
    out = "It was left out of its digest. "
    assert item(desk, "o-0")["reason"].startswith(f"{out}Its condition is not met: ")
    assert item(desk, "o-1")["reason"] == (f"{out}The kit has moved on: order.delivered has come.")


def test_nothing_is_sent_when_nothing_is_left(desk: Clinic) -> None:
    """A test that was cancelled leaves an empty digest, which ends with its reason, and no case."""
    desk.configure(DIGEST.replace("order.shipped", "lab_results.complete"), staff=STAFF)
    desk.results()
    desk.work()
    desk.lab.change("test_registration", KIT, status="cancelled")
    desk.work(NIGHT)
    assert (digest(desk)["status"], digest(desk)["reason"]) == (
        "cancelled",
        "The digest has no items left.",
    )
    assert item(desk, KIT)["reason"] == "It was left out of its digest. The test was cancelled."
    assert (desk.sendgrid.accepted, desk.worklist()) == ([], [])


def test_a_lab_that_does_not_answer_holds_no_digest_up(desk: Clinic) -> None:
    """What cannot be asked again is told as it was told: staff look it up anyway."""
    desk.orders(1)
    desk.work()
    desk.lab.always(Reply(503, b"", {}))
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-0]")]


def test_an_item_that_breaks_is_put_to_a_person(desk: Clinic) -> None:
    """A condition that cannot be decided of one kit is a case about that kit; the rest is told."""
    desk.orders(2)
    desk.work()
    desk.configure(
        DIGEST.replace("!= 'returned'", "< 3 if order.tracking_number == 'RM0' else true"),
        staff=STAFF,
    )
    desk.lab.change("order", "o-0", tracking_number="RM0")
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-1]")]
    assert item(desk, "o-0")["status"] == "technical-failure"
    assert len(desk.worklist()) == 1


def test_reminders_gather_too(desk: Clinic) -> None:
    """`after` and `unless`: what is due by then and not settled is told; a list of what is late."""
    rule = DIGEST.replace("order.shipped", "order.delivered")
    rule += 'after = "10d"\nunless = ["lab_results.complete", "test_registration.complete"]\n'
    desk.configure(rule, staff=STAFF)
    desk.post("order.delivered", order_id="o-0")
    desk.work()
    desk.work(timedelta(days=9))
    assert desk.statuses() == [("email", "cancelled"), ("email", "scheduled")]
    desk.work(timedelta(days=2))
    assert told(desk) == [("desk", "[o-0]")]


def test_a_rule_switched_off_by_mistake_can_be_made_good(desk: Clinic) -> None:
    """The digest ends, its items say so; once the rule is back a replay tells them, once."""
    desk.orders(2)
    desk.work()
    desk.configure(DIGEST + "enabled = false\n", staff=STAFF)
    desk.work(NIGHT)
    assert digest(desk)["status"] == "cancelled"
    off = "The rule is switched off (enabled = false)."
    assert item(desk, "o-0")["reason"] == f"Its digest was cancelled: {off}"
    desk.configure(DIGEST, staff=STAFF)
    replay_all(desk)
    desk.work(DAYS)
    assert told(desk) == [("desk", "[o-0][o-1]")]


def test_a_rule_that_stops_digests_tells_each_by_itself(desk: Clinic) -> None:
    """What had gathered goes out singly, by the rule as it is now: nothing is lost."""
    desk.orders(2)
    desk.work()
    desk.configure(SINGLE, staff=STAFF)
    desk.work(NIGHT)
    assert told(desk) == [("desk", "Kit RM1"), ("desk", "Kit RM1")]
    assert digest(desk)["reason"] == "Its rule no longer sends digests."


def test_a_rule_that_begins_digests_gathers_what_waits(desk: Clinic) -> None:
    """A message that had to wait becomes an item once its rule has digests."""
    desk.configure(SINGLE, staff=STAFF)
    desk.sendgrid.once(Reply(429, b"", {}))
    desk.orders(1)
    desk.work()
    desk.configure(DIGEST, staff=STAFF)
    desk.work(timedelta(minutes=1))
    assert item(desk, "o-0")["reason"].startswith("It is part of the digest of ")
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-0]")]


def test_the_items_of_staff_who_left_go_to_who_is_there(desk: Clinic) -> None:
    """An address taken out of a group gets no digest; the one put in has the items in its next."""
    desk.orders(2)
    desk.work()
    desk.configure(DIGEST, staff=STAFF.replace("desk@", "new@"))
    desk.work(NIGHT)
    desk.work(DAYS)
    assert told(desk) == [("new", "[o-0][o-1]")]


def test_a_digest_that_fails_is_put_to_a_person(desk: Clinic) -> None:
    """Its case and alert say which digest; a replay of any of its items' events sends it again."""
    desk.configure(DIGEST, staff=STAFF)
    desk.orders(2)
    desk.work()
    desk.sendgrid.once(Reply(400, b"{}", {}))
    desk.work(NIGHT)
    assert (digest(desk)["status"], desk.worklist()) == ("permanent-failure", ["unreached"])
    (alert,) = desk.messages(rule="relay:unreached")
    assert f"the kits of digest desk {SOON:%Y-%m-%d %H:%M}" in flat(alert["content"]["text"])
    replay_event(desk.db, item(desk, "o-1")["event_id"])
    desk.work()
    assert told(desk) == [("desk", "[o-0][o-1]")]
