"""Every kind of mistake in config.toml and templates: its line, what is said, what would be right.

tests/expected/config-errors.md shows them; RELAY_UPDATE_EXPECTED=1 writes it.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import check
from relay.config.loader import load, parse
from relay.config.settings import Settings
from relay.errors import ConfigError, Problem
from relay.messages.templates import Templates
from tests.conftest import ROOT
from tests.test_config import EXAMPLE, problems

PAGE = ROOT / "tests" / "expected" / "config-errors.md"
HEAD = """# What a mistake in config.toml looks like

`flask relay check` tells every mistake at once: the file, the line, the table and key, what is wrong and what would be right.
Relay does not start with one, and a running Relay keeps to the last good file. Made by a test, from the real thing:
`RELAY_UPDATE_EXPECTED=1 .venv/bin/pytest tests/test_config_broken.py`.

| Mistake | Written, at the line | What is said |
|---|---|---|
"""


@dataclass(frozen=True)
class Mistake:
    """One thing of the example (`old`) written wrong (`new`), and what has to be said of it."""

    kind: str
    old: str
    new: str
    line: int | None
    key: str
    words: tuple[str, ...]


def wrong(kind: str, old: str, new: str, line: int, key: str, *words: str) -> Mistake:
    """A mistake in config.toml."""
    assert EXAMPLE.count(old) >= 1, old
    return Mistake(kind, old, new, line, key, words)


KIT, READY, DESK = "rules.kit-shipped", "rules.results-ready", "rules.desk-retests"
# A row a mistake.
# fmt: off
SYNTAX = [
    wrong("no quotes", '"90d"', "90d", 14, "", "text needs quotes.", 'Write retention = "90d".'),
    wrong("a word without quotes", '"kit_shipped"', "kit", 25, "", "text needs quotes.", 'Write template = "kit".'),
    wrong("a word as Python writes it", "enabled = true", "enabled = False", 34, "", "true and false must be in lower case", "Write enabled = false."),
    wrong("yes for true", "enabled = true", "enabled = yes", 34, "", "this is true or false", "Write enabled = true."),
    wrong("a number with a comma", "= 2000", "= 2,000", 13, "", "a number has no comma", "Write daily_sms_limit = 2000."),
    wrong("no comma in a list", '["sms", "email"]', '["sms" "email"]', 24, "", "no comma between the values", 'Write channels = ["sms", "email"].'),
    wrong("a blank in a heading", "[rules.kit-shipped]", "[rules.Kit shipped]", 21, "", "a name in a heading cannot have a space", "Write [rules.Kit-shipped]."),
    wrong("quotes of a word processor", '"kit_shipped"', "“kit”", 25, "", "line 25, column 12 has a curly quote (U+201C), as Word writes it.", "straight quotes"),
    wrong("a curly quote at the end only", '"90d"', '"90d”', 14, "", "line 14, column 17 has a curly quote (U+201D)", "straight quotes"),
    wrong("French quotes", '"90d"', "«90d»", 14, "", "has a curly quote (U+00AB)", "straight quotes"),
    wrong("backticks", '"90d"', "`90d`", 14, "", "line 14, column 13 has a backtick (U+0060)", "straight quotes"),
    wrong("a no-break space", "portal", "\u00a0portal", 5, "", "line 5, column 1 has a no-break space (U+00A0), as Word writes it.", "plain space, or none"),
    wrong("a no-break space before the =", "retention =", "retention\u00a0=", 14, "", "line 14, column 10 has a no-break space (U+00A0)", "plain space"),
    wrong("a narrow no-break space", "= 2000", "=\u202f2000", 13, "", "a narrow no-break space (U+202F)", "plain space"),
    wrong("a zero-width space", "[delivery]", "[delivery\u200b]", 8, "", "line 8, column 10 has a zero width space (U+200B)", "or none"),
    wrong("a byte-order mark inside", "[delivery]", "\ufeff[delivery]", 8, "", "line 8, column 1 has a byte-order mark (U+FEFF), as Notepad writes it.", "Delete it"),
    wrong("a line separator", '"90d"', '"90d"\u2028', 14, "", "a line separator (U+2028)", "plain space"),
    wrong("a full-width equals sign", "retention =", "retention \uff1d", 14, "", "line 14, column 11 has a fullwidth equals sign (U+FF1D)", "the plain = for it"),
    wrong("full-width brackets", "[delivery]", "\uff3bdelivery\uff3d", 8, "", "a fullwidth left square bracket (U+FF3B)", "the plain [ for it"),
    wrong("a key in other letters", "retention =", "срок =", 14, "", "cyrillic small letter es (U+0441)", "letters from a to z"),
    wrong("a dash behind a value", '"90d"', '"90d" — days', 14, "", "an em dash (U+2014)", "Text needs straight quotes"),
    wrong("a comment of another language", "[delivery]", "// what is sent\n[delivery]", 8, "", "line 8, column 1 has a comment as other languages write it (//).", "with #"),
    wrong("the same behind a value", '"90d"', '"90d" // days', 14, "", "(//)", "with #"),
    wrong("a comment of C", "[delivery]", "/* what is sent */\n[delivery]", 8, "", "(/*)", "with #"),
    wrong("a comment of SQL", "[delivery]", "-- what is sent\n[delivery]", 8, "", "(--)", "with #"),
    wrong("a semicolon", '"90d"', '"90d";', 14, "", "line 14, column 18 has a semicolon (;).", "Delete it"),
    wrong("a merge that is not finished", "[delivery]", "<<<<<<< HEAD\n[delivery]", 8, "", "line 8, column 1 has the mark of a merge that is not finished (<<<<<<<).", "delete the marks"),
    wrong("its second half", "[delivery]", "=======\n[delivery]", 8, "", "(=======)", "delete the marks"),
    wrong("its end", "[delivery]", ">>>>>>> mine\n[delivery]", 8, "", "(>>>>>>>)", "delete the marks"),
    wrong("no closing quote", '"90d"', '"90d', 14, "", "is not closed", "a quote at each end"),
    wrong("a long text without an end", '"90d"', '"""', 41, "", "is not closed", 'Close it with the """' ),
    wrong("no closing bracket", '"email"]\ntemplate', '"email"\ntemplate', 25, "", "this list is not closed", "End it with a bracket"),
    wrong("a heading without an end", "[delivery]", "[delivery", 8, "", "this heading is not closed", "[clinic]"),
    wrong("no =", 'to = "customer"', 'to: "customer"', 23, "", "no = after the key", 'name = "text"' ),
    wrong("a table twice", "[staff.lab-desk] ", "[delivery]", 17, "", "appears twice", "declare delivery twice", "one heading" ),
    wrong("a key twice", 'portal = "https', 'name = "https', 5, "", "set twice", "Remove one"),
]
TABLES = [
    wrong("an unknown table", "[clinic] ", "[clinik] ", 2, "clinik", "no such table", 'mean "clinic"?' ),
    wrong("an unknown table", "[rules.kit", "[rule.kit", 21, "rule", "no such table", 'mean "rules"?' ),
    wrong("a value for a table", "[delivery]", "delivery = 1\n[clinic.extra]", 8, "clinic.delivery", "no such key"),
    wrong("an unknown key", "portal =", "portel =", 5, "clinic.portel", "no such key", 'mean "portal"?'),
    wrong("an unknown key", "timezone", "1", 6, "clinic.1", "no such key", "Choose from: accent, extra" ),
    wrong("an unknown key", "enabled", "enable", 34, f"{READY}.enable", "no such key", '"enabled"?' ),
    wrong("an unknown key", "sms = [", "text = [", 19, "staff.lab-desk.text", "Choose from: email, sms."),
    wrong("a missing key", 'name = "Example Clinic"', "", 2, "clinic.name", "is missing", "Add it to [clinic]."),
    wrong("a missing key", 'event = "order.shipped"\n', "", 21, f"{KIT}.event", "is missing", "Add it to [rules.kit"),
    wrong("an empty text", '"Example Clinic"\n', '""\n', 3, "clinic.name", "must not be empty."),
    wrong("a reserved name", "[staff.lab-desk]", "[staff.patient]\n[staff.lab-desk]", 17, "staff.patient", "means the person", "Choose another name."),
    wrong("a reserved name", "[rules.kit-shipped]", '[rules."relay:x"]', 21, "rules.relay:x", "Relay's own alerts", "Choose another name."),
    wrong("extra is no table", "[delivery]", "extra = 1\n[delivery]", 8, "clinic.extra", "must be a table", "[clinic.extra]"),
]
VALUES = [
    wrong("a number for a text", '"30d"', "30", 15, "delivery.dedupe_window", "must be text", "in quotes"),
    wrong("a text for a number", "segments = 2", 'segments = "2"', 12, "delivery.max_sms_segments", "whole number", "without quotes"),
    wrong("a text for a list", '["sms", "email"]', '"sms"', 24, f"{KIT}.channels", "must be a list", 'as in ["text"]'),
    wrong("a text for true", "enabled = true", 'enabled = "yes"', 34, f"{READY}.enabled", "must be true or false", "without quotes"),
    wrong("too small a number", "segments = 2", "segments = 0", 12, "delivery.max_sms_segments", "from 1 to 10"),
    wrong("a negative limit", "= 2000", "= -1", 13, "delivery.daily_sms_limit", "a whole number from 1 up"),
    wrong("no rate", "max_sms_segments = 2", "sms_per_second = 0", 12, "delivery.sms_per_second", "above 0, as in 10"),
    wrong("a rate that is none", "max_sms_segments = 2", 'email_per_second = "x"', 12, "delivery.email_per_second", "must be a number"),
    wrong("a bad duration", '"90d"', '"90 days"', 14, "delivery.retention", "a whole number and", '"30d"'),
    wrong("a duration of nothing", '"90d"', '"0d"', 14, "delivery.retention", "longer than zero", '"30d"'),
    wrong("a bad window", "08:00-20:00", "8 to 8", 11, "delivery.send_window", 'as in "08:00-20:00", or "always"'),
    wrong("a bad window", '"always"', '"24/7"', 40, f"{DESK}.send_window", 'or "always"', '"Mon-Fri 08:00-20:00"'),
    wrong("a time that there is not", "08:00-20:00", "08:00-25:00", 11, "delivery.send_window", "there is no time 25:00"),
    wrong("a window with a long dash", "08:00-20:00", "08:00\u201320:00", 11, "delivery.send_window", "it has a long dash", 'write "08:00-20:00"'),
    wrong("a window without an end", "08:00-20:00", "08:00-08:00", 11, "delivery.send_window", 'write "always"'),
    wrong("a bad day of the week", "08:00-20:00", "Mo-Fr 08:00-20:00", 11, "delivery.send_window", 'no day "Mo"', "Mon, Tue, Wed"),
    wrong("a bad bank holiday", "max_sms_segments = 2", 'bank_holidays = ["25.12.2026"]', 12, "delivery.bank_holidays", "not a date", '"2026-12-25"'),
    wrong("a region that there is not", "max_sms_segments = 2", 'bank_holidays = "GB"', 12, "delivery.bank_holidays", "GB-ENG, GB-NIR"),
    wrong("hours by day in one text", '"08:00-20:00"', '"Mon-Fri 08:00-20:00, Sat 09:00-12:00"', 11, "delivery.send_window", "a list", '["Mon-Fri 08'),
    wrong("hours that overlap", '"08:00-20:00"', '["08:00-20:00", "Sat 09:00-12:00"]', 11, "delivery.send_window", "overlap on Sat"),
    wrong("a bad time zone", "/London", "/Londn", 6, "clinic.timezone", "unknown time zone", '"Europe/London"'),
    wrong("a colour that is too light", 'portal = "https', 'accent = "#f4c542"\nportal = "https', 5, "clinic.accent", "white letters on #f4c542 cannot be read", 'as in "#866c24"'),
    wrong("a colour by its name", 'portal = "https', 'accent = "teal"\nportal = "https', 5, "clinic.accent", "six hex digits"),
    wrong("a logo that few mail programs show", 'portal = "https', 'logo = "https://a.example/l.svg"\nportal = "https', 5, "clinic.logo", "use a PNG or JPEG"),
    wrong("a page without https", "https://portal", "http://portal", 5, "clinic.portal", "an https:// address."),
    wrong("too long a sender", '"EXCLINIC"', '"EXAMPLECLINIC"', 9, "delivery.sms_from", "up to 11 letters and digits"),
    wrong("a sender without letters", '"EXCLINIC"', '"12345678901"', 9, "delivery.sms_from", "at least one a letter"),
    wrong("a sender that is no address", " <results@example.org>", "", 10, "delivery.email_from", "it has no email address", '"Example Clinic <results@'),
    wrong("a sender without its brackets", "<results@example.org>", "results@example.org", 10, "delivery.email_from", "not between < and >", '"Example Clinic <results@'),
    wrong("a sender without its last bracket", "example.org>", "example.org", 10, "delivery.email_from", "its last > is missing", '"Example Clinic <results@'),
    wrong("a sender with something behind it", "example.org>", "example.org> (results)", 10, "delivery.email_from", "there is text after the address", '"Example Clinic <results@'),
    wrong("a sender of what is not sent", '"always"', '"always"\nsms_from = "RESULTS"', 41, f"{DESK}.sms_from", "the rule sends no texts"),
    wrong("a bad address for answers", "max_sms_segments = 2", 'email_reply_to = "Desk <a@example.org>"', 12, "delivery.email_reply_to", "not valid", '"desk@example.org"'),
    wrong("a country that there is not", "max_sms_segments = 2", 'sms_countries = ["UK"]', 12, "delivery.sms_countries", 'no country "UK"', '"GB"'),
    wrong("two senders", "example.org>", "example.org>, Desk <desk@example.org>", 10, "delivery.email_from", "more than one address", '"Example Clinic <results@'),
    wrong("two addresses", "Example Clinic <results@example.org>", "results@example.org, desk@example.org", 10, "delivery.email_from", "more than one address", '"Example Clinic <results@'),
    wrong("a sender on two lines", "Example Clinic <", "Example\\nClinic <", 10, "delivery.email_from", "more than one line", '"Example Clinic <results@'),
    wrong("a sender that is not valid", "results@example.org>", "results@example>", 10, "delivery.email_from", "The email address is not valid", '"Example Clinic <results@'),
    wrong("a bad email address", "lab-desk@", "lab-desk ", 18, "staff.lab-desk.email", "The email address is not valid", '"desk@example.org"'),
    wrong("a foreign number", "+447700900100", "+353851234567", 19, "staff.lab-desk.sms", "Relay texts UK mobiles only", "sms_countries"),
    wrong("a landline", "+447700900100", "020 7946 0000", 19, "staff.lab-desk.sms", "a landline", "Write a UK mobile"),
    wrong("a bad allowed address", "max_sms_segments = 2", 'allow = ["nobody"]', 12, "delivery.allow", "Write"),
]
RULES = [
    wrong("an unknown event", "order.shipped", "order.shiped", 22, f"{KIT}.event", 'unknown value "order.shiped"', '"order.shipped"?'),
    wrong("an unknown person", '"customer"', '"custmer"', 23, f"{KIT}.to", 'no recipient "custmer"', 'mean "customer"?'),
    wrong("an unknown staff group", 'to = "lab-desk"', 'to = "desk"', 38, f"{DESK}.to", 'no recipient "desk"', 'mean "lab-desk"?'),
    wrong("an unknown group for alerts", "max_sms_segments = 2", 'alerts = "desk"', 12, "delivery.alerts", 'no staff group "desk"', '"lab-desk"?'),
    wrong("a group without addresses", "email = [", "email = [] #", 38, f"{DESK}.to", "no email addresses", "Add some to [staff.lab-desk]"),
    wrong("an unknown channel", '["sms", "email"]', '["sms", "emial"]', 24, f"{KIT}.channels", 'unknown value "emial"', '"email"?'),
    wrong("no channel", '["sms", "email"]', "[]", 24, f"{KIT}.channels", "list at least one."),
    wrong("a channel twice", '["email"]\ntemplate', '["sms"]\ntemplate', 31, f"{READY}.fallback", "in channels too", "Remove it"),
    wrong("a time for no fallback", '"always"', '"always"\nfallback_after = "4h"', 41, f"{DESK}.fallback_after", "there is no fallback", "remove the key"),
    wrong("a time that is never up", "enabled = true", 'fallback_after = "3d"', 34, f"{READY}.fallback_after", 'less than "72h"'),
    wrong("a folder elsewhere", '"kit_shipped"', '"../secrets"', 25, f"{KIT}.template", "a folder's name", '"kit_shipped"'),
    wrong("a condition that is none", "!= 'c", "= 'c", 33, f"{READY}.when", "not a valid condition", "two equals signs"),
    wrong("an unknown name in a condition", "registration.s", "registration.z", 33, f"{READY}.when", "unknown name", 'mean "status"?'),
    wrong("an unknown root in a condition", "registration.s", "result.s", 33, f"{READY}.when", 'unknown name "result"', "Choose from"),
    wrong("unless of its own event", "enabled = true", 'unless = ["lab_results.complete"]', 34, f"{READY}.unless", "own event", "Remove it"),
    wrong("an unknown event in unless", "enabled = true", 'unless = ["order.deliverd"]', 34, f"{READY}.unless", '"order.delivered"?'),
    wrong("a bad delay", "enabled = true", 'after = "a week"', 34, f"{READY}.after", "a whole number and", '"30d"'),
    wrong("nothing to wait for", "enabled = true", 'hold = "0h"', 34, f"{READY}.hold", "longer than zero"),
    wrong("hold and after", "enabled = true", 'hold = "1h"\nafter = "1d"', 34, f"{READY}.hold", "Remove after"),
    wrong("hold of a message to staff", '"always"', '"always"\nhold = "2d"', 41, f"{DESK}.hold", "to the patient or the customer"),
    wrong("a bad language", "enabled = true", 'language = "patient.language"', 34, f"{READY}.language", 'unknown name "patient.language"'),
    wrong("a digest in several languages", '"always"', '"always"\ndigest = "daily 08:00"\nlanguage = "event.name"', 42, f"{DESK}.language", "one language"),
    wrong("a digest for a patient", "enabled = true", 'digest = "daily 08:00"', 34, f"{READY}.digest", "only staff get digests"),
    wrong("a bad digest", '"always"', '"always"\ndigest = "hourly"', 41, f"{DESK}.digest", '"daily 08:00"', '"every 4h"'),
    wrong("an unknown choice", "enabled = true", 'on_unknown = "wait"', 34, f"{READY}.on_unknown", 'unknown value "wait"', "hold, resend"),
]
RESULTS_LATE = """[expect.results]
after = "test_registration.sample_received"
event = "lab_results.complete"
within = "10d"
to = "lab-desk"
[rules.desk-retests]"""
EXPECT = [
    wrong("a step that does not follow", "[rules.desk-retests]", RESULTS_LATE.replace('"lab_results.complete"', '"order.shipped"'), 38, "expect.results.event", "order.shipped"),
    wrong("an unknown event to expect", "[rules.desk-retests]", RESULTS_LATE.replace("lab_results.complete", "lab_results.complet"), 38, "expect.results.event", 'mean "lab_results.complete"?'),
    wrong("too short a time", "[rules.desk-retests]", RESULTS_LATE.replace("10d", "10m"), 39, "expect.results.within", "an hour or more"),
    wrong("nobody to tell", "[rules.desk-retests]", RESULTS_LATE.replace("lab-desk", "lab-desc"), 40, "expect.results.to", '"lab-desk"?'),
]
IN_CONFIG = [*SYNTAX, *TABLES, *VALUES, *RULES, *EXPECT]
# In templates/kit_shipped: the file, what it has, its line, what is said.
IN_TEMPLATES = [
    Mistake("an unknown name in a template", "sms.txt", "Hello\n{{ custmer.first_name }}", 2, "", ('unknown name "custmer"', 'mean "customer"?')),
    Mistake("an unknown field in a template", "sms.txt", "{{ clinic.nam }}", 1, "", ('unknown name "clinic.nam"', 'mean "name"?')),
    Mistake("an unknown filter", "email.txt", "{{ clinic.name|uper }}", 1, "", ('unknown filter "uper"', '"upper"?')),
    Mistake("a template without an end", "sms.txt", "Hello\n{% if order %}x", 2, "", ("{% if %} has no {% endif %}",)),
    Mistake("a bracket too few", "sms.txt", "Hello\n{{ clinic.name }", 2, "", ("unexpected '}'", "names between {{ and }}")),
    Mistake("a missing file", "email.html", "", None, "", ("there is no such file.",)),
    Mistake("a secret in a text", "sms.txt", "{{ registration.product_skus or '' }} x", 1, "", ("what is tested", "discreet = false")),
    Mistake("a full name in a subject", "subject.txt", "{{ customer.first_name or '' }}\n{{ customer.last_name or '-' }}", 2, "", ("a full name", "remove it")),
]
# fmt: on


ROWS: dict[Mistake, str] = {}  # the page's, as tests have found them


def config_problem(mistake: Mistake, folder: Path) -> Problem:
    """What is said of a mistake in config.toml: that alone."""
    path = folder / "config.toml"
    path.write_text(EXAMPLE.replace(mistake.old, mistake.new, 1), "utf-8")
    (found,) = problems(path)
    return found


def template_problem(mistake: Mistake, folder: Path) -> Problem:
    """What is said of a mistake in a template: that alone."""
    shutil.copytree(ROOT / "templates", folder / "templates", dirs_exist_ok=True)
    file = folder / "templates" / "kit_shipped" / mistake.old
    file.unlink()
    if mistake.new:
        file.write_text(mistake.new, "utf-8")
    config = load(Settings(config=ROOT / "config.toml"))
    only = replace(config, rules=tuple(rule for rule in config.rules if rule.name in KIT))
    (found,) = check.templates(only, Templates(folder / "templates"))
    return found


def said_rightly(found: Problem, mistake: Mistake) -> None:
    """Line, key and words are as they should be, for somebody who knows no Python."""
    assert (found.line, found.key, found.warning) == (mistake.line, mistake.key, False)
    text = f"{found.message} {found.remedy}".strip()
    assert [words for words in mistake.words if words not in text] == []
    assert text.endswith((".", "?"))
    assert not any(word in text for word in ("Exception", "None", "Traceback", "NoneType", "str("))


def ids(mistakes: list[Mistake]) -> list[str]:
    """A test's name: the kind of mistake."""
    return [mistake.kind for mistake in mistakes]


