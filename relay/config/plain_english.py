"""A configuration in plain English: rules, their conditions, and what the clinic says. Pure.

A plain condition is put into words: comparisons, joined by `and` or by `or`. Any other is shown as
it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any

from jinja2 import TemplateSyntaxError, nodes

from relay.config.loader import Config
from relay.config.schema import Costs, Delivery, Desk
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS
from relay.messages.passages import Frame
from relay.privacy import masks
from relay.rules.addresses import AT_HOME, EMAIL, in_words
from relay.rules.channels import CHANNELS, begun
from relay.rules.expressions import environment, node_path, parsed
from relay.rules.model import URGENT_WORDS, DailyLimit, Policy, Rule
from relay.rules.schedule import DAYS, Digest, Hours, Window

# Jinja's name for a comparison → our words for it, and for its opposite.
_SAID = {
    "eq": ("is", "is not"),
    "ne": ("is not", "is"),
    "gt": ("is more than", "is at most"),
    "gteq": ("is at least", "is less than"),
    "lt": ("is less than", "is at least"),
    "lteq": ("is at most", "is more than"),
    "in": ("is", "is not"),
    "notin": ("is not", "is"),
}
_WHOLE = frozenset(("gt", "gteq", "lt", "lteq"))  # for numbers only


@lru_cache(maxsize=256)
def condition_in_words(source: str) -> str:
    """As in: the registration's status is not “cancelled”; empty if it cannot be said plainly."""
    tree = environment().parse("{{ (" + source + ") }}")
    [output] = tree.body
    [node] = output.nodes if isinstance(output, nodes.Output) else [output]
    for kind, joint in ((nodes.And, " and "), (nodes.Or, " or ")):
        if isinstance(node, kind):
            said = [compared(one) for one in joined(node, kind)]
            return joint.join(said) if all(said) else ""
    return compared(node)


def joined(node: Any, kind: type[nodes.BinExpr]) -> list[nodes.Node]:
    """The parts of a condition such as: a and b and c."""
    if not isinstance(node, kind):
        return [node]
    return [*joined(node.left, kind), *joined(node.right, kind)]


def compared(node: nodes.Node, contrary: bool = False) -> str:
    """One comparison of a field with a literal."""
    if isinstance(node, nodes.Not):
        return compared(node.node, not contrary)
    if isinstance(node, nodes.Test) and node.name == "none":
        field = field_in_words(node.node)
        return field and f"{field} {'is not' if contrary else 'is'} empty"
    if not isinstance(node, nodes.Compare) or len(node.ops) != 1:
        return ""
    [operand] = node.ops
    field, value = field_in_words(node.expr), value_in_words(operand)
    return f"{field} {_SAID[operand.op][contrary]} {value}" if field and value else ""


def field_in_words(node: nodes.Node) -> str:
    """A field in words, as in: the order's carrier."""
    if not isinstance(node, nodes.Getattr) or not isinstance(node.node, nodes.Name):
        return ""
    return f"the {node.node.name}'s {node.attr.replace('_', ' ')}"


def value_in_words(operand: nodes.Operand) -> str:
    """A value in words, as in: “a”, 3, true, or one of a list."""
    value = operand.expr
    if operand.op in ("in", "notin"):
        if not isinstance(value, nodes.List | nodes.Tuple) or not value.items:
            return ""
        said = [constant(one) for one in value.items]
        return listed(said, "or") if all(said) else ""
    if operand.op in _WHOLE and not isinstance(getattr(value, "value", ""), int | float):
        return ""
    return constant(value)


def constant(node: nodes.Node) -> str:
    """A literal in words; empty if it is not one, or cannot be put into words."""
    value = node.value if isinstance(node, nodes.Const) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:,}"
    return f"“{value}”" if isinstance(value, str) and value.strip() else ""


