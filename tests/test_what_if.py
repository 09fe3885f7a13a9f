"""An edited config against what was sent: relay/staff/what_if.py with plain histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.config import check
from relay.config.loader import Config, parse
from relay.config.settings import Settings
from relay.lab.facts import Facts, resource
from relay.ledger.views.kit_history import History, PastEvent, Row
from relay.messages import sms_segments
from relay.messages.templates import Message
from relay.rules.model import Step
from relay.rules.staleness import Registration
from relay.staff.costs import of_edit
from relay.staff.what_if import SENT, WOULD, Line, WhatIf, forbidden, renamed

NOON = datetime(2026, 6, 1, 11, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHIPPED, DELIVERED, COMPLETE = "order.shipped", "order.delivered", "test_registration.complete"
RECEIVED, RETEST, RESULTS = (
    "test_registration.sample_received",
    "test_registration.retest",
    "lab_results.complete",
)
HEAD = """
[clinic]
name = "Example Clinic"
phone = "020 7946 0000"
[delivery]
send_window = "always"
[staff.desk]
email = ["a@example.org", "b@example.org"]
"""
KIT = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["sms"]
template = "kit"
"""
RESULT = """
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
"""
REMINDER = """
[rules.reminder]
event = "order.delivered"
after = "10d"
unless = ["test_registration.sample_received"]
to = "customer"
channels = ["sms"]
template = "reminder"
"""
LATE = "even_if_late = true\n"  # an edit that changes nothing here
PERSON = {"phone_number": "+447700900001", "email": "jane@example.org"}


def config(*rules: str, head: str = HEAD) -> Config:
    """A config of these rules."""
    return parse(head + "".join(rules), Settings(database_url=""))


def row(rule: str, role: str = "customer", channel: str = "sms", **fields: Any) -> Row:
    """A notification that was sent at noon."""
    usual = {"template": rule, "status": "delivered", "reason": "", "due_at": NOON}
    return Row(rule, role, channel, **{**usual, "is_fallback": False, **fields})


def past(
    name: str = SHIPPED, *rows: Row, after: timedelta = timedelta(), **fields: Any
) -> PastEvent:
    """An event of order o-1 or of its registration r-1, with the facts that it usually has."""
    of_order = name.startswith("order")
    person = "customer" if of_order else "patient"
    kind, id_ = ("order", "o-1") if of_order else ("registration", "r-1")
    facts = Facts(**{kind: resource({"id": id_}, kind), person: resource(PERSON, person)})
    at = NOON + after
    data = {"order_id": id_} if of_order else {"testregistration_id": id_}
    usual = {"id": f"evt-{name}-{at:%d%H%M}", "name": name, "data": data, "subject": id_}
    usual |= {"round": 0, "received_at": at, "processed_at": at, "facts": facts, "rows": rows}
    usual["is_blanked"] = "facts" in fields
    usual |= fields
    return PastEvent(step=Step(name, usual["round"], usual["received_at"]), **usual)


def history(*events: PastEvent) -> History:
    """Order o-1 of one registration, r-1, whose retest r-2 was shipped as order o-2."""
    first, again = Registration("r-1", "r-1", 0, "o-1"), Registration("r-2", "r-1", 1, "o-2")
    return History(events, (first, again))


def compared(
    edited: Config, current: Config, *kit: PastEvent | History, since: datetime = NOON - HOUR
) -> list[Line]:
    """The differences over one kit's past."""
    made = WhatIf(edited, current, since)
    (past,) = kit if isinstance(kit[0], History) else (history(*kit),)
    made.take(past)
    return made.found.lines


def told(lines: list[Line]) -> list[tuple[str, str, str]]:
    """Each difference as (what, rule, channel)."""
    return [(line.what, line.rule, line.channel) for line in lines]


def test_the_same_config_makes_no_difference() -> None:
    """What was sent and would be again is counted, and is no difference."""
    made = WhatIf(config(KIT, RESULT), config(KIT), NOON - HOUR)
    made.take(history(past(SHIPPED, row("kit"))))
    assert made.found.lines == []
    assert (made.found.counts["kit"][WOULD], made.found.counts["kit"][SENT]) == (1, 1)


