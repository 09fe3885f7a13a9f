"""Planted faults: each takes out one mend, as the code was before it, so that the machine finds it.

A fault that it does not find means that its world is too poor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from relay.channels import Channels
from relay.errors import LabError
from relay.jobs.compose import Composer, NotSent, cancelled_ending
from relay.jobs.rule_context import ContextBuilder
from relay.lab.client import LabClient
from relay.lab.events import EVENTS, REGISTRATION
from relay.lab.facts import resource
from relay.ledger import attempts, journeys, replay
from relay.ledger import events as ledger_events
from relay.ledger.schema import aliases, events, notifications, suppressions
from relay.ledger.worklist import releases
from relay.ledger.worklist.cases import close_settled
from relay.rules import planner
from relay.rules.model import Rule, Step
from relay.rules.staleness import Kits
from relay.rules.statuses import HELD
from tests.stateful import clinic
from tests.stateful.world import RESULTS, RETEST, SHIPPED

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """One mend taken out. `row` is the row of the issue that it is about."""

    row: str
    plant: Callable[[Patch], None]
    database: str = "sqlite"  # on which it is looked for
    name: str = ""  # its plant's, unless it has one of its own


def held_events_stay_held(patch: Patch) -> None:
    """A post that comes again does not take up an event that is held."""
    take_up = replay.retry_reposted

    def taken(connection: Any, event_id: str) -> bool:
        query = sa.select(events.c.status).where(events.c.id == event_id)
        is_held = connection.execute(query).scalar() == HELD
        return False if is_held else take_up(connection, event_id)

    patch.setattr(replay, "retry_reposted", taken)


def silent_rules_stay_silent(patch: Patch) -> None:
    """A rule whose `when` was false is not asked again when the lab posts again."""
    patch.setattr(replay, "is_silent", lambda _decisions: False)


def who_was_not_reached_is_not_tried(patch: Patch) -> None:
    """A corrected number is not tried when the lab posts again."""
    patch.setattr(replay, "reached_nobody", lambda *_: False)


def stopped_messages_come_back(patch: Patch) -> None:
    """`Do not send` cancels, and says of nobody that it was decided."""
    stop = releases.stop

    def stopped(connection: Any, *about: Any) -> bool:
        done = stop(connection, *about)
        connection.execute(notifications.update().values(stopped_by=None))
        return done

    patch.setattr(releases, "stop", stopped)


def identities_stay(patch: Patch) -> None:
    """What was told of a retest is not the original's when their link is learned."""
    patch.setattr(journeys, "move_identity", lambda *_: None)


def one_kit_speaks_for_its_order(patch: Patch) -> None:
    """A step of an order has come when it has come for any of its kits."""

    def steps(self: Kits, order: str) -> Iterator[Step]:
        for event in self._order_events[order]:
            yield Step(event.name, 0, event.received_at)
        for kit in self._of_order[order]:
            for event in self._kit_events[kit.original]:
                yield Step(event.name, 0, event.received_at)

    patch.setattr(Kits, "_of_an_order", steps)


def a_retests_order_is_nobodys(patch: Patch) -> None:
    """A retest that is shipped as an order of its own is no kit like any other."""

    def steps(self: Kits, original: str) -> Iterator[Step]:
        for event in self._kit_events[original]:
            yield Step(event.name, event.round, event.received_at)

    patch.setattr(Kits, "_of_a_kit", steps)


def a_new_kit_is_asked_for_though_it_is_there(patch: Patch) -> None:
    """The steps of a retest's own kit do not overtake the request for it."""
    why_stale = planner.why_stale

    def late(rule: Any, step: Step, known: Any, *when: Any) -> str:
        if step.name == RETEST:
            known = [other for other in known if other.name == RETEST]
        return why_stale(rule, step, known, *when)

    patch.setattr(planner, "why_stale", late)


