"""What is foretold of messages that wait, by an edit, against what the worker then does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from relay.config import edition_files
from relay.config.loader import load
from relay.ledger.schema import notifications
from relay.ledger.worklist import releases
from relay.rules.edition import Content
from relay.staff import waiting
from relay.staff.waiting import DROPPED, KEPT, REVIVED, TIME, WAY, WORDS
from tests.conftest import one_database
from tests.jobs.conftest import HEAD, STAFF, Clinic
from tests.rows import change

RULES = """
[rules.kit]
event = "order.shipped"
to = "customer"
after = "2d"
channels = ["sms"]
template = "kit"
when = "order.carrier"
"""
CONFIG = HEAD + STAFF + RULES
TO_DESK = CONFIG.replace('"customer"', '"desk"').replace('["sms"]', '["email"]')
OFF = CONFIG.replace("[rules.kit]", "[rules.kit]\nenabled = false")
NEVER = '[never.x]\nrule = "kit"\nwhen = "order.carrier"\nbecause = "So."\n'
# An edit, what is foretold of the one message that waits, and what then becomes of it.
CAME = {
    "the same": ({"config.toml": CONFIG + "# A comment."}, {}, [("sms", "sent")]),
    "later": ({"config.toml": CONFIG.replace("2d", "9d")}, {}, [("sms", "sent")]),
    "gone": ({"config.toml": HEAD + STAFF}, {KEPT: 1}, [("sms", "scheduled")]),
    "to others": ({"config.toml": TO_DESK}, {KEPT: 1}, [("sms", "scheduled")]),
    "off": ({"config.toml": OFF}, {DROPPED: 1}, [("sms", "cancelled")]),
    "forbidden": ({"config.toml": CONFIG + NEVER}, {DROPPED: 1}, [("sms", "cancelled")]),
    "a condition": (
        {"config.toml": CONFIG.replace("order.carrier", "not order.carrier")},
        {DROPPED: 1},
        [("sms", "cancelled")],
    ),
    "another way": (
        {"config.toml": CONFIG.replace('["sms"]', '["email"]')},
        {WAY: 1},
        [("email", "sent"), ("sms", "cancelled")],
    ),
    "words": ({"templates/kit/sms.txt": "Your kit is there."}, {WORDS: 1}, [("sms", "sent")]),
    "a sender": (
        {"config.toml": CONFIG + 'sms_from = "KITS"'},
        {WORDS: 1},
        [("sms", "sent")],
    ),
}


def foretold(clinic: Clinic, edit: Content) -> Mapping[str, Any]:
    """What is said of the messages that wait, of the rules that the edit concerns."""
    files = {**edition_files.read(clinic.settings), **edit}
    held, used = edition_files.laid_out(files, clinic.settings)
    touched = {name.split("/")[1] for name in edit if "/" in name}
    now = load(clinic.settings)
    try:
        return waiting.compare(clinic.db, load(used), now, touched, lambda: None)
    finally:
        held.let_go()


@pytest.fixture
def shipped(clinic: Clinic) -> Clinic:
    """A clinic with a text that goes in two days."""
    clinic.settings.config.write_text(CONFIG, "utf-8")
    clinic.post()
    clinic.work()
    assert clinic.statuses() == [("sms", "scheduled")]
    return clinic


@pytest.mark.parametrize("edit", CAME)
def test_what_waits_goes_as_was_foretold(shipped: Clinic, edit: str) -> None:
    """Sent by the new words or way, kept, or cancelled: as was said before the edit."""
    files, said, came = CAME[edit]
    found = foretold(shipped, files)
    assert found["rules"] == ({"kit": said} if said else {})
    folder = shipped.settings.config.parent
    edition_files.write({**edition_files.read(shipped.settings), **files}, folder)
    shipped.work(timedelta(days=3))
    went = [(row["channel"], row["status"]) for row in shipped.messages(rule="kit")]
    assert sorted(went) == came
    sent = [request.form["Body"] for request in shipped.twilio.accepted]
    assert ("Your kit is there." in sent) == (edit == "words")


@one_database
def test_a_window_moves_what_waits(shipped: Clinic) -> None:
    """A message that comes due outside the edited window goes when that opens; one that is due
    inside it goes as before.
    """
    (row,) = shipped.messages()
    opens = row["due_at"] + timedelta(hours=5)
    for window, said in (
        (f"{opens:%H}:00-{opens:%H}:59", {"kit": {TIME: 1}}),
        ("00:00-23:59", {}),
    ):
        edited = CONFIG + f'send_window = "{window}"'
        assert foretold(shipped, {"config.toml": edited})["rules"] == said


@one_database
def test_what_would_not_have_gone_may_go(shipped: Clinic) -> None:
    """A rule that is switched on again sends what waits; what a person has stopped stays stopped,
    whatever the words.
    """
    shipped.settings.config.write_text(OFF, "utf-8")
    assert foretold(shipped, {"config.toml": CONFIG})["rules"] == {"kit": {REVIVED: 1}}
    change(shipped.db, notifications, {}, status="cancelled")
    assert foretold(shipped, {"config.toml": CONFIG}) == {"many": 0, "rules": {}}


@one_database
def test_all_that_waits_is_looked_at(shipped: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it is, a part at a time."""
    monkeypatch.setattr(releases, "AT_ONCE", 2)
    shipped.orders(5)
    shipped.work()
    found = foretold(shipped, {"config.toml": OFF})
    assert found == {"many": 6, "rules": {"kit": {DROPPED: 6}}}


@one_database
def test_a_digest_that_waits_is_told_too(clinic: Clinic) -> None:
    """By its example: other words, a rule that no longer gathers, an address that has left."""
    digest = CONFIG.replace('after = "2d"\n', 'digest = "every 4h"\n')
    digest = digest.replace('"customer"', '"desk"').replace('["sms"]', '["email"]')
    clinic.settings.config.write_text(digest, "utf-8")
    for name in ("subject.txt", "email.txt", "email.html"):
        text = "<body>{{ count }} kits</body>"
        (clinic.settings.templates / "kit" / name).write_text(text, "utf-8")
    clinic.post()
    clinic.work()
    assert clinic.statuses() != []
    other = {"templates/kit/email.txt": "{{ count }} boxes"}
    single = digest.replace('digest = "every 4h"', "")
    left = digest.replace("desk@example.org", "new@example.org")
    assert foretold(clinic, other)["rules"] == {"kit": {WORDS: 1}}
    assert foretold(clinic, {"config.toml": single})["rules"] == {"kit": {WAY: 1}}
    assert foretold(clinic, {"config.toml": left})["rules"] == {"kit": {WAY: 1}}