def frames_in_words(frames: Iterable[Frame]) -> Iterator[str]:
    """Yield a sentence for each condition and loop around a passage of a template."""
    for kind, test, passed in frames:
        failed = listed([f"if {met_in_words(one)}" for one in passed], "or") if passed else ""
        if kind == "for":
            item, _, items = (test or passed[-1]).partition(" in ")
            yield f"Once for each `{item}` of `{items}`." if test else f"If `{items}` is empty."
        elif kind == "if" and test:
            yield f"Only if {met_in_words(test)}{failed and f', and not {failed}'}."
        elif kind == "if":
            yield f"Not {failed}."


def met_in_words(test: str) -> str:
    """A template's condition, which may also ask whether a value exists."""
    with suppress(TemplateSyntaxError, RecursionError):
        if said := condition_in_words(test):
            return said
        node = parsed(test)
        is_not = isinstance(node, nodes.Not)
        node = node.node if isinstance(node, nodes.Not) else node
        if path := node_path(node):
            field = field_in_words(node) or f"`{'.'.join(map(str, path))}`"
            return f"{field} is {'not ' * is_not}given"
    return f"`{test}`"


_FULL = {"Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Sat": "Saturday"}
_WEEK = tuple(_FULL.get(day, f"{day}day") for day in DAYS)
_MIDNIGHT = 24 * 60


def rule_sentences(rule: Rule, policy: Policy) -> list[str]:
    """A rule in sentences: first who gets what and when, then its conditions and exceptions."""
    if rule.digest:
        return [digest_in_words(rule, rule.digest, policy), *conditions_in_words(rule)]
    return [message_in_words(rule, policy), *conditions_in_words(rule)]


def happens(event: str) -> str:
    """An event as a clause, as in: the kit is shipped."""
    return EVENTS[event].happens or f"{event} comes"


