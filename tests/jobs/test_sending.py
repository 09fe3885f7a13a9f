"""The claim's table: what a message becomes by what its provider did."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay import http_client
from relay.channels.twilio import KeptConnections
from relay.jobs import backoff
from relay.ledger import attempts as ledger_attempts
from relay.ledger.schema import attempts, notifications, suppressions
from relay.rules.model import Ending
from tests.jobs.conftest import EMAIL, HEAD, ORDER, PERSON, PHONE, RULES, TO, Clinic, suppress
from tests.rows import change, only, replay_event, replay_notification, rows
from tests.standins import Reply, twilio_error

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BUSY = twilio_error(429, 20429)


def test_an_accepted_message_is_sent(clinic: Clinic) -> None:
    """An event becomes one SMS, sent with the provider's id and kept as it went out."""
    clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    (request,) = clinic.twilio.accepted
    assert (row["status"], row["provider_id"]) == ("sent", f"SM{1:032x}")
    assert request.form["To"] == row["address"] == PHONE
    assert request.form["Body"] == row["content"]["text"] == "Kit RM1 for Jane"
    assert only(clinic.db, attempts)["outcome"] == "accepted"


def test_a_rules_own_senders_are_used(clinic: Clinic) -> None:
    """A rule's messages come from its own senders, by name to whom they are for; answers go where
    the rule says, or else where the clinic does.
    """
    own = 'sms_from = "KITS"\nemail_from = "Kits <kits@example.org>"\n'
    rule = RULES.replace('["sms"]\nfallback = ["email"]', f'["sms", "email"]\n{own}')
    clinic.configure(rule, HEAD + 'email_reply_to = "desk@example.org"\n')
    clinic.post()
    clinic.work()
    (text,), (email,) = clinic.twilio.accepted, clinic.sendgrid.accepted
    assert text.form["From"] == "KITS"
    said = email.json
    assert said["from"] == {"name": "Kits", "email": "kits@example.org"}
    assert said["reply_to"] == {"email": "desk@example.org"}
    assert said["personalizations"][0]["to"] == [TO]


@pytest.mark.parametrize(
    ("country", "words"),
    [
        ("Wales", "Pecyn RM1"),
        ("Scotland", "Kit RM1 for Jane"),  # no such folder
        ("../results", "Kit RM1 for Jane"),
        (None, "Kit RM1 for Jane"),
    ],
)
def test_a_message_is_in_the_language_that_its_rule_finds(
    clinic: Clinic, country: str | None, words: str
) -> None:
    """A folder beside a template's files has its words in another language; without one, or where
    the lab does not say, they are the template's own.
    """
    folder = clinic.settings.templates / "kit"
    shutil.copytree(folder, folder / "Wales")
    (folder / "Wales" / "sms.txt").write_text("Pecyn {{ order.tracking_number }}", "utf-8")
    clinic.configure(RULES.replace("when =", 'language = "order.address.country"\nwhen ='))
    clinic.lab.change("order", ORDER, address={"country": country})
    clinic.post()
    clinic.work()
    assert [text.form["Body"] for text in clinic.twilio.accepted] == [words]


@pytest.mark.parametrize("lookups", [0, 3])
def test_a_worker_that_was_frozen_before_the_socket_sends_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, lookups: int
) -> None:
    """Between the last word of the ledger and the request the machine sleeps for ten minutes or
    more; others have settled the message by then, or are about to. It goes out once.
    """
    request, slept = KeptConnections.request, []

    def freeze(self: KeptConnections, method: str, url: str, *rest: Any, **more: Any) -> Any:
        if method == "POST" and not slept:
            slept.append(url)
            for _ in range(lookups):
                clinic.work(timedelta(minutes=11))
            monkeypatch.setattr(http_client, "awake", lambda: time.monotonic() + 1e9)
        return request(self, method, url, *rest, **more)

    monkeypatch.setattr(KeptConnections, "request", freeze)
    clinic.post()
    jobs, claim = clinic.claimed()
    jobs.deliver(claim)
    monkeypatch.setattr(http_client, "awake", time.monotonic)
    assert len(clinic.twilio.accepted) == (1 if lookups else 0)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1
    (row,) = clinic.messages()
    assert row["status"] == "sent"


def test_a_dry_run_is_sent_nowhere(clinic: Clinic) -> None:
    """Dry-run messages end as sent, with their words, and no provider hears of them."""
    clinic.settings = replace(clinic.settings, delivery="dry-run")
    clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    assert (row["status"], row["provider_id"][:7]) == ("sent", "dry-run")
    assert row["content"]["text"] == "Kit RM1 for Jane"
    assert clinic.twilio.requests == []


