"""The desk's editions: past and present rules and templates, and drafts of the next edition."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any, NamedTuple

from flask import Response, abort, current_app, flash, redirect, request, url_for
from itsdangerous import BadSignature, URLSafeSerializer
from jinja2 import TemplateSyntaxError

from relay.config import edition_files, plain_english
from relay.config.edition_files import CONFIG, TEMPLATES
from relay.config.loader import Config, load, parse
from relay.config.plain_english import rule_sentences
from relay.config.toml_writer import rules_in
from relay.errors import ConfigError
from relay.lab.facts import PERSONS
from relay.ledger import drafts
from relay.ledger import editions as ledger_editions
from relay.ledger.audit import NO_NOTE, NotDone
from relay.ledger.drafts import Draft
from relay.messages import passages
from relay.messages.templates import Templates
from relay.messages.vocabulary import names_in
from relay.privacy import masks
from relay.rules.edition import Content, Edition
from relay.rules.model import Rule
from relay.staff import editions, judging, trial
from relay.staff.looks import REVEAL, WHAT_IF
from relay.staff.previews import Shown, examples
from relay.staff.roles import ACT, EDIT, LOOK
from relay.web.desk.layout import (
    AGAIN,
    SCHEMES,
    actor,
    blueprint,
    framed,
    me,
    note_look,
    page,
    requires,
    written_note,
)
from relay.web.desk.rules import mistakes
from relay.web.services import services

BEHIND = (
    "Edition {number} has been published by {author} since this draft was begun. Bring the draft "
    "up to date first: what edition {number} changed is shown below."
)
ANOTHER = "Somebody else has to approve it: not you, who have written or asked for it."
EXAMPLES = 4  # messages on a file's page
LONGEST_WORDS, MOST_PASSAGES = 13_000, 80  # of a file, whose form has its source and each passage
LONGEST_PERMIT = 3_000  # characters in a URL, of which gunicorn takes 4,094 in all
LONGEST = 40_000  # characters of a file: a form has 64 KiB, where odd ones count several times


class Passage(NamedTuple):
    """A part of a file with its own field: its words as somebody has just edited them."""

    number: int
    part: passages.Part
    words: str
    wrong: str


class Written(NamedTuple):
    """A file as it was shown and as it was sent: whole, or in `passages` if those are shown."""

    source: str
    text: str
    passages: Sequence[Passage] = ()


@blueprint.get("/editions")
@requires(LOOK)
def editions_page() -> str:
    """The editions, newest first, and the drafts of the next."""
    with services().db.read() as connection:
        found, open_ = ledger_editions.listed(connection, 100), drafts.listed(connection)
    in_use = services().config.edition
    return page("editions.html", editions=found, drafts=open_, in_use=in_use)


@blueprint.get("/edition/<int:number>")
@requires(LOOK)
def edition(number: int) -> str:
    """What an edition changed, addresses masked."""
    with services().db.read() as connection:
        about = next((e for e in ledger_editions.listed(connection) if e.number == number), None)
        files = ledger_editions.content(connection, number) or abort(404)
        before = ledger_editions.content(connection, number - 1) or {}
        newest = ledger_editions.newest(connection)
    return page(
        "edition.html",
        about=about,
        is_newest=newest is not None and newest.number == number,
        names=sorted(files),
        **_difference(before, files),
    )


@blueprint.post("/edition/<int:number>")
@requires(EDIT)
def take_back(number: int) -> Any:
    """Publish an old edition's files again, as a new edition."""
    note = written_note()
    with services().db.read() as connection:
        files = ledger_editions.content(connection, number) or abort(404)
        newest = ledger_editions.newest(connection)
    said = f"Back to edition {number}. {note}" if note else ""
    try:
        made = _publish(files, newest, said)
    except (NotDone, ConfigError) as error:
        flash(str(error))
        return redirect(url_for("desk.edition", number=number))
    flash(f"Edition {number} is in use again, as edition {made}, within 30 seconds.")
    return redirect(url_for("desk.editions_page"))


@blueprint.post("/editions")
@requires(EDIT)
def start_draft() -> Any:
    """Begin a draft of the next edition."""
    app = services()
    editions.first(app.db, app.settings)
    try:
        with app.db.write() as connection:
            newest = ledger_editions.newest(connection)
            base, name = newest.number if newest else 0, request.form.get("name", "").strip()
            id_ = drafts.start(connection, name, base, actor())
    except NotDone as error:
        flash(str(error))
        return redirect(url_for("desk.editions_page"))
    return redirect(url_for("desk.draft", draft_id=id_))