@pytest.mark.parametrize(
    ("edit", "what", "why"),
    [
        ('channels = ["sms", "email"]', "added", "The rule does not use email."),
        ('channels = ["email"]', "dropped", "The rule does not use sms."),
        ('channels = ["sms"]\nenabled = false', "dropped", "The rule is switched off"),
        ('channels = ["sms"]\nwhen = "order.carrier"', "dropped", "Its condition is not met"),
        ('channels = ["sms"]\nafter = "2d"', "changed", "due 03 Jun 2026 12:00 instead of 01 Jun"),
    ],
)
def test_an_edit_is_told_with_its_reason(edit: str, what: str, why: str) -> None:
    """Each difference says what it is and why, in a sentence of the rules' own."""
    edited = config(KIT.replace('channels = ["sms"]', edit))
    lines = compared(edited, config(KIT), past(SHIPPED, row("kit")))
    assert what in {line.what for line in lines}
    assert any(why in line.why for line in lines if line.what == what)


NEVER = """
[never.slow-post]
rule = "kit"
when = "order.carrier == 'snail'"
because = "It is not news."
"""


@pytest.mark.parametrize("is_new", [True, False])
def test_a_guard_rail_says_what_it_would_have_stopped(is_new: bool) -> None:
    """[never.…] is asked in every comparison, of rules that are not edited too: by its facts, what
    it would have stopped is dropped by a new one, and counted in any case.
    """
    shipped = resource({"id": "o-1", "carrier": "snail"}, "order")
    facts = Facts(order=shipped, customer=resource(PERSON, "customer"))
    edited, current = config(KIT, RESULT, NEVER), config(KIT, *([] if is_new else [NEVER]))
    made = WhatIf(edited, current, NOON - HOUR)
    sent = [row("kit")] if is_new else []
    made.take(history(past(SHIPPED, *sent, facts=facts, is_blanked=False)))
    assert [*forbidden(made)] == [("slow-post", 1)]
    why = "[never.slow-post] forbids it: It is not news."
    expected = [("dropped", why)] if is_new else []
    assert [(line.what, line.why) for line in made.found.lines] == expected


