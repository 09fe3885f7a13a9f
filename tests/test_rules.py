"""Who is told what: rules.plan with plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.config.loader import load
from relay.config.settings import Settings
from relay.lab import samples
from relay.lab.facts import Facts, record, resource
from relay.rules.expressions import Condition, RuleContext, names
from relay.rules.model import AlreadyNotified, Never, Plan, Policy, Rule, Staff, Step, Waiting
from relay.rules.planner import in_digest, last_objection, plan
from relay.rules.schedule import ALWAYS, Digest, Window
from relay.rules.statuses import WAITS_FOR_LAB, WAITS_FOR_ORDER

LONDON = ZoneInfo("Europe/London")
NOON = datetime(2026, 6, 1, 11, 0, tzinfo=UTC)
NIGHT = datetime(2026, 6, 1, 22, 0, tzinfo=UTC)  # 23:00 in London
RESULTS, RETEST = "lab_results.complete", "test_registration.retest"
WINDOW = Window.parse("08:00-20:00")
DESK = Staff({"email": ("a@example.org", "b@example.org"), "sms": ("+447700900100",)})
MOBILE, MAIL = "+447700900000", "jane@example.com"


def facts(phone: Any = MOBILE, email: Any = MAIL, status: Any = "success") -> Facts:
    """A registration and its patient."""
    return Facts(
        registration=resource({"id": "r1", "status": status}, "registration"),
        patient=resource({"phone_number": phone, "email": email}, "patient"),
    )


def context(of: Facts, event: str = RESULTS, **kwargs: Any) -> RuleContext:
    """An event about registration r1."""
    clinic = record("clinic", {"timezone": LONDON})
    seen = names(event, samples.webhook(event)["data"], NOON, of, clinic)
    step = Step(event, kwargs.get("round", 0), NOON)
    return RuleContext(step, kwargs.get("subject", "r1"), of, seen, kwargs.get("known", ()))


def rule(name: str = "results", **kwargs: Any) -> Rule:
    """A rule that texts the patient about results."""
    if when := kwargs.pop("when", None):
        kwargs["when"] = Condition(when, kwargs.get("event", RESULTS))
    defaults = {"event": RESULTS, "to": "patient", "channels": ("sms",), "template": "results"}
    return Rule(name=name, **{**defaults, **kwargs})


def planned(
    *rules: Rule,
    of: Facts | None = None,
    told: AlreadyNotified = frozenset(),
    now: datetime = NOON,
    window: Window = ALWAYS,
    staff: Staff = DESK,
) -> Plan:
    """What these rules make of an event about results."""
    policy = Policy(LONDON, window, {"desk": staff})
    return plan(context(of or facts()), rules, policy, told, now)


def outcome(found: Plan) -> list[tuple[str, str, str]]:
    """Each notice as (channel, address, status)."""
    return [(notice.channel, notice.address, notice.status) for notice in found.notices]


def test_each_channel_gets_a_notice() -> None:
    """A rule uses each of its channels, and a notice that waits to be sent has no reason."""
    found = planned(rule(channels=("sms", "email")))
    assert outcome(found) == [("sms", MOBILE, "created"), ("email", MAIL, "created")]
    assert {notice.reason for notice in found.notices} == {""}
    assert found.decisions == ()


def test_a_rule_for_another_event_says_nothing() -> None:
    """A rule is about its own event only."""
    assert planned(rule(event="order.shipped")) == Plan()


@pytest.mark.parametrize(
    ("changes", "of", "reason"),
    [
        ({"enabled": False}, facts(), "The rule is switched off (enabled = false)."),
        ({}, facts(status="cancelled"), "The test was cancelled."),
        (
            {"when": "registration.status == 'fail'"},
            facts(),
            "Its condition is not met: registration.status == 'fail'.",
        ),
    ],
)
@pytest.mark.parametrize("to", ["patient", "desk"])
def test_a_rule_that_does_not_apply_says_why(
    changes: dict[str, Any], of: Facts, reason: str, to: str
) -> None:
    """A rule that tells nobody leaves a decision with its reason, for staff as for patients."""
    found = planned(rule(to=to, **changes), of=of)
    assert found.notices == ()
    assert [(d.rule, d.reason) for d in found.decisions] == [("results", reason)]


@pytest.mark.parametrize("to", ["patient", "desk"])
def test_what_is_not_about_results_goes_by_its_own_condition(to: str) -> None:
    """A cancelled test keeps results back, and nothing else: a rule may be about just that."""
    name = "test_registration.complete"
    made = plan(
        context(facts(status="cancelled"), name),
        [rule(event=name, to=to, when="registration.status == 'cancelled'")],
        Policy(LONDON, ALWAYS, {"desk": Staff({"sms": (MOBILE,)})}),
        frozenset(),
        NOON,
    )
    assert outcome(made) == [("sms", MOBILE, "created")]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("success", ["results-ready"]),
        ("closed", ["results-ready"]),
        (None, ["results-ready"]),
        ("fail", ["desk-results"]),
        ("processing_error", ["desk-results"]),
        ("partial_result", ["desk-results"]),
        ("cancelled", []),
    ],
)
def test_the_shipped_rules_know_what_the_labs_statuses_mean(
    status: str | None, told: list[str]
) -> None:
    """The patient hears of results that can be read; staff of those that went wrong or are partial;
    nobody of a cancelled test's."""
    policy = Policy(LONDON, ALWAYS, {"lab-desk": Staff({"email": (MAIL,)})})
    shipped = load(Settings()).rules
    made = plan(context(facts(status=status)), shipped, policy, frozenset(), NOON)
    assert list(dict.fromkeys(notice.rule for notice in made.notices)) == told


