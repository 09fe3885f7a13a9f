"""The lab's seven example payloads, from the post to the words.

The words are kept as files, so that they can be read and opened in a browser. After a change that
is meant, `RELAY_UPDATE_EXPECTED=1 pytest tests/test_example_events.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger.database import Database
from relay.rules.channels import CHANNELS
from tests.conftest import drain
from tests.rows import messages

EXPECTED = Path(__file__).with_name("expected")


@pytest.mark.parametrize("body", samples.webhooks(), ids=lambda body: body["event"])
def test_example_gives_its_messages(
    body: dict[str, Any],
    client: Any,
    settings: Settings,
    db: Database,
    make_jobs: Callable[[Settings], Jobs],
) -> None:
    """Each example event gives exactly the messages that the default rules promise."""
    assert client.post("/webhooks/lab", data=json.dumps(body)).json["status"] == "accepted"
    drain(make_jobs(settings))
    folder = EXPECTED / body["event"]
    told = _files(db)
    if os.environ.get("RELAY_UPDATE_EXPECTED"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in told.items():
            (folder / name).write_text(text + "\n", "utf-8")
    expected = {path.name: path.read_text("utf-8").removesuffix("\n") for path in folder.iterdir()}
    assert told == expected


def _files(db: Database) -> dict[str, str]:
    """Every message as files: to whom it went, and each part of its words."""
    files = {"recipients.txt": ""}
    for row in sorted(messages(db), key=lambda row: (row["rule"], row["channel"])):
        name = f"{row['rule']}.{row['channel']}"
        files["recipients.txt"] += f"{name}: {row['to']} {row['address']} {row['status']}\n"
        for part, file in CHANNELS[row["channel"]].parts.items():
            suffix = Path(file).suffix if part != "subject" else ".subject.txt"
            files[name + suffix] = row["content"][part]
    return files
