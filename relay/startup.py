"""Config and templates together, as every process starts: with both right, or not at all."""

from __future__ import annotations

from relay import check
from relay.config import Config
from relay.config import load as load_config
from relay.errors import ConfigError
from relay.messages import Templates
from relay.settings import Settings


def load(settings: Settings) -> Config:
    """The configuration, its templates tried. Raises ConfigError with all that is wrong."""
    config = load_config(settings)
    problems = [p for p in check.templates(config, Templates(settings.templates)) if not p.warning]
    if problems:
        raise ConfigError(problems)
    return config
