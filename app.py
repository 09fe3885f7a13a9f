"""The web process (`gunicorn app:app`), and `flask relay …` for people."""

import os
import sys

from flask import Flask

from relay.cli import relay_group
from relay.errors import ConfigError


def _make() -> Flask:
    if os.environ.get("FLASK_RUN_FROM_CLI") == "true" and "relay" in sys.argv:
        # A command must start fast, and must start where config.toml is broken: to say so.
        app = Flask("relay")
    else:
        from relay.web import create_app

        app = create_app()
    app.cli.add_command(relay_group)
    return app


try:
    app = _make()
except ConfigError as error:
    sys.exit(f"Relay does not start:\n{error}")
