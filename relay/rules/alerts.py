"""What staff are told when something needs a person. Pure. No clinical detail, nobody's details.

Messages that wait for a person's word: what staff are asked before they go out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from markupsafe import escape

from relay.rules.channels import ALERT_CHANNELS, CHANNELS
from relay.rules.model import ALERT_PREFIX, DIGEST_PREFIX, Case, Notice, Plan, Policy, Rule


@dataclass(frozen=True)
class Words:
    """One kind of alert: its subject line, what has happened, and what to do."""

    title: str
    happened: str
    to_do: str
    is_about_a_kit: bool = True


ALERTS: dict[str, Words] = {
    "unreached": Words(
        "Somebody could not be reached",
        "A message about {about} reached nobody, whichever way it was tried.",
        "Please get in touch with them another way, then close the case on the worklist.",
    ),
    "broken": Words(
        "A message could not be written",
        "A message about {about} could not be put together.",
        "Please have its template or rule mended, then send it again from the worklist.",
    ),
    "held": Words(
        "An event from the lab is held",
        "An event about kit {subject} could not be processed, and is not tried any more.",
        "Please ask the lab, then have it processed again from the worklist.",
    ),
    "paused": Words(
        "Messages are waiting: a provider refuses our account",
        "Nothing goes out by {subject} until it is put right. No message is lost.",
        "Please look at the account and its keys. Sending goes on by itself when they work.",
        is_about_a_kit=False,
    ),
    "limit": Words(
        "Today's limit on texts is reached",
        "More texts are due, and wait until tomorrow.",
        "If they should go out today, raise daily_sms_limit in config.toml.",
        is_about_a_kit=False,
    ),
    "config": Words(
        "A change to config.toml or a template is wrong",
        "Relay goes on by the last good one of {subject}.",
        "Please run `flask relay check`, which tells each mistake with its line, and put it right. "
        "It is read again by itself.",
        is_about_a_kit=False,
    ),
    "release": Words(
        "A message waits for your release",
        "A message about kit {subject} is ready, and is held for you to look at it first.",
        "Please release or stop it on the worklist.",
    ),
    "missing": Words(
        "A step of a kit has not come",
        "Kit {subject} has not come as far as it should have by now.",
        "Please find out where it is, then close the case on the worklist. It closes by itself "
        "when the step comes.",
    ),
    "erasure": Words(
        "Not all of a person is erased",
        "An erasure that was asked for has left something ({subject}).",
        "Please erase at the provider what is named; a text is tried again by itself each hour. "
        "Where rows are left, erase the person once more. Then close the case on the worklist.",
        is_about_a_kit=False,
    ),
    "unknown": Words(
        "A message may or may not have gone out",
        "It could not be found out whether a message about {about} was sent.",
        "Please ask the person or look at the provider, then decide on the worklist.",
    ),
}
# They hang on some event, since every case does: it is not theirs.
OF_NO_KIT = frozenset(kind for kind, words in ALERTS.items() if not words.is_about_a_kit)
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif">
<div style="max-width:34em;margin:0 auto">
<h1 style="font-size:20px;margin:0 0 16px">{title}</h1>
{paragraphs}
</div></body></html>
"""


# Of a newer version, which has opened a case before it was taken back.
OTHER = Words(
    "Something that this version of Relay does not know",
    "A newer version has opened it, about {subject}.",
    "Please look at it once that version is back, or close it.",
    is_about_a_kit=False,
)


def words(kind: str) -> Words:
    """What is said of a kind of case."""
    return ALERTS.get(kind, OTHER)


def happened(kind: str, subject: str) -> str:
    """What has happened, about a kit or all those of a digest."""
    about = f"the kits of {subject}" if subject.startswith(DIGEST_PREFIX) else f"kit {subject}"
    return words(kind).happened.format(subject=subject, about=about)


def is_alert(rule: str) -> bool:
    """Whether a notification is one of ours to staff, not a rule's."""
    return rule.startswith(ALERT_PREFIX)


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
            rule=ALERT_PREFIX + kind,
            template="",
            subject=subject,
            round=0,
            role=to,
            channel=way,
            address=address,
            status="created",
            reason="",
            due_at=now,
            urgency=9,
            content=_content(way, kind, subject, reason, policy.desk),
        )
        for way in ways[:1]
        for address in (group.on(way) if group else ())
    )
    return Case(kind, key, subject, reason, event_id, notification_id, notices)


def _content(way: str, kind: str, subject: str, reason: str, desk: str) -> Mapping[str, str]:
    words = ALERTS[kind]
    where = f"The worklist: {desk}" if desk else ""
    said = [happened(kind, subject), reason, words.to_do, where]
    paragraphs = [text for text in said if text]
    html = "\n".join(f"<p>{escape(text)}</p>" for text in paragraphs)
    if CHANNELS[way].in_segments:
        return {"text": f"Relay: {words.title}. See the admin desk."}
    return {
        "subject": words.title,
        "text": "\n\n".join(paragraphs),
        "html": _HTML.format(title=escape(words.title), paragraphs=html),
    }


RELEASE = "release"


def ask_to_release(
    plan: Plan, rules: Sequence[Rule], policy: Policy, event_id: str, now: datetime
) -> Plan:
    """The plan with a case for each rule that holds its messages, whatever their channels."""
    holding = {rule.name for rule in rules if rule.hold}
    waiting = {
        notice.family: notice
        for notice in plan.notices
        if notice.rule in holding and notice.status == "scheduled"
    }
    cases = [
        case(
            RELEASE,
            family,
            notice.subject,
            _release_reason(notice, policy),
            policy=policy,
            now=now,
            event_id=event_id,
        )
        for family, notice in waiting.items()
    ]
    return replace(plan, cases=(*plan.cases, *cases))


def _release_reason(notice: Notice, policy: Policy) -> str:
    when = notice.due_at.astimezone(policy.zone).strftime("%A %d %B at %H:%M")
    return f"It is for the {notice.role}. If nobody stops it, it goes out on {when}."
