"""A channel that is held back: its messages wait, staff are told, and it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay.jobs.circuit_breaker import SILENT
from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import Database
from relay.ledger.holds import pauses as ledger_pauses
from relay.ledger.holds.pauses import PROBES
from relay.ledger.schema import pauses
from relay.ledger.worklist import cases
from relay.rules import statuses
from relay.rules.model import Ending, Pause
from relay.rules.statuses import AWAY, BUSY
from tests.jobs.conftest import DESK, HEAD, RULES, STAFF, Clinic, suppress
from tests.rows import (
    at_once,
    claimed,
    close_case,
    notice,
    only,
    open_cases,
    planned,
    time_passes,
)
from tests.standins import ProviderStandIn, Reply, Request, twilio_error

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
PROBE = (PROBES[0] + 1) * SECOND
PHONE = "+447700900100"
ACCOUNT, NO_MOBILE = twilio_error(401, 20003), twilio_error(400, 21614)
NO_KEY = Reply(401, {"errors": [{"message": "The provided authorization grant is invalid."}]})
STAFF_BOTH = STAFF + f'sms = ["{PHONE}"]\n'
BOTH = RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["sms", "email"]')
MAILED = RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["email"]')
WHY = "Twilio refuses our account (20003)."
REFUSED = Pause(statuses.REFUSED, WHY)
REFUSAL = Ending(
    "rejected", "created", WHY, retry_in=0.0, is_a_try=False, pause=REFUSED, answered=True
)
ACCEPTED = Ending("accepted", "sent", provider_id="SM1", answered=True)


def paused(db: Database) -> list[Mapping[str, Any]]:
    """The channels that are paused."""
    with db.read() as connection:
        return ledger_pauses.paused(connection)


def pause(db: Database, why: Pause = REFUSED) -> None:
    """Texts are paused."""
    with db.write() as connection:
        ledger_pauses.pause(connection, "sms", "", why)


def sends(provider: ProviderStandIn) -> int:
    """How many sends a provider was asked for."""
    return sum(request.method == "POST" for request in provider.requests)


def put_right(provider: ProviderStandIn) -> None:
    """The provider takes everything again."""
    provider.answers.clear()


def texted(clinic: Clinic) -> list[str]:
    """The statuses of the patients' texts."""
    return [row["status"] for row in clinic.messages(rule="kit", channel="sms")]


def in_turn(clinic: Clinic, channel: str = "sms") -> int:
    """One worker sends what is due, one message after the other; how many that were."""
    jobs, sent = clinic.jobs, 0
    for event in jobs.lease_events(50):
        jobs.process(event)
    while claims := jobs.claim(channel, 1):
        for claim in claims:
            jobs.deliver(claim)
            sent += 1
    return sent


def silent(*numbers: int) -> Callable[[Request], Reply | None]:
    """What hangs up on these sends, counted from 1, or on all."""
    count = 0

    def answer(request: Request) -> Reply | None:
        nonlocal count
        count += request.method == "POST"
        wanted = request.method == "POST" and (not numbers or count in numbers)
        return Reply(hang_up=True) if wanted else None

    return answer


@pytest.mark.parametrize("reply", [ACCOUNT, twilio_error(403, 20403), twilio_error(400, 21609)])
def test_a_refused_account_pauses_its_channel_only(clinic: Clinic, reply: Reply) -> None:
    """401, 403, a bad PUBLIC_URL: texts wait, emails go, staff are told once (35)."""
    clinic.configure(BOTH, staff=STAFF)
    clinic.twilio.always(reply)
    clinic.orders(3)
    clinic.work()
    assert texted(clinic) == ["created"] * 3
    emails = [row["status"] for row in clinic.messages(rule="kit", channel="email")]
    assert emails == ["sent"] * 3
    assert (clinic.worklist(), clinic.told()) == (["paused"], [("paused", DESK, "sent")])
    asked = sends(clinic.twilio)  # as many as were claimed before the first was refused
    clinic.orders(5)  # two more
    clinic.work()
    assert (sends(clinic.twilio), len(clinic.sendgrid.accepted)) == (asked, 6)


