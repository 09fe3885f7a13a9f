"""The cost of an edit: more or fewer segments and messages, at the prices of [costs]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from relay.config import check
from relay.config.loader import Config
from relay.config.schema import Costs
from relay.errors import RenderError
from relay.messages import sms_segments
from relay.messages.templates import Templates
from relay.rules.channels import CHANNELS
from relay.staff.what_if import MORE, SENT, WhatIf

MONTH = timedelta(days=30)


def of_edit(compared: WhatIf, until: datetime) -> str:
    """How much more or less an edit costs in a month, from its comparison up to `until`."""
    more: Counter[str] = Counter()
    before, after = compared.current, compared.edited
    for rule, channel in {way[:2] for way in compared.found.volumes}:
        sent, added = (compared.found.volumes[rule, channel, what] for what in (SENT, MORE))
        more[channel] += (sent + added) * units(after, rule, channel)
        more[channel] -= sent * units(before, rule, channel)
    months = max(until - compared.since, timedelta(seconds=1)) / MONTH
    monthly = {channel: round(many / months) for channel, many in more.items()}
    return _in_words(after.costs, {channel: many for channel, many in monthly.items() if many})


def units(config: Config, name: str, channel: str) -> int:
    """The units that a rule's message costs, judged by its example: segments, or 1 if they are not
    billed. The items of a digest cost nothing themselves.
    """
    rule = config.by_name.get(name)
    if rule is None or rule.digest:
        return 0
    if not CHANNELS[channel].in_segments:
        return 1
    try:
        made = check.example(config, Templates(config.settings.templates), rule, channel)
    except RenderError:
        return 0
    return sms_segments.size(made.text).segments


def _in_words(costs: Costs, more: Mapping[str, int]) -> str:
    parts = []
    for channel, many in sorted(more.items()):
        row, number = CHANNELS[channel], abs(many)
        what = row.word if number == 1 else row.words
        if row.in_segments:
            what = f"segment{'s' * (number != 1)} of {row.words}"
        parts.append(f"{number:,} {'more' if many > 0 else 'fewer'} {what}")
    if not parts:
        return "It costs as much as before."
    said = f"In a month, {' and '.join(parts)}"
    if not more.keys() <= costs.prices.keys():
        return f"{said}. Write their prices into [costs] to see what that costs."
    total = sum(costs.prices[channel] * many for channel, many in more.items())
    return f"{said}: some {costs.in_words(abs(total))} {'more' if total > 0 else 'less'}."