@pytest.mark.parametrize(
    "when", ["registration.status == 'success'", "recipient.role == 'patient'", "event.name"]
)
def test_a_condition_that_holds_lets_the_rule_apply(when: str) -> None:
    """A condition sees the facts, the event and the recipient."""
    assert outcome(planned(rule(when=when))) == [("sms", MOBILE, "created")]


def test_a_condition_that_breaks_is_our_fault() -> None:
    """A condition that cannot be decided ends as technical-failure, and the other rules go on."""
    found = planned(rule("broken", when="registration.trf_code < 3"), rule("good"))
    broken, good = found.notices
    assert broken.status == "technical-failure"
    assert broken.reason == "Relay could not work out `when`: registration.trf_code < 3."
    assert (good.rule, good.status, good.reason) == ("good", "created", "")


def test_what_is_broken_waits_for_nobody() -> None:
    """A condition that cannot be decided ends the message, also while its customer is unknown."""
    (broken,) = planned(rule(to="customer", when="registration.trf_code < 3")).notices
    assert (broken.status, broken.waits_for) == ("technical-failure", None)


@pytest.mark.parametrize(
    ("phone", "email", "expected"),
    [
        (MOBILE, MAIL, [("sms", MOBILE, "created")]),
        (None, MAIL, [("sms", "", "validation-failed"), ("email", MAIL, "created")]),
        ("020 7946 0018", MAIL, [("sms", "", "validation-failed"), ("email", MAIL, "created")]),
        (None, "nobody", [("sms", "", "validation-failed"), ("email", "", "validation-failed")]),
    ],
)
def test_fallback_is_used_only_when_no_channel_reaches_the_person(
    phone: Any, email: str, expected: list[tuple[str, str, str]]
) -> None:
    """Fallback comes when no channel above has an address, and each failure has its reason."""
    found = planned(rule(fallback=("email",)), of=facts(phone, email))
    assert outcome(found) == expected
    assert [notice.is_fallback for notice in found.notices] == [False, True][: len(expected)]
    assert all(n.reason for n in found.notices if n.status == "validation-failed")


def test_one_channel_that_reaches_is_enough() -> None:
    """With two channels, one address is enough to leave the fallback alone."""
    found = planned(rule(channels=("email",), fallback=("sms",)), of=facts(None, MAIL))
    assert outcome(found) == [("email", MAIL, "created")]
    found = planned(rule(channels=("sms", "email"), fallback=("sms",)), of=facts(None, MAIL))
    assert outcome(found) == [("sms", "", "validation-failed"), ("email", MAIL, "created")]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("patient", "Relay does not know yet who the patient of this kit is."),
        ("registration", "The lab has no phone number for this person."),
    ],
)
def test_a_person_of_whom_nothing_is_known_has_no_address(missing: str, reason: str) -> None:
    """Where the lab gave no record the notice fails with a reason, it does not vanish."""
    of = Facts(**{**vars(facts(None, None)), missing: None})
    found = planned(rule(), of=of)
    assert outcome(found) == [("sms", "", "validation-failed")]
    assert found.notices[0].reason == reason


