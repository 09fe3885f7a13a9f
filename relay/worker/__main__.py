"""`python -m relay.worker`, as the Procfile runs it."""

from __future__ import annotations

from relay.worker.process import main

raise SystemExit(main())
