"""What config.toml says besides its rules, in plain English: the clinic, its staff, its limits.

Staff's addresses and those of `allow` are masked. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.config import Config
from relay.privacy import masks
from relay.rule_words import duration, window
from relay.rules.channels import CHANNELS
from relay.tables import Delivery


def sentences(config: Config) -> list[str]:
    """Who the clinic is, who its staff are, how messages go out and what is kept for how long."""
    return [*_clinic(config), *_staff(config), *_sending(config), *_keeping(config.delivery)]


def _clinic(config: Config) -> Iterator[str]:
    clinic = config.clinic
    read = f" Patients read their results at {clinic.portal}." if clinic.portal else ""
    yield f"Messages speak for {clinic.name}, {clinic.phone}.{read}"
    yield f"Times are by the clock of {clinic.timezone}."
    if clinic.extra:
        yield f"Templates have words of your own: {', '.join(clinic.extra)}."


def _staff(config: Config) -> Iterator[str]:
    for name, group in config.staff.items():
        found = [address for channel in CHANNELS for address in group.on(channel)]
        yield f"The staff of {name}: {_masked(found) or 'nobody'}."
    if alerts := config.policy.alerts:
        yield f"The staff of {alerts} hear when something needs a person."
    else:
        yield "There are no staff: nobody is written to when something needs a person."


def _sending(config: Config) -> Iterator[str]:
    delivery = config.delivery
    for channel, sender in delivery.senders.items():
        yield f"{CHANNELS[channel].title} come from {sender or 'nobody: no sender is set'}."
    hours = window(delivery.send_window, config.policy)
    yield f"Unless a rule says otherwise, messages go out {hours}."
    if delivery.bank_holidays:
        days = ", ".join(f"{day:%-d %b %Y}" for day in sorted(delivery.bank_holidays))
        yield f"Bank holidays: {days}."
    yield f"At most {delivery.daily_sms_limit:,} texts go out a day; more wait for the next."
    yield f"A text of more than {delivery.max_sms_segments} segments is warned of."
    for channel, rate in delivery.rates.items():
        if rate:
            yield f"At most {rate:g} {CHANNELS[channel].word}s go out a second."
    if delivery.allow:
        allowed = _masked(sorted(delivery.allow))
        yield f"While RELAY_DELIVERY is allow-list, only these get anything: {allowed}."


def _keeping(delivery: Delivery) -> Iterator[str]:
    yield (
        f"The lab is asked for {duration(delivery.lab_patience)} for what an event needs; "
        "then a person is told."
    )
    yield f"The same event within {duration(delivery.dedupe_window)} counts once."
    blanked = "contact details and words are blanked, and texts deleted at Twilio"
    yield f"After {duration(delivery.retention)} {blanked}."


def _masked(found: Iterable[str]) -> str:
    return ", ".join(map(masks.address, found))
