"""`python -m relay.dev demo|run`."""

from __future__ import annotations

import sys

from relay.dev.demo import main
from relay.errors import ConfigError

try:
    raise SystemExit(main(sys.argv[1:]))
except ConfigError as error:
    raise SystemExit(str(error)) from error
