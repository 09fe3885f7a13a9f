"""Alerts: which staff Relay writes to when something needs a person. Pure.

The words of an alert are in templates/alerts (see relay.messages.alerts). This module has the kinds
of case, and the plain sentence that goes out when a template is broken.
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
# Every case is kept with some event, but these are not about its kit.
OF_NO_KIT = frozenset(
    ("paused", "limit", "config", "erasure", "rule", "account", "refused", "lab", "looks")
)
# The words after the number, in a case that is about more than one message or event.
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
NO_KIT = "no kit"  # the subject of a case that could have been about a kit
# The desk's pages for one case and for all open cases, below PUBLIC_URL.
CASE, WORKLIST = "/case/", "/worklist"


def is_about_a_kit(kind: str, subject: str) -> bool:
    """Whether a case has a kit's journey to show. One from a newer version may have none."""
    return kind in KINDS and kind not in OF_NO_KIT and subject != NO_KIT


def counted(kind: str, count: int) -> str:
    """How many messages or events a case is about: 12 messages wait. Empty if it is about one."""
    return f"{count:,} {COUNTED.get(kind, 'messages')}" if count > 1 else ""


def about(subject: str, *, is_digest: bool = False) -> str:
    """The subject of a message, in words: one kit, or all those of a digest."""
    if subject == NO_KIT:
        return "no kit that Relay knows"
    return f"the kits of {subject}" if is_digest else f"kit {subject}"


def link(policy: Policy, case_id: str = "") -> str:
    """The address of a case on the desk, or of the worklist; empty if PUBLIC_URL is not set."""
    page = CASE + case_id if case_id else WORKLIST
    return policy.desk + page if policy.desk else ""


def plain_title(kind: str) -> str:
    """The title of a kind of case while its template cannot be read."""
    return f"Something needs a person ({kind})"


def plain_content(kind: str, subject: str, reason: str, where: str, channel: str) -> dict[str, str]:
    """An alert without its template: its subject, the reason, and where to look."""
    title, see = plain_title(kind), where or "See the admin desk."
    lines = [f"{title}. It is about {subject}.", reason, see]
    paragraphs = [line for line in lines if line]
    parts = {
        "subject": title,
        "text": "\n\n".join(paragraphs),
        "html": "".join(f"<p>{escape(line)}</p>" for line in paragraphs),
    }
    wanted = CHANNELS[channel].parts
    if "subject" not in wanted:  # a text: short, because its length sets its price
        parts["text"] = f"Relay: {title}. {see}"
    return {part: parts[part] for part in wanted}


def rule_name(kind: str) -> str:
    """The rule name that an alert about a kind of case carries."""
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
    """A case with its alerts, by email where possible: to the group `to`, or that for alerts."""
    to = to or policy.alerts
    group = policy.staff.get(to)
    ways = [way for way in ALERT_CHANNELS if group and group.on(way)]
    if kind == "paused" and len(ways) > 1 and subject in ways:
        ways.remove(subject)  # it would wait for the very thing it reports
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
            # For an older worker, which knows nothing of the templates.
            content=plain_content(kind, subject, reason, link(policy), way),
            kind=ALERT,
        )
        for way in ways[:1]
        for address in (group.on(way) if group else ())
    )
    return Case(kind, key, subject, reason, event_id, notification_id, notices)