def test_each_address_of_a_staff_group_is_a_notice_of_its_own() -> None:
    """Every address of a group is told, on each channel, and each notice has its own identity."""
    found = planned(rule(to="desk", channels=("email", "sms")))
    assert [notice.address for notice in found.notices] == [*DESK.on("email"), *DESK.on("sms")]
    assert {notice.role for notice in found.notices} == {"desk"}
    assert len({notice.identity for notice in found.notices}) == 3


def test_a_group_without_addresses_says_so() -> None:
    """A rule that writes to nobody leaves a decision: no rule goes without an answer."""
    found = planned(rule(to="desk", channels=("sms",)), staff=Staff())
    assert [(d.rule, d.reason) for d in found.decisions] == [
        ("results", '"desk" has no address on its channels.')
    ]


def test_an_address_that_a_group_names_twice_is_told_once() -> None:
    """The same address, however it is written, is one notice."""
    staff = Staff(
        {"email": ("a@example.org", "a@EXAMPLE.org"), "sms": ("07700900100", "+447700900100")}
    )
    found = planned(rule(to="desk", channels=("email", "sms")), staff=staff)
    assert [notice.address for notice in found.notices] == ["a@example.org", "+447700900100"]


def test_each_address_of_a_group_that_is_none_says_why() -> None:
    """Two mistakes in a group are two reasons; the same one twice is one."""
    staff = Staff({"sms": ("020 7946 0018", "nobody", "no one")})
    found = planned(rule(to="desk"), staff=staff)
    assert outcome(found) == [("sms", "", "validation-failed")] * 2
    assert len({notice.reason for notice in found.notices}) == 2


def test_who_was_told_is_not_told_again() -> None:
    """A person who was told by a channel about this kit is not told again by it, and it says so."""
    told = frozenset({("results", "patient", "sms"), ("other", "patient", "email")})
    found = planned(rule(channels=("sms", "email")), told=told)
    assert outcome(found) == [("email", MAIL, "created")]
    assert [(d.rule, d.reason) for d in found.decisions] == [
        ("results", "Already sent, or about to be, by sms.")
    ]


def test_a_fallback_or_a_channel_that_is_new_tells_nobody_again() -> None:
    """Who was told by whatever channel needs no fallback, nor what an edit has put in its place."""
    told = frozenset({("results", "patient", "sms")})
    said = [("results", "Already sent, or about to be, by sms.")]
    for moved in (rule(channels=("email",)), rule(channels=("email",), fallback=("sms",))):
        found = planned(moved, told=told)
        assert (found.notices, [(d.rule, d.reason) for d in found.decisions]) == ((), said)
    found = planned(rule(fallback=("email",)), of=facts(phone=None), told=told)
    assert (found.notices, [(d.rule, d.reason) for d in found.decisions]) == ((), said * 2)


def test_a_new_address_of_a_group_is_told_though_others_were() -> None:
    """For staff the address decides: who joins the group is told."""
    found = planned(
        rule(to="desk", channels=("email",)), told=frozenset({("results", "desk", "email")})
    )
    assert [notice.address for notice in found.notices] == list(DESK.on("email"))


@pytest.mark.parametrize(
    ("own", "now", "status", "due"),
    [
        (None, NOON, "created", NOON),
        (None, NIGHT, "scheduled", datetime(2026, 6, 2, 7, 0, tzinfo=UTC)),
        (ALWAYS, NIGHT, "created", NIGHT),
        (Window.parse("06:00-07:00"), NOON, "scheduled", datetime(2026, 6, 2, 5, 0, tzinfo=UTC)),
    ],
)
def test_a_notice_waits_for_its_window(
    own: Window | None, now: datetime, status: str, due: datetime
) -> None:
    """A message outside the window waits for it; a rule's own window comes first."""
    window = Window.parse("08:00-20:00")
    (notice,) = planned(rule(send_window=own), now=now, window=window).notices
    assert (notice.status, notice.due_at) == (status, due)


@pytest.mark.parametrize(("own", "day"), [(None, 2), (Window.parse("Mon 01:00-23:30"), 8)])
def test_a_bank_holiday_is_for_every_window(own: Window | None, day: int) -> None:
    """On a bank holiday messages wait, by the clinic's window and by a rule's own."""
    window = Window.parse("01:00-23:30")
    policy = Policy(LONDON, window, {}, bank_holidays=frozenset({NOON.date()}))
    (notice,) = plan(context(facts()), [rule(send_window=own)], policy, frozenset(), NOON).notices
    assert (notice.status, notice.due_at) == ("scheduled", datetime(2026, 6, day, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"template": "other", "send_window": ALWAYS}, True),  # the words may change
        ({"name": "renamed"}, False),
        ({"to": "desk"}, False),
        ({"channels": ("email",)}, False),
    ],
)
def test_identity_is_rule_kit_round_role_channel_and_address(
    changes: dict[str, Any], same: bool
) -> None:
    """The same news to the same address is the same notice, whatever else of the rule changed."""
    first, second = planned(rule()).notices[0], planned(rule(**changes)).notices[0]
    assert (first.identity == second.identity) is same


