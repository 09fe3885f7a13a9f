"""A rule in plain English: every key of it is told, and nothing else."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from relay.config import plain_english
from relay.config.schema import RuleSchema
from relay.lab.events import EVENTS
from relay.rules.model import Policy, Rule
from relay.rules.schedule import Window

POLICY = Policy(ZoneInfo("Europe/London"), Window.parse("08:00-20:00"), {})
PLAIN = """
event = "order.shipped"
to = "customer"
channels = ["sms", "email"]
template = "kit_shipped"
"""
# What a key adds or changes, and the sentence that tells it.
TOLD = {
    "event": ('event = "lab_results.complete"', "When results are ready, text and email"),
    "to": ('to = "lab-desk"', "text and email the staff of lab-desk at once"),
    "channels": ('channels = ["email"]', "shipped, email the customer at once"),
    "fallback": ('channels = ["sms"]\nfallback = ["email"]', "cannot reach them, email them"),
    "fallback_after": (
        'channels = ["sms"]\nfallback = ["email"]\nfallback_after = "4h"',
        "cannot reach them, or is not reported to have arrived within 4 hours, email them instead.",
    ),
    "when": ("when = \"order.carrier == 'x'\"", "Only if the order's carrier is “x”."),
    "after": ('after = "36h"', "text and email the customer 36 hours later, between"),
    "hold": ('hold = "48h"', "once staff have released it, or 2 days later if nobody stops it"),
    "unless": (
        'unless = ["order.delivered", "lab_results.complete"]',
        "Not if, by then, an order is delivered or results are ready.",
    ),
    "send_window": ('send_window = "always"', "the customer at once, at any hour."),
    "even_if_late": (
        "even_if_late = true",
        "Send it even if a later step of the kit has already come.",
    ),
    "on_unknown": ('on_unknown = "hold"', "a person decides whether to send it again."),
    "discreet": ("discreet = false", "may name a test, a date of birth or a full name."),
    "digest": (
        'to = "lab-desk"\ndigest = "daily 08:00"',
        "note it for the staff of lab-desk; every day at 08:00, text and email them everything",
    ),
}
TOLD |= {
    "language": (
        "language = \"'cy' if order.carrier == 'x'\"",
        "In the language that `'cy' if order.carrier == 'x'` gives, where its words are there.",
    ),
    "sms_from": ('sms_from = "RESULTS"', "Its texts come from RESULTS."),
    "email_from": ('email_from = "a@example.org"', "Its emails come from a@example.org."),
    "email_reply_to": (
        'email_reply_to = "desk@example.org"',
        "Answers to its emails go to d•••@example.org.",
    ),
}
ELSEWHERE = {"template", "enabled", "title"}  # beside the sentences: a link, a word, a heading


def rule(extra: str = "") -> Rule:
    """A plain rule with other keys."""
    return Rule(name="a", **RuleSchema().load({**tomllib.loads(PLAIN), **tomllib.loads(extra)}))


def said(extra: str = "", policy: Policy = POLICY) -> str:
    return " ".join(plain_english.rule_sentences(rule(extra), policy))


def test_a_plain_rule_is_one_sentence() -> None:
    """Who is told what, when it has happened, how and at what hours."""
    assert said() == (
        "When an order is shipped, text and email the customer at once, between 08:00 and 20:00."
    )


@pytest.mark.parametrize("key", TOLD)
def test_each_key_is_told(key: str) -> None:
    """A key that is set shows in the words, and only then."""
    extra, words = TOLD[key]
    assert words in said(extra)
    assert words not in said()


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("registration.status != 'cancelled'", "the registration's status is not “cancelled”"),
        ("not order.carrier == 'x'", "the order's carrier is not “x”"),
        ("not (order.carrier != 'x')", "the order's carrier is “x”"),
        (
            "order.shipping_status in ['a', 'b', 'c']",
            "the order's shipping status is “a”, “b” or “c”",
        ),
        ("order.carrier not in ('a',)", "the order's carrier is not “a”"),
        ("customer.first_name is not none", "the customer's first name is not empty"),
        ("order.number_of_items >= 1000", "the order's number of items is at least 1,000"),
        ("not order.number_of_items >= 2", "the order's number of items is less than 2"),
        ("registration.results_ready == true", "the registration's results ready is true"),
        (
            "order.carrier == 'a' and order.status != 'b' and order.id is none",
            "the order's carrier is “a” and the order's status is not “b”"
            " and the order's id is empty",
        ),
        (
            "order.carrier == 'a' or order.status == 'b'",
            "the order's carrier is “a” or the order's status is “b”",
        ),
    ],
)
def test_a_plain_condition_is_told_in_words(when: str, words: str) -> None:
    """A comparison of a field, or several joined one way, is a sentence."""
    assert plain_english.condition_in_words(when) == words


@pytest.mark.parametrize(
    "when",
    [
        "registration.results_ready",
        "order.a == 'a' and order.b == 'b' or order.c == 'c'",
        "order.carrier|lower == 'a'",
        "order.customer.first_name == 'a'",
        "'a' in order.tags",
        "order.created_at > '2026'",
        "order.carrier == ''",
        "1 < order.a < 3",
        "order.a == order.b",
        "not (order.a == 'a' and order.b == 'b')",
        "order.carrier == none",
        "true",
        "order.carrier in []",
        "order.carrier in ['a', order.b]",
        "order.a == 'a' if order.b else 1",
    ],
)
def test_what_is_not_plain_is_shown_as_code(when: str) -> None:
    """Words that could be read in two ways are none: the expression stands as it is written."""
    assert plain_english.condition_in_words(when) == ""


def test_code_is_marked_as_such() -> None:
    """A condition that is not told in words stands between backticks."""
    assert "Only if `order.carrier|lower == 'a'`." in said("when = \"order.carrier|lower == 'a'\"")


def test_no_key_is_forgotten() -> None:
    """A new rule key has its words here."""
    assert {*TOLD, *ELSEWHERE} == set(RuleSchema().fields)


def test_every_event_has_its_clause() -> None:
    """Each of the lab's events is told in words, not by its name."""
    assert [kind.name for kind in EVENTS.values() if not kind.happens] == []


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("always", "at any hour"),
        ("08:00-24:00", "between 08:00 and midnight"),
        ("20:30-06:00", "between 20:30 and 06:00 the next morning"),
        ("Mon-Fri 09:00-17:00", "on Monday to Friday, between 09:00 and 17:00"),
        ("Sat-Mon 09:00-17:00", "on Saturday to Monday, between 09:00 and 17:00"),
        ("Tue,Thu,Sun 09:00-17:00", "on Tuesday, Thursday and Sunday, between 09:00 and 17:00"),
        ("Wed 09:00-17:00", "on Wednesday, between 09:00 and 17:00"),
        (
            "Mon-Fri 09:00-17:00 + Sat 09:00-12:00",
            "on Monday to Friday, between 09:00 and 17:00, or on Saturday, between 09:00 and 12:00",
        ),
    ],
)
def test_windows_in_words(written: str, words: str) -> None:
    """Hours, days and nights are told as people say them; bank holidays where there are any."""
    window = Window.parse(*written.split(" + "))
    free = replace(POLICY, bank_holidays=frozenset({date(2026, 12, 25)}))
    assert plain_english.window(window, POLICY) == words
    but = "" if written == "always" else ", but not on bank holidays"
    assert plain_english.window(window, free) == words + but


