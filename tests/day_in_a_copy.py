"""Run by test_extending in a copy of Relay: posts events and prints what came of them."""

import json
import os
import sys

from relay.config.loader import load
from relay.config.reference import config_schema
from relay.config.settings import from_environment
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.views import queries
from relay.web import create_app
from relay.worker.pump import Pump

settings = from_environment(os.environ)
db = Database(settings.database_url)
migrate.upgrade(db)
client = create_app(settings).test_client()
bodies = [samples.webhook("order.returned"), *json.loads(sys.argv[1])]
posted = [client.post("/webhooks/lab", json=body).json["status"] for body in bodies]
pump = Pump(Jobs(load(settings), db))
pump.drain()
pump.stop()
with db.read() as connection:
    rows = [(row["channel"], row["status"]) for row in queries.messages(connection)]
keys = config_schema()["properties"]["rules"]["additionalProperties"]["properties"]
print("\n" + json.dumps({"posted": posted, "rows": rows, "key": keys["tracked_only"]}))
