"""Alerts: who of the staff is written to when something needs a person. Pure.

What an alert says stands in templates/alerts (see relay.messages.alerts). Here are the kinds of
case, and the plain sentence that goes out where a template is broken.
"""

from __future__ import annotations

from datetime import datetime

from markupsafe import escape

from relay.rules.channels import ALERT_CHANNELS, CHANNELS
from relay.rules.model import ALERT_PREFIX, ALERT_URGENCY, Case, Notice, Policy
from relay.rules.statuses import ALERT

# The kinds of case. Each has a file of words: templates/alerts/words/<kind>.txt.
KINDS = (
    "reply",
    "unreached",
    "unconfirmed",
    "broken",
    "held",
    "paused",
    "limit",
    "config",
    "release",
    "missing",
    "mismatch",
    "erasure",
    "unknown",
    "rule",
    "account",
    "refused",
    "lab",
    "looks",
)
# These are kept with some event, since every case is, but they are not about its kit.
OF_NO_KIT = frozenset(
    ("paused", "limit", "config", "erasure", "rule", "account", "refused", "lab", "looks")
)
# What follows the number, of a case that is about more than one message or event.
COUNTED = {
    **dict.fromkeys(KINDS, "messages wait"),
    "reply": "texts",
    "unreached": "messages have reached nobody",
    "unconfirmed": "messages may not have arrived",
    "broken": "messages could not be written",
    "held": "events are held",
    "lab": "events and messages wait",
    "unknown": "messages may or may not have gone out",
    "missing": "kits are late",
    "refused": "posts were refused",
}
NO_KIT = "no kit"  # the subject of a case that might have been about one
# The desk's pages of one case and of all that are open, below PUBLIC_URL.
CASE, WORKLIST = "/case/", "/worklist"


def is_about_a_kit(kind: str, subject: str) -> bool:
    """Whether a case has a kit's journey to show. One of a newer version may have none."""
    return kind in KINDS and kind not in OF_NO_KIT and subject != NO_KIT


def counted(kind: str, count: int) -> str:
    """How much a case is about, in words: 12 messages wait. Empty where it is about one."""
    return f"{count:,} {COUNTED.get(kind, 'messages')}" if count > 1 else ""


def about(subject: str, *, is_digest: bool = False) -> str:
    """What a message was about, in words: one kit, or all those of a digest."""
    if subject == NO_KIT:
        return "no kit that Relay knows"
    return f"the kits of {subject}" if is_digest else f"kit {subject}"


def link(policy: Policy, case_id: str = "") -> str:
    """The address of a case on the desk, or of the worklist; empty where PUBLIC_URL is not set."""
    page = CASE + case_id if case_id else WORKLIST
    return policy.desk + page if policy.desk else ""


def plain_title(kind: str) -> str:
    """What a kind of case is called while its template cannot be read."""
    return f"Something needs a person ({kind})"


def plain_content(kind: str, subject: str, reason: str, where: str, channel: str) -> dict[str, str]:
    """An alert without its template: what it is about, why, and where to look."""
    title, see = plain_title(kind), where or "See the admin desk."
    lines = [f"{title}. It is about {subject}.", reason, see]
    paragraphs = [line for line in lines if line]
    parts = {
        "subject": title,
        "text": "\n\n".join(paragraphs),
        "html": "".join(f"<p>{escape(line)}</p>" for line in paragraphs),
    }
    wanted = CHANNELS[channel].parts
    if "subject" not in wanted:  # a text: short, since it is paid for by its length
        parts["text"] = f"Relay: {title}. {see}"
    return {part: parts[part] for part in wanted}


def rule_name(kind: str) -> str:
    """What stands for a rule's name in an alert about a kind of case."""
    return ALERT_PREFIX + kind


def case(
    kind: str,
    key: str,
    subject: str,
    reason: str,
    *,
    policy: Policy,
    now: datetime,
    event_id: str = "",
    notification_id: str | None = None,
    to: str = "",
) -> Case:
    """A case with what staff are written, by email where it can be: `to`, or who alerts go to."""
    to = to or policy.alerts
    group = policy.staff.get(to)
    ways = [way for way in ALERT_CHANNELS if group and group.on(way)]
    if kind == "paused" and len(ways) > 1 and subject in ways:
        ways.remove(subject)  # it would wait for what it tells of
    notices = tuple(
        Notice(
            rule=rule_name(kind),
            template="",
            subject=subject,
            round=0,
            role=to,
            channel=way,
            address=address,
            status="created",
            reason="",
            due_at=now,
            urgency=ALERT_URGENCY,
            # What an older worker sends, which knows nothing of the templates.
            content=plain_content(kind, subject, reason, link(policy), way),
            kind=ALERT,
        )
        for way in ways[:1]
        for address in (group.on(way) if group else ())
    )
    return Case(kind, key, subject, reason, event_id, notification_id, notices)
