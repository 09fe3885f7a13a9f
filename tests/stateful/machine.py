"""The stateful machine: the lab, the providers and people do anything at any moment."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.stateful.clinic import EDITS, NEW_NAME, RULES, Providers, Relay, Sent
from tests.stateful.oracle import Oracle, Post
from tests.stateful.world import (
    DELIVERED,
    LONG,
    NOT_READY,
    READY,
    RECEIVED,
    REGISTERED,
    RESULTS,
    RETEST,
    SHIPPED,
    Clock,
    Kit,
    Lab,
    Order,
    about,
)

PHONES = [f"+4477009000{number:02}" for number in range(1, 9)]
LANDLINE = "020 7946 0018"
SHARED = "family"
ANY = st.integers(0, 11)  # which of those there are
HONEST = st.sampled_from(["honest", "honest", "honest", "early", "silent"])
WAITS = st.sampled_from([2, 30, 62, 62, 125, 910, 910, 3700, 13 * 3600, 49 * 3600, 11 * 86400])
HOPS = (7, 20, 75, 910, 3700, 8 * 3600)  # on the way to a longer wait
STATUSES = ["success", "success", "partial_result", "fail", "processing_error", "cancelled"]
SHIPPING = {SHIPPED: ["shipped", "out_for_delivery", None, "on_a_drone"], DELIVERED: ["delivered"]}
DENIED = ["awaiting_shipping", "manifest_failed", "returned"]


class RelayMachine(RuleBasedStateMachine):
    """One lab and one clinic."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay
        clock = Clock()
        self.lab, self.providers = Lab(clock), Providers(clock)
        relay.begin(self.lab, self.providers)
        self.oracle = Oracle(relay, self.lab)
        self.providers.watch = self.oracle.hears
        self.tells = True  # whether providers tell in the end what became of their messages

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=2),
        shared=st.sampled_from([None, SHARED]),
        tracking=st.sampled_from(["RM1", "RM1", LONG]),
        is_patient=st.booleans(),
        tells=st.booleans() | st.just(True),
    )
    def orders_are_sold(
        self, sizes: list[int], shared: str | None, tracking: str, is_patient: bool, tells: bool
    ) -> None:
        """Each has a customer and one to three kits; two kits may have one foreign id."""
        self.tells = tells
        phones = iter(PHONES)
        for size in sizes:
            number = next(phones)
            customer = self.lab.person(number, f"{number[-2:]}@example.org")
            order = self.lab.order(customer, tracking)
            for place in range(size):
                patient = customer
                if place or not is_patient:
                    number = next(phones)
                    patient = self.lab.person(number, f"{number[-2:]}@example.org")
                self.lab.kit(patient, order, shared if place == size - 1 else None)

    # The lab

    @rule(which=ANY, event=st.sampled_from([SHIPPED, DELIVERED]), how=HONEST, at=ANY, works=ANY)
    def an_order_moves(self, which: int, event: str, how: str, at: int, works: int) -> None:
        """A step of an order; posted too early, or never, where the lab is not `honest`."""
        order = _pick(self.lab.orders, which)
        if how != "early":
            order.shipping.becomes(_pick(SHIPPING[event], at))
        if how != "silent":
            self.posted(event, {"order_id": order.id}, order, None, None)
        self.works(works)

    @rule(
        which=ANY,
        event=st.sampled_from([REGISTERED, RECEIVED, RESULTS, RESULTS]),
        status=st.sampled_from(STATUSES),
        how=HONEST,
        name=ANY,
        works=ANY,
    )
    def a_kit_moves(
        self, which: int, event: str, status: str, how: str, name: int, works: int
    ) -> None:
        """A step of a kit, under any of its names."""
        kit = _pick(self.lab.kits, which)
        if event == RESULTS and how != "early":
            kit.results.becomes(READY)
            kit.status.becomes(status)
        if how != "silent":
            called = _pick(kit.names, max(0, name - 6))
            self.posted(event, _data(event, called), None, kit, None)
        self.works(works)

    @precondition(lambda self: self.lab.is_shared(SHARED))
    @rule(event=st.sampled_from([REGISTERED, RECEIVED]), works=ANY)
    def a_shared_name_is_posted(self, event: str, works: int) -> None:
        """A step of a kit, under the name that another's has too."""
        kit = self.lab.named(SHARED)
        self.posted(event, _data(event, SHARED), None, kit, None)
        self.works(works)

    @rule(
        which=ANY,
        is_own_order=st.booleans(),
        links=st.booleans() | st.just(True),
        posts=st.booleans() | st.just(True),
        works=ANY,
    )
    def a_kit_is_tested_anew(
        self, which: int, is_own_order: bool, links: bool, posts: bool, works: int
    ) -> None:
        """A new kit for the same test; its link and its webhook may come late."""
        kit = _pick(self.lab.kits, which)
        if len(self.lab.kits) >= 8:
            return
        first = kit.original.order
        order = self.lab.order(first.customer) if is_own_order and first else None
        new = self.lab.kit(kit.patient, order, None, kit)
        new.names_parent.becomes(links)
        if posts:
            self.post_retest(new)
        self.works(works)

    def post_retest(self, new: Kit) -> None:
        """The lab posts a retest."""
        if kit := new.repeats:
            data = {"testregistration_id": kit.id, "retest_testregistration_id": new.id}
            self.posted(RETEST, data, None, kit, new)

    @precondition(lambda self: any(kit.repeats for kit in self.lab.kits))
    @rule(which=ANY, works=ANY)
    def a_link_is_learned(self, which: int, works: int) -> None:
        """The lab says by now what a kit repeats, and posts it."""
        new = _pick([kit for kit in self.lab.kits if kit.repeats], which)
        new.names_parent.becomes(True)
        self.post_retest(new)
        self.works(works)

    @precondition(lambda self: self.oracle.posts)
    @rule(which=ANY, name=ANY, is_honest=st.booleans(), works=ANY)
    def it_is_posted_again(self, which: int, name: int, is_honest: bool, works: int) -> None:
        """A webhook comes once more, under the same name or another, maybe as it is true now."""
        post = _pick(self.oracle.posts, which)
        if is_honest:
            self.comes_true(post)
        self.repeat(post, name)
        self.works(works)

    def repeat(self, post: Post, name: int = 0) -> None:
        """Post something once more."""
        it = post.about
        data = dict(post.data)
        if it.kit and post.event != RETEST and name:
            data["testregistration_id"] = _pick(it.kit.names, name)
        self.posted(post.event, data, it.order, it.kit, it.new)

    def comes_true(self, post: Post) -> None:
        """The lab's API says by now what was posted."""
        it = post.about
        if it.order and post.event in SHIPPING and it.order.shipping.now in DENIED:
            it.order.shipping.becomes(SHIPPING[post.event][0])
        if it.new:
            it.new.names_parent.becomes(True)
        if it.kit and post.event == RESULTS:
            it.kit.results.becomes(READY)
            it.kit.status.becomes("success")

    @rule(which=ANY, status=st.sampled_from(STATUSES), results=st.sampled_from([READY, *NOT_READY]))
    def the_lab_changes_its_mind(self, which: int, status: str, results: str) -> None:
        """A registration's status, and whether there are results."""
        kit = _pick(self.lab.kits, which)
        kit.status.becomes(status)
        kit.results.becomes(results)

    @rule(which=ANY, status=st.sampled_from([*DENIED, "delivered"]))
    def a_parcel_goes_astray(self, which: int, status: str) -> None:
        """An order's shipping status, with no webhook."""
        _pick(self.lab.orders, which).shipping.becomes(status)

    @rule(which=ANY, phone=st.sampled_from([*PHONES[:3], LANDLINE, LANDLINE, None]))
    def somebody_moves(self, which: int, phone: str | None) -> None:
        """Another number, a wrong one or none."""
        _pick(self.lab.people, which).phone.becomes(phone)

    @rule(which=ANY, number=st.integers(1, 2))
    def somebody_has_another_mailbox(self, which: int, number: int) -> None:
        """Another address."""
        person = _pick(self.lab.people, which)
        person.email.becomes(f"{person.name.lower()}-{number}@example.org")

    @rule(times=st.integers(1, 4))
    def the_lab_is_away(self, times: int) -> None:
        """Its API fails some requests."""
        self.lab.down = times

    @precondition(lambda self: len(self.lab.kits) > 1)
    @rule(which=ANY, other=ANY)
    def the_lab_mixes_up(self, which: int, other: int) -> None:
        """Asked for one kit it answers another's record, once."""
        pair = _pick(self.lab.kits, which), _pick(self.lab.kits, other)
        if pair[0] is not pair[1]:
            self.lab.mixed_up.append(pair)

    # The providers

    @rule(
        channel=st.sampled_from(["sms", "sms", "email"]),
        fates=st.lists(st.sampled_from(Providers.FATES), min_size=1, max_size=3),
    )
    def a_provider_has_a_bad_day(self, channel: str, fates: list[str]) -> None:
        """The next sends fare badly."""
        self.providers.fates[channel] = list(fates)

    @precondition(lambda self: any(sent.taken for sent in self.providers.sent))
    @rule(which=ANY, word=st.sampled_from(["delivered", "failed", "undelivered"]), works=ANY)
    def a_provider_tells(self, which: int, word: str, works: int) -> None:
        """A receipt for something that it took."""
        sent = _pick([sent for sent in self.providers.sent if sent.taken][::-1], which)
        self.tell(sent, word)
        self.works(works)

    def tell(self, sent: Sent, word: str) -> None:
        """A receipt comes. A text that has arrived stays so; an email may bounce later."""
        code = {"failed": 30005, "undelivered": 30003}.get(word, 0)
        if sent.channel == "email":
            word = "bounce" if code else "delivered"
        if word == "delivered":
            sent.delivered, sent.failed = True, False
        elif sent.channel == "email" or not sent.delivered:
            sent.failed = True
        if word == "bounce":
            self.oracle.suppressed.add((sent.channel, sent.address))
        self.relay.tell(sent, word, code)

    # The people

    @rule(which=ANY, channel=st.sampled_from(["sms", "email"]), stops=st.booleans() | st.just(True))
    def somebody_stops(self, which: int, channel: str, stops: bool) -> None:
        """STOP, or START."""
        person = _pick(self.lab.people, which)
        address = person.phone.now if channel == "sms" else person.email.now
        if not address or address == LANDLINE:
            return
        if stops:
            self.relay.suppress(channel, address)
            self.oracle.suppressed.add((channel, address))
        elif (channel, address) in self.oracle.suppressed:
            self.relay.unsuppress(channel, address)
            self.oracle.suppressed.discard((channel, address))
            self.providers.opted_out.discard((channel, address))

    @precondition(lambda self: self.relay.cases())
    @rule(which=ANY, act=ANY, works=ANY)
    def staff_see_to_a_case(self, which: int, act: int, works: int) -> None:
        """Somebody of the staff presses a button of a case on the desk."""
        case = _pick(self.relay.cases(), which)
        chosen = _pick(self.relay.acts(case), act)
        self.decide(case, chosen)
        self.works(works)

    @precondition(lambda self: self.relay.cases("release"))
    @rule(which=ANY, stops=st.booleans() | st.just(True), works=ANY)
    def a_clinician_decides(self, which: int, stops: bool, works: int) -> None:
        """Somebody releases a message that is held for them, or says "Do not send"."""
        case = _pick(self.relay.cases("release"), which)
        self.decide(case, "stop" if stops else "release")
        self.works(works)

    def decide(self, case: Any, act: str) -> None:
        """Press a button, and remember what that means."""
        owed = self.owed(case["notification_id"])
        if act == "stop" and owed and self.relay.waits(case["notification_id"]):
            self.oracle.stopped.add(owed)
        if act in ("resend", "send") and owed:
            self.oracle.again[owed] += 1
        if case["kind"] == "rule" and act == "close":
            self.oracle.dropped.add(case["subject"].removesuffix(NEW_NAME))
        self.relay.press(case["id"], act)

    def owed(self, message: str | None) -> Any:
        """What a message of the list is owed for: its rule, and what its event is about."""
        for row in self.relay.shown().messages:
            if row["id"] == message:
                for post in self.oracle.posts:
                    if post.id == row["event_id"]:
                        return row["rule"], post.about
        return None

    @precondition(lambda self: self.oracle.posts)
    @rule(which=ANY, what=st.sampled_from(["event", "event", "failed"]), works=ANY)
    def staff_replay(self, which: int, what: str, works: int) -> None:
        """`flask relay replay`, of an event or of all that failed."""
        if what == "event":
            self.relay.replay(_pick(self.oracle.posts, which).id)
        else:
            self.relay.replay_failed()
        self.works(works)

    @precondition(lambda self: self.oracle.told)
    @rule(which=ANY, works=ANY)
    def staff_send_again(self, which: int, works: int) -> None:
        """`flask relay resend`, of something that has gone out: to whatever number there is now."""
        listed = [row for row in self.relay.shown().messages if self.owed(row["id"])]
        message = _pick(listed, which)["id"]
        if self.relay.send_again(message):
            self.oracle.again[self.owed(message)] += 1
        self.works(works)

    # The admin

    @rule(name=st.sampled_from(sorted(RULES)), edit=st.sampled_from(EDITS), works=ANY)
    def an_admin_edits(self, name: str, edit: str, works: int) -> None:
        """One rule is changed; what was changed before is put back."""
        if edit == "to" and edit not in RULES[name].edits:
            edit = "renamed"
        self.relay.edits = {name: edit}
        self.works(works)

    @precondition(lambda self: self.relay.edits)
    @rule(works=ANY)
    def an_admin_puts_it_back(self, works: int) -> None:
        """config.toml is as it was."""
        self.relay.edits = {}
        self.works(works)

    @rule()
    def an_account_is_lost(self) -> None:
        """TWILIO_AUTH_TOKEN is gone from the environment, or back."""
        self.relay.has_account = not self.relay.has_account

    # The worker

    def works(self, how: int) -> None:
        """Mostly the worker does at once what is due."""
        if how < 9:
            self.work(1.0)

    def work(self, seconds: float) -> None:
        """The worker works. SendGrid has no list to look in: it tells at once what it has."""
        self.relay.work(seconds)
        self.oracle.learn()
        for sent in self.providers.sent:
            if sent.lost and sent.channel == "email" and not sent.told:
                self.relay.tell(sent, "processed")

    @rule(seconds=WAITS)
    def time_passes(self, seconds: int) -> None:
        """The worker works on meanwhile."""
        self.wait(float(seconds))

    def wait(self, seconds: float) -> None:
        """Wait, in steps that grow."""
        for hop in HOPS:
            if hop * 3 < seconds:
                self.hop(hop)
                seconds -= hop
        self.hop(seconds)

    def days_pass(self) -> None:
        """All that waits has its time."""
        for seconds in DAYS:
            self.hop(seconds)

    def hop(self, seconds: float) -> None:
        """The worker works, and providers tell what they have not told of yet."""
        self.work(seconds)
        for sent in self.providers.sent if self.tells else ():
            if sent.taken and not sent.told and self.lab.clock.now - sent.at > 600:
                self.tell(sent, "delivered")

    @rule(channel=st.sampled_from(["sms", "email"]), count=st.integers(1, 3))
    def a_worker_is_slow(self, channel: str, count: int) -> None:
        """It has claimed messages, and does not go on yet."""
        self.relay.take_in_hand(channel, count)
        self.oracle.learn()

    @precondition(lambda self: self.relay.in_hand)
    @rule()
    def a_slow_worker_goes_on(self) -> None:
        """It hands over what it has claimed, if that is right still."""
        self.relay.go_on()

    # What holds

    def posted(
        self,
        event: str,
        data: dict[str, str],
        order: Order | None,
        kit: Kit | None,
        new: Kit | None,
    ) -> None:
        """The lab posts. A name that two kits share means the one that its API gives for it."""
        self.relay.pass_time(1.0)
        if kit and event != RETEST:
            kit = self.lab.named(data["testregistration_id"])
        id_ = self.relay.post(event, data)
        known = next((post for post in self.oracle.posts if post.id == id_), None)
        if known:
            known.again += 1
        else:
            it = about(event, order, kit, new)
            self.oracle.posts.append(Post(event, data, it, self.lab.clock.now, id_))

    @invariant()
    def promises_are_kept(self) -> None:
        """No promise is broken, and no job breaks."""
        assert not self.oracle.broken, self.oracle.broken
        assert not self.relay.errors, self.relay.errors

    def teardown(self) -> None:
        """In the end the lab is honest and everything is put back. Time passes; then wrong numbers
        are corrected, the lab posts all of it once more, and time passes again."""
        if self.oracle.broken or self.relay.errors or not self.lab.kits:
            return
        self.relay.go_on()
        self.lab.down, self.lab.mixed_up = 0, []
        self.providers.fates = {"sms": [], "email": []}
        self.relay.edits, self.relay.has_account = {}, True
        self.days_pass()
        self.oracle.each_end_is_true(self.relay.shown())
        self.promises_are_kept()
        for person in self.lab.people:
            if person.phone.now in (LANDLINE, None):
                person.phone.becomes(PHONES[self.lab.people.index(person)])
        for post in list(self.oracle.posts):
            self.repeat(post)
        self.days_pass()
        self.promises_are_kept()
        self.oracle.nobody_is_forgotten()
        self.promises_are_kept()


DAYS = (0.0, 7.0, 20.0, 80.0, 1000.0, 3700.0, 50 * 3600.0, 10 * 86400.0)


def _pick(there: Any, which: int) -> Any:
    return there[which % len(there)]


def _data(event: str, name: str) -> dict[str, str]:
    data = {"testregistration_id": name}
    if event == RECEIVED:
        data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
    return data
