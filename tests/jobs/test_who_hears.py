"""An order of two kits, and a retest: what each of the people hears, by the rules as shipped."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations

from relay.config.loader import load
from relay.lab.events import EVENTS, ORDER
from tests.conftest import ROOT, one_database
from tests.jobs.conftest import Clinic
from tests.jobs.test_orders import NAMES

EXPECTED = ROOT / "tests" / "expected"
HOUR = timedelta(hours=1)
BY_POST, OF_A_KIT = ("shipped", "delivered"), ("registered", "received", "results")
STEPS = {**NAMES, "retest": "test_registration.retest"}
MADE = """Here each step arrives an hour after the one before, and a message goes out at once, by
the rules in config.toml as shipped. Made by a test, from the real thing:
`RELAY_UPDATE_EXPECTED=1 .venv/bin/pytest tests/jobs/test_who_hears.py`.
"""
TWO_KITS = f"""# What is told about an order of two kits

Somebody orders two kits, A and B, for two people. They come in one parcel; each person registers
their own kit and posts their own sample.

{MADE}
A patient hears of their own kit, whatever becomes of the other. What the customer hears of the
order is old once a later step has come for both kits, not before.
"""
RETESTS = f"""# What is told about a retest

The lab could not use the first kit's sample, and asks the patient for a new one. The new kit comes
as an order of its own, in some lines without one. The first kit's results, where they come, say
"fail".

{MADE}
The patient is asked for a new sample, unless the new kit is under way already. Staff hear of the
retest, and of results that failed, however late these come.
"""
EARLIER = """
## When the retest comes early or late

Before each line the first kit was shipped, delivered, registered and received, and all that was
told.
"""
LATER = """
## When a step of the first kit comes late

Before each line the first kit's other steps came, but for its results. What is behind the retest is
old, and nobody hears of it.
"""


@dataclass(frozen=True)
class World:
    """What the lab has of one line of a table: orders, their kits, the people."""

    line: int
    kits: Mapping[str, str]  # each kit, and the order that it came with
    customer: str
    patients: Mapping[str, str]  # each kit, and who it is for
    repeats: Mapping[str, str]  # each retest's kit, and the one that it repeats

    def id(self, name: str) -> str:
        """The lab's id of an order or a kit."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.line} {name}"))

    def contact(self, person: str) -> dict[str, str]:
        """A person's own phone and mailbox."""
        number = self.line * 10 + [self.customer, *self.patients.values()].index(person)
        return {
            "first_name": person.title(),
            "last_name": "Smith",
            "email": f"{person}.{self.line}@example.org".replace(" ", "."),
            "phone_number": f"+4477009{number:05}",
        }

    def make(self, clinic: Clinic) -> None:
        """Let the lab have it."""
        for order in set(self.kits.values()):
            kits = [{"id": self.id(kit)} for kit, its in self.kits.items() if its == order]
            clinic.lab.change(
                *("order", self.id(order)),
                customer=self.contact(self.customer),
                test_registrations=kits,
            )
        for kit, person in self.patients.items():
            contact = self.contact(person)
            parent = self.repeats.get(kit)
            clinic.lab.change(
                *("test_registration", self.id(kit)),
                **contact,
                mobile_phone_number=contact["phone_number"],
                parent_id=self.id(parent) if parent else None,
                status="fail" if kit in self.repeats.values() else "success",
            )

    def post(self, clinic: Clinic, what: str, step: str) -> None:
        """A step of an order or of a kit comes in."""
        kind = EVENTS[STEPS[step]]
        data = {kind.id_field: self.id(self.kits[what] if kind.resource == ORDER else what)}
        if step == "received":
            data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
        if step == "retest":
            (new,) = (kit for kit, old in self.repeats.items() if old == what)
            data["retest_testregistration_id"] = self.id(new)
        clinic.post(STEPS[step], **data)


def two_kits(line: int) -> World:
    """An order of two kits, for two people."""
    kits = {"A": "parcel", "B": "parcel"}
    return World(line, kits, "customer", {"A": "patient A", "B": "patient B"}, {})


def retest(line: int) -> World:
    """A kit and its retest, each with an order."""
    kits, patients = {"first": "first", "new": "second"}, {"first": "patient", "new": "patient"}
    return World(line, kits, "customer", patients, {"new": "first"})


Arrival = tuple[str, str]  # what it is a step of, and the step


def steps_of(what: str, *steps: str) -> list[Arrival]:
    """Some steps of one order or kit."""
    return [(what, step) for step in steps]


def with_late(steps: Sequence[Arrival], late: Arrival, first: int = 0) -> Iterator[list[Arrival]]:
    """The steps with one more, at each place where it can come."""
    for place in range(first, len(steps) + 1):
        yield [*steps[:place], late, *steps[place:]]


def orders_of_two() -> Iterator[list[Arrival]]:
    """Samples and results of both in every order, but for those in which B is A; then the order's
    own steps at each place among the kits'.
    """
    kits = {kit: steps_of(kit, *OF_A_KIT) for kit in "AB"}
    begun = [*steps_of("A", *BY_POST), kits["A"][0], kits["B"][0]]
    for mixed in permutations([*kits["A"][1:], *kits["B"][1:]]):
        if mixed[0][0] == "A":
            yield [*begun, *mixed]
    in_turn = [kits[kit][turn] for turn in range(len(OF_A_KIT)) for kit in "AB"]
    for steps in (in_turn, kits["A"] + kits["B"], kits["A"]):
        for late in with_late(steps, ("A", "delivered"), 1):
            yield [("A", "shipped"), *late]
        yield from with_late(steps, ("A", "shipped"), 1)


NEW_KIT = steps_of("new", *BY_POST, *OF_A_KIT)