@pytest.mark.parametrize("mistake", IN_CONFIG, ids=ids(IN_CONFIG))
def test_a_mistake_is_told_with_its_line_key_and_remedy(mistake: Mistake, tmp_path: Path) -> None:
    """A mistake in config.toml is told once, where it stands, with what would be right."""
    found = config_problem(mistake, tmp_path)
    assert found.where == str(tmp_path / "config.toml")
    said_rightly(found, mistake)
    ROWS[mistake] = _row(mistake, found, tmp_path)


_WRITE = re.compile(r"[Ww]rite (.+ = .+|\[.+\])\.$")
_MEANT = re.compile(r'Did you mean "(.+)"\?$')
_AS_IN = re.compile(r'(?:as in|write it as|write) ("[^"]*"|\[[^\]]*\]|\d+)')
_UNKNOWN = re.compile(r'"(?:\w+\.)*([^".]+(?:\.[^".]+)?)"')


def advised(mistake: Mistake, found: Problem) -> str | None:
    """The file as somebody writes it who does to the letter what is said; None where what is said
    is how to write it, and no more.
    """
    rows = EXAMPLE.replace(mistake.old, mistake.new, 1).split("\n")
    row = rows[(found.line or 1) - 1]
    if written := _WRITE.search(found.remedy):
        if "text" in written[1]:  # an example of how
            return None
        rows[(found.line or 1) - 1] = written[1]
    elif meant := _MEANT.search(found.remedy):
        unknown = _UNKNOWN.search(found.message)
        wrong_word = unknown[1] if unknown else found.key.split(".")[-1]
        rows[(found.line or 1) - 1] = row.replace(wrong_word, meant[1])
    elif (example := _AS_IN.search(f"{found.message} {found.remedy}")) and "=" in row:
        rows[(found.line or 1) - 1] = f"{row.partition('=')[0]}= {example[1]}"
    elif "Delete it" in found.remedy or "Remove" in found.remedy:
        del rows[(found.line or 1) - 1]
    else:
        return None
    return "\n".join(rows)


