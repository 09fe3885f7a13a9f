"""`python -m relay.dev demo|run`."""

from __future__ import annotations

import sys

try:
    from relay.dev.demo import main

    raise SystemExit(main(sys.argv[1:]))
except KeyboardInterrupt:  # before `main` could say how to stop
    raise SystemExit("\nStopped.") from None
