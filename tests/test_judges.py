"""Judges from outside, by the tables of tests/data: each knows its format and nothing of Relay."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from relay.channels import sendgrid, twilio
from relay.config import loader
from relay.config.settings import Settings
from relay.errors import ConfigError
from relay.messages import sms_segments
from relay.rules import addresses
from tests.conftest import ROOT, one_database

DATA = ROOT / "tests" / "data"


def table(name: str) -> Any:
    """A table of tests/data."""
    return json.loads((DATA / f"{name}.json").read_text("utf-8"))


def bodies(name: str) -> Iterator[tuple[str, bytes]]:
    """The cases of a table, each as its name and its bytes."""
    for case in table(name):
        text = case.get("text", case.get("repeat", "") * case.get("length", 0))
        yield case["name"], b64decode(case["base64"]) if "base64" in case else text.encode()


# What RFC 8259 allows, and a database or another reader does not: docs/decisions.md.
STRICTER = {
    "y_number_double_close_to_zero.json",
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
    "y_object_escaped_null_in_key.json",
    "y_string_null_escape.json",
}


@one_database
def test_json_is_read_as_jsontestsuite_has_it(client: Any) -> None:
    """A field of an event that is JSON is taken, one that is none is refused; never is it 500."""
    answers = {"y": {200}, "n": {400, 413}, "i": {200, 400}}
    wrong = {}
    for name, value in bodies("json_parsing"):
        body = b'{"event": "order.shipped", "data": {"order_id": "1", "more": ' + value + b"}}"
        status = client.post("/webhooks/lab", data=body).status_code
        if status not in ({400} if name in STRICTER else answers[name[0]]):
            wrong[name] = status
    assert wrong == {}


def test_toml_is_read_as_toml_test_has_it(tmp_path: Path) -> None:
    """A file that is no TOML is a mistake with its line; one that is some is none of that, unless
    only TOML 1.1 has it.
    """
    config = tmp_path / "config.toml"
    settings, wrong = Settings(config=config), {}
    for name, body in bodies("toml"):
        config.write_bytes(body)
        with pytest.raises(ConfigError) as caught:  # none of them has a clinic
            loader.load(settings)
        said = [one for one in caught.value.problems if not one.key and one.line]
        assert all(0 < one.line <= body.count(b"\n") + body.count(b"\r") + 1 for one in said), name
        if bool(said) != name.startswith("invalid/"):
            wrong[name] = [str(one) for one in said]
    # A lone carriage return ends a line, as old editors write it.
    assert {name for name in wrong if name.startswith("invalid/")} <= {
        f"invalid/control/{one}-cr.toml" for one in ("bare", "comment", "multi", "rawmulti")
    }
    newer = [name for name in wrong if name.startswith("valid/")]
    assert len(newer) < 20
    assert not [name for name in newer if "1.0.0" in name]


def test_a_text_has_the_segments_that_twilio_counts() -> None:
    """Alphabet and segments are those of Twilio's own calculator."""
    for case in table("segments"):
        found = sms_segments.size(case["text"])
        assert (found.alphabet, found.segments) == (case["alphabet"], case["segments"]), case


def test_what_twilio_has_signed_is_twilios() -> None:
    """The calls of Twilio's documentation are taken, and nothing that differs from them."""
    case = table("signatures")["twilio"]
    settings, fields = Settings(twilio_auth_token=case["token"]), case["fields"]
    for url, signature in case["signed"].items():
        assert twilio.is_signed(settings, url, fields, signature)
        assert not twilio.is_signed(settings, url, fields | {"Digits": "9"}, signature)
        assert not twilio.is_signed(settings, url + "x", fields, signature)


def test_what_sendgrid_has_signed_is_sendgrids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of SendGrid's own tests is taken to the byte, at its time."""
    case: Mapping[str, str] = table("signatures")["sendgrid"]
    body, shown = case["body"].encode(), (case["signature"], case["timestamp"])
    settings = Settings(sendgrid_webhook_public_key=case["key"])
    assert not sendgrid.is_signed(settings, body, *shown)  # years old

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(int(case["timestamp"]), UTC)

    monkeypatch.setattr(sendgrid, "datetime", Then)
    assert sendgrid.is_signed(settings, body, *shown)
    assert not sendgrid.is_signed(settings, body.rstrip(), *shown)


NEVER_TEXTED = (
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.VOIP,
    PhoneNumberType.PERSONAL_NUMBER,
    PhoneNumberType.PAGER,
    PhoneNumberType.UAN,
    PhoneNumberType.VOICEMAIL,
)


def test_every_countrys_numbers_are_told_apart() -> None:
    """Of each country's example numbers its mobiles are texted where it is named, however they are
    written, and what costs or cannot get texts is not; at home no other country's are.
    """
    judged = 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, *NEVER_TEXTED):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is None:
                continue
            judged += 1
            real = phonenumbers.region_code_for_number(number)  # some countries share numbers
            is_home = number.country_code == addresses.HOME_CODE
            texted = addresses.AT_HOME if is_home else addresses.countries(real)
            e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            for form in (PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966):
                found = addresses.phone(phonenumbers.format_number(number, form), texted)
                if kind == PhoneNumberType.MOBILE:
                    assert found.address == e164, (region, found)
                elif kind in NEVER_TEXTED:
                    assert found.reason, (region, kind, found)
            assert is_home or addresses.phone(e164).reason.startswith("The phone number is foreign")
    assert judged > 1000


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize(
    "command", [("check", "rules", "../../ops/alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_prometheus_takes_the_alerts(command: tuple[str, ...]) -> None:
    """`promtool` reads ops/alerts.yml, and each alert is raised by what it says, and not sooner."""
    subprocess.run(["promtool", *command], cwd=DATA, check=True)