def test_a_transient_refusal_comes_back_with_growing_delays(clinic: Clinic) -> None:
    """A busy provider is asked again, each time later, until it takes the message, once."""
    clinic.twilio.once(BUSY, BUSY, BUSY)
    clinic.post()
    waits = []
    for _ in range(3):
        clinic.work()
        (row,) = clinic.messages()
        last = max(attempt["finished_at"] for attempt in rows(clinic.db, attempts))
        waits.append(row["due_at"] - last)
        assert (row["status"], row["sent_at"]) == ("created", None)
        clinic.work(waits[-1] - timedelta(seconds=2))
        assert len(clinic.twilio.requests) == len(waits)
        change(clinic.db, notifications, {}, due_at=last)
    clinic.work()
    assert timedelta() < waits[0] < waits[1] < waits[2]
    assert [row["status"] for row in clinic.messages()] == ["sent"]
    assert len(clinic.twilio.accepted) == 1
    outcomes = sorted(row["outcome"] for row in rows(clinic.db, attempts))
    assert outcomes == ["accepted", "rejected", "rejected", "rejected"]


def test_a_message_is_given_up_in_the_end(clinic: Clinic) -> None:
    """After the last delay it is a temporary-failure with its reason, and the fallback is used."""
    clinic.twilio.always(BUSY)
    clinic.post()
    clinic.work()
    change(clinic.db, notifications, {}, tries=len(backoff.SEND_DELAYS))
    clinic.work(HOUR)
    (row,) = clinic.messages(channel="sms")
    assert row["status"] == "temporary-failure"
    assert row["reason"].endswith(f"Relay tried {len(backoff.SEND_DELAYS) + 1} times.")
    clinic.work(DAY)
    assert len(clinic.twilio.requests) == 2
    assert len(clinic.sendgrid.accepted) == 1


def test_a_permanent_refusal_is_answered_by_the_fallback_once(clinic: Clinic) -> None:
    """A number that cannot be texted gets no second text; the email goes once, whatever comes."""
    clinic.twilio.always(twilio_error(400, 21614))
    event_id = clinic.post()
    clinic.work()
    assert clinic.statuses() == [("email", "sent"), ("sms", "permanent-failure")]
    (row,) = clinic.messages(channel="sms")
    assert row["reason"] == "The phone number is not a mobile."
    replay_event(clinic.db, event_id)
    clinic.work(DAY)
    assert len(clinic.sendgrid.accepted) == 1
    mail = clinic.sendgrid.accepted[0].json
    assert mail["personalizations"][0]["to"] == [TO]


def test_a_mobile_of_a_country_that_is_named_is_texted(clinic: Clinic) -> None:
    """With `sms_countries` its mobiles are told like any other."""
    clinic.configure(head=HEAD + 'sms_countries = ["GB", "IE"]\n')
    clinic.lab.change("order", ORDER, customer={**PERSON, "phone_number": "+353 85 123 4567"})
    clinic.post()
    clinic.work()
    assert [text.form["To"] for text in clinic.twilio.accepted] == ["+353851234567"]


@pytest.mark.parametrize("number", [None, "020 7946 0000", "+33612345678", "nonsense"])
def test_no_usable_number_is_answered_by_the_fallback(clinic: Clinic, number: str | None) -> None:
    """Without a number that can be texted the SMS ends as validation-failed and the email goes."""
    person = {"first_name": "Jane", "email": EMAIL, "phone_number": number}
    clinic.lab.change("order", "o-2", customer=person, customer_id=None)
    clinic.post(order_id="o-2")
    clinic.work()
    assert clinic.statuses() == [("email", "sent"), ("sms", "validation-failed")]
    (row,) = clinic.messages(channel="sms")
    assert row["reason"].endswith(".")
    assert (row["attempts"], clinic.twilio.requests) == (0, [])


def test_a_person_without_any_address_is_told_nothing(clinic: Clinic) -> None:
    """Where no channel has an address each says so, and nothing is sent."""
    clinic.lab.change("order", "o-2", customer={"first_name": "Jane"}, customer_id=None)
    clinic.post(order_id="o-2")
    clinic.work()
    assert clinic.statuses() == [("email", "validation-failed"), ("sms", "validation-failed")]


def test_who_has_opted_out_is_not_texted(clinic: Clinic) -> None:
    """STOP while a message is queued cancels it in the claim; email was not opted out of."""
    clinic.post()
    suppress(clinic.db, "sms", PHONE)
    clinic.work()
    assert clinic.statuses() == [("email", "sent"), ("sms", "cancelled")]
    assert clinic.twilio.requests == []
    assert clinic.messages(channel="sms")[0]["reason"] == "The person has opted out of texts."


def test_an_opt_out_that_twilio_tells_of_holds_for_later_messages(clinic: Clinic) -> None:
    """After "opted out" no other message is even tried on that number."""
    clinic.twilio.once(twilio_error(400, 21610))
    clinic.post()
    clinic.work()
    assert only(clinic.db, suppressions)["address"] == PHONE
    clinic.results()
    clinic.work()
    assert len(clinic.twilio.requests) == 1
    assert [row["status"] for row in clinic.messages(rule="results")] == ["cancelled"]


