"""The services that a request may use: the app's own config, ledger and waker."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from relay.config.loader import Config
from relay.config.reload import ConfigReloader
from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.queue import Waker


@dataclass(frozen=True)
class Services:
    """The objects that one app shares among its requests."""

    settings: Settings
    reloader: ConfigReloader
    db: Database
    waker: Waker

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return self.reloader.config


def services() -> Services:
    """The services of the app that serves this request."""
    found: Services = current_app.extensions["relay"]
    return found
