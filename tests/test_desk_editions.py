"""Editions on the desk: a draft is written, judged, tried, approved, published and taken back."""

from __future__ import annotations

import difflib
import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.config.schema import RuleSchema
from relay.lab import samples
from relay.ledger import drafts as ledger_drafts
from relay.ledger import editions as ledger_editions
from relay.ledger.database import Database
from relay.ledger.schema import audit, drafts, editions, events
from relay.staff import trial
from tests.conftest import one_database
from tests.desk import kit, press
from tests.rows import change, leased, notice, only, rows, settled, time_passes
from tests.test_desk import desk, inside
from tests.test_desk_people import as_role, browser, invited, joined
from tests.test_desk_rules import shown
from tests.test_queue import until

__all__ = ["browser", "desk", "inside"]  # fixtures
pytestmark = one_database
SMS = "templates/results_ready/sms.txt"
LATER = """
[rules.later]
event = "order.shipped"
to = "customer"
channels = ["sms"]
template = "kit_shipped"
after = "2d"

[costs]
sms = 0.04
email = 0.01
"""


def started(client: Any, name: str = "Kinder words") -> str:
    """The path of a new draft."""
    return str(press(client, "/editions", name=name).location)


def text_of(client: Any, path: str, name: str = SMS) -> str:
    """A file's text in the editor."""
    page = client.get(f"{path}/file", query_string={"name": name, "as": "source"}).text
    [found] = re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    return html.unescape(found).lstrip("\n")


def saved(client: Any, path: str, text: str, name: str = SMS, **form: str) -> str:
    """The page after a file was saved."""
    page = client.get(f"{path}/file", query_string={"name": name}).text
    [version] = re.findall(r'name="version" value="(\d+)"', page)
    form = {"name": name, "version": version, "act": "save", "as": "source", **form}
    answer = press(client, f"{path}/file", text=text, **form)
    return str(client.get(answer.location).text if answer.status_code == 302 else answer.text)


def after(client: Any, path: str, **form: str) -> str:
    """The page that a press on a draft leads to."""
    return str(client.get(press(client, path, **form).location).text)


def tried(client: Any, page: str) -> str:
    """A draft's page once it has been tried on the last days."""
    path = re.findall(r'data-again="([^"]+)', page)
    until(lambda: not path or 'data-again=""' in client.get(path[0]).text)
    return str(client.get(path[0]).text if path else page)


def in_use(client: Any) -> int | None:
    """The number of the edition that the web process goes by."""
    reloader = client.application.extensions["relay"].reloader
    reloader.look()
    return reloader.config.edition  # type: ignore[no-any-return]


def test_the_whole_way(inside: Any, db: Database) -> None:
    """Words are edited, found wrong, mended, shown as they would be sent, published with a note, in
    use, and taken back by one press. All of it is on record, and nothing is in use before.
    """
    path = started(inside)
    before = text_of(inside, path)
    wrong = saved(inside, path, "Results, {{ patient.nmae }}.", act="check")
    assert "nmae" in wrong
    assert "What is wrong" in wrong
    assert rows(db, drafts)[0]["files"] == {}
    page = saved(inside, path, before + " Take care.")
    assert f"Saved in the draft: {SMS}" in page
    page = tried(inside, page)
    assert "Words changed in" in page
    assert "Take care." in page
    assert "Its rules do the same" not in page
    assert "Nothing was sent." in page
    assert in_use(inside) == 1
    assert "Write a note first" in after(inside, path, act="publish")
    assert "Published as edition 2" in after(inside, path, act="publish", note="As Dr Lee asked.")
    assert in_use(inside) == 2
    assert "Take care." in inside.get("/rule?name=results-ready").text
    page = inside.get("/editions").text
    assert re.search(r'edition/2">2</a> <span class="status delivered">in use', page)
    assert "As Dr Lee asked." in page
    assert inside.get(path).status_code == 404
    shown = inside.get("/edition/2").text
    assert "+" + (before + " Take care.").splitlines()[-1] in html.unescape(shown)
    back = after(inside, "/edition/1", note="It was not kinder.")
    assert "Edition 1 is in use again, as edition 3" in back
    assert in_use(inside) == 3
    assert "Take care." not in inside.get("/rule?name=results-ready").text
    acts = [row["action"] for row in rows(db, audit) if "dr" in row["action"]]
    assert acts == ["draft start", "draft save"]