def test_its_case_counts_what_waits(clinic: Clinic) -> None:
    """The one case about a provider's account says how many messages wait for it: those that are
    due, not what is due in an hour.
    """
    later = BOTH.partition("[rules.results]")[0].replace("rules.kit]", "rules.later]")
    clinic.configure(BOTH + later + 'after = "1h"\n')
    clinic.twilio.always(ACCOUNT)
    clinic.orders(4)
    clinic.work()
    assert [(case["kind"], case["count"]) for case in open_cases(clinic.db)] == [("paused", 4)]


def test_the_alert_says_which_channel(clinic: Clinic) -> None:
    """Staff read what does not go out, and why."""
    clinic.configure(staff=STAFF)
    clinic.twilio.always(ACCOUNT)
    clinic.post()
    clinic.work()
    (mail,) = clinic.sendgrid.accepted
    assert "a provider refuses our account" in mail.json["subject"]
    text = mail.json["content"][0]["value"]
    assert "Nothing goes out by sms until it is put right." in text
    assert "Twilio refuses our account (20003)." in text


def test_messages_are_kept_however_long_it_takes(clinic: Clinic) -> None:
    """For weeks nothing is lost, one at a time is tried, and staff are told once."""
    clinic.configure(staff=STAFF)
    clinic.twilio.always(ACCOUNT)
    clinic.orders(3)
    clinic.work()
    asked = sends(clinic.twilio)
    for number in range(1, 9):
        clinic.work(3 * DAY)
        assert sends(clinic.twilio) == asked + number
    assert texted(clinic) == ["created"] * 3
    assert (clinic.worklist(), clinic.told()) == (["paused"], [("paused", DESK, "sent")])


def test_it_goes_on_by_itself(clinic: Clinic) -> None:
    """Put right, the next probe goes through and the rest with it; the case closes itself."""
    clinic.configure(staff=STAFF)
    clinic.twilio.always(ACCOUNT)
    clinic.orders(4)
    clinic.work()
    clinic.work(PROBE)
    put_right(clinic.twilio)
    clinic.work(6 * MINUTE)
    assert texted(clinic) == ["sent"] * 4
    assert len(clinic.twilio.accepted) == 4
    assert (paused(clinic.db), clinic.worklist(), len(clinic.told())) == ([], [], 1)
    closed = only(clinic.db, cases.cases)
    assert (closed["closed_by"], closed["note"]) == (
        "relay",
        "A trial message went through, so sending has resumed.",
    )


def test_it_is_told_again_when_it_happens_again(clinic: Clinic) -> None:
    """A channel that worked meanwhile and is refused again is news."""
    clinic.configure(staff=STAFF)
    clinic.twilio.once(ACCOUNT)
    clinic.post()
    clinic.work()
    clinic.work(PROBE)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)
    clinic.twilio.once(ACCOUNT)
    clinic.results()
    clinic.work()
    assert (clinic.worklist(), len(clinic.told())) == (["paused"], 2)


def test_a_paused_email_is_told_by_text(clinic: Clinic) -> None:
    """The alert that email is refused does not wait for the email."""
    clinic.configure(MAILED, staff=STAFF_BOTH)
    clinic.sendgrid.always(NO_KEY)
    clinic.post()
    clinic.work()
    clinic.work(MINUTE)
    assert clinic.told() == [("paused", PHONE, "sent")]
    (text,) = clinic.twilio.accepted
    assert text.form["Body"] == (
        "Relay: Messages are waiting: a provider refuses our account. See the admin desk."
    )