def test_a_template_that_fails_stops_its_own_message_only(clinic: Clinic) -> None:
    """A hole in one message's words is its technical-failure; the others go out."""
    clinic.lab.change("order", "o-2", tracking_number=None)
    clinic.post(order_id="o-2")
    clinic.post()
    clinic.results()
    clinic.work()
    failed = [row for row in clinic.messages() if row["status"] == "technical-failure"]
    assert sorted(row["channel"] for row in failed) == ["email", "sms"]
    assert all("tracking_number" in row["reason"] for row in failed)
    assert len(clinic.twilio.accepted) == 2


@pytest.mark.parametrize(
    "reply",
    [Reply(hang_up=True), Reply(503), Reply(201, b"")],
    ids=["hang-up", "5xx", "empty 201"],
)
def test_an_unknown_outcome_is_never_sent_again_blindly(clinic: Clinic, reply: Reply) -> None:
    """What the provider may have is not sent again by a replay, nor another way."""
    clinic.twilio.once(reply)
    event_id = clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    assert row["status"] == "unknown"
    replay_event(clinic.db, event_id)
    replay_notification(clinic.db, row["id"])
    clinic.work(timedelta(minutes=1))
    assert len(clinic.twilio.requests) == 1
    assert clinic.sendgrid.requests == []
    assert only(clinic.db, attempts)["outcome"] == "unknown"


def test_a_worker_that_was_killed_after_the_claim_leaves_it_unknown(clinic: Clinic) -> None:
    """A message that was begun by a worker that is gone may be out: the sweep says so."""
    clinic.post()
    _, claim = clinic.claimed()
    assert ledger_attempts.begin(clinic.db, claim, {"text": "Kit RM1 for Jane"})
    clinic.work(timedelta(seconds=30))
    assert clinic.messages()[0]["status"] == "sending"
    clinic.work(timedelta(seconds=90))
    assert (clinic.messages()[0]["status"], clinic.twilio.requests) == ("unknown", [])
    ledger_attempts.finish(clinic.db, claim, Ending("accepted", "sent", provider_id="SM1"))
    assert (clinic.messages()[0]["status"], clinic.twilio.requests) == ("sent", [])


def test_a_refused_account_keeps_the_messages(clinic: Clinic) -> None:
    """401 is no message's fault: it is kept, and goes out when the account is put right."""
    clinic.twilio.once(twilio_error(401, 20003))
    clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    assert (row["status"], row["reason"]) == ("created", "Twilio refuses our account (20003).")
    clinic.work(HOUR)
    assert clinic.statuses() == [("sms", "sent")]


def test_a_refused_account_keeps_the_messages_however_long_it_takes(clinic: Clinic) -> None:
    """401 pauses the channel; messages are kept until it resumes (fault 35)."""
    clinic.twilio.always(twilio_error(401, 20003))
    clinic.post()
    clinic.work()
    change(clinic.db, notifications, {}, tries=len(backoff.SEND_DELAYS))
    clinic.work(HOUR)
    assert clinic.statuses() == [("sms", "created")]


def test_a_failed_message_is_replayed(clinic: Clinic) -> None:
    """A person may have a failed message sent again; what was sent is never sent again."""
    clinic.configure(
        '[rules.results]\nevent = "lab_results.complete"\nto = "patient"\n'
        'channels = ["sms"]\ntemplate = "results"\n'
    )
    clinic.twilio.once(twilio_error(400, 21408))
    clinic.results()
    clinic.work()
    (row,) = clinic.messages()
    assert row["status"] == "permanent-failure"
    assert replay_notification(clinic.db, row["id"])
    clinic.work()
    assert clinic.statuses() == [("sms", "sent")]
    assert not replay_notification(clinic.db, row["id"])
    replay_event(clinic.db, row["event_id"])
    clinic.work()
    assert len(clinic.twilio.accepted) == 1


def test_the_days_limit_of_texts_holds(clinic: Clinic) -> None:
    """Past daily_sms_limit texts wait for the next day, emails go on, and refusals do not count."""
    head = clinic.settings.config.read_text().partition("[rules")[0]
    clinic.configure(head=f"{head}daily_sms_limit = 2\n")
    clinic.twilio.once(twilio_error(400, 21614))
    for number in range(4):
        person = {"email": EMAIL, "phone_number": f"+4477009001{number:02}"}
        clinic.lab.change("order", f"o-{number}", tracking_number="RM1", customer=person)
        clinic.post(order_id=f"o-{number}")
    clinic.work()
    assert len(clinic.twilio.accepted) == 2
    assert sorted(clinic.statuses()) == [
        ("email", "sent"),
        ("sms", "created"),
        ("sms", "permanent-failure"),
        ("sms", "sent"),
        ("sms", "sent"),
    ]
    clinic.work(DAY)
    assert len(clinic.twilio.accepted) == 3
