"""The ledger's tables. Every change needs a migration; a test compares the two."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from relay.ledger.database import UtcDateTime
from relay.rules.statuses import ALERT, HELD, MISMATCH, RECEIVED, UNROUTED, WAITING, WAITS_FOR_LAB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text(name: str, length: int, **kw: Any) -> sa.Column[str]:
    """A text column of at most `length` characters."""
    return sa.Column(name, sa.String(length), **{"nullable": False, **kw})


def time(name: str, **kw: Any) -> sa.Column[Any]:
    """A column for a moment in UTC."""
    return sa.Column(name, UtcDateTime(), **kw)


def number(name: str, default: int = 0) -> sa.Column[int]:
    """A column for a whole number, with a default."""
    return sa.Column(name, sa.Integer, nullable=False, server_default=str(default))


def flag(name: str) -> sa.Column[bool]:
    """A column for true or false, false by default."""
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def partial_index(
    name: str, *columns: Any, where: sa.ColumnElement[bool], unique: bool = False
) -> sa.Index:
    """An index over the few rows that a hot statement looks at."""
    return sa.Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def is_one_of(column: sa.Column[str], *words: str) -> sa.ColumnElement[bool]:
    """A condition: a column has one of our own words, which are written into the statement.

    PostgreSQL uses a partial index for a prepared statement only if the statement's text, without
    its values, shows that the index covers it; otherwise it plans the statement anew each time.
    https://www.postgresql.org/docs/current/indexes-partial.html
    """
    return column.in_([sa.literal_column(f"'{word}'", sa.String) for word in words])


def small(address: Any) -> sa.ColumnElement[str]:
    """An address in lower case, for comparisons: it is kept as written, capitals included."""
    return sa.func.lower(address, type_=sa.String)


def folded(name: str, length: int) -> sa.Column[str]:
    """A text column that may be null and is searched by prefix, byte by byte."""
    plain = sa.String(length)
    return sa.Column(name, plain.with_variant(sa.String(length, collation="C"), "postgresql"))


audit = sa.Table(
    "audit",
    metadata,
    text("id", 40, primary_key=True),
    time("at", nullable=False),
    text("actor", 100),
    text("action", 40),
    text("target", 255),
    text("detail", 500, server_default=""),
    text("session", 64, server_default=""),  # of the desk
    text("source", 64, server_default=""),  # a mark of the address that it came from
)
sa.Index("ix_audit_action", audit.c.action, audit.c.at)
sa.Index("ix_audit_target", audit.c.target, audit.c.at)

# People who may see the desk.
users = sa.Table(
    "users",
    metadata,
    text("id", 40, primary_key=True),
    text("login", 100, unique=True),  # their email address, in lower case
    text("role", 20),  # one of relay.staff.roles
    text("password_hash", 255, server_default=""),
    text("totp_secret", 64, server_default=""),
    number("totp_step"),  # of the last code used: no code works twice
    sa.Column("recovery", sa.JSON(none_as_null=True)),  # digests of codes
    text("oidc_subject", 255, server_default=""),  # their id at their organisation's sign-in
    text("invite", 64, server_default=""),  # the digest of their invitation's token
    time("invited_at"),
    time("created_at", nullable=False),
    time("disabled_at"),
)
sessions = sa.Table(
    "sessions",
    metadata,
    text("id", 64, primary_key=True),
    text("person", 100),  # an account's email address, or admin
    text("source", 64),
    text("browser", 60),
    time("began_at", nullable=False),
    time("seen_at", nullable=False),
    time("ended_at"),
)
sa.Index("ix_sessions_seen", sessions.c.seen_at)

# Sessions that ended with a logout, in the form that the previous release knows.
_ended = (text("id", 64, primary_key=True), time("ended_at", nullable=False))
ended_sessions = sa.Table("ended_sessions", metadata, *_ended)

# Wrong passwords, by visitor: too many lock the login for a while.
login_failures = sa.Table(
    "login_failures",
    metadata,
    text("id", 40, primary_key=True),
    text("visitor", 64),
    time("failed_at", nullable=False),
)
sa.Index("ix_login_failures_visitor", login_failures.c.visitor, login_failures.c.failed_at)

# Texts from people, kept so that a repeated post is recognised. STOP and START have no more than
# that; other texts have their sender and words too, for the person who handles the case.
inbound_texts = sa.Table(
    "inbound_texts",
    metadata,
    text("id", 64, primary_key=True),  # a fingerprint of the provider's id
    text("channel", 20),
    text("word", 20),
    time("received_at", nullable=False),
    text("address", 255, server_default=""),
    text("words", 4000, server_default=""),
    text("case_id", 40, nullable=True),
    text("provider_id", 100, nullable=True),
    time("erase_at"),  # when to delete it at the provider
)
partial_index(
    "ix_inbound_texts_case", inbound_texts.c.case_id, where=inbound_texts.c.case_id.is_not(None)
)
partial_index(
    "ix_inbound_texts_erase", inbound_texts.c.erase_at, where=inbound_texts.c.erase_at.is_not(None)
)

# Names of unknown events that somebody has acknowledged: the lab posts them, and nothing is sent.
acknowledged_events = sa.Table(
    "acknowledged_events",
    metadata,
    text("name", 100, primary_key=True),
    text("actor", 100),
    text("note", 500, server_default=""),
    time("acknowledged_at", nullable=False),
    sa.Index("ix_acknowledged_events_at", "acknowledged_at"),  # the desk shows the latest
)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    text("name", 100, primary_key=True),
    time("seen_at", nullable=False),
    time("swept_at"),  # its last sweep
)

# The counts of each day's messages, so that the desk's chart need not count a month of messages.
days = sa.Table(
    "days",
    metadata,
    text("day", 10, primary_key=True),  # of the clinic's calendar: 2026-11-26
    sa.Column("counts", sa.JSON, nullable=False),  # in the form of daily_counts.Tally
    time("counted_at", nullable=False),
)


# Channels whose provider refuses us, is away, or asked us to wait: only a probe goes out.
def pause_columns() -> tuple[sa.Column[Any], ...]:
    """The columns of a pause, for both tables."""
    return (
        text("channel", 20, primary_key=True),
        text("cause", 20),  # refused, dropped, away, busy
        text("reason", 500),
        number("probes"),
        time("since", nullable=False),
        time("until", nullable=False),
    )


pauses = sa.Table("pauses", metadata, *pause_columns())
# The lab, while it is away or refuses the token: one row. It has its own table because the
# previous release takes each row of `pauses` for a channel.
lab_pauses = sa.Table("lab_pauses", metadata, *pause_columns())

# Stops that people have made. Each send reads this table, so it has one row per stop and no more.
halts = sa.Table(
    "halts",
    metadata,
    text("what", 120, primary_key=True),  # all, "channel sms", "rule kit-shipped"
    text("actor", 100),
    text("reason", 500),
    time("since", nullable=False),
)

# Every version of config.toml and the templates. The newest is in use.
editions = sa.Table(
    "editions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    text("digest", 64),  # of its files
    text("author", 100),
    text("note", 500),
    text("source", 20),  # files, desk
    time("made_at", nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

# Unpublished edits of an edition: the files that differ from those of their `base`.
drafts = sa.Table(
    "drafts",
    metadata,
    text("id", 40, primary_key=True),
    text("name", 100),
    number("base"),
    number("version"),  # grows with each save: the second person to save the same one is refused
    sa.Column("files", sa.JSON, nullable=False),
    text("author", 100),  # who saved last
    sa.Column("authors", sa.JSON, nullable=False),  # all who have saved: none may approve it
    time("saved_at", nullable=False),
    text("asked_by", 100, nullable=True),  # who asked for somebody else's approval
    text("note", 500, server_default=""),
    time("closed_at"),
    sa.Column("edition", sa.Integer),  # the one that it became
    # Its trial on recent events: of which files and edition, when the process that runs it last
    # reported, and its progress or result.
    text("trial_of", 64, nullable=True),
    time("trial_at"),
    sa.Column("trial", sa.JSON(none_as_null=True)),
)

# Letters: one message to all who had a rule's message on a day, by one edition or any.
letters = sa.Table(
    "letters",
    metadata,
    text("id", 40, primary_key=True),
    text("rule", 100),
    text("day", 10),  # of the clinic's calendar
    sa.Column("edition", sa.Integer),
    text("subject", 200, server_default=""),  # of those that go by email
    text("words", 1600),
    text("author", 100),
    time("written_at", nullable=False),
    time("closed_at"),  # sent, or thrown away
)

# The most that can be used of a channel's daily limit since `since`: each claim adds to it.
allowances = sa.Table(
    "allowances",
    metadata,
    text("channel", 20, primary_key=True),
    time("since", nullable=False),
    number("used"),
    number("counted"),  # how much of it was counted at `counted_at`
    time("counted_at", nullable=False),
)

# How far each [expect.…] of config.toml has looked for missing steps.
watches = sa.Table(
    "watches",
    metadata,
    text("name", 100, primary_key=True),
    time("looked_to", nullable=False),
    time("next_at", nullable=False),  # and when it looks again, unless another worker does
)

# Erasures of people, and their outcome. Once one is done, `address`, `target`, `note` and `known`
# are blank.
erasures = sa.Table(
    "erasures",
    metadata,
    text("id", 40, primary_key=True),
    text("channel", 20),
    text("address", 255),
    text("target", 255),  # what the audit trail calls the address
    text("actor", 100),
    text("note", 500),
    text("state", 20),  # waiting, running, done
    number("tries"),  # how many workers have taken it: the last holds the lease
    time("asked_at", nullable=False),
    time("next_at", nullable=False),  # when a worker takes it, or takes over from one that has gone
    time("done_at"),
    sa.Column("known", sa.JSON(none_as_null=True)),  # facts that cannot be found again later
    sa.Column("outcome", sa.JSON(none_as_null=True)),  # counts, what is left, what was refused
    text("searched", 40, server_default=""),  # the table being searched, and how far
    number("rows_read"),
)
partial_index("ix_erasures_open", erasures.c.address, where=erasures.c.address != "", unique=True)

REVISION = "0019"  # the schema that this code needs; /readyz compares it with the database's

# Indexes that no statement uses any more: dropped once their replacements exist.
RETIRED_INDEXES = ("ix_notifications_item", "ix_notifications_subject")

# The INSERT with an ON CONFLICT clause, by the dialect's name.
INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


events = sa.Table(
    "events",
    metadata,
    text("id", 40, primary_key=True),
    text("name", 100),
    text("identity", 100, unique=True),
    sa.Column("data", sa.JSON, nullable=False),
    text("status", 20),
    time("received_at", nullable=False),
    number("duplicates"),
    text("subject", 255, nullable=True),
    number("round"),
    sa.Column("facts", sa.JSON(none_as_null=True)),
    sa.Column("decisions", sa.JSON(none_as_null=True)),
    text("reason", 500, server_default=""),
    number("urgency"),
    number("tries"),
    time("next_at"),
    time("tried_at"),  # when the last try ended
    time("processed_at"),
    time("posted_again_at"),  # the last of its duplicates
    text("named", 200, nullable=True),  # the order or registration, as the lab wrote it
    text("source", 20, server_default="lab"),  # the lab, or a watch that asked the lab
    folded("person", 200),  # whom it is about: see search_key in relay.lab.facts
    text("waits_for", 20, nullable=True),  # lab, if it was put back because the lab failed
    sa.Column("edition", sa.Integer),  # whose rules were applied
    number("leases"),  # since a try last finished: more than one if a worker has died with it
)
IS_RECEIVED = is_one_of(events.c.status, RECEIVED)
IS_LEASED_AGAIN = events.c.leases > sa.literal_column("0")
partial_index("ix_events_due", events.c.urgency.desc(), events.c.next_at, where=IS_RECEIVED)
partial_index("ix_events_lapsed", events.c.next_at, where=sa.and_(IS_RECEIVED, IS_LEASED_AGAIN))
sa.Index("ix_events_subject", events.c.subject)
partial_index("ix_events_named", events.c.named, where=events.c.named.is_not(None))
partial_index(
    "ix_events_person",
    events.c.person,
    events.c.received_at.desc(),
    where=events.c.person.is_not(None),
)
# Events that may hold personal data, fetched or as the lab posted it. Retention searches these.
TELLING = sa.or_(events.c.facts.is_not(None), events.c.status.in_((UNROUTED, HELD)))
partial_index("ix_events_purge", events.c.received_at, where=TELLING)
partial_index(
    "ix_events_unrouted", events.c.name, events.c.received_at, where=events.c.status == UNROUTED
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    text("id", 40, primary_key=True),
    text("digest", 64, unique=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    text("error", 500),
    sa.Column("fields", sa.JSON, nullable=False),
    number("posts", 1),
    time("first_at", nullable=False),
    time("last_at", nullable=False),
    text("event_id", 40, nullable=True),  # the event it became when it was replayed
    time("closed_at"),  # put aside: nobody needs to deal with it any more
    text("closed_by", 100, nullable=True),
    text("note", 500, server_default=""),
)
# Neither put aside nor turned into an event.
IN_QUARANTINE = sa.and_(quarantine.c.event_id.is_(None), quarantine.c.closed_at.is_(None))
partial_index("ix_quarantine_open", quarantine.c.last_at, where=IN_QUARANTINE)
partial_index(
    "ix_quarantine_aside", quarantine.c.closed_at, where=quarantine.c.closed_at.is_not(None)
)

# A kit: an order or a registration by its own UUID, and the order or original that it belongs to.
journeys = sa.Table(
    "journeys",
    metadata,
    text("subject", 255, primary_key=True),
    text("resource", 20),
    text("order_subject", 255, nullable=True),
    text("original_subject", 255, nullable=True),  # of a retest: the registration it repeats
    number("round"),
    time("created_at", nullable=False),
)
sa.Index("ix_journeys_order", journeys.c.order_subject)
sa.Index("ix_journeys_original", journeys.c.original_subject)

# Every other name that the lab or the clinic calls it by: TRF code, foreign id.
aliases = sa.Table(
    "aliases",
    metadata,
    text("resource", 20, primary_key=True),
    text("alias", 255, primary_key=True),
    text("subject", 255),
    # Two registrations share it: it leads to neither, and serves only for search.
    flag("is_shared"),
    sa.Index("ix_aliases_subject", "subject"),
)
sa.Index("ix_aliases_letters", sa.func.lower(aliases.c.alias))

notifications = sa.Table(
    "notifications",
    metadata,
    text("id", 40, primary_key=True),
    sa.Column("event_id", sa.String(40), sa.ForeignKey("events.id"), nullable=False),
    text("rule", 100),
    text("template", 100),
    text("subject", 255),
    number("round"),
    text("role", 100),
    text("channel", 20),
    text("address", 255),
    text("identity", 64, unique=True),
    text("family", 64, key="obligation"),  # what one rule owes one role about one kit and round
    text("status", 20),
    text("reason", 500, server_default=""),
    number("urgency"),
    flag("is_fallback"),
    number("attempts"),
    number("tries"),  # since it was planned or replayed: they decide delays and giving up
    time("due_at", nullable=False),
    time("lease_until"),
    time("created_at", nullable=False),
    time("sent_at"),
    time("delivered_at"),
    time("receipt_by"),  # if no receipt has confirmed arrival by then, it is given up
    time("follow_up_at"),  # it reached nobody: when to use the rule's fallback or open a case
    text("provider_id", 100, nullable=True),
    sa.Column("content", sa.JSON(none_as_null=True)),  # the message as it went out
    sa.Column("edition", sa.Integer),  # that made its words
    number("segments"),  # of an SMS: they are what we pay for
    # For an item, the identity of its digest; for a digest, its own: the previous release needs it.
    text("digest", 64, nullable=True),
    text("kind", 20, server_default="message"),  # see relay.rules.model
    text("digest_id", 40, nullable=True),  # for an item: the digest's id
    flag("is_kept"),  # not sent: dry-run
    text("stopped_by", 100, nullable=True),  # the person who stopped it
    # For an alert, its case; for a message, the case of the fault that hit it.
    text("case_id", 40, nullable=True),
    # What must be put right first: rule, order, account, lab, stop, person.
    text("waits_for", 20, nullable=True),
)
partial_index(
    "ix_notifications_waits",
    notifications.c.waits_for,
    where=notifications.c.waits_for.is_not(None),
)
partial_index(
    "ix_notifications_case", notifications.c.case_id, where=notifications.c.case_id.is_not(None)
)
partial_index(
    "ix_notifications_alert",
    notifications.c.rule,
    notifications.c.id,
    where=notifications.c.kind == ALERT,
)
partial_index(
    "ix_notifications_digest", notifications.c.digest, where=notifications.c.digest.is_not(None)
)
partial_index(
    "ix_notifications_sent", notifications.c.sent_at, where=notifications.c.sent_at.is_not(None)
)
IS_WAITING = is_one_of(notifications.c.status, *WAITING)
# Everything that waits, for counting; and its two lanes, for claiming, so that a claim in one lane
# does not read past the other.
partial_index(
    "ix_notifications_due",
    notifications.c.channel,
    notifications.c.urgency.desc(),
    notifications.c.due_at,
    where=IS_WAITING,
)
partial_index(
    "ix_notifications_ready",
    notifications.c.channel,
    notifications.c.urgency.desc(),
    notifications.c.due_at,
    where=sa.and_(IS_WAITING, notifications.c.waits_for.is_(None)),
)
WAITS_FOR_THE_LAB = is_one_of(notifications.c.waits_for, WAITS_FOR_LAB)
partial_index(
    "ix_notifications_asking",
    notifications.c.channel,
    notifications.c.urgency.desc(),
    notifications.c.due_at,
    where=sa.and_(IS_WAITING, WAITS_FOR_THE_LAB),
)
IS_SENDING = is_one_of(notifications.c.status, "sending")
partial_index("ix_notifications_leased", notifications.c.lease_until, where=IS_SENDING)
partial_index(
    "ix_notifications_receipt",
    notifications.c.receipt_by,
    where=notifications.c.receipt_by.is_not(None),
)
partial_index(
    "ix_notifications_follow_up",
    notifications.c.follow_up_at,
    where=notifications.c.follow_up_at.is_not(None),
)
# It still holds an address or words.
PERSONAL = sa.or_(notifications.c.address != "", notifications.c.content.is_not(None))
partial_index("ix_notifications_purge", notifications.c.created_at, where=PERSONAL)
sa.Index("ix_notifications_address", notifications.c.channel, notifications.c.address)
partial_index(  # few have capitals: the lab writes most addresses in lower case
    "ix_notifications_capitals",
    small(notifications.c.address),
    where=notifications.c.address != small(notifications.c.address),
)
sa.Index("ix_notifications_event", notifications.c.event_id)
sa.Index("ix_notifications_family", notifications.c.obligation)
sa.Index("ix_notifications_created", notifications.c.created_at)

attempts = sa.Table(
    "attempts",
    metadata,
    text("id", 40, primary_key=True),
    sa.Column("notification_id", sa.String(40), sa.ForeignKey("notifications.id"), nullable=False),
    text("channel", 20),
    text("outcome", 20),  # started, accepted, rejected, unknown
    text("provider_id", 100, nullable=True),
    text("code", 40, server_default=""),
    text("detail", 500, server_default=""),
    time("started_at", nullable=False),
    time("begun_at"),  # when its words were kept: after that the provider may have it
    time("finished_at"),
    time("look_at"),  # for an unknown one: when to search for it at the provider
    number("looks"),
    time("erase_at"),  # for a text that is no longer needed: when to delete it at the provider
)
partial_index("ix_attempts_erase", attempts.c.erase_at, where=attempts.c.erase_at.is_not(None))
partial_index("ix_attempts_look", attempts.c.look_at, where=attempts.c.look_at.is_not(None))
partial_index(
    "ix_attempts_provider", attempts.c.provider_id, where=attempts.c.provider_id.is_not(None)
)
sa.Index("ix_attempts_notification", attempts.c.notification_id)
sa.Index("ix_attempts_day", attempts.c.channel, attempts.c.started_at)

suppressions = sa.Table(
    "suppressions",
    metadata,
    text("channel", 20, primary_key=True),
    text("address", 255, primary_key=True),
    text("source", 100),
    time("created_at", nullable=False),
    text("actor", 100, server_default=""),  # for a stop by staff: who made it, and why
    text("note", 500, server_default=""),
)
sa.Index("ix_suppressions_created", suppressions.c.created_at)
sa.Index("ix_suppressions_same", small(suppressions.c.address))

# Providers' reports on an attempt after the send, each kept once.
receipts = sa.Table(
    "receipts",
    metadata,
    text("id", 40, primary_key=True),
    text("digest", 64, unique=True),
    sa.Column("attempt_id", sa.String(40), sa.ForeignKey("attempts.id"), nullable=False),
    text("word", 40),  # the provider's
    text("state", 20),  # ours: sent, delivered, temporary-failure, permanent-failure
    text("code", 40, server_default=""),
    text("reason", 500, server_default=""),
    time("received_at", nullable=False),
    time("happened_at"),  # by the provider's clock, if it says
)
sa.Index("ix_receipts_attempt", receipts.c.attempt_id)

# The worklist: cases that need a person.
cases = sa.Table(
    "cases",
    metadata,
    text("id", 40, primary_key=True),
    text("digest", 64, unique=True),  # for the previous release: changed when it is closed
    text("about", 64, nullable=True),  # the digest of the thing that it is about, open or closed
    text("kind", 20),
    text("subject", 255),
    sa.Column("event_id", sa.String(40), sa.ForeignKey("events.id"), nullable=False),
    text("notification_id", 40, nullable=True),
    text("reason", 500),
    number("count", 1),  # how many messages or events it is about
    flag("is_urgent"),  # sorts first: somebody may be unwell
    flag("holds"),  # its kit's messages wait until it is closed
    time("opened_at", nullable=False),
    time("closed_at"),
    text("closed_by", 100, nullable=True),
    text("note", 500, server_default=""),
)
# One open case per thing. The previous release leaves `about` empty: its `digest` is unique too.
partial_index("ix_cases_about", cases.c.about, where=cases.c.closed_at.is_(None), unique=True)
# Whether a person was asked about a doubt before: see relay.ledger.worklist.doubts.
partial_index("ix_cases_mismatch", cases.c.about, where=cases.c.kind == MISMATCH)
partial_index("ix_cases_open", cases.c.opened_at, where=cases.c.closed_at.is_(None))
partial_index("ix_cases_closed", cases.c.closed_at, where=cases.c.closed_at.is_not(None))
sa.Index("ix_cases_event", cases.c.event_id)

# Finished kits, each with all its rows in one blob: see relay.ledger.history.
history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    # The range of its ids, by the time that begins an id.
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    time("ended_at", nullable=False),  # when something last happened to it
    time("moved_at", nullable=False),
    sa.Column("kit", sa.LargeBinary, nullable=False),
    sa.Index("ix_history_ids", "last", "first"),
    sa.Index("ix_history_ended", "ended_at"),
)
# Every name of a kit in history, as a 64-bit number.
history_names = sa.Table(
    "history_names",
    metadata,
    sa.Column("name", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("history_id", sa.BigInteger, primary_key=True, autoincrement=False),
)