def test_a_paused_email_without_phones_is_on_the_worklist(clinic: Clinic) -> None:
    """The only way to tell staff waits itself: the desk has it at once, the mail comes late."""
    clinic.configure(MAILED, staff=STAFF)
    clinic.sendgrid.always(NO_KEY)
    clinic.post()
    clinic.work()
    assert (clinic.worklist(), clinic.told()) == (["paused"], [("paused", DESK, "created")])
    put_right(clinic.sendgrid)
    clinic.work(MINUTE)
    clinic.work(MINUTE)
    assert (clinic.worklist(), clinic.told()) == ([], [("paused", DESK, "sent")])


def test_probes_come_ever_more_seldom(db: Database) -> None:
    """After half a minute, then one, two, five minutes, and every five from then on."""
    claim = claimed(db)
    ledger_attempts.finish(db, claim, REFUSAL)
    for wait in (*PROBES, PROBES[-1]):
        time_passes(db, (wait - 2) * SECOND)
        assert ledger_attempts.claim(db, "sms", 10) == []
        time_passes(db, 3 * SECOND)
        (probe,) = ledger_attempts.claim(db, "sms", 10)
        assert probe.is_probe
        ledger_attempts.finish(db, probe, REFUSAL)


def test_one_probe_at_a_time_among_several_workers(ledger_url: str, db: Database) -> None:
    """Of workers that ask at the same moment one gets one message, and the others none."""
    pause(db)
    planned(db, *(notice(subject=f"o-{number}") for number in range(20)))
    workers = [Database(ledger_url, patience=20) for _ in range(4)]
    for _ in range(3):
        time_passes(db, 6 * MINUTE)
        claims = at_once(lambda n: ledger_attempts.claim(workers[n], "sms", 10), 4)
        assert sorted(map(len, claims)) == [0, 0, 0, 1]
        assert ledger_attempts.claim(db, "sms", 10) == []
    for worker in workers:
        worker.close()


def test_a_probe_that_went_through_lets_the_rest_through(db: Database) -> None:
    """What was held back is claimed as ever, in batches."""
    pause(db)
    planned(db, *(notice(subject=f"o-{number}") for number in range(5)))
    time_passes(db, PROBE)
    (probe,) = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.finish(db, probe, ACCEPTED)
    rest = ledger_attempts.claim(db, "sms", 10)
    assert [claim.is_probe for claim in rest] == [False] * 4


@pytest.mark.parametrize(
    "ending",
    [
        Ending("unknown", "unknown", "Twilio did not answer."),
        Ending("rejected", "created", "Relay cannot reach Twilio.", retry_in=5.0),
    ],
    ids=["unknown", "not reached"],
)
def test_a_probe_that_the_provider_has_not_answered_opens_nothing(
    db: Database, ending: Ending
) -> None:
    """Only the provider's own word on a message says that it works again."""
    pause(db)
    planned(db, *(notice(subject=f"o-{number}") for number in range(3)))
    time_passes(db, PROBE)
    (probe,) = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.begin(db, probe, {"text": "Your kit"})
    ledger_attempts.finish(db, probe, ending)
    assert ledger_attempts.claim(db, "sms", 10) == []
    time_passes(db, 6 * MINUTE)
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1


@pytest.mark.parametrize("status", ["cancelled", "technical-failure"])
def test_a_probe_that_was_not_handed_over_costs_no_turn(db: Database, status: str) -> None:
    """The next message is the probe at once: hundreds for somebody who has opted out do not keep
    the channel closed for hours. The one after it waits for its turn as ever."""
    pause(db)
    planned(db, *(notice(subject=f"o-{number}") for number in range(300)))
    time_passes(db, PROBE)
    for _ in range(3):
        (probe,) = ledger_attempts.claim(db, "sms", 10)
        assert probe.is_probe
        ledger_attempts.finish(db, probe, Ending("rejected", status, "It is not handed over."))
    (probe,) = ledger_attempts.claim(db, "sms", 10)
    assert ledger_attempts.begin(db, probe, {"text": "Your kit"})
    ledger_attempts.finish(db, probe, REFUSAL)
    time_passes(db, PROBE)
    assert ledger_attempts.claim(db, "sms", 10) == []
    time_passes(db, PROBES[1] * SECOND)
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1