def duration(length: timedelta) -> str:
    """A time in its largest whole unit: 10 days, 36 hours, 90 minutes."""
    seconds = int(length.total_seconds())
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, many = next((name, seconds // size) for name, size in units if seconds % size == 0)
    return f"{many:,} {unit}{'s' * (many != 1)}"


def window(open_: Window, policy: Policy) -> str:
    """When messages may go out, as in: between 08:00 and 20:00."""
    if not open_.hours:
        return "at any hour"
    free = ", but not on bank holidays" if policy.bank_holidays else ""
    return ", or ".join(map(hours_in_words, open_.hours)) + free


def hours_in_words(hours: Hours) -> str:
    """Days and hours in words, as in: on Saturday, between 09:00 and 12:00."""
    over = " the next morning" if hours.closes > _MIDNIGHT else ""
    days = "" if len(hours.days) == len(DAYS) else f"on {days_in_words(hours.days)}, "
    return f"{days}between {clock_in_words(hours.opens)} and {clock_in_words(hours.closes)}{over}"


def expected(after: str, event: str, within: timedelta, to: str) -> str:
    """A sentence about a step that is expected of a kit."""
    return (
        f"When {happens(after)}, Relay allows {duration(within)} until {happens(event)}. "
        f"After that it alerts {recipient_in_words(to)}."
    )


def message_in_words(rule: Rule, policy: Policy) -> str:
    """Say when a rule sends, to whom, on which channels, and within which hours."""
    delay = f"{duration(rule.after)} later" if rule.after else "at once"
    if rule.hold:
        delay = f"once staff have released it, or {duration(rule.hold)} later if nobody stops it"
    when = window(rule.send_window or policy.send_window, policy)
    action = f"{verbs_in_words(rule.channels)} {recipient_in_words(rule.to)}"
    return f"When {happens(rule.event)}, {action} {delay}, {when}."


def digest_in_words(rule: Rule, digest: Digest, policy: Policy) -> str:
    """Say when a rule gathers its items, for whom, and when the digest goes out."""
    later = f" {duration(rule.after)} later" if rule.after else ""
    hours = f", {window(rule.send_window, policy)}" if rule.send_window else ""
    return (
        f"When {happens(rule.event)}, note it{later} for {recipient_in_words(rule.to)}; "
        f"{times_in_words(digest)}, {verbs_in_words(rule.channels)} them all that has gathered, "
        f"in one message{hours}."
    )


def times_in_words(digest: Digest) -> str:
    """Say when a digest goes out: every day or Monday at a time, or every few hours."""
    if len(digest.times) == 1:
        days = "day" if len(digest.days) == len(DAYS) else days_in_words(digest.days)
        return f"every {days} at {digest.times[0]:%H:%M}"
    step = duration(timedelta(hours=digest.times[1].hour, minutes=digest.times[1].minute))
    return f"every {step.removeprefix('1 ')} from midnight on"


def conditions_in_words(rule: Rule) -> Iterator[str]:
    """Yield a sentence for each condition, exception and fallback of a rule."""
    if rule.when:
        # As code, between backticks, if it cannot be said plainly.
        yield f"Only if {condition_in_words(rule.when.source) or f'`{rule.when.source}`'}."
    if rule.unless:
        yield f"Not if, by then, {listed([happens(event) for event in rule.unless], 'or')}."
    if rule.fallback:
        within = duration(rule.fallback_after) if rule.fallback_after else ""
        late = f", or is not reported to have arrived within {within}" if within else ""
        yield f"If that cannot reach them{late}, {verbs_in_words(rule.fallback)} them instead."
    if rule.language:
        yield f"In the language that `{rule.language.source}` gives, where its words are there."
    for channel, sender in rule.senders.items():
        yield f"Its {CHANNELS[channel].words} come from {sender}."
    if rule.reply_to and any(CHANNELS[way].address == EMAIL for way in rule.ways):
        yield f"Answers to its emails go to {masks.address(rule.reply_to)}."
    if rule.even_if_late:
        yield "Send it even if a later step of the kit has already come."
    if rule.on_unknown == "hold":
        yield "If Relay cannot tell whether it went out, a person decides whether to send it again."
    if not rule.discreet:
        yield "A text or a subject line may name a test, a date of birth or a full name."


def recipient_in_words(to: str) -> str:
    """A rule's recipient in words: the patient, or the staff of a group."""
    return f"the {to}" if to in PERSONS else f"the staff of {to}"


def verbs_in_words(channels: Sequence[str]) -> str:
    """Channels as verbs, as in: text and email."""
    return listed([CHANNELS[channel].verb for channel in channels], "and")


def clock_in_words(minutes: int) -> str:
    """Write minutes from midnight as a time: “08:30”, or “midnight”."""
    hours, rest = divmod(minutes % _MIDNIGHT, 60)
    return f"{hours:02}:{rest:02}" if hours or rest else "midnight"


def days_in_words(days: frozenset[int]) -> str:
    """Days in words, as in: Monday to Friday; Monday, Wednesday and Saturday."""
    starts = [day for day in sorted(days) if (day - 1) % 7 not in days]
    if len(starts) == 1 and len(days) > 2:
        return f"{_WEEK[starts[0]]} to {_WEEK[(starts[0] + len(days) - 1) % 7]}"
    return listed([_WEEK[day] for day in sorted(days)], "and")


def listed(words: Sequence[str], last: str) -> str:
    """Words as a list, as in: one, two and three."""
    *others, final = words
    return f"{', '.join(others)} {last} {final}" if others else final


def clinic_sentences(config: Config) -> list[str]:
    """Sentences on the clinic, its staff, how messages go out, and how long data is kept."""
    return [
        *describe_clinic(config),
        *describe_staff(config),
        *describe_sending(config),
        *describe_keeping(config.delivery),
        *describe_desk(config.desk),
        *describe_costs(config.costs),
    ]


def describe_desk(desk: Desk) -> Iterator[str]:
    """Yield sentences about what the desk requires of its users."""
    if desk.reveal_reason:
        yield "The desk asks for a reason before it shows names and addresses."
    yield (
        f"Staff are alerted when somebody looks at people's data more than {desk.looks_per_hour:,} "
        "times in an hour."
    )
    if desk.second_person:
        yield "What somebody edits, a second person has to approve before it is in use."
    if desk.security_contact:
        yield f"Whoever finds a hole in security is asked to write to {desk.security_contact}."


def describe_costs(costs: Costs) -> Iterator[str]:
    """Yield a sentence for each price."""
    for channel, price in costs.prices.items():
        row = CHANNELS[channel]
        what = f"a segment of {row.one}" if row.in_segments else row.one
        yield f"{begun(what)} costs {costs.in_words(price)}."


def describe_clinic(config: Config) -> Iterator[str]:
    """Yield sentences about the clinic: name, phone, portal, time zone, own values."""
    clinic = config.clinic
    read = f" Patients read their results at {clinic.portal}." if clinic.portal else ""
    yield f"Messages give the clinic's name as {clinic.name} and its phone as {clinic.phone}.{read}"
    if clinic.short_name:
        yield f"Texts, the head of emails and the desk call it {clinic.short_name}."
    if clinic.logo:
        yield f"Emails and the desk show the logo at {clinic.logo}."
    if clinic.accent:
        yield f"Emails and the desk have the colour {clinic.accent}."
    yield f"Times are in the time zone {clinic.timezone}."
    if clinic.extra:
        yield f"Templates can use your own values: {', '.join(clinic.extra)}."


def describe_staff(config: Config) -> Iterator[str]:
    """Yield a sentence for each staff group, addresses masked, and say who gets alerts."""
    for name, group in config.staff.items():
        found = [masks.address(one) for channel in CHANNELS for one in group.on(channel)]
        yield f"The staff of {name}: {', '.join(found) or 'nobody'}."
    if alerts := config.policy.alerts:
        yield f"When something needs a person, Relay alerts the staff of {alerts}."
    else:
        yield "There are no staff groups, so Relay alerts nobody when something needs a person."


def describe_sending(config: Config) -> Iterator[str]:
    """Yield sentences about senders, sending hours, bank holidays, limits and allow-list."""
    delivery = config.delivery
    for channel, sender in delivery.senders.items():
        if CHANNELS[channel].sender:
            origin = f"come from {sender}" if sender else "have no sender yet"
            yield f"{CHANNELS[channel].title} {origin}."
    if delivery.reply_to:
        yield f"Answers to emails go to {masks.address(delivery.reply_to)}."
    hours = window(delivery.send_window, config.policy)
    yield f"Unless a rule says otherwise, messages go out {hours}."
    if delivery.bank_holidays:
        known = [f"those of {region}" for region in delivery.bank_holidays.regions]
        known += [f"{day:%-d %b %Y}" for day in sorted(delivery.bank_holidays.days)]
        yield f"Bank holidays: {', '.join(known)}."
    yield f"At most {delivery.daily_sms_limit:,} texts go out in a day; any more wait for the next."
    if kept := DailyLimit(delivery.daily_sms_limit).kept:
        yield f"Relay keeps the last {kept:,} of these for {URGENT_WORDS}."
    segments = f"{delivery.max_sms_segments} segment{'s' * (delivery.max_sms_segments != 1)}"
    yield f"`check` warns about texts of more than {segments}."
    if delivery.sms_countries != AT_HOME:
        yield f"Texts go to {in_words(delivery.sms_countries)} mobiles."
    for channel, rate in delivery.rates.items():
        if rate:
            yield f"At most {rate:g} {CHANNELS[channel].words} go out in a second."
    if delivery.allow:
        allowed = ", ".join(map(masks.address, sorted(delivery.allow)))
        yield f"While RELAY_DELIVERY is allow-list, only these addresses get messages: {allowed}."


def describe_keeping(delivery: Delivery) -> Iterator[str]:
    """Yield sentences about waiting for the lab, duplicates and how long data is kept."""
    yield (
        "Relay keeps asking the lab for what an event needs for "
        f"{duration(delivery.lab_patience)}, then alerts staff."
    )
    yield f"A repeat of an event within {duration(delivery.dedupe_window)} counts as a duplicate."
    blanked = "Relay blanks contact details and message texts, also at Twilio"
    yield f"After {duration(delivery.retention)} {blanked}."
    gone = "it deletes the rest of what it knows of a finished kit"
    yield f"After {duration(delivery.history)} {gone}."
