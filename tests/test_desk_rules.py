"""The desk's rules: what is shown of config.toml and its messages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import audit, events
from relay.privacy import masks
from relay.staff import test_send
from relay.web.desk import layout, previews
from tests.conftest import ROOT
from tests.desk import EMAIL, PHONE, kit, leaks, press
from tests.rows import change, only, rows
from tests.standins import ProviderStandIn
from tests.test_desk import desk, inside, log_in

__all__ = ["desk", "inside"]  # fixtures


@pytest.fixture
def ledger_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """SQLite alone: what these pages ask of the ledger is tested on both elsewhere."""
    path = tmp_path / "relay.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


def shown(page: str) -> str:
    """A page's text as it is read."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_rule_is_called_by_its_title(inside: Any, config_file: Path) -> None:
    """Where it has one the desk says it in place of its name; the command line keeps the name."""
    text = config_file.read_text("utf-8")
    name = "[rules.results-ready]"
    titled = text.replace(name, f'{name}\ntitle = "Results are in"')
    config_file.write_text(titled, "utf-8")
    inside.application.extensions["relay"].reloader.look()
    assert ">Results are in</h3>" in inside.get("/rules").text
    assert "<h1>Results are in</h1>" in inside.get("/rule?name=results-ready").text
    assert '<option value="results-ready">Results are in' in inside.get("/activity").text


def test_each_rule_is_a_card_in_plain_english(inside: Any) -> None:
    """A rule says what it does; one that is switched off says so."""
    page = inside.get("/rules").text
    said = shown(page)
    assert "When an order is shipped, text and email the customer at once, at any hour." in said
    assert page.count("<article") == (ROOT / "config.toml").read_text("utf-8").count("\n[rules.")
    assert page.count("switched off</span>") == 2
    assert 'href="/rule?name=kit-shipped"' in page
    others = "“cancelled”, “fail”, “processing_error” or “partial_result”"
    assert f"Only if the registration's status is not {others}." in said
    assert "There are mistakes in the files" not in said


def test_a_rules_languages_are_offered(
    settings: Settings, make_client: Callable[[Settings], Any], tmp_path: Path
) -> None:
    """Beside what the rule chooses, the words of each language: on the page, in the email's frame,
    and in a test that one sends to oneself. A rule without languages offers none.
    """
    shutil.copytree(ROOT / "templates", templates := tmp_path / "templates")
    own = templates / "results_ready"
    shutil.copytree(own, tmp_path / "cy")
    shutil.move(tmp_path / "cy", own / "cy")
    (own / "cy" / "sms.txt").write_text("Croeso", "utf-8")
    text = settings.config.read_text("utf-8")
    name = "[rules.results-ready]"
    settings.config.write_text(text.replace(name, f"{name}\nlanguage = \"'en'\""), "utf-8")
    client = make_client(replace(settings, templates=templates))
    log_in(client)
    path = "/rule?name=results-ready&data=sample"
    page = unescape(client.get("/rule?name=results-ready").text)
    assert "Croeso" not in page
    for template in ("results_ready", "results_ready/cy"):
        assert f'href="{path}&template={template}"' in page
    page = client.get(f"{path}&template=results_ready/cy").text
    assert 'aria-current="true">results_ready/cy</a>' in page
    assert "Croeso" in page
    assert (
        "data=sample&amp;template=results_ready/cy"
        in re.findall(r'<iframe[^>]*src="([^"]*)', page)[0]
    )
    form = {"name": "results-ready", "template": "results_ready/cy", "address": "07700 900001"}
    answer = press(client, "/rule", **form)
    assert answer.location.endswith("template=results_ready/cy")
    assert "In the words of" not in client.get("/rule?name=kit-shipped").text


