"""What-if against the worker: what an edit would have sent is what it then sends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.config.loader import Config, load, parse
from relay.ledger.views import kit_history
from relay.ledger.views.kit_history import MessageKey, PastEvent
from relay.staff.what_if import ADDED, CHANGED, DROPPED, WhatIf, sent
from tests.conftest import one_database
from tests.jobs.conftest import HEAD, PERSON, Clinic

RULES = """
[staff.desk]
email = ["desk@example.org"]
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["sms"]
template = "kit"
[rules.reminder]
event = "order.shipped"
to = "customer"
after = "2d"
unless = ["lab_results.complete"]
channels = ["email"]
template = "kit"
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
"""
EDITS = {
    "another way": (
        'channels = ["sms"]\ntemplate = "kit"',
        'channels = ["email"]\ntemplate = "kit"',
    ),
    "one way more": (
        'channels = ["sms"]\ntemplate = "kit"',
        'channels = ["sms", "email"]\ntemplate = "kit"',
    ),
    "a fallback": (
        'channels = ["sms"]\ntemplate = "kit"',
        'channels = ["sms"]\nfallback = ["email"]\ntemplate = "kit"',
    ),
    "a condition": (
        'template = "results"',
        'template = "results"\nwhen = "registration.status != \'fail\'"',
    ),
    "a guard rail": (
        "[rules.kit]",
        '[never.x]\nrule = "results"\nwhen = "registration.status == \'fail\'"\n'
        'because = "So."\n[rules.kit]',
    ),
    "sooner": ('after = "2d"', 'after = "12h"'),
    "at once": ('after = "2d"\nunless = ["lab_results.complete"]\n', ""),
    "off": ("[rules.kit]", "[rules.kit]\nenabled = false"),
    "staff": (
        "[rules.kit]",
        '[rules.told]\nevent = "order.shipped"\nto = "desk"\nchannels = ["email"]\n'
        'template = "kit"\n[rules.kit]',
    ),
}
KITS, LANDLINE = 4, "020 7946 0018"
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
Message = tuple[MessageKey, str, str]  # its rule, role and channel; event; kit


def played(clinic: Clinic, world: str) -> None:
    """Four orders are shipped, one of them to somebody without a mobile; a day later results of
    two are there, of which one failed; then three days pass.
    """
    for number in range(KITS):
        phone = LANDLINE if number == 2 else f"+447700900{ord(world) % 10}{number:02}"
        kit = {"id": f"{world}-kit-{number}", "trf_code": f"{world}{number}"}
        clinic.lab.change(
            *("order", f"{world}-{number}"),
            id=f"{world}-{number}",
            customer={**PERSON, "phone_number": phone},
            test_registrations=[kit],
            tracking_number="RM2",
        )
        person = {**PERSON, "mobile_phone_number": phone}
        status = "fail" if number == 1 else "success"
        clinic.lab.change("test_registration", kit["id"], **kit, **person, status=status)
        clinic.post(order_id=f"{world}-{number}")
    clinic.work()
    clinic.work(timedelta(days=1))
    for number in (1, 3):
        clinic.results(f"{world}-kit-{number}")
    for _ in range(4):
        clinic.work(timedelta(hours=18))


def histories(clinic: Clinic, world: str) -> list[PastEvent]:
    """What has happened in a world."""
    with clinic.db.read() as connection:
        kits = kit_history.kits(connection, SINCE)
        found = kit_history.histories(connection, kits, ["order.shipped", "lab_results.complete"])
    return [past for one in found for past in one.events if past.subject.startswith(world)]


def went(clinic: Clinic, world: str) -> set[Message]:
    """Each message that went out in a world, by the kit's number."""
    return {
        (way, past.name, past.subject[2:])
        for past in histories(clinic, world)
        for way in sent(past)
    }


def would_go(clinic: Clinic, edited: Config) -> set[Message]:
    """What would have gone out in the first world by other rules."""
    compared = WhatIf(edited, load(clinic.settings), SINCE)
    with clinic.db.read() as connection:
        batch = kit_history.kits(connection, SINCE)
        for history in kit_history.histories(connection, batch, compared.events):
            compared.take(history)
    found = went(clinic, "a")
    for line in compared.found.lines:
        message = ((line.rule, line.role, line.channel), line.event, line.subject[2:])
        change = {ADDED: found.add, DROPPED: found.remove, CHANGED: lambda _: None}
        change[line.what](message)
    return found


@one_database
def test_what_if_comes_true(clinic: Clinic) -> None:
    """The same kits by the edited rules: each message that was foretold went out, and no other."""
    clinic.configure(RULES)
    played(clinic, "a")
    edits = {edit: HEAD + RULES.replace(old, new, 1) for edit, (old, new) in EDITS.items()}
    foretold = {
        edit: would_go(clinic, parse(text, clinic.settings)) for edit, text in edits.items()
    }
    assert went(clinic, "a") not in foretold.values()
    came = {}
    for world, (edit, text) in zip("bcdefghij", edits.items(), strict=True):
        clinic.settings.config.write_text(text, "utf-8")
        played(clinic, world)
        came[edit] = went(clinic, world)
    assert came == foretold
