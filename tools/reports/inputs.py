"""What others ran into, a line each: the kind of report, what is put in, and what Relay has to do.

The tables follow docs/reports.md; the next report is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tools.reports import acts
from tools.reports.acts import RESULTS, SAMPLE, Act

SHIPPED = "{{ clinic.short_name }}: your kit is on its way."
TESTED = "Sent: [TEST] St Mary's Clinic: your kit is on its way. (GSM-7, 1)"
NO_NUMBER = "The phone number is not valid: it has letters in it."
NOT_READ = "sent to … The lab sent no {} that Relay can read"
ANOTHER = "received: The lab's API answered with another record than it was asked for. Then sent"
HEARD = "200, cancelled: The person has opted out"
ERASED = "Relay searched every table again: nothing is left."
IN_PASSWORD = "has a character in its password … {}"


@dataclass(frozen=True)
class Input:
    """One thing that somebody wrote, how it gets to Relay, and what Relay has to say then.

    `right` has to stand in what Relay did; … in it stands for anything.
    """

    row: int  # the kind of report
    put: str
    act: Act
    right: str


def each(
    row: int, put: str, make: Callable[[Any], Act], *written: tuple[Any, str]
) -> Iterator[Input]:
    """Inputs of a kind: {} in `put` stands for what is written."""
    for value, right in written:
        yield Input(row, put.format(value), make(value), right)


def inputs() -> list[Input]:
    """All of them, by row; what pauses a channel comes last."""
    parts = (numbers_and_addresses, names_and_texts, what_providers_tell, what_the_lab_posts)
    others = (the_labs_api, servers, config, erasure)
    every = chain.from_iterable(part() for part in (*parts, *others))
    return sorted(every, key=lambda one: (one.row == 14, one.row))


def numbers_and_addresses() -> Iterator[Input]:
    """Who is written to."""
    mum = "07400 123 MUM"
    yield from each(
        1,
        "the phone number {}",
        lambda number: acts.ordered("sms", phone_number=number),
        ("07400 TBC TBC", f"validation-failed: {NO_NUMBER}"),
        ("07400 NOT SET", f"validation-failed: {NO_NUMBER}"),
        (mum, f"validation-failed: {NO_NUMBER}"),
        ("tel:+447700900123", "sent to +447700900123"),
        ("Mobile: 07700 900124", "sent to +447700900124"),
        ("07700 900125 x", "sent to +447700900125"),
    )
    yield from each(
        1,
        f"flask relay {{}} '{mum}'",
        lambda command: acts.commanded(command, mum),
        ("suppress", f"error: {NO_NUMBER}"),
        ("forget", "error: Relay knows nobody by that."),
    )
    for table, written in (("staff.lab-desk.sms", acts.STAFF), ("delivery.allow", acts.ALLOW)):
        key = table.rpartition(".")[2]
        checked = acts.checked(written, f'{key} = ["{mum}"]')
        yield Input(1, f'{key} = ["{mum}"]', checked, f"{table}: … {NO_NUMBER}")
    stopped = "cancelled: Staff have stopped emails to this address."
    yield from each(
        3,
        "suppress ada.stone@example.org, and the lab writes {}",
        lambda written: acts.stopped_then("ada.stone@example.org", written),
        ("Ada.Stone@example.org", stopped),
        ("ADA.STONE@EXAMPLE.ORG", stopped),
    )
    yield Input(
        3,
        "unsubscribed, and the lab writes the address in capitals",
        acts.after({"word": "unsubscribe"}, capitals=True),
        "The next: cancelled: The person has unsubscribed from emails.",
    )
    yield Input(
        3,
        "allow = ['ada@example.org'], send-test --to Ada@Example.org",
        acts.allowed("ada@example.org", "Ada@Example.org"),
        "Sent. The provider's id",
    )
    yield from each(
        6,
        "order_id {!r}",
        acts.numbered,
        (10045, "sent to … order '10045'"),
        ("o-77\n", "sent to … order 'o-77'"),
        ("\u00a0o-78\u2003", "sent to … order 'o-78'"),
    )
    yield from each(
        6,
        "phone_number: {}",
        lambda number: acts.ordered("sms", phone_number=number),
        (7700900126, "sent to +447700900126"),
        (447700900127, "sent to +447700900127"),
    )
    yield from each(
        11,
        "the address {}",
        lambda address: acts.ordered("email", email=address),
        ("Grace.Hill@Example.ORG", "sent to Grace.Hill@example.org"),
        ("nils@bücher.example", "sent to nils@xn--bcher-kva.example"),
        ("jane\u200b@example.org", "sent to jane@example.org"),
        ("jane.hill@example.org.", "sent to jane.hill@example.org"),
        ("mailto:tom@example.org", "sent to tom@example.org"),
        ("jane@host.local", "validation-failed: The email address is not valid."),
    )


def names_and_texts() -> Iterator[Input]:
    """What is written."""
    yield from each(
        7,
        "the first name {:.20}",
        acts.greeted,
        ("Claim at bit.ly/x9", "Hello there, … has a link in it, so messages leave it out."),
        ("x" * 200, "Hello there, … is longer than 60 characters, so messages leave it out."),
    )
    yield Input(8, "a template with a BOM", acts.saved(SHIPPED, "utf-8-sig"), f"nothing … {TESTED}")
    nobody_sees = "column 34 has an invisible character: {} … {}"
    yield from each(
        8,
        "'kit{} is on its way' in a template",
        lambda char: acts.saved(SHIPPED.replace("kit ", f"kit{char} ")),
        ("\u200b", nobody_sees.format("zero width space (U+200B).", TESTED)),
    )
    yield from each(
        8,
        "'kit{}is on its way' in a template",
        lambda char: acts.saved(SHIPPED.replace("kit ", f"kit{char}")),
        ("\u00a0", nobody_sees.format("no-break space (U+00A0).", TESTED)),
    )
    yield Input(11, "the first name 'Ja\u200bne'", acts.greeted("Ja\u200bne"), "Hello Jane,")
    yield from each(
        12, "the first name {}", acts.texted, ("Rene\u0301e", "hello Renée, … (GSM-7, 1)")
    )
    yield from each(
        13,
        "the clinic St Mary’s, a template with ’ “ ” – …, the first name {}",
        acts.texted,
        ("Ada", "St Mary's Clinic: hello Ada, it's \"here\" - ... (GSM-7, 1)"),
        ("D’Arcy", "hello D'Arcy, … (GSM-7, 1)"),
        ("Łukasz", "hello Łukasz, … (UCS-2, 1)"),
    )
    yield from each(
        13, "short_name = '{}'", acts.short_name, ("St Mary’s", "[TEST] St Mary's: your kit")
    )


def what_providers_tell() -> Iterator[Input]:
    """Receipts, stops, and texts from people."""
    yield Input(
        14,
        "dropped, Recipient List over Package Quota",
        acts.accused("email", "dropped", reason="Recipient List over Package Quota"),
        "1 case, 1 alert: SendGrid drops our emails … Sent again: delivered to … 0 paused",
    )
    yield Input(
        14,
        "undelivered, 30002",
        acts.accused("sms", "undelivered", ErrorCode="30002"),
        "1 case, 1 alert: Twilio refuses our account (30002). Sent again: delivered to … 0 paused",
    )
    yield Input(
        15,
        "SendGrid's batch with one byte of latin-1",
        acts.batch(b"250 re\xe7u"),
        "200, delivered: delivered to … delivered: delivered to",
    )
    yield Input(15, "the text Arrêt, in latin-1", acts.heard("Arrêt", "latin-1"), HEARD)
    left, back = {"word": "group_unsubscribe"}, {"word": "group_resubscribe"}
    unsubscribed = "The next: cancelled: The person has unsubscribed from emails."
    yield Input(16, "group_unsubscribe", acts.after(left), unsubscribed)
    yield Input(
        16, "group_unsubscribe, then group_resubscribe", acts.after(left, back), "The next: sent to"
    )
    yield from each(
        17,
        "a bounce, {}",
        lambda status: acts.after({"word": "bounce", "type": "bounce", "status": status}),
        ("4.2.2", "temporary-failure: … the mailbox is full. The next: sent to"),
        ("5.1.1", "permanent-failure: … The next: cancelled: An earlier email … bounced"),
    )
    yield Input(
        17,
        "a report as spam",
        acts.after({"word": "spamreport"}),
        "The next: cancelled: The person has reported an earlier email as spam.",
    )
    yield Input(
        17,
        "an address that staff have stopped",
        acts.stopped_then("tom.hill@example.org", "tom.hill@example.org"),
        "cancelled: Staff have stopped emails to this address.",
    )
    yield Input(
        18,
        "no callback of a text for 72 hours",
        acts.callback_lost(),
        "#rc=5&rp=5xx,ct,rt; Twilio was asked 1 time, delivered to",
    )
    yield from each(
        22,
        "the text {}",
        acts.heard,
        ("STOP STOP", HEARD),
        ("OPT OUT", HEARD),
        ("\uff33\uff34\uff2f\uff30", HEARD),
        ("ARRET", HEARD),
        ("don't stop", "200, sent to"),
    )
    yield Input(
        23,
        "deferred, with SendGrid's own attempt 5",
        acts.told(word="deferred", attempt="5"),
        "deferred, delivered: delivered to",
    )
    yield Input(
        23,
        "the same without our argument: matched by sg_message_id",
        acts.told(word="deferred", attempt="5", relay_attempt=None),
        "deferred, delivered: delivered to",
    )


def what_the_lab_posts() -> Iterator[Input]:
    """Events, and where they are posted to."""
    yield from each(
        4,
        "sample_received_at {}",
        lambda at: acts.sample("email", sample_received_at=at),
        ("2026-06-01T23:30:00", "sent to … on 1 June 2026"),
        ("2026-06-01", "sent to … on 1 June 2026"),
    )
    yield from each(
        4,
        "sample_received_at {}",
        lambda at: acts.sample(sample_received_at=at),
        (None, NOT_READ.format("sample_received_at")),
        ("yesterday", NOT_READ.format("sample_received_at")),
    )
    yield from each(
        4,
        "url {}",
        lambda url: acts.sample(sample_received_at="2026-06-01", url=url),
        ([], NOT_READ.format("url")),
        (5, NOT_READ.format("url")),
    )
    yield Input(
        4,
        "order.shipped without an id",
        acts.posted("order.shipped", {}),
        "422; a case: data.order_id: Missing data for required field.",
    )
    yield Input(
        4,
        f"{SAMPLE} with data []",
        acts.posted(SAMPLE, []),
        "400; a case: data: It must be an object.",
    )
    yield from each(
        5,
        "POST {}",
        acts.knocked,
        ("/webhooks/lab/", "200, sent to"),
        ("//webhooks/lab", "200, sent to"),
        ("/webhooks/labs", "404, in the log: no such door, /webhooks/…"),
    )
    yield from each(
        5,
        "POST {}",
        acts.slashed,
        ("/callbacks/twilio/status/", "200, delivered to"),
        ("/callbacks/twilio/inbound/", "200, stopped by STOP"),
        ("/callbacks/sendgrid/", "200, delivered to"),
    )


def the_labs_api() -> Iterator[Input]:
    """What the lab answers when it is asked."""
    yield from each(
        2,
        "the lab answers 200 with {} for an order, once",
        acts.unreadable,
        ({"message": "Server Error"}, ANOTHER),
        ({}, ANOTHER),
        ({"data": {}}, ANOTHER),
        ({"id": "another", "order_number": "X"}, ANOTHER),
    )
    yield from each(
        2,
        "the same with {} for its customer",
        lambda body: acts.unreadable(body, path="/api/customer/{person}"),
        ({"data": {}}, ANOTHER),
    )
    yield from each(
        2,
        "the same with {} for results",
        lambda body: acts.unreadable(body, RESULTS, "/api/test_registration/{id}/lab_results"),
        (
            {"message": "x"},
            "received: The lab's answer was not what its documentation says. … sent",
        ),
    )
    yield from each(
        2, "the same with {} for days", acts.never_readable, ({"message": "x"}, "held: … 1 case")
    )
    yield from each(
        21,
        "the lab leads on to the same address with a slash, {}",
        lambda status: acts.redirected(status, "{lab}{path}/"),
        (301, "processed: … 0 requests went elsewhere. Then sent to"),
        (308, "processed: … 0 requests went elsewhere. Then sent to"),
    )
    yield Input(
        21,
        "the lab leads on to another origin",
        acts.redirected(301, "{other}{path}"),
        "received: … address (301), which is not followed. … 0 requests went … Then sent to",
    )


def servers() -> Iterator[Input]:
    """Redis and PostgreSQL."""
    yield from each(
        20,
        "flask relay check, REDIS_URL={}",
        acts.redis_at,
        ("rediss://:right-password@localhost:{tls}/0", "REDIS_TLS_VERIFY=false"),
        ("redis://:hunter2@127.0.0.1:{plain}/0", "refuses the user or the password"),
        ("redis://:hunter2#x@host:6379/0", IN_PASSWORD.format("%23 for #")),
        ("redis://:hunter2/x@host:6379/0", IN_PASSWORD.format("%2F for /")),
        ("redis://:hunter2@host:port/0", "has a port that is not a number"),
    )
    yield from each(
        20,
        "flask relay check, DATABASE_URL={}",
        lambda url: acts.commanded("check", about="DATABASE_URL", DATABASE_URL=url),
        (
            "postgres://u:hunter2@127.0.0.1:1/d?pgbouncer=true",
            "such as pgbouncer=true … Remove it.",
        ),
        ("postgres://u:hunter2@x@host:5432/d", IN_PASSWORD.format("%40 for @")),
        ("postgres://u:hunter2@host:port/d", "has a port that is not a number"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "nothing answers at the host and port"),
    )


def config() -> Iterator[Input]:
    """What an admin writes in config.toml."""
    yield Input(
        9,
        "a no-break space before a key",
        acts.checked("portal =", "\u00a0portal ="),
        "column 1 has a no-break space (U+00A0), as Word writes it.",
    )
    yield from each(
        9,
        "retention = {}",
        lambda value: acts.checked('"90d"', value),
        ("“90d”", "column 13 has a curly quote (U+201C), as Word writes it."),
        ('"90d" // days', "has a comment as other languages write it (//)."),
        ('"90d"\n<<<<<<< HEAD', "has the mark of a merge that is not finished (<<<<<<<)."),
    )
    yield from each(
        10,
        "email_from = '{}'",
        acts.from_,
        ("Clinic: results <a@example.org>", '"name": "Clinic: results"'),
        ("Clinic, results <a@example.org>", '"name": "Clinic, results"'),
        ("Clinic; results <a@example.org>", '"name": "Clinic; results"'),
        ("Clinic @ Home <a@example.org>", '"name": "Clinic @ Home"'),
    )
    yield from each(
        10,
        "email_from = '{}'",
        acts.refused_sender,
        ("Clinic: results", "delivery.email_from: it has no email address; write it as"),
        ("Clinic <results>", "delivery.email_from: it has no email address; write it as"),
    )


def erasure() -> Iterator[Input]:
    """Who is forgotten."""
    unreachable = {"email": None, "phone_number": None}
    for who, asked, customer in (
        ("a foreign number", "0033 639981234", {"phone_number": "+33 6 39 98 12 34"}),
        ("a landline", "+44 20 7946 0991", {"phone_number": "020 7946 0991"}),
        ("an IDN address", "ada@bücher.example", {"email": "ada@bücher.example"}),
        ("no address, by an order", "{order}", unreachable),
        ("no address, by a name", "{first_name} {last_name}", unreachable),
    ):
        put = f"forget '{asked}', who has {who}"
        yield Input(19, put, acts.forgotten(asked, **customer), ERASED)