@blueprint.get("/draft/<draft_id>")
@requires(EDIT)
def draft(draft_id: str) -> str:
    """A draft's changes and mistakes, and what it would have done lately."""
    it, base, newest = draft_of(draft_id)
    behind = newest if newest and newest.number != it.base else None
    with services().db.read() as connection:
        now = ledger_editions.content(connection, behind.number) if behind else None
    files = it.on(base)
    problems = judging.apart(files, services().settings)
    more: dict[str, Any] = {"found": [*mistakes(problems, files=files)]}
    if it.files and all(problem.warning for problem in problems):
        with _loaded(files) as edited:
            more |= tried_out(it, files, edited)
    return page(
        "draft.html",
        draft=it,
        names=sorted(files),
        rules=_rule_names(files),
        behind=BEHIND.format(**vars(behind)) if behind else "",
        theirs=_difference(base, now or {}) if behind else {},
        again=f"{url_for('desk.draft', draft_id=it.id)}?{AGAIN}=1",
        second=services().config.desk.second_person,
        may_approve=actor() not in (*it.authors, it.asked_by),
        **_difference(base, files),
        **more,
    )


@blueprint.post("/draft/<draft_id>")
@requires(EDIT)
def see_to_draft(draft_id: str) -> Any:
    """Publish a draft, ask somebody to approve it, bring it up to date, or throw it away."""
    act, app, note = request.form.get("act"), services(), written_note()
    it, base, newest = draft_of(draft_id)
    to = url_for("desk.editions_page")
    try:
        if act == "drop":
            with app.db.write() as connection:
                drafts.close(connection, it, actor())
            flash("Thrown away. What is in use stays as it is.")
        elif act == "follow" and newest:
            with app.db.write() as connection:
                drafts.catch_up(connection, it, newest.number, actor())
            to = url_for("desk.draft", draft_id=it.id)
        elif act == "ask":
            if not note:
                raise NotDone(NO_NOTE)
            with app.db.write() as connection:
                drafts.ask(connection, it, actor(), note)
            flash("Asked: somebody else with the role editor or manager can publish it now.")
        elif act == "publish":
            made = _publish_draft(it, base, newest, note)
            flash(
                f"Published as edition {made}: in use within 30 seconds. One press takes it back."
            )
        else:
            abort(404)
    except (NotDone, ConfigError) as error:
        flash(str(error))
        to = url_for("desk.draft", draft_id=it.id)
    return redirect(to)


def _publish_draft(it: Draft, base: Content, newest: Edition | None, note: str) -> int:
    if newest and newest.number != it.base:
        raise NotDone(BEHIND.format(**vars(newest)))
    if services().config.desk.second_person and (
        not it.asked_by or actor() in (*it.authors, it.asked_by)
    ):
        raise NotDone(ANOTHER)
    by = f" Written by {', '.join(it.authors)}." if [*it.authors] != [actor()] else ""
    made = _publish(it.on(base), newest, f"{note or it.note}{by}" if note or it.note else "")
    with services().db.write() as connection:
        drafts.close(connection, it, actor(), made)
    return made


def _publish(files: Content, newest: Edition | None, note: str) -> int:
    app = services()
    found = judging.apart(files, app.settings)
    made = editions.publish(app.db, files, newest, actor(), note, found)
    app.reloader.look()
    return made


@blueprint.get("/draft/<draft_id>/file")
@requires(EDIT)
def draft_file(draft_id: str) -> Any:
    """One file of a draft to edit; config.toml has staff's addresses, so opening it is recorded."""
    it, base, _ = draft_of(draft_id)
    files = it.on(base)
    name = _name(files)
    if any("\udc80" <= one <= "\udcff" for one in files[name]):
        remedy = "Save the file as UTF-8, then publish it with flask relay edition publish."
        flash(f"{name} is not UTF-8 text. {remedy}")
        return redirect(url_for("desk.draft", draft_id=it.id))
    if name == CONFIG:
        note_look(REVEAL, CONFIG, "the file")
    return _file(it, name, _written(name, files[name], files), files)