def test_rules_are_edited_and_told_in_plain_english(inside: Any, db: Database) -> None:
    """config.toml is a file like any other; what changes is said in sentences, and who opened it,
    since it has staff's addresses, is on record.
    """
    path = started(inside)
    config = text_of(inside, path, "config.toml")
    edited = config.replace('send_window = "always"', 'send_window = "08:00-18:00"', 1)
    page = html.unescape(saved(inside, path, edited, "config.toml"))
    assert "08:00" in page.partition("What it changes")[2].partition("Line by line")[0]
    assert {row["target"] for row in rows(db, audit, action="reveal")} == {"config.toml"}
    page = saved(inside, path, "[rules.x]", "config.toml")
    assert "error" in page
    assert "config.toml has" not in after(inside, path, act="publish", note="Try.")
    assert in_use(inside) == 1
    saved(inside, path, edited, "config.toml", act="give up")
    assert rows(db, drafts)[0]["files"] == {}


@pytest.mark.by_processes
def test_an_edits_rules_are_told_in_words_and_tried(
    inside: Any, db: Database, config_file: Path
) -> None:
    """A rule that is new, changed or gone is told, with what it would write; no other is. What it
    would have done in the last days, and for how much, is worked out by a process of its own.
    """
    kit(db)
    change(db, events, {}, facts=samples.full().to_json())
    text = config_file.read_text("utf-8").replace("retention =", "retention= ", 1)
    text = re.sub(r"(?s)\[rules\.kit-delivered\].*?\n\n", "", text)
    text = text.replace('channels = ["sms", "email"]', 'channels = ["sms"]', 1)
    path = started(inside)
    page = tried(inside, saved(inside, path, text + LATER, "config.toml"))
    cards = {
        name: shown(card)
        for name, card in re.findall(r'(?s)<h4 id="change-\d+">([\w-]+)</h4>(.*?)</article>', page)
    }
    assert [*cards] == ["kit-shipped", "later", "kit-delivered"]
    assert cards["later"].startswith("new When an order is shipped, text the customer 2 days later")
    assert "1 segment" in cards["later"]
    assert "It costs £0.04." in cards["later"]
    assert cards["kit-shipped"].startswith("changed When")
    assert cards["kit-delivered"].startswith("gone When")
    said = shown(page)
    assert "Relay tried it on the 1 events of the last 30 days." in said
    assert "some 1 person got" in said
    assert re.search(r"dropped \d+ \w+ \d{4}, [\d:]+ : kit-shipped to customer by email\.", said)
    assert "In a month, 1 fewer email and 1 more segment of texts: some £0.03 more." in said


def test_a_second_person_approves(
    inside: Any, browser: Any, db: Database, config_file: Any
) -> None:
    """Where the clinic asks for it: neither who wrote it, nor who asked, nor who only saved it once
    can publish it; an edit after the asking needs the asking again.
    """
    text = config_file.read_text("utf-8") + "\n[desk]\nsecond_person = true\n"
    config_file.write_text(text, "utf-8")
    inside.application.extensions["relay"].reloader.look()
    editor = as_role(inside, browser, "editor")
    path = started(editor)
    saved(editor, path, text_of(editor, path) + " Take care.")
    assert "Ask for approval" in editor.get(path).text
    assert "Somebody else has to approve it" in after(inside, path, act="publish", note="Fine.")
    assert "Asked:" in after(editor, path, act="ask", note="Kinder.")
    assert "Somebody else has to approve it" in after(editor, path, act="publish", note="Fine.")
    saved(inside, path, text_of(inside, path) + " Bye.")
    assert only(db, drafts)["asked_by"] is None
    after(editor, path, act="ask", note="Kinder.")
    assert "Somebody else has to approve it" in after(inside, path, act="publish", note="Fine.")
    joined(other := browser(), invited(inside, "manager", "ann@example.org"))
    assert "Approve and publish" in other.get(path).text
    assert "Published as edition" in after(other, path, act="publish")
    made = max(rows(db, editions), key=lambda row: row["number"])
    assert made["note"].startswith("Kinder. Written by admin, ")