@pytest.mark.parametrize(
    ("digest", "words"),
    [
        ("every 4h", "every 4 hours from midnight on"),
        ("every 60m", "every hour from midnight on"),
        ("every 90m", "every 90 minutes from midnight on"),
        ("every 24h", "every day at 00:00"),
        ("weekly Mon 08:00", "every Monday at 08:00"),
        ("weekly Mon,Thu 08:00", "every Monday and Thursday at 08:00"),
    ],
)
def test_digest_times_in_words(digest: str, words: str) -> None:
    """How often what has gathered is told; hours only where the rule itself has some."""
    told = said(f'to = "lab-desk"\ndigest = "{digest}"\nafter = "1d"')
    assert words in told
    assert "note it 1 day later" in told
    assert "between" not in told
    own = said(f'to = "lab-desk"\ndigest = "{digest}"\nsend_window = "08:00-20:00"')
    assert own.endswith("everything gathered so far, in one message, between 08:00 and 20:00.")


def test_what_is_expected_in_words() -> None:
    """A step that has to come within a time, and who hears when it has not."""
    told = plain_english.expected(
        "order.shipped", "order.delivered", timedelta(days=21), "lab-desk"
    )
    assert told == (
        "When an order is shipped, Relay allows 21 days until an order is delivered. "
        "After that it alerts the staff of lab-desk."
    )