def orders_of_a_retest() -> Iterator[list[Arrival]]:
    """The retest at each place among its kit's steps; the first kit's results besides."""
    for steps in (NEW_KIT, NEW_KIT[len(BY_POST) :]):
        yield from with_late(steps, ("first", "retest"))
    for at in (0, len(NEW_KIT)):
        steps = [*NEW_KIT[:at], ("first", "retest"), *NEW_KIT[at:]]
        yield from with_late(steps, ("first", "results"))


def late_steps_of_the_first_kit() -> Iterator[list[Arrival]]:
    """Each of them at each place behind the retest."""
    for step in (*BY_POST, *OF_A_KIT[:2]):
        yield from with_late([("first", "retest"), *NEW_KIT], ("first", step), 1)


def before(line: Sequence[Arrival]) -> list[Arrival]:
    """What has come of a retest's first kit, when a line begins."""
    return [one for one in steps_of("first", *BY_POST, *OF_A_KIT[:2]) if one not in line]


def named(arrival: Arrival) -> str:
    """A step as the tables call it: an order has its own but once, and one kit is repeated."""
    what, step = arrival
    is_plain = step == "retest" or (what == "A" and EVENTS[STEPS[step]].resource == ORDER)
    return step if is_plain else f"{what} {step}"


class Told:
    """Who has heard what, by the rules' names, in the order in which it went out."""

    def __init__(self, clinic: Clinic, worlds: Sequence[World]) -> None:
        self._clinic = clinic
        self._channels = {rule.name: rule.channels for rule in load(clinic.settings).rules}
        self._who = {
            address: (world.line, person)
            for world in worlds
            for person in (world.customer, *world.patients.values())
            for address in map(world.contact(person).get, ("email", "phone_number"))
        }
        self._lines = {
            world.id(name): world.line
            for world in worlds
            for name in (*world.kits, *world.kits.values())
        }

    def now(self) -> dict[tuple[int, str], list[str]]:
        """By line and person. What a rule sends by two ways counts once both have gone out."""
        ways: dict[tuple[int, str, str, str], list[str]] = {}
        for row in self._clinic.messages(status="sent"):
            line = self._lines[row["subject"]]
            its_line, who = self._who.get(row["address"], (line, row["role"]))
            assert line == its_line, "somebody else has heard of it"
            about = f"{row['subject']} {row['round']}"
            ways.setdefault((line, who, row["rule"], about), []).append(row["channel"])
        told: dict[tuple[int, str], list[str]] = {}
        for (line, who, rule, _), channels in ways.items():
            assert sorted(channels) == sorted(self._channels[rule])
            told.setdefault((line, who), []).append(rule)
        return told


def play(
    clinic: Clinic, worlds: Sequence[World], lines: Sequence[Sequence[Arrival]]
) -> dict[tuple[int, str], list[str]]:
    """All lines side by side, a step an hour; who has heard what."""
    text = (ROOT / "config.toml").read_text("utf-8")
    clinic.settings.config.write_text(text.replace('"08:00-20:00"', '"always"'), "utf-8")
    told = Told(clinic, worlds)
    for world in worlds:
        world.make(clinic)

    def arrive(lines: Sequence[Sequence[Arrival]]) -> dict[tuple[int, str], list[str]]:
        for turn in range(max(map(len, lines))):
            for world, line in zip(worlds, lines, strict=True):
                if turn < len(line):
                    world.post(clinic, *line[turn])
            clinic.work(HOUR)
        return told.now()

    earlier = arrive([before(line) for line in lines]) if worlds[0].repeats else {}
    return {who: rules[len(earlier.get(who, ())) :] for who, rules in arrive(lines).items()}


def table(
    people: Sequence[str],
    lines: Mapping[int, Sequence[Arrival]],
    told: Mapping[tuple[int, str], list[str]],
) -> str:
    """A line for each order of arrival, a column for each of the people."""
    cells = [
        [", ".join(map(named, line)), *(", ".join(told.get((number, who), ())) for who in people)]
        for number, line in lines.items()
    ]
    titles = ["Arrives", *(f"{who[0].upper()}{who[1:]} hears" for who in people)]
    rows = ["".join(f"| {cell} " if cell else "| " for cell in row) + "|\n" for row in cells]
    return f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|\n" + "".join(rows)


def compare(name: str, page: str) -> None:
    """A page as it was made once, and read by people."""
    path = EXPECTED / name
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        path.write_text(page, "utf-8")
    assert path.read_text("utf-8") == page


@one_database
def test_two_kits_of_one_order(clinic: Clinic) -> None:
    """Each patient hears of their own kit, and the customer of the order, unless a later step has
    come for both of its kits."""
    lines = dict(enumerate(orders_of_two()))
    told = play(clinic, [*map(two_kits, lines)], [*lines.values()])
    made = table(["customer", "patient A", "patient B"], lines, told)
    compare("two-kits.md", f"{TWO_KITS}\n{made}")


@one_database
def test_a_retest_and_its_own_order(clinic: Clinic) -> None:
    """A patient is asked for a new sample unless the new kit is under way, and hears of its steps;
    staff hear of the retest whenever it comes. What is behind it is told to nobody."""
    early, late = list(orders_of_a_retest()), list(late_steps_of_the_first_kit())
    lines = dict(enumerate(early + late))
    told = play(clinic, [*map(retest, lines)], [*lines.values()])
    people = ["customer", "patient", "lab-desk"]
    first = table(people, {number: lines[number] for number in range(len(early))}, told)
    second = table(
        people, {number: lines[number] for number in range(len(early), len(lines))}, told
    )
    compare("retests.md", f"{RETESTS}{EARLIER}\n{first}{LATER}\n{second}")