def test_two_people_lose_nothing(inside: Any, browser: Any) -> None:
    """Who saves second is told, and shown what the other has written beside one's own."""
    other = as_role(inside, browser, "editor")
    path = started(inside)
    text = text_of(inside, path)
    saved(other, path, text + " Theirs.")
    page = saved(inside, path, text + " Mine.", version="0")
    assert "has saved this draft meanwhile" in page
    for told in ("Theirs.", "Mine."):
        assert told in page
    assert text_of(inside, path).endswith("Theirs.")


def test_a_draft_follows_what_was_published_meanwhile(inside: Any) -> None:
    """It is not published over it: what the other edition changed is shown, and stays."""
    first, second = started(inside, "First"), started(inside, "Second")
    words = text_of(inside, first)
    subject = "templates/results_ready/subject.txt"
    saved(inside, first, words + " First.")
    saved(inside, second, "Second subject", subject)
    after(inside, first, act="publish", note="First.")
    page = after(inside, second, act="publish", note="Second.")
    assert "Edition 2 has been published by admin since" in page
    assert "First." in page
    after(inside, second, act="follow")
    assert "Published as edition 3" in after(inside, second, act="publish", note="Second.")
    last = started(inside)
    assert text_of(inside, last).endswith("First.")
    assert text_of(inside, last, subject) == "Second subject"


@pytest.mark.by_processes
def test_a_hostile_edition_harms_no_web_process(inside: Any) -> None:
    """A loop without an end is judged by a process of its own, and refused."""
    path = started(inside)
    page = saved(
        inside,
        path,
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    )
    assert "error" in page
    assert "Published" not in after(inside, path, act="publish", note="Try.")


def test_what_is_no_utf_8_is_shown_and_left(inside: Any, db: Database) -> None:
    """A file of other bytes breaks no page, and is not edited where it would be changed unseen."""
    odd = {"config.toml": "a = 1", "templates/x/odd.txt": "caf\udce9"}
    with db.write() as connection:
        ledger_editions.add(connection, None, odd, "jane", "Odd.", "files")
    path = started(inside)
    assert inside.get("/edition/1").status_code == 200
    assert inside.get(path).status_code == 200
    answer = inside.get(f"{path}/file?name=templates/x/odd.txt", follow_redirects=True)
    assert "is not UTF-8 text" in answer.text
    saved(inside, path, "a = 2", "config.toml")
    assert inside.get(path).status_code == 200


def test_what_is_not_there_is_not_found(inside: Any) -> None:
    """An unknown edition, draft, file or act; and a draft that was thrown away."""
    path = started(inside)
    for missing in ("/edition/99", "/draft/drf_none", f"{path}/file?name=templates/../x"):
        assert inside.get(missing).status_code == 404
    assert press(inside, path, act="explode").status_code == 404
    assert press(inside, "/editions", name=" ").location == "/editions"
    assert "Thrown away." in after(inside, path, act="drop")
    assert inside.get(path).status_code == 404


def form_saved(client: Any, path: str, **form: Any) -> str:
    """The page after a rule was sent as its form has it, with other values."""
    page = client.get(f"{path}/rule", query_string={"name": form.pop("opened", "")}).text
    body = page.partition("<main")[2]
    given: dict[str, Any] = dict(re.findall(r'<input[^>]* name="([\w-]+)" value="([^"]*)"', body))
    for key in {*re.findall(r'type="checkbox" name="(\w+)"', body)}:
        ticked = rf'name="{key}" value="([^"]*)" checked'
        given[key] = re.findall(ticked, body)
    for key, choices in re.findall(r'(?s)<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', body):
        given[key] = (re.findall(r'value="([^"]*)" selected', choices) or [""])[0]
    given = {key: html.unescape(one) if isinstance(one, str) else one for key, one in given.items()}
    answer = press(client, f"{path}/rule", **{**given, "act": "save", **form})
    return str(client.get(answer.location).text if answer.status_code == 302 else answer.text)


