"""The desk as tests press it, and a kit on it whose every detail is somebody's own."""

from __future__ import annotations

from typing import Any

from relay.lab.facts import Facts
from relay.ledger import events
from relay.ledger.database import Database, now
from relay.ledger.schema import attempts, notifications
from relay.rules.model import Plan
from tests.rows import change, leased, notice, only
from tests.test_desk import token

PHONE, EMAIL = "+447700900001", "jane.smith@example.org"
WORDS = "Hello Jane, your kit is on its way."
SECRETS = (PHONE, EMAIL, "Jane", "Smith", WORDS)


def kit(
    db: Database, first: str = "Jane", last: str = "Smith", order: str = "o-1", **fields: Any
) -> list[str]:
    """An order that was shipped, its customer told by text and by email; the messages' ids."""
    event = leased(db, order_id=order)
    told = (
        notice(subject=order, **{"address": PHONE, **fields}),
        notice(subject=order, channel="email", address=EMAIL),
    )
    customer = {"first_name": first, "last_name": last}
    facts = Facts(order={"id": order}, customer=customer)
    with db.write() as connection:
        events.plan_and_mark_processed(connection, event, facts, lambda _kit: Plan(told))
    ids = [str(only(db, notifications, identity=one.identity)["id"]) for one in told]
    for id_ in ids:
        content = {"text": WORDS, "subject": f"For {first}"}
        change(db, notifications, {"id": id_}, status="sent", content=content)
    return ids


def handed_over(db: Database) -> None:
    """The kit, whose text Twilio has as SM1."""
    (text, _) = kit(db)
    with db.write() as connection:
        row = {"id": "a-1", "notification_id": text, "channel": "sms", "outcome": "accepted"}
        connection.execute(attempts.insert().values(**row, provider_id="SM1", started_at=now()))


def press(inside: Any, path: str, **form: str) -> Any:
    """The answer to a form of the desk's, sent with its token."""
    return inside.post(path, data={"csrf_token": token(inside.get("/journeys").text), **form})


def search(inside: Any, wanted: str) -> str:
    """The page that a search leads to."""
    csrf = token(inside.get("/journeys").text)
    answer = inside.post("/journeys", data={"csrf_token": csrf, "q": wanted}, follow_redirects=True)
    assert answer.status_code == 200
    return str(answer.text)


def leaks(page: str) -> list[str]:
    """What of the kit's personal data can be read on a page."""
    return [secret for secret in SECRETS if secret in page]