@blueprint.post("/draft/<draft_id>/file")
@requires(EDIT)
def save_file(draft_id: str) -> Any:
    """Save a file, discard its changes, or only show the result of the text."""
    it, base, _ = draft_of(draft_id)
    files = it.on(base)
    name, act = _name(files), request.form.get("act")
    source = request.form.get("text", "").replace("\r\n", "\n")
    if source == files[name].replace("\r\n", "\n").replace("\r", "\n"):
        source = files[name]  # a browser's line ends are not an edit
    written = _written(name, source, files)
    text = base.get(name, "") if act == "give up" else written.text
    if act == "check" or (act != "give up" and any(one.wrong for one in written.passages)):
        return _file(it, name, written, {**files, name: text})
    if kept(it, base, name, text):
        return redirect(url_for("desk.draft", draft_id=it.id))
    return _file(it, name, written, files, theirs=files[name])


def kept(it: Draft, base: Content, name: str, text: str) -> bool:
    """Save a file in a draft and return whether it was saved: not if somebody else has saved it
    since the page was made. The next page says which.
    """
    try:
        if request.form.get("version") != str(it.version):
            raise NotDone(drafts.SAVED_BY.format(it.author))
        with services().db.write() as connection:
            drafts.save(connection, it, name, None if text == base.get(name) else text, actor())
    except NotDone as error:
        flash(str(error))
        return False
    flash(f"Saved in the draft: {name}. Nothing is in use yet.")
    return True


def _written(name: str, source: str, files: Content) -> Written:
    """A file's text as it was sent, whole or in passages."""
    is_html, way = name.endswith(".html"), request.values.get("as")
    is_message = name.count("/") > 1  # not a layout
    as_words = name != CONFIG and (way == "words" or (is_message and way != "source"))
    parts: Sequence[passages.Part] = ()
    with suppress(TemplateSyntaxError):
        if as_words and len(source) <= LONGEST_WORDS:
            parts = passages.split(source, is_html=is_html)
    if not 0 < sum(bool(part.words) for part in parts) <= MOST_PASSAGES:
        return Written(source, source)
    known = {*passages.names(source), *chain(*_names(name, files).values())}
    shown = []
    for number, part in enumerate(parts):
        words = request.form.get(f"passage-{number}", part.words).replace("\r\n", "\n")
        is_same = words.strip() == part.words.strip()
        if part.words:
            wrong = "" if is_same else passages.fault(words, known)
            shown.append(Passage(number, part, words, wrong))
    edited = {one.number: one.words for one in shown if not one.wrong}
    return Written(source, passages.join(parts, edited, is_html=is_html), shown)


def _file(it: Draft, name: str, written: Written, files: Content, theirs: str | None = None) -> str:
    """The editor, and beside it the text's mistakes, or the messages that it makes."""
    problems = judging.apart(files, services().settings)
    is_usable = all(problem.warning for problem in problems) and name != CONFIG
    shown = _shown_by(files, name) if is_usable else []
    permit = ""
    if shown and name.endswith(".html"):
        permit = str(_permits().dumps({it.id: [it.version, name, written.text]}))
    by_weight = sorted(problems, key=lambda problem: not problem.warning)  # errors hide warnings
    return page(
        "draft_file.html",
        draft=it,
        name=name,
        written=written,
        is_template=name != CONFIG,
        names={} if name == CONFIG else _names(name, files),
        found=[*mistakes(problems, files=files)],
        at_lines={one.line: one.warning for one in by_weight if one.where == name},
        shown=shown,
        schemes=SCHEMES,
        depends=plain_english.frames_in_words,
        permit=permit if len(permit) <= LONGEST_PERMIT else "",
        config=services().config,
        theirs=[*lines_between(theirs, written.text)] if theirs is not None else [],
        longest=LONGEST,
    )


def _shown_by(files: Content, name: str) -> list[Shown]:
    """The messages that a template's file makes or, if it makes none by itself, is part of."""
    shown = messages_of(files, name.split("/")[1])
    own = [one for one in shown if name.rpartition("/")[2] in one.row.parts.values()]
    return own or shown


@blueprint.get("/draft/<draft_id>/email")
@requires(EDIT)
def email_in_draft(draft_id: str) -> Response:
    """An email that a file of a draft makes, for a frame, even if the file is not saved yet."""
    it, base, _ = draft_of(draft_id)
    given, scheme = request.args, request.args.get("scheme")
    try:
        version, name, text = _permits().loads(given.get("permit", ""))[it.id]
        message = _shown_by({**it.on(base), name: text}, name)[int(given["message"])].message
    except (BadSignature, LookupError, ValueError):
        abort(404)
    if version != it.version or scheme not in SCHEMES or not (message and message.html):
        abort(404)
    return framed(scheme, message.html)


