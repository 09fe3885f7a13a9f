"""Config and templates together, as a worker starts: with both right, or not at all.

The web process reads config.toml alone: with a broken template it still takes the lab's events.
"""

from __future__ import annotations

from relay import check
from relay.config import Config
from relay.config import load as load_config
from relay.errors import ConfigError, Problem
from relay.messages.templates import Templates
from relay.settings import Settings


def load(settings: Settings) -> Config:
    """The configuration, its templates tried. Raises ConfigError with all that is wrong."""
    config = load_config(settings)
    if wrong := [problem for problem in problems(config) if not problem.warning]:
        raise ConfigError(wrong)
    return config


def problems(config: Config) -> list[Problem]:
    """What is wrong with a configuration and its templates together; some of it only warnings."""
    loaded = Templates(config.settings.templates)
    return [*check.templates(config, loaded), *check.senders(config)]