def a_shared_name_leads_to_the_first(patch: Patch) -> None:
    """Whose order a kit belongs to is asked by the name that the event used."""

    def resolve(connection: Any, kind: str, name: str) -> str | None:
        query = sa.select(aliases.c.subject).where(
            aliases.c.resource == kind, aliases.c.alias == name
        )
        return connection.execute(query).scalar_one_or_none()  # type: ignore[no-any-return]

    patch.setattr(journeys, "resolve", resolve)
    with_order, order_of = LabClient._with_order, ContextBuilder._order_of

    def ordered(self: Any, registration: Any, used: str, wanted: Any, by: Any) -> Any:
        return with_order(self, registration, used, wanted, by and (lambda _id: by(used)))

    def by_name(self: ContextBuilder, name: str) -> str | None:
        with self._db.read() as connection:
            subject = resolve(connection, REGISTRATION, name) or name
        return order_of(self, subject)

    patch.setattr(LabClient, "_with_order", ordered)
    patch.setattr(ContextBuilder, "_order_of", by_name)


def any_record_is_believed(patch: Patch) -> None:
    """An answer is believed though it names something else than was asked for."""

    def get(self: LabClient, kind: str, id_: object) -> dict[str, Any]:
        path = {"registration": "test_registration"}.get(kind, kind)
        found = resource(self._json(f"/api/{path}/{id_}"), kind)
        if found is None:
            raise LabError("The lab's answer was not what its documentation says.")
        return found

    patch.setattr(LabClient, "_get", get)


def a_hint_is_believed(event: str) -> Callable[[Patch], None]:
    """What the API says of an event is not asked."""

    def plant(patch: Patch) -> None:
        patch.setitem(EVENTS, event, replace(EVENTS[event], contradiction=None))

    return plant


def unreadable_results_are_results(patch: Patch) -> None:
    """Results that answer 200 are there, whatever the body."""

    def results(self: LabClient, id_: str) -> int:
        self._ask(f"/api/test_registration/{id_}/lab_results/")
        return 1

    patch.setattr(LabClient, "_results", results)


def every_status_is_ready(patch: Patch) -> None:
    """The shipped rule for results takes any registration that is not cancelled."""
    more = "when = \"registration.status != 'cancelled'\""
    patch.setitem(clinic.RULES, "results", replace(clinic.RULES["results"], more=more))


def a_rule_that_is_gone_cancels(patch: Patch) -> None:
    """A message whose rule is renamed, or writes to somebody else, ends without a word."""
    rule_of = Composer._rule

    def rule(self: Composer, claim: Any) -> Rule:
        try:
            return rule_of(self, claim)
        except NotSent as error:
            raise NotSent(cancelled_ending(error.ending.reason)) from error

    patch.setattr(Composer, "_rule", rule)


def old_words_are_sent(patch: Patch) -> None:
    """A message that waits keeps the template that its rule had."""
    rule_of = Composer._rule
    patch.setattr(
        Composer,
        "_rule",
        lambda self, claim: replace(rule_of(self, claim), template=claim.template),
    )


def an_order_is_not_waited_for(patch: Patch) -> None:
    """A message to a customer whose order is not known yet ends at once."""
    patch.setattr(planner, "ORDER_SECONDS", 0.0)


def a_corrected_fallback_is_none(patch: Patch) -> None:
    """A fallback whose address is corrected counts as the rule's own way."""
    still_true = Composer._require_still_true
    patch.setattr(
        Composer,
        "_require_still_true",
        lambda self, claim, *rest: still_true(self, replace(claim, is_fallback=False), *rest),
    )


def without_an_account_it_counts_as_sent(patch: Patch) -> None:
    """In live delivery without an account messages are kept here, and count as sent."""
    patch.setattr(Channels, "lacks_account", lambda *_: False)


def long_names_are_kept(patch: Patch) -> None:
    """A reference of any length is written to the ledger."""
    patch.setattr(journeys, "fitting", lambda name: str(name or ""))


def every_way_tells(patch: Patch) -> None:
    """A fallback, or a way that an edit has put in another's place, tells the same again."""
    patch.setattr(
        planner,
        "earlier_channel",
        lambda _rule, notice, ways: notice.channel if notice.channel in ways else "",
    )


