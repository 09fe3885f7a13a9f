"""A draft's rules as forms, beside the text: every possible key of a rule, with its help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import flash, redirect, request, url_for
from marshmallow import fields

from relay.config import plain_english
from relay.config.edition_files import CONFIG
from relay.config.fields import OneOf, Several
from relay.config.loader import parse
from relay.config.schema import RuleSchema
from relay.config.toml_writer import rules_in, with_rule, without_rule
from relay.errors import ConfigError, Problem
from relay.lab.facts import PERSONS
from relay.ledger.drafts import Draft
from relay.messages import alerts
from relay.rules.channels import CHANNELS, begun
from relay.rules.edition import Content
from relay.rules.model import Rule
from relay.staff import judging
from relay.staff.looks import REVEAL
from relay.staff.roles import EDIT
from relay.web.desk.editions import config_of, draft_of, kept, lines_between, messages_of
from relay.web.desk.layout import blueprint, note_look, page, requires
from relay.web.desk.rules import mistakes
from relay.web.services import services

# The usual keys, in order. The page folds the others away until they are set.
USUAL: Sequence[str] = (
    *("title", "event", "to", "channels", "fallback", "template", "when", "after", "send_window"),
    "enabled",
)
BETWEEN = "; "  # separates the texts of a key that takes one or several
_SAID: Mapping[str, Callable[[str], str]] = {  # a choice in words
    "event": plain_english.happens,
    "unless": plain_english.happens,
    "to": plain_english.recipient_in_words,
    "channels": lambda channel: CHANNELS[channel].label,
    "fallback": lambda channel: CHANNELS[channel].label,
}


@dataclass(frozen=True)
class Field:
    """A key of a rule in a form: `value` is its text or, for a list, its texts."""

    key: str
    schema: fields.Field[Any]
    value: str | Sequence[str]
    choices: Sequence[tuple[str, str]]  # (value, in words); if empty, any text
    wrong: str = ""

    @property
    def label(self) -> str:
        """Its name on the page."""
        return self.key.replace("_", " ").capitalize()

    @property
    def default(self) -> str:
        """The value that counts if nothing is written."""
        made = Rule(self.key, "", "", (), "")
        default = getattr(made, self.key, "")
        return str(default).lower() if isinstance(default, bool | str) else ""

    @property
    def is_several(self) -> bool:
        """Whether any number of the choices may be ticked."""
        return isinstance(self.schema, fields.List)

    @property
    def is_usual(self) -> bool:
        """Whether the page shows it from the start."""
        return self.key in USUAL or bool(self.value) or bool(self.wrong)


@blueprint.get("/draft/<draft_id>/rule")
@requires(EDIT)
def draft_rule(draft_id: str) -> Any:
    """A rule of a draft as a form; a new one without a name. It may show staff's addresses."""
    it, base, _ = draft_of(draft_id)
    files, name = it.on(base), request.args.get("name", "")
    try:
        written = rules_in(files[CONFIG]).get(name, {})
    except ValueError as error:
        flash(str(error))
        return redirect(url_for("desk.draft_file", draft_id=it.id, name=CONFIG))
    if name:
        note_look(REVEAL, CONFIG, f"rule {name}"[:100])
    return _form(it, name, files, written, is_new=not written)


@blueprint.post("/draft/<draft_id>/rule")
@requires(EDIT)
def save_rule(draft_id: str) -> Any:
    """Write a rule into the draft's config.toml, or only show what that would do."""
    it, base, _ = draft_of(draft_id)
    files, name = it.on(base), request.form.get("name", "").strip()[:100]
    is_new = "new" in request.form
    given = {key: _given(key, schema) for key, schema in RuleSchema().fields.items()}
    wrong = ""
    try:
        there = rules_in(files[CONFIG])
        if not re.fullmatch(r"[\w-]+", name, re.ASCII):
            wrong = 'Give it a name of letters, digits and "-", as in results-ready.'
        elif is_new and name in there:
            wrong = f"There is a rule {name} already: open that one."
        if request.form.get("act") == "delete" and name in there:
            if kept(it, base, CONFIG, without_rule(files[CONFIG], name)):
                return redirect(url_for("desk.draft", draft_id=it.id))
            return redirect(url_for("desk.draft_rule", draft_id=it.id, name=name))
        before = there.get(name, {})
        text = files[CONFIG] if wrong else with_rule(files[CONFIG], name, _changes(before, given))
    except ValueError as error:
        flash(str(error))
        return redirect(url_for("desk.draft_file", draft_id=it.id, name=CONFIG))
    edited, theirs = {**files, CONFIG: text}, []
    if not wrong and request.form.get("act") == "save":
        if kept(it, base, CONFIG, text):
            return redirect(url_for("desk.draft", draft_id=it.id))
        theirs = [*lines_between(files[CONFIG], text)]
    return _form(it, name, edited, given, is_new=is_new, wrong=wrong, theirs=theirs)