def test_what_words_cannot_say_is_shown_as_code(inside: Any, config_file: Path) -> None:
    """A condition that is more than a comparison stands as it is written, as text."""
    when = "registration.status not in ['cancelled', 'fail', 'processing_error', 'partial_result']"
    code = "registration.status != 'x' and 1 < 2"
    config_file.write_text(config_file.read_text("utf-8").replace(when, code), "utf-8")
    inside.application.extensions["relay"].reloader.look()
    for path in ("/rules", "/rule?name=results-ready"):
        page = inside.get(path).text
        assert "Only if <code>registration.status != &#39;x&#39; and 1 &lt; 2</code>." in page


def test_mistakes_are_at_their_lines(inside: Any, config_file: Path, db: Database) -> None:
    """A broken file is shown where it is broken, addresses masked; the last good one is in use."""
    text = config_file.read_text("utf-8")
    broken = text.replace('email = ["lab-desk@example.org"]', f'emial = ["{EMAIL}"]', 1)
    line = broken[: broken.index("emial")].count("\n") + 1
    config_file.write_text(broken, "utf-8")
    page = inside.get("/rules").text
    said = shown(page)
    assert f"config.toml, line {line}: staff.lab-desk.emial" in said
    assert 'Did you mean "email"?' in said
    assert re.search(rf'class="it"><b>{line}</b> emial = \[&#34;j•••@example.org', page)
    assert "When an order is shipped" in said
    assert EMAIL not in page
    assert rows(db, audit, action="reveal") == []


def test_a_message_is_shown_as_its_reader_sees_it(inside: Any) -> None:
    """The text with segments and alphabet, the email in light and dark at two widths."""
    page = inside.get("/rule?name=kit-shipped").text
    assert re.search(r"1 segment</span> \d+ of 160 characters in the GSM-7 alphabet", page)
    frames = re.findall(r'<iframe class="(\w+) (\w+)" sandbox [^>]*src="([^"]+)"', page)
    assert {frame[:2] for frame in frames} == {
        (width, scheme) for width in ("small", "large") for scheme in layout.SCHEMES
    }
    light, dark = (inside.get(unescape(frames[at][2])) for at in (0, 2))
    for answer in (light, dark):
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'")
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert "prefers-color-scheme" not in answer.text
    assert ("@media not all" in light.text, "@media all" in dark.text) == (True, True)


def test_real_data_is_masked(inside: Any, db: Database) -> None:
    """With the latest kit's data nothing on the page or in the email is anybody's own."""
    kit(db)
    change(db, events, {}, facts=samples.full("Zacharias").to_json())
    url = "/rule?name=kit-shipped&data=real"
    assert "No such event has come recently" in inside.get(url.replace("shipped", "delivered")).text
    page = inside.get(url).text
    mail = inside.get("/rule/email?name=kit-shipped&data=real").text
    assert "No such event" not in page
    assert leaks(page + mail) == []
    assert "Zacharias" not in page + mail
    assert "Z•••" in mail
    change(db, events, {}, facts=None)
    assert "No such event has come recently" in inside.get(url).text


def test_masks_keep_a_kits_shape() -> None:
    """What is nobody's own stays, ids stay apart, all else is hidden."""
    told = {
        "customer": {"first_name": "Jane", "email": EMAIL, "phone_number": PHONE, "id": None},
        "order": {"carrier": "royal_mail", "tracking_number": "AB1", "customer_id": "0123456789"},
        "registration": {"date_of_birth": "1980-01-01", "product_skus": ["X"], "trf_code": 7},
    }
    assert masks.fields(told) == {
        "customer": {
            **{"first_name": "J•••", "email": "j•••@example.org"},
            **{"phone_number": "+44•••••••001", "id": None},
        },
        "order": {"carrier": "royal_mail", "tracking_number": "•••", "customer_id": "•••789"},
        "registration": {"date_of_birth": "•••", "product_skus": ["•••"], "trf_code": "•••"},
    }