def test_who_does_what_is_said_is_right(tmp_path: Path) -> None:
    """Where a message says what to write, which word was meant, or what to remove, doing so to the
    letter leaves nothing wrong there.
    """
    tried, left = 0, []
    for mistake in IN_CONFIG:
        found = config_problem(mistake, tmp_path)
        if (text := advised(mistake, found)) is None:
            continue
        tried += 1
        try:
            parse(text, Settings())
        except ConfigError as error:
            if found.message in [one.message for one in error.problems]:
                left.append((mistake.kind, found.remedy))
    assert left == []
    assert tried > 30


@pytest.mark.parametrize("mistake", IN_TEMPLATES, ids=ids(IN_TEMPLATES))
def test_a_mistake_in_a_template_is_told_with_file_and_line(
    mistake: Mistake, tmp_path: Path
) -> None:
    """A mistake in a template is told once, in the file in which it stands."""
    found = template_problem(mistake, tmp_path)
    assert found.where == str(tmp_path / "templates" / "kit_shipped" / mistake.old)
    said_rightly(found, mistake)
    ROWS[mistake] = _row(mistake, found, tmp_path)


def test_a_template_that_is_not_there_is_told_in_config(tmp_path: Path) -> None:
    """A misspelt folder is told where the rule names it, with the nearest one there is."""
    path = tmp_path / "config.toml"
    text = (ROOT / "config.toml").read_text("utf-8").replace('"kit_shipped"', '"kit_shiped"')
    path.write_text(text, "utf-8")
    (found,) = check.templates(load(Settings(config=path)), Templates(ROOT / "templates"))
    line = text.splitlines().index('template = "kit_shiped"') + 1
    assert (found.where, found.line, found.key) == (str(path), line, f"{KIT}.template")
    assert found.message == f"there is no folder {ROOT / 'templates' / 'kit_shiped'}."
    assert found.remedy == 'Did you mean "kit_shipped"?'


# How another program saves the file → its line, and what is said.
ENCODINGS: dict[str, tuple[bytes, int, str]] = {
    "Latin-1": (
        EXAMPLE.replace("EXCLINIC", "Clínica").encode("latin-1"),
        9,
        'this is not UTF-8 text: line 9, column 15 has the byte ED ("í" in Windows-1252).',
    ),
    "behind letters of two bytes": (
        EXAMPLE.replace("EXCLINIC", "éX!").encode().replace(b"X!", b"\x92"),
        9,
        "this is not UTF-8 text: line 9, column 14 has the byte 92.",
    ),
    "UTF-16": (EXAMPLE.encode("utf-16"), 1, "this file is UTF-16, which Notepad calls Unicode."),
    "UTF-16 without a mark": (
        EXAMPLE.encode("utf-16-le"),
        1,
        "this file is UTF-16, which Notepad calls Unicode.",
    ),
}


@pytest.mark.parametrize(("raw", "line", "said"), ENCODINGS.values(), ids=ENCODINGS)
def test_what_is_not_utf8_is_told_with_its_place(
    raw: bytes, line: int, said: str, tmp_path: Path
) -> None:
    """A file in another encoding is refused by line, column and byte, and says how to save it."""
    path = tmp_path / "config.toml"
    path.write_bytes(raw)
    assert problems(path) == [Problem(said, str(path), line, remedy="Save the file as UTF-8.")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_end_of_a_line_and_a_mark_at_the_beginning_are_taken(end: str, tmp_path: Path) -> None:
    """What Windows and old Macs save is read, with a byte-order mark or without."""
    for mark in (b"", b"\xef\xbb\xbf"):
        path = tmp_path / "config.toml"
        path.write_bytes(mark + EXAMPLE.replace("\n", end).encode())
        assert load(Settings(config=path)).clinic.name == "Example Clinic"


@given(text=st.text(max_size=60), line=st.integers(0, 60))
def test_whatever_is_written_is_told_and_nothing_breaks(text: str, line: int) -> None:
    """No text put into config.toml, wherever it stands, leads to anything but problems."""
    rows = EXAMPLE.split("\n")
    rows.insert(line % len(rows), text)
    with suppress(ConfigError):
        parse("\n".join(rows), Settings())


def test_the_page_shows_them_all(tmp_path: Path) -> None:
    """tests/expected/config-errors.md has each kind of mistake with the very words that are said."""
    for one in (*IN_CONFIG, *IN_TEMPLATES):
        if one not in ROWS:
            find = config_problem if one in IN_CONFIG else template_problem
            folder = tmp_path / str(len(ROWS))
            folder.mkdir()
            ROWS[one] = _row(one, find(one, folder), folder)
    page = HEAD + "".join(ROWS[one] for one in (*IN_CONFIG, *IN_TEMPLATES))
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


def _row(mistake: Mistake, found: Problem, folder: Path) -> str:
    text = mistake.new
    if mistake in IN_CONFIG:
        text = (folder / "config.toml").read_text("utf-8")
    lines = [line.partition("  #")[0].strip() for line in text.split("\n")]
    written = lines[found.line - 1] if found.line else ""
    said = str(found).replace(f"{folder}/", "")
    return f"| {mistake.kind} | {_code(written)} | {_code(said)} |\n"


def _code(text: str) -> str:
    """As code in a table's cell."""
    escaped = text.replace("|", "\\|")
    return f"`` {escaped} ``" if "`" in text else f"`{escaped}`" if text else ""
