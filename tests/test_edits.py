"""Forty edits that an admin makes, each with what `flask relay check --offline` says of it.

docs/edits.md shows them; RELAY_UPDATE_EXPECTED=1 writes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

from relay.config import check
from relay.config.settings import judge
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "edits.md"
HEAD = """# Forty edits, and what `check` says

What an admin does to config.toml and the templates, one edit a row, on the files that Relay comes
with, and what `flask relay check --offline` says. "Right" means that it says nothing. Made by
`tests/test_edits.py`, from the real thing.
[Every kind of mistake](../tests/expected/config-errors.md) is with the tests.

| # | Edit | Where, and what is written | `check` says |
|---|---|---|---|
"""
CONFIG = "config.toml"
TEXT, EMAIL = "templates/kit_shipped/sms.txt", "templates/kit_shipped/email.txt"
AT_END = "[rules.kit-shipped] "
WHEN = "registration.status not in ['cancelled', 'fail', 'processing_error', 'partial_result']"
TWIN = '[rules.twin]\nevent = "order.shipped"\nto = "customer"\nchannels = ["sms"]\ntemplate = "kit_shipped"'
# What the admin wants, the file, what stands there, what is written instead.
# fmt: off
EDITS = [
    ("another name and phone", CONFIG, '"020 7946 0000"', '"0161 496 0123"'),
    ("no text in the morning", CONFIG, '"08:00-20:00"', '"10:00-20:00"'),
    ("no text on Sunday", CONFIG, '"08:00-20:00"', '"Mon-Sat 08:00-20:00"'),
    ("email alone", CONFIG, 'channels = ["sms", "email"]', 'channels = ["email"]'),
    ("a rule off", CONFIG, 'template = "kit_shipped"', 'template = "kit_shipped"\nenabled = false'),
    ("a reminder after ten days", CONFIG, AT_END, '[rules.reminder]\nevent = "order.delivered"\nto = "customer"\nchannels = ["email"]\ntemplate = "kit_delivered"\nafter = "10d"\nunless = ["test_registration.sample_received"]\n' + AT_END),
    ("only Royal Mail", CONFIG, 'template = "kit_shipped"', "template = \"kit_shipped\"\nwhen = \"order.carrier == 'royal_mail'\""),
    ("the name in a text", TEXT, "your kit", "{{ recipient.first_name or 'there' }}, your kit"),
    ("the same, with a hole", TEXT, "your kit", "{{ recipient.first_name }}, your kit"),
    ("words of one's own", CONFIG, '# [clinic.extra]', '[clinic.extra]\nhours = "9 to 5"\n#'),
    ("a word of Python", CONFIG, "enabled = false ", "enabled = False "),
    ("a limit with a comma", CONFIG, "= 2000", "= 2,000"),
    ("a list without a comma", CONFIG, '["sms", "email"]', '["sms" "email"]'),
    ("a name with a blank", CONFIG, "[rules.kit-shipped]", "[rules.Kit shipped]"),
    ("a dash of Word", CONFIG, "08:00-20:00", "08:00\u201320:00"),
    ("quotes of Word", CONFIG, '"EXCLINIC"', "\u201cHARBOUR\u201d"),
    ("no quotes", CONFIG, '"90d"', "90d"),
    ("days in words", CONFIG, '"90d"', '"90 days"'),
    ("two addresses as sender", CONFIG, "Example Clinic <results@example.org>", "results@example.org, desk@example.org"),
    ("a comma in the name", CONFIG, "Example Clinic <", "Example Clinic, London <"),
    ("too long a sender", CONFIG, '"EXCLINIC"', '"EXAMPLECLINIC"'),
    ("a key misspelt", CONFIG, "phone =", "fone ="),
    ("an event misspelt", CONFIG, '"order.shipped"', '"order.shiped"'),
    ("a folder misspelt", CONFIG, '"kit_shipped"', '"kit_shiped"'),
    ("a window the wrong way round", CONFIG, "08:00-20:00", "20:00-08:00"),
    ("a status that there is not", CONFIG, WHEN, "registration.status == 'complete'"),
    ("a word in a list of records", CONFIG, WHEN, "'MENS' in order.items"),
    ("a rule that never applies", CONFIG, WHEN, "false"),
    ("one equals sign", CONFIG, WHEN, "registration.status = 'success'"),
    ("the same told twice", CONFIG, AT_END, f"{TWIN}\n{AT_END}"),
    ("an unknown name", TEXT, "clinic.phone", "clinic.fone"),
    ("single braces", TEXT, "{{ clinic.short_name }}", "{clinic.name}"),
    ("marks of another program", TEXT, "your kit", "%first_name%, your kit"),
    ("angle brackets", TEXT, "Call ", "See <<portal>> or call "),
    ("a short link", TEXT, "Call ", "See http://bit.ly/abc or call "),
    ("an emoji", TEXT, "your kit", "\U0001f4e6 your kit"),
    ("a text of three segments", TEXT, "your kit", "your kit " + "which we have packed with care " * 6),
    ("a block misspelt", EMAIL, "block next", "block nxt"),
    ("a step that there is not", EMAIL, "block step %}1{", "block step %}7{"),
    ("a block without its end", EMAIL, "{% endblock %}\n{% block next", "\n{% block next"),
]
# fmt: on


def said(folder: Path, file: str, old: str, new: str) -> Iterator[str]:
    """What `check --offline` says of an edit of the files that Relay comes with."""
    path = folder / file
    text = path.read_text("utf-8")
    assert old in text, old
    path.write_text(text.replace(old, new, 1), "utf-8")
    try:
        settings = judge({"RELAY_ENV": "development"}, to_serve=False)[0]
        used = replace(settings, config=folder / CONFIG, templates=folder / "templates")
        for problem in check.files(used, date(2026, 1, 5), offline=True)[1]:
            told = str(problem).replace(f"{folder}/", "").replace("|", "\\|")
            yield f"{'warning' if problem.warning else 'error'}: `{told}`"
    finally:
        path.write_text(text, "utf-8")


def test_the_page_has_each_edit_with_what_check_says(tmp_path: Path) -> None:
    """docs/edits.md has forty edits, with the words that are said of each; the first ten, which are
    meant, are right but for the one that leaves a hole, and the others are not passed in silence.
    """
    shutil.copy(ROOT / CONFIG, tmp_path)
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    found = [list(said(tmp_path, *edit[1:])) for edit in EDITS]
    assert len(EDITS) == 40
    silent = [edit[0] for edit, words in zip(EDITS, found, strict=True) if not words]
    right = [edit[0] for edit in EDITS[:10] if "hole" not in edit[0]]
    assert silent == [*right, "a comma in the name"]
    rows = [
        f"| {number} | {wanted} | {file.removeprefix('templates/')}: {shown(new)} "
        f"| {'<br>'.join(words) or 'right'} |\n"
        for number, ((wanted, file, _, new), words) in enumerate(zip(EDITS, found, strict=True), 1)
    ]
    page = HEAD + "".join(rows)
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


def shown(written: str) -> str:
    """What is written, on one line of a table."""
    line = " ".join(written.split()).replace("|", "\\|").removesuffix(AT_END.strip()).strip()
    return f"`{line if len(line) < 90 else line[:87] + '…'}`"
