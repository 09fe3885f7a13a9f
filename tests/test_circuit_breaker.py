"""Which outcomes pause a channel, and which are only one message's."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from relay.channels.base import Outcome
from relay.jobs.circuit_breaker import SILENT as MOST_SILENT
from relay.jobs.circuit_breaker import CircuitBreaker
from relay.rules.model import Policy, Staff
from relay.rules.schedule import ALWAYS
from relay.rules.statuses import AWAY, BUSY, REFUSED
from tests.rows import at_once

PHONE, DESK = "+447700900100", "desk@example.org"
ACCEPTED = Outcome("accepted", provider_id="SM1")
NO_MOBILE = Outcome("rejected", "The phone number is not a mobile.", "21614", permanent=True)
ACCOUNT = Outcome("rejected", "Twilio refuses our account (20003).", "20003", operator=True)
TOO_MANY = Outcome("rejected", "Twilio is busy (20429).", "20429")
SILENT = Outcome("unknown", "Twilio did not answer (timeout).")
BROKEN = Outcome("unknown", "Twilio answered with 503.", "503")
NOT_THERE = Outcome("rejected", "Relay cannot reach Twilio (refused).")


def brakes(email: tuple[str, ...] = (DESK,), sms: tuple[str, ...] = ()) -> CircuitBreaker:
    """The brakes of a clinic whose staff have these addresses."""
    staff = {"desk": Staff({"email": email, "sms": sms})}
    return CircuitBreaker(Policy(ZoneInfo("Europe/London"), ALWAYS, staff, alerts="desk"))


@pytest.mark.parametrize("outcome", [ACCEPTED, NO_MOBILE, TOO_MANY, SILENT, BROKEN, NOT_THERE])
def test_one_messages_trouble_pauses_nothing(outcome: Outcome) -> None:
    """What is no more than one message's outcome holds up no other."""
    assert brakes().after("sms", outcome) is None


def test_a_refused_account_pauses_at_once_and_tells_staff() -> None:
    """The first refusal of our account is enough, and is a person's to put right."""
    pause = brakes().after("sms", ACCOUNT)
    assert pause
    assert (pause.cause, pause.reason, pause.seconds) == (REFUSED, ACCOUNT.reason, None)
    assert pause.case
    assert (pause.case.kind, pause.case.key, pause.case.reason) == ("paused", "sms", ACCOUNT.reason)
    assert [(alert.channel, alert.address) for alert in pause.case.alerts] == [("email", DESK)]


@pytest.mark.parametrize(
    ("refused", "email", "sms", "expected"),
    [
        ("email", (DESK,), (PHONE,), [("sms", PHONE)]),
        ("sms", (DESK,), (PHONE,), [("email", DESK)]),
        ("email", (DESK,), (), [("email", DESK)]),
        ("sms", (), (PHONE,), [("sms", PHONE)]),
        ("email", (), (), []),
    ],
)
def test_staff_are_told_by_the_channel_that_works(
    refused: str, email: tuple[str, ...], sms: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    """An alert about a channel does not wait in it, where staff have another address."""
    pause = brakes(email, sms).after(refused, ACCOUNT)
    assert pause
    assert pause.case
    assert [(alert.channel, alert.address) for alert in pause.case.alerts] == expected


def test_a_provider_that_asks_us_to_wait_is_obeyed() -> None:
    """For as long as it says, and no person has to do anything."""
    asked = Outcome("rejected", "Twilio is busy (20429).", "20429", retry_after=90.0)
    pause = brakes().after("sms", asked)
    assert pause
    assert (pause.cause, pause.seconds, pause.case) == (BUSY, 90.0, None)


@pytest.mark.parametrize("silence", [SILENT, BROKEN, NOT_THERE])
def test_five_without_an_answer_pause_the_channel(silence: Outcome) -> None:
    """A provider that is away is not sent one message after the other; it is nobody's fault."""
    judge = brakes()
    told = [judge.after("sms", silence) for _ in range(MOST_SILENT + 1)]
    assert told[: MOST_SILENT - 1] == [None] * (MOST_SILENT - 1)
    for pause in told[MOST_SILENT - 1 :]:
        assert pause
        assert (pause.cause, pause.reason, pause.case) == (AWAY, silence.reason, None)


@pytest.mark.parametrize("answer", [ACCEPTED, NO_MOBILE, TOO_MANY])
def test_an_answer_in_between_begins_anew(answer: Outcome) -> None:
    """A provider that answers any of them is there."""
    judge = brakes()
    row = [SILENT] * (MOST_SILENT - 1)
    assert [judge.after("sms", outcome) for outcome in (*row, answer, *row)] == [None] * 9
    assert judge.after("sms", SILENT)


def test_a_channel_is_judged_by_itself() -> None:
    """Twilio's silence says nothing of SendGrid."""
    judge = brakes()
    for _ in range(MOST_SILENT - 1):
        assert judge.after("sms", SILENT) is None
        assert judge.after("email", SILENT) is None
    assert judge.after("email", ACCEPTED) is None
    assert judge.after("sms", SILENT)
    assert judge.after("email", SILENT) is None


def test_threads_count_together() -> None:
    """Twelve sends that end at the same moment are twelve in a row, none counted twice."""
    judge = brakes()
    told = at_once(lambda _: judge.after("sms", SILENT), 12)
    assert sum(pause is not None for pause in told) == 12 - (MOST_SILENT - 1)
