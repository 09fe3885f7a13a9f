"""A kit's record: every event about it, also one that waits or is held, by whichever name."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest

from relay.lab.events import EVENTS
from relay.lab.facts import Facts
from relay.ledger import cases
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import events
from relay.ledger.views import trail
from relay.rules.model import Case, Plan
from tests.desk import press, search
from tests.rows import MONTH, change, incoming, only, record, settled_as, time_passes
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures
