"""Previews: a rule's messages as their reader will see them, before any go out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from marshmallow import ValidationError

from relay.config import check
from relay.config.loader import Config
from relay.errors import RenderError
from relay.lab.facts import Facts
from relay.messages import sms_segments
from relay.messages.templates import Message, Templates
from relay.privacy import masks
from relay.rules.channels import CHANNELS, Channel
from relay.rules.model import Rule


class Shown(NamedTuple):
    """A message on a channel, or why Relay cannot make it."""

    channel: str
    message: Message | None
    size: sms_segments.Size | None = None
    wrong: str = ""

    @property
    def row(self) -> Channel:
        """The channel's row."""
        return CHANNELS[self.channel]


def examples(config: Config, loaded: Templates, rule: Rule) -> Iterator[Shown]:
    """Yield a rule's messages about the lab's example."""
    for channel in rule.ways:
        yield shown(config, loaded, rule, channel)


def shown(
    config: Config,
    loaded: Templates,
    rule: Rule,
    channel: str,
    real: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> Shown:
    """A message with example data, or with a `real` kit's data and facts, with personal data
    masked.

    Its segments are those of the real words: a mask's dots are not in the SMS alphabet.
    """
    write = partial(check.example, config, loaded, rule, channel)
    try:
        if real is None:
            made = whole = write()
        else:
            data, facts = real
            whole = write(data=data, facts=Facts.from_json(facts))
            masked = Facts.from_json(masks.fields(facts))
            made = write(data=masks.fields(data), facts=masked)
    except RenderError as error:
        return Shown(channel, None, wrong=str(error))
    except ValidationError:
        return Shown(channel, None, wrong="the event's data are not valid once they are masked.")
    return Shown(channel, made, whole.size)