def test_a_probe_whose_worker_has_gone_is_followed_by_another(db: Database) -> None:
    """A worker that dies with the probe does not leave the channel closed."""
    pause(db)
    planned(db, *(notice(subject=f"o-{number}") for number in range(3)))
    time_passes(db, PROBE)
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1
    time_passes(db, 2 * MINUTE)
    ledger_attempts.lapse(db)
    (probe,) = ledger_attempts.claim(db, "sms", 10)
    assert probe.is_probe


def test_a_message_that_left_before_the_pause_does_not_end_it(db: Database) -> None:
    """A late answer to a send from before tells nothing of the account as it is now."""
    claim = claimed(db)
    pause(db)
    assert ledger_attempts.finish(db, claim, ACCEPTED)
    assert len(paused(db)) == 1


def test_a_refusal_of_the_message_itself_opens_the_channel(clinic: Clinic) -> None:
    """A probe that is no mobile has been judged all the same: the account works."""
    clinic.twilio.once(ACCOUNT, NO_MOBILE)
    clinic.orders(1)
    clinic.work()
    clinic.results()
    clinic.work(PROBE)
    assert paused(clinic.db) == []
    assert len(clinic.twilio.accepted) == 1


def test_probes_that_are_cancelled_do_not_hold_up_the_others_for_ever(clinic: Clinic) -> None:
    """Messages that are not wanted any more are no probes: the next one is, at once."""
    clinic.twilio.always(ACCOUNT)
    clinic.orders(3)
    clinic.work()
    put_right(clinic.twilio)
    for number in range(2):
        suppress(clinic.db, "sms", f"+4477009001{number:02}")
    clinic.work(6 * MINUTE)
    assert sorted(texted(clinic)) == ["cancelled", "cancelled", "sent"]


def sendgrid_busy() -> Reply:
    """SendGrid's limit ends in ten minutes."""
    return Reply(429, {"errors": []}, {"X-RateLimit-Reset": str(int(time.time()) + 600)})


@pytest.mark.parametrize("channel", ["sms", "email"])
def test_a_provider_that_asks_us_to_wait_is_obeyed(clinic: Clinic, channel: str) -> None:
    """429 with the time to wait: until then nothing at all is sent that way, and then all is."""
    clinic.configure(RULES if channel == "sms" else MAILED, staff=STAFF)
    provider = {"sms": clinic.twilio, "email": clinic.sendgrid}[channel]
    busy = {"sms": twilio_error(429, 20429, **{"Retry-After": "600"}), "email": sendgrid_busy()}
    provider.once(busy[channel])
    clinic.post()
    clinic.work()
    clinic.orders(2)
    for after in (timedelta(), MINUTE, 8 * MINUTE):
        clinic.work(after)
        assert sends(provider) == 1
    clinic.work(4 * MINUTE)
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["sent"] * 3
    assert (sends(provider), clinic.worklist(), clinic.told()) == (4, [], [])


def test_a_busy_provider_that_names_no_time_delays_its_message_only(clinic: Clinic) -> None:
    """429 alone: that message comes back with a growing delay, and others go."""
    clinic.twilio.once(twilio_error(429, 20429))
    clinic.post()
    clinic.work()
    clinic.orders(2)
    clinic.work()
    assert len(clinic.twilio.accepted) == 2
    assert paused(clinic.db) == []