def _form(
    it: Draft,
    name: str,
    files: Content,
    written: Mapping[str, Any],
    *,
    is_new: bool,
    wrong: str = "",
    theirs: Sequence[str] = (),
) -> str:
    found = judging.apart(files, services().settings) if name and not wrong else []
    mine = {one.key: one for one in reversed(found) if one.key.startswith(f"rules.{name}.")}
    said: list[str] = []
    with suppress(ConfigError):
        config = parse(files[CONFIG], services().settings)
        rule = config.by_name.get(name)
        said = plain_english.rule_sentences(rule, config.policy) if rule else []
    is_usable = bool(said) and all(problem.warning for problem in found)
    made = [*_fields(name, written, files, mine)]
    at_fields = {id(problem) for problem in mine.values()}
    return page(
        "rule_form.html",
        draft=it,
        name=name,
        is_new=is_new,
        wrong=wrong,
        theirs=theirs,
        usual=[one for one in made if one.is_usual],
        others=[one for one in made if not one.is_usual],
        sentences=said,
        found=[*mistakes([one for one in found if id(one) not in at_fields], files=files)],
        shown=messages_of(files, rule=name) if is_usable else [],
        config=services().config,
    )


def _fields(
    name: str, written: Mapping[str, Any], files: Content, found: Mapping[str, Problem]
) -> Iterator[Field]:
    """A rule's keys, the usual ones in their order, then the others."""
    schemas = RuleSchema().fields
    for key in sorted(schemas, key=lambda key: USUAL.index(key) if key in USUAL else len(USUAL)):
        problem = found.get(f"rules.{name}.{key}")
        said = begun(f"{problem.message} {problem.remedy}".strip()) if problem else ""
        value = _shown(schemas[key], written.get(key))
        yield Field(key, schemas[key], value, [*_choices(key, schemas[key], files)], said)


def _choices(key: str, schema: fields.Field[Any], files: Content) -> Iterator[tuple[str, str]]:
    """Yield the values that a key may have, each with its words."""
    one = schema.inner if isinstance(schema, fields.List) else schema
    values: Sequence[str] = one.known if isinstance(one, OneOf) else ()
    if isinstance(schema, fields.Boolean):
        values = ("true", "false")
    elif key == "to":
        values = (*PERSONS, *config_of(files).staff)
    elif key == "template":
        folders = {path[1] for name in files if len(path := name.split("/")) > 2}
        values = sorted(folders - {alerts.FOLDER})
    for value in values:
        yield value, _SAID[key](value) if key in _SAID else value


def _shown(schema: fields.Field[Any], value: Any) -> str | Sequence[str]:
    """A key's value as the form shows it."""
    if isinstance(schema, fields.List):
        return [str(one) for one in value] if isinstance(value, list) else []
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return BETWEEN.join(map(str, value))
    return "" if value is None else str(value)


def _given(key: str, schema: fields.Field[Any]) -> Any:
    """The value filled in for a key, as TOML has it; None if there is none."""
    if isinstance(schema, fields.List):
        return request.form.getlist(key) or None
    text = request.form.get(key, "").strip()
    if isinstance(schema, fields.Boolean):
        return {"true": True, "false": False}.get(text)
    if isinstance(schema, Several) and BETWEEN.strip() in text:
        return [one.strip() for one in text.split(BETWEEN.strip()) if one.strip()]
    return text or None


def _changes(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that have changed: those not touched keep their lines in the file."""
    schemas = RuleSchema().fields
    return {
        key: value
        for key, value in given.items()
        if _shown(schemas[key], value) != _shown(schemas[key], before.get(key))
    }
