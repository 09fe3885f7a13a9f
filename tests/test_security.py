"""What docs/security.md says of every route, and what strangers cost."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict
from werkzeug.test import EnvironBuilder

from relay.config.settings import Settings
from relay.lab import samples
from relay.staff.access import csv_line
from relay.web import forms, responses
from tests.channels.test_sendgrid_receipts import AT, public
from tests.conftest import ROOT
from tests.test_architecture import MODULES, imports
from tests.test_callbacks import INBOUND, MAIL, MAIL_SIGNATURE, MAIL_TIMESTAMP, SIGNATURE, STATUS
from tests.test_desk import desk

__all__ = ["desk"]  # a fixture

Make = Callable[[Settings], Any]
SECRET_WORDS = re.compile(r"secret|token|password|signature|hash$|_key$|^given$")
# Compared there, and no secrets: names of variables, the keys that an event has, what an insert was
# given.
HARMLESS = {"relay.lab.events", "relay.config.settings", "relay.ledger.holds.pauses"}
UNEVEN = ast.Eq | ast.NotEq | ast.In | ast.NotIn
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def ledger_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A ledger of the one kind: what is shown here has nothing to do with the database."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'relay.db')}"


@pytest.fixture
def unreachable(make_client: Make, settings: Settings) -> Any:
    """An app whose ledger and Redis cannot be reached: what asks for one fails."""
    away = replace(
        settings,
        database_url="postgresql+psycopg://x@127.0.0.1:1/x",
        redis_url="redis://127.0.0.1:1",
        twilio_auth_token="twilio-token",
        sendgrid_webhook_public_key=public(),
        metrics_token="scraper",
    )
    return make_client(away)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/nowhere", 404),
        ("/login", 200),
        ("/static/desk.css", 200),
        ("/", 302),
        ("/callbacks/sendgrid", 405),
        ("/metrics", 200),
    ],
)
def test_every_answer_has_its_guards(desk: Any, path: str, status: int, secure: bool) -> None:
    """JSON, pages, files and errors alike; over TLS browsers are told to stay there."""
    answer = desk.get(path, base_url=f"http{'s' * secure}://relay.example")
    answer.close()
    assert answer.status_code == status
    guards = {**responses.GUARDS, "Cache-Control": "no-cache" if "css" in path else "no-store"}
    assert {name: answer.headers.getlist(name) for name in guards} == {
        name: [value] for name, value in guards.items()
    }
    assert ("Strict-Transport-Security" in answer.headers) is secure


def test_a_program_is_told_that_it_is_no_page(desk: Any) -> None:
    """The lab's answers are JSON that no browser may take for anything else or keep."""
    answer = desk.post("/webhooks/lab", data=b"{}")
    assert answer.mimetype == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_stranger_costs_no_statement(unreachable: Any) -> None:
    """Who shows no secret and signs nothing is answered at once though ledger and Redis are away:
    neither is asked, so a flood of them holds up nothing that is behind them."""
    good = json.dumps(samples.webhook("order.shipped")).encode()
    wrong = {"Authorization": "Bearer wrong"}
    signed = {SIGNATURE: "x", MAIL_SIGNATURE: "x", MAIL_TIMESTAMP: str(AT)}
    knocks = [
        unreachable.post("/webhooks/lab", data=good, headers=wrong),
        unreachable.post("/webhooks/lab/wrong", data=good),
        *(unreachable.post(path, data=b"[]", headers=signed) for path in (STATUS, INBOUND, MAIL)),
        unreachable.get("/metrics", headers=wrong),
        unreachable.post("/login", data={"password": "letmein"}),
    ]
    assert [answer.status_code for answer in knocks] == [401, 401, 403, 403, 403, 401, 400]


@pytest.mark.parametrize(("path", "size"), [(MAIL, 100_000), (STATUS, 10_000), (INBOUND, 10_000)])
def test_an_unsigned_batch_is_not_read(unreachable: Any, path: str, size: int) -> None:
    """Without a signature's headers not a byte of a form, or of what may be four megabytes, is
    taken in."""
    body = BytesIO(b"a=" + b"x" * size)
    answer = unreachable.post(path, input_stream=body, content_length=size + 2, content_type=FORM)
    assert (answer.status_code, body.tell()) == (403, 0)


