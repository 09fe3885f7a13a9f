"""Canaries: what is about a person stands where the privacy page says, and nowhere else: also of a
text that they send, a doubt about who they are, and those who have looked at them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay import logs
from relay.config.settings import Settings
from relay.ledger.removal import retention
from tests.conftest import one_database
from tests.desk import press, search
from tests.dump import dump, found
from tests.jobs.conftest import DESK, KIT, STAFF, Clinic
from tests.jobs.test_replies import Patient
from tests.rows import close_case, open_cases, time_passes
from tests.test_desk import log_in

NUMBER, WORDS = "+447700900123", "Is my CANARY-SKU back? Canarina, 5 June 1987"
CANARIES = (
    "Canarina",
    "Kanarek",
    "Wilhelmina",
    "canary.bird",
    "7700900123",
    "7700900777",
    "1987-06-05",
    "5 June 1987",
    "1953-11-02",
    "CANARY-SKU",
)


@one_database
def test_no_canary_stands_where_nobody_needs_it(
    clinic: Clinic, make_client: Callable[[Settings], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the log at DEBUG, a case, the trail, an alert or /metrics; after retention nowhere at
    all.
    """
    clinic.configure(staff=f"{STAFF}[desk]\nlooks_per_hour = 1\n")
    person = {"last_name": "Kanarek", "email": "canary.bird@example.com"}
    known = {"first_name": "Canarina", "date_of_birth": "1987-06-05", **person}
    other = {"first_name": "Wilhelmina", "date_of_birth": "1953-11-02", **person}
    clinic.lab.change(
        "test_registration",
        KIT,
        **known,
        mobile_phone_number=NUMBER,
        patient_id="p-1",
        product_skus=["CANARY-SKU"],
    )
    clinic.lab.change("patient", "p-1", id="p-1", phone_number="+447700900777", **other)
    web = make_client(clinic.settings)
    logs.set_up("DEBUG")
    clinic.results()
    clinic.work()
    Patient(clinic, web).text(WORDS, NUMBER)
    assert log_in(web).status_code == 302
    assert "kit found" in search(web, NUMBER)
    for kit in (KIT, KIT):
        assert "Canarina" in press(web, "/journey", kit=kit).text
    (reply,) = [one for one in open_cases(clinic.db) if one["kind"] == "reply"]
    assert WORDS in press(web, f"/case/{reply['id']}").text
    clinic.work()
    assert {*clinic.worklist()} == {"mismatch", "reply", "looks"}
    assert {kind for kind, to, _ in clinic.told() if to == DESK} == {*clinic.worklist()}
    alerts = [str(one.json) for one in clinic.sendgrid.accepted]
    logged = capsys.readouterr().out
    assert "message sent" in logged
    seen = [logged, *alerts, web.get("/metrics").text]
    seen += [web.get(path).text for path in ("/", "/worklist", "/audit", "/audit.csv")]
    assert [word for word in CANARIES for text in seen if word in text] == []
    theirs = frozenset(("events", "notifications", "inbound_texts"))
    assert found(dump(clinic.db, theirs), *CANARIES) == []
    for case in open_cases(clinic.db):
        assert close_case(clinic.db, case["id"], "admin", "Seen to.")
    time_passes(clinic.db, timedelta(days=91))
    retention.purge(clinic.db, timedelta(days=90))
    assert found(dump(clinic.db, frozenset()), *CANARIES) == []