@pytest.mark.parametrize("change", [{"subject": "r2"}, {"round": 1}])
def test_another_kit_or_round_is_another_notice(change: dict[str, Any]) -> None:
    """One phone may serve a family, and a retest is news again."""
    policy = Policy(LONDON, ALWAYS, {})
    first, second = (
        plan(context(facts(), **how), [rule()], policy, frozenset(), NOON).notices[0]
        for how in ({}, change)
    )
    assert first.identity != second.identity
    assert first.obligation != second.obligation


@pytest.mark.parametrize(
    ("every", "window", "now", "due"),
    [
        ("daily 07:00", None, NOON, "2026-06-02T06:00Z"),  # not in the clinic's window: by itself
        ("daily 07:00", "08:00-20:00", NOON, "2026-06-02T07:00Z"),
        ("every 2h", "08:00-20:00", NOON, "2026-06-01T13:00Z"),
        ("every 2h", "08:00-20:00", NIGHT, "2026-06-02T07:00Z"),
        ("every 2h", "08:00-20:00", NIGHT + timedelta(hours=7), "2026-06-02T07:00Z"),
    ],
)
def test_a_digest_goes_at_its_time_or_in_its_rules_own_window(
    every: str, window: str | None, now: datetime, due: str
) -> None:
    """Only the rule's own window moves a digest; all that its night gathers is one message."""
    own = Window.parse(window) if window else None
    gathered = rule(to="desk", channels=("email",), digest=Digest.parse(every), send_window=own)
    item, told, *_ = planned(gathered, now=now, window=Window.parse("08:00-20:00")).notices
    assert told.due_at == item.due_at == datetime.fromisoformat(due)
    assert (item.status, item.digest, told.status) == ("cancelled", told.identity, "scheduled")


def test_one_digest_a_rule_time_channel_and_address() -> None:
    """Each kit is an item of its own; what one rule has for one address at one time is together,
    retests too.
    """
    desk = rule(to="desk", channels=("email", "sms"), digest=Digest.parse("every 4h"))
    policy = Policy(LONDON, ALWAYS, {"desk": DESK})
    made = [
        notice
        for subject, round_ in (("r1", 0), ("r2", 1))
        for now in (NOON, NOON + timedelta(hours=4))
        for named in (desk, replace(desk, name="other"))
        for notice in plan(
            context(facts(), subject=subject, round=round_), [named], policy, frozenset(), now
        ).notices
    ]
    assert len({one.identity for one in made if one.is_digest}) == 2 * 2 * 3
    assert len({one.identity for one in made if not one.is_digest}) == 2 * 2 * 3


def test_a_digest_that_has_gone_takes_no_more() -> None:
    """An item goes into the first digest that still takes it, and says into which."""
    desk = rule(to="desk", channels=("sms",), digest=Digest.parse("every 4h"))
    policy = Policy(LONDON, ALWAYS, {"desk": DESK})
    closed: frozenset[str] = frozenset()
    for at in ("Mon 01 Jun, 16:00", "Mon 01 Jun, 20:00", "Tue 02 Jun, 00:00"):
        found = plan(context(facts()), [desk], policy, frozenset(), NOON, closed_digests=closed)
        item, told = found.notices
        assert item.reason == f"It is part of the digest of {at}."
        closed |= {told.identity}


def test_a_digest_waits_for_its_time_however_its_item_came() -> None:
    """An item that was due at once is in a digest that is not."""
    every = rule(to="desk", channels=("sms",))
    (item,) = planned(every).notices
    policy = Policy(LONDON, ALWAYS, {"desk": DESK})
    told, digest = in_digest(every, item, policy, frozenset())
    assert (item.status, told.status, digest.status) == ("created", "cancelled", "scheduled")


def test_a_condition_that_breaks_is_told_singly() -> None:
    """What cannot be decided is our fault, and a person hears of it now, not in a digest."""
    broken = rule(to="desk", digest=Digest.parse("every 4h"), when="registration.trf_code < 3")
    (notice,) = planned(broken).notices
    assert (notice.status, notice.digest) == ("technical-failure", None)


