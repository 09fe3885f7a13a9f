"""What the lab and the clinic do with a family's kits: one table, and the moments it leads to.

The lab's API and its posts are not at one: a post may come before the API says the same, or long
after. What each person must, may and must not hear follows from both (oracle.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.chaos.kits import (
    DELIVERED,
    LANDLINE,
    OF_A_RETEST,
    RECEIVED,
    REGISTERED,
    RESULTS,
    RETEST,
    SHIPPED,
    Kit,
    Order,
    Thing,
    body,
)

SPREAD = 8.0  # seconds from a kit's first step to its last
POSTED_TWICE, MUCH_LATER, TEN_AT_ONCE = 0.12, 0.06, 0.02  # how often
USUAL = ("awaiting_shipping", "shipped", "delivered")
READY, LATE, NEVER = "at once", "204 first", "204 for ever"
ASKED, SENT, LINKED_LATE = "asked for", "shipped as an order", "linked late"
SHARED, CHANGED = "one for two people", "handed on to another"


@dataclass(frozen=True)
class Scenario:
    """A family's part of a run. `weight` says how many of a hundred kits play it, or so."""

    name: str
    weight: int
    kits: int = 1
    orders: int = 1  # of one kit each, where there are several
    shipping: Sequence[str] = USUAL
    idle: int = 0  # kits whose owner never sends a sample
    statuses: Sequence[str] = ("success",)  # of each registration, each posted with the results
    results: str = READY
    retest: str = ""
    reference: str = ""  # what is odd about what the clinic calls it
    contact_is_wrong: bool = False  # at first: put right, then the lab posts all once more


SCENARIOS = (
    Scenario("one kit, no trouble", 25),
    Scenario("two kits", 8, kits=2),
    Scenario("three kits", 4, kits=3),
    Scenario("one of two never comes back", 8, kits=2, idle=1),
    Scenario("never comes back", 4, idle=1),
    Scenario("returned to the lab", 4, shipping=("awaiting_shipping", "shipped", "returned")),
    Scenario("delivered, then returned", 4, shipping=(*USUAL, "returned")),
    Scenario("results announced too early", 8, results=LATE),
    Scenario("results announced, and never there", 2, results=NEVER),
    Scenario("partial, then whole", 5, statuses=("partial_result", "success")),
    Scenario("failed", 3, statuses=("fail",)),
    Scenario("an error, then whole", 3, statuses=("processing_error", "success"), results=LATE),
    Scenario("cancelled before the results", 3, statuses=("cancelled",)),
    Scenario("cancelled after the results", 3, statuses=("success", "cancelled")),
    Scenario("a retest, no kit yet", 3, statuses=("fail",), retest=ASKED),
    Scenario("a retest with an order of its own", 5, statuses=("fail",), retest=SENT),
    Scenario("a retest of one of two", 3, kits=2, statuses=("partial_result",), retest=SENT),
    Scenario("a retest that is linked late", 4, statuses=("fail",), retest=LINKED_LATE),
    Scenario("two people, one reference", 4, orders=2, reference=SHARED),
    Scenario("a reference goes to another", 4, orders=2, reference=CHANGED),
    Scenario("an address that is put right", 3, contact_is_wrong=True),
)


@dataclass(frozen=True)
class Post:
    """A webhook of the lab's, `together` of the same at once."""

    at: float
    step: str
    thing: Thing | None  # None where its name is that of another by now
    data: dict[str, Any]
    together: int = 1


@dataclass(frozen=True)
class Change:
    """What the lab's API says from now on."""

    at: float
    path: str
    fields: dict[str, Any]