def test_a_rule_is_a_form_that_keeps_the_comments(inside: Any, db: Database) -> None:
    """Each key that there is has a field. What is changed is written, and no other line; a rule
    that nobody touched is the same to the byte.
    """
    path = started(inside)
    before = text_of(inside, path, "config.toml")
    page = inside.get(f"{path}/rule?name=kit-delivered").text
    assert [key for key in RuleSchema().fields if f'id="key-{key}"' not in page] == []
    form_saved(inside, path, opened="kit-delivered")
    assert rows(db, drafts)[0]["files"] == {}
    page = form_saved(inside, path, opened="kit-delivered", title="Parcel there", fallback=[])
    assert "What it changes" in page
    after = text_of(inside, path, "config.toml").splitlines()
    changed = [*difflib.ndiff(before.splitlines(), after)]
    assert [line for line in changed if line[0] in "+-"] == [
        '- fallback = ["email"]',
        '+ title = "Parcel there"',
    ]
    page = form_saved(inside, path, opened="results-ready", send_window="25:00-26:00", act="check")
    assert "There is no time 25:00" in page
    assert 'aria-invalid="true"' in page


def test_a_new_rule_is_a_form_too(inside: Any, db: Database) -> None:
    """It comes last, by a name that no other has; what is missing is said at its field."""
    path = started(inside)
    whole = {"event": "order.shipped", "to": "customer", "channels": ["email"]}
    for name, why in (("a b", "letters, digits"), ("kit-shipped", "There is a rule kit-shipped")):
        assert why in form_saved(inside, path, name=name, template="kit_shipped", **whole)
    assert "Is missing." in form_saved(inside, path, name="second", act="check", **whole)
    page = form_saved(inside, path, name="second", template="kit_shipped", **whole)
    assert "Rule second: new." in page
    assert text_of(inside, path, "config.toml").endswith(
        '[rules.second]\nevent = "order.shipped"\nto = "customer"\nchannels = ["email"]\n'
        'template = "kit_shipped"\n'
    )


def test_a_rule_is_taken_out_by_its_form(inside: Any) -> None:
    """Its lines go and no other; what that means is said before, and can be given up. Not where
    somebody else has saved meanwhile.
    """
    path = started(inside)
    before = text_of(inside, path, "config.toml")
    assert "kept until somebody decides" in inside.get(f"{path}/rule?name=kit-delivered").text
    assert "Take it out" not in inside.get(f"{path}/rule").text
    late = form_saved(inside, path, opened="kit-delivered", act="delete", version="9")
    assert "has saved this draft meanwhile" in late
    assert text_of(inside, path, "config.toml") == before
    page = form_saved(inside, path, opened="kit-delivered", act="delete")
    assert "Rule kit-delivered: gone." in page
    lines = difflib.ndiff(before.split("\n"), text_of(inside, path, "config.toml").split("\n"))
    changed = [line for line in lines if line[0] in "+-"]
    assert {line[:2] for line in changed} == {"- "}
    assert len(changed) == 7
    saved(inside, path, before, "config.toml", act="give up")
    assert "kit-delivered" in text_of(inside, path, "config.toml")


def test_a_mistake_is_shown_at_its_line(inside: Any) -> None:
    """Each line has its number; the one that is wrong is marked, and what is said leads there. Of a
    warning and an error on one line it is the error.
    """
    path = started(inside)
    wrong = "Your results, ł.\n\n{{ patient.nmae }} “ł”\n"
    page = saved(inside, path, wrong, act="check")
    rows = re.findall(r'<span id="line-(\d)"(?: class="(\w+)")?>', page)
    assert rows == [("1", ""), ("2", ""), ("3", "error"), ("4", "")]
    assert '<li data-line="3">' in page
    assert '<a href="#line-3">line 3</a>' in page
    assert "1 mistake." in shown(page)
    page = saved(inside, path, "Your results are ready: łabel.", act="check")
    assert '<span id="line-1" class="warning">' in page
    assert "No mistakes, 1 warning. 1 segment." in shown(page)
    assert "70 characters in the UCS-2 alphabet" in shown(page)
    assert 'class="words email"' not in page