@pytest.mark.parametrize(
    ("edit", "costs", "told"),
    [
        ('channels = ["sms"]', "", "It costs as much as before."),
        (
            'channels = ["sms", "email"]',
            "",
            "In a month, 60 more emails. Write their prices into [costs] to see what that costs.",
        ),
        (
            'channels = ["sms", "email"]',
            "[costs]\nemail = 0.5",
            "In a month, 60 more emails: some £30.00 more.",
        ),
        (
            'channels = ["email"]',
            '[costs]\nsms = 0.04\nemail = 0.01\ncurrency = "euros"',
            "In a month, 60 more emails and 120 fewer segments of texts: some 4.20 euros less.",
        ),
    ],
)
def test_an_edit_is_told_with_its_price(
    edit: str, costs: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what was sent in the time that it is compared with, as if that were a month."""
    monkeypatch.setattr(sms_segments, "size", lambda _: sms_segments.Size("", 0, 2, 0))
    monkeypatch.setattr(check, "example", lambda *_: Message("sms", "", "Two segments"))
    edited = config(KIT.replace('channels = ["sms"]', edit), costs)
    made = WhatIf(edited, config(KIT), NOON - 5 * DAY)
    for number in range(10):
        made.take(history(past(SHIPPED, row("kit"), id=f"evt-{number}")))
    assert of_edit(made, NOON) == told


def test_another_template_is_a_change() -> None:
    """The same message in other words is changed, not dropped and added."""
    edited = config(KIT.replace('"kit"\n', '"other"\n'))
    (line,) = compared(edited, config(KIT), past(SHIPPED, row("kit")))
    assert (line.what, line.why) == ("changed", "template other instead of kit.")


def test_a_staff_group_with_another_address_is_a_change() -> None:
    """Of a group each address is a message; how many there are is told."""
    desk = KIT.replace('"customer"', '"desk"').replace('"sms"', '"email"')
    more = HEAD.replace('"b@', '"c@example.org", "b@')
    rows = (row("kit", "desk", "email"), row("kit", "desk", "email"))
    (line,) = compared(config(desk, head=more), config(desk), past(SHIPPED, *rows))
    assert (line.what, line.messages) == ("changed", 3)
    assert line.why == "3 addresses instead of 2."


def test_a_later_event_cancels_what_would_have_waited() -> None:
    """A reminder is added where nothing came in time, and not where its `unless` did."""
    came = past(RECEIVED, after=DAY)
    lines = compared(config(KIT, REMINDER), config(KIT), past(DELIVERED), came)
    assert lines == []
    came_late = past(RECEIVED, after=11 * DAY)
    lines = compared(config(KIT, REMINDER), config(KIT), past(DELIVERED), came_late)
    assert told(lines) == [("added", "reminder", "sms")]
    assert "There is no such rule." in lines[0].why


def test_what_came_before_since_is_known_and_not_compared() -> None:
    """Steps and messages from before it count as they were: who was told is not told again."""
    before = past(SHIPPED, row("kit"), after=-2 * DAY)
    again = past(SHIPPED)
    assert compared(config(KIT), config(RESULT), before, again) == []
    renamed_rule = KIT.replace("rules.kit", "rules.parcel")
    lines = compared(config(renamed_rule), config(KIT), before, again)
    assert told(lines) == [("added", "parcel", "sms")]
    late = past(SHIPPED)
    further = past(DELIVERED, after=-2 * DAY)
    assert compared(config(KIT), config(RESULT), further, late) == []


def test_a_retest_has_a_round_of_its_own() -> None:
    """Results of the retest are told though those of the first round were."""
    first = past(RESULTS, row("results", "patient"))
    ids = {"testregistration_id": "r-1", "retest_testregistration_id": "r-2"}
    retest = past(RETEST, after=DAY, round=1, data=ids)
    second = past(RESULTS, after=2 * DAY, round=1)
    edited = config(RESULT, RESULT.replace("rules.results", "rules.more"))
    lines = compared(edited, config(RESULT), first, retest, second)
    assert [(line.what, line.rule, line.round) for line in lines] == [
        ("added", "more", 0),
        ("added", "more", 1),
    ]


def test_siblings_of_an_order_do_not_concern_each_other() -> None:
    """One registration's results make neither the other's registration old nor the order's own
    step: that has been overtaken once the results of each have come.
    """
    two = tuple(Registration(id_, id_, 0, "o-1") for id_ in ("r-1", "r-3"))
    rule = RESULT.replace(RESULTS, COMPLETE)
    other = past(RESULTS, after=-DAY / 2, subject="r-3")
    since = NOON - DAY
    lines = compared(config(rule), config(KIT), History((other, past(COMPLETE)), two), since=since)
    assert told(lines) == [("added", "results", "sms")]
    lines = compared(config(KIT), config(RESULT), History((other, past()), two), since=since)
    assert told(lines) == [("added", "kit", "sms")]
    both = (other, past(RESULTS, after=-DAY / 3), past())
    assert compared(config(KIT), config(RESULT), History(both, two), since=since) == []


def test_a_retest_that_is_shipped_as_an_order_of_its_own_is_on_its_way() -> None:
    """The step of the retest's order counts for the kit in its round, as it does at work: who has
    the new kit would not have been asked for it.
    """
    asks = RESULT.replace(RESULTS, RETEST) + 'after = "2d"\n'
    ids = {"testregistration_id": "r-1", "retest_testregistration_id": "r-2"}
    retest = past(RETEST, round=1, data=ids)
    lines = compared(config(asks), config(KIT), retest)
    assert told(lines) == [("added", "results", "sms")]
    shipped = past(SHIPPED, after=DAY, subject="o-2")
    assert compared(config(asks), config(RESULT), retest, shipped) == []


def test_what_the_ledger_does_not_know_cannot_be_told() -> None:
    """A fact that the rules of then did not ask for is neither dropped nor added; a rule that would
    say no in any case is not in doubt.
    """
    to_customer = RESULT.replace('"patient"', '"customer"')
    event = past(RESULTS, row("results", "patient"))
    (line,) = compared(config(to_customer), config(RESULT), event)
    assert (line.what, line.why) == (
        "cannot-be-told",
        "The ledger does not know the customer of this event.",
    )
    when = RESULT + "when = \"order.carrier == 'x'\"\n"
    assert told(compared(config(when), config(RESULT), event)) == [
        ("cannot-be-told", "results", "")
    ]
    off = to_customer + "enabled = false\n"
    assert told(compared(config(off), config(RESULT), event)) == [("dropped", "results", "sms")]


def test_blanked_events_cannot_be_told() -> None:
    """What retention has blanked is told apart; a rule that is gone would not have sent it."""
    event = past(RESULTS, row("results", "patient"), facts=None, data={})
    (line,) = compared(config(RESULT + LATE), config(RESULT), event)
    assert (line.what, "retention" in line.why) == ("cannot-be-told", True)
    assert told(compared(config(KIT), config(RESULT), event)) == [("dropped", "results", "sms")]


def test_what_differs_without_the_edit_is_no_ones_fault() -> None:
    """An opt-out of then is not added by an edit of something else; a fallback after a failure
    stays, unless the edit takes the rule's fallback away. A rule that was not edited is left out.
    """
    with_fallback = KIT + 'fallback = ["email"]\n'
    gone = row("kit", status="cancelled", reason="The person has opted out of texts.")
    event = past(SHIPPED, gone, row("kit", channel="email", is_fallback=True))
    (line,) = compared(config(with_fallback + LATE), config(with_fallback), event)
    assert (line.what, line.channel) == ("either-way", "sms")
    assert "opted out" in line.why
    assert compared(config(with_fallback, RESULT), config(with_fallback), event) == []
    lines = compared(config(KIT), config(with_fallback), event)
    assert set(told(lines)) == {("either-way", "kit", "sms"), ("dropped", "kit", "email")}


def test_a_file_that_is_in_use_already_is_compared_with_what_was_sent() -> None:
    """Where config.toml itself was edited, nothing is laid on it but the past."""
    edited = config(RESULT, KIT.replace('["sms"]', '["email"]'))
    lines = compared(edited, edited, past(SHIPPED, row("kit")))
    assert told(lines) == [("dropped", "kit", "sms"), ("added", "kit", "email")]


def test_a_message_that_waits_says_so_when_it_is_dropped() -> None:
    """It has not gone out yet, and will not."""
    waiting = row("kit", status="scheduled")
    (line,) = compared(config(RESULT), config(KIT), past(SHIPPED, waiting))
    assert (
        line.why
        == "There is no such rule. It still waits: what becomes of it is decided when it is due."
    )


def test_a_renamed_rule_is_noticed() -> None:
    """A new rule and one that is gone about the same event may be one rule under two names."""
    edited = config(RESULT, KIT.replace("rules.kit", "rules.parcel"))
    assert list(renamed(edited, config(KIT))) == [("parcel", "kit")]
    assert list(renamed(config(RESULT, KIT), config(KIT))) == []


def test_what_a_digest_tells_is_counted_and_not_the_digest() -> None:
    """A digest's items are the messages, each to one address: the digest itself is not one more."""
    desk = KIT.replace("customer", "desk").replace('["sms"]', '["email"]')
    digest = config(desk + 'digest = "daily 08:00"\n')
    kit = past(SHIPPED, *(row("kit", "desk", "email") for _ in range(2)))
    made = WhatIf(digest, config(desk), NOON - HOUR)
    made.take(history(kit))
    assert (made.found.counts["kit"][WOULD], made.found.counts["kit"][SENT]) == (2, 2)
    assert told(made.found.lines) == [("changed", "kit", "email")]