@pytest.mark.parametrize(
    ("written", "masked"),
    [
        (f'"{EMAIL}" and "+44 7700 900001"', '"j•••@example.org" and "+44•••••••001"'),
        ("'07700-900-001'", "'077•••••••001'"),
        ("+44 (0)7700 900 001", "+44•••••••001"),
        ("o'hara@example.org", "o•••@example.org"),
        ("[2026-12-25, 2026-12-28] 08:00-20:00", "[2026-12-25, 2026-12-28] 08:00-20:00"),
    ],
)
def test_addresses_in_a_line_are_masked(written: str, masked: str) -> None:
    """However it is written, none can be read in a line of a file; dates and times can."""
    assert masks.inside(written) == masked


def test_it_can_be_sent_to_oneself(
    live: Settings, make_client: Callable[[Settings], Any], twilio: ProviderStandIn, db: Database
) -> None:
    """One real message, marked as a test; who sent it is kept, the address is not."""
    client = make_client(live)
    del client.environ_base["HTTP_AUTHORIZATION"]
    log_in(client)
    answer = press(client, "/rule", name="kit-shipped", address="07700 900001")
    assert (answer.status_code, answer.location) == (302, "/rule?name=kit-shipped")
    [sent] = twilio.requests
    assert (sent.form["To"], sent.form["Body"][:7]) == (PHONE, "[TEST] ")
    row = only(db, audit, action=test_send.SEND_TEST)
    target = masks.target("tests", "sms", PHONE)
    assert (row["actor"], row["target"], row["detail"]) == ("admin", target, "sms: kit-shipped")
    assert PHONE not in f"{rows(db, audit)}"
    assert "Sent, marked as a test." in client.get(answer.location).text
    assert client.post("/rule", data={"name": "kit-shipped", "address": PHONE}).status_code == 400
    assert len(twilio.requests) == 1


@pytest.mark.parametrize(
    ("name", "address", "told"),
    [
        ("kit-shipped", "", "Write a UK mobile number or an email address."),
        ("kit-shipped", "020 7946 0000", "Not sent: "),
        ("kit-registered", PHONE, "Not sent: the rule does not send sms."),
    ],
)
def test_what_cannot_be_sent_says_why(name: str, address: str, told: str, inside: Any) -> None:
    """A wrong address or channel is told at the field, and nothing is sent."""
    answer = press(inside, "/rule", name=name, address=address)
    assert (answer.status_code, told in shown(answer.text)) == (400, True)
    assert 'role="alert"' in answer.text


def test_tests_are_not_sent_without_end(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many an hour: each costs money. In dry-run the page says that it went nowhere."""
    monkeypatch.setattr(previews, "_TESTS", 1)
    first = press(inside, "/rule", name="kit-shipped", address=PHONE)
    assert "not sent: delivery is dry-run" in inside.get(first.location).text
    assert press(inside, "/rule", name="kit-shipped", address=PHONE).status_code == 429


@pytest.mark.parametrize("path", ["/rule", "/rule?name=none", "/rule/email?name=none"])
def test_an_unknown_rule_is_not_found(path: str, inside: Any) -> None:
    """A link to a rule that has gone says so."""
    assert inside.get(path).status_code == 404


def test_a_template_that_fails_says_why(
    settings: Settings, make_client: Callable[[Settings], Any], tmp_path: Path
) -> None:
    """A broken template is told on its rule's page, and as a mistake with its file and line."""
    folder = tmp_path / "templates"
    shutil.copytree(ROOT / "templates", folder)
    client = make_client(replace(settings, templates=folder))
    del client.environ_base["HTTP_AUTHORIZATION"]
    log_in(client)
    (folder / "kit_shipped" / "sms.txt").write_text("Hello {{ clinic.nam }}", "utf-8")
    page = shown(client.get("/rule?name=kit-shipped").text)
    assert "Relay cannot make this message: kit_shipped/sms.txt" in page
    page = shown(client.get("/rules").text)
    assert "templates/kit_shipped/sms.txt, line 1" in page
    assert str(tmp_path) not in page