def _permits() -> URLSafeSerializer:
    """The signer of permits for frames: each has a text that passed the checks."""
    return URLSafeSerializer(str(current_app.secret_key), salt="email in draft")


def _names(name: str, files: Content) -> Mapping[str, Sequence[str]]:
    """The names that a template's file may print, according to the rules in the same files."""
    config = config_of(files)
    return names_in(name.removeprefix(f"{TEMPLATES}/"), config.rules, config.clinic.extra)


def messages_of(files: Content, template: str = "", *, rule: str = "") -> list[Shown]:
    """The messages that a rule makes, or that use a template's file; all use a layout."""
    with _loaded(files) as config:
        loaded = Templates(config.settings.templates)
        wanted = (
            one
            for one in config.rules
            if one.name == rule or one.template == template or "." in template
        )
        found = (shown for one in wanted for shown in examples(config, loaded, one))
        return [*islice(found, EXAMPLES)]


@contextmanager
def _loaded(files: Content) -> Iterator[Config]:
    """The configuration of files without errors, laid out on disk while it is used."""
    held, used = edition_files.laid_out(files, services().settings)
    try:
        yield load(used)
    finally:
        held.let_go()


def config_of(files: Content) -> Config:
    """The configuration in the config.toml of files; if that has errors, the one in use."""
    with suppress(ConfigError):
        return parse(files[CONFIG], services().settings)
    return services().config


def _rule_names(files: Content) -> Sequence[str]:
    """The rules that have a form; none if config.toml can only be corrected as text."""
    try:
        return [*rules_in(files[CONFIG])]
    except ValueError:
        return ()


def _name(files: Content) -> str:
    """The name of the file that was asked for; 404 if there is no such file."""
    name = request.values.get("name", "")
    return name if name in files else abort(404)


def draft_of(draft_id: str) -> tuple[Draft, Content, Edition | None]:
    """A draft, the files of the edition that it edits, and the newest edition."""
    with services().db.read() as connection:
        it = drafts.get(connection, draft_id) or abort(404)
        base = ledger_editions.content(connection, it.base) or {}
        return it, base, ledger_editions.newest(connection)


def _difference(before: Content, after: Content) -> dict[str, Any]:
    """The differences, in words and line by line; addresses masked."""
    sentences = [*editions.in_words(before, after, services().settings)] if before else []
    lines = [*editions.by_lines(before, after)] if before else []
    return {name: [*map(_readable, some)] for name, some in (("told", sentences), ("lines", lines))}


def _readable(text: str) -> str:
    """A line for a page: addresses masked, and any invalid UTF-8 as question marks."""
    return masks.inside(text.encode("utf-8", "replace").decode("utf-8"))


def lines_between(before: str, after: str) -> Iterator[str]:
    """Yield the differences between a file as somebody else has saved it and one's own text."""
    pair = (before.splitlines(), after.splitlines())
    yield from difflib.unified_diff(*pair, "saved meanwhile", "yours", lineterm="")


WORDS = {what: what.replace("-be-told", " tell").replace("-", " ") for what in trial.WHAT}


@dataclass(frozen=True)
class Change:
    """A rule that an edit adds, changes or removes, in words, and its messages."""

    what: str
    rule: Rule
    sentences: Sequence[str]
    shown: Sequence[Shown] = ()


def rule_changes(edited: Config, current: Config, touched: Collection[str]) -> Iterator[Change]:
    """Yield an edit's changes to the rules. A rule with the same words and keys counts as changed
    only if its template was `touched`.
    """
    loaded = Templates(edited.settings.templates)
    before = {rule.name: (rule, rule_sentences(rule, current.policy)) for rule in current.rules}
    for rule in edited.rules:
        now = (rule, rule_sentences(rule, edited.policy))
        if before.get(rule.name) != now or rule.template in touched:
            what = "changed" if rule.name in before else "new"
            yield Change(what, *now, [*examples(edited, loaded, rule)])
    gone = (one for name, one in before.items() if name not in edited.by_name)
    yield from (Change("gone", *one) for one in gone)


def tried_out(draft: Draft, files: Content, edited: Config) -> dict[str, Any]:
    """What a draft would change, for its page. Relay records who sees how many people a new
    condition about them matches.
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
    """Whether an edit's rule has a new condition about who people are, which counts may reveal."""
    before = current.by_name.get(rule.name)
    known = {*before.conditions} if before else set()
    return any(
        masks.WHO & when.fields or {*PERSONS, "recipient"} & when.roots
        for when in rule.conditions
        if when not in known
    )
