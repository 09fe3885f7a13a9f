"""Run by tools.figures in a checkout: one event is processed and delivered; prints what it entered.

Names of the layout before packages are tried too, so that the two can be compared.
"""

import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server


def first(*names: str) -> Any:
    """The first module of these that there is."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ImportError:
            continue
    return import_module(names[-1])


simulator = first("relay.dev.lab_simulator", "relay.simulator")
settings_module = first("relay.config.settings", "relay.settings")
check = first("relay.config.check", "relay.startup")
jobs_module = first("relay.jobs.tasks", "relay.jobs")
samples = first("relay.lab.samples", "relay.samples")
database = import_module("relay.ledger.database")
migrate = import_module("relay.ledger.migrate")
web = import_module("relay.web")
relay_folder = Path(sys.argv[1]) / "relay"

lab = make_server("127.0.0.1", 0, simulator.create_simulator("simulator"))
threading.Thread(target=lab.serve_forever, daemon=True).start()
os.environ["LAB_API_URL"] = f"http://127.0.0.1:{lab.server_port}"
os.environ["LAB_API_TOKEN"] = "simulator"
settings = settings_module.from_environment(os.environ)
db = database.Database(settings.database_url)
migrate.upgrade(db)
client = web.create_app(settings).test_client()
jobs = jobs_module.Jobs(check.load(settings), db)
posted = client.post("/webhooks/lab", json=samples.webhook("order.shipped"))
assert posted.json["status"] == "accepted", posted.json

found: set[str] = set()


def note(frame: Any, event: str, _arg: Any) -> None:
    """Keep the file of each function that is called."""
    if event == "call":
        found.add(frame.f_code.co_filename)


sys.setprofile(note)
for due in jobs.lease_events(10):
    jobs.process(due)
for channel in ("sms", "email"):
    for claim in jobs.claim(channel, 10):
        jobs.deliver(claim)
sys.setprofile(None)
inside = [Path(name) for name in found if Path(name).is_relative_to(relay_folder)]
print(json.dumps(sorted(str(path.relative_to(relay_folder)) for path in inside)))