@dataclass
class Family:
    """What is played of one scenario."""

    number: int
    scenario: Scenario
    random: random.Random
    posts: list[Post] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    orders: dict[Order, tuple[Kit, ...]] = field(default_factory=dict)

    def play(self, begins: float) -> None:
        """Write down all that happens, from a moment on."""
        part = self.scenario
        for which in range(part.orders):
            kits = tuple(Kit(self.number, which + n) for n in range(part.kits))
            self.orders[Order(self.number, which)] = kits
        for order, kits in self.orders.items():
            self.know(0.0, order, kits)
        if part.reference:
            first = Kit(self.number, 0)
            both = (first, Kit(self.number, 1)) if part.reference == SHARED else (first,)
            for kit in both:
                self.change(0.0, kit.path, foreign_id=first.reference)
        if part.contact_is_wrong:
            self.contact(0.0, LANDLINE, None)
        ends = max([self.journey(begins, order, kits) for order, kits in self.orders.items()])
        if part.reference == CHANGED:
            self.hand_on(ends)
        if part.contact_is_wrong:
            patient = Kit(self.number, 0).patient
            self.contact(ends, patient.phone, patient.email)
            self.post_again(ends + self.random.uniform(1.0, 4.0))
        if part.retest:
            self.retest(ends + self.random.uniform(1.0, 3.0))

    def know(self, at: float, order: Order, kits: tuple[Kit, ...]) -> None:
        """The lab has an order, its people and its kits."""
        self.change(at, order.path, **order.record(kits))
        self.change(at, f"customer/{order.customer.id}", **order.customer.record())
        for kit in kits:
            self.change(at, kit.path, **kit.record())
            self.change(at, kit.results, ready=False)
            self.change(at, f"patient/{kit.patient.id}", **kit.patient.record())

    def change(self, at: float, path: str, **fields: Any) -> None:
        """Let the lab's API say something else."""
        self.changes.append(Change(at, path, fields))

    def contact(self, at: float, phone: str, email: str | None) -> None:
        """Give the first kit's patient these addresses."""
        kit = Kit(self.number, 0)
        self.change(at, f"patient/{kit.patient.id}", phone_number=phone, email=email)
        self.change(at, kit.path, email=email)

    def journey(self, begins: float, order: Order, kits: Sequence[Kit]) -> float:
        """The five steps of an order's kits: half of them as they happen, half in any order."""
        draw = self.random
        times = sorted(begins + draw.uniform(0, SPREAD) for _ in range(5))
        posted = draw.sample(times, 5) if draw.random() < 0.5 else times
        said = [times[0] + draw.uniform(-1.5, 1.5), times[1] + draw.uniform(-1.5, 1.5)]
        said += [times[1] + draw.uniform(1.5, 4.0) for _ in self.scenario.shipping[3:]]
        statuses = USUAL if order.which >= OF_A_RETEST else self.scenario.shipping
        for at, status in zip(sorted(said), statuses[1:], strict=False):
            self.change(max(0.0, at), order.path, shipping_status=status)
        self.post(posted[0], SHIPPED, order)
        self.post(posted[1], DELIVERED, order)
        ends = times[4]
        for number, kit in enumerate(kits):
            self.post(posted[2] + draw.random(), REGISTERED, kit)
            if number >= self.scenario.idle:
                self.post(posted[3] + draw.random(), RECEIVED, kit)
                ends = max(ends, self.testing(posted[4] + draw.random(), kit))
        return ends + 1.0

    def testing(self, at: float, kit: Kit) -> float:
        """Results are announced; they come, or not; the test's status may change with them."""
        draw, part = self.random, self.scenario
        statuses = ("success",) if kit.round else part.statuses
        self.post(at, RESULTS, kit)
        said = max(0.0, at + draw.uniform(-2.0, 1.0))
        self.change(said, kit.path, status=statuses[0])
        if part.results != NEVER:
            wait = draw.uniform(2.0, 8.0) if part.results == LATE else 0.0
            self.change(said + wait, kit.results, ready=True)
        for status in statuses[1:]:
            at = max(at, said) + draw.uniform(3.0, 8.0)
            self.change(at, kit.path, status=status)
            at += draw.uniform(0.0, 2.0)
            self.posts.append(Post(at, RESULTS, kit, body(RESULTS, kit.id)["data"]))
        return at

    def retest(self, at: float) -> None:
        """A new sample is needed of the first kit. Its registration may be there a little later."""
        draw, part = self.random, self.scenario
        first, again = Kit(self.number, 0), Kit(self.number, 0, 1)
        order = Order(self.number, OF_A_RETEST)
        self.orders[order] = (again,)
        data = {**body(RETEST, first.id)["data"], "retest_testregistration_id": again.id}
        self.posts.append(Post(at, RETEST, first, data))
        for later in self.repeats(at):
            self.posts.append(Post(later, RETEST, first, data))
        known = at + draw.uniform(-1.0, 2.0)
        self.know(known, order, (again,))
        if part.retest == LINKED_LATE:
            self.change(known, again.path, parent_id=None)
        if part.retest != ASKED:
            ends = self.journey(known + draw.uniform(0.0, 3.0), order, (again,))
            if part.retest == LINKED_LATE:
                linked = draw.uniform(known + 2.0, ends + 2.0)
                self.change(linked, again.path, parent_id=first.id)

    def hand_on(self, at: float) -> None:
        """The first kit's reference becomes the second one's. Both have been registered by then."""
        first, second = Kit(self.number, 0), Kit(self.number, 1)
        data = body(REGISTERED, first.reference)["data"]
        begun = max(post.at for post in self.posts if post.step == REGISTERED)
        for moment in (begun + 0.5, at + 1.0):
            self.posts.append(Post(moment, REGISTERED, None, data))
        self.change(at, first.path, foreign_id=first.reference + "-OLD")
        self.change(at, second.path, foreign_id=first.reference)

    def post(self, at: float, step: str, thing: Thing) -> None:
        """Let the lab post a step, sometimes more than once."""
        draw = self.random
        together = 10 if draw.random() < TEN_AT_ONCE else 1
        self.posts.append(Post(at, step, thing, self.named(step, thing), together))
        for later in self.repeats(at):
            self.posts.append(Post(later, step, thing, self.named(step, thing)))
        if self.scenario.reference == SHARED and thing == Kit(self.number, 0):
            data = body(step, Kit(self.number, 0).reference)["data"]
            self.posts.append(Post(at + draw.uniform(0.5, 3.0), step, thing, data))

    def repeats(self, at: float) -> Iterator[float]:
        """When something is posted again."""
        if self.random.random() < POSTED_TWICE:
            yield at + self.random.uniform(0.0, 3.0)
        if self.random.random() < MUCH_LATER:
            yield at + self.random.uniform(5.0, 20.0)

    def named(self, step: str, thing: Thing) -> dict[str, Any]:
        """An event's data by one of its names; by its own where another is not its alone."""
        if isinstance(thing, Order) or self.scenario.reference:
            return dict(body(step, thing.id)["data"])
        return dict(body(step, self.random.choice((thing.id, *thing.names)))["data"])

    def post_again(self, at: float) -> None:
        """Let the lab post all that it has posted once more, each by the same name."""
        for post in [post for post in self.posts if isinstance(post.thing, Kit)]:
            self.posts.append(Post(at + self.random.uniform(0.0, 2.0), *_what(post)))


def _what(post: Post) -> tuple[str, Thing | None, dict[str, Any]]:
    return post.step, post.thing, post.data


def families(seed: int, kits: int, seconds: float) -> list[Family]:
    """So many kits in families of every kind, begun within so many seconds."""
    draw = random.Random(seed)
    made: list[Family] = []
    left = kits
    weights = [part.weight for part in SCENARIOS]
    while left > 0:
        # Every scenario once, then as often as its weight has it.
        rest = draw.choices(SCENARIOS, weights)[0]
        part = SCENARIOS[len(made)] if len(made) < len(SCENARIOS) else rest
        one = Family(len(made), part, random.Random(draw.random()))
        one.play(2.0 + draw.uniform(0, max(1.0, seconds - SPREAD)))
        made.append(one)
        left -= part.kits * part.orders
    return made