def test_family_is_what_a_rule_owes_one_role_whatever_the_channel() -> None:
    """A fallback belongs to the notice that it stands in for."""
    found = planned(rule(fallback=("email",)), of=facts(None, MAIL))
    assert len({notice.obligation for notice in found.notices}) == 1
    assert len({notice.identity for notice in found.notices}) == 2


def test_a_held_message_waits_for_staff_and_for_its_window() -> None:
    """`hold` counts from now, not from the event; what has no address is told at once."""
    kept = rule(hold=timedelta(hours=36), fallback=("email",))
    (notice,) = planned(kept, now=NOON + timedelta(days=2), window=WINDOW).notices
    assert (notice.status, notice.due_at) == ("scheduled", datetime(2026, 6, 5, 7, tzinfo=UTC))
    found = planned(kept, of=facts(phone="none"))
    assert outcome(found) == [("sms", "", "validation-failed"), ("email", MAIL, "scheduled")]


def test_what_a_person_has_stopped_is_planned_for_nobody_of_that_role() -> None:
    """A stop is of one rule and one role about a kit, and is the last word; others are told."""
    policy = Policy(LONDON, ALWAYS, {"desk": DESK})
    rules = [rule(), rule("other"), rule("desk", to="desk")]
    stopped = frozenset({("results", "patient"), ("desk", "patient"), ("other", "desk")})
    made = plan(context(facts()), rules, policy, frozenset(), NOON, stopped=stopped)
    assert [(one.rule, one.role) for one in made.notices] == [
        ("other", "patient"),
        ("desk", "desk"),
    ]
    (said,) = made.decisions
    assert (said.rule, said.is_final) == ("results", True)
    assert said.reason == "A person decided that this message is not to be sent."


@pytest.mark.parametrize(
    ("changes", "known", "told", "is_final"),
    [
        ({"enabled": False}, (), frozenset(), True),
        ({}, (Step(RETEST, 1, NOON + timedelta(seconds=1)),), frozenset(), True),
        ({}, (), frozenset({("results", "patient", "sms")}), True),
        ({"when": "registration.status == 'fail'"}, (), frozenset(), False),
        ({"to": "nobody"}, (), frozenset(), False),
    ],
)
def test_only_what_the_lab_cannot_change_is_final(
    changes: dict[str, Any], known: tuple[Step, ...], told: AlreadyNotified, is_final: bool
) -> None:
    """A rule that is off, old news and what was told stay so; a condition may come true, and a
    group may get an address.
    """
    policy = Policy(LONDON, ALWAYS, {"nobody": Staff()})
    made = plan(context(facts(), known=known), [rule(**changes)], policy, told, NOON)
    assert made.notices == ()
    assert [one.is_final for one in made.decisions] == [is_final]


def test_what_is_to_be_held_is_judged_by_when_it_would_go() -> None:
    """A message that goes at once is news though the next step is there; one that staff hold is
    not.
    """
    second = timedelta(seconds=1)
    of = context(facts(), "order.shipped", known=(Step("order.delivered", 0, NOON + second),))
    policy, shipped = Policy(LONDON, ALWAYS, {}), rule(event="order.shipped")
    assert outcome(plan(of, [shipped], policy, frozenset(), NOON + second)) != []
    held = replace(shipped, hold=timedelta(hours=1))
    made = plan(of, [held], policy, frozenset(), NOON + second)
    assert [one.reason for one in made.decisions] == [
        "The kit has moved on: order.delivered has come."
    ]


def test_a_broken_condition_is_held_for_nobody() -> None:
    """Staff hear of our fault now, not when the message would have been released."""
    held = rule(hold=timedelta(hours=36), when="registration.trf_code < 3")
    found = planned(held)
    (broken,) = found.notices
    assert (broken.status, broken.due_at) == ("technical-failure", NOON)
    assert found.cases == ()


def test_who_is_asked_to_release_it_reads_when_it_goes_otherwise() -> None:
    """One question a rule, whatever its channels, with the day and hour by the clinic's clock."""
    (case,) = planned(rule(hold=timedelta(hours=36), channels=("sms", "email"))).cases
    assert case.reason == (
        "It is for the patient. If nobody stops it, it goes out on Wednesday 03 June at 00:00."
    )


