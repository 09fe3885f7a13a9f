"""Two web and two workers under load, while editions are published: how soon each goes over."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.config import edition_files
from relay.config.settings import Settings
from relay.ledger import editions
from relay.ledger.database import Database
from relay.staff import editions as staff_editions
from relay.staff import judging
from tests.conftest import DATABASES, ROOT
from tests.processes.harness import Processes, eventually, order
from tests.standins import ProviderStandIn
from tools.bench.servers import free_port

pytestmark = [
    pytest.mark.usefixtures("two_web_processes"),
    pytest.mark.long,
    pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True),
]
NAME = 'name = "Example Clinic"'
SMS = "templates/kit_shipped/sms.txt"
GOES_OVER = 6  # of two web with two processes each, and two workers
MOST_SECONDS = 30.0


def publish(db: Database, config: Path, number: int) -> datetime:
    """Publish an edition whose rules and words both say its number; when that was."""
    settings = Settings(config=config, templates=ROOT / "templates")
    files = dict(edition_files.read(settings))
    files["config.toml"] = files["config.toml"].replace(NAME, f'name = "Clinic {number}"')
    files[SMS] = f"{{{{ clinic.name }}}} by words {number}. {{{{ clinic.phone }}}}"
    with db.read() as connection:
        newest = editions.newest(connection)
    found = judging.judge(files, settings)
    assert staff_editions.publish(db, files, newest, "jane", "Because.", found) == number
    return datetime.now(UTC)


def test_all_go_over_and_each_message_is_of_one_edition(
    processes: Processes, db: Database, twilio: ProviderStandIn, config_file: Path, tmp_path: Path
) -> None:
    """Within 30 seconds of each of three publications every process has it, and each text that goes
    out has the rules and the words of one edition.
    """
    (tmp_path / "other").mkdir()
    other = Processes({**processes.environ, "PORT": str(free_port())}, tmp_path / "other")
    other.url = f"http://127.0.0.1:{other.environ['PORT']}"
    both, stop = (processes, other), threading.Event()

    def post(web: Processes) -> None:
        while not stop.wait(0.05):
            assert (
                web.post(order(), Connection="close").status == 200
            )  # so that each process answers

    def gone_over(number: int) -> list[datetime]:
        lines = [line for one in both for line in one.output().splitlines() if '"edition"' in line]
        told = [json.loads(line) for line in lines if '"config reloaded"' in line]
        return [
            datetime.fromisoformat(one["timestamp"]) for one in told if one["edition"] == number
        ]

    try:
        for web in both:
            web.start("web")
            web.start("worker")
        for web in both:
            eventually(web.ready)
        posting = [threading.Thread(target=post, args=(web,)) for web in both]
        for thread in posting:
            thread.start()
        eventually(lambda: len(twilio.accepted) > 20)
        took = []
        for number in (2, 3, 4):
            at = publish(db, config_file, number)
            eventually(lambda: len(gone_over(number)) >= GOES_OVER, 2 * MOST_SECONDS)  # noqa: B023
            took.append(max((one - at).total_seconds() for one in gone_over(number)))
            sent = len(twilio.accepted)
            eventually(lambda: len(twilio.accepted) > sent + 20)  # noqa: B023
        stop.set()
        for thread in posting:
            thread.join()
    finally:
        stop.set()
        other.close()
    texts = [request.form["Body"] for request in twilio.accepted]
    by = Counter(text.partition(". ")[0] for text in texts if "by words" in text)
    print(f"\n{len(texts)} texts; the last of {GOES_OVER} processes went over after", took, by)
    assert set(by) == {f"Clinic {number} by words {number}" for number in (2, 3, 4)}
    assert max(took) <= MOST_SECONDS