def test_the_names_of_a_template_can_be_read(inside: Any) -> None:
    """Those that its rules' messages may print, also where no script runs; of a draft's own rules,
    and none for config.toml. Words that no rule uses are said to be unchecked.
    """
    path = started(inside)
    page = inside.get(f"{path}/file?name={SMS}").text
    assert '<code data-name="registration.short_code">short_code</code>' in page
    unused = "templates/kit_delivered/sms.txt"
    assert "No mistakes." in shown(inside.get(f"{path}/file?name={unused}").text)
    form_saved(inside, path, opened="kit-delivered", act="delete")
    page = inside.get(f"{path}/file?name={unused}").text
    assert "No rule uses it, so Relay does not check it." in shown(page)
    assert "data-name" not in inside.get(f"{path}/file?name=config.toml").text
    for name in ("alerts/sms.txt", "alerts/words/lab.txt", "layout.txt", "layout.html"):
        page = inside.get(f"{path}/file?name=templates/{name}").text
        assert "No mistakes" in shown(page), name


def test_what_waits_and_would_go_otherwise_is_counted(inside: Any, db: Database) -> None:
    """Beside what the edit would have done: of what waits already, how many go nowhere, by rule."""
    later = datetime.now(UTC) + timedelta(days=1)
    settled(db, leased(db), notice(status="scheduled", due_at=later))
    path = started(inside)
    page = tried(inside, form_saved(inside, path, opened="kit-shipped", enabled="false"))
    told = shown(page).partition("What waits already")[2]
    assert told.startswith(" Of the 1 message that waited")
    assert "kit-shipped : 1 not sent." in told
    path = started(inside, "No change for them")
    page = tried(inside, form_saved(inside, path, opened="kit-shipped", title="Parcel"))
    assert "All 1 message that waited" in shown(page)


def test_what_is_no_toml_is_put_right_as_text(inside: Any) -> None:
    """A form cannot be made of it: it leads to the text, and who saves second is told there too."""
    path = started(inside)
    page = form_saved(inside, path, opened="kit-shipped", version="9", title="Mine")
    assert "has saved this draft meanwhile" in page
    assert "+title = &#34;Mine&#34;" in page
    saved(inside, path, "[rules.x", "config.toml")
    answer = inside.get(f"{path}/rule?name=kit-shipped", follow_redirects=True)
    assert "that no form can get past" in answer.text
    assert "<textarea" in answer.text