def held_again_is_as_fresh_as_processed(patch: Patch) -> None:
    """An event that is held says that its facts are of this moment."""
    hold = ledger_events.hold

    def held(connection: Any, event_id: str, *about: Any) -> None:
        hold(connection, event_id, *about)
        connection.execute(
            events.update().where(events.c.id == event_id).values(processed_at=events.c.tried_at)
        )

    patch.setattr(ledger_events, "hold", held)


def a_cancelled_tests_retest_is_believed(patch: Patch) -> None:
    """Of a cancelled registration the API is asked nothing more."""
    require = LabClient._require

    def required(self: LabClient, kind: Any, data: Any, facts: Any, results: int) -> None:
        if (facts.registration or {}).get("status") != "cancelled":
            require(self, kind, data, facts, results)

    patch.setattr(LabClient, "_require", required)


def a_stop_counts_until_the_claim(patch: Patch) -> None:
    """Whoever says STOP after a message was claimed gets it all the same."""
    begin = attempts.begin

    def began(db: Any, claim: Any, *given: Any) -> bool:
        with db.write() as connection:
            rows = connection.execute(suppressions.delete().returning(suppressions)).mappings()
            lifted = [dict(row) for row in rows]
        done = begin(db, claim, *given)
        if lifted:
            with db.write() as connection:
                connection.execute(suppressions.insert(), lifted)
        return done

    patch.setattr(attempts, "begin", began)


def a_minutes_wait_is_no_wait(patch: Patch) -> None:
    """A message that has waited asks what has come only once its facts are old."""
    patch.setattr("relay.jobs.compose.is_news", lambda *_: True)


def a_plan_closes_the_case(patch: Patch) -> None:
    """A message that is planned again to where it failed for good counts as on its way."""

    def close(connection: Any, owed: str) -> None:
        close_settled(connection, "unreached", owed, "A message is on its way after all.")

    patch.setattr(ledger_events, "close_reached", close)


def a_report_that_is_amended_leaves_no_trace(patch: Patch) -> None:
    """A webhook that comes again, as of an amended report, is counted nowhere."""
    take_up = replay.retry_reposted

    def taken(connection: Any, event_id: str) -> bool:
        mine = events.update().where(events.c.id == event_id)
        connection.execute(mine.values(duplicates=0))
        return take_up(connection, event_id)

    patch.setattr(replay, "retry_reposted", taken)


FAULTS: Mapping[str, Fault] = {
    fault.name or fault.plant.__name__: fault
    for fault in (
        Fault("1", held_events_stay_held),
        Fault("1", silent_rules_stay_silent),
        Fault("1", who_was_not_reached_is_not_tried),
        Fault("2", stopped_messages_come_back),
        Fault("3", identities_stay),
        Fault("4", one_kit_speaks_for_its_order),
        Fault("5", a_retests_order_is_nobodys),
        Fault("5", a_new_kit_is_asked_for_though_it_is_there),
        Fault("6", a_shared_name_leads_to_the_first),
        Fault("7", any_record_is_believed),
        Fault("8", a_hint_is_believed(SHIPPED), name="shipping_is_believed"),
        Fault("8", a_hint_is_believed(RETEST), name="a_retest_is_believed"),
        Fault("8", a_hint_is_believed(RESULTS), name="results_are_believed"),
        Fault("8", unreadable_results_are_results),
        Fault("9", every_status_is_ready),
        Fault("10", a_rule_that_is_gone_cancels),
        Fault("10", old_words_are_sent),
        Fault("15", an_order_is_not_waited_for),
        Fault("16", a_corrected_fallback_is_none),
        Fault("18", without_an_account_it_counts_as_sent),
        Fault("19", long_names_are_kept, "postgresql"),
        Fault("20", a_report_that_is_amended_leaves_no_trace),
        Fault("found here", every_way_tells),
        Fault("found here", held_again_is_as_fresh_as_processed),
        Fault("found here", a_cancelled_tests_retest_is_believed),
        Fault("found here", a_stop_counts_until_the_claim),
        Fault("found here", a_minutes_wait_is_no_wait),
        Fault("found here", a_plan_closes_the_case),
    )
}
