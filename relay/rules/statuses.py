"""The words in the ledger's rows: the statuses of events and notifications, as in the contract;
what a notification is and waits for; why a channel is paused.
"""

from __future__ import annotations

RECEIVED, PROCESSED, UNROUTED, HELD = "received", "processed", "unrouted", "held"
# An event's statuses and what each means, as docs/statuses.md prints it.
EVENT_STATUSES = {
    RECEIVED: "Stored, and not processed yet. If Relay has to try again, its reason says why.",
    PROCESSED: "Every rule has decided. Each message is a row of its own.",
    UNROUTED: "Relay does not know an event of this name. It can be replayed once Relay does.",
    HELD: "Relay has stopped trying, after `lab_patience`. Staff look, then replay it.",
}
# Messages that are on their way or have arrived; those of all other statuses reached nobody.
WAITING = ("created", "scheduled")
GONE = ("sent", "delivered")
ALIVE = (*WAITING, "sending", *GONE, "unknown")
FAILED = ("permanent-failure", "temporary-failure", "technical-failure", "validation-failed")


# A notification's statuses and what each means, as docs/statuses.md prints it.
STATUSES = {
    "created": "Due now, or waiting to be tried again.",
    "scheduled": "Waiting for its time: a send window, `after`, `hold` or a digest; or until "
    "somebody resumes what was stopped.",
    "sending": "A worker has claimed it.",
    "sent": "The provider has accepted it. In dry-run the `provider_id` begins with `dry-run`.",
    "delivered": "The provider says that it arrived. An email may still bounce, and then it fails.",
    "unknown": "The provider may have accepted it. Relay is finding out.",
    "permanent-failure": "It cannot arrive: the provider refused it, or says that it never will.",
    "temporary-failure": "Relay gave up after about a day, or no receipt came within 72 hours. "
    "A later `delivered` still counts.",
    "technical-failure": "A fault on our side: a template, a condition or a bug.",
    "validation-failed": "The person has no address that Relay can use.",
    "cancelled": "No longer wanted: opted out, overtaken, its rule gone or not met, "
    "its address changed, or a person's decision.",
}


UNCONFIRMED = "no-receipt"  # an attempt's code when no receipt said that it had arrived
LAB_FAILED = "lab"  # when the lab did not answer about its kit
OURS = "account"  # when the provider accepted it and dropped it through our account's fault

# The kinds of notification: a rule's message, a digest of many, an item of a digest, a message to
# staff about a case, a message that repeats another because a person asked for it, or a person's
# written answer to a text.
MESSAGE, DIGEST, ITEM, ALERT, RESENT = "message", "digest", "item", "alert", "resent"
ANSWER = "answer"

# What a message waits for.
WAITS_FOR_RULE, WAITS_FOR_ORDER, WAITS_FOR_ACCOUNT = "rule", "order", "account"
WAITS_FOR_LAB = "lab"  # for an answer, before it goes out
WAITS_FOR_RESUME = "stop"  # somebody has stopped all messages like it
WAITS_FOR_PERSON = "person"  # to close a case that holds its kit's messages
# Of a failed message: a person wants it to go again, and may cancel that until it is followed up.
GOES_AGAIN = "again"

# Why a channel is paused, or the lab.
REFUSED, AWAY, BUSY = "refused", "away", "busy"
DROPPED = "dropped"  # the provider accepts messages, and drops them through our account's fault

# Kinds of case that are treated differently; all are in relay.rules.alerts.
RELEASE = "release"  # goes out by itself unless somebody looks at it in time
MISMATCH = "mismatch"  # a decision about one is final
