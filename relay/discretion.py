"""What an SMS or a subject line must not show: phones lie on tables, and families share them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.details import BIRTHDAY, FIRST, LAST, RESULT, TEST, Said
from relay.errors import Problem
from relay.messages import Templates
from relay.rules.model import Rule
from relay.shown import Shown

SHOWN = {"sms": "sms.txt", "email": "subject.txt"}  # what a locked screen shows of each channel
_SECRETS = {
    TEST: "it may show what is tested.",
    RESULT: "it may show how a test went.",
    BIRTHDAY: "it may show a date of birth.",
}
_CLINICAL = re.compile(
    r"\b(HIV|AIDS|STIs?|STDs?|HPV|PSA|chlamydia|gonorrh\w+|syphilis|hepatitis|herpes|cancer|"
    r"tumou?rs?|pregnan\w+|fertility|menopause|testosterone|thyroid|hormones?|diabetes|"
    r"cholesterol|prostate|paternity|(?:posi|nega)tive)\b",
    re.IGNORECASE,
)


def problems(loaded: Templates, rule: Rule) -> Iterator[Problem]:
    """What a rule's SMS and subject may show, unless the rule says that they may."""
    if not rule.discreet:
        return
    remedy = (
        f"A locked screen shows it: take it out, or write discreet = false in [rules.{rule.name}]."
    )
    for channel in (*rule.channels, *rule.fallback):
        file = f"{rule.template}/{SHOWN[channel]}"
        shown = Shown(loaded.tree, file)
        for detail, message in _told(shown.ways):
            name, line = shown.places[detail]
            yield Problem(message, str(loaded.folder / name), line, remedy=remedy)
        for name in loaded.named(file):
            for word, line in _clinical(loaded.source(name)):
                where = str(loaded.folder / name)
                yield Problem(f'it says "{word}".', where, line, remedy=remedy, warning=True)


def _told(ways: Said) -> Iterator[tuple[str, str]]:
    """Each secret that words may show in one way or another, and what is said of it."""
    for detail, message in _SECRETS.items():
        if any(detail in way for way in ways):
            yield detail, message
    if any({FIRST, LAST} <= way for way in ways):
        yield LAST, "it may show a full name: a first name and a last name together."


def _clinical(source: str) -> Iterator[tuple[str, int]]:
    """Words that tell what is tested, and their lines. A short list can only be a hint."""
    for number, line in enumerate(source.splitlines(), 1):
        for found in _CLINICAL.finditer(line):
            yield found[0], number