def test_an_address_that_is_none_is_in_no_digest() -> None:
    """What cannot be sent to a group says so by itself: no digest would ever carry it."""
    gathered = rule(to="desk", channels=("email",), digest=Digest.parse("every 4h"))
    found = planned(gathered, staff=Staff({"email": ("nobody",)}))
    assert outcome(found) == [("email", "", "validation-failed")]


@pytest.mark.parametrize(
    ("after", "waits_for"),
    [
        (timedelta(minutes=15), None),
        (timedelta(minutes=15, milliseconds=1), WAITS_FOR_LAB),
    ],
)
def test_the_lab_is_asked_again_of_what_goes_out_later(
    after: timedelta, waits_for: str | None
) -> None:
    """Facts of a quarter of an hour ago are good enough; older ones are fetched anew."""
    (notice,) = planned(rule(after=after)).notices
    assert (notice.status, notice.due_at) == ("scheduled", NOON + after)
    assert notice.waits_for == waits_for
    (other,) = planned(rule(after=after, fallback=("email",)), of=facts(None)).notices[1:]
    assert (other.is_fallback, other.waits_for) == (True, waits_for)
    (nobody,) = planned(rule(after=after), of=facts(None)).notices  # whose address is nobody's
    assert nobody.waits_for is None


@pytest.mark.parametrize(
    ("facts_at", "expected"),
    [
        (None, ("scheduled", WAITS_FOR_ORDER, NOON + timedelta(hours=1))),
        (NOON - timedelta(minutes=59), ("scheduled", WAITS_FOR_ORDER, NOON + timedelta(minutes=1))),
        (NOON - timedelta(hours=1), ("validation-failed", None, NOON)),
    ],
)
def test_who_ordered_a_kit_is_waited_for_an_hour(
    facts_at: datetime | None, expected: tuple[str, str | None, datetime]
) -> None:
    """A message to a customer who is not known waits for an hour since its facts were kept, and
    then has no address; one to a patient waits for nobody.
    """
    of, policy = replace(context(facts()), facts_at=facts_at), Policy(LONDON, ALWAYS, {})
    (notice,) = plan(of, [rule(to="customer")], policy, frozenset(), NOON).notices
    assert (notice.status, notice.waits_for, notice.due_at) == expected
    known = Facts(customer=resource({"email": "", "phone_number": ""}, "customer"))
    (nobody,) = plan(context(known), [rule(to="customer")], policy, frozenset(), NOON).notices
    assert (nobody.status, nobody.waits_for) == ("validation-failed", None)


def test_an_event_makes_what_waits_and_what_has_failed_old() -> None:
    """What it overtakes is cancelled with its reason, a failed message's case too; but whoever has
    not heard of results or of a retest has to, and a rule that is gone decides nothing.
    """
    rules = [rule("shipped", event="order.shipped"), rule(), rule("again", event=RETEST)]
    before = NOON - timedelta(hours=1)

    def waiting(id_: str, rule: str, event: str, **how: Any) -> Waiting:
        return Waiting(id_, rule, NOON, Step(event, 0, before), **how)

    found = plan(
        context(facts(), RETEST, round=1),
        rules,
        Policy(LONDON, ALWAYS, {}),
        frozenset(),
        NOON,
        [
            waiting("waits", "shipped", "order.shipped"),
            waiting("failed", "shipped", "order.shipped", has_failed=True),
            waiting("results", "results", RESULTS),
            waiting("failed results", "results", RESULTS, has_failed=True),
            waiting("failed retest", "again", RETEST, has_failed=True),
            waiting("gone", "gone", "order.shipped"),
            waiting("of another", "shipped", "order.shipped", known=(Step(RESULTS, 0, NOON),)),
        ],
    )
    retest = "A retest has begun since then."
    assert found.cancelled == {
        **dict.fromkeys(("waits", "failed", "results"), retest),
        "of another": f"The kit has moved on: {RESULTS} has come.",
    }


def test_the_last_look_before_a_message_goes_out() -> None:
    """It asks all that its rule asks, then whether a [never.…] forbids it, which sees the facts and
    the recipient too.
    """
    never = Never("patients", Condition("recipient.role == 'patient'", RESULTS), "they phone.")
    of, forbidden = context(facts()), rule(never=(never,))
    assert last_objection(forbidden, of, NOON) == "[never.patients] forbids it: they phone."
    assert last_objection(replace(forbidden, to="desk"), of, NOON) == ""
    off = replace(forbidden, enabled=False)
    assert last_objection(off, of, NOON) == "The rule is switched off (enabled = false)."
