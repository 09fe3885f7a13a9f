"""A run's templates: each message says which rule it is of and which kit or order it is about.

So the providers' own lists tell, without the ledger, whether the right person has heard of it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools.bench.servers import ROOT

KIT, ORDER = "{{ registration.trf_code }}", "{{ order.order_number }}"
ABOUT = {
    "kit-shipped": ORDER,
    "kit-delivered": ORDER,
    "return-reminder": ORDER,
    "who-ordered": f"{KIT} {ORDER}",
}
RENAMED = "-by-another-name"  # what follows the name of a rule that has another one for a while
_SAID = re.compile(r"About (?P<rule>[a-z-]+) (?P<word>\S+)(?: (?P<order>\S+))?$")


class Said(NamedTuple):
    """What a message says."""

    rule: str
    word: str  # of a kit or an order
    order: str | None  # the order's too, where the rule names both


def said(words: str) -> Said | None:
    """What a message of a rule says; None for an alert."""
    found = _SAID.search(words)
    return Said(**found.groupdict()) if found else None


def template(rule: str) -> str:
    """The name of a rule's template."""
    return rule.replace("-", "_")


def write(folder: Path, rules: Mapping[str, Any]) -> None:
    """Make the templates of all rules, each under both of its names; alerts are the house's own."""
    house = ROOT / "templates"
    shutil.copytree(house / "alerts", folder / "alerts")
    for file in house.glob("*.*"):
        shutil.copy(file, folder)
    for name in rules:
        for rule in (name, name + RENAMED):
            (folder / template(rule)).mkdir()
            text = f"About {rule} {ABOUT.get(name, KIT)}"
            for part in ("sms.txt", "subject.txt", "email.txt"):
                (folder / template(rule) / part).write_text(text, "utf-8")
            (folder / template(rule) / "email.html").write_text(f"<p>{text}</p>", "utf-8")