def test_five_in_a_row_without_an_answer_pause_the_channel(clinic: Clinic) -> None:
    """A provider that is away gets no sixth message: the others wait, and no person is told."""
    clinic.configure(staff=STAFF)
    clinic.twilio.answers.append(silent())
    clinic.orders(9)
    assert in_turn(clinic) == SILENT
    assert sorted(texted(clinic)) == ["created"] * 4 + ["unknown"] * SILENT
    assert (only(clinic.db, pauses)["cause"], clinic.worklist()) == ("away", [])
    time_passes(clinic.db, PROBE)
    assert in_turn(clinic) == 1
    put_right(clinic.twilio)
    clinic.work(6 * MINUTE)
    clinic.work(DAY)
    assert clinic.told() == []
    assert texted(clinic).count("created") == 0


def test_an_answer_in_between_keeps_the_channel_open(clinic: Clinic) -> None:
    """Eight that are lost, but for one in the middle: a provider that answers is there."""
    clinic.twilio.answers.append(silent(1, 2, 3, 4, 6, 7, 8, 9))
    clinic.orders(9)
    assert in_turn(clinic) == 9
    assert sorted(texted(clinic)) == ["sent"] + ["unknown"] * 8
    assert paused(clinic.db) == []


def test_a_provider_that_cannot_be_reached_is_away_too(clinic: Clinic) -> None:
    """Nothing listens there: five are tried, and all are kept."""
    clinic.settings = replace(clinic.settings, twilio_api_url="http://127.0.0.1:9")
    clinic.orders(8)
    assert in_turn(clinic) == SILENT
    assert texted(clinic) == ["created"] * 8
    assert only(clinic.db, pauses)["cause"] == "away"
    clinic.settings = replace(clinic.settings, twilio_api_url=clinic.twilio.url)
    clinic.work(MINUTE)
    clinic.work(MINUTE)
    assert texted(clinic) == ["sent"] * 8


def test_a_refusal_outweighs_what_passes_by_itself(db: Database) -> None:
    """A refused account that is also busy, or away, stays a person's to put right."""
    for why in (REFUSED, *(Pause(cause, "Busy.", 3600.0) for cause in (BUSY, AWAY))):
        pause(db, why)
    row = only(db, pauses)
    assert (row["cause"], row["reason"]) == (REFUSED.cause, WHY)
    planned(db, notice(subject="another"))
    time_passes(db, 59 * MINUTE)
    assert ledger_attempts.claim(db, "sms", 10) == []
    time_passes(db, 2 * MINUTE)
    assert len(ledger_attempts.claim(db, "sms", 10)) == 1


def test_the_days_limit_is_told_once_a_day(clinic: Clinic) -> None:
    """Past daily_sms_limit texts wait; staff hear of it once a day, also if they close the case."""
    clinic.configure(head=f"{HEAD}daily_sms_limit = 2\n", staff=STAFF)
    clinic.orders(5)
    for _ in range(2):
        clinic.work()
    assert len(clinic.twilio.accepted) == 2
    assert (clinic.worklist(), clinic.told()) == (["limit"], [("limit", DESK, "sent")])
    (mail,) = clinic.sendgrid.accepted
    assert mail.json["subject"] == "Today's limit on texts has been reached"
    assert "daily_sms_limit is 2." in mail.json["content"][0]["value"]
    assert close_case(clinic.db, open_cases(clinic.db)[0]["id"], "anna")
    clinic.work()
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)
    clinic.work(DAY)
    assert (len(clinic.twilio.accepted), clinic.worklist(), len(clinic.told())) == (4, ["limit"], 2)
    clinic.work(DAY)
    assert (texted(clinic), len(clinic.told())) == (["sent"] * 5, 2)


def test_a_limit_that_is_not_passed_is_not_told(clinic: Clinic) -> None:
    """Exactly as many texts as the limit allows: nobody waits, nobody is told."""
    clinic.configure(head=f"{HEAD}daily_sms_limit = 3\n", staff=STAFF)
    clinic.orders(3)
    clinic.work()
    assert (len(clinic.twilio.accepted), clinic.worklist(), clinic.told()) == (3, [], [])