def test_a_trial_is_begun_once_and_anew_where_it_was_left(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all who look at a draft one begins to try it. Who is not heard of for half a minute has
    left it; what is told of files that have changed since is not kept; a failure is said.
    """
    path = started(inside)
    saved(inside, path, text_of(inside, path) + " Take care.")
    (row,) = rows(db, drafts)
    begin, tell = ledger_drafts.begin_trial, ledger_drafts.tell_trial
    with db.write() as connection:
        draft = ledger_drafts.get(connection, row["id"])
        assert draft
        assert [begin(connection, draft, of) for of in ("1 a", "1 a")] == [True, False]
        tell(connection, draft.id, "1 b", {"events": 9})
    assert only(db, drafts)["trial"] is None
    time_passes(db, timedelta(seconds=40))
    with db.write() as connection:
        assert begin(connection, draft, "1 a")
        tell(connection, draft.id, "1 a", {"events": 1}, is_over=True)
    time_passes(db, timedelta(seconds=40))
    with db.write() as connection:
        assert not begin(connection, draft, "1 a")
    monkeypatch.setattr(trial, "_in_background", trial.apart)
    monkeypatch.setattr(trial, "_LONGEST_SECONDS", 0.001)
    # The files get their number while a page is looked at: the next look begins anew.
    assert any("took too long here" in inside.get(path).text for _ in range(3))


def worded(client: Any, path: str, name: str = SMS, **form: str) -> str:
    """The page after passages of a file were sent, told by the words that they had."""
    page = client.get(f"{path}/file", query_string={"name": name}).text
    hidden = {
        key: html.unescape(value)
        for key, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    }
    passages = fields(page)
    for before in [key for key in form if key in passages.values()]:
        [number] = [key for key, words in passages.items() if words == before]
        passages[number] = form.pop(before)
    answer = press(client, f"{path}/file", **{**hidden, **passages, "act": "save", **form})
    return str(client.get(answer.location).text if answer.status_code == 302 else answer.text)


def fields(page: str) -> dict[str, str]:
    """The passages of a page, by the names of their fields."""
    found = re.findall(r'name="(passage-\d+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    return {key: html.unescape(words) for key, words in found}


def test_words_are_edited_without_their_source(inside: Any, db: Database) -> None:
    """Each passage is a field, with what it depends on above it; nothing else of the file is shown,
    and what nobody touched is the same to the byte. The source is a link away.
    """
    path = started(inside)
    name = "templates/results_ready/email.html"
    before = text_of(inside, path, name)
    page = inside.get(f"{path}/file?name={name}").text
    assert "{%" not in shown(page.partition("<form method")[2].partition("What stands")[2])
    assert "Not if the clinic's portal is given." in shown(page)
    assert "Please call us on {{ phone(clinic.phone) }} and we will" in html.unescape(page)
    assert [*fields(page).values()][2:4] == [
        "Your results are ready",
        "You can read your results online. To keep them private, we do not put them in an email.",
    ]
    assert 'as=source"' in page
    worded(inside, path, name)
    assert rows(db, drafts)[0]["files"] == {}
    page = worded(inside, path, name, **{"Your results are ready": "News & <3 from us"})
    assert f"Saved in the draft: {name}" in page
    assert text_of(inside, path, name) == before.replace(
        "Your results are ready", "News &amp; &lt;3 from us"
    )
    assert "News &amp; &lt;3 from us" in inside.get(f"{path}/file?name={name}").text
    worded(inside, path, name, act="give up")
    assert rows(db, drafts)[0]["files"] == {}


def test_what_is_no_words_is_refused_at_its_passage(inside: Any, db: Database) -> None:
    """With what to write instead, and what was typed is still there; nothing is saved, be the other
    passages right. They are shown as they would be sent.
    """
    path = started(inside)
    second = "Please call us on {{ clinic.phone }} to get them."
    edited = {"{{ clinic.short_name }}: your results are ready.": "Good morning."}
    for wrong, said in (
        (
            "Ring {{ clinic.fone }}.",
            "Did you mean “clinic.phone”?".replace("“", '"').replace("”", '"'),
        ),
        ("{% if x %}", "Write words only"),
        ("<b>Ring</b>", "<b> is a tag"),
        ("", "Write something here."),
    ):
        page = html.unescape(worded(inside, path, **edited, **{second: wrong}))
        at = page.partition(f">\n{wrong}</textarea>")[2].partition("</div>")[0]
        assert said in at
        assert page.count('aria-invalid="true"') == 1
        assert "1 passage cannot stay like this" in shown(page)
        assert "Good morning. Read them at" in shown(page)
    assert rows(db, drafts)[0]["files"] == {}
    page = worded(inside, path, act="check", **edited, **{second: "Ring {{ clinic.name }}."})
    assert "No mistakes. 1 segment." in shown(page)
    assert "Ring {{ clinic.name }}." in fields(page).values()


def test_the_words_of_two_people_are_not_lost(inside: Any) -> None:
    """As in the source: who saves second is told, sees what the other wrote, and has their own."""
    path = started(inside)
    first = "{{ clinic.short_name }}: your results are ready."
    saved(inside, path, "Theirs: {{ clinic.phone }}.")
    page = worded(inside, path, version="0", **{"Theirs: {{ clinic.phone }}.": "Mine."})
    assert "has saved this draft meanwhile" in page
    assert "Theirs: {{ clinic.phone }}." in html.unescape(page)
    assert [*fields(page).values()] == ["Mine."]
    assert first not in page


def test_what_has_no_passages_is_shown_as_source(inside: Any) -> None:
    """config.toml and layouts begin so; a layout's words can be asked for, those of a text that
    Jinja cannot read cannot.
    """
    path = started(inside)
    for name in ("config.toml", "templates/layout.txt"):
        assert fields(inside.get(f"{path}/file?name={name}").text) == {}
    assert fields(inside.get(f"{path}/file?name=config.toml&as=words").text) == {}
    page = inside.get(f"{path}/file?name=templates/layout.txt&as=words").text
    assert "Best wishes," in fields(page).values()
    assert "Only if `next|trim`." not in page
    for text in ("Your kit {{ clinic.phone }", "a{# #}" * 90, "No end. " * 2_000, "{{ a }}"):
        saved(inside, path, text)
        page = inside.get(f"{path}/file?name={SMS}&as=words").text
        assert "Its words cannot be shown by themselves" in page
        assert text in page
    saved(inside, path, "{% block %}{% else %}{% endif %}Your kit{% if %}s{% for %}")
    page = inside.get(f"{path}/file?name={SMS}").text
    assert [*fields(page).values()] == ["Your kit", "s"]


def test_a_files_own_line_ends_stay(inside: Any, db: Database) -> None:
    """A browser sends others: neither its words nor its source are changed by them."""
    odd = "One {{ clinic.phone }}\r\n\r\ntwo.\r\n{% if a %}\r\nThree{% endif %}\r\n"
    with db.write() as connection:
        files = {"config.toml": "", "templates/x/sms.txt": odd}
        ledger_editions.add(connection, None, files, "jane", "Odd.", "files")
    path = started(inside)
    for form in ({"Three": "Four"}, {"Four": "Three"}):
        worded(inside, path, "templates/x/sms.txt", **form)
        [text] = {"templates/x/sms.txt": odd, **rows(db, drafts)[0]["files"]}.values()
        assert text == odd.replace("Three", form.get("Three", "Three"))
    saved(inside, path, odd.replace(" ", "  "), "templates/x/sms.txt")  # which is an edit
    assert "two." in rows(db, drafts)[0]["files"]["templates/x/sms.txt"]


def frames(page: str) -> list[str]:
    """Where the frames of a page get their emails from."""
    found = re.findall(r'<iframe class="(?:small|large) (?:light|dark)"[^>]* src="([^"]+)"', page)
    return [html.unescape(address) for address in found]


def test_an_email_is_shown_as_its_reader_sees_it(inside: Any, db: Database) -> None:
    """By the words that were only checked, on a phone and a computer, light and dark; only as long
    as the draft is as it was, and where nothing is wrong.
    """
    path = started(inside)
    name = "templates/kit_shipped/email.html"
    page = worded(inside, path, name, act="check", **{"Your kit is on its way": "It & that"})
    assert len(frames(page)) == 4
    for address in frames(page):
        answer = inside.get(address)
        assert ">It &amp; that</h1>" in answer.text
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        for wrong in (address[:-9], address.replace("message=0", "message=7"), f"{address}x"):
            assert inside.get(wrong).status_code == 404
    assert rows(db, drafts)[0]["files"] == {}
    other = started(inside, "Another")
    assert inside.get(frames(page)[0].replace(path, other)).status_code == 404
    saved(inside, path, "Kit", "templates/kit_shipped/subject.txt")
    assert inside.get(frames(page)[0]).status_code == 404
    assert frames(saved(inside, path, "{{ nobody }}", name, act="check")) == []
    assert frames(inside.get(f"{path}/file?name=templates/kit_shipped/email.txt").text) == []
    layout = inside.get(f"{path}/file?name=templates/layout.html").text  # too long for an address
    assert frames(layout) == []
    assert "Your kit is on its way" in shown(layout)
