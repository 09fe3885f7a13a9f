"""rules.plan over facts, rules and histories of any kind."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from relay.calendar import Digest, Window
from relay.facts import Facts
from relay.notices import Told
from relay.rule_keys import Rule, Staff
from tests.test_rules import MAIL, MOBILE, NOON, RESULTS, facts, planned, rule

PHONES = st.sampled_from([MOBILE, "07700 900000", "020 7946 0018", "+1 202 555 0143", "x", None, 7])
MAILS = st.sampled_from([MAIL, "JANE@EXAMPLE.COM", "nobody", "a@b.c\r\nBcc: x@y.z", None, []])
STATUSES = st.sampled_from(["success", "cancelled", "fail", None])
CHANNELS = st.permutations(["sms", "email"]).flatmap(
    lambda order: st.integers(1, 2).map(lambda used: (tuple(order[:used]), tuple(order[used:])))
)
NAMES = ["a", "b", "c"]
DAILY = Digest.parse("daily 08:00")
ROLES = st.sampled_from(["patient", "customer", "desk"])


@st.composite
def rules_of_any_kind(draw: st.DrawFn) -> list[Rule]:
    """Up to three rules with names of their own, as config.toml may hold."""
    made = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        channels, rest = draw(CHANNELS)
        to = draw(ROLES)
        digest = draw(st.sampled_from([None, DAILY])) if to == "desk" else None
        made.append(
            rule(
                name,
                event=draw(st.sampled_from([RESULTS, RESULTS, "order.shipped"])),
                to=to,
                digest=digest,
                channels=channels,
                fallback=() if digest else draw(st.sampled_from([(), rest])),
                enabled=draw(st.booleans() | st.just(True)),
                when=draw(st.sampled_from([None, "registration.status", "registration.id < 1"])),
            )
        )
    return made


HISTORIES = st.frozensets(
    st.tuples(st.sampled_from(NAMES), ROLES, st.sampled_from(["sms", "email"]))
)
STAFFS = st.builds(
    Staff,
    email=st.lists(st.sampled_from(["a@example.org", "a@EXAMPLE.org", "b@example.org"])).map(tuple),
    sms=st.lists(st.sampled_from(["07700900100", "+447700900100", "0800 123 4567"])).map(tuple),
)


@given(
    rules=rules_of_any_kind(),
    of=st.builds(facts, PHONES, MAILS, STATUSES),
    told=HISTORIES,
    staff=STAFFS,
    hours=st.integers(0, 24),
)
def test_plan_keeps_its_promises_whatever_it_is_given(
    rules: list[Rule], of: Facts, told: Told, staff: Staff, hours: int
) -> None:
    """One notice an identity; a reason for each that does not wait; nobody told twice, or of a
    cancelled test; and the same again for the same facts.
    """
    now = NOON + timedelta(hours=hours)
    how = {
        "of": of,
        "told": told,
        "now": now,
        "staff": staff,
        "window": Window.parse("08:00-20:00"),
    }
    found = planned(*rules, **how)
    assert found == planned(*rules, **how)
    assert max(Counter(notice.identity for notice in found.notices).values(), default=1) == 1
    for notice in found.notices:
        waits = notice.status in ("created", "scheduled")
        assert waits is not bool(notice.reason)
        assert notice.address or not waits
        assert notice.due_at >= now
        if notice.role in ("patient", "customer"):
            assert (notice.rule, notice.role, notice.channel) not in told
        if notice.digest and not notice.is_digest:
            told_in = [one for one in found.notices if one.identity == notice.digest]
            assert [(one.address, one.due_at) for one in told_in] == [
                (notice.address, notice.due_at)
            ]
    assert all(decision.reason for decision in found.decisions)
    if (of.registration or {})["status"] == "cancelled":
        assert found.notices == ()
    spoken = {notice.rule for notice in found.notices} | {d.rule for d in found.decisions}
    due = {
        r.name
        for r in rules
        if r.event == RESULTS and (r.to != "desk" or (staff.email and staff.sms))
    }
    assert due <= spoken
