"""Reports of faults: their kind and place, and nothing of anybody."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator

import pytest
import sentry_sdk

from relay import logs
from tests.processes.harness import eventually
from tests.standins import Reply, Request, StandIn


class Sentry(StandIn):
    """Takes every envelope."""

    def default(self, _request: Request) -> Reply:
        """Sentry's answer."""
        return Reply(200, {"id": "0" * 32})


@pytest.fixture
def sentry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sentry]:
    """A Sentry that faults are reported to."""
    monkeypatch.setattr(logs, "_report", None)
    with Sentry() as standin:
        logs.report_to_sentry(standin.url.replace("://", "://key@") + "/7", "production")
        yield standin
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)  # `init` would patch other libraries


def text_of(request: Request) -> str:
    """An envelope, unpacked."""
    packed = request.headers.get("Content-Encoding") == "gzip"
    return (gzip.decompress(request.body) if packed else request.body).decode()


def test_a_fault_is_reported_without_anybodys_details(sentry: Sentry) -> None:
    """The kind and the place reach Sentry; the text, locals and log fields do not."""
    logs.set_up("INFO", io.StringIO())
    patient = "Jane Smith +447700900001"
    try:
        raise ValueError(f"{patient} cannot be read") from KeyError(patient)
    except ValueError:
        logs.get_logger("relay.tests").exception("message broke", id="msg_1", note=patient)
    eventually(lambda: sentry.requests)
    envelope = text_of(sentry.requests[0])
    assert sentry.requests[0].path == "/api/7/envelope/"
    assert "ValueError" in envelope
    assert "KeyError" in envelope
    assert "test_a_fault_is_reported" in envelope
    assert '"environment":"production"' in envelope.replace(": ", ":")
    assert "Jane" not in envelope
    assert "0900001" not in envelope
    assert "msg_1" not in envelope


def test_without_a_dsn_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default keeps faults in the log alone."""
    monkeypatch.setattr(logs, "_report", None)
    logs.report_to_sentry("", "production")
    assert logs._report is None