@pytest.mark.parametrize("path", [STATUS, INBOUND, "/login"])
def test_a_strangers_thousand_names_are_not_taken_apart(
    unreachable: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a form costs goes by its names: one of more than any page or provider has is refused
    whole, whatever signature is shown with it."""
    monkeypatch.delattr(forms, "unquote_to_bytes")
    body = b"&".join(b"%03x=" % number for number in range(1000))
    answer = unreachable.post(path, data=body, content_type=FORM, headers={SIGNATURE: "A" * 28})
    assert answer.status_code == 413


def form(body: bytes) -> forms.FormRequest:
    """A request with a form."""
    made = EnvironBuilder(method="POST", data=body, content_type=FORM)
    return forms.FormRequest(made.get_environ())


@given(fields=st.lists(st.tuples(st.text(), st.text()), max_size=20))
@example(fields=[("a b", "+&=%;"), ("a b", "é 😀"), ("", "")])
def test_a_form_says_what_was_written_into_it(fields: list[tuple[str, str]]) -> None:
    """Whatever a form has is read to the letter, as every reader of forms does."""
    body = urlencode(fields, errors="replace")
    assert form(body.encode()).form == MultiDict(parse_qsl(body, keep_blank_values=True))


@pytest.mark.parametrize("body", [b"a=%FF", b"a=\xff", b"%FF", b"a=1&b=%ED%A0%80"])
def test_a_form_that_is_no_utf_8_is_read_as_latin_1(body: bytes) -> None:
    """An odd byte costs no receipt and no STOP: the whole form is read in the older alphabet."""
    text = unquote_to_bytes(body).decode("latin-1")
    assert form(body).form == MultiDict(parse_qsl(quote(text, "=&"), keep_blank_values=True))


def test_secrets_are_compared_in_constant_time() -> None:
    """Nowhere is a secret compared with == or looked up with `in`: how long it takes would tell."""
    found = [
        f"{module}:{line}"
        for module, path in MODULES.items()
        if module not in HARMLESS
        for line in compared_secrets(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("shown.encode() != token.encode()", [1]),
        ("password.encode() == settings.admin_password.encode()", [1]),
        ('shown == environ["METRICS_TOKEN"]', [1]),
        ('shown == os.environ.get("ADMIN_PASSWORD", "")', [1]),
        ('request.args["token"].strip() == shown', [1]),
        ("1 < 2 == secret", [1]),
        ("shown in {*settings.webhook_secrets, other}", [1]),
        ("f'Bearer {token}' == shown", [1]),
        ("match shown:\n    case settings.secret_key:\n        pass", [2]),
        ("hmac.compare_digest(shown.encode(), token.encode())", []),
        ("not hmac.compare_digest(shown, token) == True", []),
        ("token is None or len(secret) > 3", []),
    ],
)
def test_a_compared_secret_is_found_however_it_is_spelt(code: str, lines: list[int]) -> None:
    """The search sees into calls, items and strings, and takes no constant-time comparison for
    another."""
    assert list(compared_secrets(code)) == lines


def compared_secrets(source: str) -> Iterator[int]:
    """The lines in which a secret is compared otherwise than in constant time."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.MatchValue):
            sides = [node.value]
        elif isinstance(node, ast.Compare) and any(isinstance(op, UNEVEN) for op in node.ops):
            sides = [node.left, *node.comparators]
        else:
            continue
        if any(SECRET_WORDS.search(name.lower()) for side in sides for name in named(side)):
            yield node.lineno


def named(part: ast.AST) -> Iterator[str]:
    """What an expression is made of: names, attributes and keys, but for what is made of it in
    constant time."""
    if isinstance(part, ast.Call) and ast.unparse(part.func).endswith("compare_digest"):
        return
    if isinstance(part, ast.Name):
        yield part.id
    elif isinstance(part, ast.Attribute):
        yield part.attr
    elif isinstance(part, ast.Constant) and isinstance(part.value, str):
        yield part.value
    for inner in ast.iter_child_nodes(part):
        yield from named(inner)


def test_a_hostile_event_is_one_line_of_the_log(
    settings: Settings, make_client: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a body, a path or a header says, a line of the log stays one object of ours."""
    client = make_client(settings)
    forged = '\n{"event": "message sent"}\r\n\u2028x'
    for body in (
        {"event": forged, "data": {}},
        {"event": "order.shipped", "data": {"order_id": forged, forged: 1}},
        {"event": "invoice.paid", "data": {"url": forged}},
    ):
        client.post("/webhooks/lab", data=json.dumps(body))
    client.post("/webhooks/lab/" + quote(forged), headers={"User-Agent": "a\tb"})
    told = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    known = {"webhook refused", "webhook unrouted", "webhook without its secret", "no such door"}
    assert {line["event"] for line in told} <= known
    assert not [line for line in told if "message sent" in str(line)]


def test_only_the_trail_is_a_spreadsheet() -> None:
    """One module writes CSV: the audit trail's, which has ids, and no names."""
    writers = [m for m, path in MODULES.items() if {"csv", "openpyxl"} & imports(path)]
    assert writers == ["relay.staff.access"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_formula_runs_in_the_trails_spreadsheet(cell: str) -> None:
    """What a spreadsheet would take for a formula is written as text."""
    ((first, second),) = csv.reader(io.StringIO(csv_line((cell, "msg_1"))))
    assert (first, second) == (f"'{cell}", "msg_1")


def test_every_threat_has_its_proof() -> None:
    """Each row of the threat model names a test, or says that it is accepted and why."""
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    threats = text.partition("\n## Threats")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!Threat).*$", threats, re.MULTILINE)
    assert len(rows) > 30
    assert [row for row in rows if not re.search(r"`test_\w+`|accepted", row.split("|")[-2])] == []
