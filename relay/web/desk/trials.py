"""What a draft without mistakes would change: its rules in words, and what it would have done."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import request

from relay.config.edition_files import CONFIG
from relay.config.loader import Config
from relay.config.plain_english import rule_sentences
from relay.lab.facts import PERSONS
from relay.ledger.drafts import Draft
from relay.messages.templates import Templates
from relay.privacy import masks
from relay.rules.edition import Content
from relay.rules.model import Rule
from relay.staff import trial
from relay.staff.looks import WHAT_IF
from relay.staff.previews import Shown, examples
from relay.staff.roles import ACT
from relay.web.desk.layout import AGAIN, me, note_look
from relay.web.services import services

WORDS = {what: what.replace("-be-told", " tell").replace("-", " ") for what in trial.WHAT}


@dataclass(frozen=True)
class Change:
    """A rule that an edit brings, changes or takes out, in words, and its messages."""

    what: str
    rule: Rule
    sentences: Sequence[str]
    shown: Sequence[Shown] = ()


def rule_changes(edited: Config, current: Config, touched: Collection[str]) -> Iterator[Change]:
    """What an edit makes of the rules: of one that is the same in words and keys, nothing, unless
    its template was `touched`.
    """
    loaded = Templates(edited.settings.templates)
    before = {rule.name: (rule, rule_sentences(rule, current.policy)) for rule in current.rules}
    for rule in edited.rules:
        now = (rule, rule_sentences(rule, edited.policy))
        if before.get(rule.name) != now or rule.template in touched:
            what = "changed" if rule.name in before else "new"
            yield Change(what, *now, [*examples(edited, loaded, rule)])
    kept = {rule.name for rule in edited.rules}
    yield from (Change("gone", *one) for name, one in before.items() if name not in kept)


def tried_out(draft: Draft, files: Content, edited: Config) -> dict[str, Any]:
    """What a draft would change, for the page that shows it. Who sees counts of people by a new
    condition about them is kept.
    """
    app = services()
    found = {
        "changes": [*rule_changes(edited, app.config, trial.reworded(draft))],
        "edited": edited,
        "words": WORDS,
        "days": trial.DAYS,
    }
    if asks := [rule for rule in edited.rules if asks_who(rule, app.config)]:
        if not me().may(ACT):
            return {**found, "about_people": asks}
        if not request.args.get(AGAIN):
            note_look(WHAT_IF, CONFIG, f"{len(asks)} conditions about people")
    of = trial.begin(app.db, draft, files, app.config.edition, app.settings)
    tried = dict(draft.trial or {}) if draft.trial_of == of else {}
    for line in tried.get("lines", ()):
        line["at"] = datetime.fromisoformat(line["at"])
    return {**found, "tried": tried}


def asks_who(rule: Rule, current: Config) -> bool:
    """Whether an edit's rule has a new condition about who people are: its counts would tell."""
    before = current.rule(rule.name)
    known = {*before.conditions} if before else set()
    return any(
        masks.WHO & when.fields or {*PERSONS, "recipient"} & when.roots
        for when in rule.conditions
        if when not in known
    )
